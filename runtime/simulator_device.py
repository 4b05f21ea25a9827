"""The simulator as a device: PTX run on the CPU by NumPy, with the checks asked for."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast
from weakref import WeakKeyDictionary, finalize

import numpy as np
import numpy.typing as npt

from . import simulator
from .array import HOST, ArrayView, view_of
from .artifact import Artifact, KernelArtifact, ptx_of
from .buffer import DEVICE_DTYPES, Buffer, device_dtype
from .contract import KernelContract
from .device import Argument, Grid
from .errors import ArgumentError, AssemblerError, DeviceError, KernelFault

# Few, so that small batches are shared by CTAs as large ones are on a GPU.
MULTIPROCESSORS = 8


@dataclass(frozen=True)
class SimulatorWorkspace:
    """A plan's arrays, one allocation each, so that the bounds of each are checked."""

    buffers: Mapping[str, Buffer]
    raw: Mapping[str, simulator.Buffer]

    def ready(self, stream: object = None) -> None:
        """Does nothing: the simulator has one order of work."""

    def write(self, entries: Mapping[str, npt.NDArray[np.int32]], stream: object = None) -> None:
        """Overwrites the first entries of arrays."""
        for name, array in entries.items():
            self.raw[name].numpy().reshape(-1)[: array.size] = array.reshape(-1)


class SimulatorKernel:
    """A kernel loaded on the simulator."""

    def __init__(
        self, device: "SimulatorDevice", contract: KernelContract, entry: simulator.Kernel
    ) -> None:
        self._device = device
        self._contract = contract
        self._entry = entry
        self.report: simulator.Report | None = None  # the simulator's report of the last launch

    def launch(
        self,
        grid: Grid,
        args: Sequence[Argument],
        stream: object = None,
        programmatic: bool = False,
    ) -> None:
        """Runs the whole grid before it returns; raises KernelFault for what a check finds."""
        values = [self._device.raw(arg) if isinstance(arg, Buffer) else arg for arg in args]
        try:
            self.report = self._entry.launch(
                grid=grid,
                block=self._contract.block,
                args=values,
                shared_bytes=self._contract.dynamic_shared_bytes,
                profile=self._device.profile,
            )
        except simulator.SimulationError as error:
            raise KernelFault(" ".join(str(error).split()), error.finding) from error
        except simulator.LaunchError as error:
            raise DeviceError(f"simulator: {error}") from error
        findings = self.report.findings
        for finding in findings:
            others = len(findings) - 1
            more = f" (and {others} more findings)" if others else ""
            raise KernelFault(" ".join(str(finding).split()) + more, finding)


class SimulatorDevice:
    """
    The simulator; it runs kernels for every target whose instructions it covers.

    It reads and writes the caller's host memory in place where that is writable.

    `checks` are those of the simulator: `none`, `default`, `all` or a set of names. Where it is
    None the environment decides: TILEWRIGHT_SIMULATOR_CHECKS is one of these words or names with
    commas between them, and `default` where it is not set.

    `device` is a simulator to run on, whose memory and checks are used then, such as the one that
    the fixture of `tilewright.testing` gives a test. With `profile` the report of a launch, which
    its kernel keeps, counts by instruction.
    """

    kind = "simulator"
    name = "simulator"
    multiprocessors = MULTIPROCESSORS

    def __init__(
        self,
        checks: str | Iterable[str] | None = None,
        device: simulator.Device | None = None,
        profile: bool = False,
    ) -> None:
        if device is not None and checks is not None:
            raise DeviceError("simulator: a device has checks of its own, got checks as well")
        if checks is None:
            words = os.environ.get("TILEWRIGHT_SIMULATOR_CHECKS", "default").split(",")
            checks = words[0] if len(words) == 1 else words
        try:
            self._device = simulator.Device(checks=checks) if device is None else device
        except ValueError as error:
            raise DeviceError(f"simulator: {error}") from None
        self.profile = profile
        self._kernels: WeakKeyDictionary[KernelArtifact, SimulatorKernel] = WeakKeyDictionary()

    def check_target(self, target: str) -> None:
        """Accepts every target; what is not covered is refused when the PTX is loaded."""

    def raw(self, buffer: Buffer) -> simulator.Buffer:
        """Returns the simulator's own buffer; raises ArgumentError for another device's."""
        if buffer.device is not self:
            got = f"one of '{buffer.device.name}'"
            raise ArgumentError(buffer.name, f"a buffer of '{self.name}'", got)
        return cast("simulator.Buffer", buffer.handle)

    def adopt(self, view: ArrayView, stream: object = None) -> Buffer:
        """Returns a buffer on host memory as it is, on a copy where it is read-only."""
        return self._take(view, copy=view.read_only or not view.contiguous)

    def array(self, array: object, name: str = "") -> Buffer:
        """Returns a buffer with a copy of a host array."""
        return self._take(view_of(array, name), copy=True)

    def _take(self, view: ArrayView, copy: bool) -> Buffer:
        if view.buffer is not None:
            self.raw(view.buffer)
            return view.buffer
        if view.place != HOST:
            raise ArgumentError(view.name, f"host memory, for device '{self.name}'", view.place)
        dtype = device_dtype(view.dtype)
        if dtype is None or view.host is None:
            got = view.dtype if dtype is None else "other strides"
            raise ArgumentError(view.name, f"{', '.join(DEVICE_DTYPES)}, C-contiguous", got)
        return self._hold(view.host, dtype, view.name, copy)

    def _hold(self, host: npt.NDArray[Any], dtype: str, name: str, copy: bool) -> Buffer:
        make = self._device.array if copy else self._device.view
        # The simulator holds a boolean as its byte.
        held = (host.view(np.uint8), "u8") if dtype == "i1" else (host, dtype)
        return self._own(make(*held, name), host.shape, dtype, name)

    def _own(self, raw: simulator.Buffer, shape: tuple[int, ...], dtype: str, name: str) -> Buffer:
        buffer = Buffer(self, shape, dtype, raw.address, raw, name)
        finalize(buffer, raw.free)
        return buffer

    def empty(self, shape: tuple[int, ...], dtype: str, name: str = "") -> Buffer:
        """Returns a new buffer of undefined content."""
        raw = self._device.empty(shape, "u8" if dtype == "i1" else dtype, name)
        return self._own(raw, shape, dtype, name)

    def workspace(
        self, arrays: Mapping[str, npt.NDArray[np.int32]], stream: object = None
    ) -> SimulatorWorkspace:
        """Returns one named buffer for each of `arrays`."""
        buffers = {n: self._hold(array, "i32", n, copy=True) for n, array in arrays.items()}
        return SimulatorWorkspace(buffers, {n: self.raw(buffer) for n, buffer in buffers.items()})

    def load(self, artifact: Artifact) -> SimulatorKernel:
        """
        Returns the kernel; raises AssemblerError for PTX that the simulator does not cover.

        Raises TargetError for a kernel of the host.
        """
        artifact = ptx_of(artifact, self.name)
        kernel = self._kernels.get(artifact)
        if kernel is None:
            contract = artifact.contract
            try:
                entry = self._device.load(artifact.ptx)[contract.name]
            except simulator.PTXError as error:
                raise AssemblerError(f"simulator: {contract.name}: {error}") from error
            kernel = self._kernels[artifact] = SimulatorKernel(self, contract, entry)
        return kernel

    def synchronize(self, stream: object = None) -> None:
        """Does nothing: a launch is done when it returns."""

    def to_numpy(
        self, buffer: Buffer, out: npt.NDArray[Any] | None = None, stream: object = None
    ) -> npt.NDArray[Any]:
        """Returns a copy of the content."""
        content = self.raw(buffer).numpy().view(DEVICE_DTYPES[buffer.dtype])
        target = np.empty_like(content) if out is None else out
        target[...] = content
        return target
