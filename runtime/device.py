"""Devices: what the simulator and a GPU both offer."""

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from .array import ArrayView
from .artifact import Artifact
from .buffer import Buffer, Memory
from .contract import parse_target
from .errors import TargetError

Argument: TypeAlias = Buffer | int | float
Grid: TypeAlias = tuple[int, int, int]


class Kernel(Protocol):
    """One kernel that is loaded on a device."""

    def launch(
        self,
        grid: Grid,
        args: Sequence[Argument],
        stream: object = None,
        programmatic: bool = False,
    ) -> None:
        """
        Launches `grid` CTAs; `args` follow the contract's parameters in order.

        A `programmatic` launch may begin before the kernel in front of it has ended, for which the
        kernel itself waits: CUDA's programmatic dependent launch.

        `stream` is None, an integer handle, or an object with `__cuda_stream__` or `cuda_stream`;
        the simulator has one order of work and ignores it.
        """
        ...


class Device(Memory, Protocol):
    """A device that holds buffers and runs kernels."""

    @property
    def multiprocessors(self) -> int:
        """The number of its SMs."""
        ...

    def check_target(self, target: str) -> None:
        """Raises TargetError where the device does not run kernels made for `target`."""
        ...

    def adopt(self, view: ArrayView, stream: object = None) -> Buffer:
        """
        Returns a buffer with the content of `view`: the very memory where that is possible.

        Raises ArgumentError for memory that the device can't reach or copy.
        """
        ...

    def array(self, array: object, name: str = "") -> Buffer:
        """Returns a buffer with the content of a NumPy, DLPack or CUDA array."""
        ...

    def empty(self, shape: tuple[int, ...], dtype: str, name: str = "") -> Buffer:
        """Returns a new buffer of undefined content; `dtype` is such as f16."""
        ...

    def workspace(
        self, arrays: Mapping[str, npt.NDArray[np.int32]], stream: object = None
    ) -> "Workspace":
        """Returns buffers with the content of `arrays`, at addresses that stay."""
        ...

    def load(self, artifact: Artifact) -> Kernel:
        """Returns the kernel, loaded; raises TargetError or AssemblerError."""
        ...

    def synchronize(self, stream: object = None) -> None:
        """Waits for all work, or for that of `stream`; raises what the work failed with."""
        ...


class Workspace(Protocol):
    """The integer arrays of a plan on a device, by name, at fixed addresses."""

    @property
    def buffers(self) -> Mapping[str, Buffer]:
        """The buffers, by name."""
        ...

    def ready(self, stream: object = None) -> None:
        """Makes the work that follows on `stream` see the content."""
        ...

    def write(self, entries: Mapping[str, npt.NDArray[np.int32]], stream: object = None) -> None:
        """Overwrites the first entries of arrays, by name, in the order of `stream`."""
        ...


def check_capability(target: str, capability: tuple[int, int], device: str) -> None:
    """Raises TargetError where a GPU of compute `capability` does not run `target`."""
    parsed = parse_target(target)
    if parsed is not None and parsed.runs_on(capability):
        return
    needs = ""
    if parsed is not None:
        only = "exactly" if parsed.specific else "at least"
        needs = f", which needs {only} {parsed.major}.{parsed.minor}"
    own = f"{capability[0]}.{capability[1]}"
    raise TargetError(
        f"device '{device}' has compute capability {own}; the kernel is made for {target}{needs}"
    )
