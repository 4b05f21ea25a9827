"""
The plan of a batch of decodes as nests: equal shares of a line, as `runtime/planner/line.py` cuts.

Each number of a plan is gathered by a thread of its own, from the lengths of all requests or from
all cuts; so nothing is scattered, sorted or scanned, and the result is that of the host, bit for
bit. Units are request * heads + head; all costs are in granules of KV.
"""

from ...dialects.nest.program import Program, Scope
from ...dialects.sym import Expression
from ...nest.builder import Array, Builder
from ...nest.values import Value, cast, compare, maximum, minimum, select, value_of
from ..part import Line
from .rows import LARGEST, each

# A cut may move by this part of a share where that saves a split.
TOLERANCE = 128
_ZERO, _ONE = value_of(0, "i32"), value_of(1, "i32")


def _length(line: Line, indptr: Array, last: Array, request: Value | Expression) -> Value:
    """What a request costs in one head."""
    pages = indptr[request + 1] - indptr[request]
    tokens = (pages - 1) * line.page_size + last[request]
    tokens = select(compare(">", pages, 0), tokens, _ZERO)
    return (tokens + (line.granule - 1)) // line.granule + line.item


def cuts(*, line: Line) -> Program:
    """
    Returns where the shares of the CTAs end: `unit`, `inside` and `rows`, i32 [cuts].

    `kv_indptr` [batch + 1] and `kv_last_page_len` [batch] are the page table. Cut c is the end of
    the share of CTA c; `inside` says whether it lies in its unit, behind `rows` rows of KV there.
    """
    b = Builder("plan_cuts", f"cuts in [0, {LARGEST - 1}], batch in [0, {LARGEST - 1}]")
    n, batch = b.symbol("cuts"), b.symbol("batch")
    indptr = b.buffer("kv_indptr", [batch + 1], "i32")
    last = b.buffer("kv_last_page_len", [batch], "i32")
    unit, is_inside, rows = (
        b.buffer(name, [n], "i32", output=True) for name in ("unit", "inside", "rows")
    )
    total, own, start, tile, place, near = (
        b.temporary(name, [n], "i32", Scope.LOCAL)
        for name in ("total", "own", "start", "tile", "place", "near")
    )

    with each(b, n) as c:
        number = cast(value_of(c), "i32") + 1
        total[c] = 0
        with b.loop("r", batch) as r:
            total[c] = total[c] + _length(line, indptr, last, r)
        total[c] = total[c] * line.heads
        ctas = cast(value_of(n), "i32") + 1
        own[c] = maximum((total[c] + ctas - 1) // ctas, line.item + 1)
        near[c] = own[c] // TOLERANCE + line.partial
        place[c] = minimum(number * own[c] + near[c], total[c])
        start[c], tile[c], total[c] = 0, 0, 0
        with b.loop("s", batch) as s:
            total[c] = total[c] + _length(line, indptr, last, s) * line.heads
            passed = compare("<=", total[c], place[c])
            start[c] = select(passed, total[c], start[c])
            tile[c] = tile[c] + select(passed, _ONE, _ZERO)
        # The end of the line is a place too: a unit of length 1.
        own[c] = 1
        with b.when(compare("<", tile[c], cast(value_of(batch), "i32"))):
            own[c] = _length(line, indptr, last, cast(tile[c], "index"))
        offset = place[c] - start[c]
        unit[c] = tile[c] * line.heads + offset // own[c]
        behind = offset % own[c] - line.item - near[c]
        is_inside[c] = select(compare(">=", behind, maximum(near[c], 1)), _ONE, _ZERO)
        rows[c] = behind * line.granule
    return b.build()


def _reset(walk: tuple[Array, Array, Array], at: Expression) -> None:
    splits, merge, previous = walk
    splits[at], merge[at], previous[at] = 0, -1, -1


def _count(walk: tuple[Array, Array, Array], at: Expression, unit: Value) -> None:
    """Counts a split: of all, and of the units that are split."""
    splits, merge, previous = walk
    opens = compare("!=", unit, previous[at])
    merge[at] = merge[at] + select(opens, _ONE, _ZERO)
    previous[at] = unit
    splits[at] = splits[at] + 1


def _inputs(b: Builder) -> tuple[Array, Array, Array]:
    unit, is_inside, rows = (b.buffer(n, ["cuts"], "i32") for n in ("unit", "inside", "rows"))
    return unit, is_inside, rows


def _walk(b: Builder, extent: Expression) -> tuple[Array, Array, Array]:
    splits, merge, previous = (
        b.temporary(name, [extent], "i32", Scope.LOCAL) for name in ("splits", "merge", "previous")
    )
    return splits, merge, previous


def items(*, heads: int, open_end: int) -> Program:
    """Returns `items` i32 [room, 6] and `item_merge` i32 [room] of the cuts."""
    b = Builder("plan_items", f"room in [0, {LARGEST // 6}], cuts in [0, {LARGEST - 1}]")
    n = b.symbol("room")
    cut_unit, is_inside, rows = _inputs(b)
    table = b.buffer("items", [n, 6], "i32", output=True)
    merges = b.buffer("item_merge", [n], "i32", output=True)
    walk = _walk(b, n)
    splits, merge, _ = walk
    unit, begin, end, slot, own = (
        b.temporary(name, [n], "i32", Scope.LOCAL)
        for name in ("own_unit", "begin", "end", "slot", "own_merge")
    )
    with each(b, n) as i:
        number = cast(value_of(i), "i32")
        unit[i], begin[i], end[i], slot[i], own[i] = number, 0, open_end, -1, -1
        _reset(walk, i)
        with b.loop("c", b.symbol("cuts")) as c, b.when(compare("==", is_inside[c], 1)):
            _count(walk, i, cut_unit[c])
            # The item that begins at the cut.
            follows = cut_unit[c] + splits[i]
            unit[i] = unit[i] - select(compare("<=", follows, number), _ONE, _ZERO)
            with b.when(compare("==", follows, number)):
                begin[i], slot[i], own[i] = rows[c], splits[i] + merge[i], merge[i]
            with b.when(compare("==", follows, number + 1)):
                end[i], own[i] = rows[c], merge[i]
                slot[i] = select(compare("<", slot[i], 0), splits[i] + merge[i] - 1, slot[i])
        fields = (unit[i] // heads, 0, unit[i] % heads, begin[i], end[i], slot[i])
        for field, value in enumerate(fields):
            table[i, field] = value
        merges[i] = own[i]
    return b.build()


def queues(*, heads: int) -> Program:
    """Returns `cta_indptr` i32 [cta_bounds] and `merges` i32 [split, 2] of the cuts."""
    ranges = f"cta_bounds in [1, {LARGEST}], split in [0, {LARGEST // 2}]"
    b = Builder("plan_queues", f"{ranges}, cuts in [0, {LARGEST - 1}], units in [0, {LARGEST}]")
    n = b.symbol("cta_bounds")
    cut_unit, is_inside, _ = _inputs(b)
    indptr = b.buffer("cta_indptr", [n], "i32", output=True)
    merges = b.buffer("merges", [b.symbol("split"), 2], "i32", output=True)
    walk = _walk(b, n)
    splits, merge, _ = walk
    begin, first, count, opened = (
        b.temporary(name, [n], "i32", Scope.LOCAL) for name in ("begin", "first", "count", "opened")
    )
    with each(b, n) as k:
        number = cast(value_of(k), "i32")
        _reset(walk, k)
        begin[k], first[k], count[k], opened[k] = 0, 0, 0, -1
        with b.loop("c", b.symbol("cuts")) as c:
            at = cast(value_of(c), "i32")
            with b.when(compare("==", is_inside[c], 1)):
                _count(walk, k, cut_unit[c])
                # Merge number k: its slots begin where its first split is counted.
                with b.when(compare("==", merge[k], number)):
                    is_first = compare("<", opened[k], 0)
                    first[k] = select(is_first, splits[k] + merge[k] - 1, first[k])
                    count[k] = select(is_first, value_of(2, "i32"), count[k] + 1)
                    opened[k] = 0
            with b.when(compare("==", at + 1, number)):
                begin[k] = cut_unit[c] + splits[k]
        is_last = compare("==", number + 1, cast(value_of(n), "i32"))
        every = cast(value_of(b.symbol("units")), "i32") + splits[k]
        indptr[k] = select(is_last, every, begin[k])
        with b.when(compare(">", count[k], 0)):
            merges[k, 0], merges[k, 1] = first[k], count[k]
    return b.build()
