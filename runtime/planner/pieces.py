"""
Pieces of query tiles that do not depend on the batch, and their assignment to CTAs.

In the batch-invariant mode KV is split at fixed rows, so that a result does not depend on what else
is in the batch; only which CTA does a piece depends on it. The longest are dealt out first.
"""

from typing import NamedTuple

import numpy as np

from .cost import Costs
from .limits import PlanLimits
from .tiles import Array, Tiles

# Up to so many units a CTA they are dealt out longest first; beyond, neighbours stay together.
_DEALT_UNITS = 16


class Pieces(NamedTuple):
    """
    Pieces of query tiles, in the order of the tiles and of KV.

    A piece is what its query tile sees of the granules `first` to before `end` of the request,
    which takes the time of `granules`; it is number `number` of the tile's `parts`.
    """

    tile: Array
    first: Array
    end: Array
    granules: Array
    number: Array
    parts: Array


class Assignment(NamedTuple):
    """
    Which units, piece * heads + head, a CTA has: `order[cta_indptr[c]:cta_indptr[c + 1]]`.

    `load` is the largest load of a CTA, in whole costs.
    """

    order: Array
    cta_indptr: Array
    load: int


def fixed_pieces(limits: PlanLimits, tiles: Tiles) -> Pieces:
    """
    Returns each query tile split at the multiples of the chunk, counted from KV row 0.

    The first piece begins at such a multiple too, so that the kernel's KV tiles lie the same
    however much of the first chunk the query tile sees.
    """
    chunk = limits.chunk // limits.granule
    begin = np.zeros_like(tiles.granules)
    begin += tiles.begin
    begin //= limits.granule
    past = begin + tiles.granules
    first_chunk = begin // chunk
    count = np.maximum(-(-past // chunk) - first_chunk, 1)
    tile, number = _numbered(count)
    first = (first_chunk[tile] + number) * chunk
    end = first + chunk
    granules = np.minimum(end, past[tile]) - np.maximum(first, begin[tile])
    return Pieces(tile, first, end, np.maximum(granules, 0), number, count[tile])


def _numbered(count: Array) -> tuple[Array, Array]:
    tile = np.repeat(np.arange(len(count)), count)
    number = np.arange(len(tile)) - (np.cumsum(count) - count)[tile]
    return tile, number


def piece_costs(costs: Costs, tiles: Tiles, pieces: Pieces) -> Array:
    """Returns the cost of each piece."""
    item, granule = tiles.item_cost, tiles.granule_cost
    if not isinstance(item, int):
        item = item[pieces.tile]
    if not isinstance(granule, int):
        granule = granule[pieces.tile]
    return item + granule * pieces.granules + costs.partial * (pieces.parts > 1)


def assign(limits: PlanLimits, cost: Array) -> Assignment:
    """Returns an assignment of pieces of these costs, each for every KV head."""
    if len(cost) * limits.num_kv_heads <= _DEALT_UNITS * limits.num_ctas:
        return _longest_first(limits, cost)
    return _side_by_side(limits, cost)


def _longest_first(limits: PlanLimits, cost: Array) -> Assignment:
    """
    Deals the units out in rounds, the longest to the CTA with the least load.

    Within a round every CTA gets one unit (Graham's rule, SIAM J. Appl. Math. 17, 1969, with
    rounds in place of a heap).
    """
    ctas, heads = limits.num_ctas, limits.num_kv_heads
    by_cost = np.argsort(-cost, kind="stable")
    order = (by_cost[:, None] * heads + np.arange(heads)).reshape(-1)
    costs = np.repeat(cost[by_cost], heads)
    load = np.zeros(ctas, np.int64)
    owner = np.empty(len(order), np.int64)
    for first in range(0, len(order), ctas):
        dealt = costs[first : first + ctas]
        least = np.argsort(load, kind="stable")[: len(dealt)]
        owner[first : first + ctas] = least
        load[least] += dealt
    by_cta = np.argsort(owner, kind="stable")
    indptr = np.zeros(ctas + 1, np.int64)
    np.cumsum(np.bincount(owner, minlength=ctas), out=indptr[1:])
    return Assignment(order[by_cta], indptr, int(load.max()))


def _side_by_side(limits: PlanLimits, cost: Array) -> Assignment:
    """Gives every CTA neighbouring units, cut where equal shares would end, at the nearest unit."""
    ctas, heads = limits.num_ctas, limits.num_kv_heads
    units = np.repeat(cost, heads)
    ends = np.cumsum(units)
    # A unit belongs to the share that its middle lies in.
    middle = 2 * ends - units
    owner = middle * ctas // (2 * int(ends[-1]) + 1)
    indptr = np.zeros(ctas + 1, np.int64)
    np.cumsum(np.bincount(owner, minlength=ctas), out=indptr[1:])
    load = int(np.bincount(owner, units, ctas).max())
    return Assignment(np.arange(len(units)), indptr, load)
