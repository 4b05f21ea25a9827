"""Buffers: typed blocks of a device's memory, whoever allocated them."""

import math
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from .contract import DTYPE_BYTES

# What attention takes; bfloat16 is held as its bits.
NUMPY_DTYPES: dict[str, np.dtype[Any]] = {
    "f16": np.dtype(np.float16),
    "bf16": np.dtype(np.uint16),
    "f32": np.dtype(np.float32),
    "i32": np.dtype(np.int32),
    "i8": np.dtype(np.int8),
}
# What devices hold: 8-bit floats as their bits as well.
DEVICE_DTYPES: dict[str, np.dtype[Any]] = NUMPY_DTYPES | {
    "i1": np.dtype(np.bool_),
    "u8": np.dtype(np.uint8),
    "i16": np.dtype(np.int16),
    "i64": np.dtype(np.int64),
    "f64": np.dtype(np.float64),
}
_OF_NUMPY = {dtype.name: ours for ours, dtype in DEVICE_DTYPES.items()}


def device_dtype(name: str) -> str | None:
    """Returns the dtype that a device holds elements of NumPy's `name` as, None for none."""
    return name if name in DEVICE_DTYPES else _OF_NUMPY.get(name)


class Memory(Protocol):
    """What a buffer needs to know of the device it lives on."""

    @property
    def name(self) -> str:
        """The device's name in messages, such as `simulator` or `cuda:0`."""
        ...

    @property
    def kind(self) -> str:
        """`simulator` or `cuda`."""
        ...

    def to_numpy(
        self, buffer: "Buffer", out: npt.NDArray[Any] | None = None, stream: object = None
    ) -> npt.NDArray[Any]:
        """Returns the content of `buffer` in host memory, in `out` where given."""
        ...


@dataclass(frozen=True, eq=False)
class Buffer:
    """
    A block of device memory, row-major without gaps.

    `dtype` is one of DEVICE_DTYPES; `address` is the device address
    of the first element; `handle` keeps the memory alive and is the device's own.
    """

    device: Memory
    shape: tuple[int, ...]
    dtype: str
    address: int
    handle: object = field(default=None, repr=False)
    name: str = ""

    @property
    def nbytes(self) -> int:
        """The size in bytes."""
        return math.prod(self.shape) * DTYPE_BYTES[self.dtype]

    def numpy(self) -> npt.NDArray[Any]:
        """Returns a copy in host memory, shape and dtype kept; bf16 comes as uint16 bits."""
        return self.device.to_numpy(self)

    @property
    def __cuda_array_interface__(self) -> dict[str, object]:
        """The CUDA array interface, version 3, of a buffer on a GPU; bf16 goes as uint16 bits."""
        if self.device.kind != "cuda":
            raise AttributeError("only a buffer on a GPU has the CUDA array interface")
        return {
            "version": 3,
            "shape": self.shape,
            "typestr": DEVICE_DTYPES[self.dtype].str,
            "data": (self.address, False),
            "strides": None,
        }
