"""`tilewright explain --block-map` draws the tiles of a mask, and says why they are partial."""

from pathlib import Path

import numpy as np
import pytest

from tilewright.attention import block_mask, causal, sliding_window
from tilewright.attention.block_picture import cells
from tilewright.test.cli.conftest import Command

MAP = ("explain", "--variant", "window:100", "--block-map", "512")
SYMBOLS = {"· ": 0, "·": 0, "▒▒": 1, "██": 2}


def picture_of(text: str, rows: int) -> list[list[int]]:
    """Returns the cells of the picture that begins in the second line."""
    lines = text.splitlines()[1 : rows + 1]
    pairs = [[line[at : at + 2] for at in range(0, len(line), 2)] for line in lines]
    return [[SYMBOLS[pair] for pair in row] for row in pairs]


def test_the_picture_shows_each_tile(command: Command) -> None:
    outcome = command(*MAP, "--block", "64x32")
    assert (outcome.code, outcome.err) == (0, "")
    expected = block_mask(sliding_window(100), 512, 512, (64, 32)).dense()
    np.testing.assert_array_equal(picture_of(outcome.out, 8), expected)


def test_json_has_the_runs_of_each_row(command: Command) -> None:
    results = command(*MAP, "--json").results["block_map"]
    assert results["partial"] == [[[0, 1]], [[0, 2]], [[1, 3]], [[2, 4]]]
    assert results["full"] == [[], [], [], []]
    assert results["undecided"] == 0


def test_queries_at_the_end_of_the_keys(command: Command) -> None:
    outcome = command("explain", "--variant", "causal", "--block-map", "128x512")
    assert picture_of(outcome.out, 1) == [[2, 2, 2, 1]]


def test_a_partial_tile_is_explained_with_its_comparison_and_witnesses(command: Command) -> None:
    results = command(*MAP, "--tile", "2,1", "--json").results["block_map"]["tile"]
    assert results["kind"] == "partial"
    [reason] = results["why"]
    assert reason.startswith("(q_idx - kv_idx) <= 100")
    (kept_q, kept_kv), (masked_q, masked_kv) = results["kept"], results["masked"]
    assert 256 <= min(kept_q, masked_q) <= max(kept_q, masked_q) < 384
    assert 128 <= min(kept_kv, masked_kv) <= max(kept_kv, masked_kv) < 256
    assert kept_q - kept_kv <= 100 < masked_q - masked_kv


@pytest.mark.parametrize(("tile", "kind"), [("0,3", "empty"), ("3,0", "full")])
def test_other_tiles_are_named(command: Command, tile: str, kind: str) -> None:
    outcome = command("explain", "--variant", "causal", "--block-map", 512, "--tile", tile)
    assert f"tile {tile} is {kind}" in outcome.out


def test_a_large_map_is_drawn_small() -> None:
    """Cells of many tiles are full or empty only if all their tiles are."""
    mask = block_mask(causal(), 128 * 300, 128 * 300)
    picture, scale = cells(mask, 0, 48)
    dense = mask.dense()
    for (y, x), kind in np.ndenumerate(picture):
        tiles = dense[scale * y : scale * (y + 1), scale * x : scale * (x + 1)]
        assert kind == (tiles.max() if (tiles == tiles.max()).all() else 1)


MODULE = """
attn.variant @stripe mask {
^bb0(%b: i32, %h: i32, %q_idx: i32, %kv_idx: i32):
  %column = arith.constant 30 : i32
  %seen = arith.cmpi eq, %kv_idx, %column : i32
  attn.yield %seen : i1
}
"""


@pytest.fixture
def module(tmp_path: Path) -> Path:
    path = tmp_path / "stripe.mlir"
    path.write_text(MODULE)
    return path


def test_a_variant_of_a_file_is_drawn(command: Command, module: Path) -> None:
    outcome = command("explain", module, "--block-map", 256, "--tile", "1,0")
    assert picture_of(outcome.out, 2) == [[1, 0], [1, 0]]
    assert "@stripe: kv_idx == 30" in outcome.out
    assert "split by  kv_idx == 30  (stripe.mlir:5)" in outcome.out


def test_the_page_has_a_mark_for_each_tile_that_is_not_empty(
    command: Command, tmp_path: Path
) -> None:
    path = tmp_path / "map.html"
    command("explain", "--variant", "causal", "--block-map", 512, "--page", path)
    assert path.read_text().count("<rect") == 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--block-map", "many"), "'--block-map': expected two integers from 1"),
        (("--block-map", "0"), "'--block-map': expected two integers from 1"),
        (("--block-map", "64", "--block", "64"), "'--block': expected two integers from 1"),
        (("--block-map", "64", "--tile", "0,7"), "'column': expected a number from 0 to 0, got 7"),
        (("--block-map", "64", "--head", "32"), "'--head': expected a head from 0 to 31"),
        (("--tile", "0,0"), "'--tile': expected a --block-map"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    command: Command, options: tuple[str, ...], message: str
) -> None:
    outcome = command("explain", *options)
    assert outcome.code == 1
    assert message in outcome.err
