"""What passes over nests have in common: ops become a program, it is changed, and written back."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation
from xdsl.passes import ModulePass
from xdsl.rewriter import Rewriter

from ..dialects.diagnostic import DiagnosticError, nearest_location
from ..dialects.nest.function import FuncOp
from ..dialects.nest.program import Program
from ..dialects.nest.writing import write_program


@dataclass(frozen=True)
class NestPass(ModulePass, ABC):
    """
    A pass that changes each `nest.func` of a module by itself, as a program.

    A loop or block that keeps its name keeps its place in the source; a new one has that of what
    is around it. A function that `transform` returns as it is stays untouched.
    """

    @abstractmethod
    def transform(self, program: Program) -> Program:
        """Returns the program after the pass; raises DiagnosticError where it is refused."""

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for function in [inside for inside in op.walk() if isinstance(inside, FuncOp)]:
            program, ops = function.read()
            changed = self._transformed(function, program)
            if changed is not program:
                places = {name: nearest_location(part) for name, part in ops.items()}
                new = write_program(changed, nearest_location(function), places)
                Rewriter.replace_op(function, new, [])

    def _transformed(self, function: Operation, program: Program) -> Program:
        try:
            return self.transform(program)
        except DiagnosticError as error:
            if error.location is None:
                error.location = nearest_location(function)
            raise
