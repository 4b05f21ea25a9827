"""Puts copies of buffers between the blocks that make data and those that use it."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import reduce
from typing import ClassVar

from ...dialects.nest.bindings import BindingMap, map_bindings
from ...dialects.nest.program import (
    Axis,
    Block,
    Bound,
    Buffer,
    Guard,
    Loop,
    Path,
    Program,
    Range,
    Region,
    Scope,
    Statement,
    Store,
    blocks_of,
)
from ...dialects.nest.regions import ONE, bind_axes, relax, union
from ...dialects.nest.rewriting import rename_buffer
from ...dialects.nest.scalars import Load
from ...dialects.sym import Ranges, prove_eq, symbol
from ...dialects.sym.proof import NO_RANGES
from .blocks_around import with_blocks_around
from .domains import axis_ranges, exact_box, narrowed, nest_over
from .legality import check_written
from .moving import Moving
from .primitive import place_of
from .stages import Stage, Stages, common_prefix


def copy_nest(
    source: Buffer,
    target: Buffer,
    names: tuple[str, ...],
    box: Region | None = None,
    ranges: Ranges = NO_RANGES,
) -> Statement:
    """
    Returns loops around a block that copies a buffer to one of the same shape, or a box of it.

    `names` are those of the block, then of a loop and an axis for each axis of the buffer.
    """
    rank = len(source.shape)
    block, loops, axes = names[0], names[1 : rank + 1], names[rank + 1 :]
    point = tuple(map(symbol, axes))
    here = tuple(Range(index, ONE) for index in point)
    copy = Block(
        block,
        tuple(
            Axis(axis, extent, symbol(loop))
            for axis, extent, loop in zip(axes, source.shape, loops, strict=True)
        ),
        (Region(source.name, here),),
        (Region(target.name, here),),
        (Store(target.name, point, Load(source.name, point, source.dtype)),),
    )
    if box is not None:
        return nest_over(copy, loops, box.ranges, ranges)
    nest: Statement = copy
    for loop, extent in reversed(list(zip(loops, source.shape, strict=True))):
        nest = Loop(loop, extent, (nest,))
    return nest


def default_names(block: str, rank: int) -> tuple[str, ...]:
    """Returns the names that a copy of a buffer asks for: block, loops, axes."""
    numbers = range(rank)
    return (block, *(f"ax{n}" for n in numbers), *(f"vax{n}" for n in numbers))


@dataclass(frozen=True)
class _Cache(Moving):
    """What the primitives that add a copy have in common."""

    block: str
    buffer: str
    scope: Scope
    cache: str = ""
    names: tuple[str, ...] = ()

    def result_buffer(self, program: Program) -> str:
        """Returns the name of the buffer that the step makes."""
        if not self.cache:
            return program.fresh_buffer(f"{self.buffer}_{self.scope}")
        if program.fresh_buffer(self.cache) != self.cache:
            raise self.refused("names", f"expected a name that is free, got '{self.cache}'")
        return self.cache

    def result_names(self, program: Program) -> tuple[str, ...]:
        """Returns the names of the copying block, of its loops, and of its axes."""
        rank = len(self.buffer_of(program, self.buffer).shape)
        block = self.cache or f"{self.buffer}_{self.scope}"
        return self.new_names(program, self.names, default_names(block, rank))

    def _cache_of(self, program: Program) -> tuple[Buffer, Buffer]:
        """Returns the buffer and the one that caches it, or refuses the scope."""
        source = self.buffer_of(program, self.buffer)
        if self.scope not in set(Scope):
            known = ", ".join(Scope)
            raise self.refused("scope", f"expected a scope among {known}, got '{self.scope}'")
        cache = Buffer(self.result_buffer(program), source.shape, source.dtype, Scope(self.scope))
        return source, cache

    def _statement_at(self, stage: Stage, depth: int) -> str:
        """Returns the name of the statement around a stage below `depth` loops."""
        statement = (*stage.around, stage.block)[depth]
        for part in stage.around[:depth]:
            if isinstance(part, Loop) and part.kind.is_concurrent:
                raise self.refused(
                    "races",
                    f"expected serial loops around a copy of a whole buffer, got '{part.name}', "
                    f"which is {part.kind}",
                    f"@{stage.name}",
                    "cache before the loops are given kinds",
                )
        if isinstance(statement, Guard):
            raise self.refused(
                "guard",
                "expected loops and blocks, got a guard around the block",
                f"@{stage.name}",
                "state the condition inside the block",
            )
        return statement.name


@dataclass(frozen=True)
class CacheRead(_Cache):
    """
    Copies a buffer before its readers, which then read the copy.

        @C reads A         -->    for ax0: for ax1: @A_shared: A_shared[..] = A[..]
                                  @C reads A_shared

    The copy holds the whole buffer; `ComputeAt` narrows it to what a loop needs. It stands before
    the first of `consumers` (the block alone where none are named), in the scope of the block, or,
    where a writer of the buffer shares loops with them, inside these loops. There, and in another
    block, it holds what the consumers read.

    Legal if the consumers are in the scope of the block and read the buffer (`reads`) without
    writing it (`reads-own-writes`), all blocks that write it stand before the copy or after the
    last consumer (`written-between`), what is copied of a buffer of the program's own was provably
    written before (`written-before`), and there is no guard around the place (`guard`) and no loop
    whose iterations run at the same time (`races`).
    """

    name: ClassVar[str] = "cache_read"

    consumers: tuple[str, ...] = ()

    def apply(self, program: Program) -> Program:
        """Returns the program with the copy."""
        self.block_of(program, self.block)
        source, cache = self._cache_of(program)
        stages = Stages(program, self.block)
        consumers = self._consumers(program, stages)
        depth = self._depth(stages, consumers)
        before = self._statement_at(consumers[0], depth)
        self._check_stable(stages, consumers, depth)
        box, ranges = None, inside(program, stages, consumers[0], depth)
        if depth or stages.scope is not None:
            box = _needed(consumers, depth, source, ranges, program.ranges)
        nest = copy_nest(source, cache, self.result_names(program), box, ranges)
        for consumer in consumers:
            (renamed,) = rename_buffer((consumer.block,), self.buffer, cache.name)
            program = program.replace(consumer.name, renamed)
        statement = program.places[before][-1]
        program = program.replace(before, nest, statement)
        program = replace(program, allocations=(*program.allocations, cache))
        program = with_blocks_around(self, stages.program, program)
        check_written(self, program, (self.buffer,), f"@{self.block}")
        return program

    def _consumers(self, program: Program, stages: Stages) -> list[Stage]:
        found: list[Stage] = []
        for name in self.consumers or (self.block,):
            self.block_of(program, name)
            stage = stages.get(name)
            if stage is None:
                raise self.refused(
                    "scope-of-block",
                    f"expected consumers in the scope of '{self.block}', got '{name}'",
                    place_of(program.places[name]),
                )
            if self.buffer not in stage.reads:
                read = ", ".join(sorted(stage.reads)) or "nothing"
                raise self.refused(
                    "reads",
                    f"expected a block that reads '{self.buffer}', got one that reads {read}",
                    place_of(program.places[name]),
                )
            if self.buffer in stage.writes:
                raise self.refused(
                    "reads-own-writes",
                    f"expected a block that only reads '{self.buffer}', got one that writes it",
                    place_of(program.places[name]),
                    "use cache_write or cache_inplace",
                )
            found.append(stage)
        return sorted(found, key=lambda stage: stage.position)

    def _depth(self, stages: Stages, consumers: list[Stage]) -> int:
        """Returns below how many shared loops the copy stands: below those of the writers."""
        depth = 0
        for writer in stages.writers(self.buffer):
            shared = min(len(consumer.common(writer)) for consumer in consumers)
            depth = max(depth, shared)
        return depth

    def _check_stable(self, stages: Stages, consumers: list[Stage], depth: int) -> None:
        first, last = consumers[0], consumers[-1]
        together = all(
            len(common_prefix(consumer.around, first.around)) >= depth for consumer in consumers
        )
        start, end = ((*stage.around, stage.block)[depth:][:1] for stage in (first, last))
        for writer in stages.writers(self.buffer):
            outer = (*writer.around, writer.block)
            is_before = writer.position < first.position and not _holds(outer, start)
            is_after = writer.position > last.position and not _holds(outer, end)
            if not together or not (is_before or is_after):
                raise self.refused(
                    "written-between",
                    f"expected '{self.buffer}' to be written before its copy or after its "
                    f"readers, got '{writer.name}', which writes it between",
                    f"@{writer.name}",
                    "name fewer consumers",
                )


def _names_on(path: Path) -> set[str]:
    return {part.name for part in path if isinstance(part, Loop | Block)}


def _holds(path: Path, statements: Path) -> bool:
    return any(part is statement for part in path for statement in statements)


@dataclass(frozen=True)
class CacheWrite(_Cache):
    """
    Lets a block write a copy of a buffer, which is copied to the buffer behind the block.

        @C writes C        -->    @C writes C_local
                                  for ax0: for ax1: @C_local: C[..] = C_local[..]

    The copy holds the whole buffer; `ReverseComputeAt` narrows it. It stands behind the outermost
    loop of the block, or, where a reader of the buffer shares loops with it, inside these. There,
    in another block, and where the block runs for a part of its points only, what is copied is
    what the block writes in the loops around the copy.

    Legal if the block is the only one that writes the buffer (`writes`, `sole-writer`), all of it
    provably (`covers`), runs for all of its points (`predicate`), reads of it only what it wrote
    itself, as a reduction does (`reads-own-writes`), what is copied was provably written before
    (`written-before`), and there is no guard around the place (`guard`) and no loop whose
    iterations run at the same time (`races`).
    """

    name: ClassVar[str] = "cache_write"

    def apply(self, program: Program) -> Program:
        """Returns the program with the copy."""
        block = self.block_of(program, self.block)
        target, cache = self._cache_of(program)
        stages = Stages(program, self.block)
        self._check(program, block, target)
        others = [other for other in stages.readers(self.buffer) if other.block is not block]
        stage = stages.stage_of(self, self.block)
        self.check_all_points(stage, program.ranges)
        depth = max((len(stage.common(other)) for other in others), default=0)
        behind = self._statement_at(stage, depth)
        ranges = inside(program, stages, stage, depth)
        box = self._written(program, stages, stage, depth, ranges)
        nest = copy_nest(cache, target, self.result_names(program), box, ranges)
        (renamed,) = rename_buffer((block,), self.buffer, cache.name)
        program = program.replace(self.block, renamed)
        program = program.replace(behind, program.places[behind][-1], nest)
        program = replace(program, allocations=(*program.allocations, cache))
        program = with_blocks_around(self, stages.program, program)
        if box is not None:
            check_written(self, program, (cache.name, self.buffer), f"@{self.block}")
        return program

    def _written(
        self, program: Program, stages: Stages, stage: Stage, depth: int, ranges: Ranges
    ) -> Region | None:
        """Returns the box that the block writes below some loops, None for the whole buffer."""
        if not depth and stages.scope is None and self._runs_whole(program, stage):
            return None
        region = written_region(stage.block, self.buffer)
        assert region is not None
        below = {part.name: part.extent for part in stage.around[depth:] if isinstance(part, Loop)}
        box = exact_box(bind_axes(region, stage.block), below, ranges)
        guarded = {name for bound in stage.block.predicate for name in _axes_of(stage.block, bound)}
        alone = [part.start.symbol_name for part in region.ranges]
        if box is None or not all(
            part.extent.symbols() <= frozenset(program.ranges)
            and (name in guarded or guarded.isdisjoint(whole.start.symbols()))
            for part, whole, name in zip(box.ranges, region.ranges, alone, strict=True)
        ):
            raise self.refused(
                "covers",
                f"expected a block that writes a box of '{self.buffer}' without gaps, provably, in "
                "the loops around the copy",
                place_of(program.places[self.block]),
                "cache it before its loops are rearranged",
            )
        return box

    def _runs_whole(self, program: Program, stage: Stage) -> bool:
        """Whether all points of the block run."""
        own = {buffer.name for buffer in program.allocations}
        # A block that writes what the caller passes runs for all of its points: it is verified.
        return not stage.writes <= own or isinstance(
            map_bindings(stage.block, stage.loops, program.ranges), BindingMap
        )

    def _check(self, program: Program, block: Block, target: Buffer) -> None:
        place = place_of(program.places[self.block])
        region = written_region(block, self.buffer)
        if region is None:
            raise self.refused("writes", f"expected a block that writes '{self.buffer}'", place)
        around = {part.name for part in program.places[self.block] if isinstance(part, Block)}
        for other in blocks_of(program.body):
            if other.name not in around and written_region(other, self.buffer) is not None:
                if self.block not in _names_on(program.places[other.name]):
                    raise self.refused(
                        "sole-writer",
                        f"expected one block to write '{self.buffer}', got '{other.name}' too",
                        place,
                        "cache it before its reduction is decomposed",
                    )
        if not block.init and any(part.buffer == self.buffer for part in block.reads):
            raise self.refused(
                "reads-own-writes",
                f"expected a block that does not read what '{self.buffer}' held before",
                place,
                "use cache_inplace",
            )
        axes = {
            axis.name: axis.extent
            for part in program.places[self.block]
            if isinstance(part, Block)
            for axis in part.axes
        }
        box = exact_box(region, axes, program.ranges)
        if box is None or not all(
            part.start == 0 and prove_eq(part.extent, extent, program.ranges)
            for part, extent in zip(box.ranges, target.shape, strict=True)
        ):
            raise self.refused(
                "covers",
                f"expected a block that writes all of '{self.buffer}' provably",
                place,
                "use cache_inplace, which keeps what the block does not write",
            )


@dataclass(frozen=True)
class CacheInplace(_Cache):
    """
    Copies a buffer before a block that changes it, and back behind it.

        @B updates A       -->    for ax0: @A_shared: A_shared[..] = A[..]
                                  @B updates A_shared
                                  for ax0_1: @A_shared_1: A[..] = A_shared[..]

    Both copies hold the whole buffer. They stand around the outermost loop of the block, or,
    where another block that touches the buffer shares loops with it, inside these. A buffer of the
    program's own that no block has written before is copied back only.

    Legal if the block reads or writes the buffer (`accesses`), what is copied of buffers of the
    program's own was provably written before (`written-before`), and there is no guard around the
    place (`guard`) and no loop whose iterations run at the same time (`races`).
    """

    name: ClassVar[str] = "cache_inplace"

    def result_names(self, program: Program) -> tuple[str, ...]:
        """Returns the names of block, loops and axes of the copy, then of the copy back."""
        rank = len(self.buffer_of(program, self.buffer).shape)
        block = self.cache or f"{self.buffer}_{self.scope}"
        defaults = default_names(block, rank)
        back = (f"{block}_back", *(f"{name}_back" for name in defaults[1:]))
        return self.new_names(program, self.names, (*defaults, *back))

    def apply(self, program: Program) -> Program:
        """Returns the program with both copies."""
        block = self.block_of(program, self.block)
        buffer, cache = self._cache_of(program)
        stages = Stages(program, self.block)
        stage = stages.stage_of(self, self.block)
        if self.buffer not in stage.reads | stage.writes:
            raise self.refused(
                "accesses",
                f"expected a block that reads or writes '{self.buffer}'",
                place_of(program.places[self.block]),
            )
        others = [
            other
            for other in stages
            if other is not stage and self.buffer in other.reads | other.writes
        ]
        depth = max((len(stage.common(other)) for other in others), default=0)
        around = self._statement_at(stage, depth)
        names = self.result_names(program)
        half = len(names) // 2
        copy, back = (
            copy_nest(buffer, cache, names[:half]),
            copy_nest(cache, buffer, names[half:]),
        )
        (renamed,) = rename_buffer((block,), self.buffer, cache.name)
        program = program.replace(self.block, renamed)
        is_first = stages.scope is None and not depth and not self._is_begun(program, stage, others)
        before = () if is_first else (copy,)
        program = program.replace(around, *before, program.places[around][-1], back)
        program = replace(program, allocations=(*program.allocations, cache))
        program = with_blocks_around(self, stages.program, program)
        check_written(self, program, (self.buffer, cache.name), f"@{self.block}")
        return program

    def _is_begun(self, program: Program, stage: Stage, others: list[Stage]) -> bool:
        """Whether the buffer may hold what the caller, or a block before, has written."""
        is_own = any(own.name == self.buffer for own in program.allocations)
        return not is_own or any(
            other.position < stage.position and self.buffer in other.writes for other in others
        )


def _needed(
    consumers: list[Stage],
    depth: int,
    buffer: Buffer,
    ranges: Ranges,
    fixed: Collection[str],
) -> Region:
    """Returns a box that holds what blocks read of a buffer while loops below `depth` run."""
    regions: list[Region] = []
    for consumer in consumers:
        below = {p.name: p.extent for p in consumer.around[depth:] if isinstance(p, Loop)}
        regions.extend(
            relax(bind_axes(region, consumer.block), below, ranges, buffer)
            for region in consumer.block.reads
            if region.buffer == buffer.name
        )
    box = reduce(lambda one, two: union(one, two, ranges, buffer), regions)
    parts = (
        narrowed(part.start, part.start + part.extent - 1, whole, ranges, fixed)
        for part, whole in zip(box.ranges, buffer.shape, strict=True)
    )
    return Region(buffer.name, tuple(parts))


def inside(program: Program, stages: Stages, stage: Stage, depth: int) -> Ranges:
    """Returns the ranges that hold below the first loops of the scope around a block."""
    around: Path = () if stages.scope is None else program.places[stages.scope.name]
    ranges = program.ranges
    for part in around:
        if isinstance(part, Block):
            ranges = axis_ranges(part.axes, ranges)
    for part in stage.around[:depth]:
        if isinstance(part, Loop):
            ranges = ranges.also(part.name, 0, part.extent - 1)
    return ranges


def _axes_of(block: Block, bound: Bound) -> Iterator[str]:
    """Yields the axes whose loops a bound names."""
    named = bound.left.symbols() | bound.right.symbols()
    return (axis.name for axis in block.axes if not axis.binding.symbols().isdisjoint(named))


def written_region(block: Block, buffer: str) -> Region | None:
    """Returns the region of a buffer that a block writes, or None."""
    return next((region for region in block.writes if region.buffer == buffer), None)
