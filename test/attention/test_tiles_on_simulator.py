"""Tiles of other sizes than those that are chosen compute the same."""

import numpy as np
import pytest

from tilewright.attention import AttentionOp, AttentionSpec, PagedKV, sliding_window
from tilewright.attention.compiler import compile_attention
from tilewright.test.attention.reference import Geometry, attend, check, random_batch
from tilewright.test.attention.test_on_simulator import generator
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


@pytest.mark.parametrize(("head_dim", "warps", "kv_tile", "stages"), spread(TILES, 3))
def test_other_tiles_compute_the_same(head_dim: int, warps: int, kv_tile: int, stages: int) -> None:
    geometry = Geometry(group=3, head_dim=head_dim)
    spec = AttentionSpec(
        num_qo_heads=geometry.num_qo_heads,
        num_kv_heads=geometry.num_kv_heads,
        head_dim=head_dim,
        kv=PagedKV(geometry.page_size, geometry.layout),
        dtype=geometry.dtype,
        target="sm_90",
        softmax_scale=head_dim**-0.5,
        warps=warps,
        kv_tile=kv_tile,
        stages=stages,
    )
    op = AttentionOp(compile_attention(spec, sliding_window(WINDOW).traced))
    batch = random_batch(
        geometry, [(50, 90), (1, 200), (3, 0)], generator(head_dim, warps, kv_tile, stages)
    )
    expected = attend(
        geometry, batch, mask_mod=lambda b, h, q, k: np.logical_and(q >= k, q - k <= WINDOW)
    )
    check(geometry, op.plan(*batch.tables).run(*batch.arrays), expected)
