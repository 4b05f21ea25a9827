"""Rounding that NumPy lacks: fused multiply-add, directed modes, bfloat16, flush to zero."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from ..scalars import Lanes
from .operations import select

_EXPONENT: dict[int, tuple[Any, Any]] = {
    4: (np.uint32, np.uint32(0x7F800000)),
    8: (np.uint64, np.uint64(0x7FF << 52)),
}
_SIGN = {4: np.uint32(1 << 31), 8: np.uint64(1 << 63)}
_UP = np.int64(35)  # brings the bits of f64 that f32 lacks to the top
_TIE = np.int64(-1 << 63)  # what they are halfway between two f32 numbers
_ONE32 = np.uint32(1)
_NORMAL = np.uint32(0x1000000)  # twice the bits of the smallest normal f32 number
_LARGE = np.uint32(0xFFFFFFFF)
_SIZE32 = np.uint32(0x7FFFFFFF)
_SMALLEST = np.uint32(0x00800000)  # the bits of 2^-126, the smallest normal f32 number
# Below these a value rounds, in 24 bits with an exponent of any size, to less than 2^-126: to
# nearest, and in the other modes, where the largest such number itself is one of them.
_TINY_NEAREST = np.float64(2.0**-126 * (1 - 2.0**-25))
_TINY_DIRECTED = np.nextafter(np.float64(2.0**-126 * (1 - 2.0**-24)), np.float64(1))


def flush(x: Lanes) -> Lanes:
    """Returns float lanes with subnormal numbers replaced by zero of their sign (.ftz)."""
    kind, exponent = _EXPONENT[x.itemsize]
    bits = x.view(kind)
    field = bits & exponent
    if field.ndim == 0:
        return x if field else (bits & _SIGN[x.itemsize]).view(x.dtype.type)
    if field.size == 0 or field.min():
        return x
    return select(field == 0, bits & _SIGN[x.itemsize], bits).view(x.dtype.type)


def flush_rounded(result: Lanes, mode: str, exact: Callable[..., Lanes], *operands: Lanes) -> Lanes:
    """
    Returns f32 lanes that were rounded from exact(*operands) with tiny ones replaced by zero.

    Tiny is what rounds to less than 2^-126 where the exponent has no lower end (IEEE 754-2019,
    7.5, after rounding). So a result that is 2^-126 only because subnormal numbers lie farther
    apart becomes zero too, as on an H100. `exact` may round to odd.
    """
    bits = result.view(np.uint32)
    size = bits & _SIZE32
    if size.min(initial=_LARGE) > _SMALLEST:
        return result
    tiny, edge = size < _SMALLEST, size == _SMALLEST
    if np.count_nonzero(edge):
        bound = _TINY_NEAREST if mode == "rn" else _TINY_DIRECTED
        tiny = tiny | (edge & (np.abs(exact(*operands)) < bound))
    return select(tiny, bits & _SIGN[4], bits).view(np.float32)


def saturate(x: Lanes) -> Lanes:
    """Returns float lanes clamped to [0, 1]; NaN and negative zero become +0 (.sat)."""
    kind = x.dtype.type
    return select(x > kind(0), np.minimum(x, kind(1)), kind(0))


def rectify(x: Lanes) -> Lanes:
    """Returns float lanes with negative numbers and negative zero replaced by +0 (.relu)."""
    zero = x.dtype.type(0)
    return select(x > zero, x, select(x == x, zero, x))


def two_sum(a: Lanes, b: Lanes) -> tuple[Lanes, Lanes]:
    """Returns a + b rounded and its error (Knuth, TAOCP vol. 2, 4.2.2)."""
    total = a + b
    virtual = total - a
    return total, (a - (total - virtual)) + (b - virtual)


def to_odd(total: Lanes, error: Lanes) -> Lanes:
    """
    Returns f64 sums rounded to odd, given the nearest sums and their errors.

    Rounding the result once more, to at most 51 bits, gives what one rounding of the exact sum
    gives (Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums").
    """
    bits = total.view(np.int64)
    even = (bits & np.int64(1)) == 0
    wrong = even & (error != 0) & np.isfinite(total)
    away = (error > 0) == (total > 0)
    return select(wrong, bits + select(away, np.int64(1), np.int64(-1)), bits).view(np.float64)


def fused32(a: Lanes, b: Lanes, c: Lanes) -> Lanes:
    """
    Returns a * b + c of f32 lanes, rounded once to nearest even.

    The product is exact in f64. The sum is not: rounding it twice is wrong where the f64 sum lies
    halfway between two f32 numbers, or where the result is subnormal. Those lanes are redone.
    """
    if not a.ndim:
        a, b = b, a
    total = a.astype(np.float64)
    total *= b.astype(np.float64)
    if c.ndim > total.ndim:
        total = total + c.astype(np.float64)
    else:
        total += c.astype(np.float64)
    if total.ndim == 0:
        return exact_sum(a, b, c).astype(np.float32)
    result = total.astype(np.float32)
    magnitude = result.view(np.uint32)
    magnitude = magnitude + magnitude  # the sign falls off
    magnitude -= _ONE32  # zero becomes large
    lowest = np.minimum.reduce(total.view(np.int64) << _UP, initial=0)
    if lowest == _TIE or np.minimum.reduce(magnitude, initial=_LARGE) < _NORMAL:
        doubtful = (magnitude < _NORMAL) | (total.view(np.int64) << _UP == _TIE)
        lanes = np.flatnonzero(doubtful)
        x, y, z = (term if not term.ndim else term[lanes] for term in (a, b, c))
        result[lanes] = exact_sum(x, y, z).astype(np.float32)
    return result


def _redo(product: Lanes, addend: Lanes) -> Lanes:
    """Returns the f64 sum rounded to odd."""
    total, error = two_sum(product, addend)
    return to_odd(total, error)


def exact_product(a: Lanes, b: Lanes) -> Lanes:
    """Returns a * b of f32 lanes as f64, which holds it."""
    return a.astype(np.float64) * b.astype(np.float64)


def exact_sum(a: Lanes, b: Lanes, c: Lanes) -> Lanes:
    """Returns a * b + c of f32 lanes as f64 rounded to odd."""
    return _redo(exact_product(a, b), c.astype(np.float64))


def _split(a: Lanes) -> tuple[Lanes, Lanes]:
    """Returns the upper and the lower half of f64 significands (Veltkamp)."""
    scaled = a * np.float64(134217729.0)
    high = scaled - (scaled - a)
    return high, a - high


def fused64(a: Lanes, b: Lanes, c: Lanes) -> Lanes:
    """
    Returns a * b + c of f64 lanes, rounded once to nearest even.

    Boldo and Melquiond's algorithm; lanes whose exponents could over- or underflow on the way are
    computed with rational numbers.
    """
    x, y, z = np.broadcast_arrays(a, b, c)
    product = x * y
    (xh, xl), (yh, yl) = _split(x), _split(y)
    low = ((xh * yh - product) + xh * yl + xl * yh) + xl * yl
    top, bottom = two_sum(z, low)
    high, rest = two_sum(product, top)
    tail = to_odd(*two_sum(bottom, rest))
    result = np.asarray(high + tail)
    size = np.maximum(np.abs(product), np.abs(z))
    small = np.minimum(np.abs(x), np.abs(y))
    safe = (size < 2.0**990) & (np.abs(product) > 2.0**-900) & (small < 2.0**500)
    safe &= (np.maximum(np.abs(x), np.abs(y)) < 2.0**900) & (np.abs(result) > 2.0**-960)
    factors = np.isfinite(x) & np.isfinite(y)
    finite = factors & np.isfinite(z)
    zero = (x == 0) | (y == 0)
    # A product beyond the largest number is no infinity: added to one, it leaves it as it is.
    plain = np.where(factors & ~zero, np.float64(0), product) + z
    result = np.where(finite & ~zero, result, plain)
    for lane in np.flatnonzero(~safe & finite & ~zero):
        values = (float(v.reshape(-1)[lane]) for v in (x, y, z))
        result.reshape(-1)[lane] = _rational(*values)
    return result if result.ndim else result[()]


def _rational(a: float, b: float, c: float) -> float:
    """Returns a * b + c computed exactly and rounded once."""
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    if exact == 0:
        return a * b + c if c != 0 else (c if a * b == 0 else a * b + c)
    try:
        return exact.numerator / exact.denominator
    except OverflowError:
        return float("inf") if exact > 0 else float("-inf")


def directed(exact: Lanes, mode: str) -> Lanes:
    """
    Returns f64 lanes (exact, or rounded to odd) rounded to f32 in a mode: rn, rz, rm or rp.
    """
    nearest = exact.astype(np.float32)
    if mode == "rn":
        return nearest
    back = nearest.astype(np.float64)
    up, down = np.float32(np.inf), np.float32(-np.inf)
    over, under = back > exact, back < exact
    below = select(over, np.nextafter(nearest, down), nearest)
    above = select(under, np.nextafter(nearest, up), nearest)
    if mode == "rm":
        return below
    if mode == "rp":
        return above
    return select(exact > 0, below, above)


def narrow_odd(exact: Lanes) -> Lanes:
    """Returns f64 lanes as f32 rounded to odd: ready to be rounded once more, to 16 bits."""
    truncated = directed(exact, "rz")
    inexact = truncated.astype(np.float64) != exact
    bits = truncated.view(np.uint32)
    lost = inexact & (exact == exact)
    return select(lost, bits | np.uint32(1), bits).view(np.float32)


def to_bfloat(x: Lanes, mode: str = "rn") -> Lanes:
    """Returns f32 lanes rounded to bf16 in a mode, as u16 bits; NaN becomes 0x7fff."""
    bits = x.view(np.uint32)
    rounded = bits
    if mode == "rn":
        odd = (bits >> np.uint32(16)) & np.uint32(1)
        rounded = bits + (np.uint32(0x7FFF) + odd)
    upper = (rounded >> np.uint32(16)).astype(np.uint16)
    if mode in ("rm", "rp"):
        inexact = (bits & np.uint32(0xFFFF)) != 0
        upper = upper + (inexact & (np.signbit(x) == (mode == "rm"))).astype(np.uint16)
    nan = x != x
    if np.count_nonzero(nan):
        upper = select(nan, np.uint16(0x7FFF), upper)
    return upper


def to_half(x: Lanes, mode: str = "rn") -> Lanes:
    """Returns float lanes rounded to f16 in a mode, as u16 bits; NaN becomes 0x7fff."""
    half = x.astype(np.float16)
    bits = half.view(np.uint16)
    if mode != "rn":
        back = half.astype(x.dtype.type)
        away = np.abs(back) > np.abs(x)
        bits = select(away, bits - np.uint16(1), bits)
        if mode != "rz":
            outward = (back != x) & (np.signbit(x) == (mode == "rm"))
            bits = bits + outward.astype(np.uint16)
    nan = x != x
    if np.count_nonzero(nan):
        bits = select(nan, np.uint16(0x7FFF), bits)
    return bits


def from_bfloat(bits: Lanes) -> Lanes:
    """Returns the f32 values of bf16 bits."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def extremum(a: Lanes, b: Lanes, largest: bool, nan: bool) -> Lanes:
    """
    Returns min or max; +0 is larger than -0. With `nan` a NaN wins, otherwise the number does.
    """
    result: Lanes = np.maximum(a, b) if largest else np.minimum(a, b)
    if not nan and np.count_nonzero(result != result):
        # Not fmax: what C and SIMD code make of a signalling NaN there differs.
        result = select(a != a, b, select(b != b, a, result))
    zero = result == 0
    if np.count_nonzero(zero):
        kind = _EXPONENT[result.itemsize][0]
        x, y = a.view(kind), b.view(kind)
        tied = zero & (a == b)
        both: Lanes = x & y if largest else np.bitwise_or(x, y)
        signed = both.view(result.dtype.type)
        result = select(tied, signed, result)
    return result


def signed_extremum(a: Lanes, b: Lanes, largest: bool, nan: bool) -> Lanes:
    """Returns min or max of the magnitudes with the sign of the product (.xorsign.abs)."""
    magnitude = extremum(np.abs(a), np.abs(b), largest, nan)
    negative = np.signbit(a) ^ np.signbit(b)
    signed = np.copysign(magnitude, select(negative, a.dtype.type(-1), a.dtype.type(1)))
    return select(magnitude != magnitude, magnitude, signed)
