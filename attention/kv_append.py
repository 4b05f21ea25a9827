"""
Appending keys and values to a paged KV cache: RoPE, quantisation and the scatter in one kernel.

```python
table = table.grown(counts, free_pages)
plan = attention.plan_append(table, append_indptr)  # once a step, for all layers
attention.append_kv(cache, plan, k, v, rotation=rotation)
```

What is stored is written before attention reads it, so RoPE on keys costs nothing there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np

from ..runtime.array import ArrayView, view_of
from ..runtime.device import Device
from ..runtime.errors import ArgumentError
from ..runtime.kernel_call import (
    by_strides,
    call_kernel,
    check_array,
    device_of,
    element_bytes,
    overlaps,
)
from ..runtime.stream import stream_handle
from .append_plan import AppendPlan, DeviceAppendPlan
from .compiled_kernels import kernel
from .kv_format import FLOATS, KVFormat
from .latent_kv import check_latent_format
from .part import Part
from .rotation import Rotation

LAYOUTS = ("NHD", "HND")
LARGEST_DIM = 1024
_LARGEST = 2**31 - 1
_AXES = {"NHD": ("pages", "page_size", "heads"), "HND": ("pages", "heads", "page_size")}


@dataclass(frozen=True, eq=False)
class KVCache:
    """
    A paged cache of keys and values, and how it is stored.

    `pages` is one array [pages, 2, page_size, heads, head_dim], keys before values, or a pair of
    arrays without the axis of 2; with layout "HND" heads stand before page_size. The last axis has
    `format.width(head_dim)` elements of stride 1, other strides are free. Codes of fp8 and i4 are
    uint8, of i8 int8. `scales` are needed where the format has blocks: as `pages`, with
    `head_dim / block` in the last axis, C-contiguous. `k_scale` and `v_scale` are those of a
    format with one scale for all: a code stands for `code * scale`.
    """

    pages: object
    format: KVFormat
    layout: str = "NHD"
    scales: object = None
    k_scale: float = 1.0
    v_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise ArgumentError("layout", "'NHD' or 'HND'", repr(self.layout))
        if self.format.has_blocks == (self.scales is None):
            expected = "arrays" if self.format.has_blocks else "nothing, the format has none"
            raise ArgumentError("scales", expected, "nothing" if self.scales is None else "arrays")
        for name in ("k_scale", "v_scale"):
            _checked_scale(name, getattr(self, name))


def _checked_scale(name: str, scale: float) -> float:
    """Returns a scale of codes; raises ArgumentError."""
    try:
        is_known = 2.0**-126 <= float(scale) <= 2.0**126
    except (TypeError, ValueError):
        is_known = False
    if not is_known:
        raise ArgumentError(name, "a positive number of type f32", repr(scale))
    return scale


@dataclass(frozen=True)
class _Tensor:
    """One tensor of what is appended: its rows [nnz, heads, dim], and where they go."""

    name: str
    rows: ArrayView
    pages: ArrayView
    scales: ArrayView | None
    which: int | None = None
    rope: str = ""
    scale: float = 1.0


@dataclass(frozen=True)
class _Job:
    """What one call appends."""

    tensors: tuple[_Tensor, ...]
    plan: AppendPlan | DeviceAppendPlan
    form: KVFormat
    layout: str
    rotation: Rotation | None
    arrays: dict[str, ArrayView] = field(default_factory=dict[str, ArrayView])
    symbols: dict[str, int] = field(default_factory=dict[str, int])


def append_kv(
    cache: KVCache,
    plan: AppendPlan | DeviceAppendPlan,
    k: object,
    v: object,
    *,
    rotation: Rotation | None = None,
    device: Device | str | None = None,
    stream: object = None,
    target: str = "sm_80",
) -> None:
    """
    Writes new keys and values to their places in the cache, in the format that it has.

    `k` is [nnz, heads, head_dim] and `v` [nnz, heads, v_head_dim], f16, bf16 or f32 of one dtype,
    the last axis of stride 1. `rotation` is applied to keys, in f32, before they are rounded or
    quantised. Raises ArgumentError before anything is launched.
    """
    rows = _views({"k": k, "v": v}, stream)
    pages, scales, which = _cache_arrays(cache, stream)
    factors = (cache.k_scale, cache.v_scale)
    tensors = tuple(
        _Tensor(
            name,
            rows[name],
            pages[number],
            None if scales is None else scales[number],
            which[number],
            rotation.kind if rotation is not None and name == "k" else "",
            factors[number],
        )
        for number, name in enumerate(("k", "v"))
    )
    _append(_Job(tensors, plan, cache.format, cache.layout, rotation), device, stream, target)


def _cache_arrays(
    cache: KVCache, stream: object
) -> tuple[list[ArrayView], list[ArrayView] | None, tuple[int | None, int | None]]:
    """Returns the pages of keys and of values, their scales, and which of an array each is."""
    given = cache.pages
    if isinstance(given, tuple):
        names, which = ("k_pages", "v_pages"), (None, None)
        pages = _pair(cast(object, given), "pages", stream)
        scales = _pair(cache.scales, "scales", stream) if cache.scales is not None else None
    else:
        names, which = ("kv_pages", "kv_pages"), (0, 1)
        pages = (view_of(cache.pages, "kv_pages", stream_handle(stream)),) * 2
        scales = None
        if cache.scales is not None:
            scales = (view_of(cache.scales, "kv_pages_scales", stream_handle(stream)),) * 2
    named = [replace(view, name=name) for view, name in zip(pages, names, strict=True)]
    if scales is None:
        return named, None, which
    pairs = zip(scales, names, strict=True)
    return named, [replace(view, name=f"{name}_scales") for view, name in pairs], which


def append_mla(
    ckv_pages: object,
    kpe_pages: object,
    plan: AppendPlan | DeviceAppendPlan,
    ckv: object,
    kpe: object,
    *,
    format: KVFormat | None = None,
    ckv_scale: float = 1.0,
    kpe_scale: float = 1.0,
    rotation: Rotation | None = None,
    device: Device | str | None = None,
    stream: object = None,
    target: str = "sm_80",
) -> None:
    """
    Writes the latent rows of multi-head latent attention to their places in a cache.

    `ckv` is [nnz, 512] and `kpe` [nnz, 64] of one dtype, or any such widths; the pages are
    [pages, page_size, 512] and [pages, page_size, 64], f16, bf16 or f32 (DeepSeek-V2, section 2.1),
    or codes of `format`, e4m3, e5m2 or i8 with a scale for each part. `rotation` is applied to
    `kpe`. Raises ArgumentError before anything is launched.
    """
    scales = _latent_scales(format, ckv_scale, kpe_scale)
    given = {"ckv": ckv, "kpe": kpe, "ckv_pages": ckv_pages, "kpe_pages": kpe_pages}
    views = _latent_arrays(_views(given, stream), format)
    tensors = tuple(
        _Tensor(
            name,
            _with_heads(views[name]),
            _with_heads(views[f"{name}_pages"]),
            None,
            rope=rotation.kind if rotation is not None and name == "kpe" else "",
            scale=scale,
        )
        for name, scale in scales.items()
    )
    form = format or KVFormat(tensors[0].pages.dtype)
    _append(_Job(tensors, plan, form, "NHD", rotation), device, stream, target)


def _latent_scales(form: object, ckv_scale: float, kpe_scale: float) -> dict[str, float]:
    check_latent_format(form)
    given = {"ckv": ckv_scale, "kpe": kpe_scale}
    for name, scale in given.items():
        if scale != 1 and not (isinstance(form, KVFormat) and form.is_quantized):
            raise ArgumentError(f"{name}_scale", "1 for rows that are no codes", repr(scale))
    return {name: _checked_scale(f"{name}_scale", scale) for name, scale in given.items()}


def _latent_arrays(views: dict[str, ArrayView], form: KVFormat | None) -> dict[str, ArrayView]:
    """Returns the rows and pages of a latent cache; refuses those of other dtypes and axes."""
    for name, view in views.items():
        is_page = name.endswith("_pages")
        axes = ("pages", "page_size") if is_page else ("nnz",)
        check_array(view, form.stored if is_page and form else FLOATS, (*axes, "width"))
    return views


def _views(arrays: Mapping[str, object], stream: object) -> dict[str, ArrayView]:
    handle = stream_handle(stream)
    return {name: view_of(array, name, handle) for name, array in arrays.items()}


def _pair(arrays: object, name: str, stream: object) -> tuple[ArrayView, ArrayView]:
    pair = cast("tuple[object, ...]", arrays if isinstance(arrays, tuple) else (arrays,))
    if len(pair) != 2:
        raise ArgumentError(name, "a pair of arrays, as pages are one", f"{len(pair)} arrays")
    handle = stream_handle(stream)
    return view_of(pair[0], f"k_{name}", handle), view_of(pair[1], f"v_{name}", handle)


def _with_heads(view: ArrayView) -> ArrayView:
    """Returns an array with an axis of one head before the last one."""
    shape = (*view.shape[:-1], 1, view.shape[-1])
    host = None if view.host is None else np.expand_dims(view.host, -2)
    strides = view.strides
    if strides is not None:
        strides = (*strides[:-1], 0, strides[-1])
    return replace(view, shape=shape, host=host, strides=strides)


def _append(job: _Job, device: Device | str | None, stream: object, target: str) -> None:
    heads = job.tensors[0].rows.shape[1] if len(job.tensors[0].rows.shape) == 3 else 0
    dtype = job.tensors[0].rows.dtype
    parts: list[Part] = []
    for tensor in job.tensors:
        _check_rows(tensor, job, heads, dtype)
        _check_pages(tensor, job, heads)
        parts.append(_part(tensor, job))
    _check_apart(job)
    where = device_of(job.arrays.values(), device)
    if not job.plan.tokens:
        return
    tables = job.plan.upload(where, stream)
    if job.rotation is not None:
        tables["rotation"] = view_of(job.rotation.on(where), "rotation")
    artifact = kernel(
        "append",
        target,
        parts=tuple(parts),
        heads=heads,
        dtype=dtype,
        format=job.form,
        page_size=job.plan.page_size,
        layout=job.layout,
    )
    arrays = job.arrays | tables
    numbers = {f"{t.name}_inverse": 1.0 / t.scale for t in job.tensors}
    call_kernel(artifact, arrays, where, numbers=numbers, symbols=job.symbols, stream=stream)


def _check_rows(tensor: _Tensor, job: _Job, heads: int, dtype: str) -> None:
    rows, tokens = tensor.rows, job.plan.tokens
    check_array(rows, FLOATS, ("nnz", "heads", "head_dim"))
    check_array(rows, (dtype,), (tokens, heads, "head_dim"))
    dim = rows.shape[-1]
    if not 1 <= dim <= LARGEST_DIM or not heads:
        raise ArgumentError(tensor.name, f"rows of 1 to {LARGEST_DIM} elements", str(rows.shape))
    if tokens * heads > _LARGEST:
        raise ArgumentError(tensor.name, f"at most {_LARGEST} rows", str(tokens * heads))
    if tensor.rope:
        assert job.rotation is not None
        if job.form.dtype == "i4" and tensor.rope == "half" and dim % 4:
            expected = "a head_dim that 4 divides, for i4 and pairs of halves"
            raise ArgumentError(tensor.name, expected, str(dim))
        if 2 * len(job.rotation.turns) != dim:
            expected = f"{dim // 2} frequencies, head_dim {dim} of '{tensor.name}' / 2"
            raise ArgumentError("rotation", expected, str(len(job.rotation.turns)))


def _check_pages(tensor: _Tensor, job: _Job, heads: int) -> None:
    form, plan = job.form, job.plan
    inner: list[int | str] = [plan.page_size, heads]
    if job.layout == "HND":
        inner.reverse()
    both = [] if tensor.which is None else [2]
    width = form.width(tensor.rows.shape[-1])
    check_array(tensor.pages, form.stored, ("pages", *both, *inner, width))
    pages = tensor.pages.shape[0]
    if plan.pages > pages:
        expected = f"page numbers below {pages}, the pages of '{tensor.pages.name}'"
        raise ArgumentError("kv_indices", expected, f"a plan for {plan.pages} pages")
    if tensor.scales is not None:
        blocks = tensor.rows.shape[-1] // form.block_of(tensor.rows.shape[-1])
        check_array(tensor.scales, (form.scale_dtype,), (pages, *both, *inner, blocks))
        if not tensor.scales.contiguous:
            raise ArgumentError(tensor.scales.name, "a C-contiguous array", "other strides")
    known = job.symbols.setdefault("pages", pages)
    if known != pages:
        raise ArgumentError(tensor.pages.name, f"{known} pages, as of the other", str(pages))


def _part(tensor: _Tensor, job: _Job) -> Part:
    """Returns what the kernel is specialised on, and notes the arrays and their strides."""
    job.symbols["nnz"] = job.plan.tokens
    row_step = _note(tensor.rows, tensor.name, job)
    held = "i8" if job.form.dtype == "i4" else None
    page_step = _note(tensor.pages, tensor.pages.name, job, held)
    if tensor.scales is not None:
        job.arrays[tensor.scales.name] = tensor.scales
    dim = tensor.rows.shape[-1]
    name = tensor.pages.name
    return Part(tensor.name, dim, tensor.rope, name, tensor.which, row_step, page_step)


def _note(view: ArrayView, name: str, job: _Job, held: str | None = None) -> int:
    """Notes an array and its strides; returns what divides these, 0 for one without gaps."""
    if held is not None:
        host = None if view.host is None else view.host.view(np.int8)
        view = replace(view, dtype=held, host=host)
    job.arrays[name], symbols, step = by_strides(view, name)
    job.symbols.update(symbols)
    return step


def _check_apart(job: _Job) -> None:
    """Refuses pages that share elements with other pages, or with what is appended."""
    pages = {tensor.pages.name: tensor.pages for tensor in job.tensors}
    for name, view in pages.items():
        _check_elements_apart(view)
        for tensor in job.tensors:
            if overlaps(view, tensor.rows):
                raise ArgumentError(name, "memory of its own", f"memory of '{tensor.name}'")
    if len(pages) == 2 and overlaps(*pages.values()) and not _interleaved(*pages.values()):
        first, second = pages
        raise ArgumentError(second, "memory of its own", f"memory of '{first}'")


def _check_elements_apart(view: ArrayView) -> None:
    if view.contiguous or view.strides is None or 0 in view.shape:
        return
    size = 1
    for step, count in sorted(zip(view.strides, view.shape, strict=True)):
        if count > 1 and step < size:
            expected = "strides that give each element a place of its own"
            raise ArgumentError(view.name, expected, str(view.strides))
        size += (count - 1) * step


def _interleaved(one: ArrayView, other: ArrayView) -> bool:
    """Whether pages or rows of two arrays stand in turns, as slices of one array of both do."""
    if one.strides is None or one.strides != other.strides:
        return False
    apart = (other.address - one.address) // element_bytes(one)
    steps = {step for step in one.strides[:-1] if step}
    return any(_in_turns(one, other, apart % step, step) for step in steps)


def _in_turns(one: ArrayView, other: ArrayView, place: int, step: int) -> bool:
    """Whether what of one array lies within a step leaves room for what of the other does."""
    if not _extent_below(one, step) <= place <= step - _extent_below(other, step):
        return False
    # Whole steps of both must not run into those of axes of larger strides.
    covered = step
    for stride, count in sorted(zip(one.strides or (), one.shape, strict=True)):
        if stride >= step and count > 1:
            if stride < covered:
                return False
            covered += (count - 1) * stride
    return True


def _extent_below(view: ArrayView, step: int) -> int:
    """Returns the elements from the first to the last along the axes of smaller strides."""
    axes = zip(view.shape, view.strides or (), strict=True)
    return 1 + sum((count - 1) * stride for count, stride in axes if stride < step)
