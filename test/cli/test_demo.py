"""`tilewright demo` compiles, runs and compares."""

import math
from pathlib import Path

import numpy as np
import pytest

from tilewright.cli import demo
from tilewright.cli.batch import REQUESTS, Request, parse_requests, random_inputs
from tilewright.runtime.attention import load_bundle
from tilewright.runtime.ptxas import AssemblerTooOld, Ptxas
from tilewright.test.cli.conftest import Command
from tilewright.test.cli.small import OPTIONS, SPEC

SMALL = ("demo", *OPTIONS, "--requests", "5/9,1/40")


def test_it_passes_and_says_so(command: Command) -> None:
    outcome = command(*SMALL)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.endswith("  passed\n")


@pytest.mark.parametrize(
    "options",
    [
        ["--dtype", "bf16"],
        ["--layout", "HND"],
        ["--page-size", "1"],
        ["--variant", "full"],
        ["--variant", "window:3"],
        ["--variant", "softcap:20"],
        ["--variant", "alibi"],
        ["--target", "sm_90a"],
        ["--seed", "7"],
    ],
    ids=" ".join,
)
def test_every_option_of_the_kernel_passes(command: Command, options: list[str]) -> None:
    results = command(*SMALL, *options, "--json").results
    assert results["passed"]
    said = {**results["kernel"], "variant": results["variant"], "seed": results["seed"]}
    assert str(said[options[0].removeprefix("--").replace("-", "_")]) == options[1]


@pytest.mark.parametrize("requests", ["3/0", "0/5", "0/0", "9/4", "1/1,0/0,2/0"])
def test_requests_without_queries_or_keys_pass(command: Command, requests: str) -> None:
    outcome = command("demo", *OPTIONS, "--requests", requests, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    assert math.isfinite(outcome.results["error"])


def test_a_wrong_result_fails(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    compute = demo.attend

    def shifted(*arguments: object, **options: object) -> object:
        out, lse = compute(*arguments, **options)  # pyright: ignore[reportArgumentType]
        return out, lse + 0.01

    monkeypatch.setattr(demo, "attend", shifted)
    outcome = command(*SMALL)
    assert (outcome.code, outcome.err) == (1, "")
    assert outcome.out.endswith("  FAILED\n")


def test_the_bundle_that_it_writes_is_the_kernel(command: Command) -> None:
    results = command(*SMALL, "--output", "made/here", "--json").results
    op = load_bundle("made/here")
    assert results["ptx"] == "made/here/attend.ptx"
    assert Path(results["ptx"]).read_text() == op.ptx
    assert results["shared_bytes"] == op.contract.dynamic_shared_bytes
    assert results["lines"]["ptx"] == len(op.ptx.splitlines())


def test_every_level_has_its_lines_and_its_time(command: Command) -> None:
    results = command(*SMALL, "--json").results
    levels = ["attn", "tile", "thread", "ptx"]
    assert list(results["lines"]) == list(results["compile_ms"]) == levels
    assert all(results["lines"].values())


def test_without_an_assembler_registers_are_not_known(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "find_ptxas", lambda: None)
    outcome = command(*SMALL)
    assert outcome.code == 0
    assert "registers: not known without ptxas (pip install 'tilewright[cuda]')" in outcome.out


def test_an_assembler_that_is_too_old_is_no_failure(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Old(Ptxas):
        @property
        def version(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
            raise AssemblerTooOld("ptxas for sm_80: too old")

    monkeypatch.setattr(demo, "find_ptxas", lambda: Old("ptxas"))
    outcome = command(*SMALL)
    assert outcome.code == 0
    assert "registers: not known, ptxas for sm_80: too old" in outcome.out


def test_requests_are_read_as_they_are_written() -> None:
    assert parse_requests(",".join(map(str, REQUESTS))) == REQUESTS


def test_a_seed_gives_the_same_inputs_each_time() -> None:
    first, again, other = (
        random_inputs(SPEC, (Request(3, 9),), np.random.default_rng(seed)).q for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
