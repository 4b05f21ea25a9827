"""What the Python functions of a variant become when they are traced."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest

from tilewright.attention import (
    Variant,
    alibi,
    causal,
    exp,
    exp2,
    floor,
    full,
    log,
    log2,
    maximum,
    minimum,
    rsqrt,
    sigmoid,
    sliding_window,
    soft_cap,
    sqrt,
    tanh,
    where,
)
from tilewright.attention.expression import ScalarType, Value
from tilewright.attention.interpreter import evaluate
from tilewright.attention.module import attention_module
from tilewright.attention.spec import AttentionSpec, PagedKV
from tilewright.attention.variants import as_variant
from tilewright.test.attention.reference import MaskMod, ScoreMod

Array = npt.NDArray[Any]
F32, I32, I1 = ScalarType.F32, ScalarType.I32, ScalarType.I1


def traced_score(function: ScoreMod) -> Value:
    """Returns the traced score of a function."""
    score = as_variant(Variant(score_mod=function)).traced.score
    assert score is not None
    return score


def traced_mask(function: MaskMod) -> Value:
    """Returns the traced mask of a function."""
    mask = as_variant(Variant(mask_mod=function)).traced.mask
    assert mask is not None
    return mask


def arguments() -> Mapping[str, Array]:
    """Returns random scores and positions; some queries stand before position 0."""
    rng = np.random.default_rng()
    return {
        "score": rng.normal(size=200) * 3,
        "b": rng.integers(0, 4, 200),
        "h": rng.integers(0, 32, 200),
        "q_idx": rng.integers(-50, 100, 200),
        "kv_idx": rng.integers(0, 100, 200),
    }


def lines_of(variant: Variant) -> list[str]:
    """Returns the lines of the module that a variant becomes, at level attn."""
    spec = AttentionSpec(4, 2, 64, PagedKV(16), "bf16", "sm_80", 0.125)
    return [line.strip() for line in str(attention_module(spec, variant.traced)).splitlines()]


def choose(condition: Any, yes: Any, no: Any) -> Any:
    """Returns NumPy's choice, of arrays or of traced values."""
    return cast("Any", np).where(condition, yes, no)


# NumPy's functions take traced values, so that a function computes the same on arrays.
SCORES: dict[str, ScoreMod] = {
    "score alone": lambda score, b, h, q_idx, kv_idx: score,
    "f32 + i32": lambda score, b, h, q_idx, kv_idx: score + q_idx,
    "i32 - f32": lambda score, b, h, q_idx, kv_idx: kv_idx - score,
    "constants on both sides": lambda score, b, h, q_idx, kv_idx: 2 * score + 1.5 - (3 - score * 4),
    "division": lambda score, b, h, q_idx, kv_idx: score / 3 + 2.0 / (score * score + 1),
    "division of positions": lambda score, b, h, q_idx, kv_idx: score * (q_idx / (kv_idx + 1)),
    "floor division": lambda score, b, h, q_idx, kv_idx: score + q_idx // 7 + q_idx // -7,
    "remainder": lambda score, b, h, q_idx, kv_idx: score + q_idx % 7 + (q_idx - kv_idx) % 5,
    "floor division of f32": lambda score, b, h, q_idx, kv_idx: score // 0.75,
    "remainder of f32": lambda score, b, h, q_idx, kv_idx: score % 0.75,
    "negation": lambda score, b, h, q_idx, kv_idx: -score + -q_idx + +kv_idx,
    "absolute value": lambda score, b, h, q_idx, kv_idx: abs(score) + abs(q_idx),
    "powers": lambda score, b, h, q_idx, kv_idx: score**3 - kv_idx**2 + score**1,
    "exponentials": lambda score, b, h, q_idx, kv_idx: np.exp(score) + np.exp2(-score),
    "logarithms": lambda score, b, h, q_idx, kv_idx: np.log(kv_idx + 1) - np.log2(abs(score) + 1),
    "roots": lambda score, b, h, q_idx, kv_idx: np.sqrt(abs(score)) + np.floor(score),
    "tanh": lambda score, b, h, q_idx, kv_idx: 20 * np.tanh(score / 20),
    "extrema": lambda score, b, h, q_idx, kv_idx: np.maximum(score, 0) + np.minimum(q_idx, kv_idx),
    "fmax": lambda score, b, h, q_idx, kv_idx: np.fmax(score, q_idx) - np.fmin(score, 0.5),
    "choice": lambda score, b, h, q_idx, kv_idx: np.where(q_idx > kv_idx, score, -1),
    "choice of positions": lambda score, b, h, q_idx, kv_idx: (
        score + choose(h % 2 == 0, q_idx, kv_idx)
    ),
    "all positions": lambda score, b, h, q_idx, kv_idx: score * (b + 1) - h * (q_idx - kv_idx),
}
MASKS: dict[str, MaskMod] = {
    "less": lambda b, h, q_idx, kv_idx: q_idx < kv_idx,
    "less or equal": lambda b, h, q_idx, kv_idx: q_idx <= 4,
    "greater": lambda b, h, q_idx, kv_idx: 4 > kv_idx,
    "greater or equal": lambda b, h, q_idx, kv_idx: q_idx >= kv_idx,
    "equal": lambda b, h, q_idx, kv_idx: q_idx // 16 == kv_idx // 16,
    "unequal": lambda b, h, q_idx, kv_idx: q_idx % 3 != kv_idx % 3,
    "of f32": lambda b, h, q_idx, kv_idx: q_idx / 2 > kv_idx - 0.5,
    "and": lambda b, h, q_idx, kv_idx: (q_idx >= kv_idx) & (q_idx - kv_idx <= 8),
    "or": lambda b, h, q_idx, kv_idx: (q_idx == kv_idx) | (kv_idx < 4),
    "xor": lambda b, h, q_idx, kv_idx: (q_idx > kv_idx) ^ (kv_idx > 20),
    "not": lambda b, h, q_idx, kv_idx: ~(q_idx > kv_idx),
    "equal conditions": lambda b, h, q_idx, kv_idx: (q_idx > kv_idx) == (h > 4),
    "unequal conditions": lambda b, h, q_idx, kv_idx: (q_idx > kv_idx) != (h > 4),
    "bits": lambda b, h, q_idx, kv_idx: ((q_idx ^ kv_idx) & 3 | 4) == 5,
    "choice": lambda b, h, q_idx, kv_idx: choose(h < 4, q_idx >= kv_idx, kv_idx < 64),
    "logical": lambda b, h, q_idx, kv_idx: np.logical_and(q_idx > 3, np.less(kv_idx, 50)),
}


@pytest.mark.parametrize("function", SCORES.values(), ids=SCORES.keys())
def test_a_score_computes_what_its_function_does(function: ScoreMod) -> None:
    values = arguments()
    got = evaluate(traced_score(function), values)
    np.testing.assert_allclose(got, function(*values.values()), rtol=1e-12)


@pytest.mark.parametrize("function", MASKS.values(), ids=MASKS.keys())
def test_a_mask_computes_what_its_function_does(function: MaskMod) -> None:
    values = arguments()
    _, *positions = values.values()
    np.testing.assert_array_equal(evaluate(traced_mask(function), values), function(*positions))


RSQRT_AND_SIGMOID: dict[str, tuple[ScoreMod, Callable[[Array], Array]]] = {
    "rsqrt": (lambda score, b, h, q, k: rsqrt(score * score + 1), lambda x: (x * x + 1) ** -0.5),
    "sigmoid": (lambda score, b, h, q, k: sigmoid(score), lambda x: 1 / (1 + np.exp(-x))),
}


@pytest.mark.parametrize("case", RSQRT_AND_SIGMOID.values(), ids=RSQRT_AND_SIGMOID.keys())
def test_functions_that_numpy_has_not(case: tuple[ScoreMod, Callable[[Array], Array]]) -> None:
    function, expected = case
    values = arguments()
    got = evaluate(traced_score(function), values)
    np.testing.assert_allclose(got, expected(values["score"]), rtol=1e-12)


# Positions and scores meet as in FlexAttention: only `/` and f32 turn integers into f32.
PROMOTIONS: dict[str, tuple[ScalarType, ScoreMod]] = {
    "i32 + i32": (I32, lambda score, b, h, q, k: q + k),
    "i32 + int": (I32, lambda score, b, h, q, k: q + 1),
    "i32 + float": (F32, lambda score, b, h, q, k: q + 1.0),
    "f32 + int": (F32, lambda score, b, h, q, k: score + 1),
    "i32 * f32": (F32, lambda score, b, h, q, k: q * score),
    "i32 / i32": (F32, lambda score, b, h, q, k: q / k),
    "i32 // i32": (I32, lambda score, b, h, q, k: q // (k + 1)),
    "i32 % f32": (F32, lambda score, b, h, q, k: q % score),
    "exp of i32": (F32, lambda score, b, h, q, k: exp(q)),
    "floor of f32": (F32, lambda score, b, h, q, k: floor(score)),
    "abs of i32": (I32, lambda score, b, h, q, k: abs(q)),
    "maximum of i32": (I32, lambda score, b, h, q, k: maximum(q, 0)),
    "maximum of both": (F32, lambda score, b, h, q, k: maximum(q, score)),
    "where of i32": (I32, lambda score, b, h, q, k: where(q > k, q, 0)),
    "where of both": (F32, lambda score, b, h, q, k: where(q > k, q, 0.0)),
    "comparison": (I1, lambda score, b, h, q, k: score > q),
    "xor of i32": (I32, lambda score, b, h, q, k: q ^ k),
    "xor of conditions": (I1, lambda score, b, h, q, k: (q > k) ^ True),
    "NumPy scalar": (F32, lambda score, b, h, q, k: np.float32(2) * q),
    "NumPy integer": (I32, lambda score, b, h, q, k: q + np.int64(2)),
}


@pytest.mark.parametrize("case", PROMOTIONS.values(), ids=PROMOTIONS.keys())
def test_types_meet_as_documented(case: tuple[ScalarType, ScoreMod]) -> None:
    expected, function = case
    seen: list[Value] = []

    def score_mod(score: Value, b: Value, h: Value, q: Value, k: Value) -> Value:
        seen.append(function(score, b, h, q, k))
        return score

    traced_score(score_mod)
    assert {value.dtype for value in seen} == {expected}


def test_a_score_of_a_position_becomes_f32() -> None:
    assert traced_score(lambda score, b, h, q, k: q - k).dtype is F32


def test_a_mask_may_be_a_constant() -> None:
    assert traced_mask(lambda b, h, q, k: True).constant is True


OWN: dict[str, tuple[ScoreMod, ScoreMod]] = {
    "exp": (lambda s, b, h, q, k: exp(s), lambda s, b, h, q, k: np.exp(s)),
    "exp2": (lambda s, b, h, q, k: exp2(s), lambda s, b, h, q, k: np.exp2(s)),
    "floor": (lambda s, b, h, q, k: floor(s), lambda s, b, h, q, k: np.floor(s)),
    "log": (lambda s, b, h, q, k: log(s), lambda s, b, h, q, k: np.log(s)),
    "log2": (lambda s, b, h, q, k: log2(s), lambda s, b, h, q, k: np.log2(s)),
    "sqrt": (lambda s, b, h, q, k: sqrt(s), lambda s, b, h, q, k: np.sqrt(s)),
    "tanh": (lambda s, b, h, q, k: tanh(s), lambda s, b, h, q, k: np.tanh(s)),
    "maximum": (lambda s, b, h, q, k: maximum(s, q), lambda s, b, h, q, k: np.maximum(s, q)),
    "minimum": (lambda s, b, h, q, k: minimum(s, q), lambda s, b, h, q, k: np.minimum(s, q)),
    "where": (
        lambda s, b, h, q, k: where(q > k, s, 0.0),
        lambda s, b, h, q, k: np.where(q > k, s, 0.0),
    ),
}


@pytest.mark.parametrize("pair", OWN.values(), ids=OWN.keys())
def test_own_functions_are_those_of_numpy(pair: tuple[ScoreMod, ScoreMod]) -> None:
    own, numpys = (Variant(score_mod=function).traced.key for function in pair)
    assert own == numpys


class FakeTorch:
    """Functions that ask their arguments to take the call over, as those of torch do."""

    @staticmethod
    def tanh(x: Value) -> Value:
        return x.__torch_function__(FakeTorch.tanh, (), (x,))

    @staticmethod
    def where(condition: Value, x: Value, y: float) -> Value:
        return x.__torch_function__(FakeTorch.where, (), (condition, x, y), {})


def test_functions_of_torch_are_taken_over() -> None:
    torch = Variant(score_mod=lambda s, b, h, q, k: FakeTorch.where(q > k, FakeTorch.tanh(s), 0.0))
    numpys = Variant(score_mod=lambda s, b, h, q, k: np.where(q > k, np.tanh(s), 0.0))
    assert torch.traced.key == numpys.traced.key


def windowed(window: int, b: Value, h: Value, q_idx: Value, kv_idx: Value) -> Value:
    """Returns whether a key is near; the window is bound before."""
    return q_idx - kv_idx <= window


class Window:
    """A window as an object with a method and as one that can be called."""

    def __init__(self, window: int):
        self.window = window

    def mask(self, b: Value, h: Value, q_idx: Value, kv_idx: Value) -> Value:
        """Returns whether a key is near."""
        return windowed(self.window, b, h, q_idx, kv_idx)

    __call__ = mask


def closure(window: int) -> MaskMod:
    """Returns a function that knows its window."""

    def near(b: Value, h: Value, q_idx: Value, kv_idx: Value, *, extra: int = 0) -> Value:
        return q_idx - kv_idx <= window + extra

    return near


NEAR: dict[str, MaskMod] = {
    "lambda": lambda b, h, q_idx, kv_idx: q_idx - kv_idx <= 8,
    "closure": closure(8),
    "partial": functools.partial(windowed, 8),
    "method": Window(8).mask,
    "callable object": Window(8),
}


@pytest.mark.parametrize("function", NEAR.values(), ids=NEAR.keys())
def test_any_callable_of_four_parameters_is_a_mask(function: MaskMod) -> None:
    variant = as_variant(function)
    assert variant.mask_mod is function
    assert variant.traced.key == as_variant(NEAR["lambda"]).traced.key


def test_a_function_of_five_parameters_is_a_score() -> None:
    def shifted(score: Value, b: Value, h: Value, q_idx: Value, kv_idx: Value) -> Value:
        return score - 1

    assert as_variant(shifted).score_mod is shifted


def test_a_loop_in_a_function_is_unrolled_however_long() -> None:
    def sums(score: Value, b: Value, h: Value, q_idx: Value, kv_idx: Value) -> Value:
        for index in range(5000):
            score = score + float(index)
        return score

    values = arguments()
    got = evaluate(traced_score(sums), values)
    np.testing.assert_allclose(got, values["score"] + sum(range(5000)), rtol=1e-12)


def test_a_shared_value_is_written_once() -> None:
    def doubled(score: Value, b: Value, h: Value, q_idx: Value, kv_idx: Value) -> Value:
        for _ in range(40):
            score = score + score
        return score

    variant = Variant(score_mod=doubled)
    assert sum("arith.addf" in line for line in lines_of(variant)) == 40
    assert len(variant.traced.key) < 10_000


def test_a_causal_mask_is_one_comparison_of_positions() -> None:
    lines = lines_of(causal())
    assert [line for line in lines if "arith." in line] == [
        "%0 = arith.cmpi sge, %q_idx, %kv_idx : i32"
    ]


def test_full_attention_has_no_region() -> None:
    assert "attn.variant @variant" in lines_of(full())


def test_an_op_knows_the_line_it_comes_from() -> None:
    def score_mod(score: Value, b: Value, h: Value, q_idx: Value, kv_idx: Value) -> Value:
        first = score * 3.0
        return first - 1.0

    line = score_mod.__code__.co_firstlineno
    value = traced_score(score_mod)
    places = [str(node.place) for node in (value, value.operands[0])]
    assert places == [f"{__file__}:{line + 2}", f"{__file__}:{line + 1}"]


def test_a_soft_cap_bends_scores() -> None:
    values = arguments()
    score = soft_cap(30.0).traced.score
    assert score is not None
    expected = 30.0 * np.tanh(values["score"] / 30.0)
    np.testing.assert_allclose(evaluate(score, values), expected, rtol=1e-12)


def test_a_sliding_window_sees_itself_and_the_keys_before() -> None:
    _, _, _, q_idx, kv_idx = (values := arguments()).values()
    mask = sliding_window(5).traced.mask
    assert mask is not None
    expected = (kv_idx <= q_idx) & (kv_idx >= q_idx - 5)
    np.testing.assert_array_equal(evaluate(mask, values), expected)


def test_alibi_halves_its_slope_from_head_to_head_for_eight_heads() -> None:
    values = {**arguments(), "h": np.arange(200) % 8}
    (
        score,
        *_,
    ) = values.values()
    variant = alibi(8).traced
    assert variant.score is not None
    distance = values["q_idx"] - values["kv_idx"]
    expected = score - 0.5 ** (values["h"] + 1) * distance
    np.testing.assert_allclose(evaluate(variant.score, values), expected, rtol=1e-12)
    assert variant.mask is not None
    np.testing.assert_array_equal(evaluate(variant.mask, values), distance >= 0)
