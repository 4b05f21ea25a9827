"""
Filling one CTA after the other: the least load that suffices for a batch of few units.

Equal distances along a line waste a little wherever a cut meets the begin of a unit. With fewer
units than CTAs that is several per cent of the load; so they are packed exactly, at some 1 us a
unit, for loads that are tried by bisection.
"""

from itertools import chain

import numpy as np

from .cost import Costs
from .limits import PlanLimits
from .line import Cuts, Line
from .tiles import Tiles

_Unit = tuple[int, int, int]


def packs(limits: PlanLimits, tiles: int) -> bool:
    """Tells whether the units are few enough to be packed."""
    return tiles * limits.num_kv_heads <= limits.num_ctas


def pack(limits: PlanLimits, costs: Costs, tiles: Tiles, line: Line, least: int) -> Cuts:
    """Returns cuts of a load of at least `least`, the lowest one found, at most a whole unit's."""
    units = _units(limits, tiles)
    ctas, partial = limits.num_ctas, costs.partial
    best = [(unit, 0) for unit in range(1, len(units))]
    # Each CTA stores once; at best units begin where CTAs do, at worst each cut begins one anew.
    item = min(costs.item)
    low = -(-(line.total + (ctas - len(units)) * item + ctas * partial) // ctas)
    step = -(-len(units) * (item + partial) // ctas)
    low, high = max(least, low) - 1, int(line.unit.max())
    while high - low > 1:
        load = min(low + step, (low + high) // 2) if step else (low + high) // 2
        cuts = _fill(units, load, partial, ctas)
        if cuts is None:
            low = load
        else:
            best, high, step = cuts, load, 0
    return _as_cuts(limits, len(units), best)


def _units(limits: PlanLimits, tiles: Tiles) -> list[_Unit]:
    """Returns for each unit the cost of an item, that of a granule, and its granules."""
    count = len(tiles.granules)
    item, granule = (
        [cost] * count if isinstance(cost, int) else cost.tolist()
        for cost in (tiles.item_cost, tiles.granule_cost)
    )
    each = zip(item, granule, tiles.granules.tolist(), strict=True)
    return list(chain.from_iterable([unit] * limits.num_kv_heads for unit in each))


def _fill(units: list[_Unit], load: int, partial: int, ctas: int) -> list[tuple[int, int]] | None:
    """
    Returns the cuts, (unit, granules before the cut), with which no CTA has more than `load`.

    None where that takes more CTAs than there are.
    """
    cuts: list[tuple[int, int]] = []
    left = load
    for index, (item, granule, granules) in enumerate(units):
        if item + granule * granules <= left:
            left -= item + granule * granules
            continue
        fixed = item + partial
        done = (left - fixed) // granule
        if done < 1:
            cuts.append((index, 0))
            left = load
            if item + granule * granules <= left:
                left -= item + granule * granules
                continue
            done = (left - fixed) // granule
        whole = (load - fixed) // granule
        if whole < 1:
            return None
        cuts.extend((index, at) for at in range(done, granules, whole))
        last = (granules - done - 1) % whole + 1
        left = load - fixed - granule * last
    return cuts if len(cuts) < ctas else None


def _as_cuts(limits: PlanLimits, units: int, cuts: list[tuple[int, int]]) -> Cuts:
    unit = np.full(limits.num_ctas - 1, units)
    granules = np.zeros(limits.num_ctas - 1, np.int64)
    if cuts:
        unit[: len(cuts)], granules[: len(cuts)] = np.asarray(cuts).T
    inside = granules > 0
    split = inside.nonzero()[0]
    return Cuts(unit, inside, split, granules[split])
