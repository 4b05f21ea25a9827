"""Steps of a schedule that change loops."""

from collections.abc import Sequence
from typing import cast

from ...dialects.nest.program import AnnotationValue, LoopKind
from ...dialects.sym import Expression, ExpressionError, parse_expression
from ...transforms.schedule.add_unit_loop import AddUnitLoop
from ...transforms.schedule.annotate import Annotate, Unannotate
from ...transforms.schedule.bind import Bind
from ...transforms.schedule.fuse import Fuse
from ...transforms.schedule.kinds import Parallel, Unroll, Vectorize
from ...transforms.schedule.loop_partition import LoopPartition
from ...transforms.schedule.merge import Merge
from ...transforms.schedule.primitive import Primitive
from ...transforms.schedule.reorder import Reorder, ReorderBlockAxes
from ...transforms.schedule.split import Factor, Split
from ..values import NestError
from .state import BlockHandle, BlockLike, LoopHandle, LoopLike, ScheduleState

AnyFactor = Expression | int | str | None


class LoopSteps(ScheduleState):
    """What a schedule does to loops."""

    def split(
        self,
        loop: LoopLike,
        factors: Sequence[AnyFactor],
        *,
        exact: bool = False,
        names: Sequence[str] = (),
    ) -> tuple[LoopHandle, ...]:
        """
        Divides a loop into a nest, and returns its loops, outermost first.

        One factor may be None: what the others leave. Text is read as an expression over symbols.
        """
        step = Split(self.loop_name(loop), _factors(factors), tuple(names), exact)
        return self._new_loops(step)

    def fuse(self, *loops: LoopLike, names: Sequence[str] = ()) -> LoopHandle:
        """Makes one loop of loops nested directly, given outermost first, and returns it."""
        return self._new_loops(Fuse(self.loop_names(loops), tuple(names)))[0]

    def reorder(self, *loops: LoopLike) -> None:
        """Nests loops in the order given, outermost first."""
        self.step(Reorder(self.loop_names(loops)))

    def reorder_block_axes(self, block: BlockLike, axes: Sequence[str]) -> None:
        """Lists the axes of a block in another order."""
        self.step(ReorderBlockAxes(self.block_name(block), tuple(axes)))

    def merge(self, *loops: LoopLike, names: Sequence[str] = ()) -> LoopHandle:
        """Makes one loop of loops that stand side by side, and returns it."""
        return self._new_loops(Merge(self.loop_names(loops), tuple(names)))[0]

    def loop_partition(
        self, loop: LoopLike, lengths: Sequence[AnyFactor], *, names: Sequence[str] = ()
    ) -> tuple[LoopHandle, ...]:
        """Cuts the range of a loop into loops one after the other, and returns them."""
        step = LoopPartition(self.loop_name(loop), _factors(lengths), tuple(names))
        return self._new_loops(step)

    def add_unit_loop(
        self, target: LoopLike | BlockHandle, *, names: Sequence[str] = ()
    ) -> LoopHandle:
        """Puts a loop of one iteration around a loop or block, and returns it."""
        return self._new_loops(AddUnitLoop(self.target_name(target), tuple(names)))[0]

    def parallel(self, loop: LoopLike) -> None:
        """Executes the iterations of a loop on the threads of a CPU."""
        self.step(Parallel(self.loop_name(loop)))

    def vectorize(self, loop: LoopLike) -> None:
        """Executes the iterations of a loop as the elements of vectors."""
        self.step(Vectorize(self.loop_name(loop)))

    def unroll(self, loop: LoopLike) -> None:
        """Writes the iterations of a loop one after the other when it is lowered."""
        self.step(Unroll(self.loop_name(loop)))

    def bind(self, loop: LoopLike, axis: LoopKind | str) -> None:
        """Executes the iterations of a loop as CTAs (`block.x`) or as threads (`thread.x`)."""
        self.step(Bind(self.loop_name(loop), str(axis)))

    def annotate(self, target: LoopLike | BlockHandle, key: str, value: AnnotationValue) -> None:
        """Notes a value at a loop or block."""
        self.step(Annotate(self.target_name(target), key, value))

    def unannotate(self, target: LoopLike | BlockHandle, key: str) -> None:
        """Removes a note from a loop or block."""
        self.step(Unannotate(self.target_name(target), key))

    def _new_loops(self, step: Primitive) -> tuple[LoopHandle, ...]:
        return self.loop_handles(self.step_naming(step))


def _factors(factors: Sequence[AnyFactor]) -> tuple[Factor | None, ...]:
    if not isinstance(cast(object, factors), Sequence) or isinstance(factors, str):
        raise NestError(f"expected a list of factors, got {factors!r}")
    return tuple(map(_factor, factors))


def _factor(factor: object) -> Factor | None:
    match factor:
        case str():
            try:
                return parse_expression(factor)
            except ExpressionError as error:
                raise NestError(str(error)) from None
        case bool():
            pass
        case None | int() | Expression():
            return factor
        case _:
            pass
    raise NestError(f"expected a factor that is an integer, an expression or None, got {factor!r}")
