"""
Planning attention over a ragged batch with a paged KV cache.

A work item is one query tile of one request for one KV head: `tile_rows` packed rows, where packed
row r is query row r // group of head r % group. The page table is CSR: request b owns the pages
`kv_indices[kv_indptr[b]:kv_indptr[b + 1]]`, the last of which holds `kv_last_page_len[b]` rows
(Ye et al., FlashInfer, MLSys 2025, section 3.1).
"""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from .array import HOST, view_of
from .contract import AttentionContract
from .errors import ArgumentError

Int32Array = npt.NDArray[np.int32]
_LARGEST = 2**31 - 1


@dataclass(frozen=True)
class PlanArrays:
    """
    The plan of one batch, int32 each.

    `tables` holds by parameter name qo_indptr[B+1], kv_indptr[B+1], kv_indices[nnz],
    kv_last_page_len[B]; cta_indptr[num_ctas+1], the items of each CTA; items[n, 6]: request, first
    packed row, KV head, first and past-the-end KV row, slot of the partial result or -1;
    item_merge[n], the merge of an item or -1; merges[m, 2]: first slot and number of slots;
    counters[m], zeros. `rows` is the number of query rows, `largest_page` the largest page that is
    named, -1 for none, `slots` the number of partial results.
    """

    tables: dict[str, Int32Array]
    rows: int
    largest_page: int
    slots: int = 0

    @property
    def items(self) -> int:
        """The number of work items."""
        return len(self.tables["items"])

    @property
    def ctas(self) -> int:
        """The number of CTAs."""
        return len(self.tables["cta_indptr"]) - 1


def plan_arrays(
    section: AttentionContract,
    qo_indptr: object,
    kv_indptr: object,
    kv_indices: object,
    kv_last_page_len: object,
) -> PlanArrays:
    """
    Returns the plan of a batch of B requests; raises ArgumentError.

    Takes one-dimensional int32 arrays in host memory: qo_indptr[B+1], kv_indptr[B+1],
    kv_indices[nnz], kv_last_page_len[B]. Each work item has a CTA of its own. Tiles of the longest
    KV come first, and within a request the last tile, which sees most under a causal mask: the
    longest work starts earliest.
    """
    qo = _table(qo_indptr, "qo_indptr")
    kv = _table(kv_indptr, "kv_indptr")
    indices = _table(kv_indices, "kv_indices")
    last = _table(kv_last_page_len, "kv_last_page_len")
    _check_indptr(qo, "qo_indptr")
    _check_indptr(kv, "kv_indptr")
    _check_sizes(qo, kv, indices, last)
    pages = np.diff(kv)
    _check_last_page(last, pages, section.page_size)
    largest = _largest_page(indices)
    kv_len = _kv_lengths(section, pages, last)
    items = _items(section, np.diff(qo).astype(np.int64), kv_len)
    tables = {
        "qo_indptr": qo,
        "kv_indptr": kv,
        "kv_indices": indices,
        "kv_last_page_len": last,
        "cta_indptr": np.arange(len(items) + 1, dtype=np.int32),
        "items": items,
        "item_merge": np.full(len(items), -1, np.int32),
        "merges": np.zeros((0, 2), np.int32),
        "counters": np.zeros(0, np.int32),
    }
    return PlanArrays(tables, int(qo[-1]), largest)


def _largest_page(indices: Int32Array) -> int:
    if not indices.size:
        return -1
    if int(indices.min()) < 0:
        at = int(np.argmax(indices < 0))
        raise ArgumentError("kv_indices", "page numbers of at least 0", _entry(indices, at))
    return int(indices.max())


def _kv_lengths(
    section: AttentionContract, pages: Int32Array, last: Int32Array
) -> npt.NDArray[np.int64]:
    lengths = np.where(pages > 0, (pages.astype(np.int64) - 1) * section.page_size + last, 0)
    if lengths.size and int(lengths.max()) > _LARGEST:
        raise ArgumentError("kv_indptr", f"at most {_LARGEST} KV rows a request", "more")
    return lengths


def _entry(values: Int32Array, index: int) -> str:
    """Returns a value with its place, as messages print it."""
    return f"{int(values[index])} at [{index}]"


def _items(
    section: AttentionContract, q_len: npt.NDArray[np.int64], kv_len: npt.NDArray[np.int64]
) -> Int32Array:
    packed = q_len * section.group
    if packed.size and int(packed.max()) > _LARGEST:
        raise ArgumentError("qo_indptr", f"at most {_LARGEST} packed rows a request", "more")
    counts = (packed + (section.tile_rows - 1)) // section.tile_rows
    order = np.argsort(-kv_len, kind="stable")
    counts = counts[order]
    ends = np.cumsum(counts)
    total = int(ends[-1]) if ends.size else 0
    request = np.repeat(order, counts)
    # Counts down from the last tile of each request.
    left = np.repeat(ends - 1, counts) - np.arange(total)
    items = np.zeros((total, section.num_kv_heads, 6), np.int32)
    items[..., 0] = request[:, None]
    items[..., 1] = (left * section.tile_rows)[:, None]
    items[..., 2] = np.arange(section.num_kv_heads)
    items[..., 4] = kv_len[request][:, None]
    items[..., 5] = -1
    return items.reshape(-1, 6)


def _table(array: object, name: str) -> Int32Array:
    """Returns a one-dimensional int32 array in host memory; the plan keeps a copy of its own."""
    expected = "a one-dimensional int32 array in host memory"
    if isinstance(array, np.ndarray):
        host = cast("npt.NDArray[Any]", array)
    else:
        view = view_of(array, name)
        if view.place != HOST:
            raise ArgumentError(name, expected, f"an array on {view.place}")
        if view.host is None:
            raise ArgumentError(name, expected, f"dtype {view.dtype}")
        host = view.host
    if host.dtype != np.int32 or not host.dtype.isnative:
        raise ArgumentError(name, expected, f"dtype {host.dtype}")
    if host.ndim != 1:
        raise ArgumentError(name, expected, f"{host.ndim} dimensions")
    return host.copy()


def _check_indptr(indptr: Int32Array, name: str) -> None:
    if not indptr.size:
        raise ArgumentError(name, "at least one entry", "none")
    if indptr[0] != 0:
        raise ArgumentError(name, "0 as the first entry", str(int(indptr[0])))
    falls = indptr[1:] < indptr[:-1]
    if falls.any():
        at = int(np.argmax(falls)) + 1
        got = f"{int(indptr[at])} after {int(indptr[at - 1])} at [{at}]"
        raise ArgumentError(name, "entries that never decrease", got)


def _check_sizes(qo: Int32Array, kv: Int32Array, indices: Int32Array, last: Int32Array) -> None:
    batch = qo.size - 1
    if kv.size != batch + 1:
        expected = f"{batch + 1} entries, as in qo_indptr"
        raise ArgumentError("kv_indptr", expected, str(kv.size))
    if last.size != batch:
        raise ArgumentError("kv_last_page_len", f"{batch} entries, one a request", str(last.size))
    if int(kv[-1]) != indices.size:
        expected = f"{indices.size} as the last entry, the size of kv_indices"
        raise ArgumentError("kv_indptr", expected, str(int(kv[-1])))


def _check_last_page(last: Int32Array, pages: Int32Array, page_size: int) -> None:
    wrong = (last < (pages > 0)) | (last > page_size)
    if wrong.any():
        at = int(np.argmax(wrong))
        expected = f"1 to {page_size} rows, 0 only without pages"
        raise ArgumentError("kv_last_page_len", expected, _entry(last, at))
