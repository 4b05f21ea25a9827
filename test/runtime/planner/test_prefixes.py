"""Shared prefixes in page tables, beside a comparison of all pairs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.runtime.errors import ArgumentError
from tilewright.runtime.planner.prefixes import Prefixes, sharable_pages, shared_prefixes

# Few page numbers, so that random requests share prefixes.
TABLES = st.lists(st.lists(st.integers(0, 2), max_size=6), max_size=12)


def found(table: list[list[int]], **options: object) -> Prefixes:
    indptr = np.cumsum([0, *map(len, table)])
    indices = np.array([page for pages in table for page in pages], np.int32)
    return shared_prefixes(indptr, indices, **options)  # pyright: ignore[reportArgumentType]


def groups_of(prefixes: Prefixes) -> set[tuple[frozenset[int], int, int]]:
    spans = zip(prefixes.begin, prefixes.end, strict=True)
    members = [frozenset(prefixes.order[begin:end].tolist()) for begin, end in spans]
    first, end = prefixes.first_page.tolist(), prefixes.end_page.tolist()
    return set(zip(members, first, end, strict=True))


def expected_groups(table: list[list[int]]) -> set[tuple[frozenset[int], int, int]]:
    """All longest prefixes of several requests, by comparing each prefix with each request."""
    members: dict[tuple[int, ...], frozenset[int]] = {}
    for pages in table:
        for length in range(1, len(pages) + 1):
            prefix = tuple(pages[:length])
            having = [b for b, other in enumerate(table) if tuple(other[:length]) == prefix]
            if len(having) > 1:
                members[prefix] = frozenset(having)
    result: set[tuple[frozenset[int], int, int]] = set()
    for same in set(members.values()):
        depths = sorted(len(prefix) for prefix, having in members.items() if having == same)
        result.add((same, depths[0] - 1, depths[-1]))
    return result


@settings(deadline=None, max_examples=60)
@given(TABLES)
def test_groups_are_all_longest_shared_prefixes(table: list[list[int]]) -> None:
    assert groups_of(found(table)) == expected_groups(table)


@settings(deadline=None, max_examples=60)
@given(TABLES, st.integers(2, 4), st.integers(1, 3))
def test_groups_keep_to_the_least_size(table: list[list[int]], requests: int, pages: int) -> None:
    prefixes = found(table, min_requests=requests, min_pages=pages)
    assert (prefixes.end - prefixes.begin >= requests).all()
    assert (prefixes.end_page - prefixes.first_page >= pages).all()


@settings(deadline=None, max_examples=60)
@given(TABLES, st.integers(1, 3))
def test_groups_begin_where_their_parents_end(table: list[list[int]], pages: int) -> None:
    prefixes = found(table, min_pages=pages)
    for group, parent in enumerate(prefixes.parent):
        assert parent < group
        first = prefixes.end_page[parent] if parent >= 0 else 0
        assert prefixes.first_page[group] == first
        if parent >= 0:
            assert prefixes.begin[parent] <= prefixes.begin[group]
            assert prefixes.end[group] <= prefixes.end[parent]


@settings(deadline=None, max_examples=60)
@given(TABLES)
def test_shared_pages_are_the_longest_common_prefix(table: list[list[int]]) -> None:
    shared = found(table).shared_pages()
    for request, pages in enumerate(table):
        lengths = [
            next((i for i, (a, b) in enumerate(zip(pages, other)) if a != b), least)  # noqa: B905
            for index, other in enumerate(table)
            if index != request
            for least in [min(len(pages), len(other))]
        ]
        assert shared[request] == max(lengths, default=0)


def test_pages_that_may_not_be_shared_are_not() -> None:
    table = [[7, 8, 9], [7, 8, 9], [7, 8, 9]]
    prefixes = found(table, sharable=np.array([3, 2, 1]))
    assert groups_of(prefixes) == {(frozenset({0, 1, 2}), 0, 1), (frozenset({0, 1}), 1, 2)}


def test_saved_pages_count_all_levels() -> None:
    table = [[1, 2, 3], [1, 2, 4], [1, 5], [6]]
    # Page 1 is read once in place of three times, page 2 once in place of twice.
    assert found(table).pages_saved == 3


def test_a_page_that_a_query_row_does_not_see_whole_is_not_shared() -> None:
    # The first of 3 query rows stands at KV row 32: it sees rows 0 to 32, two pages of 16.
    assert sharable_pages([35, 31, 2], [3, 1, 5], 16).tolist() == [2, 1, 0]


@pytest.mark.parametrize(
    ("indptr", "indices", "options", "message"),
    [
        ([0, 2], [1], {}, "1 as the last entry"),
        ([0, 2, 1], [1], {}, "never decrease"),
        ([1, 1], [1], {}, "never decrease"),
        ([0, 1], [-1], {}, "page numbers of at least 0"),
        ([0, 1], [1], {"min_requests": 1}, "at least 2 requests"),
        ([0, 1], [1], {"sharable": np.array([-1])}, "numbers of at least 0"),
        ([0, 1], [1], {"sharable": [1]}, "integer array in host memory"),
    ],
)
def test_bad_tables_are_refused(
    indptr: list[int], indices: list[int], options: dict[str, object], message: str
) -> None:
    with pytest.raises(ArgumentError, match=message):
        shared_prefixes(np.array(indptr), np.array(indices), **options)  # pyright: ignore
