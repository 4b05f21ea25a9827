"""
Page criticality as nests: summaries of keys, bounds of scores, and the pages that rank highest.

Tang et al., Quest, ICML 2024, section 3.3: the largest score that a query can have with a key of a
page is at most the sum of `max(q_d * min_d, q_d * max_d)` over the elements d.
"""

from collections.abc import Generator
from contextlib import contextmanager

from ...dialects.nest.program import Program, Scope
from ...dialects.sym import Expression, ceildiv, floordiv, mod
from ...nest.builder import Builder
from ...nest.values import (
    Value,
    cast,
    compare,
    inside,
    maximum,
    minimum,
    select,
    value_of,
)
from .rows import GRID, LANE, LARGEST, ROW, UNROLLED, VECTOR, row_tile

_INFINITY = float("inf")
_LARGEST_F32 = (2 - 2**-23) * 2.0**127
_THREADS = 128
# Heads of a group whose bounds a thread of the tile adds at once.
_UNROLLED_HEADS = 8


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
    ranges = f"n in [0, {LARGEST // heads}], pages in [0, {LARGEST}]"
    axes = 4 if both else 3
    for axis in range(axes if page_step else 0):
        name = f"k_pages_stride_{axis}"
        ranges += f", {name} in [0, {LARGEST - LARGEST % page_step}], {name} mod {page_step} == 0"
    b = Builder("summarize_pages", ranges)
    n, pages = b.symbol("n"), b.symbol("pages")
    inner = [page_size, heads] if layout == "NHD" else [heads, page_size]
    shape = [pages, *([2] if both else []), *inner, head_dim]
    strides = [*(f"k_pages_stride_{axis}" for axis in range(axes)), 1]
    keys = b.buffer("k_pages", shape, dtype, strides=strides if page_step else None)
    page, count = b.buffer("page", [n], "i32"), b.buffer("count", [n], "i32")
    summaries = b.buffer("summaries", [pages, 2, heads, head_dim], dtype, output=True)
    ends = [
        b.temporary(name, [n, heads, head_dim], "f32", Scope.LOCAL)
        for name in ("least", "greatest")
    ]
    tile = row_tile(head_dim, dtype)
    with tile.on_grid(b, n * heads) as first:
        with b.loop("row", tile.rows, ROW) as row, b.loop("lane", tile.lanes, LANE) as lane:
            at = first + row
            where = {"i": (n, floordiv(at, heads)), "h": (heads, mod(at, heads))}
            places = {**where, "t": (tile.lanes, lane)}
            with b.block("summary", spatial=places, where=[inside(at, n * heads)]) as (i, h, t):
                begin = tile.vector * t
                with b.loop("begun", tile.vector, VECTOR) as e:
                    ends[0][i, h, begin + e] = _INFINITY
                    ends[1][i, h, begin + e] = -_INFINITY
                with b.loop("slot", page_size) as slot, b.when(_below(slot, count[i])):
                    token = (slot, h) if layout == "NHD" else (h, slot)
                    which = (value_of(0, "index"),) if both else ()
                    index = (cast(page[i], "index"), *which, *token)
                    for kept, choose in zip(ends, (minimum, maximum), strict=True):
                        name = f"{kept.buffer.name}_e"
                        with b.loop(name, tile.vector, VECTOR) as e:
                            key = cast(keys[(*index, begin + e)], "f32")
                            kept[i, h, begin + e] = choose(kept[i, h, begin + e], key)
                for number, kept in enumerate(ends):
                    with b.loop(f"{kept.buffer.name}_s", tile.vector, VECTOR) as e:
                        index = (cast(page[i], "index"), value_of(number, "index"), h, begin + e)
                        summaries[index] = cast(kept[i, h, begin + e], dtype)
    return b.build()


def _below(index: Expression, count: Value) -> Value:
    return compare("<", cast(value_of(index), "i32"), count)


def score(*, heads: int, group: int, head_dim: int, dtype: str) -> Program:
    """
    Returns a bound of the scores of each page of each request, f32 [nnz, heads].

    `owner` and `page` i32 [nnz] are the request and the page of an entry of the table; the queries
    are q [batch, heads * group, head_dim]. The bound of a key head is the greatest of its group.
    """
    most = LARGEST // heads
    b = Builder("score_pages", f"nnz in [0, {most}], pages in [0, {LARGEST}], batch in [0, {most}]")
    n = b.symbol("nnz")
    q = b.buffer("q", ["batch", heads * group, head_dim], dtype)
    summaries = b.buffer("summaries", ["pages", 2, heads, head_dim], dtype)
    owner, page = b.buffer("owner", [n], "i32"), b.buffer("page", [n], "i32")
    scores = b.buffer("scores", [n, heads], "f32", output=True)
    tile = row_tile(head_dim, dtype)
    ends = [
        b.temporary(name, [n, heads, head_dim], "f32", Scope.LOCAL)
        for name in ("least", "greatest", "asked")
    ]
    asked = ends.pop()
    total = b.temporary("total", [n, heads, tile.lanes], "f32", Scope.LOCAL)
    partial = b.temporary("partial", [n, heads, group, tile.lanes], "f32", Scope.SHARED)
    best = b.temporary("best", [n, heads], "f32", Scope.LOCAL)
    kind = UNROLLED if group <= _UNROLLED_HEADS else None
    with tile.on_grid(b, n * heads) as first:
        with b.loop("row", tile.rows, ROW) as row, b.loop("lane", tile.lanes, LANE) as lane:
            at = first + row
            where = {"i": (n, floordiv(at, heads)), "h": (heads, mod(at, heads))}
            places = {**where, "t": (tile.lanes, lane)}
            with b.block("bound", spatial=places, where=[inside(at, n * heads)]) as (i, h, t):
                begin = tile.vector * t
                for number, kept in enumerate(ends):
                    with b.loop(f"{kept.buffer.name}_e", tile.vector, VECTOR) as e:
                        end = (cast(page[i], "index"), value_of(number, "index"), h, begin + e)
                        kept[i, h, begin + e] = cast(summaries[end], "f32")
                with b.loop("g", group, *(() if kind is None else (kind,))) as g:
                    total[i, h, t] = 0.0
                    with b.loop("asked_e", tile.vector, VECTOR) as e:
                        query = (cast(owner[i], "index"), group * h + g, begin + e)
                        asked[i, h, begin + e] = cast(q[query], "f32")
                    with b.loop("e", tile.vector, UNROLLED) as e:
                        x = asked[i, h, begin + e]
                        low, high = (x * kept[i, h, begin + e] for kept in ends)
                        total[i, h, t] = total[i, h, t] + maximum(low, high)
                    partial[i, h, g, t] = total[i, h, t]
        with b.loop("last_row", tile.rows, ROW) as row, b.loop("one", 1, LANE):
            at = first + row
            where = {"j": (n, floordiv(at, heads)), "k": (heads, mod(at, heads))}
            with b.block("best_of_group", spatial=where, where=[inside(at, n * heads)]) as (i, h):
                best[i, h] = -_INFINITY
                with b.loop("of", group) as g:
                    bound: Value = partial[i, h, g, 0]
                    for lane in range(1, tile.lanes):
                        bound = bound + partial[i, h, g, lane]
                    best[i, h] = maximum(best[i, h], bound)
                scores[i, h] = best[i, h]
    return b.build()


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
        request = cast(owner[i], "index")
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
        request = cast(owner[i], "index")
        with b.when(compare("<", ranks[i, h], budget)):
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
def _entries(b: Builder, entries: Expression, heads: int) -> Generator[tuple[Expression, ...]]:
    """Gives each entry of a page table and each head a thread."""
    with (
        b.loop("group", ceildiv(entries * heads, _THREADS), GRID) as group,
        b.loop("lane", _THREADS, LANE) as lane,
    ):
        at = _THREADS * group + lane
        places = {"i": (entries, floordiv(at, heads)), "h": (heads, mod(at, heads))}
        with b.block("entry", spatial=places, where=[inside(at, entries * heads)]) as here:
            yield here
