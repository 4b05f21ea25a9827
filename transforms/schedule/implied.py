"""Whether one bound follows from another one: `8*i + j < 171` from `48*i + 6*j + u < 1026`."""

from math import gcd

from ...dialects.nest.program import Bound
from ...dialects.sym import Expression, Ranges, prove_le


def implies(given: Bound, wanted: Bound, ranges: Ranges) -> bool:
    """
    Whether a bound is proved to hold wherever another one does; they are over integers.

    With g and w as the distances to the ends, g >= 1 is given. If p * w >= q * (g - 1) + 1 for
    positive p and q, then p * w >= 1, so w >= 1. The factors are those that cancel the term with
    the largest factor in g.
    """
    g, w = given.right - given.left, wanted.right - wanted.left
    for p, q in _factors(g, w):
        if prove_le(q * (g - 1) + 1, p * w, ranges):
            return True
    return False


def _factors(g: Expression, w: Expression) -> list[tuple[int, int]]:
    pairs: list[tuple[int, int]] = []
    for monomial, factor in g.terms.items():
        other = w.terms.get(monomial, 0)
        if monomial and factor * other > 0:
            common = gcd(factor, other)
            pair = (abs(factor) // common, abs(other) // common)
            if pair not in pairs:
                pairs.append(pair)
    return pairs
