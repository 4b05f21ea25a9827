"""The work of a batch split over CTAs in any way: same results, and none that races."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tilewright.attention import AttentionOp, AttentionSpec, PagedKV, Plan, causal, sliding_window
from tilewright.attention.compiler import compile_attention
from tilewright.attention.variants import Variant
from tilewright.test.attention.queues import (
    Chunks,
    Launcher,
    chunks_of,
    even_chunks,
    kv_length,
    plan_work,
)
from tilewright.test.attention.reference import Batch, Geometry, attend, check, random_batch
from tilewright.test.attention.test_on_simulator import generator, random_lengths
from tilewright.test.spread import spread

GEOMETRY = Geometry(group=4, num_kv_heads=2, head_dim=64)
SMALL = Geometry(group=5, num_kv_heads=1, head_dim=32)
# Prefill, append, decode, and requests without queries, keys or either.
LENGTHS = [(21, 21), (5, 70), (1, 110), (0, 9), (3, 0), (0, 0), (1, 1), (12, 6)]


def causal_mask(b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
    return q_idx >= kv_idx


def planned(
    op: AttentionOp, batch: Batch, chunks: Chunks, ctas: int, rng: np.random.Generator
) -> Plan:
    return Plan(op, plan_work(op, batch, chunks, ctas, rng))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    "group", [4, *(pytest.param(group, marks=pytest.mark.full) for group in (1, 8))]
)
def test_any_split_computes_the_same(group: int, count: int) -> None:
    rng = generator("split", group, count)
    geometry = replace(GEOMETRY, group=group, head_dim=int(rng.choice([32, 64, 80])))
    batch = random_batch(geometry, LENGTHS, rng)
    op = geometry.compile(causal())
    plan = planned(op, batch, even_chunks(count), int(rng.integers(1, 12)), rng)
    got = Launcher(op, plan, batch).launch()
    check(geometry, got, attend(geometry, batch, mask_mod=causal_mask))


@pytest.mark.parametrize("turn", spread(range(4), 2))
def test_random_batches_and_chunks(turn: int) -> None:
    rng = generator("chunks", turn)
    geometry = replace(GEOMETRY, group=int(rng.integers(1, 9)), page_size=int(rng.choice([1, 5])))
    batch = random_batch(geometry, random_lengths(rng), rng)
    op = geometry.compile(sliding_window(40))
    chunks = chunks_of(int(rng.integers(1, 100)))
    plan = planned(op, batch, chunks, int(rng.integers(1, 30)), rng)
    got = Launcher(op, plan, batch).launch()
    expected = attend(geometry, batch, mask_mod=lambda b, h, q, kv: (q >= kv) & (q - kv <= 40))
    check(geometry, got, expected)


# head_dim, warps, packed rows of a tile, keys of a tile, stages
TILES = [
    (128, 4, 16, 0, 3),
    (96, 4, 32, 0, 2),
    (128, 8, 128, 0, 2),
    (64, 8, 32, 64, 2),
    (256, 4, 64, 0, 2),
    (256, 4, 16, 64, 2),
    (48, 6, 48, 32, 2),
    (16, 2, 16, 32, 2),
]


@pytest.mark.parametrize(("head_dim", "warps", "rows", "keys", "stages"), spread(TILES, 3))
def test_query_tiles_of_any_height(
    head_dim: int, warps: int, rows: int, keys: int, stages: int
) -> None:
    rng = generator("tiles", head_dim, warps, rows, keys, stages)
    geometry = replace(GEOMETRY, group=2, head_dim=head_dim)
    spec = AttentionSpec(
        num_qo_heads=geometry.num_qo_heads,
        num_kv_heads=geometry.num_kv_heads,
        head_dim=head_dim,
        kv=PagedKV(geometry.page_size, geometry.layout),
        dtype=geometry.dtype,
        target="sm_90",
        softmax_scale=head_dim**-0.5,
        warps=warps,
        tile_rows=rows,
        kv_tile=keys,
        stages=stages,
    )
    op = AttentionOp(compile_attention(spec, causal().traced))
    batch = random_batch(geometry, [(40, 60), (1, 110), (6, 20)], rng)
    got = Launcher(op, planned(op, batch, chunks_of(50), 5, rng), batch).launch()
    check(geometry, got, attend(geometry, batch, mask_mod=causal_mask))


def test_a_graph_may_replay() -> None:
    rng = generator("replay")
    batch = random_batch(SMALL, LENGTHS, rng)
    op = SMALL.compile(causal())
    launcher = Launcher(op, planned(op, batch, even_chunks(3), 7, rng), batch)
    first = [result.copy() for result in launcher.launch()]
    for _ in range(2):
        assert not launcher.buffers["counters"].numpy().any()
        for result, same in zip(launcher.launch(), first, strict=True):
            np.testing.assert_array_equal(result, same)


def test_the_order_in_which_ctas_run_does_not_matter() -> None:
    rng = generator("order")
    batch = random_batch(SMALL, LENGTHS, rng)
    op = SMALL.compile(causal())
    plan = planned(op, batch, even_chunks(4), 9, rng)
    first = [result.copy() for result in Launcher(op, plan, batch, "none").launch()]
    for seed in range(3):
        for result, same in zip(Launcher(op, plan, batch).launch(seed=seed), first, strict=True):
            np.testing.assert_array_equal(result, same)


def test_results_do_not_depend_on_which_cta_has_an_item() -> None:
    rng = generator("dealt")
    batch = random_batch(SMALL, LENGTHS, rng)
    op = SMALL.compile(causal())
    results = [
        Launcher(op, planned(op, batch, even_chunks(3), ctas, rng), batch).launch()
        for ctas in (1, 40)
    ]
    for result in results[1:]:
        for mine, first in zip(result, results[0], strict=True):
            np.testing.assert_array_equal(mine, first)


def one_of(geometry: Geometry, batch: Batch, request: int) -> Batch:
    """Returns the batch of one request alone, on the pages that it has."""
    pages, rows = batch.pages(request), batch.rows(request)
    return replace(
        batch,
        qo_indptr=np.array([0, rows.stop - rows.start], np.int32),
        kv_indptr=np.array([0, len(pages)], np.int32),
        kv_indices=pages,
        kv_last_page_len=batch.kv_last_page_len[request : request + 1],
        q=batch.q[rows],
    )


def test_a_request_alone_gives_the_same_bits_as_in_a_batch() -> None:
    rng = generator("invariance")
    batch = random_batch(SMALL, LENGTHS, rng)
    op = SMALL.compile(causal())
    chunks = chunks_of(48)
    out, lse = Launcher(op, planned(op, batch, chunks, 6, rng), batch).launch()
    for request, (queries, _) in enumerate(LENGTHS):
        if not queries:
            continue
        alone = one_of(SMALL, batch, request)
        plan = planned(op, alone, chunks, 3, rng)
        own_out, own_lse = Launcher(op, plan, alone, "none").launch()
        np.testing.assert_array_equal(own_out, out[batch.rows(request)])
        np.testing.assert_array_equal(own_lse, lse[batch.rows(request)])


def test_chunks_that_no_row_sees_weigh_nothing() -> None:
    rng = generator("unseen")
    batch = random_batch(SMALL, [(2, 130), (20, 130)], rng)
    window = sliding_window(20)
    op = SMALL.compile(window)
    got = Launcher(op, planned(op, batch, even_chunks(5), 8, rng), batch).launch()
    expected = attend(SMALL, batch, mask_mod=lambda b, h, q, kv: (q >= kv) & (q - kv <= 20))
    check(SMALL, got, expected)


def test_a_plan_may_say_more_keys_than_there_are() -> None:
    rng = generator("end")
    batch = random_batch(SMALL, [(5, 30), (1, 100)], rng)
    op = SMALL.compile(Variant())
    plan = planned(op, batch, lambda _, kv_len: [64, 2**31 - 1], 3, rng)
    check(SMALL, Launcher(op, plan, batch).launch(), attend(SMALL, batch))


def test_the_public_plan_runs_a_split_plan() -> None:
    rng = generator("public")
    batch = random_batch(SMALL, LENGTHS, rng)
    op = SMALL.compile(causal())
    got = planned(op, batch, even_chunks(3), 5, rng).run(*batch.arrays)
    check(SMALL, got, attend(SMALL, batch, mask_mod=causal_mask))


def test_the_planner_of_these_tests_gives_every_key_to_one_item() -> None:
    rng = generator("planner")
    batch = random_batch(SMALL, LENGTHS, rng)
    op = SMALL.compile(causal())
    tables = plan_work(op, batch, chunks_of(33), 4, rng).tables
    items: list[list[int]] = tables["items"].tolist()
    seen: dict[tuple[int, int, int], list[int]] = {}
    for request, row, head, begin, end, _ in items:
        seen.setdefault((request, row, head), []).extend(range(begin, end))
    for (request, _, _), keys in seen.items():
        assert sorted(keys) == list(range(kv_length(batch, request, SMALL.page_size)))


def test_decode_reads_the_keys_of_a_group_once_and_without_bank_conflicts() -> None:
    rng = generator("bytes")
    geometry = Geometry(group=8, num_kv_heads=1, head_dim=64)
    kv_len = 512
    batch = random_batch(geometry, [(1, kv_len)], rng)
    op = geometry.compile(causal(), query_len=1)
    launcher = Launcher(op, planned(op, batch, even_chunks(2), 2, rng), batch, "none")
    lines = launcher.run(profile=True).profile.lines
    copied = sum(line.sectors * 32 for line in lines if line.opcode.startswith("cp.async.c"))
    keys_and_values = 2 * kv_len * geometry.head_dim * 2
    queries = 2 * 16 * geometry.head_dim * 2  # both CTAs, rows of the tile without a head included
    assert keys_and_values < copied <= keys_and_values + queries
    assert all(line.wavefronts == line.phases for line in lines)
