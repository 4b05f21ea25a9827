"""Wrappers over the engine, on the simulator; their plans in CUDA graphs, on a recorded driver."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tilewright.attention import (
    BatchDecode,
    BatchLimits,
    BatchPrefill,
    BatchPrefillRagged,
    BlockSparse,
    BlockSparseAttention,
    BlockSparseKV,
    CascadeAttention,
    RaggedKV,
    causal,
)
from tilewright.attention import compile as compile_attention
from tilewright.runtime.cuda.device import CudaDevice
from tilewright.runtime.cuda.driver import Driver
from tilewright.runtime.errors import ArgumentError
from tilewright.test.attention.reference import (
    Batch,
    Geometry,
    attend,
    average,
    check,
    random_batch,
)
from tilewright.test.attention.test_on_simulator import causal_mask, generator
from tilewright.test.runtime.attention_case import Geometry as Stub
from tilewright.test.runtime.attention_case import batch_of, op_of
from tilewright.test.runtime.cuda.fake_driver import FakeBindings

GEOMETRY = Geometry(group=2, num_kv_heads=2, head_dim=32, page_size=4)
NUMBERS: dict[str, Any] = {"num_qo_heads": 4, "num_kv_heads": 2, "head_dim": 32}
SIZES = ((6, 4), (16, 2), (16, 2))
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


def test_ragged_keys() -> None:
    rng = generator("ragged wrapper")
    batch = random_batch(replace(GEOMETRY, page_size=1), [(7, 7), (3, 12)], rng)
    op = compile_attention(variant=causal(), kv=RaggedKV(), dtype="f16", **NUMBERS)
    prefill = BatchPrefillRagged(op)
    prefill.plan(batch.qo_indptr, batch.kv_indptr)
    k, v = (pages[batch.kv_indices, 0] for pages in (batch.k_pages, batch.v_pages))
    got = prefill.run(batch.q, k, v)
    check(GEOMETRY, got, attend(replace(GEOMETRY, page_size=1), batch, mask_mod=causal_mask))


def test_block_sparse_rows_see_their_blocks() -> None:
    rng = generator("block-sparse wrapper")
    seen = rng.random((3, 4)) < 0.6
    pattern = BlockSparse(
        np.array([0, 2, 4, 6], np.int32),
        np.cumsum([0, *seen.sum(axis=1)], dtype=np.int32),
        np.nonzero(seen)[1].astype(np.int32),
        columns=16,
        block_columns=4,
    )
    q, k, v = (rng.standard_normal((n, h, 32)).astype(np.float16) for n, h in SIZES)
    op = compile_attention(kv=BlockSparseKV(4), dtype="f16", **NUMBERS)
    sparse = BlockSparseAttention(op)
    sparse.plan(pattern)
    out, _ = sparse.run(q, k, v)
    mask = np.repeat(np.repeat(seen, 2, axis=0), 4, axis=1)
    for head in range(4):
        scores = q[:, head].astype(float) @ k[:, head // 2].astype(float).T * 32**-0.5
        expected, _ = average(np.where(mask, scores, -np.inf), v[:, head // 2].astype(float))
        np.testing.assert_allclose(out[:, head], expected, atol=5e-3)


def test_a_shared_prefix_is_read_once_in_one_launch() -> None:
    rng = generator("cascade wrapper")
    batch = random_batch(GEOMETRY, [(1, 200), (1, 170), (1, 30)], rng, 0.0)
    # The first 160 keys of the second request are those of the first.
    indices = batch.kv_indices.copy()
    first, second = batch.kv_indptr[:2]
    indices[second : second + 40] = indices[first : first + 40]
    batch = replace(batch, kv_indices=indices)
    cascade = CascadeAttention(GEOMETRY.compile(causal(), work="cascade"), num_ctas=3)
    plan = cascade.plan(*batch.tables)
    got = cascade.run(*batch.arrays)
    check(GEOMETRY, got, attend(GEOMETRY, batch, mask_mod=causal_mask))
    items = plan.arrays.tables["items"].tolist()
    # Of both requests and one head: what they have alone begins behind the prefix.
    read = [min(end, 160) - begin for b, _, head, begin, end, *_ in items if b < 2 and head == 0]
    assert sum(rows for rows in read if rows > 0) == 160
