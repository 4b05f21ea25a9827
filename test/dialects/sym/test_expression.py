"""Expressions: one canonical form, whose value is that of Python's integers."""

import operator
from typing import Any

import pytest
from hypothesis import assume, given, settings

from tilewright.dialects.sym import (
    Expression,
    ExpressionError,
    ceildiv,
    constant,
    maximum,
    minimum,
    parse_expression,
    symbol,
)
from tilewright.runtime.extent import parse_extent as parse_runtime_extent
from tilewright.test.dialects.sym.drawn import Drawn, Point, expressions, points

N, M = symbol("n"), symbol("m")


@settings(deadline=None)
@given(expressions(), points)
def test_a_canonical_form_has_the_value_of_what_was_written(drawn: Drawn, point: Point) -> None:
    expression, value = drawn.expression, drawn.value_at(point)
    assume(value is not None)
    assert expression.evaluate(point) == value


@settings(deadline=None)
@given(expressions())
def test_the_text_of_an_expression_is_read_back_as_the_expression(drawn: Drawn) -> None:
    expression = drawn.expression
    back = parse_expression(str(expression))
    assert (back, hash(back)) == (expression, hash(expression))


@settings(deadline=None)
@given(expressions(), points)
def test_the_runtime_reads_the_text_as_the_same_value(drawn: Drawn, point: Point) -> None:
    expression, value = drawn.expression, drawn.value_at(point)
    assume(value is not None)
    assert parse_runtime_extent(str(expression)).evaluate(point) == value


@settings(deadline=None)
@given(expressions(), expressions(), points)
def test_operators_work_on_values(left: Drawn, right: Drawn, point: Point) -> None:
    a, b = left.expression, right.expression
    x, y = left.value_at(point), right.value_at(point)
    assume(x is not None and y is not None)
    assert x is not None
    assert y is not None
    results = [a + b, a - b, a * b, minimum(a, b), maximum(a, b)]
    assert [e.evaluate(point) for e in results] == [x + y, x - y, x * y, min(x, y), max(x, y)]


@settings(deadline=None)
@given(expressions(), expressions(), points)
def test_substitution_is_evaluation_in_two_steps(outer: Drawn, inner: Drawn, point: Point) -> None:
    value = inner.value_at(point)
    assume(value is not None)
    assert value is not None
    expected = outer.value_at({**point, "n": value})
    assume(expected is not None)
    body = outer.expression.substitute({"n": inner.expression})
    assert body.evaluate(point) == expected


@settings(deadline=None)
@given(expressions(), expressions())
def test_addition_and_multiplication_commute_in_form(left: Drawn, right: Drawn) -> None:
    a, b = left.expression, right.expression
    assert (a + b, a * b, minimum(a, b)) == (b + a, b * a, minimum(b, a))


EQUAL = [
    ("n + m", "m + n"),
    ("(n + m)*(n - m)", "n*n - m*m"),
    ("(16*n + m) floordiv 16", "n + m floordiv 16"),
    ("(32*n + 48) floordiv 16", "2*n + 3"),
    ("(6*n + 5) floordiv 4", "n + (n + 2) floordiv 2"),
    ("n floordiv 4 floordiv 8", "n floordiv 32"),
    ("(n ceildiv 16) ceildiv 4", "n ceildiv 64"),
    ("n ceildiv 16", "(n + 15) floordiv 16"),
    ("(-n) floordiv 16", "-(n ceildiv 16)"),
    ("(8*n + p) floordiv 16", "n - (8*n - p + 15) floordiv 16"),
    ("(n - 1) floordiv 16 + 1", "n ceildiv 16"),
    ("(n mod 64) mod 16", "n mod 16"),
    ("(n mod 16) floordiv 16", "0"),
    ("(48*n) mod 16", "0"),
    ("(48*n + m) mod 16", "m mod 16"),
    ("n - n mod 16", "16*(n floordiv 16)"),
    ("16*(n floordiv 16) + n mod 16", "n"),
    ("n*m floordiv m", "n"),
    ("(n*m + 3) floordiv m", "n + 3 floordiv m"),
    ("n*m mod m", "0"),
    ("(n + m - 1) floordiv m", "n ceildiv m"),
    ("min(n, n)", "n"),
    ("min(n, n + 1, m)", "min(n, m)"),
    ("max(n, max(m, k))", "max(k, m, n)"),
    ("min(n + 1, min(m, k) + 1)", "min(n, m, k) + 1"),
    ("min(16*n, 8192)", "16*min(n, 512)"),
    ("max(n - 16, 0)", "max(n, 16) - 16"),
    ("min(64*t + 64, n) - 64*t", "min(n - 64*t, 64)"),
    ("min(3, 5, 4)", "3"),
    ("7 floordiv 2 + (-7) floordiv 2", "-1"),
    ("(-7) mod 4", "1"),
    ("7 ceildiv 2", "4"),
]


@pytest.mark.parametrize(("left", "right"), EQUAL)
def test_one_value_has_one_form(left: str, right: str) -> None:
    a, b = parse_expression(left), parse_expression(right)
    assert (a, hash(a)) == (b, hash(b))


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "-3",
        "2*n + 1",
        "n - m",
        "(n + 15) floordiv 16",
        "-(n floordiv 16)",
        "n mod 8",
        "2*m*(n mod 8) + 5",
        "n mod m",
        "m + n floordiv 16",
        "max(n - 16, 0)",
        "16*((n + 15) floordiv 16) - n",
        "(m + n) floordiv (m*n)",
        "8 floordiv n",
    ],
)
def test_text_is_printed_as_people_write_it(text: str) -> None:
    assert str(parse_expression(text)) == text


def test_python_integers_are_operands_and_equal_constants() -> None:
    assert (2 * N + 1 - N - N, 16 - (16 - N), 7 // constant(2), 7 % constant(4)) == (1, N, 3, 3)
    assert hash(constant(5)) == hash(5)


def test_operators_are_floor_division_and_remainder() -> None:
    assert (str((N + 15) // 16), str(N % 8)) == ("(n + 15) floordiv 16", "n mod 8")
    assert ceildiv(N, 16) == (N + 15) // 16


@pytest.mark.parametrize("value", [1.5, "m", None])
def test_only_integers_and_expressions_are_operands(value: Any) -> None:
    for operation in (operator.add, operator.sub, operator.mul):
        with pytest.raises(TypeError):
            operation(N, value)


def test_an_expression_names_its_symbols_at_any_depth() -> None:
    expression = parse_expression("min((n + m) floordiv 4, 8*k) + 3 floordiv p")
    assert expression.symbols() == {"k", "m", "n", "p"}
    assert constant(3).symbols() == frozenset()


def test_only_a_bare_symbol_has_a_name_and_only_a_constant_a_value() -> None:
    texts = ("n", "2*n", "n - n", "n + 1", "-4")
    parsed = [parse_expression(text) for text in texts]
    assert [e.symbol_name for e in parsed] == ["n", None, None, None, None]
    assert [e.constant_value for e in parsed] == [None, None, 0, None, -4]


def test_symbols_are_replaced_all_at_once() -> None:
    assert (N + 2 * M).substitute({"n": M, "m": N}) == M + 2 * N


def test_a_value_needs_all_symbols() -> None:
    with pytest.raises(ExpressionError, match="expected a value for the symbol 'm', got none"):
        (N + M).evaluate({"n": 1})


@pytest.mark.parametrize("divisor", [0, -4])
def test_a_divisor_is_positive(divisor: int) -> None:
    with pytest.raises(ExpressionError, match=f"expected a positive divisor, got {divisor}"):
        _ = N // divisor
    with pytest.raises(ExpressionError, match=f"positive divisor 'm', got {divisor}"):
        (N // M).evaluate({"n": 1, "m": divisor})


@pytest.mark.parametrize("name", ["", "2n", "n.x", "mod", "min", "n ", "é"])
def test_a_symbol_has_an_identifier_as_its_name(name: str) -> None:
    with pytest.raises(ExpressionError, match="expected an identifier"):
        symbol(name)


def test_a_product_of_too_many_terms_is_refused() -> None:
    factor: Expression = constant(0)
    for i in range(40):
        factor += symbol(f"s{i}")
    with pytest.raises(ExpressionError, match="expected at most 1024 terms"):
        _ = factor * (factor * factor)


def test_operations_nested_too_deep_are_refused() -> None:
    text = "n" + " mod 7 mod 5" * 20
    with pytest.raises(ExpressionError, match="expected at most 16 nested operations"):
        parse_expression(text)
