"""The options by which commands name an attention kernel."""

import argparse
import math
from collections.abc import Callable

from ..attention.spec import DTYPES, LAYOUTS, TARGETS, AttentionSpec
from ..attention.variants import Variant, alibi, causal, full, sliding_window, soft_cap
from ..runtime.errors import ArgumentError

# Each variant of the library by its name, made from the value behind the colon and the heads.
VARIANTS: dict[str, tuple[str, Callable[[str, int], Variant]]] = {
    "full": ("full", lambda value, heads: full()),
    "causal": ("causal", lambda value, heads: causal()),
    "window": ("window:TOKENS", lambda value, heads: sliding_window(int(value))),
    "softcap": ("softcap:CAP", lambda value, heads: soft_cap(float(value), causal().mask_mod)),
    "alibi": ("alibi", lambda value, heads: alibi(heads)),
}


def add_kernel_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options; the defaults are the attention of Llama-3.1-8B."""
    names = ", ".join(form for form, _ in VARIANTS.values())
    parser.add_argument("--variant", default="causal", help=f"one of {names}")
    parser.add_argument("--heads", type=int, default=32, help="query heads")
    parser.add_argument("--kv-heads", type=int, default=8, help="key and value heads")
    parser.add_argument("--head-dim", type=int, default=128, help="a multiple of 16 up to 256")
    parser.add_argument("--page-size", type=int, default=16, help="tokens of a page")
    parser.add_argument("--layout", default="NHD", help=" or ".join(LAYOUTS))
    parser.add_argument("--dtype", default="bf16", help=" or ".join(DTYPES))
    parser.add_argument("--target", default="sm_80", help=", ".join(TARGETS))


def variant_of(arguments: argparse.Namespace) -> Variant:
    """Returns the variant that was named; raises ArgumentError."""
    name, _, value = str(arguments.variant).partition(":")
    try:
        return VARIANTS[name][1](value, arguments.heads)
    except (KeyError, ValueError):
        names = ", ".join(form for form, _ in VARIANTS.values())
        raise ArgumentError("--variant", f"one of {names}", repr(arguments.variant)) from None


def spec_of(arguments: argparse.Namespace) -> AttentionSpec:
    """Returns the numbers that were given; raises ArgumentError."""
    head_dim = arguments.head_dim
    return AttentionSpec(
        num_qo_heads=arguments.heads,
        num_kv_heads=arguments.kv_heads,
        head_dim=head_dim,
        page_size=arguments.page_size,
        layout=arguments.layout,
        dtype=arguments.dtype,
        target=arguments.target,
        softmax_scale=1.0 / math.sqrt(max(head_dim, 1)),
    )
