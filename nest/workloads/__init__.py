"""Workloads of deep learning as programs, each with a reference in f64 and random inputs."""

from .convolution import (
    capsule,
    conv1d,
    conv2d,
    conv3d,
    conv_bn_relu,
    convolution,
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
from .row import (
    chain,
    gated,
    layer_norm,
    norm,
    rms_norm,
    rope,
    rope_tables,
    softmax,
    transposition,
)
from .suite import FAMILIES, SUITE, SYMBOLIC, suite_workload, symbolic_workload
from .workload import Workload

__all__ = [
    "FAMILIES",
    "SUITE",
    "SYMBOLIC",
    "Workload",
    "attention_scores",
    "batched_gemm",
    "capsule",
    "chain",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_bn_relu",
    "convolution",
    "depthwise",
    "dequantized_gemm",
    "gated",
    "gemm",
    "gemm_bias_gelu",
    "layer_norm",
    "norm",
    "rms_norm",
    "rope",
    "rope_tables",
    "softmax",
    "suite_workload",
    "symbolic_workload",
    "transposed",
    "transposed_batch_gemm",
    "transposition",
]
