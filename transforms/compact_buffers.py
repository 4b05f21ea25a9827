"""
Shrinks the program's own buffers to what the loop where they live needs.

    S: shared i32[n, 64]               S: shared i32[32, 16], allocated in k_0
    for i_0: block.x                   for i_0: block.x
        for k_0 in 0..4                    for k_0 in 0..4
            for t in 0..32: thread.x           for t in 0..32: thread.x
                S[32*i_0 + t, 16*k_0] = ..         S[t, 0] = ..

A buffer lives in the deepest loop around all its uses whose iterations pass nothing on in it.
Shared buffers are those of a CTA: they hold what all its threads need. Local buffers and fragments
are those of a thread: loops over the same axis of threads stand for the same thread.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..dialects.diagnostic import DiagnosticError
from ..dialects.nest.program import (
    Buffer,
    Loop,
    Program,
    Range,
    Region,
    Scope,
)
from ..dialects.nest.regions import union
from ..dialects.sym import Expression, Ranges, constant, interval, simplify, symbol
from .buffer_uses import Use, axis_name, loop_ranges, relax_over, threads_of, uses_of
from .nest_pass import NestPass
from .rebase import rebased
from .separation import are_separated
from .written_before_read import is_covered

ZERO = constant(0)


@dataclass(frozen=True)
class Placement:
    """
    A buffer as it is kept, and the first index that is kept.

    `origin` is over loops around the buffer's place and the axes of threads.
    """

    origin: tuple[Expression, ...]
    buffer: Buffer


@dataclass(frozen=True)
class CompactBuffersPass(NestPass):
    """Shrinks the buffers of nests to what the loop where they live needs."""

    name = "compact-buffers"

    def transform(self, program: Program) -> Program:
        """Returns the program with small buffers."""
        return compact_buffers(program)


def compact_buffers(program: Program) -> Program:
    """Returns a program without blocks, with small buffers; raises DiagnosticError."""
    uses = uses_of(program)
    compaction = _Compaction(program, loop_ranges(program))
    placements: dict[str, Placement] = {}
    for buffer in program.allocations:
        if found := uses.get(buffer.name):
            placements[buffer.name] = compaction.placement(buffer, found)
    origins = {
        name: placement.origin
        for name, placement in placements.items()
        if any(start != 0 for start in placement.origin)
    }
    body = rebased(program, origins, compaction.ranges) if origins else program.body
    allocations = tuple(placement.buffer for placement in placements.values())
    return replace(program, body=body, allocations=allocations)


class _Compaction:
    """Places the buffers of one program; `ranges` are those of everything that has a name."""

    def __init__(self, program: Program, ranges: Ranges) -> None:
        self.ranges = ranges
        self._threads = threads_of(program)
        self._on_gpu = any(
            isinstance(path[-1], Loop) and path[-1].kind.is_bound
            for path in program.places.values()
        )
        self._buffers = program.buffers
        # What uses touch, by the loops that move them; uses stay as long as this.
        self._known: dict[tuple[int | str, ...], Region] = {}

    def placement(self, buffer: Buffer, uses: Sequence[Use]) -> Placement:
        """Returns where a buffer lives and what of it is kept."""
        if self._on_gpu and buffer.scope is Scope.GLOBAL:
            return Placement((ZERO,) * len(buffer.shape), _with_strides(buffer))
        around = self._loops_of_its_own(buffer, uses)
        box = self._box(buffer, uses, len(around))
        if self._on_gpu:
            self._check_threads(buffer, box, uses, around)
        shape = tuple(self._extent(buffer, axis, part) for axis, part in enumerate(box.ranges))
        place = around[-1].name if around else None
        kept = _with_strides(replace(buffer, shape=shape, place=place))
        return Placement(tuple(part.start for part in box.ranges), kept)

    def _loops_of_its_own(self, buffer: Buffer, uses: Sequence[Use]) -> tuple[Loop, ...]:
        """Returns the loops around all uses in each of whose iterations the buffer is a new one."""
        common = _common(uses)
        for depth, loop in enumerate(common):
            if loop.kind.is_concurrent:
                continue
            box = self._box(buffer, uses, depth + 1)
            alone = are_separated(box.ranges, {loop.name: loop.extent}, self.ranges)
            if not alone and not is_covered(loop.body, buffer.name, self._buffers, self.ranges):
                return common[:depth]
        return common

    def _box(self, buffer: Buffer, uses: Sequence[Use], depth: int) -> Region:
        """Returns what all uses touch in one iteration of the loops around, for one thread."""
        box: Region | None = None
        for use in uses:
            region = self._relaxed(buffer, use, depth)
            box = region if box is None else union(box, region, self.ranges, buffer)
        assert box is not None
        return box

    def _relaxed(self, buffer: Buffer, use: Use, depth: int) -> Region:
        private = self._on_gpu and buffer.scope in (Scope.LOCAL, Scope.FRAGMENT)
        shared = self._on_gpu and buffer.scope is Scope.SHARED
        moving: list[Loop] = []
        axes: dict[str, Expression] = {}
        for position, loop in enumerate(use.path):
            if private and loop.kind.is_thread:
                if position >= depth:
                    axes[loop.name] = symbol(axis_name(loop))
            elif position >= depth or (shared and loop.kind.is_thread):
                moving.append(loop)
        region = use.region
        if axes:
            region = Region(
                region.buffer,
                tuple(
                    Range(part.start.substitute(axes), part.extent.substitute(axes))
                    for part in region.ranges
                ),
            )
            return relax_over(region, moving, self.ranges, buffer)
        loops = _that_move(region, moving)
        key = (id(use), *(loop.name for loop in loops))
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = relax_over(region, loops, self.ranges, buffer)
        return found

    def _check_threads(
        self, buffer: Buffer, box: Region, uses: Sequence[Use], around: Sequence[Loop]
    ) -> None:
        """Refuses a buffer through which one thread would see what another thread wrote."""
        if buffer.scope is Scope.SHARED:
            mine = {loop.name: loop.extent for loop in around if loop.kind.is_thread}
            sides = [self._relaxed_inside(buffer, use, len(around)) for use in uses]
            apart = all(are_separated(side.ranges, mine, self.ranges) for side in sides)
        else:
            mine = {
                axis_name(loop): self._threads[axis_name(loop)]
                for use in uses
                if use.is_write
                for loop in use.path[len(around) :]
                if loop.kind.is_thread
            }
            apart = are_separated(box.ranges, mine, self.ranges)
        if mine and not apart:
            raise DiagnosticError(
                f"expected each thread to use elements of its own of the {buffer.scope} buffer "
                f"'{buffer.name}', got elements that threads of {', '.join(sorted(mine))} share; "
                + (
                    "let the loops over threads stand inside the loop around all its uses"
                    if buffer.scope is Scope.SHARED
                    else "make it a shared buffer"
                )
            )

    def _relaxed_inside(self, buffer: Buffer, use: Use, depth: int) -> Region:
        return relax_over(use.region, use.path[depth:], self.ranges, buffer)

    def _extent(self, buffer: Buffer, axis: int, part: Range) -> Expression:
        extent = simplify(part.extent, self.ranges)
        if not self._on_gpu or extent.constant_value is not None:
            return extent
        _, greatest = interval(extent, self.ranges)
        if greatest is None:
            raise DiagnosticError(
                f"expected a constant extent of axis {axis} of the {buffer.scope} buffer "
                f"'{buffer.name}', got {extent}; use it below a loop whose iterations need a "
                "constant part"
            )
        return constant(greatest)


def _that_move(region: Region, loops: Sequence[Loop]) -> list[Loop]:
    """Returns the loops that a region depends on, through the extents of others as well."""
    names = {n for part in region.ranges for n in part.start.symbols() | part.extent.symbols()}
    kept: list[Loop] = []
    for loop in reversed(loops):
        if loop.name in names:
            kept.insert(0, loop)
            names |= loop.extent.symbols()
    return kept


def _common(uses: Sequence[Use]) -> tuple[Loop, ...]:
    first = uses[0].path
    depth = len(first)
    for use in uses[1:]:
        depth = min(depth, len(use.path))
        while depth and first[depth - 1] is not use.path[depth - 1]:
            depth -= 1
    return first[:depth]


def _with_strides(buffer: Buffer) -> Buffer:
    """Returns a buffer whose padding is written as strides."""
    if not buffer.padding:
        return buffer
    padding = {axis: (factor, offset) for axis, factor, offset in buffer.padding}
    strides: list[Expression] = []
    step = constant(1)
    for axis in reversed(range(len(buffer.shape))):
        if axis in padding:
            factor, offset = padding[axis]
            step = step + (offset - step) % factor
        strides.insert(0, step)
        step = step * buffer.shape[axis]
    return replace(buffer, strides=tuple(strides), padding=())
