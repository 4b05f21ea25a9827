"""Planning and running attention on a device that computes in NumPy."""

import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.runtime.attention import AttentionOp, load_bundle
from tilewright.runtime.buffer import Buffer
from tilewright.runtime.contract import PointerParam, ScalarParam
from tilewright.test.runtime import fake_torch
from tilewright.test.runtime.attention_case import (
    Geometry,
    attend_tiles,
    batch_of,
    op_of,
    reference,
    to_float,
)
from tilewright.test.runtime.fake_device import FakeDevice
from tilewright.test.runtime.foreign_array import Producer

LENGTHS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=12)


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    """Any group size, page size, layout, type and tile size."""
    kv_heads = draw(st.integers(1, 3))
    return Geometry(
        kv_heads * draw(st.integers(1, 5)),
        kv_heads,
        page_size=draw(st.sampled_from([1, 3, 16, 64])),
        layout=draw(st.sampled_from(["NHD", "HND"])),
        dtype=draw(st.sampled_from(["bf16", "f16"])),
        tile_rows=draw(st.sampled_from([1, 7, 16, 64])),
    )


@given(geometries(), LENGTHS)
@settings(max_examples=60, deadline=None)
def test_each_packed_row_sees_each_kv_row_once_for_each_head(
    geometry: Geometry, lengths: list[tuple[int, int]]
) -> None:
    batch = batch_of(geometry, [q for q, _ in lengths], [kv for _, kv in lengths])
    op = op_of(geometry)
    items: list[list[int]] = op.plan(*batch.tables).arrays.tables["items"].tolist()
    seen: dict[tuple[int, int, int], list[tuple[int, int]]] = {}
    for request, start, head, begin, end, _ in items:
        packed = lengths[request][0] * op.section.group
        for row in range(start, min(start + geometry.tile_rows, packed)):
            kv = begin, min(end, lengths[request][1])
            seen.setdefault((request, row, head), []).append(kv)
    expected = {
        (b, r, head): kv_len
        for b, (q_len, kv_len) in enumerate(lengths)
        for r in range(q_len * op.section.group)
        for head in range(geometry.num_kv_heads)
    }
    assert seen.keys() == expected.keys()
    for place, kv_len in expected.items():
        parts = sorted(seen[place])
        begins, ends = [begin for begin, _ in parts], [end for _, end in parts]
        assert (begins[0], ends[-1]) == (0, kv_len)
        assert begins[1:] == ends[:-1]


@given(geometries(), LENGTHS, st.integers(0, 2**16))
@settings(max_examples=25, deadline=None)
def test_run_agrees_with_float64(
    geometry: Geometry, lengths: list[tuple[int, int]], seed: int
) -> None:
    q_len, kv_len = [q % 8 for q, _ in lengths], [kv for _, kv in lengths]
    batch = batch_of(geometry, q_len, kv_len, seed)
    out, lse = (
        op_of(geometry).plan(*batch.tables).run(*batch.arrays, device=FakeDevice(attend_tiles))
    )
    expected, expected_lse = reference(geometry, batch)
    np.testing.assert_allclose(to_float(out), expected, rtol=1e-2, atol=1e-2)
    np.testing.assert_allclose(lse, expected_lse, rtol=1e-4, atol=1e-4)


@pytest.fixture
def op() -> AttentionOp:
    return op_of(Geometry())


def test_the_plan_is_uploaded_once(op: AttentionOp) -> None:
    batch, device = batch_of(Geometry(), [3, 1], [5, 7]), FakeDevice(attend_tiles)
    plan = op.plan(*batch.tables)
    for _ in range(3):
        plan.run(*batch.arrays, device=device)
    assert (len(device.launches), device.workspaces) == (3, 1)


@pytest.mark.parametrize("q_len", [[], [0], [0, 0, 0]])
def test_a_batch_without_rows_launches_nothing(op: AttentionOp, q_len: list[int]) -> None:
    batch, device = batch_of(Geometry(), q_len, [5] * len(q_len)), FakeDevice(attend_tiles)
    out, lse = op.plan(*batch.tables).run(*batch.arrays, device=device)
    assert (out.shape, lse.shape, out.dtype, lse.dtype) == ((0, 4, 16), (0, 4), "uint16", "float32")
    assert device.launches == []


def test_rows_without_kv_give_zero_and_minus_infinity(op: AttentionOp) -> None:
    batch = batch_of(Geometry(), [2, 3], [0, 4])
    out, lse = op.plan(*batch.tables).run(*batch.arrays, device=FakeDevice(attend_tiles))
    assert not to_float(out[:2]).any()
    assert (lse[:2] == -np.inf).all()
    assert np.isfinite(lse[2:]).all()


def test_an_empty_cache_serves_requests_without_pages(op: AttentionOp) -> None:
    batch = batch_of(Geometry(), [2], [0])
    cache = np.zeros((0, *Geometry().cache_shape), np.uint16)
    plan = op.plan(*batch.tables)
    _, lse = plan.run(batch.q, cache, cache, device=FakeDevice(attend_tiles))
    assert (lse == -np.inf).all()


def test_nan_in_q_stays_in_its_row(op: AttentionOp) -> None:
    batch = batch_of(Geometry(), [3], [7])
    batch.q[1, 2, 5] = 0x7FC0
    out, lse = op.plan(*batch.tables).run(*batch.arrays, device=FakeDevice(attend_tiles))
    expected = np.zeros((3, 4), bool)
    expected[1, 2] = True
    np.testing.assert_array_equal(np.isnan(lse), expected)
    np.testing.assert_array_equal(np.isnan(to_float(out)).any(axis=2), expected)


def test_results_are_written_where_the_caller_says(op: AttentionOp) -> None:
    batch, device = batch_of(Geometry(), [3], [7]), FakeDevice(attend_tiles)
    plan = op.plan(*batch.tables)
    out, lse = np.zeros_like(batch.q), np.zeros((3, 4), np.float32)
    results = plan.run(*batch.arrays, out=out, lse=lse, device=device)
    assert results[0] is out
    assert results[1] is lse
    for given_array, made in zip((out, lse), plan.run(*batch.arrays, device=device), strict=True):
        np.testing.assert_array_equal(given_array, made)


def test_ml_dtypes_bfloat16_comes_back_as_ml_dtypes_bfloat16(op: AttentionOp) -> None:
    batch, device = batch_of(Geometry(), [3], [7]), FakeDevice(attend_tiles)
    plan = op.plan(*batch.tables)
    bits, _ = plan.run(*batch.arrays, device=device)
    out, _ = plan.run(*(a.view(ml_dtypes.bfloat16) for a in batch.arrays), device=device)
    assert out.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(out.view(np.uint16), bits)


def test_bfloat16_over_dlpack_gives_the_same(op: AttentionOp) -> None:
    batch, device = batch_of(Geometry(), [3], [7]), FakeDevice(attend_tiles)
    plan = op.plan(*batch.tables)
    bits, _ = plan.run(*batch.arrays, device=device)
    out, _ = plan.run(*(Producer(a, "bf16") for a in batch.arrays), device=device)
    np.testing.assert_array_equal(out, bits)


def test_tables_are_taken_over_dlpack(op: AttentionOp) -> None:
    batch = batch_of(Geometry(), [3, 5], [7, 2])
    expected = op.plan(*batch.tables).arrays.tables
    tables = op.plan(*(Producer(a, "i32") for a in batch.tables)).arrays.tables
    for name, table in expected.items():
        np.testing.assert_array_equal(tables[name], table)


def test_buffers_stay_on_the_device(op: AttentionOp) -> None:
    batch, device = batch_of(Geometry(), [3], [7]), FakeDevice(attend_tiles)
    plan = op.plan(*batch.tables)
    out, lse = plan.run(*(device.array(a) for a in batch.arrays))
    assert isinstance(out, Buffer)
    expected = plan.run(*batch.arrays, device=device)
    np.testing.assert_array_equal(out.numpy(), expected[0])
    np.testing.assert_array_equal(lse.numpy(), expected[1])


def test_a_torch_tensor_gives_torch_tensors(
    op: AttentionOp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", fake_torch)
    batch, device = batch_of(Geometry(), [3], [7]), FakeDevice(attend_tiles)
    plan = op.plan(*batch.tables)
    bits, expected_lse = plan.run(*batch.arrays, device=device)
    tensors = (fake_torch.Tensor(a, fake_torch.bfloat16) for a in batch.arrays)
    out, lse = plan.run(*tensors, device=device)
    assert (out.dtype, lse.dtype) == (fake_torch.bfloat16, fake_torch.float32)
    np.testing.assert_array_equal(out.memory, bits)
    np.testing.assert_array_equal(lse.memory, expected_lse)


def test_the_callers_tables_may_change_after_the_plan(op: AttentionOp) -> None:
    batch, device = batch_of(Geometry(), [3], [7]), FakeDevice(attend_tiles)
    plan = op.plan(*batch.tables)
    expected, _ = reference(Geometry(), batch)
    for table in batch.tables:
        table[:] = 0
    out, _ = plan.run(*batch.arrays, device=device)
    np.testing.assert_allclose(to_float(out), expected, rtol=1e-2, atol=1e-2)


def test_a_softmax_scale_replaces_that_of_the_contract(op: AttentionOp) -> None:
    batch, device = batch_of(Geometry(), [3], [7]), FakeDevice(attend_tiles)
    _, lse = op.plan(*batch.tables).run(*batch.arrays, softmax_scale=1e-30, device=device)
    np.testing.assert_allclose(lse, np.log(7), rtol=1e-6)


def test_parameters_of_a_variant_are_passed_by_name() -> None:
    seen: list[dict[str, Any]] = []
    params = (PointerParam("slopes", "f32", ("4",)), ScalarParam("cap", "f32"))
    batch = batch_of(Geometry(), [3], [7])
    plan = op_of(Geometry(), params).plan(*batch.tables)
    slopes = np.arange(4, dtype=np.float32)
    device = FakeDevice(lambda _contract, _grid, values: seen.append(values))
    plan.run(*batch.arrays, params={"slopes": slopes, "cap": 30}, device=device)
    np.testing.assert_array_equal(seen[0]["slopes"], slopes)
    assert seen[0]["cap"] == 30.0


def test_a_bundle_runs_like_the_op_it_was_saved_from(op: AttentionOp, tmp_path: Path) -> None:
    op.save(tmp_path / "bundle")
    batch, device = batch_of(Geometry(), [3, 2], [7, 0]), FakeDevice(attend_tiles)
    expected = op.plan(*batch.tables).run(*batch.arrays, device=device)
    loaded = load_bundle(tmp_path / "bundle").plan(*batch.tables)
    for mine, theirs in zip(loaded.run(*batch.arrays, device=device), expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)
