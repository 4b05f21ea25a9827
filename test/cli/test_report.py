"""What a command prints for people and for machines."""

import io
import json
import sys

import pytest

from tilewright.cli.report import Report, amount, kib


def test_numbers_stand_right_and_words_left(capsys: pytest.CaptureFixture[str]) -> None:
    Report(as_json=False).table(("name", "count"), [("a", "7"), ("long", "1e-03")])
    assert capsys.readouterr().out == "  name   count\n  a          7\n  long   1e-03\n"


def test_json_is_one_object_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(as_json=True)
    report.line("for people")
    report.record({"a": 1})
    report.record({"b": [None]})
    report.finish()
    assert json.loads(capsys.readouterr().out) == {"a": 1, "b": [None]}


class Terminal(io.StringIO):
    """A stream that a person looks at."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("as_json", "seen"), [(False, True), (True, False)])
def test_progress_is_shown_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, as_json: bool, seen: bool
) -> None:
    pytest.importorskip("rich")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Terminal())
    with Report(as_json).progress("compiling"):
        pass
    printed = sys.stderr.getvalue()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType, reportUnknownMemberType]
    assert ("compiling" in printed) == seen


def test_progress_is_silent_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    with Report(as_json=False).progress("compiling"):
        pass
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("count", "text"), [(0, "0 CTAs"), (1, "1 CTA"), (2, "2 CTAs")])
def test_nouns_follow_their_number(count: int, text: str) -> None:
    assert amount(count, "CTA") == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 KiB"), (512, "0.5 KiB"), (1024, "1 KiB"), (81920, "80 KiB")]
)
def test_bytes_are_given_in_kib(count: int, text: str) -> None:
    assert kib(count) == text
