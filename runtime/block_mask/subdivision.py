"""Finds the tiles that a mask needs, by halving rectangles that are neither empty nor full."""

from dataclasses import dataclass

import numpy as np

from .forms import Int64Array
from .geometry import Grid, Squares, first_squares
from .interpretation import Interpreter
from .runs import RunCollector

# Rectangles that are begun with, and those that are evaluated at once: arrays that fit in a cache.
# Below the first number it takes as long to evaluate one rectangle as many.
FIRST = 1024
AT_ONCE = 1 << 16


@dataclass
class Open:
    """Tiles not known to be empty or full; those of `proved` are neither."""

    tiles: list[Squares]
    proved: list[Squares]


def subdivide(
    grid: Grid, interpreter: Interpreter, runs: RunCollector, squares: Squares | None
) -> Open:
    """
    Appends the full tiles to `runs`; returns those that are not known to be empty or full.

    Begins with some squares, by default with those that cover the grid.
    """
    found = Open([], [])
    if squares is not None and not len(squares):
        return found
    waiting = [first_squares(grid, FIRST) if squares is None else squares]
    while waiting:
        squares = waiting.pop()
        if len(squares) > AT_ONCE:
            parts = range(0, len(squares), AT_ONCE)
            waiting += [squares.chosen(slice(at, at + AT_ONCE)) for at in parts]
            continue
        left = _classified(grid, interpreter, squares, runs, found)
        if len(left):
            parts = left.quarters(grid)
            few = len(parts) < FIRST and parts.size > 1
            waiting.append(parts.quarters(grid) if few else parts)
    return found


def _classified(
    grid: Grid, interpreter: Interpreter, squares: Squares, runs: RunCollector, found: Open
) -> Squares:
    """Keeps the full squares, and open ones that are tiles; returns what has to be halved."""
    boxes = grid.boxes(squares.slices, squares.row, squares.column, squares.size, squares.size)
    mask = interpreter.mask(boxes)
    must, may, exact = (
        np.broadcast_to(side, len(squares)) for side in (mask.must, mask.may, mask.exact)
    )
    if must.any():
        append_squares(grid, squares.chosen(must), runs)
    left = squares.chosen(np.flatnonzero(may & ~must))
    if squares.size > 1 or not len(left):
        return left
    exact = exact[may & ~must]
    found.proved.append(left.chosen(exact))
    found.tiles.append(left.chosen(~exact))
    return left.chosen(slice(0, 0))


def append_squares(grid: Grid, squares: Squares, runs: RunCollector) -> None:
    """Appends squares of full tiles, a run for each row."""
    slices, row, start = squares.slices, squares.row, squares.column
    stop = start + squares.size
    if squares.size > 1:
        rows = np.minimum(squares.size, grid.of_slices(grid.q_tiles, slices) - row)
        stop = np.minimum(stop, grid.of_slices(grid.kv_tiles, slices))
        begin = np.repeat(np.cumsum(rows) - rows, rows)
        row = np.repeat(row, rows) + (np.arange(len(begin)) - begin)
        slices, start, stop = (np.repeat(part, rows) for part in (slices, start, stop))
    append_full(grid, runs, slices, row, start, stop)


def append_full(
    grid: Grid,
    runs: RunCollector,
    slices: Int64Array,
    row: Int64Array,
    start: Int64Array,
    stop: Int64Array,
) -> None:
    """
    Appends runs of full tiles, which are not empty; `row` counts in the slice.

    Tiles of the last row and column that overhang the sequence are partial, as in FlexAttention.
    """
    number = row + grid.of_slices(grid.first_row[:-1], slices)
    row_overhangs = _overhangs(grid, slices, row, 0)
    last_overhangs = _overhangs(grid, slices, stop - 1, 1) & ~row_overhangs
    inner = stop - last_overhangs
    if row_overhangs.any():
        _append(runs, row_overhangs, number, start, stop, full=False)
    if last_overhangs.any():
        _append(runs, last_overhangs, number, inner, stop, full=False)
    _append(runs, ~row_overhangs & (start < inner), number, start, inner, full=True)


def append_partial(
    grid: Grid,
    runs: RunCollector,
    slices: Int64Array,
    row: Int64Array,
    start: Int64Array,
    stop: Int64Array,
) -> None:
    """Appends runs of tiles that need the mask; `row` counts in the slice."""
    runs.append(row + grid.of_slices(grid.first_row[:-1], slices), start, stop, full=False)


def _append(
    runs: RunCollector,
    which: "np.ndarray[tuple[int], np.dtype[np.bool_]]",
    number: Int64Array,
    start: Int64Array,
    stop: Int64Array,
    *,
    full: bool,
) -> None:
    if which.all():
        runs.append(number, start, stop, full)
    else:
        runs.append(number[which], start[which], stop[which], full)


def _overhangs(
    grid: Grid, slices: Int64Array, tile: Int64Array, axis: int
) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    """Whether tiles reach beyond the queries (axis 0) or the keys (axis 1) of their slice."""
    length = grid.of_slices((grid.q_len, grid.kv_len)[axis], slices)
    return (tile + 1) * grid.block[axis] > length
