"""
Integers over rectangles of positions: affine terms with an interval that is left over.

A form stands for one integer of each of N rectangles, as a function of the positions inside. Its
linear part keeps what query and key positions have in common, so that the difference of two terms
is exact where their separate intervals say nothing (Miné, The Octagon Abstract Domain, 2006, has
the same reason); its congruence is that of Granger (Static Analysis of Arithmetical Congruences).
"""

from dataclasses import dataclass
from math import gcd

import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
# One number for all rectangles, or one for each.
Integers = int | Int64Array
Range = tuple[Integers, Integers]

INT32 = (-(2**31), 2**31 - 1)


@dataclass(frozen=True, eq=False)
class Boxes:
    """
    N rectangles of positions, bounds included; request and query head are one each.

    `row_shift` is what the row of a query in the array of all queries is more than its position.
    """

    b: Integers
    h: Integers
    q_first: Int64Array
    q_last: Int64Array
    kv_first: Int64Array
    kv_last: Int64Array
    row_shift: Integers = 0

    def __len__(self) -> int:
        return len(self.q_first)


@dataclass(frozen=True, eq=False)
class Form:
    """
    The integers `q * q_idx + kv * kv_idx + rest`, with rest one of `lo, lo + step, ..., hi`.

    A step of 0 says that rest is the same in a whole rectangle; `lo` and `hi` are one object then.
    """

    q: Integers
    kv: Integers
    lo: Integers
    hi: Integers
    step: int

    @property
    def linear(self) -> tuple[int, int] | None:
        """The two factors, where they are the same in all rectangles."""
        if isinstance(self.q, int) and isinstance(self.kv, int):
            return self.q, self.kv
        return None

    @property
    def uniform(self) -> bool:
        """Whether the integer is the same in a whole rectangle, for all of them."""
        return self.step == 0 and self.linear == (0, 0)

    @property
    def number(self) -> int | None:
        """The integer, where it is one and the same everywhere."""
        return self.lo if self.uniform and isinstance(self.lo, int) else None


def point(value: Integers) -> Form:
    """Returns a form that is one integer in each rectangle."""
    return Form(0, 0, value, value, 0)


def between(lo: Integers, hi: Integers) -> Form:
    """Returns a form of which only the bounds are known."""
    return Form(0, 0, lo, hi, 1)


UNKNOWN = between(*INT32)


def _times(factor: Integers, first: Int64Array, last: Int64Array) -> Range:
    if isinstance(factor, int):
        match factor:
            case 0:
                return 0, 0
            case 1:
                return first, last
            case -1:
                return -last, -first
            case _:
                return (
                    (factor * first, factor * last)
                    if factor > 0
                    else (factor * last, factor * first)
                )
    one, other = factor * first, factor * last
    return np.minimum(one, other), np.maximum(one, other)


def _plus(x: Integers, y: Integers) -> Integers:
    # An addition of 0 to an array of all rectangles is a pass over memory.
    if isinstance(x, int) and x == 0:
        return y
    return x if isinstance(y, int) and y == 0 else x + y


def bounds(x: Form, boxes: Boxes) -> Range:
    """Returns the smallest and the largest value that a form can have in each rectangle."""
    q_lo, q_hi = _times(x.q, boxes.q_first, boxes.q_last)
    kv_lo, kv_hi = _times(x.kv, boxes.kv_first, boxes.kv_last)
    return _plus(_plus(q_lo, kv_lo), x.lo), _plus(_plus(q_hi, kv_hi), x.hi)


def add(x: Form, y: Form) -> Form:
    """Returns the sum."""
    lo = _plus(x.lo, y.lo)
    step = gcd(x.step, y.step)
    hi = lo if step == 0 else _plus(x.hi, y.hi)
    return Form(_plus(x.q, y.q), _plus(x.kv, y.kv), lo, hi, step)


def negative(x: Form) -> Form:
    """Returns the negative."""
    lo = -x.hi
    return Form(-x.q, -x.kv, lo, lo if x.step == 0 else -x.lo, x.step)


def subtract(x: Form, y: Form) -> Form:
    """Returns the difference; what both have in common is gone from it."""
    return add(x, negative(y))


def scaled(x: Form, factor: int) -> Form:
    """Returns the form times a number."""
    if factor < 0:
        return scaled(negative(x), -factor)
    if factor == 0:
        return point(0)
    lo = x.lo * factor
    hi = lo if x.step == 0 else x.hi * factor
    return Form(x.q * factor, x.kv * factor, lo, hi, x.step * factor)


def multiply(x: Form, y: Form, boxes: Boxes) -> Form:
    """Returns the product; it stays affine where one side is uniform."""
    if y.number is not None:
        return scaled(x, y.number)
    if x.number is not None:
        return scaled(y, x.number)
    if x.uniform and not y.uniform:
        x, y = y, x
    if y.uniform and x.step == 0:
        value = x.lo * y.lo
        return Form(x.q * y.lo, x.kv * y.lo, value, value, 0)
    (a, b), (c, d) = bounds(x, boxes), bounds(y, boxes)
    products = [np.asarray(one * other, np.int64) for one in (a, b) for other in (c, d)]
    lo = np.minimum(np.minimum(products[0], products[1]), np.minimum(products[2], products[3]))
    hi = np.maximum(np.maximum(products[0], products[1]), np.maximum(products[2], products[3]))
    return between(lo, hi)


def _without_multiples(x: Form, divisor: int) -> tuple[Form, Form]:
    """Splits a form into one that the divisor divides and the rest."""
    q = x.q if isinstance(x.q, int) and x.q % divisor == 0 else 0
    kv = x.kv if isinstance(x.kv, int) and x.kv % divisor == 0 else 0
    return Form(q, kv, 0, 0, 0), Form(_plus(x.q, -q), _plus(x.kv, -kv), x.lo, x.hi, x.step)


def floordiv(x: Form, divisor: int, boxes: Boxes) -> Form:
    """Returns the quotient by a number that is not 0, rounded down."""
    if divisor < 0:
        return floordiv(negative(x), -divisor, boxes)
    multiple, rest = _without_multiples(x, divisor)
    lo, hi = bounds(rest, boxes)
    if rest.uniform:
        quotient = point(lo // divisor)
    elif rest.linear == (0, 0) and rest.step % divisor == 0:
        quotient = Form(0, 0, lo // divisor, hi // divisor, rest.step // divisor)
    else:
        quotient = between(lo // divisor, hi // divisor)
    if multiple.linear == (0, 0):
        return quotient
    q, kv = multiple.linear or (0, 0)
    return add(Form(q // divisor, kv // divisor, 0, 0, 0), quotient)


def modulo(x: Form, divisor: int, boxes: Boxes) -> Form:
    """
    Returns the remainder by a number that is not 0, with the sign of that number.

    Where the quotient is the same in a whole rectangle, the remainder is as affine as the form is.
    """
    if divisor < 0:
        return negative(modulo(negative(x), -divisor, boxes))
    _, rest = _without_multiples(x, divisor)
    if rest.uniform:
        return point(rest.lo % divisor)
    lo, hi = bounds(rest, boxes)
    quotient = lo // divisor
    same = np.asarray(quotient == hi // divisor)
    shifted = add(rest, point(-quotient * divisor))
    linear = rest.linear
    common = gcd(*linear, rest.step, divisor) if linear is not None else 1
    least = rest.lo % common
    anywhere = Form(0, 0, least, least + (divisor - common), common)
    return choose(same, shifted, anywhere)


def divide_by_range(x: Form, y: Form, boxes: Boxes) -> Form:
    """Returns the quotient by a form, rounded down; unknown where it can be by 0."""
    (a, b), (c, d) = bounds(x, boxes), bounds(y, boxes)
    safe = np.asarray((c > 0) | np.asarray(d < 0))
    c, d = np.where(safe, c, 1), np.where(safe, d, 1)
    quotients = [np.asarray(one // other, np.int64) for one in (a, b) for other in (c, d)]
    lo = np.minimum(np.minimum(quotients[0], quotients[1]), np.minimum(quotients[2], quotients[3]))
    hi = np.maximum(np.maximum(quotients[0], quotients[1]), np.maximum(quotients[2], quotients[3]))
    return between(np.where(safe, lo, INT32[0]), np.where(safe, hi, INT32[1]))


def modulo_by_range(x: Form, y: Form, boxes: Boxes) -> Form:
    """Returns the remainder by a form; unknown where it can be by 0."""
    (a, b), (c, d) = bounds(x, boxes), bounds(y, boxes)
    inside = np.asarray(a >= 0) & np.asarray(b < c)
    positive, negative_ = np.asarray(c > 0), np.asarray(d < 0)
    single = np.asarray(a == b) & np.asarray(c == d) & (positive | negative_)
    remainder = np.asarray(a, np.int64) % np.where(single, c, 1)
    lo = np.where(positive, 0, np.where(negative_, np.asarray(c) + 1, INT32[0]))
    hi = np.where(positive, np.asarray(d) - 1, np.where(negative_, 0, INT32[1]))
    elsewhere = choose(inside, x, between(lo, hi))
    return choose(single, between(remainder, remainder), elsewhere)


def choose(condition: BoolArray, yes: Form, no: Form) -> Form:
    """Returns for each rectangle one of two forms."""
    if condition.all():
        return yes
    if not condition.any():
        return no

    def one_of(x: Integers, y: Integers) -> Integers:
        if isinstance(x, int) and isinstance(y, int) and x == y:
            return x
        return np.where(condition, x, y)

    lo = one_of(yes.lo, no.lo)
    step = gcd(yes.step, no.step)
    hi = lo if step == 0 else one_of(yes.hi, no.hi)
    return Form(one_of(yes.q, no.q), one_of(yes.kv, no.kv), lo, hi, step)


def either(x: Form, y: Form, boxes: Boxes) -> Form:
    """Returns a form that holds the values of both."""
    if x.linear is not None and x.linear == y.linear:
        return Form(x.q, x.kv, np.minimum(x.lo, y.lo), np.maximum(x.hi, y.hi), 1)
    (a, b), (c, d) = bounds(x, boxes), bounds(y, boxes)
    return between(np.minimum(a, c), np.maximum(b, d))


def maximum(x: Form, y: Form, boxes: Boxes) -> Form:
    """Returns the greater of two forms: one of them where it is never the smaller."""
    lo, hi = bounds(subtract(x, y), boxes)
    (a, b), (c, d) = bounds(x, boxes), bounds(y, boxes)
    both = between(np.maximum(a, c), np.maximum(b, d))
    return choose(np.asarray(lo >= 0), x, choose(np.asarray(hi <= 0), y, both))


def minimum(x: Form, y: Form, boxes: Boxes) -> Form:
    """Returns the smaller of two forms."""
    return negative(maximum(negative(x), negative(y), boxes))
