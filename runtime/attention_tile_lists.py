"""
Plans whose items have lists of KV tiles: block masks, of which empty tiles are never read.

The list of a query tile holds the KV tiles that need the mask, then those that need none. A split
cuts the list, as it cuts the KV rows of other plans.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .attention_plan import Int32Array, PlanArrays, batch_tables
from .attention_planner import BatchPlanner, Sharing, bounds_of, limits_of, work_tables
from .block_mask import DEFAULT_BUDGET, BlockMask, Grid, MaskProgram, TileRuns, derive
from .contract import AttentionContract
from .errors import ArgumentError
from .page_table import PageTable
from .planner import PlanLimits, visible_rows

Int64Array = npt.NDArray[np.int64]


class TileLists(NamedTuple):
    """
    The KV tiles of each query tile of a batch, request by request.

    Query tile t has `tiles[indptr[t]:indptr[t + 1]]`, the first `masked[t]` of which need the mask.
    """

    indptr: Int64Array
    masked: Int64Array
    tiles: Int32Array


def plan_tile_lists(
    planner: BatchPlanner,
    qo_indptr: Int32Array,
    table: PageTable,
    sharing: Sharing,
    mask: BlockMask | None,
) -> PlanArrays:
    """
    Returns the plan of a batch whose tables were checked; raises ArgumentError.

    Without a block mask a query tile has all KV tiles that the bounds of the kernel's mask leave.
    """
    section, rows = planner.section, int(qo_indptr[-1])
    limits = limits_of(section, rows, table.row_counts, sharing)
    if mask is None:
        lists = _lists_of_bounds(section, limits, qo_indptr, table.row_counts)
    else:
        _check_mask(section, mask, qo_indptr, table.row_counts)
        lists = _lists_of_runs(mask.partial, mask.full)
    counts = np.diff(lists.indptr)
    longest = _power_of_two(int(counts.max(initial=1)))
    limits = list_limits(limits, sharing, longest)
    with planner.planners.planner(limits) as of_lists:
        reach = np.full(len(qo_indptr) - 1, longest, np.int64)
        work = of_lists.plan(qo_indptr, reach, kv_ranges=(np.zeros_like(counts), counts))
        tables, slots = work_tables(work), work.slots
    tables["items"] = _items(limits, qo_indptr, lists, tables["items"])
    # A kernel has no empty arrays.
    tables["kv_tiles"] = lists.tiles if lists.tiles.size else np.zeros(1, np.int32)
    tables |= batch_tables(qo_indptr, table)
    return PlanArrays(tables, rows, table.largest_page, slots)


def list_limits(limits: PlanLimits, sharing: Sharing, longest: int) -> PlanLimits:
    """Returns the limits of a planner that counts in KV tiles, `longest` in a list at most."""
    chunk = max(sharing.chunk // limits.kv_tile, 1)
    return replace(limits, kv_len=longest, kv_total=0, kv_tile=1, granule=1, chunk=chunk)


def derived_mask(
    program: MaskProgram,
    section: AttentionContract,
    qo_indptr: Int32Array,
    table: PageTable,
    parameters: Mapping[str, object] | None,
) -> BlockMask | None:
    """
    Returns the block mask of a batch for a kernel; raises ArgumentError.

    None where parameters are missing, or the tiles are not the same for all heads of a tile.
    """
    wanted = {*program.scalars, *program.tensors}
    by_head = any(instruction.op == "h" for instruction in program.instructions)
    if by_head or section.tile_rows % section.group or (wanted and parameters is None):
        return None
    q_len, kv_len = np.diff(qo_indptr).astype(np.int64), table.row_counts
    heads = np.zeros(len(q_len), np.int64)
    block = section.tile_rows // section.group, section.kv_tile
    grid = Grid(np.arange(len(q_len)), heads, q_len, kv_len, kv_len - q_len, block)
    given = {name: value for name, value in (parameters or {}).items() if name in wanted}
    return derive(program, grid, given, DEFAULT_BUDGET)


def _power_of_two(count: int) -> int:
    return 1 << max(count - 1, 0).bit_length()


def _items(
    limits: PlanLimits, qo_indptr: Int32Array, lists: TileLists, items: Int32Array
) -> Int32Array:
    """Returns the items with entries of the lists, and the first that needs no mask."""
    request, first_row = items[:, 0], items[:, 1]
    heights = np.asarray(limits.tile_rows)
    packed = np.diff(qo_indptr).astype(np.int64) * limits.group
    height = heights[np.searchsorted(heights[:-1], packed)]
    counts = -(-packed // height)
    tile = (np.cumsum(counts) - counts)[request] + first_row // height[request]
    start = lists.indptr[tile]
    begin, end = start + items[:, 3], start + items[:, 4]
    full = np.clip(start + lists.masked[tile], begin, end)
    return np.column_stack((items[:, :3], begin, end, items[:, 5], full)).astype(np.int32)


def _lists_of_bounds(
    section: AttentionContract, limits: PlanLimits, qo_indptr: Int32Array, lengths: Int64Array
) -> TileLists:
    heights = np.asarray(limits.tile_rows)
    q_len = np.diff(qo_indptr).astype(np.int64)
    packed = q_len * limits.group
    height = heights[np.searchsorted(heights[:-1], packed)]
    counts = -(-packed // height)
    request = np.repeat(np.arange(len(q_len)), counts)
    number = np.arange(len(request)) - (np.cumsum(counts) - counts)[request]
    first_row = number * height[request]
    begin, end = visible_rows(limits, bounds_of(section), q_len, lengths, request, first_row)
    start, stop = begin // section.kv_tile, -(-end // section.kv_tile)
    stop = np.where(end > begin, stop, start)
    runs = TileRuns(np.arange(len(start) + 1), start.astype(np.int32), stop.astype(np.int32))
    none = np.zeros(0, np.int32)
    return _lists_of_runs(runs, TileRuns(np.zeros(len(start) + 1, np.int64), none, none))


def _lists_of_runs(masked: TileRuns, full: TileRuns) -> TileLists:
    indptr = masked.tile_indptr + full.tile_indptr
    if int(indptr[-1]) > 2**31 - 1:
        expected = f"at most {2**31 - 1} KV tiles of all query tiles"
        raise ArgumentError("block_mask", expected, str(int(indptr[-1])))
    tiles = np.empty(int(indptr[-1]), np.int32)
    # The entries of one kind are moved by those of the other kind before them.
    for runs, ahead in ((masked, full.tile_indptr[:-1]), (full, masked.tile_indptr[1:])):
        tiles[np.arange(len(runs.tiles)) + np.repeat(ahead, runs.counts)] = runs.tiles
    return TileLists(indptr, masked.counts, tiles)


def _check_mask(
    section: AttentionContract, mask: BlockMask, qo_indptr: Int32Array, lengths: Int64Array
) -> None:
    """Refuses a block mask of other tiles, or of another batch, than the kernel's."""
    grid, group = mask.grid, section.group
    if section.tile_rows % group:
        expected = f"a group that divides the {section.tile_rows} rows of a query tile"
        raise ArgumentError("block_mask", expected, str(group))
    block = section.tile_rows // group, section.kv_tile
    if grid.block != block:
        raise ArgumentError("block_mask", f"tiles of {block}, the kernel's", str(grid.block))
    if (grid.h != grid.h[:1]).any() or len(grid.q_len) != len(lengths):
        got = f"{len(grid.q_len)} requests times heads"
        raise ArgumentError("block_mask", f"{len(lengths)} requests, one for all heads", got)
    q_len = np.diff(qo_indptr)
    for name, own, given in (
        ("queries", grid.q_len, q_len),
        ("keys", grid.kv_len, lengths),
        ("as the position of the first query", grid.q_first, lengths - q_len),
    ):
        wrong = own != given
        if wrong.any():
            at = int(np.argmax(wrong))
            expected = f"{int(given[at])} {name} in request {at}"
            raise ArgumentError("block_mask", expected, str(int(own[at])))
