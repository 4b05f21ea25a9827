"""Kernels on the simulator, with its bounds checks on, agree with the definition in float64."""

import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import tilewright as tw
from tilewright.attention import Variant, VariantError
from tilewright.runtime.cache import ArtifactCache
from tilewright.test.spread import spread

from .reference import Geometry, MaskMod, ScoreMod, attend, check, exact, random_batch

# Set to any text for other inputs than those of every day.
FRESH = os.environ.get("TILEWRIGHT_TEST_SEED", "")


def generator(*facts: object) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(repr((facts, FRESH)).encode()))


@dataclass(frozen=True)
class Case:
    """A variant as the user writes it, and as the reference computes it."""

    variant: Callable[[int], object]
    score_mod: ScoreMod | None = None
    mask_mod: MaskMod | None = None


def causal_mask(b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
    return q_idx >= kv_idx


def alternating(b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
    return ((q_idx - kv_idx) % 3 == 0) | (kv_idx < 2 + b)


def tilted(score: Any, b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
    return score * 0.5 + (q_idx % 5) * 0.25 - h * 0.125 + b * 0.5


def near(b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
    return (kv_idx <= q_idx + 3) & (kv_idx >= q_idx - 40)


VARIANTS = {
    "full": Case(lambda heads: None),
    "causal": Case(lambda heads: tw.attention.causal(), mask_mod=causal_mask),
    "window": Case(
        lambda heads: tw.attention.sliding_window(17),
        mask_mod=lambda b, h, q, kv: (q >= kv) & (q - kv <= 17),
    ),
    "alibi": Case(
        tw.attention.alibi,
        # The reference knows the number of heads from the geometry: see `score_of`.
        mask_mod=causal_mask,
    ),
    "soft cap": Case(
        lambda heads: tw.attention.soft_cap(3.0),
        score_mod=lambda score, b, h, q, kv: 3.0 * np.tanh(score / 3.0),
    ),
    "own score": Case(lambda heads: tilted, score_mod=tilted),
    "own mask": Case(lambda heads: alternating, mask_mod=alternating),
    "own both": Case(lambda heads: Variant(tilted, near), score_mod=tilted, mask_mod=near),
}


def score_of(name: str, heads: int) -> ScoreMod | None:
    if name != "alibi":
        return VARIANTS[name].score_mod
    return lambda score, b, h, q, kv: score - 2.0 ** (-8.0 * (h + 1) / heads) * (q - kv)


def random_lengths(rng: np.random.Generator) -> list[tuple[int, int]]:
    """Prefill, prefill that continues, decode, and requests without queries or keys."""
    kinds = (
        lambda: (int(n := rng.integers(1, 70)), int(n)),
        lambda: (int(rng.integers(1, 40)), int(rng.integers(40, 200))),
        lambda: (1, int(rng.integers(1, 200))),
        lambda: (0, int(rng.integers(0, 50))),
        lambda: (int(rng.integers(1, 9)), 0),
        lambda: (int(rng.integers(9, 40)), int(rng.integers(1, 9))),
    )
    return [kinds[int(rng.integers(len(kinds)))]() for _ in range(int(rng.integers(1, 6)))]


def random_geometry(rng: np.random.Generator, head_dim: int) -> Geometry:
    return Geometry(
        group=int(rng.integers(1, 9)),
        num_kv_heads=int(rng.integers(1, 3)),
        head_dim=head_dim,
        page_size=int(rng.choice([1, 3, 16, 64])),
        layout=str(rng.choice(["NHD", "HND"])),
        dtype=str(rng.choice(["f16", "bf16"])),
    )


def run_and_check(name: str, geometry: Geometry, rng: np.random.Generator, **options: Any) -> None:
    batch = random_batch(geometry, random_lengths(rng), rng, garbage=np.nan)
    op = geometry.compile(VARIANTS[name].variant(geometry.num_qo_heads), **options)
    got = op.plan(*batch.tables).run(*batch.arrays)
    expected = attend(
        geometry,
        batch,
        score_mod=score_of(name, geometry.num_qo_heads),
        mask_mod=VARIANTS[name].mask_mod,
    )
    check(geometry, got, expected)


@pytest.mark.parametrize(
    ("head_dim", "mask"),
    spread([(d, m) for d in range(16, 257, 16) for m in ("full", "causal")], 11),
)
def test_every_head_dim(head_dim: int, mask: str) -> None:
    rng = generator("head_dim", head_dim, mask)
    run_and_check(mask, random_geometry(rng, head_dim), rng)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("turn", spread(range(4), 1))
def test_every_variant(name: str, turn: int) -> None:
    rng = generator("variant", name, turn)
    run_and_check(name, random_geometry(rng, int(rng.choice([32, 64, 80]))), rng)


@pytest.mark.parametrize(
    ("dtype", "layout", "page_size"),
    spread([(d, s, p) for p in (1, 3, 16, 64) for d in ("f16", "bf16") for s in ("NHD", "HND")], 7),
)
def test_every_storage_format(dtype: str, layout: str, page_size: int) -> None:
    rng = generator("storage", dtype, layout, page_size)
    geometry = Geometry(int(rng.integers(1, 9)), 2, 48, page_size, layout, dtype)
    run_and_check("causal", geometry, rng)


@pytest.mark.parametrize("stages", [2, 3, 4])
def test_any_number_of_stages(stages: int) -> None:
    rng = generator("stages", stages)
    run_and_check("causal", random_geometry(rng, 64), rng, stages=stages)


def test_long_requests() -> None:
    rng = generator("long")
    geometry = Geometry(4, 1, 128, 16, "NHD", "bf16")
    batch = random_batch(geometry, [(600, 600), (1, 577), (130, 450)], rng)
    got = geometry.compile(tw.attention.causal()).plan(*batch.tables).run(*batch.arrays)
    check(geometry, got, attend(geometry, batch, mask_mod=causal_mask))


def test_one_compilation_serves_all_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    puts: list[str] = []
    put = ArtifactCache.put

    def counted(self: ArtifactCache, key: str, artifact: Any) -> None:
        puts.append(key)
        put(self, key, artifact)

    monkeypatch.setattr(ArtifactCache, "put", counted)
    geometry, rng = Geometry(head_dim=96, page_size=5), generator("lengths")
    for lengths in ([(3, 3)], [(1, 90), (7, 8)], [(40, 40), (0, 3), (2, 11)]):
        batch = random_batch(geometry, lengths, rng)
        got = geometry.compile(tw.attention.causal()).plan(*batch.tables).run(*batch.arrays)
        check(geometry, got, attend(geometry, batch, mask_mod=causal_mask))
    assert len(puts) <= 1


def test_nan_in_a_query_stays_in_its_row_and_head() -> None:
    geometry, rng = Geometry(group=3, head_dim=64), generator("nan")
    batch = random_batch(geometry, [(20, 33), (4, 70)], rng)
    clean, _ = geometry.compile(tw.attention.causal()).plan(*batch.tables).run(*batch.arrays)
    batch.q[5, 2, 7] = np.nan
    got, lse = geometry.compile(tw.attention.causal()).plan(*batch.tables).run(*batch.arrays)
    assert np.isnan(exact(got)[5, 2]).all()
    assert np.isnan(lse[5, 2])
    others = np.ones(got.shape[:2], np.bool_)
    others[5, 2] = False
    np.testing.assert_array_equal(got[others], clean[others])


def test_results_do_not_depend_on_unused_pages() -> None:
    geometry = Geometry(head_dim=64, page_size=16)
    results: list[Any] = []
    for garbage in (np.nan, 6e4, 0.0):
        batch = random_batch(geometry, [(9, 21), (1, 40)], generator("unused"), garbage)
        results.append(geometry.compile().plan(*batch.tables).run(*batch.arrays))
    for out, lse in results[1:]:
        np.testing.assert_array_equal(out, results[0][0])
        np.testing.assert_array_equal(lse, results[0][1])


def test_softmax_scale_is_a_run_time_value() -> None:
    geometry, rng = Geometry(head_dim=32), generator("scale")
    batch = random_batch(geometry, [(12, 30)], rng)
    plan = geometry.compile(softmax_scale=0.5).plan(*batch.tables)
    check(geometry, plan.run(*batch.arrays), attend(geometry, batch, scale=0.5))
    got = plan.run(*batch.arrays, softmax_scale=0.07)
    check(geometry, got, attend(geometry, batch, scale=0.07))


def test_scores_of_minus_infinity_hide_keys() -> None:
    geometry, rng = Geometry(head_dim=32), generator("hidden")
    batch = random_batch(geometry, [(8, 150), (3, 5)], rng)

    def hide(score: Any, b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
        return tw.attention.where(kv_idx >= 70, score, float("-inf"))

    got = geometry.compile(hide).plan(*batch.tables).run(*batch.arrays)
    check(geometry, got, attend(geometry, batch, mask_mod=lambda b, h, q, kv: kv >= 70))


def test_an_empty_batch_has_empty_results() -> None:
    geometry = Geometry(head_dim=32)
    batch = random_batch(geometry, [], generator("empty"))
    out, lse = geometry.compile().plan(*batch.tables).run(*batch.arrays)
    assert out.shape == (0, geometry.num_qo_heads, 32)
    assert lse.shape == (0, geometry.num_qo_heads)


def test_a_variant_that_cannot_be_traced_compiles_nothing() -> None:
    def wrong(b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
        return q_idx if q_idx > kv_idx else kv_idx

    with pytest.raises(VariantError, match="test_on_simulator.py"):
        Geometry().compile(wrong)
