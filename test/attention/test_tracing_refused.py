"""What cannot be traced is refused in one line that begins with the place in the user's program."""

import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest

from tilewright.attention import (
    Value,
    Variant,
    VariantError,
    alibi,
    exp,
    maximum,
    sliding_window,
    soft_cap,
    where,
)
from tilewright.attention.variants import as_variant
from tilewright.test.attention.reference import MaskMod, ScoreMod


def first_line(function: Callable[..., Any]) -> int:
    """Returns the line of the program on which a function begins."""
    return function.__code__.co_firstlineno


def refusal(variant: object) -> str:
    """Returns the message with which a variant is refused."""
    with pytest.raises(VariantError) as caught:
        _ = as_variant(variant).traced
    return str(caught.value)


def check(message: str, line: int, expected: str) -> None:
    """Checks that a message is one line that names the place and says what was expected."""
    assert message.startswith(f"{__file__}:{line}: error: ")
    assert expected in message
    assert "\n" not in message


TABLE: Any = [1.0, 2.0, 3.0]
SLOPES = {0: 1.0}
NOT_KNOWN = "the value of a traced condition is not known here"
OWN_FUNCTIONS = "use the functions of tilewright.attention, not those of math"
NO_DUCK: Any = None

# The part of the message that says what is wrong, and a function of one line.
EXPRESSIONS: dict[str, tuple[str, ScoreMod]] = {
    "if": (NOT_KNOWN, lambda s, b, h, q, k: s if q > k else 0.0),
    "and": (NOT_KNOWN, lambda s, b, h, q, k: where(q > k and k > 3, s, 0.0)),
    "or": (NOT_KNOWN, lambda s, b, h, q, k: where(q > k or k > 3, s, 0.0)),
    "not": (NOT_KNOWN, lambda s, b, h, q, k: where(not q > k, s, 0.0)),
    "chain": (NOT_KNOWN, lambda s, b, h, q, k: where(0 < k < q, s, 0.0)),
    "max": (NOT_KNOWN, lambda s, b, h, q, k: max(s, 0.0)),
    "math.exp": (OWN_FUNCTIONS, lambda s, b, h, q, k: math.exp(s)),
    "float": (OWN_FUNCTIONS, lambda s, b, h, q, k: float(s)),
    "int": (OWN_FUNCTIONS, lambda s, b, h, q, k: int(s)),
    "list": ("no lists or tensors indexed by it", lambda s, b, h, q, k: TABLE[k]),
    "range": ("no lists or tensors indexed by it", lambda s, b, h, q, k: sum(range(k))),
    "array index": ("IndexError", lambda s, b, h, q, k: np.arange(5)[k]),
    "dictionary": ("KeyError: <traced i32>", lambda s, b, h, q, k: SLOPES[h]),
    "iteration": ("cannot be iterated over", lambda s, b, h, q, k: str(*s)),
    "attribute": ("has no 'item'", lambda s, b, h, q, k: s.item()),
    "text": ("expects a traced value or a number, got str", lambda s, b, h, q, k: s + "1"),
    "none": ("expects a traced value or a number, got NoneType", lambda s, b, h, q, k: s * NO_DUCK),
    "array": ("got ndarray", lambda s, b, h, q, k: s * np.ones(3)),
    "large integer": ("expects an integer of 32 bits", lambda s, b, h, q, k: q + 2**31),
    "large number": ("expects a number that f32 can hold", lambda s, b, h, q, k: s + 1e39),
    "shift of a score": ("'shl' expects operands of i32, got f32", lambda s, b, h, q, k: s << 1),
    "root as power": ("expects a power with a constant exponent", lambda s, b, h, q, k: s**0.5),
    "large power": ("exponent from 1 to 8, got 9", lambda s, b, h, q, k: s**9),
    "power of two": ("TypeError", lambda s, b, h, q, k: 2**s),
    "not of a position": ("'xor' expects operands of one type", lambda s, b, h, q, k: ~q),
    "condition as number": ("'add' expects operands of i32", lambda s, b, h, q, k: (q > k) + 1),
    "bits of a score": ("'and' expects operands of i1 or i32", lambda s, b, h, q, k: s & 1),
    "order of conditions": ("'lt' expects operands of", lambda s, b, h, q, k: (q > k) < (k > 1)),
    "exp of a condition": ("'exp' expects a number, got i1", lambda s, b, h, q, k: exp(q > k)),
    "extreme of conditions": (
        "'maximum' expects operands of",
        lambda s, b, h, q, k: maximum(q > k, True),
    ),
    "where without condition": (
        "'where' expects a condition first, got i32",
        lambda s, b, h, q, k: where(q, s, 0.0),
    ),
    "where of both": (
        "'where' expects two numbers or two conditions",
        lambda s, b, h, q, k: where(q > k, s, True),
    ),
    "where of two types": (
        "'where' expects values of one type, got i32 and i1",
        lambda s, b, h, q, k: where(q > k, q, True),
    ),
    "remainder by 0": ("'mod' by the constant 0", lambda s, b, h, q, k: q % 0),
    "division by 0": ("'floordiv' by the constant 0", lambda s, b, h, q, k: q // 0),
    "other function of NumPy": ("where, got 'sinh'", lambda s, b, h, q, k: np.sinh(s)),
    "keyword argument": (
        "expects no keyword arguments of 'add', got where",
        lambda s, b, h, q, k: np.add(s, 1, where=True),
    ),
    "reduction": ("got 'add'", lambda s, b, h, q, k: np.add.reduce(s)),
    "exception inside": ("ZeroDivisionError", lambda s, b, h, q, k: s * (1 // 0)),
}


@pytest.mark.parametrize("case", EXPRESSIONS.values(), ids=EXPRESSIONS.keys())
def test_an_expression_is_refused_at_its_line(case: tuple[str, ScoreMod]) -> None:
    expected, function = case
    check(refusal(Variant(score_mod=function)), first_line(function), expected)


def test_the_line_is_that_of_the_statement_not_of_the_function() -> None:
    def score_mod(score: Value, b: Value, h: Value, q_idx: Value, kv_idx: Value) -> Value:
        shifted = score + 1.0

        if q_idx > kv_idx:
            shifted = score
        return shifted

    check(refusal(score_mod), first_line(score_mod) + 3, NOT_KNOWN)


def test_the_line_of_a_function_that_is_called_is_named() -> None:
    def inner(position: Value) -> Value:
        return position if position > 0 else -position

    def score_mod(score: Value, b: Value, h: Value, q_idx: Value, kv_idx: Value) -> Value:
        return score + inner(q_idx)

    check(refusal(score_mod), first_line(inner) + 1, NOT_KNOWN)


def test_a_message_of_many_lines_becomes_one() -> None:
    def score_mod(score: Value, b: Value, h: Value, q_idx: Value, kv_idx: Value) -> Value:
        raise RuntimeError("first\nsecond")

    check(refusal(score_mod), first_line(score_mod) + 1, "RuntimeError: first second")


def test_endless_recursion_is_refused() -> None:
    def score_mod(score: Value, b: Value, h: Value, q_idx: Value, kv_idx: Value) -> Value:
        return score_mod(score, b, h, q_idx, kv_idx)

    check(refusal(score_mod), first_line(score_mod) + 1, "RecursionError")


SCORES_OF_WRONG_TYPE: dict[str, tuple[str, ScoreMod]] = {
    "nothing": ("score_mod expects to return f32, got NoneType", lambda s, b, h, q, k: None),
    "pair": ("score_mod expects to return f32, got tuple", lambda s, b, h, q, k: (s, s)),
    "condition": ("score_mod expects to return f32, got i1", lambda s, b, h, q, k: q > k),
    "text": ("score_mod expects to return f32, got str", lambda s, b, h, q, k: "s"),
}
MASKS_OF_WRONG_TYPE: dict[str, tuple[str, MaskMod]] = {
    "position": ("mask_mod expects to return i1, got i32", lambda b, h, q, k: q - k),
    "number": ("mask_mod expects to return i1, got i32", lambda b, h, q, k: 1),
    "f32": ("mask_mod expects to return i1, got f32", lambda b, h, q, k: q / k),
}


@pytest.mark.parametrize("case", SCORES_OF_WRONG_TYPE.values(), ids=SCORES_OF_WRONG_TYPE.keys())
def test_a_score_of_another_type_is_refused(case: tuple[str, ScoreMod]) -> None:
    expected, function = case
    check(refusal(Variant(score_mod=function)), first_line(function), expected)


@pytest.mark.parametrize("case", MASKS_OF_WRONG_TYPE.values(), ids=MASKS_OF_WRONG_TYPE.keys())
def test_a_mask_of_another_type_is_refused(case: tuple[str, MaskMod]) -> None:
    expected, function = case
    check(refusal(Variant(mask_mod=function)), first_line(function), expected)


def three(b: Any, q: Any, k: Any) -> Any:
    """Has too few parameters."""
    return q > k


def six(s: Any, b: Any, h: Any, q: Any, k: Any, extra: Any) -> Any:
    """Has too many parameters."""
    return s


def anything(*positions: Any) -> Any:
    """Does not tell how many parameters it has."""
    return True


def keyword(b: Any, h: Any, q: Any, k: Any, *, extra: Any) -> Any:
    """Needs a keyword argument."""
    return q > extra


PARAMETERS: dict[str, tuple[str, Callable[..., Any]]] = {
    "three": ("got 3 parameters", three),
    "six": ("got 6 parameters", six),
    "none": ("got 0 parameters", lambda: True),
    "any number": ("got 0 parameters", anything),
    "keyword": ("missing a required argument: 'extra'", keyword),
}


@pytest.mark.parametrize("case", PARAMETERS.values(), ids=PARAMETERS.keys())
def test_other_parameters_are_refused_at_the_function(case: tuple[str, Callable[..., Any]]) -> None:
    expected, function = case
    check(refusal(function), first_line(function), expected)


def test_a_mask_in_the_place_of_a_score_is_refused() -> None:
    def mask_mod(b: Value, h: Value, q_idx: Value, kv_idx: Value) -> Value:
        return q_idx >= kv_idx

    expected = "score_mod expects the parameters (score, b, h, q_idx, kv_idx): too many"
    check(refusal(Variant(cast("ScoreMod", mask_mod))), first_line(mask_mod), expected)


def test_a_value_of_another_function_is_refused() -> None:
    kept: list[Value] = []

    def score_mod(score: Value, b: Value, h: Value, q_idx: Value, kv_idx: Value) -> Value:
        kept.append(score)
        return score

    def mask_mod(b: Value, h: Value, q_idx: Value, kv_idx: Value) -> Value:
        return kept[0] > 0.0

    message = refusal(Variant(score_mod, mask_mod))
    check(message, first_line(mask_mod), "mask_mod uses a traced value of another function")


NO_VARIANTS: dict[str, tuple[str, object]] = {
    "text": ("argument 'variant': expected a variant or a function, got str", "causal"),
    "builtin": ("argument 'variant': the signature of <built-in function max> is unknown", max),
}


@pytest.mark.parametrize("case", NO_VARIANTS.values(), ids=NO_VARIANTS.keys())
def test_what_is_no_variant_is_refused(case: tuple[str, object]) -> None:
    expected, variant = case
    assert refusal(variant) == expected


def test_a_function_without_a_signature_is_refused() -> None:
    function: Any = max
    assert "no signature found" in refusal(Variant(score_mod=function))


BUILDERS: dict[str, tuple[str, Callable[[], object]]] = {
    "negative window": ("argument 'window'", lambda: sliding_window(-1)),
    "window that is no integer": ("argument 'window'", lambda: sliding_window(2.5)),  # pyright: ignore[reportArgumentType]
    "cap of 0": ("argument 'cap'", lambda: soft_cap(0.0)),
    "infinite cap": ("argument 'cap'", lambda: soft_cap(math.inf)),
    "cap that is no number": ("argument 'cap'", lambda: soft_cap(math.nan)),
    "no heads": ("argument 'num_heads'", lambda: alibi(0)),
}


@pytest.mark.parametrize("case", BUILDERS.values(), ids=BUILDERS.keys())
def test_arguments_of_variants_are_checked(case: tuple[str, Callable[[], object]]) -> None:
    expected, build = case
    with pytest.raises(VariantError, match=expected):
        build()
