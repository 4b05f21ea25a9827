"""Planning and running attention on a device that computes in NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.runtime.attention import AttentionOp
from tilewright.test.runtime.attention_case import (
    Geometry,
    attend_tiles,
    batch_of,
    op_of,
    reference,
    to_float,
)
from tilewright.test.runtime.fake_device import FakeDevice

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
def test_each_packed_row_is_in_exactly_one_tile(
    geometry: Geometry, lengths: list[tuple[int, int]]
) -> None:
    batch = batch_of(geometry, [q for q, _ in lengths], [kv for _, kv in lengths])
    op = op_of(geometry)
    tables = op.plan(*batch.tables).arrays.tables
    seen: list[tuple[int, int]] = []
    for request, row in zip(
        *(tables[name].tolist() for name in ("tile_request", "tile_row")), strict=True
    ):
        packed = lengths[request][0] * op.section.group
        seen += [(request, r) for r in range(row, min(row + geometry.tile_rows, packed))]
    expected = [
        (b, r) for b, (q_len, _) in enumerate(lengths) for r in range(q_len * op.section.group)
    ]
    assert sorted(seen) == expected


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


@given(LENGTHS)
@settings(max_examples=30, deadline=None)
def test_tiles_are_ordered_by_falling_kv_length(lengths: list[tuple[int, int]]) -> None:
    geometry = Geometry()
    batch = batch_of(geometry, [q for q, _ in lengths], [kv for _, kv in lengths])
    request = op_of(geometry).plan(*batch.tables).arrays.tables["tile_request"]
    kv_len = [lengths[b][1] for b in request.tolist()]
    assert kv_len == sorted(kv_len, reverse=True)


@pytest.fixture
def op() -> AttentionOp:
    return op_of(Geometry())


def test_the_plan_is_uploaded_once(op: AttentionOp) -> None:
    batch, device = batch_of(Geometry(), [3, 1], [5, 7]), FakeDevice(attend_tiles)
    plan = op.plan(*batch.tables)
    for _ in range(3):
        plan.run(*batch.arrays, device=device)
    assert (len(device.launches), device.workspaces) == (3, 1)
