"""
Plans that are made anew for each batch, at addresses that stay: lists of tiles, cascades, and
heads with pages of their own.

Such a plan is made as it is without limits, and copied into arrays whose sizes follow from declared
maxima. So a CUDA graph of it holds for all batches within them.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from .attention_plan import Int32Array, PlanArrays
from .attention_planner import BatchLimits, PlanBytes, Sharing, of_heads, plan_limits
from .attention_tile_lists import list_limits
from .block_mask import BlockMask
from .contract import AttentionContract
from .errors import ArgumentError
from .page_table import PageTable
from .planner import Prefixes, cascade_sizes

_WORD = 4


class Hints(NamedTuple):
    """What a caller says of a batch beside its tables: what is masked, and what is shared."""

    block_mask: BlockMask | None = None
    mask_parameters: Mapping[str, object] | None = None
    prefixes: Prefixes | None = None


class Rooms(NamedTuple):
    """The shape of each table of a plan for declared maxima, and the slots of partial results."""

    tables: dict[str, tuple[int, ...]]
    slots: int


Planning = Callable[[Int32Array, PageTable, Hints], PlanArrays]


def rooms_of(section: AttentionContract, limits: BatchLimits, sharing: Sharing) -> Rooms:
    """Returns what a plan of any batch within declared maxima needs; raises ArgumentError."""
    rows = limits.requests * (section.num_kv_heads if "table_of_heads" in section.kv else 1)
    batch: dict[str, tuple[int, ...]] = {
        "qo_indptr": (limits.requests + 1,),
        "kv_indptr": (rows + 1,),
        "kv_indices": (limits.pages,),
        "kv_last_page_len": (rows,),
        "cta_indptr": (sharing.num_ctas + 1,),
    }
    if section.work == "cascade":
        return _rooms_of_cascade(section, limits, sharing, batch)
    if "table_of_heads" in section.kv:
        section, limits = of_heads(section, limits)
    numbers = plan_limits(section, limits, sharing)
    items, more = 6, {}
    if section.work == "tile_lists":
        # A kernel has no empty arrays.
        items, more = 7, {"kv_tiles": (max(limits.kv_tiles or numbers.listed, 1),)}
        numbers = list_limits(numbers, sharing, -(-limits.kv_len // section.kv_tile))
    merges = {"merges": (numbers.merges, 2), "counters": (numbers.merges,)}
    work = {"items": (numbers.items, items), "item_merge": (numbers.items,), **merges}
    return Rooms({**batch, **work, **more}, numbers.slots)


def _rooms_of_cascade(
    section: AttentionContract,
    limits: BatchLimits,
    sharing: Sharing,
    batch: dict[str, tuple[int, ...]],
) -> Rooms:
    sizes = cascade_sizes(plan_limits(section, limits, sharing), limits.prefix_levels)
    work: dict[str, tuple[int, ...]] = {
        "items": (sizes.items, 9),
        "item_merge": (sizes.items, 2),
        "merges": (sizes.merges, 5),
        "counters": (sizes.merges,),
        "query_rows": (limits.query_rows, 2),
        "parts": (sizes.parts,),
    }
    return Rooms({**batch, **work}, sizes.partial_rows)


class PlacedPlanner:
    """
    Plans one batch after the other, each anew, into arrays of declared sizes.

    `tables` are these arrays, `arrays` the present plan in them; `planned` makes the plans.
    """

    def __init__(
        self, section: AttentionContract, limits: BatchLimits, sharing: Sharing, planned: Planning
    ) -> None:
        self.section, self.limits, self.sharing = section, limits, sharing
        self._planned = planned
        rooms = rooms_of(section, limits, sharing)
        self.tables = {name: np.zeros(shape, np.int32) for name, shape in rooms.tables.items()}
        self.arrays = PlanArrays(self.tables, limits.query_rows, -1, rooms.slots)
        self._used: dict[str, int] = {}

    @property
    def nbytes(self) -> PlanBytes:
        """The bytes of the plan on the device."""
        height = 1 if self.section.work == "cascade" else self.section.tile_rows
        rows = self.arrays.slots * height * _WORD
        tables = sum(table.nbytes for table in self.tables.values())
        return PlanBytes(tables, rows * self.section.head_dim, rows)

    def plan(self, qo_indptr: Int32Array, table: PageTable, hints: Hints) -> dict[str, Int32Array]:
        """
        Plans a batch whose tables were checked; returns the first entries of arrays that changed.

        Raises ArgumentError for one beyond the maxima, and then changes nothing.
        """
        check_batch(self.limits, qo_indptr, table)
        planned = self._planned(qo_indptr, table, hints)
        for name, own in self.tables.items():
            if len(planned.tables[name]) > len(own):
                expected = f"at most {len(own)} entries, as declared"
                raise ArgumentError(name, expected, str(len(planned.tables[name])))
        if planned.slots > self.arrays.slots:
            expected = f"prefixes of at most {self.arrays.slots} partial results, as declared"
            raise ArgumentError("prefixes", expected, str(planned.slots))
        return self._placed(planned.tables, planned.largest_page)

    def adopt(self, other: object) -> dict[str, Int32Array]:
        """Takes over the plan of a planner with the same maxima; returns what changed."""
        if not isinstance(other, PlacedPlanner):
            raise ArgumentError("other", "a plan made anew for each batch", type(other).__name__)
        tables = {name: table[: other._used[name]] for name, table in other.tables.items()}
        return self._placed(tables, other.arrays.largest_page)

    def _placed(self, tables: Mapping[str, Int32Array], largest_page: int) -> dict[str, Int32Array]:
        changed: dict[str, Int32Array] = {}
        for name, own in self.tables.items():
            given = tables[name]
            self._used[name] = len(given)
            # The kernel leaves its counters as it found them.
            if name == "counters":
                continue
            own[: len(given)] = given
            changed[name] = own[: len(given)]
            # No request and no CTA has anything behind the plan.
            if name.endswith("indptr"):
                own[len(given) :] = given[-1]
                changed[name] = own
            elif name == "kv_last_page_len":
                own[len(given) :] = 0
                changed[name] = own
        self.arrays = replace(self.arrays, largest_page=largest_page)
        return changed


def check_batch(limits: BatchLimits, qo_indptr: Int32Array, table: PageTable) -> None:
    """Refuses a batch beyond declared maxima, which are counted as the caller does."""
    requests, rows = len(qo_indptr) - 1, int(qo_indptr[-1])
    total = int(table.row_counts.sum())
    for name, got, most, what in (
        ("kv_len", requests, limits.requests, "requests"),
        ("qo_indptr", rows, limits.query_rows, "query rows"),
        ("kv_indices", table.kv_indices.size, limits.pages, "entries"),
        ("kv_len", total, limits.kv_total or total, "KV rows in all"),
    ):
        if got > most:
            raise ArgumentError(name, f"at most {most} {what}, as declared", str(got))
    if table.longest > limits.kv_len:
        at = int(np.argmax(table.row_counts))
        expected = f"0 to {limits.kv_len} KV rows, as declared"
        raise ArgumentError("kv_len", expected, f"{table.longest} at [{at}]")
