"""
Reads the mask of a variant as instructions that need no dialect.

A plan on the host evaluates them on tiles of positions, to find those that a kernel skips. They are
lists `[op, operands, value, place]`, as the runtime's mask programs have them: integers of 32 bits
and conditions, and an `opaque` condition for what is neither, such as a comparison of f32.
"""

from dataclasses import dataclass, field
from typing import Any

from xdsl.dialects import arith
from xdsl.dialects.builtin import FileLineColLoc, IntegerAttr, StringAttr, i1, i32
from xdsl.ir import Block, BlockArgument, Operation, Region, SSAValue

Row = list[Any]
_POSITIONS = ("b", "h", "q_idx", "kv_idx")
_INTEGERS: dict[type[Operation], str] = {
    arith.AddiOp: "add",
    arith.SubiOp: "sub",
    arith.MuliOp: "mul",
    arith.FloorDivSIOp: "floordiv",
    arith.MaxSIOp: "maximum",
    arith.MinSIOp: "minimum",
    arith.AndIOp: "and",
    arith.OrIOp: "or",
    arith.XOrIOp: "xor",
    arith.ShLIOp: "shl",
    arith.ShRSIOp: "shr",
    arith.SelectOp: "where",
}
_CONNECTIVES: tuple[type[Operation], ...] = (
    arith.AndIOp,
    arith.OrIOp,
    arith.XOrIOp,
    arith.SelectOp,
)
_PREDICATES = {
    "eq": "eq",
    "ne": "ne",
    "slt": "lt",
    "sle": "le",
    "sgt": "gt",
    "sge": "ge",
}


def mask_instructions(mask: Region | None) -> list[Row]:
    """Returns the instructions of a mask region of `attn.variant`; None sees every key."""
    if mask is None:
        return [["constant", [], True, None]]
    reader = _Reader()
    block: Block = mask.block
    for name, argument in zip(_POSITIONS, block.args, strict=True):
        reader.append(argument, name)
    terminator = block.last_op
    assert terminator is not None
    for operation in block.ops:
        if operation is not terminator:
            reader.read(operation)
    known = reader.numbers[terminator.operands[0]]
    if known != len(reader.rows) - 1:
        # The last instruction is the mask, which here is a condition from further up.
        always = reader.append(None, "constant", [], True)
        reader.append(None, "and", [known, always])
    return reader.rows


@dataclass
class _Reader:
    """Appends the instructions of operations; integers that cannot be said have none."""

    rows: list[Row] = field(default_factory=list[Row])
    numbers: dict[SSAValue, int] = field(default_factory=dict[SSAValue, int])

    def append(
        self,
        result: SSAValue | None,
        op: str,
        operands: list[int] | None = None,
        value: bool | int | str | None = None,
    ) -> int:
        """Appends an instruction, and returns its number."""
        place = None if result is None else _place(result)
        self.rows.append([op, operands or [], value, place])
        if result is not None:
            self.numbers[result] = len(self.rows) - 1
        return len(self.rows) - 1

    def read(self, operation: Operation) -> None:
        """Appends the instruction of an operation, if it gives an integer or a condition."""
        for result in operation.results:
            if result.type not in (i1, i32) or self._said(operation, result):
                continue
            if result.type == i1:
                kinds = ", ".join(str(kind) for kind in operation.operand_types)
                self.append(result, "opaque", [], f"'{operation.name}' of {kinds}")

    def _said(self, operation: Operation, result: SSAValue) -> bool:
        """Appends what an operation is, and returns whether it could be said."""
        operands = [self.numbers[o] for o in operation.operands if o in self.numbers]
        if len(operands) != len(operation.operands):
            return False
        match operation:
            case arith.ConstantOp(value=IntegerAttr() as constant):
                number = constant.value.data
                self.append(result, "constant", [], bool(number) if result.type == i1 else number)
            case arith.CmpiOp():
                return self._compare(operation, result, operands)
            case arith.SubiOp(lhs=lhs, rhs=rhs) if (divisor := _divisor(lhs, rhs)) is not None:
                self.append(result, "mod", [self.numbers[lhs], self.numbers[divisor]])
            case _ if operation.name == "attn.query_row":
                if self.rows[operands[0]][0] != "q_idx":
                    return False
                self.append(result, "q_row")
            case _ if operation.name == "attn.param":
                name = operation.properties["param"]
                assert isinstance(name, StringAttr)
                self.append(result, "load" if operands else "scalar", operands, name.data)
            case _:
                op = _INTEGERS.get(type(operation))
                if op is None or (result.type == i1 and not isinstance(operation, _CONNECTIVES)):
                    return False
                self.append(result, op, operands)
        return True

    def _compare(self, comparison: arith.CmpiOp, result: SSAValue, operands: list[int]) -> bool:
        predicate = arith.CMPI_COMPARISON_OPERATIONS[comparison.predicate.value.data]
        op = _PREDICATES.get(predicate)
        if op is None or (comparison.lhs.type == i1 and op not in ("eq", "ne")):
            return False
        self.append(result, op, operands)
        return True


def _divisor(lhs: SSAValue, rhs: SSAValue) -> SSAValue | None:
    """Returns the divisor where `lhs - rhs` is `lhs - lhs // divisor * divisor`."""
    match rhs.owner:
        case arith.MuliOp(lhs=quotient, rhs=divisor):
            match quotient.owner:
                case arith.FloorDivSIOp(lhs=dividend, rhs=by) if dividend is lhs and by is divisor:
                    return divisor
                case _:
                    return None
        case _:
            return None


def _place(value: SSAValue) -> str | None:
    if isinstance(value, BlockArgument) or not isinstance(value.owner, Operation):
        return None
    location = value.owner.location
    if isinstance(location, FileLineColLoc):
        return f"{location.filename.data.rpartition('/')[2]}:{location.line.data}"
    return None
