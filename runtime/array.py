"""
Arrays that callers pass: one description of NumPy, DLPack and CUDA arrays, and its checks.

Host memory is never copied here: NumPy arrays are taken as they are, other arrays in host memory
become NumPy views of the same bytes. Arrays on a GPU are described by address.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from .buffer import DEVICE_DTYPES, NUMPY_DTYPES, Buffer, device_dtype
from .dlpack import CPU, CUDA, CUDA_HOST, CUDA_MANAGED, Tensor, from_dlpack, row_major
from .errors import ArgumentError

HOST = "host"
_OURS = {dtype.name: ours for ours, dtype in NUMPY_DTYPES.items()} | {"bfloat16": "bf16"}
# What NumPy calls the element types that only the host takes.
_FOREIGN = {
    "i1": "bool",
    "i8": "int8",
    "u8": "uint8",
    "i16": "int16",
    "i64": "int64",
    "f64": "float64",
}
_DLPACK_DTYPES = {"f16": "f16", "bf16": "bf16", "u16": "bf16", "f32": "f32", "i32": "i32"}
_WORDS = {"f": "float", "i": "int", "u": "uint", "bf": "bfloat", "c": "complex"}


@dataclass(frozen=True)
class ArrayView:
    """
    A caller's array: where it lies and how.

    `dtype` is one of f16, bf16, f32, i32, or the foreign name of any other element type. `place` is
    `host`, `cuda:<ordinal>`, or the name of the device of a Buffer. `source` is the array itself,
    `owner` what keeps its memory, `host` the NumPy view of host memory (bf16 as bits), `buffer` the
    Buffer that was passed, `ready_on` the handle of a CUDA stream whose work must come first.
    `strides` are in elements, None where they are those of a row-major array or not whole elements.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    contiguous: bool
    place: str
    address: int
    read_only: bool
    source: object = field(repr=False)
    owner: object = field(default=None, repr=False)
    host: npt.NDArray[Any] | None = field(default=None, repr=False)
    buffer: Buffer | None = field(default=None, repr=False)
    ready_on: int | None = None
    strides: tuple[int, ...] | None = None


def view_of(array: object, name: str, stream: int | None = None) -> ArrayView:
    """
    Returns the description of `array`, which `name` names in messages.

    Takes a Buffer, a NumPy array, and anything with `__dlpack__` or `__cuda_array_interface__`.
    `stream` is the handle of the CUDA stream that will use the data. Raises ArgumentError.
    """
    if isinstance(array, np.ndarray):
        return _numpy_view(cast("npt.NDArray[Any]", array), name)
    if isinstance(array, Buffer):
        return ArrayView(
            name,
            array.dtype,
            array.shape,
            True,
            array.device.name,
            array.address,
            False,
            array,
            buffer=array,
        )
    if hasattr(array, "__dlpack__"):
        return _dlpack_view(array, name, stream)
    interface: object = getattr(array, "__cuda_array_interface__", None)
    if isinstance(interface, Mapping):
        return _cuda_view(cast("Mapping[str, Any]", interface), name, array)
    expected = "an array (NumPy, DLPack or __cuda_array_interface__)"
    raise ArgumentError(name, expected, type(array).__name__)


def check(view: ArrayView, dtype: str, shape: Sequence[int], describe: str, write: bool) -> None:
    """
    Checks a view against what a kernel expects; raises ArgumentError.

    `describe` is the shape as the contract writes it, for messages; `write` says that the kernel
    writes the array.
    """
    if view.dtype not in (dtype, _FOREIGN.get(dtype)):
        raise ArgumentError(view.name, f"dtype {dtype}", view.dtype)
    if view.shape != tuple(shape):
        expected = f"shape {show_shape(shape)}"
        more = "" if describe == show_shape(shape) else f" = {describe}"
        raise ArgumentError(view.name, expected + more, show_shape(view.shape))
    if not view.contiguous:
        raise ArgumentError(view.name, "a C-contiguous array", "other strides")
    if write and view.read_only:
        raise ArgumentError(view.name, "a writable array", "a read-only one")


def show_shape(shape: Sequence[object]) -> str:
    """Returns a shape as messages print it, `(n, 32, 128)`."""
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def empty_like(
    like: ArrayView, shape: tuple[int, ...], dtype: str, name: str, stream: int | None = None
) -> tuple[object, ArrayView] | None:
    """
    Returns a new array of the kind of `like`, and its view; `name` is its name in messages.

    `stream` is the handle of the CUDA stream that will write it. A torch tensor gives a torch
    tensor on the same device, a CuPy array a CuPy array, other arrays in host memory NumPy, with
    ml_dtypes' bfloat16 where `like` has it. None is returned for other device memory, which the
    device itself must allocate.
    """
    module = type(like.source).__module__.partition(".")[0]
    if module == "torch":
        array = _torch_empty(cast("Any", like.source), shape, dtype)
        return array, view_of(array, name, stream)
    if module == "cupy":
        array = sys.modules["cupy"].empty(shape, dtype=NUMPY_DTYPES[dtype])
        return array, view_of(array, name, stream)
    if like.place != HOST:
        return None
    bits = np.empty(shape, NUMPY_DTYPES[dtype])
    view = view_of(bits, name)
    own: object = getattr(like.source, "dtype", None)
    if dtype == "bf16" and isinstance(own, np.dtype) and own.name == "bfloat16":
        return bits.view(cast("np.dtype[Any]", own)), view
    return bits, view


def _torch_empty(like: Any, shape: tuple[int, ...], dtype: str) -> object:
    # A tensor of torch exists, so torch is imported; it is no dependency of this module.
    torch: Any = sys.modules["torch"]
    dtypes = {"f16": "float16", "bf16": "bfloat16", "f32": "float32", "i32": "int32"}
    return like.new_empty(shape, dtype=getattr(torch, dtypes[dtype]))


def _dtype_name(dtype: np.dtype[Any]) -> str:
    if not dtype.isnative:
        return f"byte-swapped {dtype.name}"
    return _OURS.get(dtype.name, dtype.name)


def _numpy_view(array: npt.NDArray[Any], name: str) -> ArrayView:
    dtype = _dtype_name(array.dtype)
    bits = array.view(np.uint16) if dtype == "bf16" else array
    return ArrayView(
        name,
        dtype,
        array.shape,
        array.flags.c_contiguous,
        HOST,
        array.ctypes.data,
        not array.flags.writeable,
        array,
        host=bits,
        strides=_elements(array.strides, array.itemsize),
    )


def _elements(strides: Sequence[int], size: int) -> tuple[int, ...] | None:
    """Returns strides in bytes as elements, None where one is not whole."""
    if any(step % size for step in strides):
        return None
    return tuple(step // size for step in strides)


class _Memory:
    """Host memory as NumPy's array interface, version 3; it keeps the memory's owner."""

    def __init__(self, tensor: Tensor, dtype: str) -> None:
        self.owner = tensor.owner
        self.__array_interface__ = {
            "version": 3,
            "shape": tensor.shape,
            "typestr": DEVICE_DTYPES[dtype].str,
            "data": (tensor.address, tensor.read_only),
            "strides": None,
        }


def _dlpack_view(array: Any, name: str, stream: int | None) -> ArrayView:
    kind, ordinal = array.__dlpack_device__()
    on_gpu = kind in (CUDA, CUDA_MANAGED)
    if not on_gpu and kind not in (CPU, CUDA_HOST):
        raise ArgumentError(name, "memory of the host or of a CUDA GPU", f"DLPack device {kind}")
    tensor = from_dlpack(array, name, (stream or 0) if on_gpu else None)
    dtype = _DLPACK_DTYPES.get(tensor.dtype) or _spell(tensor.dtype)
    contiguous = is_contiguous(tensor.shape, tensor.strides)
    host = None
    held = device_dtype(dtype)
    if not on_gpu and contiguous and held is not None:
        host = np.asarray(_Memory(tensor, held)) if 0 not in tensor.shape else None
        host = np.empty(tensor.shape, DEVICE_DTYPES[held]) if host is None else host
    place = f"cuda:{ordinal}" if on_gpu else HOST
    return ArrayView(
        name,
        dtype,
        tensor.shape,
        contiguous,
        place,
        tensor.address,
        tensor.read_only,
        array,
        tensor.owner,
        host=host,
        strides=tuple(tensor.strides),
    )


def _spell(code: str) -> str:
    letters = code.rstrip("0123456789")
    return _WORDS.get(letters, letters) + code[len(letters) :]


def is_contiguous(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Says whether strides, in elements, are those of a row-major array without gaps."""
    if 0 in shape:
        return True
    tight = row_major(shape)
    return all(n == 1 or a == b for n, a, b in zip(shape, strides, tight, strict=True))


def _cuda_view(interface: Mapping[str, Any], name: str, source: object) -> ArrayView:
    address, read_only = interface["data"]
    shape = tuple(interface["shape"])
    dtype = np.dtype(interface["typestr"])
    strides = interface.get("strides")
    elements = row_major(shape) if strides is None else _elements(strides, dtype.itemsize)
    stream: int | None = interface.get("stream")
    return ArrayView(
        name,
        _dtype_name(dtype),
        shape,
        elements is not None and is_contiguous(shape, elements),
        _cuda_place(source),
        address or 0,
        bool(read_only),
        source,
        ready_on=stream,
        strides=None if elements is None else tuple(elements),
    )


def _cuda_place(source: Any) -> str:
    # The interface does not say which GPU; libraries that know offer an attribute.
    device: object = getattr(source, "device", None)
    for attribute in ("index", "id", "device_id"):
        ordinal: object = getattr(device, attribute, None)
        if isinstance(ordinal, int):
            return f"cuda:{ordinal}"
    return "cuda:0"
