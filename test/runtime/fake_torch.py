"""The few names of torch that the runtime uses, on NumPy memory: a module to stand in for torch."""

from typing import Any

import numpy as np
import numpy.typing as npt

from tilewright.test.runtime.foreign_array import Producer

float16, bfloat16, float32 = "f16", "bf16", "f32"
_MEMORY = {float16: np.float16, bfloat16: np.uint16, float32: np.float32}


class Tensor(Producer):
    """A tensor in host memory that exports DLPack in its own type."""

    def __init__(self, memory: npt.NDArray[Any], dtype: str) -> None:
        super().__init__(memory, dtype)
        self.dtype = dtype

    def new_empty(self, shape: tuple[int, ...], dtype: str) -> "Tensor":
        """Returns a new tensor."""
        return Tensor(np.empty(shape, _MEMORY[dtype]), dtype)


# The kind of an array is told by its module, and torch's own classes are in `torch`.
Tensor.__module__ = "torch"
