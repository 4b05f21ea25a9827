"""
What the steps that move computation and data ask of a program: who writes what, and in which order.

A stage is a block directly in a scope: the program, or the block around. A stage is recomputable
if running it again, for any of its points, writes what is there already: the block is complete or
a reduction (TensorIR, ASPLOS 2023, section 3.1).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from ...dialects.nest.program import (
    AxisKind,
    Block,
    Body,
    Call,
    Guard,
    Loop,
    Program,
    Statement,
    blocks_of,
)
from ...dialects.nest.regions import touched
from ...dialects.sym import Ranges
from .accesses import are_distinct
from .primitive import Primitive, place_of


@dataclass(frozen=True, eq=False)
class Stage:
    """A block of a scope: the loops and guards around it inside the scope, and its place."""

    block: Block
    around: tuple[Loop | Guard, ...]
    position: int

    @property
    def name(self) -> str:
        """The name of the block."""
        return self.block.name

    @cached_property
    def reads(self) -> frozenset[str]:
        """The buffers that the block reads."""
        return frozenset(region.buffer for region in self.block.reads)

    @cached_property
    def writes(self) -> frozenset[str]:
        """The buffers that the block writes."""
        return frozenset(region.buffer for region in self.block.writes)

    @property
    def loops(self) -> tuple[Loop, ...]:
        """The loops around the block inside the scope, outermost first."""
        return tuple(part for part in self.around if isinstance(part, Loop))

    @property
    def outermost(self) -> Statement:
        """The statement of the scope that holds the block."""
        return self.around[0] if self.around else self.block

    def is_under(self, loop: Loop) -> bool:
        """Whether the loop is around the block."""
        return any(part is loop for part in self.around)

    def common(self, other: "Stage") -> tuple[Loop | Guard, ...]:
        """Returns what is around both blocks, outermost first."""
        return common_prefix(self.around, other.around)

    def shares_loop(self, other: "Stage") -> bool:
        """Whether a loop of the scope is around both."""
        return any(isinstance(part, Loop) for part in self.common(other))


def common_prefix(
    one: tuple[Loop | Guard, ...], two: tuple[Loop | Guard, ...]
) -> tuple[Loop | Guard, ...]:
    """Returns the loops and guards that both ways begin with."""
    count = 0
    while count < min(len(one), len(two)) and one[count] is two[count]:
        count += 1
    return one[:count]


class Stages:
    """The stages of the scope that holds a loop or block, in the order of the program."""

    def __init__(self, program: Program, name: str) -> None:
        path = program.places[name][:-1]
        blocks = [part for part in path if isinstance(part, Block)]
        self.program = program
        self.scope = blocks[-1] if blocks else None
        body = program.body if self.scope is None else self.scope.body
        self.stages = tuple(_stages(body, ()))
        self.stages = tuple(
            replace(stage, position=position) for position, stage in enumerate(self.stages)
        )
        self._by_name = {stage.name: stage for stage in self.stages}

    def __iter__(self) -> Iterator[Stage]:
        return iter(self.stages)

    def get(self, name: str) -> Stage | None:
        """Returns a stage by the name of its block, or None if it is in another scope."""
        return self._by_name.get(name)

    def stage_of(self, primitive: Primitive, name: str) -> Stage:
        """Returns a stage by the name of its block; refuses a block inside an init (`in-init`)."""
        if (stage := self._by_name.get(name)) is None:
            raise primitive.refused(
                "in-init",
                f"expected a block of a body, got '{name}' of the init of another block",
                place_of(self.program.places[name]),
                "decompose the reduction first",
            )
        return stage

    def writers(self, buffer: str) -> list[Stage]:
        """Returns the stages that write a buffer."""
        return [stage for stage in self.stages if buffer in stage.writes]

    def readers(self, buffer: str) -> list[Stage]:
        """Returns the stages that read a buffer."""
        return [stage for stage in self.stages if buffer in stage.reads]

    def under(self, loop: Loop) -> list[Stage]:
        """Returns the stages that a loop is around."""
        return [stage for stage in self.stages if stage.is_under(loop)]

    def is_used_outside(self, buffer: str) -> bool:
        """Whether a block outside of the scope touches a buffer."""
        if self.scope is None:
            return False
        inside = {block.name for block in blocks_of((self.scope,))}
        around = {
            part.name for part in self.program.places[self.scope.name] if isinstance(part, Block)
        }
        return any(
            region.buffer == buffer
            for block in blocks_of(self.program.body)
            if block.name not in inside and block.name not in around
            for region in (*block.reads, *block.writes)
        )

    def not_complete(self, stage: Stage) -> str:
        """Returns why a block is not complete, or an empty text."""
        block = stage.block
        if block.init or any(axis.kind is not AxisKind.SPATIAL for axis in block.axes):
            return "it has an init or axes that are not spatial"
        if both := stage.reads & stage.writes:
            return f"it reads what it writes, '{min(both)}'"
        return self._not_dominant(stage)

    def not_reduction(self, stage: Stage) -> str:
        """Returns why a block is not a reduction, or an empty text."""
        block = stage.block
        if not block.init:
            return "it has no init"
        if any(axis.kind is AxisKind.ORDERED for axis in block.axes):
            return "it has an ordered axis"
        reduced = {axis.name for axis in block.axes_of(AxisKind.REDUCE)}
        written = {region.buffer: region for region in block.writes}
        for region in block.writes:
            if any(not part.start.symbols().isdisjoint(reduced) for part in region.ranges):
                return f"a reduce axis indexes '{region.buffer}', which it writes"
        for region in block.reads:
            if region.buffer in written and region != written[region.buffer]:
                return f"it reads other elements of '{region.buffer}' than it writes"
        return self._not_dominant(stage)

    def not_recomputable(self, stage: Stage) -> str:
        """Returns why a block is neither complete nor a reduction, or an empty text."""
        return self.not_reduction(stage) if stage.block.init else self.not_complete(stage)

    def _not_dominant(self, stage: Stage) -> str:
        block = stage.block
        for region in block.writes:
            others = [other for other in self.writers(region.buffer) if other is not stage]
            if others:
                return f"'{others[0].name}' writes '{region.buffer}' too"
            indexed = {name for part in region.ranges for name in part.start.symbols()}
            spatial = block.axes_of(AxisKind.SPATIAL)
            for axis in spatial:
                if axis.name not in indexed and axis.extent != 1:
                    return f"'{region.buffer}' is not indexed by its spatial axis '{axis.name}'"
            starts = [part.start for part in region.ranges]
            # Remainders come back to the same elements, as those of a rolling buffer do.
            if any(start.depth for start in starts) and not are_distinct(
                starts, spatial, self.program.ranges
            ):
                return f"its points are not proved to write different elements of '{region.buffer}'"
        return ""


def _stages(body: Body, around: tuple[Loop | Guard, ...]) -> Iterator[Stage]:
    for statement in body:
        match statement:
            case Block():
                yield Stage(statement, around, 0)
            case Loop() | Guard():
                yield from _stages(statement.body, (*around, statement))
            case _:
                pass


def refreshed(program: Program, name: str) -> Program:
    """Returns the program with the regions of a block, and of those around it, found anew."""
    names = [part.name for part in program.places[name] if isinstance(part, Block)]
    for block_name in reversed(names):
        path = program.places[block_name]
        block = path[-1]
        assert isinstance(block, Block)
        ranges = _ranges_of_axes(program, path)
        reads, writes = touched((*block.init, *block.body), ranges, program.buffers)
        program = program.replace(block_name, replace(block, reads=reads, writes=writes))
    return program


def _ranges_of_axes(program: Program, path: tuple[Loop | Block | Guard, ...]) -> Ranges:
    ranges = program.ranges
    for part in path:
        if isinstance(part, Block):
            for axis in part.axes:
                ranges = ranges.also(axis.name, 0, axis.extent - 1)
    return ranges


def without_stage(program: Program, stage: Stage) -> Program:
    """Returns the program without a block and the loops that only it was in."""
    name = stage.name
    for part in reversed(stage.around):
        if len(part.body) > 1 or isinstance(part, Guard):
            break
        name = part.name
    return program.replace(name)


def calls_on(block: Block, buffer: str) -> bool:
    """Whether a tensor intrinsic in a block works on a buffer."""
    pending: list[Statement] = [*block.init, *block.body]
    while pending:
        match pending.pop():
            case Call(_, operands):
                if any(operand.region.buffer == buffer for operand in operands):
                    return True
            case Block(init=init, body=body):
                pending.extend((*init, *body))
            case Loop(body=body) | Guard(_, body):
                pending.extend(body)
            case _:
                pass
    return False
