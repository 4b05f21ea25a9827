"""Compiles a nest whose loops are bound to threads for a GPU or the simulator."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from xdsl.context import Context
from xdsl.dialects import gpu
from xdsl.dialects.builtin import ModuleOp

from ..dialects.diagnostic import DiagnosticError
from ..dialects.nest.program import Buffer, Program, ScalarParameter
from ..dialects.nest.scalars import is_float
from ..dialects.nest.strides import span_of
from ..dialects.sym import Expression, interval
from ..lowering.garbage import paused_collection, take_apart
from ..lowering.nest_to_thread import PASSED_AS, LoweredKernel, thread_module
from ..lowering.ptx import print_ptx
from ..runtime.artifact import KernelArtifact
from ..runtime.buffer import Buffer as DeviceBuffer
from ..runtime.contract import (
    Access,
    KernelContract,
    Param,
    PointerParam,
    ScalarParam,
    SymbolRange,
)
from ..runtime.default_device import default_device
from ..runtime.device import Device
from ..runtime.errors import ArgumentError
from ..transforms.buffer_uses import loop_ranges
from ..transforms.compact_buffers import compact_buffers
from ..transforms.expand_math import ExpandMathPass
from ..transforms.expand_pipelines import expand_pipelines
from ..transforms.lower_blocks import lower_blocks
from ..transforms.place_barriers import place_barriers
from .arguments import check_arrays, check_layouts, memory_of, solve_symbols
from .arithmetic import STORAGE, Array, decode, encode

_LARGEST = 2**31 - 1
_NUMBERS = PASSED_AS | {"index": "i32", "i8": "i32", "i16": "i32"}


@dataclass(frozen=True)
class GPUKernel:
    """One kernel of a program; `limits` are counts that must fit 31 bits when it is launched."""

    artifact: KernelArtifact
    grid: tuple[Expression, ...]
    limits: tuple[Expression, ...]


class CompiledForGPU:
    """
    A program as PTX: one kernel for each outermost nest, launched in order.

    `artifacts` are the kernels that can be stored. `device` is where they run; the simulator, or a
    GPU.
    """

    def __init__(self, program: Program, kernels: tuple[GPUKernel, ...], device: Device) -> None:
        self.program = program
        self.kernels = kernels
        self.device = device

    @property
    def artifact(self) -> KernelArtifact:
        """The kernel, of a program that has one; the first of several."""
        return self.kernels[0].artifact

    @property
    def artifacts(self) -> tuple[KernelArtifact, ...]:
        """The kernels in the order in which they are launched."""
        return tuple(kernel.artifact for kernel in self.kernels)

    def __call__(self, *arguments: Any, symbols: Mapping[str, int] | None = None) -> None:
        """
        Runs the program on NumPy arrays, in place, and numbers, in the order of the parameters.

        bf16 is passed as its bits. `symbols` has the symbols that no shape determines. Raises
        ArgumentError for what does not match, before anything runs.
        """
        program = self.program
        if len(arguments) != len(program.parameters):
            expected = f"{len(program.parameters)} arguments"
            raise ArgumentError(program.name, expected, str(len(arguments)))
        given = dict(zip((p.name for p in program.parameters), arguments, strict=True))
        arrays: dict[str, Array] = {}
        numbers: dict[str, Any] = {}
        for parameter in program.parameters:
            if not isinstance(parameter, Buffer):
                numbers[parameter.name] = _passed(parameter, given[parameter.name])
            elif isinstance(array := given[parameter.name], np.ndarray):
                arrays[parameter.name] = array
            else:
                expected = f"a NumPy array of {parameter.dtype}"
                raise ArgumentError(parameter.name, expected, type(array).__name__)
        check_arrays(program, arrays, numbers)
        check_layouts(program, arrays)
        values = solve_symbols(program, arrays, symbols)
        self._check_limits(values)
        self._launch(arrays, numbers, values)

    def _check_limits(self, symbols: Mapping[str, int]) -> None:
        for kernel in self.kernels:
            for limit in kernel.limits:
                if (count := limit.evaluate(symbols)) > _LARGEST:
                    expected = f"at most {_LARGEST} for {limit}"
                    raise ArgumentError(self.program.name, expected, str(count))

    def _launch(
        self, arrays: Mapping[str, Array], numbers: Mapping[str, Any], symbols: Mapping[str, int]
    ) -> None:
        program, device = self.program, self.device
        buffers = {name: device.array(memory_of(a), name) for name, a in arrays.items()}
        for buffer in program.allocations:
            if buffer.scope == "global":
                shape = tuple(extent.evaluate(symbols) for extent in _extents(buffer))
                buffers[buffer.name] = device.empty(shape, _held(buffer), buffer.name)
        known: dict[str, Any] = {**buffers, **numbers, **symbols}
        for kernel in self.kernels:
            x, y, z = (extent.evaluate(symbols) for extent in kernel.grid)
            arguments = [known[param.name] for param in kernel.artifact.contract.params]
            if min(x, y, z) > 0:
                device.load(kernel.artifact).launch((x, y, z), arguments)
        written = frozenset[str]().union(*(_written(kernel.artifact) for kernel in self.kernels))
        for name in written & arrays.keys():
            _copy_back(device, buffers[name], arrays[name])


def compile_for_gpu(
    program: Program, target: str, *, device: Device | None = None
) -> CompiledForGPU:
    """
    Returns a program as PTX for a target such as sm_80; raises DiagnosticError.

    `device` is the simulator or a GPU; the default device where it is not given.
    """
    plain, kernels = gpu_kernels(program, target)
    return CompiledForGPU(plain, kernels, device or default_device())


def gpu_kernels(program: Program, target: str) -> tuple[Program, tuple[GPUKernel, ...]]:
    """Returns a program as threads have it, and its kernels; raises DiagnosticError."""
    with paused_collection():
        plain = lower_to_threads(program)
        module, lowered = thread_module(plain, target)
        whole = ModuleOp([module])
        ExpandMathPass().apply(Context(), whole)
        text = print_ptx(whole, target)
        take_apart(whole)
        return plain, tuple(_kernel(text, item, target) for item in lowered)


def lower_to_threads(program: Program) -> Program:
    """Returns a program with neither pipelines nor blocks, its buffers small, with barriers."""
    return place_barriers(expand_pipelines(compact_buffers(lower_blocks(program))))


def thread_level(program: Program, target: str) -> ModuleOp:
    """Returns the module of a program's kernels at the thread level."""
    module, _ = thread_module(lower_to_threads(program), target)
    whole = ModuleOp([module])
    ExpandMathPass().apply(Context(), whole)
    return whole


def kernel_functions(module: ModuleOp) -> list[gpu.FuncOp]:
    """Returns the kernels of a thread-level module."""
    return [op for op in module.walk() if isinstance(op, gpu.FuncOp)]


def _passed(parameter: ScalarParameter, value: Any) -> Any:
    """Returns a number as a kernel takes it: one of narrow floats rounded, in f32."""
    if parameter.dtype not in PASSED_AS or not is_float(parameter.dtype):
        return value
    return float(decode(encode(np.asarray(value), parameter.dtype), parameter.dtype))


def _copy_back(device: Device, buffer: DeviceBuffer, array: Array) -> None:
    """Copies the elements of an array, and nothing of what lies between them."""
    if array.flags.c_contiguous:
        device.to_numpy(buffer, array)
        return
    memory = device.to_numpy(buffer)
    array[...] = as_strided(memory, array.shape, array.strides, writeable=False)


def _written(artifact: KernelArtifact) -> frozenset[str]:
    return frozenset(p.name for p in artifact.contract.pointers if p.access != "read")


def _kernel(text: str, lowered: LoweredKernel, target: str) -> GPUKernel:
    kernel = lowered.kernel
    ranges = kernel.program.ranges
    params: list[Param] = [_pointer(lowered, buffer) for buffer in kernel.buffers]
    params += [_number(number) for number in kernel.numbers]
    params += [ScalarParam(name, "i32", name) for name in kernel.symbols]
    x, y, z = map(str, kernel.grid)
    contract = KernelContract(
        name=kernel.name,
        target=target,
        params=tuple(params),
        grid=(x, y, z),
        block=kernel.threads,
        dynamic_shared_bytes=lowered.shared_bytes,
        symbols={name: _range(kernel.program, name) for name in kernel.symbols},
    )
    limits: list[Expression] = []
    all_ranges = loop_ranges(kernel.program)
    for path in kernel.program.places.values():
        extent = getattr(path[-1], "extent", None)
        if isinstance(extent, Expression):
            _, most = interval(extent, all_ranges)
            if (most is None or most > _LARGEST) and extent.symbols() <= set(ranges):
                limits.append(extent)
    return GPUKernel(KernelArtifact(text, contract), kernel.grid, tuple(limits))


def _pointer(lowered: LoweredKernel, buffer: Buffer) -> PointerParam:
    kernel = lowered.kernel
    access: Access = "read"
    if buffer.name in kernel.written:
        access = "read_write" if buffer.name in kernel.read else "write"
    return PointerParam(buffer.name, _held(buffer), tuple(map(str, _extents(buffer))), access)


def _held(buffer: Buffer) -> str:
    """Returns the dtype of a buffer's memory; raises DiagnosticError for one that GPUs lack."""
    if buffer.dtype == "index":
        raise DiagnosticError(
            f"expected elements of i32 or i64 in '{buffer.name}' on a GPU, got index; set its "
            "dtype, and cast"
        )
    return "u8" if STORAGE[buffer.dtype] == np.uint8 else buffer.dtype


def _extents(buffer: Buffer) -> tuple[Expression, ...]:
    """Returns the extents of a buffer's memory; with strides it is one stretch."""
    return buffer.shape if buffer.strides is None else (span_of(buffer),)


def _number(number: ScalarParameter) -> ScalarParam:
    return ScalarParam(number.name, _NUMBERS.get(number.dtype, number.dtype))


def _range(program: Program, name: str) -> SymbolRange:
    entry = program.ranges[name]
    lower = entry.lower.constant_value if entry.lower is not None else None
    upper = entry.upper.constant_value if entry.upper is not None else None
    return SymbolRange(
        max(lower or 0, 0), _LARGEST if upper is None else min(upper, _LARGEST), entry.multiple
    )
