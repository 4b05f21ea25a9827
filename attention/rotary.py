"""Inverse frequencies of rotary position embeddings, as NumPy arrays to pass at run time."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ..runtime.errors import ArgumentError

Float32 = npt.NDArray[np.float32]


def rope_frequencies(head_dim: int, theta: float = 10000.0) -> Float32:
    """
    Returns `theta ** (-2 i / head_dim)` for the pairs i: f32 [head_dim / 2].

    Source: Su et al., "RoFormer", section 3.2.2. Raises `ArgumentError`.
    """
    if head_dim < 2 or head_dim % 2:
        raise ArgumentError("head_dim", "an even number", repr(head_dim))
    if not theta > 0:
        raise ArgumentError("theta", "a positive number", repr(theta))
    exponents = np.arange(0, head_dim, 2, dtype=np.float64) / head_dim
    return (theta**-exponents).astype(np.float32)


def llama31_frequencies(
    head_dim: int,
    theta: float = 500000.0,
    *,
    factor: float = 8.0,
    low_freq_factor: float = 1.0,
    high_freq_factor: float = 4.0,
    original_length: int = 8192,
) -> Float32:
    """
    Returns the frequencies that LLaMA 3.1 has for long contexts: f32 [head_dim / 2].

    Of what turns less than `low_freq_factor` times in `original_length` tokens the frequency is
    divided by `factor`; what turns more than `high_freq_factor` times keeps it; between them the
    two are mixed linearly in the number of turns. Source: the model's published configuration,
    `rope_scaling` of type "llama3". Raises `ArgumentError`.
    """
    if not 0 < low_freq_factor < high_freq_factor:
        expected = f"a number above low_freq_factor = {low_freq_factor}"
        raise ArgumentError("high_freq_factor", expected, repr(high_freq_factor))
    plain: npt.NDArray[Any] = rope_frequencies(head_dim, theta).astype(np.float64)
    turns = original_length * plain / (2 * math.pi)
    kept = np.clip((turns - low_freq_factor) / (high_freq_factor - low_freq_factor), 0.0, 1.0)
    return (plain * (kept + (1.0 - kept) / factor)).astype(np.float32)
