"""What the tool says when a pass refuses its input, fails, or leaves broken IR."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from xdsl.context import Context
from xdsl.dialects.arith import AddiOp
from xdsl.dialects.builtin import ModuleOp, i64
from xdsl.ir import Operation
from xdsl.passes import ModulePass
from xdsl.rewriter import Rewriter
from xdsl.utils.exceptions import PassFailedException

from tilewright.dialects.diagnostic import error_at, remark_at, warn_at
from tilewright.opt import TilewrightOptMain, main

SOURCE = """\
func.func @f(%a: i32) -> i32 {
  %sum = arith.addi %a, %a : i32
  func.return %sum : i32
}
"""


def _refuse(op: AddiOp) -> None:
    raise error_at(op, "expects a multiplication")


def _refuse_new_op(op: AddiOp) -> None:
    new = AddiOp(op.lhs, op.rhs)
    Rewriter.replace_op(op, new)
    raise error_at(new, "expects a place")


def _fail(op: AddiOp) -> None:
    raise PassFailedException("nothing\nto do")


def _crash(op: AddiOp) -> None:
    raise KeyError("no such tile")


def _break_ir(op: AddiOp) -> None:
    broken = AddiOp.create(operands=[op.lhs, op.rhs], result_types=[i64], location=op.location)
    Rewriter.replace_op(op, broken)


def _warn(op: AddiOp) -> None:
    warn_at(op, "is slow")
    remark_at(op, "is not fused")


ACTIONS: dict[str, Callable[[AddiOp], None]] = {
    "refuse": _refuse,
    "refuse-new-op": _refuse_new_op,
    "fail": _fail,
    "crash": _crash,
    "break-ir": _break_ir,
    "warn": _warn,
}


@dataclass(frozen=True)
class ActPass(ModulePass):
    """Does to each addition what its option says."""

    name = "act"

    action: str = "refuse"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        found: Sequence[Operation] = list(op.walk())
        for inner in found:
            if isinstance(inner, AddiOp):
                ACTIONS[self.action](inner)


class ToolWithAct(TilewrightOptMain):
    """The tool, with one more pass."""

    def register_all_passes(self) -> None:
        super().register_all_passes()
        self.register_pass("act", lambda: ActPass)


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Runs `act` on the source; returns the exit code and stderr, with `f` for the file."""
    file = tmp_path / "f"

    def run_tool(action: str, *args: str, source: str = SOURCE) -> tuple[int, str]:
        file.write_text(source)
        code = main([str(file), "-p", f"act{{action={action}}}", *args], ToolWithAct)
        return code, capsys.readouterr().err.replace(str(file), "f")

    return run_tool


Run = Callable[..., tuple[int, str]]


def test_refusal_points_at_the_text_of_the_op(run: Run):
    expected = (
        "f:2:10: error: 'arith.addi' op expects a multiplication\n"
        "  %sum = arith.addi %a, %a : i32\n"
        "         ^\n"
    )
    assert run("refuse") == (1, expected)


def test_refusal_of_an_op_without_a_place_points_at_the_op_around_it(run: Run):
    code, stderr = run("refuse-new-op")
    assert code == 1
    assert stderr.startswith("f:1:1: error: 'arith.addi' op expects a place\n")


def test_explicit_location_wins_over_the_place_in_the_text(run: Run):
    placed = SOURCE.replace("%a : i32\n", '%a : i32 loc("model.py":7:3)\n')
    _, stderr = run("refuse", source=placed)
    assert stderr.startswith("model.py:7:3: error: 'arith.addi' op expects")


def test_failure_of_an_xdsl_pass_is_one_line(run: Run):
    code, stderr = run("fail")
    assert code == 1
    assert stderr.startswith("f:1:1: error: pass 'act' failed: nothing to do\n")


def test_crash_is_one_line_with_exit_code_2(run: Run):
    code, stderr = run("crash")
    assert code == 2
    assert stderr == (
        "tilewright-opt: internal error in pass act: KeyError: 'no such tile' (use --traceback)\n"
    )


def test_traceback_of_a_crash_is_shown_when_asked_for(run: Run):
    code, stderr = run("crash", "--traceback")
    assert code == 2
    assert "Traceback" in stderr
    assert "in _crash" in stderr


def test_broken_ir_names_the_op_and_the_pass(run: Run):
    code, stderr = run("break-ir")
    assert code == 1
    assert stderr.startswith("f:2:10: error: 'arith.addi' op result")
    assert "f:2:10: note: the IR does not verify after pass 'act'\n" in stderr


def test_ir_of_a_failed_pass_is_printed_when_asked_for(run: Run):
    _, stderr = run("break-ir", "--print-ir-after-failure")
    assert "// -----// IR Dump After act Failed //----- //" in stderr
    assert '"arith.addi"' in stderr


def test_warnings_and_remarks_do_not_fail(run: Run):
    code, stderr = run("warn")
    assert code == 0
    severities = [line.split(": ")[1] for line in stderr.splitlines() if line.startswith("f:")]
    assert severities == ["warning", "remark"]


def test_warnings_can_be_expected(run: Run):
    comments = "  // expected-warning @+2 {{is slow}}\n  // expected-remark @+1 {{is not fused}}\n"
    source = SOURCE.replace("  %sum =", comments + "  %sum =")
    assert run("warn", "--verify-diagnostics", source=source) == (0, "")


def test_other_parts_of_a_file_are_processed_after_a_refusal(run: Run):
    code, stderr = run("refuse", "--split-input-file", source=f"{SOURCE}// -----\n{SOURCE}")
    assert code == 1
    assert "f:2:10: error" in stderr
    assert "f:7:10: error" in stderr
