"""Events: points in the work of a stream, for timing and for order between streams."""

from typing import Any
from weakref import finalize

from ..stream import stream_handle
from .context import Context
from .memory import release


class CudaEvent:
    """An event recorded on the stream with the handle `stream`."""

    def __init__(self, context: Context, stream: int) -> None:
        self._context = context
        flags = int(context.bindings.CUevent_flags.CU_EVENT_DEFAULT)
        self.handle: Any = context.call("cuEventCreate", flags)
        finalize(self, release, context, "cuEventDestroy", self.handle)
        context.call("cuEventRecord", self.handle, stream)

    def wait(self, stream: object = None) -> None:
        """Makes the work that follows on `stream` wait for this point."""
        self._context.call("cuStreamWaitEvent", stream_handle(stream) or 0, self.handle, 0)

    def elapsed_ms(self, start: "CudaEvent") -> float:
        """Returns the milliseconds of GPU time from `start` to this point; waits for it."""
        self._context.call("cuEventSynchronize", self.handle)
        return float(self._context.call("cuEventElapsedTime", start.handle, self.handle))
