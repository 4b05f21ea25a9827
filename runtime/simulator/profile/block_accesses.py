"""What a memory instruction accesses: by lane, or as a block that copy engines and wgmma move."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..ptx.syntax import Address, Instruction, Vector

if TYPE_CHECKING:
    from ..compiler.emitter import BlockEmitter

_TENSOR = re.compile(r"cp(?:\.reduce)?\.async\.bulk\.tensor\.")
_BULK = re.compile(r"cp(?:\.reduce)?\.async\.bulk\.(?!tensor|prefetch)\w")
_WGMMA = re.compile(r"wgmma\.mma_async\..*\.m64n(\d+)k")
_ROW = 32  # bytes of a row of A or B along k, for every type


@dataclass(frozen=True, slots=True)
class Access:
    """
    What one operand of an instruction accesses, and how many values an observer gets for it.

    `kind` is "lanes": an address a lane, `size` bytes each, of the first `lanes` lanes of a warp.
    "bulk": an address and a number of bytes a lane. "tensor": the address of a tensor map and the
    coordinates of a box. "matrix": `size` bytes a warpgroup, no values. `space` is "" for generic
    addresses; `offset` is added to the first value.
    """

    space: str
    offset: int
    size: int
    kind: str = "lanes"
    count: int = 1
    lanes: int = 32


def block_access(b: "BlockEmitter", instruction: Instruction) -> tuple[Access, list[str]] | None:
    """
    Returns what a bulk copy, a tensor copy or a wgmma accesses, with the names of its values.

    Raises PTXError for operands that its table row refuses as well.
    """
    opcode, operands = instruction.opcode, instruction.operands
    if _TENSOR.match(opcode) and "im2col" not in opcode:
        for operand in operands:
            if isinstance(operand, Address) and operand.coordinates:
                inner = operand.coordinates[0]
                items = inner.items if isinstance(inner, Vector) else (inner,)
                base, offset = b.address(operand)
                start = [b.read(item, "s32") for item in items]
                return Access("global", offset, 0, "tensor", 1 + len(start)), [base, *start]
    elif _BULK.match(opcode) and len(operands) > 2:
        base, offset = b.address(operands[0 if ".global.shared" in opcode else 1])
        return Access("global", offset, 0, "bulk", 2), [base, b.read(operands[2], "u32")]
    elif (shape := _WGMMA.match(opcode)) and len(operands) > 1:
        rows = int(shape[1]) + (0 if isinstance(operands[1], Vector) else 64)
        return Access("shared", 0, rows * _ROW, "matrix", 0), []
    return None
