"""All that a program has to fulfil, whoever wrote it."""

from collections.abc import Sequence

from ..sym import Expression, Ranges, prove_le
from ..sym.expression import Symbol
from .bindings import BindingFailure, BindingMap
from .coverage import check_producers, check_regions, is_covered
from .defects import ProgramError
from .inside import check_inside
from .program import Axis, AxisKind, Block, Bound, Program, Store
from .sites import Site, sites_of
from .structure import combiner_of, reads_of, writes_of
from .threads import check_threads
from .wellformed import check_well_formed, has_blocks


def verify_program(program: Program) -> None:
    """
    Raises ProgramError at the first thing that is wrong with a program.

    Names are unique and visible, accesses fit their buffers and don't leave them for all values of
    the symbols, bound loops make kernels; bindings visit each point of a block, once where twice
    would be wrong; regions cover what blocks touch, and what is read of the program's own buffers
    was written before.
    """
    check_well_formed(program)
    check_threads(program)
    check_inside(program)
    if has_blocks(program):
        sites = sites_of(program)
        _check_blocks(program, sites)
        check_producers(program, sites)


def _check_blocks(program: Program, sites: Sequence[Site]) -> None:
    for place, site in enumerate(sites):
        _check_bindings(program, site, sites[:place])
        check_regions(program, site)
        _check_blocks(program, site.inner)


def _check_bindings(program: Program, site: Site, before: Sequence[Site]) -> None:
    found = site.map
    if isinstance(found, BindingFailure):
        if not _may_compute_parts(program, site, found):
            raise ProgramError(
                f"expects bindings that are independent and cover the domain: {found}",
                place=site.block.name,
                condition=found.condition,
            )
        return
    if not found.is_exact and (reason := _not_repeatable(program, site, found, before)):
        loops = ", ".join(f"'{name}'" for name in sorted(found.recomputing_loops()))
        raise ProgramError(
            f"expects each point once, since {reason}; points are visited again by {loops}",
            place=site.block.name,
            condition="once",
        )


def _not_repeatable(
    program: Program, site: Site, found: BindingMap, before: Sequence[Site]
) -> str | None:
    """Returns why points of a block must not be computed again, None if they may be."""
    block = site.block
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


def _may_compute_parts(program: Program, site: Site, failure: BindingFailure) -> bool:
    """
    Whether nothing is lost if points are left out, or which are computed is not known.

    A block that can be repeated and writes buffers of the program's own alone computes what the
    blocks behind it need; that is checked where they read. It may not leave its axes.
    """
    block = site.block
    own = {buffer.name for buffer in program.allocations}
    if failure.condition == "inside" or not writes_of(block) <= own:
        return False
    if block.init or reads_of(block) & writes_of(block):
        return False
    if isinstance(site.partial_map, BindingMap):
        return True
    ranges = site.ranges
    for loop in site.loops:
        ranges = ranges.also(loop.name, 0, loop.extent - 1)
    return all(_is_inside(block, axis, ranges) for axis in block.axes)


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
