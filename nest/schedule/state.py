"""What a schedule is: a program, the steps that led to it, and handles to its parts."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias, cast

from ...dialects.nest.program import Block, Loop, Program
from ...transforms.schedule.primitive import Primitive, ScheduleError
from ..values import NestError


@dataclass(frozen=True)
class LoopHandle:
    """A loop of a schedule, from the step on that made it, until a step that takes it away."""

    name: str
    since: int  # how many steps the schedule had when the loop came up
    schedule: "ScheduleState" = field(repr=False)


@dataclass(frozen=True)
class BlockHandle:
    """A block of a schedule, from the step on that made it, until a step that takes it away."""

    name: str
    since: int  # how many steps the schedule had when the block came up
    schedule: "ScheduleState" = field(repr=False)


LoopLike: TypeAlias = LoopHandle | str
BlockLike: TypeAlias = BlockHandle | str


class ScheduleState:
    """
    A program, and the steps that were applied to it.

    A method for a primitive builds it from names, and calls `step`:

        def unroll(self, loop: LoopLike) -> None:
            self.step(Unroll(self.loop_name(loop)))
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self._steps: tuple[Primitive, ...] = ()
        self._since = dict.fromkeys(program.places, 0)
        self._ended: dict[tuple[str, int], int] = {}

    @property
    def program(self) -> Program:
        """The program after the steps."""
        return self._program

    @property
    def steps(self) -> tuple[Primitive, ...]:
        """The steps, each with the names that it gave: they replay by themselves."""
        return self._steps

    def step(self, primitive: Primitive) -> Primitive:
        """
        Applies a primitive, and returns it with the names that it gave.

        Raises ScheduleError where it is not legal; the schedule stays as it was.
        """
        named = primitive.named(self._program)
        program = named.apply(self._program)
        before, after = self._program.places, program.places
        count = len(self._steps)
        for name in before:
            if name not in after:
                self._ended[name, self._since.pop(name)] = count
        for name in after:
            if name not in before:
                self._since[name] = count + 1
        self._program, self._steps = program, (*self._steps, named)
        return named

    def step_naming(self, primitive: Primitive) -> tuple[str, ...]:
        """Applies a primitive, and returns the names of what it made."""
        names = primitive.result_names(self._program)
        self.step(primitive)
        return names

    def loop_handle(self, name: str) -> LoopHandle:
        """Returns the handle of a loop; refuses a name that no loop has."""
        if self._program.loop(name) is None:
            raise self._unknown("loop", name, Loop)
        return LoopHandle(name, self._since[name], self)

    def block_handle(self, name: str) -> BlockHandle:
        """Returns the handle of a block; refuses a name that no block has."""
        if self._program.block(name) is None:
            raise self._unknown("block", name, Block)
        return BlockHandle(name, self._since[name], self)

    def loop_handles(self, names: Iterable[str]) -> tuple[LoopHandle, ...]:
        """Returns the handles of loops."""
        return tuple(map(self.loop_handle, names))

    def block_handles(self, blocks: Iterable[Block]) -> tuple[BlockHandle, ...]:
        """Returns the handles of blocks."""
        return tuple(self.block_handle(block.name) for block in blocks)

    def loop_name(self, loop: LoopLike) -> str:
        """Returns the name of a loop; refuses a handle that is out of date or another's."""
        return loop if isinstance(loop, str) else self._current(loop, "loop")

    def loop_names(self, loops: Iterable[LoopLike]) -> tuple[str, ...]:
        """Returns the names of loops; refuses handles that are out of date or another's."""
        return tuple(map(self.loop_name, loops))

    def block_name(self, block: BlockLike) -> str:
        """Returns the name of a block; refuses a handle that is out of date or another's."""
        return block if isinstance(block, str) else self._current(block, "block")

    def target_name(self, target: LoopHandle | BlockHandle | str) -> str:
        """Returns the name of a loop or block; refuses an out-of-date or another's handle."""
        if isinstance(target, BlockHandle):
            return self.block_name(target)
        return self.loop_name(target)

    def _current(self, handle: LoopHandle | BlockHandle, kind: str) -> str:
        if handle.schedule is not self:
            theirs, ours = handle.schedule.program.name, self._program.name
            raise ScheduleError(
                f"expected a {kind} of this schedule of '{ours}', got '{handle.name}' of "
                f"another one, of '{theirs}'",
                primitive="schedule",
                condition="own-handle",
                cure="look it up by name in this schedule",
            )
        if self._since.get(handle.name) == handle.since:
            return handle.name
        step = self._ended[handle.name, handle.since]
        raise ScheduleError(
            f"expected a {kind} that is there, got '{handle.name}', which step {step + 1}, "
            f"{self._steps[step]}, took away",
            primitive="schedule",
            condition="current-handle",
            cure="use the handles that this step returned",
        )

    def _unknown(self, kind: str, name: str, wanted: type) -> ScheduleError:
        places = self._program.places
        known = ", ".join(n for n, path in places.items() if isinstance(path[-1], wanted))
        return ScheduleError(
            f"expected a {kind} among {known}, got '{name}'",
            primitive="schedule",
            condition="exists",
        )


def apply(program: Program, steps: Iterable[Primitive]) -> Program:
    """Returns a program after the steps of a schedule; raises ScheduleError for one refused."""
    for step in steps:
        if not isinstance(cast(object, step), Primitive):
            raise NestError(f"expected a schedule of primitives, got {step!r}")
        program = step.apply(program)
    return program
