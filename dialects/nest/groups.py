"""
Guarded sums as indices of their own: `3*a + b` with the guard `3*a + b < n` runs over `0 .. n - 1`.

A split whose factors leave a tail makes such sums. Once each is one index again, what is left is
taken apart as if nothing had been guarded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..sym import Expression, Ranges, constant, prove_eq, prove_le, prove_lt
from ..sym.expression import Symbol, expression_of
from .program import Bound

ZERO = constant(0)


@dataclass
class Guard:
    """A bound of a predicate, and what it says over the indices that are left."""

    original: Bound
    current: Bound


class Groups:
    """
    Indices after guarded sums became indices.

    `extents` are those of the indices by name, `values` their expressions over the indices that
    were given, `bindings` what is bound over them, `guards` the bounds that are left.
    """

    def __init__(
        self,
        extents: Mapping[str, Expression],
        bindings: Sequence[Expression],
        guards: Sequence[Guard],
        ranges: Ranges,
        absorb: bool = True,
    ) -> None:
        self.extents = dict(extents)
        self.values = {name: expression_of(Symbol(name)) for name in extents}
        self.bindings: list[Expression] = list(bindings)
        self.guards = list(guards)
        self._ranges = ranges
        self._drop_units()
        while absorb and any(self._absorb(guard) for guard in sorted(self.guards, key=self._size)):
            pass
        self._drop_units()

    def _drop_units(self) -> None:
        """An index of one value is at 0."""
        units = {name: 0 for name, extent in self.extents.items() if extent == 1}
        if units:
            self.extents = {n: extent for n, extent in self.extents.items() if n not in units}
            self.bindings = [binding.substitute(units) for binding in self.bindings]
            for guard in self.guards:
                bound = guard.current
                guard.current = Bound(bound.left.substitute(units), bound.right.substitute(units))

    def _size(self, guard: Guard) -> int:
        return len((guard.current.left - guard.current.right).symbols())

    def _absorb(self, guard: Guard) -> bool:
        """Makes the sum that a guard bounds an index; returns whether the guard is used up."""
        sum_and_limit = self._sum_of(guard.current)
        if sum_and_limit is None:
            return False
        weights, limit = sum_and_limit
        if (names := self._mixed_radix(weights)) is None:
            return False
        reach = weights[names[-1]] * self.extents[names[-1]]
        if prove_le(reach, limit, self._ranges):
            self.guards.remove(guard)
            return True
        if not prove_le(limit, reach, self._ranges) or not prove_lt(0, limit, self._ranges):
            return False
        if len(names) == 1:
            self.extents[names[0]] = limit
            self.guards.remove(guard)
            return True
        return self._replace(guard, names, weights, limit)

    def _sum_of(self, bound: Bound) -> tuple[dict[str, Expression], Expression] | None:
        """Returns the weights of the indices in `sum < limit`, and the limit."""
        rest = bound.left - bound.right
        weights: dict[str, Expression] = {}
        for name in self.extents:
            if name in rest.symbols():
                weights[name], rest = rest.split(Symbol(name))
        left = rest.symbols().union(*(weight.symbols() for weight in weights.values()))
        if not weights or not left.isdisjoint(self.extents):
            return None
        return weights, -rest

    def _mixed_radix(self, weights: Mapping[str, Expression]) -> list[str] | None:
        """Returns the indices with the lowest weight first, if each weight is what is below it."""
        left, names = dict(weights), list[str]()
        weight = constant(1)
        while left:
            for name in left:
                if left[name] == weight or prove_eq(left[name], weight, self._ranges):
                    break
            else:
                return None
            del left[name]
            names.append(name)
            weight = weight * self.extents[name]
        return names

    def _replace(
        self, guard: Guard, names: list[str], weights: Mapping[str, Expression], limit: Expression
    ) -> bool:
        parts = {name: weights[name] * expression_of(Symbol(name)) for name in names}
        group = Symbol(f"<{sum(parts.values(), ZERO)}>")
        others = sum((parts[name] for name in names[1:]), ZERO)
        lowest = {names[0]: expression_of(group) - others}
        bindings = [binding.substitute(lowest) for binding in self.bindings]
        if any(not binding.symbols().isdisjoint(names) for binding in bindings):
            return False
        self.bindings = bindings
        self.guards.remove(guard)
        for other in self.guards:
            left, right = other.current.left, other.current.right
            other.current = Bound(left.substitute(lowest), right.substitute(lowest))
        value = sum((weights[name] * self.values[name] for name in names), ZERO)
        # The group stands where its highest index stood, as the outermost of them.
        outermost = next(name for name in self.extents if name in parts)
        extents = self.extents
        self.extents = dict[str, Expression]()
        for name, extent in extents.items():
            if name == outermost:
                self.extents[group.name] = limit
            if name not in parts:
                self.extents[name] = extent
        self.values[group.name] = value
        return True
