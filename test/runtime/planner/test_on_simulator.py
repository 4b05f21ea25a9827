"""Plans run by the kernel that they are made for."""

from typing import Any

import numpy as np
import pytest

from tilewright.attention import AttentionOp, Plan, causal, sliding_window
from tilewright.runtime.attention_plan import PlanArrays
from tilewright.runtime.planner import KvBounds, PlanLimits, Planner, WorkPlan
from tilewright.test.attention.queues import Launcher, kv_length
from tilewright.test.attention.reference import Array, Batch, Geometry, attend, check, random_batch

GEOMETRY = Geometry(group=4, num_kv_heads=2, head_dim=32)
MIXED = [(20, 20), (5, 70), (1, 150), (0, 9), (3, 0), (0, 0), (1, 1), (9, 6)]


def planner_of(op: AttentionOp, **changes: Any) -> Planner:
    section = op.section
    numbers: dict[str, Any] = {
        "num_ctas": 7,
        "num_qo_heads": section.num_qo_heads,
        "num_kv_heads": section.num_kv_heads,
        "requests": 9,
        "query_rows": 80,
        "kv_len": 400,
        "tile_rows": (16, section.tile_rows),
        "granule": 16,
    }
    return Planner(PlanLimits(**(numbers | changes)))


def lengths_of(op: AttentionOp, batch: Batch) -> np.ndarray:
    requests = range(len(batch.kv_last_page_len))
    return np.array([kv_length(batch, one, op.section.page_size) for one in requests], np.int32)


def run(op: AttentionOp, batch: Batch, plan: WorkPlan) -> tuple[Array, Array]:
    tables = {
        "qo_indptr": batch.qo_indptr,
        "kv_indptr": batch.kv_indptr,
        "kv_indices": batch.kv_indices,
        "kv_last_page_len": batch.kv_last_page_len,
        "cta_indptr": plan.cta_indptr,
        "items": plan.items,
        "item_merge": plan.item_merge,
        "merges": plan.merges,
        "counters": np.zeros(len(plan.merges), np.int32),
    }
    largest = int(batch.kv_indices.max(initial=-1))
    arrays = PlanArrays(tables, int(batch.qo_indptr[-1]), largest, plan.slots)
    return Launcher(op, Plan(op, arrays), batch).launch()


@pytest.mark.parametrize("batch_invariant", [False, True])
def test_mixed_batches_compute_attention(batch_invariant: bool) -> None:
    batch = random_batch(GEOMETRY, MIXED, np.random.default_rng(1))
    op = GEOMETRY.compile(causal())
    planner = planner_of(op, batch_invariant=batch_invariant, chunk=64)
    plan = planner.plan(batch.qo_indptr, lengths_of(op, batch), KvBounds.causal())
    assert len(plan.merges) > 0
    expected = attend(GEOMETRY, batch, mask_mod=lambda b, h, q, kv: q >= kv)
    check(GEOMETRY, run(op, batch, plan), expected)


def test_few_units_are_packed_on_many_ctas() -> None:
    batch = random_batch(GEOMETRY, [(1, 200), (1, 60), (2, 150)], np.random.default_rng(2))
    op = GEOMETRY.compile(sliding_window(100))
    planner = planner_of(op, num_ctas=40)
    plan = planner.plan(batch.qo_indptr, lengths_of(op, batch), KvBounds.causal(100))
    assert len(plan.merges) == 6
    expected = attend(GEOMETRY, batch, mask_mod=lambda b, h, q, kv: (q >= kv) & (q - kv <= 100))
    check(GEOMETRY, run(op, batch, plan), expected)


def test_a_plan_serves_the_next_steps() -> None:
    before = [(1, 180), (1, 40), (1, 0), (1, 100)]
    op = GEOMETRY.compile(causal())
    planner = planner_of(op)
    planner.plan_decode(np.array([kv_len for _, kv_len in before]))
    step = planner.advance(20)
    assert not step.replanned
    batch = random_batch(GEOMETRY, [(1, rows + 20) for _, rows in before], np.random.default_rng(3))
    expected = attend(GEOMETRY, batch, mask_mod=lambda b, h, q, kv: q >= kv)
    check(GEOMETRY, run(op, batch, step.plan), expected)


def test_batch_invariant_results_are_the_same_bits_alone() -> None:
    rng = np.random.default_rng(4)
    batch = random_batch(GEOMETRY, [(1, 50), (1, 200), (5, 90)], rng)
    op = GEOMETRY.compile(causal())
    planner = planner_of(op, batch_invariant=True, chunk=64)
    lengths = lengths_of(op, batch)
    plan = planner.plan(batch.qo_indptr, lengths, KvBounds.causal())
    among = [result[1:2].copy() for result in run(op, batch, plan)]
    pages = batch.kv_indptr[1:3]
    alone = Batch(
        np.array([0, 1], np.int32),
        (pages - pages[0]).astype(np.int32),
        batch.kv_indices[pages[0] : pages[1]],
        batch.kv_last_page_len[1:2],
        batch.q[1:2],
        batch.k_pages,
        batch.v_pages,
    )
    plan = planner.plan(alone.qo_indptr, lengths[1:2], KvBounds.causal())
    for mine, other in zip(run(op, alone, plan), among, strict=True):
        np.testing.assert_array_equal(mine, other)
