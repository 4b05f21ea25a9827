"""
Whether regions cover what blocks touch, and whether what a block reads was written before.

Producer and consumer are compared below the loops that are around both: those stay fixed, the
others run. What a producer writes is taken only where it is a box with no gaps, what a consumer
reads may be taken larger, so that an answer is never wrong. (TVM calls this region cover.)
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

from ..sym import (
    Expression,
    Ranges,
    constant,
    prove_le,
    prove_lt,
    symbol,
)
from ..sym.expression import Quotient, Symbol
from .bindings import BindingMap
from .boxes import Box, Span, is_inside, is_whole, merged_boxes, residues
from .defects import ProgramError
from .program import (
    AxisKind,
    Block,
    Body,
    Bound,
    Buffer,
    Call,
    Guard,
    Loop,
    Program,
    Range,
    Region,
    Statement,
)
from .regions import accesses_of, bounds_over, contains, region_of, residue_of, touched
from .scalars import Subscript
from .sites import (
    Site,
    bounds_held,
    clipped,
    common_loops,
    points_read,
    ranges_held,
    read_box,
    sites_of,
)

ONE = constant(1)
ZERO = constant(0)


def check_regions(program: Program, site: Site) -> None:
    """Raises ProgramError unless the regions of a block cover what init and body touch."""
    block = site.block
    body = (*block.init, *block.body)
    _check_direct(program, site, body)
    for inner in site.inner:
        for kind, found, declared in (
            ("reads", inner.block.reads, block.reads),
            ("writes", inner.block.writes, block.writes),
        ):
            for region in found:
                shape = program.buffers[region.buffer].shape
                box = read_box(inner, frozenset(), region, shape)
                known = [outer for outer in declared if outer.buffer == region.buffer]
                boxes = [_box_of(outer) for outer in known]
                if not any(is_inside(box, outer, site.inner_ranges) for outer in boxes):
                    ranges = tuple(Range(span.low, span.end - span.low) for span in box)
                    raise _not_covered(site, kind, Region(region.buffer, ranges), known)


def _check_direct(program: Program, site: Site, body: Body) -> None:
    """Checks what is touched beside the blocks inside."""
    block = site.block
    elements = _elements_of(block)
    declared = {False: block.reads, True: block.writes}
    for access in accesses_of(body):
        if (access.buffer, access.indices) in elements[access.is_write]:
            continue
        buffer = program.buffers[access.buffer]
        region = region_of(buffer, access.indices, access.extents, site.inner_ranges)
        _check_declared(site, region, declared[access.is_write], access.is_write, buffer)
    if calls := _calls_alone(body):
        found = touched(calls, site.inner_ranges, program.buffers)
        for is_write, regions in zip((False, True), found, strict=True):
            for region in regions:
                buffer = program.buffers[region.buffer]
                _check_declared(site, region, declared[is_write], is_write, buffer)


def _check_declared(
    site: Site, region: Region, declared: Sequence[Region], is_write: bool, buffer: Buffer
) -> None:
    known = [outer for outer in declared if outer.buffer == region.buffer]
    for outer in known:
        # A whole axis holds all that may be touched: beside it there is nothing.
        parts = zip(outer.ranges, region.ranges, buffer.shape, strict=True)
        needed = tuple(o if o == Range(ZERO, whole) else r for o, r, whole in parts)
        if contains(outer, Region(region.buffer, needed), site.inner_ranges):
            return
    raise _not_covered(site, "writes" if is_write else "reads", region, known)


def _not_covered(site: Site, kind: str, region: Region, known: Sequence[Region]) -> ProgramError:
    given = ", ".join(map(region_text, known)) or "nothing"
    return ProgramError(
        f"expects what it {kind} to cover {region_text(region)}, got {given}",
        place=site.block.name,
        condition="regions",
    )


def _box_of(region: Region) -> Box:
    return tuple(Span(part.start, part.start + part.extent) for part in region.ranges)


def _calls_alone(body: Body) -> Body:
    """Returns the calls of statements outside of blocks, with the loops around them."""
    kept: list[Statement] = []
    for statement in body:
        match statement:
            case Loop() | Guard():
                if inner := _calls_alone(statement.body):
                    is_loop = isinstance(statement, Loop)
                    kept += [replace(statement, body=inner)] if is_loop else inner
            case Call():
                kept.append(statement)
            case _:
                pass
    return tuple(kept)


def _elements_of(block: Block) -> dict[bool, set[tuple[str, tuple[Subscript, ...]]]]:
    """Returns the single elements that the regions of a block name, of writes and of reads."""
    return {
        is_write: {
            (region.buffer, tuple(part.start for part in region.ranges))
            for region in regions
            if all(part.extent == ONE for part in region.ranges)
        }
        for is_write, regions in ((False, block.reads), (True, block.writes))
    }


def region_text(region: Region) -> str:
    """Returns a region as text: `A[vi, 16*vj extent 16]`."""
    parts = (
        str(part.start) if part.extent == ONE else f"{part.start} extent {part.extent}"
        for part in region.ranges
    )
    return f"{region.buffer}[{', '.join(parts)}]"


def check_producers(program: Program, sites: Sequence[Site]) -> None:
    """Raises ProgramError unless what is read of the program's own buffers was written before."""
    checker = _Coverage(program)
    for place, site in enumerate(sites):
        for name in sorted(checker.exposed(site)):
            if not checker.is_covered(site, sites[:place], name):
                writers = [s.block.name for s in sites[:place] if _writes(s.block, name)]
                reads = ", ".join(region_text(r) for r in site.block.reads if r.buffer == name)
                known = " and ".join(f"'{writer}'" for writer in writers)
                found = (
                    f"{known} before it {'do' if len(writers) > 1 else 'does'} not provably write "
                    "all of it"
                    if writers
                    else f"no block before it writes '{name}'"
                )
                raise ProgramError(
                    f"expects what it reads, {reads}, to be written before; {found}",
                    place=site.block.name,
                    condition="producers",
                )


def is_covered(
    program: Program, site: Site, before: Sequence[Site], buffer: str, loop: str
) -> bool:
    """
    Whether blocks before a block provably write all that it reads of a program's own buffer.

    All are inside of `loop`, and only what is written in the same iteration of it counts.
    """
    return _Coverage(program).is_covered(site, before, buffer, loop)


def reader_not_covered(program: Program, buffer: str) -> str | None:
    """Returns a block that is not proved to read what was written of an own buffer, or None."""
    checker, sites = _Coverage(program), sites_of(program)
    for place, site in enumerate(sites):
        if (
            any(region.buffer == buffer for region in site.block.reads)
            and buffer in checker.exposed(site)
            and not checker.is_covered(site, sites[:place], buffer)
        ):
            return site.block.name
    return None


def _writes(block: Block, buffer: str) -> bool:
    return any(region.buffer == buffer for region in block.writes)


class _Coverage:
    def __init__(self, program: Program) -> None:
        self.buffers = {buffer.name: buffer for buffer in program.allocations}
        self._all_buffers = program.buffers

    def exposed(self, site: Site) -> frozenset[str]:
        """Returns the own buffers that a block reads and has not written before by itself."""
        block = site.block
        reads = {region.buffer for region in block.reads if region.buffer in self.buffers}
        if not reads:
            return frozenset()
        reads -= {name for name in reads & _direct_writes(block.init) if self._begins(site, name)}
        inner = site.inner if reads else ()
        if not inner:
            return frozenset(reads)
        direct = replace(inner[0], block=Block("", (), block.reads, (), ()), loops=())
        exposed = {
            name
            for name in set(_direct_reads(block.body)) & reads
            if not (site.initial and self.is_covered(direct, site.initial, name))
        }
        for place, part in enumerate(inner):
            for name in self.exposed(part) & reads:
                if name not in exposed and not self.is_covered(part, inner[:place], name):
                    exposed.add(name)
        return frozenset(exposed)

    def _begins(self, site: Site, name: str) -> bool:
        """Whether the statements of init write all that a block reads of a buffer."""
        _, writes = touched(site.block.init, site.inner_ranges, self._all_buffers)
        return all(
            any(read == write or contains(write, read, site.inner_ranges) for write in writes)
            for read in site.block.reads
            if read.buffer == name
        )

    def is_covered(self, site: Site, before: Sequence[Site], name: str, loop: str = "") -> bool:
        """
        Whether blocks before a block provably write all that it reads of a buffer.

        Where a loop is given, what other iterations of it write does not count.
        """
        pieces: dict[tuple[str, ...], list[Box]] = {}
        producers = [other for other in before if _writes(other.block, name)]
        if not loop and _writes(site.block, name) and site.block.axes_of(AxisKind.ORDERED):
            # An element that was written at a point before is read at this one.
            producers.append(site)
        for producer in producers:
            common = () if producer is site else common_loops(site, producer)
            fixed = tuple(other.name for other in common)
            boxes = self._written(producer, fixed, name, bounds_held(site, fixed))
            pieces.setdefault(fixed, []).extend(boxes)
        if any(self._holds(site, fixed, boxes, name) for fixed, boxes in pieces.items()):
            return True
        if any(self._is_alike(site, other, name) for other in before if other in producers):
            return True
        self._add_first(site, producers, name, pieces, loop)
        return any(self._holds(site, fixed, boxes, name) for fixed, boxes in pieces.items())

    def _add_first(
        self,
        site: Site,
        producers: Sequence[Site],
        name: str,
        pieces: dict[tuple[str, ...], list[Box]],
        loop: str,
    ) -> None:
        """Adds what producers write in the first iterations of loops around a reader, in `loop`."""
        for producer in producers:
            common = () if producer is site else common_loops(site, producer)
            names = tuple(loop.name for loop in common)
            outermost = names.index(loop) + 1 if loop else 0
            for start, end in combinations(range(outermost, len(common) + 1), 2):
                if not any(other.kind.is_concurrent for other in common[start:end]):
                    # It comes before, whatever the loops around and inside of these are at.
                    first = names[start:end]
                    held = bounds_held(site, names, first)
                    found = self._written(producer, names, name, held, first)
                    pieces.setdefault(names, []).extend(found)

    def _holds(self, site: Site, fixed: Sequence[str], boxes: Sequence[Box], name: str) -> bool:
        ranges = site.ranges_at[len(fixed)]
        shape = self.buffers[name].shape
        if any(
            all(is_whole(*axis, ranges) for axis in zip(box, shape, strict=True)) for box in boxes
        ):
            return True
        needed = [
            read_box(site, frozenset(fixed), region, shape)
            for region in site.block.reads
            if region.buffer == name
        ]
        if all(any(is_inside(need, box, ranges) for box in boxes) for need in needed):
            return True
        ranges = ranges_held(site, fixed)
        joined = merged_boxes(boxes, ranges)
        return all(any(is_inside(need, box, ranges) for box in joined) for need in needed)

    # What a producer writes: at most that, and no gaps.

    def _written(
        self,
        site: Site,
        fixed: Sequence[str],
        name: str,
        held: frozenset[Bound],
        first: Sequence[str] = (),
    ) -> Iterator[Box]:
        """Yields boxes that are written while loops stand still, those of `first` at 0."""
        if site.is_guarded:
            return
        for region in site.block.writes:
            if region.buffer != name:
                continue
            beyond = held | self._beyond(site, region)
            spans = self._axis_spans(site, frozenset(fixed), beyond, first)
            if spans is not None and (box := self._box(region, spans, site.ranges)) is not None:
                yield box

    def _beyond(self, site: Site, region: Region) -> frozenset[Bound]:
        """Returns bounds of a block that leave out only points beyond the end of a buffer."""
        names, shape = site.block.bindings, self.buffers[region.buffer].shape
        units = {loop.name: 0 for loop in site.loops if loop.extent == ONE}
        return frozenset(
            bound
            for bound in site.block.predicate
            for part, whole in zip(region.ranges, shape, strict=True)
            if part.extent == ONE
            and part.start.substitute(names).substitute(units) == bound.left.substitute(units)
            and prove_le(whole, bound.right, site.ranges)
        )

    def _is_alike(self, site: Site, producer: Site, name: str) -> bool:
        """
        Whether a producer writes all points at which a block reads, by indices of the same form.

        So `T[vi floordiv 3, vi mod 3]` covers `T[(vj + 1) floordiv 3, (vj + 1) mod 3]` where the
        axis vi runs over all values of vj + 1.
        """
        fixed = frozenset(loop.name for loop in common_loops(site, producer))
        if producer.is_guarded:
            return False
        written = next(region for region in producer.block.writes if region.buffer == name)
        pairs = zip(written.ranges, self.buffers[name].shape, strict=True)
        extents = {part.start.symbol_name: whole for part, whole in pairs}
        spans: dict[str, Span] | None = None
        for read in site.block.reads:
            if read.buffer != name:
                continue
            points = _points_of(written, read, producer.block)
            if points is None:
                return False
            spans = spans or self._axis_spans(producer, fixed, bounds_held(site, fixed))
            lows, counts = points_read(site, fixed)
            for axis, point in points.items():
                bounds = bounds_over(point.substitute(lows), counts)
                if spans is None or bounds is None:
                    return False
                need = Span(bounds[0], bounds[1] + 1)
                if axis in extents:
                    need = clipped(site, need, extents[axis], fixed)
                if not is_inside((need,), (spans[axis],), site.ranges_at[len(fixed)]):
                    return False
        return True

    def _axis_spans(
        self,
        site: Site,
        fixed: frozenset[str],
        beyond: frozenset[Bound],
        first: Sequence[str] = (),
    ) -> dict[str, Span] | None:
        """
        Returns the values that axes take together while the loops run that are not fixed.

        Fixed loops in `first` stand at 0. Points that bounds in `beyond` leave out count as if
        they ran.
        """
        at_zero = dict.fromkeys(first, 0)
        spans = self._mapped_spans(site, fixed, beyond, at_zero)
        if spans is None and (fixed or site.outer):
            spans = self._spans_below(site, fixed, beyond, at_zero)
        if spans is None or not first:
            return spans
        return {
            name: Span(span.low.substitute(at_zero), span.end.substitute(at_zero))
            for name, span in spans.items()
        }

    def _mapped_spans(
        self,
        site: Site,
        fixed: frozenset[str],
        beyond: frozenset[Bound],
        at_zero: Mapping[str, int],
    ) -> dict[str, Span] | None:
        is_all = isinstance(site.map, BindingMap)
        found = site.map if is_all else site.partial_map
        if not isinstance(found, BindingMap) or not _reaches_all(site, found, beyond, at_zero):
            return None
        still = fixed.union(loop.name for loop in site.outer)
        running = {loop.name: 0 for loop in site.loops if loop.name not in fixed}
        spans: dict[str, Span] = {}
        for axis in site.block.axes:
            reach, holds = ONE, not is_all
            for place in found.axis(axis.name).places:
                if place.digit.loops <= still:
                    holds = True
                    continue
                if not place.digit.loops.isdisjoint(still):
                    return None
                if not prove_le(place.scale, reach, site.ranges):
                    return None
                reach = reach + place.scale * (place.digit.extent - 1)
            span = Span(ZERO, axis.extent)
            if holds:
                low = axis.binding.substitute(running)
                span = clipped(site, Span(low, low + reach), axis.extent, fixed)
            spans[axis.name] = span
        return spans

    def _spans_below(
        self,
        site: Site,
        fixed: frozenset[str],
        beyond: frozenset[Bound],
        at_zero: Mapping[str, int],
    ) -> dict[str, Span] | None:
        """Returns the same where digits of fixed and running loops are in one place."""
        found = site.map_below(fixed)
        if not isinstance(found, BindingMap) or not _reaches_all(site, found, beyond, at_zero):
            return None
        spans: dict[str, Span] = {}
        for axis, part in zip(site.block.axes, found.axes, strict=True):
            span = Span(part.offset, part.offset + part.reach)
            spans[axis.name] = clipped(site, span, axis.extent, fixed)
        return spans

    def _box(self, region: Region, spans: Mapping[str, Span], ranges: Ranges) -> Box | None:
        used: set[str] = set()
        box: list[Span] = []
        for part in region.ranges:
            circle = residue_of(part.start) if part.extent == ONE else None
            start = part.start if circle is None else circle[0]
            span = self._span(Range(start, part.extent), spans, used, ranges)
            if span is not None and circle is not None:
                span = residues(span, circle[1], ranges)
            if span is None:
                return None
            box.append(span)
        return tuple(box)

    def _span(
        self, part: Range, spans: Mapping[str, Span], used: set[str], ranges: Ranges
    ) -> Span | None:
        names = part.start.symbols() & spans.keys()
        # An axis in two places of a region writes a diagonal.
        if names & used or not part.extent.symbols().isdisjoint(spans):
            return None
        used |= names
        reach = part.extent
        scales = [(part.start.split(Symbol(name))[0], name) for name in sorted(names)]
        if any(scale.constant_value is None for scale, _ in scales):
            return None
        for scale, name in sorted(scales, key=lambda entry: entry[0].constant_term):
            if scale.constant_term < 1 or not prove_le(scale, reach, ranges):
                return None
            count = spans[name].end - spans[name].low
            reach = reach + scale * (count - 1)
        rest = part.start - sum((scale * symbol(name) for scale, name in scales), ZERO)
        if not rest.symbols().isdisjoint(spans):
            return None
        low = part.start.substitute({name: span.low for name, span in spans.items()})
        return Span(low, low + reach)


def _points_of(written: Region, read: Region, block: Block) -> dict[str, Expression] | None:
    """Returns the points of a block's axes at which it writes what is read, if forms agree."""
    axes = {axis.name for axis in block.axes}
    points: dict[str, Expression] = {}
    pairs = list(zip(written.ranges, read.ranges, strict=True))
    for one, two in pairs:
        _match(one.start, two.start, axes, points)
    is_same = all(
        one.extent == two.extent == ONE
        and one.start.symbols() & axes <= points.keys()
        and one.start.substitute(points) == two.start
        for one, two in pairs
    )
    return points if is_same else None


def _match(
    one: Expression, two: Expression, axes: Collection[str], points: dict[str, Expression]
) -> None:
    """Finds what to replace axes by in an expression, so that it may become another one."""
    if (name := one.symbol_name) is not None and name in axes:
        points.setdefault(name, two)
    for atom in one.variables():
        for other in two.variables():
            if isinstance(atom, Quotient) and isinstance(other, Quotient):
                if atom.divisor == other.divisor:
                    _match(atom.numerator, other.numerator, axes, points)


def _reaches_all(
    site: Site, found: BindingMap, beyond: frozenset[Bound], at_zero: Mapping[str, int]
) -> bool:
    """Whether each point of the other axes is visited where the reduce axes are at 0."""
    restricting = [bound for bound in found.restricting if bound not in beyond]
    if not restricting:
        return True
    reduced = {axis.name for axis in site.block.axes_of(AxisKind.REDUCE)}
    loops: dict[bool, set[str]] = {True: set(), False: set()}
    for axis in found.axes:
        for place in axis.places:
            loops[axis.axis in reduced] |= place.digit.loops
    if loops[True] & loops[False]:
        return False
    first = dict.fromkeys(loops[True], 0) | dict(at_zero)
    ranges = site.ranges_at[len(site.loops)]
    return all(
        prove_lt(bound.left.substitute(first), bound.right.substitute(first), ranges)
        for bound in restricting
    )


def _direct_writes(body: Body) -> set[str]:
    written = {access.buffer for access in accesses_of(body) if access.is_write}
    for statement in _calls(body):
        written.update(o.region.buffer for o in statement.operands if o.is_written)
    return written


def _direct_reads(body: Body) -> Iterator[str]:
    for access in accesses_of(body):
        if not access.is_write:
            yield access.buffer
    for statement in _calls(body):
        for operand in statement.operands:
            if operand.is_read:
                yield operand.region.buffer


def _calls(body: Body) -> Iterator[Call]:
    for statement in body:
        if isinstance(statement, Call):
            yield statement
        elif isinstance(statement, Loop | Guard):
            yield from _calls(statement.body)
