"""Moves a block under a loop: a producer to its consumers, a consumer to its producer."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import ClassVar

from ...dialects.nest.program import (
    AxisKind,
    Block,
    Body,
    Bound,
    Guard,
    Loop,
    LoopKind,
    Program,
    Range,
    Region,
    Statement,
)
from ...dialects.nest.regions import bind_axes, contains, ranges_inside, relax, union
from ...dialects.sym import (
    Expression,
    Ranges,
    ceildiv,
    constant,
    floordiv,
    interval,
    prove_divisible,
    prove_le,
    prove_lt,
    simplify,
    symbol,
)
from .domains import exact_box, linear_parts, needed_domain, nest_over
from .moving import Moving, bounds_that_cut, over_axes
from .primitive import place_of
from .stages import Stage, Stages, common_prefix, without_stage


@dataclass(frozen=True)
class _Move(Moving):
    """What both moves have in common: which block goes where, and the loops that are remade."""

    block: str
    loop: str
    names: tuple[str, ...] = ()

    def _stages(self, program: Program) -> tuple[Stages, Stage, Loop]:
        """Returns the stages of the scope, the block, and the loop, or refuses their places."""
        self.block_of(program, self.block)
        loop = self.loop_of(program, self.loop)
        stages = Stages(program, self.block)
        stage = stages.stage_of(self, self.block)
        place = place_of(program.places[self.loop])
        scope = [part for part in program.places[self.loop] if isinstance(part, Block)]
        if (scope[-1] if scope else None) is not stages.scope:
            raise self.refused(
                "scope-of-block",
                f"expected a loop in the scope of '{self.block}', got '{self.loop}'",
                place,
            )
        if stage.is_under(loop):
            raise self.refused(
                "under-already", f"expected a loop that '{self.block}' is not under yet", place
            )
        shared = set(
            map(id, (part for other in stages if other is not stage for part in other.around))
        )
        for part in stage.around:
            if isinstance(part, Guard):
                raise self.refused(
                    "guard",
                    "expected loops and blocks, got a guard around the block",
                    f"@{stage.name}",
                    "state the condition inside the block",
                )
            if id(part) not in shared and part.kind is not LoopKind.SERIAL:
                raise self.refused(
                    "serial",
                    f"expected serial loops, got '{part.name}', which is {part.kind} and would "
                    "be remade",
                    f"@{stage.name}",
                    "move the block before its loops are given kinds",
                )
        return stages, stage, loop

    def result_names(self, program: Program) -> tuple[str, ...]:
        """
        Returns the names of the new loops, one for each axis of the block.

        The loop of an axis that takes one value is left out, with its name.
        """
        block = self.block_of(program, self.block)
        defaults = tuple(f"ax{number}" for number in range(len(block.axes)))
        return self.new_names(program, self.names, defaults)


def _ranges_below(program: Program, loop: Loop) -> Ranges:
    return ranges_inside(program, loop.name).also(loop.name, 0, loop.extent - 1)


def _bounds_of_all(consumers: Sequence[Stage], names: Collection[str]) -> list[Bound]:
    """Returns the bounds over some names that are in the predicates of all of some blocks."""
    return [
        bound
        for bound in consumers[0].block.predicate
        if bound.left.symbols() | bound.right.symbols() <= frozenset(names)
        and all(bound in other.block.predicate for other in consumers[1:])
    ]


def _extents_below(stage: Stage, outer: int) -> dict[str, Expression]:
    return {part.name: part.extent for part in stage.around[outer:] if isinstance(part, Loop)}


def _replaced_child(body: Body, at: Statement, statements: Body) -> Body:
    position = next(number for number, part in enumerate(body) if part is at)
    return (*body[:position], *statements, *body[position + 1 :])


@dataclass(frozen=True)
class ComputeAt(_Move):
    """
    Moves a block under a loop, where it makes what the consumers below the loop need.

        for i: for j: @P              for x in 0..n/32
        for x in 0..n/32      -->         for ax0 in 0..32: for j: @P vi = 32*x + ax0
            for y: @C reads P             for y: @C reads P

    What is needed is the region that the consumers read while the loops below run. The block gets
    a loop for each of its axes that takes more than one value; reduce axes run over all of theirs.
    Where the region may pass the ends of an axis, the block is guarded. Points in the regions of
    two iterations are computed twice.

    Legal if the loop is in the scope of the block (`scope-of-block`), behind it (`order`) and not
    around it (`under-already`); the block is complete or a reduction (`complete-or-reduction`);
    what leaves out points of it is over its axes, or loops that are one (`predicate`); if the order
    of its reduce axes is another than that of their loops, it combines in any order (`combiner`)
    and its init comes first (`first`); it writes one buffer (`one-buffer`) of the program's own
    (`output`), whose readers are all below the loop (`consumers-below`); what it reads is not
    written behind it (`inputs-stable`); its own loops are serial (`serial`) it is reduced in each
    iteration of the loops that it shares (`reduced`), and there is no guard around it (`guard`).
    """

    name: ClassVar[str] = "compute_at"

    def apply(self, program: Program) -> Program:
        """Returns the program with the block moved."""
        stages, stage, loop = self._stages(program)
        self.check_kind(stages, stage)
        self.check_axis_order(program, stage.block)
        cuts = self._cuts(program, stage)
        region = self._written(program, stages, stage)
        consumers = self._consumers(program, stages, stage, loop)
        self.check_inputs(stages, stage, stages.under(loop)[-1])
        self.check_reduced(stage, consumers[0])
        ranges = _ranges_below(program, loop)
        needed = self._needed(program, consumers, loop, ranges)
        domain = needed_domain(stage.block, region, needed, ranges, program.ranges)
        for number, axis in enumerate(stage.block.axes):
            if axis.kind is not AxisKind.SPATIAL:
                domain[number] = Range(constant(0), axis.extent)
        given = _bounds_of_all(consumers, ranges)
        nest = nest_over(
            stage.block, self.result_names(program), domain, ranges, given=given, cuts=cuts
        )
        first = consumers[0]
        depth = _depth_below(first, loop)
        before = (*first.around, first.block)[depth]
        body = _replaced_child(loop.body, before, (nest, before))
        return without_stage(program, stage).replace(self.loop, replace(loop, body=body))

    def _cuts(self, program: Program, stage: Stage) -> list[Bound]:
        """Returns the bounds that leave out points, over the axes, or refuses."""
        cuts: list[Bound] = []
        loops = {loop.name for loop in stage.loops}
        for bound in bounds_that_cut(stage, program.ranges):
            cut = over_axes(bound, stage.block)
            if not loops.isdisjoint(cut.left.symbols() | cut.right.symbols()):
                raise self.leaves_out(stage, bound)
            cuts.append(cut)
        return cuts

    def _written(self, program: Program, stages: Stages, stage: Stage) -> Region:
        """Returns what a point writes, or refuses."""
        if len(stage.block.writes) != 1:
            written = ", ".join(sorted(stage.writes)) or "nothing"
            raise self.refused(
                "one-buffer",
                f"expected a block that writes one buffer, got one that writes {written}",
                f"@{stage.name}",
            )
        (region,) = stage.block.writes
        if all(region.buffer != buffer.name for buffer in program.allocations):
            raise self.refused(
                "output",
                f"expected a block that writes a buffer of the program's own, got '{stage.name}', "
                f"which writes the parameter '{region.buffer}'",
                f"@{stage.name}",
                "move its consumers by reverse_compute_at",
            )
        if stages.is_used_outside(region.buffer):
            raise self.refused(
                "consumers-below",
                f"expected '{region.buffer}' to be used in one scope only",
                f"@{stage.name}",
            )
        return region

    def _consumers(self, program: Program, stages: Stages, stage: Stage, loop: Loop) -> list[Stage]:
        (written,) = stage.block.writes
        consumers = [other for other in stages.readers(written.buffer) if other is not stage]
        place = place_of(program.places[self.loop])
        if not consumers:
            raise self.refused(
                "consumers-below", f"expected consumers of '{written.buffer}', got none", place
            )
        for consumer in consumers:
            if not consumer.is_under(loop):
                raise self.refused(
                    "consumers-below",
                    f"expected all consumers below the loop, got '{consumer.name}' at "
                    f"{place_of(program.places[consumer.name])}",
                    place,
                    "choose a loop around all of them, or give it a cache of its own",
                )
        if stages.under(loop)[0].position < stage.position:
            raise self.refused(
                "order", f"expected a loop behind '{stage.name}', got one before it", place
            )
        return consumers

    def _needed(
        self, program: Program, consumers: list[Stage], loop: Loop, ranges: Ranges
    ) -> Region:
        """Returns what the consumers read while the loops below the loop run."""
        (written,) = self.block_of(program, self.block).writes
        buffer = program.buffers[written.buffer]
        regions: list[Region] = []
        for consumer in consumers:
            below = _extents_below(consumer, _depth_below(consumer, loop))
            regions.extend(
                relax(bind_axes(region, consumer.block), below, ranges, buffer)
                for region in consumer.block.reads
                if region.buffer == buffer.name
            )
        return reduce(lambda one, two: union(one, two, ranges, buffer), regions)


@dataclass(frozen=True)
class _Window:
    """The points of an axis that may run in an iteration: `low .. low + count - 1`, below `end`."""

    low: Expression
    count: Expression
    end: Expression | None = None


@dataclass(frozen=True)
class ReverseComputeAt(_Move):
    """
    Moves a block under a loop, where it uses what its producers below the loop have made.

        for x in 0..n/32              for x in 0..n/32
            for y: @P         -->         for y: @P
        for i: for j: @C reads P          for ax0 in 0..32: for j: @C vi = 32*x + ax0

    In each iteration the points run whose producers have made all that they read. The block gets a
    loop for each of its axes that takes more than one value; reduce axes run over all of theirs.
    Where points may lie outside of the axes, the block is guarded.

    Legal if the loop is in the scope of the block (`scope-of-block`), before it (`order`) and not
    around it (`under-already`); the block is complete or a reduction (`complete-or-reduction`)
    and runs for all of its points (`predicate`), as do the producers; if the order of its reduce
    axes is another than that of their loops, it combines in any order (`combiner`) and its init
    comes first (`first`); a producer is below the loop
    (`producers-below`), and none comes between the loop and the block (`inputs-stable`); the
    producers' reduce loops are below the loop (`reduced`); in an iteration they write boxes without
    gaps (`exact-region`); each point reads what one iteration made (`one-iteration`); what the
    block writes is read behind it only (`readers-behind`); iterations that run at the same time run
    different points (`races`); its own loops are serial (`serial`) and
    there is no guard around it (`guard`).
    """

    name: ClassVar[str] = "reverse_compute_at"

    def apply(self, program: Program) -> Program:
        """Returns the program with the block moved."""
        stages, stage, loop = self._stages(program)
        self.check_recomputable(stages, stage)
        self.check_axis_order(program, stage.block)
        below = stages.under(loop)
        self._check_order(stages, stage, below)
        producers = self._producers(program, stages, stage, loop)
        ranges = _ranges_below(program, loop)
        windows = self._windows(program, stages, stage, producers, ranges)
        self._check_races(stage, below[0], loop, windows, ranges)
        domain = [
            Range(windows[axis.name].low, windows[axis.name].count)
            if axis.name in windows
            else Range(constant(0), axis.extent)
            for axis in stage.block.axes
        ]
        ends = {
            number: window.end
            for number, axis in enumerate(stage.block.axes)
            if (window := windows.get(axis.name)) and window.end is not None
        }
        nest = nest_over(stage.block, self.result_names(program), domain, ranges, ends)
        last = max((p for p in producers if p.is_under(loop)), key=lambda p: p.position)
        depth = _depth_below(last, loop)
        behind = (*last.around, last.block)[depth]
        body = _replaced_child(loop.body, behind, (behind, nest))
        return without_stage(program, stage).replace(self.loop, replace(loop, body=body))

    def _check_races(
        self,
        stage: Stage,
        inside: Stage,
        loop: Loop,
        windows: Mapping[str, _Window],
        ranges: Ranges,
    ) -> None:
        """Refuses if iterations that run at the same time would write the same elements."""
        around = inside.around[len(stage.common(inside)) : _depth_below(inside, loop)]
        for part in around:
            if not isinstance(part, Loop) or not part.kind.is_concurrent:
                continue
            if prove_le(part.extent, 1, ranges):
                continue
            if not any(_is_apart(window, part, ranges) for window in windows.values()):
                raise self.refused(
                    "races",
                    f"expected iterations of '{part.name}', which is {part.kind}, to run "
                    f"different points of '{stage.name}'",
                    part.name,
                    "move the block before the loop is given a kind, or further out",
                )

    def _producers(self, program: Program, stages: Stages, stage: Stage, loop: Loop) -> list[Stage]:
        """Returns the producers that share the loop, or loops around it, the last first."""
        inside = stages.under(loop)
        found: list[Stage] = []
        for buffer in sorted(stage.reads - stage.writes):
            for writer in stages.writers(buffer):
                if writer.position > inside[-1].position:
                    apart = not writer.shares_loop(stage)
                    if writer.position < stage.position or not apart:
                        raise self.unstable(buffer, stage, writer, "which writes it later")
                elif any(isinstance(part, Loop) for part in _shared_with(writer, loop, inside)):
                    found.append(writer)
        if not any(producer.is_under(loop) for producer in found):
            raise self.refused(
                "producers-below",
                f"expected producers of '{stage.name}' below the loop, got none",
                place_of(program.places[self.loop]),
            )
        for producer in found:
            self.check_recomputable(stages, producer)
            shared = _shared_with(producer, loop, inside)
            self.check_reduced_below(
                producer, {part.name for part in shared if isinstance(part, Loop)}
            )
        return sorted(set(found), key=lambda producer: -producer.position)

    def _check_order(self, stages: Stages, stage: Stage, below: list[Stage]) -> None:
        if below[-1].position > stage.position:
            raise self.refused(
                "order", f"expected a loop before '{stage.name}', got one behind it", self.loop
            )
        for buffer in sorted(stage.writes):
            for reader in stages.readers(buffer):
                if reader.position < stage.position:
                    raise self.refused(
                        "readers-behind",
                        f"expected '{buffer}' to be read behind '{stage.name}' only, got "
                        f"'{reader.name}', which reads it before",
                        f"@{reader.name}",
                    )
        self.check_reduced(stage, below[-1])

    def _windows(
        self,
        program: Program,
        stages: Stages,
        stage: Stage,
        producers: list[Stage],
        ranges: Ranges,
    ) -> dict[str, _Window]:
        """Returns the points of each axis that may run in an iteration of the loop."""
        loop = self.loop_of(program, self.loop)
        windows: dict[str, _Window] | None = None
        for producer in producers:
            outer = len(_shared_with(producer, loop, stages.under(loop)))
            below = _extents_below(producer, outer)
            for written in producer.block.writes:
                if written.buffer not in stage.reads or written.buffer in stage.writes:
                    continue
                box = exact_box(bind_axes(written, producer.block), below, ranges)
                if box is None:
                    raise self.refused(
                        "exact-region",
                        f"expected '{producer.name}' to write a box without gaps of "
                        f"'{written.buffer}' in an iteration",
                        f"@{producer.name}",
                        "reorder or split its loops so that those below are consecutive",
                    )
                if windows is None:
                    windows = self._solved(program, stage, box, ranges)
                else:
                    self._check_made(program, stage, box, windows, ranges)
        return windows or {}

    def _solved(
        self, program: Program, stage: Stage, box: Region, ranges: Ranges
    ) -> dict[str, _Window]:
        read = _read_region(stage.block, box.buffer)
        shape = program.buffers[box.buffer].shape
        windows: dict[str, _Window] = {}
        extents = {axis.name: axis.extent for axis in stage.block.axes}
        for have, need, whole in zip(box.ranges, read.ranges, shape, strict=True):
            if have.start == 0 and prove_le(whole, have.extent, ranges):
                continue
            window = self._window(have, need, extents, ranges, frozenset(program.ranges))
            if window is None or window[0] in windows or self._is_reduced(stage, window[0]):
                raise self.refused(
                    "one-iteration",
                    f"expected each point to read what one iteration makes of '{box.buffer}', got "
                    f"indices {need.start}..+{need.extent} over {have.start}..+{have.extent}",
                    f"@{stage.name}",
                    "choose a loop further out",
                )
            windows[window[0]] = window[1]
        return windows

    def _is_reduced(self, stage: Stage, name: str) -> bool:
        return any(axis.name == name for axis in stage.block.axes_of(AxisKind.REDUCE))

    def _window(
        self,
        have: Range,
        need: Range,
        extents: Mapping[str, Expression],
        ranges: Ranges,
        fixed: frozenset[str],
    ) -> tuple[str, _Window] | None:
        """Returns the axis that an index moves, and its points whose reads are in a box."""
        parts = linear_parts(need.start, extents)
        if parts is None or len(parts[0]) != 1 or not need.extent.symbols().isdisjoint(extents):
            return None
        ((name, factor),) = parts[0].items()
        if not prove_lt(0, factor, ranges):
            return None
        start = have.start - parts[1]
        if need.extent != 1 and not (
            prove_le(need.extent, factor, ranges)
            and prove_divisible(start, factor, ranges)
            and prove_divisible(have.extent, factor, ranges)
        ):
            return None
        low = simplify(ceildiv(start, factor), ranges)
        last = floordiv(start + have.extent - need.extent, factor)
        count = simplify(last - low + 1, ranges)
        if count.symbols() <= fixed:
            return name, _Window(low, count)
        greatest = interval(count, ranges)[1]
        if greatest is None:
            return None
        return name, _Window(low, constant(greatest), last + 1)

    def _check_made(
        self,
        program: Program,
        stage: Stage,
        box: Region,
        windows: Mapping[str, _Window],
        ranges: Ranges,
    ) -> None:
        """Refuses if the points that run may read what another producer has not made yet."""
        starts = {
            axis.name: windows[axis.name].low + symbol(axis.name)
            for axis in stage.block.axes
            if axis.name in windows
        }
        extents = {
            axis.name: windows[axis.name].count if axis.name in windows else axis.extent
            for axis in stage.block.axes
        }
        read = _read_region(stage.block, box.buffer)
        moved = Region(
            read.buffer,
            tuple(Range(part.start.substitute(starts), part.extent) for part in read.ranges),
        )
        buffer = program.buffers[box.buffer]
        shape = tuple(Range(constant(0), extent) for extent in buffer.shape)
        needed = relax(moved, extents, ranges, buffer)
        for have, need, whole in zip(box.ranges, needed.ranges, shape, strict=True):
            inside = contains(Region("", (have,)), Region("", (need,)), ranges)
            if not inside and not contains(Region("", (have,)), Region("", (whole,)), ranges):
                raise self.refused(
                    "one-iteration",
                    f"expected each point to read what one iteration makes of '{box.buffer}', got "
                    f"indices {need.start}..+{need.extent} over {have.start}..+{have.extent}",
                    f"@{stage.name}",
                    "choose a loop further out",
                )


def _is_apart(window: _Window, loop: Loop, ranges: Ranges) -> bool:
    """Whether the points of a window are others in each iteration of a loop."""
    parts = linear_parts(window.low, {loop.name: loop.extent})
    factor = None if parts is None else parts[0].get(loop.name)
    return factor is not None and bool(prove_le(window.count, factor, ranges))


def _read_region(block: Block, buffer: str) -> Region:
    return next(region for region in block.reads if region.buffer == buffer)


def _depth_below(stage: Stage, loop: Loop) -> int:
    return next(number for number, part in enumerate(stage.around) if part is loop) + 1


def _shared_with(stage: Stage, loop: Loop, inside: list[Stage]) -> tuple[Loop | Guard, ...]:
    """Returns what is around both a stage and the body of a loop."""
    around = inside[0].around
    return common_prefix(stage.around, around[: _depth_below(inside[0], loop)])
