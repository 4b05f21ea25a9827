"""`tilewright explain` shows a kernel, `tilewright doctor` the installation."""

import re
from importlib.metadata import version

import pytest

from tilewright.attention import causal
from tilewright.attention.compiler import Levels, compile_attention
from tilewright.cli import doctor
from tilewright.cli.explain import LEVELS, STEPS, side_by_side
from tilewright.runtime.errors import AssemblerError
from tilewright.runtime.ptxas import Ptxas
from tilewright.test.cli.conftest import Command
from tilewright.test.cli.small import OPTIONS, SPEC

SMALL = ("explain", *OPTIONS)


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    levels = Levels()
    compile_attention(SPEC, causal().traced, levels)
    return levels.texts


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_is_printed_whole(command: Command, texts: dict[str, str], level: str) -> None:
    outcome = command(*SMALL, "--level", level)
    assert (outcome.code, outcome.err) == (0, "")

    def without_files(text: str) -> str:
        return re.sub(r"(?m)^\s*\.(file|loc).*$", "", text)

    assert without_files(outcome.out).split() == without_files(texts[level]).split()


@pytest.mark.parametrize("width", [60, 117, 160])
def test_columns_fit_the_width(command: Command, width: int) -> None:
    printed = command(*SMALL, "--width", width, "--lines", 5).out.splitlines()
    heading = next(n for n, line in enumerate(printed) if line.startswith("attn  "))
    columns = printed[heading : heading + 7]
    assert all(len(line) <= width for line in columns)
    assert len({tuple(m.start() for m in re.finditer(r" \| ", line)) for line in columns[:2]}) == 1
    assert [name.strip() for name in columns[0].split(" | ")] == list(LEVELS)


@pytest.mark.parametrize("step", STEPS)
def test_columns_begin_at_the_step(command: Command, step: str) -> None:
    printed = command(*SMALL, "--step", step, "--width", 400, "--lines", 1).out.splitlines()
    heading = next(n for n, line in enumerate(printed) if line.startswith("attn  "))
    for cell, op in zip(printed[heading + 2].split(" | ")[1:], STEPS[step][1:], strict=True):
        assert re.search(op, cell)


@pytest.mark.parametrize("step", STEPS)
def test_every_step_is_found_at_every_level(command: Command, step: str) -> None:
    counts = command(*SMALL, "--json").results["steps"][step]
    assert list(counts) == list(LEVELS[1:])
    assert all(counts.values())


def test_json_holds_the_level_that_was_asked_for(command: Command) -> None:
    results = command(*SMALL, "--level", "attn", "--json").results
    assert list(results["levels"]) == ["attn"]
    assert "attn.attend" in results["levels"]["attn"]
    assert list(command(*SMALL, "--json").results["levels"]) == list(LEVELS)


def test_short_texts_leave_their_column_empty() -> None:
    lines = side_by_side({"a": "  1\n  2", "b": "\tx"}, 13, 5)
    assert lines == ["a     | b", "----- | -----", "1     | x", "2     |"]


def test_versions_are_those_that_are_installed(command: Command) -> None:
    results = command("doctor", "--json").results
    assert results["packages"]["xdsl"] == version("xdsl")
    assert results["packages"]["numpy"] == version("numpy")
    assert results["devices"]["simulator"]["available"]
    assert results["ways"]["direct"]["available"]


def test_the_cache_of_the_environment_is_named(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TILEWRIGHT_CACHE_DIR", "/somewhere/else")
    assert command("doctor").out.endswith("cache: /somewhere/else\n")


def test_what_is_not_installed_is_named_with_its_extra(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(package: str) -> str:
        raise doctor.PackageNotFoundError(package)

    monkeypatch.setattr(doctor, "version", missing)
    monkeypatch.setattr(doctor, "find_ptxas", lambda: None)
    outcome = command("doctor")
    assert outcome.code == 0
    assert "pip install 'tilewright[mlir]'" in outcome.out
    assert "pip install 'tilewright[cuda]'" in outcome.out


def test_a_broken_assembler_is_a_finding(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Ptxas("no/such/ptxas")
    with pytest.raises(AssemblerError) as caught:
        broken.assemble("", "sm_80")
    monkeypatch.setattr(doctor, "find_ptxas", lambda: broken)
    outcome = command("doctor", "--json")
    assert outcome.code == 0
    state = {"available": False, "detail": str(caught.value)}
    assert outcome.results["assemblers"]["ptxas"] == state


def test_an_unknown_default_device_is_a_finding(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TILEWRIGHT_DEVICE", "nonsense")
    outcome = command("doctor")
    assert outcome.code == 0
    assert "default device: none: unknown device 'nonsense'" in outcome.out
