"""Writing plans: work items in the order of the CTAs, and the merges of split query tiles."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .limits import ITEM_FIELDS, MERGE_FIELDS, PlanLayout, PlanLimits
from .line import Cuts
from .pieces import Assignment, Pieces
from .tiles import OPEN_END, Array, Tiles

Int32Array = npt.NDArray[np.int32]
REQUEST, FIRST_ROW, KV_HEAD, KV_BEGIN, KV_END, SLOT = range(ITEM_FIELDS)


class Counts(NamedTuple):
    """How much of a plan's sections is used."""

    items: int
    merges: int
    slots: int


class Sections(NamedTuple):
    """The sections of a plan's buffer, as arrays of their full size."""

    cta_indptr: Int32Array
    merges: Int32Array
    item_merge: Int32Array
    items: Int32Array

    @classmethod
    def of(cls, limits: PlanLimits, layout: PlanLayout, buffer: Int32Array) -> "Sections":
        """Returns the sections in a buffer."""
        merges = buffer[layout.merges : layout.merges + limits.merges * MERGE_FIELDS]
        items = buffer[layout.items : layout.items + limits.items * ITEM_FIELDS]
        return cls(
            buffer[layout.cta_indptr : layout.cta_indptr + limits.num_ctas + 1],
            merges.reshape(-1, MERGE_FIELDS),
            buffer[layout.item_merge : layout.item_merge + limits.items],
            items.reshape(-1, ITEM_FIELDS),
        )


def whole_items(tiles: Tiles, heads: int) -> Int32Array:
    """Returns the items of tiles that nothing splits: [tiles * heads, 6], heads side by side."""
    items = np.empty((len(tiles.granules), heads, ITEM_FIELDS), np.int32)
    for field, values in (
        (REQUEST, tiles.request),
        (FIRST_ROW, tiles.first_row),
        (KV_BEGIN, tiles.begin),
        (KV_END, tiles.stop),
    ):
        items[:, :, field] = values if isinstance(values, int) else values[:, None]
    items[:, :, KV_HEAD] = np.arange(heads)
    items[:, :, SLOT] = -1
    return items.reshape(-1, ITEM_FIELDS)


def decode_items(requests: int, heads: int) -> Int32Array:
    """Returns the items of a decode batch that nothing splits; they are the same for all."""
    every = np.arange(requests)
    zeros = np.zeros(requests, np.int64)
    return whole_items(Tiles(every, zeros, 0, OPEN_END, zeros, 0, 0), heads)


def write_line(
    limits: PlanLimits, sections: Sections, tiles: Tiles, cuts: Cuts, whole: Int32Array
) -> Counts:
    """Writes the items of equal shares; `whole` are those of the tiles that nothing splits."""
    split = cuts.split
    before = np.add.accumulate(cuts.inside.astype(np.int64))
    before += cuts.unit
    total = len(whole) + len(split)
    indptr = sections.cta_indptr
    indptr[0], indptr[-1] = 0, total
    indptr[1:-1] = before
    items, item_merge = sections.items[:total], sections.item_merge[:total]
    item_merge.fill(-1)
    if not len(split):
        items[:] = whole
        return Counts(total, 0, 0)
    unit = cuts.unit[split]
    pieces = np.bincount(unit, minlength=len(whole))
    pieces += 1
    whole.take(np.arange(len(whole)).repeat(pieces), axis=0, out=items, mode="clip")
    at = cuts.granules * limits.granule
    if not isinstance(tiles.begin, int):
        at += tiles.begin[unit // limits.num_kv_heads]
    # NumPy scatters numbers of the array's own type several times faster.
    at = at.astype(np.int32)
    # The items before the cuts; the next ones begin at them.
    ahead = before[split]
    ahead -= 1
    items[:, KV_END][ahead] = at
    items[1:, KV_BEGIN][ahead] = at
    merges = _write_slots(sections, unit, ahead, items[:, SLOT], item_merge)
    return Counts(total, merges, len(split) + merges)


def _write_slots(
    sections: Sections, unit: Array, ahead: Array, slots: Int32Array, item_merge: Int32Array
) -> int:
    """
    Writes the slots of the pieces of split units, in their order, and the merges.

    `ahead` are the items before the cuts. Returns the number of merges.
    """
    merge, first = _opened(unit)
    # The slot of the item before the cut; that of the first cut of a unit is its first.
    slot = np.arange(len(unit), dtype=np.int32)
    slot += merge
    first_slot, first_merge, before_unit = slot, merge, ahead
    if first is not None:
        first_slot, first_merge, before_unit = slot[first], merge[first], ahead[first]
    slots[before_unit] = first_slot
    slots[1:][ahead] = slot + 1
    item_merge[before_unit] = first_merge
    item_merge[1:][ahead] = merge
    merges = len(first_slot)
    written = sections.merges[:merges]
    written[:, 0] = first_slot
    written[:, 1] = 2
    if first is not None:
        written[:, 1] += np.diff(first, append=len(unit)).astype(np.int32)
        written[:, 1] -= 1
    return merges


def _opened(unit: Array) -> tuple[Int32Array, Array | None]:
    """
    Returns the merge of each cut, and which cuts are the first of their unit.

    The latter is None where all are, as for units shorter than the shares.
    """
    opens = unit[1:] != unit[:-1]
    if opens.all():
        return np.arange(len(unit), dtype=np.int32), None
    opens = np.concatenate(([True], opens))
    merge = np.add.accumulate(opens.astype(np.int32))
    merge -= 1
    return merge, opens.nonzero()[0]


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
    )
    items = whole_items(chosen, heads)
    slots, merge, counts = _number_slots(sections, pieces, heads)
    items[:, SLOT] = slots.reshape(-1)
    order = assignment.order
    sections.items[: len(order)] = items[order]
    sections.item_merge[: len(order)] = merge.reshape(-1)[order]
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
    sections.merges[:merges, 0] = first[opens].reshape(-1)
    sections.merges[:merges, 1] = np.repeat(pieces.parts[opens], heads)
    return slots, merge, Counts(len(pieces.tile) * heads, merges, used)
