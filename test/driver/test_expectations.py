"""Which diagnostics an `expected-error` comment stands for."""

import pytest

from tilewright.dialects.diagnostic import Severity
from tilewright.driver.expectations import find_expectations, unmet
from tilewright.driver.report import Report


def _failures(text: str, *reports: Report) -> list[str]:
    expectations, malformed = find_expectations(text, "f.mlir")
    assert not malformed
    return [failure.message for failure in unmet(expectations, reports, "f.mlir")]


def _error(line: int, message: str, severity: Severity = Severity.ERROR) -> Report:
    return Report(severity, message, "f.mlir" if line else "", line, 1)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("op // expected-error {{wrong}}", 1),
        ("// expected-error @+1 {{wrong}}\nop", 2),
        ("op\n\n// expected-error @-2 {{wrong}}", 1),
        ("// expected-error @below {{wrong}}\n// expected-note @below {{see}}\nop", 3),
        ("op\n// expected-error @above {{wrong}}", 1),
        ("// expected-error @unknown {{wrong}}", 0),
    ],
)
def test_place_of_an_expectation(text: str, line: int):
    notes = [_error(line, "see", Severity.NOTE)] if "note" in text else []
    assert not _failures(text, _error(line, "it is wrong here"), *notes)


def test_another_line_does_not_meet_an_expectation():
    assert len(_failures("op // expected-error {{wrong}}\nop", _error(2, "wrong"))) == 2


def test_another_severity_does_not_meet_an_expectation():
    warning = _error(1, "wrong", Severity.WARNING)
    assert len(_failures("op // expected-error {{wrong}}", warning)) == 2


def test_an_expectation_is_met_once():
    twice = _error(1, "wrong"), _error(1, "wrong")
    assert _failures("op // expected-error {{wrong}}", *twice) == ["unexpected error: wrong"]


def test_plain_text_is_no_regular_expression():
    assert len(_failures("op // expected-error {{w.*g}}", _error(1, "wrong"))) == 2


def test_regular_expressions_stand_in_inner_braces():
    assert not _failures("op // expected-error-re {{got {{[0-9]+}}.}}", _error(1, "got 48."))


def test_comment_without_braces_is_malformed():
    _, malformed = find_expectations("op // expected-error wrong", "f.mlir")
    assert [(report.line, report.column) for report in malformed] == [(1, 7)]
