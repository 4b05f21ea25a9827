"""Symbolic integers as attributes: inside other attributes, and as upstream MLIR sees them."""

from io import StringIO

import pytest
from hypothesis import given, settings
from xdsl.context import Context
from xdsl.ir import Attribute
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.utils.exceptions import ParseError

from tilewright.dialects.sym import (
    ExpressionAttr,
    RangesAttr,
    Sym,
    parse_expression,
    parse_extent,
    print_extent,
)
from tilewright.test.dialects.sym.drawn import Drawn, Place, expressions, places


def _parser(text: str) -> Parser:
    context = Context()
    context.load_dialect(Sym)
    return Parser(context, text)


def _parse(text: str) -> Attribute:
    return _parser(text).parse_attribute()


@settings(deadline=None)
@given(expressions())
def test_the_text_of_an_expression_attribute_is_read_back(drawn: Drawn) -> None:
    expression = drawn.expression
    attribute = ExpressionAttr(expression)
    assert _parse(str(attribute)) == attribute


@settings(deadline=None)
@given(places())
def test_the_text_of_a_ranges_attribute_is_read_back(place: Place) -> None:
    attribute = RangesAttr(place.ranges)
    assert _parse(str(attribute)) == attribute


@settings(deadline=None)
@given(expressions())
def test_both_parsers_read_the_same(drawn: Drawn) -> None:
    assert _parse(f"#sym.expr<{drawn.text}>") == ExpressionAttr(drawn.expression)


def test_attributes_of_one_canonical_form_are_equal() -> None:
    left, right = _parse("#sym.expr<n - n mod 8>"), _parse("#sym.expr<8 * (n floordiv 8)>")
    assert (left, hash(left)) == (right, hash(right))


def test_an_extent_ends_where_the_larger_text_goes_on() -> None:
    parser = _parser("[n ceildiv 16, min(n, m), 128]")
    extents = parser.parse_comma_separated_list(
        parser.Delimiter.SQUARE, lambda: parse_extent(parser)
    )
    assert [str(extent) for extent in extents] == ["(n + 15) floordiv 16", "min(m, n)", "128"]


def test_an_extent_is_printed_bare() -> None:
    stream = StringIO()
    print_extent(Printer(stream), parse_expression("(n + 15) floordiv 16"))
    ExpressionAttr(parse_expression("2*n")).print_bare(Printer(stream))
    assert stream.getvalue() == "(n + 15) floordiv 162*n"


@pytest.mark.parametrize(
    ("text", "message", "column"),
    [
        ("#sym.expr<n +>", "expected an integer, a symbol or '(', got '>'", 13),
        ("#sym.expr<1.5>", "expected an integer, a symbol or '(', got '1'", 10),
        ("#sym.expr<min(n>", "expected an operator or ')', got '>'", 15),
        ("#sym.expr<n floordiv 0>", "expected a positive divisor, got 0", 12),
        ("#sym.ranges<n in [1 8]>", "expected ',', got '8'", 20),
    ],
)
def test_a_mistake_has_its_place_in_the_larger_text(text: str, message: str, column: int) -> None:
    with pytest.raises(ParseError) as caught:
        _parse(text)
    assert (message in str(caught.value), caught.value.span.start) == (True, column)


@settings(deadline=None)
@given(expressions(), places())
def test_upstream_carries_the_attributes_as_they_are(drawn: Drawn, place: Place) -> None:
    ir = pytest.importorskip("torch_mlir.ir")
    expression = drawn.expression
    attributes = ExpressionAttr(expression), RangesAttr(place.ranges)
    text = f'"a.op"() {{extent = {attributes[0]}, ranges = {attributes[1]}}} : () -> ()'
    with ir.Context() as context:
        context.allow_unregistered_dialects = True
        module = ir.Module.parse(text)  # owns its ops
        op = module.body.operations[0]
        carried = [str(op.attributes[name]) for name in ("extent", "ranges")]
    assert tuple(map(_parse, carried)) == attributes


def test_upstream_carries_extents_inside_types() -> None:
    ir = pytest.importorskip("torch_mlir.ir")
    text = '"a.op"() : () -> !attn.ragged<[(n + 15) floordiv 16, min(m, n), 8 * n - 1], bf16>'
    with ir.Context() as context:
        context.allow_unregistered_dialects = True
        module = ir.Module.parse(text)  # owns its ops
        op = module.body.operations[0]
        assert str(op.results[0].type) == text.partition("-> ")[2]
