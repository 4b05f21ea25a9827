"""Divides a loop into a nest of loops."""

from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar, TypeAlias

from ...dialects.nest.program import Body, Bound, Loop, LoopKind, Program
from ...dialects.nest.regions import ranges_inside
from ...dialects.nest.rewriting import guarded, substitute_loops
from ...dialects.sym import (
    Expression,
    Ranges,
    ceildiv,
    constant,
    prove_eq,
    prove_le,
    prove_lt,
    simplify,
    symbol,
)
from .primitive import Primitive, place_of

Factor: TypeAlias = Expression | int


@dataclass(frozen=True)
class Split(Primitive):
    """
    Divides a loop into a nest of as many loops as there are factors, outermost first.

        for i in 0..n             for i_0 in 0..ceildiv(n, 32)
            @B vi = i      -->        for i_1 in 0..32
                                          @B vi = 32*i_0 + i_1 where 32*i_0 + i_1 < n

    At most one factor is None: it is what the others leave, rounded up. Where the factors don't
    divide the extent provably, the blocks inside are guarded by a bound.

    Legal if the loop is serial, the factors are positive, and their product reaches the extent.
    With `exact` their product has to be the extent provably, and no bound is added.
    """

    name: ClassVar[str] = "split"

    loop: str
    factors: tuple[Factor | None, ...]
    names: tuple[str, ...] = ()
    exact: bool = False

    def apply(self, program: Program) -> Program:
        """Returns the program with the loop divided."""
        loop = self.loop_of(program, self.loop)
        place = place_of(program.places[self.loop])
        if loop.kind is not LoopKind.SERIAL:
            raise self.refused(
                "serial",
                f"expected a serial loop, got one that is {loop.kind}",
                place,
                "split the loop before it is given a kind",
            )
        ranges = ranges_inside(program, self.loop)
        factors = self._factors(loop, ranges, place)
        is_exact = self._divides(loop, factors, ranges, place)
        names = self.result_names(program)
        index = _index_of(names, factors)
        body = substitute_loops(loop.body, {self.loop: index})
        if not is_exact:
            body = guarded(body, Bound(index, loop.extent))
        return program.replace(self.loop, *_nest(loop, names, factors, body))

    def result_names(self, program: Program) -> tuple[str, ...]:
        """Returns the names of the loops that the step makes, outermost first."""
        defaults = tuple(f"{self.loop}_{position}" for position in range(len(self.factors)))
        return self.new_names(program, self.names, defaults)

    def _factors(self, loop: Loop, ranges: Ranges, place: str) -> list[Expression]:
        if len(self.factors) < 2 or self.factors.count(None) > 1:
            raise self.refused(
                "factors", f"expected two factors or more, one of them None, got {self.factors}"
            )
        known = [constant(f) if isinstance(f, int) else f for f in self.factors if f is not None]
        for factor in known:
            if not prove_lt(0, factor, ranges):
                raise self.refused("positive", f"expected positive factors, got {factor}", place)
            if unknown := factor.symbols() - frozenset(ranges):
                raise self.refused(
                    "symbols", f"expected factors over symbols, got '{min(unknown)}'", place
                )
        rest = simplify(ceildiv(loop.extent, prod(known, start=constant(1))), ranges)
        if None in self.factors:
            known.insert(self.factors.index(None), rest)
        return known

    def _divides(self, loop: Loop, factors: list[Expression], ranges: Ranges, place: str) -> bool:
        """Returns whether the factors divide the extent provably; refuses what does not reach."""
        total = prod(factors, start=constant(1))
        if prove_eq(total, loop.extent, ranges):
            return True
        if self.exact:
            raise self.refused(
                "divides",
                f"expected factors whose product is the extent {loop.extent}, got {total}",
                place,
                "leave out `exact`, and the tail is guarded",
            )
        if None not in self.factors and not prove_le(loop.extent, total, ranges):
            raise self.refused(
                "reaches",
                f"expected factors whose product is at least the extent {loop.extent}, got {total}",
                place,
                "let one factor be None",
            )
        return False


def _index_of(names: tuple[str, ...], factors: list[Expression]) -> Expression:
    index = constant(0)
    for name, factor in zip(names, factors, strict=True):
        index = index * factor + symbol(name)
    return index


def _nest(loop: Loop, names: tuple[str, ...], factors: list[Expression], body: Body) -> Body:
    for name, factor in reversed(list(zip(names, factors, strict=True))):
        body = (Loop(name, factor, body),)
    return tuple(
        replace(outer, annotations=loop.annotations) if isinstance(outer, Loop) else outer
        for outer in body
    )
