"""Every kernel of the corpus against float64 on fresh inputs, with all checks and no finding."""

from collections.abc import Callable

import pytest

from tilewright.test.runtime.simulator import cases
from tilewright.test.runtime.simulator.cases import CASES, Outcome


@pytest.mark.parametrize("name", CASES)
def test_a_kernel_agrees_with_float64(name: str) -> None:
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


@pytest.mark.parametrize("ctas", [1, 7, 40])
def test_stream_k_on_other_numbers_of_ctas(ctas: int) -> None:
    """One CTA has no help; with forty a tile has up to five parts, and some CTAs have no step."""
    outcome = cases.stream_k(CASES["stream_k"].text, ctas=ctas)
    assert (outcome.findings, outcome.error) == ((), 0)


def test_a_barrier_of_a_grid_of_several_batches() -> None:
    """40 CTAs of 128 threads are more than the 4096 lanes that run at once."""
    outcome = cases.grid_rounds(CASES["grid_rounds"].text, ctas=40, threads=128)
    assert (outcome.findings, outcome.error) == ((), 0)
