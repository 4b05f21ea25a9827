"""
Symbolic integers in MLIR: `#sym.expr<(n + 15) floordiv 16>`, and extents inside other types.

The text has balanced brackets and no string, so that upstream MLIR carries it as an opaque
attribute of a dialect that it does not know.
"""

import re
from typing import NoReturn

from xdsl.ir import Data
from xdsl.irdl import irdl_attr_definition
from xdsl.parser import AttrParser
from xdsl.printer import Printer

from .expression import RESERVED, Expression
from .parsing import MAX_DIGITS, read_expression
from .ranges import Ranges, read_ranges

_TOKEN = re.compile(r"[A-Za-z_][A-Za-z0-9_$.]*|[0-9]+|\.\.\.|\S|\Z")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


class ParserSource:
    """The tokens that an xDSL parser is about to read."""

    def __init__(self, parser: AttrParser) -> None:
        self._parser = parser

    @property
    def place(self) -> int:
        """The place of the next token in the parser's text."""
        return self._parser.pos

    def _token(self) -> str:
        match = _TOKEN.match(self._parser.lexer.input.content, self.place)
        return match[0] if match else ""

    def accept_integer(self) -> int | None:
        """Takes an integer without a sign; refuses one of too many digits."""
        if len(self._token()) > MAX_DIGITS and self._token().isdecimal():
            self.fail(f"expected an integer of at most {MAX_DIGITS} digits", self.place)
        return self._parser.parse_optional_integer(allow_boolean=False, allow_negative=False)

    def accept_word(self, words: frozenset[str] | None = None) -> str | None:
        """Takes an identifier, of these words if any are given, else not a reserved one."""
        token = self._token()
        if not _WORD.match(token) or (token in RESERVED if words is None else token not in words):
            return None
        return self._parser.parse_optional_identifier()

    def accept(self, punctuation: str) -> bool:
        """Takes one token of punctuation."""
        return self._parser.parse_optional_characters(punctuation) is not None

    def fail(self, message: str, place: int) -> NoReturn:
        """Raises the parser's error with the place in its text."""
        self._parser.raise_error(message, place)

    def fail_expected(self, expected: str) -> NoReturn:
        """Raises the parser's error, naming the token that was found."""
        token = self._token()
        found = f"'{token}'" if token else "the end"
        self.fail(f"expected {expected}, got {found}", self.place)


def parse_extent(parser: AttrParser) -> Expression:
    """Returns the expression at the parser's place; mistakes are errors of the parser."""
    return read_expression(ParserSource(parser))


def print_extent(printer: Printer, extent: Expression) -> None:
    """Prints an expression so that `parse_extent` reads it back."""
    printer.print_string(str(extent))


@irdl_attr_definition
class ExpressionAttr(Data[Expression]):
    """
    An integer expression over named symbols: `#sym.expr<(n + 15) floordiv 16>`.

    Attributes are equal if their expressions have the same canonical form.
    """

    name = "sym.expr"

    @classmethod
    def parse_bare(cls, parser: AttrParser) -> "ExpressionAttr":
        """Parses the expression alone, as it stands inside larger attributes and types."""
        return cls(parse_extent(parser))

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> Expression:
        with parser.in_angle_brackets():
            return parse_extent(parser)

    def print_bare(self, printer: Printer) -> None:
        """Prints the expression alone, as `parse_bare` reads it."""
        print_extent(printer, self.data)

    def print_parameter(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            print_extent(printer, self.data)


@irdl_attr_definition
class RangesAttr(Data[Ranges]):
    """
    The ranges of symbols: `#sym.ranges<n in [1, 8192], n mod 16 == 0, m in [0, ...]>`.

    A function carries them for the symbols of its types.
    """

    name = "sym.ranges"

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> Ranges:
        with parser.in_angle_brackets():
            return read_ranges(ParserSource(parser))

    def print_parameter(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            printer.print_string(str(self.data))
