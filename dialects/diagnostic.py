"""How every level reports what is wrong with a program: message, op and place."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum

from xdsl.dialects.builtin import (
    ArrayAttr,
    CallSiteLoc,
    FileLineColLoc,
    FusedLoc,
    LocationAttr,
    NameLoc,
    UnknownLoc,
)
from xdsl.ir import Attribute, Operation


class Severity(StrEnum):
    """How much a diagnostic weighs; the value is the word that is printed."""

    ERROR = "error"
    WARNING = "warning"
    REMARK = "remark"
    NOTE = "note"


@dataclass(frozen=True)
class Note:
    """A remark that belongs to a diagnostic, with a place of its own."""

    message: str
    location: Attribute | None = None


@dataclass(eq=False)
class DiagnosticError(Exception):
    """
    A program is refused: what was expected, what was got, and where.

    `op_name` is the op that the message speaks of, `location` the place of its text
    (a `FileLineColLoc` where one is known).
    """

    message: str
    op_name: str | None = None
    location: Attribute | None = None
    notes: tuple[Note, ...] = ()

    def __str__(self) -> str:
        prefix = f"'{self.op_name}' op " if self.op_name else ""
        return prefix + self.message


@dataclass(frozen=True)
class Finding:
    """A warning or remark on an op that is accepted all the same."""

    severity: Severity
    message: str
    op_name: str
    location: Attribute | None = None
    notes: tuple[Note, ...] = ()


_findings: ContextVar[list[Finding] | None] = ContextVar("findings", default=None)


def error_at(op: Operation, message: str, notes: Sequence[Note] = ()) -> DiagnosticError:
    """Returns the diagnostic for `op`; the caller raises it."""
    return DiagnosticError(message, op.name, nearest_location(op), tuple(notes))


def warn_at(op: Operation, message: str, notes: Sequence[Note] = ()) -> None:
    """Reports a warning on `op` to who collects findings; without one it is dropped."""
    _report(Finding(Severity.WARNING, message, op.name, nearest_location(op), tuple(notes)))


def remark_at(op: Operation, message: str, notes: Sequence[Note] = ()) -> None:
    """Reports a remark on `op`, such as an optimisation that was not possible, and why."""
    _report(Finding(Severity.REMARK, message, op.name, nearest_location(op), tuple(notes)))


def _report(finding: Finding) -> None:
    if (findings := _findings.get()) is not None:
        findings.append(finding)


@contextmanager
def collect_findings() -> Generator[list[Finding]]:
    """Collects the warnings and remarks that are reported inside the `with` block."""
    findings: list[Finding] = []
    token = _findings.set(findings)
    try:
        yield findings
    finally:
        _findings.reset(token)


def nearest_location(op: Operation) -> LocationAttr:
    """Returns the location of `op`, or of the nearest op around it that has one."""
    around: Operation | None = op
    while around is not None:
        if not isinstance(around.location, UnknownLoc):
            return around.location
        around = around.parent_op()
    return op.location


def source_position(location: Attribute | None) -> FileLineColLoc | None:
    """
    Returns the first place in a file that a location names, or None.

    Of a call site it is the callee's, of a fused location that of the first part that has one.
    """
    match location:
        case FileLineColLoc():
            return location
        case NameLoc(location=inner):
            return source_position(inner)
        case CallSiteLoc(callee=callee, caller=caller):
            return source_position(callee) or source_position(caller)
        case FusedLoc(locations=ArrayAttr(data=parts)):
            return next(filter(None, map(source_position, parts)), None)
        case _:
            return None
