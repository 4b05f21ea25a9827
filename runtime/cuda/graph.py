"""CUDA graphs: the work of a stream, recorded once and launched as a whole."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any
from weakref import finalize

from ..errors import DeviceError
from ..stream import stream_handle
from .context import Context
from .memory import release


class CudaGraph:
    """
    The launches of a `with` block of `CudaDevice.capture`, at the addresses that they had.

    The graph keeps the kernels and the buffers that were passed to them. Whoever passes arrays of
    another library keeps these. Replays that share memory must follow one another.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._executable: Any = None
        self.kept: list[object] = []

    @property
    def launches(self) -> int:
        """The number of kernels that were captured."""
        return len(self.kept)

    def finish(self, graph: Any) -> None:
        """Makes the captured work ready to be launched."""
        context = self._context
        try:
            self._executable = context.call("cuGraphInstantiate", graph, 0)
        finally:
            release(context, "cuGraphDestroy", graph)
        finalize(self, release, context, "cuGraphExecDestroy", self._executable)

    def replay(self, stream: object = None) -> None:
        """Launches the work on `stream` without waiting; raises CudaError or DeviceError."""
        if self._executable is None:
            raise DeviceError("a graph is replayed that was not captured to its end")
        self._context.call("cuGraphLaunch", self._executable, stream_handle(stream) or 0)


@contextmanager
def capture(context: Context, stream: object) -> Generator[CudaGraph]:
    """Yields the graph that the work of the `with` block on `stream` becomes."""
    handle = stream_handle(stream)
    if not handle:
        raise DeviceError("a graph is captured on a stream of its own, got the default stream")
    if handle in context.captures:
        raise DeviceError("a graph is being captured on this stream already")
    graph = CudaGraph(context)
    # Other threads, and allocations of this one, go on while the stream is captured.
    mode = context.bindings.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
    context.call("cuStreamBeginCapture", handle, mode)
    context.captures[handle] = graph.kept
    try:
        yield graph
    except BaseException:
        del context.captures[handle]
        _abandon(context, handle)
        raise
    del context.captures[handle]
    graph.finish(context.call("cuStreamEndCapture", handle))


def _abandon(context: Context, stream: int) -> None:
    """Ends a capture whose work is not wanted; the error that led here is the one to report."""
    try:
        graph: Any = context.call("cuStreamEndCapture", stream)
    except DeviceError:
        return
    release(context, "cuGraphDestroy", graph)
