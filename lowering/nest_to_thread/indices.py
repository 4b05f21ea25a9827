"""Index expressions as values: each part is computed outside the loops that it does not name."""

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field

from xdsl.dialects.builtin import IntegerType, i32, i64
from xdsl.ir import Block, SSAValue

from ...dialects.diagnostic import DiagnosticError
from ...dialects.sym import Expression, Ranges, constant, lies_within, mod, prove_nonnegative
from ...dialects.sym.expression import (
    Atom,
    Extremum,
    Monomial,
    Quotient,
    Symbol,
    Terms,
    expression_of,
)
from ..emitter import Emitter
from .carried import Carried, add_slot

_LARGEST = 2**31 - 1
_ZERO = constant(0)


@dataclass
class _Level:
    """The body of a loop, or the kernel: names that it gives values to, and what is known there."""

    block: Block
    names: dict[str, SSAValue]
    carried: Carried | None = None
    known: dict[tuple[Expression, int], SSAValue] = field(
        default_factory=dict[tuple[Expression, int], SSAValue]
    )
    pointers: dict[tuple[str, Expression], SSAValue] = field(
        default_factory=dict[tuple[str, Expression], SSAValue]
    )


class Indices:
    """
    Appends the arithmetic of index expressions, in i32, or in i64 where 31 bits may not do.

    A sum is computed level by level: what names outer loops alone stands before the inner ones.
    """

    def __init__(self, emit: Emitter, ranges: Ranges) -> None:
        self._emit = emit
        self.ranges = ranges
        self._levels = [_Level(emit.entry, {})]
        self._depth: dict[str, int] = {}

    def define(self, name: str, value: SSAValue) -> None:
        """Gives a name its value, i32, in the innermost loop that is open."""
        self._levels[-1].names[name] = value
        self._depth[name] = len(self._levels) - 1

    @contextmanager
    def level(self, block: Block, carried: Carried | None = None) -> Generator[None]:
        """Opens the body of a loop, which may hand values on; the emitter appends to it already."""
        self._levels.append(_Level(block, {}, carried))
        yield
        for name in self._levels.pop().names:
            del self._depth[name]

    @property
    def is_in_loop(self) -> bool:
        """Whether the body of a loop is open."""
        return len(self._levels) > 1

    def fits(self, value: Expression) -> bool:
        """Whether an expression is proved to fit 32 bits with a sign."""
        return lies_within(value, -_LARGEST, _LARGEST, self.ranges)

    def depth(self, value: Expression) -> int:
        """Returns the level of the innermost loop that an expression names."""
        depths = self._depth
        try:
            return max([depths[name] for name in value.symbols()], default=0)
        except KeyError as missing:
            raise DiagnosticError(
                f"expected an index over loops around it, got '{value}' that names {missing}"
            ) from None

    def _depth_of(self, terms: Iterable[Monomial]) -> int:
        depths = self._depth
        names = [depths[name] for atoms in terms for atom in atoms for name in atom.names]
        return max(names, default=0)

    def reaches(self, monomial: Monomial, depth: int) -> bool:
        """Whether a product is known in the body of the loop at a depth."""
        return self._depth_of((monomial,)) <= depth

    @contextmanager
    def at(self, depth: int) -> Generator[dict[tuple[str, Expression], SSAValue]]:
        """Appends to the body of an outer loop for a while; yields the addresses known there."""
        with self._emit.into(self._levels[depth].block):
            yield self._levels[depth].pointers

    def parts(self, value: Expression) -> tuple[Expression, Expression]:
        """Returns what is known outside the innermost loop that is named, and the rest."""
        depth = self.depth(value)
        if not depth:
            return _ZERO, value
        outer: dict[Monomial, int] = {}
        for part in _parts(value):
            if self._depth_of(part) < depth:
                for monomial, factor in part.items():
                    outer[monomial] = outer.get(monomial, 0) + factor
        known = Expression({monomial: factor for monomial, factor in outer.items() if factor})
        return known, value - known

    def value(self, value: Expression, bits: int = 32) -> SSAValue:
        """Returns the value of an expression."""
        if (number := value.constant_value) is not None:
            return self._emit.integer(number, _type(bits))
        level = self._levels[self.depth(value)]
        key = (value, bits)
        if key not in level.known:
            outer, inner = self.parts(value)
            with self._emit.into(level.block):
                if outer.terms and inner.terms and outer.constant_value is None:
                    start: SSAValue | None = self.value(outer, bits)
                else:
                    start, inner = None, value
                level.known[key] = self._sum(start, inner, bits)
        return level.known[key]

    def position(self, value: Expression) -> SSAValue:
        """Returns the value of an expression as an index of a vector."""
        level = self._levels[self.depth(value)]
        key = (value, 0)
        if key not in level.known:
            number = self.value(value)
            with self._emit.into(level.block):
                level.known[key] = self._emit.to_index(number)
        return level.known[key]

    def _sum(self, start: SSAValue | None, value: Expression, bits: int) -> SSAValue:
        emit = self._emit
        terms = dict(value.terms)
        total = start
        for factor, numerator, divisor in _remainders(terms):
            remainder = self._remainder(numerator, divisor, bits)
            part = emit.mul(remainder, factor)
            total = part if total is None else emit.add(total, part)
        number = terms.pop((), 0)
        for monomial, factor in terms.items():
            product = self._product(monomial, bits)
            part = emit.mul(product, abs(factor))
            if total is None:
                total = part if factor > 0 else emit.sub(0, part)
            else:
                total = emit.add(total, part) if factor > 0 else emit.sub(total, part)
        if total is None:
            return emit.integer(number, _type(bits))
        return emit.add(total, number) if number else total

    def _product(self, monomial: Monomial, bits: int) -> SSAValue:
        if len(monomial) == 1 and bits == 32 and isinstance(symbol := monomial[0], Symbol):
            return self._levels[self._depth[symbol.name]].names[symbol.name]
        key = (Expression({monomial: 1}), bits)
        level = self._levels[self.depth(key[0])]
        if key not in level.known:
            with self._emit.into(level.block):
                ordered = sorted(monomial, key=lambda atom: self._depth_of(((atom,),)))
                result = self._atom(ordered[0], bits)
                for atom in ordered[1:]:
                    result = self._emit.mul(result, self._atom(atom, bits))
                level.known[key] = result
        return level.known[key]

    def _atom(self, atom: Atom, bits: int) -> SSAValue:
        if bits == 64:
            return self._emit.to_i64(self.value(expression_of(atom)))
        if isinstance(atom, Symbol):
            return self._levels[self._depth[atom.name]].names[atom.name]
        if isinstance(atom, Extremum):
            name = "min" if atom.kind == "min" else "max"
            first, *rest = map(self.value, atom.arguments)
            for other in rest:
                first = self._emit.binary(name, first, other)
            return first
        return self._quotient(atom)

    def _quotient(self, atom: Quotient) -> SSAValue:
        numerator, divisor = self.value(atom.numerator), self.value(atom.divisor)
        if prove_nonnegative(atom.numerator, self.ranges):
            return self._emit.binary("divu", numerator, divisor)
        return self._emit.binary("floordiv", numerator, divisor)

    def _remainder(self, numerator: Expression, divisor: int, bits: int) -> SSAValue:
        if (slot := self._slot(numerator, divisor)) is not None:
            return self._emit.to_i64(slot) if bits == 64 else slot
        value = self.value(numerator)
        if prove_nonnegative(numerator, self.ranges):
            result = self._emit.remu(value, divisor)
        else:
            down = self._emit.binary("floordiv", value, divisor)
            whole = self._emit.mul(down, divisor)
            result = self._emit.sub(value, whole)
        return self._emit.to_i64(result) if bits == 64 else result

    def _slot(self, numerator: Expression, divisor: int) -> SSAValue | None:
        """
        Returns the slot of a ring that a loop counts on.

        Division by a power of two is a mask already, and cheaper than a count.
        """
        level = self._levels[self.depth(numerator)]
        if level.carried is None or not divisor & (divisor - 1):
            return None
        step, rest = self.step_of(numerator, level.carried)
        if step != 1 or (offset := rest.constant_value) is None:
            return None
        key = (mod(numerator, divisor), 32)
        if key not in level.known:
            level.known[key] = add_slot(self._emit, level.carried, offset, divisor)
        return level.known[key]

    def carried(self, value: Expression) -> Carried | None:
        """Returns what the innermost loop that an expression names hands on."""
        return self._levels[self.depth(value)].carried

    def step_of(self, value: Expression, carried: Carried) -> tuple[Expression | None, Expression]:
        """Returns what an iteration adds, None where that is not the same for all; and the rest."""
        step, rest = value.split(Symbol(carried.loop))
        named = carried.loop in step.symbols() | rest.symbols()
        return (None if named else step), rest


def _type(bits: int) -> IntegerType:
    return i64 if bits == 64 else i32


def _parts(value: Expression) -> list[Terms]:
    """Returns what a sum is of; a remainder is one operation, so its terms stay together."""
    if not value.depth:
        return [{monomial: factor} for monomial, factor in value.terms.items()]
    terms = dict(value.terms)
    found: list[Terms] = []
    for times, numerator, by in _remainders(terms):
        quotient = (Quotient(numerator, constant(by)),)
        found.append({**{m: times * f for m, f in numerator.terms.items()}, quotient: -times * by})
    return found + [{monomial: factor} for monomial, factor in terms.items()]


def _remainders(terms: dict[Monomial, int]) -> list[tuple[int, Expression, int]]:
    """Takes `c*a - c*d*(a floordiv d)` out of terms, and returns (c, a, d) of each."""
    found: list[tuple[int, Expression, int]] = []
    for monomial in [m for m in terms if len(m) == 1 and isinstance(m[0], Quotient)]:
        (atom,) = monomial
        if not isinstance(atom, Quotient) or (by := atom.divisor.constant_value) is None:
            continue
        if monomial not in terms:  # it is part of a remainder that was found before
            continue
        numerator, factor = atom.numerator, -terms[monomial]
        times, rest = divmod(factor, by)
        if rest or times < 1:
            continue
        if all(terms.get(m, 0) == times * f for m, f in numerator.terms.items() if m):
            for part, number in numerator.terms.items():
                terms[part] = terms.get(part, 0) - times * number
                if not terms[part]:
                    del terms[part]
            del terms[monomial]
            found.append((times, numerator, by))
    return found
