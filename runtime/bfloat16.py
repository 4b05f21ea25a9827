"""bfloat16 as bits: 16-bit unsigned integers that hold the upper half of a binary32."""

import numpy as np
import numpy.typing as npt


def to_float32(bits: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """Returns the values of bfloat16 `bits`, any shape; exact, NaN payloads kept."""
    wide = np.asarray(bits, dtype=np.uint16).astype(np.uint32)
    return (wide << np.uint32(16)).view(np.float32)


def from_float32(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """
    Returns the bits of `values` rounded to bfloat16, any shape.

    Rounds to nearest, ties to even, overflow to infinity; subnormals are kept. A NaN stays a NaN
    of the same sign, made quiet, with the upper bits of its payload (IEEE 754-2019, 6.2.3).
    """
    single = np.asarray(values, dtype=np.float32)
    bits = np.ascontiguousarray(single).view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    rounded = (bits + (np.uint32(0x7FFF) + odd)) >> np.uint32(16)
    quiet = (bits >> np.uint32(16)) | np.uint32(0x40)
    nan = (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
    return np.where(nan, quiet, rounded).astype(np.uint16).reshape(single.shape)
