"""What ptxas makes of the kernels: nothing is spilled where the accumulators fit."""

import pytest

from tilewright.attention import alibi, causal, soft_cap
from tilewright.runtime.ptxas import find_ptxas

from .reference import Geometry

PTXAS = find_ptxas()


@pytest.mark.skipif(PTXAS is None, reason="ptxas is not installed: extra cuda")
@pytest.mark.parametrize("head_dim", [64, 96, 128, 256])
@pytest.mark.parametrize(
    "variant", [None, causal(), alibi(32), soft_cap(30.0)], ids=["full", "causal", "alibi", "cap"]
)
def test_ptxas_spills_nothing(head_dim: int, variant: object) -> None:
    op = Geometry(4, 8, head_dim, 16, "NHD", "bf16").compile(variant)
    assert PTXAS is not None
    resources = PTXAS.assemble(op.ptx, "sm_80").resources[op.contract.name]
    assert resources.spilled_bytes == 0
