"""Plans over shared prefixes: each row meets all its KV once, in few reads."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.runtime.errors import ArgumentError
from tilewright.runtime.planner import PlanLimits
from tilewright.runtime.planner.cascade import CascadePlan, plan_cascade
from tilewright.runtime.planner.prefixes import sharable_pages, shared_prefixes

PAGE = 4


def limits(ctas: int, heads: int, group: int) -> PlanLimits:
    heights = (16, 64)
    return PlanLimits(
        ctas, heads * group, heads, 40, 400, 1000, tile_rows=heights, kv_tile=16, granule=4
    )


def planned(
    numbers: PlanLimits, table: list[list[int]], q_len: list[int], kv_len: list[int]
) -> CascadePlan:
    lengths, queries = np.array(kv_len, np.int64), np.array(q_len, np.int64)
    sharable = sharable_pages(lengths, queries, PAGE)
    sharable[queries * numbers.group > numbers.tile_rows[-1]] = 0
    indptr = np.cumsum([0, *map(len, table)])
    pages = np.array([page for row in table for page in row], np.int64)
    prefixes = shared_prefixes(indptr, pages, sharable)
    return plan_cascade(numbers, prefixes, np.cumsum([0, *q_len]), lengths, PAGE)


def page_table(rng: np.random.Generator, requests: int) -> list[list[int]]:
    """Returns page lists that branch off from one another at random."""
    table: list[list[int]] = []
    for request in range(requests):
        base = table[int(rng.integers(request))] if request else []
        kept = base[: int(rng.integers(0, len(base) + 1))] if rng.random() < 0.8 else []
        own = 1000 * (request + 1) + np.arange(int(rng.integers(0, 30)))
        table.append([*kept, *own.tolist()])
    return table


def check_cascade(
    numbers: PlanLimits,
    plan: CascadePlan,
    table: list[list[int]],
    q_len: list[int],
    kv_len: list[int],
) -> None:
    """Asserts that the parts of each row group hold all pages of its request once, in order."""
    starts = np.cumsum([0, *q_len])
    owner = np.searchsorted(starts, plan.rows, side="right") - 1
    assert sorted(plan.rows.tolist()) == list(range(starts[-1]))
    assert plan.cta_indptr[-1] == len(plan.items)
    assert (np.diff(plan.cta_indptr) >= 0).all()
    owners = [-1] * plan.partial_rows
    items: list[list[int]] = plan.items.tolist()
    for index, item in enumerate(items):
        for row in range(int(plan.item_rows[index]) if item[5] >= 0 else 0):
            assert owners[item[5] + row] == -1
            owners[item[5] + row] = index
    assert -1 not in owners
    arrivals = [0] * len(plan.merges)
    for index, (merge, count) in enumerate(plan.item_merges.tolist()):
        assert (count > 0) == (plan.items[index, 5] >= 0)
        for each in range(merge, merge + count):
            arrivals[each] += 1
    done: set[tuple[int, int]] = set()
    for merge, (row, rows, head, first, count) in enumerate(plan.merges.tolist()):
        assert arrivals[merge] == count
        read: list[int] = []
        for part in plan.parts[first : first + count].tolist():
            item = owners[int(part)]
            assert row == plan.items[item, 1] + part - plan.items[item, 5]
            assert row + rows <= plan.items[item, 1] + plan.item_rows[item]
            assert plan.items[item, 2] == head
            lowest = plan.item_merges[item, 0]
            assert lowest <= merge < lowest + plan.item_merges[item, 1]
            read += read_by(plan, item, table, kv_len)
        check_rows(numbers, owner, row, rows, head, read, table, kv_len, done)
    for index, item in enumerate(items):
        if item[5] < 0:
            read = read_by(plan, index, table, kv_len)
            rows = int(plan.item_rows[index])
            check_rows(numbers, owner, item[1], rows, item[2], read, table, kv_len, done)
    assert len(done) == starts[-1] * numbers.num_qo_heads


def read_by(plan: CascadePlan, item: int, table: list[list[int]], kv_len: list[int]) -> list[int]:
    """Returns the places in the KV cache, page * size + row, that an item reads."""
    request, begin, end = (int(plan.items[item, field]) for field in (0, 3, 4))
    pages = table[request]
    return [pages[at // PAGE] * PAGE + at % PAGE for at in range(begin, min(end, kv_len[request]))]


def check_rows(
    numbers: PlanLimits,
    owner: np.ndarray,
    row: int,
    rows: int,
    head: int,
    read: list[int],
    table: list[list[int]],
    kv_len: list[int],
    done: set[tuple[int, int]],
) -> None:
    group = numbers.group
    request = int(owner[row // group])
    assert (owner[row // group : (row + rows - 1) // group + 1] == request).all()
    pages = table[request]
    assert read == [pages[at // PAGE] * PAGE + at % PAGE for at in range(kv_len[request])]
    for each in range(row, row + rows):
        place = each // group * group + each % group, head
        assert place not in done
        done.add(place)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_each_row_meets_all_its_kv_once(seed: int) -> None:
    rng = np.random.default_rng(seed)
    numbers = limits(
        int(rng.choice([1, 3, 20, 100])), int(rng.integers(1, 4)), int(rng.choice([1, 4, 5]))
    )
    table = page_table(rng, int(rng.integers(0, 14)))
    q_len = [int(rng.choice([0, 1, 1, 1, 3, 20])) for _ in table]
    # The last page has one row at least.
    kv_len = [max(len(pages) * PAGE - int(rng.integers(PAGE)), 0) for pages in table]
    plan = planned(numbers, table, q_len, kv_len)
    check_cascade(numbers, plan, table, q_len, kv_len)


def rows_read(plan: CascadePlan, kv_len: list[int]) -> int:
    request, begin, end = plan.items[:, 0], plan.items[:, 3], plan.items[:, 4]
    return int((np.minimum(end, np.array(kv_len)[request]) - begin).sum())


def test_a_prefix_is_read_once_a_query_tile_of_its_rows() -> None:
    numbers = limits(20, 2, 4)
    # 32 decodes of 4 rows are 2 tiles of 64; 100 shared pages, and 5 pages for each request.
    table = [[*range(100), *range(1000 * b, 1000 * b + 5)] for b in range(1, 33)]
    kv_len = [105 * PAGE] * 32
    plan = planned(numbers, table, [1] * 32, kv_len)
    assert rows_read(plan, kv_len) == 2 * (2 * 100 + 32 * 5) * PAGE


def test_levels_of_prefixes_are_read_once_each() -> None:
    numbers = limits(20, 1, 4)
    table = [[1, 2, 3, 4, 10], [1, 2, 3, 4, 11], [1, 2, 5, 12], [1, 2, 5, 13]]
    kv_len = [PAGE * len(pages) for pages in table]
    plan = planned(numbers, table, [1] * 4, kv_len)
    # Pages 1 and 2, pages 3 and 4, page 5, and one page for each request.
    assert rows_read(plan, kv_len) == (2 + 2 + 1 + 4) * PAGE


def test_requests_without_a_common_prefix_are_not_merged() -> None:
    plan = planned(limits(2, 1, 1), [[1, 2], [3, 4], [5, 6]], [1, 1, 1], [8, 8, 8])
    assert plan.partial_rows == 0


def test_prefixes_longer_than_their_requests_are_refused() -> None:
    prefixes = shared_prefixes(np.array([0, 2, 4]), np.array([1, 2, 1, 2]))
    with pytest.raises(ArgumentError, match="at most 7 rows of KV"):
        plan_cascade(limits(2, 1, 1), prefixes, np.array([0, 1, 2]), np.array([8, 7]), PAGE)


def test_requests_that_are_not_those_of_the_prefixes_are_refused() -> None:
    prefixes = shared_prefixes(np.array([0, 2, 4]), np.array([1, 2, 1, 2]))
    with pytest.raises(ArgumentError, match="2 requests, as in prefixes"):
        plan_cascade(limits(2, 1, 1), prefixes, np.array([0, 1]), np.array([8]), PAGE)
