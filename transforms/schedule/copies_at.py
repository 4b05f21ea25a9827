"""Puts a copy of what a loop needs, or makes, under the loop in one step."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

from ...dialects.nest.program import Program, Scope
from .caching import CacheRead, CacheWrite
from .compute_at import ComputeAt, ReverseComputeAt
from .primitive import Primitive, ScheduleError

AUTO_COPY = "auto_copy"  # the annotation of a block that a later step spreads over threads


@dataclass(frozen=True)
class _CopyAt(Primitive, ABC):
    """A copy that is made and moved; the block that copies is marked by `auto_copy`."""

    loop: str
    block: str
    buffer: str
    scope: Scope
    cache: str = ""

    @abstractmethod
    def steps(self, program: Program) -> tuple[Primitive, Primitive, str]:
        """Returns the two steps, and the name of the copying block."""

    def apply(self, program: Program) -> Program:
        """Returns the program with the copy under the loop."""
        self.loop_of(program, self.loop)
        copy, move, name = self.steps(program)
        try:
            program = move.apply(copy.apply(program))
        except ScheduleError as error:
            raise self.refused(error.condition, error.message, error.place, error.cure) from None
        block = self.block_of(program, name)
        annotations = {**block.annotations, AUTO_COPY: 1}
        return program.replace(name, replace(block, annotations=annotations))


@dataclass(frozen=True)
class ReadAt(_CopyAt):
    """
    Copies under a loop what a block below it reads: `CacheRead`, then `ComputeAt`.

        for k: @C reads A    -->    for k: for ..: @A_shared; @C reads A_shared

    Legal as the two steps are.
    """

    name: ClassVar[str] = "read_at"

    def steps(self, program: Program) -> tuple[Primitive, Primitive, str]:
        """Returns the two steps, and the name of the copying block."""
        copy = CacheRead(self.block, self.buffer, self.scope, self.cache)
        name = copy.result_names(program)[0]
        return copy, ComputeAt(name, self.loop), name


@dataclass(frozen=True)
class WriteAt(_CopyAt):
    """
    Copies back under a loop what a block below it writes: `CacheWrite`, then `ReverseComputeAt`.

        for i: @C writes C    -->    for i: @C writes C_local; for ..: @C_local writes C

    Legal as the two steps are.
    """

    name: ClassVar[str] = "write_at"

    def steps(self, program: Program) -> tuple[Primitive, Primitive, str]:
        """Returns the two steps, and the name of the copying block."""
        copy = CacheWrite(self.block, self.buffer, self.scope, self.cache)
        name = copy.result_names(program)[0]
        return copy, ReverseComputeAt(name, self.loop), name
