"""
Loops taken apart into digits, so that quotients and remainders of them become linear.

A source is a loop, or a fused sum of loops such as `128*f0 + f1` with `f1` below 128. Where
bindings divide it by `1 | d1 | d2 ...`, its digits are `(source floordiv d) mod (d' floordiv d)`
between neighbours `d` and `d'`: those of a number in a mixed radix (Knuth, The Art of Computer
Programming 2, section 4.1). TVM's iterator maps are sums of such digits too.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..sym import (
    Expression,
    Ranges,
    ceildiv,
    constant,
    floordiv,
    prove_divisible,
    prove_le,
    simplify,
)
from ..sym.expression import Atom, Quotient, Symbol, expression_of

ONE = constant(1)
ZERO = constant(0)
# The coefficient of each loop, and of each quotient of a source by a divisor.
_Linear = dict["str | tuple[int, Expression]", Expression]


class NotAffineError(Exception):
    """An expression is no sum of digits; the message says why."""


@dataclass(frozen=True)
class Digit:
    """
    `(source floordiv divisor) mod extent`, the highest of a source without the `mod`.

    `constants` are the names in the source that are no loops.
    """

    source: Expression
    divisor: Expression
    extent: Expression
    is_highest: bool = True
    constants: frozenset[str] = frozenset()

    @property
    def loops(self) -> frozenset[str]:
        """The names of the loops that the digit depends on."""
        return self.source.symbols() - self.constants

    @property
    def value(self) -> Expression:
        """The value over loops."""
        quotient = floordiv(self.source, self.divisor)
        return quotient if self.is_highest else quotient % self.extent


@dataclass
class _Source:
    """The weight of each loop, lowest first, the number of values, and where it is divided."""

    weights: dict[str, Expression]
    extent: Expression
    divisors: list[Expression] = field(default_factory=list[Expression])
    is_whole: bool = True
    names: list[str] = field(default_factory=list[str])

    @property
    def value(self) -> Expression:
        return sum((w * expression_of(Symbol(name)) for name, w in self.weights.items()), ZERO)

    def weight_above(self, name: str) -> Expression | None:
        """The weight of the next loop, None for the highest."""
        names = list(self.weights)
        place = names.index(name) + 1
        return self.weights[names[place]] if place < len(names) else None


@dataclass(frozen=True)
class _Division:
    """A quotient as `sign * (loops floordiv divisor) + multiples`; `loops` are lowest first."""

    loops: tuple[str, ...]
    divisor: Expression
    sign: int
    multiples: Expression


class Digits:
    """
    The digits of loops, as the given bindings divide them.

    `extents` are those of the loops by name, outermost first. Raises NotAffineError where the
    bindings are no sums of digits.
    """

    def __init__(
        self,
        bindings: Iterable[Expression],
        extents: Mapping[str, Expression],
        ranges: Ranges,
    ) -> None:
        self._extents = extents
        self._ranges = ranges
        self._divisions: dict[Atom, _Division] = {}
        self._sources: list[_Source] = []
        self._source_of: dict[str, int] = {}
        self.digits: dict[str, Digit] = {}
        bindings = list(bindings)
        for name, extent in extents.items():
            if not extent.symbols().isdisjoint(extents):
                raise NotAffineError(f"the extent {extent} of '{name}' depends on a loop")
        self._find_sources(bindings)
        linear = [self._linear(binding) for binding in bindings]
        self._divide_sources(linear)
        for source in self._sources:
            self._take_apart(source)

    def image(self, expression: Expression) -> Expression:
        """Returns an expression over loops as one over the digits by name."""
        result = ZERO
        for key, factor in self._expanded(self._linear(expression)).items():
            if key == "":
                result = result + factor
            else:
                assert isinstance(key, tuple)
                result = result + factor * self._quotient(*key)
        return result

    # Sources

    def _find_sources(self, bindings: Sequence[Expression]) -> None:
        atoms = {
            atom
            for binding in bindings
            for atom in binding.variables()
            if isinstance(atom, Quotient) and self._moves(atom)
        }
        divided = {atom: self._division(atom) for atom in atoms}
        # Sums of more loops come first: those of fewer are parts of them.
        for atom in sorted(divided, key=lambda atom: (-len(divided[atom].loops), atom.key)):
            division = self._divisions[atom] = divided[atom]
            if division.loops[0] not in self._source_of:
                self._add_source(division.loops)
            index = self._source_of[division.loops[0]]
            chain = list(self._sources[index].weights)
            start = chain.index(division.loops[0])
            if tuple(chain[start : start + len(division.loops)]) != division.loops:
                raise NotAffineError(f"{expression_of(atom)} divides another sum of loops")
        for name in self._extents:
            if name not in self._source_of:
                self._add_source((name,))

    def _moves(self, atom: Atom) -> bool:
        return not expression_of(atom).symbols().isdisjoint(self._extents)

    def _add_source(self, loops: tuple[str, ...]) -> None:
        weights: dict[str, Expression] = {}
        weight = ONE
        for name in loops:
            if name in self._source_of:
                raise NotAffineError(f"'{name}' is part of two sums of loops that are divided")
            weights[name] = weight
            weight = weight * self._extents[name]
            self._source_of[name] = len(self._sources)
        self._sources.append(_Source(weights, weight))

    def _division(self, atom: Quotient) -> _Division:
        """Finds the fused sum that a quotient divides; its weights may differ by multiples."""
        numerator, by = atom.numerator, atom.divisor
        if not by.symbols().isdisjoint(self._extents):
            raise NotAffineError(f"the divisor of {expression_of(atom)} depends on a loop")
        # -x floordiv d is written as d - 1 - x, with the other sign.
        for sign, value in ((1, numerator), (-1, by - 1 - numerator)):
            if (found := self._fused(value, by)) is not None:
                return _Division(found[0], by, sign, sign * found[1])
        raise NotAffineError(f"{expression_of(atom)} divides no loop and no fused loops")

    def _fused(
        self, value: Expression, by: Expression
    ) -> tuple[tuple[str, ...], Expression] | None:
        factors: dict[str, Expression] = {}
        for name in self._extents:
            if name in value.symbols():
                factors[name], value = value.split(Symbol(name))
        if value.terms or any(self._names_loop(factor) for factor in factors.values()):
            return None
        loops: list[str] = []
        multiples, weight = ZERO, ONE
        while factors:
            for name in reversed(factors):
                beside = factors[name] - weight
                if not beside.terms or prove_divisible(beside, by, self._ranges):
                    break
            else:
                return None
            multiples = multiples + floordiv(beside, by) * expression_of(Symbol(name))
            loops.append(name)
            del factors[name]
            weight = weight * self._extents[name]
        return tuple(loops), multiples

    def _names_loop(self, value: Expression) -> bool:
        return not value.symbols().isdisjoint(self._extents)

    # Sums of loops and quotients

    def _linear(self, value: Expression) -> _Linear:
        """Returns the coefficients of loops and quotients; that of '' is the constant."""
        terms: _Linear = {}
        for monomial, number in value.terms.items():
            moving = [atom for atom in monomial if self._moves(atom)]
            factor = Expression({tuple(a for a in monomial if a not in moving): number})
            match moving:
                case []:
                    _add(terms, "", factor)
                case [Symbol(name)]:
                    _add(terms, name, factor)
                case [Quotient() as atom] if atom in self._divisions:
                    division = self._divisions[atom]
                    for key, part in self._quotient_terms(division).items():
                        _add(terms, key, factor * division.sign * part)
                    for key, part in self._linear(division.multiples).items():
                        _add(terms, key, factor * part)
                case _:
                    raise NotAffineError(f"{Expression({monomial: number})} is no sum of digits")
        return {key: factor for key, factor in terms.items() if factor.terms}

    def _quotient_terms(self, division: _Division) -> _Linear:
        """Returns `loops floordiv divisor` by quotients of the whole source."""
        index = self._source_of[division.loops[0]]
        source = self._sources[index]
        by = source.weights[division.loops[0]] * division.divisor
        above = source.weight_above(division.loops[-1])
        terms: _Linear = {(index, by): ONE}
        if above is not None:
            if not prove_divisible(above, by, self._ranges):
                raise NotAffineError(f"{by} does not divide {above}, a weight in {source.value}")
            _add(terms, (index, above), -floordiv(above, by))
        return terms

    def _divide_sources(self, linear: Sequence[_Linear]) -> None:
        """Settles which sources are used as a whole, and by what each is divided."""
        for source in self._sources:
            source.is_whole = all(self._is_multiple(source, terms) for terms in linear)
        for terms in linear:
            for key in self._expanded(terms):
                if isinstance(key, tuple) and key[1] not in self._sources[key[0]].divisors:
                    self._sources[key[0]].divisors.append(key[1])

    def _is_multiple(self, source: _Source, terms: _Linear) -> bool:
        lowest = terms.get(next(iter(source.weights)), ZERO)
        return all(terms.get(name, ZERO) == lowest * w for name, w in source.weights.items())

    def _expanded(self, terms: _Linear) -> _Linear:
        """Returns a sum of loops and quotients as one of quotients alone."""
        result: _Linear = {
            key: f for key, f in terms.items() if not isinstance(key, str) or not key
        }
        for key, factor in terms.items():
            if not isinstance(key, str) or not key:
                continue
            index = self._source_of[key]
            source = self._sources[index]
            if source.is_whole:
                if not self._is_multiple(source, terms):
                    raise NotAffineError(f"'{key}' is used outside of {source.value}")
                if key == next(iter(source.weights)):
                    _add(result, (index, ONE), factor)
                continue
            _add(result, (index, source.weights[key]), factor)
            if (above := source.weight_above(key)) is not None:
                _add(result, (index, above), -factor * floordiv(above, source.weights[key]))
        return {key: factor for key, factor in result.items() if factor.terms}

    # Digits

    def _take_apart(self, source: _Source) -> None:
        # A quotient by at least the extent is 0.
        source.divisors = self._chain(
            source, [d for d in source.divisors if d == 1 or not self._is_below(source.extent, d)]
        )
        for position, divisor in enumerate(source.divisors):
            is_highest = position == len(source.divisors) - 1
            above = source.extent if is_highest else source.divisors[position + 1]
            if position and is_highest and not prove_divisible(above, divisor, self._ranges):
                raise NotAffineError(
                    f"{divisor} does not divide the extent {above} of {source.value}"
                )
            extent = above if divisor == 1 else simplify(ceildiv(above, divisor), self._ranges)
            # No symbol of a user has a name like this one.
            name = f"{source.value}/{divisor}"
            self.digits[name] = Digit(source.value, divisor, extent, is_highest)
            source.names.append(name)

    def _is_below(self, extent: Expression, divisor: Expression) -> bool:
        return bool(prove_le(extent, divisor, self._ranges))

    def _chain(self, source: _Source, divisors: list[Expression]) -> list[Expression]:
        """Returns 1 and the divisors, in an order in which each divides the next."""
        left = [ONE, *(divisor for divisor in divisors if divisor != 1)]
        chain: list[Expression] = []
        while left:
            for divisor in left:
                others = [other for other in left if other is not divisor]
                if all(prove_divisible(other, divisor, self._ranges) for other in others):
                    break
            else:
                raise NotAffineError(
                    f"none of the divisors {', '.join(map(str, left))} of {source.value} "
                    "divides all others"
                )
            left.remove(divisor)
            chain.append(divisor)
        return chain

    def _quotient(self, index: int, divisor: Expression) -> Expression:
        """Returns `source floordiv divisor` over digits."""
        source = self._sources[index]
        if divisor not in source.divisors:
            if self._is_below(source.extent, divisor):
                return ZERO
            raise NotAffineError(f"{source.value} is not divided by {divisor} in a binding")
        start = source.divisors.index(divisor)
        places = zip(source.divisors[start:], source.names[start:], strict=True)
        # A digit of one value is 0.
        return sum(
            (
                floordiv(above, divisor) * expression_of(Symbol(name))
                for above, name in places
                if self.digits[name].extent != 1
            ),
            ZERO,
        )


def _add(terms: _Linear, key: "str | tuple[int, Expression]", factor: Expression) -> None:
    terms[key] = terms.get(key, ZERO) + factor
