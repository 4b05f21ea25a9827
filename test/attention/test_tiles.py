"""The tiles that are chosen fit the target; of those for decoding two CTAs share an SM."""

import pytest

from tilewright.attention import (
    BlockSparseKV,
    KVFormat,
    PagedKV,
    Variant,
    alibi,
    attention_sinks,
    causal,
    differential,
    document_mask,
    full,
    prefix_lm,
    rope,
    sliding_window,
    tensor,
)
from tilewright.attention.spec import TARGETS
from tilewright.attention.tiles import SM_SHARED_BYTES, Registers, Tiles, choose_tiles, registers_of
from tilewright.runtime.errors import ArgumentError

from .reference import Geometry, attend, check, random_batch
from .test_on_simulator import causal_mask, generator


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("query_len", [None, 1, 4, 100])
@pytest.mark.parametrize("head_dim", range(16, 257, 16))
def test_chosen_tiles_fit_the_target(head_dim: int, query_len: int | None, target: str) -> None:
    tiles = choose_tiles(head_dim, 4, query_len, target)
    assert tiles.shared_bytes(head_dim) < SM_SHARED_BYTES[target] - 1024
    teams = 16 * tiles.warps // tiles.rows
    assert tiles.kv_tile % (16 * teams) == 0


@pytest.mark.parametrize(("target", "stages"), [("sm_80", 2), ("sm_90", 3)])
def test_two_ctas_that_decode_share_an_sm(target: str, stages: int) -> None:
    tiles = choose_tiles(128, 8, 1, target)
    assert tiles == Tiles(16, 4, 64, stages)
    assert 2 * (tiles.shared_bytes(128) + 1024) <= SM_SHARED_BYTES[target]


@pytest.mark.parametrize(
    ("head_dim", "group", "query_len", "form", "blocks"),
    [
        (64, 1, None, None, 2),
        (32, 4, 100, None, 2),
        (80, 1, None, None, 1),
        (128, 1, None, None, 2),
        (144, 1, None, None, 1),
        (64, 1, 64, None, 1),
        (64, 1, None, KVFormat("e4m3"), 1),
    ],
)
def test_light_kernels_of_many_rows_have_two_blocks_where_registers_suffice(
    head_dim: int, group: int, query_len: int | None, form: KVFormat | None, blocks: int
) -> None:
    tiles = choose_tiles(head_dim, group, query_len, "sm_90", form, Registers.FEWEST)
    assert tiles.rows == 64 * blocks
    assert choose_tiles(head_dim, group, query_len, "sm_90", form).rows == 64


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("head_dim", range(16, 129, 16))
def test_two_ctas_of_two_blocks_share_an_sm(head_dim: int, target: str) -> None:
    tiles = choose_tiles(head_dim, 1, None, target, None, Registers.FEWEST)
    assert tiles.rows == 64 or tiles.share_an_sm(2, head_dim, target)


def test_a_target_whose_sm_holds_one_cta_of_two_blocks_takes_two_of_one() -> None:
    assert choose_tiles(128, 1, None, "sm_80", None, Registers.FEWEST).rows == 64


def test_more_than_a_mask_leaves_registers_for_two_blocks_of_small_rows_alone() -> None:
    rows = [choose_tiles(d, 1, None, "sm_90", None, Registers.FEW).rows for d in (64, 128)]
    assert rows == [128, 64]


@pytest.mark.parametrize(
    ("variant", "needs"),
    [
        (full(), Registers.FEWEST),
        (causal(), Registers.FEWEST),
        (causal() & attention_sinks(tensor("sinks", (4,))), Registers.FEW),
        (differential(tensor("first", ("r", 4, 64)), tensor("weight", (4,))), Registers.FEW),
        (sliding_window(17), Registers.USUAL),
        (alibi(4), Registers.USUAL),
        (prefix_lm(tensor("prefix", ("b",), "i32")), Registers.USUAL),
        (rope(tensor("frequencies", (32,)), 64), Registers.USUAL),
    ],
)
def test_light_is_what_compares_positions_at_most_once(variant: Variant, needs: Registers) -> None:
    assert registers_of(variant.traced, PagedKV(16), "ranges") is needs
    over_blocks = registers_of(variant.traced, BlockSparseKV(16), "ranges")
    assert over_blocks not in (Registers.FEWEST, Registers.FEW)
    assert registers_of(variant.traced, PagedKV(16), "cascade") is Registers.USUAL


def test_masks_of_tensors_over_blocks_have_fewer_keys_a_tile() -> None:
    documents = document_mask(tensor("documents", ("b", "l"), "i32")).traced
    assert registers_of(documents, BlockSparseKV(16), "ranges") is Registers.MANY
    assert registers_of(documents, PagedKV(16), "ranges") is Registers.USUAL
    assert choose_tiles(128, 1, None, "sm_90", None, Registers.MANY).kv_tile == 32


def test_confined_values_leave_registers_for_one_block_of_rows() -> None:
    confined = PagedKV(16, confined=True)
    assert registers_of(causal().traced, confined, "ranges") is Registers.USUAL
    assert registers_of(full().traced, confined, "ranges") is Registers.FEWEST


def test_confined_values_of_masks_that_need_registers_have_the_fewest_keys_a_tile() -> None:
    documents = document_mask(tensor("documents", ("b", "l"), "i32")).traced
    assert registers_of(documents, PagedKV(16, confined=True), "ranges") is Registers.MOST
    over_blocks = BlockSparseKV(16, confined=True)
    assert registers_of(causal().traced, over_blocks, "ranges") is Registers.MOST
    tiles = [choose_tiles(d, 1, None, "sm_90", None, Registers.MOST) for d in (64, 128, 256)]
    assert [one.kv_tile for one in tiles] == [64, 32, 16]


@pytest.mark.parametrize("group", [1, 4, 16, 17])
def test_a_query_tile_is_short_where_all_heads_of_a_row_fit(group: int) -> None:
    assert (choose_tiles(128, group, 1, "sm_90").rows == 16) == (group <= 16)


@pytest.mark.parametrize("head_dim", [64, 80, 256])
def test_a_kernel_for_decoding_serves_any_length(head_dim: int) -> None:
    geometry, rng = Geometry(group=4, head_dim=head_dim), generator("decode", head_dim)
    batch = random_batch(geometry, [(1, 130), (30, 60), (1, 1), (2, 0)], rng)
    op = geometry.compile(causal(), query_len=1)
    assert op.section.tile_rows == 16
    got = op.plan(*batch.tables).run(*batch.arrays)
    check(geometry, got, attend(geometry, batch, mask_mod=causal_mask))


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "1"])
def test_a_query_len_that_is_no_length_is_refused(wrong: object) -> None:
    with pytest.raises(ArgumentError, match="query_len"):
        Geometry().compile(query_len=wrong)
