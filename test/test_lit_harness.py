"""The in-process runner of lit tests: it fails what must fail, and agrees with real processes."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from lit.ShUtil import ShParser

from tilewright.test.harness.shell import InProcessShell, Outcome, Tool, UnsupportedShell

CONFIG = Path(__file__).parent / "lit.cfg"
FUNCTION = "func.func @f(%a: i32) -> i32 {\n  func.return %a : i32\n}\n"

# Names and verdicts of small tests; the verdict is the same in both modes.
SUITE = {
    "check_that_holds": ("PASS", "// RUN: tilewright-opt %s | filecheck %s\n// CHECK: @f"),
    "check_that_fails": ("FAIL", "// RUN: tilewright-opt %s | filecheck %s\n// CHECK: @g"),
    "check_of_stderr": (
        "PASS",
        "// RUN: not tilewright-opt %s -p nope 2>&1 | filecheck %s\n// CHECK: no pass 'nope'",
    ),
    "failure_before_the_pipe": (
        "FAIL",
        "// RUN: tilewright-opt %s -p nope 2>&1 | filecheck %s\n// CHECK: no pass 'nope'",
    ),
    "not_of_a_success": ("FAIL", "// RUN: not tilewright-opt %s"),
    "expected_failure": ("XFAIL", "// RUN: tilewright-opt %s -p nope\n// XFAIL: *"),
    "no_run_line": ("UNRESOLVED", "// nothing to do"),
    "second_line_fails": ("FAIL", "// RUN: tilewright-opt %s\n// RUN: tilewright-opt %s -p nope"),
    "temporary_file": (
        "PASS",
        "// RUN: tilewright-opt %s > %t && filecheck %s --input-file %t\n// CHECK: @f",
    ),
    "unmet_diagnostics": (
        "FAIL",
        "// RUN: tilewright-opt %s --verify-diagnostics\n// expected-error @+1 {{wrong}}",
    ),
    "round_trip": ("PASS", "// RUN: GENERIC_ROUNDTRIP\n// RUN: ROUNDTRIP\n// CHECK: @f"),
}


def _verdicts(suite: Path, mode: str) -> dict[str, str]:
    results = suite / f"{mode}.json"
    lit = [Path(sys.executable).parent / "lit", "-q", "--param", f"mode={mode}"]
    environment = {key: value for key, value in os.environ.items() if key != "TILEWRIGHT_LIT"}
    subprocess.run([*lit, "-o", results, suite], capture_output=True, env=environment, check=False)
    tests = json.loads(results.read_text())["tests"]
    return {Path(test["name"].split(" :: ")[1]).stem: test["code"] for test in tests}


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """Makes an empty test suite with the configuration of ours."""
    (tmp_path / "lit.cfg").write_text(
        f"lit_config.load_config(config, {str(CONFIG)!r})\n"
        f"config.test_source_root = {str(tmp_path)!r}\n"
        f"config.test_exec_root = {str(tmp_path / 'out')!r}\n"
    )
    return tmp_path


@pytest.mark.parametrize("mode", ["in-process", pytest.param("subprocess", marks=pytest.mark.full)])
def test_verdicts_are_the_same_in_process_and_with_processes(suite: Path, mode: str):
    for name, (_, text) in SUITE.items():
        (suite / f"{name}.mlir").write_text(f"{text}\n{FUNCTION}")
    expected = {name: verdict for name, (verdict, _) in SUITE.items()}
    assert _verdicts(suite, mode) == expected


@pytest.mark.parametrize(
    ("mode", "verdict"), [("in-process", "UNRESOLVED"), ("subprocess", "FAIL")]
)
def test_mlir_opt_of_the_machine_is_out_of_reach(suite: Path, mode: str, verdict: str):
    (suite / "upstream.mlir").write_text("// RUN: mlir-opt %s\n" + FUNCTION)
    assert _verdicts(suite, mode) == {"upstream": verdict}


def _run(tmp_path: Path, line: str, **tools: Tool) -> Outcome:
    return InProcessShell(tools, tmp_path).run(ShParser(line, pipefail=True).parse())


def _shout(args: list[str]) -> None:
    sys.stdout.write(sys.stdin.read().upper())


def _say(args: list[str]) -> None:
    print(*args)


def _grumble(args: list[str]) -> int:
    print("out")
    print("err", file=sys.stderr)
    return 3


def _vandalise(args: list[str]) -> None:
    sys.stdout = io.StringIO()
    os.environ["LEAKED"] = "yes"
    os.chdir("/")
    sys.argv = ["other"]
    raise RuntimeError("as planned")


def test_output_is_piped(tmp_path: Path):
    assert _run(tmp_path, "say hello | shout", say=_say, shout=_shout).stdout == "HELLO\n"


def test_stderr_is_not_piped_unless_asked_for(tmp_path: Path):
    outcome = _run(tmp_path, "grumble | shout", grumble=_grumble, shout=_shout)
    assert outcome == Outcome(3, "OUT\n", "err\n")


def test_stderr_comes_first_when_both_go_into_one_pipe(tmp_path: Path):
    outcome = _run(tmp_path, "grumble 2>&1 | shout", grumble=_grumble, shout=_shout)
    assert outcome == Outcome(3, "ERR\nOUT\n", "")


def test_redirections_write_and_read_files(tmp_path: Path):
    line = "say first > log && say second >> log && shout < log"
    assert _run(tmp_path, line, say=_say, shout=_shout).stdout == "FIRST\nSECOND\n"


def test_not_turns_the_exit_code_round(tmp_path: Path):
    assert _run(tmp_path, "not grumble", grumble=_grumble).code == 0
    assert _run(tmp_path, "not say", say=_say).code == 1


def test_exception_is_an_exit_code_and_a_traceback(tmp_path: Path):
    outcome = _run(tmp_path, "vandalise", vandalise=_vandalise)
    assert outcome.code == 1
    assert "RuntimeError: as planned" in outcome.stderr


def test_what_a_command_changes_is_undone(tmp_path: Path):
    before = sys.stdout, os.getcwd(), list(sys.argv)
    _run(tmp_path, "vandalise", vandalise=_vandalise)
    assert (sys.stdout, os.getcwd(), list(sys.argv)) == before
    assert "LEAKED" not in os.environ


@pytest.mark.parametrize(
    "line", ["sed s/a/b/", "say a; say b", "say a || say b", "say *.mlir", "say 3> log", "not"]
)
def test_what_is_not_available_in_process_is_refused(tmp_path: Path, line: str):
    with pytest.raises((UnsupportedShell, ValueError)):
        _run(tmp_path, line, say=_say)
