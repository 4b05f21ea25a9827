"""What ptxas makes of the kernels beside attention: nothing is spilled."""

from typing import Any

import pytest

from tilewright.attention.compiled_kernels import kernel
from tilewright.attention.kv_format import KVFormat
from tilewright.attention.part import Part
from tilewright.runtime.ptxas import find_ptxas

PTXAS = find_ptxas()
PARTS = (Part("k", 128, "half", "k_pages"), Part("v", 128, "", "v_pages"))
LATENT = (Part("ckv", 512, "", "ckv_pages"), Part("kpe", 64, "interleaved", "kpe_pages"))
APPEND = {"heads": 8, "dtype": "bf16", "page_size": 16, "layout": "NHD"}
DTYPES = {"dtype": "f32", "out_dtype": "bf16"}
KERNELS: list[tuple[str, dict[str, Any]]] = [
    ("merge_pair", {"head_dim": 256, "in_place": False, **DTYPES}),
    ("merge_many", {"heads": 8, "head_dim": 256, "ragged": True, **DTYPES}),
    ("append", {"parts": PARTS, "format": KVFormat("bf16"), **APPEND}),
    ("append", {"parts": PARTS, "format": KVFormat("e4m3"), **APPEND}),
    ("append", {"parts": PARTS, "format": KVFormat("i8", 0), **APPEND}),
    ("append", {"parts": PARTS, "format": KVFormat("i4", 16, "f16"), **APPEND}),
    ("append", {"parts": LATENT, "format": KVFormat("bf16"), **(APPEND | {"heads": 1})}),
    ("score_pages", {"heads": 8, "group": 8, "head_dim": 128, "dtype": "bf16"}),
]


@pytest.mark.skipif(PTXAS is None, reason="ptxas is not installed: extra cuda")
@pytest.mark.full
@pytest.mark.parametrize("target", ["sm_80", "sm_90"])
@pytest.mark.parametrize(("kind", "numbers"), KERNELS)
def test_ptxas_spills_nothing(kind: str, numbers: dict[str, Any], target: str) -> None:
    artifact = kernel(kind, target, **numbers)
    assert PTXAS is not None
    resources = PTXAS.assemble(artifact.ptx, target).resources[artifact.contract.name]
    assert resources.spilled_bytes == 0
