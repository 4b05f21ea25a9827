"""Simplification by ranges: the value stays, the form gets shorter."""

import pytest
from hypothesis import given, settings

from tilewright.dialects.sym import Ranges, parse_expression, simplify
from tilewright.test.dialects.sym.drawn import Drawn, Place, expressions, places

RANGES = Ranges.parse(
    "n in [1, 8192], m in [0, ...], page in [1, 64], group in [1, 8], one in [1, 1], "
    "a in [16, 4096], a mod 16 == 0, row in [0, 15], kv in [1, 100000], q in [1, kv], "
    "tile in [0, (n + 63) floordiv 64 - 1], down in [-8, 0]"
)


@settings(deadline=None, max_examples=50)
@given(expressions(), places())
def test_the_value_stays_everywhere_in_the_ranges(drawn: Drawn, place: Place) -> None:
    expression = drawn.expression
    simple = simplify(expression, place.ranges)
    for point in place.points:
        value = drawn.value_at(point)
        assert value is None or simple.evaluate(point) == value


@pytest.mark.parametrize(
    ("text", "simple"),
    [
        ("min(n, 8192)", "n"),
        ("max(n, 1)", "n"),
        ("min(max(n, 1), 10000, m)", "min(n, m)"),
        ("min(q, kv)", "q"),
        ("max(kv - q, 0)", "kv - q"),
        ("max(0, min(64*tile + 64, n) - 64*tile)", "min(n - 64*tile, 64)"),
        ("(n - 1) floordiv 8192", "0"),
        ("(row + 1) ceildiv 16", "1"),
        ("n mod 10000", "n"),
        ("row mod 16", "row"),
        ("(16*m + row) floordiv 16", "m"),
        ("(16*m + row) floordiv 32", "m floordiv 2"),
        ("(16*m + page) floordiv 32", "(16*m + page) floordiv 32"),
        ("(16*m + row) mod 16", "row"),
        ("(a + 15) floordiv 16 * 16", "a"),
        ("(a + row) floordiv 16 * 16 + row", "a + row"),
        ("a mod 8", "0"),
        ("a floordiv 32", "a floordiv 32"),
        ("(n*page) floordiv (n*group)", "page floordiv group"),
        ("(n*page + n - 1) floordiv (n*group)", "page floordiv group"),
        ("one*n + n floordiv one", "2*n"),
        ("n + m", "n + m"),
        ("n floordiv down", "n floordiv down"),
    ],
)
def test_ranges_make_a_form_shorter(text: str, simple: str) -> None:
    assert simplify(parse_expression(text), RANGES) == parse_expression(simple)


def test_without_ranges_nothing_changes() -> None:
    for text in ("min(n, 8192)", "(16*m + row) floordiv 32", "a mod 8"):
        expression = parse_expression(text)
        assert simplify(expression, Ranges({})) == expression


def test_what_has_no_value_stays() -> None:
    # The divisor is 0 once `a` is known to be a multiple of 16.
    expression = parse_expression("n floordiv (a - a mod 16 - a)")
    assert simplify(expression, RANGES) == expression
