"""
Checks the diagnostics of a file against `// expected-error {{...}}` comments in it.

The comments are those of MLIR (MLIR documentation, "Diagnostics", section "Diagnostic Verifier
Handler"): `expected-error`, `-warning`, `-remark` and `-note`, each at the end of a line, for a
diagnostic on the same line, or on another by `@+1`, `@-1`, `@above`, `@below`, `@unknown`. The
text in the braces is part of the message; after `expected-error-re`, `{{...}}` inside it are
regular expressions.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..dialects.diagnostic import Severity
from .report import Report

_MENTION = re.compile(r"//.*?\bexpected-(error|note|remark|warning)\b")
_COMMENT = re.compile(
    r"expected-(?P<severity>error|note|remark|warning)(?P<re>-re)? *"
    r"(?:@(?P<place>[+-]\d+|above|below|unknown))? *\{\{(?P<text>.*)\}\}\s*$"
)


@dataclass(frozen=True)
class Expectation:
    """A diagnostic that is expected; `line` counts from 1, 0 stands for an unknown place."""

    severity: Severity
    text: str
    line: int
    comment_line: int
    pattern: re.Pattern[str]

    def is_met_by(self, report: Report, filename: str) -> bool:
        """Tells whether this is the diagnostic that is expected."""
        at_place = report.filename == filename if self.line else not report.line
        return (
            at_place
            and report.line == self.line
            and report.severity is self.severity
            and self.pattern.search(report.message) is not None
        )


def find_expectations(
    text: str, filename: str, first_line: int = 1
) -> tuple[list[Expectation], list[Report]]:
    """Returns the expectations from `first_line` on, and errors for malformed comments."""
    lines = text.splitlines()
    mentions = {number for number, line in enumerate(lines, 1) if _MENTION.search(line)}
    expectations: list[Expectation] = []
    malformed: list[Report] = []
    for number in sorted(mention for mention in mentions if mention >= first_line):
        line = lines[number - 1]
        match = _COMMENT.search(line)
        if match is None:
            message = "expected a comment of the form `expected-error @+1 {{text}}`"
            column = line.index("expected-") + 1
            malformed.append(Report(Severity.ERROR, message, filename, number, column))
            continue
        pattern = _with_patterns(match["text"]) if match["re"] else re.escape(match["text"])
        target = _target_line(match["place"], number, mentions)
        severity = Severity(match["severity"])
        expectations.append(
            Expectation(severity, match["text"], target, number, re.compile(pattern))
        )
    return expectations, malformed


def _target_line(place: str | None, comment_line: int, mentions: set[int]) -> int:
    match place:
        case None:
            return comment_line
        case "unknown":
            return 0
        case "above" | "below":
            step = -1 if place == "above" else 1
            line = comment_line + step
            while line in mentions:
                line += step
            return line
        case offset:
            return comment_line + int(offset)


def _with_patterns(text: str) -> str:
    parts = re.split(r"\{\{(.*?)\}\}", text)
    return "".join(part if index % 2 else re.escape(part) for index, part in enumerate(parts))


def unmet(
    expectations: Sequence[Expectation], reports: Sequence[Report], filename: str
) -> list[Report]:
    """Returns an error for each diagnostic nobody expected and each one that did not come."""
    failures: list[Report] = []
    open_expectations = list(expectations)
    for report in reports:
        met = next((e for e in open_expectations if e.is_met_by(report, filename)), None)
        if met is not None:
            open_expectations.remove(met)
        else:
            message = f"unexpected {report.severity}: {report.message}"
            failures.append(
                Report(Severity.ERROR, message, report.filename, report.line, report.column)
            )
    for expectation in open_expectations:
        place = f"on line {expectation.line}" if expectation.line else "at an unknown place"
        message = f'expected {expectation.severity} "{expectation.text}" {place} did not come'
        failures.append(Report(Severity.ERROR, message, filename, expectation.comment_line, 1))
    return failures
