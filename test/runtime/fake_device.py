"""A device without a GPU: buffers are NumPy arrays, and a kernel is a Python function."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from tilewright.runtime.array import HOST, ArrayView, view_of
from tilewright.runtime.artifact import Artifact
from tilewright.runtime.buffer import NUMPY_DTYPES, Buffer
from tilewright.runtime.contract import KernelContract
from tilewright.runtime.device import Argument, Grid, check_capability
from tilewright.runtime.errors import ArgumentError

Body = Callable[[KernelContract, Grid, dict[str, Any]], None]


@dataclass(frozen=True)
class FakeWorkspace:
    """The arrays of a plan."""

    buffers: Mapping[str, Buffer]

    def ready(self, stream: object = None) -> None:
        """Does nothing."""

    def write(self, entries: Mapping[str, npt.NDArray[np.int32]], stream: object = None) -> None:
        """Overwrites the first entries of arrays."""
        for name, array in entries.items():
            held = cast("npt.NDArray[np.int32]", self.buffers[name].handle)
            held.reshape(-1)[: array.size] = array.reshape(-1)


@dataclass(frozen=True)
class FakeKernel:
    """A launch calls `body` with the grid and the arguments by name."""

    device: "FakeDevice"
    contract: KernelContract

    def launch(
        self,
        grid: Grid,
        args: Sequence[Argument],
        stream: object = None,
        programmatic: bool = False,
    ) -> None:
        """Runs the body on the buffers' own arrays."""
        self.device.launches.append(grid)
        values: dict[str, Any] = {}
        for param, arg in zip(self.contract.params, args, strict=True):
            values[param.name] = arg.handle if isinstance(arg, Buffer) else arg
        self.device.body(self.contract, grid, values)


class FakeDevice:
    """Records launches and copies; `capability` decides which targets run."""

    kind = "simulator"
    name = "fake"
    multiprocessors = 4

    def __init__(self, body: Body, capability: tuple[int, int] = (9, 0)) -> None:
        self.body = body
        self.capability = capability
        self.launches: list[Grid] = []
        self.workspaces = 0
        self._addresses = count(1 << 20, 1 << 20)

    def check_target(self, target: str) -> None:
        """Checks the target as a GPU does."""
        check_capability(target, self.capability, self.name)

    def adopt(self, view: ArrayView, stream: object = None) -> Buffer:
        """Copies host memory."""
        if view.buffer is not None:
            return view.buffer
        if view.place != HOST or view.host is None:
            raise ArgumentError(view.name, "host memory", view.place)
        return self._hold(view.host.copy(), view.dtype, view.name)

    def _hold(self, array: npt.NDArray[Any], dtype: str, name: str) -> Buffer:
        return Buffer(self, array.shape, dtype, next(self._addresses), array, name)

    def array(self, array: object, name: str = "") -> Buffer:
        """Copies host memory."""
        return self.adopt(view_of(array, name))

    def empty(self, shape: tuple[int, ...], dtype: str, name: str = "") -> Buffer:
        """Fills a new buffer with bytes that are no result."""
        array = np.empty(shape, NUMPY_DTYPES[dtype])
        array.view(np.uint8).fill(0x7F)
        return self._hold(array, dtype, name)

    def workspace(
        self, arrays: Mapping[str, npt.NDArray[np.int32]], stream: object = None
    ) -> FakeWorkspace:
        """Counts uploads."""
        self.workspaces += 1
        return FakeWorkspace({n: self._hold(a.copy(), "i32", n) for n, a in arrays.items()})

    def load(self, artifact: Artifact) -> FakeKernel:
        """Returns a kernel that runs `body`."""
        return FakeKernel(self, artifact.contract)

    def synchronize(self, stream: object = None) -> None:
        """Does nothing."""

    def to_numpy(
        self, buffer: Buffer, out: npt.NDArray[Any] | None = None, stream: object = None
    ) -> npt.NDArray[Any]:
        """Copies the content."""
        content = cast("npt.NDArray[Any]", buffer.handle)
        target = np.empty_like(content) if out is None else out
        target[...] = content
        return target
