"""
Conditions over rectangles of positions, three-valued, with what they say of affine terms.

A condition of a rectangle is true of all its positions (`must`), of none (not `may`), or is left
open. Beside that it keeps bounds that hold where it is true, and bounds that hold where it is
false: conditions of the same term, and of terms in the same positions, are intersected, so that
`(q_idx - kv_idx >= 0) & (kv_idx < 4)` is empty in a rectangle where each part is not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import gcd

import numpy as np

from .forms import BoolArray, Boxes, Form, Integers, bounds

# A linear term (q, kv) with the first factor that is not 0 positive, or the number of a node.
Key = tuple[int, int] | int
# What a term is bounded by, both included; None where it is not.
Bound = tuple[Integers | None, Integers | None]
Bounds = Mapping[Key, Bound]


_TRUE, _FALSE = np.asarray(True), np.asarray(False)


@dataclass(frozen=True, eq=False)
class Side:
    """
    One side of a condition, where it is true or where it is false.

    `possible` tells of each rectangle whether the side can occur in it, `bounds` what holds where
    it does. `exact` tells of each rectangle that the side does occur in it if it is possible, and
    `same` that it is nothing more than its bounds if it is possible.
    """

    possible: BoolArray
    exact: BoolArray
    bounds: Bounds = field(default_factory=dict[Key, Bound])
    same: BoolArray = field(default_factory=lambda: _FALSE)


@dataclass(frozen=True, eq=False)
class Condition:
    """A condition of N rectangles: the side where it is true, and that where it is false."""

    yes: Side
    no: Side

    @property
    def may(self) -> BoolArray:
        """Whether a rectangle can have a position of which the condition is true."""
        return self.yes.possible

    @property
    def must(self) -> BoolArray:
        """Whether the condition is true of all positions of a rectangle."""
        return ~self.no.possible

    @property
    def exact(self) -> BoolArray:
        """Whether a rectangle that is left open has positions of both kinds."""
        return self.yes.exact & self.no.exact


def constant(value: bool) -> Condition:
    """Returns a condition that is true everywhere, or nowhere."""
    always, never = Side(_TRUE, _TRUE, same=_TRUE), Side(_FALSE, _TRUE, same=_TRUE)
    return Condition(always, never) if value else Condition(never, always)


def unknown() -> Condition:
    """Returns a condition of which nothing is known."""
    return Condition(Side(_TRUE, _FALSE), Side(_TRUE, _FALSE))


def negation(x: Condition) -> Condition:
    """Returns the condition that is true where this one is false."""
    return Condition(x.no, x.yes)


def conjunction(x: Condition, y: Condition, boxes: Boxes) -> Condition:
    """Returns the condition that is true where both are."""
    return Condition(_both(x, y, boxes), _one_of(x.no, y.no))


def disjunction(x: Condition, y: Condition, boxes: Boxes) -> Condition:
    """Returns the condition that is true where at least one is."""
    return Condition(_one_of(x.yes, y.yes), _both(negation(x), negation(y), boxes))


def _one_of(x: Side, y: Side) -> Side:
    shared = x.bounds.keys() & y.bounds.keys()
    hulls = {key: _hull(x.bounds[key], y.bounds[key]) for key in shared}
    kept = {key: bound for key, bound in hulls.items() if any(end is not None for end in bound)}
    exact = (x.exact & (x.possible | y.exact)) | (y.exact & y.possible)
    return Side(x.possible | y.possible, exact, kept)


def _both(one: Condition, other: Condition, boxes: Boxes) -> Side:
    x, y = one.yes, other.yes
    possible = x.possible & y.possible
    merged = dict(x.bounds)
    shared = x.bounds.keys() & y.bounds.keys()
    for key, bound in y.bounds.items():
        merged[key] = _intersection(merged[key], bound) if key in merged else bound
    for key in shared:
        lo, hi = merged[key]
        if lo is not None and hi is not None:
            possible = possible & np.asarray(lo <= hi)
    same = x.same & y.same
    if len(merged) > 1:
        possible, reached = _fits(possible, merged, boxes)
    else:
        # Intervals of one line that meet the rectangle's, and each other, meet all in one point.
        reached = _takes_every_integer(merged)
    exact = (x.exact & other.must) | (y.exact & one.must)
    if reached:
        exact = exact | (x.exact & y.exact & same)
    return Side(possible, exact, merged, same)


def _takes_every_integer(bounds_of: Bounds) -> bool:
    """Whether each term takes all integers between its smallest and its largest."""
    return all(isinstance(key, tuple) and max(abs(key[0]), abs(key[1])) == 1 for key in bounds_of)


def _fits(possible: BoolArray, merged: Bounds, boxes: Boxes) -> tuple[BoolArray, bool]:
    """
    Returns where the bounds of several linear terms leave something of a rectangle.

    The rectangle shrinks to the bounds of the positions themselves; then each other term must reach
    its own. That is exact for one other term with factors of 1: differences and sums of positions
    that are free take every integer.
    """
    q_lo, q_hi = _intersection((boxes.q_first, boxes.q_last), merged.get((1, 0), (None, None)))
    kv_lo, kv_hi = _intersection((boxes.kv_first, boxes.kv_last), merged.get((0, 1), (None, None)))
    assert q_lo is not None
    assert q_hi is not None
    assert kv_lo is not None
    assert kv_hi is not None
    if (1, 0) in merged:
        possible = possible & np.asarray(q_lo <= q_hi)
    if (0, 1) in merged:
        possible = possible & np.asarray(kv_lo <= kv_hi)
    others = {key: bound for key, bound in merged.items() if key not in ((1, 0), (0, 1))}
    for key, (lo, hi) in others.items():
        if isinstance(key, int):
            continue
        q, kv = key
        smallest = q * (q_lo if q > 0 else q_hi) + kv * (kv_lo if kv > 0 else kv_hi)
        largest = q * (q_hi if q > 0 else q_lo) + kv * (kv_hi if kv > 0 else kv_lo)
        if lo is not None:
            possible = possible & np.asarray(largest >= lo)
        if hi is not None:
            possible = possible & np.asarray(smallest <= hi)
    return possible, len(others) <= 1 and _takes_every_integer(merged)


def _intersection(x: Bound, y: Bound) -> Bound:
    return _extreme(x[0], y[0], greater=True), _extreme(x[1], y[1], greater=False)


def _extreme(x: Integers | None, y: Integers | None, *, greater: bool) -> Integers | None:
    if x is None:
        return y
    if y is None:
        return x
    if isinstance(x, int) and isinstance(y, int):
        return max(x, y) if greater else min(x, y)
    return np.maximum(x, y) if greater else np.minimum(x, y)


def _hull(x: Bound, y: Bound) -> Bound:
    lo = None if x[0] is None or y[0] is None else _extreme(x[0], y[0], greater=False)
    hi = None if x[1] is None or y[1] is None else _extreme(x[1], y[1], greater=True)
    return lo, hi


def not_negative(difference: Form, boxes: Boxes) -> Condition:
    """Returns where a form is at least 0."""
    lo, hi = bounds(difference, boxes)
    yes, no = np.asarray(hi >= 0), np.asarray(lo < 0)
    exact = difference.step == 0 and difference.linear is not None
    above, below = -difference.hi, -difference.lo - 1
    yes_side = _linear_side(yes, difference, (above, None), exact)
    return Condition(yes_side, _linear_side(no, difference, (None, below), exact))


def is_zero(difference: Form, boxes: Boxes) -> Condition:
    """Returns where a form is 0."""
    lo, hi = bounds(difference, boxes)
    yes = np.asarray(lo <= 0) & np.asarray(hi >= 0)
    no = np.asarray(lo != 0) | np.asarray(hi != 0)
    linear, single = difference.linear, difference.step == 0
    if linear is None:
        return Condition(Side(yes, _FALSE), Side(no, _FALSE))
    common = gcd(*linear, difference.step)
    if common > 1:
        # All values are congruent to one that is known.
        yes = yes & np.asarray(difference.lo % common == 0)
    side = _linear_side(yes, difference, (-difference.hi, -difference.lo), single)
    reached = single and max(abs(linear[0]), abs(linear[1])) <= common
    yes_side = Side(yes, np.asarray(reached), side.bounds, side.same)
    return Condition(yes_side, Side(no, np.asarray(single)))


def is_multiple(x: Form, divisor: int, boxes: Boxes) -> Condition:
    """Returns where a form is a multiple of a positive number."""
    lo, hi = bounds(x, boxes)
    yes = np.asarray(hi // divisor * divisor >= lo)
    no = np.asarray(lo != hi) | np.asarray(lo % divisor != 0)
    linear, single = x.linear, x.step == 0
    if linear is None:
        return Condition(Side(yes, _FALSE), Side(no, _FALSE))
    # All values are congruent to the rest, modulo what divides the steps and the divisor.
    common = gcd(*linear, x.step, divisor)
    yes = yes & np.asarray(x.lo % common == 0)
    if common == divisor:
        no = no & np.asarray(x.lo % divisor != 0)
    unit = single and max(abs(linear[0]), abs(linear[1])) <= 1
    return Condition(Side(yes, np.asarray(unit)), Side(no, np.asarray(unit)))


def same_document(x: Condition, kv_bound: Bound, one_document: BoolArray) -> Condition:
    """
    Returns where a query and a key have one label, when labels have no gaps.

    Each side occurs wherever it is possible. The keys are those between the first of the queries'
    first label and the last of their last; with one label they are all that is asked for.
    """
    yes = Side(x.yes.possible, _TRUE, {(0, 1): kv_bound}, one_document)
    return Condition(yes, Side(x.no.possible, _TRUE))


def bounded(x: Condition, key: Key, yes: Bound, no: Bound) -> Condition:
    """Returns a condition that says what holds of a term where it is true and where it is false."""
    yes_side = Side(x.yes.possible, x.yes.exact, {**x.yes.bounds, key: yes})
    if no[0] is None and no[1] is None:
        return Condition(yes_side, x.no)
    return Condition(yes_side, Side(x.no.possible, x.no.exact, {**x.no.bounds, key: no}))


def _linear_side(possible: BoolArray, form: Form, bound: Bound, exact: bool) -> Side:
    """Returns the side on which the linear part of a form is bounded, with its key."""
    linear = form.linear
    if linear is None or linear == (0, 0):
        return Side(possible, np.asarray(exact), same=np.asarray(exact))
    key, bound = _normalised(linear, bound)
    return Side(possible, np.asarray(exact), {key: bound}, np.asarray(exact))


def _normalised(linear: tuple[int, int], bound: Bound) -> tuple[tuple[int, int], Bound]:
    """Divides a bounded term by its common factor, and makes its first factor positive."""
    q, kv = linear
    lo, hi = bound
    if q < 0 or (q == 0 and kv < 0):
        q, kv = -q, -kv
        lo, hi = None if hi is None else -hi, None if lo is None else -lo
    common = gcd(q, kv)
    if common > 1:
        lo = None if lo is None else -((-lo) // common)
        hi = None if hi is None else hi // common
    return (q // common, kv // common), (lo, hi)
