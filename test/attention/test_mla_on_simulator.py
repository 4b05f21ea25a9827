"""Multi-head latent attention on the simulator, with all its checks, against float64."""

import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tilewright import attention
from tilewright.attention import AttentionSpec, KVFormat, causal
from tilewright.attention.compiler import compile_attention
from tilewright.runtime.attention import AttentionOp
from tilewright.runtime.attention_planner import BatchLimits
from tilewright.runtime.simulator_device import SimulatorDevice
from tilewright.test.attention.latent_case import (
    Geometry,
    attend_latent,
    check_latent,
    codes_of,
    latent_batch,
    latent_launch,
)
from tilewright.test.attention.queues import chunks_of, even_chunks
from tilewright.test.attention.reference import Batch, exact
from tilewright.test.spread import spread

# Decode, no keys, one key, several rows, more rows than keys, and no queries.
LENGTHS = [(1, 70), (1, 0), (1, 1), (3, 40), (2, 1), (0, 5)]
SMALL = Geometry(ckv=256, kpe=16)


def generator(*name: object) -> np.random.Generator:
    """Returns random numbers that depend on the name of a test alone."""
    return np.random.default_rng(zlib.crc32(repr(name).encode()))


# heads, dtype, target, combined, page size
CASES = [
    (16, "bf16", "sm_80", False, 16),
    (16, "f16", "sm_90", True, 64),
    (64, "bf16", "sm_90", False, 1),
    (128, "f16", "sm_80", True, 32),
    (128, "bf16", "sm_90", False, 16),
    (32, "f16", "sm_80", False, 5),
    (32, "bf16", "sm_90", True, 16),
    (1, "f16", "sm_80", False, 16),
    (20, "bf16", "sm_86", True, 16),
]


@pytest.mark.parametrize(("heads", "dtype", "target", "combined", "page_size"), spread(CASES, 1))
def test_attention_is_that_of_its_definition(
    heads: int, dtype: str, target: str, combined: bool, page_size: int
) -> None:
    rng = generator("definition", heads, dtype, target)
    geometry = Geometry(heads, page_size, combined=combined, dtype=dtype)
    case = latent_batch(geometry, LENGTHS, rng)
    op = geometry.compile(causal(), target=target)
    check_latent(case, case.run(case.plan(op)), attend_latent(case))


# heads, dtype, target, combined, format
CODED = [
    (16, "bf16", "sm_80", False, "e4m3"),
    (16, "f16", "sm_90", True, "e4m3"),
    (64, "bf16", "sm_90", False, "e4m3"),
    (128, "bf16", "sm_80", True, "e5m2"),
    (32, "f16", "sm_80", False, "i8"),
    (3, "bf16", "sm_90", True, "i8"),
    (16, "bf16", "sm_89", True, "e5m2"),
]


@pytest.mark.parametrize(("heads", "dtype", "target", "combined", "codes"), spread(CODED, 1))
def test_codes_are_what_they_stand_for(
    heads: int, dtype: str, target: str, combined: bool, codes: str
) -> None:
    rng = generator("codes", heads, dtype, target)
    geometry = Geometry(heads, combined=combined, dtype=dtype, codes=codes)
    case = latent_batch(geometry, LENGTHS, rng)
    op = geometry.compile(causal(), target=target)
    check_latent(case, case.run(case.plan(op)), attend_latent(case))


@pytest.mark.full
@pytest.mark.parametrize(("ckv", "kpe"), [(256, 16), (256, 64), (512, 48)])
def test_rows_of_codes_of_other_widths(ckv: int, kpe: int) -> None:
    rng = generator("codes", ckv, kpe)
    geometry = Geometry(ckv=ckv, kpe=kpe, combined=bool(rng.integers(2)), codes="e4m3")
    case = latent_batch(geometry, [(1, 130), (2, 50), (1, 0)], rng)
    plan = case.split(geometry.compile(causal()), even_chunks(3), 4, rng)
    check_latent(case, case.run(plan), attend_latent(case))


@pytest.mark.full
@pytest.mark.parametrize(("ckv", "kpe"), [(256, 64), (256, 16), (512, 32), (512, 48), (512, 16)])
def test_rows_of_other_widths(ckv: int, kpe: int) -> None:
    rng = generator("widths", ckv, kpe)
    geometry = Geometry(ckv=ckv, kpe=kpe, combined=bool(rng.integers(2)))
    case = latent_batch(geometry, LENGTHS, rng)
    check_latent(case, case.run(case.plan(geometry.compile(causal()))), attend_latent(case))


@pytest.mark.parametrize(("heads", "target"), spread([(64, "sm_90"), (16, "sm_80")], 1))
def test_any_split_computes_the_same(heads: int, target: str) -> None:
    rng = generator("split", heads, target)
    geometry = Geometry(heads)
    case = latent_batch(geometry, [(1, 130), (2, 50), (1, 0)], rng)
    op = geometry.compile(causal(), target=target)
    plan = case.split(op, even_chunks(3), 4, rng)
    check_latent(case, case.run(plan), attend_latent(case))


@pytest.mark.full
@pytest.mark.parametrize("turn", range(4))
def test_random_batches_and_chunks(turn: int) -> None:
    rng = generator("chunks", turn)
    lengths = [(int(rng.integers(0, 5)), int(rng.integers(0, 100))) for _ in range(4)]
    geometry = replace(SMALL, heads=int(rng.integers(1, 40)), page_size=int(rng.choice([1, 7])))
    case = latent_batch(geometry, lengths, rng)
    op = geometry.compile(causal(), query_len=int(rng.integers(1, 5)))
    plan = case.split(op, chunks_of(int(rng.integers(1, 60))), int(rng.integers(1, 9)), rng)
    check_latent(case, case.run(plan), attend_latent(case))


# warps, rows, keys of a tile, stages
TILES = [(8, 32, 64, 2), (4, 32, 32, 3), (6, 48, 64, 2), (2, 16, 32, 4), (4, 16, 64, 2)]


@pytest.mark.full
@pytest.mark.parametrize(("warps", "rows", "kv_tile", "stages"), TILES)
def test_tiles_of_any_height(warps: int, rows: int, kv_tile: int, stages: int) -> None:
    rng = generator("tiles", warps, rows)
    geometry = SMALL
    numbers: dict[str, Any] = {
        "warps": warps,
        "tile_rows": rows,
        "kv_tile": kv_tile,
        "stages": stages,
    }
    spec = AttentionSpec(
        num_qo_heads=geometry.heads,
        num_kv_heads=1,
        head_dim=geometry.ckv,
        kv=geometry.kv,
        dtype=geometry.dtype,
        target="sm_90",
        softmax_scale=geometry.scale,
        **numbers,
    )
    op = AttentionOp(compile_attention(spec, causal().traced))
    case = latent_batch(geometry, [(4, 140), (1, 9)], rng)
    check_latent(case, case.run(case.split(op, even_chunks(2), 3, rng)), attend_latent(case))


@pytest.mark.full
def test_without_a_mask_every_key_is_seen() -> None:
    rng = generator("full")
    case = latent_batch(SMALL, [(3, 40)], rng)
    check_latent(case, case.run(case.plan(SMALL.compile())), attend_latent(case, causal=False))


@pytest.mark.full
def test_a_score_of_the_variant_is_applied() -> None:
    def halved(score: Any, b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
        return score * 0.5

    case = latent_batch(SMALL, [(2, 40)], generator("score"))
    got = case.run(case.plan(SMALL.compile(halved)))
    check_latent(case, got, attend_latent(case, causal=False, scale=SMALL.scale / 2))


@pytest.mark.full
def test_without_a_softmax_scores_are_weights() -> None:
    rng = generator("sigmoid")
    case = latent_batch(SMALL, [(1, 40)], rng)
    op = SMALL.compile(attention.sigmoid_attention())
    keys = case.keys(0)
    weights = 1 / (1 + np.exp(-SMALL.scale * (exact(case.batch.q[0]) @ keys.T)))
    expected = (weights @ keys[:, : SMALL.ckv])[None], np.log(weights.sum(axis=1))[None]
    check_latent(case, case.run(case.split(op, even_chunks(2), 2, rng)), expected)


@pytest.mark.full
def test_a_sink_is_one_more_score_in_the_total() -> None:
    rng = generator("sink")
    case = latent_batch(SMALL, [(1, 40)], rng)
    op = SMALL.compile(attention.attention_sinks(attention.tensor("sinks", (SMALL.heads,))))
    sinks = rng.standard_normal(SMALL.heads).astype(np.float32)
    out, lse = attend_latent(case)
    with_sink = np.logaddexp(lse, sinks)
    expected = out * np.exp(lse - with_sink)[..., None], with_sink
    got = case.run(case.split(op, even_chunks(2), 2, rng), params={"sinks": sinks})
    check_latent(case, got, expected)


@pytest.mark.full
def test_results_depend_on_the_split_alone() -> None:
    rng = generator("dealt")
    case = latent_batch(SMALL, [(1, 90), (2, 33)], rng)
    op = SMALL.compile(causal())
    first, *others = (
        case.run(case.split(op, even_chunks(3), ctas, rng), checks="none") for ctas in (1, 20)
    )
    for got in others:
        for mine, same in zip(got, first, strict=True):
            np.testing.assert_array_equal(mine, same)


@pytest.mark.parametrize(
    ("combined", "codes"), spread([(False, "i8"), (True, None), (False, None), (True, "e4m3")], 1)
)
def test_attention_reads_what_append_mla_wrote(combined: bool, codes: str | None) -> None:
    rng = generator("append", combined)
    geometry = replace(SMALL, combined=combined, page_size=4, dtype="f16", codes=codes)
    case = latent_batch(geometry, [(2, 11), (1, 5)], rng)
    new = rng.standard_normal((3, geometry.ckv + geometry.kpe)).astype(np.float16)
    # The last two tokens of the first request, and the last of the second.
    expected = replace(case, rows=case.rows.copy())
    stored = new if codes is None else codes_of(exact(new), codes)
    for request, token, row in ((0, 9, stored[0]), (0, 10, stored[1]), (1, 4, stored[2])):
        page = case.batch.pages(request)[token // 4]
        expected.rows[page, token % 4] = row
    cache = case.rows.copy()
    parts = [cache[..., : geometry.ckv], cache[..., geometry.ckv :]]
    if not combined:
        parts = [part.copy() for part in parts]
    table = attention.PageTable(*case.batch.tables[1:], page_size=geometry.page_size)
    plan = attention.plan_append(table, np.array([0, 2, 3], np.int32))
    split = (new[:, : geometry.ckv], new[:, geometry.ckv :])
    form: dict[str, Any] = {}
    if codes is not None:
        form = {"format": KVFormat(codes), "ckv_scale": 0.03, "kpe_scale": 0.03}
    device = SimulatorDevice(checks="all")
    attention.append_mla(parts[0], parts[1], plan, *split, device=device, **form)
    written = replace(case, rows=np.concatenate(parts, axis=-1))
    got = written.run(written.plan(geometry.compile(causal())))
    check_latent(case, got, attend_latent(expected))


@pytest.mark.full
def test_a_plan_in_place_serves_other_batches() -> None:
    rng = generator("in place")
    op = SMALL.compile(causal())
    limits = BatchLimits(requests=3, query_rows=4, kv_len=80, pages=20)
    first, second = (
        latent_batch(SMALL, lengths, rng) for lengths in ([(1, 60), (2, 9), (1, 1)], [(4, 80)])
    )
    plan = first.plan(op, limits=limits, num_ctas=4)
    device = SimulatorDevice(checks="all")
    check_latent(first, plan.run_mla(*first.arrays, device=device), attend_latent(first))
    plan.update(*second.batch.tables)
    check_latent(second, plan.run_mla(*second.arrays, device=device), attend_latent(second))


@pytest.mark.full
def test_a_batch_changes_no_bit_of_a_request() -> None:
    rng = generator("invariant")
    op = SMALL.compile(causal())
    case = latent_batch(SMALL, [(1, 30), (1, 90), (2, 64)], rng)
    alone = replace(case, batch=one_of(case.batch, 1))
    options = {"batch_invariant": True, "chunk": 32, "num_ctas": 4}
    all_of = case.run(case.plan(op, **options), checks="none")
    single = alone.run(alone.plan(op, **options), checks="none")
    for mine, whole in zip(single, all_of, strict=True):
        np.testing.assert_array_equal(mine, whole[1:2])


def one_of(batch: Batch, request: int) -> Batch:
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


@pytest.mark.full
def test_each_barrier_of_a_tile_is_needed() -> None:
    rng = generator("barriers")
    case = latent_batch(SMALL, [(1, 300)], rng)
    op = SMALL.compile(causal())
    plan = case.split(op, even_chunks(2), 2, rng)
    launch = latent_launch(op, plan, case)
    lines = launch.run(profile=True).profile.lines
    # What a warp runs more often than it has items are the barriers of tiles.
    once = plan.arrays.items * op.contract.block[0] // 32
    often = {line.line for line in lines if line.opcode.startswith("bar") and line.warps > once}
    assert len(often) == 3
    assert not often & launch.redundant_barriers()


@pytest.mark.full
@pytest.mark.parametrize(("heads", "target"), [(16, "sm_80"), (64, "sm_90")])
def test_the_order_in_which_threads_run_does_not_matter(heads: int, target: str) -> None:
    rng = generator("order", heads)
    case = latent_batch(Geometry(heads), [(1, 150), (2, 20), (1, 0)], rng)
    op = case.geometry.compile(causal(), target=target)
    launch = latent_launch(op, case.split(op, even_chunks(3), 3, rng), case)
    launch.run(accumulate="truncating")
    first = [buffer.numpy().copy() for buffer in launch.results]
    for seed in range(2):
        launch.run(seed=seed, accumulate="truncating")
        for buffer, same in zip(launch.results, first, strict=True):
            np.testing.assert_array_equal(buffer.numpy(), same)


@pytest.mark.full
@pytest.mark.parametrize(("heads", "target"), [(16, "sm_80"), (64, "sm_90"), (32, "sm_80")])
def test_the_cache_is_read_once_and_without_bank_conflicts(heads: int, target: str) -> None:
    rng = generator("bytes", heads)
    case = latent_batch(Geometry(heads), [(1, 256)], rng)
    op = case.geometry.compile(causal(), target=target)
    launch = latent_launch(op, case.plan(op, num_ctas=1), case)
    lines = launch.run(profile=True).profile.lines
    copied = sum(line.sectors * 32 for line in lines if line.opcode.startswith("cp.async.c"))
    assert copied == (256 + op.section.tile_rows) * 576 * 2
    assert all(line.wavefronts == line.phases for line in lines)
