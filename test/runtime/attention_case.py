"""Attention in NumPy: a contract, a kernel that follows the plan CTA by CTA, and a reference."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tilewright.runtime.artifact import KernelArtifact
from tilewright.runtime.attention import AttentionOp
from tilewright.runtime.bfloat16 import from_float32, to_float32
from tilewright.runtime.contract import (
    AttentionContract,
    KernelContract,
    Param,
    PointerParam,
    ScalarParam,
    SymbolRange,
)
from tilewright.runtime.device import Grid

Int32 = npt.NDArray[np.int32]
SYMBOLS = ("n", "pages", "batch", "nnz", "cta_bounds", "items", "merges", "slots")


@dataclass(frozen=True)
class Geometry:
    """The compile-time geometry of a test kernel."""

    num_qo_heads: int = 4
    num_kv_heads: int = 2
    head_dim: int = 16
    page_size: int = 3
    layout: str = "NHD"
    dtype: str = "bf16"
    tile_rows: int = 8

    @property
    def cache_shape(self) -> tuple[int, int, int]:
        """The extents of one page."""
        rows, heads = self.page_size, self.num_kv_heads
        return (
            (rows, heads, self.head_dim) if self.layout == "NHD" else (heads, rows, self.head_dim)
        )


def contract_of(
    geometry: Geometry, extra: tuple[Param, ...] = (), target: str = "sm_80"
) -> KernelContract:
    """Returns the contract that an attention kernel of this geometry has."""
    g = geometry
    heads, dim, dtype = str(g.num_qo_heads), str(g.head_dim), g.dtype
    cache = ("pages", *map(str, g.cache_shape))
    params: tuple[Param, ...] = (
        PointerParam("q", dtype, ("n", heads, dim)),
        PointerParam("k_pages", dtype, cache),
        PointerParam("v_pages", dtype, cache),
        PointerParam("qo_indptr", "i32", ("batch + 1",), alignment=4),
        PointerParam("kv_indptr", "i32", ("batch + 1",), alignment=4),
        PointerParam("kv_indices", "i32", ("nnz",), alignment=4),
        PointerParam("kv_last_page_len", "i32", ("batch",), alignment=4),
        PointerParam("cta_indptr", "i32", ("cta_bounds",), alignment=4),
        PointerParam("items", "i32", ("items", "6"), alignment=4),
        PointerParam("item_merge", "i32", ("items",), alignment=4),
        PointerParam("merges", "i32", ("merges", "2"), alignment=4),
        PointerParam("counters", "i32", ("merges",), "read_write", alignment=4),
        PointerParam("partial_out", "f32", ("slots", str(g.tile_rows), dim), "read_write"),
        PointerParam("partial_lse", "f32", ("slots", str(g.tile_rows)), "read_write"),
        PointerParam("out", dtype, ("n", heads, dim), "write"),
        PointerParam("lse", "f32", ("n", heads), "write"),
        ScalarParam("softmax_scale", "f32"),
        *extra,
    )
    section = AttentionContract(
        **{name: getattr(g, name) for name in Geometry.__dataclass_fields__},
        softmax_scale=g.head_dim**-0.5,
        params=tuple(param.name for param in extra),
    )
    return KernelContract(
        name="attend",
        target=target,
        params=params,
        grid=("cta_bounds - 1", "1", "1"),
        block=(128, 1, 1),
        symbols={name: SymbolRange(0) for name in SYMBOLS},
        attention=section,
    )


def artifact_of(contract: KernelContract) -> KernelArtifact:
    """Returns an artifact whose PTX has the entry and the target, but does nothing."""
    ptx = f".version 8.0\n.target {contract.target}\n.visible .entry {contract.name}()\n"
    return KernelArtifact(ptx + "{ ret; }\n", contract)


def op_of(geometry: Geometry, extra: tuple[Param, ...] = ()) -> AttentionOp:
    """Returns the op of a test kernel."""
    return AttentionOp(artifact_of(contract_of(geometry, extra)))


def to_float(array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Returns 16-bit values, f16 or bf16 bits, as float32."""
    return to_float32(array) if array.dtype == np.uint16 else array.astype(np.float32)


def from_float(array: npt.NDArray[Any], dtype: str) -> npt.NDArray[Any]:
    """Returns float values in `dtype`."""
    single = array.astype(np.float32)
    return from_float32(single) if dtype == "bf16" else single.astype(np.float16)


def attend_tiles(contract: KernelContract, grid: Grid, values: dict[str, Any]) -> None:
    """Computes attention without a mask from the kernel's parameters alone, one CTA at a time."""
    section = contract.attention
    if section is None:
        raise TypeError("an attention contract is needed")
    for cta in range(grid[0]):
        first, end = values["cta_indptr"][cta : cta + 2]
        for item in values["items"][first:end]:
            _attend_item(section, values, item)
    planned = values["cta_indptr"][grid[0]]
    for item, merge in zip(values["items"][:planned], values["item_merge"], strict=False):
        first, count = values["merges"][merge] if merge >= 0 else (-1, 0)
        if count and item[5] == first:
            _merge_slots(section, values, item, int(first), int(count))


def _merge_slots(
    section: AttentionContract,
    values: dict[str, Any],
    item: npt.NDArray[np.int32],
    first: int,
    count: int,
) -> None:
    """Writes the results of the query tile of a split item from all its slots."""
    request, start, kv_head = item.tolist()[:3]
    begin, end = values["qo_indptr"][request : request + 2]
    packed = range(start, min(start + section.tile_rows, int(end - begin) * section.group))
    for place, at in enumerate(packed):
        row, head = int(begin) + at // section.group, kv_head * section.group + at % section.group
        lse = values["partial_lse"][first : first + count, place]
        parts = values["partial_out"][first : first + count, place]
        top = lse.max()
        weights = np.exp(lse - (top if top > -np.inf else 0))
        total = weights.sum()
        out = weights @ parts / total if total else np.zeros(section.head_dim)
        values["out"][row, head] = from_float(out, section.dtype)
        values["lse"][row, head] = top + np.log(total) if total else -np.inf


def _attend_item(
    section: AttentionContract, values: dict[str, Any], item: npt.NDArray[np.int32]
) -> None:
    request, start, kv_head, kv_begin, kv_end, slot = item.tolist()
    group = section.group
    first, last = values["qo_indptr"][request : request + 2]
    keys, cells = (
        _rows(section, values, name, request, kv_head)[kv_begin:kv_end]
        for name in ("k_pages", "v_pages")
    )
    for packed in range(start, min(start + section.tile_rows, int(last - first) * group)):
        row, head = int(first) + packed // group, kv_head * group + packed % group
        scores = keys @ to_float(values["q"][row, head]) * values["softmax_scale"]
        out, lse = np.zeros(section.head_dim, np.float32), -np.inf
        if len(scores):
            weights = np.exp(scores - scores.max())
            out, lse = weights @ cells / weights.sum(), scores.max() + np.log(weights.sum())
        if slot < 0:
            values["out"][row, head] = from_float(out, section.dtype)
            values["lse"][row, head] = lse
        else:
            values["partial_out"][slot, packed - start] = out
            values["partial_lse"][slot, packed - start] = lse


def _rows(
    section: AttentionContract, values: dict[str, Any], name: str, request: int, head: int
) -> npt.NDArray[np.float32]:
    """Returns the KV rows of a request, gathered page by page, [kv_len, head_dim]."""
    first, last = values["kv_indptr"][request : request + 2]
    pages = values["kv_indices"][first:last]
    if not len(pages):
        return np.zeros((0, section.head_dim), np.float32)
    length = (len(pages) - 1) * section.page_size + int(values["kv_last_page_len"][request])
    cache = values[name][pages]
    one = cache[:, :, head] if section.layout == "NHD" else cache[:, head]
    return to_float(one.reshape(-1, section.head_dim)[:length])


@dataclass(frozen=True)
class Batch:
    """Random tables and arrays of one batch."""

    qo_indptr: npt.NDArray[np.int32]
    kv_indptr: npt.NDArray[np.int32]
    kv_indices: npt.NDArray[np.int32]
    kv_last_page_len: npt.NDArray[np.int32]
    q: npt.NDArray[Any]
    k_pages: npt.NDArray[Any]
    v_pages: npt.NDArray[Any]

    @property
    def tables(self) -> tuple[Int32, Int32, Int32, Int32]:
        """The arguments of `plan`."""
        return self.qo_indptr, self.kv_indptr, self.kv_indices, self.kv_last_page_len

    @property
    def arrays(self) -> tuple[npt.NDArray[Any], ...]:
        """The arguments of `run`."""
        return self.q, self.k_pages, self.v_pages


def batch_of(geometry: Geometry, q_len: list[int], kv_len: list[int], seed: int = 0) -> Batch:
    """Returns a batch with these lengths and with pages in a random order."""
    g, rng = geometry, np.random.default_rng(seed)
    lengths = np.array(kv_len, np.int64)
    pages = -(-lengths // g.page_size)
    spare = int(pages.sum()) + 2
    last = np.where(pages > 0, lengths - (pages - 1) * g.page_size, 0)

    def values(*shape: int) -> npt.NDArray[Any]:
        return from_float(rng.standard_normal(shape), g.dtype)

    return Batch(
        np.cumsum([0, *q_len], dtype=np.int32),
        np.cumsum([0, *pages], dtype=np.int32),
        rng.permutation(spare)[: spare - 2].astype(np.int32),
        last.astype(np.int32),
        values(sum(q_len), g.num_qo_heads, g.head_dim),
        values(spare, *g.cache_shape),
        values(spare, *g.cache_shape),
    )


def reference(
    geometry: Geometry, batch: Batch
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Returns (out, lse) in float64, request by request, without tiles."""
    g, group = geometry, geometry.num_qo_heads // geometry.num_kv_heads
    q = to_float(batch.q).astype(np.float64)
    out, lse = np.zeros(q.shape), np.full(q.shape[:2], -np.inf)
    for b in range(len(batch.kv_last_page_len)):
        rows = slice(batch.qo_indptr[b], batch.qo_indptr[b + 1])
        pages = batch.kv_indices[batch.kv_indptr[b] : batch.kv_indptr[b + 1]]
        if not len(pages):
            continue
        length = (len(pages) - 1) * g.page_size + batch.kv_last_page_len[b]
        k, v = (_flat(g, cache[pages])[:length] for cache in (batch.k_pages, batch.v_pages))
        for head in range(g.num_qo_heads):
            scores = q[rows, head] @ k[:, head // group].T * g.head_dim**-0.5
            weights = np.exp(scores)
            total = weights.sum(axis=1)
            out[rows, head] = weights @ v[:, head // group] / total[:, None]
            lse[rows, head] = np.log(total)
    return out, lse


def _flat(geometry: Geometry, pages: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Returns pages as [rows, heads, head_dim]."""
    rows = pages if geometry.layout == "NHD" else pages.swapaxes(1, 2)
    shape = (-1, geometry.num_kv_heads, geometry.head_dim)
    return to_float(rows).astype(np.float64).reshape(shape)
