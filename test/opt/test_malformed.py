"""Malformed files are answered with one diagnostic at the right place, never with a traceback."""

from pathlib import Path

import pytest

from tilewright import opt

# `§` marks the place that the diagnostic has to name; the file is the text without it.
MALFORMED = {
    "undefined value": ("func.func @f(%a: i32) {\n  %0 = arith.addi %a, §%b : i32\n}", "%b"),
    "unknown op": ("func.func @f() {\n  §arith.add\n}", "'arith.add' is no op of dialect 'arith'"),
    "unknown dialect": ("\n\n  §nodialect.op", "no registered dialect"),
    "unknown op, generic": ('func.func @f() {\n  %0 = §"foo.op"() : () -> i32\n}', "'foo.op'"),
    "wrong operand type": (
        'func.func @f(%a: i32) {\n  §"scf.if"(%a) ({}, {}) : (i32) -> ()\n  func.return\n}',
        "'scf.if' op operand 'cond'",
    ),
    "unclosed string": ('"builtin.module"() {a = §"text} : () -> ()', "string literal"),
    "unclosed region": ("func.func @f() {\n  func.return\n§", "end of file"),
    "no type": ("func.func @f(%a: §) {\n}", "expected"),
    "redefined value": (
        "func.func @f(%a: i32) {\n  §%a = arith.constant 1 : i32\n  func.return\n}",
        "already defined",
    ),
    "missing block": ("func.func @f() {\n  cf.br §^next\n}", "^next"),
    "wrong attribute type": (
        "func.func @f() {\n  %c = arith.constant 1.5 : §i32\n  func.return\n}",
        "floating point value",
    ),
    "unknown attribute": ("func.func @f(%a: memref<2xf32, §#foo.bar>) {\n}", "'foo.bar'"),
    "no terminator": ("func.func @f(%a: i32) {\n  %0 = §arith.addi %a, %a : i32\n}", "terminator"),
    "mismatched use": (
        "func.func @f(%a: i32) -> i64 {\n  func.return §%a : i64\n}",
        "i32",
    ),
    "unknown type": ("func.func @f(%a: §!attn.nothing) {\n  func.return\n}", "'attn.nothing'"),
    "stray brace": ("func.func @f() {\n  func.return\n}\n§}", "expected an op"),
    "unexpected character": ("func.func @f() {\n  §$\n}", ""),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_file_gives_one_diagnostic_at_the_right_place(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    marked, fragment = MALFORMED[case]
    before, _, after = marked.partition("§")
    line = before.count("\n") + 1
    column = len(before) - (before.rfind("\n") + 1) + 1
    file = tmp_path / "case.mlir"
    file.write_text(before + after)

    code = opt.main([str(file)])

    stderr = capsys.readouterr().err
    assert code == 1
    assert stderr.startswith(f"{file}:{line}:{column}: error: ")
    assert fragment in stderr.splitlines()[0]
    assert stderr.count(": error: ") == 1
    assert "Traceback" not in stderr
