"""Random expressions with their values by Python's integers, and random ranges with points."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from hypothesis import strategies as st

from tilewright.dialects.sym import Expression, ExpressionError, Ranges, parse_expression, symbol

NAMES = ("k", "m", "n", "p")
Point: TypeAlias = Mapping[str, int]


@dataclass(frozen=True)
class Drawn:
    """The text of an expression, and its value (ZeroDivisionError where it has none)."""

    text: str
    value: Callable[[Point], int]

    def __repr__(self) -> str:
        return self.text

    def parse(self) -> Expression | None:
        """Returns the expression, or None if it has no value or is too large."""
        try:
            return parse_expression(self.text)
        except ExpressionError:
            return None

    def value_at(self, point: Point) -> int | None:
        """Returns the value, or None if there is none."""
        try:
            return self.value(point)
        except ZeroDivisionError:
            return None


def _positive(divisor: int) -> int:
    if divisor < 1:
        raise ZeroDivisionError
    return divisor


OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "floordiv": lambda a, b: a // _positive(b),
    "ceildiv": lambda a, b: -(-a // _positive(b)),
    "mod": lambda a, b: a % _positive(b),
    "min": min,
    "max": max,
}


def _constant(value: int) -> Drawn:
    return Drawn(str(value), lambda _: value)


def _named(name: str) -> Drawn:
    return Drawn(name, lambda point: point[name])


def _combine(operation: str, left: Drawn, right: Drawn) -> Drawn:
    function = OPERATIONS[operation]
    if operation in ("min", "max"):
        text = f"{operation}({left}, {right})"
    else:
        text = f"({left}) {operation} ({right})"
    return Drawn(text, lambda point: function(left.value(point), right.value(point)))


_SYMBOLS = st.sampled_from(NAMES).map(_named)
_CONSTANTS = st.integers(-20, 70).map(_constant)
_DIVISORS = st.sampled_from((1, 2, 3, 4, 6, 8, 16, 64)).map(_constant)


def _grow(inner: st.SearchStrategy[Drawn]) -> st.SearchStrategy[Drawn]:
    any_operation = st.builds(_combine, st.sampled_from(list(OPERATIONS)), inner, inner)
    divisions = st.sampled_from(("floordiv", "ceildiv", "mod"))
    return any_operation | st.builds(_combine, divisions, inner, _DIVISORS)


expressions = st.recursive(_SYMBOLS | _CONSTANTS, _grow, max_leaves=10)
points = st.fixed_dictionaries(dict.fromkeys(NAMES, st.integers(-30, 90)))


@dataclass(frozen=True)
class Place:
    """Ranges, and points whose symbols are in them, corners among them."""

    ranges: Ranges
    points: tuple[Point, ...]


@st.composite
def places(draw: st.DrawFn) -> Place:
    """Draws constant, open and symbolic bounds, and multiples."""
    ranges = Ranges({})
    for name in NAMES:
        lower = draw(st.none() | st.integers(-40, 40))
        upper: Expression | int | None = draw(st.none() | st.integers(60, 120))
        if len(ranges) and draw(st.booleans()):
            earlier = symbol(draw(st.sampled_from(list(ranges))))
            upper = draw(st.sampled_from((earlier, 2 * earlier + 3, earlier // 4)))
        ranges = ranges.also(name, lower, upper, draw(st.sampled_from((1, 1, 2, 3, 16))))
    chosen = [_point(draw, ranges) for _ in range(6)]
    return Place(ranges, tuple(point for point in chosen if point is not None))


def _point(draw: st.DrawFn, ranges: Ranges) -> Point | None:
    point: dict[str, int] = {}
    for name in ranges:
        entry = ranges[name]
        lower = None if entry.lower is None else entry.lower.evaluate(point)
        upper = None if entry.upper is None else entry.upper.evaluate(point)
        lower = (0 if upper is None else upper) - 200 if lower is None else lower
        upper = lower + 400 if upper is None else upper
        low, high = -(-lower // entry.multiple), upper // entry.multiple
        if low > high:
            return None
        point[name] = entry.multiple * draw(st.sampled_from((low, high)) | st.integers(low, high))
    return point
