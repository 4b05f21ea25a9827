"""The CPU as a device: kernels of LLVM IR, compiled for it, on NumPy arrays and several threads."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from .array import HOST, ArrayView, view_of
from .artifact import Artifact, HostArtifact
from .bfloat16 import from_float32, to_float32
from .buffer import DEVICE_DTYPES, Buffer, device_dtype
from .contract import KernelContract, PointerParam
from .device import Argument, Grid
from .errors import ArgumentError, DeviceError, TargetError
from .host_code import LoadedCode, host_machine, object_code
from .host_status import check_status
from .host_threads import available_threads, threads


@dataclass(frozen=True)
class HostWorkspace:
    """A plan's arrays in the memory of the process."""

    buffers: Mapping[str, Buffer]

    def ready(self, stream: object = None) -> None:
        """Does nothing: the host has one order of work."""

    def write(self, entries: Mapping[str, npt.NDArray[np.int32]], stream: object = None) -> None:
        """Overwrites the first entries of arrays."""
        for name, array in entries.items():
            held = cast("npt.NDArray[np.int32]", self.buffers[name].handle)
            held.reshape(-1)[: array.size] = array.reshape(-1)


class HostKernel:
    """A kernel as machine code; `num_threads` run its parallel loops."""

    def __init__(self, artifact: HostArtifact, num_threads: int) -> None:
        contract = artifact.contract
        features = str(contract.compile_key.get("features", "")).split()
        if missing := set(features) - host_machine().feature_names:
            raise TargetError(
                f"host: expected a CPU with {min(missing)} for '{contract.name}', got "
                f"{host_machine().cpu}"
            )
        is_short = contract.compile_key.get("passes") == "short"
        code = object_code(artifact.ir, host_machine(), is_short)
        self._code = LoadedCode(code, contract.name)
        self._contract = contract
        self._threads = threads(num_threads)

    def launch(
        self,
        grid: Grid,
        args: Sequence[Argument],
        stream: object = None,
        programmatic: bool = False,
    ) -> None:
        """
        Runs the kernel before it returns; the grid is 1.

        Raises ArgumentError where a buffer that is written shares memory with another one, and as
        `run`.
        """
        _check_apart(self._contract, args)
        slots = np.zeros(max(1, len(args)), np.int64)
        for position, (param, arg) in enumerate(zip(self._contract.params, args, strict=True)):
            if isinstance(arg, Buffer):
                slots[position] = arg.address
            else:
                _write_scalar(slots[position : position + 1], param.dtype, arg)
        self.run(slots)

    def run(self, slots: npt.NDArray[np.int64]) -> None:
        """
        Runs the kernel on slots of 8 bytes, addresses and numbers in the contract's order.

        Raises DeviceError where memory for its own buffers is missing, and ArgumentError where an
        index that it reads from an array is out of bounds; outputs hold anything then.
        """
        status = ctypes.c_int32(0)
        runner = self._threads.runner or None
        self._code.entry(slots.ctypes.data, runner, ctypes.addressof(status))
        check_status(status.value, self._contract)


def _write_scalar(slot: npt.NDArray[np.int64], dtype: str, value: int | float) -> None:
    """Writes a number into a slot, narrow floats as the f32 in which they are computed."""
    number = np.asarray(value, DEVICE_DTYPES[dtype] if dtype != "bf16" else np.float32)
    if dtype == "bf16":
        number = to_float32(from_float32(number))
    elif dtype == "f16":
        number = number.astype(np.float32)
    slot.view(number.dtype)[0] = number


def _check_apart(contract: KernelContract, args: Sequence[Argument]) -> None:
    """Refuses buffers that overlap: the code takes each for itself."""
    spans: list[tuple[int, int, PointerParam]] = []
    for param, arg in zip(contract.params, args, strict=True):
        if isinstance(param, PointerParam) and isinstance(arg, Buffer) and arg.nbytes:
            spans.append((arg.address, arg.address + arg.nbytes, param))
    for position, (low, high, param) in enumerate(spans):
        for other_low, other_high, other in spans[:position]:
            is_written = param.access != "read" or other.access != "read"
            if is_written and low < other_high and other_low < high:
                got = f"memory that '{other.name}' shares"
                raise ArgumentError(param.name, "memory of its own", got)


class HostDevice:
    """
    The CPU that this process runs on.

    It reads and writes the caller's host memory in place where that is writable. `num_threads` run
    the parallel loops, as many as there are CPUs where it is None.
    """

    kind = "host"
    name = "host"

    def __init__(self, num_threads: int | None = None) -> None:
        if num_threads is not None and num_threads < 1:
            raise DeviceError(f"host: expected at least 1 thread, got {num_threads}")
        self.num_threads = num_threads or available_threads()
        self.multiprocessors = self.num_threads
        self._kernels: WeakKeyDictionary[HostArtifact, HostKernel] = WeakKeyDictionary()

    def check_target(self, target: str) -> None:
        """Raises TargetError for kernels that are not made for the host."""
        if target != HOST:
            raise TargetError(
                f"device 'host': expected a kernel for 'host', got one for '{target}'"
            )

    def adopt(self, view: ArrayView, stream: object = None) -> Buffer:
        """Returns a buffer on host memory as it is, on a copy where it has other strides."""
        return self._take(view, copy=not view.contiguous)

    def array(self, array: object, name: str = "") -> Buffer:
        """Returns a buffer with a copy of a host array."""
        return self._take(view_of(array, name), copy=True)

    def _take(self, view: ArrayView, copy: bool) -> Buffer:
        if view.buffer is not None:
            self._check_own(view.buffer)
            return view.buffer
        dtype = device_dtype(view.dtype)
        if view.place != HOST or view.host is None:
            raise ArgumentError(view.name, "host memory, for device 'host'", view.place)
        if dtype is None:
            raise ArgumentError(view.name, f"elements of {', '.join(DEVICE_DTYPES)}", view.dtype)
        return self._own(np.array(view.host, order="C") if copy else view.host, dtype, view.name)

    def _own(self, array: npt.NDArray[Any], dtype: str, name: str) -> Buffer:
        return Buffer(self, array.shape, dtype, array.ctypes.data, array, name)

    def _check_own(self, buffer: Buffer) -> None:
        if buffer.device is not self:
            raise ArgumentError(buffer.name, "a buffer of 'host'", f"one of '{buffer.device.name}'")

    def empty(self, shape: tuple[int, ...], dtype: str, name: str = "") -> Buffer:
        """Returns a new buffer of undefined content."""
        return self._own(np.empty(shape, DEVICE_DTYPES[dtype]), dtype, name)

    def workspace(
        self, arrays: Mapping[str, npt.NDArray[np.int32]], stream: object = None
    ) -> HostWorkspace:
        """Returns a buffer with a copy of each of `arrays`."""
        return HostWorkspace(
            {name: self._own(array.copy(), "i32", name) for name, array in arrays.items()}
        )

    def load(self, artifact: Artifact) -> HostKernel:
        """
        Returns the kernel as machine code, made once.

        Raises TargetError for PTX and for a feature that the CPU lacks, AssemblerError for LLVM IR
        that is malformed, and DeviceUnavailable without llvmlite.
        """
        self.check_target(artifact.contract.target)
        assert isinstance(artifact, HostArtifact)
        kernel = self._kernels.get(artifact)
        if kernel is None:
            kernel = self._kernels[artifact] = HostKernel(artifact, self.num_threads)
        return kernel

    def synchronize(self, stream: object = None) -> None:
        """Does nothing: a launch is done when it returns."""

    def to_numpy(
        self, buffer: Buffer, out: npt.NDArray[Any] | None = None, stream: object = None
    ) -> npt.NDArray[Any]:
        """Returns a copy of the content."""
        self._check_own(buffer)
        content = cast("npt.NDArray[Any]", buffer.handle)
        target = np.empty_like(content) if out is None else out
        target[...] = content
        return target
