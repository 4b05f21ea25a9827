"""Random expressions with their values by Python's integers, and random ranges with points."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from hypothesis import reject
from hypothesis import strategies as st

from tilewright.dialects.sym import Expression, ExpressionError, Ranges, parse_expression, symbol

NAMES = ("k", "m", "n", "p")
Point: TypeAlias = Mapping[str, int]


@dataclass(frozen=True)
class _Tree:
    """Text, and its value by Python's integers (ZeroDivisionError where it has none)."""

    text: str
    value: Callable[[Point], int]


@dataclass(frozen=True)
class Drawn:
    """An expression, the text that it was read from, and its value by Python's integers."""

    text: str
    expression: Expression
    tree: _Tree

    def value_at(self, point: Point) -> int | None:
        """Returns the value, or None if there is none."""
        try:
            return self.tree.value(point)
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


def _constant(value: int) -> _Tree:
    return _Tree(str(value), lambda _: value)


def _named(name: str) -> _Tree:
    return _Tree(name, lambda point: point[name])


def _combine(operation: str, left: _Tree, right: _Tree) -> _Tree:
    function = OPERATIONS[operation]
    if operation in ("min", "max"):
        text = f"{operation}({left.text}, {right.text})"
    else:
        text = f"({left.text}) {operation} ({right.text})"
    return _Tree(text, lambda point: function(left.value(point), right.value(point)))


_SYMBOLS = st.sampled_from(NAMES).map(_named)
_CONSTANTS = st.integers(-20, 70).map(_constant)
_DIVISORS = st.sampled_from((1, 2, 3, 4, 6, 8, 16, 64)).map(_constant)


def _grow(inner: st.SearchStrategy[_Tree]) -> st.SearchStrategy[_Tree]:
    any_operation = st.builds(_combine, st.sampled_from(list(OPERATIONS)), inner, inner)
    divisions = st.sampled_from(("floordiv", "ceildiv", "mod"))
    return any_operation | st.builds(_combine, divisions, inner, _DIVISORS)


@st.composite
def expressions(draw: st.DrawFn) -> Drawn:
    """Draws expressions that are neither too large nor known to have no value."""
    tree = draw(_TREES)
    try:
        return Drawn(tree.text, parse_expression(tree.text), tree)
    except ExpressionError:
        reject()


_TREES = st.recursive(_SYMBOLS | _CONSTANTS, _grow, max_leaves=10)
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
