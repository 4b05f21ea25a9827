"""Turns symbolic index expressions into i64 arithmetic, each part outside of other loops."""

from __future__ import annotations

from ...dialects.sym import Expression, Ranges, interval
from ...dialects.sym.expression import Atom, Extremum, Monomial, Symbol
from .writer import Value, Writer


class Indices:
    """Writes index expressions; `values` holds the symbols and the loops that are open."""

    def __init__(self, writer: Writer, ranges: Ranges) -> None:
        self._writer = writer
        self._ranges = ranges
        self.values: dict[str, Value] = {}
        # What was written, and the regions it stands in: another one may reuse a loop's name.
        self._known: dict[Expression, tuple[Value, object]] = {}

    def knows(self, expression: Expression) -> bool:
        """Whether all names of an expression have a value here."""
        return expression.symbols() <= self.values.keys()

    def value(self, expression: Expression) -> Value:
        """Returns the value of an expression; a part is written where its names are known."""
        known = self._known.get(expression)
        if known is not None and self._writer.is_open(*known):
            return known[0]
        value = self._written(expression)
        self._known[expression] = (value, self._writer.region_of(value))
        return value

    def _written(self, expression: Expression) -> Value:
        if (number := expression.constant_value) is not None:
            return self._writer.integer(number)
        terms = [
            (self._product(monomial), factor)
            for monomial, factor in expression.terms.items()
            if monomial
        ]
        # Outer parts first: their sums stand outside too.
        terms.sort(key=lambda term: (term[0].depth, term[1] < 0))
        total: Value | None = None
        for product, factor in terms:
            total = self._plus(total, product, factor)
        assert total is not None
        if expression.constant_term:
            number = self._writer.integer(expression.constant_term)
            total = self._writer.binary("arith.addi", total, number)
        return total

    def _plus(self, total: Value | None, product: Value, factor: int) -> Value:
        op = "arith.addi"
        if total is not None and factor < 0:
            op, factor = "arith.subi", -factor
        if factor != 1:
            product = self._writer.binary("arith.muli", product, self._writer.integer(factor))
        return product if total is None else self._writer.binary(op, total, product)

    def _product(self, monomial: Monomial) -> Value:
        factors = sorted((self._atom(atom) for atom in monomial), key=lambda value: value.depth)
        product = factors[0]
        for factor in factors[1:]:
            product = self._writer.binary("arith.muli", product, factor)
        return product

    def _atom(self, atom: Atom) -> Value:
        if isinstance(atom, Symbol):
            return self.values[atom.name]
        if isinstance(atom, Extremum):
            op = "arith.minsi" if atom.kind == "min" else "arith.maxsi"
            least, *others = map(self.value, atom.arguments)
            for other in others:
                least = self._writer.binary(op, least, other)
            return least
        return self._quotient(atom.numerator, atom.divisor)

    def _quotient(self, numerator: Expression, divisor: Expression) -> Value:
        writer, (low, _) = self._writer, interval(numerator, self._ranges)
        above, below = self.value(numerator), self.value(divisor)
        if low is not None and low >= 0:
            return writer.binary("arith.divui", above, below)
        quotient = writer.binary("arith.divsi", above, below)
        rest = writer.binary("arith.remsi", above, below)
        is_below = writer.compare("arith.cmpi", "slt", rest, writer.integer(0))
        return writer.select(
            is_below, writer.binary("arith.subi", quotient, writer.integer(1)), quotient
        )
