"""How index expressions and regions over SSA values are written: `%A[%vi * 2 + n, %row]`."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr, IndexType, UnitAttr
from xdsl.ir import Attribute, OpResult, SSAValue
from xdsl.parser import Parser, UnresolvedOperand
from xdsl.printer import Printer

from ..sym import Expression, ExpressionAttr, constant
from ..sym.attributes import ParserSource
from ..sym.parsing import read_expression
from .program import Bound, Range

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
ONE = constant(1)
_T = TypeVar("_T")


def parse_value(parser: Parser) -> SSAValue:
    """Returns a value that is defined before."""
    return _defined(parser, parser.parse_unresolved_operand("expected a value"))


def _defined(parser: Parser, operand: UnresolvedOperand) -> SSAValue:
    values = parser.ssa_values.get(operand.operand_name)
    if values is None or operand.index >= len(values):
        parser.raise_error(f"%{operand.operand_name} is used but not defined", operand.span)
    return values[operand.index]


@dataclass
class IndexParser(ParserSource):
    """
    Reads index expressions in which loops and axes are SSA values, and symbols bare names.

    `values` collects the loops and axes by name. `own` are axes whose values exist only inside a
    region that follows: they are written like others, and are no operands.
    """

    parser: Parser
    own: frozenset[str] = frozenset()
    values: dict[str, SSAValue] = field(default_factory=dict[str, SSAValue])

    def __post_init__(self) -> None:
        super().__init__(self.parser)

    def accept_word(self, words: frozenset[str] | None = None) -> str | None:
        """Takes an identifier or, where any is good, the value of a loop or axis."""
        if words is not None or not self._at_value():
            return super().accept_word(words)
        operand = self.parser.parse_unresolved_operand()
        name = operand.operand_name
        if name not in self.own:
            value = _defined(self.parser, operand)
            if isinstance(value, OpResult) or not isinstance(value.type, IndexType):
                self.parser.raise_error(
                    f"expected a loop or an axis in an index expression, got %{name} of type "
                    f"{value.type}; compute with ops of arith instead",
                    operand.span,
                )
            self.values[name] = value
        return name

    def _at_value(self) -> bool:
        return self.parser.lexer.input.content.startswith("%", self.place)

    def expression(self) -> Expression:
        """Returns the expression at the parser's place."""
        return read_expression(self)

    def operands(self) -> list[SSAValue]:
        """Returns the values that were named, in the order of their names."""
        return [self.values[name] for name in sorted(self.values)]

    def subscripts(self) -> tuple[list[Attribute], list[SSAValue]]:
        """Returns the indices of an access, and the values of those that depend on data."""
        data: list[SSAValue] = []

        def subscript() -> Attribute:
            if (value := self._data_dependent()) is None:
                return ExpressionAttr(self.expression())
            data.append(value)
            return UnitAttr()

        parser = self.parser
        return parser.parse_comma_separated_list(parser.Delimiter.SQUARE, subscript), data

    def _data_dependent(self) -> SSAValue | None:
        """Takes the result of an op, or `value(%parameter)`."""
        parser = self.parser
        if parser.lexer.input.content.startswith("value(", self.place):
            parser.parse_keyword("value")
            with parser.in_parens():
                return parse_value(parser)
        if not self._at_value():
            return None
        match = _IDENTIFIER.match(parser.lexer.input.content, self.place + 1)
        values = parser.ssa_values.get(match[0]) if match else None
        if match and match[0] not in self.own and values and isinstance(values[0], OpResult):
            return parse_value(parser)
        if not match:
            return parse_value(parser)
        return None

    def ranges(self) -> list[Range]:
        """Returns the indices of a region: `[%vi * 16 extent 16, %vk]`."""

        def part() -> Range:
            start = self.expression()
            sized = self.parser.parse_optional_keyword("extent")
            return Range(start, self.expression() if sized else ONE)

        return self.parser.parse_comma_separated_list(self.parser.Delimiter.SQUARE, part)

    def regions(self) -> tuple[list[SSAValue], ArrayAttr[ArrayAttr[ExpressionAttr]]]:
        """Returns the buffers and ranges of `(%A[%vi, %vk], %B[%vk, %vj])`."""
        parser = self.parser
        found = parser.parse_comma_separated_list(
            parser.Delimiter.PAREN, lambda: (parse_value(parser), self.ranges())
        )
        return [value for value, _ in found], regions_attribute(ranges for _, ranges in found)

    def bounds(self) -> list[Bound]:
        """Returns the bounds of `(%i * 32 + %j < n, %j < m)`."""

        def bound() -> Bound:
            left = self.expression()
            self.parser.parse_punctuation("<", " between the sides of a bound")
            return Bound(left, self.expression())

        return self.parser.parse_comma_separated_list(self.parser.Delimiter.PAREN, bound)


def regions_attribute(
    regions: Iterable[Sequence[Range]],
) -> ArrayAttr[ArrayAttr[ExpressionAttr]]:
    """Returns regions as arrays of start, extent, start, extent and so on."""
    return ArrayAttr(
        [
            ArrayAttr(
                [ExpressionAttr(side) for part in ranges for side in (part.start, part.extent)]
            )
            for ranges in regions
        ]
    )


def ranges_of(region: ArrayAttr[ExpressionAttr]) -> tuple[Range, ...]:
    """Returns the ranges that an attribute of start, extent and so on says."""
    sides = [side.data for side in region]
    return tuple(Range(*pair) for pair in zip(sides[::2], sides[1::2], strict=True))


def expressions_attribute(expressions: Iterable[Expression]) -> ArrayAttr[ExpressionAttr]:
    """Returns expressions as an attribute."""
    return ArrayAttr([ExpressionAttr(expression) for expression in expressions])


def bounds_attribute(bounds: Iterable[Bound]) -> ArrayAttr[ExpressionAttr]:
    """Returns bounds as an array of left, right, left, right and so on."""
    return expressions_attribute(side for bound in bounds for side in (bound.left, bound.right))


def index_text(expression: Expression, names: frozenset[str]) -> str:
    """Returns the text of an expression in which `names` are SSA values."""
    return _IDENTIFIER.sub(
        lambda match: f"%{match[0]}" if match[0] in names else match[0], str(expression)
    )


def print_subscripts(
    printer: Printer,
    indices: ArrayAttr[Attribute],
    names: frozenset[str],
    data: Sequence[SSAValue],
) -> None:
    """Prints the indices of an access in brackets."""
    pending = iter(data)

    def subscript(index: Attribute) -> None:
        if isinstance(index, ExpressionAttr):
            printer.print_string(index_text(index.data, names))
            return
        value = next(pending)
        is_parameter = not isinstance(value, OpResult)
        printer.print_string("value(" if is_parameter else "")
        printer.print_ssa_value(value)
        printer.print_string(")" if is_parameter else "")

    with printer.in_square_brackets():
        printer.print_list(indices.data, subscript)


def print_region(
    printer: Printer, buffer: SSAValue, ranges: Sequence[Range], names: frozenset[str]
) -> None:
    """Prints one region: `%A[%vi * 16 extent 16, %vk]`."""

    def part(entry: Range) -> None:
        extent = "" if entry.extent == ONE else f" extent {index_text(entry.extent, names)}"
        printer.print_string(index_text(entry.start, names) + extent)

    printer.print_ssa_value(buffer)
    with printer.in_square_brackets():
        printer.print_list(ranges, part)


def parse_annotations(parser: Parser) -> DictionaryAttr | None:
    """Returns the annotations of `attributes {pipeline = 3 : i64}`, None where there are none."""
    if not parser.parse_optional_keyword("attributes"):
        return None
    return DictionaryAttr(parser.parse_optional_attr_dict())


def print_annotations(printer: Printer, annotations: DictionaryAttr | None) -> None:
    """Prints annotations so that `parse_annotations` reads them back."""
    if annotations is not None and annotations.data:
        printer.print_string(" attributes ")
        printer.print_attr_dict(annotations.data)


def parse_clause(parser: Parser, keyword: str, parse: Callable[[], _T]) -> _T | None:
    """Returns what follows a keyword, None where the keyword does not."""
    return parse() if parser.parse_optional_keyword(keyword) else None
