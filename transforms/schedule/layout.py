"""Rearranges a buffer, or the axes of a block, by an index map."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from ...dialects.nest.index_map import IndexMap, IndexMapError
from ...dialects.nest.program import (
    Axis,
    AxisKind,
    Block,
    Bound,
    Buffer,
    Loop,
    LoopKind,
    Program,
    Range,
    Region,
    Statement,
    Store,
    blocks_of,
)
from ...dialects.nest.regions import ONE
from ...dialects.nest.rewriting import Rewriter, substitute
from ...dialects.nest.scalars import Constant, Load, Scalar, Subscript, Variable, is_float
from ...dialects.sym import Expression, constant, symbol
from .blocks_around import with_blocks_around
from .inlining import retouched
from .legality import check_any_order, check_written
from .moving import Moving
from .stages import Stage, Stages, calls_on


@dataclass(frozen=True)
class TransformLayout(Moving):
    """
    Rearranges a buffer by an index map; every access goes through the map.

        T: f32[n, 64]    -->    T: f32[(n + 15) floordiv 16, 64, 16]
        T[i, j]                 T[i floordiv 16, j, i mod 16]     ((i, j) -> (i//16, j, i%16))

    Where the map leaves elements out, they are never read. With a `pad_value` they hold it: a
    block fills the buffer before the first block that writes it.

    Legal if the buffer is the program's own (`output`) and the block touches it (`accesses`); the
    map has as many inputs as the buffer has axes and takes different indices to different ones
    (`index-map`); indices do not depend on data (`gather`) and no intrinsic works on the buffer
    (`intrinsic`); the buffer has no strides, swizzle or padding yet (`layout`), and what is read of
    it is provably written before, after the step too (`written-before`).
    """

    name: ClassVar[str] = "transform_layout"

    block: str
    buffer: str
    index_map: IndexMap
    pad_value: int | float | None = None
    names: tuple[str, ...] = ()

    def apply(self, program: Program) -> Program:
        """Returns the program with the buffer rearranged."""
        before, buffer = program, self._checked(program)
        shape = self._shape(program, buffer)
        changed = replace(buffer, shape=shape)
        touching = [
            block.name
            for block in blocks_of(program.body)
            if any(region.buffer == self.buffer for region in (*block.reads, *block.writes))
        ]
        filled = self._fill(program, changed)
        rewriter = Rewriter(of_leaf=self._load, of_store=self._store)
        allocations = tuple(changed if old is buffer else old for old in program.allocations)
        program = replace(program, allocations=allocations, body=rewriter.body(program.body))
        for name in reversed(touching):
            program = program.replace(name, retouched(program, self.block_of(program, name)))
        check_written(self, program, (self.buffer,), f"@{self.block}")
        if filled is not None:
            # Before all writers, wherever they are: what is filled later would be lost.
            writer = next(
                block.name
                for block in blocks_of(program.body)
                if any(region.buffer == self.buffer for region in block.writes)
            )
            first = program.places[writer][0]
            if not isinstance(first, Loop | Block):
                raise self.refused("guard", "expected loops and blocks around", f"@{self.block}")
            program = program.replace(first.name, filled, first)
        return with_blocks_around(self, before, program)

    def result_names(self, program: Program) -> tuple[str, ...]:
        """Returns the names of the filling block, its loops and its axes, if there is one."""
        if self.pad_value is None:
            return ()
        numbers = range(len(self.index_map.outputs))
        defaults = (
            f"{self.buffer}_fill",
            *(f"ax{n}" for n in numbers),
            *(f"vax{n}" for n in numbers),
        )
        return self.new_names(program, self.names, defaults)

    def _checked(self, program: Program) -> Buffer:
        block = self.block_of(program, self.block)
        buffer = self.buffer_of(program, self.buffer)
        place = f"@{self.block}"
        if buffer not in program.allocations:
            raise self.refused(
                "output",
                f"expected a buffer of the program's own, got the parameter '{self.buffer}'",
                place,
                "cache it by cache_read, cache_write or reindex",
            )
        if all(region.buffer != self.buffer for region in (*block.reads, *block.writes)):
            raise self.refused("accesses", f"expected a block that touches '{self.buffer}'", place)
        if buffer.strides is not None or buffer.swizzle or buffer.padding:
            raise self.refused(
                "layout",
                "expected a buffer without strides, swizzle or padding",
                self.buffer,
                "transform the layout before it is aligned",
            )
        for other in blocks_of(program.body):
            if calls_on(other, self.buffer):
                raise self.refused(
                    "intrinsic",
                    f"expected no intrinsic on '{self.buffer}'",
                    f"@{other.name}",
                    "transform the layout before the block is tensorised",
                )
        return buffer

    def _shape(self, program: Program, buffer: Buffer) -> tuple[Expression, ...]:
        if len(self.index_map.inputs) != len(buffer.shape):
            raise self.refused(
                "index-map",
                f"expected a map of {len(buffer.shape)} indices, got one of "
                f"{len(self.index_map.inputs)}",
                self.buffer,
            )
        try:
            self.index_map.inverse(buffer.shape, program.ranges)
            return self.index_map.shape(buffer.shape, program.ranges)
        except IndexMapError as error:
            raise self.refused("index-map", str(error), self.buffer) from None

    def _indices(self, indices: tuple[Subscript, ...]) -> tuple[Subscript, ...]:
        known = [index for index in indices if isinstance(index, Expression)]
        if len(known) < len(indices):
            raise self.refused(
                "gather", f"expected indices of '{self.buffer}' that do not depend on data"
            )
        return self.index_map(*known)

    def _load(self, leaf: Load | Variable) -> Scalar | None:
        if not isinstance(leaf, Load) or leaf.buffer != self.buffer:
            return None
        return replace(leaf, indices=self._indices(leaf.indices))

    def _store(self, store: Store) -> Store:
        if store.buffer != self.buffer:
            return store
        return replace(store, indices=self._indices(store.indices))

    def _fill(self, program: Program, buffer: Buffer) -> Statement | None:
        if self.pad_value is None:
            return None
        rank, names = len(buffer.shape), self.result_names(program)
        number = float(self.pad_value) if is_float(buffer.dtype) else int(self.pad_value)
        if number != self.pad_value:
            raise self.refused(
                "pad-value", f"expected a number of {buffer.dtype}, got {self.pad_value}"
            )
        loops, axes = names[1 : rank + 1], names[rank + 1 :]
        point = tuple(map(symbol, axes))
        nest: Statement = Block(
            names[0],
            tuple(
                Axis(axis, extent, symbol(loop))
                for axis, extent, loop in zip(axes, buffer.shape, loops, strict=True)
            ),
            (),
            (Region(buffer.name, tuple(Range(index, ONE) for index in point)),),
            (Store(buffer.name, point, Constant(number, buffer.dtype)),),
        )
        for loop, extent in reversed(list(zip(loops, buffer.shape, strict=True))):
            nest = Loop(loop, extent, (nest,))
        return nest


@dataclass(frozen=True)
class TransformBlockLayout(Moving):
    """
    Gives a block other axes, which an index map makes of its own, and a loop for each.

        for i: for j: @B vi, vj    -->    for b0: for b1: for b2: @B v0, v1, v2
                                          with vi = 16*v0 + v2, vj = v1
                                          ((i, j) -> (i floordiv 16, j, i mod 16))

    Where the map leaves points out, the block is guarded.

    Legal if the block is complete or a reduction (`complete-or-reduction`) and runs for all of its
    points (`predicate`), in any order of its reduce axes (`combiner`), which are 0 in their first
    iterations (`first`); the map has as many inputs as the block has axes, takes different points
    to different ones (`index-map`) and makes each output of axes of one kind (`kinds`); no other
    block is in the loops that its axes run over (`own-loops`), which are serial (`serial`); what is
    read of the program's own buffers is provably written before, after the step too
    (`written-before`).
    """

    name: ClassVar[str] = "transform_block_layout"

    block: str
    index_map: IndexMap
    names: tuple[str, ...] = ()

    def apply(self, program: Program) -> Program:
        """Returns the program with the axes of the block changed."""
        block = self.block_of(program, self.block)
        stages = Stages(program, self.block)
        stage = stages.stage_of(self, self.block)
        self.check_recomputable(stages, stage)
        if block.init:
            check_any_order(self, program, block)
        program = program.replace(self._own_loops(stages, stage), self._nest(program, block))
        moved = retouched(program, self.block_of(program, self.block))
        program = program.replace(self.block, moved)
        program = with_blocks_around(self, stages.program, program)
        check_written(self, program, stage.reads | stage.writes, f"@{self.block}")
        return program

    def _nest(self, program: Program, block: Block) -> Statement:
        """Returns the block with the new axes, in a loop for each."""
        extents = [axis.extent for axis in block.axes]
        index_map = self._over_axes(block)
        try:
            inverse = index_map.inverse(extents, program.ranges)
            shape = index_map.shape(extents, program.ranges)
            sources = [
                {digit.source for digit in index_map.digits(output)} for output in index_map.outputs
            ]
        except IndexMapError as error:
            raise self.refused("index-map", str(error), f"@{self.block}") from None
        kinds = {axis.name: axis.kind for axis in block.axes}
        self._check_kinds(index_map, sources, kinds)
        names = self.result_names(program)
        loops, axes = names[: len(shape)], names[len(shape) :]
        values = dict(zip(kinds, inverse(*map(symbol, axes)), strict=True))
        onto = index_map.is_onto(extents, program.ranges)
        nest: Statement = replace(
            block,
            axes=tuple(
                Axis(name, extent, symbol(loop), kinds[min(named)])
                for name, extent, loop, named in zip(axes, shape, loops, sources, strict=True)
            ),
            predicate=() if onto else _inside(block, inverse, dict(zip(loops, shape, strict=True))),
            body=substitute(block.body, values),
            init=substitute(block.init, values),
        )
        for loop, extent in reversed(list(zip(loops, shape, strict=True))):
            nest = Loop(loop, extent, (nest,))
        return nest

    def _check_kinds(
        self, index_map: IndexMap, sources: Sequence[set[str]], kinds: Mapping[str, AxisKind]
    ) -> None:
        for output, named in zip(index_map.outputs, sources, strict=True):
            if len({kinds[name] for name in named}) != 1:
                raise self.refused(
                    "kinds",
                    f"expected outputs of axes of one kind, got '{output}'",
                    f"@{self.block}",
                )

    def result_names(self, program: Program) -> tuple[str, ...]:
        """Returns the names of the new loops, then those of the axes."""
        numbers = range(len(self.index_map.outputs))
        defaults = (*(f"b{n}" for n in numbers), *(f"vb{n}" for n in numbers))
        return self.new_names(program, self.names, defaults)

    def _over_axes(self, block: Block) -> IndexMap:
        names = tuple(axis.name for axis in block.axes)
        if len(self.index_map.inputs) != len(names):
            raise self.refused(
                "index-map",
                f"expected a map of {len(names)} axes, got one of {len(self.index_map.inputs)}",
                f"@{self.block}",
            )
        return IndexMap(names, self.index_map(*map(symbol, names)))

    def _own_loops(self, stages: Stages, stage: Stage) -> str:
        """Returns the name of the outermost statement that holds this block alone, or refuses."""
        outer, own = stage.name, set[str]()
        for part in reversed(stage.around):
            if not isinstance(part, Loop) or len(part.body) > 1:
                break
            outer = part.name
            own.add(part.name)
            if part.kind is not LoopKind.SERIAL:
                raise self.refused(
                    "serial",
                    f"expected serial loops, got '{part.name}', which is {part.kind}",
                    f"@{stage.name}",
                )
        shared = {loop.name for loop in stage.loops} - own
        for axis in stage.block.axes:
            if moving := axis.binding.symbols() & shared:
                raise self.refused(
                    "own-loops",
                    f"expected '{stage.name}' alone in the loops of its axes, got others in "
                    f"'{min(moving)}'",
                    f"@{stage.name}",
                )
        return outer


def _inside(block: Block, inverse: IndexMap, loops: Mapping[str, Expression]) -> tuple[Bound, ...]:
    """Returns the bounds that keep the old axes, made of the new loops, in their extents."""
    # What is always 0 is left out, as it is in regions.
    running = [constant(0) if n == ONE else symbol(loop) for loop, n in loops.items()]
    values = inverse(*running)
    return tuple(Bound(value, a.extent) for a, value in zip(block.axes, values, strict=True))
