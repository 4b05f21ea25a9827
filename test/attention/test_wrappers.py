"""Wrappers over the engine, on the simulator; their plans in CUDA graphs, on a recorded driver."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tilewright.attention import BatchDecode, BatchLimits, BatchPrefill, causal
from tilewright.runtime.cuda.device import CudaDevice
from tilewright.runtime.cuda.driver import Driver
from tilewright.runtime.errors import ArgumentError
from tilewright.test.attention.reference import Batch, Geometry, attend, check, random_batch
from tilewright.test.attention.test_on_simulator import causal_mask, generator
from tilewright.test.runtime.attention_case import Geometry as Stub
from tilewright.test.runtime.attention_case import batch_of, op_of
from tilewright.test.runtime.cuda.fake_driver import FakeBindings

GEOMETRY = Geometry(group=2, num_kv_heads=2, head_dim=32, page_size=4)
LIMITS = BatchLimits(requests=3, query_rows=3, kv_len=64, pages=48)


def padded(batch: Batch, rows: int) -> Batch:
    """Returns a batch whose q has room for more rows."""
    q = np.zeros((rows, *batch.q.shape[1:]), batch.q.dtype)
    q[: len(batch.q)] = batch.q
    return replace(batch, q=q)


def test_prompts_and_prompts_that_go_on() -> None:
    batch = random_batch(GEOMETRY, [(20, 20), (5, 33)], generator("prefill wrapper"))
    prefill = BatchPrefill(GEOMETRY.compile(causal()))
    prefill.plan(*batch.tables)
    got = prefill.run(*batch.arrays)
    check(GEOMETRY, got, attend(GEOMETRY, batch, mask_mod=causal_mask))


@pytest.mark.parametrize("query_len", [1, 3])
def test_decoding_takes_its_rows_from_the_page_table(query_len: int) -> None:
    lengths = [(query_len, 9), (query_len, 30)]
    batch = random_batch(GEOMETRY, lengths, generator("decode wrapper", query_len))
    decode = BatchDecode(GEOMETRY.compile(causal()), query_len=query_len)
    decode.plan(*batch.tables[1:])
    got = decode.run(*batch.arrays)
    check(GEOMETRY, got, attend(GEOMETRY, batch, mask_mod=causal_mask))


def test_batches_within_the_limits_share_one_plan() -> None:
    decode = BatchDecode(GEOMETRY.compile(causal()), limits=LIMITS, num_ctas=5)
    plans: list[Any] = []
    for lengths in ([(1, 5), (1, 64), (1, 2)], [(1, 9), (1, 30)]):
        batch = random_batch(GEOMETRY, lengths, generator("limits", len(lengths)), 0.0)
        plans.append(decode.plan(*batch.tables[1:]))
        wide = padded(batch, LIMITS.query_rows)
        out, lse = decode.run(*wide.arrays)
        count = len(lengths)
        expected = attend(GEOMETRY, batch, mask_mod=causal_mask)
        check(GEOMETRY, (out[:count], lse[:count]), expected)
    assert plans[0] is plans[1]


def test_a_step_of_decoding_sees_one_more_key() -> None:
    decode = BatchDecode(GEOMETRY.compile(causal()), limits=LIMITS, num_ctas=5)
    longer = random_batch(GEOMETRY, [(1, 9), (1, 30)], generator("step"), 0.0)
    # The batch before the step: the first request had two full pages, its third is new.
    indptr = np.array([0, 2, 10], np.int32)
    indices = np.delete(longer.kv_indices, 2)
    decode.plan(indptr, indices, np.array([4, 1], np.int32))
    assert decode.pages_needed() == 1
    decode.step(longer.kv_indices[2:3])
    out, lse = decode.run(*padded(longer, 3).arrays)
    expected = attend(GEOMETRY, longer, mask_mod=causal_mask)
    check(GEOMETRY, (out[:2], lse[:2]), expected)


def test_what_was_not_planned_is_not_run() -> None:
    decode = BatchDecode(op_of(Stub()))
    with pytest.raises(ArgumentError, match="a batch that was planned, got none"):
        decode.run(None, None, None)


def stub_batch(lengths: list[int]) -> Any:
    return batch_of(Stub(), [1] * len(lengths), lengths)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[FakeBindings, CudaDevice]:
    monkeypatch.setenv("TILEWRIGHT_CACHE_DIR", str(tmp_path))
    bindings = FakeBindings(contract=op_of(Stub()).contract)
    return bindings, CudaDevice(0, Driver(bindings))


STUB_LIMITS = BatchLimits(requests=4, query_rows=4, kv_len=60, pages=40)


def test_a_graph_replays_the_plan_of_the_next_batch_at_the_same_addresses(
    recorded: tuple[FakeBindings, CudaDevice],
) -> None:
    bindings, device = recorded
    decode = BatchDecode(op_of(Stub()), limits=STUB_LIMITS, device=device)
    stream, batch = device.stream(), stub_batch([7, 20])
    wide = np.zeros((4, *batch.q.shape[1:]), batch.q.dtype)
    q, k, v = (device.array(array) for array in (wide, batch.k_pages, batch.v_pages))
    plan = decode.plan(*batch.tables[1:])
    workspace = plan.upload(device, stream)
    with device.capture(stream) as graph:
        decode.run(q, k, v, stream=stream)
    graph.replay(stream)
    following = stub_batch([20, 7])
    decode.plan(*following.tables[1:], stream=stream)
    graph.replay(stream)
    first, second = bindings.launches
    assert first == second
    table = workspace.buffers["kv_last_page_len"].numpy()
    np.testing.assert_array_equal(table[:2], following.tables[3])


def test_a_plan_of_another_layout_is_refused_before_a_replay(
    recorded: tuple[FakeBindings, CudaDevice],
) -> None:
    _, device = recorded
    op, tables = op_of(Stub()), stub_batch([7, 20]).tables
    plan = op.plan(*tables, limits=STUB_LIMITS, device=device)
    other = op.plan(*tables, limits=replace(STUB_LIMITS, pages=41), device=device)
    with pytest.raises(ArgumentError, match="got a plan of another layout"):
        plan.adopt(other)


def test_a_batch_beyond_the_limits_leaves_the_plan_as_it_was(
    recorded: tuple[FakeBindings, CudaDevice],
) -> None:
    _, device = recorded
    decode = BatchDecode(op_of(Stub()), limits=STUB_LIMITS, device=device)
    plan = decode.plan(*stub_batch([7, 20]).tables[1:])
    before = {name: table.copy() for name, table in plan.arrays.tables.items()}
    with pytest.raises(ArgumentError, match="61|60"):
        decode.plan(*stub_batch([7, 61]).tables[1:])
    for name, table in plan.arrays.tables.items():
        np.testing.assert_array_equal(table, before[name])
