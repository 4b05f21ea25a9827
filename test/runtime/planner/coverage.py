"""Checks that a plan does all of a batch's work once, by counting what each item covers."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tilewright.runtime.planner import KvBounds, PlanLimits, WorkPlan

Array = npt.NDArray[np.int64]


class Batch(NamedTuple):
    """A batch as its user sees it."""

    q_len: list[int]
    kv_len: list[int]
    bounds: KvBounds = KvBounds()
    ranges: list[tuple[int, int]] | None = None


class Tile(NamedTuple):
    """A query tile, and the begin and end of the KV that each query row in it sees, [n, 2]."""

    request: int
    first_row: int
    wanted: Array


def tiles_of(limits: PlanLimits, batch: Batch) -> list[Tile]:
    """Returns the query tiles in the batch's order, from the definitions alone."""
    tiles: list[Tile] = []
    for request, (q_len, kv_len) in enumerate(zip(batch.q_len, batch.kv_len, strict=True)):
        packed = q_len * limits.group
        fits = [rows for rows in limits.tile_rows if rows >= packed]
        height = fits[0] if fits else limits.tile_rows[-1]
        visible = _visible(batch.bounds, kv_len, kv_len - q_len + np.arange(q_len))
        for first in range(0, packed, height):
            end = min(first + height, packed)
            wanted = visible[first // limits.group : (end - 1) // limits.group + 1]
            if batch.ranges is not None:
                wanted = np.array([batch.ranges[len(tiles)]])
            tiles.append(Tile(request, first, wanted))
    return tiles


def _visible(bounds: KvBounds, kv_len: int, position: Array) -> Array:
    low, high = np.zeros_like(position), np.full_like(position, kv_len)
    for slope, offset in bounds.lower:
        low = np.maximum(low, slope * position + offset)
    for slope, offset in bounds.upper:
        high = np.minimum(high, slope * position + offset + 1)
    # A row that sees nothing needs nothing.
    return np.where((low < high)[:, None], np.stack([low, high], 1), 0)


def check_plan(limits: PlanLimits, plan: WorkPlan, batch: Batch) -> None:
    """Asserts all that a kernel relies on."""
    tiles = tiles_of(limits, batch)
    items = plan.items.astype(np.int64)
    _check_queues(limits, plan)
    _check_limits(limits, plan)
    owner = _tile_of_items(tiles, items)
    heads = items[:, 2]
    assert ((heads >= 0) & (heads < limits.num_kv_heads)).all()
    unit = owner * limits.num_kv_heads + heads
    _check_covered(limits, tiles, batch, items, unit)
    _check_merges(plan, len(tiles) * limits.num_kv_heads, unit)


def _check_queues(limits: PlanLimits, plan: WorkPlan) -> None:
    indptr = plan.cta_indptr
    assert len(indptr) == limits.num_ctas + 1
    assert indptr[0] == 0
    assert indptr[-1] == len(plan.items)
    assert (indptr[1:] >= indptr[:-1]).all()


def _check_limits(limits: PlanLimits, plan: WorkPlan) -> None:
    assert len(plan.items) <= limits.items
    assert len(plan.merges) <= limits.merges
    assert plan.slots <= limits.slots


def _tile_of_items(tiles: list[Tile], items: Array) -> Array:
    """Returns the number of each item's tile; all items must be of tiles."""
    width = int(items[:, 1].max(initial=0)) + 1
    places = np.array([tile.request * width + tile.first_row for tile in tiles], np.int64)
    wanted = items[:, 0] * width + items[:, 1]
    found = np.searchsorted(places, wanted)
    assert (places[np.minimum(found, len(places) - 1)] == wanted).all()
    return found


def _check_covered(
    limits: PlanLimits, tiles: list[Tile], batch: Batch, items: Array, unit: Array
) -> None:
    """No KV row of a unit is done twice, and none that a query row sees is left out."""
    kv_len = np.repeat([batch.kv_len[tile.request] for tile in tiles], limits.num_kv_heads)
    offset = np.zeros(len(kv_len) + 1, np.int64)
    np.cumsum(kv_len + 1, out=offset[1:])
    begin = items[:, 3]
    end = np.minimum(items[:, 4], kv_len[unit]) if len(unit) else begin
    begin = np.minimum(begin, end)
    assert (items[:, 3] >= 0).all()
    size = int(offset[-1]) + 1
    change = np.bincount(offset[unit] + begin, minlength=size)
    change -= np.bincount(offset[unit] + end, minlength=size)
    times = np.cumsum(change)
    assert times.max(initial=0) <= 1
    left_out = np.zeros(size + 1, np.int64)
    np.cumsum(times == 0, out=left_out[1:])
    if tiles:
        rows = np.repeat(np.arange(len(tiles)), [len(tile.wanted) for tile in tiles])
        place = offset[rows[:, None] * limits.num_kv_heads + np.arange(limits.num_kv_heads)]
        low, high = np.concatenate([tile.wanted for tile in tiles]).T[:, :, None]
        assert (left_out[place + high] == left_out[place + low]).all()


def _check_merges(plan: WorkPlan, units: int, unit: Array) -> None:
    """Each unit is written once: by its one item, or by the merge of all its slots in order."""
    slots, merges = plan.items[:, 5], plan.merges
    count = np.bincount(unit, minlength=units)
    assert (count >= 1).all()
    assert ((slots >= 0) == (count[unit] > 1)).all()
    assert ((plan.item_merge >= 0) == (slots >= 0)).all()
    split = np.flatnonzero(slots >= 0)
    in_order = split[np.argsort(slots[split])]
    assert (slots[in_order] == np.arange(plan.slots)).all()
    assert len(split) == plan.slots
    # The slots of the merges are side by side, from 0 on, in some order of the merges.
    by_slot = merges[np.argsort(merges[:, 0])]
    ends = np.cumsum(by_slot[:, 1])
    assert (by_slot[:, 0] == ends - by_slot[:, 1]).all()
    assert ends.max(initial=0) == plan.slots
    assert (by_slot[:, 1] >= 2).all()
    own = merges[plan.item_merge[in_order]]
    number = slots[in_order] - own[:, 0]
    assert ((number >= 0) & (number < own[:, 1])).all()
    # Items of one merge are of one unit, in the order of KV.
    first = in_order[number == 0][np.cumsum(number == 0) - 1]
    assert (unit[in_order] == unit[first]).all()
    follows = number[1:] > 0
    begin, end = plan.items[in_order, 3], plan.items[in_order, 4]
    assert (begin[1:][follows] >= end[:-1][follows]).all()
