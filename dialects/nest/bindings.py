"""
Whether the loops around a block visit each point of its axes, and how often.

Bindings are sums of digits of the loops. They are independent if no digit stands in two places, and
cover an axis if the scales are those of a number in a mixed radix that reaches the extent. Where
a scale is smaller, as in the halo that `compute_at` leaves, points are visited again.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeAlias

from ..sym import (
    Expression,
    Ranges,
    ceildiv,
    constant,
    floordiv,
    prove_divisible,
    prove_eq,
    prove_le,
    prove_lt,
)
from ..sym.expression import Symbol, expression_of
from .digits import Digit, Digits, NotAffineError
from .groups import Groups, Guard
from .program import Axis, Block, Bound, Loop
from .regions import bounds_over

ONE = constant(1)
ZERO = constant(0)


@dataclass(frozen=True)
class Place:
    """A digit with its weight in the value of an axis."""

    digit: Digit
    scale: Expression


@dataclass(frozen=True)
class AxisMap:
    """
    The value of an axis: `offset` and the sum of its places, the smallest scale first.

    `overlap` counts the places before the first whose scale is below what these reach, so that
    points have several representations; it is None where each has one.
    """

    axis: str
    places: tuple[Place, ...]
    offset: Expression
    overlap: int | None = None

    @property
    def reach(self) -> Expression:
        """How many values the axis takes from the offset on, without gaps."""
        reach = ONE
        for place in self.places:
            reach = reach + place.scale * (place.digit.extent - 1)
        return reach


@dataclass(frozen=True)
class BindingMap:
    """
    How the loops around a block visit its points: each at least once.

    `repeated` are digits that no axis depends on. `restricting` are the bounds of the predicate
    that leave out points of the axes, as a triangular domain does.
    """

    axes: tuple[AxisMap, ...]
    repeated: tuple[Digit, ...]
    restricting: tuple[Bound, ...]

    @property
    def is_exact(self) -> bool:
        """Whether each point is visited once."""
        return not self.recomputing_loops()

    @property
    def is_plain(self) -> bool:
        """Whether points have one representation, and none is left out."""
        return not self.restricting and all(axis.overlap is None for axis in self.axes)

    def axis(self, name: str) -> AxisMap:
        """Returns the map of an axis by name."""
        return next(axis for axis in self.axes if axis.axis == name)

    def recomputing_loops(self) -> frozenset[str]:
        """Returns the loops whose iterations visit points again."""
        digits = list(self.repeated)
        for axis in self.axes:
            if axis.overlap is not None:
                digits += [place.digit for place in axis.places[axis.overlap :]]
        return frozenset(name for digit in digits for name in digit.loops)


@dataclass(frozen=True)
class BindingFailure:
    """
    Why bindings are not accepted.

    `condition` is `affine` (a binding is no sum of digits), `independent` (a digit stands in two
    places), `covers` (points are left out) or `inside` (the value may leave the extent).
    """

    condition: str
    axis: str
    reason: str

    def __str__(self) -> str:
        return f"axis '{self.axis}': {self.reason}" if self.axis else self.reason


Bindings: TypeAlias = BindingMap | BindingFailure
_Extents: TypeAlias = tuple[tuple[str, Expression], ...]


@dataclass(frozen=True)
class _Asked:
    is_whole: bool
    is_inside: bool


class _FailureError(Exception):
    def __init__(self, condition: str, axis: str, reason: str) -> None:
        super().__init__(reason)
        self.failure = BindingFailure(condition, axis, reason)


def map_bindings(
    block: Block,
    loops: Sequence[Loop],
    ranges: Ranges,
    *,
    is_whole: bool = True,
    is_inside: bool = True,
) -> Bindings:
    """
    Returns how loops visit the points of a block, or why that is not known.

    `loops` are those between the block and the block around it, outermost first; `ranges` are
    those of the symbols and of the axes around. Where points are left out that is a failure,
    unless `is_whole` is False. That values stay in the axes is not asked if `is_inside` is False.
    """
    extents = tuple((loop.name, loop.extent) for loop in loops)
    asked = _Asked(is_whole, is_inside)
    return _map_bindings(block.axes, block.predicate, extents, ranges, asked)


@lru_cache(maxsize=4096)
def _map_bindings(
    axes: tuple[Axis, ...],
    predicate: tuple[Bound, ...],
    extents: _Extents,
    ranges: Ranges,
    asked: _Asked,
) -> Bindings:
    # As a rule the digits of the loops themselves will do, and say more to who asks.
    plain = _mapped(axes, predicate, extents, ranges, asked, absorb=False)
    if not predicate or (isinstance(plain, BindingMap) and plain.is_plain):
        return plain
    grouped = _mapped(axes, predicate, extents, ranges, asked, absorb=True)
    return plain if isinstance(grouped, BindingFailure) else grouped


def _mapped(
    axes: tuple[Axis, ...],
    predicate: tuple[Bound, ...],
    extents: _Extents,
    ranges: Ranges,
    asked: _Asked,
    *,
    absorb: bool,
) -> Bindings:
    guards = [Guard(bound, bound) for bound in predicate]
    try:
        loops = Groups(dict(extents), [axis.binding for axis in axes], guards, ranges, absorb)
        return _Mapper(axes, extents, loops, ranges, absorb, asked).map()
    except _FailureError as error:
        return error.failure


class _Mapper:
    def __init__(
        self,
        axes: Sequence[Axis],
        extents: _Extents,
        loops: Groups,
        ranges: Ranges,
        absorb: bool,
        asked: _Asked,
    ) -> None:
        self.asked = asked
        self.axes = axes
        self.extents = extents
        self.loops = loops
        self.ranges = ranges
        self.absorb = absorb
        self.lost: list[Bound] = []
        self.digits: dict[str, Digit] = {}
        self.groups = self._take_apart()
        names = frozenset(name for name, _ in extents)
        for name, digit in self.digits.items():
            if constants := digit.source.symbols() - names:
                self.digits[name] = replace(digit, constants=constants)

    def _take_apart(self) -> Groups:
        """Returns bindings and guards over digits; guards that are not over digits are lost."""
        loops = self.loops
        if self._is_linear():
            # Each loop is its one digit.
            for name, extent in loops.extents.items():
                self.digits[name] = Digit(loops.values[name], ONE, extent)
            return loops
        apart = self._digits()
        images = [
            self._image(apart, axis, binding)
            for axis, binding in zip(self.axes, loops.bindings, strict=True)
        ]
        guards: list[Guard] = []
        for guard in loops.guards:
            try:
                left, right = map(apart.image, (guard.current.left, guard.current.right))
                guards.append(Guard(guard.original, Bound(left, right)))
            except NotAffineError:
                self.lost.append(guard.original)
        digits = {name: digit for name, digit in apart.digits.items() if digit.extent != 1}
        extents = {name: digit.extent for name, digit in digits.items()}
        groups = Groups(extents, images, guards, self.ranges, self.absorb)
        values = {
            name: replace(digit, source=digit.source.substitute(loops.values))
            for name, digit in digits.items()
        }
        over_loops = {name: digit.value for name, digit in values.items()}
        for name, extent in groups.extents.items():
            if name in values:
                self.digits[name] = replace(values[name], extent=extent)
            else:
                source = groups.values[name].substitute(over_loops)
                self.digits[name] = Digit(source, ONE, extent)
        return groups

    def _is_linear(self) -> bool:
        """Whether all is a sum of loops with factors that depend on none."""
        extents = self.loops.extents
        guards = [guard.current.left - guard.current.right for guard in self.loops.guards]
        if not all(extent.symbols().isdisjoint(extents) for extent in extents.values()):
            return False
        return all(
            value.depth == 0
            and all(
                sum(isinstance(atom, Symbol) and atom.name in extents for atom in monomial) < 2
                for monomial in value.terms
            )
            for value in (*self.loops.bindings, *guards)
        )

    def _digits(self) -> Digits:
        loops = self.loops
        sides = [side for g in loops.guards for side in (g.current.left, g.current.right)]
        if any(side.depth for side in sides):
            # Guards may divide loops by what no binding divides them.
            with suppress(NotAffineError):
                return Digits([*loops.bindings, *sides], loops.extents, self.ranges)
        try:
            return Digits(loops.bindings, loops.extents, self.ranges)
        except NotAffineError as error:
            raise _FailureError("affine", "", str(error)) from None

    def _image(self, apart: Digits, axis: Axis, binding: Expression) -> Expression:
        try:
            return apart.image(binding)
        except NotAffineError as error:
            raise _FailureError("affine", axis.name, str(error)) from None

    def map(self) -> BindingMap:
        places = [self._places(binding) for binding in self.groups.bindings]
        owners: dict[str, str] = {}
        for axis, (_, scales) in zip(self.axes, places, strict=True):
            for name in scales:
                if (other := owners.setdefault(name, axis.name)) != axis.name:
                    value = self.digits[name].value
                    raise _FailureError(
                        "independent", axis.name, f"{value} is bound to '{other}' too"
                    )
        maps = tuple(
            self._ordered(axis, binding, *found)
            for axis, binding, found in zip(self.axes, self.groups.bindings, places, strict=True)
        )
        repeated = tuple(digit for name, digit in self.digits.items() if name not in owners)
        return BindingMap(maps, repeated, tuple(self._restricting(maps)))

    def _places(self, rest: Expression) -> tuple[Expression, dict[str, Expression]]:
        """Returns the offset and the scale of each digit of a binding."""
        scales: dict[str, Expression] = {}
        for name in self.digits:
            factor, rest = rest.split(Symbol(name))
            if factor.terms:
                scales[name] = factor
        return rest, scales

    def _ordered(
        self, axis: Axis, binding: Expression, offset: Expression, scales: dict[str, Expression]
    ) -> AxisMap:
        left = {name: Place(self.digits[name], scale) for name, scale in scales.items()}
        places: list[Place] = []
        overlap: int | None = None
        reach = ONE
        while left:
            name = self._next(left, reach)
            if name is None:
                place = min(left.values(), key=lambda place: place.scale.key)
                raise _FailureError(
                    "covers",
                    axis.name,
                    f"{place.digit.value} counts {place.scale} each, and what is below reaches "
                    f"{reach}",
                )
            place = left.pop(name)
            if overlap is None and not self._equal(place.scale, reach):
                overlap = len(places)
            places.append(place)
            reach = reach + place.scale * (place.digit.extent - 1)
        self._check_extent(axis, binding, offset, reach)
        return AxisMap(axis.name, tuple(places), offset, overlap)

    def _next(self, left: dict[str, Place], reach: Expression) -> str | None:
        for name, place in left.items():
            if self._equal(place.scale, reach):
                return name
        for name, place in left.items():
            if prove_lt(0, place.scale, self.ranges) and prove_le(place.scale, reach, self.ranges):
                return name
        return None

    def _equal(self, one: Expression, two: Expression) -> bool:
        return one == two or bool(prove_eq(one, two, self.ranges))

    def _check_extent(
        self, axis: Axis, binding: Expression, offset: Expression, reach: Expression
    ) -> None:
        end = offset + reach
        if self.asked.is_whole and not (
            prove_le(offset, 0, self.ranges) and prove_le(axis.extent, end, self.ranges)
        ):
            raise _FailureError(
                "covers",
                axis.name,
                f"its values {offset} to {end - 1} are not all of 0 to {axis.extent - 1}",
            )
        if not self.asked.is_inside:
            return
        below = prove_le(0, offset, self.ranges) or any(
            prove_le(0, limit + 1, self.ranges) for limit in self._lower_limits(binding)
        )
        above = prove_le(end, axis.extent, self.ranges) or any(
            prove_le(limit, axis.extent, self.ranges) for limit in self._upper_limits(binding)
        )
        if not (below and above):
            raise _FailureError(
                "inside",
                axis.name,
                f"its values {offset} to {end - 1} leave 0 to {axis.extent - 1}, and no bound "
                "guards them",
            )

    def _upper_limits(self, binding: Expression) -> Iterator[Expression]:
        """Yields the limits of guards that say `binding < limit`."""
        for guard in self.groups.guards:
            if (distance := self._distance(guard.current, binding)) is not None:
                yield binding - distance
            multiple = self._multiple(guard.current, binding)
            if multiple is not None and multiple[0] > 0:
                yield ceildiv(-multiple[1], multiple[0])
            if (most := self._most_above(guard.current, binding)) is not None:
                yield most + 1

    def _most_above(self, bound: Bound, binding: Expression) -> Expression | None:
        """Returns the greatest value of a binding whose upper digits a bound limits."""
        difference = bound.left - bound.right
        for name in sorted(binding.symbols() & difference.symbols() & self.groups.extents.keys()):
            part, whole = (v.split(Symbol(name))[0].constant_value for v in (binding, difference))
            if not part or not whole or part % whole or part // whole < 0:
                continue
            # The bound says that the difference is at most -1.
            times = part // whole
            rest = bounds_over(binding - times * difference, self.groups.extents)
            return None if rest is None else rest[1] - times
        return None

    def _lower_limits(self, binding: Expression) -> Iterator[Expression]:
        """Yields the limits of guards that say `limit < binding`."""
        for guard in self.groups.guards:
            if (distance := self._distance(guard.current, binding)) is not None:
                yield binding + distance
            multiple = self._multiple(guard.current, binding)
            if multiple is not None and multiple[0] < 0:
                yield floordiv(multiple[1], -multiple[0])

    def _distance(self, bound: Bound, binding: Expression) -> Expression | None:
        """Returns `left - right` of a bound if neither it nor the binding moves."""
        distance = bound.left - bound.right
        return distance if self._is_fixed(distance) and self._is_fixed(binding) else None

    def _multiple(self, bound: Bound, binding: Expression) -> tuple[int, Expression] | None:
        """Returns the factor and the rest if a bound says `factor * binding + rest < 0`."""
        difference = bound.left - bound.right
        moving = binding.symbols() & self.groups.extents.keys()
        if not moving:
            return None
        for factor in (1, -1):
            if self._is_fixed(rest := difference - factor * binding):
                return factor, rest
        atom = Symbol(min(moving))
        whole, part = (v.split(atom)[0].constant_value for v in (difference, binding))
        if not whole or not part or whole % part:
            return None
        rest = difference - whole // part * binding
        return (whole // part, rest) if self._is_fixed(rest) else None

    def _is_fixed(self, value: Expression) -> bool:
        return value.symbols().isdisjoint(self.groups.extents)

    def _restricting(self, maps: Sequence[AxisMap]) -> Iterator[Bound]:
        """Yields the bounds that leave out points of the axes, or may do so."""
        yield from (bound for bound in self.lost if not self._always(bound))
        for guard in self.groups.guards:
            if self._always(guard.original):
                continue
            bindings = zip(self.axes, self.groups.bindings, maps, strict=True)
            if not any(self._is_implied(guard.current, *entry) for entry in bindings):
                yield guard.original

    def _always(self, bound: Bound) -> bool:
        """Whether a bound holds in all iterations."""
        ranges, named = self.ranges, (bound.left - bound.right).symbols()
        for name, extent in reversed(self.extents):
            named = named | extent.symbols() if name in named else named
        for name, extent in self.extents:
            if name not in ranges and name in named:
                ranges = ranges.also(name, 0, extent - 1)
        return bool(prove_lt(bound.left, bound.right, ranges))

    def _is_implied(self, bound: Bound, axis: Axis, binding: Expression, axis_map: AxisMap) -> bool:
        """Whether a bound holds where the axis is inside its extent."""
        multiple = self._multiple(bound, binding)
        if multiple is not None:
            factor, rest = multiple
            greatest = factor * (axis.extent - 1) if factor > 0 else ZERO
            if prove_lt(greatest + rest, 0, self.ranges):
                return True
        distance = self._distance(bound, binding)
        if distance is not None and prove_lt(distance, binding - axis.extent + 1, self.ranges):
            return True
        # The axis divided by a scale, rounded down, is what its places from there on say.
        if not self._is_fixed(bound.right):
            return False
        return any(
            prove_le(ceildiv(axis.extent, scale), bound.right, self.ranges)
            for scale, quotient in self._quotients(axis_map)
            if quotient == bound.left
        )

    def _quotients(self, axis_map: AxisMap) -> Iterator[tuple[Expression, Expression]]:
        """Yields scales of an axis, and the axis divided by them."""
        names = {digit: name for name, digit in self.digits.items()}
        offset = axis_map.offset
        for start, lowest in enumerate(axis_map.places[: axis_map.overlap]):
            if offset.terms and not prove_divisible(offset, lowest.scale, self.ranges):
                continue
            parts = [
                floordiv(place.scale, lowest.scale) * expression_of(Symbol(names[place.digit]))
                for place in axis_map.places[start:]
            ]
            yield lowest.scale, sum(parts, floordiv(offset, lowest.scale))
