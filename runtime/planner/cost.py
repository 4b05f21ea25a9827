"""
What a work item costs: a constant for each item, and a time for each KV tile.

The paper's model is linear in query and KV length, `alpha * l_qo + beta * l_kv` (Ye et al.,
FlashInfer, MLSys 2025, section 3.3.1, algorithm 1). Here the two numbers belong to the height of
the query tile, since a small tile waits for memory and a large one for the tensor cores; a partial
result costs its store, and its load by the CTA that merges it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import ArgumentError

# Whole numbers for a granule of the cheapest height, where the heights differ in their cost.
_RESOLUTION = 16


class Costs(NamedTuple):
    """
    Whole-number costs: of an item and of a granule for each tile height; of a partial result.

    `merge` is the part of a partial result's cost that the CTA pays which merges. One is a time of
    `unit`.
    """

    item: tuple[int, ...]
    granule: tuple[int, ...]
    partial: int
    merge: float
    unit: float


@dataclass(frozen=True)
class CostModel:
    """
    The time of one work item, `item + kv_tile * tiles`, for query tiles of `tile_rows` rows.

    `item` and `kv_tile` have one number for each height in `tile_rows`. `partial` is what storing
    a partial result takes, `merge` what the CTA that merges takes for each of them. All are times
    in one unit, whichever. The defaults are estimates for head_dim 128 in 16 bits and KV tiles of
    64 rows, in units of one KV tile; fit them with `fit_cost_model`. On an H100 a CTA has a KV tile
    in 2.9 us where all decode, in 1.8 us with 64 rows; at head_dim 64 in 2.1 us where all decode,
    in 1.6 us with 128 rows. So it is as long for all, as far as a mixed batch can tell.
    Raises ArgumentError.
    """

    tile_rows: tuple[int, ...] = (16, 32, 64, 128)
    item: tuple[float, ...] = (1.0, 1.0, 1.1, 1.2)
    kv_tile: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)
    partial: float = 0.15
    merge: float = 0.1

    def __post_init__(self) -> None:
        heights = len(self.tile_rows)
        for name, values in (("item", self.item), ("kv_tile", self.kv_tile)):
            if len(values) != heights:
                raise ArgumentError(name, f"{heights} numbers, as tile_rows", str(len(values)))
        if min(self.kv_tile, default=0) <= 0:
            raise ArgumentError("kv_tile", "positive times", str(self.kv_tile))
        if min((*self.item, self.partial, self.merge)) < 0:
            raise ArgumentError("item", "times of at least 0", str(self))

    @classmethod
    def of_heights(cls, tile_rows: Sequence[int]) -> "CostModel":
        """Returns the default model for tiles of other heights too, between or beyond its own."""
        known = cls()
        heights = tuple(tile_rows)
        item, kv_tile = (
            tuple(np.interp(heights, known.tile_rows, times).tolist())
            for times in (known.item, known.kv_tile)
        )
        return cls(heights, item, kv_tile, known.partial, known.merge)

    def costs(self, tile_rows: Sequence[int], granules: int = 1) -> Costs:
        """
        Returns the costs for these heights and so many granules in a KV tile.

        Where a granule costs the same for all heights it costs 1, so that equal shares end at
        granules. Raises ArgumentError for a height that has no costs.
        """
        for rows in tile_rows:
            if rows not in self.tile_rows:
                raise ArgumentError("cost", f"a cost of tiles of {rows} rows", str(self.tile_rows))
        at = [self.tile_rows.index(rows) for rows in tile_rows]
        tiles = [self.kv_tile[place] for place in at]
        resolution = 1 if min(tiles) == max(tiles) else _RESOLUTION
        unit = min(tiles) / (granules * resolution)
        return Costs(
            tuple(round(self.item[place] / unit) for place in at),
            tuple(round(tile / (granules * unit)) for tile in tiles),
            round((self.partial + self.merge) / unit),
            self.merge / unit,
            unit,
        )


def fit_cost_model(
    rows: npt.ArrayLike,
    kv_tiles: npt.ArrayLike,
    time: npt.ArrayLike,
    partial: float = 0.15,
    merge: float = 0.1,
) -> CostModel:
    """
    Returns the model that fits measured items best, by least squares for each tile height.

    Sample i is an item of a query tile of `rows[i]` rows over `kv_tiles[i]` KV tiles that took
    `time[i]`. `partial` and `merge` are given in KV tiles of the lowest height. Raises
    ArgumentError where a height has no two different counts of tiles, or time does not grow.
    """
    heights = np.asarray(rows, np.int64)
    tiles, times = np.asarray(kv_tiles, np.float64), np.asarray(time, np.float64)
    if not heights.shape == tiles.shape == times.shape or heights.ndim != 1 or not heights.size:
        shapes = f"{heights.shape}, {tiles.shape}, {times.shape}"
        raise ArgumentError("rows", "samples, one a row of all three", shapes)
    fits: list[tuple[int, float, float]] = []
    for height in np.unique(heights).tolist():
        of_height = heights == height
        fits.append((height, *_line(height, tiles[of_height], times[of_height])))
    first = fits[0][2]
    return CostModel(
        tuple(height for height, _, _ in fits),
        tuple(item for _, item, _ in fits),
        tuple(kv_tile for _, _, kv_tile in fits),
        partial * first,
        merge * first,
    )


def _line(
    height: int, tiles: npt.NDArray[np.float64], times: npt.NDArray[np.float64]
) -> tuple[float, float]:
    """Returns the constant, at least 0, and the slope of the line through the samples."""
    where = f"tiles of {height} rows"
    if np.unique(tiles).size < 2:
        raise ArgumentError("kv_tiles", f"two different counts for {where}", str(tiles))
    slope, constant = np.polyfit(tiles, times, 1).tolist()
    if constant < 0:
        slope, constant = float(tiles @ times / (tiles @ tiles)), 0.0
    if slope <= 0:
        raise ArgumentError("time", f"times that grow with the KV tiles for {where}", str(slope))
    return constant, slope
