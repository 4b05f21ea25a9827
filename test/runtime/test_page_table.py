"""Page tables: lengths, growth, conversion, and tables on which writes would race."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.runtime.errors import ArgumentError
from tilewright.runtime.page_table import PageTable, append_positions, from_block_table

Array = npt.NDArray[Any]
LENGTHS = st.lists(st.integers(0, 70), max_size=8)
PAGE_SIZES = st.sampled_from([1, 3, 16])


def i32(*values: int) -> npt.NDArray[np.int32]:
    return np.array(values, np.int32)


def table_of(lengths: list[int], page_size: int, seed: int = 0) -> PageTable:
    """Returns a table of requests of these lengths, on pages in random order, written by hand."""
    pages = [-(-n // page_size) for n in lengths]
    order = np.random.default_rng(seed).permutation(sum(pages) + 5)[: sum(pages)]
    last = [n - (p - 1) * page_size if p else 0 for n, p in zip(lengths, pages, strict=True)]
    return PageTable(i32(0, *np.cumsum(pages)), order.astype(np.int32), i32(*last), page_size)


def tokens(table: PageTable) -> list[list[tuple[int, int]]]:
    """Returns the (page, place in it) of each token of each request."""
    found: list[list[tuple[int, int]]] = []
    for b in range(table.batch):
        pages = table.kv_indices[table.kv_indptr[b] : table.kv_indptr[b + 1]]
        places = [(int(page), slot) for page in pages for slot in range(table.page_size)]
        left = table.page_size - int(table.kv_last_page_len[b])
        found.append(places[: len(places) - left] if len(pages) else [])
    return found


@given(LENGTHS, PAGE_SIZES)
def test_lengths_count_the_tokens(lengths: list[int], page_size: int) -> None:
    assert table_of(lengths, page_size).lengths.tolist() == lengths


@given(LENGTHS, PAGE_SIZES, st.integers(0, 3))
def test_a_padded_table_holds_the_same_tokens(
    lengths: list[int], page_size: int, more: int
) -> None:
    table = table_of(lengths, page_size)
    width = int(table.pages.max(initial=0)) + more
    back = from_block_table(*table.block_table(width), page_size)
    assert tokens(back) == tokens(table)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=8), PAGE_SIZES)
def test_growth_keeps_the_tokens_and_adds_new_places(
    requests: list[tuple[int, int]], page_size: int
) -> None:
    table = table_of([length for length, _ in requests], page_size)
    counts = i32(*(count for _, count in requests))
    free = np.setdiff1d(np.arange(400 + table.kv_indices.size), table.kv_indices)
    grown = table.grown(counts, free.astype(np.int32))
    assert grown.lengths.tolist() == [length + count for length, count in requests]
    for before, after in zip(tokens(table), tokens(grown), strict=True):
        assert after[: len(before)] == before
    places = [place for request in tokens(grown) for place in request]
    assert len(set(places)) == len(places)
    assert grown.kv_indices.size - table.kv_indices.size == table.pages_needed(counts)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=8))
def test_new_tokens_stand_at_the_end_of_their_request(requests: list[tuple[int, int]]) -> None:
    counts = [new for _, new in requests]
    batch, positions = append_positions(
        i32(0, *np.cumsum(counts)), i32(*(old + new for old, new in requests))
    )
    expected = [(b, old + j) for b, (old, new) in enumerate(requests) for j in range(new)]
    assert list(zip(batch.tolist(), positions.tolist(), strict=True)) == expected


def test_a_shared_prefix_may_be_read() -> None:
    table = PageTable(i32(0, 2, 4), i32(7, 1, 7, 2), i32(3, 3), 4)
    table.check_written(i32(3, 2))


@pytest.mark.parametrize("counts", [(4, 0), (0, 4)], ids=["first", "second"])
def test_a_shared_page_may_not_be_written(counts: tuple[int, int]) -> None:
    table = PageTable(i32(0, 2, 4), i32(7, 1, 7, 2), i32(3, 3), 4)
    with pytest.raises(ArgumentError, match="page 7 of requests 0 and 1"):
        table.check_written(i32(*counts))


def test_a_page_twice_in_a_request_may_not_be_written() -> None:
    table = PageTable(i32(0, 2), i32(7, 7), i32(3), 4)
    with pytest.raises(ArgumentError, match="page 7 of requests 0 and 0"):
        table.check_written(i32(1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kv_indptr": i32(0, 3, 2, 4)}, r"'kv_indptr': .* never decrease, got 2 after 3"),
        ({"kv_indptr": i32(1, 2, 3, 4)}, "'kv_indptr': expected 0 as the first entry"),
        ({"kv_indptr": i32(0, 2, 2, 5)}, "'kv_indptr': expected 4 as the last entry, .*got 5"),
        ({"kv_indices": i32(0, 1, -2, 3)}, r"'kv_indices': .* at least 0, got -2 at \[2\]"),
        ({"kv_last_page_len": i32(5, 0, 1)}, r"'kv_last_page_len': .* 1 to 4 .* got 5 at \[0\]"),
        ({"kv_last_page_len": i32(4, 0, 0)}, r"'kv_last_page_len': .* got 0 at \[2\]"),
        ({"kv_last_page_len": i32(4, 1, 1)}, r"'kv_last_page_len': .* got 1 at \[1\]"),
        ({"kv_last_page_len": i32(4, 0)}, "'kv_last_page_len': expected 3 entries"),
        ({"page_size": 0}, "'page_size'"),
        ({"kv_indices": np.zeros(4, np.int64)}, "'kv_indices': .* dtype int64"),
    ],
)
def test_what_is_no_table_is_refused(change: dict[str, Any], message: str) -> None:
    fields: dict[str, Any] = {
        "kv_indptr": i32(0, 2, 2, 4),
        "kv_indices": i32(0, 1, 2, 3),
        "kv_last_page_len": i32(4, 0, 1),
        "page_size": 4,
    }
    PageTable(**fields)
    with pytest.raises(ArgumentError, match=message):
        PageTable(**(fields | change))


def test_a_page_that_the_cache_lacks_is_refused() -> None:
    table = PageTable(i32(0, 2), i32(5, 8), i32(1), 4)
    table.check_pages(9)
    with pytest.raises(ArgumentError, match=r"below 8, the pages of the cache, got 8 at \[1\]"):
        table.check_pages(8)


@pytest.mark.parametrize(
    ("free", "message"),
    [
        (i32(9), "at least 2 pages, got 1"),
        (i32(9, 1), "pages that no request has"),
        (i32(9, 9), "once"),
    ],
)
def test_growth_on_bad_free_pages_is_refused(free: Array, message: str) -> None:
    table = PageTable(i32(0, 2), i32(0, 1), i32(4), 4)
    with pytest.raises(ArgumentError, match=message):
        table.grown(i32(5), free)


def test_lengths_that_a_padded_table_cannot_hold_are_refused() -> None:
    with pytest.raises(ArgumentError, match=r"0 to 8 tokens, .* got 9 at \[1\]"):
        from_block_table(np.zeros((2, 2), np.int32), i32(8, 9), 4)


def test_lengths_below_what_is_appended_are_refused() -> None:
    with pytest.raises(ArgumentError, match="'lengths': .* got 1 at"):
        append_positions(i32(0, 2), i32(1))
