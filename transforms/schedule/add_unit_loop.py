"""Puts a loop of one iteration around a loop or block."""

from dataclasses import dataclass
from typing import ClassVar

from ...dialects.nest.program import Loop, Program
from ...dialects.sym import constant
from .annotate import loop_or_block
from .primitive import Primitive


@dataclass(frozen=True)
class AddUnitLoop(Primitive):
    """
    Puts a loop of one iteration around a loop or block.

        @B vi = i   -->   for B_unit in 0..1
                              @B vi = i

    Always legal.
    """

    name: ClassVar[str] = "add_unit_loop"

    target: str
    names: tuple[str, ...] = ()

    def apply(self, program: Program) -> Program:
        """Returns the program with the new loop."""
        target = loop_or_block(self, program, self.target)
        (name,) = self.result_names(program)
        return program.replace(self.target, Loop(name, constant(1), (target,)))

    def result_names(self, program: Program) -> tuple[str, ...]:
        """Returns the name of the loop that the step makes."""
        return self.new_names(program, self.names, (f"{self.target}_unit",))
