"""Steps of a schedule that change reductions."""

from collections.abc import Sequence

from ...transforms.schedule.decompose_reduction import DecomposeReduction
from ...transforms.schedule.rfactor import RFactor
from .state import BlockHandle, BlockLike, LoopLike, ScheduleState


class ReductionSteps(ScheduleState):
    """What a schedule does to reductions."""

    def decompose_reduction(
        self, block: BlockLike, loop: LoopLike, *, names: Sequence[str] = ()
    ) -> BlockHandle:
        """Moves the init of a reduction before a loop around it; returns the block of the init."""
        step = DecomposeReduction(self.block_name(block), self.loop_name(loop), tuple(names))
        return self.block_handle(self.step_naming(step)[0])

    def rfactor(
        self,
        loop: LoopLike,
        factor_axis: int = 0,
        *,
        names: Sequence[str] = (),
        buffer: str = "",
        is_whole: bool = False,
    ) -> BlockHandle:
        """
        Reduces to one partial result for each iteration of a loop, and these in a second block.

        Returns the block of the partial results; the block of the final ones keeps the name. With
        `is_whole` iterations without terms have a partial result too.
        """
        step = RFactor(self.loop_name(loop), factor_axis, tuple(names), buffer, is_whole)
        return self.block_handle(self.step_naming(step)[0])
