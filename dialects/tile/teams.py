"""
Ops on the teams of a CTA.

Where a fragment has fewer rows than the warps of the CTA can hold, several teams of warps hold
fragments of their own of that shape, and each works on its part of the keys.
"""

from xdsl.dialects.builtin import Float32Type, IntegerAttr, UnitAttr, i32
from xdsl.ir import SSAValue
from xdsl.irdl import (
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    opt_prop_def,
    prop_def,
    result_def,
    traits_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import MemoryReadEffect, MemoryWriteEffect, Pure
from xdsl.utils.exceptions import VerifyException

from .types import (
    ROWS_PER_WARP,
    FragmentLayout,
    FragmentType,
    ReduceKind,
    ReduceKindAttr,
    RingType,
    SharedType,
)


@irdl_op_definition
class TeamIndexOp(IRDLOperation):
    """
    The index of this warp's team, where fragments have the given number of rows.

    ```mlir
    %team = tile.team_index rows 16
    ```
    """

    name = "tile.team_index"

    rows = prop_def(IntegerAttr)
    index = result_def(i32)

    traits = traits_def(Pure())

    def __init__(self, rows: int):
        super().__init__(properties={"rows": IntegerAttr(rows, i32)}, result_types=[i32])

    @classmethod
    def parse(cls, parser: Parser) -> "TeamIndexOp":
        parser.parse_keyword("rows")
        return cls(parser.parse_integer())

    def print(self, printer: Printer) -> None:
        printer.print_string(f" rows {self.rows.value.data}")

    def verify_(self) -> None:
        rows = self.rows.value.data
        if rows < ROWS_PER_WARP or rows % ROWS_PER_WARP:
            raise VerifyException(
                f"expects a positive multiple of {ROWS_PER_WARP} rows, got {rows}"
            )


@irdl_op_definition
class SliceOp(IRDLOperation):
    """
    Some rows of a stage, from a row on that is a multiple of 8.

    ```mlir
    %mine = tile.slice %keys[%first] : !tile.shared<[64, 128], bf16, swizzle128>
      -> !tile.shared<[16, 128], bf16, swizzle128>
    ```
    """

    name = "tile.slice"

    stage = operand_def(SharedType)
    row = operand_def(i32)
    part = result_def(SharedType)

    traits = traits_def(Pure())
    assembly_format = "$stage `[` $row `]` attr-dict `:` type($stage) `->` type($part)"

    def __init__(self, stage: SSAValue, row: SSAValue, part: SharedType):
        super().__init__(operands=[stage, row], result_types=[part])

    def verify_(self) -> None:
        stage, part = self.stage.type, self.part.type
        if not isinstance(stage, SharedType):
            return
        same = (stage.columns, stage.element_type, stage.layout)
        if (part.columns, part.element_type, part.layout) != same or part.rows > stage.rows:
            raise VerifyException(f"expects some of the rows of {stage}, got {part}")


@irdl_op_definition
class TeamReduceOp(IRDLOperation):
    """
    Combines the fragments of all teams element by element, in the order of the teams.

    Every team gets the result. The data are exchanged through the bytes of a ring of which no
    stage is in flight; its content is lost. With `idle` a barrier lies between this op and whatever
    read or wrote these bytes before; otherwise the op begins with one.

    ```mlir
    %sum = tile.team_reduce sum %out through %ring : !tile.frag<[16, 128], f32, mma_c>,
      !tile.ring<2 x [64, 128], bf16, swizzle128> -> !tile.frag<[16, 128], f32, mma_c>
    ```
    """

    name = "tile.team_reduce"

    kind = prop_def(ReduceKindAttr)
    idle = opt_prop_def(UnitAttr)
    fragment = operand_def(FragmentType)
    ring = operand_def(RingType)
    combined = result_def(FragmentType)

    traits = traits_def(MemoryReadEffect(), MemoryWriteEffect())
    assembly_format = (
        "$kind $fragment `through` (`idle` $idle^)? $ring attr-dict `:` type($fragment) `,` "
        "type($ring) `->` type($combined)"
    )

    def __init__(self, kind: ReduceKind, fragment: SSAValue, ring: SSAValue, idle: bool = False):
        super().__init__(
            operands=[fragment, ring],
            properties={"kind": ReduceKindAttr(kind), "idle": UnitAttr() if idle else None},
            result_types=[fragment.type],
        )

    def verify_(self) -> None:
        fragment = self.fragment.type
        if not isinstance(fragment, FragmentType):
            return
        if fragment.layout.data not in (FragmentLayout.MMA_C, FragmentLayout.ROW):
            raise VerifyException(f"expects layout mma_c or row, got {fragment.layout.data}")
        if not isinstance(fragment.element_type, Float32Type):
            raise VerifyException(f"expects elements of f32, got {fragment.element_type}")
        if self.combined.type != fragment:
            raise VerifyException(f"expects result type {fragment}, got {self.combined.type}")
