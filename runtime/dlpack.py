"""
Reading DLPack capsules: the memory of another library's array, without a copy.

Both forms of capsule are read, `dltensor` and `dltensor_versioned` (DLPack 1.0, dlpack.h), and
any element type, bfloat16 included, which NumPy's own reader refuses. A capsule is consumed: its
deleter runs when the last view of the memory is gone.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .errors import ArgumentError

CPU, CUDA, CUDA_HOST, CUDA_MANAGED = 1, 2, 3, 13
_READ_ONLY = 1  # bit of DLManagedTensorVersioned.flags
_MAJOR = 1

# DLDataTypeCode of dlpack.h, by code; the number of bits completes the name.
_CODES = {0: "i", 1: "u", 2: "f", 4: "bf", 5: "c", 6: "bool"}


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


# The deleter is a plain C function: the GIL is released around it.
_DELETER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Managed(ctypes.Structure):
    _fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _DELETER))


class _ManagedVersioned(ctypes.Structure):
    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", _DELETER),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    )


# A capsule keeps the pointer to its name, so the names live as long as the module.
_FORMS: tuple[tuple[bytes, bytes, Any], ...] = (
    (b"dltensor_versioned", b"used_dltensor_versioned", _ManagedVersioned),
    (b"dltensor", b"used_dltensor", _Managed),
)

_capsule_valid = ctypes.pythonapi.PyCapsule_IsValid
_capsule_valid.argtypes = (ctypes.py_object, ctypes.c_char_p)
_capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_capsule_pointer.argtypes = (ctypes.py_object, ctypes.c_char_p)
_capsule_pointer.restype = ctypes.c_void_p
_capsule_rename = ctypes.pythonapi.PyCapsule_SetName
_capsule_rename.argtypes = (ctypes.py_object, ctypes.c_char_p)


class _Owner:
    """Holds a consumed tensor and calls its deleter when it is no longer needed."""

    def __init__(self, address: int, managed: Any) -> None:
        self._address = address
        self._managed = managed

    def __del__(self) -> None:
        if self._managed.deleter:
            self._managed.deleter(self._address)


@dataclass(frozen=True)
class Tensor:
    """
    What a capsule says: `address` of the first element, extents and strides in elements.

    `dtype` is a letter code with bits such as `f16`, `bf16`, `i32`, `u16`; `device` one of the
    DLDeviceType numbers; `owner` keeps the memory alive.
    """

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str
    device: int
    device_id: int
    read_only: bool
    owner: object


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """Returns the strides, in elements, of an array of `shape` without gaps."""
    strides: list[int] = []
    step = 1
    for extent in reversed(shape):
        strides.append(step)
        step *= extent
    return tuple(reversed(strides))


def from_dlpack(array: Any, name: str, stream: int | None = None) -> Tensor:
    """
    Returns the tensor of an `array` that has `__dlpack__`, without a copy.

    `stream` is the handle of the CUDA stream on which the data will be used; the producer orders
    its own work before it (array API standard, `__dlpack__`). Raises ArgumentError naming `name`.
    """
    options: dict[str, object] = {}
    if stream is not None:
        options["stream"] = stream or 1  # 1 stands for the legacy default stream, 0 is ambiguous
    try:
        try:
            capsule: object = array.__dlpack__(max_version=(_MAJOR, 0), **options)
        except TypeError:  # producers older than DLPack 1.0 don't know the parameter
            capsule = array.__dlpack__(**options)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        first = (str(error) or repr(error)).partition("\n")[0]
        got = f"a refusal of its __dlpack__: {first}"
        raise ArgumentError(name, "an array that exports DLPack", got) from None
    return _consume(capsule, name)


def _consume(capsule: object, name: str) -> Tensor:
    for label, used, form in _FORMS:
        if not _capsule_valid(capsule, label):
            continue
        address: int = _capsule_pointer(capsule, label)
        managed = form.from_address(address)
        versioned = form is _ManagedVersioned
        if versioned and managed.major != _MAJOR:
            got = f"DLPack {managed.major}.{managed.minor}"
            raise ArgumentError(name, f"a DLPack {_MAJOR}.x capsule", got)
        _capsule_rename(capsule, used)
        read_only = versioned and bool(managed.flags & _READ_ONLY)
        return _describe(managed.tensor, _Owner(address, managed), read_only)
    raise ArgumentError(name, "a DLPack capsule", type(capsule).__name__)


def _describe(tensor: Any, owner: _Owner, read_only: bool) -> Tensor:
    shape = tuple(tensor.shape[: tensor.ndim]) if tensor.ndim else ()
    strided = tensor.ndim and tensor.strides
    strides = tuple(tensor.strides[: tensor.ndim]) if strided else row_major(shape)
    code = _CODES.get(tensor.code, f"dlpack{tensor.code}_")
    lanes = f"x{tensor.lanes}" if tensor.lanes != 1 else ""
    return Tensor(
        address=(tensor.data or 0) + tensor.byte_offset,
        shape=shape,
        strides=strides,
        dtype=f"{code}{tensor.bits}{lanes}",
        device=tensor.device_type,
        device_id=tensor.device_id,
        read_only=read_only,
        owner=owner,
    )
