"""
The tables of attention over a ragged batch with a paged KV cache, as the kernel takes them.

A work item is one query tile of one request for one KV head over a part of its KV: `tile_rows`
packed rows, where packed row r is query row r // group of head r % group. The page table is CSR:
request b owns the pages `kv_indices[kv_indptr[b]:kv_indptr[b + 1]]`, the last of which holds
`kv_last_page_len[b]` rows (Ye et al., FlashInfer, MLSys 2025, section 3.1).
"""

from dataclasses import dataclass

import numpy as np

from .contract import AttentionContract
from .errors import ArgumentError
from .page_table import Int32Array, PageTable, check_indptr, int32_table

LARGEST = 2**31 - 1


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


def checked_tables(
    section: AttentionContract,
    qo_indptr: object,
    kv_indptr: object,
    kv_indices: object = None,
    kv_last_page_len: object = None,
) -> tuple[Int32Array, PageTable]:
    """
    Returns qo_indptr[B+1] and the page table of a batch of B requests; raises ArgumentError.

    Takes one-dimensional int32 arrays in host memory: qo_indptr[B+1], kv_indptr[B+1],
    kv_indices[nnz], kv_last_page_len[B]; for ragged keys the first two alone, rows being pages of
    one token.
    """
    starts = int32_table(qo_indptr, "qo_indptr")
    check_indptr(starts, "qo_indptr")
    kv_starts = int32_table(kv_indptr, "kv_indptr")
    rows = (starts.size - 1) * (section.num_kv_heads if "table_of_heads" in section.kv else 1) + 1
    if kv_starts.size not in (0, rows):
        what = "as in qo_indptr" if rows == starts.size else "one for each KV head of a request"
        raise ArgumentError("kv_indptr", f"{rows} entries, {what}", str(kv_starts.size))
    if "ragged" in section.kv:
        table = _rows_table(kv_starts, kv_indices, kv_last_page_len)
    else:
        table = PageTable(
            kv_starts,
            int32_table(kv_indices, "kv_indices"),
            int32_table(kv_last_page_len, "kv_last_page_len"),
            section.page_size,
        )
    # No request has more rows than all have together.
    if (
        int(starts[-1]) * section.group > LARGEST
        and int((starts[1:] - starts[:-1]).max(initial=0)) * section.group > LARGEST
    ):
        raise ArgumentError("qo_indptr", f"at most {LARGEST} packed rows a request", "more")
    return starts, table


def _rows_table(kv_indptr: Int32Array, kv_indices: object, kv_last_page_len: object) -> PageTable:
    """Returns ragged rows as a page table: each is a page."""
    pairs = (("kv_indices", kv_indices), ("kv_last_page_len", kv_last_page_len))
    for name, array in pairs:
        if array is not None:
            raise ArgumentError(name, "nothing, ragged keys have no pages", "an array")
    check_indptr(kv_indptr, "kv_indptr")
    pages = np.arange(int(kv_indptr[-1]), dtype=np.int32)
    return PageTable(kv_indptr, pages, (np.diff(kv_indptr) > 0).astype(np.int32), 1)


def batch_tables(qo_indptr: Int32Array, table: PageTable) -> dict[str, Int32Array]:
    """Returns copies of a batch's tables by parameter name: the caller's own may change."""
    return {
        "qo_indptr": qo_indptr.copy(),
        "kv_indptr": table.kv_indptr.copy(),
        "kv_indices": table.kv_indices.copy(),
        "kv_last_page_len": table.kv_last_page_len.copy(),
    }
