"""What is no number stays in the rows that see it; two attentions that make one."""

from typing import Any

import numpy as np

import tilewright.attention as attention
from tilewright.attention import Variant, tensor
from tilewright.test.attention.reference import (
    TOLERANCE,
    Batch,
    Geometry,
    attend,
    exact,
    random_batch,
)
from tilewright.test.attention.test_on_simulator import generator

GEOMETRY = Geometry(group=2, num_kv_heads=1, head_dim=32, page_size=4)


def run(variant: Variant, batch: Batch, **params: Any) -> Any:
    return GEOMETRY.compile(variant).plan(*batch.tables).run(*batch.arrays, params=params)


def slot(batch: Batch, key: int) -> tuple[int, int]:
    """Returns the page and the token of a key of the first request."""
    return int(batch.pages(0)[key // 4]), key % 4


def test_nan_in_a_key_reaches_the_rows_that_see_it_alone() -> None:
    batch = random_batch(GEOMETRY, [(90, 90), (4, 30)], generator("nan key"))
    clean, clean_lse = run(attention.causal(), batch)
    batch.k_pages[slot(batch, 40)] = np.nan
    out, lse = run(attention.causal(), batch)
    seeing = np.zeros(94, np.bool_)
    seeing[40:90] = True
    np.testing.assert_array_equal(out[~seeing], clean[~seeing])
    np.testing.assert_array_equal(lse[~seeing], clean_lse[~seeing])
    assert np.isnan(exact(out)[seeing]).all()


def test_nan_in_a_value_reaches_no_row_that_visits_none_of_its_tile() -> None:
    batch = random_batch(GEOMETRY, [(150, 150), (4, 30)], generator("nan value"))
    clean, _ = run(attention.causal(), batch)
    batch.v_pages[slot(batch, 140)] = np.nan
    out, _ = run(attention.causal(), batch)
    # Tiles of keys have at most 128 keys, tiles of queries at most 64 packed rows of 2 heads.
    np.testing.assert_array_equal(out[:96], clean[:96])
    np.testing.assert_array_equal(out[150:], clean[150:])
    assert np.isnan(exact(out)[140:150]).all()


def test_a_score_that_overflows_makes_nan_of_its_row_alone() -> None:
    batch = random_batch(GEOMETRY, [(20, 40)], generator("overflow"))
    clean, _ = run(attention.full(), batch)

    def overflow(score: Any, b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
        large = attention.exp(score * 0 + 100) * attention.exp(score * 0 + 100)
        return attention.where((q_idx == 25) & (kv_idx == 2), large, score)

    out, lse = run(Variant(score_mod=overflow), batch)
    others = np.arange(20) != 5
    # The variant's scores are rounded before the exponential, those of no variant after it.
    error = np.linalg.norm(exact(out)[others] - exact(clean)[others])
    assert error <= TOLERANCE["f16"] * np.linalg.norm(exact(clean)[others])
    assert np.isnan(exact(out)[5]).all()
    assert np.isfinite(lse[others]).all()


def test_differential_attention_is_two_attentions() -> None:
    rng = generator("differential")
    first, second = (random_batch(GEOMETRY, [(7, 21), (1, 9)], rng, 0.0) for _ in range(2))
    second = Batch(*first.tables, second.q, second.k_pages, first.v_pages)
    weight = rng.uniform(0.2, 0.8, 2).astype(np.float32)
    out, _ = run(attention.causal(), first)
    subtract = attention.differential(
        tensor("first", ("n", "heads", "head_dim")), tensor("weight", ("heads",))
    )
    got, _ = run(attention.causal() & subtract, second, first=exact(out).astype("f"), weight=weight)

    def causal(b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
        return q_idx >= kv_idx

    one, two = (attend(GEOMETRY, batch, mask_mod=causal)[0] for batch in (first, second))
    wanted = one - weight[:, None] * two
    assert np.linalg.norm(exact(got) - wanted) <= 3e-3 * np.linalg.norm(wanted)
