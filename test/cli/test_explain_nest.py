"""`tilewright explain FILE.mlir` draws loop nests before and after a schedule."""

from pathlib import Path

import pytest

from tilewright.test.cli.conftest import Command

SCALED = """
nest.func @scaled(%x: !nest.buffer<[n], f32>,
                  out %y: !nest.buffer<[n], f32>) symbols (n in [1, 9]) {
  nest.for %i in n {
    nest.block @Y [%vi = %i in n] {
      %value = nest.load %x[%vi]
      %twice = arith.addf %value, %value : f32
      nest.store %twice, %y[%vi]
    }
  }
}
"""


@pytest.fixture(autouse=True)
def _files(_in_a_folder_of_its_own: None) -> None:  # pyright: ignore[reportUnusedFunction]
    Path("scaled.mlir").write_text(SCALED)
    Path("split.txt").write_text('split(loop="i", factors=[none, 32], names=["o", "u"])\n')


def test_a_nest_is_drawn(command: Command) -> None:
    outcome = command("explain", "scaled.mlir")
    assert outcome.code == 0
    assert outcome.out.splitlines()[1:] == [
        "└─ for i in 0..n",
        "   └─ @Y",
        "      │  spatial vi = i",
        "      └─ y[vi] = (x[vi] + x[vi])",
    ]


def test_a_schedule_gives_a_second_picture(command: Command) -> None:
    out = command("explain", "scaled.mlir", "--schedule", "split.txt").out
    before, after = out.split("scaled after the schedule:")
    assert "for i in 0..n" in before
    assert "for u in 0..32" in after


def test_a_page_is_written(command: Command) -> None:
    command("explain", "scaled.mlir", "--schedule", "split.txt", "--page", "page.html")
    text = Path("page.html").read_text()
    assert text.startswith("<!doctype html>")
    assert text.count("<section>") == 2


def test_a_refused_step_is_shown_at_its_line(command: Command) -> None:
    Path("bad.txt").write_text('\nsplit(loop="k", factors=[none, 32])\n')
    outcome = command("explain", "scaled.mlir", "--schedule", "bad.txt")
    assert outcome.code == 1
    assert outcome.err.startswith("bad.txt:2:1: error: 'split': expected a loop among i, got 'k'")


def test_a_file_without_a_nest_is_refused(command: Command) -> None:
    Path("empty.mlir").write_text("module {}\n")
    outcome = command("explain", "empty.mlir")
    assert (outcome.code, outcome.err.splitlines()[0]) == (
        1,
        "empty.mlir:1:1: error: expected a nest.func, got none",
    )


@pytest.mark.parametrize("option", ["--schedule", "--page"])
def test_a_schedule_or_page_needs_a_file(command: Command, option: str) -> None:
    outcome = command("explain", option, "split.txt")
    assert outcome.code == 1
    assert "expected an MLIR file to draw, got none" in outcome.err
