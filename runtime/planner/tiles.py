"""
The query tiles of a batch, and the KV rows that each of them has to see.

Packed row r of a request is query row `r // group` for head `r % group` of one KV head. The last
query row stands at the last KV row, so query row i has position `kv_len - q_len + i`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import ArgumentError
from .cost import Costs
from .limits import PlanLimits

Array = npt.NDArray[np.int64]
# As the end of an item's KV: all that the request has, whatever its length is when the kernel runs.
OPEN_END = 2**31 - 1


class LinearBound(NamedTuple):
    """The KV row `slope * position + offset`, for the position of a query row; slope -1, 0 or 1."""

    slope: int
    offset: int


@dataclass(frozen=True)
class KvBounds:
    """
    What a mask lets each query row see: KV rows from all `lower` to all `upper`, both included.

    `KvBounds()` is no mask, `KvBounds.causal()` the causal one, with a window of that many rows
    before the query row's own where `window` is given.
    """

    lower: tuple[LinearBound, ...] = ()
    upper: tuple[LinearBound, ...] = ()

    def __post_init__(self) -> None:
        for bound in (*self.lower, *self.upper):
            if bound.slope not in (-1, 0, 1) or abs(bound.offset) > OPEN_END:
                raise ArgumentError("bounds", "slopes of -1, 0, 1 and int32 offsets", str(bound))

    @classmethod
    def causal(cls, window: int | None = None) -> "KvBounds":
        """Returns the bounds of causal attention, or of causal attention within a window."""
        lower = () if window is None else (LinearBound(1, -window),)
        return cls(lower, (LinearBound(1, 0),))


class Tiles(NamedTuple):
    """
    Query tiles, one entry each, int64.

    `granules` is the number of granules from `begin`, a multiple of the granule, to the end; `stop`
    is the end as an item says it, `OPEN_END` for all KV rows. `item_cost` and `granule_cost` are
    numbers, or one for each tile where heights differ. No tile has more granules than `longest`.
    """

    request: Array
    first_row: Array
    begin: Array | int
    stop: Array | int
    granules: Array
    item_cost: Array | int
    granule_cost: Array | int
    longest: int


def decode_height(limits: PlanLimits) -> int:
    """Returns which of the tile heights holds the heads of one query row."""
    return sum(rows < limits.group for rows in limits.tile_rows[:-1])


def decode_tiles(limits: PlanLimits, costs: Costs, kv_len: Array, longest: int) -> Tiles:
    """
    Returns the tiles of requests of one query row that see all their KV, kv_len[B].

    `longest` is the largest of these. The heads of a query row must fit into one tile.
    """
    granules = -(-kv_len // limits.granule)
    height, most = decode_height(limits), -(-longest // limits.granule)
    cost = costs.item[height], costs.granule[height]
    request, first_row = np.arange(len(kv_len)), np.zeros(len(kv_len), np.int64)
    return Tiles(request, first_row, 0, OPEN_END, granules, *cost, most)


def query_tiles(
    limits: PlanLimits,
    costs: Costs,
    q_len: Array,
    kv_len: Array,
    bounds: KvBounds,
    ranges: tuple[Array, Array] | None = None,
) -> Tiles:
    """
    Returns the tiles of a batch, those of the highest kind first, else in the batch's order.

    `ranges` are the begin and end of the KV of each query tile, in the batch's order; they take
    the place of `bounds`.
    """
    packed = q_len * limits.group
    heights = np.asarray(limits.tile_rows)
    kind = heights[:-1].searchsorted(packed)
    rows = heights[kind]
    request, first_row = _numbered(packed, rows)
    own = kv_len[request]
    if ranges is None:
        last_row = np.minimum(first_row + rows[request], packed[request])
        before = own - q_len[request]
        begin, end = _visible(limits.group, bounds, own, before, (first_row, last_row - 1))
        stop = end.copy()
        stop[end == own] = OPEN_END
    else:
        begin, end = _checked_ranges(ranges, own)
        stop = end.copy()
    begin -= begin % limits.granule
    granules = end
    granules -= begin
    granules += limits.granule - 1
    granules //= limits.granule
    longest = int(granules.max()) if len(granules) else 0
    tiles = Tiles(request, first_row, begin, stop, granules, 0, 0, longest)
    if kind.size and (kind[0] != kind).any():
        return _highest_first(tiles, costs, kind[request])
    one = int(kind[0]) if kind.size else 0
    return tiles._replace(item_cost=costs.item[one], granule_cost=costs.granule[one])


def _numbered(packed: Array, rows: Array) -> tuple[Array, Array]:
    """Returns the request and the first row of the tiles of requests, of so many rows each."""
    counts = packed + rows
    counts -= 1
    counts //= rows
    request = np.arange(len(packed)).repeat(counts)
    first_row = np.arange(len(request))
    first_row -= (counts.cumsum() - counts)[request]
    first_row *= rows[request]
    return request, first_row


def _highest_first(tiles: Tiles, costs: Costs, kind: Array) -> Tiles:
    """Returns tiles of several heights, the highest first."""
    order = (-kind).argsort(kind="stable")
    kind = kind[order]
    item_cost, granule_cost = np.asarray(costs.item)[kind], np.asarray(costs.granule)[kind]
    request, first, begin, stop, granules = (np.asarray(column)[order] for column in tiles[:5])
    costs_of = (item_cost, granule_cost)
    return Tiles(request, first, begin, stop, granules, *costs_of, tiles.longest)


def visible_rows(
    limits: PlanLimits, bounds: KvBounds, q_len: Array, kv_len: Array, request: Array, first: Array
) -> tuple[Array, Array]:
    """Returns the first and the past-the-end KV row that any row of a tile sees."""
    heights = np.asarray(limits.tile_rows)
    packed = q_len * limits.group
    rows = heights[np.searchsorted(heights[:-1], packed)]
    last = np.minimum(first + rows[request], packed[request]) - 1
    own = kv_len[request]
    return _visible(limits.group, bounds, own, own - q_len[request], (first, last))


def _visible(
    group: int, bounds: KvBounds, kv_len: Array, before: Array, rows: tuple[Array, Array]
) -> tuple[Array, Array]:
    """Returns what tiles from one packed row to another see, which have so many rows before."""
    lower, upper = np.zeros(len(kv_len), np.int64), kv_len
    for slope, offset in bounds.lower:
        lower = np.maximum(lower, _bound(slope, offset, group, before, rows[slope < 0]))
    for slope, offset in bounds.upper:
        upper = np.minimum(upper, _bound(slope, offset + 1, group, before, rows[slope > 0]))
    upper = np.maximum(upper, 0)
    return np.minimum(lower, upper), upper


def _bound(slope: int, offset: int, group: int, before: Array, row: Array) -> Array | int:
    """Returns a bound at the positions of packed rows."""
    if not slope:
        return offset
    position = row // group
    position += before
    if slope < 0:
        np.negative(position, position)
    position += offset
    return position


def _checked_ranges(ranges: tuple[Array, Array], kv_len: Array) -> tuple[Array, Array]:
    begin, end = ranges
    for name, values in (("kv_begin", begin), ("kv_end", end)):
        if len(values) != len(kv_len):
            expected = f"{len(kv_len)} entries, one a query tile"
            raise ArgumentError(name, expected, str(len(values)))
    wrong = (begin < 0) | (begin > end) | (end > kv_len)
    if wrong.any():
        at = int(np.argmax(wrong))
        expected = f"0 <= begin <= end <= {int(kv_len[at])} at [{at}]"
        raise ArgumentError("kv_begin", expected, f"{int(begin[at])} and {int(end[at])}")
    return begin.copy(), end.copy()
