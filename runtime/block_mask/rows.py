"""
Tiles of rows in closed form.

Where a mask is, over all keys of a row of query tiles, nothing but bounds of the positions and of
their difference or sum, the keys that some query sees, and those that all see, are intervals. They
are computed from the bounds, for all rows at once. So it is where the masked elements are such.
"""

from dataclasses import dataclass

import numpy as np

from .conditions import Bound, Side
from .forms import BoolArray, Boxes, Int64Array
from .geometry import Grid, Squares
from .interpretation import Interpreter
from .runs import RunCollector
from .subdivision import append_full, append_partial

# With more rows, or more tiles left over, the grid is subdivided.
MOST_ROWS = 1 << 18
MOST_TILES = 1 << 16
_FAR = 1 << 40


@dataclass(frozen=True, eq=False)
class Spans:
    """
    Tiles of rows that one side of a mask reaches, from `first` up to `last`, without it.

    Of these it fills the ones from `inner_first` up to `inner_last`. With `closed` that is exact.
    """

    first: Int64Array
    inner_first: Int64Array
    inner_last: Int64Array
    last: Int64Array
    closed: BoolArray


def append_rows(grid: Grid, interpreter: Interpreter, runs: RunCollector) -> Squares | None:
    """
    Appends the tiles of all rows that have a closed form.

    Returns the tiles that have none, or None where these are so many that it appends nothing.
    """
    if grid.rows > MOST_ROWS:
        return None
    slices = np.repeat(np.arange(len(grid.q_tiles)), grid.q_tiles)
    row = np.arange(grid.rows) - grid.first_row[slices]
    tiles = np.broadcast_to(np.asarray(grid.of_slices(grid.kv_tiles, slices)), grid.rows)
    with_keys = np.flatnonzero(tiles > 0)
    slices, row, tiles = slices[with_keys], row[with_keys], tiles[with_keys]
    boxes = grid.boxes(slices, row, np.zeros(len(row), np.int64), 1, tiles)
    mask = interpreter.mask(boxes)
    seen, masked = (_spans(side, boxes, grid.block[1], tiles) for side in (mask.yes, mask.no))
    by_masked = masked.closed & ~seen.closed
    left = np.flatnonzero(~seen.closed & ~masked.closed)
    width = (seen.last - seen.first)[left]
    if int(width.sum()) > MOST_TILES:
        return None
    if seen.closed.any():
        _append_seen(grid, runs, slices, row, seen)
    if by_masked.any():
        _append_masked(grid, runs, slices, row, masked, by_masked, tiles)
    column = np.arange(int(width.sum())) - np.repeat(np.cumsum(width) - width, width)
    column += np.repeat(seen.first[left], width)
    return Squares(np.repeat(slices[left], width), np.repeat(row[left], width), column, 1)


def _append_seen(
    grid: Grid, runs: RunCollector, slices: Int64Array, row: Int64Array, seen: Spans
) -> None:
    parts = (
        (seen.first, seen.inner_first, False),
        (seen.inner_first, seen.inner_last, True),
        (seen.inner_last, seen.last, False),
    )
    for start, stop, full in parts:
        _append(grid, runs, slices, row, (start, stop), seen.closed, full)


def _append_masked(
    grid: Grid,
    runs: RunCollector,
    slices: Int64Array,
    row: Int64Array,
    masked: Spans,
    which: BoolArray,
    tiles: Int64Array,
) -> None:
    parts = (
        (np.zeros_like(tiles), masked.first, True),
        (masked.first, masked.inner_first, False),
        (masked.inner_last, masked.last, False),
        (masked.last, tiles, True),
    )
    for start, stop, full in parts:
        _append(grid, runs, slices, row, (start, stop), which, full)


def _append(
    grid: Grid,
    runs: RunCollector,
    slices: Int64Array,
    row: Int64Array,
    span: tuple[Int64Array, Int64Array],
    which: BoolArray,
    full: bool,
) -> None:
    start, stop = span
    chosen = np.flatnonzero(which & (start < stop))
    if len(chosen):
        append = append_full if full else append_partial
        append(grid, runs, slices[chosen], row[chosen], start[chosen], stop[chosen])


def _spans(side: Side, boxes: Boxes, block: int, tiles: Int64Array) -> Spans:
    """Returns the tiles of one side; `boxes` are rows of query tiles with all their keys."""
    some, every, is_exact = _keys(side, boxes)
    possible = np.broadcast_to(side.possible, len(boxes)) & (some[0] <= some[1])
    first = np.where(possible, some[0] // block, 0)
    last = np.where(possible, some[1] // block + 1, 0)
    inner_first = -(-every[0] // block)
    # Keys up to the last one fill the last tile, as far as it is there.
    inner_last = np.where(every[1] == boxes.kv_last, tiles, (every[1] + 1) // block)
    filled = possible & (every[0] <= every[1]) & (inner_first < inner_last)
    inner_first = np.where(filled, inner_first, last)
    inner_last = np.where(filled, inner_last, last)
    closed = np.broadcast_to(side.same | ~side.possible, len(boxes)) & is_exact
    return Spans(first, inner_first, inner_last, last, closed)


Keys = tuple[Int64Array, Int64Array]


def _keys(side: Side, boxes: Boxes) -> tuple[Keys, Keys, bool]:
    """
    Returns the first and last key of some query of a row, and of every query.

    The third is whether the bounds of the side are all of a kind that makes these exact.
    """
    q_lo, q_hi = _limits(side.bounds.get((1, 0), (None, None)))
    kv_lo, kv_hi = _limits(side.bounds.get((0, 1), (None, None)))
    first, last = np.maximum(boxes.kv_first, kv_lo), np.minimum(boxes.kv_last, kv_hi)
    q_first, q_last = np.maximum(boxes.q_first, q_lo), np.minimum(boxes.q_last, q_hi)
    some, every = (first, last), (first, last)
    others = [key for key in side.bounds if key not in ((1, 0), (0, 1))]
    is_exact = len(others) <= 1
    for key in others:
        lo, hi = _limits(side.bounds[key])
        if key == (1, -1):
            some = _within(some, q_first - hi, q_last - lo)
            every = _within(every, boxes.q_last - hi, boxes.q_first - lo)
        elif key == (1, 1):
            some = _within(some, lo - q_last, hi - q_first)
            every = _within(every, lo - boxes.q_first, hi - boxes.q_last)
        else:
            is_exact = False
        # Bounds that contradict each other hold nowhere.
        some = (some[0], np.where(np.asarray(lo <= hi), some[1], -1))
    some = (some[0], np.where(q_first <= q_last, some[1], -1))
    cut = (q_first > boxes.q_first) | (q_last < boxes.q_last)
    return some, (every[0], np.where(cut, -1, every[1])), is_exact


def _limits(bound: Bound) -> tuple["int | Int64Array", "int | Int64Array"]:
    lo, hi = bound
    return (-_FAR if lo is None else lo), (_FAR if hi is None else hi)


def _within(keys: Keys, first: Int64Array, last: Int64Array) -> Keys:
    return np.maximum(keys[0], first), np.minimum(keys[1], last)
