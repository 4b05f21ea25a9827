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

from ..sym import Expression, Ranges, constant, prove_le, prove_lt
from ..sym.expression import Atom, Symbol

ZERO = constant(0)
ONE = constant(1)


class Order:
    """Answers whether one expression is below another; ranges are made only where needed."""

    def __init__(self, ranges: Callable[[], Ranges]) -> None:
        self._ranges = ranges

    @cached_property
    def ranges(self) -> Ranges:
        """The ranges of all symbols, and of the loops that count as symbols."""
        return self._ranges()

    def less(self, left: Expression, right: Expression) -> bool:
        """Whether `left < right` is proved."""
        if (gap := (right - left).constant_value) is not None:
            return gap > 0
        return bool(prove_lt(left, right, self.ranges))

    def at_most(self, left: Expression, right: Expression) -> bool:
        """Whether `left <= right` is proved."""
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
    """`sum of factors[l] * difference of l + s = 0` for some `s` in `low .. high`."""

    factors: Mapping[str, Expression]
    low: Expression
    high: Expression


class Meeting:
    """
    The points at which two sides touch one element.

    `shared` are the loops around both, `extents` holds the greatest extent of each loop, also of
    those around one side only.
    """

    def __init__(
        self,
        rows: list[Row],
        shared: frozenset[str],
        extents: Mapping[str, Expression],
        order: Order,
    ) -> None:
        self._shared, self._extents, self._order = shared, extents, order
        self._names = frozenset(extents)
        self._rows = eliminated(rows, self._names)

    def carried(self) -> frozenset[str] | None:
        """Returns the shared loops whose indices may differ; None if the sides never meet."""
        fixed = {loop for loop in self._shared if self._extents[loop] == 1}
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
        return self._shared - fixed

    def _form(self, row: Row) -> _Form | None:
        one, two = linear(row.first, self._names), linear(row.second, self._names)
        if one is None or two is None:
            return None
        factors: dict[str, Expression] = {}
        low = one.rest - two.rest + 1 - row.other
        high = one.rest - two.rest + row.width - 1
        for loop in {**one.factors, **two.factors}:
            here, there = one.factors.get(loop, ZERO), two.factors.get(loop, ZERO)
            if loop in self._shared and here == there:
                factors[loop] = here
                continue
            for factor in (here, -there):
                span = self._span(loop, factor)
                if span is None:
                    return None
                low, high = low + span[0], high + span[1]
        return _Form(factors, low, high)

    def _span(self, loop: str, factor: Expression) -> tuple[Expression, Expression] | None:
        """Returns the least and the greatest of `factor * index`."""
        if not factor.terms:
            return ZERO, ZERO
        end = factor * (self._extents[loop] - 1)
        if self._order.at_most(ZERO, factor):
            return ZERO, end
        return (end, ZERO) if self._order.at_most(factor, ZERO) else None

    def _fixed_by(self, form: _Form, fixed: set[str]) -> set[str] | None:
        sizes: dict[str, Expression] = {}
        for loop, factor in form.factors.items():
            if loop not in fixed and factor.terms:
                if self._order.less(ZERO, factor):
                    sizes[loop] = factor
                elif self._order.less(factor, ZERO):
                    sizes[loop] = -factor
                else:
                    return set()
        low, high = form.low, form.high
        found: set[str] = set()
        spans = {loop: size * (self._extents[loop] - 1) for loop, size in sizes.items()}
        total = sum(spans.values(), start=ZERO)
        if self._order.less(high + total, ZERO) or self._order.less(total - low, ZERO):
            return None
        for loop in sorted(sizes, key=lambda loop: -(sizes[loop].constant_value or 1 << 62)):
            size, others = sizes[loop], total - spans[loop]
            if self._order.less(high + others, size) and self._order.less(others - low, size):
                found.add(loop)
                total = others
            elif size.constant_value is not None:
                break  # those that follow have smaller factors
        return found
