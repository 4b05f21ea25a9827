"""Plans of block masks, cascades and block-sparse patterns that stay where they are, for graphs."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tilewright.attention import (
    BatchLimits,
    BatchPrefill,
    BlockSparseAttention,
    BlockSparseKV,
    CascadeAttention,
    Plan,
    causal,
    document_mask,
    tensor,
    variable_blocks,
)
from tilewright.attention import compile as compile_attention
from tilewright.runtime.cuda.device import CudaDevice
from tilewright.runtime.cuda.driver import Driver
from tilewright.runtime.default_device import default_device
from tilewright.runtime.errors import ArgumentError
from tilewright.runtime.planner import Prefixes
from tilewright.test.attention.reference import Batch, Geometry, attend, average, check, exact
from tilewright.test.attention.test_cascade_on_simulator import sharing
from tilewright.test.attention.test_on_simulator import causal_mask, generator
from tilewright.test.runtime.cuda.fake_driver import FakeBindings

GEOMETRY = Geometry(group=4, num_kv_heads=2, head_dim=32)
LIMITS = BatchLimits(requests=4, query_rows=40, kv_len=208, pages=36)
# The caches of all batches have so many pages.
PAGES = 48
POSITIONS = 208
FULL: list[tuple[int, int]] = [(37, 208), (1, 160), (1, 150), (1, 48)]
FEWER: list[tuple[int, int]] = [(2, 150), (1, 150)]
# Rows and heads of queries, keys and values of patterns.
SIZES = ((6, 4), (16, 2), (16, 2))


def batch_of(lengths: list[tuple[int, int]], name: str) -> Batch:
    """Returns a batch whose first pages are shared, with room for all declared rows and pages."""
    requests = [b for b, (q_len, kv_len) in enumerate(lengths) if q_len < 16 and kv_len >= 150]
    shared = [(requests[:2], 144)] if requests else []
    batch = sharing(lengths, shared, generator("stays", name, len(lengths)))
    caches = [np.zeros((PAGES, *a.shape[1:]), a.dtype) for a in (batch.k_pages, batch.v_pages)]
    q = np.zeros((LIMITS.query_rows, *batch.q.shape[1:]), batch.q.dtype)
    q[: len(batch.q)] = batch.q
    for cache, pages in zip(caches, (batch.k_pages, batch.v_pages), strict=True):
        cache[: len(pages)] = pages
    return replace(batch, q=q, k_pages=caches[0], v_pages=caches[1])


def addresses(plan: Plan) -> dict[str, int]:
    return {n: buffer.address for n, buffer in plan.upload(default_device()).buffers.items()}


def compare(batch: Batch, got: Any, mask: Any) -> None:
    rows = int(batch.qo_indptr[-1])
    expected = attend(GEOMETRY, replace(batch, q=batch.q[:rows]), mask_mod=mask)
    check(GEOMETRY, (got[0][:rows], got[1][:rows]), expected)


def test_documents_of_other_batches_stay_in_one_plan() -> None:
    variant = document_mask(tensor("documents", ("batch", POSITIONS), "i32"))
    op = GEOMETRY.compile(variant, work="tile_lists")
    prefill = BatchPrefill(op, limits=LIMITS, num_ctas=5)
    found: list[tuple[Plan, dict[str, int]]] = []
    for name, lengths in (("full", FULL), ("fewer", FEWER)):
        batch, rng = batch_of(lengths, name), generator("documents", name)
        documents = np.sort(rng.integers(0, 4, (LIMITS.requests, POSITIONS)), axis=1)
        params = {"documents": documents.astype(np.int32)}
        plan = prefill.plan(*batch.tables, mask_parameters=params)
        got = prefill.run(*batch.arrays, params=params)

        def same(b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
            return documents[b][q_idx] == documents[b][kv_idx]

        compare(batch, got, same)
        found.append((plan, addresses(plan)))
    assert found[0] == found[1]


def test_cascades_of_other_batches_stay_in_one_plan() -> None:
    op = GEOMETRY.compile(causal(), work="cascade")
    cascade = CascadeAttention(op, limits=LIMITS, num_ctas=5)
    found: list[tuple[Plan, dict[str, int]]] = []
    for name, lengths in (("full", FULL), ("fewer", FEWER)):
        batch = batch_of(lengths, name)
        plan = cascade.plan(*batch.tables)
        compare(batch, cascade.run(*batch.arrays), causal_mask)
        # Some item has the rows of two requests.
        assert (plan.arrays.tables["item_merge"][:, 1] > 1).any()
        found.append((plan, addresses(plan)))
    assert found[0] == found[1]


@pytest.mark.parametrize("heads", [1, 2])
def test_block_sparse_patterns_stay_in_one_plan(heads: int) -> None:
    op = compile_attention(
        kv=BlockSparseKV(4, per_head=heads > 1),
        num_qo_heads=4,
        num_kv_heads=2,
        head_dim=32,
        dtype="f16",
    )
    limits = BatchLimits(requests=3, query_rows=6, kv_len=16, pages=12 * heads)
    sparse, rng = BlockSparseAttention(op, limits=limits, num_ctas=5), generator("blocks", heads)
    q, k, v = (rng.standard_normal((n, h, 32)).astype(np.float16) for n, h in SIZES)
    found: list[tuple[Plan, dict[str, int]]] = []
    for seen in (np.ones((heads, 3, 4), np.bool_), rng.random((heads, 3, 4)) < 0.5):
        rows, columns = np.full(3, 2, np.int32), np.full(4, 4, np.int32)
        plan = sparse.plan(variable_blocks(seen if heads > 1 else seen[0], rows, columns))
        out, _ = sparse.run(q, k, v)
        mask = np.repeat(np.repeat(seen, 2, axis=1), 4, axis=2)
        for head in range(4):
            scores = exact(q[:, head]) @ exact(k[:, head // 2]).T * 32**-0.5
            scores = np.where(mask[head // 2 % heads], scores, -np.inf)
            expected, _ = average(scores, exact(v[:, head // 2]))
            np.testing.assert_allclose(exact(out[:, head]), expected, atol=5e-3)
        found.append((plan, addresses(plan)))
    assert found[0] == found[1]


def made(work: str, limits: BatchLimits = LIMITS, **options: Any) -> Plan:
    """Returns a plan with limits of a causal kernel of some work, for the batch of few requests."""
    op = GEOMETRY.compile(causal(), work=work)
    named: dict[str, Any] = {"limits": limits, "num_ctas": 5, **options}
    return op.plan(*batch_of(FEWER, "made").tables, **named)


def too_many_requests(plan: Plan) -> None:
    plan.update(*batch_of([(1, 20)] * 5, "requests").tables)


def too_many_rows(plan: Plan) -> None:
    batch = batch_of(FEWER, "rows")
    plan.update(batch.qo_indptr * np.int32(21), *batch.tables[1:])


def too_long(plan: Plan) -> None:
    plan.update(*batch_of([(1, 16), (1, 209)], "long").tables)


def too_many_pages(plan: Plan) -> None:
    plan.update(*batch_of([(1, 208), (1, 208), (1, 176)], "pages").tables)


def too_many_levels(plan: Plan) -> None:
    nested = ([0, 1], [0, 0, 0], [2, 2, 2], [0, 1, 2], [1, 2, 3], [-1, 0, 1])
    plan.update(*batch_of(FEWER, "made").tables, prefixes=Prefixes(*map(np.array, nested)))


def one_step(plan: Plan) -> None:
    plan.step()


WORKS = ("tile_lists", "cascade")
BEYOND: list[tuple[Callable[[Plan], None], str]] = [
    (too_many_requests, "'kv_len': expected at most 4 requests, as declared, got 5"),
    (too_many_rows, "'qo_indptr': expected at most 40 query rows, as declared, got 63"),
    (too_long, r"'kv_len': expected 0 to 208 KV rows, as declared, got 209 at \[1\]"),
    (too_many_pages, "'kv_indices': expected at most 36 entries, as declared, got 37"),
    (one_step, "'step': expected a plan of work 'ranges' .* update this one"),
]


@pytest.mark.parametrize(
    ("work", "change", "message"),
    [
        *((work, *beyond) for work in WORKS for beyond in BEYOND),
        ("cascade", too_many_levels, "at most 2 levels of prefixes, as declared, got 3"),
    ],
)
def test_what_exceeds_a_plan_is_refused_and_changes_nothing(
    work: str, change: Callable[[Plan], None], message: str
) -> None:
    plan = made(work)
    before = {name: table.copy() for name, table in plan.arrays.tables.items()}
    with pytest.raises(ArgumentError, match=message):
        change(plan)
    for name, table in plan.arrays.tables.items():
        np.testing.assert_array_equal(table, before[name])


def test_more_tiles_of_keys_than_are_declared_are_refused() -> None:
    limits = replace(LIMITS, kv_tiles=6)
    plan = made("tile_lists", limits)
    assert plan.arrays.tables["kv_tiles"].shape == (6,)
    message = "'kv_tiles': expected at most 6 entries, as declared, got 7"
    with pytest.raises(ArgumentError, match=message):
        plan.update(*batch_of([(1, 150), (1, 200)], "tiles").tables)


@pytest.mark.parametrize(("levels", "widths"), [(0, {1}), (1, {1, 3}), (2, {1, 2, 3})])
def test_no_more_levels_of_prefixes_are_shared_than_are_declared(
    levels: int, widths: set[int]
) -> None:
    batch = sharing([(1, 300)] * 3, [((0, 1, 2), 128), ((0, 1), 256)], generator("deep"))
    limits = BatchLimits(requests=3, query_rows=3, kv_len=300, pages=57, prefix_levels=levels)
    plan = GEOMETRY.compile(causal(), work="cascade").plan(*batch.tables, limits=limits, num_ctas=1)
    tables = plan.arrays.tables
    rows = tables["items"][: tables["cta_indptr"][-1], 6]
    assert set((rows // GEOMETRY.group).tolist()) == widths


@pytest.mark.parametrize("work", WORKS)
def test_the_declared_bytes_are_those_on_the_device(work: str) -> None:
    plan = made(work)
    tables = sum(buffer.nbytes for buffer in plan.upload(default_device()).buffers.values())
    declared = plan.op.plan_bytes(LIMITS, num_ctas=5)
    assert declared == plan.nbytes
    assert declared.tables == tables
    shapes = {param.name: param.shape for param in plan.op.contract.pointers}
    rows = plan.arrays.slots * int(shapes["partial_lse"][1])
    assert declared[1:] == (rows * 32 * 4, rows * 4)


@pytest.mark.parametrize("work", WORKS)
def test_a_plan_adopts_another_of_its_layout(work: str) -> None:
    batch = batch_of(FULL, "adopted")
    op = GEOMETRY.compile(causal(), work=work)
    plan, other = made(work), op.plan(*batch.tables, limits=LIMITS, num_ctas=5)
    before = addresses(plan)
    plan.adopt(other)
    assert addresses(plan) == before
    compare(batch, plan.run(*batch.arrays), causal_mask)


@pytest.mark.parametrize(
    ("work", "limits", "options"),
    [
        ("tile_lists", replace(LIMITS, kv_tiles=50), {}),
        ("tile_lists", LIMITS, {"batch_invariant": True}),
        ("cascade", replace(LIMITS, prefix_levels=1), {}),
        ("cascade", LIMITS, {"num_ctas": 6}),
    ],
    ids=["tiles", "mode", "levels", "CTAs"],
)
def test_a_plan_of_another_layout_is_refused(
    work: str, limits: BatchLimits, options: dict[str, Any]
) -> None:
    with pytest.raises(ArgumentError, match="'other': expected a plan of the same kernel"):
        made(work).adopt(made(work, limits, **options))


def test_a_graph_replays_the_cascade_of_the_next_batch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    op = GEOMETRY.compile(causal(), work="cascade")
    monkeypatch.setenv("TILEWRIGHT_CACHE_DIR", str(tmp_path))
    bindings = FakeBindings(contract=op.contract)
    device = CudaDevice(0, Driver(bindings))
    cascade = CascadeAttention(op, limits=LIMITS, device=device, num_ctas=5)
    stream, batch = device.stream(), batch_of(FULL, "graph")
    q, k, v = (device.array(array) for array in batch.arrays)
    workspace = cascade.plan(*batch.tables).upload(device, stream)
    with device.capture(stream) as graph:
        cascade.run(q, k, v, stream=stream)
    graph.replay(stream)
    cascade.plan(*batch_of(FEWER, "graph").tables, stream=stream)
    graph.replay(stream)
    first, second = bindings.launches
    assert first == second
    assert workspace.buffers["qo_indptr"].numpy().tolist() == [0, 2, 3, 3, 3]
