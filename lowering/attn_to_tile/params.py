"""The parameters of an attention kernel: those of every one, and those of its storage of keys."""

from dataclasses import dataclass, fields

from xdsl.dialects.builtin import IntAttr, f32, i8, i64
from xdsl.dialects.llvm import LLVMPointerType
from xdsl.ir import Attribute, SSAValue

from ...dialects.attn import PageLayout
from ...dialects.tile import element_bits
from ..emitter import Emitter
from .geometry import Geometry, Storage, Work

GLOBAL = LLVMPointerType(IntAttr(1))
WORK_TABLES = (
    "cta_indptr",
    "items",
    "item_merge",
    "merges",
    "counters",
    "partial_out",
    "partial_lse",
)


@dataclass(frozen=True)
class Strides:
    """The strides of an array of keys or values, i64, in elements; None of what it has none."""

    token: SSAValue
    head: SSAValue
    page: SSAValue | None = None
    both: SSAValue | None = None


@dataclass(frozen=True)
class Params:
    """
    The kernel's parameters, by name; `k` and `v` are keys and values, however they are stored.

    None is what a storage lacks. `k_scale` and `v_scale` are f32, or arrays of one a head;
    `k_scales` and `v_scales` arrays of those of blocks. `kv_tiles` are the lists of tiles of keys,
    `query_rows` the row and the position of each query row of a cascade, `parts` the first row of
    each partial result.
    """

    q: SSAValue
    k: SSAValue
    v: SSAValue
    qo_indptr: SSAValue
    kv_indptr: SSAValue
    cta_indptr: SSAValue
    items: SSAValue
    item_merge: SSAValue
    merges: SSAValue
    counters: SSAValue
    partial_out: SSAValue
    partial_lse: SSAValue
    out: SSAValue
    lse: SSAValue
    softmax_scale: SSAValue
    kv_indices: SSAValue | None = None
    kv_last_page_len: SSAValue | None = None
    k_scale: SSAValue | None = None
    v_scale: SSAValue | None = None
    k_scales: SSAValue | None = None
    v_scales: SSAValue | None = None
    k_strides: Strides | None = None
    v_strides: Strides | None = None
    kv_tiles: SSAValue | None = None
    query_rows: SSAValue | None = None
    parts: SSAValue | None = None


def kv_arrays(storage: Storage) -> tuple[str, ...]:
    """Returns the names of the arrays of keys and values."""
    if storage.combined:
        return ("kv_pages",)
    return ("k_pages", "v_pages") if storage.paged and not storage.columns else ("k", "v")


def scale_arrays(storage: Storage) -> tuple[str, ...]:
    """Returns the names of the arrays of the scales of blocks."""
    if storage.block is None:
        return ()
    return ("kv_scales",) if storage.combined else ("k_scales", "v_scales")


def stride_names(storage: Storage, array: str) -> tuple[str, ...]:
    """Returns the names of the strides of an array, for each axis but the last."""
    axes = 2 + (storage.paged and not storage.columns) + storage.combined
    return tuple(f"{array}_stride_{axis}" for axis in range(axes))


# The tables that only some kinds of work have.
_MORE_TABLES = {
    Work.RANGES: (),
    Work.TILE_LISTS: ("kv_tiles",),
    Work.CASCADE: ("query_rows", "parts"),
}


def kernel_params(storage: Storage, work: Work = Work.RANGES) -> list[tuple[str, Attribute]]:
    """Returns the parameters of a kernel, in order, without those of its variant."""
    tables = ["qo_indptr", "kv_indptr"]
    if storage.paged:
        tables += ["kv_indices", "kv_last_page_len"]
    pointers = ["q", *kv_arrays(storage), *tables, *WORK_TABLES, *_MORE_TABLES[work], "out", "lse"]
    params: list[tuple[str, Attribute]] = [(name, GLOBAL) for name in pointers]
    params.append(("softmax_scale", f32))
    if storage.scales is not None and storage.block is None:
        kind = f32 if storage.scales.unit.data == "tensor" else GLOBAL
        params += [("k_scale", kind), ("v_scale", kind)]
    params += [(name, GLOBAL) for name in scale_arrays(storage)]
    if storage.strided:
        names = [name for array in kv_arrays(storage) for name in stride_names(storage, array)]
        params += [(name, i64) for name in names]
    return params


def bound_params(emit: Emitter, geometry: Geometry, values: dict[str, SSAValue]) -> Params:
    """Appends what is behind the names of parameters: where values of a combined array begin."""
    storage = geometry.storage
    strides = {
        array: _strides(emit, storage, [values[name] for name in stride_names(storage, array)])
        for array in kv_arrays(storage)
        if storage.strided
    }
    keys, *more = kv_arrays(storage)
    values_array = more[0] if more else keys
    known = {field.name for field in fields(Params)} - {"k", "v", "k_scales", "v_scales"}
    found = {name: value for name, value in values.items() if name in known}
    first, last = values[keys], values[values_array]
    scales = [values[name] for name in scale_arrays(storage)]
    if storage.combined:
        rows = storage.page_size * geometry.kv_heads
        both = strides[keys].both if strides else None
        last = _behind(emit, first, both or rows * geometry.head_dim, storage.element_type)
        if storage.block is not None and storage.scales is not None:
            blocks = rows * (geometry.head_dim // storage.block)
            scales.append(_behind(emit, scales[0], blocks, storage.scales.element_type))
    return Params(
        **found,
        k=first,
        v=last,
        k_strides=strides.get(keys),
        v_strides=strides.get(values_array),
        k_scales=scales[0] if scales else None,
        v_scales=scales[-1] if scales else None,
    )


def _behind(emit: Emitter, start: SSAValue, elements: SSAValue | int, kind: Attribute) -> SSAValue:
    """Appends the address of what is some elements behind another."""
    bits = 32 if kind == f32 else element_bits(kind)
    if isinstance(elements, int):
        return emit.pointer(start, elements * bits // 8, i8)
    return emit.pointer(start, emit.divu(emit.mul(elements, bits), 8), i8)


def _strides(emit: Emitter, storage: Storage, values: list[SSAValue]) -> Strides:
    """
    Returns the strides of an array, whose axes are pages, keys and values, tokens, heads.

    They are given in elements of the array that is stored: two in a byte are one of them.
    """
    if element_bits(storage.element_type) == 4:
        values = [emit.mul(value, 2) for value in values]
    page = values.pop(0) if storage.paged and not storage.columns else None
    both = values.pop(0) if storage.combined else None
    if storage.layout is PageLayout.HND:
        values.reverse()
    token, head = values
    if storage.columns:
        page = emit.mul(token, storage.page_size)
    return Strides(token, head, page, both)
