"""Keeps of a buffer that is made in overlapping windows the newest one only, in a circle."""

from dataclasses import dataclass, replace
from typing import ClassVar

from ...dialects.nest.bindings import BindingMap
from ...dialects.nest.coverage import reader_not_covered
from ...dialects.nest.program import (
    Axis,
    AxisKind,
    Block,
    Bound,
    Buffer,
    Guard,
    Loop,
    LoopKind,
    Program,
    Region,
    Scope,
    Statement,
    Store,
    blocks_of,
    walk,
)
from ...dialects.nest.regions import bind_axes, bounds_over
from ...dialects.nest.rewriting import Rewriter
from ...dialects.nest.scalars import Load, Scalar, Subscript, Variable
from ...dialects.nest.sites import Site, site_of
from ...dialects.sym import (
    Expression,
    Ranges,
    constant,
    minimum,
    mod,
    prove_le,
    simplify,
    symbol,
)
from ...dialects.sym.expression import Symbol
from .accesses import are_distinct
from .inlining import retouched
from .legality import own_scopes
from .moving import Moving
from .primitive import place_of
from .stages import Stage, Stages, calls_on
from .storage import Storage

ONE = constant(1)


@dataclass(frozen=True)
class _Window:
    """
    What one iteration of a loop makes along an axis of a buffer.

    These are `size` elements from `low` on, `step` beyond those of the iteration before. `axis` is
    the axis of the producer that counts them.
    """

    loop: Loop
    position: int
    axis: Axis
    low: Expression
    size: int
    step: int


@dataclass(frozen=True)
class RollingBuffer(Moving, Storage):
    """
    Keeps of a buffer the newest window in a circle; what the window before has is not made again.

        T: f32[n + 2]                          T: f32[3]
        for o in 0..n                          for o in 0..n
            for a in 0..3                          for a in 0..3
                @T: T[o + a] = f(o + a)     -->        @T where 2*min(o, 1) < a + 1:
            for r in 0..3                                  T[(o + a) mod 3] = f(o + a)
                @Y: Y[o] += T[o + r] * W[r]        for r in 0..3
                                                       @Y: Y[o] += T[(o + r) mod 3] * W[r]

    `loop` is the one along which windows run. Left out, it is the innermost around all blocks that
    touch the buffer whose iterations make overlapping windows of an axis.

    Legal if

    - `output`, `layout`, `intrinsic`: the buffer is the program's own, without strides, swizzle or
      padding, and no intrinsic works on it;
    - `writes`, `sole-writer`, `order`: the block writes it, no other does, and all blocks that
      read it stand behind, in the same scope;
    - `complete-or-reduction`, `predicate`, `reduced`: the block is complete or a reduction, runs
      for all of its points, and is reduced in each iteration of the loops around the readers;
    - `distinct`: its points store one element each, which its spatial axes tell;
    - `window`: along one axis each iteration makes a window without gaps, of a constant number of
      elements, a constant number of elements beyond the one before, overlapping it; other axes of
      the buffer are indexed the same in all iterations, and readers read in the window only;
    - `guard`: no condition is between that loop and the block;
    - `races`: no iterations that run at the same time share the buffer: concurrent loops outside
      have memory of their own for its scope, none around all blocks is inside, and no thread keeps
      elements for another one;
    - `inputs-stable`: what the block reads stays the same in that loop, as far as it is made;
    - `covers`: the first iteration provably makes all that the circle holds.

    Source: rolling buffers of TVM's TE and TensorIR schedules.
    """

    name: ClassVar[str] = "rolling_buffer"

    block: str
    buffer: str
    loop: str = ""

    def apply(self, program: Program) -> Program:
        """Returns the program with the circular buffer."""
        block, buffer = self.block_of(program, self.block), self._plain_buffer(program)
        if self.loop:
            self.loop_of(program, self.loop)
        stages = Stages(program, self.block)
        stage = stages.stage_of(self, self.block)
        readers = self._readers(program, stages, stage)
        self.check_recomputable(stages, stage)
        common = _loops_around_all(stage, readers)
        self.check_reduced_below(stage, {loop.name for loop in common})
        window = self._window(program, stage, readers, common)
        self._check_guards(stage, window)
        self._check_races(stages, stage, common, window, buffer)
        self._check_inputs(stages, stage, window)
        rolled = self._rolled(program, block, buffer, window)
        if (reader := reader_not_covered(rolled, self.buffer)) is not None:
            raise self.refused(
                "covers",
                f"expected the first iteration of '{window.loop.name}' to make all that "
                f"'{reader}' may read of the circle; it is not proved",
                place_of(program.places[self.block]),
                "give the symbols larger least values, or pad what is read before its first index",
            )
        return rolled

    def _plain_buffer(self, program: Program) -> Buffer:
        buffer = self.own_buffer(program, self.buffer)
        if buffer.strides is not None or buffer.swizzle or buffer.padding:
            raise self.refused(
                "layout",
                "expected a buffer without strides, swizzle or padding",
                self.buffer,
                "roll the buffer before its layout is changed",
            )
        for other in blocks_of(program.body):
            if calls_on(other, self.buffer):
                raise self.refused(
                    "intrinsic",
                    f"expected no intrinsic on '{self.buffer}'",
                    f"@{other.name}",
                    "roll the buffer before the block is tensorised",
                )
        return buffer

    def _readers(self, program: Program, stages: Stages, stage: Stage) -> list[Stage]:
        place = place_of(program.places[self.block])
        if self.buffer not in stage.writes:
            raise self.refused("writes", f"expected a block that writes '{self.buffer}'", place)
        for other in stages.writers(self.buffer):
            if other is not stage:
                raise self.refused(
                    "sole-writer",
                    f"expected one block to write '{self.buffer}', got '{other.name}' too",
                    place,
                    "roll the buffer before its reduction is decomposed",
                )
        readers = [other for other in stages.readers(self.buffer) if other is not stage]
        early = [other.name for other in readers if other.position < stage.position]
        if early or not readers or stages.is_used_outside(self.buffer):
            got = f"'{early[0]}' before it" if early else "none, or some in another scope"
            raise self.refused(
                "order",
                f"expected readers of '{self.buffer}' behind '{self.block}', got {got}",
                place,
            )
        return readers

    def _window(
        self, program: Program, stage: Stage, readers: list[Stage], common: tuple[Loop, ...]
    ) -> _Window:
        site, _ = site_of(program, self.block)
        reason = "no serial loop is around all blocks that touch it"
        for depth, loop in reversed(list(enumerate(common))):
            is_serial = loop.kind in (LoopKind.SERIAL, LoopKind.UNROLLED)
            if not is_serial or self.loop not in ("", loop.name):
                continue
            for position, axis in self._counted(program, stage):
                still = frozenset(outer.name for outer in common[: depth + 1])
                found = _window_of(site, loop, still, position, axis)
                if isinstance(found, str):
                    reason = f"in '{loop.name}' {found}"
                    continue
                if reader := self._reads_outside(program, readers, found, still):
                    reason = f"'{reader}' is not proved to read in the windows of '{loop.name}'"
                    continue
                return found
        raise self.refused(
            "window",
            f"expected a loop whose iterations make overlapping windows of '{self.buffer}'; "
            f"{reason}",
            place_of(program.places[self.block]),
            "move the block under a loop of its consumer with compute_at",
        )

    def _counted(self, program: Program, stage: Stage) -> list[tuple[int, Axis]]:
        """Returns the positions of the indices that are an axis of the block and a number."""
        block = stage.block
        stores = [part for part in walk((*block.init, *block.body)) if isinstance(part, Store)]
        indices = {store.indices for store in stores if store.buffer == self.buffer}
        spatial = block.axes_of(AxisKind.SPATIAL)
        first = next(iter(indices), ())
        if (
            len(indices) != 1
            or any(isinstance(part, Block) for part in walk((*block.init, *block.body)))
            or not are_distinct(first, spatial, program.ranges)
        ):
            raise self.refused(
                "distinct",
                "expected each point to store one element, which the spatial axes tell",
                place_of(program.places[self.block]),
            )
        return [
            (position, axis)
            for position, index in enumerate(first)
            for axis in spatial
            if isinstance(index, Expression)
            and (index - symbol(axis.name)).constant_value is not None
        ]

    def _reads_outside(
        self, program: Program, readers: list[Stage], window: _Window, still: frozenset[str]
    ) -> str:
        """Returns a block that is not proved to read in the window alone, or an empty text."""
        offset = self._offset(program, window)
        for reader in readers:
            inner = {loop.name: loop.extent for loop in reader.loops if loop.name not in still}
            ranges = program.ranges
            for loop in reader.loops:
                if loop.name in still:
                    ranges = ranges.also(loop.name, 0, loop.extent - 1)
            for region in reader.block.reads:
                if region.buffer == self.buffer and not _is_within(
                    bind_axes(region, reader.block), window, offset, inner, ranges
                ):
                    return reader.name
        return ""

    def _offset(self, program: Program, window: _Window) -> Expression:
        """Returns how far the index of the buffer is beyond the axis of the producer."""
        for part in walk((self.block_of(program, self.block),)):
            if isinstance(part, Store) and part.buffer == self.buffer:
                index = part.indices[window.position]
                if isinstance(index, Expression):
                    return index - symbol(window.axis.name)
        raise AssertionError("a block that writes a buffer stores to it")

    def _check_guards(self, stage: Stage, window: _Window) -> None:
        depth = next(n for n, part in enumerate(stage.around) if part is window.loop)
        if any(isinstance(part, Guard) for part in stage.around[depth:]):
            raise self.refused(
                "guard",
                f"expected no condition between '{window.loop.name}' and the block",
                f"@{self.block}",
            )

    def _check_races(
        self,
        stages: Stages,
        stage: Stage,
        common: tuple[Loop, ...],
        window: _Window,
        buffer: Buffer,
    ) -> None:
        depth = next(n for n, loop in enumerate(common) if loop is window.loop)
        path = stages.program.places[window.loop.name]
        outer = [part for part in path[:-1] if isinstance(part, Loop)]
        shared = [
            loop
            for loop in outer
            if loop.kind.is_concurrent and buffer.scope not in own_scopes(loop.kind)
        ]
        shared += [loop for loop in common[depth + 1 :] if loop.kind.is_concurrent]
        if buffer.scope in (Scope.LOCAL, Scope.FRAGMENT):
            names = {loop.name for loop in outer}
            shared += [
                loop
                for other in stages
                if self.buffer in other.reads | other.writes
                for loop in other.loops
                if loop.name not in names and (loop.kind.is_bound or loop.kind is LoopKind.PARALLEL)
            ]
        if shared:
            raise self.refused(
                "races",
                f"expected iterations of '{shared[0].name}', which is {shared[0].kind}, not to "
                f"share '{self.buffer}', which is {buffer.scope}",
                f"@{self.block}",
                "roll the buffer along a loop further inside, or change its scope",
            )

    def _check_inputs(self, stages: Stages, stage: Stage, window: _Window) -> None:
        """Refuses inputs that may differ when an element is made again."""
        own = {buffer.name for buffer in stages.program.allocations}
        for buffer in sorted(stage.reads - stage.writes):
            for writer in stages.writers(buffer):
                if not writer.is_under(window.loop):
                    continue
                if writer.position > stage.position or buffer not in own:
                    raise self.unstable(buffer, stage, writer, "which writes it in the same loop")
                if reason := stages.not_recomputable(writer):
                    raise self.unstable(buffer, stage, writer, f"of which {reason}")
                self.check_reduced(writer, stage)
                self._check_inputs(stages, writer, window)

    def _rolled(self, program: Program, block: Block, buffer: Buffer, window: _Window) -> Program:
        touching = [
            other.name
            for other in blocks_of(program.body)
            if any(region.buffer == self.buffer for region in (*other.reads, *other.writes))
        ]
        shape = (
            *buffer.shape[: window.position],
            constant(window.size),
            *buffer.shape[window.position + 1 :],
        )
        program = program.replace(self.block, _new_only(program, block, window))
        circle = _Circle(self.buffer, window.position, window.size)
        body = Rewriter(of_leaf=circle.load, of_store=circle.store).body(program.body)
        program = self.with_buffer(replace(program, body=body), replace(buffer, shape=shape))
        for name in reversed(touching):
            program = program.replace(name, retouched(program, self.block_of(program, name)))
        return program


@dataclass(frozen=True)
class _Circle:
    """Takes one index of a buffer modulo the number of elements that are kept."""

    buffer: str
    position: int
    size: int

    def indices(self, indices: tuple[Subscript, ...]) -> tuple[Subscript, ...]:
        index = indices[self.position]
        if not isinstance(index, Expression):
            raise AssertionError("an index in a window does not depend on data")
        place = self.position
        return (*indices[:place], mod(index, self.size), *indices[place + 1 :])

    def load(self, leaf: Load | Variable) -> Scalar | None:
        if not isinstance(leaf, Load) or leaf.buffer != self.buffer:
            return None
        return replace(leaf, indices=self.indices(leaf.indices))

    def store(self, store: Store) -> Statement:
        if store.buffer != self.buffer:
            return store
        return replace(store, indices=self.indices(store.indices))


def _loops_around_all(stage: Stage, readers: list[Stage]) -> tuple[Loop, ...]:
    depth = min(len(stage.common(reader)) for reader in readers)
    return tuple(part for part in stage.around[:depth] if isinstance(part, Loop))


def _window_of(
    site: Site, loop: Loop, still: frozenset[str], position: int, axis: Axis
) -> _Window | str:
    """Returns the window that an iteration of a loop makes, or why it makes none."""
    if not isinstance(site.map, BindingMap):
        return f"the bindings are not known: {site.map}"
    for other in site.block.axes:
        if other is not axis and loop.name in other.binding.symbols():
            return f"'{other.name}' moves too"
    for inner in site.loops:
        if loop.name in inner.extent.symbols():
            return f"the number of iterations of '{inner.name}' moves too"
    still = still.union(outer.name for outer in site.outer)
    size = ONE
    for place in site.map.axis(axis.name).places:
        if place.digit.loops <= still:
            continue
        if place.digit.loops & still or not prove_le(place.scale, size, site.ranges):
            return f"the window has gaps along '{axis.name}'"
        size = size + place.scale * (place.digit.extent - 1)
    inside = [other.name for other in site.loops if other.name not in still]
    low = axis.binding.substitute(dict.fromkeys(inside, 0))
    step, rest = low.split(Symbol(loop.name))
    count, by = simplify(size, site.ranges).constant_value, step.constant_value
    if count is None or by is None or loop.name in rest.symbols():
        return f"'{axis.name}' takes {size} values from {low} on, which are no constant numbers"
    if not 0 < by < count:
        return f"windows of {count} elements that move by {by} do not overlap"
    return _Window(loop, position, axis, low, count, by)


def _is_within(
    region: Region,
    window: _Window,
    offset: Expression,
    inner: dict[str, Expression],
    ranges: Ranges,
) -> bool:
    part = region.ranges[window.position]
    first, last = bounds_over(part.start, inner), bounds_over(part.start + part.extent, inner)
    if first is None or last is None:
        return False
    low = window.low + offset
    return bool(prove_le(low, first[0], ranges) and prove_le(last[1], low + window.size, ranges))


def _new_only(program: Program, block: Block, window: _Window) -> Block:
    """Returns the producer without the elements that the iteration before has made."""
    old = window.size - window.step
    place = window.axis.binding - window.low
    bound = Bound(minimum(window.loop.variable, 1) * old, place + 1)
    return replace(block, predicate=(*block.predicate, bound))
