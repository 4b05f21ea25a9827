"""Memory of a GPU: allocations, page-locked host memory, and the workspace of a plan."""

import ctypes
import math
from collections.abc import Mapping
from typing import Any
from weakref import finalize

import numpy as np
import numpy.typing as npt

from ..buffer import Buffer, Memory
from ..errors import DeviceError
from ..stream import stream_handle
from .context import Context

_ALIGNMENT = 256  # cuMemAlloc aligns to it at least
# Arrays that lie no farther apart are copied at once: a call costs more than these bytes.
_GAP = 16 * 1024


class Allocation:
    """Device memory of `nbytes`; it is freed when nothing refers to it any more."""

    def __init__(self, context: Context, nbytes: int) -> None:
        self.address = int(context.call("cuMemAlloc", max(nbytes, _ALIGNMENT)))
        finalize(self, release, context, "cuMemFree", self.address)


def release(context: Context, function: str, handle: Any) -> None:
    """Gives a handle back by a call of `function`; a failure is not reported."""
    # A finalizer has nobody to report to; after a fault every call of the context fails.
    try:
        context.call(function, handle)
    except DeviceError:
        pass


class CudaWorkspace:
    """
    A plan's arrays in one allocation at a fixed address, filled by asynchronous copies.

    They come from page-locked memory, which lives as long as the workspace. A copy waits for the
    one before it to have left that memory, for nothing else.
    """

    def __init__(
        self,
        memory: Memory,
        context: Context,
        arrays: Mapping[str, npt.NDArray[np.int32]],
        stream: int,
    ) -> None:
        self._offsets: dict[str, int] = {}
        size = 0
        for name, array in arrays.items():
            self._offsets[name] = size
            size += math.ceil(array.nbytes / _ALIGNMENT) * _ALIGNMENT
        self._context = context
        self._allocation = Allocation(context, size)
        self._event: Any = context.call("cuEventCreate", _event_flags(context))
        finalize(self, release, context, "cuEventDestroy", self._event)
        self._uploaded_on = stream
        self._done = True
        address = self._allocation.address
        self.buffers: dict[str, Buffer] = {
            name: Buffer(
                memory, array.shape, "i32", address + self._offsets[name], self._allocation, name
            )
            for name, array in arrays.items()
        }
        if size:
            self._pinned = self._page_locked(size)
            words = (ctypes.c_int32 * (size // 4)).from_address(self._pinned)
            self._host = np.ctypeslib.as_array(words)
            self._copy(arrays, stream)

    def _page_locked(self, size: int) -> int:
        context = self._context
        pinned = int(context.call("cuMemAllocHost", size))
        finalize(self, release, context, "cuMemFreeHost", pinned)
        # Finalizers run last in, first out: the copy has ended before its source is freed.
        finalize(self, release, context, "cuEventSynchronize", self._event)
        return pinned

    def write(self, entries: Mapping[str, npt.NDArray[np.int32]], stream: object = None) -> None:
        """Overwrites the first entries of arrays by copies on `stream`."""
        entries = {name: array for name, array in entries.items() if array.size}
        if not entries:
            return
        if not self._done and not self._context.succeeds("cuEventQuery", self._event):
            self._context.call("cuEventSynchronize", self._event)
        self._copy(entries, stream_handle(stream) or 0)

    def _copy(self, arrays: Mapping[str, npt.NDArray[np.int32]], stream: int) -> None:
        spans: list[list[int]] = []
        for name, array in sorted(arrays.items(), key=lambda pair: self._offsets[pair[0]]):
            start = self._offsets[name]
            self._host[start // 4 : start // 4 + array.size] = array.reshape(-1)
            if spans and start - spans[-1][1] <= _GAP:
                spans[-1][1] = start + array.nbytes
            else:
                spans.append([start, start + array.nbytes])
        for start, end in spans:
            to, source = self._allocation.address + start, self._pinned + start
            self._context.call("cuMemcpyHtoDAsync", to, source, end - start, stream)
        self._context.call("cuEventRecord", self._event, stream)
        self._uploaded_on, self._done = stream, False

    def ready(self, stream: object = None) -> None:
        """Makes the work that follows on `stream` wait for the copies."""
        handle = stream_handle(stream) or 0
        if self._done:
            return
        if self._context.is_capturing(handle):
            # A graph is replayed on any stream, so the copy is none of its work.
            with self._context.beside_captures():
                self._context.call("cuEventSynchronize", self._event)
            self._done = True
            return
        if handle == self._uploaded_on:
            return
        if self._context.succeeds("cuEventQuery", self._event):
            self._done = True
            return
        self._context.call("cuStreamWaitEvent", handle, self._event, 0)


def _event_flags(context: Context) -> int:
    return int(context.bindings.CUevent_flags.CU_EVENT_DISABLE_TIMING)
