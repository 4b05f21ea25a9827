"""f64 results rounded in the directed modes, and the gross approximations of f64."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from ..scalars import Array, Lanes
from .operations import select
from .rounding import fused64, two_sum

_UPPER = np.uint64(0xFFFFFFFF00000000)
_HALF = np.uint64(1 << 31)
_EXPONENT = np.uint64(0x7FF << 52)
_SIGN = np.uint64(1 << 63)


def _product(r: float, a: float, b: float) -> int:
    """Returns the sign of a * b - r."""
    return _sign(Fraction(a) * Fraction(b), r)


def _fused(r: float, a: float, b: float, c: float) -> int:
    """Returns the sign of a * b + c - r."""
    return _sign(Fraction(a) * Fraction(b) + Fraction(c), r)


def _quotient(r: float, a: float, b: float) -> int:
    """Returns the sign of a / b - r."""
    return _sign(Fraction(a) / Fraction(b), r)


def _root(r: float, a: float) -> int:
    """Returns the sign of sqrt(a) - r."""
    return _sign(Fraction(a), Fraction(r) * Fraction(r))


def _sign(exact: Fraction, value: Any) -> int:
    """Returns how an exact number compares with another one, which may be infinite."""
    return (exact > value) - (exact < value)


# Operation: its result rounded to nearest, and the sign of the error of that.
_OPERATIONS: dict[str, tuple[Callable[..., Lanes], Callable[..., int]]] = {
    "mul": (np.multiply, _product),
    "fma": (fused64, _fused),
    "div": (np.divide, _quotient),
    "sqrt": (np.sqrt, _root),
}


def _errors(operation: str, nearest: Lanes, operands: tuple[Lanes, ...]) -> Lanes:
    """Returns the sign of what rounding to nearest left out, by rational numbers."""
    compare = _OPERATIONS[operation][1]
    columns = np.broadcast_arrays(nearest, *operands)
    finite = np.ones(columns[0].shape, bool)
    for column in columns[1:]:
        finite &= np.isfinite(column)
    finite &= ~np.isnan(columns[0])
    if operation == "div":
        finite &= columns[2] != 0
    signs = np.zeros(finite.size)
    flat = [column.reshape(-1) for column in columns]
    for lane in np.flatnonzero(finite):
        signs[lane] = compare(*(float(column[lane]) for column in flat))
    return signs.reshape(finite.shape)[()]


def adjusted(nearest: Lanes, error: Lanes, mode: str) -> Lanes:
    """Returns results moved to the next number where a mode asks for it."""
    up, down = error > 0, error < 0
    above = np.nextafter(nearest, np.float64(np.inf))
    below = np.nextafter(nearest, np.float64(-np.inf))
    if mode == "rp":
        return select(up, above, nearest)
    if mode == "rm":
        return select(down, below, nearest)
    negative = np.signbit(nearest)
    return select(negative & up, above, select(~negative & down, below, nearest))


def directed64(operation: str, mode: str, *operands: Lanes) -> Lanes:
    """Returns mul, fma, div or sqrt of f64 lanes rounded in a mode: rz, rm or rp."""
    nearest = _OPERATIONS[operation][0](*operands)
    error = _errors(operation, nearest, operands)
    result = adjusted(nearest, error, mode)
    if operation != "fma" or mode != "rm":
        return result
    down = negative_zero(result, operands[0] * operands[1], operands[2])
    return select(error == 0, down, result)


def directed_sum64(a: Lanes, b: Lanes, mode: str) -> Lanes:
    """Returns a + b of f64 lanes rounded in a mode: rz, rm or rp."""
    total, error = two_sum(a, b)
    overflow = np.isinf(total) & np.isfinite(a) & np.isfinite(b)
    error = select(overflow, -total, select(np.isfinite(total), error, np.float64(0)))
    result = adjusted(total, error, mode)
    return negative_zero(result, a, b) if mode == "rm" else result


def negative_zero(result: Lanes, a: Lanes, b: Lanes) -> Lanes:
    """Returns sums of a and b rounded down: a zero is negative unless both terms are +0."""
    exact = (result == 0) & (a == -b)
    positive = (a == 0) & ~np.signbit(a) & ~np.signbit(b)
    return select(exact & ~positive, result.dtype.type(-0.0), result)


def _gross(x: Lanes, function: Callable[[Lanes], Lanes]) -> Lanes:
    """
    Returns a function of the upper half of f64 lanes, rounded to the upper half.

    A NaN whose set bits are all in its lower half counts as the infinity that is left of it.
    """
    bits = x.view(np.uint64)
    upper = select((bits & _EXPONENT) == 0, bits & _SIGN, bits & _UPPER)
    result: Array = function(upper.view(np.float64)).view(np.uint64)
    nan = (result & ~_SIGN) > _EXPONENT
    special = (result & _EXPONENT) == _EXPONENT
    rounded = select(special, result, result + _HALF) & _UPPER
    rounded = select((rounded & _EXPONENT) == 0, rounded & _SIGN, rounded)
    return select(nan, np.uint64(0x7FF8 << 48), rounded).view(np.float64)


def _inverse(x: Lanes) -> Lanes:
    """Returns 1 / x."""
    return np.float64(1) / x


def _inverse_root(x: Lanes) -> Lanes:
    """Returns 1 / sqrt(x)."""
    return np.float64(1) / np.sqrt(x)


def gross_reciprocal(x: Lanes) -> Lanes:
    """Returns rcp.approx.ftz.f64: the upper halves of operand and result count."""
    return _gross(x, _inverse)


def gross_reciprocal_root(x: Lanes) -> Lanes:
    """Returns rsqrt.approx.ftz.f64: the upper halves of operand and result count."""
    return _gross(x, _inverse_root)
