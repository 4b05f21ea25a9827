"""How a diagnostic looks."""

from pathlib import Path

from xdsl.dialects.builtin import (
    FileLineColLoc,
    FusedLoc,
    IntAttr,
    NoneAttr,
    StringAttr,
    UnknownLoc,
)

from tilewright.dialects.diagnostic import DiagnosticError, Note
from tilewright.driver.report import reports_of


def _at(filename: str, line: int, column: int) -> FileLineColLoc:
    return FileLineColLoc(StringAttr(filename), IntAttr(line), IntAttr(column))


def _render(error: DiagnosticError, **sources: str) -> str:
    return "".join(report.render(sources) for report in reports_of(error))


def test_caret_stands_below_the_column():
    error = DiagnosticError("expects 2, got 1", "tile.alloc", _at("f", 2, 3))
    expected = "f:2:3: error: 'tile.alloc' op expects 2, got 1\nb c\n  ^\n"
    assert _render(error, f="a\nb c\n") == expected


def test_tabs_before_the_caret_stay_tabs():
    assert _render(DiagnosticError("no", None, _at("f", 1, 3)), f="\tx y").endswith("\n\t ^\n")


def test_note_without_a_place_stands_at_the_error():
    error = DiagnosticError("no", None, _at("f", 1, 1), (Note("see"), Note("and", _at("f", 2, 1))))
    places = [str(report) for report in reports_of(error)]
    assert places == ["f:1:1: error: no", "f:1:1: note: see", "f:2:1: note: and"]


def test_unknown_place_is_said_to_be_unknown():
    assert _render(DiagnosticError("no", None, UnknownLoc())) == "<unknown>:0: error: no\n"


def test_line_beyond_the_end_has_no_source_line():
    assert _render(DiagnosticError("no", None, _at("f", 9, 1)), f="a\n") == "f:9:1: error: no\n"


def test_fused_location_stands_at_its_first_known_place():
    location = FusedLoc((UnknownLoc(), _at("f", 1, 2)), NoneAttr())
    assert _render(DiagnosticError("no", None, location)).startswith("f:1:2: ")


def test_source_of_another_file_is_read_from_disk(tmp_path: Path):
    file = tmp_path / "model.py"
    file.write_text("def mask():\n    pass\n")
    error = DiagnosticError("cannot be traced", None, _at(str(file), 2, 5))
    assert _render(error).endswith("\n    pass\n    ^\n")
