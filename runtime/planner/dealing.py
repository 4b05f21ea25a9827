"""
Prefill: query tiles that share KV are dealt out so that they are worked on at one time.

The query tiles of a request and KV head all read the same keys and values. CTAs that run at one
time should read the same of them, so that they come from the L2 cache and not from memory: cut into
shares that lie side by side, a batch of long prompts reads its KV from memory over and over. So the
units are ordered by request, head and length, and dealt out in rounds of one for each CTA, as a
grid of CTAs would take them. What a CTA still lacks at the end is cut from a line of the units that
are left, as in `line`: every CTA has the same load all the same, and nothing more is split.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .cost import Costs
from .emission import KV_BEGIN, KV_END, SLOT, Counts, Int32Array, Sections, rows_of
from .limits import PlanLimits
from .line import Cuts
from .tiles import Array, Tiles

# So many times the CTAs with the least load are found anew; rounds between follow one another in
# snakes, the longest unit to the CTA that had the shortest one.
_BUNDLES = 32
_LARGEST = 2**31 - 1


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


class _Lanes(NamedTuple):
    """
    What each CTA takes of units: their places, in the order of the CTAs and then of the rounds.

    CTA c takes `counts[c]` of them, which take `load[c]` together.
    """

    places: Array
    counts: Array
    load: Array


def shares_kv(tiles: Tiles) -> bool:
    """Tells whether a request of the batch has several query tiles."""
    request = tiles.request
    return bool((request[1:] == request[:-1]).any())


def deal(limits: PlanLimits, costs: Costs, tiles: Tiles) -> Dealt:
    """Returns equal shares of a batch with more units than CTAs."""
    ctas, heads = limits.num_ctas, limits.num_kv_heads
    lengths = tiles.item_cost + tiles.granule_cost * tiles.granules
    units = _by_place(heads, tiles.request, lengths)
    of_unit = lengths.take(units // heads)
    # The pieces of the rest begin anew, and give partial results.
    target = -(-int(lengths.sum()) * heads // ctas) + min(costs.item) + costs.partial
    lanes = _rounds(of_unit, int(lengths.max()), ctas, target)
    left = np.ones(len(units), np.bool_)
    left[lanes.places] = False
    rest = units[left]
    cuts = _cut(costs, tiles, rest, of_unit[left], target - lanes.load, heads)
    return Dealt(units.take(lanes.places), lanes.counts, rest, cuts)


def _by_place(heads: int, request: Array, lengths: Array) -> Array:
    """Returns the units by request, in the order of the tiles, and head, the longest first."""
    count = len(lengths)
    opens = np.ones(count, np.bool_)
    np.not_equal(request[1:], request[:-1], opens[1:])
    begin = opens.nonzero()[0]
    sizes = np.empty_like(begin)
    np.subtract(begin[1:], begin[:-1], sizes[:-1])
    sizes[-1] = count - begin[-1]
    rank = np.add.accumulate(opens, dtype=np.int64)
    by_length = (rank * (int(lengths.max()) + 1) - lengths).argsort(kind="stable")
    # Behind all units of the requests before come the tiles of one head after those of another.
    place = begin.repeat(sizes)
    place *= heads - 1
    number, head = np.arange(count), np.arange(heads)
    place += number
    places = sizes.repeat(sizes)[:, None] * head
    places += place[:, None]
    units = np.empty(count * heads, np.int64)
    by_length *= heads
    units[places] = by_length[:, None] + head
    return units


def _rounds(of_unit: Array, longest: int, ctas: int, target: int) -> _Lanes:
    """
    Deals units out, one of a round to each CTA, as far as none has more than `target`.

    None is longer than `longest`.
    """
    count = len(of_unit)
    depth = -(-count // (ctas * _BUNDLES))
    rounds = -(-count // (ctas * depth)) * depth
    bits = ctas.bit_length()
    # As many as the sums of all rounds need.
    kind = np.int32 if longest * (rounds + 1) << bits <= _LARGEST else np.int64
    lengths = np.zeros((rounds, ctas), kind)
    lengths.reshape(-1)[:count] = of_unit
    keys = _longest_first(lengths, longest, bits)
    # A row is a round: its units by length, every second one backwards.
    keys[1::2] = keys[1::2, ::-1].copy()
    lengths = (longest - (keys >> bits)).reshape(-1, depth, ctas)
    keys &= (1 << bits) - 1
    if depth > 1:
        lengths = lengths.cumsum(axis=1, dtype=kind)
    lane, before = _lanes(lengths[:, -1], bits)
    load = lengths + before[:, None]
    number = np.arange(rounds).reshape(-1, depth, 1)
    at = lane[:, None] * rounds + number
    keys += (number * ctas).reshape(-1, 1).astype(kind)
    dealt, units = np.empty((2, ctas * rounds), kind)
    dealt[at], units[at] = load, keys.reshape(at.shape)
    fits = dealt <= target
    fits &= units < count
    dealt *= fits
    of_cta = (ctas, rounds)
    counts = np.add.reduce(fits.reshape(of_cta), axis=1, dtype=np.int64)
    return _Lanes(units[fits].astype(np.int64), counts, dealt.reshape(of_cta).max(axis=1))


def _longest_first(numbers: npt.NDArray[Any], most: int, bits: int) -> npt.NDArray[Any]:
    """
    Returns rows of numbers of at most `most` by size, the greatest first, equal ones as they stand.

    A result is `(most - number) << bits | column`. NumPy sorts numbers that hold their place in a
    fifth of the time in which it finds their order.
    """
    keys = most - numbers
    keys <<= bits
    keys |= np.arange(numbers.shape[1], dtype=numbers.dtype)
    keys.sort(axis=1)
    return keys


def _lanes(sums: npt.NDArray[Any], bits: int) -> tuple[Array, npt.NDArray[Any]]:
    """
    Returns the CTA of each column of each bundle of rounds, and its load before.

    The heaviest column of a bundle goes to the CTA with the least load until then. Numbers below
    `1 << bits` are columns or CTAs.
    """
    bundles, ctas = len(sums), len(sums[0])
    mask, most = (1 << bits) - 1, int(sums.max())
    keys = _longest_first(sums, most, bits)
    heaviest = keys & mask
    added = (most << bits) - (keys - heaviest)
    loads = np.empty((bundles + 1, ctas), sums.dtype)
    loads[0] = np.arange(ctas)
    for before, after, more in zip(loads[:-1], loads[1:], added, strict=True):
        before.sort()
        np.add(before, more, after)
    at = heaviest + np.arange(0, bundles * ctas, ctas)[:, None]
    placed = np.empty(bundles * ctas, sums.dtype)
    placed[at] = loads[:-1]
    placed = placed.reshape(bundles, ctas)
    return (placed & mask).astype(np.int64), placed >> bits


def _cut(
    costs: Costs, tiles: Tiles, rest: Array, lengths: Array, lacking: Array, heads: int
) -> Cuts:
    """Returns the cuts of the line of the rest, where each CTA has what it lacks."""
    ends = lengths.cumsum()
    total = int(ends[-1]) if len(ends) else 0
    # Less than a piece costs beside its KV is no reason for one.
    near = costs.partial + max(costs.item)
    lacking[lacking < near] = 0
    asked = lacking.cumsum()
    # Scaled to what is left, so that all CTAs end alike.
    places = asked[:-1] * total
    places //= max(int(asked[-1]), 1)
    unit = ends.searchsorted(places, "right")
    if not total:
        return Cuts(unit, np.zeros(len(unit), bool), unit[:0], unit[:0], False)
    at = np.minimum(unit, len(rest) - 1)
    left = ends[at]
    left -= places
    offset = lengths[at]
    offset -= left
    item, granule = (
        values if isinstance(values, int) else values[rest[at] // heads]
        for values in (tiles.item_cost, tiles.granule_cost)
    )
    is_unit = unit < len(rest)
    unit += is_unit & (left <= near)
    inside = is_unit
    inside &= unit == at
    inside &= offset >= near + max(costs.granule)
    granules = (offset - item) // granule
    # A CTA that lacks nothing begins and ends at one cut, which splits once.
    again = unit[1:] == unit[:-1]
    again &= granules[1:] <= granules[:-1]
    again &= inside[:-1]
    inside[1:] &= ~again
    return Cuts(unit, inside, unit[inside], granules[inside], False)


def write_dealt(
    limits: PlanLimits, sections: Sections, tiles: Tiles, dealt: Dealt, whole: Int32Array
) -> Counts:
    """Writes the items of dealt units; `whole` are those that nothing splits, by unit."""
    cuts, rest = dealt.cuts, dealt.rest
    line_indptr = np.zeros(len(cuts.unit) + 2, np.int64)
    before = cuts.inside.cumsum(out=line_indptr[1:-1])
    before += cuts.unit
    pieces = np.bincount(cuts.split, minlength=len(rest)) + 1
    line = whole[rest.repeat(pieces)]
    line_indptr[-1] = len(line)
    # The items before the cuts; the next ones begin at them.
    ahead = before[cuts.inside] - 1
    begin = tiles.begin
    if not isinstance(begin, int):
        begin = begin[rest[cuts.split] // limits.num_kv_heads]
    at = cuts.granules * limits.granule + begin
    line[ahead, KV_END] = at
    line[ahead + 1, KV_BEGIN] = at
    parts = pieces > 1
    sizes = pieces[parts]
    ends = sizes.cumsum()
    merges, slots = len(sizes), int(ends[-1]) if len(sizes) else 0
    is_part = parts.repeat(pieces)
    line[is_part, SLOT] = np.arange(slots)
    merge = np.full(len(line), -1, np.int32)
    merge[is_part] = np.arange(merges).repeat(sizes)
    written, sections.pairs = sections.merges[:merges], 0
    written[:, 0], written[:, 1] = ends - sizes, sizes
    _interleave(sections, dealt, line_indptr, whole, line, merge)
    return Counts(len(dealt.order) + len(line), merges, slots)


def _interleave(
    sections: Sections,
    dealt: Dealt,
    line_indptr: Array,
    whole: Int32Array,
    line: Int32Array,
    merge: Int32Array,
) -> None:
    """Writes what each CTA was dealt, and then its part of the line."""
    total = len(dealt.order) + len(line)
    dealt_end = dealt.counts.cumsum()
    sections.cta_indptr[0] = 0
    np.add(dealt_end, line_indptr[1:], sections.cta_indptr[1:], casting="same_kind")
    place = np.repeat(dealt_end, line_indptr[1:] - line_indptr[:-1])
    place += np.arange(len(line))
    rows, is_whole = sections.rows[:total], sections.is_whole[:total]
    is_whole.fill(True)
    is_whole[place] = False
    rows[is_whole] = rows_of(whole).take(dealt.order)
    rows[place] = rows_of(line)
    sections.item_merge[:total].fill(-1)
    sections.item_merge[place] = merge
