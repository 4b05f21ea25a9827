"""The 8-bit floats e4m3 and e5m2 (OCP OFP8), as codes in bytes."""

import numpy as np

from ..scalars import Array, Lanes
from .operations import select

NAN = {"e4m3": np.uint8(0x7F), "e5m2": np.uint8(0x7D)}  # the first code of a NaN
_FRACTION = {"e4m3": 3, "e5m2": 2}
_LOWEST = {"e4m3": -6, "e5m2": -14}  # exponent of the smallest normal number
_LARGEST = {"e4m3": 0x7E, "e5m2": 0x7B}  # code of the largest finite number


def _table(exponents: int, fractions: int) -> Array:
    """Returns the f32 values of all 256 codes of an 8-bit float."""
    code = np.arange(256)
    exponent = code >> fractions & (1 << exponents) - 1
    fraction = (code & (1 << fractions) - 1) / (1 << fractions)
    bias = (1 << exponents - 1) - 1
    normal = np.ldexp(1 + fraction, exponent - bias)
    values = np.where(exponent > 0, normal, np.ldexp(fraction, 1 - bias))
    if exponents == 5:
        special = np.where(fraction == 0, np.inf, np.nan)
        values = np.where(exponent == 31, special, values)
    else:
        values = np.where(code & 0x7F == 0x7F, np.nan, values)
    return np.where(code & 0x80, -values, values).astype(np.float32)


TABLES = {"e4m3": _table(4, 3), "e5m2": _table(5, 2)}


def decode(codes: Lanes, type: str) -> Lanes:
    """Returns the f32 values of u8 codes."""
    return TABLES[type][codes]


def encode(x: Lanes, type: str) -> Lanes:
    """
    Returns f32 lanes rounded to nearest even as u8 codes.

    What is too large becomes the largest finite number (.satfinite); every NaN becomes 0x7f.
    """
    size = np.abs(x).astype(np.float64)
    largest = np.float64(TABLES[type][_LARGEST[type]])
    size = np.minimum(size, largest)  # keeps NaN
    exponent = np.where(size > 0, np.frexp(size)[1] - 1, _LOWEST[type])
    exponent = np.maximum(exponent, _LOWEST[type])
    unit = np.ldexp(1.0, exponent - _FRACTION[type])
    whole = np.rint(size / unit)
    # The codes of one sign are consecutive: a carry into the exponent is a carry of the code.
    code = whole + (exponent - _LOWEST[type]) * float(1 << _FRACTION[type])
    code = np.where(size == size, code, 0).astype(np.uint8)[()]
    code = select(np.signbit(x), code | np.uint8(0x80), code)
    return select(x != x, np.uint8(0x7F), code)
