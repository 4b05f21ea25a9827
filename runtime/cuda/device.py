"""A GPU as a device."""

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from ..array import HOST, ArrayView, view_of
from ..artifact import Artifact, KernelArtifact, ptx_of
from ..buffer import DEVICE_DTYPES, Buffer, device_dtype
from ..cache import default_cache
from ..contract import DTYPE_BYTES
from ..device import check_capability
from ..errors import ArgumentError, DeviceUnavailable
from ..ptxas import Ptxas, find_ptxas
from ..stream import stream_handle
from .context import Context
from .driver import Driver, load_driver
from .event import CudaEvent
from .graph import CudaGraph, capture
from .memory import Allocation, CudaWorkspace
from .module import CudaKernel, load_kernel
from .stream import CudaStream


class CudaDevice:
    """
    The GPU `ordinal`, through its primary context.

    `model` is the GPU's name, `capability` its compute capability. PTX is assembled by `ptxas`
    where one is given or found, else by the driver. Raises DeviceUnavailable.
    """

    kind = "cuda"

    def __init__(
        self, ordinal: int = 0, driver: Driver | None = None, ptxas: Ptxas | None = None
    ) -> None:
        self._driver = driver or load_driver()
        count = int(self._driver.call("cuDeviceGetCount"))
        if ordinal >= count:
            raise DeviceUnavailable(f"no GPU 'cuda:{ordinal}': the driver sees {count}")
        self.name = f"cuda:{ordinal}"
        self._context = Context(self._driver, ordinal)
        name: bytes = self._driver.call("cuDeviceGetName", 256, self._context.device)
        self.model = name.partition(b"\0")[0].decode(errors="replace")
        capability = ("COMPUTE_CAPABILITY_MAJOR", "COMPUTE_CAPABILITY_MINOR")
        major, minor = (self._context.attribute(part) for part in capability)
        self.capability = (major, minor)
        self.multiprocessors = self._context.attribute("MULTIPROCESSOR_COUNT")
        self.l2_bytes = self._context.attribute("L2_CACHE_SIZE")
        self._ptxas = ptxas if driver else ptxas or find_ptxas()
        self._kernels: WeakKeyDictionary[KernelArtifact, CudaKernel] = WeakKeyDictionary()

    def check_target(self, target: str) -> None:
        """Raises TargetError for a kernel that this GPU does not run."""
        check_capability(target, self.capability, self.name)

    def adopt(self, view: ArrayView, stream: object = None) -> Buffer:
        """Returns a buffer on memory of this GPU as it is, or on a copy of host memory."""
        if view.place == HOST:
            return self._copy_in(view, stream_handle(stream) or 0)
        if view.place != self.name:
            expected = f"memory of '{self.name}' or of the host"
            raise ArgumentError(view.name, expected, view.place)
        if view.buffer is not None:
            return view.buffer
        dtype = device_dtype(view.dtype)
        if dtype is None or not view.contiguous:
            raise _refused(view, dtype)
        if view.ready_on is not None and view.ready_on != (stream_handle(stream) or 0):
            self.event(view.ready_on).wait(stream)
        handle = (view.source, view.owner)
        return Buffer(self, view.shape, dtype, view.address, handle, view.name)

    def _copy_in(self, view: ArrayView, stream: int) -> Buffer:
        dtype = device_dtype(view.dtype)
        if view.host is None or dtype is None:
            raise _refused(view, dtype)
        self._context.refuse_capture(stream, f"'{view.name}' lies in host memory")
        host = np.ascontiguousarray(view.host)
        buffer = self.empty(view.shape, dtype, view.name)
        if host.nbytes:
            source = host.ctypes.data
            self._context.call("cuMemcpyHtoDAsync", buffer.address, source, host.nbytes, stream)
            # Page-locked sources are read after the call returns: wait, the caller may reuse them.
            self._context.call("cuStreamSynchronize", stream)
        return buffer

    def array(self, array: object, name: str = "") -> Buffer:
        """Returns a buffer on a CUDA array as it is, or on a copy of a host array."""
        return self.adopt(view_of(array, name))

    def empty(self, shape: tuple[int, ...], dtype: str, name: str = "") -> Buffer:
        """Returns a new buffer of undefined content, aligned to 256 B."""
        allocation = Allocation(self._context, math.prod(shape) * DTYPE_BYTES[dtype])
        return Buffer(self, shape, dtype, allocation.address, allocation, name)

    def workspace(
        self, arrays: Mapping[str, npt.NDArray[np.int32]], stream: object = None
    ) -> CudaWorkspace:
        """Returns the arrays in one allocation, on its way by one asynchronous copy."""
        handle = stream_handle(stream) or 0
        self._context.refuse_capture(handle, "upload the plan before, by Plan.upload")
        return CudaWorkspace(self, self._context, arrays, handle)

    def load(self, artifact: Artifact) -> CudaKernel:
        """Returns the kernel, loaded once; raises TargetError, AssemblerError or CudaError."""
        artifact = ptx_of(artifact, self.name)
        kernel = self._kernels.get(artifact)
        if kernel is None:
            self.check_target(artifact.contract.target)
            kernel = load_kernel(
                self._context, artifact, self.capability, self._ptxas, default_cache()
            )
            self._kernels[artifact] = kernel
        return kernel

    def stream(self) -> CudaStream:
        """Returns a new stream."""
        return CudaStream(self._context)

    def capture(self, stream: object) -> AbstractContextManager[CudaGraph]:
        """
        Captures the work of a `with` block on `stream` as a graph, which the block gets.

        Plans are uploaded and arrays are on the GPU before. Raises DeviceError.
        """
        return capture(self._context, stream)

    def fill(self, buffer: Buffer, pattern: int = 0, stream: object = None) -> None:
        """Sets each byte of a buffer."""
        handle = stream_handle(stream) or 0
        if buffer.nbytes:
            self._context.call("cuMemsetD8Async", buffer.address, pattern, buffer.nbytes, handle)

    def copy(self, target: Buffer, source: Buffer, stream: object = None) -> None:
        """Copies a buffer to one of the same size, on the GPU."""
        if target.nbytes != source.nbytes:
            raise ArgumentError(source.name, f"{target.nbytes} B", f"{source.nbytes} B")
        if target.nbytes:
            arguments = (target.address, source.address, target.nbytes, stream_handle(stream) or 0)
            self._context.call("cuMemcpyDtoDAsync", *arguments)

    @property
    def free_bytes(self) -> int:
        """The bytes of memory that are free just now."""
        free: int = self._context.call("cuMemGetInfo")
        return free

    def event(self, stream: object = None) -> CudaEvent:
        """Returns an event recorded on `stream`, for timing and for order between streams."""
        return CudaEvent(self._context, stream_handle(stream) or 0)

    def synchronize(self, stream: object = None) -> None:
        """Waits for all work of the GPU, or for `stream`; raises CudaError for a fault."""
        handle = stream_handle(stream)
        if handle is None:
            self._context.call("cuCtxSynchronize")
        else:
            self._context.call("cuStreamSynchronize", handle)

    def to_numpy(
        self, buffer: Buffer, out: npt.NDArray[Any] | None = None, stream: object = None
    ) -> npt.NDArray[Any]:
        """Returns the content after the work of `stream`, without one after all work."""
        target = np.empty(buffer.shape, DEVICE_DTYPES[buffer.dtype]) if out is None else out
        if not target.nbytes:
            return target
        handle = stream_handle(stream) or 0
        self._context.refuse_capture(handle, f"'{buffer.name}' can't be copied to the host")
        self.synchronize(stream)
        arguments = (target.ctypes.data, buffer.address, buffer.nbytes, handle)
        self._context.call("cuMemcpyDtoHAsync", *arguments)
        self._context.call("cuStreamSynchronize", handle)
        return target


def _refused(view: ArrayView, dtype: str | None) -> ArgumentError:
    got = view.dtype if dtype is None else "other strides"
    return ArgumentError(view.name, f"{', '.join(DEVICE_DTYPES)}, C-contiguous", got)
