"""
Equal shares of the work: all of it in one line, cut at equal distances.

The units of work, a query tile for one KV head each, lie one behind the other, as long as they
cost. CTA c works from cut c to cut c + 1; a cut inside a unit splits its KV there. So no more than
`num_ctas - 1` units are split however skewed the lengths are, every CTA has the same load, and
nothing is sorted: McNaughton's wrap-around rule (Management Science 6, 1959), which stream-K uses
for matrix products (Osama et al., PPoPP 2023). What it adds to them is the cost of beginning anew
within a unit, and cuts that give way to the ends of units near by.
"""

from functools import lru_cache
from math import sqrt
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .cost import Costs
from .limits import PlanLimits
from .tiles import Array, Tiles

Mask = npt.NDArray[np.bool_]
# A cut may move by this part of the mean load where that saves a split.
_TOLERANCE = 128


class Line(NamedTuple):
    """
    The units' lengths along the line, in whole costs.

    `unit` and `start` have one entry more than there are tiles, so that the end is a place too.
    `total` is the line's length for all KV heads.
    """

    unit: Array
    start: Array
    total: int


class Cuts(NamedTuple):
    """
    The cuts `1 .. num_ctas - 1`.

    `unit` is the first unit, tile * heads + head, that begins at or contains the cut; `inside`
    tells which cuts split their unit, and `split` are the indices of these. For each of them,
    `granules` is the number of granules before the cut.
    """

    unit: Array
    inside: Mask
    split: Array
    granules: Array


def line_of(limits: PlanLimits, tiles: Tiles) -> Line:
    """Returns the line of a batch that has tiles."""
    count = len(tiles.granules)
    unit = np.empty(count + 1, np.int64)
    unit[count] = 1
    lengths = unit[:count]
    if isinstance(tiles.granule_cost, int) and tiles.granule_cost == 1:
        np.add(tiles.granules, tiles.item_cost, out=lengths)
    else:
        np.multiply(tiles.granules, tiles.granule_cost, out=lengths)
        lengths += tiles.item_cost
    start = np.empty(count + 1, np.int64)
    start[0] = 0
    np.add.accumulate(lengths, out=start[1:])
    start *= limits.num_kv_heads
    return Line(unit, start, int(start[count]))


def share(limits: PlanLimits, costs: Costs, line: Line) -> int:
    """
    Returns the length of the line that each CTA gets.

    Work so small that the merge would take longer than the shares save is given to fewer CTAs.
    """
    even = -(-line.total // limits.num_ctas)
    length = max(even, max(costs.item) + max(costs.granule))
    # A unit in shares of s takes s, and then a merge of its length / s partial results.
    longest = line.total // limits.num_kv_heads
    if costs.merge * longest <= length * length:
        return length
    return max(length, round(sqrt(costs.merge * int(line.unit.max()))))


def cut(limits: PlanLimits, costs: Costs, tiles: Tiles, line: Line, length: int) -> Cuts:
    """Returns the cuts for shares of this length."""
    heads = limits.num_kv_heads
    # A cut at less than `near` before the end of a unit, or just behind its begin, moves there.
    near = costs.partial + length // _TOLERANCE
    places = _numbers(limits.num_ctas) * length
    places += near
    if length * (limits.num_ctas - 1) + near > line.total:
        np.minimum(places, line.total, out=places)
    tile = line.start[1:].searchsorted(places, "right")
    places -= line.start[tile]
    head, inside_unit = np.divmod(places, line.unit[tile])
    item, granule = tiles.item_cost, tiles.granule_cost
    if not isinstance(item, int):
        inside_unit -= _at(item, tile)
        item = 0
    inside = inside_unit >= item + near + max(near, *costs.granule)
    split = inside.nonzero()[0]
    granules = inside_unit[split]
    granules -= item + near
    if not isinstance(granule, int):
        granules //= granule[tile[split]]
    elif granule != 1:
        granules //= granule
    tile *= heads
    head += tile
    return Cuts(head, inside, split, granules)


@lru_cache(maxsize=8)
def _numbers(count: int) -> Array:
    """Returns 1 to before `count`; nobody writes to them."""
    return np.arange(1, count)


def _at(values: Array, tile: Array) -> Array:
    """Returns the entries of tiles; the end of the line, which is no tile, has the last one's."""
    return values[np.minimum(tile, len(values) - 1)]
