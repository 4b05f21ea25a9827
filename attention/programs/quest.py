"""
Page criticality as nests: summaries of keys, bounds of scores, and the pages that rank highest.

Tang et al., Quest, ICML 2024, section 3.3: the largest score that a query can have with a key of a
page is at most the sum of `max(q_d * min_d, q_d * max_d)` over the elements d.
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from ...dialects.nest.program import Program, Scope
from ...dialects.nest.scalars import Apply
from ...dialects.sym import Expression, ceildiv, floordiv, mod
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
from .rows import GRID, LANE, LARGEST, SERIAL, UNROLLED, RowTile, row_tile, stride_ranges

_INFINITY = float("inf")
_LARGEST_F32 = (2 - 2**-23) * 2.0**127
_LARGEST_I32, _LEAST_I32 = 2**31 - 1, -(2**31)
# Keys of 32 bits are found in as many steps, of so many bits each, with so many numbers above 0.
_STEPS, _DIGIT, _ABOVE = 16, 2, 3
# Groups of up to as many queries are unrolled.
_UNROLLED = 8
# The threads that choose the pages of a request, and those that add up their counts.
_LANES, _SUMS = 128, 8


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


# A request, a key head, and a thread.
Place = tuple[Expression, Expression, Expression]


@dataclass(frozen=True)
class _Choice:
    """
    The choice of pages of one request and key head, by the threads of a CTA.

    `begin` and `end` are the entries of the request, known to each thread.
    `key` orders scores as integers do: the bits of a number that is not negative, those of others
    with all but the sign inverted.
    """

    b: Builder
    heads: int
    row: Expression
    begin: Array
    end: Array
    scores: Array
    recent: Value

    @contextmanager
    def lanes(self, name: str, lanes: int, step: Expression | None = None) -> Generator[Place]:
        """Gives each lane a point of a block, anew for each step; yields (request, head, lane)."""
        b, batch = self.b, self.b.symbol("batch")
        with b.loop(f"{name}_lane", lanes, LANE) as lane:
            places = {
                f"{name}_i": (batch, floordiv(self.row, self.heads)),
                f"{name}_h": (self.heads, mod(self.row, self.heads)),
                f"{name}_t": (lanes, lane),
            }
            order = {} if step is None else {f"{name}_step": (_STEPS, step)}
            with b.block(name, spatial=places, ordered=order) as (i, h, t, *_):
                yield i, h, t

    @contextmanager
    def entries(
        self, name: str, at: Place, first: Value, step: int, count: Expression
    ) -> Generator[Value]:
        """Loops over some entries of a request: from `first` on, every `step`th."""
        b = self.b
        with b.loop(f"{name}_entry", count) as j:
            entry = self.begin[at] + first + cast(value_of(step * j), "i32")
            with b.when(compare("<", entry, self.end[at])):
                yield entry

    def key(self, entry: Value, at: Place) -> Value:
        """Returns the order of an entry."""
        _, h, _ = at
        score = self.scores[cast(entry, "index"), h]
        plain = select(compare("<", score, _LARGEST_F32), score, _LARGEST_F32)
        bits = Value(Apply("arith.bitcast", (plain.scalar,), "i32"))
        ordered = select(compare("<", bits, 0), bits ^ _LARGEST_I32, bits)
        is_recent = compare(">=", entry, self.end[at] - self.recent)
        return select(is_recent, _LARGEST_I32, ordered)


def choose(*, heads: int) -> Program:
    """
    Returns the `budget` pages of each request and key head with the highest scores.

    They are in the order of the table, those of request b and head h from
    `chosen_indptr[heads * b + h]` of `chosen` on; of equal scores the earlier page is chosen. The
    last `recent` pages of a request come before all others; a score that is NaN comes right after
    them. A CTA finds the least score that is chosen two bits at a time, from the highest on: the
    largest number is taken for which as many pages as wanted are not below.
    """
    b = Builder("choose_pages", f"{_ranges(heads)}, total in [0, {LARGEST}]")
    n, batch = b.symbol("nnz"), b.symbol("batch")
    indptr, page = b.buffer("indptr", [batch + 1], "i32"), b.buffer("page", [n], "i32")
    scores = b.buffer("scores", [n, heads], "f32")
    starts = b.buffer("chosen_indptr", [heads * batch + 1], "i32")
    chosen = b.buffer("chosen", ["total"], "i32", output=True)
    budget, recent = b.scalar("budget", "i32"), b.scalar("recent", "i32")
    least = b.temporary("least", [batch, heads], "i32", Scope.SHARED)
    begin, end = (
        b.temporary(name, [batch, heads, _LANES], "i32", Scope.LOCAL) for name in ("begin", "end")
    )
    with b.loop("row", heads * batch, GRID) as row:
        choice = _Choice(b, heads, row, begin, end, scores, recent)
        with choice.lanes("ends", _LANES) as (i, h, t):
            begin[i, h, t], end[i, h, t] = indptr[i], indptr[i + 1]
        _find_least(choice, budget, least)
        _write_chosen(choice, budget, least, (starts, page, chosen))
    return b.build()


def _find_least(choice: _Choice, budget: Value, least: Array) -> None:
    """Finds the least key that is chosen; the least of all where there are fewer pages."""
    b, longest = choice.b, choice.b.symbol("longest")
    rows = [b.symbol("batch"), choice.heads]
    own, bound, some, total = (
        b.temporary(name, [*rows, lanes, _ABOVE], "i32", Scope.LOCAL)
        for name, lanes in (("own", _LANES), ("bound", _LANES), ("some", _SUMS), ("total", 1))
    )
    key = b.temporary("key", [*rows, _LANES], "i32", Scope.LOCAL)
    counts = b.temporary("counts", [*rows, _ABOVE, _LANES], "i32", Scope.SHARED)
    sums = b.temporary("sums", [*rows, _ABOVE, _SUMS], "i32", Scope.SHARED)
    digits = range(_ABOVE)
    with choice.lanes("begun", 1) as (i, h, _):
        least[i, h] = _LEAST_I32
    with b.loop("step", _STEPS) as step:
        one = value_of(1, "i32") << (_DIGIT * (_STEPS - 1 - cast(value_of(step), "i32")))
        with choice.lanes("count", _LANES, step) as (i, h, t):
            for digit in digits:
                own[i, h, t, digit] = 0
                bound[i, h, t, digit] = least[i, h] + one * (digit + 1)
            first = cast(value_of(t), "i32")
            with choice.entries(
                "count", (i, h, t), first, _LANES, ceildiv(longest, _LANES)
            ) as entry:
                key[i, h, t] = choice.key(entry, (i, h, t))
                for digit in digits:
                    is_over = compare(">=", key[i, h, t], bound[i, h, t, digit])
                    own[i, h, t, digit] = own[i, h, t, digit] + select(is_over, 1, _zero())
            for digit in digits:
                counts[i, h, digit, t] = own[i, h, t, digit]
        with choice.lanes("sum", _SUMS, step) as (i, h, t):
            for digit in digits:
                some[i, h, t, digit] = 0
                with b.loop(f"of_{digit}", _LANES // _SUMS, UNROLLED) as of:
                    part = counts[i, h, digit, _LANES // _SUMS * t + of]
                    some[i, h, t, digit] = some[i, h, t, digit] + part
                sums[i, h, digit, t] = some[i, h, t, digit]
        with choice.lanes("decide", 1, step) as (i, h, _):
            for digit in digits:
                total[i, h, 0, digit] = 0
                with b.loop(f"part_{digit}", _SUMS, UNROLLED) as part:
                    total[i, h, 0, digit] = total[i, h, 0, digit] + sums[i, h, digit, part]
            # The more a digit asks for, the fewer keys are not below.
            kept = [compare(">=", total[i, h, 0, digit], budget) for digit in digits]
            least[i, h] = least[i, h] + sum(
                (select(is_kept, one, _zero()) for is_kept in kept[1:]),
                select(kept[0], one, _zero()),
            )


def _write_chosen(
    choice: _Choice, budget: Value, least: Array, tables: tuple[Array, Array, Array]
) -> None:
    """Writes the pages above the least key, and as many of those at it as are wanted."""
    b, (starts, page, chosen) = choice.b, tables
    each = ceildiv(b.symbol("longest"), _LANES)
    lanes = [b.symbol("batch"), choice.heads, _LANES]
    above, at = (b.temporary(name, lanes, "i32", Scope.SHARED) for name in ("above", "at"))
    taken, equal, key = (
        b.temporary(name, lanes, "i32", Scope.LOCAL) for name in ("taken", "equal", "key_again")
    )

    def first(t: Expression) -> Value:
        return cast(value_of(t), "i32") * cast(value_of(each), "i32")

    with choice.lanes("share", _LANES) as (i, h, t):
        taken[i, h, t], equal[i, h, t] = 0, 0
        with choice.entries("share", (i, h, t), first(t), 1, each) as entry:
            key[i, h, t] = choice.key(entry, (i, h, t))
            for kept, order in ((taken, ">"), (equal, "==")):
                is_one = compare(order, key[i, h, t], least[i, h])
                kept[i, h, t] = kept[i, h, t] + select(is_one, 1, _zero())
        above[i, h, t], at[i, h, t] = taken[i, h, t], equal[i, h, t]
    wanted = _scan(choice, above, at, budget)
    with choice.lanes("write", _LANES) as (i, h, t):
        equal[i, h, t] = at[i, h, t]
        taken[i, h, t] = above[i, h, t] + minimum(equal[i, h, t], wanted[i, h])
        with choice.entries("write", (i, h, t), first(t), 1, each) as entry:
            key[i, h, t] = choice.key(entry, (i, h, t))
            is_equal = compare("==", key[i, h, t], least[i, h])
            is_wanted = is_equal & compare("<", equal[i, h, t], wanted[i, h])
            with b.when(compare(">", key[i, h, t], least[i, h]) | is_wanted):
                place = starts[choice.heads * i + h] + taken[i, h, t]
                chosen[cast(place, "index")] = page[cast(entry, "index")]
                taken[i, h, t] = taken[i, h, t] + 1
            equal[i, h, t] = equal[i, h, t] + select(is_equal, 1, _zero())


def _scan(choice: _Choice, above: Array, at: Array, budget: Value) -> Array:
    """Turns counts of the lanes into those of all lanes before; returns how many equal to take."""
    b, rows = choice.b, [choice.b.symbol("batch"), choice.heads]
    wanted = b.temporary("wanted", rows, "i32", Scope.SHARED)
    sums = [b.temporary(name, rows, "i32", Scope.LOCAL) for name in ("all_above", "all_at", "one")]
    *totals, one = sums
    with choice.lanes("scan", 1) as (i, h, _):
        for total in totals:
            total[i, h] = 0
        with b.loop("lane_before", _LANES) as t:
            for counts, total in zip((above, at), totals, strict=True):
                one[i, h] = counts[i, h, t]
                counts[i, h, t] = total[i, h]
                total[i, h] = total[i, h] + one[i, h]
        wanted[i, h] = budget - totals[0][i, h]
    return wanted


def _zero() -> Value:
    return value_of(0, "i32")


def _ranges(heads: int) -> str:
    most = LARGEST // heads
    return f"nnz in [0, {most}], batch in [0, {most}], longest in [0, {most}]"
