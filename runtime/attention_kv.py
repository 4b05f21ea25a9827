"""The keys and values of a call of attention: checked, and taken as the kernel has them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from .array import ArrayView, show_shape, view_of
from .attention_kernel import LATENT_SCALES
from .contract import DTYPE_BYTES, AttentionContract, PointerParam
from .errors import ArgumentError
from .kernel_call import stretch
from .launch import Signature

# What kernels copy at a time.
_CHUNK_BYTES = 16
# Between the scales of the two parts of a latent row: what products of codes are multiplied by.
LARGEST_RATIO = 2.0**64


@dataclass(frozen=True)
class KVArguments:
    """
    Keys and values, and the scales of those that are codes.

    `keys` and `values` are arrays, or `keys` the one of both; `scales` what was given by name:
    numbers or arrays, None for what was not.
    """

    keys: object
    values: object
    scales: Mapping[str, object]


@dataclass(frozen=True)
class KVViews:
    """
    Keys and values as a kernel takes them.

    `views` are its pointers, `scalars` its numbers, `symbols` the strides of arrays that have some;
    `extent` counts the pages, or the ragged rows, and `name` is the array that has them.
    """

    views: dict[str, ArrayView]
    scalars: dict[str, object]
    symbols: dict[str, int]
    extent: int
    name: str


def kv_views(
    section: AttentionContract, signature: Signature, given: KVArguments, stream: int | None
) -> KVViews:
    """Returns the keys and values of a call; raises ArgumentError."""
    if "latent" in section.kv:
        raise ArgumentError("k_pages", "a call of `run_mla`, the cache is latent", "keys")
    names = section.kv_arrays
    arrays = (given.keys, given.values)[: len(names)]
    if len(names) == 1 and given.values is not None:
        raise ArgumentError("v_pages", "nothing, keys and values are one array", "an array")
    views = {name: view_of(a, name, stream) for name, a in zip(names, arrays, strict=True)}
    first = views[names[0]]
    extent = first.shape[0] if first.shape else 0
    symbols: dict[str, int] = {}
    if "strided" in section.kv:
        for name, view in views.items():
            views[name], found = _by_strides(section, signature, view, extent)
            symbols |= found
    scalars: dict[str, object] = {}
    for name, scale in given.scales.items():
        _add_scale(signature, name, scale, stream, (views, scalars))
    return KVViews(views, scalars, symbols, extent, names[0])


def latent_views(
    section: AttentionContract, signature: Signature, given: KVArguments, stream: int | None
) -> KVViews:
    """Returns the latent cache of a call, whose `values` are what carries positions."""
    if "latent" not in section.kv:
        raise ArgumentError("ckv_pages", "a call of `run`, the kernel has keys and values", "rows")
    names, arrays = section.kv_arrays, (given.keys, given.values)
    if len(names) == 1 and given.values is not None:
        raise ArgumentError("kpe_pages", "nothing, the cache is one array", "an array")
    if len(names) == 2 and given.values is None:
        raise ArgumentError("kpe_pages", "an array, the cache is two", "nothing")
    named = zip(names, arrays, strict=False)
    views = {name: view_of(array, name, stream) for name, array in named}
    first = views[names[0]]
    scalars: dict[str, object] = {}
    for name, scale in given.scales.items():
        _add_scale(signature, name, scale, stream, (views, scalars))
    _check_ratio(scalars)
    return KVViews(views, scalars, {}, first.shape[0] if first.shape else 0, names[0])


def _check_ratio(scales: Mapping[str, object]) -> None:
    """Refuses scales of the parts of a row whose quotient is no number that products keep."""
    ckv, kpe = (float(cast("Any", scales.get(name, 1.0))) for name in LATENT_SCALES)
    if not 1 / LARGEST_RATIO <= kpe / ckv <= LARGEST_RATIO:
        expected = f"a number within 2^-64 and 2^64 of ckv_scale, {ckv:g}"
        raise ArgumentError("kpe_scale", expected, f"{kpe:g}")


def _by_strides(
    section: AttentionContract, signature: Signature, view: ArrayView, extent: int
) -> tuple[ArrayView, dict[str, int]]:
    """Returns the memory of an array, and its strides as symbols."""
    expected = (extent, *_axes(section))
    if view.shape != expected:
        raise ArgumentError(view.name, f"shape {show_shape(expected)}", show_shape(view.shape))
    strides = view.strides
    if view.contiguous:
        strides = tuple(math.prod(view.shape[axis + 1 :]) for axis in range(len(view.shape)))
    each = _CHUNK_BYTES // DTYPE_BYTES[signature.pointers[view.name][0].dtype]
    if strides is None or strides[-1] != 1 or min(strides) < 0:
        expected = "strides that are not negative, 1 on the last axis"
        raise ArgumentError(view.name, expected, str(view.strides))
    if any(step % each for step in strides[:-1]):
        expected = f"strides of multiples of {_CHUNK_BYTES} bytes, {each} elements"
        raise ArgumentError(view.name, expected, str(strides))
    names = (f"{view.name}_stride_{axis}" for axis in range(len(strides) - 1))
    memory = replace(stretch(view, strides), name=view.name)
    return memory, dict(zip(names, strides, strict=False))


def _axes(section: AttentionContract) -> tuple[int, ...]:
    """Returns the extents of an array of keys or values behind the first one."""
    width = section.head_dim // 2 if "packed" in section.kv else section.head_dim
    heads = section.num_kv_heads
    if section.kv_arrays == ("k", "v"):
        return heads, width
    page = (section.page_size, heads)
    page = page if section.layout == "NHD" else page[::-1]
    return (*((2,) if "combined" in section.kv else ()), *page, width)


def _add_scale(
    signature: Signature,
    name: str,
    scale: object,
    stream: int | None,
    found: tuple[dict[str, ArrayView], dict[str, object]],
) -> None:
    """Adds a scale to the kernel's pointers or scalars; one for all is 1 where none is given."""
    views, scalars = found
    known = [param for param in signature.contract.params if param.name == name]
    if not known:
        if scale is not None:
            raise ArgumentError(name, "nothing, the kernel has no such scale", "a scale")
        return
    if isinstance(known[0], PointerParam):
        if scale is None:
            raise ArgumentError(name, "an array of scales", "nothing")
        views[name] = view_of(scale, name, stream)
        return
    scalars[name] = _checked(name, 1.0 if scale is None else scale)


def _checked(name: str, scale: object) -> object:
    """Returns a scale; refuses one with which the greatest product has not the greatest score."""
    try:
        number = float(cast("Any", scale)) if hasattr(scale, "__float__") else 0.0
    except (TypeError, ValueError):
        # An array of several numbers, for one.
        number = 0.0
    # With it 2^8 is multiplied, the distance of the exponents of e4m3 and f16.
    if not 2.0**-126 <= number < 2.0**119:
        raise ArgumentError(name, "a positive number of type f32, below 2^119", repr(scale))
    return scale
