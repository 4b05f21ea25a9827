"""
A mask as a small straight-line program over positions, scalars and tensors.

The program is what is left of a variant's mask when the compiler is gone: a plan reads it and
evaluates it on rectangles of positions, with neither Python functions nor a dialect. Arithmetic is
that of 32-bit integers; `floordiv` and `mod` round down, as Python's do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from ..errors import ArgumentError

POSITIONS = ("b", "h", "q_idx", "kv_idx", "q_row")
ARITHMETIC = ("add", "sub", "mul", "floordiv", "mod", "shl", "shr")
EXTREMA = ("minimum", "maximum")
ORDERINGS = ("lt", "le", "gt", "ge")
CONNECTIVES = ("and", "or", "xor")

# How an operation is written between its operands.
SIGNS = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "floordiv": "//",
    "mod": "%",
    "shl": "<<",
    "shr": ">>",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
    "eq": "==",
    "ne": "!=",
    "and": "&",
    "or": "|",
    "xor": "^",
}
_LARGEST = 2**31 - 1


@dataclass(frozen=True)
class Instruction:
    """
    One operation of a mask program.

    `operands` are numbers of earlier instructions. `value` is the number of a `constant`, the name
    of a `scalar` or of the tensor of a `load`, and what could not be expressed of an `opaque`.
    `place` is the line of the source, such as `mask.py:12`.
    """

    op: str
    operands: tuple[int, ...] = ()
    value: bool | int | str | None = None
    place: str | None = None


@dataclass(frozen=True)
class MaskProgram:
    """
    A mask of `attn.variant`: the last instruction tells whether a query sees a key.

    Operations without operands are the positions `b`, `h`, `q_idx`, `kv_idx`, the row `q_row` of
    the query in the array of all queries, a `constant`, a `scalar` that is given at run time, and
    an `opaque` condition, of which nothing is known. A `load` reads an integer tensor that is given
    at run time, with an operand for each dimension; an index outside of the tensor reads the
    nearest element, but a bare position must not be outside. The others are `add`, `sub`, `mul`,
    `floordiv`, `mod`, `minimum`, `maximum`, `abs`, and shifts `shl`, `shr` by 0 to 31 of integers;
    `lt`, `le`, `gt`, `ge` of integers; `eq`, `ne`, `and`, `or`, `xor` of two integers or two
    conditions; `not` of a condition; `where` of a condition and two values.

    Raises ArgumentError for a program that is not well formed.
    """

    instructions: tuple[Instruction, ...]

    def __post_init__(self) -> None:
        if not self.conditions or not self.conditions[-1]:
            raise ArgumentError("mask program", "a condition at its end", "none")

    @cached_property
    def conditions(self) -> tuple[bool, ...]:
        """Tells for each instruction whether it gives a condition; otherwise it's an integer."""
        kinds: list[bool] = []
        for number, instruction in enumerate(self.instructions):
            for operand in instruction.operands:
                if not 0 <= operand < number:
                    got = f"operand {operand} of instruction {number}"
                    raise ArgumentError("mask program", "operands of earlier instructions", got)
            kinds.append(_result(number, instruction, [kinds[i] for i in instruction.operands]))
        return tuple(kinds)

    @cached_property
    def scalars(self) -> tuple[str, ...]:
        """The names of the scalars that are given at run time."""
        names = {str(i.value): None for i in self.instructions if i.op == "scalar"}
        return tuple(names)

    @cached_property
    def tensors(self) -> Mapping[str, int]:
        """The tensors that are given at run time, by name, with their number of dimensions."""
        ranks: dict[str, int] = {}
        for instruction in self.instructions:
            if instruction.op == "load":
                rank = ranks.setdefault(str(instruction.value), len(instruction.operands))
                if rank != len(instruction.operands):
                    got = f"{rank} and {len(instruction.operands)}"
                    expected = f"one number of dimensions of {instruction.value}"
                    raise ArgumentError("mask program", expected, got)
        return ranks

    def to_json(self) -> list[list[Any]]:
        """Returns the program as lists `[op, operands, value, place]`."""
        return [[i.op, list(i.operands), i.value, i.place] for i in self.instructions]

    @classmethod
    def from_json(cls, rows: object) -> "MaskProgram":
        """Returns the program of such lists; raises ArgumentError."""
        if not isinstance(rows, list):
            raise ArgumentError("mask program", "a list of instructions", type(rows).__name__)
        return cls(tuple(_instruction(row) for row in cast("list[object]", rows)))

    def text(self, number: int | None = None) -> str:
        """Returns the expression of an instruction, by default the last, as Python writes it."""
        number = len(self.instructions) - 1 if number is None else number
        return self._text(number, 0)

    def _text(self, number: int, depth: int) -> str:
        instruction = self.instructions[number]
        op, value = instruction.op, instruction.value
        if depth > 12:
            return "..."
        parts = [self._text(operand, depth + 1) for operand in instruction.operands]
        if op in SIGNS:
            text = f" {SIGNS[op]} ".join(parts)
            return f"({text})" if depth else text
        if op == "load":
            return f"{value}[{', '.join(parts)}]"
        if op == "not":
            return f"~{parts[0]}" if parts[0].startswith("(") else f"~({parts[0]})"
        if parts:
            return f"{op}({', '.join(parts)})"
        return str(value) if op in ("constant", "scalar") else op


def _result(number: int, instruction: Instruction, kinds: Sequence[bool]) -> bool:
    """Returns whether an instruction gives a condition; raises ArgumentError."""
    op, value, count = instruction.op, instruction.value, len(kinds)
    integers, conditions = not any(kinds), all(kinds)
    if op == "constant" and not count and isinstance(value, int) and abs(value) <= _LARGEST + 1:
        return isinstance(value, bool)
    if op in POSITIONS and not count:
        return False
    if op == "opaque" and not count:
        return True
    if op == "scalar" and not count and isinstance(value, str):
        return False
    if op == "load" and count and integers and isinstance(value, str):
        return False
    if op in (*ARITHMETIC, *EXTREMA) and count == 2 and integers:
        return False
    if op == "abs" and count == 1 and integers:
        return False
    if op in ORDERINGS and count == 2 and integers:
        return True
    if op in ("eq", "ne") and count == 2 and (integers or conditions):
        return True
    if op in CONNECTIVES and count == 2 and (integers or conditions):
        return conditions
    if op == "not" and count == 1 and conditions:
        return True
    if op == "where" and count == 3 and kinds[0] and kinds[1] == kinds[2]:
        return kinds[1]
    got = f"'{op}' of {', '.join('i1' if kind else 'i32' for kind in kinds) or 'nothing'}"
    raise ArgumentError("mask program", "an operation of masks", f"{got}, instruction {number}")


def _instruction(row: object) -> Instruction:
    fields = cast("list[object]", row) if isinstance(row, list) else []
    if len(fields) == 4:
        op, operands, value, place = fields
        if isinstance(op, str) and isinstance(operands, list):
            numbers = cast("list[object]", operands)
            are_numbers = all(type(number) is int for number in numbers)
            if are_numbers and isinstance(value, int | str | None):
                if isinstance(place, str | None):
                    return Instruction(op, tuple(cast("list[int]", numbers)), value, place)
    raise ArgumentError("mask program", "instructions [op, operands, value, place]", repr(fields))
