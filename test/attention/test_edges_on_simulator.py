"""Batches and numbers at the edges: nothing to see, infinities, shared pages, wide groups."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tilewright.attention import Variant, causal, where
from tilewright.attention.interpreter import Batch as Tables
from tilewright.attention.interpreter import attend as interpret
from tilewright.attention.variants import as_variant
from tilewright.test.attention.reference import (
    Array,
    Batch,
    Geometry,
    attend,
    check,
    exact,
    random_batch,
    rounded,
)
from tilewright.test.attention.test_on_simulator import VARIANTS, generator, score_of

GEOMETRY = Geometry(group=2, num_kv_heads=2, head_dim=32, page_size=8)


def run(batch: Batch, variant: object = None, geometry: Geometry = GEOMETRY) -> tuple[Array, Array]:
    """Returns what the kernel of a variant gives for a batch."""
    out, lse = geometry.compile(variant).plan(*batch.tables).run(*batch.arrays)
    return out, lse


def past(b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
    """The causal mask."""
    return q_idx >= kv_idx


def sees_nothing(out: Array, lse: Array) -> None:
    """Checks rows that see no key."""
    np.testing.assert_array_equal(exact(out), 0.0)
    np.testing.assert_array_equal(lse, -np.inf)


@pytest.mark.parametrize("name", ["full", "causal", "window"])
def test_requests_without_keys_give_zero(name: str) -> None:
    batch = random_batch(GEOMETRY, [(5, 0), (3, 9), (70, 0)], generator("no keys"))
    out, lse = run(batch, VARIANTS[name].variant(GEOMETRY.num_qo_heads))
    for request in (0, 2):
        sees_nothing(out[batch.rows(request)], lse[batch.rows(request)])
    assert np.isfinite(lse[batch.rows(1)]).all()


def test_queries_before_the_first_key_see_nothing() -> None:
    batch = random_batch(GEOMETRY, [(90, 7), (12, 11)], generator("before"))
    out, lse = run(batch, causal())
    # The last query stands at the last key, so the first 90 - 7 stand before all of them.
    sees_nothing(out[: 90 - 7], lse[: 90 - 7])
    check(GEOMETRY, (out, lse), attend(GEOMETRY, batch, mask_mod=past))


def test_a_mask_that_is_never_true_hides_everything() -> None:
    batch = random_batch(GEOMETRY, [(5, 100), (1, 3)], generator("hidden"))
    sees_nothing(*run(batch, Variant(mask_mod=lambda b, h, q_idx, kv_idx: False)))


def test_heads_may_see_different_keys() -> None:
    batch = random_batch(GEOMETRY, [(9, 150), (2, 70)], generator("heads"))

    def of_head(b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
        return (kv_idx % 4 == h) & (h < 3)

    out, lse = run(batch, of_head)
    sees_nothing(out[:, 3], lse[:, 3])
    check(GEOMETRY, (out, lse), attend(GEOMETRY, batch, mask_mod=of_head))


def test_requests_may_see_different_keys() -> None:
    batch = random_batch(GEOMETRY, [(4, 90), (4, 90), (4, 90)], generator("requests"))

    def of_request(b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
        return kv_idx >= 40 * b

    check(GEOMETRY, run(batch, of_request), attend(GEOMETRY, batch, mask_mod=of_request))


def test_keys_of_minus_infinity_have_no_weight() -> None:
    batch = random_batch(GEOMETRY, [(6, 150)], generator("keys"))
    batch = replace(batch, q=rounded(np.abs(exact(batch.q)) + 0.1, GEOMETRY.dtype))
    # All keys of the first tile and some of the others have scores of -inf.
    for token in (*range(64), 70, 149):
        batch.k_pages[batch.pages(0)[token // 8], token % 8] = -np.inf
    with np.errstate(invalid="ignore"):
        expected = attend(GEOMETRY, batch)
    assert np.isfinite(expected[1]).all()
    check(GEOMETRY, run(batch), expected)


def test_a_score_of_infinity_is_nan_in_its_row_alone() -> None:
    batch = random_batch(GEOMETRY, [(12, 80)], generator("infinity"))

    def infinite(score: Any, b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
        return where((q_idx == 70) & (kv_idx == 3) & (h == 1), float("inf"), score)

    out, lse = run(batch, infinite)
    row = 70 - (80 - 12)
    assert np.isnan(out[row, 1]).all()
    assert not np.isfinite(lse[row, 1])
    others = np.ones(out.shape[:2], np.bool_)
    others[row, 1] = False
    clean, clean_lse = run(batch, Variant(score_mod=lambda s, b, h, q, k: s))
    np.testing.assert_array_equal(out[others], clean[others])
    np.testing.assert_array_equal(lse[others], clean_lse[others])


def test_nan_in_a_key_reaches_the_rows_that_see_it() -> None:
    batch = random_batch(GEOMETRY, [(100, 100)], generator("key"))
    clean, _ = run(batch, causal())
    batch.k_pages[batch.pages(0)[66 // 8], 66 % 8, 0, 5] = np.nan
    out, lse = run(batch, causal())
    heads = slice(0, GEOMETRY.group)
    assert np.isnan(out[66:, heads]).all()
    assert np.isnan(lse[66:, heads]).all()
    np.testing.assert_array_equal(out[:66], clean[:66])
    np.testing.assert_array_equal(out[:, GEOMETRY.group :], clean[:, GEOMETRY.group :])


def test_large_scores_do_not_overflow() -> None:
    batch = random_batch(GEOMETRY, [(9, 130)], generator("large"))
    batch = replace(batch, q=rounded(exact(batch.q) * 2000, GEOMETRY.dtype))
    out, lse = run(batch)
    expected, expected_lse = attend(GEOMETRY, batch)
    assert np.abs(expected_lse).max() > 1000
    np.testing.assert_allclose(exact(out), expected, atol=4e-3)
    np.testing.assert_allclose(lse, expected_lse, rtol=1e-5)


def test_requests_may_share_pages() -> None:
    batch = random_batch(GEOMETRY, [(3, 24), (5, 29)], generator("shared"))
    own = batch.pages(1).copy()
    # The second request has the three pages of the first before its own last one.
    own[:3] = batch.pages(0)
    shared = replace(batch, kv_indices=np.concatenate([batch.pages(0), own]))
    check(GEOMETRY, run(shared, causal()), attend(GEOMETRY, shared, mask_mod=past))


@pytest.mark.parametrize("group", [5, 16, 64, 71])
def test_groups_wider_than_a_warp_or_a_tile(group: int) -> None:
    geometry = Geometry(group=group, num_kv_heads=1, head_dim=16, page_size=16)
    batch = random_batch(geometry, [(3, 40), (1, 90), (20, 20)], generator("group", group))
    got = run(batch, causal(), geometry)
    check(geometry, got, attend(geometry, batch, mask_mod=past))


def test_many_requests_of_one_query() -> None:
    rng = generator("many")
    lengths = [(1, int(rng.integers(0, 60))) for _ in range(80)]
    batch = random_batch(GEOMETRY, lengths, rng)
    check(GEOMETRY, run(batch, causal()), attend(GEOMETRY, batch, mask_mod=past))


@pytest.mark.parametrize("name", VARIANTS)
def test_the_interpreter_agrees_with_the_definition(name: str) -> None:
    geometry = replace(GEOMETRY, layout="HND")
    batch = random_batch(
        geometry, [(7, 7), (5, 20), (3, 0), (9, 4), (0, 5)], generator("interpreter")
    )
    variant = VARIANTS[name].variant(geometry.num_qo_heads)
    arrays = [exact(array) for array in batch.arrays]
    traced = as_variant(variant)
    got = interpret(traced.traced, Tables(*batch.tables), *arrays, scale=32**-0.5, layout="HND")
    expected = attend(
        geometry,
        batch,
        score_mod=score_of(name, geometry.num_qo_heads),
        mask_mod=VARIANTS[name].mask_mod,
    )
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)
