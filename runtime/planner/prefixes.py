"""
Shared prefixes of a batch, found in its page table.

Requests whose KV begins with the same pages (a system prompt, the branches of one generation) can
read them once for the query rows of all: composable formats (Ye et al., FlashInfer, MLSys 2025,
section 3.1.2), in several levels as a tree of prefixes has them (Zheng et al., SGLang, 2024).
"""

from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from ..errors import ArgumentError

Array = npt.NDArray[np.int64]
_LARGEST = 2**31 - 1


class Prefixes(NamedTuple):
    """
    A forest of shared prefixes; all arrays are int64.

    `order[B]` holds the requests so that those of each group stand side by side. Group g is the
    requests `order[begin[g]:end[g]]`; they share the pages `first_page[g]` to before `end_page[g]`
    of their own page lists, and all pages before, which belong to `parent[g]` and its parents, -1
    for none. Parents come before their children, and children of one parent in their order.
    """

    order: Array
    begin: Array
    end: Array
    first_page: Array
    end_page: Array
    parent: Array

    @property
    def pages_saved(self) -> int:
        """How many page reads fall away, for one query tile a group, when all are shared."""
        return int(((self.end - self.begin - 1) * (self.end_page - self.first_page)).sum())

    @property
    def levels(self) -> int:
        """How many groups lie within one another at most."""
        levels: list[int] = []
        for parent in cast("list[int]", self.parent.tolist()):
            levels.append(1 + (levels[parent] if parent >= 0 else 0))
        return max(levels, default=0)

    def shared_pages(self) -> Array:
        """Returns the number of leading pages that each request shares with others, [B]."""
        shared = np.zeros(len(self.order), np.int64)
        for begin, end, pages in zip(self.begin, self.end, self.end_page, strict=True):
            # Children come behind their parents.
            shared[self.order[begin:end]] = pages
        return shared


def sharable_pages(kv_len: npt.ArrayLike, q_len: npt.ArrayLike, page_size: int) -> Array:
    """
    Returns how many leading pages all query rows of a request see whole under a causal mask, [B].

    `kv_len[B]` and `q_len[B]` count rows. A page beyond belongs to its request alone, even where
    others have its number in their lists.
    """
    lengths, queries = np.asarray(kv_len, np.int64), np.asarray(q_len, np.int64)
    if page_size < 1:
        raise ArgumentError("page_size", "at least 1", str(page_size))
    visible = np.minimum(lengths, lengths - queries + 1)
    return np.maximum(visible, 0) // page_size


def shared_prefixes(
    kv_indptr: object,
    kv_indices: object,
    sharable: object = None,
    min_requests: int = 2,
    min_pages: int = 1,
    max_levels: int | None = None,
) -> Prefixes:
    """
    Returns the groups of at least `min_requests` that share at least `min_pages` pages more.

    No more than `max_levels` of them lie within one another: the outermost, of most requests.

    Takes the page table in CSR form, integer arrays in host memory: `kv_indptr[B+1]`,
    `kv_indices[nnz]`, and `sharable[B]`, how many leading pages of a request may be shared, by
    default all. Takes time proportional to the table and to B log B. Raises ArgumentError.
    """
    starts, pages = _vector(kv_indptr, "kv_indptr"), _vector(kv_indices, "kv_indices")
    _check_table(starts, pages)
    lengths = np.diff(starts)
    if sharable is not None:
        limit = _vector(sharable, "sharable")
        if limit.shape != lengths.shape or (limit < 0).any():
            expected = f"{len(lengths)} numbers of at least 0"
            raise ArgumentError("sharable", expected, str(limit))
        lengths = np.minimum(lengths, limit)
    if min_requests < 2 or min_pages < 1:
        got = f"{min_requests} and {min_pages}"
        raise ArgumentError("min_requests", "at least 2 requests and 1 page", got)
    if not len(pages) or int(pages.max()) <= _LARGEST:
        pages = pages.astype(np.int32)
    # Big-endian bytes compare as the numbers do.
    size, keys = pages.itemsize, pages.astype(pages.dtype.newbyteorder(">")).tobytes()
    spans = list(zip((size * starts[:-1]).tolist(), (size * lengths).tolist(), strict=True))
    order = sorted(range(len(spans)), key=lambda b: keys[spans[b][0] : spans[b][0] + spans[b][1]])
    common = _common(starts, lengths, pages, order)
    return _forest(np.array(order, np.int64), common, (min_requests, min_pages, max_levels))


def _common(starts: Array, lengths: Array, pages: npt.NDArray[Any], order: list[int]) -> list[int]:
    """Returns how many pages each request, in order, has in common with the one before."""
    common: list[int] = []
    for one, other in zip(order, order[1:], strict=False):
        most = min(int(lengths[one]), int(lengths[other]))
        left, right = int(starts[one]), int(starts[other])
        differ = pages[left : left + most] != pages[right : right + most]
        common.append(int(differ.argmax()) if differ.any() else most)
    return common


def _forest(order: Array, common: list[int], bounds: tuple[int, int, int | None]) -> Prefixes:
    """
    Returns the groups from the common prefixes of neighbours.

    A group is a longest interval of neighbours with so many common pages (the lcp intervals of
    Abouelhoda, Kurtz, Ohlebusch, Journal of Discrete Algorithms 2, 2004).
    """
    min_requests, min_pages, max_levels = bounds
    found: list[tuple[int, int, int]] = []
    opened = [(0, 0)]
    for at, pages in enumerate([*common, 0]):
        begin = at
        while opened[-1][1] > pages:
            begin, depth = opened.pop()
            found.append((begin, at + 1, depth))
        if opened[-1][1] < pages:
            opened.append((begin, pages))
    found.sort(key=lambda group: (group[0], -group[1], group[2]))
    groups: list[tuple[int, int, int, int, int]] = []
    path: list[int] = []
    for begin, end, depth in found:
        while path and groups[path[-1]][1] <= begin:
            path.pop()
        first = groups[path[-1]][3] if path else 0
        if end - begin < min_requests or depth - first < min_pages:
            continue
        if max_levels is not None and len(path) >= max_levels:
            continue
        groups.append((begin, end, first, depth, path[-1] if path else -1))
        path.append(len(groups) - 1)
    columns = np.array(groups, np.int64).reshape(-1, 5).T
    return Prefixes(order, *columns)


def _check_table(starts: Array, pages: Array) -> None:
    if not len(starts) or starts[0] != 0 or (starts[1:] < starts[:-1]).any():
        raise ArgumentError("kv_indptr", "0 and then entries that never decrease", str(starts))
    if starts[-1] != len(pages):
        expected = f"{len(pages)} as the last entry, the size of kv_indices"
        raise ArgumentError("kv_indptr", expected, str(int(starts[-1])))
    if len(pages) and int(pages.min()) < 0:
        raise ArgumentError("kv_indices", "page numbers of at least 0", str(int(pages.min())))


def _vector(values: object, name: str) -> Array:
    if isinstance(values, np.ndarray):
        array = cast("npt.NDArray[Any]", values)
        if array.ndim == 1 and array.dtype.kind in "iu":
            return array.astype(np.int64)
        got = f"{array.ndim} dimensions of {array.dtype}"
    else:
        got = type(values).__name__
    raise ArgumentError(name, "a one-dimensional integer array in host memory", got)
