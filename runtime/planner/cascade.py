"""
Plans in which query rows of many requests share the KV of a common prefix, in one launch.

A query tile then holds rows of several requests: it reads the prefix once for all of them. What a
request has for itself is an item of its own, and the parts of a row, one of each level of prefixes
and its own, are merged row group by row group. So all levels, and the merges, are the work of one
persistent kernel, where the reference launches a kernel for each level and one for each merge (Ye
et al., FlashInfer, MLSys 2025, section 3.1.2 and appendix G.2).
"""

from typing import NamedTuple

import numpy as np

from ..errors import ArgumentError
from .cost import CostModel, Costs
from .emission import (
    FIRST_ROW,
    KV_BEGIN,
    KV_HEAD,
    SLOT,
    Int32Array,
    Sections,
    whole_rows,
    write_line,
)
from .limits import ITEM_FIELDS, MERGE_FIELDS, PlanLimits
from .line import Shares
from .packing import cuts_of
from .prefixes import Prefixes
from .tiles import OPEN_END, Array, Tiles

# Items, and where those of each CTA begin.
_Written = tuple[Int32Array, Int32Array]


class CascadePlan(NamedTuple):
    """
    A plan over shared prefixes; all arrays are int32.

    Packed rows are counted over the whole batch here, in the order of `rows[n]`, which names the
    query rows: packed row r is query row `rows[r // group]` for head `r % group`.

    `cta_indptr[num_ctas + 1]` and `items[n, 6]` are as in other plans: request, whose page table
    is read, first packed row, KV head, first KV row, end of the KV rows, and for a partial result
    its first workspace row, -1 for none. `item_rows[n]` is the number of packed rows: row i of an
    item is so many workspace rows behind the first. `partial_rows` workspace rows are used.

    `item_merges[n, 2]` are the first merge that an item takes part in and the number of merges:
    a finished item arrives at each of them. `merges[m, 5]` holds first packed row, number of rows,
    KV head, first part and number of parts; `parts[k]` is the workspace row of the first row of a
    partial result. Parts of one merge stand side by side in the order of KV.
    """

    rows: Int32Array
    cta_indptr: Int32Array
    items: Int32Array
    item_rows: Int32Array
    item_merges: Int32Array
    merges: Int32Array
    parts: Int32Array
    partial_rows: int


class CascadeSizes(NamedTuple):
    """The most items, merges, parts and workspace rows that any plan within limits has."""

    items: int
    merges: int
    parts: int
    partial_rows: int


def cascade_sizes(limits: PlanLimits, levels: int) -> CascadeSizes:
    """
    Returns what a plan needs of a batch within limits, with so many levels of prefixes at most.

    Raises ArgumentError for more items than 32 bits count.
    """
    heads, height = limits.num_kv_heads, limits.tile_rows[-1]
    requests = min(limits.requests, limits.query_rows)
    # Each request is in one query tile of each level, of whose rows it has no more than all.
    sharing = requests * heads if levels else 0
    rows = min(limits.query_rows * limits.group, requests * height) * heads if levels else 0
    # A cut makes two parts of the rows of a tile of one request, and one more of those of many.
    cuts, width = limits.num_ctas - 1, max(2, height // limits.group)
    items = limits.tiles * heads + levels * sharing + cuts
    if items * 9 > OPEN_END:
        raise ArgumentError("limits", f"limits of at most {OPEN_END // 9} work items", str(items))
    return CascadeSizes(
        items,
        min(limits.tiles * heads, sharing + cuts),
        (1 + levels) * sharing + cuts * width,
        (1 + levels) * rows + cuts * 2 * height,
    )


class _Groups(NamedTuple):
    """Row groups, a query tile of one request each, in the order of the prefixes."""

    request: Array
    first_row: Array
    rows: Array
    shared: Array


class _Spans(NamedTuple):
    """Query tiles: the row groups `first` to before `end`, and the KV that they read together."""

    first: Array
    end: Array
    begin: Array
    stop: Array
    past: Array


def plan_cascade(
    limits: PlanLimits,
    prefixes: Prefixes,
    qo_indptr: Array,
    kv_len: Array,
    page_size: int,
    cost: CostModel | None = None,
) -> CascadePlan:
    """
    Returns a plan that reads the KV of each group of prefixes once a query tile of its rows.

    `qo_indptr[B+1]` and `kv_len[B]` count rows. All query rows of a request must see the pages that
    it shares (`sharable_pages`), and fit into the highest query tile; a request of more rows shares
    nothing. Raises ArgumentError.
    """
    q_len, lengths = np.diff(np.asarray(qo_indptr, np.int64)), np.asarray(kv_len, np.int64)
    _check(limits, prefixes, q_len, lengths, page_size)
    groups = _row_groups(limits, prefixes, q_len, page_size)
    rows = _rows_in_order(prefixes.order, np.asarray(qo_indptr, np.int64), q_len)
    if not len(groups.request):
        empty = np.zeros(0, np.int32)
        indptr = np.zeros(limits.num_ctas + 1, np.int32)
        pairs, merges = np.zeros((0, 2), np.int32), np.zeros((0, 5), np.int32)
        return CascadePlan(rows, indptr, np.zeros((0, 6), np.int32), empty, pairs, merges, empty, 0)
    spans = _spans(limits, prefixes, groups, lengths, page_size)
    costs = (cost or CostModel()).costs(limits.tile_rows, limits.kv_tile // limits.granule)
    tiles = _tiles(limits, costs, groups, spans)
    return _merged(limits, groups, spans, rows, _items(limits, costs, tiles))


def _check(
    limits: PlanLimits, prefixes: Prefixes, q_len: Array, lengths: Array, page_size: int
) -> None:
    if not len(prefixes.order) == len(q_len) == len(lengths):
        got = f"{len(q_len)} and {len(lengths)}"
        raise ArgumentError("kv_len", f"{len(prefixes.order)} requests, as in prefixes", got)
    for name, values, most in (
        ("kv_len", lengths, limits.kv_len),
        ("qo_indptr", q_len, limits.query_rows),
    ):
        if len(values) and not 0 <= int(values.min()) <= int(values.max()) <= most:
            got = f"{int(values.min())} to {int(values.max())}"
            raise ArgumentError(name, f"lengths of 0 to {most}, as declared", got)
    if int(q_len.sum()) > limits.query_rows or len(q_len) > limits.requests:
        expected = f"at most {limits.query_rows} query rows of {limits.requests} requests"
        raise ArgumentError("qo_indptr", expected, f"{int(q_len.sum())} of {len(q_len)}")
    shared = prefixes.shared_pages() * page_size
    tall = q_len * limits.group > limits.tile_rows[-1]
    wrong = (shared > lengths) | (tall & (shared > 0))
    if wrong.any():
        at = int(np.argmax(wrong))
        expected = f"at most {int(lengths[at])} rows of KV, of one query tile, shared by {at}"
        raise ArgumentError("prefixes", expected, str(int(shared[at])))


def _row_groups(limits: PlanLimits, prefixes: Prefixes, q_len: Array, page_size: int) -> _Groups:
    height, order = limits.tile_rows[-1], prefixes.order
    packed = q_len[order] * limits.group
    before = np.cumsum(packed) - packed
    counts = -(-packed // height)
    place = np.repeat(np.arange(len(order)), counts)
    number = np.arange(len(place)) - (np.cumsum(counts) - counts)[place]
    rows = np.minimum(packed[place] - number * height, height)
    shared = prefixes.shared_pages()[order] * page_size
    return _Groups(order[place], before[place] + number * height, rows, shared[place])


def _rows_in_order(order: Array, starts: Array, q_len: Array) -> Int32Array:
    lengths = q_len[order]
    before = np.cumsum(lengths) - lengths
    rows = np.arange(int(lengths.sum())) + np.repeat(starts[order] - before, lengths)
    return rows.astype(np.int32)


def _spans(
    limits: PlanLimits, prefixes: Prefixes, groups: _Groups, kv_len: Array, page_size: int
) -> _Spans:
    """Returns the query tiles: those of prefixes, level by level, and those of requests alone."""
    # Where the row groups of the request at each place in the order begin.
    place = np.empty(len(prefixes.order), np.int64)
    place[prefixes.order] = np.arange(len(prefixes.order))
    starts = np.searchsorted(place[groups.request], np.arange(len(prefixes.order) + 1))
    spans: list[tuple[int, int, int, int, int]] = []
    for begin, end, first, past in zip(
        starts[prefixes.begin].tolist(),
        starts[prefixes.end].tolist(),
        (prefixes.first_page * page_size).tolist(),
        (prefixes.end_page * page_size).tolist(),
        strict=True,
    ):
        pieces = _filled(groups.rows[begin:end].tolist(), limits.tile_rows[-1])
        spans += [(begin + low, begin + high, first, past, past) for low, high in pieces]
    own = np.arange(len(groups.request))
    past = kv_len[groups.request]
    alone = np.stack([own, own + 1, groups.shared, np.full_like(own, OPEN_END), past], 1)
    return _Spans(*np.concatenate([np.array(spans, np.int64).reshape(-1, 5), alone]).T)


def _filled(rows: list[int], height: int) -> list[tuple[int, int]]:
    """Returns ranges of row groups, in order, that fill query tiles of this height."""
    ranges: list[tuple[int, int]] = []
    begin, filled = 0, 0
    for index, count in enumerate(rows):
        if filled + count > height:
            ranges.append((begin, index))
            begin, filled = index, 0
        filled += count
    return [*ranges, (begin, len(rows))] if len(rows) > begin else ranges


def _tiles(limits: PlanLimits, costs: Costs, groups: _Groups, spans: _Spans) -> Tiles:
    """Returns the query tiles for the line; in place of its first row a tile has its number."""
    last = spans.end - 1
    rows = groups.first_row[last] + groups.rows[last] - groups.first_row[spans.first]
    kind = np.searchsorted(np.asarray(limits.tile_rows[:-1]), rows)
    granules = -(-(spans.past - spans.begin) // limits.granule)
    item, granule = np.asarray(costs.item)[kind], np.asarray(costs.granule)[kind]
    number = np.arange(len(rows))
    request = groups.request[spans.first]
    longest = int(granules.max())
    return Tiles(request, number, spans.begin, spans.stop, granules, item, granule, longest)


def _items(limits: PlanLimits, costs: Costs, tiles: Tiles) -> _Written:
    """
    Returns the items of all query tiles in shares, as if no row group had several of them.

    And where those of each CTA begin.
    """
    units = len(tiles.granules) * limits.num_kv_heads
    room = units + limits.num_ctas
    sections = Sections(
        limits.granule,
        np.zeros(limits.num_ctas + 1, np.int32),
        np.zeros((room, MERGE_FIELDS), np.int32),
        np.zeros(room, np.int32),
        np.zeros((room, ITEM_FIELDS), np.int32),
    )
    whole = whole_rows(tiles, limits.num_kv_heads)
    cuts = cuts_of(Shares(limits, costs), tiles)
    counts = write_line(limits, sections, tiles.begin, cuts, whole)
    return sections.items[: counts.items], sections.cta_indptr


def _merged(
    limits: PlanLimits, groups: _Groups, spans: _Spans, rows: Int32Array, written: _Written
) -> CascadePlan:
    """Gives partial results their rows, and finds the parts of each row group."""
    (items, cta_indptr), count = written, len(groups.request)
    span = items[:, FIRST_ROW].astype(np.int64)
    first, width = spans.first[span], (spans.end - spans.first)[span]
    # One pair for each item and row group in it, by KV head and row group, in the order of KV.
    item = np.repeat(np.arange(len(items)), width)
    group = np.arange(len(item)) - (np.cumsum(width) - width)[item] + first[item]
    key = items[item, KV_HEAD] * count + group
    order = np.lexsort((items[item, KV_BEGIN], key))
    parts_of = np.bincount(key, minlength=count * limits.num_kv_heads)
    merge = np.cumsum(parts_of > 1) - 1
    # All row groups of an item have several parts, or its one group has no other.
    own_key = items[:, KV_HEAD] * count + first
    partial = parts_of[own_key] > 1
    items[:, FIRST_ROW] = groups.first_row[first]
    last = spans.end[span] - 1
    item_rows = groups.first_row[last] + groups.rows[last] - items[:, FIRST_ROW]
    past = np.cumsum(np.where(partial, item_rows, 0))
    items[:, SLOT] = np.where(partial, past - item_rows, -1)
    at = items[item, SLOT] + groups.first_row[group] - items[item, FIRST_ROW]
    order = order[partial[item[order]]]
    split = np.flatnonzero(parts_of > 1)
    ends = np.cumsum(parts_of[split])
    (heads, of), sizes = np.divmod(split, count), parts_of[split]
    merges = np.stack([groups.first_row[of], groups.rows[of], heads, ends - sizes, sizes], 1)
    arrives = np.stack([np.where(partial, merge[own_key], -1), np.where(partial, width, 0)], 1)
    return CascadePlan(
        rows,
        cta_indptr,
        items,
        item_rows.astype(np.int32),
        arrives.astype(np.int32),
        merges.astype(np.int32),
        at[order].astype(np.int32),
        int(past[-1]),
    )
