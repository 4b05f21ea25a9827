"""
Filling one CTA after the other: the least load that suffices for a batch of few units.

Equal distances along a line waste a little wherever a cut meets the begin of a unit. With fewer
units than CTAs that is several per cent of the load; so they are packed exactly, at some 1 us a
unit, for loads that are tried by bisection.
"""

from itertools import chain
from math import sqrt
from typing import NamedTuple

import numpy as np

from .cost import Costs
from .limits import PlanLimits
from .line import Cuts, Shares
from .pieces import numbered
from .tiles import Array, Tiles

_Unit = tuple[int, int, int]
# Loads are tried until they are known to this part, or all but so many of the CTAs have work.
_PRECISION = 256
# So many of them follow from the one before; then the rest is halved.
_SPREADS = 4


def cuts_of(shares: Shares, tiles: Tiles) -> Cuts:
    """Returns the cuts between the CTAs' shares of a batch that has tiles."""
    limits = shares.limits
    if len(tiles.granules) * limits.num_kv_heads <= limits.num_ctas:
        return pack(limits, shares.costs, tiles, Line(*shares.line(tiles)))
    return shares.cut(tiles)


class Line(NamedTuple):
    """The length of all units together, and that of the longest."""

    total: int
    longest: int


def pack(limits: PlanLimits, costs: Costs, tiles: Tiles, line: Line) -> Cuts:
    """Returns cuts of the lowest load found, which is at most that of the longest whole unit."""
    equal = _equal(limits, costs, tiles, line)
    if equal is not None:
        return equal
    units = _units(limits, tiles)
    ctas, anew = limits.num_ctas, min(costs.item) + costs.partial
    longest = line.longest
    # Loads that are known to be too low, and to suffice.
    low, high = _least(costs, line, ctas, longest) - 1, longest
    best = np.arange(1, len(units)), np.zeros(len(units) - 1, np.int64)
    load, tries = (line.total // ctas + anew) * 129 // 128, 0
    while high - low > max(1, high // _PRECISION):
        load = min(max(load, low + 1), high - 1)
        cuts = _fill(units, load, costs.partial)
        count = len(cuts[0])
        if count < ctas:
            best, high = (np.array(cuts[0], np.int64), np.array(cuts[1], np.int64)), load
            if count >= ctas - 1 - ctas // _PRECISION:
                break
        else:
            low = load
        # As what these cuts share would be shared by all CTAs, at first.
        spread = anew + -(-(load - anew) * (count + 1) // ctas)
        load = spread if tries < _SPREADS else (low + high) // 2
        tries += 1
    return _as_cuts(limits, len(units), best[0], best[1])


def _equal(limits: PlanLimits, costs: Costs, tiles: Tiles, line: Line) -> Cuts | None:
    """
    Returns equal pieces of units of one length, one a CTA; None where packing may be better.

    CTAs that are left over are given to the first units, which are cut into one piece more each.
    """
    granules, item, cost = tiles.granules, tiles.item_cost, tiles.granule_cost
    first = int(granules[0])
    if not isinstance(item, int) or not isinstance(cost, int) or (granules != first).any():
        return None
    units = len(granules) * limits.num_kv_heads
    # More pieces would take longer to merge than they save.
    useful = max(int(sqrt(first * cost / max(costs.merge, 1e-9))), 1)
    size = -(-first // min(limits.num_ctas // units, useful)) or 1
    pieces = max(-(-first // size), 1)
    load = item + cost * size + costs.partial * (pieces > 1)
    if load > line.total // limits.num_ctas + item + costs.partial and pieces < useful:
        return None
    finer = -(-first // (pieces + 1)) or 1
    extra = min(limits.num_ctas - units * pieces, units)
    if -(-first // finer) <= pieces or item + cost * finer + costs.partial > load:
        extra = 0
    parts = np.full(units, pieces)
    parts[:extra] += 1
    unit, number = numbered(parts)
    number *= np.where(unit < extra, finer, size)
    return _as_cuts(limits, units, unit[1:], number[1:])


def _least(costs: Costs, line: Line, ctas: int, longest: int) -> int:
    """Returns a load below which the merge would take longer than the shares save."""
    shares = round(sqrt(costs.merge * longest))
    return max(-(-line.total // ctas), shares + min(costs.item) + costs.partial, 1)


def _units(limits: PlanLimits, tiles: Tiles) -> list[_Unit]:
    """Returns for each unit the cost of an item, that of a granule, and its granules."""
    count = len(tiles.granules)
    item, granule = (
        [cost] * count if isinstance(cost, int) else cost.tolist()
        for cost in (tiles.item_cost, tiles.granule_cost)
    )
    each = zip(item, granule, tiles.granules.tolist(), strict=True)
    return list(chain.from_iterable([unit] * limits.num_kv_heads for unit in each))


def _fill(units: list[_Unit], load: int, partial: int) -> tuple[list[int], list[int]]:
    """Returns the units of cuts and the granules before them: no CTA has more than `load`."""
    owner: list[int] = []
    before: list[int] = []
    left = load
    for index, (item, granule, granules) in enumerate(units):
        whole_cost = item + granule * granules
        if whole_cost <= left:
            left -= whole_cost
            continue
        fixed = item + partial
        done = (left - fixed) // granule
        if done < 1:
            owner.append(index)
            before.append(0)
            left = load
            if whole_cost <= left:
                left -= whole_cost
                continue
            done = max((left - fixed) // granule, 1)
        whole = max((load - fixed) // granule, 1)
        places = range(done, granules, whole)
        owner += [index] * len(places)
        before += places
        last = (granules - done - 1) % whole + 1
        left = load - fixed - granule * last
    return owner, before


def _as_cuts(limits: PlanLimits, units: int, unit: Array, granules: Array) -> Cuts:
    """Returns these cuts, and behind them those of the CTAs that have nothing to do."""
    cuts = np.full(limits.num_ctas - 1, units)
    cuts[: len(unit)] = unit
    before = np.zeros(limits.num_ctas - 1, np.int64)
    before[: len(unit)] = granules
    inside = before > 0
    return Cuts(cuts, inside, cuts[inside], before[inside], False)
