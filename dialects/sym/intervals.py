"""Arithmetic of intervals of integers that may be open on either side."""

from collections.abc import Callable, Iterable, Sequence
from itertools import product
from math import inf
from typing import NamedTuple


class Interval(NamedTuple):
    """The integers from `lower` to `upper`; None is no bound."""

    lower: int | None
    upper: int | None


ANY = Interval(None, None)


def interval_sum(summands: Iterable[Interval]) -> Interval:
    """Returns the interval of sums of one number of each interval; there is at least one."""
    lowers, uppers = zip(*summands, strict=True)
    return Interval(of_all(sum, lowers), of_all(sum, uppers))


def interval_product(left: Interval, right: Interval) -> Interval:
    """Returns the interval of products of two numbers."""
    corners = [a * b if a and b else 0 for a, b in product(_ends(left), _ends(right))]
    lower, upper = min(corners), max(corners)
    return Interval(None if lower == -inf else int(lower), None if upper == inf else int(upper))


def _ends(interval: Interval) -> tuple[int | float, int | float]:
    lower, upper = interval
    return (-inf if lower is None else lower), (inf if upper is None else upper)


def interval_quotient(numerator: Interval, divisor: Interval) -> Interval:
    """Returns the interval of quotients, rounded down, by positive divisors."""
    lower, upper = numerator
    least, greatest = max(1, divisor.lower or 1), divisor.upper
    if greatest is not None and greatest < least:
        return ANY  # no quotient has a value
    if lower is not None:
        by = greatest if lower >= 0 else least
        lower = 0 if by is None else lower // by
    if upper is not None:
        by = least if upper >= 0 else greatest
        upper = -1 if by is None else upper // by
    return Interval(lower, upper)


def interval_extremum(kind: str, arguments: Iterable[Interval]) -> Interval:
    """Returns the interval of the least (`min`) or greatest (`max`) of one number of each."""
    lowers, uppers = zip(*arguments, strict=True)
    if kind == "min":
        return Interval(of_all(min, lowers), of_known(min, uppers))
    return Interval(of_known(max, lowers), of_all(max, uppers))


def of_all(choose: Callable[[Iterable[int]], int], bounds: Sequence[int | None]) -> int | None:
    """Returns the least or the greatest of all bounds, no bound if one is missing."""
    known = [bound for bound in bounds if bound is not None]
    return choose(known) if len(known) == len(bounds) else None


def of_known(choose: Callable[[Iterable[int]], int], bounds: Sequence[int | None]) -> int | None:
    """Returns the least or the greatest of the bounds that are there, if any is."""
    known = [bound for bound in bounds if bound is not None]
    return choose(known) if known else None
