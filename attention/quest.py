"""
Sparse decode: the pages of the KV cache that matter for a query, chosen by bounds of their scores.

Tang et al., Quest: Query-Aware Sparsity for Efficient Long-Context LLM Inference, ICML 2024,
section 3. Every page has a summary, the least and the greatest element of its keys in each
dimension. From it follows a bound of the score that a query can have there; the pages with the
highest bounds are attended to, each key head having its own.

```python
attention.summarize_pages(k_pages, summaries, *attention.changed_pages(table, counts))
choice = attention.plan_choice(table, num_kv_heads, budget=64)  # once a step, for all layers
plan = choice.plan(op)  # of an op over PagedKV(page_size, table_of_heads=True)
out, lse = plan.run(q, k_pages, v_pages, kv_indices=choice.run(q, summaries))
```
"""

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ..runtime.array import ArrayView, view_of
from ..runtime.attention import AttentionOp, Plan
from ..runtime.attention_in_place import check_batch
from ..runtime.attention_planner import BatchLimits, checked_limits
from ..runtime.device import Device
from ..runtime.errors import ArgumentError
from ..runtime.kernel_call import (
    Tables,
    by_strides,
    call_kernel,
    check_array,
    device_of,
    overlaps,
    result_array,
)
from ..runtime.page_table import Int32Array, PageTable, int32_table
from ..runtime.stream import stream_handle
from .compiled_kernels import kernel
from .kv_format import FLOATS

LARGEST_DIM = 1024
LARGEST_GROUP = 128
_LARGEST = 2**31 - 1


def changed_pages(table: PageTable, counts: object) -> tuple[Int32Array, Int32Array]:
    """
    Returns (pages, lengths), int32 [n]: where the last `counts[b]` tokens of each request lie.

    `lengths` are the tokens that each page holds. Raises ArgumentError.
    """
    new = int32_table(counts, "counts")
    if new.size != table.batch:
        raise ArgumentError("counts", f"{table.batch} entries", str(new.size))
    owner, place = _owners(table)
    first = (table.lengths.astype(np.int64) - new) // table.page_size
    changed = (place >= first[owner]) & (new[owner] > 0)
    is_last = place == table.pages[owner] - 1
    lengths = np.where(is_last, table.kv_last_page_len[owner], table.page_size)
    return table.kv_indices[changed], lengths[changed].astype(np.int32)


def summarize_pages(
    k_pages: object,
    summaries: object,
    pages: object,
    lengths: object,
    *,
    layout: str = "NHD",
    device: Device | str | None = None,
    stream: object = None,
    target: str = "sm_80",
) -> None:
    """
    Writes the summaries of listed pages: the least and the greatest element of each dimension.

    `k_pages` is [pages, page_size, heads, head_dim] (HND: heads before page_size), or the array of
    keys and values [pages, 2, ...], f16, bf16 or f32; `summaries` is [pages, 2, heads, head_dim] of
    the same dtype, least before greatest. `pages` and `lengths` are int32 [n] in host memory: page
    numbers, each once, and the tokens that they hold, 1 to page_size. Raises ArgumentError before
    anything is launched.
    """
    handle = stream_handle(stream)
    keys, kept = view_of(k_pages, "k_pages", handle), view_of(summaries, "summaries", handle)
    if layout not in ("NHD", "HND"):
        raise ArgumentError("layout", "'NHD' or 'HND'", repr(layout))
    both = len(keys.shape) == 5
    inner = ("page_size", "heads") if layout == "NHD" else ("heads", "page_size")
    check_array(keys, FLOATS, ("pages", *((2,) if both else ()), *inner, "head_dim"))
    sizes = dict(zip(inner, keys.shape[-3:-1], strict=True))
    heads, page_size, dim = sizes["heads"], sizes["page_size"], keys.shape[-1]
    _check_dim("k_pages", heads, dim)
    check_array(kept, (keys.dtype,), (keys.shape[0], 2, heads, dim))
    if overlaps(kept, keys):
        raise ArgumentError("summaries", "memory of its own", "memory of 'k_pages'")
    listed = _listed(pages, lengths, keys.shape[0], page_size)
    memory, symbols, step = by_strides(keys, "k_pages")
    arrays = {"k_pages": memory, "summaries": kept, **listed}
    artifact = kernel(
        "summarize_pages",
        target,
        heads=heads,
        head_dim=dim,
        dtype=keys.dtype,
        page_size=page_size,
        layout=layout,
        both=both,
        page_step=step,
    )
    symbols |= {"n": listed["page"].shape[0], "pages": keys.shape[0]}
    call_kernel(artifact, arrays, device_of([keys, kept], device), symbols=symbols, stream=stream)


def _listed(pages: object, lengths: object, num_pages: int, page_size: int) -> dict[str, ArrayView]:
    numbers, counts = int32_table(pages, "pages"), int32_table(lengths, "lengths")
    if counts.size != numbers.size:
        raise ArgumentError("lengths", f"{numbers.size} entries", str(counts.size))
    wrong = (numbers < 0) | (numbers >= num_pages)
    if wrong.any():
        at = int(np.argmax(wrong))
        expected = f"page numbers from 0 to {num_pages - 1}"
        raise ArgumentError("pages", expected, f"{numbers[at]} at [{at}]")
    if np.unique(numbers).size < numbers.size:
        raise ArgumentError("pages", "each page once", "a page twice")
    wrong = (counts < 1) | (counts > page_size)
    if wrong.any():
        at = int(np.argmax(wrong))
        raise ArgumentError("lengths", f"1 to {page_size} tokens", f"{counts[at]} at [{at}]")
    return {"page": view_of(numbers, "page"), "count": view_of(counts, "count")}


def _check_dim(name: str, heads: int, dim: int) -> None:
    if not heads or not 1 <= dim <= LARGEST_DIM:
        expected = f"at least one head, and a head_dim of 1 to {LARGEST_DIM}"
        raise ArgumentError(name, expected, f"{heads} heads of {dim}")


class PageChoice:
    """
    The choice of pages for one step of decoding; it is used for every layer of a model.

    The pages that are chosen are a page table of B * heads rows: row `heads * b + h` is request b
    for key head h. `kv_indptr` int32 [B * heads + 1] and `kv_last_page_len` int32 [B * heads] are
    known beforehand, in host memory; `run` returns its `kv_indices`, int32 [kv_indptr[-1]].

    With `limits` grids and addresses stay while `update` takes other page tables up to these
    maxima, as a CUDA graph needs: queries have `limits.requests` rows then, and `run` returns as
    many entries as such tables can need, `kv_indptr[-1]` of which are pages.
    """

    def __init__(
        self,
        table: PageTable,
        heads: int,
        budget: int,
        recent: int,
        limits: BatchLimits | None = None,
    ) -> None:
        self.heads = heads
        self.budget = budget
        self.recent = recent
        self.limits = None if limits is None else checked_limits(limits)
        self._tables = Tables(self._take(table))
        # The fewest pages of the summaries that were seen: a graph keeps their addresses.
        self._pages = _LARGEST
        self._scores: WeakKeyDictionary[Device, ArrayView] = WeakKeyDictionary()

    def _take(self, table: PageTable) -> dict[str, Int32Array]:
        """Takes a page table; returns the tables of the kernels. Raises ArgumentError."""
        self._check_table(table)
        counts = np.repeat(np.minimum(table.pages, self.budget), self.heads)
        starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        if int(starts[-1]) > _LARGEST or self.heads * table.kv_indices.size > _LARGEST:
            raise ArgumentError("budget", f"at most {_LARGEST} pages of all heads", "more")
        self.table = table
        self.kv_indptr: Int32Array = starts.astype(np.int32)
        self.kv_last_page_len = np.repeat(table.kv_last_page_len, self.heads)
        owner, _ = _owners(table)
        return {
            "owner": _filled(owner, self.entries, -1),
            "page": _filled(table.kv_indices, self.entries, 0),
            "indptr": _filled(table.kv_indptr, self.batch + 1, int(table.kv_indptr[-1])),
            "chosen_indptr": _filled(
                self.kv_indptr, self.batch * self.heads + 1, int(self.kv_indptr[-1])
            ),
        }

    def _check_table(self, table: object) -> None:
        if not isinstance(table, PageTable):
            raise ArgumentError("table", "a PageTable", type(table).__name__)
        if self.limits is not None:
            check_batch(self.limits, np.arange(table.batch + 1, dtype=np.int32), table)

    @property
    def batch(self) -> int:
        """The number of requests, or the most that there may be."""
        return self.table.batch if self.limits is None else self.limits.requests

    @property
    def entries(self) -> int:
        """The number of entries of the page table, or the most that there may be."""
        return self.table.kv_indices.size if self.limits is None else self.limits.pages

    @property
    def longest(self) -> int:
        """The most pages of a request."""
        if self.limits is None:
            return int(self.table.pages.max(initial=0))
        return -(-self.limits.kv_len // self.table.page_size)

    @property
    def chosen(self) -> int:
        """The number of pages that are chosen for all heads, or the most that may be."""
        if self.limits is None:
            return int(self.kv_indptr[-1])
        each = min(self.budget, self.longest)
        return self.heads * min(self.limits.requests * each, self.limits.pages)

    @property
    def tables(self) -> tuple[Int32Array, Int32Array, Int32Array, Int32Array]:
        """What `AttentionOp.plan` and `Plan.update` take; the page numbers are not yet known."""
        rows = np.arange(self.table.batch + 1, dtype=np.int32)
        unknown = np.zeros(int(self.kv_indptr[-1]), np.int32)
        return rows, self.kv_indptr, unknown, self.kv_last_page_len

    def update(self, table: PageTable, *, stream: object = None) -> None:
        """
        Takes the page table of another step in place: what changed is sent on `stream`.

        Plans of this choice then take `plan.update(*choice.tables)`. Raises ArgumentError for a
        table beyond the limits, and for a page that the summaries of earlier runs lack; the choice
        is then what it was.
        """
        if self.limits is None:
            raise ArgumentError("update", "a choice that was made with limits", "one without")
        self._check_table(table)
        if table.page_size != self.table.page_size:
            expected = f"pages of {self.table.page_size} tokens"
            raise ArgumentError("table", expected, f"pages of {table.page_size}")
        table.check_pages(self._pages)
        used = max(self.table.kv_indices.size, table.kv_indices.size)
        tables = self._take(table)
        # Behind what either table has, all entries are those of none.
        changed = {name: tables[name][:used] for name in ("owner", "page")}
        self._tables.write({**tables, **changed}, stream)

    def plan(self, op: AttentionOp, *, device: Device | str | None = None) -> Plan:
        """
        Returns the plan of attention to the chosen pages, one query a request.

        `op` is over `PagedKV(page_size, table_of_heads=True)`; its variant sees positions among the
        keys that were chosen. The pages themselves are passed to `Plan.run` as `kv_indices`. The
        plan has limits where the choice has. Raises ArgumentError.
        """
        section = op.section
        if "table_of_heads" not in section.kv or section.page_size != self.table.page_size:
            expected = f"an op over PagedKV({self.table.page_size}, table_of_heads=True)"
            raise ArgumentError("op", expected, f"pages of {section.page_size}, {section.kv}")
        limits = self.limits
        if limits is not None:
            kv_len = min(self.budget * self.table.page_size, limits.kv_len)
            limits = BatchLimits(limits.requests, limits.requests, kv_len, self.chosen)
        return op.plan(*self.tables, limits=limits, device=device)

    def upload(self, device: Device, stream: object = None) -> dict[str, ArrayView]:
        """Puts the tables on `device`, once; do it before a CUDA graph is captured."""
        if self.limits is not None:
            self.held_scores(device)
        return self._tables.on(device, stream)

    def scores(
        self,
        q: object,
        summaries: object,
        *,
        out: object = None,
        device: Device | str | None = None,
        stream: object = None,
        target: str = "sm_80",
    ) -> Any:
        """
        Returns bounds of the scores of the pages, f32 [nnz, heads], in the order of the table.

        `q` has one query a request, [B, heads * group, head_dim]; `summaries` is [pages, 2, heads,
        head_dim] of its dtype. The bound of a page for a key head is the greatest over the queries
        of its group, before the softmax scale: no product of a query and a key of the page is
        larger, up to the rounding of f32. Raises ArgumentError before anything is launched.
        """
        handle = stream_handle(stream)
        views = {
            "q": view_of(q, "q", handle),
            "summaries": view_of(summaries, "summaries", handle),
        }
        group = self._check(views["q"], views["summaries"])
        where = device_of(views.values(), device)
        shape = (self.entries, self.heads)
        array, scores = result_array("scores", out, views["q"], where, shape, "f32", stream)
        if shape[0]:
            numbers = {"group": group, "head_dim": views["q"].shape[-1], "dtype": views["q"].dtype}
            artifact = kernel("score_pages", target, heads=self.heads, **numbers)
            arrays = {**views, **self.upload(where, stream), "scores": scores}
            call_kernel(artifact, arrays, where, stream=stream)
        return array

    def run(
        self,
        q: object,
        summaries: object,
        *,
        out: object = None,
        device: Device | str | None = None,
        stream: object = None,
        target: str = "sm_80",
    ) -> Any:
        """
        Returns the pages with the highest bounds, the kv_indices of the table of choices, int32.

        The arguments are those of `scores`; `out` int32 [kv_indptr[-1]] is written where given. The
        pages of a row are in the order of its tokens. Raises ArgumentError.
        """
        handle = stream_handle(stream)
        query, given = view_of(q, "q", handle), view_of(summaries, "summaries", handle)
        where = device_of([query, given], device)
        held = self.held_scores(where)
        self.scores(q, summaries, out=held.buffer, device=where, stream=stream, target=target)
        shape = (self.chosen,)
        array, chosen = result_array("kv_indices", out, query, where, shape, "i32", stream)
        if not shape[0]:
            return array
        arrays = {"scores": held, "chosen": chosen, **self.upload(where, stream)}
        symbols = {"batch": self.batch, "longest": self.longest}
        numbers = {"recent": self.recent, "budget": self.budget}
        artifact = kernel("choose_pages", target, heads=self.heads)
        call_kernel(artifact, arrays, where, numbers=numbers, symbols=symbols, stream=stream)
        return array

    def held_scores(self, device: Device) -> ArrayView:
        """Returns the memory that `run` has scores in; with limits it stays."""
        known = self._scores.get(device)
        if known is None:
            known = view_of(device.empty((self.entries, self.heads), "f32", "scores"), "scores")
            if self.limits is not None:
                self._scores[device] = known
        return known

    def _check(self, q: ArrayView, summaries: ArrayView) -> int:
        """Returns how many query heads a key head has; refuses arrays that do not fit."""
        check_array(q, FLOATS, (self.batch, "heads", "head_dim"))
        dim = q.shape[-1]
        check_array(summaries, (q.dtype,), ("pages", 2, self.heads, dim))
        _check_dim("summaries", self.heads, dim)
        group, rest = divmod(q.shape[1], self.heads)
        if rest or not 1 <= group <= LARGEST_GROUP:
            expected = f"a multiple of the {self.heads} key heads, up to {LARGEST_GROUP} times"
            raise ArgumentError("q", expected, f"{q.shape[1]} heads")
        self.table.check_pages(summaries.shape[0])
        self._pages = min(self._pages, summaries.shape[0])
        return group


def plan_choice(
    table: PageTable,
    num_kv_heads: int,
    *,
    budget: int,
    recent: int = 1,
    limits: BatchLimits | None = None,
) -> PageChoice:
    """
    Returns the plan of choosing `budget` pages for each request and key head.

    The last `recent` pages of a request, 1 to `budget`, are always among them, so the one that is
    not full is. A request with fewer pages has all. Equal bounds go to the earlier page; a bound
    that is NaN counts as the highest. How many pages are chosen is known here: nothing waits for
    the device. With `limits` of the cache's tables the choice stays in a CUDA graph while
    `PageChoice.update` gives it others. Raises ArgumentError.
    """
    if num_kv_heads < 1:
        raise ArgumentError("num_kv_heads", "at least 1", str(num_kv_heads))
    if not 1 <= budget <= _LARGEST:
        raise ArgumentError("budget", "at least 1 page", str(budget))
    if not 1 <= recent <= budget:
        raise ArgumentError("recent", f"1 to {budget} pages, the budget", str(recent))
    return PageChoice(table, num_kv_heads, budget, recent, limits)


def _filled(table: Int32Array, size: int, value: int) -> Int32Array:
    """Returns a table with a value in the entries behind it."""
    return np.concatenate([table, np.full(size - table.size, value, np.int32)])


def _owners(table: PageTable) -> tuple[Int32Array, Int32Array]:
    """Returns the request of each entry of a table, and its place among the pages of that."""
    owner = np.repeat(np.arange(table.batch, dtype=np.int32), table.pages)
    return owner, np.arange(owner.size, dtype=np.int32) - table.kv_indptr[:-1][owner]
