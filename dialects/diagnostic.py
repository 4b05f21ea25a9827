"""The one exception by which every level reports what is wrong with a program."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from xdsl.ir import Attribute, Operation


@dataclass(frozen=True)
class Note:
    """A remark that belongs to a diagnostic, with a place of its own."""

    message: str
    location: Attribute | None = None


@dataclass
class DiagnosticError(Exception):
    """
    A program is refused: what was expected, what was got, and where.

    `op_name` is the op that the message speaks of, `location` the place of its text
    (a `FileLineColLoc` where one is known).
    """

    message: str
    op_name: str | None = None
    location: Attribute | None = None
    notes: tuple[Note, ...] = field(default=())

    def __str__(self) -> str:
        prefix = f"'{self.op_name}' op " if self.op_name else ""
        return prefix + self.message


def error_at(op: Operation, message: str, notes: Sequence[Note] = ()) -> DiagnosticError:
    """Returns the diagnostic for `op`; the caller raises it."""
    return DiagnosticError(message, op.name, getattr(op, "location", None), tuple(notes))
