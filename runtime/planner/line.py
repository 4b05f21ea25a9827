"""
Equal shares of the work: all of it in one line, cut at equal distances.

The units of work, a query tile for one KV head each, lie one behind the other, as long as they
cost. CTA c works from cut c to cut c + 1; a cut inside a unit splits its KV there. So no more than
`num_ctas - 1` units are split however skewed the lengths are, every CTA has the same load, and
nothing is sorted: McNaughton's wrap-around rule (Management Science 6, 1959), which stream-K uses
for matrix products (Osama et al., PPoPP 2023). What it adds to them is the cost of beginning anew
within a unit, and cuts that give way to the ends of units near by.
"""

from math import sqrt
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .cost import Costs
from .limits import PlanLimits
from .tiles import Array, Tiles, decode_height

Mask = npt.NDArray[np.bool_]
# A cut may move by this part of the mean load where that saves a split.
_TOLERANCE = 128


class Cuts(NamedTuple):
    """
    The cuts `1 .. num_ctas - 1`.

    `unit` is the first unit, tile * heads + head, that begins at or contains the cut; `inside`
    tells which cuts split their unit. For each of those `split` is the unit, and `granules` the
    number of granules before the cut. `apart` says that no unit has two of them.
    """

    unit: Array
    inside: Mask
    split: Array
    granules: Array
    apart: bool


class Shares:
    """
    Lays batches of one kernel on lines and cuts them; a line, and cuts, are valid until the next.

    What NumPy takes for a call is most of the time. So memory is kept, and numbers are arrays
    without dimensions, which it need not convert.
    """

    def __init__(self, limits: PlanLimits, costs: Costs) -> None:
        self.limits, self.costs = limits, costs
        self._least = max(costs.item) + max(costs.granule)
        self._finest = max(costs.granule)
        self._heads = np.array(limits.num_kv_heads)
        self._item = {item: np.array(item) for item in costs.item}
        self._offset, self._near = np.zeros((), np.int64), np.zeros((), np.int64)
        self._decode_item = costs.item[decode_height(limits)]
        granule = limits.granule
        self._decode_rest = np.array(granule * (self._decode_item + 1) - 1)
        is_power = granule & (granule - 1) == 0
        self._shift = np.array(granule.bit_length() - 1) if is_power else None
        self._make_line(0)
        # Of each cut: its tile's entries of the line, its unit's number in the tile, and granules.
        self._cut_tiles = np.empty((3, limits.num_ctas - 1), np.int64)
        self._cut_unit, self._cut_start, self._cut_first = self._cut_tiles
        self._number, self._granules = np.empty((2, limits.num_ctas - 1), np.int64)

    def _make_line(self, count: int) -> None:
        # The lengths of units, where the units of all heads of a tile begin together, and the first
        # of them. There is one entry more than there are tiles: the end is a place too.
        self._line = np.zeros((3, count + 1), np.int64)
        self._line[0, count] = 1
        np.multiply(np.arange(count + 1), self._heads, self._line[2])
        self._units, self._ends = self._line[0, :count], self._line[1, 1:]

    def line(self, tiles: Tiles) -> tuple[int, int]:
        """
        Lays the units of a batch that has tiles on the line.

        Returns its length in whole costs, and one that no unit exceeds.
        """
        count = len(tiles.granules)
        if count != len(self._units):
            self._make_line(count)
        units, item, granule = self._units, tiles.item_cost, tiles.granule_cost
        if isinstance(item, int) and isinstance(granule, int):
            longest = item + granule * tiles.longest
            granules = tiles.granules if granule == 1 else tiles.granules * granule
            np.add(granules, self._item[item], units)
        else:
            np.multiply(tiles.granules, granule, units)
            units += item
            longest = int(units.max())
        return self._laid(), longest

    def _laid(self) -> int:
        ends = self._ends
        np.add.accumulate(self._units, 0, None, ends)
        ends *= self._heads
        return int(ends[-1])

    def cut(self, tiles: Tiles) -> Cuts:
        """Returns the cuts of a batch that has tiles, at equal distances along its line."""
        total, longest = self.line(tiles)
        return self._cut(total, longest, tiles.item_cost, tiles.granule_cost)

    def cut_decode(self, kv_len: Array, longest: int) -> Cuts:
        """
        Returns the same as `cut` for tiles of one query row each that see all their KV.

        A granule of these costs 1; `longest` is the largest of kv_len[B].
        """
        item, granule = self._decode_item, self.limits.granule
        if len(kv_len) != len(self._units):
            self._make_line(len(kv_len))
        units = self._units
        # NumPy shifts faster than it divides, and the item's cost is whole granules.
        np.add(kv_len, self._decode_rest, units)
        if self._shift is None:
            units //= granule
        else:
            units >>= self._shift
        return self._cut(self._laid(), item - (-longest // granule), item, 1)

    def _cut(self, total: int, longest: int, item: Array | int, granule: Array | int) -> Cuts:
        costs, ctas, near, offset = self.costs, self.limits.num_ctas, self._near, self._offset
        length = max(-(-total // ctas), self._least)
        # A unit in shares of s takes s, and then a merge of its length / s partial results: work so
        # small that the merge would take longer than the shares save is given to fewer CTAs.
        if costs.merge * longest > length * length:
            length = max(length, round(sqrt(costs.merge * longest)))
        # A cut at less than this before the end of a unit, or just behind its begin, moves there.
        within = costs.partial + length // _TOLERANCE
        places = np.arange(length + within, length * ctas + within, length)
        if length * (ctas - 1) + within > total:
            np.minimum(places, total, out=places)
        tile = self._ends.searchsorted(places, "right")
        self._line.take(tile, 1, self._cut_tiles, "clip")
        places -= self._cut_start
        number, granules = self._number, self._granules
        np.divmod(places, self._cut_unit, number, granules)
        number += self._cut_first
        if not isinstance(item, int):
            granules -= _at(item, tile)
            item = 0
        offset[()], near[()] = item + within, max(within, self._finest)
        granules -= offset
        inside = granules >= near
        if not isinstance(granule, int):
            granules //= _at(granule, tile)
        elif granule != 1:
            granules //= granule
        return Cuts(number, inside, number[inside], granules[inside], longest <= length)


def _at(values: Array, tile: Array) -> Array:
    """Returns the entries of tiles; the end of the line, which is no tile, has the last one's."""
    return values[np.minimum(tile, len(values) - 1)]
