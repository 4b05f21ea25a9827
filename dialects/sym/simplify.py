"""Simplifies expressions by what is known of the ranges of their symbols."""

from functools import lru_cache
from math import gcd

from .bounds import interval, scaling
from .expression import (
    Atom,
    Expression,
    Extremum,
    Quotient,
    Symbol,
    as_expression,
    constant,
    expression_of,
    floordiv,
    rebuild,
    symbol,
)
from .polynomial import ExpressionError
from .proof import prove_le, prove_lt
from .ranges import Ranges


def simplify(value: Expression | int, ranges: Ranges) -> Expression:
    """
    Returns an expression that has the value of `value` wherever its symbols are in `ranges`.

    Drops the arguments of `min` and `max` that others bound (`min(n, 8192)` for `n <= 8192`),
    cancels what a range makes small or positive in quotients, and folds what has one value.
    What has no value (a divisor that is never positive) is returned as it is.
    """
    value = as_expression(value)
    return _simplified(value, ranges.up_to(value.symbols()))


@lru_cache(maxsize=8192)
def _simplified(value: Expression, ranges: Ranges) -> Expression:
    if _is_plain(value, ranges):
        return value
    try:
        return _unscale(_Simplifier(ranges).expression(scaling(ranges).apply(value)), ranges)
    except ExpressionError:
        return value


def _is_plain(value: Expression, ranges: Ranges) -> bool:
    """Whether a polynomial of symbols has nothing to cancel: bounds need not be searched for."""
    for atom in value.variables():
        if not isinstance(atom, Symbol):
            return False
        entry = ranges[atom.name]
        if entry.multiple != 1 or (entry.lower is not None and entry.lower == entry.upper):
            return False
    return True


class _Simplifier:
    def __init__(self, ranges: Ranges) -> None:
        self.ranges = ranges
        self.scaled = scaling(ranges)
        self.known: dict[Atom, Expression] = {}

    def expression(self, value: Expression) -> Expression:
        result = value.replace_atoms(self.atom)
        if self.scaled.sum_of_bounds(result) is not None:
            return result  # its symbols have more than one value each, whatever the others are
        lower, upper = interval(result, self.ranges)
        return constant(lower) if lower is not None and lower == upper else result

    def atom(self, atom: Atom) -> Expression:
        if atom not in self.known:
            self.known[atom] = self._atom(atom)
        return self.known[atom]

    def _atom(self, atom: Atom) -> Expression:
        value = expression_of(atom)
        lower, upper = self.scaled.numbers.get(atom) or interval(value, self.ranges)
        if lower is not None and lower == upper:
            return constant(lower)
        if isinstance(atom, Symbol):
            return value
        value = rebuild(atom, [self.expression(part) for part in atom.parts])
        return value.replace_atoms(self._reduce)

    def _reduce(self, atom: Atom) -> Expression:
        if isinstance(atom, Extremum):
            return self._drop_bounded(atom)
        if isinstance(atom, Quotient):
            reduced = self._cancel_integer(atom) or self._cancel_atom(atom)
            if reduced is not None:
                return self.expression(reduced)
        return expression_of(atom)

    def _drop_bounded(self, atom: Extremum) -> Expression:
        kept = list(atom.arguments)
        for argument in atom.arguments:
            others = [other for other in kept if other is not argument]
            if any(self._is_beyond(atom, argument, other) for other in others):
                kept = others
        return rebuild(atom, kept)

    def _is_beyond(self, atom: Extremum, argument: Expression, other: Expression) -> bool:
        low, high = (other, argument) if atom.kind == "min" else (argument, other)
        return bool(prove_le(low, high, self.ranges))

    def _cancel_integer(self, atom: Quotient) -> Expression | None:
        """Rewrites `(g*x + r) floordiv (g*d)` as `(x + r floordiv g) floordiv d` for small `r`."""
        if (by := atom.divisor.constant_value) is None:
            return None
        terms = atom.numerator.terms
        for common in sorted({gcd(by, factor) for m, factor in terms.items() if m} - {1}):
            shared = Expression({m: f for m, f in terms.items() if m and f % common == 0})
            lower, upper = interval(atom.numerator - shared, self.ranges)
            if lower is not None and upper is not None and lower // common == upper // common:
                whole = shared.divide_exactly(common) + lower // common
                return floordiv(whole, by // common)
        return None

    def _cancel_atom(self, atom: Quotient) -> Expression | None:
        """Rewrites `(x*a + r) floordiv (x*d)` as `(a + r floordiv x) floordiv d`."""
        for candidate in sorted(atom.divisor.variables(), key=lambda atom: atom.key):
            divisor, beside = atom.divisor.split(candidate)
            value = expression_of(candidate)
            if beside.terms or not prove_lt(0, value, self.ranges):
                continue
            numerator, rest = atom.numerator.split(candidate)
            for whole in (0, -1):
                remainder = rest - whole * value
                if prove_le(0, remainder, self.ranges) and prove_lt(remainder, value, self.ranges):
                    return floordiv(numerator + whole, divisor)
        return None


def _unscale(value: Expression, ranges: Ranges) -> Expression:
    """Writes `16*k` as `n` and other `k` as `n floordiv 16`, for `k = n/16`."""
    for name in ranges:
        if (multiple := ranges[name].multiple) != 1:
            quotient = Symbol(f"{name}/{multiple}")
            value = _unscale_symbol(value, quotient, symbol(name), multiple)
    return value


def _unscale_symbol(
    value: Expression, quotient: Symbol, whole: Expression, multiple: int
) -> Expression:
    if quotient.name not in value.symbols():
        return value

    def image(atom: Atom) -> Expression:
        if isinstance(atom, Symbol):
            return expression_of(atom)
        parts = [_unscale_symbol(part, quotient, whole, multiple) for part in atom.parts]
        return rebuild(atom, parts)

    value = value.replace_atoms(image)
    factor, rest = value.split(quotient)
    while factor.terms:
        multiples = Expression({m: f // multiple for m, f in factor.terms.items() if f // multiple})
        others = factor - multiple * multiples
        value = multiples * whole + others * (whole // multiple) + rest
        factor, rest = value.split(quotient)
    return value
