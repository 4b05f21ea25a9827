"""Fuses what follows a reduction: into its initial value, or behind its loops."""

from dataclasses import dataclass, replace
from typing import ClassVar

from ...dialects.nest.program import AxisKind, Program, Store
from ...dialects.nest.rewriting import Rewriter
from ...dialects.nest.scalars import Apply, Load, Scalar, Variable, loads_of
from ...dialects.nest.structure import Combiner, combiner_of
from ...dialects.sym import Expression, constant
from .blocks_around import with_blocks_around
from .compute_at import ReverseComputeAt
from .inlining import Dissolving, retouched, single_store, without_buffer
from .legality import check_written
from .primitive import ScheduleError
from .stages import Stage, Stages, without_stage


@dataclass(frozen=True)
class FuseReductionEpilogue(Dissolving):
    """
    Fuses the elementwise block behind a reduction with it.

        @C: init T[i, j] = 0                      @C: init D[i, j] = bias[j]
            T[i, j] += A[i, k] * B[k, j]   -->        D[i, j] += A[i, k] * B[k, j]
        @D: D[i, j] = T[i, j] + bias[j]

    With `place` "init" the epilogue becomes the initial value. That is the same only if it
    combines the result with a value by the reduction's own op (`combiner`): a sum with a sum, a
    maximum with a maximum; or copies it, also in part, as behind `PadEinsum`. Floating-point sums
    are rounded in another order. With "after", the block runs behind the reduction, in the
    innermost loop that is around all of its reduce loops (`reverse_compute_at`): any elementwise
    block is. Without `place`, "init" is taken where it is the same.

    Legal if the reduction makes what the block reads (`one-producer`), is a reduction block
    (`reduction`) of one store (`one-store`); and as `ReverseComputeInline` for the rest; for
    "after" as `ReverseComputeAt`, and if a loop is around all reduce loops (`loop-around`). What is
    read of what the block writes is provably written before (`written-before`).
    """

    name: ClassVar[str] = "fuse_reduction_epilogue"

    reduction: str
    block: str
    place: str = ""
    names: tuple[str, ...] = ()

    def apply(self, program: Program) -> Program:
        """Returns the program with the block fused."""
        self.block_of(program, self.reduction)
        self.block_of(program, self.block)
        if self.place not in ("", "init", "after"):
            raise self.refused(
                "place", f'expected the place "init" or "after", got \'{self.place}\''
            )
        stages = Stages(program, self.block)
        stage = stages.stage_of(self, self.block)
        store = self.complete_store(stages, stage, "complete")
        producer = self.producer_of(stages, stage)
        if producer.name != self.reduction:
            raise self.refused(
                "one-producer",
                f"expected '{self.reduction}' to make what '{self.block}' reads, got "
                f"'{producer.name}'",
                f"@{self.block}",
            )
        if reason := stages.not_reduction(producer):
            raise self.refused(
                "reduction",
                f"expected a reduction block, got one of which {reason}",
                f"@{self.reduction}",
            )
        value = self._initial(stages, producer, store)
        if value is not None and self.place != "after":
            fused = self._into_init(program, stages, stage, producer, store, value)
            check_written(self, fused, stage.writes, f"@{self.block}")
            return fused
        if self.place == "init":
            raise self.refused(
                "combiner",
                f"expected '{self.block}' to combine a value with the result by the op of "
                f"'{self.reduction}'",
                f"@{self.block}",
                "place it after the reduction",
            )
        return self._behind(program, producer)

    def _initial(self, stages: Stages, producer: Stage, store: Store) -> Scalar | None:
        """Returns what the epilogue combines with the result by the reduction's op, or None."""
        combiner, value = combiner_of(producer.block), store.value
        made = single_store(producer.block.body)
        if combiner is None or made is None:
            return None
        if isinstance(value, Load) and value.buffer == made.buffer:
            return combiner.identity(value.dtype)
        if not isinstance(value, Apply) or value.op != combiner.op:
            return None
        for result, other in (value.operands, value.operands[::-1]):
            is_result = isinstance(result, Load) and result.buffer == made.buffer
            if is_result and all(load.buffer != made.buffer for load in loads_of(other)):
                return other
        return None

    def _into_init(
        self,
        program: Program,
        stages: Stages,
        stage: Stage,
        producer: Stage,
        store: Store,
        value: Scalar,
    ) -> Program:
        made, init = single_store(producer.block.body), single_store(producer.block.init)
        combiner = combiner_of(producer.block)
        if made is None or init is None or combiner is None:
            raise self.refused(
                "one-store", "expected an init and a body of one store", f"@{self.reduction}"
            )
        self.check_between(program, stages, stage, made.buffer)
        positions = self.positions_of(stage, made.buffer)
        self.check_others(stages, stage, producer, made.buffer)
        images: dict[str, Expression] = {axis.name: constant(0) for axis in stage.block.axes}
        for name, place in positions.items():
            if isinstance(index := made.indices[place], Expression):
                images[name] = index
        rewriter = Rewriter(images)
        target = rewriter.statement(replace(store, value=init.value))
        assert isinstance(target, Store)
        moved = _redirected(made, target)
        block = replace(
            producer.block,
            init=(replace(target, value=_combined(combiner, init, rewriter.scalar(value))),),
            body=(moved,),
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

    def _behind(self, program: Program, producer: Stage) -> Program:
        reduced = {
            name
            for axis in producer.block.axes_of(AxisKind.REDUCE)
            for name in axis.binding.symbols()
        }
        target = ""
        for loop in producer.loops:
            if loop.name in reduced:
                break
            target = loop.name
        if not target:
            raise self.refused(
                "loop-around",
                f"expected a loop around all reduce loops of '{self.reduction}'",
                f"@{self.reduction}",
                "reorder its loops",
            )
        try:
            return ReverseComputeAt(self.block, target, self.names).apply(program)
        except ScheduleError as error:
            raise self.refused(error.condition, error.message, error.place, error.cure) from None


def _redirected(made: Store, target: Store) -> Store:
    """Returns an update of another element, which it loads as well."""

    def of_leaf(leaf: Load | Variable) -> Scalar | None:
        if isinstance(leaf, Load) and leaf.buffer == made.buffer:
            return Load(target.buffer, target.indices, leaf.dtype)
        return None

    return replace(target, value=Rewriter(of_leaf=of_leaf).scalar(made.value))


def _combined(combiner: Combiner, init: Store, value: Scalar) -> Scalar:
    if init.value == combiner.identity(value.dtype):
        return value
    return combiner.combine(init.value, value)
