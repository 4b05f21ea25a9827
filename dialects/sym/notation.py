"""
How sums, products and quotients are written, with no parentheses but the needed ones.

The operators bind as in MLIR's affine expressions: `*`, `floordiv`, `ceildiv` and `mod` alike and
from left to right, tighter than `+` and `-`; a sign binds tighter than both.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Factor:
    """One factor of a product; a quotient needs parentheses beside other factors."""

    text: str
    is_quotient: bool = False


@dataclass(frozen=True, slots=True)
class Piece:
    """A summand: an integer times factors."""

    coefficient: int
    factors: tuple[Factor, ...] = ()

    def text(self, is_first: bool) -> str:
        """Returns the summand without its sign."""
        size = abs(self.coefficient)
        if not self.factors:
            return str(size)
        # A sign in front of a quotient would belong to its numerator.
        is_signed = is_first and self.coefficient < 0
        is_alone = size == 1 and len(self.factors) == 1 and not is_signed
        texts = [f"({f.text})" if f.is_quotient and not is_alone else f.text for f in self.factors]
        return "*".join(texts if size == 1 else [str(size), *texts])


def sum_text(pieces: Sequence[Piece]) -> str:
    """Returns the text of a sum, a positive summand in front where there is one."""
    if not pieces:
        return "0"
    first = next((i for i, piece in enumerate(pieces) if piece.coefficient > 0), 0)
    head, tail = pieces[first], [*pieces[:first], *pieces[first + 1 :]]
    text = ("-" if head.coefficient < 0 else "") + head.text(is_first=True)
    for piece in tail:
        text += (" - " if piece.coefficient < 0 else " + ") + piece.text(is_first=False)
    return text


def operand_text(pieces: Sequence[Piece]) -> str:
    """Returns the text of a sum as the operand of a quotient."""
    text = sum_text(pieces)
    match pieces:
        case []:
            return text
        case [Piece(coefficient, ())] if coefficient > 0:
            return text
        case [Piece(1, (Factor(_, False),))]:
            return text
        case _:
            return f"({text})"


def division(operation: str, numerator: Sequence[Piece], divisor: Sequence[Piece]) -> Factor:
    """Returns the factor `numerator operation divisor`."""
    text = f"{operand_text(numerator)} {operation} {operand_text(divisor)}"
    return Factor(text, is_quotient=True)


def call(function: str, arguments: Sequence[Sequence[Piece]]) -> Factor:
    """Returns the factor `function(arguments)`."""
    return Factor(f"{function}({', '.join(sum_text(argument) for argument in arguments)})")
