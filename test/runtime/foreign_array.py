"""Arrays of other libraries: producers of DLPack capsules and of the CUDA array interface."""

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

# dlpack.h, DLTensor: data, device (type, id), ndim, dtype (code, bits, lanes), shape, strides,
# byte_offset.
_TENSOR = [
    ("data", ctypes.c_void_p),
    ("device_type", ctypes.c_int32),
    ("device_id", ctypes.c_int32),
    ("ndim", ctypes.c_int32),
    ("code", ctypes.c_uint8),
    ("bits", ctypes.c_uint8),
    ("lanes", ctypes.c_uint16),
    ("shape", ctypes.c_void_p),
    ("strides", ctypes.c_void_p),
    ("byte_offset", ctypes.c_uint64),
]
_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_CODES = {"i": 0, "u": 1, "f": 2, "bf": 4}


class _Managed(ctypes.Structure):
    _fields_ = (*_TENSOR, ("context", ctypes.c_void_p), ("deleter", _Deleter))


class _Versioned(ctypes.Structure):
    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", _Deleter),
        ("flags", ctypes.c_uint64),
        *_TENSOR,
    )


_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)


class Producer:
    """
    An array that exports DLPack, bit by bit as dlpack.h says.

    `dtype` is a letter code and bits, `strides` are in elements. `deleted` counts the calls of the
    deleter, `streams` the streams that consumers named.
    """

    def __init__(
        self,
        memory: npt.NDArray[Any],
        dtype: str,
        *,
        strides: Sequence[int] | None = None,
        versioned: bool = True,
        read_only: bool = False,
        device: tuple[int, int] = (1, 0),
        address: int | None = None,
        major: int = 1,
        byte_offset: int = 0,
    ) -> None:
        self.memory = memory
        self.deleted = 0
        self.streams: list[object] = []
        self._versioned, self._device = versioned, device
        letters = dtype.rstrip("0123456789")
        self._deleter = _Deleter(self._delete)
        self._shape = (ctypes.c_int64 * max(memory.ndim, 1))(*memory.shape)
        self._strides = (ctypes.c_int64 * max(memory.ndim, 1))(*(strides or ()))
        fields: dict[str, Any] = {
            "data": memory.ctypes.data if address is None else address,
            "device_type": device[0],
            "device_id": device[1],
            "ndim": memory.ndim,
            "code": _CODES[letters],
            "bits": int(dtype[len(letters) :]),
            "lanes": 1,
            "shape": ctypes.addressof(self._shape),
            "strides": ctypes.addressof(self._strides) if strides else None,
            "byte_offset": byte_offset,
            "deleter": self._deleter,
        }
        if versioned:
            fields |= {"major": major, "minor": 0, "flags": int(read_only)}
        self._managed = (_Versioned if versioned else _Managed)(**fields)

    def _delete(self, _address: int) -> None:
        self.deleted += 1

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._device

    def __dlpack__(self, *, stream: object = None, **options: object) -> object:
        if not self._versioned and options:
            raise TypeError("unexpected keyword argument 'max_version'")
        self.streams.append(stream)
        name = b"dltensor_versioned" if self._versioned else b"dltensor"
        return _new_capsule(ctypes.addressof(self._managed), name, None)


class CudaArray:
    """An array on a GPU that has the CUDA array interface."""

    def __init__(self, address: int, shape: tuple[int, ...], typestr: str, **more: object) -> None:
        self.__cuda_array_interface__ = {
            "version": 3,
            "shape": shape,
            "typestr": typestr,
            "data": (address, False),
            "strides": None,
            **more,
        }


class Refusing:
    """An array whose export fails, as that of a tensor that requires a gradient."""

    def __init__(self, error: Callable[[], Exception]) -> None:
        self._error = error

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0

    def __dlpack__(self, **_options: object) -> object:
        raise self._error()


def random_bits(shape: tuple[int, ...]) -> npt.NDArray[np.uint16]:
    """Returns random 16-bit patterns."""
    return np.random.default_rng().integers(0, 1 << 16, shape, np.uint16)
