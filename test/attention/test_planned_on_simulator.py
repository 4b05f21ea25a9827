"""The kernel runs the plans of `op.plan`: mixed batches, fixed chunks, plans that stay."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from tilewright.attention import AttentionOp, BatchLimits, causal, sliding_window
from tilewright.runtime.simulator_device import SimulatorDevice
from tilewright.test.attention.queues import Launcher
from tilewright.test.attention.reference import (
    Array,
    Batch,
    Geometry,
    attend,
    check,
    exact,
    random_batch,
)
from tilewright.test.attention.test_on_simulator import causal_mask, generator, random_lengths

GEOMETRY = Geometry(group=4, num_kv_heads=2, head_dim=32)


@pytest.mark.parametrize("invariant", [False, True])
@pytest.mark.parametrize(
    "turn", [0, *(pytest.param(turn, marks=pytest.mark.full) for turn in (1, 2))]
)
def test_plans_of_mixed_batches(turn: int, invariant: bool) -> None:
    rng = generator("planned", turn, invariant)
    batch = random_batch(GEOMETRY, [*random_lengths(rng), (1, 300)], rng)
    op = GEOMETRY.compile(causal())
    plan = op.plan(*batch.tables, num_ctas=7, batch_invariant=invariant, chunk=64)
    assert plan.arrays.slots
    got = Launcher(op, plan, batch).launch()
    check(GEOMETRY, got, attend(GEOMETRY, batch, mask_mod=causal_mask))


def test_keys_that_a_window_hides_are_not_planned() -> None:
    rng = generator("window plan")
    batch = random_batch(GEOMETRY, [(3, 500), (40, 200)], rng)
    op = GEOMETRY.compile(sliding_window(30))
    plan = op.plan(*batch.tables, num_ctas=7)
    of_first = plan.arrays.tables["items"][:, 0] == 0
    assert (plan.arrays.tables["items"][of_first, 3] >= 460).all()
    got = Launcher(op, plan, batch).launch()
    expected = attend(GEOMETRY, batch, mask_mod=lambda b, h, q, kv: (q >= kv) & (q - kv <= 30))
    check(GEOMETRY, got, expected)


@pytest.mark.full
def test_few_units_are_packed_on_many_ctas() -> None:
    batch = random_batch(GEOMETRY, [(1, 200), (1, 60), (2, 150)], generator("few units"))
    op = GEOMETRY.compile(causal())
    plan = op.plan(*batch.tables, num_ctas=40)
    assert len(plan.arrays.tables["merges"]) == 6
    got = Launcher(op, plan, batch).launch()
    check(GEOMETRY, got, attend(GEOMETRY, batch, mask_mod=causal_mask))


def test_a_plan_that_stays_serves_steps_and_other_batches() -> None:
    rng, device = generator("steps"), SimulatorDevice(checks="all")
    op = GEOMETRY.compile(causal())
    limits = BatchLimits(requests=4, query_rows=4, kv_len=256, pages=64)
    lengths = [(1, 150), (1, 33), (1, 62), (1, 0)]
    batch = random_batch(GEOMETRY, lengths, rng)
    plan = op.plan(*batch.tables, num_ctas=6, limits=limits)
    plan.upload(device)
    for step in (1, 2, 70):
        lengths = [(1, kv + step) for _, kv in lengths]
        grown = random_batch(GEOMETRY, lengths, rng)
        known = set(plan.arrays.tables["kv_indices"].tolist())
        free = np.array(sorted(set(range(64)) - known), np.int32)
        plan.step(free[: plan.pages_needed(step)], rows=step)
        batch = replace(grown, kv_indices=plan.arrays.tables["kv_indices"][: grown.kv_indptr[-1]])
        batch = on_pages_of(batch, grown)
        got = plan.run(*batch.arrays, device=device)
        check(GEOMETRY, got, attend(GEOMETRY, batch, mask_mod=causal_mask))


def on_pages_of(batch: Batch, other: Batch) -> Batch:
    """Returns a batch whose caches hold in its own pages what the other's hold in theirs."""
    caches = [np.zeros((64, *GEOMETRY.page_shape), batch.q.dtype) for _ in range(2)]
    for cache, pages in zip(caches, (other.k_pages, other.v_pages), strict=True):
        cache[batch.kv_indices] = pages[other.kv_indices]
    return replace(batch, k_pages=caches[0], v_pages=caches[1])


def of_requests(batch: Batch, chosen: Sequence[int]) -> Batch:
    """Returns the batch of some requests of another, in this order."""
    every = np.arange(int(batch.qo_indptr[-1]), dtype=np.int64)
    rows = [every[batch.rows(b)] for b in chosen]
    pages = [batch.pages(b) for b in chosen]
    return replace(
        batch,
        qo_indptr=np.cumsum([0, *map(len, rows)], dtype=np.int32),
        kv_indptr=np.cumsum([0, *map(len, pages)], dtype=np.int32),
        kv_indices=np.concatenate(pages),
        kv_last_page_len=batch.kv_last_page_len[list(chosen)],
        q=batch.q[np.concatenate(rows)],
    )


def results_of(op: AttentionOp, batch: Batch, place: int) -> tuple[Array, Array]:
    """Returns the results of one request of a batch, bits that no checks change."""
    plan = op.plan(*batch.tables, num_ctas=9, batch_invariant=True, chunk=64)
    out, lse = Launcher(op, plan, batch, "none").launch()
    return out[batch.rows(place)].copy(), lse[batch.rows(place)].copy()


@pytest.mark.parametrize(
    "request_of",
    [
        pytest.param((1, 200), id="decode"),
        pytest.param((25, 130), id="prefill", marks=pytest.mark.full),
    ],
)
def test_bits_of_a_request_do_not_depend_on_the_batch(request_of: tuple[int, int]) -> None:
    rng, op = generator("invariant", request_of), GEOMETRY.compile(causal())
    lengths = [request_of, *([random_lengths(rng)[0] for _ in range(8)])]
    every = random_batch(GEOMETRY, lengths, rng)
    alone = results_of(op, of_requests(every, [0]), 0)
    np.testing.assert_array_equal(np.isfinite(exact(alone[0])), True)
    chosen = [rng.permutation(np.arange(1, 9))[: int(rng.integers(1, 9))] for _ in range(5)]
    orders = [[*others[: len(others) // 2], 0, *others[len(others) // 2 :]] for others in chosen]
    orders += [np.roll(np.arange(9), place).tolist() for place in (0, 4, 8)]
    for order in orders:
        place = [int(b) for b in order].index(0)
        got = results_of(op, of_requests(every, [int(b) for b in order]), place)
        for mine, expected in zip(got, alone, strict=True):
            np.testing.assert_array_equal(mine, expected)
