"""
Page criticality as nests: summaries of keys, bounds of scores, and the pages that rank highest.

Tang et al., Quest, ICML 2024, section 3.3: the largest score that a query can have with a key of a
page is at most the sum of `max(q_d * min_d, q_d * max_d)` over the elements d.
"""

from collections.abc import Generator
from contextlib import contextmanager

from ...dialects.nest.program import Program, Scope
from ...dialects.sym import Expression
from ...nest.builder import Array, Builder
from ...nest.values import (
    Value,
    cast,
    compare,
    maximum,
    minimum,
    select,
    value_of,
)
from .rows import LARGEST, SERIAL, UNROLLED, RowTile, row_tile, stride_ranges

_INFINITY = float("inf")
_LARGEST_F32 = (2 - 2**-23) * 2.0**127
# Groups of up to as many queries are unrolled.
_UNROLLED = 8


def summarize(
    *,
    heads: int,
    head_dim: int,
    dtype: str,
    page_size: int,
    layout: str,
    both: bool,
    page_step: int,
) -> Program:
    """
    Returns the least and greatest elements of the keys of listed pages.

    `page` and `count` i32 [n] name pages and how many tokens they hold; the results go to
    `summaries` [pages, 2, heads, head_dim], least before greatest.
    """
    axes = 4 if both else 3
    ranges = f"n in [0, {LARGEST // heads}], pages in [0, {LARGEST}]"
    ranges += stride_ranges("k_pages", axes, page_step)
    b = Builder("summarize_pages", ranges)
    n, pages = b.symbol("n"), b.symbol("pages")
    inner = [page_size, heads] if layout == "NHD" else [heads, page_size]
    shape = [pages, *([2] if both else []), *inner, head_dim]
    strides = [*(f"k_pages_stride_{axis}" for axis in range(axes)), 1]
    keys = b.buffer("k_pages", shape, dtype, strides=strides if page_step else None)
    page, count = b.buffer("page", [n], "i32"), b.buffer("count", [n], "i32")
    summaries = b.buffer("summaries", [pages, 2, heads, head_dim], dtype, output=True)
    ends = _ends(b, n, heads, head_dim)
    key = b.temporary("key", [n, heads, head_dim], "f32", Scope.LOCAL)
    tile = row_tile(head_dim, dtype)
    which = (value_of(0, "index"),) if both else ()
    with tile.on_grid(b, n * heads) as first:
        with tile.threads(b, "summary", first, n, heads) as (i, h, t):
            begin = tile.vector * t
            with tile.neighbours(b, "begun") as e:
                ends[0][i, h, begin + e] = _INFINITY
                ends[1][i, h, begin + e] = -_INFINITY
            with b.loop("slot", page_size) as slot, b.when(_below(slot, count[i])):
                token = (slot, h) if layout == "NHD" else (h, slot)
                with tile.neighbours(b, "key_e") as e:
                    at = (cast(page[i], "index"), *which, *token, begin + e)
                    key[i, h, begin + e] = cast(keys[at], "f32")
                _renew_ends(b, tile, ends, key, (i, h, begin))
            for number, kept in enumerate(ends):
                with tile.neighbours(b, f"{kept.buffer.name}_s") as e:
                    index = (cast(page[i], "index"), value_of(number, "index"), h, begin + e)
                    summaries[index] = cast(kept[i, h, begin + e], dtype)
    return b.build()


def _ends(b: Builder, rows: Expression, heads: int, head_dim: int) -> list[Array]:
    """Returns the least and the greatest element, in registers."""
    shape = [rows, heads, head_dim]
    return [b.temporary(name, shape, "f32", Scope.LOCAL) for name in ("least", "greatest")]


def _renew_ends(
    b: Builder,
    tile: RowTile,
    ends: list[Array],
    key: Array,
    at: tuple[Expression, Expression, Expression],
) -> None:
    """Makes the ends those with one more key."""
    i, h, begin = at
    for kept, choose in zip(ends, (minimum, maximum), strict=True):
        with tile.neighbours(b, f"{kept.buffer.name}_e") as e:
            kept[i, h, begin + e] = choose(kept[i, h, begin + e], key[i, h, begin + e])


def _below(index: Expression, count: Value) -> Value:
    return compare("<", cast(value_of(index), "i32"), count)


def score(*, heads: int, group: int, head_dim: int, dtype: str) -> Program:
    """
    Returns a bound of the scores of each page of each request, f32 [nnz, heads].

    `owner` and `page` i32 [nnz] are the request and the page of an entry of the table, -1 and any
    page where the table ends before; the queries are q [batch, heads * group, head_dim]. The bound
    of a key head is the greatest of its group.
    """
    most = LARGEST // heads
    b = Builder("score_pages", f"nnz in [0, {most}], pages in [0, {LARGEST}], batch in [0, {most}]")
    n = b.symbol("nnz")
    q = b.buffer("q", ["batch", heads * group, head_dim], dtype)
    summaries = b.buffer("summaries", ["pages", 2, heads, head_dim], dtype)
    owner, page = b.buffer("owner", [n], "i32"), b.buffer("page", [n], "i32")
    scores = b.buffer("scores", [n, heads], "f32", output=True)
    tile = row_tile(head_dim, dtype)
    ends = _ends(b, n, heads, head_dim)
    asked = b.temporary("asked", [n, heads, head_dim], "f32", Scope.LOCAL)
    total = b.temporary("total", [n, heads, tile.lanes], "f32", Scope.LOCAL)
    partial = b.temporary("partial", [n, heads, group, tile.lanes], "f32", Scope.SHARED)
    with tile.on_grid(b, n * heads) as first:
        with tile.threads(b, "bound", first, n, heads) as (i, h, t):
            begin = tile.vector * t
            for number, kept in enumerate(ends):
                with tile.neighbours(b, f"{kept.buffer.name}_e") as e:
                    end = (cast(page[i], "index"), value_of(number, "index"), h, begin + e)
                    kept[i, h, begin + e] = cast(summaries[end], "f32")
            with b.loop("g", group, UNROLLED if group <= _UNROLLED else SERIAL) as g:
                with tile.neighbours(b, "asked_e") as e:
                    query = (_request_of(owner[i]), group * h + g, begin + e)
                    asked[i, h, begin + e] = cast(q[query], "f32")
                total[i, h, t] = 0.0
                with tile.neighbours(b, "e", UNROLLED) as e:
                    low, high = (asked[i, h, begin + e] * kept[i, h, begin + e] for kept in ends)
                    total[i, h, t] = total[i, h, t] + maximum(low, high)
                partial[i, h, g, t] = total[i, h, t]
        with tile.one_lane.threads(b, "best_of_group", first, n, heads) as (i, h, _):
            _store_best(b, tile, partial, scores, (i, h))
    return b.build()


def _request_of(owner: Value) -> Value:
    """Returns the request of an entry; the first, for what is behind the table and of no use."""
    return cast(maximum(owner, _zero()), "index")


def _store_best(
    b: Builder, tile: RowTile, partial: Array, scores: Array, at: tuple[Expression, Expression]
) -> None:
    """Adds up the parts of the bounds of a group of queries, and stores the greatest."""
    _, heads, group, _ = partial.buffer.shape
    best = b.temporary("best", [b.symbol("nnz"), heads], "f32", Scope.LOCAL)
    best[at] = -_INFINITY
    with b.loop("of", group) as g:
        bound: Value = partial[(*at, g, 0)]
        for lane in range(1, tile.lanes):
            bound = bound + partial[(*at, g, lane)]
        best[at] = maximum(best[at], bound)
    scores[at] = best[at]


def rank(*, heads: int) -> Program:
    """
    Returns how many pages of its request come before each page, i32 [nnz, heads].

    Pages come in the order of their scores, equal ones in the order of the table. The last `recent`
    pages of a request come before all others; a score that is NaN comes right after them.
    """
    b = Builder("rank_pages", _ranges(heads))
    n, longest = b.symbol("nnz"), b.symbol("longest")
    owner, indptr = b.buffer("owner", [n], "i32"), b.buffer("indptr", ["batch + 1"], "i32")
    scores = b.buffer("scores", [n, heads], "f32")
    ranks = b.buffer("ranks", [n, heads], "i32", output=True)
    recent = b.scalar("recent", "i32")
    own = b.temporary("own", [n, heads], "f32", Scope.LOCAL)
    before, begin, end = (
        b.temporary(name, [n, heads], "i32", Scope.LOCAL) for name in ("before", "begin", "end")
    )

    def key(entry: Value, i: Expression, h: Expression) -> Value:
        is_recent = compare(">=", cast(entry, "i32"), end[i, h] - recent)
        found = scores[entry, h]
        plain = select(compare("<", found, _LARGEST_F32), found, _LARGEST_F32)
        return select(is_recent, _INFINITY, plain)

    with _entries(b, n, heads) as (i, h):
        request = _request_of(owner[i])
        begin[i, h], end[i, h] = indptr[request], indptr[request + 1]
        own[i, h] = key(value_of(i), i, h)
        before[i, h] = 0
        with b.loop("other", longest) as j:
            entry = cast(begin[i, h], "index") + j
            with b.when(compare("<", entry, cast(end[i, h], "index"))):
                other = key(entry, i, h)
                is_earlier = compare("<", entry, value_of(i))
                wins = select(other.equals(own[i, h]), is_earlier, other > own[i, h])
                before[i, h] = before[i, h] + select(wins, 1, _zero())
        ranks[i, h] = before[i, h]
    return b.build()


def _zero() -> Value:
    return value_of(0, "i32")


def choose(*, heads: int) -> Program:
    """
    Returns the pages of rank below `budget`, in the order of the table, one list a key head.

    The list of request b and head h begins at `chosen_indptr[heads * b + h]` of `chosen`.
    """
    b = Builder("choose_pages", _ranges(heads) + f", total in [0, {LARGEST}]")
    n, longest = b.symbol("nnz"), b.symbol("longest")
    owner, indptr = b.buffer("owner", [n], "i32"), b.buffer("indptr", ["batch + 1"], "i32")
    page, ranks = b.buffer("page", [n], "i32"), b.buffer("ranks", [n, heads], "i32")
    starts = b.buffer("chosen_indptr", [heads * b.symbol("batch") + 1], "i32")
    chosen = b.buffer("chosen", ["total"], "i32", output=True)
    budget = b.scalar("budget", "i32")
    place, begin = (
        b.temporary(name, [n, heads], "i32", Scope.LOCAL) for name in ("place", "begin")
    )
    with _entries(b, n, heads) as (i, h):
        request = _request_of(owner[i])
        is_entry = compare(">=", owner[i], 0)
        with b.when(is_entry & compare("<", ranks[i, h], budget)):
            place[i, h] = starts[request * heads + h]
            begin[i, h] = indptr[request]
            with b.loop("other", longest) as j:
                entry = cast(begin[i, h], "index") + j
                with b.when(compare("<", entry, value_of(i))):
                    is_chosen = compare("<", ranks[entry, h], budget)
                    place[i, h] = place[i, h] + select(is_chosen, 1, _zero())
            chosen[cast(place[i, h], "index")] = page[i]
    return b.build()


def _ranges(heads: int) -> str:
    most = LARGEST // heads
    return f"nnz in [0, {most}], batch in [0, {most}], longest in [0, {most}]"


@contextmanager
def _entries(
    b: Builder, entries: Expression, heads: int
) -> Generator[tuple[Expression, Expression]]:
    """Gives each entry of a page table and each head a thread."""
    with RowTile(128, 1, 1).on_grid(b, entries * heads) as first:
        with RowTile(128, 1, 1).threads(b, "entry", first, entries, heads) as (i, h, _):
            yield i, h
