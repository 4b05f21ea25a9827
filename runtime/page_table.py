"""
Page tables of a KV cache in host memory: checked, measured, grown, converted.

A table of B requests is CSR: request b owns the pages `kv_indices[kv_indptr[b]:kv_indptr[b + 1]]`
in the order of its tokens, all full but the last, which holds `kv_last_page_len[b]` tokens, 1 to
`page_size`; a request without pages has 0 (Ye et al., FlashInfer, MLSys 2025, section 3.1).
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .array import HOST, view_of
from .errors import ArgumentError

Int32Array = npt.NDArray[np.int32]
_LARGEST = 2**31 - 1
_INT32 = np.dtype(np.int32)


def int32_table(array: object, name: str, axes: int = 1) -> Int32Array:
    """Returns an int32 array in host memory with 1 or 2 dimensions; raises ArgumentError."""
    known = array if type(array) is np.ndarray else None
    if known is not None and known.dtype == _INT32 and known.ndim == axes:
        return known
    view = view_of(array, name)
    expected = f"a {('one', 'two')[axes - 1]}-dimensional int32 array in host memory"
    if view.place != HOST:
        raise ArgumentError(name, expected, f"an array on {view.place}")
    if view.dtype != "i32" or view.host is None:
        raise ArgumentError(name, expected, f"dtype {view.dtype}")
    if len(view.shape) != axes:
        raise ArgumentError(name, expected, f"{len(view.shape)} dimensions")
    return view.host


def check_indptr(
    indptr: Int32Array, name: str, end: int | None = None, what: str = "the entries"
) -> None:
    """
    Raises ArgumentError unless entries begin at 0 and never decrease, the last being `end`.

    `what` says in messages whose number `end` is.
    """
    if not indptr.size:
        raise ArgumentError(name, "at least one entry", "none")
    if indptr[0] != 0:
        raise ArgumentError(name, "0 as the first entry", str(int(indptr[0])))
    falls = indptr[1:] < indptr[:-1]
    # As `any` says, in a third of its time.
    if np.count_nonzero(falls):
        at = int(np.argmax(falls)) + 1
        got = f"{int(indptr[at])} after {int(indptr[at - 1])} at [{at}]"
        raise ArgumentError(name, "entries that never decrease", got)
    if end is not None and int(indptr[-1]) != end:
        raise ArgumentError(name, f"{end} as the last entry, {what}", str(int(indptr[-1])))


def check_page_size(page_size: object) -> int:
    """Returns a page size in tokens; raises ArgumentError for one that is none."""
    if not isinstance(page_size, int) or isinstance(page_size, bool) or not 1 <= page_size <= 2**20:
        raise ArgumentError("page_size", "an integer from 1 to 2^20", repr(page_size))
    return page_size


def _refuse(values: Int32Array, wrong: npt.NDArray[np.bool_], name: str, expected: str) -> None:
    if np.count_nonzero(wrong):
        at = int(np.argmax(wrong))
        raise ArgumentError(name, expected, f"{int(values[at])} at [{at}]")


def _largest(values: npt.NDArray[Any], none: int) -> int:
    """Returns the largest of some numbers, `none` where there are none."""
    # NumPy's `max` takes twice as long for a few hundred.
    return int(values[values.argmax()]) if values.size else none


@dataclass(frozen=True, eq=False)
class PageTable:
    """
    The page table of B requests, int32 in host memory; raises ArgumentError for what is none.

    `kv_indptr` is [B + 1], `kv_indices` [nnz], `kv_last_page_len` [B]; `page_size` is in tokens.
    `pages`, int32 [B], and `row_counts`, int64 [B], are the pages and the tokens of each request,
    `longest` is the most tokens of one, `largest_page` the largest page number, -1 for none.
    """

    kv_indptr: Int32Array
    kv_indices: Int32Array
    kv_last_page_len: Int32Array
    page_size: int
    pages: Int32Array = field(init=False, repr=False)
    row_counts: npt.NDArray[np.int64] = field(init=False, repr=False)
    longest: int = field(init=False, repr=False)
    largest_page: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        size = check_page_size(self.page_size)
        indptr = int32_table(self.kv_indptr, "kv_indptr")
        indices = int32_table(self.kv_indices, "kv_indices")
        last = int32_table(self.kv_last_page_len, "kv_last_page_len")
        check_indptr(indptr, "kv_indptr", indices.size, "the size of kv_indices")
        pages = indptr[1:] - indptr[:-1]
        if last.size != pages.size:
            expected = f"{pages.size} entries, one a request"
            raise ArgumentError("kv_last_page_len", expected, str(last.size))
        # 1 where there are pages, so that others are compared with 0.
        used = np.minimum(pages, 1)
        wrong = (last < used) | (last > used * size)
        _refuse(last, wrong, "kv_last_page_len", f"1 to {size} tokens, 0 only without pages")
        # Negative numbers are the largest of all, seen as unsigned.
        if (largest_page := _largest(indices.view(np.uint32), -1)) > _LARGEST:
            _refuse(indices, indices < 0, "kv_indices", "page numbers of at least 0")
        rows = pages.astype(np.int64)
        rows -= used
        rows *= size
        rows += last
        if (longest := _largest(rows, 0)) > _LARGEST:
            raise ArgumentError("kv_indptr", f"at most {_LARGEST} tokens a request", "more")
        tables = {"kv_indptr": indptr, "kv_indices": indices, "kv_last_page_len": last}
        found = {"pages": pages, "row_counts": rows, "longest": longest}
        # As `object.__setattr__` for each, which a frozen class needs.
        self.__dict__.update(tables, **found, largest_page=largest_page)

    @property
    def batch(self) -> int:
        """The number of requests."""
        return self.kv_indptr.size - 1

    @property
    def lengths(self) -> Int32Array:
        """The number of tokens of each request, int32 [B]."""
        return self.row_counts.astype(np.int32)

    def check_pages(self, num_pages: int) -> None:
        """Raises ArgumentError for a page number that a cache of `num_pages` pages lacks."""
        expected = f"page numbers below {num_pages}, the pages of the cache"
        _refuse(self.kv_indices, self.kv_indices >= num_pages, "kv_indices", expected)

    def check_written(self, counts: object) -> None:
        """
        Raises ArgumentError where writing the last `counts[b]` tokens of each request would race.

        A page that is written must stand once in the table: another request, or another place of
        the same one, that names it reads or writes what is being written.
        """
        written = self._is_written(_counts(counts, self))
        pages, uses = np.unique(self.kv_indices, return_counts=True)
        shared = np.isin(self.kv_indices, pages[uses > 1]) & written
        if shared.any():
            page = int(self.kv_indices[np.argmax(shared)])
            places = np.flatnonzero(self.kv_indices == page)[:2]
            owners = np.searchsorted(self.kv_indptr, places, side="right") - 1
            got = f"page {page} of requests {owners[0]} and {owners[1]}"
            raise ArgumentError("kv_indices", "pages of their own where tokens are written", got)

    def _is_written(self, counts: Int32Array) -> npt.NDArray[np.bool_]:
        """Returns for each entry of kv_indices whether one of the last tokens lies there."""
        first = (self.lengths.astype(np.int64) - counts) // self.page_size
        owner = np.repeat(np.arange(self.batch), self.pages)
        place = np.arange(self.kv_indices.size) - self.kv_indptr[:-1][owner]
        return (place >= first[owner]) & (counts[owner] > 0)

    def grown(self, counts: object, free_pages: object) -> "PageTable":
        """
        Returns the table with `counts[b]` more tokens, int32 [B], in each request.

        New pages are taken from the front of `free_pages`, int32, in the order of requests; as
        many as `pages_needed` says. Raises ArgumentError where these are too few, or in the table.
        """
        more = _counts(counts, self, growing=True)
        lengths = self.lengths.astype(np.int64) + more
        needed = -(-lengths // self.page_size) - self.pages
        free = int32_table(free_pages, "free_pages")
        if free.size < (total := int(needed.sum())):
            raise ArgumentError("free_pages", f"at least {total} pages", str(free.size))
        taken = free[:total]
        in_use = np.isin(taken, self.kv_indices)
        _refuse(taken, in_use | (taken < 0), "free_pages", "pages that no request has")
        if np.unique(taken).size < taken.size:
            raise ArgumentError("free_pages", "each page once", "a page twice")
        indptr = np.concatenate([[0], np.cumsum(self.pages + needed)]).astype(np.int32)
        indices = np.insert(self.kv_indices, np.repeat(self.kv_indptr[1:], needed), taken)
        return PageTable(
            indptr, indices, last_page_lengths(lengths, self.page_size), self.page_size
        )

    def pages_needed(self, counts: object) -> int:
        """Returns how many new pages `counts[b]` more tokens of each request need."""
        lengths = self.lengths.astype(np.int64) + _counts(counts, self, growing=True)
        return int((-(-lengths // self.page_size) - self.pages).sum())

    def block_table(
        self, width: int | None = None, fill: int = -1
    ) -> tuple[Int32Array, Int32Array]:
        """
        Returns (block_table [B, width], lengths [B]), int32: a padded row of pages a request.

        `width` is by default the most pages of a request; `fill` stands behind the last page.
        """
        most = int(self.pages.max(initial=0))
        if width is not None and width < most:
            raise ArgumentError("width", f"at least {most}, the pages of a request", str(width))
        table = np.full((self.batch, most if width is None else width), fill, np.int32)
        table[np.arange(table.shape[1]) < self.pages[:, None]] = self.kv_indices
        return table, self.lengths


def from_block_table(block_table: object, lengths: object, page_size: int) -> PageTable:
    """
    Returns the page table of padded rows of pages, int32 [B, width], and lengths, int32 [B].

    What stands behind the pages that a length needs is not read. Raises ArgumentError.
    """
    blocks = int32_table(block_table, "block_table", 2)
    tokens = int32_table(lengths, "lengths")
    check_page_size(page_size)
    if tokens.size != blocks.shape[0]:
        raise ArgumentError("lengths", f"{blocks.shape[0]} entries", str(tokens.size))
    wide = blocks.shape[1] * page_size
    wrong = (tokens < 0) | (tokens.astype(np.int64) > wide)
    _refuse(tokens, wrong, "lengths", f"0 to {wide} tokens, which a row of the table has")
    pages = -(-tokens.astype(np.int64) // page_size)
    indices = blocks[np.arange(blocks.shape[1]) < pages[:, None]]
    indptr = np.concatenate([[0], np.cumsum(pages)]).astype(np.int32)
    return PageTable(indptr, indices, last_page_lengths(tokens, page_size), page_size)


def last_page_lengths(lengths: npt.NDArray[Any], page_size: int) -> Int32Array:
    """Returns the tokens in the last page of requests of these lengths; 0 where there are none."""
    return np.where(lengths > 0, (lengths - 1) % page_size + 1, 0).astype(np.int32)


def _counts(counts: object, table: PageTable, growing: bool = False) -> Int32Array:
    given = int32_table(counts, "counts")
    if given.size != table.batch:
        raise ArgumentError("counts", f"{table.batch} entries", str(given.size))
    _refuse(given, given < 0, "counts", "numbers of at least 0")
    if not growing:
        lengths = table.lengths
        _refuse(given, given > lengths, "counts", "at most the tokens of each request")
    return given


def append_positions(append_indptr: object, lengths: object) -> tuple[Int32Array, Int32Array]:
    """
    Returns (batch_indices, positions), int32 [nnz], of the tokens that are appended.

    `append_indptr` int32 [B + 1] divides the nnz new tokens among requests; `lengths` int32 [B] are
    those with the new tokens. The last token of a request stands at position `lengths[b] - 1`.
    Raises ArgumentError.
    """
    indptr = int32_table(append_indptr, "append_indptr")
    check_indptr(indptr, "append_indptr")
    tokens, counts = int32_table(lengths, "lengths"), np.diff(indptr)
    if tokens.size != counts.size:
        raise ArgumentError("lengths", f"{counts.size} entries", str(tokens.size))
    _refuse(tokens, tokens < counts, "lengths", "at least the tokens that are appended")
    batch = np.repeat(np.arange(counts.size, dtype=np.int32), counts)
    before_end = indptr[1:][batch] - np.arange(int(indptr[-1]), dtype=np.int32)
    return batch, (tokens[batch] - before_end).astype(np.int32)
