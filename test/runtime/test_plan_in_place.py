"""Plans with declared maxima: other batches and further steps at the same addresses."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.runtime.attention import Plan
from tilewright.runtime.attention_planner import BatchLimits
from tilewright.runtime.contract import KernelContract
from tilewright.runtime.device import Grid
from tilewright.runtime.errors import ArgumentError
from tilewright.runtime.page_table import PageTable
from tilewright.test.runtime.attention_case import (
    Batch,
    Geometry,
    attend_tiles,
    batch_of,
    op_of,
    reference,
    to_float,
)
from tilewright.test.runtime.fake_device import FakeDevice

GEOMETRY = Geometry()  # pages of 3
LIMITS = BatchLimits(requests=6, query_rows=12, kv_len=60, pages=80)
REQUESTS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 36)), min_size=1, max_size=6)


def batches(requests: list[tuple[int, int]], seed: int = 0) -> Batch:
    """Returns a batch, all on pages below 128, with rows up to the declared maximum."""
    batch = batch_of(GEOMETRY, [q for q, _ in requests], [kv for _, kv in requests], seed)
    rng = np.random.default_rng(seed)
    caches = [np.zeros((128, *a.shape[1:]), a.dtype) for a in (batch.k_pages, batch.v_pages)]
    numbers = rng.permutation(128)[: len(batch.k_pages)].astype(np.int32)
    for cache, pages in zip(caches, (batch.k_pages, batch.v_pages), strict=True):
        cache[numbers] = pages
    q = np.zeros((LIMITS.query_rows, *batch.q.shape[1:]), batch.q.dtype)
    q[: len(batch.q)] = batch.q
    indices = numbers[batch.kv_indices]
    return replace(batch, q=q, kv_indices=indices, k_pages=caches[0], v_pages=caches[1])


def plan_of(batch: Batch, limits: BatchLimits = LIMITS, **options: Any) -> Plan:
    return op_of(GEOMETRY).plan(*batch.tables, limits=limits, num_ctas=5, **options)


def check(plan: Plan, batch: Batch, device: FakeDevice) -> None:
    """Runs a plan and compares the rows of the batch with the reference."""
    out, lse = plan.run(*batch.arrays, device=device)
    rows = int(batch.qo_indptr[-1])
    expected, expected_lse = reference(GEOMETRY, replace(batch, q=batch.q[:rows]))
    np.testing.assert_allclose(to_float(out[:rows]), expected, rtol=1e-2, atol=1e-2)
    np.testing.assert_allclose(lse[:rows], expected_lse, rtol=1e-4, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.lists(REQUESTS, min_size=2, max_size=4), st.booleans())
def test_one_plan_serves_other_batches(
    requests: list[list[tuple[int, int]]], invariant: bool
) -> None:
    device, first = FakeDevice(attend_tiles), batches(requests[0])
    plan = plan_of(first, batch_invariant=invariant, chunk=64)
    check(plan, first, device)
    for seed, lengths in enumerate(requests[1:]):
        batch = batches(lengths, seed)
        plan.update(*batch.tables)
        check(plan, batch, device)
    assert device.workspaces == 1


@settings(max_examples=25, deadline=None)
@given(REQUESTS, st.lists(st.integers(1, 4), min_size=1, max_size=4), st.randoms())
def test_steps_serve_the_longer_requests(
    requests: list[tuple[int, int]], steps: list[int], random: Any
) -> None:
    device, batch = FakeDevice(attend_tiles), batches(requests)
    plan = plan_of(batch)
    plan.upload(device)
    table = PageTable(*batch.tables[1:], GEOMETRY.page_size)
    for rows in steps:
        chosen = sorted(random.sample(range(len(requests)), random.randint(1, len(requests))))
        counts = np.zeros(len(requests), np.int32)
        counts[chosen] = rows
        free = np.setdiff1d(np.arange(128), table.kv_indices).astype(np.int32)
        table = table.grown(counts, free)
        members = np.array(chosen, np.int32)
        needed = plan.pages_needed(rows, members)
        plan.step(free[:needed], rows=rows, requests=members)
        tables = table.kv_indptr, table.kv_indices, table.kv_last_page_len
        for name, expected in zip(("kv_indptr", "kv_indices"), tables, strict=False):
            got = plan.arrays.tables[name]
            np.testing.assert_array_equal(got[: expected.size], expected)
        longer = dict(zip(("kv_indptr", "kv_indices", "kv_last_page_len"), tables, strict=True))
        check(plan, replace(batch, **longer), device)


def state(plan: Plan) -> list[npt.NDArray[np.int32]]:
    return [table.copy() for table in plan.arrays.tables.values()]


def too_many_requests(plan: Plan) -> None:
    plan.update(*batches([(1, 3)] * 7).tables)


def too_many_rows(plan: Plan) -> None:
    plan.update(*batch_of(GEOMETRY, [13], [4]).tables)


def too_long(plan: Plan) -> None:
    plan.update(*batches([(1, 61)]).tables)


def too_many_pages(plan: Plan) -> None:
    plan.update(*batch_of(GEOMETRY, [1] * 5, [60, 60, 60, 60, 3]).tables)


def step_beyond(plan: Plan) -> None:
    plan.step(np.arange(38, dtype=np.int32), rows=58)


def too_few_pages(plan: Plan) -> None:
    plan.step(np.zeros(0, np.int32), rows=9)


def pages_for_nobody(plan: Plan) -> None:
    plan.step(np.array([3], np.int32))


def unknown_request(plan: Plan) -> None:
    plan.step(requests=np.array([2], np.int32))


def page_outside(plan: Plan) -> None:
    batch = batches([(1, 3)])
    plan.update(*batch.tables[:2], np.array([128], np.int32), batch.tables[3])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (too_many_requests, "'kv_len': expected at most 6 requests, as declared, got 7"),
        (too_many_rows, "'qo_indptr': expected at most 12 query rows, as declared, got 13"),
        (too_long, r"'kv_len': expected 0 to 60 KV rows, as declared, got 61 at \[0\]"),
        (too_many_pages, "'kv_indices': expected at most 80 entries, as declared, got 81"),
        (step_beyond, r"'kv_len': expected 0 to 60 KV rows, as declared, got 63 at \[0\]"),
        (too_few_pages, "'pages': expected 6 new pages, got 0"),
        (pages_for_nobody, "'pages': expected 0 new pages, got 1"),
        (unknown_request, r"'requests': expected numbers below 2, .* got 2 at \[0\]"),
        (page_outside, "expected page numbers below 128, the pages of earlier runs, got 128"),
    ],
)
def test_what_exceeds_a_plan_is_refused_and_changes_nothing(
    change: Callable[[Plan], None], message: str
) -> None:
    batch, device = batches([(1, 5), (2, 4)]), FakeDevice(attend_tiles)
    plan = plan_of(batch)
    plan.run(*batch.arrays, device=device)
    before = state(plan)
    with pytest.raises(ArgumentError, match=message):
        change(plan)
    for old, new in zip(before, state(plan), strict=True):
        np.testing.assert_array_equal(new, old)
    check(plan, batch, device)


def test_the_declared_bytes_are_those_on_the_device() -> None:
    batch, device = batches([(2, 36), (1, 9)]), FakeDevice(attend_tiles)
    plan = plan_of(batch, batch_invariant=True, chunk=64)
    seen: dict[str, Any] = {}

    def note(contract: KernelContract, grid: Grid, values: dict[str, Any]) -> None:
        seen.update(values)

    device.body = note
    plan.run(*batch.arrays, device=device)
    sizes = {name: array.nbytes for name, array in seen.items() if name != "softmax_scale"}
    tables = sum(sizes[name] for name in plan.arrays.tables)
    declared = op_of(GEOMETRY).plan_bytes(LIMITS, num_ctas=5, batch_invariant=True, chunk=64)
    assert declared == (tables, sizes["partial_out"], sizes["partial_lse"])
    assert declared == plan.nbytes


def test_a_plan_adopts_another_of_its_layout() -> None:
    device, mine, theirs = FakeDevice(attend_tiles), batches([(1, 5)]), batches([(2, 30), (1, 7)])
    plan = plan_of(mine)
    check(plan, mine, device)
    plan.adopt(plan_of(theirs))
    check(plan, theirs, device)
    assert device.workspaces == 1


@pytest.mark.parametrize(
    ("geometry", "options"),
    [
        (GEOMETRY, {"limits": replace(LIMITS, pages=81)}),
        (GEOMETRY, {"batch_invariant": True}),
        (GEOMETRY, {"num_ctas": 6}),
        (replace(GEOMETRY, head_dim=32), {}),
    ],
    ids=["limits", "mode", "CTAs", "kernel"],
)
def test_a_plan_of_another_layout_is_refused(geometry: Geometry, options: dict[str, Any]) -> None:
    batch = batches([(1, 5)])
    named: dict[str, Any] = {"limits": LIMITS, "num_ctas": 5, **options}
    other = op_of(geometry).plan(*batch.tables, **named)
    with pytest.raises(ArgumentError, match="'other': expected a plan of the same kernel"):
        plan_of(batch).adopt(other)


def test_a_plan_without_limits_stays_what_it_is() -> None:
    batch = batch_of(GEOMETRY, [1], [5])
    plan = op_of(GEOMETRY).plan(*batch.tables)
    with pytest.raises(ArgumentError, match="'step': expected a plan that was made with limits"):
        plan.step()


def test_queries_have_the_declared_rows() -> None:
    batch = batches([(1, 5)])
    with pytest.raises(ArgumentError, match="'q': expected 12 rows, as declared, got 1"):
        plan_of(batch).run(batch.q[:1], *batch.arrays[1:], device=FakeDevice(attend_tiles))
