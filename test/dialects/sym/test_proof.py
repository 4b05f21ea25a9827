"""Proofs: answers hold at every point of the ranges, and what has to be found is found."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.dialects.sym import (
    Answer,
    ExpressionError,
    Ranges,
    interval,
    parse_expression,
    prove_divisible,
    prove_eq,
    prove_le,
    prove_lt,
    prove_nonnegative,
    symbol,
)
from tilewright.test.dialects.sym.drawn import Drawn, Place, expressions, places

# A batch of an attention kernel: lengths, pages, tiles, heads.
RANGES = Ranges.parse(
    "n in [1, 8192], m in [0, ...], page in [1, 64], "
    "a in [16, 4096], a mod 16 == 0, heads in [8, 64], heads mod 8 == 0, group in [1, 8], "
    "tile in [0, (n + 63) floordiv 64 - 1], lane in [0, 31], "
    "kv in [1, 100000], q in [1, kv], z in [-5, 5]"
)


def _holds_at(answer: Answer, statements: list[bool]) -> None:
    if answer is Answer.PROVED:
        assert all(statements)
    if answer is Answer.REFUTED:
        assert not any(statements)


@settings(deadline=None, max_examples=50)
@given(expressions(), places())
def test_an_interval_holds_every_value(drawn: Drawn, place: Place) -> None:
    expression = drawn.expression
    lower, upper = interval(expression, place.ranges)
    for point in place.points:
        value = drawn.value_at(point)
        assert value is None or lower is None or lower <= value
        assert value is None or upper is None or value <= upper


@pytest.mark.parametrize(
    ("text", "lower", "upper"),
    [
        ("below floordiv by", -7, -1),
        ("below floordiv three", -7, -1),
        ("above floordiv by", 0, 9),
        ("above floordiv three", 1, 9),
        ("around floordiv by", -7, 9),
        ("(3 - 2*above) floordiv 4", -4, -2),
        ("above*below", -63, -4),
        ("around*around", -63, 81),
        ("min(above, 6) + max(below, -3)", 1, 5),
    ],
)
def test_an_interval_is_narrow(text: str, lower: int, upper: int) -> None:
    ranges = Ranges.parse(
        "below in [-7, -1], above in [4, 9], around in [-7, 9], by in [1, ...], three in [1, 3]"
    )
    assert interval(parse_expression(text), ranges) == (lower, upper)


@settings(deadline=None, max_examples=50)
@given(expressions(), expressions(), places())
def test_answers_about_order_hold_at_every_point(left: Drawn, right: Drawn, place: Place) -> None:
    a, b = left.expression, right.expression
    pairs = [(left.value_at(point), right.value_at(point)) for point in place.points]
    values = [(x, y) for x, y in pairs if x is not None and y is not None]
    _holds_at(prove_le(a, b, place.ranges), [x <= y for x, y in values])
    _holds_at(prove_lt(a, b, place.ranges), [x < y for x, y in values])
    _holds_at(prove_eq(a, b, place.ranges), [x == y for x, y in values])
    _holds_at(prove_nonnegative(a, place.ranges), [x >= 0 for x, _ in values])


@settings(deadline=None, max_examples=50)
@given(expressions(), st.sampled_from((2, 3, 8, 16)), places())
def test_answers_about_divisors_hold_at_every_point(
    drawn: Drawn, divisor: int, place: Place
) -> None:
    expression = drawn.expression
    values = [drawn.value_at(point) for point in place.points]
    answer = prove_divisible(expression, divisor, place.ranges)
    _holds_at(answer, [value % divisor == 0 for value in values if value is not None])


ORDERED = [
    # the remainder and the quotient of one number
    ("n - 16*(n floordiv 16)", "15"),
    ("0", "n mod 16"),
    ("n mod page", "page - 1"),
    ("group*(n floordiv group)", "n"),
    ("n floordiv group", "n"),
    ("4*(m mod 8) + 3", "31"),
    ("(m mod 32) floordiv 8", "3"),
    # pages of a sequence, and the tokens on its last page
    ("n", "(n + 63) floordiv 64 * 64"),
    ("(n + 63) floordiv 64 * 64", "n + 63"),
    ("1", "(n + 15) floordiv 16"),
    ("(n + 15) floordiv 16", "512"),
    ("1", "n - 16*((n + 15) floordiv 16 - 1)"),
    ("n", "page*((n + page - 1) floordiv page)"),
    ("page*((n + page - 1) floordiv page)", "n + page - 1"),
    # tiles: each begins before the end, and has at least one row
    ("64*tile", "n - 1"),
    ("1", "min(64, n - 64*tile)"),
    ("min(64*tile + 64, n) - 64*tile", "64"),
    ("min((n + 63) floordiv 64, 128)", "128"),
    ("32*tile + lane", "8191"),
    # quotients by different numbers, and of different numbers
    ("n floordiv 64", "n floordiv 16"),
    ("(n + 15) floordiv 16 - n floordiv 16", "1"),
    ("(n + 63) floordiv 64", "2*((n + 127) floordiv 128)"),
    ("2*((n + 127) floordiv 128)", "(n + 63) floordiv 64 + 1"),
    ("(q + 15) floordiv 16", "(kv + 15) floordiv 16"),
    # a range whose bound is another symbol
    ("q", "kv"),
    ("max(kv - q, 0)", "kv - 1"),
    # products
    ("m", "n*m"),
    ("n*(n - 1) floordiv 2", "n*n"),
    ("z*page", "320"),
    ("-25", "z*z"),
    # min and max
    ("min(n, m)", "n"),
    ("n", "max(n, m)"),
    ("min(n, m, kv)", "max(q, n)"),
    ("max(n, m) + min(n, m)", "n + m"),
]


@pytest.mark.parametrize(("left", "right"), ORDERED)
def test_order_is_proved(left: str, right: str) -> None:
    assert prove_le(parse_expression(left), parse_expression(right), RANGES) is Answer.PROVED


@pytest.mark.parametrize(("left", "right"), ORDERED)
def test_the_contrary_of_an_order_is_refuted(left: str, right: str) -> None:
    assert prove_lt(parse_expression(right), parse_expression(left), RANGES) is Answer.REFUTED


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("n", "(n + 1) floordiv 2 + n floordiv 2"),
        ("-min(n, m)", "max(-n, -m)"),
        ("a", "16*((a + 15) floordiv 16)"),
        ("min(q, kv)", "q"),
        ("(16*m + lane floordiv 2) floordiv 16", "m"),
    ],
)
def test_equality_of_different_forms_is_proved(left: str, right: str) -> None:
    a, b = parse_expression(left), parse_expression(right)
    assert a != b
    assert prove_eq(a, b, RANGES) is Answer.PROVED


@pytest.mark.parametrize(
    ("left", "right"),
    [("n", "0"), ("2*m", "2*n + 1"), ("a", "8*group*2 + 8"), ("q", "kv + 1")],
)
def test_equality_of_numbers_apart_is_refuted(left: str, right: str) -> None:
    a, b = parse_expression(left), parse_expression(right)
    assert prove_eq(a, b, RANGES) is Answer.REFUTED


@pytest.mark.parametrize(
    ("value", "divisor", "answer"),
    [
        ("a", "16", Answer.PROVED),
        ("a*heads", "128", Answer.PROVED),
        ("32*n + a", "16", Answer.PROVED),
        ("n - n mod 8", "8", Answer.PROVED),
        ("n*page + 2*page", "page", Answer.PROVED),
        ("(a + 15) floordiv 16 * 16", "16", Answer.PROVED),
        ("a + 8", "16", Answer.REFUTED),
        ("16*n + 3", "4", Answer.REFUTED),
        ("n", "16", Answer.UNKNOWN),
        ("8*n", "16", Answer.UNKNOWN),
    ],
)
def test_divisibility_is_answered(value: str, divisor: str, answer: Answer) -> None:
    by = parse_expression(divisor)
    assert prove_divisible(parse_expression(value), by, RANGES) is answer


def test_what_some_points_fulfil_and_others_do_not_is_unknown() -> None:
    n = symbol("n")
    answers = [prove_le(n, 100, RANGES), prove_eq(n, 7, RANGES), prove_le(n, symbol("x"), RANGES)]
    assert answers == [Answer.UNKNOWN] * 3


def test_only_a_proof_is_true() -> None:
    assert [bool(answer) for answer in (Answer.PROVED, Answer.REFUTED, Answer.UNKNOWN)] == [
        True,
        False,
        False,
    ]


def test_a_symbol_without_a_range_is_any_integer() -> None:
    x = symbol("x")
    assert interval(x, RANGES) == (None, None)
    assert prove_le(x - x % 4, x) is Answer.PROVED


def test_a_sum_that_is_too_long_to_search_has_the_bounds_of_its_summands() -> None:
    names = [f"s{i}" for i in range(121)]
    ranges = Ranges.of(**{name: (1, 99) for name in names})
    summands = [symbol(a) * symbol(b) // 7 for a, b in pairwise(names)]
    assert interval(sum(summands, symbol("s0")), ranges) == (1, 120 * (99 * 99 // 7) + 99)


def test_a_long_chain_of_bounds_ends_the_search() -> None:
    ranges = Ranges.of(s0=(0, 10))
    for i in range(1, 1000):
        ranges = ranges.also(f"s{i}", 0, symbol(f"s{i - 1}"))
    assert interval(symbol("s20"), ranges) == (0, 10)
    assert interval(symbol("s999"), ranges).lower == 0


def test_ranges_are_equal_whatever_their_order() -> None:
    left, right = Ranges.parse("n in [1, 2], m in [0, ...]"), Ranges.of(m=(0, None), n=(1, 2))
    assert (left, hash(left)) == (right, hash(right))


def test_multiples_of_one_symbol_combine() -> None:
    ranges = Ranges.parse("n mod 6 == 0, n in [..., 64], n mod 4 == 0")
    assert (ranges["n"].multiple, str(ranges)) == (12, "n in [..., 64], n mod 12 == 0")


@settings(deadline=None)
@given(places())
def test_the_text_of_ranges_is_read_back(place: Place) -> None:
    assert Ranges.parse(str(place.ranges)) == place.ranges


def test_a_second_range_of_a_symbol_is_refused() -> None:
    with pytest.raises(ExpressionError, match="expected one range for the symbol 'n', got two"):
        RANGES.also("n", 1, 2)
