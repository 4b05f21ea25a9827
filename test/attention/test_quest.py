"""Sparse decode on the simulator, with all its checks: summaries, bounds, the pages chosen."""

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright import attention
from tilewright.attention import BatchLimits
from tilewright.attention.compiled_kernels import kernel
from tilewright.runtime.errors import ArgumentError
from tilewright.runtime.simulator_device import SimulatorDevice

from .kv_case import DTYPES, batch_of

Array = npt.NDArray[Any]
HEADS, GROUP, DIM = 2, 4, 64
LENGTHS = [1, 33, 64, 0, 90]


@pytest.fixture(scope="module")
def device() -> SimulatorDevice:
    """Returns the simulator with all checks."""
    return SimulatorDevice(checks="all")


def i32(*values: int) -> npt.NDArray[np.int32]:
    return np.array(values, np.int32)


def table_of(lengths: list[int], page_size: int, seed: int = 0) -> tuple[attention.PageTable, int]:
    """Returns a table and the number of pages of its cache."""
    batch = batch_of([(0, length) for length in lengths], page_size, seed)
    return batch.table, batch.pages


def summarized(pages: Array, table: attention.PageTable, device: SimulatorDevice) -> Array:
    """Returns summaries of all pages of a table; those of other pages are NaN."""
    shape = (pages.shape[0], 2, HEADS, DIM)
    summaries = np.full(shape, np.nan, pages.dtype)
    changed = attention.changed_pages(table, table.lengths)
    attention.summarize_pages(pages, summaries, *changed, device=device)
    return summaries


def keys(pages: int, page_size: int, dtype: str = "f16", seed: int = 0) -> Array:
    values = np.random.default_rng(seed).normal(size=(pages, page_size, HEADS, DIM))
    return values.astype(DTYPES[dtype])


def query(batch: int, dtype: str = "f16", seed: int = 1) -> Array:
    values = np.random.default_rng(seed).normal(size=(batch, HEADS * GROUP, DIM))
    return values.astype(DTYPES[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["NHD", "HND"])
def test_summaries_are_the_ends_of_what_pages_hold(
    layout: str, dtype: str, device: SimulatorDevice
) -> None:
    pages = keys(5, 8, dtype)
    # What a page does not hold must not count.
    pages[3, 5:], pages[1, 1:] = np.nan, 1e4
    given_pages = np.ascontiguousarray(pages.swapaxes(1, 2)) if layout == "HND" else pages
    summaries = np.full((5, 2, HEADS, DIM), 7, DTYPES[dtype])
    listed, lengths = i32(3, 0, 1), i32(5, 8, 1)
    attention.summarize_pages(given_pages, summaries, listed, lengths, layout=layout, device=device)
    expected = np.full((5, 2, HEADS, DIM), 7, DTYPES[dtype])
    for page, length in zip(listed, lengths, strict=True):
        held = pages[page, :length].astype(np.float64)
        expected[page] = np.stack([held.min(axis=0), held.max(axis=0)])
    np.testing.assert_array_equal(summaries, expected)


@pytest.mark.parametrize("form", ["both", "strided"])
def test_summaries_of_keys_beside_values(form: str, device: SimulatorDevice) -> None:
    both = np.stack([keys(4, 8, seed=0), keys(4, 8, seed=1)], axis=1)
    summaries = np.zeros((4, 2, HEADS, DIM), np.float16)
    given_pages = both if form == "both" else both[:, 0]
    listed, lengths = i32(2, 0), i32(8, 8)
    attention.summarize_pages(given_pages, summaries, listed, lengths, device=device)
    np.testing.assert_array_equal(summaries[2, 1], both[2, 0].max(axis=0))
    np.testing.assert_array_equal(summaries[0, 0], both[0, 0].min(axis=0))


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 20)), max_size=6), st.integers(1, 9))
def test_changed_pages_are_those_of_new_tokens(
    requests: list[tuple[int, int]], page_size: int
) -> None:
    batch = batch_of(requests, page_size)
    counts = batch.counts.astype(np.int32)
    found, lengths = attention.changed_pages(batch.table, counts)
    assert set(found.tolist()) == {page for page, _, _ in batch.places()}
    last = {page: slot + 1 for page, slot, _ in batch.places()}
    assert dict(zip(found.tolist(), lengths.tolist(), strict=True)) == last


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("page_size", [4, 16])
def test_scores_are_the_bounds_of_their_pages(
    page_size: int, dtype: str, device: SimulatorDevice
) -> None:
    table, count = table_of(LENGTHS, page_size)
    pages, q = keys(count, page_size, dtype), query(len(LENGTHS), dtype)
    summaries = summarized(pages, table, device)
    choice = attention.plan_choice(table, HEADS, budget=4)
    found = choice.scores(q, summaries, device=device)
    owner = np.repeat(np.arange(table.batch), table.pages)
    x = q.astype(np.float64).reshape(-1, HEADS, GROUP, DIM)[owner]
    low, high = (summaries[table.kv_indices, end].astype(np.float64) for end in (0, 1))
    bounds = np.maximum(x * low[:, :, None], x * high[:, :, None]).sum(axis=-1).max(axis=-1)
    np.testing.assert_allclose(found, bounds, rtol=1e-5, atol=1e-5)


def test_no_key_of_a_page_scores_higher_than_its_bound(device: SimulatorDevice) -> None:
    table, count = table_of(LENGTHS, 16)
    pages, q = keys(count, 16), query(len(LENGTHS))
    choice = attention.plan_choice(table, HEADS, budget=4)
    bounds = choice.scores(q, summarized(pages, table, device), device=device)
    for b in range(table.batch):
        for entry in range(table.kv_indptr[b], table.kv_indptr[b + 1]):
            is_last = entry == table.kv_indptr[b + 1] - 1
            held = table.kv_last_page_len[b] if is_last else 16
            found = pages[table.kv_indices[entry], :held].astype(np.float64)
            x = q[b].astype(np.float64).reshape(HEADS, GROUP, DIM)
            largest = np.einsum("hgd,thd->hgt", x, found).max(axis=(1, 2))
            assert (largest <= bounds[entry] + 1e-4).all()


def chosen_by_hand(
    scores: Array, table: attention.PageTable, budget: int, recent: int
) -> list[list[int]]:
    """Returns the pages of each request and head by sorting its scores."""
    found: list[list[int]] = []
    for b in range(table.batch):
        first, end = int(table.kv_indptr[b]), int(table.kv_indptr[b + 1])
        for h in range(scores.shape[1]):
            kept = list(range(max(first, end - recent), end))
            others = sorted(range(first, max(first, end - recent)), key=lambda e: -scores[e, h])
            kept += others[: max(0, budget - len(kept))]
            found.append([int(table.kv_indices[e]) for e in sorted(kept)])
    return found


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=5),
    st.integers(1, 12),
    st.integers(1, 3),
    st.integers(0, 2**32 - 1),
)
def test_the_pages_with_the_highest_bounds_are_chosen(
    lengths: list[int], budget: int, recent: int, seed: int
) -> None:
    device = SimulatorDevice(checks="all")
    recent = min(recent, budget)
    table, count = table_of(lengths, 4, seed)
    # Small whole numbers: bounds are exact, and many are equal.
    generator = np.random.default_rng(seed)
    pages = generator.integers(-1, 2, (count, 4, HEADS, DIM)).astype(np.float16)
    q = generator.integers(0, 2, (len(lengths), HEADS * GROUP, DIM)).astype(np.float16)
    summaries = summarized(pages, table, device)
    choice = attention.plan_choice(table, HEADS, budget=budget, recent=recent)
    found = choice.run(q, summaries, device=device)
    scores = choice.scores(q, summaries, device=device)
    rows = [found[a:b].tolist() for a, b in zip(choice.kv_indptr, choice.kv_indptr[1:])]
    assert rows == chosen_by_hand(scores, table, budget, recent)


def test_more_pages_than_threads_are_chosen_from(device: SimulatorDevice) -> None:
    lengths, rng = [2001, 700, 3], np.random.default_rng(17)
    table, count = table_of(lengths, 4, 3)
    # Few different bounds, of both signs: many pages are equal at the least that is chosen.
    pages = rng.integers(-1, 2, (count, 4, HEADS, DIM)).astype(np.float16)
    pages[table.kv_indices[200], 1] = np.nan
    q = rng.integers(-1, 1, (3, HEADS * GROUP, DIM)).astype(np.float16)
    summaries = summarized(pages, table, device)
    for budget, recent in ((1, 1), (130, 2), (501, 7)):
        choice = attention.plan_choice(table, HEADS, budget=budget, recent=recent)
        found = choice.run(q, summaries, device=device)
        scores = np.nan_to_num(choice.scores(q, summaries, device=device), nan=np.inf)
        rows = [found[a:b].tolist() for a, b in zip(choice.kv_indptr, choice.kv_indptr[1:])]
        assert rows == chosen_by_hand(scores, table, budget, recent)


def test_the_choice_is_a_page_table_of_single_heads(device: SimulatorDevice) -> None:
    table, count = table_of(LENGTHS, 16)
    pages, q = keys(count, 16), query(len(LENGTHS))
    choice = attention.plan_choice(table, HEADS, budget=3)
    found = choice.run(q, summarized(pages, table, device), device=device)
    rows = attention.PageTable(choice.kv_indptr, found, choice.kv_last_page_len, 16)
    assert rows.batch == table.batch * HEADS
    np.testing.assert_array_equal(rows.pages, np.repeat(np.minimum(table.pages, 3), HEADS))


def test_attention_on_the_chosen_pages_finds_the_key_that_matters(device: SimulatorDevice) -> None:
    table, count = table_of([160], 16)
    pages, q = keys(count, 16) / np.float16(8), query(1)
    pages = pages.astype(np.float16)
    for h in range(HEADS):
        pages[table.kv_indices[2 + h], 5, h] = 2 * q[0, h * GROUP]
    values = keys(count, 16, seed=3)
    choice = attention.plan_choice(table, HEADS, budget=3)
    found = choice.run(q, summarized(pages, table, device), device=device)
    op = attention.compile(
        kv=attention.PagedKV(16), num_qo_heads=GROUP, num_kv_heads=1, head_dim=DIM, dtype="f16"
    )
    for h in range(HEADS):
        first, end = choice.kv_indptr[h : h + 2]
        plan = op.plan(
            i32(0, 1), i32(0, end - first), found[first:end], choice.kv_last_page_len[:1]
        )
        k, v = (np.ascontiguousarray(x[:, :, h : h + 1]) for x in (pages, values))
        heads = slice(h * GROUP, (h + 1) * GROUP)
        out, _ = plan.run(q[:, heads], k, v, device=device)
        held = pages[table.kv_indices, :, h].reshape(-1, DIM).astype(np.float64)
        score = held @ q[0, h * GROUP].astype(np.float64) * DIM**-0.5
        weights = np.exp(score - score.max())
        expected = weights @ values[table.kv_indices, :, h].reshape(-1, DIM) / weights.sum()
        np.testing.assert_allclose(out[0, 0].astype(np.float64), expected, atol=5e-3)


def test_a_page_whose_bound_is_no_number_is_chosen(device: SimulatorDevice) -> None:
    table, count = table_of([80], 16)
    pages = keys(count, 16)
    pages[table.kv_indices[1], 3, 0, 9] = np.nan
    choice = attention.plan_choice(table, HEADS, budget=2)
    found = choice.run(query(1), summarized(pages, table, device), device=device)
    assert found[:2].tolist() == [table.kv_indices[1], table.kv_indices[4]]


def test_keys_and_summaries_are_loaded_16_bytes_at_once() -> None:
    shape = {"heads": 8, "head_dim": 128, "dtype": "f16"}
    paged = {"page_size": 16, "layout": "NHD", "both": False, "page_step": 0}
    for text in (
        kernel("summarize_pages", "sm_80", **shape, **paged).ptx,
        kernel("score_pages", "sm_80", **shape, group=4).ptx,
    ):
        assert "ld.global.v4.b32" in text
        assert "ld.global.b16" not in text


def refused(message: str, call: Any, *arguments: Any, **options: Any) -> None:
    with pytest.raises(ArgumentError, match=message):
        call(*arguments, **options)


def test_bad_lists_of_pages_are_refused() -> None:
    pages, summaries = keys(4, 8), np.zeros((4, 2, HEADS, DIM), np.float16)
    call = attention.summarize_pages
    refused("'pages': .* got 4 at", call, pages, summaries, i32(0, 4), i32(1, 1))
    refused("'pages': expected each page once", call, pages, summaries, i32(1, 1), i32(1, 1))
    refused("'lengths': .* got 9 at", call, pages, summaries, i32(0, 1), i32(1, 9))
    refused("'lengths': expected 2 entries", call, pages, summaries, i32(0, 1), i32(1))
    refused("'summaries': expected shape", call, pages, summaries[:, :1], i32(0), i32(1))
    refused("'summaries': expected dtype", call, pages.astype(np.float32), summaries, i32(), i32())


def test_bad_choices_are_refused() -> None:
    table, count = table_of([40], 8)
    summaries = np.zeros((count, 2, HEADS, DIM), np.float16)
    refused("'budget'", attention.plan_choice, table, HEADS, budget=0)
    refused("'recent': expected 1 to 2", attention.plan_choice, table, HEADS, budget=2, recent=3)
    choice = attention.plan_choice(table, HEADS, budget=2)
    refused("'q': expected shape", choice.run, query(2), summaries)
    refused("'q': expected a multiple", choice.run, query(1)[:, :7].copy(), summaries)
    refused("'summaries': expected dtype f16", choice.run, query(1), summaries.astype(np.float32))
    refused("'kv_indices'", choice.run, query(1), summaries[:1].copy())


def test_bf16_is_taken_as_bits_too(device: SimulatorDevice) -> None:
    pages = keys(2, 8, "bf16")
    summaries = np.zeros((2, 2, HEADS, DIM), np.uint16)
    attention.summarize_pages(pages.view(np.uint16), summaries, i32(1), i32(8), device=device)
    found = summaries.view(ml_dtypes.bfloat16)[1, 1]
    np.testing.assert_array_equal(found, pages[1].max(axis=0))


def decoding() -> attention.AttentionOp:
    """Returns the kernel that attends to chosen pages of 8 tokens."""
    return attention.compile(
        variant=attention.causal(),
        kv=attention.PagedKV(8, table_of_heads=True),
        num_qo_heads=HEADS * GROUP,
        num_kv_heads=HEADS,
        head_dim=DIM,
        dtype="f16",
        query_len=1,
    )


def test_decode_attends_to_the_chosen_pages(device: SimulatorDevice) -> None:
    """The result is that of attention over the pages that a ranking in float64 chooses."""
    table, total = table_of(LENGTHS, 8, 11)
    k, v, q = keys(total, 8, seed=12), keys(total, 8, seed=13), query(len(LENGTHS), seed=14)
    choice = attention.plan_choice(table, HEADS, budget=3)
    op = decoding()
    chosen = choice.run(q, summarized(k, table, device), device=device)
    out, lse = choice.plan(op).run(q, k, v, kv_indices=chosen, device=device)
    for b, length in enumerate(LENGTHS):
        pages = table.kv_indices[table.kv_indptr[b] : table.kv_indptr[b + 1]]
        for head in range(HEADS * GROUP):
            group = slice(head // GROUP * GROUP, head // GROUP * GROUP + GROUP)
            places = _best_pages(q[b, group], k[:, :, head // GROUP], pages, length, 3)
            ends = [(8 * place, min(8 * place + 8, length)) for place in places]
            tokens = np.array([t for a, b in ends for t in range(a, b)], np.int64)
            rows = [x[pages[tokens // 8], tokens % 8, head // GROUP] for x in (k, v)]
            scores = rows[0].astype(float) @ q[b, head].astype(float) * DIM**-0.5
            weights = np.exp(scores)
            if not tokens.size:
                assert lse[b, head] == -np.inf
                continue
            np.testing.assert_allclose(lse[b, head], np.log(weights.sum()), rtol=0, atol=1e-3)
            wanted = weights @ rows[1].astype(float) / weights.sum()
            np.testing.assert_allclose(out[b, head], wanted, rtol=0, atol=2e-3)


def _best_pages(q: Array, k: Array, pages: Array, length: int, budget: int) -> list[int]:
    """Returns the places of the last page and of those with the highest bounds, ascending."""
    bounds: list[float] = []
    for place, page in enumerate(pages):
        rows = k[page, : min(8, length - 8 * place)].astype(float)
        products = np.maximum(q.astype(float) * rows.min(0), q.astype(float) * rows.max(0))
        bounds.append(products.sum(1).max())
    order = sorted(range(len(bounds) - 1), key=lambda place: (-bounds[place], place))
    return sorted([*order[: budget - 1], *([len(bounds) - 1] if bounds else [])])


def limits_of(requests: int, kv_len: int, pages: int) -> BatchLimits:
    return BatchLimits(requests=requests, query_rows=requests, kv_len=kv_len, pages=pages)


def test_a_choice_with_limits_takes_one_table_after_the_other_in_place(
    device: SimulatorDevice,
) -> None:
    budget, limits = 3, limits_of(7, 128, 60)
    op = decoding()
    first, _ = table_of([20, 9], 8, 5)
    choice = attention.plan_choice(first, HEADS, budget=budget, limits=limits)
    plan = choice.plan(op, device=device)
    chosen = np.zeros(choice.chosen, np.int32)
    for seed, lengths in enumerate(([20, 9], LENGTHS, [128] * 3, [0, 0])):
        table, _ = table_of(lengths, 8, seed)
        k, v = (keys(60, 8, seed=seed + n) for n in (20, 40))
        q = np.concatenate([query(len(lengths), seed=seed), query(7 - len(lengths), seed=99)])
        choice.update(table)
        plan.update(*choice.tables)
        got = choice.run(q, summarized(k, table, device), out=chosen, device=device)
        assert got is chosen
        out, lse = plan.run(q, k, v, kv_indices=chosen, device=device)
        alone = attention.plan_choice(table, HEADS, budget=budget)
        pages = alone.run(q[: len(lengths)], summarized(k, table, device), device=device)
        np.testing.assert_array_equal(chosen[: pages.size], pages)
        once = alone.plan(op, device=device)
        wanted = once.run(q[: len(lengths)], k, v, kv_indices=pages, device=device)
        np.testing.assert_array_equal(lse[: len(lengths)] == -np.inf, wanted[1] == -np.inf)
        np.testing.assert_allclose(
            out[: len(lengths)].astype(float), wanted[0].astype(float), rtol=0, atol=2e-3
        )


def test_addresses_of_a_choice_with_limits_stay(device: SimulatorDevice) -> None:
    limits = limits_of(4, 64, 40)
    table, _ = table_of([40, 13], 8)
    choice = attention.plan_choice(table, HEADS, budget=2, limits=limits)
    summaries = summarized(keys(40, 8), table, device)

    def addresses() -> list[object]:
        choice.run(query(4), summaries, device=device)
        views = (*choice.upload(device).values(), choice.held_scores(device))
        return [view.buffer.handle for view in views if view.buffer is not None]

    before = addresses()
    assert len(before) == 5
    choice.update(table_of([64, 64, 8], 8)[0])
    assert all(now is then for now, then in zip(addresses(), before, strict=True))


def test_a_table_beyond_the_limits_of_a_choice_changes_nothing(device: SimulatorDevice) -> None:
    table, count = table_of([40, 13], 8)
    choice = attention.plan_choice(table, HEADS, budget=2, limits=limits_of(2, 64, 10))
    summaries = summarized(keys(count, 8), table, device)
    before = choice.run(query(2), summaries, device=device)
    for lengths, message in (
        ([1, 1, 1], "'kv_len': expected at most 2 requests, as declared, got 3"),
        ([65], "'kv_len': expected 0 to 64 KV rows, as declared, got 65"),
        ([60, 60], "'kv_indices': expected at most 10 entries, as declared, got 16"),
    ):
        refused(message, choice.update, table_of(lengths, 8)[0])
    refused("'table': expected pages of 8 tokens", choice.update, table_of([4], 4)[0])
    far = attention.PageTable(i32(0, 1), i32(count), i32(3), 8)
    refused(f"'kv_indices': expected page numbers below {count}", choice.update, far)
    assert choice.table is table
    np.testing.assert_array_equal(choice.run(query(2), summaries, device=device), before)
    wrong: Any = "a table"
    refused("'table': expected a PageTable, got str", choice.update, wrong)
    refused("'table': expected a PageTable, got str", attention.plan_choice, wrong, HEADS, budget=2)
    wrong = 5
    refused(
        "'limits': expected a BatchLimits",
        attention.plan_choice,
        table,
        HEADS,
        budget=2,
        limits=wrong,
    )
    without = attention.plan_choice(table, HEADS, budget=2)
    refused("'update': expected a choice that was made with limits", without.update, table)
