"""Correct kernels without one of their barriers or waits: the checks find what is missing."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tilewright import attention
from tilewright.runtime.artifact import KernelArtifact
from tilewright.runtime.errors import KernelFault
from tilewright.runtime.simulator_device import SimulatorDevice, SimulatorKernel
from tilewright.test.runtime.simulator.cases import CASES
from tilewright.test.runtime.simulator.mutations import (
    REDUNDANT,
    alone,
    missed,
    mutations,
    needed,
)

SYNCHRONISES = re.compile(r"\s*(bar\.sync|cp\.async\.wait_group)\b")


def places(ptx: str) -> list[int]:
    """Returns the numbers of the lines that wait, from 1."""
    lines = enumerate(ptx.splitlines(), 1)
    return [number for number, line in lines if SYNCHRONISES.match(line)]


def without(ptx: str, dropped: int) -> str:
    """Returns a text with one line emptied; 0 drops none."""
    lines = ptx.splitlines()
    if dropped:
        lines[dropped - 1] = ""
    return "\n".join(lines)


# Kernels that wait for each other by barriers and cp.async alone.
FOLLOWED = (
    "matmul",
    "attention",
    "gemm_sm80",
    "turns",
    "block_scan",
    "transpose",
    "layer_norm",
)


@pytest.mark.parametrize("name", FOLLOWED)
def test_every_needed_barrier_and_wait_of_the_corpus_is_missed(name: str) -> None:
    assert len(needed(name, CASES[name])) >= 2
    assert missed(name, CASES[name]) == []


@pytest.mark.parametrize("name", REDUNDANT)
def test_what_is_redundant_is_there_and_changes_no_result(name: str) -> None:
    case = CASES[name]
    text = alone(case.text, case.entry)
    chosen = [each for each in mutations(case) if each.name in REDUNDANT[name]]
    assert {each.name for each in chosen} == set(REDUNDANT[name])
    for each in chosen:
        outcome = case.run(each.apply(text))
        assert (each.name, outcome.findings) == (each.name, ())
        assert outcome.error <= case.tolerance


class Mutant(SimulatorDevice):
    """Runs kernels of which one line is dropped."""

    def __init__(self, dropped: int) -> None:
        super().__init__("all")
        self.dropped = dropped

    def load(self, artifact: KernelArtifact) -> SimulatorKernel:
        return super().load(replace(artifact, ptx=without(artifact.ptx, self.dropped)))


class Compiled:
    """Our own attention with paged keys, and a batch of two requests."""

    def __init__(self) -> None:
        self.op = attention.compile(
            variant=attention.causal(),
            kv=attention.PagedKV(16),
            num_qo_heads=4,
            num_kv_heads=1,
            head_dim=64,
        )
        generator = np.random.default_rng(2)
        rows, keys = np.array([70, 1]), np.array([300, 900])
        pages = -(-keys // 16)
        count = int(pages.sum())
        starts, page_starts = (np.concatenate(([0], np.cumsum(n))) for n in (rows, pages))
        order = generator.permutation(count)
        last = keys - (pages - 1) * 16
        indices = (np.asarray(n, np.int32) for n in (starts, page_starts, order, last))
        self.plan = self.op.plan(*indices)
        shapes = ((71, 4, 64), (count, 16, 1, 64), (count, 16, 1, 64))
        values = (generator.normal(size=shape).astype("f4").view("u4") >> 16 for shape in shapes)
        self.operands = [value.astype("u2") for value in values]

    def run(self, dropped: int) -> str:
        """Runs the kernel without a line; returns what is found."""
        try:
            self.plan.run(*self.operands, device=Mutant(dropped))
        except KernelFault as fault:
            return str(fault)
        return ""


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Compiled:
    """Returns our attention, compiled into a cache of this test's own."""
    monkeypatch.setenv("TILEWRIGHT_CACHE_DIR", str(tmp_path))
    return Compiled()


def test_nothing_is_found_in_our_attention(compiled: Compiled) -> None:
    assert compiled.run(0) == ""


def test_every_barrier_and_wait_of_our_attention_is_missed(compiled: Compiled) -> None:
    """All but the last wait: the loop has waited for every tile, so it has nothing to wait for."""
    ptx = compiled.op.artifact.ptx
    lines = ptx.splitlines()
    needed = [number for number in places(ptx) if "wait_group 0" not in lines[number - 1]]
    assert len(needed) >= 10
    assert [lines[number - 1] for number in needed if not compiled.run(number)] == []
