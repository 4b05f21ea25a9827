"""Each variant of the library on the simulator, beside NumPy and the interpreter."""

import numpy as np
import pytest

from tilewright.attention import Plan, VariantError, soft_cap, temperature
from tilewright.attention.interpreter import Batch as InterpreterBatch
from tilewright.attention.interpreter import attend
from tilewright.runtime.ptxas import find_ptxas
from tilewright.runtime.simulator_device import SimulatorDevice
from tilewright.test.attention.library_cases import CASES, expected
from tilewright.test.attention.queues import even_chunks, plan_work
from tilewright.test.attention.reference import Geometry, exact, random_batch
from tilewright.test.attention.test_on_simulator import generator

PTXAS = find_ptxas()
# Prefill, prefill behind a cache, decode, and a request without keys.
LENGTHS = [(5, 21), (1, 9), (20, 70), (2, 0), (3, 3)]
# Of the whole result, and of each lse: transformed queries and keys are rounded once more.
OUT_TOLERANCE, LSE_TOLERANCE = 2e-3, 4e-3


@pytest.mark.parametrize("name", CASES)
def test_kernel_with_all_checks(name: str) -> None:
    case, rng = CASES[name], generator("library", name)
    head_dim = int(rng.choice([32, 48]))
    geometry = Geometry(2, 2, head_dim, 4)
    batch = random_batch(geometry, LENGTHS, rng)
    params = case.params(rng, geometry, batch)
    op = geometry.compile(case.variant(geometry))
    out, lse = op.plan(*batch.tables).run(
        *batch.arrays, params=params, device=SimulatorDevice("all")
    )
    wanted_out, wanted_lse = expected(case, geometry, batch, params)
    error = np.linalg.norm(exact(out) - wanted_out)
    assert error <= OUT_TOLERANCE * np.linalg.norm(wanted_out)
    np.testing.assert_allclose(lse, wanted_lse, rtol=0, atol=LSE_TOLERANCE)


WIDE = (
    ("rope", 128),
    ("rope", 256),
    ("rope, interleaved", 64),
    ("rope, interleaved", 128),
    ("QK-norm, then rope", 128),
)


@pytest.mark.parametrize(("name", "head_dim"), WIDE)
def test_lanes_that_have_several_pairs_of_a_row(name: str, head_dim: int) -> None:
    case, rng = CASES[name], generator("library wide", name)
    geometry = Geometry(1, 2, head_dim, 4)
    batch = random_batch(geometry, [(5, 21), (1, 9)], rng)
    params = case.params(rng, geometry, batch)
    op = geometry.compile(case.variant(geometry))
    out, _ = op.plan(*batch.tables).run(*batch.arrays, params=params, device=SimulatorDevice("all"))
    wanted, _ = expected(case, geometry, batch, params)
    assert np.linalg.norm(exact(out) - wanted) <= OUT_TOLERANCE * np.linalg.norm(wanted)


SPLIT = ("alibi, causal, soft cap", "QK-norm, then rope", "sigmoid", "sinks", "documents")


@pytest.mark.parametrize("name", SPLIT)
def test_keys_split_over_ctas(name: str) -> None:
    """A state is updated once for a row, and weights without a softmax are added up."""
    case, rng = CASES[name], generator("library split", name)
    geometry = Geometry(2, 2, 32, 4)
    batch = random_batch(geometry, LENGTHS, rng)
    params = case.params(rng, geometry, batch)
    op = geometry.compile(case.variant(geometry))
    plan = Plan(op, plan_work(op, batch, even_chunks(3), 5, rng))
    out, lse = plan.run(*batch.arrays, params=params, device=SimulatorDevice("all"))
    wanted_out, wanted_lse = expected(case, geometry, batch, params)
    error = np.linalg.norm(exact(out) - wanted_out)
    assert error <= OUT_TOLERANCE * np.linalg.norm(wanted_out)
    np.testing.assert_allclose(lse, wanted_lse, rtol=0, atol=LSE_TOLERANCE)


@pytest.mark.parametrize("name", CASES)
def test_interpreter(name: str) -> None:
    case, rng = CASES[name], generator("interpreted", name)
    geometry = Geometry(2, 2, 16, 4)
    batch = random_batch(geometry, LENGTHS, rng)
    params = case.params(rng, geometry, batch)
    out, lse = attend(
        case.variant(geometry).traced,
        InterpreterBatch(*batch.tables),
        *(exact(array) for array in batch.arrays),
        scale=geometry.head_dim**-0.5,
        params=params,
    )
    wanted_out, wanted_lse = expected(case, geometry, batch, params)
    np.testing.assert_allclose(out, wanted_out, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(lse, wanted_lse, rtol=1e-9, atol=1e-12)


@pytest.mark.skipif(PTXAS is None, reason="ptxas is not installed: extra cuda")
@pytest.mark.full
@pytest.mark.parametrize("head_dim", [64, 128])
@pytest.mark.parametrize("name", CASES)
def test_ptxas_spills_nothing(name: str, head_dim: int) -> None:
    geometry = Geometry(4, 8, head_dim, 16, "NHD", "bf16")
    op = geometry.compile(CASES[name].variant(geometry))
    assert PTXAS is not None
    assert PTXAS.assemble(op.ptx, "sm_80").resources[op.contract.name].spilled_bytes == 0


def test_a_divisor_of_scores_whose_reciprocal_overflows_is_refused() -> None:
    for divide in (temperature, soft_cap):
        with pytest.raises(VariantError, match=r"expected a number from 2\^-126 .* got 1e-42"):
            divide(1e-42)
