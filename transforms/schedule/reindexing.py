"""Lets a block index a buffer by its own axes: copies in the block's order, or by an index map."""

from dataclasses import dataclass, replace
from typing import ClassVar

from ...dialects.nest.index_map import IndexMap, IndexMapError
from ...dialects.nest.program import (
    Axis,
    Block,
    Buffer,
    Loop,
    Program,
    Range,
    Region,
    Scope,
    Statement,
    Store,
)
from ...dialects.nest.regions import ONE
from ...dialects.nest.rewriting import Rewriter
from ...dialects.nest.scalars import Load, Subscript
from ...dialects.sym import Expression, symbol
from .accesses import indices_in
from .blocks_around import with_blocks_around
from .inlining import retouched
from .legality import check_written
from .moving import Moving
from .stages import Stage, Stages, calls_on


@dataclass(frozen=True)
class _Reindexing(Moving):
    """What copies over the axes of a block have in common."""

    block: str
    buffer: str

    def copied(
        self,
        program: Program,
        index_map: IndexMap | None,
        cache: str,
        scope: Scope,
        names: tuple[str, ...],
        writes: bool,
    ) -> Program:
        """Returns the program with the block on the copy, and the copy beside its loops."""
        block = self.block_of(program, self.block)
        source = self.buffer_of(program, self.buffer)
        stages = Stages(program, self.block)
        stage = stages.stage_of(self, self.block)
        indices = self._indices(program, block, stage, writes)
        used = frozenset(name for index in indices for name in index.symbols())
        axes = tuple(axis for axis in block.axes if axis.name in used)
        if index_map is None:
            index_map = IndexMap(
                tuple(axis.name for axis in axes), tuple(symbol(axis.name) for axis in axes)
            )
        else:
            index_map = self._over_axes(block, index_map)
        point, shape = self._checked(program, block, axes, index_map)
        target = Buffer(cache, shape, source.dtype, scope)
        self._check_stable(stages, stage, writes)
        nest = self._nest(program, axes, source, indices, target, point, names, writes)
        outer = stage.outermost
        if not isinstance(outer, Loop | Block):
            raise self.refused("guard", "expected loops and blocks around", f"@{self.block}")
        program = replace(program, allocations=(*program.allocations, target))
        program = program.replace(self.block, self._redirected(block, cache, point))
        program = program.replace(
            self.block, retouched(program, self.block_of(program, self.block))
        )
        around = program.places[outer.name][-1]
        both = (around, nest) if writes else (nest, around)
        program = program.replace(outer.name, *both)
        program = with_blocks_around(self, stages.program, program)
        if writes:
            check_written(self, program, (cache,), f"@{self.block}")
        return program

    def _redirected(self, block: Block, cache: str, point: tuple[Expression, ...]) -> Statement:
        """Returns the block with the point of a copy in the place of each access."""
        return Rewriter(
            of_leaf=lambda leaf: (
                Load(cache, point, leaf.dtype)
                if isinstance(leaf, Load) and leaf.buffer == self.buffer
                else None
            ),
            of_store=lambda store: (
                Store(cache, point, store.value) if store.buffer == self.buffer else store
            ),
        ).statement(block)

    def _indices(
        self, program: Program, block: Block, stage: Stage, writes: bool
    ) -> tuple[Expression, ...]:
        """Returns the indices of all accesses of the block to the buffer, or refuses."""
        place = f"@{self.block}"
        kind = stage.writes if writes else stage.reads
        if self.buffer not in kind:
            verb = "writes" if writes else "reads"
            raise self.refused(verb, f"expected a block that {verb} '{self.buffer}'", place)
        if not writes and self.buffer in stage.writes:
            raise self.refused(
                "reads-own-writes", f"expected a block that only reads '{self.buffer}'", place
            )
        if writes and self.buffer in stage.reads and not block.init:
            raise self.refused(
                "reads-own-writes",
                f"expected a block that does not read what '{self.buffer}' held before",
                place,
                "use cache_inplace",
            )
        self.check_all_points(stage, program.ranges)
        if calls_on(block, self.buffer):
            raise self.refused("intrinsic", f"expected no intrinsic on '{self.buffer}'", place)
        found: set[tuple[Subscript, ...]] = indices_in(block, self.buffer)
        names = {axis.name for axis in block.axes} | frozenset(program.ranges)
        for indices in found if len(found) == 1 else ():
            known = tuple(index for index in indices if isinstance(index, Expression))
            if len(known) == len(indices) and all(i.symbols() <= names for i in known):
                return known
        raise self.refused(
            "one-index",
            f"expected the block to access '{self.buffer}' at one place over its axes, got "
            f"{len(found)} places or others",
            place,
        )

    def _over_axes(self, block: Block, index_map: IndexMap) -> IndexMap:
        """Returns the map with the axes as inputs, in their order."""
        names = tuple(axis.name for axis in block.axes)
        if len(index_map.inputs) != len(names):
            raise self.refused(
                "index-map",
                f"expected a map of {len(names)} axes, got one of {len(index_map.inputs)}",
                f"@{self.block}",
            )
        return IndexMap(names, index_map(*map(symbol, names)))

    def _checked(
        self, program: Program, block: Block, axes: tuple[Axis, ...], index_map: IndexMap
    ) -> tuple[tuple[Expression, ...], tuple[Expression, ...]]:
        """Returns the indices and the shape of the copy, or refuses a map that merges points."""
        named = frozenset(name for output in index_map.outputs for name in output.symbols())
        extents = {axis.name: axis.extent for axis in block.axes}
        inputs = tuple(name for name in index_map.inputs if name in named)
        needed = {axis.name for axis in axes if axis.extent != 1}
        if not named <= {axis.name for axis in axes} or not needed <= named:
            raise self.refused(
                "index-map",
                f"expected a map of the axes that index '{self.buffer}', "
                f"{', '.join(axis.name for axis in axes)}, got {index_map}",
                f"@{self.block}",
            )
        over = IndexMap(inputs, index_map.outputs)
        try:
            over.inverse([extents[name] for name in inputs], program.ranges)
            shape = over.shape([extents[name] for name in inputs], program.ranges)
        except IndexMapError as error:
            raise self.refused("index-map", str(error), f"@{self.block}") from None
        return over.outputs, shape

    def _check_stable(self, stages: Stages, stage: Stage, writes: bool) -> None:
        """Refuses if another block gets between the block and the copy beside its loops."""
        for other in stages:
            touches = other.writes if not writes else other.reads | other.writes
            if other is stage or self.buffer not in touches:
                continue
            if writes and self.buffer in other.writes:
                raise self.refused(
                    "sole-writer", f"expected one block to write '{self.buffer}'", f"@{other.name}"
                )
            if other.outermost is stage.outermost:
                raise self.refused(
                    "shares-loops",
                    f"expected no other block on '{self.buffer}' in the loops of '{self.block}', "
                    f"got '{other.name}'",
                    f"@{other.name}",
                    "reindex before they are moved together",
                )

    def _nest(
        self,
        program: Program,
        axes: tuple[Axis, ...],
        source: Buffer,
        indices: tuple[Expression, ...],
        target: Buffer,
        point: tuple[Expression, ...],
        names: tuple[str, ...],
        writes: bool,
    ) -> Statement:
        """Returns loops over the axes around the block that copies."""
        count = len(axes)
        loops, fresh = names[1 : count + 1], names[count + 1 :]
        renamed = {axis.name: symbol(name) for axis, name in zip(axes, fresh, strict=True)}
        here = tuple(index.substitute(renamed) for index in indices)
        there = tuple(index.substitute(renamed) for index in point)
        one = Region(source.name, tuple(Range(index, ONE) for index in here))
        two = Region(target.name, tuple(Range(index, ONE) for index in there))
        store = (
            Store(source.name, here, Load(target.name, there, source.dtype))
            if writes
            else Store(target.name, there, Load(source.name, here, source.dtype))
        )
        reads, written = ((two,), (one,)) if writes else ((one,), (two,))
        nest: Statement = Block(
            names[0],
            tuple(
                Axis(name, axis.extent, symbol(loop))
                for name, axis, loop in zip(fresh, axes, loops, strict=True)
            ),
            reads,
            written,
            (store,),
        )
        for axis, loop in reversed(list(zip(axes, loops, strict=True))):
            nest = Loop(loop, axis.extent, (nest,))
        return nest

    def copy_names(self, program: Program, given: tuple[str, ...], cache: str) -> tuple[str, ...]:
        """Returns the names of the copying block, its loops and its axes."""
        block = self.block_of(program, self.block)
        used = {
            name
            for indices in indices_in(block, self.buffer)
            for index in indices
            if isinstance(index, Expression)
            for name in index.symbols()
        }
        numbers = range(sum(axis.name in used for axis in block.axes))
        defaults = (cache, *(f"ax{n}" for n in numbers), *(f"vax{n}" for n in numbers))
        return self.new_names(program, given, defaults)


@dataclass(frozen=True)
class Reindex(_Reindexing):
    """
    Copies a buffer so that the block indexes it by the axes it depends on, in their order.

        @Y reads X[vh + vr, vc]    -->    for ..: @X_reindex: X_reindex[h, c, r] = X[h + r, c]
                                          @Y reads X_reindex[vh, vc, vr]

    A buffer that is written is copied back behind the loops of the block.

    Legal if the block reads, or writes, the buffer (`reads`, `writes`) at one place (`one-index`)
    and by no intrinsic (`intrinsic`), and runs for all of its points (`predicate`); for a read, the
    block does not write it, for a write, it reads only what it wrote, as a reduction does
    (`reads-own-writes`), and is the only writer (`sole-writer`); and no other block on
    the buffer shares its outermost loop (`shares-loops`).
    """

    name: ClassVar[str] = "reindex"

    cache: str = ""
    names: tuple[str, ...] = ()

    def apply(self, program: Program) -> Program:
        """Returns the program with the copy."""
        block = self.block_of(program, self.block)
        self.buffer_of(program, self.buffer)
        writes = any(region.buffer == self.buffer for region in block.writes)
        return self.copied(
            program,
            None,
            self.result_buffer(program),
            Scope.GLOBAL,
            self.result_names(program),
            writes,
        )

    def result_buffer(self, program: Program) -> str:
        """Returns the name of the buffer that the step makes."""
        return program.fresh_buffer(self.cache or f"{self.buffer}_reindex")

    def result_names(self, program: Program) -> tuple[str, ...]:
        """Returns the names of the copying block, its loops and its axes."""
        return self.copy_names(program, self.names, self.cache or f"{self.buffer}_reindex")


@dataclass(frozen=True)
class _ReindexCache(_Reindexing):
    """A copy in another layout, that an index map of the block's axes gives."""

    scope: Scope
    index_map: IndexMap
    cache: str = ""
    names: tuple[str, ...] = ()

    def result_buffer(self, program: Program) -> str:
        """Returns the name of the buffer that the step makes."""
        return program.fresh_buffer(self.cache or f"{self.buffer}_{self.scope}")

    def result_names(self, program: Program) -> tuple[str, ...]:
        """Returns the names of the copying block, its loops and its axes."""
        return self.copy_names(program, self.names, self.cache or f"{self.buffer}_{self.scope}")

    def cached(self, program: Program, writes: bool) -> Program:
        """Returns the program with the copy."""
        self.buffer_of(program, self.buffer)
        if self.scope not in set(Scope):
            known = ", ".join(Scope)
            raise self.refused("scope", f"expected a scope among {known}, got '{self.scope}'")
        return self.copied(
            program,
            self.index_map,
            self.result_buffer(program),
            Scope(self.scope),
            self.result_names(program),
            writes,
        )


@dataclass(frozen=True)
class ReindexCacheRead(_ReindexCache):
    """
    Copies a buffer before a block into the layout that an index map of the block's axes gives.

        @C reads A[vi, vk]    -->    @A_shared: A_shared[k, i] = A[i, k]
                                     @C reads A_shared[vk, vi]      (map (i, j, k) -> (k, i))

    Legal as `Reindex` of a read, and if the map names the axes that index the buffer and takes
    different points to different indices (`index-map`).
    """

    name: ClassVar[str] = "reindex_cache_read"

    def apply(self, program: Program) -> Program:
        """Returns the program with the copy."""
        return self.cached(program, False)


@dataclass(frozen=True)
class ReindexCacheWrite(_ReindexCache):
    """
    Lets a block write a copy in the layout that an index map of its axes gives, copied back behind.

        @C writes C[vi, vj]    -->    @C writes C_local[vj, vi]     (map (i, j, k) -> (j, i))
                                      @C_local: C[i, j] = C_local[j, i]

    Legal as `Reindex` of a write, and if the map names the axes that index the buffer and takes
    different points to different indices (`index-map`).
    """

    name: ClassVar[str] = "reindex_cache_write"

    def apply(self, program: Program) -> Program:
        """Returns the program with the copy."""
        return self.cached(program, True)
