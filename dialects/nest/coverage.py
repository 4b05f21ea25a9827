"""
Whether regions cover what blocks touch, and whether what a block reads was written before.

Producer and consumer are compared below the loops that are around both: those stay fixed, the
others run. What a producer writes is taken only where it is a box with no gaps, what a consumer
reads may be taken larger, so that an answer is never wrong. (TVM calls this region cover.)
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations, takewhile

from ..sym import (
    Expression,
    Ranges,
    constant,
    maximum,
    minimum,
    prove_le,
    prove_lt,
    symbol,
)
from ..sym.expression import Extremum, Symbol, expression_of
from .bindings import BindingMap, Bindings, map_bindings
from .defects import ProgramError
from .program import (
    Axis,
    AxisKind,
    Block,
    Body,
    Call,
    Guard,
    Loop,
    Program,
    Range,
    Region,
    Statement,
    Store,
)
from .regions import accesses_of, bounds_over, contains, residue_of, touched

ONE = constant(1)
ZERO = constant(0)


@dataclass(frozen=True)
class Span:
    """The indices `low .. end - 1`."""

    low: Expression
    end: Expression


Box = tuple[Span, ...]


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
        reduced = {axis.name for axis in self.block.axes_of(AxisKind.REDUCE)}
        # In init the reduce axes stand still.
        still = tuple(loop for loop in around if loop.name not in reduced)
        return (
            *_sites(self.block.init, (), False, self.inner_ranges, still),
            *_sites(self.block.body, (), False, self.inner_ranges, around),
        )


def sites_of(program: Program) -> tuple[Site, ...]:
    """Returns the blocks of the program's scope, in the order of the text."""
    return tuple(_sites(program.body, (), False, program.ranges, ()))


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


def check_regions(program: Program, site: Site) -> None:
    """Raises ProgramError unless the regions of a block cover what init and body touch."""
    block = site.block
    body = (*block.init, *block.body)
    if _are_elements(block, body):
        return
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
                if not any(_inside(box, outer, site.inner_ranges) for outer in boxes):
                    ranges = tuple(Range(span.low, span.end - span.low) for span in box)
                    raise _not_covered(site, kind, Region(region.buffer, ranges), known)


def _check_direct(program: Program, site: Site, body: Body) -> None:
    """Checks what is touched beside the blocks inside."""
    block = site.block
    found = touched(_without_blocks(body), site.inner_ranges, program.buffers)
    for kind, declared, regions in zip(
        ("reads", "writes"), (block.reads, block.writes), found, strict=True
    ):
        for region in regions:
            known = [outer for outer in declared if outer.buffer == region.buffer]
            if region not in known and not any(
                contains(outer, region, site.inner_ranges) for outer in known
            ):
                raise _not_covered(site, kind, region, known)


def _not_covered(site: Site, kind: str, region: Region, known: Sequence[Region]) -> ProgramError:
    given = ", ".join(map(region_text, known)) or "nothing"
    return ProgramError(
        f"expects what it {kind} to cover {region_text(region)}, got {given}",
        place=site.block.name,
        condition="regions",
    )


def _box_of(region: Region) -> Box:
    return tuple(Span(part.start, part.start + part.extent) for part in region.ranges)


def _without_blocks(body: Body) -> Body:
    kept: list[Statement] = []
    for statement in body:
        match statement:
            case Block():
                pass
            case Loop() | Guard():
                inner = _without_blocks(statement.body)
                kept.append(replace(statement, body=inner))
            case _:
                kept.append(statement)
    return tuple(kept)


def _are_elements(block: Block, body: Body) -> bool:
    """Whether all that statements touch are single elements that the regions name as they are."""
    if not all(isinstance(statement, Store) for statement in body):
        return False
    elements = {
        is_write: {
            (region.buffer, tuple(part.start for part in region.ranges))
            for region in regions
            if all(part.extent == ONE for part in region.ranges)
        }
        for is_write, regions in ((False, block.reads), (True, block.writes))
    }
    return all(
        (access.buffer, access.indices) in elements[access.is_write] for access in accesses_of(body)
    )


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


def reader_not_covered(program: Program, buffer: str) -> str | None:
    """Returns a block that is not proved to read what was written of an own buffer, or None."""
    checker = _Coverage(program)
    sites = sites_of(program)
    for place, site in enumerate(sites):
        if buffer in checker.exposed(site) and not checker.is_covered(site, sites[:place], buffer):
            return site.block.name
    return None


def _writes(block: Block, buffer: str) -> bool:
    return any(region.buffer == buffer for region in block.writes)


class _Coverage:
    def __init__(self, program: Program) -> None:
        self.buffers = {buffer.name: buffer for buffer in program.allocations}

    def exposed(self, site: Site) -> frozenset[str]:
        """Returns the own buffers that a block reads and has not written before by itself."""
        block = site.block
        reads = {region.buffer for region in block.reads if region.buffer in self.buffers}
        if not reads:
            return frozenset()
        initial = {access.buffer for access in accesses_of(block.init) if access.is_write}
        made = {name for name in reads & initial if self._is_rewritten(site, name)}
        reads -= made
        inner = site.inner if reads else ()
        if not inner:
            return frozenset(reads)
        exposed = set(_direct_reads(block.body)) & reads
        for place, part in enumerate(inner):
            for name in self.exposed(part) & reads:
                if name not in exposed and not self.is_covered(part, inner[:place], name):
                    exposed.add(name)
        return frozenset(exposed)

    def _is_rewritten(self, site: Site, name: str) -> bool:
        reads = [region for region in site.block.reads if region.buffer == name]
        writes = [region for region in site.block.writes if region.buffer == name]
        return all(
            any(read == write or contains(write, read, site.inner_ranges) for write in writes)
            for read in reads
        )

    def is_covered(self, site: Site, before: Sequence[Site], name: str) -> bool:
        """Whether blocks before a block provably write all that it reads of a buffer."""
        pieces: dict[tuple[str, ...], list[Box]] = {}
        producers = [other for other in before if _writes(other.block, name)]
        if _writes(site.block, name) and site.block.axes_of(AxisKind.ORDERED):
            # An element that was written at a point before is read at this one.
            producers.append(site)
        for producer in producers:
            common = () if producer is site else _common(site, producer)
            fixed = tuple(loop.name for loop in common)
            pieces.setdefault(fixed, []).extend(self._written(producer, fixed, name))
        if any(self._holds(site, fixed, boxes, name) for fixed, boxes in pieces.items()):
            return True
        self._add_first(site, producers, name, pieces)
        return any(self._holds(site, fixed, boxes, name) for fixed, boxes in pieces.items())

    def _add_first(
        self,
        site: Site,
        producers: Sequence[Site],
        name: str,
        pieces: dict[tuple[str, ...], list[Box]],
    ) -> None:
        """Adds what producers write in the first iterations of loops that are around a reader."""
        for producer in producers:
            common = () if producer is site else _common(site, producer)
            names = tuple(loop.name for loop in common)
            for start, end in combinations(range(len(common) + 1), 2):
                if not any(loop.kind.is_concurrent for loop in common[start:end]):
                    # It comes before, whatever the loops around and inside of these are at.
                    found = self._written(producer, names, name, names[start:end])
                    pieces.setdefault(names, []).extend(found)

    def _holds(self, site: Site, fixed: Sequence[str], boxes: Sequence[Box], name: str) -> bool:
        ranges = site.ranges_at[len(fixed)]
        needed = [
            read_box(site, frozenset(fixed), region, self.buffers[name].shape)
            for region in site.block.reads
            if region.buffer == name
        ]
        if all(any(_inside(need, box, ranges) for box in boxes) for need in needed):
            return True
        joined = _merged(boxes, ranges)
        return all(any(_inside(need, box, ranges) for box in joined) for need in needed)

    # What a producer writes: at most that, and no gaps.

    def _written(
        self, site: Site, fixed: Sequence[str], name: str, first: Sequence[str] = ()
    ) -> Iterator[Box]:
        """Yields boxes that are written while loops stand still, those of `first` at 0."""
        spans = self._axis_spans(site, frozenset(fixed), dict.fromkeys(first, 0))
        if spans is None or site.is_guarded:
            return
        for region in site.block.writes:
            if region.buffer == name and (box := self._box(region, spans, site.ranges)) is not None:
                yield box

    def _axis_spans(
        self, site: Site, fixed: frozenset[str], first: Mapping[str, int]
    ) -> dict[str, Span] | None:
        found = site.map
        if not isinstance(found, BindingMap) or not _reaches_all(site, found, first):
            return None
        still = fixed.union(loop.name for loop in site.outer)
        running = {loop.name: 0 for loop in site.loops if loop.name not in fixed}
        spans: dict[str, Span] = {}
        for axis in site.block.axes:
            reach, holds = ONE, False
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
                span = _clipped(site, Span(low, low + reach), axis.extent, fixed)
            if first:
                span = Span(span.low.substitute(first), span.end.substitute(first))
            spans[axis.name] = span
        return spans

    def _box(self, region: Region, spans: Mapping[str, Span], ranges: Ranges) -> Box | None:
        used: set[str] = set()
        box: list[Span] = []
        for part in region.ranges:
            circle = residue_of(part.start) if part.extent == ONE else None
            start = part.start if circle is None else circle[0]
            span = self._span(Range(start, part.extent), spans, used, ranges)
            if span is not None and circle is not None:
                span = _around(span, circle[1], ranges)
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


def read_box(site: Site, fixed: frozenset[str], region: Region, shape: Sequence[Expression]) -> Box:
    """
    Returns a box that holds all that a region of a block touches while its loops run.

    Loops in `fixed`, the first around the block, stand still.
    """
    lows: dict[str, Expression] = {}
    counts: dict[str, Expression] = {}
    running = {loop.name: loop.extent for loop in site.loops if loop.name not in fixed}
    still = fixed.union(loop.name for loop in site.outer)
    for axis in site.block.axes:
        span = Span(ZERO, axis.extent)
        if not axis.binding.symbols().isdisjoint(still):
            span = _run(site, axis, running, still) or span
            span = _clipped(site, span, axis.extent, fixed)
        lows[axis.name] = span.low + symbol(axis.name)
        counts[axis.name] = span.end - span.low
    box: list[Span] = []
    for part, whole in zip(region.ranges, shape, strict=True):
        circle = residue_of(part.start) if part.extent == ONE else None
        start = part.start if circle is None else circle[0]
        first = bounds_over(start.substitute(lows), counts)
        end = bounds_over((start + part.extent).substitute(lows), counts)
        if first is None or end is None:
            box.append(Span(ZERO, whole))
        elif circle is None:
            box.append(_clipped(site, Span(first[0], end[1]), whole, fixed))
        else:
            # What is not negative is not below its remainder.
            is_short = prove_le(0, first[0], site.ranges_at[len(fixed)])
            box.append(Span(ZERO, minimum(end[1], circle[1]) if is_short else circle[1]))
    return tuple(box)


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


def _clipped(site: Site, span: Span, extent: Expression, fixed: frozenset[str]) -> Span:
    # What is fixed are the loops around both, the first of the site's.
    ranges = site.ranges_at[len(fixed)]
    low, end = span.low, span.end
    if low.constant_value != 0 and not prove_le(0, low, ranges):
        low = maximum(low, 0)
    if end != extent and not prove_le(end, extent, ranges):
        end = minimum(end, extent)
    return Span(low, end)


def _reaches_all(site: Site, found: BindingMap, at_zero: Mapping[str, int]) -> bool:
    """Whether each point of the other axes is visited where the reduce axes are at 0."""
    if not found.restricting:
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
        for bound in found.restricting
    )


def _around(span: Span, size: Expression, ranges: Ranges) -> Span | None:
    """Returns the remainders by a size that consecutive numbers have, if they have no gaps."""
    if prove_le(size, span.end - span.low, ranges):
        return Span(ZERO, size)
    return Span(ZERO, minimum(span.end, size)) if span.low == ZERO else None


def _common(one: Site, two: Site) -> tuple[Loop, ...]:
    pairs = zip(one.loops, two.loops, strict=False)
    return tuple(a for a, _ in takewhile(lambda pair: pair[0] is pair[1], pairs))


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


def _inside(inner: Box, outer: Box, ranges: Ranges) -> bool:
    return all(
        _at_most(have.low, need.low, ranges) and _at_most(need.end, have.end, ranges)
        for need, have in zip(inner, outer, strict=True)
    )


def _at_most(one: Expression, two: Expression, ranges: Ranges) -> bool:
    if one == two or prove_le(one, two, ranges):
        return True
    # A proof that takes the arguments of a minimum one by one finds more.
    return any(
        all(_at_most(lesser, greater, ranges) for lesser in lessers for greater in greaters)
        for lessers, greaters in ((_options(one, "max"), [two]), ([one], _options(two, "min")))
        if len(lessers) + len(greaters) > 2
    )


def _options(value: Expression, kind: str) -> list[Expression]:
    """Returns the values of which `value` is the least or the greatest."""
    for monomial, factor in value.terms.items():
        match monomial:
            case (Extremum() as atom,) if factor > 0 and atom.kind == kind:
                rest = value - factor * expression_of(atom)
                return [rest + factor * argument for argument in atom.arguments]
            case _:
                pass
    return [value]


def _merged(boxes: Sequence[Box], ranges: Ranges) -> list[Box]:
    """Returns the boxes, and those that two of them make where they touch."""
    merged = list(boxes)
    for one in merged:
        for two in list(merged):
            for joined in (_joined(one, two, ranges), _joined(two, one, ranges)):
                if joined is not None and joined not in merged:
                    merged.append(joined)
        if len(merged) > 64:
            break
    return merged


def _joined(one: Box, two: Box, ranges: Ranges) -> Box | None:
    """Returns the box of two that differ along one axis, where the first reaches the second."""
    apart = [axis for axis, (a, b) in enumerate(zip(one, two, strict=True)) if a != b]
    if len(apart) != 1:
        return None
    axis = apart[0]
    a, b = one[axis], two[axis]
    if not all(
        _at_most(*pair, ranges) for pair in ((a.low, b.low), (b.low, a.end), (a.end, b.end))
    ):
        return None
    return (*one[:axis], Span(a.low, b.end), *one[axis + 1 :])
