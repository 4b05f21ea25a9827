"""Bounds over tiles in the place of bounds over elements, where tiles are whole."""

from ..dialects.nest.program import Bound
from ..dialects.sym import Expression, Ranges, constant, interval


def coarse(bound: Bound, ranges: Ranges) -> Bound:
    """
    Returns the bound without names that do not decide it: `j < 4` for `6*j + i < 24`, i in 0..5.

    The distance to the end is f * tiles + rest. Where rest takes values from f * q + 1 - f to
    f * q alone, it is positive where tiles + q is.
    """
    distance = bound.right - bound.left
    for factor in sorted({abs(f) for m, f in distance.terms.items() if m and abs(f) > 1})[::-1]:
        tiles = Expression({m: f // factor for m, f in distance.terms.items() if f % factor == 0})
        rest = distance - tiles * factor
        if not rest.symbols():
            continue
        low, high = interval(rest, ranges)
        if low is None or high is None:
            continue
        if (q := -(-high // factor)) == -(-low // factor):
            return _of_distance(tiles + q)
    return bound


def _of_distance(distance: Expression) -> Bound:
    """Returns the bound that a distance is positive, what is counted down from on its right."""
    left = Expression({m: -f for m, f in distance.terms.items() if m and f < 0})
    return Bound(left, distance + left) if left.terms else Bound(constant(0), distance)
