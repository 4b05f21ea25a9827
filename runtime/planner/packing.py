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
from .tiles import Array, Tiles

_Unit = tuple[int, int, int, int]
# Loads are tried until they are known to this part, or all but so many of the CTAs have work.
_PRECISION = 256
# So many of them follow from the one before; then the rest is halved.
_SPREADS = 4
# So small a part of the CTAs is given work that the others could do as fast.
_FEW = 16
# No tile has more granules than so many bits count.
_PLACE_BITS = 31


def cuts_of(shares: Shares, tiles: Tiles) -> Cuts:
    """Returns the cuts between the CTAs' shares of a batch that has tiles."""
    limits = shares.limits
    if len(tiles.granules) * limits.num_kv_heads <= limits.num_ctas:
        return pack(shares, tiles)
    return shares.cut(tiles)


class Line(NamedTuple):
    """The length of all units together, and that of the longest."""

    total: int
    longest: int


def pack(shares: Shares, tiles: Tiles) -> Cuts:
    """Returns cuts of the lowest load found, which is at most that of the longest whole unit."""
    limits, costs = shares.limits, shares.costs
    equal = _equal(limits, costs, tiles)
    if equal is not None:
        return _as_cuts(limits, tiles, *equal)
    unit, before = _packed(limits, costs, tiles, Line(*shares.line(tiles)))
    if _may_halve(limits, len(unit) + 1):
        unit, before = _with_idle(limits, costs, tiles, unit, before)
    return _as_cuts(limits, tiles, unit, before)


def _packed(limits: PlanLimits, costs: Costs, tiles: Tiles, line: Line) -> tuple[Array, Array]:
    """Returns the units of cuts and the granules before them, for the lowest load found."""
    units = _units(limits, costs, tiles)
    ctas, anew = limits.num_ctas, min(costs.item) + costs.partial
    # Loads that are known to be too low, and to suffice.
    low, high = _least(costs, line, ctas) - 1, line.longest
    best = list(range(1, len(units))), [0] * (len(units) - 1)
    load, tries = (line.total // ctas + anew) * 129 // 128, 0
    while high - low > max(1, high // _PRECISION):
        load = min(max(load, low + 1), high - 1)
        cuts = _fill(units, load)
        count = len(cuts[0])
        if count < ctas:
            best, high = cuts, load
            if count >= ctas - 1 - ctas // _PRECISION:
                break
        else:
            low = load
        # As what these cuts share would be shared by all CTAs, at first.
        spread = anew + -(-(load - anew) * (count + 1) // ctas)
        load = spread if tries < _SPREADS else (low + high) // 2
        tries += 1
    return np.array(best[0], np.int64), np.array(best[1], np.int64)


def _equal(limits: PlanLimits, costs: Costs, tiles: Tiles) -> tuple[Array, Array] | None:
    """Returns equal pieces of units of one length, one a CTA; None where packing may be better."""
    granules, item, cost = tiles.granules, tiles.item_cost, tiles.granule_cost
    first = int(granules[0])
    # As `any` says, in half of its time.
    differ = np.count_nonzero(granules != first)
    if differ or not isinstance(item, int) or not isinstance(cost, int):
        return None
    units = len(granules) * limits.num_kv_heads
    # More pieces would take longer to merge than they save.
    useful = max(int(sqrt(first * cost / max(costs.merge, 1e-9))), 1)
    size = -(-first // min(limits.num_ctas // units, useful)) or 1
    pieces = max(-(-first // size), 1)
    load = item + cost * size + costs.partial * (pieces > 1)
    mean = units * (item + cost * first) // limits.num_ctas
    if load > mean + item + costs.partial and pieces < useful:
        return None
    unit, before = np.divmod(np.arange(1, units * pieces), pieces)
    before *= size
    half, last = size // 2, first - size * (pieces - 1)
    if half * cost < max(costs.item) + costs.partial or not _may_halve(limits, units * pieces):
        return unit, before
    # As `_with_idle` finds it: the first pieces of the longest are halved, the last of a unit may
    # be shorter than the others. Cuts are sorted as granules of a line of the units.
    halved = pieces - (last // 2 < half)
    place = np.empty(limits.num_ctas - 1, np.int64)
    unit *= first
    np.add(unit, before, place[: len(unit)])
    whole, number = np.divmod(np.arange(len(place) - len(unit)), halved)
    whole *= first
    number *= size
    whole += half
    np.add(whole, number, place[len(unit) :])
    place.sort()
    return np.divmod(place, first)


def _may_halve(limits: PlanLimits, busy: int) -> bool:
    """Tells whether so few CTAs have nothing to do that they take halves of others' pieces."""
    return 0 < limits.num_ctas - busy <= limits.num_ctas // _FEW


def _least(costs: Costs, line: Line, ctas: int) -> int:
    """Returns a load below which the merge would take longer than the shares save."""
    shares = round(sqrt(costs.merge * line.longest))
    return max(-(-line.total // ctas), shares + min(costs.item) + costs.partial, 1)


def _units(limits: PlanLimits, costs: Costs, tiles: Tiles) -> list[_Unit]:
    """Returns for each unit its cost, what a piece of it costs beside granules, and these."""
    count = len(tiles.granules)
    item, granule = (
        [cost] * count if isinstance(cost, int) else cost.tolist()
        for cost in (tiles.item_cost, tiles.granule_cost)
    )
    each = zip(item, granule, tiles.granules.tolist(), strict=True)
    units = [(i + g * count, i + costs.partial, g, count) for i, g, count in each]
    return list(chain.from_iterable([unit] * limits.num_kv_heads for unit in units))


def _fill(units: list[_Unit], load: int) -> tuple[list[int], list[int]]:
    """Returns the units of cuts and the granules before them: no CTA has more than `load`."""
    owner: list[int] = []
    before: list[int] = []
    left = load
    for index, (whole_cost, fixed, granule, granules) in enumerate(units):
        if whole_cost <= left:
            left -= whole_cost
            continue
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
        while done < granules:
            owner.append(index)
            before.append(done)
            done += whole
        left = load - fixed - granule * (granules - done + whole)
    return owner, before


def _as_cuts(limits: PlanLimits, tiles: Tiles, unit: Array, before: Array) -> Cuts:
    """Returns these cuts, and behind them those of the CTAs that have nothing to do."""
    cuts, granules = unit, before
    if len(unit) < limits.num_ctas - 1:
        cuts, granules = np.empty((2, limits.num_ctas - 1), np.int64)
        cuts[: len(unit)], granules[: len(unit)] = unit, before
        cuts[len(unit) :], granules[len(unit) :] = len(tiles.granules) * limits.num_kv_heads, 0
    inside = granules > 0
    return Cuts(cuts, inside, cuts[inside], granules[inside], False)


def _with_idle(
    limits: PlanLimits, costs: Costs, tiles: Tiles, unit: Array, before: Array
) -> tuple[Array, Array]:
    """Returns the cuts with a few more: CTAs that would idle take halves of the longest pieces."""
    # Where the first piece of each CTA begins, and where it ends: at the next cut, or its unit.
    first, done = np.zeros((2, len(unit) + 1), np.int64)
    first[1:], done[1:] = unit, before
    tile = first // limits.num_kv_heads
    half = tiles.granules[tile]
    np.copyto(half[:-1], before, where=first[:-1] == unit)
    half -= done
    half >>= 1
    each = tiles.granule_cost
    cost = half * (each if isinstance(each, int) else each[tile])
    idle = limits.num_ctas - 1 - len(unit)
    longest = np.negative(cost).argsort(kind="stable")[:idle]
    # Halves of less than this would be more constant cost than work.
    longest = longest[cost[longest] >= max(costs.item) + costs.partial]
    # A place is one number, so that the cuts are sorted at once.
    place = np.empty(len(unit) + len(longest), np.int64)
    first <<= _PLACE_BITS
    first |= done
    place[: len(unit)] = first[1:]
    np.add(first[longest], half[longest], place[len(unit) :])
    place.sort()
    return place >> _PLACE_BITS, place & (1 << _PLACE_BITS) - 1
