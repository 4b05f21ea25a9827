"""Questions about expressions whose symbols are in known ranges, and what can be answered."""

from enum import Enum

from .bounds import interval, scaling
from .expression import Expression, as_expression, mod
from .ranges import Ranges


class Answer(Enum):
    """
    What is known of a statement, for all values of the symbols in their ranges.

    REFUTED says that the statement holds for no value at all. An answer is true in Python only
    if it is PROVED; `not answer` is no refutation.
    """

    PROVED = "proved"
    REFUTED = "refuted"
    UNKNOWN = "unknown"

    def __bool__(self) -> bool:
        return self is Answer.PROVED


NO_RANGES = Ranges({})


def prove_nonnegative(value: Expression | int, ranges: Ranges = NO_RANGES) -> Answer:
    """Answers whether `value >= 0`."""
    value = as_expression(value)
    if (number := value.constant_value) is not None:
        return Answer.PROVED if number >= 0 else Answer.REFUTED
    lower, upper = interval(value, ranges)
    if lower is not None and lower >= 0:
        return Answer.PROVED
    return Answer.REFUTED if upper is not None and upper < 0 else Answer.UNKNOWN


def prove_le(left: Expression | int, right: Expression | int, ranges: Ranges = NO_RANGES) -> Answer:
    """Answers whether `left <= right`."""
    return prove_nonnegative(as_expression(right) - left, ranges)


def prove_lt(left: Expression | int, right: Expression | int, ranges: Ranges = NO_RANGES) -> Answer:
    """Answers whether `left < right`."""
    return prove_nonnegative(as_expression(right) - left - 1, ranges)


def prove_eq(left: Expression | int, right: Expression | int, ranges: Ranges = NO_RANGES) -> Answer:
    """Answers whether `left == right`."""
    difference = scaling(ranges).apply(as_expression(left) - right)
    lower, upper = interval(difference, ranges)
    if lower == upper == 0:
        return Answer.PROVED
    is_apart = (lower is not None and lower > 0) or (upper is not None and upper < 0)
    if is_apart or (difference.content and difference.constant_term % difference.content):
        return Answer.REFUTED
    return Answer.UNKNOWN


def prove_divisible(
    value: Expression | int, divisor: Expression | int, ranges: Ranges = NO_RANGES
) -> Answer:
    """Answers whether `value mod divisor == 0`; raises ExpressionError for a divisor below 1."""
    scaled = scaling(ranges)
    remainder = mod(scaled.apply(as_expression(value)), scaled.apply(as_expression(divisor)))
    return prove_eq(remainder, 0, ranges)
