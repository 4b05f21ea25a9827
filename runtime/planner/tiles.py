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
    kind = np.searchsorted(heights[:-1], packed)
    counts = -(-packed // heights[kind])
    request = np.repeat(np.arange(len(q_len)), counts)
    firsts = np.cumsum(counts) - counts
    first_row = (np.arange(len(request)) - firsts[request]) * heights[kind[request]]
    if ranges is None:
        begin, end = visible_rows(limits, bounds, q_len, kv_len, request, first_row)
    else:
        begin, end = _checked_ranges(ranges, kv_len[request])
    open_ended = end == kv_len[request] if ranges is None else np.zeros(len(request), bool)
    begin -= begin % limits.granule
    granules = np.maximum(-(-(end - begin) // limits.granule), 0)
    stop = np.where(open_ended, OPEN_END, np.maximum(begin, end))
    kind = kind[request]
    tiles = Tiles(request, first_row, begin, stop, granules, 0, 0, int(granules.max(initial=0)))
    if kind.size and (kind[0] != kind).any():
        order = np.argsort(-kind, kind="stable")
        kind = kind[order]
        tiles = Tiles(*(column[order] for column in tiles[:5]), 0, 0, tiles.longest)  # pyright: ignore
        item_cost, granule_cost = np.asarray(costs.item)[kind], np.asarray(costs.granule)[kind]
        return tiles._replace(item_cost=item_cost, granule_cost=granule_cost)
    one = int(kind[0]) if kind.size else 0
    return tiles._replace(item_cost=costs.item[one], granule_cost=costs.granule[one])


def visible_rows(
    limits: PlanLimits, bounds: KvBounds, q_len: Array, kv_len: Array, request: Array, first: Array
) -> tuple[Array, Array]:
    """Returns the first and the past-the-end KV row that any row of a tile sees."""
    heights = np.asarray(limits.tile_rows)
    packed = q_len * limits.group
    rows = heights[np.searchsorted(heights[:-1], packed)]
    last = np.minimum(first + rows[request], packed[request]) - 1
    before = (kv_len - q_len)[request]
    positions = before + first // limits.group, before + last // limits.group
    lower = np.zeros(len(request), np.int64)
    upper = kv_len[request]
    for slope, offset in bounds.lower:
        lower = np.maximum(lower, slope * positions[slope < 0] + offset)
    for slope, offset in bounds.upper:
        upper = np.minimum(upper, slope * positions[slope > 0] + offset + 1)
    upper = np.maximum(upper, 0)
    return np.minimum(lower, upper), upper


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
