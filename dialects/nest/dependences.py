"""
What the loops of a program carry: which of their iterations touch the same elements.

Two accesses of one buffer depend on one another where both touch an element and one writes it.
`Dependences` lists such pairs below a loop, each with the loops whose indices may differ then.
What is not proved to be apart counts as dependent.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from ..sym import Expression, Ranges
from .coverage import is_covered
from .linear import Meeting, Order, Row, eliminated, linear
from .program import AxisKind, Block, Body, Call, Guard, Loop, Program, Range, Region, Store
from .regions import ONE, ZERO, accesses_of, bind_axes, bounds_over, ranges_inside
from .sites import Site, sites_of


@dataclass(frozen=True)
class Touch:
    """
    A region that a block, or a condition outside of blocks, reads or writes.

    The region is over loops and symbols; `loops` are those around it, outermost first, from the
    statements on that were asked for. `block` is None for a condition. `place` counts the blocks
    and conditions in the order in which they stand.
    """

    block: Block | None
    region: Region
    is_write: bool
    loops: tuple[Loop, ...]
    place: int

    @property
    def buffer(self) -> str:
        """The name of the buffer."""
        return self.region.buffer

    @property
    def name(self) -> str:
        """The block as text."""
        return "a condition" if self.block is None else f"'{self.block.name}'"


_Leaf = Block | Store | Call | Guard


def touch_loops(touch: Touch) -> tuple[str, ...]:
    """Returns the names of the loops around a touch, outermost first."""
    return tuple(loop.name for loop in touch.loops)


def touches(program: Program, body: Body, buffers: frozenset[str] | None = None) -> list[Touch]:
    """
    Returns what statements touch, of the named buffers or of all that they write.

    Outermost blocks answer by their regions.
    """
    found: list[Touch] = []
    parts = list(leaves(body))
    if buffers is None:
        buffers = frozenset(name for part, _ in parts for name in _written(part))
    for place, (statement, loops) in enumerate(parts):
        block = statement if isinstance(statement, Block) else None
        for region, is_write in _regions(program, statement, buffers):
            found.append(Touch(block, region, is_write, loops, place))
    return found


def _written(leaf: _Leaf) -> list[str]:
    match leaf:
        case Block():
            return [region.buffer for region in leaf.writes]
        case Call(_, operands):
            return [operand.region.buffer for operand in operands if operand.is_written]
        case Store():
            return [leaf.buffer]
        case Guard():
            return []


def leaves(body: Body, around: tuple[Loop, ...] = ()) -> Iterator[tuple[_Leaf, tuple[Loop, ...]]]:
    """Yields outermost blocks, stores and calls outside of blocks, conditions; with their loops."""
    for statement in body:
        match statement:
            case Loop():
                yield from leaves(statement.body, (*around, statement))
            case Guard(condition, inner):
                yield Guard(condition, ()), around
                yield from leaves(inner, around)
            case Block() | Store() | Call():
                yield statement, around


def _regions(
    program: Program, leaf: _Leaf, buffers: frozenset[str]
) -> Iterator[tuple[Region, bool]]:
    match leaf:
        case Block():
            bound: dict[Region, Region] = {}
            for regions, is_write in ((leaf.reads, False), (leaf.writes, True)):
                for region in regions:
                    if region.buffer in buffers:
                        if region not in bound:
                            bound[region] = bind_axes(region, leaf)
                        yield bound[region], is_write
        case Call(_, operands):
            for operand in operands:
                if operand.region.buffer in buffers and operand.is_read:
                    yield operand.region, False
                if operand.region.buffer in buffers and operand.is_written:
                    yield operand.region, True
        case Store() | Guard():
            for access in accesses_of((leaf,)):
                if access.buffer not in buffers:
                    continue
                shape = program.buffers[access.buffer].shape
                ranges = tuple(
                    Range(index, ONE) if isinstance(index, Expression) else Range(ZERO, whole)
                    for index, whole in zip(access.indices, shape, strict=True)
                )
                yield Region(access.buffer, ranges), access.is_write


@dataclass(frozen=True)
class Dependence:
    """Two touches of one buffer, one at least a write, and the loops that may differ in them."""

    first: Touch
    second: Touch
    carriers: frozenset[str]

    @property
    def is_of_one_block(self) -> bool:
        """Whether both are of the same block."""
        return self.first.block is self.second.block and self.first.block is not None

    @property
    def text(self) -> str:
        """Who depends on whom, for a message."""
        one, two, buffer = self.first, self.second, self.first.buffer
        if one.place == two.place:
            return f"{one.name} touches an element of '{buffer}' in several iterations"
        return f"{one.name} and {two.name} touch the same element of '{buffer}'"


class Dependences:
    """The dependences between the iterations of a loop, and of the loops inside it."""

    def __init__(self, program: Program, loop: str) -> None:
        self._program, self._loop = program, loop
        part = program.places[loop][-1]
        self.touches = touches(program, (part,))
        self._meetings: dict[object, frozenset[str] | None] = {}

    @cached_property
    def all(self) -> tuple[Dependence, ...]:
        """Every pair that may touch one element."""
        found: list[Dependence] = []
        for place, second in enumerate(self.touches):
            for first in self.touches[: place + 1]:
                if first.buffer == second.buffer and (first.is_write or second.is_write):
                    if (carriers := self.between(first, second)) is not None:
                        found.append(Dependence(first, second, carriers))
        return tuple(found)

    def carried_by(self, loop: str) -> Iterator[Dependence]:
        """Yields the pairs in which two iterations of a loop may touch the same element."""
        return (pair for pair in self.all if loop in pair.carriers)

    def between(self, first: Touch, second: Touch) -> frozenset[str] | None:
        """
        Returns the common loops whose indices may differ where both touch one element.

        None if they never do. Loops around the one that was asked for are the same on both sides.
        """
        names = (touch_loops(first), touch_loops(second))
        key = (first.region, second.region, names)
        if key not in self._meetings:
            self._meetings[key] = self._meet(first, second)
        return self._meetings[key]

    def _meet(self, first: Touch, second: Touch) -> frozenset[str] | None:
        loops = {loop.name: loop for loop in (*first.loops, *second.loops)}
        here = {loop.name for loop in first.loops}
        shared = frozenset(loop.name for loop in second.loops if loop.name in here)
        extents: dict[str, Expression] = {}
        for name, loop in loops.items():
            bounds = bounds_over(loop.extent, extents)
            if bounds is None:
                return shared
            extents[name] = bounds[1]
        rows: list[Row] = []
        for one, two in zip(first.region.ranges, second.region.ranges, strict=True):
            widths = [bounds_over(part.extent, extents) for part in (one, two)]
            if widths[0] is not None and widths[1] is not None:
                rows.append(Row(one.start, two.start, widths[0][1], widths[1][1]))
        meeting = Meeting(
            rows, shared, extents, self._order, lambda value: bounds_over(value, extents)
        )
        return meeting.carried()

    @cached_property
    def _order(self) -> Order:
        return Order(lambda: ranges_inside(self._program, self._loop))


def feeds(block: Block, loop: str) -> tuple[AxisKind, ...]:
    """Returns the kinds of the axes of a block whose bindings name a loop."""
    return tuple(axis.kind for axis in block.axes if loop in axis.binding.symbols())


def feeds_only_reduce(block: Block, loop: str) -> bool:
    """Whether a loop feeds a reduce axis of a block, and no axis of another kind."""
    kinds = set(feeds(block, loop))
    return kinds == {AxisKind.REDUCE}


def loops_of_axes(program: Program, name: str) -> dict[str, frozenset[str]]:
    """Returns the names of the loops that each axis of a block is bound to."""
    block = program.block(name)
    loops = {loop.name for loop in program.loops_around(name)}
    axes = () if block is None else block.axes
    return {axis.name: axis.binding.symbols() & loops for axis in axes}


def is_first_at_zero(block: Block, loops: frozenset[str], program: Program) -> bool:
    """
    Whether the reduce axes of a block are all 0 where all of the named loops are, and only there.

    So the init comes first in any order of these loops.
    """
    around = {loop.name: loop for loop in program.loops_around(block.name)}
    names = frozenset(around)
    needed = {name for name in loops if around[name].extent != 1}
    zeros = dict.fromkeys(names, 0)
    if any(a.kind is AxisKind.REDUCE and a.binding.substitute(zeros) != 0 for a in block.axes):
        return False
    rows = [Row(axis.binding, axis.binding) for axis in block.axes if axis.kind is AxisKind.REDUCE]
    order = Order(lambda: ranges_inside(program, block.name))
    for row in eliminated(rows, names):
        form = linear(row.first, names)
        if form is None or form.rest != 0:
            continue
        factors = [factor for factor in form.factors.values() if factor.terms]
        if all(order.less(ZERO, factor) for factor in factors):
            needed -= set(form.factors)
    return not needed


def is_private(program: Program, loop: str, buffer: str) -> bool:
    """
    Whether each iteration of a loop may have a copy of a buffer of its own.

    It may if the buffer is the program's own and touched inside the loop only, and if each
    iteration writes all that it reads, before it reads it.
    """
    return _Privacy(program, loop, buffer).holds()


class _Privacy:
    """Whether the iterations of a loop write all that they read of a buffer."""

    def __init__(self, program: Program, loop: str, buffer: str) -> None:
        self._program, self._loop, self._buffer = program, loop, buffer
        self._touches = touches(program, program.body, frozenset((buffer,)))

    def holds(self) -> bool:
        if all(own.name != self._buffer for own in self._program.allocations):
            return False
        if any(self._loop not in touch_loops(touch) for touch in self._touches):
            return False
        return all(touch.is_write or self._is_written_before(touch) for touch in self._touches)

    def _is_written_before(self, read: Touch) -> bool:
        return (
            self._is_begun(read)
            or any(
                self._covers(write, read)
                for write in self._touches
                if write.is_write and write.place < read.place
            )
            or self._is_covered(read)
        )

    def _is_covered(self, read: Touch) -> bool:
        """Whether the digits of the loops prove it, where those of a copy are fused and split."""
        if read.block is None:
            return False
        place = next(at for at, site in enumerate(self._sites) if site.block is read.block)
        # All blocks on the buffer are in the loop, so what they share with the reader holds it.
        site, before = self._sites[place], self._sites[:place]
        return is_covered(self._program, site, before, self._buffer, self._loop)

    @cached_property
    def _sites(self) -> tuple[Site, ...]:
        return sites_of(self._program)

    def _is_begun(self, read: Touch) -> bool:
        """Whether a read is that of an update whose init runs in the same iteration."""
        if (block := read.block) is None or not block.init:
            return False
        if read.region not in [bind_axes(region, block) for region in block.writes]:
            return False
        names = touch_loops(read)
        outer = names[: names.index(self._loop) + 1]
        return all(AxisKind.REDUCE not in feeds(block, loop) for loop in outer)

    def _covers(self, write: Touch, read: Touch) -> bool:
        if write.block is None:
            return False
        common = frozenset(touch_loops(write)) & frozenset(touch_loops(read))
        moving = {loop.name: loop.extent for loop in read.loops if loop.name not in common}
        own = {loop.name: loop.extent for loop in write.loops if loop.name not in common}
        if not _runs_with(write.block, read.block, frozenset(own)):
            return False
        order = Order(lambda: self._ranges(read))
        used: set[str] = set()
        for have, need in zip(write.region.ranges, read.region.ranges, strict=True):
            dense = _dense(have, own, order, used)
            first = bounds_over(need.start, moving)
            last = bounds_over(need.start + need.extent, moving)
            if dense is None or first is None or last is None:
                return False
            end = dense.start + dense.extent
            if not (order.at_most(dense.start, first[0]) and order.at_most(last[1], end)):
                return False
        return True

    def _ranges(self, read: Touch) -> Ranges:
        ranges = self._program.ranges
        for loop in read.loops:
            ranges = ranges.also(loop.name, 0, loop.extent - 1)
        return ranges


def _runs_with(write: Block, read: Block | None, own: frozenset[str]) -> bool:
    """Whether all points of a block run along its own loops wherever the other block runs."""
    known = () if read is None else read.predicate
    return all(
        bound in known and (bound.left.symbols() | bound.right.symbols()).isdisjoint(own)
        for bound in write.predicate
    )


def _dense(
    part: Range, own: Mapping[str, Expression], order: Order, used: set[str]
) -> Range | None:
    """Returns the indices that all of `part` cover while own loops run, None if with gaps."""
    names = frozenset(own)
    form = linear(part.start, names)
    if form is None or not part.extent.symbols().isdisjoint(names):
        return None
    extent = part.extent
    factors = {loop: factor for loop, factor in form.factors.items() if factor.terms}
    if not used.isdisjoint(factors):
        return None  # an index that two axes share runs along a diagonal
    used.update(factors)
    for loop in sorted(factors, key=lambda loop: factors[loop].constant_value or 1 << 62):
        factor, trips = factors[loop], own[loop]
        is_step = order.less(ZERO, factor) and order.at_most(factor, extent)
        if not is_step or not trips.symbols().isdisjoint(names):
            return None
        extent = extent + factor * (trips - 1)
    return Range(form.rest, extent)
