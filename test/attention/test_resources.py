"""What ptxas makes of the kernels: nothing is spilled where the accumulators fit."""

import pytest

from tilewright.attention import alibi, causal, soft_cap
from tilewright.runtime.ptxas import find_ptxas
from tilewright.test.spread import spread

from .reference import Geometry

PTXAS = find_ptxas()
VARIANTS = {"full": None, "causal": causal(), "alibi": alibi(32), "cap": soft_cap(30.0)}


@pytest.mark.skipif(PTXAS is None, reason="ptxas is not installed: extra cuda")
@pytest.mark.parametrize(
    ("head_dim", "name"), spread([(d, name) for d in (64, 96, 128, 256) for name in VARIANTS], 5)
)
def test_ptxas_spills_nothing(head_dim: int, name: str) -> None:
    op = Geometry(4, 8, head_dim, 16, "NHD", "bf16").compile(VARIANTS[name])
    assert PTXAS is not None
    resources = PTXAS.assemble(op.ptx, "sm_80").resources[op.contract.name]
    assert resources.spilled_bytes == 0
