"""Compiles a nest for a target: `compile(program, target="host")` gives something to call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol, cast

import numpy as np

from ..dialects.nest.intrinsics import intrinsic_named
from ..dialects.nest.program import Buffer, Call, LoopKind, Program, ScalarParameter, walk
from ..dialects.nest.program import Loop as NestLoop
from ..dialects.nest.strides import span_of
from ..dialects.sym import Expression
from ..lowering.garbage import paused_collection
from ..runtime.artifact import Artifact, HostArtifact
from ..runtime.contract import (
    HOST,
    Access,
    KernelContract,
    Param,
    PointerParam,
    ScalarParam,
    SymbolRange,
)
from ..runtime.errors import ArgumentError
from ..runtime.host_code import host_machine
from ..runtime.host_device import HostDevice, HostKernel
from .arguments import check_arrays, check_layouts, solve_symbols
from .arithmetic import Array, decode, encode
from .values import NestError

KEPT_SHAPES = 256
_IN_F32 = ("f16", "bf16", "f8E4M3FN", "f8E5M2")


class Compiled(Protocol):
    """A program that is ready to be called."""

    @property
    def artifact(self) -> Artifact:
        """What can be stored, and loaded by a device."""
        ...

    def __call__(self, *arguments: Any, symbols: Mapping[str, int] | None = None) -> None:
        """Runs the program on arrays and numbers in the order of the parameters."""
        ...


class CompiledForHost:
    """
    A program as machine code of this CPU; symbols are solved from the shapes at each call.

    `artifact` is what can be stored and loaded by `HostDevice`.
    """

    def __init__(self, program: Program, artifact: HostArtifact, num_threads: int | None) -> None:
        self.program = program
        self.artifact = artifact
        self._kernel: HostKernel = HostDevice(num_threads).load(artifact)
        self._solved: dict[object, dict[str, int]] = {}

    def __call__(self, *arguments: Any, symbols: Mapping[str, int] | None = None) -> None:
        """
        Runs the program on NumPy arrays, in place, and numbers, in the order of the parameters.

        bf16 and 8-bit floats are passed as their bits. `symbols` has the symbols that no shape
        determines. Raises ArgumentError for what does not match, before anything runs, and for an
        index out of bounds that is read from an array, after it ran.
        """
        program = self.program
        if len(arguments) != len(program.parameters):
            expected = f"{len(program.parameters)} arguments"
            raise ArgumentError(program.name, expected, str(len(arguments)))
        arrays: dict[str, Array] = {}
        numbers: dict[str, Any] = {}
        for parameter, argument in zip(program.parameters, arguments, strict=True):
            if isinstance(parameter, Buffer):
                arrays[parameter.name] = _as_array(parameter, argument)
            else:
                numbers[parameter.name] = argument
        check_arrays(program, arrays, numbers)
        values = self._symbols(arrays, symbols)
        check_layouts(program, arrays)
        _check_apart(program, arrays)
        self._kernel.run(_slots(program, arrays, numbers, values))

    def _symbols(
        self, arrays: Mapping[str, Array], given: Mapping[str, int] | None
    ) -> dict[str, int]:
        """Returns the values of the symbols, those of shapes that came before as they were."""
        layouts = tuple((array.shape, array.strides) for array in arrays.values())
        key = layouts, tuple(sorted(given.items())) if given else ()
        if (values := self._solved.get(key)) is None:
            values = solve_symbols(self.program, arrays, given)
            if len(self._solved) == KEPT_SHAPES:
                self._solved.clear()
            self._solved[key] = values
        return values


def compile(  # noqa: A001 - the name of the public function
    program: Program, target: str = HOST, **options: Any
) -> Compiled:
    """
    Compiles a program for `host`, the CPU of this process, or for a GPU such as `sm_80`.

    Options for `host`: `num_threads` that run parallel loops (all CPUs where it is not given),
    `fast_math`, with which sums of floats may be computed in another order, and `trusts_indices`,
    with which indices that are read from arrays are not checked. Raises DiagnosticError for what
    the target does not have, UpstreamError without the extra `mlir`.
    """
    return _compiler_of(target)(program, **options)


def compile_for_host(
    program: Program,
    *,
    num_threads: int | None = None,
    fast_math: bool = False,
    trusts_indices: bool = False,
) -> CompiledForHost:
    """Returns a program as machine code of this CPU; see `compile`."""
    # The bindings are slow to import, and only this target needs them.
    from ..lowering.nest_to_host import Options, host_module, llvm_ir_of

    needed = _features(program) & host_machine().feature_names
    with paused_collection():
        ir = llvm_ir_of(host_module(program, Options(fast_math, trusts_indices, needed)))
    return CompiledForHost(program, HostArtifact(ir, _contract(program, needed)), num_threads)


def _compiler_of(target: str) -> Callable[..., Compiled]:
    if target == HOST:
        return compile_for_host
    # The levels below are imported only by who compiles for them.
    from ..lowering.nest_to_thread.kernels import SHARED_LIMITS
    from .gpu import compile_for_gpu

    if target not in SHARED_LIMITS:
        known = ", ".join((HOST, *SHARED_LIMITS))
        raise NestError(f"expected a target among {known}, got '{target}'")
    return partial(compile_for_gpu, target=target)


def _features(program: Program) -> frozenset[str]:
    """Returns the features of a CPU that have the intrinsics of a program."""
    calls = (part.intrinsic for part in walk(program.body) if isinstance(part, Call))
    return frozenset(intrinsic_named(name).target for name in calls)


def _contract(program: Program, features: frozenset[str]) -> KernelContract:
    params: list[Param] = [_param(program, parameter) for parameter in program.parameters]
    params += [ScalarParam(name, "i64", name) for name in program.ranges]
    kinds = {part.kind for part in walk(program.body) if isinstance(part, NestLoop)}
    passes = "short" if LoopKind.VECTORIZED in kinds else "all"
    return KernelContract(
        program.name,
        HOST,
        tuple(params),
        ("1", "1", "1"),
        (1, 1, 1),
        symbols={name: _range(program, name) for name in program.ranges},
        compile_key={"passes": passes, "features": " ".join(sorted(features))},
    )


def _param(program: Program, parameter: Buffer | ScalarParameter) -> Param:
    name, dtype = parameter.name, _dtype(parameter.dtype)
    if isinstance(parameter, ScalarParameter):
        if dtype == "u8":
            raise NestError(
                f"expected '{name}' of a dtype of at least 16 bits, got {parameter.dtype}"
            )
        return ScalarParam(name, dtype)
    access: Access = "read_write" if name in program.outputs else "read"
    # With strides it is a stretch of memory.
    extents = parameter.shape if parameter.strides is None else (span_of(parameter),)
    shape = tuple(map(str, extents))
    return PointerParam(name, dtype, shape, access, parameter.element_bytes)


def _dtype(dtype: str) -> str:
    if dtype.startswith("f8"):
        return "u8"
    return "i64" if dtype == "index" else dtype


def _range(program: Program, name: str) -> SymbolRange:
    entry = program.ranges[name]

    def end(bound: Expression | None) -> int | None:
        return None if bound is None else bound.constant_value

    return SymbolRange(max(end(entry.lower) or 0, 0), end(entry.upper), entry.multiple)


def _as_array(parameter: Buffer, argument: Any) -> Array:
    if not isinstance(argument, np.ndarray):
        expected = f"a NumPy array of {parameter.dtype}"
        raise ArgumentError(parameter.name, expected, type(argument).__name__)
    return cast("Array", argument)


def _check_apart(program: Program, arrays: Mapping[str, Array]) -> None:
    for name in program.outputs:
        for other, array in arrays.items():
            if other != name and np.may_share_memory(arrays[name], array):
                raise ArgumentError(name, "memory of its own", f"memory that '{other}' shares")


def _slots(
    program: Program,
    arrays: Mapping[str, Array],
    numbers: Mapping[str, Any],
    symbols: Mapping[str, int],
) -> Array:
    """Returns addresses and numbers as the machine code takes them."""
    count = len(program.parameters) + len(program.ranges)
    slots = np.zeros(max(1, count), np.int64)
    for position, parameter in enumerate(program.parameters):
        slot = slots[position : position + 1]
        if isinstance(parameter, Buffer):
            slot[0] = arrays[parameter.name].ctypes.data
        else:
            _write_number(slot, parameter.dtype, numbers[parameter.name])
    for position, name in enumerate(program.ranges, len(program.parameters)):
        slots[position] = symbols[name]
    return slots


def _write_number(slot: Array, dtype: str, value: Any) -> None:
    stored = encode(np.asarray(value), dtype)
    # Narrow floats are computed in f32.
    number = np.asarray(decode(stored, dtype), np.float32) if dtype in _IN_F32 else stored
    slot.view(number.dtype)[0] = number
