"""
Blocks at their places: the loops around them, and the points and elements that these run over.

What a block reads may be taken larger than it is, what it writes only where there are no gaps.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile

from ..sym import (
    Expression,
    Ranges,
    constant,
    interval,
    maximum,
    minimum,
    mod,
    prove_le,
    symbol,
)
from ..sym.expression import Symbol
from .bindings import BindingMap, Bindings, map_bindings
from .boxes import Box, Span
from .program import Axis, AxisKind, Block, Body, Bound, Guard, Loop, Program, Region
from .regions import bounds_over, residue_of

ONE = constant(1)
ZERO = constant(0)


@dataclass(frozen=True, eq=False)
class Site:
    """
    A block of a scope, the loops of the scope around it, and whether a condition is around.

    `ranges` hold in the scope; `outer` are the axes of the block around it that run.
    """

    block: Block
    loops: tuple[Loop, ...]
    is_guarded: bool
    ranges: Ranges
    outer: tuple[Loop, ...] = ()

    @cached_property
    def map(self) -> Bindings:
        """How the loops visit the block's points."""
        return map_bindings(self.block, (*self.outer, *self.loops), self.ranges)

    @cached_property
    def partial_map(self) -> Bindings:
        """How the loops visit those of the block's points that they do visit."""
        loops = (*self.outer, *self.loops)
        return map_bindings(self.block, loops, self.ranges, is_whole=False)

    def map_below(self, fixed: frozenset[str]) -> Bindings:
        """How the loops visit points while the first of them, those in `fixed`, stand still."""
        loops = [loop for loop in self.loops if loop.name not in fixed]
        ranges = self.ranges_at[len(fixed)]
        return map_bindings(self.block, loops, ranges, is_whole=False, is_inside=False)

    @cached_property
    def ranges_at(self) -> tuple[Ranges, ...]:
        """The ranges inside the first 0, 1, 2 and so on of the loops."""
        found = [self.ranges]
        for loop in self.loops:
            found.append(found[-1].also(loop.name, 0, loop.extent - 1))
        return tuple(found)

    @cached_property
    def inner_ranges(self) -> Ranges:
        """The ranges of what the block's body may name, inner loops aside."""
        ranges = self.ranges
        for axis in self.block.axes:
            ranges = ranges.also(axis.name, 0, axis.extent - 1)
        return ranges

    @cached_property
    def inner(self) -> "tuple[Site, ...]":
        """The blocks of the block's own scope, those of init first."""
        around = tuple(Loop(axis.name, axis.extent, ()) for axis in self.block.axes)
        return (
            *self.initial,
            *_sites(self.block.body, (), False, self.inner_ranges, around),
        )

    @cached_property
    def initial(self) -> "tuple[Site, ...]":
        """The blocks of init, where the reduce axes stand still."""
        around = tuple(
            Loop(axis.name, axis.extent, ())
            for axis in self.block.axes
            if axis.kind is not AxisKind.REDUCE
        )
        return tuple(_sites(self.block.init, (), False, self.inner_ranges, around))


def sites_of(program: Program) -> tuple[Site, ...]:
    """Returns the blocks of the program's scope, in the order of the text."""
    return tuple(_sites(program.body, (), False, program.ranges, ()))


def site_of(program: Program, name: str) -> tuple[Site, tuple[Site, ...]]:
    """Returns the site of a block, and those before it in its scope."""
    pending = [sites_of(program)]
    while pending:
        scope = pending.pop()
        for place, site in enumerate(scope):
            if site.block.name == name:
                return site, scope[:place]
            pending.append(site.inner)
    raise KeyError(name)


def _sites(
    body: Body,
    loops: tuple[Loop, ...],
    is_guarded: bool,
    ranges: Ranges,
    outer: tuple[Loop, ...],
) -> Iterator[Site]:
    for statement in body:
        match statement:
            case Block():
                yield Site(statement, loops, is_guarded, ranges, outer)
            case Loop(_, _, inner):
                yield from _sites(inner, (*loops, statement), is_guarded, ranges, outer)
            case Guard(_, inner):
                yield from _sites(inner, loops, True, ranges, outer)
            case _:
                pass


def read_box(site: Site, fixed: frozenset[str], region: Region, shape: Sequence[Expression]) -> Box:
    """
    Returns a box that holds all that a region of a block touches while its loops run.

    Loops in `fixed`, the first around the block, stand still.
    """
    lows, counts = points_read(site, fixed)
    box: list[Span] = []
    for part, whole in zip(region.ranges, shape, strict=True):
        circle = residue_of(part.start) if part.extent == ONE else None
        start = part.start if circle is None else circle[0]
        first = bounds_over(start.substitute(lows), counts)
        end = bounds_over((start + part.extent).substitute(lows), counts)
        if first is None or end is None:
            box.append(Span(ZERO, whole))
        elif circle is None:
            box.append(clipped(site, Span(first[0], end[1]), whole, fixed))
        elif first[0] == first[1]:
            # One index alone: its remainder is one too.
            point = mod(first[0], circle[1])
            box.append(Span(point, point + 1))
        else:
            # What is not negative is not below its remainder.
            is_short = prove_le(0, first[0], site.ranges_at[len(fixed)])
            box.append(Span(ZERO, minimum(end[1], circle[1]) if is_short else circle[1]))
    return tuple(box)


def points_read(
    site: Site, fixed: frozenset[str]
) -> tuple[dict[str, Expression], dict[str, Expression]]:
    """Returns axes as what they start from and a count, and how far it goes, at most."""
    lows: dict[str, Expression] = {}
    counts: dict[str, Expression] = {}
    running = {loop.name: loop.extent for loop in site.loops if loop.name not in fixed}
    still = fixed.union(loop.name for loop in site.outer)
    for axis in site.block.axes:
        span = Span(ZERO, axis.extent)
        is_part = not isinstance(site.map, BindingMap)
        if is_part or not axis.binding.symbols().isdisjoint(still):
            span = _run(site, axis, running, still) or span
            span = clipped(site, span, axis.extent, fixed)
        lows[axis.name] = span.low + symbol(axis.name)
        counts[axis.name] = span.end - span.low
    return lows, counts


def _run(
    site: Site, axis: Axis, running: Mapping[str, Expression], still: frozenset[str]
) -> Span | None:
    """Returns a span that holds the values of an axis while loops run."""
    places = site.map.axis(axis.name).places if isinstance(site.map, BindingMap) else None
    if places is not None and all(
        place.digit.loops <= still or place.digit.loops.isdisjoint(still) for place in places
    ):
        # The digits know the guards.
        low = axis.binding.substitute(dict.fromkeys(running, 0))
        reach = ONE
        for place in places:
            if place.digit.loops.isdisjoint(still):
                reach = reach + place.scale * (place.digit.extent - 1)
        return Span(low, low + reach)
    bounds = bounds_over(axis.binding, running)
    return None if bounds is None else Span(bounds[0], bounds[1] + 1)


def clipped(site: Site, span: Span, extent: Expression, fixed: frozenset[str]) -> Span:
    # What is fixed are the loops around both, the first of the site's.
    ranges = site.ranges_at[len(fixed)]
    low, end = span.low, span.end
    if low.constant_value != 0 and not prove_le(0, low, ranges):
        low = maximum(low, 0)
    if end != extent and not prove_le(end, extent, ranges):
        end = minimum(end, extent)
    return Span(low, end)


def bounds_held(site: Site, fixed: Iterable[str], first: Iterable[str] = ()) -> frozenset[Bound]:
    """
    Returns the bounds of a block that hold in whole iterations of the fixed loops.

    Those that name a loop in `first` hold at this iteration of it, maybe not at another one.
    """
    running = {loop.name for loop in site.loops}.difference(fixed).union(first)
    return frozenset(
        bound
        for bound in site.block.predicate
        if running.isdisjoint(bound.left.symbols() | bound.right.symbols())
    )


def ranges_held(site: Site, fixed: Sequence[str]) -> Ranges:
    """Returns the ranges inside the fixed loops of the iterations in which a block may run."""
    ranges, known = site.ranges, site.ranges_at[len(fixed)]
    bounds = bounds_held(site, fixed)
    if not bounds:
        return known
    for loop in site.loops[: len(fixed)]:
        last = (loop.extent - 1).constant_value
        for bound in bounds if last else ():
            factor, rest = (bound.right - bound.left - 1).split(Symbol(loop.name))
            by, greatest = factor.constant_value or 0, interval(rest, known)[1]
            if by < 0 and greatest is not None and last is not None:
                last = min(last, greatest // -by)
        ranges = ranges.also(loop.name, 0, loop.extent - 1 if last is None else last)
    return ranges


def common_loops(one: Site, two: Site) -> tuple[Loop, ...]:
    pairs = zip(one.loops, two.loops, strict=False)
    return tuple(a for a, _ in takewhile(lambda pair: pair[0] is pair[1], pairs))
