"""Applies a schedule that is read from a file."""

from dataclasses import dataclass, field
from functools import cached_property

from ..dialects.diagnostic import DiagnosticError
from ..dialects.nest.program import Program
from .nest_pass import NestPass
from .schedule.notation import Step, parse_steps
from .schedule.primitive import ScheduleError


@dataclass(frozen=True)
class ApplySchedulePass(NestPass):
    """
    Applies the schedule of a file to a function: one primitive a line, in order.

    A line that is refused is an error at its place in the file, and the module stays as it was.
    """

    name = "apply-schedule"

    file: str = field(metadata={"doc": "the schedule, one primitive a line"})
    function: str = field(
        default="", metadata={"doc": "the function that is changed; all where none is named"}
    )

    @cached_property
    def _steps(self) -> tuple[Step, ...]:
        try:
            with open(self.file, encoding="utf-8") as file:
                text = file.read()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else error.reason
            raise DiagnosticError(f"cannot read the schedule '{self.file}': {reason}") from None
        return parse_steps(text, self.file)

    def transform(self, program: Program) -> Program:
        if self.function not in ("", program.name):
            return program
        for step in self._steps:
            try:
                program = step.primitive.apply(program)
            except ScheduleError as error:
                message = f"{error} [{error.condition}]" if error.condition else str(error)
                raise DiagnosticError(message, None, step.location) from None
        return program
