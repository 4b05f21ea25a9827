"""Computes values where they are used: a producer in its consumers, a consumer in its producer."""

from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from ...dialects.nest.program import Block, Body, Bound, Program, Store
from ...dialects.nest.regions import bounds_over, touched
from ...dialects.nest.rewriting import Rewriter
from ...dialects.nest.scalars import Load, Scalar, Subscript, Variable
from ...dialects.sym import Expression, constant, prove_le
from .accesses import loads_in
from .blocks_around import with_blocks_around
from .domains import axis_ranges
from .legality import check_written
from .moving import Moving
from .stages import Stage, Stages, calls_on, without_stage


def single_store(body: Body) -> Store | None:
    """Returns the store that a body consists of, or None."""
    return body[0] if len(body) == 1 and isinstance(body[0], Store) else None


def axes_of_indices(indices: tuple[Subscript, ...], block: Block) -> dict[str, int] | None:
    """
    Returns the position of each axis among indices that are axes of a block, or None.

    Each axis stands once; one of extent 1 may be left out, or have 0 in its place.
    """
    positions: dict[str, int] = {}
    extents = {axis.name: axis.extent for axis in block.axes}
    for position, index in enumerate(indices):
        if not isinstance(index, Expression):
            return None
        name = index.symbol_name
        if name in extents and name not in positions:
            positions[name] = position
        elif index != 0:
            return None
    missing = [name for name in extents if name not in positions and extents[name] != 1]
    return None if missing else positions


def retouched(program: Program, block: Block) -> Block:
    """Returns a block with the regions that its statements touch."""
    ranges = program.ranges
    for part in program.places[block.name][:-1]:
        if isinstance(part, Block):
            ranges = axis_ranges(part.axes, ranges)
    ranges = axis_ranges(block.axes, ranges)
    reads, writes = touched((*block.init, *block.body), ranges, program.buffers)
    return replace(block, reads=reads, writes=writes)


def without_buffer(program: Program, name: str) -> Program:
    """Returns the program without a buffer of its own."""
    kept = tuple(buffer for buffer in program.allocations if buffer.name != name)
    return replace(program, allocations=kept)


@dataclass(frozen=True)
class ComputeInline(Moving):
    """
    Computes what a block stores where it is loaded; the block and its buffer go.

        @P: T[i] = f(A[i])    -->    @C: C[i] = g(f(A[i + 1]))
        @C: C[i] = g(T[i + 1])

    Legal if the block is complete (`complete`), runs for all of its points (`predicate`), and is
    one store (`one-store`) whose indices are its axes (`indexed-by-axes`), into a buffer of the
    program's own (`output`); a block of its scope loads from the buffer (`consumers`), by indices
    that do not depend on data (`gather`), and none outside (`scope-of-block`) and no intrinsic
    (`intrinsic`); what the block reads is not written until the last consumer ran
    (`inputs-stable`), and is provably written before, after the step too (`written-before`).
    """

    name: ClassVar[str] = "compute_inline"

    block: str

    def apply(self, program: Program) -> Program:
        """Returns the program with the block inlined."""
        block = self.block_of(program, self.block)
        stages = Stages(program, self.block)
        stage = stages.stage_of(self, self.block)
        store, positions = self._store(program, stages, stage)
        consumers = self._consumers(program, stages, stage, store.buffer)
        for consumer in consumers:
            self.check_inputs(stages, stage, consumer)
        constants = {axis.name: constant(0) for axis in block.axes}

        def inline(leaf: Load | Variable) -> Scalar | None:
            if not isinstance(leaf, Load) or leaf.buffer != store.buffer:
                return None
            images = constants | {
                name: index
                for name, place in positions.items()
                if isinstance(index := leaf.indices[place], Expression)
            }
            return Rewriter(images).scalar(store.value)

        for consumer in consumers:
            inlined = Rewriter(of_leaf=inline).statement(consumer.block)
            program = self._with_regions(program.replace(consumer.name, inlined), consumer.name)
        program = without_buffer(without_stage(program, stage), store.buffer)
        program = with_blocks_around(self, stages.program, program)
        check_written(self, program, stage.reads, f"@{self.block}")
        return program

    def _with_regions(self, program: Program, name: str) -> Program:
        """Returns the program with the regions of a block and those inside it found anew."""
        inner = [
            place[-1].name
            for place in program.places.values()
            if isinstance(place[-1], Block)
            and any(isinstance(part, Block) and part.name == name for part in place)
        ]
        for block_name in reversed(inner):
            block = self.block_of(program, block_name)
            program = program.replace(block_name, retouched(program, block))
        return program

    def _store(
        self, program: Program, stages: Stages, stage: Stage
    ) -> tuple[Store, dict[str, int]]:
        """Returns the store of the block and where its axes stand, or refuses."""
        if reason := stages.not_complete(stage):
            raise self.refused(
                "complete", f"expected a complete block, got one of which {reason}", _at(stage)
            )
        self.check_recomputable(stages, stage)
        store = single_store(stage.block.body)
        if store is None:
            raise self.refused("one-store", "expected a block that is one store", _at(stage))
        if all(store.buffer != buffer.name for buffer in program.allocations):
            raise self.refused(
                "output",
                f"expected a store to a buffer of the program's own, got the parameter "
                f"'{store.buffer}'",
                _at(stage),
                "inline it into its producer by reverse_compute_inline",
            )
        positions = axes_of_indices(store.indices, stage.block)
        if positions is None:
            raise self.refused(
                "indexed-by-axes",
                f"expected '{store.buffer}' to be indexed by the axes of the block, each once, "
                f"got {_texts(store.indices)}",
                _at(stage),
            )
        return store, positions

    def _consumers(
        self, program: Program, stages: Stages, stage: Stage, buffer: str
    ) -> list[Stage]:
        consumers = stages.readers(buffer)
        if not consumers:
            raise self.refused("consumers", f"expected a block that reads '{buffer}'", _at(stage))
        if stages.is_used_outside(buffer):
            raise self.refused(
                "scope-of-block", f"expected '{buffer}' to be used in one scope only", _at(stage)
            )
        for consumer in consumers:
            if consumer.position < stage.position:
                raise self.refused(
                    "consumers",
                    f"expected '{buffer}' to be read behind its producer, got '{consumer.name}'",
                    _at(consumer),
                )
            if calls_on(consumer.block, buffer):
                raise self.refused(
                    "intrinsic",
                    f"expected '{buffer}' to be loaded from, got an intrinsic on it",
                    _at(consumer),
                    "inline before the consumer is tensorised",
                )
            if any(
                not isinstance(index, Expression)
                for load in loads_in((*consumer.block.init, *consumer.block.body))
                if load.buffer == buffer
                for index in load.indices
            ):
                raise self.refused(
                    "gather",
                    f"expected indices of '{buffer}' that do not depend on data",
                    _at(consumer),
                )
        return consumers


def _at(stage: Stage) -> str:
    return f"@{stage.name}"


def _texts(indices: tuple[Subscript, ...]) -> str:
    return ", ".join(str(i) if isinstance(i, Expression) else "data" for i in indices)


class Dissolving(Moving, ABC):
    """A primitive that dissolves a block in its producer."""

    def complete_store(self, stages: Stages, stage: Stage, condition: str) -> Store:
        """Returns the store that a complete block is, or refuses."""
        if reason := stages.not_complete(stage):
            raise self.refused(
                condition,
                f"expected a complete block, got '{stage.name}': {reason}",
                _at(stage),
                "use fuse_reduction_epilogue for a reduction" if stage.block.init else "",
            )
        self.check_recomputable(stages, stage)
        if (store := single_store(stage.block.body)) is None:
            raise self.refused("one-store", "expected a block that is one store", _at(stage))
        return store

    def producer_of(self, stages: Stages, stage: Stage) -> Stage:
        """Returns the block that makes what the block reads, the last one."""
        producers = {
            writer.name: writer
            for buffer in stage.reads
            for writer in stages.writers(buffer)
            if writer.position < stage.position
        }
        if not producers:
            raise self.refused(
                "one-producer", "expected a producer in the scope, got none", _at(stage)
            )
        return max(producers.values(), key=lambda other: other.position)

    def check_between(self, program: Program, stages: Stages, stage: Stage, buffer: str) -> None:
        """Refuses a buffer that others than the block read, or that the caller passes."""
        if all(buffer != own.name for own in program.allocations):
            raise self.refused(
                "output",
                f"expected a buffer of the program's own between them, got the parameter "
                f"'{buffer}'",
                _at(stage),
            )
        readers = [reader for reader in stages.readers(buffer) if buffer not in reader.writes]
        if readers != [stage] or stages.is_used_outside(buffer):
            others = ", ".join(reader.name for reader in readers if reader is not stage)
            raise self.refused(
                "sole-consumer",
                f"expected '{buffer}' to be read by '{stage.name}' alone, got {others}",
                _at(stage),
            )

    def positions_of(self, stage: Stage, buffer: str) -> dict[str, int]:
        """Returns where the axes stand in the one load from a buffer, or refuses."""
        loads = {load for load in loads_in(stage.block.body) if load.buffer == buffer}
        positions = (
            axes_of_indices(next(iter(loads)).indices, stage.block) if len(loads) == 1 else None
        )
        if positions is None:
            raise self.refused(
                "indexed-by-axes",
                f"expected '{buffer}' to be indexed by the axes of '{stage.name}', each once",
                _at(stage),
                "use reverse_compute_at",
            )
        return positions

    def check_others(self, stages: Stages, stage: Stage, producer: Stage, buffer: str) -> None:
        """Refuses if something else that the block reads or writes is in the way."""
        for name in sorted(stage.reads - {buffer}):
            for writer in stages.writers(name):
                before = writer.position < producer.position and not writer.shares_loop(producer)
                behind = writer.position > stage.position and not writer.shares_loop(stage)
                if not before and not behind:
                    raise self.unstable(name, stage, writer, "which writes it too late")
        for name in sorted(stage.writes):
            for reader in stages.readers(name):
                if reader.position < stage.position:
                    raise self.refused(
                        "readers-behind",
                        f"expected '{name}' to be read behind '{stage.name}' only, got "
                        f"'{reader.name}'",
                        _at(reader),
                    )

    def bounds_of(
        self,
        stage: Stage,
        producer: Stage,
        images: Mapping[str, Expression],
        program: Program,
    ) -> list[Bound]:
        """Returns the bounds under which a point of the producer is one of the block."""
        bounds: list[Bound] = []
        extents = {axis.name: axis.extent for axis in producer.block.axes}
        for axis in stage.block.axes:
            image = images[axis.name]
            top = bounds_over(image, extents)
            if top is None or not prove_le(top[1] + 1, axis.extent, program.ranges):
                bounds.append(Bound(image.substitute(producer.block.bindings), axis.extent))
        return bounds


@dataclass(frozen=True)
class ReverseComputeInline(Dissolving):
    """
    Computes a block where its producer stores; the producer takes over its buffer.

        @P: T[i, j] = f(A[i, j])    -->    @P: C[j, i] = g(f(A[i, j]))
        @C: C[j, i] = g(T[i, j])

    Legal if block and producer are complete (`complete`, `producer-complete`), run for all of
    their points (`predicate`), and are one store each (`one-store`); the block is the only reader
    of a buffer of the program's own (`sole-consumer`, `output`) that one block of its scope makes
    (`one-producer`), and loads from it by its axes, each once (`indexed-by-axes`); what it reads
    besides is made before the producer, outside of the loops of both (`inputs-stable`); what it
    writes is read behind it only (`readers-behind`). Where the buffer is larger than the domain of
    the block, the producer is guarded.
    """

    name: ClassVar[str] = "reverse_compute_inline"

    block: str

    def apply(self, program: Program) -> Program:
        """Returns the program with the block inlined into its producer."""
        self.block_of(program, self.block)
        stages = Stages(program, self.block)
        stage = stages.stage_of(self, self.block)
        store = self.complete_store(stages, stage, "complete")
        producer = self.producer_of(stages, stage)
        made = self.complete_store(stages, producer, "producer-complete")
        self.check_between(program, stages, stage, made.buffer)
        positions = self.positions_of(stage, made.buffer)
        self.check_others(stages, stage, producer, made.buffer)
        images: dict[str, Expression] = {axis.name: constant(0) for axis in stage.block.axes}
        for name, place in positions.items():
            index = made.indices[place]
            if not isinstance(index, Expression):
                raise self.refused(
                    "gather", "expected a producer that does not scatter", _at(producer)
                )
            images[name] = index
        fused = Rewriter(
            images,
            of_leaf=lambda leaf: (
                made.value if isinstance(leaf, Load) and leaf.buffer == made.buffer else None
            ),
        ).statement(store)
        block = replace(
            producer.block,
            body=(fused,),
            predicate=(
                *producer.block.predicate,
                *self.bounds_of(stage, producer, images, program),
            ),
        )
        program = without_buffer(program.replace(producer.name, block), made.buffer)
        program = program.replace(producer.name, retouched(program, block))
        gone = Stages(program, self.block).stage_of(self, self.block)
        program = without_stage(program, gone)
        return with_blocks_around(self, stages.program, program)
