"""Every kernel of the corpus against float64 on fresh inputs, with all checks and no finding."""

from collections.abc import Callable

import numpy as np
import pytest

from tilewright.runtime.simulator.scheduler import Scheduler
from tilewright.test.runtime.simulator import cases
from tilewright.test.runtime.simulator.cases import CASES, Outcome


@pytest.mark.parametrize("name", CASES)
def test_a_kernel_agrees_with_float64(name: str) -> None:
    case = CASES[name]
    outcome = case.run(case.text)
    assert outcome.findings == ()
    assert outcome.error <= case.tolerance


@pytest.mark.parametrize("name", CASES)
def test_the_order_of_blocks_changes_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups run in any order: results stay, and the checks still find nothing."""
    generator = np.random.default_rng()

    def pick(scheduler: Scheduler) -> int:
        ready = sorted(scheduler.ready)
        return ready[int(generator.integers(len(ready)))] if ready else -1

    monkeypatch.setattr(Scheduler, "_pick", pick)
    case = CASES[name]
    outcome = case.run(case.text)
    assert outcome.findings == ()
    assert outcome.error <= case.tolerance


@pytest.mark.parametrize("n", [1, 31, 32])
def test_scans_of_other_lengths(n: int) -> None:
    outcome = cases.scan(CASES["scan"].text, n)
    assert (outcome.findings, outcome.error) == ((), 0)


@pytest.mark.parametrize("n", [1, 33, 256])
def test_block_scans_of_other_lengths(n: int) -> None:
    outcome = cases.block_scan(CASES["block_scan"].text, n)
    assert (outcome.findings, outcome.error) == ((), 0)


@pytest.mark.parametrize(("m", "n", "k"), [(64, 64, 8), (130, 136, 40)])
def test_gemms_of_other_sizes(m: int, n: int, k: int) -> None:
    """One step, less than the stages; two steps in six CTAs."""
    runs: list[tuple[str, Callable[..., Outcome]]] = [
        ("gemm_sm80", cases.gemm_sm80),
        ("gemm_store", cases.gemm_store),
    ]
    for name, run in runs:
        outcome = run(CASES[name].text, m, n, k)
        assert (outcome.findings, outcome.error) == ((), 0)


@pytest.mark.parametrize("entry", ["gemm_ss", "gemm_rs"])
@pytest.mark.parametrize(("m", "n", "k"), [(128, 64, 64), (300, 136, 328)])
def test_warp_specialised_gemms_of_other_sizes(entry: str, m: int, n: int, k: int) -> None:
    """One step; then six in nine CTAs, and a size that fits no tile."""
    outcome = cases.gemm_sm90(entry, CASES[entry].text, m, n, k)
    assert (outcome.findings, outcome.error) == ((), 0)


@pytest.mark.parametrize("ctas", [1, 7, 20])
def test_stream_k_on_other_numbers_of_ctas(ctas: int) -> None:
    """One CTA has no help; of twenty some have no step, and they are more than run at once."""
    outcome = cases.stream_k(CASES["stream_k"].text, ctas=ctas)
    assert (outcome.findings, outcome.error) == ((), 0)


def test_a_barrier_of_a_grid_of_several_batches() -> None:
    """17 CTAs of 1024 threads are more than the 16384 lanes of a batch."""
    outcome = cases.grid_rounds(CASES["grid_rounds"].text, ctas=17, threads=1024)
    assert (outcome.findings, outcome.error) == ((), 0)


@pytest.mark.parametrize("size", [1, 2, 8])
def test_rings_of_other_sizes(size: int) -> None:
    """A CTA alone sends to itself; eight CTAs are the most that every GPU takes."""
    outcome = cases.ring(CASES["ring"].text, size)
    assert (outcome.findings, outcome.error) == ((), 0)
