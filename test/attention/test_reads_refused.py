"""What transforms, updates of states and parameters cannot be is refused at its line."""

from collections.abc import Callable
from typing import Any

import pytest

import tilewright.attention as attention
from tilewright.attention import Variant, VariantError
from tilewright.attention.variants import Transform


def total(x: Any, term: Callable[[Any, Any], Any]) -> Any:
    """Returns the sum of a term over a row."""
    return x.sum(term)


def transform_refusal(transform: Transform) -> str:
    """Returns what is said of a query transform that is refused."""
    with pytest.raises(VariantError) as caught:
        _ = Variant(query_transform=transform).traced
    return str(caught.value)


TRANSFORMS: dict[str, tuple[str, Transform]] = {
    "a matrix product": (
        "the term of a sum depends on d, which is a matrix product",
        lambda x, b, h, q, d: total(x, lambda e, i: e * (i + d)),
    ),
    "a sum in a sum": (
        "a sum within the term of a sum",
        lambda x, b, h, q, d: total(x, lambda e, i: total(x, lambda f, j: f * (i + j))),
    ),
    "the row itself": ("expects to return f32, got Vector", lambda x, b, h, q, d: x),
    "arithmetic on the row": ("TypeError", lambda x, b, h, q, d: x * 2),
    "an index of f32": ("a row expects indices of i32, got f32", lambda x, b, h, q, d: x[x[d]]),
    "a loop over the row": ("cannot be iterated over", lambda x, b, h, q, d: sum(x)),
    "a sum of conditions": (
        "a sum expects a term that is a number",
        lambda x, b, h, q, d: total(x, lambda e, i: e > 0),
    ),
    "a page of a query": (
        "'page_of' expects a function with the parameter kv_idx",
        lambda x, b, h, q, d: x[d] + attention.page_of(q),
    ),
    "two results": ("expects to return f32, got tuple", lambda x, b, h, q, d: (x[d], x[d])),
}


@pytest.mark.parametrize("case", TRANSFORMS.values(), ids=TRANSFORMS.keys())
def test_a_transform_that_cannot_be_expressed_is_refused(
    case: tuple[str, Transform],
) -> None:
    message, transform = case
    assert message in transform_refusal(transform)


def test_an_index_that_leaves_its_sum_is_refused() -> None:
    kept: list[Any] = []

    def transform(x: Any, b: Any, h: Any, q_idx: Any, d: Any) -> Any:
        total(x, lambda element, index: kept.append(index) or element)
        return x[kept[-1]]

    assert "uses a traced value of another function" in transform_refusal(transform)


def test_a_function_that_keeps_state_between_calls_is_refused() -> None:
    calls: list[int] = []

    def score_mod(score: Any, b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
        calls.append(0)
        return score * len(calls)

    with pytest.raises(VariantError, match="a variant keeps no state between calls") as caught:
        _ = Variant(score_mod=score_mod).traced
    assert f"{__file__}:{score_mod.__code__.co_firstlineno}" in str(caught.value)


def test_a_state_update_of_one_value_is_refused() -> None:
    with pytest.raises(VariantError, match="state_update expects to return 2 values, got 1"):
        _ = Variant(state_update=lambda m, total, b, h, q_idx: m).traced


def test_a_state_update_without_a_softmax_is_refused() -> None:
    variant = Variant(state_update=lambda m, total, b, h, q_idx: (m, total), softmax=False)
    with pytest.raises(VariantError, match="without a softmax there is no state to update"):
        _ = variant.traced


def test_two_parameters_of_one_name_are_refused() -> None:
    variant = attention.soft_cap(attention.scalar("x")) & attention.alibi(
        attention.tensor("x", (4,))
    )
    with pytest.raises(VariantError, match=r"'x' is declared twice: x: f32(\[4\])? and x: f32"):
        _ = variant.traced


PARAMETERS: dict[str, tuple[str, Callable[[], object]]] = {
    "name": ("expects an identifier", lambda: attention.scalar("a b")),
    "dtype": ("expects dtype 'f32' or 'i32', got 'f16'", lambda: attention.scalar("a", "f16")),
    "no axes": ("a shape of at least one axis", lambda: attention.tensor("a", ())),
    "extent": ("expects extents from 1 or names, got 0", lambda: attention.tensor("a", (0,))),
    "rank": ("'a' expects 2 indices, got 1", lambda: attention.tensor("a", (1, 2))[0]),
    "index": ("'a' expects indices of i32, got f32", lambda: attention.tensor("a", (1,))[0.5]),
    "iteration": ("cannot be iterated over", lambda: list(attention.tensor("a", (1,)))),
}


@pytest.mark.parametrize("case", PARAMETERS.values(), ids=PARAMETERS.keys())
def test_a_parameter_is_refused_at_its_line(case: tuple[str, Callable[[], object]]) -> None:
    message, make = case
    with pytest.raises(VariantError) as caught:
        make()
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{__file__}:")
