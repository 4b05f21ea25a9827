"""The options by which commands name an attention kernel."""

import argparse
import math

from ..attention.expression import VariantError
from ..attention.named_variants import NAMED
from ..attention.spec import DTYPES, LAYOUTS, TARGETS, AttentionSpec, PagedKV
from ..attention.variants import Variant
from ..runtime.errors import ArgumentError

# The variants that need no arrays of their own.
VARIANTS = {name: NAMED[name] for name in ("full", "causal", "window", "softcap", "alibi")}
_FORMS = ", ".join(form for form, _ in VARIANTS.values())

# The option that gives each number of a kernel.
OPTIONS = {
    "num_qo_heads": "--heads",
    "num_kv_heads": "--kv-heads",
    "head_dim": "--head-dim",
    "page_size": "--page-size",
    "layout": "--layout",
    "dtype": "--dtype",
    "target": "--target",
}


def add_kernel_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options; the defaults are the attention of Llama-3.1-8B."""
    kernel = parser.add_argument_group("kernel", "by default the attention of Llama-3.1-8B")

    def number(option: str, default: int, text: str) -> None:
        kernel.add_argument(
            option, type=int, default=default, metavar="N", help=f"{text}; default %(default)s"
        )

    def name(option: str, default: str, text: str) -> None:
        kernel.add_argument(
            option, default=default, metavar="NAME", help=f"{text}; default %(default)s"
        )

    name("--variant", "causal", _FORMS)
    number("--heads", 32, "query heads, a multiple of the key heads")
    number("--kv-heads", 8, "key and value heads")
    number("--head-dim", 128, "elements of a head, a multiple of 16 up to 256")
    number("--page-size", 16, "tokens of a page")
    name("--layout", "NHD", "of a page, " + " or ".join(LAYOUTS))
    name("--dtype", "bf16", " or ".join(DTYPES))
    name("--target", "sm_80", ", ".join(TARGETS))


def variant_of(arguments: argparse.Namespace) -> Variant:
    """Returns the variant that was named; raises ArgumentError or VariantError."""
    text = str(arguments.variant)
    name, colon, value = text.partition(":")
    if name not in VARIANTS:
        raise ArgumentError("--variant", f"one of {_FORMS}", repr(text))
    form, make = VARIANTS[name]
    if bool(colon) == (":" in form):
        try:
            return make(value, arguments.heads, arguments.head_dim)
        except VariantError as error:
            raise VariantError(f"--variant {text}: {error}") from None
        except ValueError:
            pass
    raise ArgumentError("--variant", form, repr(text))


def spec_of(arguments: argparse.Namespace) -> AttentionSpec:
    """Returns the numbers that were given; raises ArgumentError with the name of the option."""
    head_dim = arguments.head_dim
    try:
        return AttentionSpec(
            num_qo_heads=arguments.heads,
            num_kv_heads=arguments.kv_heads,
            head_dim=head_dim,
            kv=PagedKV(arguments.page_size, arguments.layout),
            dtype=arguments.dtype,
            target=arguments.target,
            softmax_scale=1.0 / math.sqrt(max(head_dim, 1)),
        )
    except ArgumentError as error:
        name = OPTIONS.get(error.name, error.name)
        raise ArgumentError(name, error.expected, error.got) from None
