"""What all steps that move or dissolve a block ask: may it run at another time, or again?"""

from abc import ABC
from collections.abc import Collection, Mapping

from ...dialects.nest.program import AxisKind, Block, Bound, Loop, Program
from ...dialects.nest.regions import bounds_over
from ...dialects.sym import Expression, Ranges, constant, prove_le, symbol
from .implied import implies
from .legality import check_any_order
from .primitive import Primitive, ScheduleError
from .stages import Stage, Stages


class Moving(Primitive, ABC):
    """A primitive after which a block runs at another time than before."""

    def check_recomputable(self, stages: Stages, stage: Stage) -> None:
        """Refuses a block that is neither complete nor a reduction, or leaves out points."""
        self.check_kind(stages, stage)
        self.check_all_points(stage, stages.program.ranges)

    def check_kind(self, stages: Stages, stage: Stage) -> None:
        """Refuses a block that is neither complete nor a reduction."""
        if reason := stages.not_recomputable(stage):
            raise self.refused(
                "complete-or-reduction",
                f"expected a complete block or a reduction, got '{stage.name}': {reason}",
                f"@{stage.name}",
            )

    def check_all_points(self, stage: Stage, ranges: Ranges) -> None:
        """Refuses a block whose predicate leaves out points of its axes."""
        for bound in bounds_that_cut(stage, ranges):
            raise self.leaves_out(stage, bound)

    def leaves_out(self, stage: Stage, bound: Bound) -> ScheduleError:
        """Returns the refusal of a block that does not run for all of its points."""
        return self.refused(
            "predicate",
            f"expected a block that runs for all of its points, got one that runs where "
            f"{bound.left} < {bound.right}",
            f"@{stage.name}",
            "take the step before the points are left out",
        )

    def check_axis_order(self, program: Program, block: Block) -> None:
        """Refuses a reduction if it matters that its points now run in the order of its axes."""
        reduced = [axis for axis in block.axes_of(AxisKind.REDUCE) if axis.extent != 1]
        loops = program.loops_around(block.name)
        plain = {(loop.name, loop.extent): place for place, loop in enumerate(loops)}
        places = [plain.get((axis.binding.symbol_name or "", axis.extent)) for axis in reduced]
        known = [place for place in places if place is not None]
        if len(known) < len(places) or known != sorted(known):
            check_any_order(self, program, block)

    def check_inputs(self, stages: Stages, stage: Stage, until: Stage) -> None:
        """Refuses if what the block reads changes while it waits for its new place."""
        for buffer in sorted(stage.reads - stage.writes):
            for writer in stages.writers(buffer):
                if writer.position > stage.position:
                    apart = not (writer.shares_loop(until) or writer.shares_loop(stage))
                    if writer.position <= until.position or not apart:
                        raise self.unstable(buffer, stage, writer, "which writes it later")
                elif writer.shares_loop(stage):
                    if reason := stages.not_recomputable(writer):
                        raise self.unstable(buffer, stage, writer, f"of which {reason}")
                    self.check_reduced(writer, stage)

    def unstable(self, buffer: str, stage: Stage, writer: Stage, what: str) -> ScheduleError:
        """Returns the refusal of a writer of what a block reads."""
        return self.refused(
            "inputs-stable",
            f"expected '{buffer}' to stay as '{stage.name}' reads it, got '{writer.name}', {what}",
            f"@{writer.name}",
        )

    def check_reduced(self, stage: Stage, other: Stage) -> None:
        """Refuses if a reduction goes on while another block of its loops runs."""
        shared = {part.name for part in stage.common(other) if isinstance(part, Loop)}
        self.check_reduced_below(stage, shared)

    def check_reduced_below(self, stage: Stage, shared: Collection[str]) -> None:
        """Refuses a reduction that goes on from one iteration of some loops to the next."""
        for axis in stage.block.axes_of(AxisKind.REDUCE):
            if moving := axis.binding.symbols() & frozenset(shared):
                raise self.refused(
                    "reduced",
                    f"expected '{stage.name}' to be reduced in each iteration of "
                    f"'{min(moving)}', which its reduce axis '{axis.name}' runs over",
                    f"@{stage.name}",
                    "choose a loop around all of its reduce loops",
                )


def bounds_that_cut(stage: Stage, ranges: Ranges) -> list[Bound]:
    """
    Returns the bounds of a block's predicate that may leave out points of its axes.

    `ranges` are those of the symbols. What loops pass beyond an end of an axis is none of its
    points.
    """
    for loop in stage.loops:
        if loop.extent.symbols() <= frozenset(ranges):
            ranges = ranges.also(loop.name, 0, loop.extent - 1)
    extents = {axis.name: axis.extent for axis in stage.block.axes}
    return [
        bound
        for bound in stage.block.predicate
        if not _is_tail(bound, stage.block, ranges)
        and not _holds(over_axes(bound, stage.block), extents, ranges)
    ]


def over_axes(bound: Bound, block: Block) -> Bound:
    """Returns a bound with axes in the place of the loops that they are bound to."""
    named = {axis.binding.symbol_name: axis.name for axis in block.axes}
    known = {name: symbol(axis) for name, axis in named.items() if name is not None}
    return Bound(bound.left.substitute(known), bound.right.substitute(known))


def _is_tail(bound: Bound, block: Block, ranges: Ranges) -> bool:
    """Whether a bound holds wherever the loops are within the ends of one axis."""
    return any(
        implies(end, bound, ranges)
        for axis in block.axes
        for end in (Bound(axis.binding, axis.extent), Bound(constant(-1), axis.binding))
    )


def _holds(bound: Bound, extents: Mapping[str, Expression], ranges: Ranges) -> bool:
    """Whether a bound over axes holds at every point of them."""
    value = bound.right - bound.left - 1
    if value.symbols() - frozenset(extents) - frozenset(ranges):
        return False
    bounds = bounds_over(value, extents)
    return bounds is not None and bool(prove_le(0, bounds[0], ranges))
