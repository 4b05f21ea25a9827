"""Symbolic integers: expressions over named symbols, their ranges, and what can be proved."""

from xdsl.ir import Dialect

from .attributes import ExpressionAttr, RangesAttr, parse_extent, print_extent
from .bounds import interval, lies_within
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
from .intervals import Interval
from .parsing import ExpressionSyntaxError, parse_expression
from .polynomial import ExpressionError
from .proof import Answer, prove_divisible, prove_eq, prove_le, prove_lt, prove_nonnegative
from .ranges import Range, Ranges
from .simplify import simplify

Sym = Dialect("sym", [], [ExpressionAttr, RangesAttr])

__all__ = [
    "Answer",
    "Expression",
    "ExpressionAttr",
    "ExpressionError",
    "ExpressionSyntaxError",
    "Interval",
    "Range",
    "Ranges",
    "RangesAttr",
    "Sym",
    "ceildiv",
    "constant",
    "floordiv",
    "interval",
    "lies_within",
    "maximum",
    "minimum",
    "mod",
    "parse_expression",
    "parse_extent",
    "print_extent",
    "prove_divisible",
    "prove_eq",
    "prove_le",
    "prove_lt",
    "prove_nonnegative",
    "simplify",
    "symbol",
]
