"""Draws a block mask: as text, and as a page."""

from html import escape

import numpy as np
import numpy.typing as npt

from ..runtime.block_mask import EMPTY, FULL, PARTIAL, BlockMask, TileRuns

# Two characters a cell are about as wide as a line is high.
SYMBOLS = {EMPTY: "· ", PARTIAL: "▒▒", FULL: "██"}
_COLOURS = {PARTIAL: "#e0a32a", FULL: "#2f6fb0"}
_CELL = 12

Cells = npt.NDArray[np.int8]


def cells(mask: BlockMask, part: int, most: int) -> tuple[Cells, int]:
    """
    Returns the picture of a slice with at most `most` cells a side, and the tiles of a cell's side.

    A cell is 2 if all its tiles are full, 0 if all are empty, else 1. No array has all tiles.
    """
    rows = mask.rows_of(part)
    columns = int(mask.grid.kv_tiles[part])
    scale = max(1, -(-max(len(rows), columns) // most))
    full, partial = (_covered(runs, rows, columns, scale) for runs in (mask.full, mask.partial))
    all_full = full == np.outer(_sides(len(rows), scale), _sides(columns, scale))
    picture = np.where(all_full, FULL, np.where(full + partial > 0, PARTIAL, EMPTY))
    return picture.astype(np.int8), scale


def _sides(tiles: int, scale: int) -> npt.NDArray[np.int64]:
    """Returns how many tiles each cell of a side has."""
    return np.diff(np.append(np.arange(0, tiles, scale), tiles))


def _covered(runs: TileRuns, rows: range, columns: int, scale: int) -> npt.NDArray[np.int64]:
    """Returns how many tiles of each cell are in runs."""
    height, width = -(-len(rows) // scale), -(-columns // scale)
    counts = np.zeros((height, width), np.int64)
    own = slice(int(runs.indptr[rows.start]), int(runs.indptr[rows.stop]))
    lengths = np.diff(runs.indptr[rows.start : rows.stop + 1])
    cell_row = np.repeat(np.arange(len(rows)) // scale, lengths)
    for at in range(height):
        chosen = cell_row == at
        edges = np.zeros(columns + 1, np.int64)
        np.add.at(edges, runs.start[own][chosen], 1)
        np.add.at(edges, runs.stop[own][chosen], -1)
        covered = np.cumsum(edges[:-1])
        if columns:
            counts[at] = np.add.reduceat(covered, np.arange(0, columns, scale))
    return counts


def summary(mask: BlockMask, part: int) -> str:
    """Returns in one line how many tiles of a slice are of each kind."""
    rows = mask.rows_of(part)
    full, partial = (
        int(runs.counts[rows.start : rows.stop].sum()) for runs in (mask.full, mask.partial)
    )
    total = len(rows) * int(mask.grid.kv_tiles[part])
    share = 100 * (full + partial) / max(total, 1)
    return (
        f"{full} full, {partial} partial and {total - full - partial} empty tiles: "
        f"{share:.1f} % are computed, {100 * partial / max(total, 1):.1f} % need the mask"
    )


def scale_line(mask: BlockMask, scale: int) -> str:
    """Returns what a cell of the picture is."""
    q_block, kv_block = mask.grid.block
    tile = f"a tile of {q_block} queries and {kv_block} keys"
    return (
        tile if scale == 1 else f"{scale} x {scale} tiles of {q_block} queries and {kv_block} keys"
    )


def draw(mask: BlockMask, part: int = 0, most: int = 48) -> str:
    """Returns the picture of a slice as text: a line for each row of cells, keys to the right."""
    picture, scale = cells(mask, part, most)
    legend = f"{SYMBOLS[FULL]} full  {SYMBOLS[PARTIAL]} partial  {SYMBOLS[EMPTY]}empty"
    lines = ["".join(SYMBOLS[int(kind)] for kind in row).rstrip() for row in picture]
    return "\n".join([*lines, f"{legend}; a cell is {scale_line(mask, scale)}"])


def page(mask: BlockMask, title: str, part: int = 0, most: int = 192) -> str:
    """Returns an HTML page with the picture of a slice."""
    picture, scale = cells(mask, part, most)
    height, width = (_CELL * extent for extent in picture.shape)
    marks = "".join(
        f"<rect x='{_CELL * x}' y='{_CELL * y}' width='{_CELL - 1}' height='{_CELL - 1}' "
        f"fill='{_COLOURS[int(picture[y, x])]}'/>"
        for y, x in np.argwhere(picture != EMPTY).tolist()
    )
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{escape(title)}</title>"
        "<style>body{font:14px system-ui;margin:1.5em}svg{background:#eef0f4;max-width:100%}"
        "</style></head><body>"
        f"<h1>{escape(title)}</h1><p>{escape(summary(mask, part))}; "
        f"blue is full, yellow partial; a cell is {escape(scale_line(mask, scale))}.</p>"
        f"<svg width='{width}' height='{height}' viewBox='0 0 {width} {height}'>{marks}</svg>"
        "</body></html>\n"
    )
