"""
Where two boxes of elements meet: which loops have equal indices there.

Each side gives the first index of a box, for each axis of a buffer, as an expression over loops.
Both touch one element only if the difference of the two, axis by axis, is at most the widths of
the boxes. Quotients that several axes share (`f floordiv n` and `f mod n` of a fused loop) are
eliminated first, as in Gaussian elimination. Then a loop is fixed, its index equal on both sides,
where its factor exceeds all that the rest of a difference can sum up to: the mixed-radix test.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from ..sym import Expression, Ranges, constant, prove_le, prove_lt
from ..sym.expression import Atom, Monomial, Symbol, as_expression, expression_of

ZERO = constant(0)
ONE = constant(1)
# Most of what is compared are plain integers, and their arithmetic is a hundred times faster.
Number: TypeAlias = Expression | int


def narrowed(value: Expression) -> Number:
    """Returns a constant expression as an integer, any other as it is."""
    return value if (number := value.constant_value) is None else number


class Order:
    """Answers whether one expression is below another; ranges are made only where needed."""

    def __init__(self, ranges: Callable[[], Ranges]) -> None:
        self._ranges = ranges

    @cached_property
    def ranges(self) -> Ranges:
        """The ranges of all symbols, and of the loops that count as symbols."""
        return self._ranges()

    def less(self, left: Number, right: Number) -> bool:
        """Whether `left < right` is proved."""
        if isinstance(left, int) and isinstance(right, int):
            return left < right
        left = as_expression(left)
        if (gap := (right - left).constant_value) is not None:
            return gap > 0
        return bool(prove_lt(left, right, self.ranges))

    def at_most(self, left: Number, right: Number) -> bool:
        """Whether `left <= right` is proved."""
        if isinstance(left, int) and isinstance(right, int):
            return left <= right
        left = as_expression(left)
        if (gap := (right - left).constant_value) is not None:
            return gap >= 0
        return bool(prove_le(left, right, self.ranges))


@dataclass(frozen=True)
class Row:
    """
    One axis: the first index on each side, and the widths of the boxes.

    The sides touch the same index only if `first - second` lies in `1 - width .. other - 1`.
    """

    first: Expression
    second: Expression
    width: Expression = ONE  # of the first side's box
    other: Expression = ONE  # of the second side's box

    @property
    def is_point(self) -> bool:
        """Whether both sides are one element wide."""
        return self.width == 1 and self.other == 1


@dataclass(frozen=True)
class Linear:
    """`sum of factors[l] * l + rest`, where the rest names no index that moves."""

    factors: Mapping[str, Expression]
    rest: Expression


def _moves(atom: Atom, names: Iterable[str]) -> bool:
    if isinstance(atom, Symbol):
        return atom.name in names
    return any(not part.symbols().isdisjoint(names) for part in atom.parts)


def linear(value: Expression, names: frozenset[str]) -> Linear | None:
    """Returns an expression as a linear form over the named indices, None if it is none."""
    factors: dict[str, Expression] = {}
    rest = ZERO
    for monomial, factor in value.terms.items():
        moving = [atom for atom in monomial if _moves(atom, names)]
        if not moving:
            rest += Expression({monomial: factor})
        elif len(moving) == 1 and isinstance(atom := moving[0], Symbol):
            others = tuple(other for other in monomial if other is not atom)
            factors[atom.name] = factors.get(atom.name, ZERO) + Expression({others: factor})
        else:
            return None
    return Linear(factors, rest)


def eliminated(rows: list[Row], names: frozenset[str]) -> list[Row]:
    """Returns rows with shared quotients eliminated: what the old rows imply."""
    used: set[int] = set()
    while (found := _pivot(rows, used, names)) is not None:
        place, atom, sign = found
        used.add(place)
        pivot = rows[place]
        rows = [row if row is pivot else _minus(row, pivot, atom, sign, names) for row in rows]
    return rows


def _pivot(rows: list[Row], used: set[int], names: frozenset[str]) -> tuple[int, Atom, int] | None:
    """Returns a row that is not used, an atom that it shares with another, and its factor, ±1."""
    for place, row in enumerate(rows):
        if place in used or not row.is_point:
            continue
        for monomial, factor in row.first.terms.items():
            if len(monomial) != 1 or isinstance(atom := monomial[0], Symbol):
                continue
            if abs(factor) != 1 or row.second.terms.get(monomial) != factor:
                continue
            others = (other for other in rows if other is not row)
            if _moves(atom, names) and any(other.first.split(atom)[0].terms for other in others):
                return place, atom, factor
    return None


def _minus(row: Row, pivot: Row, atom: Atom, sign: int, names: frozenset[str]) -> Row:
    weight = row.first.split(atom)[0] * sign
    if not weight.terms or not weight.symbols().isdisjoint(names):
        return row
    first, second = row.first - weight * pivot.first, row.second - weight * pivot.second
    return Row(first, second, row.width, row.other)


@dataclass(frozen=True)
class _Form:
    """`sum of factors[a] * difference of a + s = 0` for some `s` in `low .. high`."""

    factors: Mapping[Atom, Number]
    low: Number
    high: Number


class Meeting:
    """
    The points at which two sides touch one element.

    `shared` are the loops around both, `extents` holds the greatest extent of each loop, also of
    those around one side only; `bounds` gives the least and the greatest of an expression while
    these loops run.
    """

    def __init__(
        self,
        rows: list[Row],
        shared: frozenset[str],
        extents: Mapping[str, Expression],
        order: Order,
        bounds: Callable[[Expression], tuple[Expression, Expression] | None],
    ) -> None:
        self._shared, self._extents, self._order, self._bounds = shared, extents, order, bounds
        self._names = frozenset(extents)
        self._known: dict[Atom, tuple[Number, Number] | None] = {}
        implied = eliminated(rows, self._names)
        self._rows = rows + [row for row in implied if all(row is not old for old in rows)]

    def carried(self) -> frozenset[str] | None:
        """Returns the shared loops whose indices may differ; None if the sides never meet."""
        fixed: set[Atom] = {Symbol(loop) for loop in self._shared if self._extents[loop] == 1}
        forms = [form for row in self._rows if (form := self._form(row)) is not None]
        pending = True
        while pending:
            pending = False
            for form in forms:
                found = self._fixed_by(form, fixed)
                if found is None:
                    return None
                pending = pending or not found <= fixed
                fixed |= found
        return frozenset(loop for loop in self._shared if Symbol(loop) not in fixed)

    def _form(self, row: Row) -> _Form | None:
        one = self._parts(row.first)
        two = one if row.second is row.first else self._parts(row.second)
        if one is None or two is None:
            return None
        factors: dict[Atom, Number] = {}
        low = narrowed(one[1] - two[1] + 1 - row.other)
        high = narrowed(one[1] - two[1] + row.width - 1)
        for atom in {**one[0], **two[0]}:
            here, there = one[0].get(atom, 0), two[0].get(atom, 0)
            if here == there and self._names_of(atom) <= self._shared:
                factors[atom] = here
                continue
            for factor in (here, -there):
                span = self._span(atom, factor)
                if span is None:
                    return None
                low, high = low + span[0], high + span[1]
        return _Form(factors, low, high)

    def _parts(self, value: Expression) -> tuple[dict[Atom, Number], Expression] | None:
        """Returns the factors of the atoms that move, and the rest; None where two multiply."""
        factors: dict[Atom, Number] = {}
        rest: dict[Monomial, int] = {}
        for monomial, factor in value.terms.items():
            moving = [atom for atom in monomial if _moves(atom, self._names)]
            if not moving:
                rest[monomial] = factor
            elif len(moving) == 1:
                others = tuple(other for other in monomial if other is not moving[0])
                part = Expression({others: factor}) if others else factor
                factors[moving[0]] = factors.get(moving[0], 0) + part
            else:
                return None
        return factors, Expression(rest)

    def _names_of(self, atom: Atom) -> frozenset[str]:
        if isinstance(atom, Symbol):
            return frozenset((atom.name,))
        return expression_of(atom).symbols() & self._names

    def _range(self, atom: Atom) -> tuple[Number, Number] | None:
        if atom not in self._known:
            if isinstance(atom, Symbol):
                self._known[atom] = 0, narrowed(self._extents[atom.name] - 1)
            else:
                bounds = self._bounds(expression_of(atom))
                known = None if bounds is None else (narrowed(bounds[0]), narrowed(bounds[1]))
                self._known[atom] = known
        return self._known[atom]

    def _span(self, atom: Atom, factor: Number) -> tuple[Number, Number] | None:
        """Returns the least and the greatest of `factor * atom`."""
        if factor == 0:
            return 0, 0
        if (bounds := self._range(atom)) is None:
            return None
        low, high = factor * bounds[0], factor * bounds[1]
        if self._order.at_most(0, factor):
            return low, high
        return (high, low) if self._order.at_most(factor, 0) else None

    def _fixed_by(self, form: _Form, fixed: set[Atom]) -> set[Atom] | None:
        """Returns the atoms that are equal on both sides, None if the sides never meet."""
        sizes: dict[Atom, Number] = {}
        spans: dict[Atom, Number] = {}
        for atom, factor in form.factors.items():
            if factor == 0 or atom in fixed or self._is_fixed(atom, fixed):
                continue
            bounds = self._range(atom)
            if bounds is not None and self._order.less(0, factor):
                sizes[atom] = factor
            elif bounds is not None and self._order.less(factor, 0):
                sizes[atom] = -factor
            else:
                return set()
            spans[atom] = sizes[atom] * (bounds[1] - bounds[0])
        low, high = form.low, form.high
        total: Number = sum(spans.values(), start=0)
        if self._order.less(high + total, 0) or self._order.less(total - low, 0):
            return None
        found: set[Atom] = set()
        for atom in sorted(sizes, key=lambda atom: _falling(sizes[atom])):
            size, others = sizes[atom], total - spans[atom]
            if self._order.less(high + others, size) and self._order.less(others - low, size):
                found.add(atom)
                total = others
            elif isinstance(size, int):
                break  # those that follow have smaller factors
        return found

    def _is_fixed(self, atom: Atom, fixed: set[Atom]) -> bool:
        return all(Symbol(name) in fixed for name in self._names_of(atom))


def _falling(size: Number) -> int:
    return -size if isinstance(size, int) else -(1 << 62)
