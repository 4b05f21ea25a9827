"""Steps of a schedule that hand tiles to the instructions of the hardware."""

from collections.abc import Mapping, Sequence

from ...transforms.schedule.blockize import Blockize
from ...transforms.schedule.matricize import AxisGroup, Matricize
from ...transforms.schedule.software_pipeline import SoftwarePipeline
from ...transforms.schedule.tensorize import Tensorize
from .state import BlockHandle, BlockLike, LoopHandle, LoopLike, ScheduleState


class TensorSteps(ScheduleState):
    """What a schedule does to tiles."""

    def blockize(self, target: LoopLike | BlockHandle, *, names: Sequence[str] = ()) -> BlockHandle:
        """Makes a block of a loop and what is inside it, over tiles; returns the outer block."""
        step = Blockize(self.target_name(target), tuple(names))
        return self.block_handle(self.step_naming(step)[0])

    def tensorize(
        self,
        target: LoopLike | BlockHandle,
        intrinsic: str,
        *,
        arch: str = "",
        precision: str = "",
        names: Sequence[str] = (),
    ) -> None:
        """Replaces a tile, a loop or a block, by a call of an intrinsic that does the same."""
        name = self.target_name(target)
        self.step(Tensorize(name, intrinsic, arch, precision, tuple(names)))

    def matricize(
        self,
        block: BlockLike,
        groups: Sequence[AxisGroup],
        layouts: Mapping[str, Sequence[str]],
        *,
        names: Sequence[str] = (),
    ) -> tuple[LoopHandle, ...]:
        """Rewrites a sum of products as a product of matrices; returns the loops of the groups."""
        shapes = tuple((buffer, tuple(axes)) for buffer, axes in layouts.items())
        step = Matricize(self.block_name(block), tuple(groups), shapes, tuple(names))
        return self.loop_handles(self.step_naming(step))

    def software_pipeline(
        self,
        loop: LoopLike,
        stages: Sequence[int],
        order: Sequence[int],
        asynchronous: Sequence[int] = (),
    ) -> None:
        """Overlaps iterations of a loop: a stage and a place in the order for each statement."""
        name = self.loop_name(loop)
        self.step(SoftwarePipeline(name, tuple(stages), tuple(order), tuple(asynchronous)))
