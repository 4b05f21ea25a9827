"""
Prefill: query tiles that share KV are dealt out so that they are worked on at one time.

The query tiles of a request and KV head all read the same keys and values. CTAs that run at one
time should read the same of them, so that they come from the L2 cache and not from memory: cut into
shares that lie side by side, a batch of long prompts reads its KV from memory over and over. So the
units are ordered by request, head and length, and dealt out in rounds of one for each CTA, as a
grid of CTAs would take them. What a CTA still lacks at the end is cut from a line of the units that
are left, as in `line`: every CTA has the same load all the same, and nothing more is split.
"""

from typing import NamedTuple

import numpy as np

from .cost import Costs
from .emission import KV_BEGIN, KV_END, SLOT, Counts, Int32Array, Sections, rows_of
from .limits import PlanLimits
from .line import Cuts
from .tiles import Array, Tiles

# So many times the CTAs with the least load are found anew; rounds between follow one another in
# snakes, the longest unit to the CTA that had the shortest one.
_BUNDLES = 32


class Dealt(NamedTuple):
    """
    Units that are dealt out whole, and the line of the others.

    `order` are units, tile * heads + head, in the order of the CTAs, of which CTA c has `counts[c]`
    here. `rest` are the units of the line, `cuts` its cuts, with places in `rest` for units.
    """

    order: Array
    counts: Array
    rest: Array
    cuts: Cuts


def shares_kv(tiles: Tiles) -> bool:
    """Tells whether a request of the batch has several query tiles."""
    request = tiles.request
    return bool((request[1:] == request[:-1]).any())


def deal(limits: PlanLimits, costs: Costs, tiles: Tiles) -> Dealt:
    """Returns equal shares of a batch with more units than CTAs."""
    ctas = limits.num_ctas
    lengths = tiles.item_cost + tiles.granule_cost * tiles.granules
    units = _by_place(limits, tiles, lengths)
    of_unit = lengths[units // limits.num_kv_heads]
    # The pieces of the rest begin anew, and give partial results.
    target = -(-int(of_unit.sum()) // ctas) + min(costs.item) + costs.partial
    owner, load = _rounds(of_unit, ctas, target)
    whole = owner >= 0
    by_cta = _in_order(owner[whole], ctas)
    counts = np.bincount(owner[whole], minlength=ctas)
    rest = units[~whole]
    cuts = _cut(costs, tiles, rest, of_unit[~whole], target - load, limits.num_kv_heads)
    return Dealt(units[whole][by_cta], counts, rest, cuts)


def _in_order(numbers: Array, end: int) -> Array:
    """Returns the order of a stable sort of numbers from 0 to before `end`."""
    # NumPy sorts numbers of 16 bits by their digits.
    few = numbers.astype(np.uint16) if end <= 2**16 else numbers
    return np.argsort(few, kind="stable")


def _by_place(limits: PlanLimits, tiles: Tiles, lengths: Array) -> Array:
    """Returns the units by request, in the order of the tiles, and head, the longest first."""
    heads = limits.num_kv_heads
    opens = np.ones(len(lengths), np.int64)
    opens[1:] = tiles.request[1:] != tiles.request[:-1]
    rank = np.cumsum(opens)
    by_length = np.lexsort((-lengths, rank))
    request = rank[by_length] - 1
    unit = (by_length[:, None] * heads + np.arange(heads)).reshape(-1)
    # Stable, so that the tiles of a head stay in their order.
    place = (request[:, None] * heads + np.arange(heads)).reshape(-1)
    return unit[_in_order(place, (len(request) + 1) * heads)]


def _rounds(of_unit: Array, ctas: int, target: int) -> tuple[Array, Array]:
    """Returns the CTA of each unit, -1 for those that would be too much, and the CTAs' loads."""
    count = len(of_unit)
    rounds = -(-count // ctas)
    lengths = np.zeros(rounds * ctas, np.int64)
    lengths[:count] = of_unit
    lengths = lengths.reshape(rounds, ctas)
    # A row is a round: its units by length, every second one backwards.
    column = np.argsort(-lengths, axis=1, kind="stable")
    column[1::2] = column[1::2, ::-1]
    lengths = np.take_along_axis(lengths, column, axis=1)
    cta = _lanes(lengths)
    dealt = np.empty_like(lengths)
    np.put_along_axis(dealt, cta, lengths, axis=1)
    fits = np.cumsum(dealt, axis=0) <= target
    load = np.where(fits, dealt, 0).sum(axis=0)
    owner = np.empty_like(lengths)
    taken = np.where(np.take_along_axis(fits, cta, axis=1), cta, -1)
    np.put_along_axis(owner, column, taken, axis=1)
    return owner.reshape(-1)[:count], load


def _lanes(lengths: Array) -> Array:
    """
    Returns the CTA of each column of each round.

    The heaviest column of some rounds goes to the CTA with the least load until then.
    """
    rounds, ctas = len(lengths), len(lengths[0])
    depth = -(-rounds // _BUNDLES)
    sums = np.add.reduceat(lengths, np.arange(0, rounds, depth), axis=0)
    heaviest = np.argsort(-sums, axis=1, kind="stable")
    lanes = np.empty_like(sums)
    load = np.zeros(ctas, np.int64)
    for bundle, columns in enumerate(heaviest):
        least = load.argsort(kind="stable")
        lanes[bundle, columns] = least
        load[least] += sums[bundle, columns]
    return lanes.repeat(depth, axis=0)[:rounds]


def _cut(
    costs: Costs, tiles: Tiles, rest: Array, lengths: Array, lacking: Array, heads: int
) -> Cuts:
    """Returns the cuts of the line of the rest, where each CTA has what it lacks."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    # Less than a piece costs beside its KV is no reason for one.
    near = costs.partial + max(costs.item)
    asked = np.cumsum(np.where(lacking < near, 0, lacking))
    # Scaled to what is left, so that all CTAs end alike.
    places = asked[:-1] * total // max(int(asked[-1]), 1)
    unit = np.searchsorted(ends, places, "right")
    if not total:
        return Cuts(unit, np.zeros(len(unit), bool), unit[:0], unit[:0], False)
    at = np.minimum(unit, len(rest) - 1)
    offset = places - (ends[at] - lengths[at])
    tile = rest[at] // heads
    item, granule = (
        values if isinstance(values, int) else values[tile]
        for values in (tiles.item_cost, tiles.granule_cost)
    )
    unit = np.where((unit < len(rest)) & (lengths[at] - offset <= near), unit + 1, unit)
    inside = (unit == at) & (unit < len(rest)) & (offset >= near + max(costs.granule))
    granules = (offset - item) // granule
    # A CTA that lacks nothing begins and ends at one cut, which splits once.
    again = (unit[1:] == unit[:-1]) & (granules[1:] <= granules[:-1])
    inside[1:] &= ~(again & inside[:-1])
    return Cuts(unit, inside, unit[inside], granules[inside], False)


def write_dealt(
    limits: PlanLimits, sections: Sections, tiles: Tiles, dealt: Dealt, whole: Int32Array
) -> Counts:
    """Writes the items of dealt units; `whole` are those that nothing splits, by unit."""
    cuts, rest = dealt.cuts, dealt.rest
    before = np.cumsum(cuts.inside) + cuts.unit
    pieces = np.bincount(cuts.split, minlength=len(rest)) + 1
    owner = np.repeat(np.arange(len(rest)), pieces)
    line = whole[rest[owner]]
    # The items before the cuts; the next ones begin at them.
    ahead = before[cuts.inside] - 1
    begin = tiles.begin
    if not isinstance(begin, int):
        begin = begin[rest[cuts.split] // limits.num_kv_heads]
    at = cuts.granules * limits.granule + begin
    line[ahead, KV_END] = at
    line[ahead + 1, KV_BEGIN] = at
    parts = pieces > 1
    is_part = parts[owner]
    slots, merges = int(is_part.sum()), int(parts.sum())
    line[is_part, SLOT] = np.arange(slots)
    merge = np.where(is_part, (np.cumsum(parts) - 1)[owner], -1)
    written, sections.pairs = sections.merges[:merges], 0
    written[:, 1] = pieces[parts]
    written[:, 0] = np.cumsum(pieces[parts]) - pieces[parts]
    _interleave(sections, dealt, np.concatenate(([0], before, [len(line)])), whole, line, merge)
    return Counts(len(dealt.order) + len(line), merges, slots)


def _interleave(
    sections: Sections,
    dealt: Dealt,
    line_indptr: Array,
    whole: Int32Array,
    line: Int32Array,
    merge: Array,
) -> None:
    """Writes what each CTA was dealt, and then its part of the line."""
    dealt_indptr = np.concatenate(([0], np.cumsum(dealt.counts)))
    sections.cta_indptr[:] = dealt_indptr + line_indptr
    ctas = np.arange(len(dealt.counts))
    place = np.arange(len(dealt.order)) + line_indptr[np.repeat(ctas, dealt.counts)]
    sections.item_merge[: len(dealt.order) + len(line)] = -1
    sections.rows[place] = rows_of(whole).take(dealt.order)
    of_line = np.repeat(ctas, np.diff(line_indptr))
    place = np.arange(len(line)) + dealt_indptr[of_line + 1]
    sections.rows[place] = rows_of(line)
    sections.item_merge[place] = merge
