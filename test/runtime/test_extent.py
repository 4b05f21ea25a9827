"""Extents: values against Python's integers, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilewright.runtime.extent import ExtentError, parse_extent

SYMBOLS = {"n": 37, "m": -5, "pages": 8192}
LEAVES = st.sampled_from([("n", 37), ("m", -5), ("pages", 8192)]) | st.integers(0, 99).map(
    lambda value: (str(value), value)
)
Term = tuple[str, int]


def _combine(terms: st.SearchStrategy[Term]) -> st.SearchStrategy[Term]:
    def binary(draw: tuple[Term, str, Term]) -> Term:
        (left, a), sign, (right, b) = draw
        divisor = b or 1
        value = {
            "+": a + b,
            "-": a - b,
            "*": a * b,
            "floordiv": a // divisor,
            "ceildiv": -(-a // divisor),
            "mod": a % divisor,
            "min": min(a, b),
            "max": max(a, b),
        }[sign]
        if sign in ("min", "max"):
            return f"{sign}({left}, {right})", value
        right = f"({right})" if b or sign in "+-*" else "1"
        return f"({left}) {sign} {right}", value

    signs = st.sampled_from(["+", "-", "*", "floordiv", "ceildiv", "mod", "min", "max"])
    return st.tuples(terms, signs, terms).map(binary)


@given(st.recursive(LEAVES, _combine, max_leaves=12))
def test_values_are_those_of_integers(term: Term) -> None:
    text, value = term
    assert parse_extent(text).evaluate(SYMBOLS) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2*n + 1", 75),
        ("(n + 15) floordiv 16", 3),
        ("n - 1 - 1", 35),
        ("7 - 2 * 3", 1),
        ("-n + 40", 3),
        ("min(n, 5, 9)", 5),
        ("100 floordiv 7 floordiv 2", 7),
    ],
)
def test_precedence_is_that_of_affine_expressions(text: str, value: int) -> None:
    assert parse_extent(text).evaluate(SYMBOLS) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "column 1: expected an integer, a symbol or '(', got the end"),
        ("n +", "column 4: expected an integer, a symbol or '(', got the end"),
        ("n m", "column 3: expected the end, got 'm'"),
        ("(n + 1", "column 7: expected ')', got the end"),
        ("n / 2", "column 3: expected the end, got '/'"),
        ("mod 2", "column 1: expected an integer, a symbol or '(', got 'mod'"),
        ("min(n, )", "column 8: expected an integer, a symbol or '(', got ')'"),
        ("min n", "column 5: expected '(', got 'n'"),
        ("2n", "column 2: expected the end, got 'n'"),
        ("__import__('os')", "column 11: expected the end, got '('"),
    ],
)
def test_a_mistake_is_named_with_its_column(text: str, message: str) -> None:
    with pytest.raises(ExtentError) as caught:
        parse_extent(text)
    assert str(caught.value) == f"extent '{text}': {message}"


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(ExtentError, match="nested deeper than 64"):
        parse_extent("(" * 5000 + "n" + ")" * 5000)


def test_a_symbol_without_a_value_is_refused() -> None:
    with pytest.raises(ExtentError, match="symbol 'k' has no value"):
        parse_extent("n + k").evaluate(SYMBOLS)


def test_division_by_zero_is_refused() -> None:
    with pytest.raises(ExtentError, match="division by zero"):
        parse_extent("n floordiv (m + 5)").evaluate(SYMBOLS)


def test_only_a_bare_symbol_has_a_name() -> None:
    assert [parse_extent(text).name for text in (" n ", "n + 0", "8")] == ["n", None, None]
