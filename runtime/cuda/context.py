"""The primary context of one GPU, current around every call of the driver."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from ..errors import CudaError, DeviceError
from .driver import Driver


class Context:
    """
    The primary context of the GPU `ordinal`, shared with other libraries of the process.

    Another context that the calling thread has made current is put back after each call.
    """

    def __init__(self, driver: Driver, ordinal: int) -> None:
        self._driver = driver
        self.bindings = driver.bindings
        self.device: Any = driver.call("cuDeviceGet", ordinal)
        self._context: Any = driver.call("cuDevicePrimaryCtxRetain", self.device)
        # What the launches on each stream that is being captured use, by the stream's handle.
        self.captures: dict[int, list[object]] = {}

    def call(self, function: str, *args: object) -> Any:
        """Calls the driver with this context current; raises CudaError."""
        current = self._driver.call("cuCtxGetCurrent")
        if int(current) == int(self._context):
            return self._driver.call(function, *args)
        self._driver.call("cuCtxPushCurrent", self._context)
        try:
            return self._driver.call(function, *args)
        finally:
            self._driver.call("cuCtxPopCurrent")

    def succeeds(self, function: str, *args: object) -> bool:
        """Says whether a call gives CUDA_SUCCESS rather than CUDA_ERROR_NOT_READY."""
        try:
            self.call(function, *args)
        except CudaError as error:
            if error.code == "CUDA_ERROR_NOT_READY":
                return False
            raise
        return True

    def is_capturing(self, stream: int) -> bool:
        """Whether a stream is being captured as a graph, by whatever library."""
        if not stream:
            return False
        none = self.bindings.CUstreamCaptureStatus.CU_STREAM_CAPTURE_STATUS_NONE
        return self.call("cuStreamIsCapturing", stream) != none

    @contextmanager
    def beside_captures(self) -> Generator[None]:
        """Allows calls that are no part of a graph while this thread captures one."""
        relaxed = self.bindings.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
        before = self.call("cuThreadExchangeStreamCaptureMode", relaxed)
        try:
            yield
        finally:
            self.call("cuThreadExchangeStreamCaptureMode", before)

    def refuse_capture(self, stream: int, what: str) -> None:
        """Raises DeviceError where `stream` is being captured: `what` can't be part of a graph."""
        if stream in self.captures:
            raise DeviceError(f"a graph is being captured on this stream: {what}")

    def attribute(self, name: str) -> int:
        """Returns a device attribute by the last part of its name, such as `WARP_SIZE`."""
        key = getattr(self.bindings.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
        return int(self._driver.call("cuDeviceGetAttribute", key, self.device))
