"""Which points of a block a region of its buffers needs or allows, and which boxes are exact."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from ...dialects.nest.program import Axis, Block, Bound, Loop, Range, Region, Statement
from ...dialects.nest.regions import ZERO, bounds_over
from ...dialects.sym import (
    Expression,
    Ranges,
    ceildiv,
    constant,
    floordiv,
    interval,
    prove_le,
    prove_lt,
    simplify,
    symbol,
)
from ...dialects.sym.expression import Symbol
from .implied import implies
from .legality import substituted_bounds


def linear_parts(
    value: Expression, names: Mapping[str, object]
) -> tuple[dict[str, Expression], Expression] | None:
    """
    Returns the factor of each of the names in an expression, and what is left without them.

    None if the expression is not linear in them. Factors are over other names.
    """
    if value.symbols().isdisjoint(names):
        return {}, value
    factors: dict[str, Expression] = {}
    rest = value
    for name in sorted(value.symbols() & frozenset(names)):
        factor, rest = rest.split(Symbol(name))
        if not factor.symbols().isdisjoint(names):
            return None
        factors[name] = factor
    return (factors, rest) if rest.symbols().isdisjoint(names) else None


def exact_box(region: Region, extents: Mapping[str, Expression], ranges: Ranges) -> Region | None:
    """
    Returns the union of a region while the named indices run, if it is a box without gaps.

    None where that is not proved: an index that moves two axes, a stride over elements that are
    left out, an index that is not linear.
    """
    seen: set[str] = set()
    boxes: list[Range] = []
    for part in region.ranges:
        moving = part.start.symbols() & frozenset(extents)
        if moving & seen or not part.extent.symbols().isdisjoint(extents):
            return None
        seen |= moving
        box = _dense_range(part, extents, ranges)
        if box is None:
            return None
        boxes.append(box)
    return Region(region.buffer, tuple(boxes))


def _dense_range(part: Range, extents: Mapping[str, Expression], ranges: Ranges) -> Range | None:
    parts = linear_parts(part.start, extents)
    if parts is None:
        return None
    factors, rest = parts
    span = part.extent
    for name in sorted(factors, key=lambda name: _size(factors[name])):
        factor, extent = factors[name], extents[name]
        if extent == 1:
            continue
        if not (prove_lt(0, factor, ranges) and prove_le(factor, span, ranges)):
            return None
        span = simplify(span + factor * (extent - 1), ranges)
    return Range(rest, span)


def _size(factor: Expression) -> tuple[int, int, int]:
    value = factor.constant_value
    return (1, len(factor.symbols()), factor.content) if value is None else (0, value, 0)


def needed_domain(
    block: Block, written: Region, needed: Region, ranges: Ranges, fixed: Collection[str]
) -> list[Range]:
    """
    Returns for each axis of a block the points that write an element of a region, and maybe more.

    `written` is what one point writes, over the axes; `needed` is over names that are not axes.
    An axis that the region does not bound runs over its extent. How many points there are is over
    the names in `fixed` alone.
    """
    extents = {axis.name: axis.extent for axis in block.axes}
    found: dict[str, Range] = {}
    for have, need in zip(written.ranges, needed.ranges, strict=True):
        parts = linear_parts(have.start, extents)
        if parts is None or not have.extent.symbols().isdisjoint(extents):
            continue
        for name, factor in parts[0].items():
            if name in found or not prove_lt(0, factor, ranges):
                continue
            others = have.start - factor * symbol(name)
            bounds = bounds_over(others, extents)
            if bounds is None:
                continue
            low = ceildiv(need.start - bounds[1] - have.extent + 1, factor)
            high = floordiv(need.start + need.extent - 1 - bounds[0], factor)
            found[name] = narrowed(low, high, extents[name], ranges, fixed)
    return [found.get(axis.name, Range(ZERO, axis.extent)) for axis in block.axes]


def narrowed(
    low: Expression, high: Expression, extent: Expression, ranges: Ranges, fixed: Collection[str]
) -> Range:
    """Returns the points `low .. high`, or all of an axis where these are no fewer."""
    low = simplify(low, ranges)
    count = simplify(high - low + 1, ranges)
    if not count.symbols() <= frozenset(fixed):
        greatest = interval(count, ranges)[1]
        if greatest is None:
            return Range(ZERO, extent)
        count = constant(greatest)
    if prove_le(extent, count, ranges):
        return Range(ZERO, extent)
    return Range(low, count)


def nest_over(
    block: Block,
    names: Sequence[str],
    domain: Sequence[Range],
    ranges: Ranges,
    ends: Mapping[int, Expression] | None = None,
    given: Sequence[Bound] = (),
    cuts: Sequence[Bound] = (),
) -> Statement:
    """
    Returns a block in loops over a part of its axes, guarded where this may leave them.

    An axis that takes one value has no loop; its name is left out. Where bounds that are `given`
    keep the block inside, they are the guard. `cuts` are bounds over the axes under which it runs.
    """
    axes = list(block.axes)
    predicate: list[Bound] = []
    loops: list[tuple[str, Expression]] = []
    for number, (axis, part) in enumerate(zip(block.axes, domain, strict=True)):
        binding = part.start
        if part.extent != 1:
            binding = binding + symbol(names[number])
            loops.append((names[number], part.extent))
        axes[number] = replace(axis, binding=binding)
        if not prove_le(0, part.start, ranges):
            predicate.append(Bound(constant(-1), binding))
        if not prove_le(part.start + part.extent, axis.extent, ranges):
            last = Bound(part.start + part.extent - 1, axis.extent)
            inside = (bound for bound in given if implies(bound, last, ranges))
            predicate.append(next(inside, Bound(binding, axis.extent)))
        if ends and number in ends:
            predicate.append(Bound(binding, ends[number]))
    bindings = {axis.name: axis.binding for axis in axes}
    predicate = list(dict.fromkeys((*predicate, *substituted_bounds(cuts, bindings))))
    nest: Statement = replace(block, axes=tuple(axes), predicate=tuple(predicate))
    for name, extent in reversed(loops):
        nest = Loop(name, extent, (nest,))
    return nest


def axis_ranges(axes: tuple[Axis, ...], ranges: Ranges) -> Ranges:
    """Returns ranges in which each axis runs over its extent, as well."""
    for axis in axes:
        ranges = ranges.also(axis.name, 0, axis.extent - 1)
    return ranges
