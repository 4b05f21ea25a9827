"""Streams: orders of work on a GPU."""

from typing import Any
from weakref import finalize

from .context import Context
from .memory import release


class CudaStream:
    """A stream of its own, which does not wait for the default stream, nor that for it."""

    def __init__(self, context: Context) -> None:
        flags = int(context.bindings.CUstream_flags.CU_STREAM_NON_BLOCKING)
        self._stream: Any = context.call("cuStreamCreate", flags)
        # The driver ends the work of a stream that is destroyed before it frees the stream.
        finalize(self, release, context, "cuStreamDestroy", self._stream)

    @property
    def handle(self) -> int:
        """The handle, as other libraries take it."""
        return int(self._stream)

    def __cuda_stream__(self) -> tuple[int, int]:
        """The protocol of cuda.core: its version, and the handle."""
        return 0, self.handle
