"""Writes the mask of a traced variant as a mask program, for plans that have no compiler."""

from pathlib import Path
from typing import Any

from ..runtime.block_mask import Instruction, MaskProgram
from .expression import ScalarType, Value, in_order

# Operations that mask programs know under the same name.
_SAME = {
    *("b", "h", "q_idx", "kv_idx", "scalar", "load", "abs"),
    *("add", "sub", "mul", "floordiv", "mod", "minimum", "maximum", "shl", "shr"),
    *("lt", "le", "gt", "ge", "eq", "ne", "and", "or", "xor", "where"),
}


def mask_program(mask: Value | None) -> MaskProgram:
    """
    Returns the program of a traced mask; None sees every key.

    Conditions on what are no integers, such as comparisons of f32, become `opaque` ones.
    """
    if mask is None:
        return MaskProgram((Instruction("constant", (), True),))
    writer = _Writer()
    for value in in_order(mask):
        writer.write(value)
    return MaskProgram(tuple(writer.instructions))


class _Writer:
    """Appends the instructions of values; a value that cannot be said has none."""

    def __init__(self) -> None:
        self.instructions: list[Instruction] = []
        self._numbers: dict[int, int | None] = {}

    def write(self, value: Value) -> None:
        """Appends the instruction of a value, whose operands are already there."""
        operands = [self._numbers[id(operand)] for operand in value.operands]
        instruction = self._instruction(value, operands)
        if instruction is not None:
            self.instructions.append(instruction)
        self._numbers[id(value)] = None if instruction is None else len(self.instructions) - 1

    def _instruction(self, value: Value, operands: list[int | None]) -> Instruction | None:
        place = None if value.place is None else _place(value)
        known = [operand for operand in operands if operand is not None]
        if len(known) == len(operands) and value.dtype is not ScalarType.F32:
            if isinstance(value.constant, int):
                return Instruction("constant", (), value.constant, place)
            if value.op == "query_row" and value.operands[0].op == "q_idx":
                return Instruction("q_row", (), None, place)
            if value.op in _SAME:
                name = _parameter(value) if value.op in ("scalar", "load") else None
                return Instruction(value.op, tuple(known), name, place)
        if value.dtype is ScalarType.I1:
            kinds = ", ".join(operand.dtype for operand in value.operands)
            return Instruction("opaque", (), f"'{value.op}' of {kinds}", place)
        return None


def _parameter(value: Value) -> str:
    parameter: Any = value.parameter
    return str(parameter.name)


def _place(value: Value) -> str:
    assert value.place is not None
    return f"{Path(value.place.filename).name}:{value.place.line}"
