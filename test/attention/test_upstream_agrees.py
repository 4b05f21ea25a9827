"""The direct and the upstream way to PTX compute the same, and upstream MLIR accepts the module."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp

from tilewright.attention import Variant, causal, cos, sin, sliding_window, soft_cap, where
from tilewright.attention.module import attention_module
from tilewright.attention.spec import AttentionSpec, PagedKV
from tilewright.attention.variants import as_variant
from tilewright.lowering.pipelines.attention import attention_to_thread
from tilewright.lowering.upstream import print_ptx_upstream, verify_upstream
from tilewright.runtime.attention import AttentionOp, Plan
from tilewright.test.attention.queues import chunks_of, plan_work
from tilewright.test.attention.reference import (
    ROUNDED_LSE_TOLERANCE,
    Geometry,
    exact,
    random_batch,
)
from tilewright.test.attention.test_on_simulator import alternating, generator, tilted
from tilewright.test.spread import spread

pytest.importorskip("llvmlite", reason="the upstream way needs the extra mlir")


def turned(x: Any, b: Any, h: Any, position: Any, d: Any) -> Any:
    """Neighbours are turned, after their mean over the row is taken off."""
    mean = x.sum() / 80
    angle = position * 0.125 * (d >> 1)
    sign = where((d & 1) == 0, -1.0, 1.0)
    return (x[d] - mean) * cos(angle) + sign * (x[d ^ 1] - mean) * sin(angle)


TURNED = Variant(query_transform=turned, key_transform=turned) & causal()

# head_dim, group, page size, layout, dtype, variant
CONFIGURATIONS = (
    (16, 1, 1, "NHD", "f16", None),
    (32, 2, 3, "HND", "bf16", causal()),
    (48, 3, 16, "NHD", "bf16", tilted),
    (64, 4, 16, "NHD", "f16", causal()),
    (64, 8, 64, "HND", "bf16", soft_cap(4.0)),
    (80, 1, 3, "NHD", "f16", alternating),
    (80, 2, 3, "NHD", "bf16", TURNED),
    (96, 2, 16, "HND", "bf16", sliding_window(9)),
    (128, 4, 16, "NHD", "bf16", causal()),
    (192, 1, 1, "HND", "f16", causal()),
    (256, 2, 16, "NHD", "bf16", None),
)


def thread_module(geometry: Geometry, variant: object) -> ModuleOp:
    spec = AttentionSpec(
        num_qo_heads=geometry.num_qo_heads,
        num_kv_heads=geometry.num_kv_heads,
        head_dim=geometry.head_dim,
        kv=PagedKV(geometry.page_size, geometry.layout),
        dtype=geometry.dtype,
        target="sm_80",
        softmax_scale=geometry.head_dim**-0.5,
    )
    module = attention_module(spec, as_variant(variant).traced)
    for step in attention_to_thread(spec.target):
        step.apply(Context(), module)
    module.verify()
    return module


def ulps_apart(a: Any, b: Any) -> int:
    """Returns the distance of 16-bit floats, given as f16 or as the bits of bf16."""
    return int(np.abs(in_order(a) - in_order(b)).max(initial=0))


def in_order(floats: Any) -> npt.NDArray[np.int32]:
    """Returns integers that are ordered as the floats with these 16 bits are."""
    bits: npt.NDArray[np.int32] = floats.view(np.int16).astype(np.int32)
    return np.where(bits < 0, -32768 - bits, bits)


@pytest.mark.parametrize(
    "configuration",
    spread([(each,) for each in CONFIGURATIONS], 4),
    ids=lambda c: f"d{c[0]}-{c[4]}",
)
def test_both_ways_agree(configuration: tuple[int, int, int, str, str, object]) -> None:
    head_dim, group, page_size, layout, dtype, variant = configuration
    geometry = Geometry(group, 2, head_dim, page_size, layout, dtype)
    op = geometry.compile(variant)
    module = thread_module(geometry, variant)
    verify_upstream(module)
    upstream = AttentionOp(replace(op.artifact, ptx=print_ptx_upstream(module, "sm_80")))
    rng = generator(head_dim)
    batch = random_batch(geometry, [(7, 7), (20, 90), (1, 33), (2, 0)], rng)
    plan = plan_work(op, batch, chunks_of(40), 6, rng)
    out, lse = Plan(op, plan).run(*batch.arrays)
    upstream_out, upstream_lse = Plan(upstream, plan).run(*batch.arrays)
    assert ulps_apart(out, upstream_out) <= 1
    # A weight may be rounded the other way, as an element of the result may.
    np.testing.assert_allclose(lse, upstream_lse, rtol=0, atol=ROUNDED_LSE_TOLERANCE[dtype] / 4)
    assert np.isfinite(exact(out)).all()
