"""
Calling one kernel on arrays of any kind, in place: the way of operations made of plain kernels.

What a kernel writes is the caller's own memory where the device reaches it. Host memory that it
does not reach is copied there, and back behind the kernel.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from math import gcd, prod
from threading import Lock
from typing import cast
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from .array import HOST, ArrayView, empty_like, show_shape, view_of
from .artifact import KernelArtifact
from .buffer import Buffer, device_dtype
from .contract import DTYPE_BYTES
from .default_device import default_device, get_device
from .device import Device, Workspace
from .errors import ArgumentError
from .launch import Signature
from .stream import stream_handle

_signatures: WeakKeyDictionary[KernelArtifact, Signature] = WeakKeyDictionary()


def signature_of(artifact: KernelArtifact) -> Signature:
    """Returns the signature of a kernel, made once."""
    signature = _signatures.get(artifact)
    if signature is None:
        signature = _signatures[artifact] = Signature(artifact.contract)
    return signature


def device_of(views: Iterable[ArrayView], device: Device | str | None = None) -> Device:
    """Returns the device that is named, else that of the arrays, else the default one."""
    if device is not None:
        return get_device(device) if isinstance(device, str) else device
    for view in views:
        if view.place != HOST:
            return cast("Device", view.buffer.device) if view.buffer else get_device(view.place)
    return default_device()


def call_kernel(
    artifact: KernelArtifact,
    arrays: Mapping[str, ArrayView],
    device: Device,
    *,
    numbers: Mapping[str, object] | None = None,
    symbols: Mapping[str, int] | None = None,
    stream: object = None,
) -> None:
    """
    Runs a kernel on arrays by the names of its parameters.

    `symbols` are those that no shape binds. Raises ArgumentError before anything is launched.
    """
    signature = signature_of(artifact)
    known = {**signature.bind(arrays), **(symbols or {})}
    for name in signature.pointers:
        signature.check(replace(arrays[name], name=name), known)
    signature.check_ranges(known)
    grid = signature.grid(known)
    if 0 in grid:
        return
    kernel = device.load(artifact)
    buffers = {name: device.adopt(arrays[name], stream) for name in signature.pointers}
    arguments = signature.arguments(buffers, numbers or {}, known)
    kernel.launch(grid, arguments, stream)
    for name, (param, _) in signature.pointers.items():
        if param.access != "read" and arrays[name].host is not None:
            _copy_back(device, buffers[name], arrays[name], stream)


@dataclass(frozen=True)
class Stretch(ArrayView):
    """The memory from the first to the last element of a strided array, `of`."""

    of: ArrayView | None = None


def _copy_back(device: Device, buffer: Buffer, view: ArrayView, stream: object) -> None:
    """Copies what was written to host memory: elements, and nothing of what lies between them."""
    of = view.of if isinstance(view, Stretch) else None
    if of is None or of.host is None:
        device.to_numpy(buffer, view.host, stream)
        return
    memory = device.to_numpy(buffer, None, stream)
    if memory.size:
        of.host[...] = as_strided(memory, of.shape, of.host.strides, writeable=False)


class Tables:
    """Integer tables that are put on a device once, at addresses that stay, as a plan's are."""

    def __init__(self, arrays: Mapping[str, npt.NDArray[np.int32]]) -> None:
        self.arrays = dict(arrays)
        self._workspaces: WeakKeyDictionary[Device, Workspace] = WeakKeyDictionary()
        self._lock = Lock()

    def on(self, device: Device, stream: object = None) -> dict[str, ArrayView]:
        """Returns the tables on a device, by name; those for `stream` are ready there."""
        with self._lock:
            workspace = self._workspaces.get(device)
            if workspace is None:
                workspace = self._workspaces[device] = device.workspace(self.arrays, stream)
        workspace.ready(stream)
        return {name: view_of(buffer, name) for name, buffer in workspace.buffers.items()}

    def write(self, arrays: Mapping[str, npt.NDArray[np.int32]], stream: object = None) -> None:
        """Overwrites the first entries of tables, in the order of `stream`."""
        with self._lock:
            for name, entries in arrays.items():
                self.arrays[name][: entries.size] = entries
            for workspace in self._workspaces.values():
                workspace.write(arrays, stream)


def flat(view: ArrayView, shape: tuple[int, ...]) -> ArrayView:
    """Returns a contiguous array under another shape of as many elements."""
    if view.shape == shape:
        return view
    if not view.contiguous:
        raise ArgumentError(view.name, "a C-contiguous array", "other strides")
    host = None if view.host is None else view.host.reshape(shape)
    return replace(view, shape=shape, host=host, strides=None)


def stretch(view: ArrayView, strides: tuple[int, ...]) -> ArrayView:
    """Returns the memory from the first to the last element of a strided array, as one axis."""
    span = 0
    if 0 not in view.shape:
        span = sum((n - 1) * step for n, step in zip(view.shape, strides, strict=True)) + 1
    host = view.host
    if host is not None:
        host = as_strided(host, (span,), (host.itemsize,), writeable=not view.read_only)
    parts = {part.name: getattr(view, part.name) for part in fields(ArrayView)}
    parts |= {"shape": (span,), "contiguous": True, "host": host, "strides": None}
    return Stretch(**parts, of=view)


def by_strides(view: ArrayView, name: str) -> tuple[ArrayView, dict[str, int], int]:
    """
    Returns an array as a kernel with strides takes it: its memory, their values, what divides them.

    The symbols are `<name>_stride_<axis>`, for all axes but the last one, which has stride 1. The
    divisor is a power of two, as many elements as 16 bytes at most; it is 0, and there are no
    symbols, for a C-contiguous array. Raises ArgumentError for other strides.
    """
    if view.contiguous:
        return view, {}, 0
    strides = view.strides
    if strides is None or (view.shape[-1] > 1 and strides[-1] != 1) or min(strides) < 0:
        expected = "strides of whole elements that are not negative, 1 on the last axis"
        raise ArgumentError(name, expected, str(view.strides))
    outer = strides[:-1]
    symbols = {f"{name}_stride_{axis}": step for axis, step in enumerate(outer)}
    return stretch(view, strides), symbols, gcd(16 // element_bytes(view), *outer)


def element_bytes(view: ArrayView) -> int:
    """Returns the size of an element in bytes, 1 for a dtype that no device holds."""
    held = device_dtype(view.dtype)
    return DTYPE_BYTES[held] if held is not None else 1


def span_bytes(view: ArrayView) -> tuple[int, int]:
    """Returns the first address of an array, and the one behind its last element."""
    strides, size = view.strides, element_bytes(view)
    if strides is None or view.contiguous:
        return view.address, view.address + prod(view.shape) * size
    last = sum((n - 1) * step for n, step in zip(view.shape, strides, strict=True) if n)
    return view.address, view.address + (last + 1) * size


def overlaps(one: ArrayView, other: ArrayView) -> bool:
    """Whether two arrays on one device may share memory; empty ones never do."""
    if one.place != other.place:
        return False
    (a, a_end), (b, b_end) = span_bytes(one), span_bytes(other)
    return max(a, b) < min(a_end, b_end)


def check_array(view: ArrayView, dtypes: Iterable[str], shape: tuple[int | str, ...]) -> None:
    """Raises ArgumentError unless an array has one of the dtypes and the shape; text is free."""
    accepted = tuple(dtypes)
    if view.dtype not in accepted:
        raise ArgumentError(view.name, f"dtype {' or '.join(accepted)}", view.dtype)
    fits = len(view.shape) == len(shape) and all(
        isinstance(want, str) or want == got for want, got in zip(shape, view.shape, strict=True)
    )
    if not fits:
        raise ArgumentError(view.name, f"shape {show_shape(shape)}", show_shape(view.shape))


def result_array(
    name: str,
    given: object,
    like: ArrayView,
    device: Device,
    shape: tuple[int, ...],
    dtype: str,
    stream: object = None,
) -> tuple[object, ArrayView]:
    """
    Returns the caller's own array for a result, checked, or a new one of the kind of `like`.

    It will be written on `stream`.
    """
    handle = stream_handle(stream)
    if given is not None:
        view = view_of(given, name, handle)
        check_array(view, (dtype,), shape)
        if not view.contiguous:
            raise ArgumentError(name, "a C-contiguous array", "other strides")
        if view.read_only:
            raise ArgumentError(name, "a writable array", "a read-only one")
        return given, view
    made = empty_like(like, shape, dtype, name, handle)
    if made is None:
        buffer = device.empty(shape, dtype, name)
        return buffer, view_of(buffer, name)
    return made
