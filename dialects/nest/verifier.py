"""All that a program has to fulfil, whoever wrote it."""

from ..sym import Expression, Ranges, prove_le
from ..sym.expression import Symbol
from .bindings import BindingFailure, BindingMap
from .coverage import check_producers, check_regions
from .defects import ProgramError
from .inside import check_inside
from .program import Axis, AxisKind, Block, Bound, Program
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
        for site in sites:
            _check_block(program, site)
        check_producers(program, sites)


def _check_block(program: Program, site: Site) -> None:
    _check_bindings(program, site)
    check_regions(program, site)
    for inner in site.inner:
        _check_block(program, inner)


def _check_bindings(program: Program, site: Site) -> None:
    found = site.map
    if isinstance(found, BindingFailure):
        if not _may_compute_parts(program, site, found):
            raise ProgramError(
                f"expects bindings that are independent and cover the domain: {found}",
                place=site.block.name,
                condition=found.condition,
            )
        return
    if not found.is_exact and (reason := _not_repeatable(site, found)):
        loops = ", ".join(f"'{name}'" for name in sorted(found.recomputing_loops()))
        raise ProgramError(
            f"expects each point once, since {reason}; points are visited again by {loops}",
            place=site.block.name,
            condition="once",
        )


def _not_repeatable(site: Site, found: BindingMap) -> str | None:
    """Returns why points of a block must not be computed again, None if they may be."""
    block = site.block
    if not (shared := reads_of(block) & writes_of(block)):
        return None
    if not block.init or combiner_of(block) is None:
        return f"the block reads '{min(shared)}', which it writes"
    reduced = {
        name
        for axis in block.axes_of(AxisKind.REDUCE)
        for place in found.axis(axis.name).places
        for name in place.digit.loops
    }
    # A whole reduction may run again, but not a part of it.
    order = [loop.name for loop in (*site.outer, *site.loops)]
    first = min((order.index(name) for name in reduced), default=len(order))
    if any(order.index(name) > first for name in found.recomputing_loops()):
        return "it is inside of its reduction"
    return None


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
