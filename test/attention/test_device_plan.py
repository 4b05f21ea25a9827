"""Plans made on the device: those of the host bit for bit, right for any lengths that it finds."""

from typing import Any

import numpy as np
import pytest

from tilewright.attention import (
    AttentionOp,
    BatchLimits,
    Plan,
    causal,
    plan_on_device,
    sliding_window,
)
from tilewright.runtime.errors import ArgumentError
from tilewright.runtime.page_table import PageTable, last_page_lengths
from tilewright.runtime.simulator_device import SimulatorDevice
from tilewright.test.attention.reference import Array, Geometry, attend, check, random_batch
from tilewright.test.attention.test_on_simulator import causal_mask, generator

GEOMETRY = Geometry(group=4, num_kv_heads=2, head_dim=32)
LIMITS = BatchLimits(requests=9, query_rows=9, kv_len=512, pages=200)


def plan_of(op: AttentionOp, lengths: Array, ctas: int, limits: BatchLimits = LIMITS) -> Plan:
    """Returns a decode plan of requests on pages in order."""
    pages = -(-lengths // 16)
    indptr = np.concatenate([[0], np.cumsum(pages)]).astype(np.int32)
    table = (indptr, np.arange(indptr[-1], dtype=np.int32), last_page_lengths(lengths, 16))
    rows = np.arange(len(lengths) + 1, dtype=np.int32)
    return op.plan(rows, *table, num_ctas=ctas, limits=limits)


def write(buffer: Any, content: Array) -> None:
    buffer.handle.numpy().reshape(-1)[: content.size] = content.reshape(-1)


@pytest.mark.parametrize(
    "ctas", [5, *(pytest.param(ctas, marks=pytest.mark.full) for ctas in (1, 16))]
)
def test_the_device_plans_as_the_host(ctas: int) -> None:
    rng, op = generator("device plan", ctas), GEOMETRY.compile(causal())
    device = SimulatorDevice(checks="all")
    first, then = (rng.integers(0, 513, 9) * (rng.random(9) < 0.9) for _ in range(2))
    plan, host = plan_of(op, first, ctas), plan_of(op, then, ctas)
    planner = plan_on_device(plan, device=device)
    for name, buffer in planner.tables.items():
        write(buffer, host.arrays.tables[name])
    planner.run()
    buffers = plan.upload(device).buffers
    total = int(host.arrays.tables["cta_indptr"][-1])
    used = {"cta_indptr": ctas + 1, "items": total, "item_merge": total}
    used["merges"] = int(host.arrays.tables["item_merge"][:total].max(initial=-1)) + 1
    for name, count in used.items():
        expected = host.arrays.tables[name][:count]
        np.testing.assert_array_equal(buffers[name].numpy()[:count], expected)


@pytest.mark.parametrize("ctas", [7, pytest.param(60, marks=pytest.mark.full)])
def test_attention_follows_the_lengths_on_the_device(ctas: int) -> None:
    rng, op = generator("device lengths", ctas), GEOMETRY.compile(causal())
    device, limits = SimulatorDevice(), BatchLimits(4, 4, 512, 100)
    plan = plan_of(op, np.array([1, 1, 1, 1]), ctas, limits)
    planner = plan_on_device(plan, device=device)
    for lengths in ([300, 0, 1, 77], [17, 500, 16, 33]):
        batch = random_batch(GEOMETRY, [(1, kv) for kv in lengths], rng)
        for name, buffer in planner.tables.items():
            write(buffer, getattr(batch, name))
        planner.run()
        caches = [
            np.concatenate([pages, np.zeros((100 - len(pages), *pages.shape[1:]), pages.dtype)])
            for pages in (batch.k_pages, batch.v_pages)
        ]
        got = plan.run(batch.q, *caches, device=device)
        check(GEOMETRY, got, attend(GEOMETRY, batch, mask_mod=causal_mask))


def test_a_plan_made_on_the_device_takes_no_steps_on_the_host() -> None:
    op, device, lengths = GEOMETRY.compile(causal()), SimulatorDevice(), np.full(9, 40)
    plan = plan_of(op, lengths, 5)
    plan_on_device(plan, device=device).run()
    with pytest.raises(ArgumentError, match="'step': expected a plan whose lengths the host knows"):
        plan.step()
    tables = plan.arrays.tables
    used = PageTable(
        tables["kv_indptr"], np.arange(27, dtype=np.int32), np.full(9, 8, np.int32), 16
    )
    plan.update(tables["qo_indptr"], used.kv_indptr, used.kv_indices, used.kv_last_page_len)
    plan.step()


@pytest.mark.parametrize(
    ("variant", "options", "message"),
    [
        (sliding_window(9), {}, "expected a mask that hides no keys from the last query"),
        (causal(), {"batch_invariant": True}, "expected a plan that depends on the batch"),
        (causal(), {"limits": None}, "expected a plan that was made with limits"),
        (causal(), {"limits": BatchLimits(3, 9, 512, 64)}, "expected one query row for each of"),
    ],
)
def test_other_plans_are_refused(variant: object, options: dict[str, Any], message: str) -> None:
    op = GEOMETRY.compile(variant)
    table = np.array([0, 1, 2], np.int32), np.array([0, 1], np.int32), np.array([3, 4], np.int32)
    named: dict[str, Any] = {"limits": BatchLimits(2, 2, 512, 64), "num_ctas": 4, **options}
    plan = op.plan(np.array([0, 1, 2], np.int32), *table, **named)
    with pytest.raises(ArgumentError, match=message):
        plan_on_device(plan, device=SimulatorDevice())
