"""How a diagnostic looks: `file:line:col: error: message`, the line of source, and a caret."""

import linecache
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from xdsl.ir import Attribute

from ..dialects.diagnostic import DiagnosticError, Finding, Severity, source_position


@dataclass(frozen=True)
class Report:
    """One message for the user; lines and columns count from 1, 0 is an unknown place."""

    severity: Severity
    message: str
    filename: str = ""
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        place = f"{self.filename}:{self.line}:{self.column}" if self.line else "<unknown>:0"
        return f"{place}: {self.severity}: {self.message}"

    def render(self, sources: Mapping[str, str]) -> str:
        """
        Returns the message with the line that it points at, and a caret below.

        `sources` holds texts by file name; other files are read from disk where they exist.
        """
        line = _line_of(self, sources) if self.line else None
        if not line or not line.strip():
            return f"{self}\n"
        # Tabs stay tabs, so that the caret stands below its character.
        indent = "".join("\t" if c == "\t" else " " for c in line[: self.column - 1])
        return f"{self}\n{line}\n{indent}^\n"


def _line_of(report: Report, sources: Mapping[str, str]) -> str | None:
    if report.filename in sources:
        lines = sources[report.filename].splitlines()
        return lines[report.line - 1] if report.line <= len(lines) else None
    return linecache.getline(report.filename, report.line).rstrip("\r\n")


def reports_of(diagnostic: DiagnosticError | Finding) -> Iterator[Report]:
    """Yields the report of a diagnostic, then those of its notes."""
    is_error = isinstance(diagnostic, DiagnosticError)
    severity = Severity.ERROR if is_error else diagnostic.severity
    op = f"'{diagnostic.op_name}' op " if diagnostic.op_name else ""
    yield _at(diagnostic.location, severity, op + diagnostic.message)
    for note in diagnostic.notes:
        yield _at(note.location or diagnostic.location, Severity.NOTE, note.message)


def _at(location: Attribute | None, severity: Severity, message: str) -> Report:
    position = source_position(location)
    if position is None:
        return Report(severity, message)
    filename, line, column = position.filename.data, position.line.data, position.column.data
    return Report(severity, message, filename, line, column)
