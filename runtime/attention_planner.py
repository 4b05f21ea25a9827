"""
Plans of batches for one attention kernel: for one batch, or in place within declared maxima.

The work is shared by `planner`; here its plans and the batch's own tables become the arrays that
the kernel takes.
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import Lock
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .attention_plan import Int32Array, PlanArrays, batch_tables
from .contract import AttentionContract, KernelContract
from .device import Device
from .errors import ArgumentError
from .occupancy import resident_ctas
from .page_table import PageTable, int32_table
from .planner import CostModel, KvBounds, LinearBound, PlanLimits, Planner, WorkPlan

# KV rows of a piece where the split must not depend on the batch.
DEFAULT_CHUNK = 1024
# Splits are aligned to as many KV rows.
_GRANULE = 2
_LARGEST = 2**31 - 1
_WORD = 4
# Planners that are kept, each with a buffer for its limits.
_MOST_PLANNERS = 16


@dataclass(frozen=True)
class BatchLimits:
    """
    The largest batch of a plan whose addresses and grid stay, as a CUDA graph needs.

    `requests`, `query_rows` (of all requests), `kv_len` (KV rows of one request) and `pages`
    (entries of kv_indices) are maxima. `kv_total` is the largest sum of KV lengths, by default
    `requests * kv_len`; it bounds the workspace of batch-invariant plans. A kernel of work
    "tile_lists" has lists of at most `kv_tiles` KV tiles together, by default as many as such
    batches can have without a mask; one of work "cascade" shares prefixes that lie within one
    another in at most `prefix_levels`.
    """

    requests: int
    query_rows: int
    kv_len: int
    pages: int
    kv_total: int = 0
    kv_tiles: int = 0
    prefix_levels: int = 2

    def __post_init__(self) -> None:
        needed = ("requests", "query_rows", "kv_len", "pages")
        for name in (*needed, "kv_total", "kv_tiles", "prefix_levels"):
            value, least = getattr(self, name), int(name in needed)
            if not isinstance(value, int) or not least <= value <= _LARGEST:
                raise ArgumentError(name, f"an integer from {least} to {_LARGEST}", repr(value))


def checked_limits(limits: object) -> BatchLimits:
    """Returns declared maxima; raises ArgumentError for what are none."""
    if not isinstance(limits, BatchLimits):
        raise ArgumentError("limits", "a BatchLimits, or None", type(limits).__name__)
    return limits


class Sharing(NamedTuple):
    """How a plan shares the work: the number of CTAs, and whether at fixed chunks of KV rows."""

    num_ctas: int
    batch_invariant: bool = False
    chunk: int = DEFAULT_CHUNK


class PlanBytes(NamedTuple):
    """The bytes of a plan on the device: its tables, and the memory that the kernel writes."""

    tables: int
    partial_out: int
    partial_lse: int

    @property
    def total(self) -> int:
        """All bytes."""
        return self.tables + self.partial_out + self.partial_lse


def default_ctas(contract: KernelContract, device: Device) -> int:
    """Returns as many CTAs as a device holds at a time."""
    return device.multiprocessors * resident_ctas(contract)


def plan_limits(section: AttentionContract, limits: BatchLimits, sharing: Sharing) -> PlanLimits:
    """Returns the limits of the planner for a kernel; raises ArgumentError."""
    return PlanLimits(
        num_ctas=sharing.num_ctas,
        num_qo_heads=section.num_qo_heads,
        num_kv_heads=section.num_kv_heads,
        requests=limits.requests,
        query_rows=limits.query_rows,
        kv_len=limits.kv_len,
        kv_total=limits.kv_total,
        tile_rows=section.tile_heights,
        kv_tile=section.kv_tile,
        granule=1 if section.kv_tile % _GRANULE else _GRANULE,
        batch_invariant=sharing.batch_invariant,
        chunk=-(-sharing.chunk // section.kv_tile) * section.kv_tile,
    )


def of_heads(
    section: AttentionContract, limits: BatchLimits
) -> tuple[AttentionContract, BatchLimits]:
    """Returns a kernel whose heads have pages of their own, and limits, as it is planned for."""
    heads = section.num_kv_heads
    counts = {name: getattr(limits, name) * heads for name in ("requests", "query_rows")}
    return _of_one_head(section), replace(limits, **counts)


def _of_one_head(section: AttentionContract) -> AttentionContract:
    # A head with keys of its own is planned for as a request of one head.
    return replace(section, num_qo_heads=section.group, num_kv_heads=1, kv=())


class Planners:
    """Planners of one kernel, kept since most batches are as large as others before."""

    def __init__(self, section: AttentionContract) -> None:
        self.section = section
        self.cost = CostModel.of_heights(section.tile_heights)
        self._known: dict[PlanLimits, Planner] = {}
        # The limits of batches of about these sizes: to make them takes as long as half a plan.
        self._limits: dict[tuple[object, Sharing], PlanLimits] = {}
        self._lock = Lock()

    def limits(self, q_rows: int, lengths: npt.NDArray[np.int64], sharing: Sharing) -> PlanLimits:
        """Returns the same as `limits_of`, made once."""
        key = _about(q_rows, lengths, sharing), sharing
        found = self._limits.get(key)
        if found is None:
            found = limits_of(self.section, q_rows, lengths, sharing)
            if len(self._limits) >= _MOST_PLANNERS:
                self._limits.clear()
            self._limits[key] = found
        return found

    @contextmanager
    def planner(self, limits: PlanLimits) -> Generator[Planner]:
        """Lends a planner: its plans are valid as long as it is lent."""
        with self._lock:
            planner = self._known.get(limits)
            if planner is None:
                if len(self._known) >= _MOST_PLANNERS:
                    self._known.clear()
                planner = self._known[limits] = Planner(limits, self.cost)
            yield planner


def limits_of(
    section: AttentionContract,
    q_rows: int,
    lengths: npt.NDArray[np.int64],
    sharing: Sharing,
) -> PlanLimits:
    """Returns limits that hold a batch of these KV lengths, and others of about its size."""
    return plan_limits(section, BatchLimits(*_about(q_rows, lengths, sharing)), sharing)


def _about(
    q_rows: int, lengths: npt.NDArray[np.int64], sharing: Sharing
) -> tuple[int, int, int, int, int]:
    """Returns the fields of `BatchLimits` of a batch's size, rounded up."""
    longest = int(lengths[lengths.argmax()]) if len(lengths) else 0
    total = _rounded(int(lengths.sum())) if sharing.batch_invariant else 0
    return _rounded(len(lengths)), _rounded(q_rows), _rounded(longest), 1, total


def work_tables(work: WorkPlan) -> dict[str, Int32Array]:
    """Returns copies of a plan's arrays by parameter name, without CTAs that have nothing to do."""
    items, indptr = work.items, work.cta_indptr
    if indptr[-2] == len(items):
        indptr = indptr[: int(indptr.searchsorted(len(items))) + 1]
    return {
        "cta_indptr": indptr.copy(),
        "items": items.copy(),
        "item_merge": work.item_merge.copy(),
        "merges": work.merges.copy(),
        "counters": np.zeros(len(work.merges), np.int32),
    }


class BatchPlanner:
    """Plans batches for one kernel, each with tables of its own."""

    def __init__(self, section: AttentionContract) -> None:
        self.section = section
        self._of_heads = None
        if "table_of_heads" in section.kv:
            self._of_heads = BatchPlanner(_of_one_head(section))
        self.planners = Planners(section)

    def plan(self, qo_indptr: Int32Array, table: PageTable, sharing: Sharing) -> PlanArrays:
        """Returns the plan of a batch whose tables were checked; raises ArgumentError."""
        if self._of_heads is not None:
            return self._planned_heads(self._of_heads, qo_indptr, table, sharing)
        lengths, rows = table.row_counts, int(qo_indptr[-1])
        limits = self.planners.limits(rows, lengths, sharing)
        with self.planners.planner(limits) as planner:
            work = _work(planner, self.section, qo_indptr, lengths)
            tables = {**batch_tables(qo_indptr, table), **work_tables(work)}
            slots = work.slots
        return PlanArrays(tables, rows, table.largest_page, slots)

    def _planned_heads(
        self, planner: "BatchPlanner", qo_indptr: Int32Array, table: PageTable, sharing: Sharing
    ) -> PlanArrays:
        heads = self.section.num_kv_heads
        lengths = np.repeat(np.diff(qo_indptr).astype(np.int64), heads)
        ends = np.cumsum(lengths)
        if ends.size and int(ends[-1]) > _LARGEST:
            expected = f"at most {_LARGEST} rows, those of each KV head"
            raise ArgumentError("qo_indptr", expected, str(int(ends[-1])))
        rows = np.concatenate([[0], ends]).astype(np.int32)
        arrays = planner.plan(rows, table, sharing)
        items = arrays.tables["items"]
        items[:, 0], items[:, 2] = items[:, 0] // heads, items[:, 0] % heads
        tables = arrays.tables | {"qo_indptr": qo_indptr.copy()}
        return replace(arrays, tables=tables, rows=int(qo_indptr[-1]))


def _rounded(count: int) -> int:
    """Returns the next power of two, as far as int32 goes."""
    return min(1 << max(count - 1, 0).bit_length(), _LARGEST)


def _work(
    planner: Planner,
    section: AttentionContract,
    qo_indptr: Int32Array,
    lengths: npt.NDArray[np.int64],
) -> WorkPlan:
    rows = int(qo_indptr[-1])
    # Entries that rise that often, by so much together, rise by 1.
    decodes = rows == len(lengths) == np.count_nonzero(qo_indptr[1:] > qo_indptr[:-1])
    sees_all = not section.kv_lower and all(s == 1 and o >= 0 for s, o in section.kv_upper)
    if decodes and sees_all:
        return planner.plan_decode(lengths)
    return planner.plan(qo_indptr, lengths, bounds_of(section))


def bounds_of(section: AttentionContract) -> KvBounds:
    """Returns what a kernel's mask lets each query row see."""
    lower, upper = (
        tuple(LinearBound(*bound) for bound in bounds)
        for bounds in (section.kv_lower, section.kv_upper)
    )
    return KvBounds(lower, upper)


class FixedPlanner:
    """
    Plans one batch after the other into the same arrays, whose sizes follow from declared maxima.

    The kernel's work is ranges, with one page table for all heads. `tables` are these arrays,
    `arrays` the present plan in them.
    """

    def __init__(self, section: AttentionContract, limits: BatchLimits, sharing: Sharing) -> None:
        self.section, self.limits, self.sharing = section, limits, sharing
        cost = CostModel.of_heights(section.tile_heights)
        self._planner = planner = Planner(plan_limits(section, limits, sharing), cost)
        numbers, layout, buffer = planner.limits, planner.layout, planner.buffer
        items = buffer[layout.items : layout.items + 6 * numbers.items]
        merges = buffer[layout.merges : layout.merges + 2 * numbers.merges]
        self.tables: dict[str, Int32Array] = {
            "qo_indptr": np.zeros(limits.requests + 1, np.int32),
            "kv_indptr": np.zeros(limits.requests + 1, np.int32),
            "kv_indices": np.zeros(limits.pages, np.int32),
            "kv_last_page_len": np.zeros(limits.requests, np.int32),
            "cta_indptr": buffer[: numbers.num_ctas + 1],
            "items": items.reshape(-1, 6),
            "item_merge": buffer[layout.item_merge : layout.item_merge + numbers.items],
            "merges": merges.reshape(-1, 2),
            "counters": np.zeros(numbers.merges, np.int32),
        }
        self.arrays = PlanArrays(self.tables, limits.query_rows, -1, numbers.slots)
        self.batch = 0
        self._outdated = False
        # For how many more KV rows each request has room in its last page.
        self._room = np.zeros(0, np.int64)
        # The least of these numbers, and by how much they all are too large.
        self._least = self._taken = 0

    @property
    def plan_limits(self) -> PlanLimits:
        """The limits of the planner."""
        return self._planner.limits

    def forget(self) -> None:
        """Takes the plan in host memory as outdated: steps are refused until a batch is planned."""
        self._outdated = True

    @property
    def nbytes(self) -> PlanBytes:
        """The bytes of the plan on the device."""
        rows = self.arrays.slots * self.section.tile_rows * _WORD
        tables = sum(table.nbytes for table in self.tables.values())
        return PlanBytes(tables, rows * self.section.head_dim, rows)

    def plan(
        self, qo_indptr: Int32Array, table: PageTable, _hints: object = None
    ) -> dict[str, Int32Array]:
        """
        Plans a batch whose tables were checked; returns the first entries of arrays that changed.

        Work of ranges has no use for hints. Raises ArgumentError for one beyond the maxima, and
        then changes nothing.
        """
        entries, most = table.kv_indices.size, self.limits.pages
        if entries > most:
            expected = f"at most {most} entries, as declared"
            raise ArgumentError("kv_indices", expected, str(entries))
        lengths = table.row_counts
        work = _work(self._planner, self.section, qo_indptr, lengths)
        changed = {**_changed_work(work), **self._copied(qo_indptr, table)}
        self.batch, self._outdated = len(lengths), False
        self._set_room(table.pages.astype(np.int64) * table.page_size - lengths)
        self.arrays = replace(self.arrays, largest_page=table.largest_page)
        return changed

    def _copied(self, qo_indptr: Int32Array, table: PageTable) -> dict[str, Int32Array]:
        changed: dict[str, Int32Array] = {}
        for name, given in batch_tables(qo_indptr, table).items():
            own = self.tables[name]
            own[: given.size] = given
            # No request has anything behind the batch.
            if name != "kv_indices":
                own[given.size :] = given[-1] if name.endswith("indptr") else 0
            changed[name] = own[: given.size]
        return changed

    def adopt(self, other: object) -> dict[str, Int32Array]:
        """Plans the batch of a planner with the same maxima; returns what changed, as `plan`."""
        if not isinstance(other, FixedPlanner):
            raise ArgumentError("other", "a plan of ranges", type(other).__name__)
        tables, batch = other.tables, other.batch
        table = PageTable(
            tables["kv_indptr"][: batch + 1],
            tables["kv_indices"][: other._entries],
            tables["kv_last_page_len"][:batch],
            self.section.page_size,
        )
        return self.plan(tables["qo_indptr"][: batch + 1], table)

    def pages_needed(self, rows: int = 1, requests: object = None) -> int:
        """Returns how many new pages a step needs."""
        room = self._room - self._taken
        room[self._chosen(requests)] -= rows
        return int(self._needed(room).sum())

    def step(self, rows: int, pages: object, requests: object) -> dict[str, Int32Array]:
        """
        Gives requests more KV rows; returns the first entries of arrays that changed.

        Raises ArgumentError, and then changes nothing.
        """
        if self._outdated:
            expected = "a plan whose lengths the host knows: update it"
            raise ArgumentError("step", expected, "one made on the device")
        if requests is None and pages is None and 0 <= rows <= self._least:
            return self._step_within_pages(rows)
        chosen, room = self._chosen(requests), self._room - self._taken
        room[chosen] -= rows
        full = bool(room.size) and int(room.min()) < 0
        new = self._new_pages(room, pages) if full or pages is not None else None
        step = self._planner.advance(rows, requests)
        changed = _changed_work(step.plan) if step.replanned else {}
        last = self.tables["kv_last_page_len"][: self.batch]
        if new is None or not full:
            last[chosen] += rows
        else:
            changed |= self._insert(new, self._needed(room))
            room += self._needed(room) * self.section.page_size
            has_pages = np.diff(self.tables["kv_indptr"][: self.batch + 1]) > 0
            last[:] = np.where(has_pages, self.section.page_size - room, 0)
        self._set_room(room)
        return {**changed, "kv_last_page_len": last}

    def _step_within_pages(self, rows: int) -> dict[str, Int32Array]:
        """Gives all requests more KV rows, for which their last pages have room."""
        step = self._planner.advance(rows)
        self._least -= rows
        self._taken += rows
        last = self.tables["kv_last_page_len"][: self.batch]
        last += rows
        changed = {"kv_last_page_len": last}
        return _changed_work(step.plan) | changed if step.replanned else changed

    def _set_room(self, room: npt.NDArray[np.int64]) -> None:
        self._taken = 0
        self._room, self._least = room, int(room.min(initial=_LARGEST)) if room.size else 0

    def _chosen(self, requests: object) -> slice | Int32Array:
        if requests is None:
            return slice(None)
        chosen = int32_table(requests, "requests")
        outside = (chosen < 0) | (chosen >= self.batch)
        if outside.any():
            at = int(np.argmax(outside))
            expected = f"numbers below {self.batch}, the batch's requests"
            raise ArgumentError("requests", expected, f"{int(chosen[at])} at [{at}]")
        return np.unique(chosen)

    def _needed(self, room: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return np.maximum(-(room // self.section.page_size), 0)

    def _new_pages(self, room: npt.NDArray[np.int64], pages: object) -> Int32Array:
        needed = int(self._needed(room).sum())
        new = np.zeros(0, np.int32) if pages is None else int32_table(pages, "pages")
        if new.size != needed:
            raise ArgumentError("pages", f"{needed} new pages", str(new.size))
        if new.size and int(new.min()) < 0:
            raise ArgumentError("pages", "page numbers of at least 0", str(int(new.min())))
        entries, most = self._entries + needed, self.limits.pages
        if entries > most:
            raise ArgumentError("pages", f"at most {most} entries, as declared", str(entries))
        return new

    @property
    def _entries(self) -> int:
        return int(self.tables["kv_indptr"][self.batch])

    def _insert(self, new: Int32Array, needed: npt.NDArray[np.int64]) -> dict[str, Int32Array]:
        """Writes new pages behind those of their requests."""
        indptr, indices = self.tables["kv_indptr"], self.tables["kv_indices"]
        entries, own = self._entries, indptr[: self.batch + 1]
        inserted = np.insert(indices[:entries], np.repeat(own[1:], needed), new)
        indices[: inserted.size] = inserted
        own[1:] += np.cumsum(needed).astype(np.int32)
        indptr[self.batch + 1 :] = own[-1]
        largest = max(self.arrays.largest_page, int(new.max()))
        self.arrays = replace(self.arrays, largest_page=largest)
        return {"kv_indptr": own, "kv_indices": indices[: inserted.size]}


def _changed_work(work: WorkPlan) -> dict[str, Int32Array]:
    return {
        "cta_indptr": work.cta_indptr,
        "items": work.items,
        "item_merge": work.item_merge,
        "merges": work.merges,
    }
