"""Each operation of a variant's functions computes in a kernel what it computes in NumPy."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tilewright.attention import Variant, rsqrt, sigmoid
from tilewright.test.attention.reference import (
    Batch,
    Geometry,
    ScoreMod,
    attend,
    check,
    exact,
    gathered,
    random_batch,
    rounded,
)
from tilewright.test.attention.test_on_simulator import generator
from tilewright.test.attention.test_tracing import MASKS, SCORES

Float64 = npt.NDArray[np.float64]
GEOMETRY = Geometry(group=3, num_kv_heads=2, head_dim=16, page_size=4)
LENGTHS = [(17, 40), (5, 12), (1, 23)]
SCALE = 0.25
# The key that a query sees; the logarithm of one exponential is the score of that key.
KEYS = 11


def only_one(b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
    """Returns whether this is the key that the query sees."""
    return kv_idx == (q_idx * 7 + h * 3 + b) % KEYS


def batch_of_quarters(*facts: object) -> Batch:
    """Returns a batch whose products are multiples of 1/64, small enough to be exact in f32."""
    rng = generator("operations", *facts)
    batch = random_batch(GEOMETRY, LENGTHS, rng)

    def quarters(shape: tuple[int, ...]) -> npt.NDArray[Any]:
        return rounded(rng.integers(-8, 9, shape) / 4, GEOMETRY.dtype)

    return replace(batch, q=quarters(batch.q.shape), k_pages=quarters(batch.k_pages.shape))


def scores_seen(batch: Batch, score_mod: ScoreMod) -> Float64:
    """Returns for each row and head the score of the one key that it sees."""
    seen = np.zeros(batch.q.shape[:2])
    for b in range(len(LENGTHS)):
        keys = gathered(GEOMETRY, batch, batch.k_pages, b)
        rows = batch.rows(b)
        q_idx = np.arange(len(keys) - batch.query_len(b), len(keys))
        for h in range(GEOMETRY.num_qo_heads):
            kv_idx = (q_idx * 7 + h * 3 + b) % KEYS
            chosen = keys[kv_idx, h // GEOMETRY.group]
            products = SCALE * (exact(batch.q)[rows, h] * chosen).sum(axis=1)
            seen[rows, h] = score_mod(products, np.array(b), np.array(h), q_idx, kv_idx)
    return seen


def scores_of_kernel(batch: Batch, score_mod: ScoreMod) -> npt.NDArray[np.float32]:
    """Returns the same as a kernel computes it."""
    op = GEOMETRY.compile(Variant(score_mod, only_one), softmax_scale=SCALE)
    _, lse = op.plan(*batch.tables).run(*batch.arrays)
    return lse


def check_score(name: str, score_mod: ScoreMod, expected: ScoreMod) -> None:
    """Compares the score of a kernel with its definition; functions are good to about 2^-20."""
    batch = batch_of_quarters(name)
    got = scores_of_kernel(batch, score_mod)
    np.testing.assert_allclose(got, scores_seen(batch, expected), rtol=1e-5, atol=5e-6)


@pytest.mark.parametrize("name", SCORES)
def test_a_score_of_a_kernel_is_that_of_numpy(name: str) -> None:
    check_score(name, SCORES[name], SCORES[name])


FUNCTIONS: dict[str, tuple[ScoreMod, ScoreMod]] = {
    "rsqrt": (
        lambda s, b, h, q, k: rsqrt(s * s + 0.5),
        lambda s, b, h, q, k: 1 / np.sqrt(s * s + 0.5),
    ),
    "sigmoid": (lambda s, b, h, q, k: sigmoid(s), lambda s, b, h, q, k: 1 / (1 + np.exp(-s))),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_that_numpy_has_not(name: str) -> None:
    check_score(name, *FUNCTIONS[name])


@pytest.mark.parametrize("name", MASKS)
def test_a_mask_of_a_kernel_is_that_of_numpy(name: str) -> None:
    batch = random_batch(GEOMETRY, LENGTHS, generator("masks", name))
    got = GEOMETRY.compile(Variant(mask_mod=MASKS[name])).plan(*batch.tables).run(*batch.arrays)
    check(GEOMETRY, got, attend(GEOMETRY, batch, mask_mod=MASKS[name]))


LIMITS: dict[str, tuple[float, ScoreMod]] = {
    "tanh of large numbers": (1.0, lambda s, b, h, q, k: np.tanh(s * 0 + 1e4)),
    "tanh of large negative numbers": (-1.0, lambda s, b, h, q, k: np.tanh(s * 0 - 1e4)),
    "sigmoid of large numbers": (1.0, lambda s, b, h, q, k: sigmoid(s * 0 + 1e4)),
    "sigmoid of large negative numbers": (0.0, lambda s, b, h, q, k: sigmoid(s * 0 - 1e4)),
    "exp of large negative numbers": (0.0, lambda s, b, h, q, k: np.exp(s * 0 - 1e4)),
    "log of 0": (-np.inf, lambda s, b, h, q, k: np.log(s * 0)),
    "minus infinity": (-np.inf, lambda s, b, h, q, k: s - np.inf),
    "maximum with minus infinity": (2.0, lambda s, b, h, q, k: np.maximum(s * 0 + 2, -np.inf)),
    "root of 0": (0.0, lambda s, b, h, q, k: np.sqrt(s * 0)),
    "NaN": (np.nan, lambda s, b, h, q, k: s + np.nan),
    "NaN unequal to itself": (
        1.0,
        lambda s, b, h, q, k: np.where((s + np.nan) != (s + np.nan), 1.0, 2.0),
    ),
    "NaN less than nothing": (2.0, lambda s, b, h, q, k: np.where(s + np.nan < 5.0, 1.0, 2.0)),
}


@pytest.mark.parametrize("name", LIMITS)
def test_functions_have_their_limits(name: str) -> None:
    limit, score_mod = LIMITS[name]
    batch = batch_of_quarters(name)
    got = scores_of_kernel(batch, score_mod)
    np.testing.assert_allclose(got, np.full(got.shape, limit), rtol=1e-6, atol=1e-6)
