"""Symbolic integers: expressions over named symbols, their ranges, and what can be proved."""

from xdsl.ir import Dialect

from .attributes import ExpressionAttr, parse_extent, print_extent
from .expression import (
    Expression,
    ceildiv,
    constant,
    floordiv,
    maximum,
    minimum,
    mod,
    symbol,
)
from .parsing import ExpressionSyntaxError, parse_expression
from .polynomial import ExpressionError

Sym = Dialect("sym", [], [ExpressionAttr])

__all__ = [
    "Expression",
    "ExpressionAttr",
    "ExpressionError",
    "ExpressionSyntaxError",
    "Sym",
    "ceildiv",
    "constant",
    "floordiv",
    "maximum",
    "minimum",
    "mod",
    "parse_expression",
    "parse_extent",
    "print_extent",
    "symbol",
]
