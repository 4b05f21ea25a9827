"""Correct kernels without one of their barriers or waits: the checks find what is missing."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tilewright import attention
from tilewright.runtime import simulator
from tilewright.runtime.artifact import Artifact, ptx_of
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


SYNCHRONISED = [name for name, case in CASES.items() if mutations(case.text, case.entry)]


@pytest.mark.parametrize("name", SYNCHRONISED)
def test_every_needed_synchronisation_of_the_corpus_is_missed(name: str) -> None:
    assert needed(name, CASES[name])
    assert missed(name, CASES[name]) == []


@pytest.mark.parametrize("name", REDUNDANT)
def test_what_is_redundant_is_there_and_changes_no_result(name: str) -> None:
    case = CASES[name]
    text = alone(case.text, case.entry)
    chosen = [each for each in mutations(case.text, case.entry) if each.name in REDUNDANT[name]]
    assert {each.name for each in chosen} == set(REDUNDANT[name])
    for each in chosen:
        outcome = case.run(each.apply(text))
        assert (each.name, outcome.findings) == (each.name, ())
        assert outcome.error <= case.tolerance


@pytest.mark.parametrize(
    ("line", "operations"),
    [
        ("bar.sync \t0;", ["bar.sync"]),
        ("barrier.cta.sync.aligned 1, 64;", ["barrier.cta.sync"]),
        ("bar.arrive %r1, 256;", ["bar.arrive"]),
        ("cp.async.commit_group;", ["cp.async.commit_group"]),
        ("cp.async.wait_group 1;", ["cp.async.wait_group", "cp.async.wait_group + 1"]),
        ("cp.async.wait_all;", ["cp.async.wait_all"]),
        ("cp.async.bulk.commit_group;", ["cp.async.bulk.commit_group"]),
        (
            "cp.async.bulk.wait_group.read 0;",
            ["cp.async.bulk.wait_group.read", "cp.async.bulk.wait_group.read + 1"],
        ),
        ("cp.async.mbarrier.arrive.noinc.shared.b64 [%r1];", ["cp.async.mbarrier.arrive"]),
        ("wgmma.fence.sync.aligned;", ["wgmma.fence"]),
        ("wgmma.wait_group.sync.aligned 0;", ["wgmma.wait_group", "wgmma.wait_group + 1"]),
        ("fence.proxy.async.shared::cta;", ["fence.proxy.async"]),
        ("fence.acq_rel.gpu;", ["fence.acq_rel"]),
        ("membar.gl;", ["membar"]),
        ("barrier.cluster.arrive;", ["barrier.cluster.arrive"]),
        ("mbarrier.arrive.shared::cta.b64 _, [%r1];", ["mbarrier.arrive"]),
        ("mbarrier.try_wait.parity.shared.b64 p, [%r1], 0;", ["mbarrier.try_wait"]),
        (
            "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r1], 512;",
            ["expect_tx add 16", "expect_tx sub 16"],
        ),
        ("mbarrier.init.shared::cta.b64 [%r1], 1;", []),
        ("wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%f1}, %rd1, %rd2, p, 1, 1;", []),
    ],
)
def test_what_synchronises_is_changed(line: str, operations: list[str]) -> None:
    text = f".visible .entry k()\n{{\n{line}\n}}"
    found = mutations(text, "k")
    assert [each.operation for each in found] == operations
    assert all(each.line == 3 and each.contents != line for each in found)


def test_a_kernel_alone_keeps_its_lines() -> None:
    case = CASES["grid_rounds"]
    lines, rest = case.text.splitlines(), alone(case.text, case.entry).splitlines()
    assert len(rest) == len(lines)
    assert {number for number, line in enumerate(lines) if "membar" in line and rest[number]}
    assert all(part in ("", line) for part, line in zip(rest, lines, strict=True))
    assert not any("stream_k_param" in part for part in rest)


class Mutant(SimulatorDevice):
    """Runs kernels of which one line is dropped."""

    def __init__(self, dropped: int) -> None:
        super().__init__("all")
        self.dropped = dropped

    def load(self, artifact: Artifact) -> SimulatorKernel:
        kernel = ptx_of(artifact, "mutant")
        return super().load(replace(kernel, ptx=without(kernel.ptx, self.dropped)))


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


def _executed(compiled: Compiled, monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Returns the lines of PTX that the batch executes."""
    reports: list[simulator.Report] = []
    launch = simulator.Kernel.launch

    def profiled(kernel: simulator.Kernel, **arguments: Any) -> simulator.Report:
        reports.append(launch(kernel, **arguments, profile=True))
        return reports[-1]

    with monkeypatch.context() as patch:
        patch.setattr(simulator.Kernel, "launch", profiled)
        assert compiled.run(0) == ""
    (report,) = reports
    assert report.profile is not None
    return {line.line for line in report.profile.lines}


@pytest.mark.full
def test_barriers_and_waits_of_our_attention_are_missed(
    compiled: Compiled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Those that the batch executes, but for three.

    The last wait has nothing to wait for, as the loop has waited for every tile. A barrier before
    each item is needed by the second item of a CTA, and each has one here. And the exchange between
    teams begins with a barrier that only a tile without a loop over keys needs.
    """
    ptx = compiled.op.artifact.ptx
    lines, executed = ptx.splitlines(), _executed(compiled, monkeypatch)
    needed = [n for n in places(ptx) if n in executed and "wait_group 0" not in lines[n - 1]]
    assert len(needed) >= 15
    missed = [number for number in needed if not compiled.run(number)]
    assert len(missed) <= 2, [lines[number - 1] for number in missed]
