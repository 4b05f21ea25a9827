"""The text of expressions: precedence as in affine expressions, mistakes with their column."""

import pytest

from tilewright.dialects.sym import ExpressionSyntaxError, Ranges, parse_expression


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("n - 1 - 1", "(n - 1) - 1"),
        ("7 - 2*n", "7 - (2*n)"),
        ("n + m floordiv 4", "n + (m floordiv 4)"),
        ("n*5 floordiv 4", "(n*5) floordiv 4"),
        ("n floordiv 5*4", "(n floordiv 5)*4"),
        ("n mod 7 mod 5", "(n mod 7) mod 5"),
        ("-n floordiv 4", "(-n) floordiv 4"),
        ("n*-2", "0 - 2*n"),
        ("  min( n ,m )", "min(n, m)"),
    ],
)
def test_operators_bind_as_in_affine_expressions(text: str, same: str) -> None:
    assert parse_expression(text) == parse_expression(same)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "column 1: expected an integer, a symbol or '(', got the end"),
        ("n +", "column 4: expected an integer, a symbol or '(', got the end"),
        ("n m", "column 3: expected an operator or the end, got 'm'"),
        ("(n + 1", "column 7: expected an operator or ')', got the end"),
        ("n / 2", "column 3: expected an operator or the end, got '/'"),
        ("mod 2", "column 1: expected an integer, a symbol or '(', got 'mod'"),
        ("min(n, )", "column 8: expected an integer, a symbol or '(', got ')'"),
        ("min n", "column 5: expected an operator or '(', got 'n'"),
        ("2n", "column 2: expected an operator or the end, got 'n'"),
        ("n + é", "column 5: expected an integer, a symbol or '(', got 'é'"),
        ("1 + n floordiv 0", "column 7: expected a positive divisor, got 0"),
        ("9" * 41, "column 1: expected an integer of at most 40 digits"),
        ("(" * 5000 + "n" + ")" * 5000, "column 65: expected at most 64 levels"),
    ],
)
def test_a_mistake_is_named_with_its_column(text: str, message: str) -> None:
    with pytest.raises(ExpressionSyntaxError) as caught:
        parse_expression(text)
    assert str(caught.value) == message
    assert f"column {caught.value.column}:" in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n", "column 2: expected 'in' or 'mod', got the end"),
        ("n in 1, 2]", "column 6: expected '[', got '1'"),
        ("n in [1, 2]]", "column 12: expected an operator or the end, got ']'"),
        ("n in [1, 2],", "column 13: expected a symbol, got the end"),
        ("n in [2, 1]", "column 1: expected a range that is not empty, got n in [2, 1]"),
        ("n in [1, 2], n in [1, 3]", "column 16: expected one range for the symbol 'n', got two"),
        ("n mod 8 == 3", "column 12: expected the remainder 0, got 3"),
        ("n mod 8 = 0", "column 11: expected '== 0', got '0'"),
        ("n mod 0 == 0", "column 7: expected a positive divisor, got 0"),
        (
            "n in [0, m], m in [0, 1]",
            "column 1: expected the bound 'm' of 'n' to name symbols that come before, got 'm'",
        ),
    ],
)
def test_a_mistake_in_ranges_is_named_with_its_column(text: str, message: str) -> None:
    with pytest.raises(ExpressionSyntaxError) as caught:
        Ranges.parse(text)
    assert str(caught.value) == message
