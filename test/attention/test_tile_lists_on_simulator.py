"""Kernels whose items list KV tiles: block masks, against float64 and counted by the profile."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tilewright.attention import (
    AttentionOp,
    block_mask,
    causal,
    document_mask,
    sliding_window,
    tensor,
)
from tilewright.runtime.block_mask import BlockMask
from tilewright.runtime.errors import ArgumentError
from tilewright.test.attention.queues import Launcher
from tilewright.test.attention.reference import (
    Batch,
    Geometry,
    MaskMod,
    attend,
    check,
    random_batch,
)
from tilewright.test.attention.test_on_simulator import causal_mask, generator

GEOMETRY = Geometry(group=4, num_kv_heads=2, head_dim=32)
LENGTHS = [(20, 20), (5, 70), (1, 350), (0, 9), (3, 0), (0, 0), (1, 1), (9, 6), (70, 200)]
BLOCK = (16, 64)


def everything(b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
    return kv_idx >= 0


def mask_of(mask: object, lengths: list[tuple[int, int]] = LENGTHS, **options: Any) -> BlockMask:
    q_len, kv_len = [q for q, _ in lengths], [kv for _, kv in lengths]
    return block_mask(mask, q_len, kv_len, block=BLOCK, **options)


def stripes(b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
    return (kv_idx <= q_idx) & ((kv_idx // 64 % 3 == 1) | (q_idx - kv_idx < 10))


def sinks_and_window(b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
    return (kv_idx <= q_idx) & ((kv_idx < 4) | (q_idx - kv_idx < 50))


MASKS: dict[str, tuple[object, MaskMod]] = {
    "causal": (causal(), causal_mask),
    "window": (sliding_window(30), lambda b, h, q, kv: (q >= kv) & (q - kv <= 30)),
    "stripes": (stripes, stripes),
    "sinks and window": (sinks_and_window, sinks_and_window),
}


@pytest.mark.parametrize(
    ("name", "invariant"),
    [
        ("stripes", False),
        *(
            pytest.param(name, invariant, marks=pytest.mark.full)
            for name in MASKS
            for invariant in (False, True)
            if (name, invariant) != ("stripes", False)
        ),
    ],
)
def test_block_masks_compute_attention(name: str, invariant: bool) -> None:
    variant, mask_mod = MASKS[name]
    batch = random_batch(GEOMETRY, LENGTHS, generator("lists", name))
    op = GEOMETRY.compile(variant, work="tile_lists")
    options: dict[str, Any] = {"num_ctas": 7, "batch_invariant": invariant, "chunk": 64}
    plan = op.plan(*batch.tables, block_mask=mask_of(variant), **options)
    got = Launcher(op, plan, batch).launch()
    check(GEOMETRY, got, attend(GEOMETRY, batch, mask_mod=mask_mod))


def test_documents_compute_attention() -> None:
    rng, lengths = generator("documents"), [(150, 150), (1, 90), (33, 140)]
    batch = random_batch(GEOMETRY, lengths, rng)
    documents = np.sort(rng.integers(0, 5, (3, 150)), axis=1).astype(np.int32)
    variant = document_mask(tensor("documents", (3, 150), "i32"))
    op = GEOMETRY.compile(variant, work="tile_lists")
    mask = mask_of(variant, lengths, parameters={"documents": documents})
    assert op.mask_block == BLOCK
    assert mask.kept_tiles < mask.tiles
    plan = op.plan(*batch.tables, block_mask=mask)
    got = plan.run(*batch.arrays, params={"documents": documents})

    def same(b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
        return documents[b][q_idx] == documents[b][kv_idx]

    check(GEOMETRY, got, attend(GEOMETRY, batch, mask_mod=same))


def test_without_a_block_mask_the_bounds_of_the_mask_are_listed() -> None:
    batch = random_batch(GEOMETRY, LENGTHS, generator("bounds"))
    # As one that is read from a bundle, which has no program of its mask.
    op = AttentionOp(GEOMETRY.compile(causal(), work="tile_lists").artifact)
    plan = op.plan(*batch.tables, num_ctas=7)
    # The last request has five tiles of 16 query rows over 200 keys; the first ends at key 145.
    items = plan.arrays.tables["items"]
    of_last = items[items[:, 0] == len(LENGTHS) - 1]
    tiles = GEOMETRY.num_kv_heads * (3 + 3 + 3 + 4 + 4)
    assert int((of_last[:, 4] - of_last[:, 3]).sum()) == tiles
    expected = attend(GEOMETRY, batch, mask_mod=causal_mask)
    check(GEOMETRY, Launcher(op, plan, batch).launch(), expected)


def test_block_masks_are_derived_where_none_is_given() -> None:
    lengths = [(48, 256), (16, 320), (32, 64)]
    batch = random_batch(GEOMETRY, lengths, generator("derived"))
    op = GEOMETRY.compile(stripes, work="tile_lists")
    given = op.plan(*batch.tables, block_mask=mask_of(stripes, lengths)).arrays.tables
    for name, table in op.plan(*batch.tables).arrays.tables.items():
        np.testing.assert_array_equal(table, given[name])


@pytest.mark.full
def test_run_time_parameters_of_a_mask_decide_its_tiles() -> None:
    batch = random_batch(GEOMETRY, [(16, 256)], generator("parameters"))
    least = tensor("least", ("batch",), "i32")

    def late(b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
        return kv_idx >= least[b]

    op = GEOMETRY.compile(late, work="tile_lists")
    for first, tiles in ((0, 4), (64, 3), (200, 1)):
        parameters = {"least": np.array([first], np.int32)}
        plan = op.plan(*batch.tables, num_ctas=1, mask_parameters=parameters)
        assert len(plan.arrays.tables["kv_tiles"]) == tiles
    assert len(op.plan(*batch.tables, num_ctas=1).arrays.tables["kv_tiles"]) == 4


def bytes_copied(op: AttentionOp, plan: Any, batch: Batch) -> int:
    """Returns the bytes that asynchronous copies read."""
    lines = Launcher(op, plan, batch, "none").run(profile=True).profile.lines
    return sum(line.global_bytes for line in lines if line.opcode.startswith("cp.async"))


def test_empty_tiles_are_not_read() -> None:
    lengths = [(48, 256), (16, 320), (32, 64)]
    batch = random_batch(GEOMETRY, lengths, generator("bytes"))
    op, mask = GEOMETRY.compile(stripes, work="tile_lists"), mask_of(stripes, lengths)
    assert mask.kept_tiles < mask.tiles * 2 / 3
    plan = op.plan(*batch.tables, num_ctas=4, block_mask=mask)
    items = plan.arrays.tables["items"]
    row = GEOMETRY.head_dim * 2
    queries = len(items) * 64 * row
    keys = mask.kept_tiles * GEOMETRY.num_kv_heads * 64 * row * 2
    assert bytes_copied(op, plan, batch) == queries + keys


def test_full_tiles_are_not_masked() -> None:
    # A block mask of another mask, which calls all tiles full: the kernel then sees all keys.
    lengths = [(16, 128), (1, 192)]
    batch = random_batch(GEOMETRY, lengths, generator("full"))
    op = GEOMETRY.compile(causal(), work="tile_lists")
    expected = attend(GEOMETRY, batch)
    # The one row of the second request does not fill its tile, which overhangs and is masked.
    rows = batch.rows(0)
    got = op.plan(*batch.tables, block_mask=mask_of(everything, lengths)).run(*batch.arrays)
    check(GEOMETRY, (got[0][rows], got[1][rows]), (expected[0][rows], expected[1][rows]))


def other_block(_: list[tuple[int, int]]) -> BlockMask:
    return block_mask(causal(), [16, 1], [128, 192], block=(32, 64))


def other_requests(lengths: list[tuple[int, int]]) -> BlockMask:
    return mask_of(causal(), lengths[:1])


def other_keys(lengths: list[tuple[int, int]]) -> BlockMask:
    return mask_of(causal(), [lengths[0], (1, 191)])


def other_position(lengths: list[tuple[int, int]]) -> BlockMask:
    return mask_of(causal(), lengths, q_first=0)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (other_block, r"expected tiles of \(16, 64\), the kernel's, got \(32, 64\)"),
        (other_requests, "expected 2 requests, one for all heads, got 1 requests"),
        (other_keys, "expected 192 keys in request 1, got 191"),
        (other_position, "expected 112 as the position of the first query in request 0, got 0"),
    ],
)
def test_a_block_mask_of_something_else_is_refused(
    made: Callable[[list[tuple[int, int]]], BlockMask], message: str
) -> None:
    lengths = [(16, 128), (1, 192)]
    batch = random_batch(GEOMETRY, lengths, generator("refused"))
    op = GEOMETRY.compile(causal(), work="tile_lists")
    with pytest.raises(ArgumentError, match=message):
        op.plan(*batch.tables, block_mask=made(lengths))


def test_a_kernel_without_lists_takes_no_block_mask() -> None:
    lengths = [(16, 128), (1, 192)]
    batch = random_batch(GEOMETRY, lengths, generator("refused"))
    with pytest.raises(ArgumentError, match="'block_mask': expected None for a kernel of work"):
        GEOMETRY.compile(causal()).plan(*batch.tables, block_mask=mask_of(causal(), lengths))
