"""Plans in which requests that share a prefix read it once, as a cascade's kernel takes them."""

import numpy as np
import numpy.typing as npt

from .attention_plan import Int32Array, PlanArrays, batch_tables
from .attention_planner import BatchPlanner, Sharing, limits_of
from .contract import AttentionContract
from .errors import ArgumentError
from .page_table import PageTable
from .planner import CascadePlan, Prefixes, plan_cascade, sharable_pages, shared_prefixes

# A shorter prefix costs its items more than sharing saves.
_LEAST_TILES = 2


def find_prefixes(
    section: AttentionContract, qo_indptr: Int32Array, table: PageTable, levels: int | None = None
) -> Prefixes:
    """Returns the prefixes that requests share in a page table, and that are worth an item."""
    q_len = np.diff(qo_indptr)
    sharable = sharable_pages(table.row_counts, q_len, table.page_size)
    # Rows of one query tile share; of more, each tile reads the prefix for itself.
    sharable[q_len * section.group > section.tile_rows] = 0
    least = max(_LEAST_TILES * section.kv_tile // table.page_size, 1)
    return shared_prefixes(
        table.kv_indptr, table.kv_indices, sharable, min_pages=least, max_levels=levels
    )


def plan_shared(
    planner: BatchPlanner,
    qo_indptr: Int32Array,
    table: PageTable,
    sharing: Sharing,
    prefixes: Prefixes | None,
    levels: int | None = None,
) -> PlanArrays:
    """
    Returns the plan of a batch whose tables were checked; raises ArgumentError.

    Prefixes have at most `levels`: those that are given are refused, others are shared less.
    """
    section, lengths, rows = planner.section, table.row_counts, int(qo_indptr[-1])
    if sharing.batch_invariant:
        expected = "False where requests share prefixes: they depend on the batch"
        raise ArgumentError("batch_invariant", expected, "True")
    if prefixes is None:
        prefixes = find_prefixes(section, qo_indptr, table, levels)
    elif levels is not None and prefixes.levels > levels:
        expected = f"at most {levels} levels of prefixes, as declared"
        raise ArgumentError("prefixes", expected, str(prefixes.levels))
    limits = limits_of(section, rows, lengths, sharing)
    starts = qo_indptr.astype(np.int64)
    cost = planner.planners.cost
    work = plan_cascade(limits, prefixes, starts, lengths, table.page_size, cost)
    query_rows = _query_rows(prefixes, qo_indptr, lengths, work)
    ctas = int(work.cta_indptr.searchsorted(len(work.items)))
    tables = {
        **batch_tables(qo_indptr, table),
        "cta_indptr": work.cta_indptr[: ctas + 1],
        "items": _items(section, work, query_rows[:, 1]),
        "item_merge": work.item_merges,
        "merges": work.merges,
        "counters": np.zeros(len(work.merges), np.int32),
        "query_rows": query_rows,
        "parts": work.parts,
    }
    return PlanArrays(tables, rows, table.largest_page, work.partial_rows)


def _query_rows(
    prefixes: Prefixes,
    qo_indptr: Int32Array,
    lengths: npt.NDArray[np.int64],
    work: CascadePlan,
) -> Int32Array:
    """Returns the row of each query in the plan's order, and its position in its sequence."""
    q_len = np.diff(qo_indptr).astype(np.int64)
    owner = np.repeat(prefixes.order, q_len[prefixes.order])
    position = work.rows - qo_indptr[owner] + (lengths - q_len)[owner]
    return np.column_stack((work.rows, position)).astype(np.int32)


def _items(section: AttentionContract, work: CascadePlan, position: Int32Array) -> Int32Array:
    """Returns the items with their numbers of rows, and the range of the rows' positions."""
    if not len(work.items):
        return np.zeros((0, 9), np.int32)
    first = work.items[:, 1]
    ranges = np.empty((len(first), 2), np.int64)
    ranges[:, 0] = first // section.group
    ranges[:, 1] = (first + work.item_rows - 1) // section.group + 1
    least, greatest = (
        # Every other result is of the rows between two ranges; the last ends behind all rows.
        extreme.reduceat(np.append(position, position[-1:]), ranges.reshape(-1))[::2]
        for extreme in (np.minimum, np.maximum)
    )
    return np.column_stack((work.items, work.item_rows, least, greatest)).astype(np.int32)
