"""Buffers: typed blocks of a device's memory, whoever allocated them."""

import math
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from .contract import HOST_DTYPE_BYTES

# bfloat16 is held as its bits.
NUMPY_DTYPES: dict[str, np.dtype[Any]] = {
    "f16": np.dtype(np.float16),
    "bf16": np.dtype(np.uint16),
    "f32": np.dtype(np.float32),
    "i32": np.dtype(np.int32),
    "i8": np.dtype(np.int8),
}


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

    `dtype` is one of f16, bf16, f32, i32, on the host also others; `address` is the device address
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
        return math.prod(self.shape) * HOST_DTYPE_BYTES[self.dtype]

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
            "typestr": NUMPY_DTYPES[self.dtype].str,
            "data": (self.address, False),
            "strides": None,
        }
