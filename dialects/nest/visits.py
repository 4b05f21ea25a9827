"""Whether blocks are run at each of their points, and once where twice would be wrong."""

from collections.abc import Sequence

from ..sym import Expression, Ranges, prove_le
from ..sym.expression import Symbol
from .bindings import BindingFailure, BindingMap
from .coverage import is_covered
from .defects import ProgramError
from .program import Axis, AxisKind, Block, Bound, Program, Store
from .sites import Site
from .structure import combiner_of, reads_of, writes_of


def check_visits(program: Program, site: Site, before: Sequence[Site]) -> None:
    """
    Raises ProgramError unless the loops around a block visit its points as they have to.

    That is all of them, once each. Points may be left out if what needs them is checked elsewhere,
    and visited again if that changes nothing. `before` are the blocks before it in its scope.
    """
    found = site.map
    if isinstance(found, BindingFailure):
        if not _may_compute_parts(program, site, found, before):
            raise ProgramError(
                f"expects bindings that are independent and cover the domain: {found}",
                place=site.block.name,
                condition=found.condition,
            )
        return
    if reason := _not_repeatable(program, site, found, before):
        loops = ", ".join(f"'{name}'" for name in sorted(found.recomputing_loops()))
        raise ProgramError(
            f"expects each point once, since {reason}; points are visited again by {loops}",
            place=site.block.name,
            condition="once",
        )


def _not_repeatable(
    program: Program, site: Site, found: BindingMap, before: Sequence[Site]
) -> str | None:
    """Returns why points of a block must not be computed again, None if none is or they may be."""
    block = site.block
    if found.is_exact:
        return None
    if not (shared := reads_of(block) & writes_of(block)):
        return None
    reduced = {
        name
        for axis in block.axes_of(AxisKind.REDUCE)
        for place in found.axis(axis.name).places
        for name in place.digit.loops
    }
    # A whole reduction may run again, but not a part of it.
    order = [loop.name for loop in (*site.outer, *site.loops)]
    first = min((order.index(name) for name in reduced), default=len(order))
    repeating = max(order.index(name) for name in found.recomputing_loops())
    if repeating > first:
        return "it is inside of its reduction"
    if _starts_anew(block, shared):
        return None
    # What is read may be written anew before each time.
    name = order[repeating]
    inside = [other for other in before if any(loop.name == name for loop in other.loops)]
    if repeating < len(site.outer) or not all(
        buffer in (own.name for own in program.allocations)
        and is_covered(program, site, inside, buffer, name)
        for buffer in shared
    ):
        return f"the block reads '{min(shared)}', which it writes"
    return None


def _starts_anew(block: Block, shared: frozenset[str]) -> bool:
    """Whether a block reads of what it writes nothing but what its init writes."""
    stores = [part for part in block.init if isinstance(part, Store)]
    begun = {(store.buffer, store.indices) for store in stores}
    return all(
        (region.buffer, tuple(part.start for part in region.ranges)) in begun
        and all(part.extent == 1 for part in region.ranges)
        for region in block.reads
        if region.buffer in shared
    ) or (bool(block.init) and combiner_of(block) is not None)


def _may_compute_parts(
    program: Program, site: Site, failure: BindingFailure, before: Sequence[Site]
) -> bool:
    """
    Whether nothing is lost if points are left out, or which are computed is not known.

    A block that can be repeated and writes buffers of the program's own alone computes what the
    blocks behind it need; that is checked where they read. It may not leave its axes, and what it
    reduces it reduces as a whole.
    """
    block = site.block
    own = {buffer.name for buffer in program.allocations}
    if failure.condition == "inside" or not writes_of(block) <= own:
        return False
    parts, shared = site.partial_map, reads_of(block) & writes_of(block)
    if shared and not block.init:
        return False
    if isinstance(parts, BindingMap):
        return not block.init or (
            all(_is_whole(axis, parts, site.ranges) for axis in block.axes_of(AxisKind.REDUCE))
            and _not_repeatable(program, site, parts, before) is None
        )
    if block.init:
        return False
    ranges = site.ranges
    for loop in site.loops:
        ranges = ranges.also(loop.name, 0, loop.extent - 1)
    return all(_is_inside(block, axis, ranges) for axis in block.axes)


def _is_whole(axis: Axis, found: BindingMap, ranges: Ranges) -> bool:
    """Whether an axis takes all of its values."""
    part = found.axis(axis.name)
    end = part.offset + part.reach
    return bool(prove_le(part.offset, 0, ranges) and prove_le(axis.extent, end, ranges))


def _is_inside(block: Block, axis: Axis, ranges: Ranges) -> bool:
    value, last = axis.binding, axis.extent - 1
    return bool(
        (prove_le(0, value, ranges) or _follows(value, block.predicate, ranges))
        and (prove_le(value, last, ranges) or _follows(last - value, block.predicate, ranges))
    )


def _follows(value: Expression, bounds: tuple[Bound, ...], ranges: Ranges) -> bool:
    """Whether a value is not negative where one of some bounds holds."""
    for bound in bounds:
        slack = bound.right - bound.left - 1  # not negative where the bound holds
        for name in sorted(slack.symbols() & value.symbols()):
            part, whole = (v.split(Symbol(name))[0].constant_value for v in (slack, value))
            if part and whole and whole % part == 0 and whole // part > 0:
                if prove_le(0, value - whole // part * slack, ranges):
                    return True
        if prove_le(0, value - slack, ranges):
            return True
    return False
