"""Variants by name, as command lines and manifests write them: `causal`, `window:4096`."""

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path

from ..runtime.errors import ArgumentError
from .expression import VariantError
from .library import (
    alibi,
    attention_sinks,
    causal,
    full,
    prefix_lm,
    relative_bias,
    rope,
    sliding_window,
    soft_cap,
)
from .parameters import tensor
from .variants import Variant, as_variant

Make = Callable[[str, int, int], Variant]


def _alibi(value: str, heads: int, head_dim: int) -> Variant:
    return alibi(heads)


def _sinks(value: str, heads: int, head_dim: int) -> Variant:
    return causal() & attention_sinks(tensor("sinks", (heads,)))


def _rope(value: str, heads: int, head_dim: int) -> Variant:
    return rope(tensor("inverse_frequencies", (head_dim // 2,)), head_dim) & causal()


def _relative(value: str, heads: int, head_dim: int) -> Variant:
    distance = int(value)
    return relative_bias(tensor("bias", (heads, 2 * distance + 1)), distance)


# How each is written, and what makes it from the text behind the colon, query heads, head_dim.
NAMED: Mapping[str, tuple[str, Make]] = {
    "full": ("full", lambda value, heads, head_dim: full()),
    "causal": ("causal", lambda value, heads, head_dim: causal()),
    "window": ("window:TOKENS", lambda value, heads, head_dim: sliding_window(int(value))),
    "softcap": (
        "softcap:CAP",
        lambda value, heads, head_dim: soft_cap(float(value), causal().mask_mod),
    ),
    "alibi": ("alibi", _alibi),
    "sinks": ("sinks", _sinks),
    "rope": ("rope", _rope),
    "prefix-lm": (
        "prefix-lm",
        lambda value, heads, head_dim: prefix_lm(tensor("prefix_len", ("batch",), "i32")),
    ),
    "relative-bias": ("relative-bias:DISTANCE", _relative),
}
FORMS = ", ".join(form for form, _ in NAMED.values())


def named_variant(text: str, heads: int, head_dim: int, folder: Path | None = None) -> Variant:
    """
    Returns the variant of a text; raises ArgumentError or VariantError.

    With `folder` a text `FILE.py:NAME` is a variant, a score_mod or a mask_mod of a file there.
    """
    name, colon, value = text.partition(":")
    if folder is not None and name.endswith(".py") and colon:
        return _own_variant(folder / name, value)
    own = "" if folder is None else ", FILE.py:NAME"
    if name not in NAMED:
        raise ArgumentError("variant", f"one of {FORMS}{own}", repr(text))
    form, make = NAMED[name]
    if bool(colon) == (":" in form):
        try:
            return make(value, heads, head_dim)
        except VariantError as error:
            raise VariantError(f"variant {text}: {error}") from None
        except ValueError:
            pass
    raise ArgumentError("variant", form, repr(text))


def _own_variant(path: Path, name: str) -> Variant:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ArgumentError("variant", "a Python file beside the manifest", repr(str(path)))
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a user's file raises
        first = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise ArgumentError("variant", "a Python file that can be imported", first) from None
    if not hasattr(module, name):
        raise ArgumentError("variant", f"a variant '{name}' in {path.name}", "nothing")
    return as_variant(getattr(module, name))
