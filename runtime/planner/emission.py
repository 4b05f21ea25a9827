"""Writing plans: work items in the order of the CTAs, and the merges of split query tiles."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .limits import ITEM_FIELDS, MERGE_FIELDS, PlanLayout, PlanLimits
from .line import Cuts
from .pieces import Assignment, Pieces
from .tiles import OPEN_END, Array, Tiles

Int32Array = npt.NDArray[np.int32]
Rows = npt.NDArray[np.void]
REQUEST, FIRST_ROW, KV_HEAD, KV_BEGIN, KV_END, SLOT = range(ITEM_FIELDS)
_ROW = np.dtype((np.void, 4 * ITEM_FIELDS))


class Counts(NamedTuple):
    """How much of a plan's sections is used."""

    items: int
    merges: int
    slots: int


class _OfCuts(NamedTuple):
    """
    What each of n cuts that split units writes.

    `number` counts them. Where no unit has two, `merge` are their merges, `first` and `second` the
    slots of these, and `merges` [n, 2] the merges as a plan has them. `begun` is memory for the
    items that begin at the cuts, `begin` and `slot` two of its columns.
    """

    number: Array
    merge: Int32Array
    first: Int32Array
    second: Int32Array
    merges: Int32Array
    begun: Rows
    begin: Int32Array
    slot: Int32Array

    @classmethod
    def of(cls, count: int) -> "_OfCuts":
        number = np.arange(count)
        merge = number.astype(np.int32)
        merges = np.stack([2 * merge, np.full_like(merge, 2)], 1)
        begun = np.empty((count, ITEM_FIELDS), np.int32)
        columns = begun[:, KV_BEGIN], begun[:, SLOT]
        return cls(number, merge, 2 * merge, 2 * merge + 1, merges, rows_of(begun), *columns)

    def leading(self, count: int) -> "_OfCuts":
        """Returns views of the first entries."""
        return _OfCuts(
            self.number[:count],
            self.merge[:count],
            self.first[:count],
            self.second[:count],
            self.merges[:count],
            self.begun[:count],
            self.begin[:count],
            self.slot[:count],
        )


class Sections:
    """
    The sections of a plan's buffer, as arrays of their full size.

    Beside them stand what a plan writes with: items as `rows` of one number each, which NumPy
    moves several at a time, columns of the items, and memory for the items that begin at cuts.
    """

    def __init__(
        self,
        granule: int,
        cta_indptr: Int32Array,
        merges: Int32Array,
        item_merge: Int32Array,
        items: Int32Array,
    ) -> None:
        self.cta_indptr, self.merges = cta_indptr, merges
        self.item_merge, self.items = item_merge, items
        self.cuts, self.next_merge = cta_indptr[1:-1], item_merge[1:]
        self.rows, self.ends, self.slots = rows_of(items), items[:, KV_END], items[:, SLOT]
        self.next_rows, self.is_whole = self.rows[1:], np.ones(len(items), np.bool_)
        self.granule = np.array(granule)
        # So many merges, the first ones, are known to be pairs as `_OfCuts.merges` has them.
        self.pairs = 0
        self._of_cuts = {len(self.cuts): _OfCuts.of(len(self.cuts))}

    def of_cuts(self, count: int) -> _OfCuts:
        """Returns the first entries of what is kept for the cuts."""
        if count not in self._of_cuts:
            self._of_cuts[count] = self._of_cuts[len(self.cuts)].leading(count)
        return self._of_cuts[count]

    @classmethod
    def of(cls, limits: PlanLimits, layout: PlanLayout, buffer: Int32Array) -> "Sections":
        """Returns the sections in a buffer."""
        merges = buffer[layout.merges : layout.merges + limits.merges * MERGE_FIELDS]
        items = buffer[layout.items : layout.items + limits.items * ITEM_FIELDS]
        return cls(
            limits.granule,
            buffer[layout.cta_indptr : layout.cta_indptr + limits.num_ctas + 1],
            merges.reshape(-1, MERGE_FIELDS),
            buffer[layout.item_merge : layout.item_merge + limits.items],
            items.reshape(-1, ITEM_FIELDS),
        )


def rows_of(items: Int32Array) -> Rows:
    """Returns items [n, 6] as n numbers of 24 bytes."""
    return items.reshape(-1).view(_ROW)


def whole_items(tiles: Tiles, heads: int) -> Int32Array:
    """Returns the items of tiles that nothing splits: [tiles * heads, 6], heads side by side."""
    count = len(tiles.granules)
    of_head = np.empty((count, ITEM_FIELDS), np.int32)
    of_head[:, REQUEST], of_head[:, FIRST_ROW] = tiles.request, tiles.first_row
    of_head[:, KV_BEGIN], of_head[:, KV_END] = tiles.begin, tiles.stop
    of_head[:, SLOT] = -1
    items = np.empty((count * heads, ITEM_FIELDS), np.int32)
    rows_of(items).reshape(count, heads)[...] = rows_of(of_head)[:, None]
    items.reshape(count, heads, ITEM_FIELDS)[:, :, KV_HEAD] = np.arange(heads)
    return items


def whole_rows(tiles: Tiles, heads: int) -> Rows:
    """Returns the items of tiles that nothing splits, [tiles * heads]."""
    return rows_of(whole_items(tiles, heads))


def decode_rows(requests: int, heads: int) -> Rows:
    """Returns the items of a decode batch that nothing splits; they are the same for all."""
    every = np.arange(requests)
    zeros = np.zeros(requests, np.int64)
    return whole_rows(Tiles(every, zeros, 0, OPEN_END, zeros, 0, 0, 0), heads)


def write_line(
    limits: PlanLimits, sections: Sections, begin: Array | int, cuts: Cuts, whole: Rows
) -> Counts:
    """
    Writes the items of shares.

    `begin` is the first KV row of each tile, or of all; `whole` are the items that nothing splits.
    """
    unit, units, count = cuts.split, len(whole), len(cuts.split)
    total = units + count
    indptr, rows, item_merge = sections.cta_indptr, sections.rows, sections.item_merge
    indptr[0], indptr[-1] = 0, total
    item_merge[:total].fill(-1)
    if not count:
        sections.cuts[...] = cuts.unit
        rows[:units] = whole
        return Counts(units, 0, 0)
    before = np.add.accumulate(cuts.inside.astype(np.int64))
    before += cuts.unit
    sections.cuts[...] = before
    of_cuts = sections.of_cuts(count)
    merge, first, second, merges = _numbered_slots(sections, of_cuts, unit, cuts.apart)
    # The items before the cuts; the next ones begin at them.
    ahead = unit + of_cuts.number
    is_whole = sections.is_whole[:total]
    is_whole.fill(True)
    is_whole[1:][ahead] = False
    rows[:total][is_whole] = whole
    begun, at = of_cuts.begun, of_cuts.begin
    whole.take(unit, None, begun, "clip")
    rows_before = cuts.granules * sections.granule
    if not isinstance(begin, int):
        rows_before += begin[unit // limits.num_kv_heads]
    at[...], of_cuts.slot[...] = rows_before, second
    sections.next_rows[ahead] = begun
    sections.ends[ahead], sections.slots[ahead] = at, first
    item_merge[ahead] = sections.next_merge[ahead] = merge
    return Counts(total, merges, count + merges)


def _numbered_slots(
    sections: Sections, of_cuts: _OfCuts, unit: Array, apart: bool
) -> tuple[Int32Array, Int32Array, Int32Array, int]:
    """
    Numbers the slots of the pieces of split units, in their order, and writes the merges.

    Returns for each cut the merge that it opens or goes on and the slots of the items before and
    behind it, and the number of merges.
    """
    count = len(unit)
    if apart:
        if sections.pairs < count:
            sections.merges[:count], sections.pairs = of_cuts.merges, count
        return of_cuts.merge, of_cuts.first, of_cuts.second, count
    opens = np.empty(count, np.int32)
    opens[0] = 0
    np.not_equal(unit[1:], unit[:-1], opens[1:], casting="unsafe")
    merge = np.add.accumulate(opens)
    slots = of_cuts.merge + merge
    opens[0] = 1
    first = opens.nonzero()[0]
    merges = len(first)
    written, sections.pairs = sections.merges[:merges], 0
    written[:, 0] = slots[first]
    sizes = written[:, 1]
    sizes[-1] = count + 1 - first[-1]
    np.subtract(first[1:], first[:-1], sizes[:-1], casting="same_kind")
    sizes[:-1] += 1
    return merge, slots, slots + 1, merges


def write_pieces(
    limits: PlanLimits, sections: Sections, tiles: Tiles, pieces: Pieces, assignment: Assignment
) -> Counts:
    """Writes the items of pieces of query tiles that were assigned to CTAs."""
    heads = limits.num_kv_heads
    owner = pieces.tile
    begin, end = pieces.first * limits.granule, pieces.end * limits.granule
    last = pieces.number == pieces.parts - 1
    stop = tiles.stop if isinstance(tiles.stop, int) else tiles.stop[owner]
    chosen = Tiles(
        tiles.request[owner],
        tiles.first_row[owner],
        begin,
        np.where(last, stop, end),
        pieces.granules,
        0,
        0,
        0,
    )
    items = whole_items(chosen, heads)
    slots, merge, counts = _number_slots(sections, pieces, heads)
    items[:, SLOT] = slots.reshape(-1)
    order = assignment.order
    rows_of(items).take(order, None, sections.rows[: len(order)], "clip")
    sections.item_merge[: len(order)] = merge.reshape(-1).take(order)
    sections.cta_indptr[:] = assignment.cta_indptr
    return counts


def _number_slots(sections: Sections, pieces: Pieces, heads: int) -> tuple[Array, Array, Counts]:
    """Returns the slot and the merge of each piece and head, -1 for none; writes the merges."""
    split = pieces.parts > 1
    opens = split & (pieces.number == 0)
    rank = np.cumsum(opens) - 1
    head = np.arange(heads)
    merge = np.where(split[:, None], rank[:, None] * heads + head, -1)
    # Before a tile come the slots of the split tiles before it, of all heads.
    earlier = np.cumsum(split) - split - pieces.number
    first = earlier[:, None] * heads + head * pieces.parts[:, None]
    slots = np.where(split[:, None], first + pieces.number[:, None], -1)
    merges, used = int(opens.sum()) * heads, int(split.sum()) * heads
    sections.pairs = 0
    sections.merges[:merges, 0] = first[opens].reshape(-1)
    sections.merges[:merges, 1] = np.repeat(pieces.parts[opens], heads)
    return slots, merge, Counts(len(pieces.tile) * heads, merges, used)
