"""
The least and the greatest value of an expression, as far as a short search finds them.

The search eliminates one atom after the other from `factor*atom + rest`. A symbol is replaced by
its bound, `min` and `max` by each argument, a quotient `q = a floordiv d` by its own bounds or by

    (a - d + 1) / d  <=  q  <=  a / d

so that what `q` has in common with the rest cancels (`n - 16*(n floordiv 16)` is at most 15). The
best of all bounds stands. Bounds are integers: each step rounds towards the values. Where the
search reaches its limits, interval arithmetic bounds what is left.
"""

from dataclasses import dataclass, field
from functools import lru_cache, reduce

from .expression import Atom, Expression, Extremum, Quotient, Symbol, ceildiv, expression_of
from .intervals import (
    ANY,
    Interval,
    interval_extremum,
    interval_product,
    interval_quotient,
    interval_sum,
    of_all,
    of_known,
)
from .polynomial import ExpressionError
from .ranges import Range, Ranges

MAX_STEPS = 100  # eliminations for one question, about 20 ms
MAX_KNOWN = 512  # bounds that are kept with the ranges
MAX_NESTING = 48  # eliminations inside one another, before they exhaust the Python stack


def interval(value: Expression, ranges: Ranges) -> Interval:
    """Returns bounds of `value` that hold wherever its symbols are in `ranges`."""
    return _interval(value, ranges.up_to(value.symbols()))


@lru_cache(maxsize=8192)
def _interval(value: Expression, ranges: Ranges) -> Interval:
    scaled = scaling(ranges)
    value = scaled.apply(value)
    if (found := scaled.sum_of_bounds(value)) is not None:
        return found
    search = _Search(scaled)
    found = Interval(search.lower(value), search.upper(value))
    if not search.is_cut_off and len(scaled.known) < MAX_KNOWN:
        scaled.known.update(search.known)
    return found


def lies_within(value: Expression, least: int, greatest: int, ranges: Ranges) -> bool:
    """Whether `value` is proved to be from `least` to `greatest` wherever symbols are in ranges."""
    ranges = ranges.up_to(value.symbols())
    scaled = scaling(ranges)
    # The intervals of the terms say so at once where there is room; else what they have in common
    # is searched for.
    rough = _Search(scaled, plain=scaled.plain).sum_of_intervals(scaled.apply(value))
    return _is_inside(rough, least, greatest) or _is_inside(
        _interval(value, ranges), least, greatest
    )


def _is_inside(found: Interval, least: int, greatest: int) -> bool:
    lower, upper = found
    return lower is not None and upper is not None and least <= lower and upper <= greatest


@dataclass(frozen=True)
class Scaling:
    """
    Symbols as multiples of others: with `n mod 16 == 0`, `n` is 16 times the symbol `n/16`.

    `bounds` are the bounds of the symbols that take the place of those of the ranges; those of a
    symbol name only symbols of a lower `rank`. `numbers` has the bounds that are numbers. `known`
    keeps what searches found that came to their end, `plain` the intervals of atoms by themselves.
    """

    images: dict[str, Expression]
    bounds: dict[str, tuple[Expression | None, Expression | None]]
    rank: dict[str, int]
    numbers: dict[Atom, tuple[int, int]]
    known: dict[Expression, int | None] = field(default_factory=dict[Expression, int | None])
    plain: dict[Atom, Interval] = field(default_factory=dict[Atom, Interval])

    def apply(self, value: Expression) -> Expression:
        """Returns `value` over the new symbols; what is over them already stays."""
        if not self.images:
            return value
        try:
            return value.substitute(self.images)
        except ExpressionError:
            return value  # without a value or too large: its symbols stay, without bounds

    def sum_of_bounds(self, value: Expression) -> Interval | None:
        """Returns the bounds of a linear value whose symbols have bounds that are numbers."""
        lower = upper = 0
        numbers = self.numbers
        for monomial, factor in value.terms.items():
            if not monomial:
                lower, upper = lower + factor, upper + factor
            elif len(monomial) != 1 or (bounds := numbers.get(monomial[0])) is None:
                return None
            elif factor > 0:
                lower, upper = lower + factor * bounds[0], upper + factor * bounds[1]
            else:
                lower, upper = lower + factor * bounds[1], upper + factor * bounds[0]
        return Interval(lower, upper)


@lru_cache(maxsize=512)
def scaling(ranges: Ranges) -> Scaling:
    """Returns the multiples that are known from `ranges`."""
    if ranges.before is None or ranges.steps > MAX_NESTING:
        names, scaled = list(ranges), Scaling({}, {}, {}, {})
    else:
        # All but the last symbol are as they were before it.
        names, old = list(ranges)[-1:], scaling(ranges.before)
        scaled = Scaling(dict(old.images), dict(old.bounds), dict(old.rank), dict(old.numbers))
    for name in names:
        _add_symbol(scaled, name, ranges[name])
    return scaled


def _add_symbol(scaled: Scaling, name: str, entry: Range) -> None:
    lower, upper, multiple = entry.lower, entry.upper, entry.multiple
    least = None if lower is None else scaled.apply(lower)
    most = None if upper is None else scaled.apply(upper)
    atom = Symbol(name)
    if multiple != 1:
        least = None if least is None else ceildiv(least, multiple)
        most = None if most is None else most // multiple
        # No symbol of a user has a name like this one.
        atom = Symbol(f"{name}/{multiple}")
        scaled.images[name] = multiple * expression_of(atom)
    scaled.bounds[atom.name], scaled.rank[atom.name] = (least, most), len(scaled.rank) + 1
    if least is not None and most is not None:
        low, high = least.constant_value, most.constant_value
        if low is not None and high is not None:
            scaled.numbers[atom] = low, high


def _rank(scaled: Scaling, atom: Atom) -> int:
    return max([scaled.rank.get(name, 0) for name in atom.names], default=0)


@dataclass
class _Search:
    """The search for one question."""

    scaled: Scaling
    known: dict[Expression, int | None] = field(default_factory=dict[Expression, int | None])
    is_cut_off: bool = False
    plain: dict[Atom, Interval] = field(default_factory=dict[Atom, Interval])
    steps: int = 0
    nesting: int = 0

    def upper(self, value: Expression) -> int | None:
        bound = self.lower(-value)
        return None if bound is None else -bound

    def lower(self, value: Expression) -> int | None:
        """Returns an integer that no value is below."""
        if (found := self.scaled.sum_of_bounds(value)) is not None:
            return found.lower
        constant = value.constant_term
        if not (scale := value.content):
            return constant
        shape = (value - constant).divide_exactly(scale)
        if shape in self.scaled.known:
            bound = self.scaled.known[shape]
        elif shape in self.known:
            bound = self.known[shape]
        else:
            bound = self.known[shape] = self._search(shape)
        return None if bound is None else bound * scale + constant

    def _search(self, value: Expression) -> int | None:
        if self.steps >= MAX_STEPS or self.nesting >= MAX_NESTING:
            self.is_cut_off = True
            return self.sum_of_intervals(value).lower
        self.steps += 1
        self.nesting += 1
        try:
            return self._eliminate(value)
        except ExpressionError:  # the polynomials became too large
            self.is_cut_off = True
            return self.sum_of_intervals(value).lower
        finally:
            self.nesting -= 1

    def _eliminate(self, value: Expression) -> int | None:
        atoms = value.variables()
        atom = max(atoms, key=self._order) if len(atoms) > 1 else next(iter(atoms))
        factor, rest = value.split(atom)
        if (twin := _twin(atom)) and twin in atoms:
            # max(a, b) + min(a, b) = a + b
            other = sum(atom.parts, -expression_of(twin))
            return self.lower(factor * other + rest)
        sign = self._sign(factor)
        if sign == 0:
            return self._lower_of_product(factor, atom, rest)
        if isinstance(atom, Extremum):
            bounds = [self.lower(factor * option + rest) for option in atom.arguments]
            return (
                of_all(min, bounds) if (sign > 0) == (atom.kind == "min") else of_known(max, bounds)
            )
        bounds = [self._lower_by_interval(factor, sign, atom, rest)]
        if isinstance(atom, Quotient):
            bounds.append(self._lower_by_numerator(factor, atom, rest))
            bounds.append(self._lower_by_divisor(factor, sign, atom, rest))
        return of_known(max, bounds)

    def _order(self, atom: Atom) -> tuple[object, ...]:
        # A bound names symbols of lower rank and an operand is less deep, so the search ends.
        rank = _rank(self.scaled, atom)
        return isinstance(atom, Extremum), rank, atom.depth, atom.key

    def _sign(self, factor: Expression) -> int:
        lower, upper = self.lower(factor), self.upper(factor)
        if lower is not None and lower >= 0:
            return 1
        return -1 if upper is not None and upper <= 0 else 0

    def _lower_by_interval(
        self, factor: Expression, sign: int, atom: Symbol | Quotient, rest: Expression
    ) -> int | None:
        bound: Expression | int | None
        if isinstance(atom, Symbol):
            bounds = self.scaled.bounds.get(atom.name, (None, None))
            bound = bounds[0] if sign > 0 else bounds[1]
        else:
            bound = self._quotient_interval(atom)[0 if sign > 0 else 1]
        return None if bound is None else self.lower(factor * bound + rest)

    def _lower_by_numerator(
        self, factor: Expression, atom: Quotient, rest: Expression
    ) -> int | None:
        by = atom.divisor
        value = by.constant_value
        # Where the divisor is a symbol, the factor has to contain it.
        share = factor if value is not None else factor // by
        if value is None and share * by != factor:
            return None
        if not (sign := self._sign(share)):
            return None
        numerator = atom.numerator - by + 1 if sign > 0 else atom.numerator
        if value is None:
            return self.lower(share * numerator + rest)
        bound = self.lower(share * numerator + value * rest)
        return None if bound is None else -(-bound // value)

    def _lower_by_divisor(
        self, factor: Expression, sign: int, atom: Quotient, rest: Expression
    ) -> int | None:
        """Bounds the quotient by that of the same numerator and the best constant divisor."""
        if atom.divisor.constant_value is not None:
            return None
        least, greatest = self._interval(atom.divisor)
        divisor = greatest if sign * self._sign(atom.numerator) > 0 else max(1, least or 1)
        if divisor is None or divisor < 1 or not self._sign(atom.numerator):
            return None
        return self.lower(factor * (atom.numerator // divisor) + rest)

    def _lower_of_product(self, factor: Expression, atom: Atom, rest: Expression) -> int | None:
        terms = interval_product(self._interval(factor), self._atom_interval(atom))
        return of_all(sum, (self.lower(rest), terms.lower))

    def _interval(self, value: Expression) -> Interval:
        return Interval(self.lower(value), self.upper(value))

    def _atom_interval(self, atom: Atom) -> Interval:
        if isinstance(atom, Quotient):
            return self._quotient_interval(atom)
        return self._interval(expression_of(atom))

    def _quotient_interval(self, atom: Quotient) -> Interval:
        return interval_quotient(*map(self._interval, atom.parts))

    def sum_of_intervals(self, value: Expression) -> Interval:
        """Returns the interval of each term by itself, added up."""
        summands = [Interval(value.constant_term, value.constant_term)]
        for monomial, factor in value.terms.items():
            if monomial:
                atoms = map(self._plain_atom_interval, monomial)
                summands.append(reduce(interval_product, atoms, Interval(factor, factor)))
        return interval_sum(summands)

    def _plain_atom_interval(self, atom: Atom) -> Interval:
        if atom not in self.plain:
            self.plain[atom] = ANY  # stands where the nesting ends
            if self.nesting < 2 * MAX_NESTING:
                self.nesting += 1
                self.plain[atom] = self._plain_bounds(atom)
                self.nesting -= 1
        return self.plain[atom]

    def _plain_bounds(self, atom: Atom) -> Interval:
        if isinstance(atom, Symbol):
            lower, upper = self.scaled.bounds.get(atom.name, (None, None))
            return Interval(
                None if lower is None else self.sum_of_intervals(lower).lower,
                None if upper is None else self.sum_of_intervals(upper).upper,
            )
        parts = [self.sum_of_intervals(part) for part in atom.parts]
        if isinstance(atom, Extremum):
            return interval_extremum(atom.kind, parts)
        return interval_quotient(*parts)


def _twin(atom: Atom) -> Extremum | None:
    """Returns the max of the two arguments of a min, and the other way round."""
    if isinstance(atom, Extremum) and len(atom.arguments) == 2:
        return Extremum("min" if atom.kind == "max" else "max", atom.arguments)
    return None
