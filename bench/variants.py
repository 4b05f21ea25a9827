"""The variants that are timed: what makes them, their parameters, and what peers call them."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ..attention import library
from ..attention.parameters import tensor
from ..attention.rotary import rope_frequencies
from ..attention.variants import Variant

WINDOW = 1024
CAP = 30.0
Params = dict[str, npt.NDArray[np.float32]]


def _no_params(num_qo_heads: int, head_dim: int) -> Params:
    return {}


def _sinks(num_qo_heads: int, head_dim: int) -> Params:
    return {"sinks": np.linspace(-1.0, 1.0, num_qo_heads, dtype=np.float32)}


@dataclass(frozen=True)
class TimedVariant:
    """
    A variant of the library as it is timed.

    `make` takes the number of query heads and head_dim; `params` gives the arrays that `run` takes.
    `causal`, `window`, `soft_cap` and `alibi` say what it is in the terms of peers; `plain` that it
    is nothing more, so that a peer which has these terms computes the same.
    """

    make: Callable[[int, int], Variant]
    causal: bool = True
    window: int | None = None
    soft_cap: float | None = None
    alibi: bool = False
    plain: bool = True
    params: Callable[[int, int], Params] = field(default=_no_params)


def _soft_cap(heads: int, head_dim: int) -> Variant:
    return library.soft_cap(CAP, library.causal().mask_mod)


def _with_sinks(heads: int, head_dim: int) -> Variant:
    return library.causal() & library.attention_sinks(tensor("sinks", (heads,)))


def _rope(heads: int, head_dim: int) -> Variant:
    frequencies = tensor("inverse_frequencies", (head_dim // 2,))
    return library.rope(frequencies, head_dim) & library.causal()


def _frequencies(heads: int, head_dim: int) -> Params:
    return {"inverse_frequencies": rope_frequencies(head_dim)}


VARIANTS: dict[str, TimedVariant] = {
    "full": TimedVariant(lambda heads, head_dim: library.full(), causal=False),
    "causal": TimedVariant(lambda heads, head_dim: library.causal()),
    "window": TimedVariant(lambda heads, head_dim: library.sliding_window(WINDOW), window=WINDOW),
    "soft-cap": TimedVariant(_soft_cap, soft_cap=CAP),
    "alibi": TimedVariant(lambda heads, head_dim: library.alibi(heads), alibi=True),
    "sinks": TimedVariant(_with_sinks, plain=False, params=_sinks),
    "rope": TimedVariant(_rope, plain=False, params=_frequencies),
}
