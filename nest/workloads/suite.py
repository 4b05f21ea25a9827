"""
The workloads of the published suites: 13 families, four shapes each, and more of today's models.

The shapes are those of TVM's suite and of MetaSchedule (NeurIPS 2022, appendix A.2). Each family
has a form with symbolic extents too.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

from .convolution import (
    capsule,
    conv1d,
    conv2d,
    conv3d,
    conv_bn_relu,
    depthwise,
    transposed,
)
from .matrix import (
    attention_scores,
    batched_gemm,
    dequantized_gemm,
    gemm,
    gemm_bias_gelu,
    transposed_batch_gemm,
)
from .row import chain, gated, layer_norm, norm, rms_norm, rope, softmax
from .workload import Workload

Shape: TypeAlias = tuple[int, ...]
Maker: TypeAlias = Callable[..., Workload]

_IMAGES: tuple[Shape, ...] = (
    (1, 224, 224, 3, 64, 7, 2, 3),
    (1, 56, 56, 64, 64, 1, 1, 0),
    (1, 14, 14, 256, 256, 3, 1, 1),
    (1, 7, 7, 512, 512, 3, 1, 1),
)

FAMILIES: Mapping[str, Maker] = {
    "C1D": conv1d,
    "C2D": conv2d,
    "C3D": conv3d,
    "GMM": batched_gemm,
    "GRP": partial(conv2d, groups=4),
    "DIL": partial(conv2d, dilation=2),
    "DEP": depthwise,
    "T2D": transposed,
    "CAP": capsule,
    "NRM": norm,
    "SFM": softmax,
    "CBR": conv_bn_relu,
    "TBG": transposed_batch_gemm,
    "GEMM": gemm,
    "GELU": gemm_bias_gelu,
    "ATT": attention_scores,
    "W4": partial(dequantized_gemm, bits=4),
    "W8": partial(dequantized_gemm, bits=8),
    "LNM": layer_norm,
    "RMS": rms_norm,
    "ROPE": rope,
    "CHAIN": chain,
    "GATE": gated,
}

SUITE: Mapping[str, tuple[Shape, ...]] = {
    "C1D": (
        (1, 256, 64, 128, 3, 2, 1),
        (1, 128, 128, 256, 1, 2, 0),
        (1, 64, 256, 256, 5, 1, 2),
        (1, 32, 512, 512, 3, 1, 1),
    ),
    "C2D": _IMAGES,
    "C3D": (
        (1, 16, 224, 224, 3, 64, 7, 2, 3),
        (1, 16, 56, 56, 64, 64, 1, 1, 0),
        (1, 16, 14, 14, 256, 256, 3, 1, 1),
        (1, 16, 7, 7, 512, 512, 3, 1, 1),
    ),
    "GMM": ((1, 128, 128, 128), (1, 512, 32, 512), (1, 512, 512, 512), (1, 1024, 1024, 1024)),
    "GRP": (
        (1, 56, 56, 64, 128, 3, 2, 1),
        (1, 56, 56, 64, 64, 1, 1, 0),
        (1, 14, 14, 256, 256, 3, 1, 1),
        (1, 7, 7, 512, 512, 3, 1, 1),
    ),
    "DIL": _IMAGES,
    "DEP": (
        (1, 112, 112, 32, 3, 1, 1),
        (1, 112, 112, 64, 3, 2, 1),
        (1, 14, 14, 512, 3, 2, 1),
        (1, 7, 7, 1024, 3, 1, 1),
    ),
    "T2D": (
        (1, 4, 4, 512, 256, 4, 2, 1),
        (1, 8, 8, 256, 128, 4, 2, 1),
        (1, 16, 16, 128, 64, 4, 2, 1),
        (1, 32, 32, 64, 3, 4, 2, 1),
    ),
    "CAP": (
        (1, 16, 16, 32, 32, 3, 2, 1),
        (1, 8, 8, 32, 32, 3, 1, 1),
        (1, 16, 16, 8, 16, 3, 2, 1),
        (1, 8, 8, 16, 16, 3, 1, 1),
    ),
    "NRM": ((1, 256, 256), (1, 512, 512), (1, 1024, 1024), (1, 4096, 1024)),
    "SFM": ((256, 256), (512, 512), (1024, 1024), (2048, 2048)),
    "CBR": (
        (1, 224, 224, 3, 64, 7, 2, 3),
        (1, 56, 56, 64, 128, 3, 2, 1),
        (1, 28, 28, 128, 256, 1, 2, 0),
        (1, 7, 7, 512, 512, 3, 1, 1),
    ),
    "TBG": ((1, 128, 12, 64), (1, 128, 16, 64), (1, 64, 12, 128), (1, 128, 12, 128)),
    "GEMM": ((128, 128, 128), (512, 512, 512), (1024, 1024, 1024), (4096, 4096, 4096)),
    "GELU": ((128, 3072, 768), (512, 4096, 1024)),
    "ATT": ((1, 12, 128, 128, 64), (1, 32, 1, 4096, 128)),
    "W4": ((16, 4096, 4096), (128, 11008, 4096)),
    "W8": ((16, 4096, 4096), (128, 11008, 4096)),
    "LNM": ((512, 768), (4096, 4096)),
    "RMS": ((512, 768), (4096, 4096)),
    "ROPE": ((1, 512, 12, 64), (1, 4096, 32, 128)),
    "CHAIN": ((512, 768), (4096, 4096)),
    "GATE": ((512, 3072), (4096, 11008)),
}

# Arguments with symbols in the place of batch, length or image, and the ranges of these.
SYMBOLIC: Mapping[str, tuple[tuple[int | str, ...], str]] = {
    "C1D": (("n", "l", 8, 16, 3, 2, 1), "n in [1, 64], l in [1, 4096]"),
    "C2D": (("n", "h", "w", 8, 16, 3, 2, 1), "n in [1, 64], h in [1, 512], w in [1, 512]"),
    "C3D": (("n", 4, "h", "h", 4, 8, 3, 2, 1), "n in [1, 64], h in [1, 256]"),
    "GMM": (("b", "n", 16, 32), "b in [1, 64], n in [1, 8192]"),
    "GRP": (("n", "h", "h", 8, 16, 3, 2, 1), "n in [1, 64], h in [1, 512]"),
    "DIL": (("n", "h", "h", 4, 8, 3, 1, 2), "n in [1, 64], h in [1, 512]"),
    "DEP": (("n", "h", "w", 8, 3, 2, 1), "n in [1, 64], h in [1, 512], w in [1, 512]"),
    "T2D": (("n", "h", "w", 4, 8, 4, 2, 1), "n in [1, 64], h in [1, 128], w in [1, 128]"),
    "CAP": (("n", "h", "h", 4, 4, 3, 2, 1), "n in [1, 64], h in [1, 128]"),
    "NRM": (("b", "m", 16), "b in [1, 64], m in [1, 8192]"),
    "SFM": (("m", "n"), "m in [1, 8192], n in [1, 8192]"),
    "CBR": (("n", "h", "h", 4, 8, 3, 1, 1), "n in [1, 64], h in [1, 512]"),
    "TBG": (("b", "s", 3, 8), "b in [1, 64], s in [1, 8192]"),
    "GEMM": (("m", 24, "k"), "m in [1, 8192], k in [1, 8192]"),
    "GELU": (("m", 16, 32), "m in [1, 8192]"),
    "ATT": (("b", 2, "q", "k", 8), "b in [1, 64], q in [1, 8192], k in [1, 8192]"),
    "W4": (("m", 16, 64), "m in [1, 8192]"),
    "W8": (("m", 16, 64), "m in [1, 8192]"),
    "LNM": (("m", "n"), "m in [1, 8192], n in [1, 8192]"),
    "RMS": (("m", "n"), "m in [1, 8192], n in [1, 8192]"),
    "ROPE": (("b", "s", 2, 8), "b in [1, 64], s in [1, 8192]"),
    "CHAIN": (("m", "n"), "m in [1, 8192], n in [1, 8192]"),
    "GATE": (("m", "n"), "m in [1, 8192], n in [1, 8192]"),
}


def suite_workload(family: str, number: int = 0, **options: Any) -> Workload:
    """Returns a workload of the suite: `suite_workload("C2D", 2, dtype="f16")`."""
    return FAMILIES[family](*SUITE[family][number], **options)


def symbolic_workload(family: str, **options: Any) -> Workload:
    """Returns a workload whose batch, length or image has symbolic extents."""
    arguments, ranges = SYMBOLIC[family]
    return FAMILIES[family](*arguments, ranges=ranges, **options)
