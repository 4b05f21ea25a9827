"""The shared memory that the geometry counts is what the kernel takes."""

import pytest

from tilewright.attention.library import causal
from tilewright.attention.module import attention_module
from tilewright.attention.spec import AttentionSpec, PagedKV
from tilewright.dialects.attn import AttendOp
from tilewright.lowering.attn_to_tile import geometry_of

from .reference import Geometry


@pytest.mark.parametrize("stages", [2, 3])
@pytest.mark.parametrize("head_dim", [16, 48, 80, 128, 144, 240])
def test_geometry_counts_what_the_kernel_takes(head_dim: int, stages: int) -> None:
    op = Geometry(2, 2, head_dim, 16, "NHD", "f16").compile(causal(), stages=stages)
    spec = AttentionSpec(4, 2, head_dim, PagedKV(16), "f16", "sm_80", 1.0, stages=stages)
    module = attention_module(spec, causal().traced)
    attend = next(inner for inner in module.walk() if isinstance(inner, AttendOp))
    rows = op.section.tile_rows
    counted = geometry_of(attend, "sm_80", spec.warps, rows, spec.kv_tile, stages).shared_bytes
    assert op.contract.dynamic_shared_bytes == counted
