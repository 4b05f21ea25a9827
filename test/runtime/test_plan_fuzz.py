"""Random batches as the kernel meets their plans: every output once, every key once, no overrun."""

from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.runtime.attention_cascade import plan_shared
from tilewright.runtime.attention_in_place import Hints, PlacedPlanner
from tilewright.runtime.attention_plan import PlanArrays
from tilewright.runtime.attention_planner import BatchLimits, BatchPlanner, FixedPlanner, Sharing
from tilewright.runtime.attention_tile_lists import plan_tile_lists
from tilewright.runtime.attention_work import WorkPlanner
from tilewright.runtime.block_mask import BlockMask, Grid, TileRuns
from tilewright.runtime.contract import AttentionContract
from tilewright.runtime.page_table import PageTable, last_page_lengths

Int64 = npt.NDArray[np.int64]
SEEDS = st.integers(0, 2**32 - 1)
PAGE = 16
# 10,000 batches in all where a test is `full`.
FEW, BATCHES = 10, 10
MANY = 250


class Batch(NamedTuple):
    """The tables of a batch, and its lengths."""

    qo_indptr: npt.NDArray[np.int32]
    table: PageTable
    q_len: Int64
    kv_len: Int64


class Part(NamedTuple):
    """What one item does: for these outputs (query row * heads + head), these keys."""

    outputs: Int64
    keys: list[tuple[int, int]]
    workspace: Int64 | None


def random_section(rng: np.random.Generator, work: str) -> AttentionContract:
    heads, window = int(rng.integers(1, 3)), int(rng.integers(0, 90))
    lower, upper = ((), ((1, 0),)) if rng.random() < 0.7 else (((1, -window),), ((1, 0),))
    if rng.random() < 0.2:
        lower = upper = ()
    return AttentionContract(
        num_qo_heads=heads * int(rng.choice([1, 2, 4, 8])),
        num_kv_heads=heads,
        head_dim=16,
        page_size=PAGE,
        layout="NHD",
        dtype="f16",
        tile_rows=64,
        softmax_scale=1.0,
        short_rows=int(rng.choice([0, 16])),
        kv_tile=int(rng.choice([32, 64])),
        kv_lower=lower,
        kv_upper=upper,
        work=work,
    )


def random_sharing(rng: np.random.Generator) -> Sharing:
    ctas = int(rng.choice([1, 2, 5, 16, 60]))
    return Sharing(ctas, bool(rng.random() < 0.3), int(rng.choice([64, 128])))


def random_batch(rng: np.random.Generator, shared: bool = False) -> Batch:
    count = int(rng.integers(0, 7))
    q_len = rng.choice([0, 1, 1, 1, 2, 9, 40], count).astype(np.int64)
    kv_len: Int64 = rng.integers(0, 300, count) * (rng.random(count) < 0.9)
    pages = -(-kv_len // PAGE)
    counts: list[int] = pages.tolist()
    indptr = np.concatenate([[0], np.cumsum(pages)]).astype(np.int32)
    indices = rng.permutation(np.arange(indptr[-1], dtype=np.int32))
    for request in range(1, count if shared else 0):
        # The first pages of some request before, as branches of one generation have them.
        other = int(rng.integers(request))
        common = int(rng.integers(0, min(counts[request], counts[other]) + 1))
        indices[indptr[request] :][:common] = indices[indptr[other] :][:common]
    last = last_page_lengths(kv_len, PAGE)
    starts = np.concatenate([[0], np.cumsum(q_len)]).astype(np.int32)
    return Batch(starts, PageTable(indptr, indices, last, PAGE), q_len, kv_len)


def parts_of(section: AttentionContract, plan: PlanArrays) -> Iterator[Part]:
    """Yields what the items of all CTAs do, read off the tables as the kernel does."""
    tables, group, heads = plan.tables, section.group, section.num_qo_heads
    pages, last = np.diff(tables["kv_indptr"]), tables["kv_last_page_len"]
    lengths = np.where(pages > 0, (pages - 1) * PAGE + last, 0)
    indptr = tables["cta_indptr"]
    assert indptr[0] == 0
    assert (np.diff(indptr) >= 0).all()
    items: list[list[int]] = tables["items"][: indptr[-1]].tolist()
    for item in items:
        request, first, kv_head, begin, end, slot = item[:6]
        if section.work == "cascade":
            packed = first + np.arange(item[6])
            rows, positions = tables["query_rows"][packed // group].T
            assert item[7:9] == [positions.min(), positions.max()]
        else:
            query_begin, query_end = tables["qo_indptr"][request : request + 2].tolist()
            total = (query_end - query_begin) * group
            short = section.short_rows
            height = short if total <= short else section.tile_rows
            packed = np.arange(first, min(first + height, total))
            rows = query_begin + packed // group
        assert 1 <= len(packed) <= section.tile_rows
        keys = [(begin, min(end, int(lengths[request])))]
        if section.work == "tile_lists":
            tile = section.kv_tile
            numbers = tables["kv_tiles"][begin:end].tolist()
            keys = [(n * tile, min(n * tile + tile, int(lengths[request]))) for n in numbers]
        outputs = rows.astype(np.int64) * heads + kv_head * group + packed % group
        workspace = None if slot < 0 else slot * slot_rows(section) + np.arange(len(packed))
        yield Part(outputs, [pair for pair in keys if pair[0] < pair[1]], workspace)


def slot_rows(section: AttentionContract) -> int:
    return 1 if section.work == "cascade" else section.tile_rows


def check_written(section: AttentionContract, plan: PlanArrays, parts: list[Part]) -> None:
    """Asserts that each output is written once, from all partial results of it, none outside."""
    tables, outputs = plan.tables, int(plan.tables["qo_indptr"][-1]) * section.num_qo_heads
    written = np.zeros(outputs, np.int64)
    held = np.full(plan.slots * slot_rows(section), -1, np.int64)
    for part in parts:
        if part.workspace is None:
            written[part.outputs] += 1
        else:
            assert part.workspace[-1] < len(held)
            assert (held[part.workspace] == -1).all()
            held[part.workspace] = part.outputs
    used = np.zeros(len(held), np.bool_)
    arrivals = np.zeros(len(tables["merges"]), np.int64)
    for part, merges in zip(parts, tables["item_merge"], strict=False):
        first, count = merges.tolist() if section.work == "cascade" else (int(merges), 1)
        assert (part.workspace is not None) == (first >= 0 and count > 0)
        if part.workspace is not None:
            arrivals[first : first + count] += 1
    for merge in np.flatnonzero(arrivals):
        starts, rows, of_merge = _merged(section, tables, int(merge), parts)
        assert arrivals[merge] == len(starts)
        for start in starts:
            assert (held[start : start + rows] == of_merge).all()
            used[start : start + rows] = True
        written[of_merge] += 1
    assert (written == 1).all()
    assert (used == (held >= 0)).all()


def _merged(
    section: AttentionContract,
    tables: dict[str, npt.NDArray[np.int32]],
    merge: int,
    parts: list[Part],
) -> tuple[list[int], int, Int64]:
    """Returns where the partial results of a merge begin, its rows, and its outputs."""
    fields: list[int] = tables["merges"][merge].tolist()
    if section.work == "cascade":
        first, rows, head, begin, count = fields
        packed = first + np.arange(rows)
        query = tables["query_rows"][packed // section.group, 0].astype(np.int64)
        outputs = query * section.num_qo_heads + head * section.group + packed % section.group
        return tables["parts"][begin : begin + count].tolist(), rows, outputs
    item = int(np.flatnonzero(tables["item_merge"][: len(parts)] == merge)[0])
    outputs = parts[item].outputs
    starts = [(fields[0] + number) * section.tile_rows for number in range(fields[1])]
    return starts, len(outputs), outputs


def check_keys(section: AttentionContract, batch: Batch, parts: list[Part], kept: Any) -> None:
    """Asserts that each output meets no key twice, and each one that it sees."""
    heads, longest = section.num_qo_heads, int(batch.kv_len.max(initial=0))
    met = np.zeros((int(batch.qo_indptr[-1]) * heads, longest + 1), np.int8)
    for part in parts:
        for begin, end in part.keys:
            met[part.outputs, begin:end] += 1
    assert met.max(initial=0) <= 1
    for request, (q_len, kv_len) in enumerate(zip(batch.q_len, batch.kv_len, strict=True)):
        if not q_len or not kv_len:
            continue
        first = int(batch.qo_indptr[request])
        rows = met.reshape(-1, heads, longest + 1)[first : first + q_len, :, :kv_len]
        wanted = kept(request, (kv_len - q_len + np.arange(q_len))[:, None], np.arange(kv_len))
        assert (rows[np.broadcast_to(wanted[:, None], rows.shape)] == 1).all()


def seen(section: AttentionContract) -> Any:
    def kept(_: int, position: Int64, key: Int64) -> npt.NDArray[np.bool_]:
        wanted = np.ones(np.broadcast_shapes(position.shape, key.shape), np.bool_)
        for slope, offset in section.kv_lower:
            wanted &= key >= slope * position + offset
        for slope, offset in section.kv_upper:
            wanted &= key <= slope * position + offset
        return wanted

    return kept


def check(section: AttentionContract, batch: Batch, plan: PlanArrays, kept: Any = None) -> None:
    parts = list(parts_of(section, plan))
    trimmed = plan.tables | {"qo_indptr": batch.qo_indptr}
    check_written(section, PlanArrays(trimmed, plan.rows, plan.largest_page, plan.slots), parts)
    check_keys(section, batch, parts, kept or seen(section))


def random_runs(rng: np.random.Generator, grid: Grid, kept: npt.NDArray[np.bool_]) -> TileRuns:
    """Returns the tiles of rows that are kept, of all that the grid has, as runs of one tile."""
    counts = np.repeat(grid.kv_tiles, grid.q_tiles)
    numbers = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    rows = np.repeat(np.arange(len(counts)), counts)[kept]
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(counts)))])
    start = numbers[kept].astype(np.int32)
    return TileRuns(indptr, start, start + 1)


def random_mask(
    rng: np.random.Generator, section: AttentionContract, batch: Batch
) -> tuple[BlockMask, Any]:
    """Returns a block mask of random tiles, and the keys that it keeps."""
    count = len(batch.q_len)
    block = 64 // section.group, section.kv_tile
    first = batch.kv_len - batch.q_len
    grid = Grid(
        np.arange(count), np.zeros(count, np.int64), batch.q_len, batch.kv_len, first, block
    )
    total = int((grid.q_tiles * grid.kv_tiles).sum())
    kind = rng.integers(0, 3, total)
    partial, full = (random_runs(rng, grid, kind == number) for number in (1, 2))
    nothing = cast("Any", None)
    mask = BlockMask(nothing, grid, full, partial, 0, nothing)

    def kept(request: int, position: Int64, key: Int64) -> npt.NDArray[np.bool_]:
        wanted = np.zeros((len(position), len(key)), np.bool_)
        for row in range(len(position)):
            number = int(grid.first_row[request]) + row // block[0]
            for tile in (*partial.row(number), *full.row(number)):
                wanted[row, tile * block[1] : (tile + 1) * block[1]] = True
        return wanted

    return mask, kept


def fuzz_ranges(rng: np.random.Generator) -> None:
    section = random_section(rng, "ranges")
    planner = BatchPlanner(section)
    for _ in range(BATCHES):
        batch = random_batch(rng)
        plan = planner.plan(batch.qo_indptr, batch.table, random_sharing(rng))
        check(section, batch, plan)


def fuzz_in_place(rng: np.random.Generator) -> None:
    section = random_section(rng, "ranges")
    limits = BatchLimits(requests=6, query_rows=240, kv_len=400, pages=200)
    fixed = FixedPlanner(section, limits, random_sharing(rng))
    for _ in range(BATCHES // 2):
        batch = random_batch(rng)
        fixed.plan(batch.qo_indptr, batch.table)
        check(section, batch, fixed.arrays)
        rows = int(rng.integers(1, 70))
        free = np.arange(1000, 1000 + fixed.pages_needed(rows), dtype=np.int32)
        fixed.step(rows, free, None)
        longer = batch._replace(kv_len=batch.kv_len + rows)
        check(section, longer, fixed.arrays)


def fuzz_lists(rng: np.random.Generator) -> None:
    section = random_section(rng, "tile_lists")
    planner = BatchPlanner(section)
    for number in range(BATCHES):
        batch = random_batch(rng)
        mask, kept = (None, None) if number % 3 == 0 else random_mask(rng, section, batch)
        plan = plan_tile_lists(planner, batch.qo_indptr, batch.table, random_sharing(rng), mask)
        check(section, batch, plan, kept)


def fuzz_cascade(rng: np.random.Generator) -> None:
    section = random_section(rng, "cascade")
    planner = BatchPlanner(section)
    for _ in range(BATCHES):
        batch = random_batch(rng, shared=True)
        sharing = random_sharing(rng)._replace(batch_invariant=False)
        plan = plan_shared(planner, batch.qo_indptr, batch.table, sharing, None)
        check(section, batch, plan)


def placed(rng: np.random.Generator, section: AttentionContract) -> PlacedPlanner:
    """Returns a planner of batches within declared maxima, as the op of a kernel makes it."""
    limits = BatchLimits(requests=6, query_rows=240, kv_len=300, pages=120, prefix_levels=1)
    sharing = random_sharing(rng)
    if section.work == "cascade":
        sharing = sharing._replace(batch_invariant=False)
    planner = WorkPlanner(section, None).in_place(limits, sharing)
    assert isinstance(planner, PlacedPlanner)
    return planner


def fuzz_lists_in_place(rng: np.random.Generator) -> None:
    section = random_section(rng, "tile_lists")
    planner = placed(rng, section)
    for number in range(BATCHES):
        batch = random_batch(rng)
        mask, kept = (None, None) if number % 3 == 0 else random_mask(rng, section, batch)
        planner.plan(batch.qo_indptr, batch.table, Hints(mask))
        check(section, batch, planner.arrays, kept)


def fuzz_cascade_in_place(rng: np.random.Generator) -> None:
    section = random_section(rng, "cascade")
    planner = placed(rng, section)
    for _ in range(BATCHES):
        batch = random_batch(rng, shared=True)
        planner.plan(batch.qo_indptr, batch.table, Hints())
        check(section, batch, planner.arrays)


FUZZED = {
    "ranges": fuzz_ranges,
    "in place": fuzz_in_place,
    "lists": fuzz_lists,
    "cascade": fuzz_cascade,
    "lists in place": fuzz_lists_in_place,
    "cascade in place": fuzz_cascade_in_place,
}


@pytest.mark.parametrize("name", FUZZED)
@settings(deadline=None, max_examples=FEW)
@given(SEEDS)
def test_some_plans_do_all_the_work_once(name: str, seed: int) -> None:
    FUZZED[name](np.random.default_rng(seed))


@pytest.mark.full
@pytest.mark.parametrize("name", FUZZED)
@settings(deadline=None, max_examples=MANY)
@given(SEEDS)
def test_many_plans_do_all_the_work_once(name: str, seed: int) -> None:
    FUZZED[name](np.random.default_rng(seed))
