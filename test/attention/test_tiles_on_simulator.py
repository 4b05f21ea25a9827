"""Tiles of other sizes than those that are chosen compute the same."""

from typing import Any

import numpy as np
import pytest

from tilewright.attention import (
    AttentionOp,
    AttentionSpec,
    PagedKV,
    Variant,
    causal,
    sliding_window,
)
from tilewright.attention.compiler import compile_attention
from tilewright.runtime.simulator_device import SimulatorDevice
from tilewright.test.attention.queues import Launcher
from tilewright.test.attention.reference import Geometry, attend, check, random_batch
from tilewright.test.attention.test_on_simulator import causal_mask, generator
from tilewright.test.spread import spread

WINDOW = 30

# head_dim, warps, keys of a tile, stages
TILES = [
    (48, 1, 16, 2),
    (80, 3, 48, 3),
    (64, 2, 16, 4),
    (128, 6, 48, 2),
    (64, 8, 128, 3),
    (32, 16, 32, 2),
    (256, 4, 16, 3),
]


def compiled(geometry: Geometry, mask: Variant, **tiles: Any) -> AttentionOp:
    """Returns the operation of a mask with these tiles; two blocks have 32 rows a warp."""
    spec = AttentionSpec(
        num_qo_heads=geometry.num_qo_heads,
        num_kv_heads=geometry.num_kv_heads,
        head_dim=geometry.head_dim,
        kv=PagedKV(geometry.page_size, geometry.layout),
        dtype=geometry.dtype,
        target="sm_90",
        softmax_scale=geometry.head_dim**-0.5,
        **tiles,
    )
    return AttentionOp(compile_attention(spec, mask.traced))


@pytest.mark.parametrize(("head_dim", "warps", "kv_tile", "stages"), spread(TILES, 3))
def test_other_tiles_compute_the_same(head_dim: int, warps: int, kv_tile: int, stages: int) -> None:
    geometry = Geometry(group=3, head_dim=head_dim)
    op = compiled(geometry, sliding_window(WINDOW), warps=warps, kv_tile=kv_tile, stages=stages)
    batch = random_batch(
        geometry, [(50, 90), (1, 200), (3, 0)], generator(head_dim, warps, kv_tile, stages)
    )
    expected = attend(
        geometry, batch, mask_mod=lambda b, h, q, k: np.logical_and(q >= k, q - k <= WINDOW)
    )
    check(geometry, op.plan(*batch.tables).run(*batch.arrays), expected)


@pytest.mark.parametrize(
    ("group", "window", "warps", "kv_tile"),
    spread([(3, 30, 2, 16), (1, 500, 4, 64), (5, 9, 1, 16), (2, 64, 4, 32)], 2),
)
def test_blocks_of_rows_compute_the_same(group: int, window: int, warps: int, kv_tile: int) -> None:
    geometry = Geometry(group=group, head_dim=32)
    tiles = {"warps": warps, "tile_rows": 32 * warps, "kv_tile": kv_tile}
    op = compiled(geometry, sliding_window(window), **tiles)
    lengths = [(50, 90), (130, 130), (1, 200), (33, 34), (3, 0)]
    batch = random_batch(geometry, lengths, generator("blocks", group, warps))
    expected = attend(
        geometry, batch, mask_mod=lambda b, h, q, k: np.logical_and(q >= k, q - k <= window)
    )
    device = SimulatorDevice(checks="all")
    check(geometry, op.plan(*batch.tables).run(*batch.arrays, device=device), expected)


@pytest.mark.parametrize(
    ("head_dim", "dtype"), spread([(128, "bf16"), (80, "f16"), (96, "bf16")], 2)
)
def test_blocks_of_wide_rows_compute_the_same(head_dim: int, dtype: str) -> None:
    geometry = Geometry(group=2, head_dim=head_dim, dtype=dtype)
    op = compiled(geometry, causal(), warps=4, tile_rows=128, kv_tile=64)
    lengths = [(90, 150), (70, 70), (1, 200), (33, 20), (3, 0)]
    batch = random_batch(geometry, lengths, generator("wide blocks", head_dim))
    expected = attend(geometry, batch, mask_mod=causal_mask)
    device = SimulatorDevice(checks="all")
    for num_ctas in (2, 9):
        plan = op.plan(*batch.tables, num_ctas=num_ctas)
        check(geometry, plan.run(*batch.arrays, device=device), expected)


@pytest.mark.parametrize(("rows", "error"), [(64, 1e-5), (128, 2**-8)])
def test_the_weights_of_one_block_are_added_up_unrounded(rows: int, error: float) -> None:
    geometry = Geometry(group=2, head_dim=64, dtype="bf16")
    op = compiled(geometry, causal(), warps=4, tile_rows=rows, kv_tile=64)
    batch = random_batch(geometry, [(60, 300), (40, 40)], generator("sums"))
    _, lse = op.plan(*batch.tables).run(*batch.arrays)
    _, expected = attend(geometry, batch, mask_mod=causal_mask)
    difference = np.abs(lse - expected).max()
    assert error / 100 < difference < error


def test_a_block_of_rows_skips_the_tiles_that_it_does_not_see() -> None:
    geometry = Geometry(group=1, num_kv_heads=1, head_dim=32, page_size=4)
    op = compiled(geometry, causal(), warps=4, tile_rows=128, kv_tile=64)
    batch = random_batch(geometry, [(128, 128)], generator("skip"))
    launcher = Launcher(op, op.plan(*batch.tables, num_ctas=1), batch)
    lines = launcher.run(profile=True).profile.lines
    products = sum(line.warps for line in lines if line.opcode.startswith("mma"))
    # A tile is 8 x 2 products for the scores of a warp, 4 x 4 for its output, and 4 for its sums.
    # The first of two is seen by both blocks, the other by the rows of the second block alone.
    assert products == 4 * 3 * (8 * 2 + 4 * 4 + 4)
