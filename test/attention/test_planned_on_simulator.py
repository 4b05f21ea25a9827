"""The kernel runs the plans of the planner: mixed batches, fixed chunks, steps of decoding."""

from dataclasses import replace

import numpy as np
import pytest

from tilewright.attention import AttentionOp, Plan, causal, sliding_window
from tilewright.runtime.attention_plan import PlanArrays
from tilewright.runtime.planner import KvBounds, PlanLimits, Planner, WorkPlan
from tilewright.test.attention.queues import Launcher, kv_length
from tilewright.test.attention.reference import Batch, Geometry, attend, check, random_batch
from tilewright.test.attention.test_on_simulator import causal_mask, generator, random_lengths

GEOMETRY = Geometry(group=4, num_kv_heads=2, head_dim=32)
LIMITS = PlanLimits(
    num_ctas=7,
    num_qo_heads=GEOMETRY.num_qo_heads,
    num_kv_heads=GEOMETRY.num_kv_heads,
    requests=8,
    query_rows=512,
    kv_len=1024,
)


def arrays_of(work: WorkPlan, batch: Batch) -> PlanArrays:
    """Returns what a planner planned as the tables of a launch."""
    tables = {
        "qo_indptr": batch.qo_indptr,
        "kv_indptr": batch.kv_indptr,
        "kv_indices": batch.kv_indices,
        "kv_last_page_len": batch.kv_last_page_len,
        "cta_indptr": work.cta_indptr,
        "items": work.items,
        "item_merge": work.item_merge,
        "merges": work.merges,
        "counters": np.zeros(len(work.merges), np.int32),
    }
    largest = int(batch.kv_indices.max(initial=-1))
    return PlanArrays(tables, int(batch.qo_indptr[-1]), largest, work.slots)


def kv_lengths(batch: Batch) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    requests = range(len(batch.kv_last_page_len))
    return np.array([kv_length(batch, b, GEOMETRY.page_size) for b in requests], np.int64)


def planned(planner: Planner, op: AttentionOp, batch: Batch, bounds: KvBounds) -> Plan:
    work = planner.plan(batch.qo_indptr, kv_lengths(batch), bounds)
    return Plan(op, arrays_of(work, batch))


@pytest.mark.parametrize("invariant", [False, True])
@pytest.mark.parametrize("turn", range(3))
def test_plans_of_mixed_batches(turn: int, invariant: bool) -> None:
    rng = generator("planned", turn, invariant)
    limits = replace(LIMITS, batch_invariant=invariant, chunk=64)
    batch = random_batch(GEOMETRY, [*random_lengths(rng), (1, 300)], rng)
    op = GEOMETRY.compile(causal())
    plan = planned(Planner(limits), op, batch, KvBounds.causal())
    assert plan.arrays.slots
    got = Launcher(op, plan, batch).launch()
    check(GEOMETRY, got, attend(GEOMETRY, batch, mask_mod=causal_mask))


def test_keys_that_a_window_hides_are_not_planned() -> None:
    rng = generator("window plan")
    batch = random_batch(GEOMETRY, [(3, 500), (40, 200)], rng)
    op = GEOMETRY.compile(sliding_window(30))
    plan = planned(Planner(LIMITS), op, batch, KvBounds.causal(30))
    got = Launcher(op, plan, batch).launch()
    expected = attend(GEOMETRY, batch, mask_mod=lambda b, h, q, kv: (q >= kv) & (q - kv <= 30))
    check(GEOMETRY, got, expected)


def test_a_plan_serves_the_steps_that_follow() -> None:
    rng = generator("steps")
    planner, op = Planner(LIMITS), GEOMETRY.compile(causal())
    lengths = [(1, 150), (1, 33), (1, 64)]
    work = planner.plan_decode(np.array([kv for _, kv in lengths]))
    for step in range(1, 4):
        longer = [(q, kv + step) for q, kv in lengths]
        batch = random_batch(GEOMETRY, longer, rng)
        advanced = planner.advance()
        assert not advanced.replanned
        got = Launcher(op, Plan(op, arrays_of(work, batch)), batch).launch()
        check(GEOMETRY, got, attend(GEOMETRY, batch, mask_mod=causal_mask))


def test_bits_of_a_request_do_not_depend_on_the_batch_where_chunks_are_fixed() -> None:
    rng = generator("fixed chunks")
    limits = replace(LIMITS, batch_invariant=True, chunk=64)
    op = GEOMETRY.compile(causal())
    batch = random_batch(GEOMETRY, [(1, 200), (25, 130), (2, 70)], rng)
    plan = planned(Planner(limits), op, batch, KvBounds.causal())
    out, lse = Launcher(op, plan, batch).launch()
    for request in range(3):
        pages, rows = batch.pages(request), batch.rows(request)
        alone = replace(
            batch,
            qo_indptr=np.array([0, rows.stop - rows.start], np.int32),
            kv_indptr=np.array([0, len(pages)], np.int32),
            kv_indices=pages,
            kv_last_page_len=batch.kv_last_page_len[request : request + 1],
            q=batch.q[rows],
        )
        own = planned(Planner(limits), op, alone, KvBounds.causal())
        own_out, own_lse = Launcher(op, own, alone, "none").launch()
        np.testing.assert_array_equal(own_out, out[rows])
        np.testing.assert_array_equal(own_lse, lse[rows])
