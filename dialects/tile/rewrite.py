"""Ops that compute the rows of a stage in shared memory anew, from their own elements."""

from xdsl.dialects.builtin import f32, i1, i32
from xdsl.ir import Block, Region, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    region_def,
    result_def,
    traits_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import MemoryReadEffect, MemoryWriteEffect, Pure
from xdsl.utils.exceptions import VerifyException

from .memory import YieldOp
from .types import SharedType


@irdl_op_definition
class RewriteRowsOp(IRDLOperation):
    """
    Computes each element of a stage anew, in place, rounded to the stage's element type.

    The region is given the row and the column of an element; it yields the new value and whether
    the element changes at all. It may read any element of the same row, as it was before, and
    sums over the row; whether a row changes must not depend on the column. A warp works on whole
    rows, so that a barrier is needed before other warps read them.

    ```mlir
    tile.rewrite_rows %stage {
    ^bb0(%row: i32, %column: i32):
      %x = tile.row_element %column : f32
      %twice = arith.addf %x, %x : f32
      %valid = arith.cmpi slt, %row, %rows : i32
      tile.yield %twice, %valid : f32, i1
    } : !tile.shared<[64, 128], bf16, swizzle128>
    ```
    """

    name = "tile.rewrite_rows"

    stage = operand_def(SharedType)
    body = region_def("single_block")

    traits = traits_def(MemoryReadEffect(), MemoryWriteEffect())
    assembly_format = "$stage $body attr-dict `:` type($stage)"

    def __init__(self, stage: SSAValue, body: Region):
        super().__init__(operands=[stage], regions=[body])

    def verify_(self) -> None:
        if tuple(self.body.block.arg_types) != (i32, i32):
            raise VerifyException("expects its region to have two arguments, row and column: i32")
        terminator = self.body.block.last_op
        if not isinstance(terminator, YieldOp) or list(terminator.operand_types) != [f32, i1]:
            raise VerifyException("expects its region to yield a value and a condition: f32, i1")


@irdl_op_definition
class RowElementOp(IRDLOperation):
    """
    An element of the row that `tile.rewrite_rows` works on, as it was before.

    An index outside of the row reads the nearest element.

    ```mlir
    %x = tile.row_element %column : f32
    ```
    """

    name = "tile.row_element"

    index = operand_def(i32)
    element = result_def(f32)

    traits = traits_def(Pure())
    assembly_format = "$index attr-dict `:` type($element)"

    def __init__(self, index: SSAValue):
        super().__init__(operands=[index], result_types=[f32])


@irdl_op_definition
class RowSumOp(IRDLOperation):
    """
    The sum of a term over the columns of the row that `tile.rewrite_rows` works on.

    ```mlir
    %sum = tile.row_sum {
    ^bb0(%column: i32):
      %x = tile.row_element %column : f32
      tile.yield %x : f32
    } : f32
    ```
    """

    name = "tile.row_sum"

    term = region_def("single_block")
    total = result_def(f32)

    traits = traits_def(Pure())

    def __init__(self, term: Region):
        super().__init__(regions=[term], result_types=[f32])

    @classmethod
    def parse(cls, parser: Parser) -> "RowSumOp":
        term = parser.parse_region()
        parser.parse_punctuation(":")
        place = parser.pos
        if (kind := parser.parse_type()) != f32:
            parser.raise_error(f"expected a sum of type f32, got {kind}", place, parser.pos)
        return cls(term)

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_region(self.term)
        printer.print_string(" : f32")

    def verify_(self) -> None:
        if tuple(self.term.block.arg_types) != (i32,):
            raise VerifyException("expects its region to have one argument, the column: i32")
        terminator = self.term.block.last_op
        if not isinstance(terminator, YieldOp) or list(terminator.operand_types) != [f32]:
            raise VerifyException("expects its region to yield f32")


def rewrite_region() -> Region:
    """Returns an empty region for `tile.rewrite_rows`."""
    return Region(Block(arg_types=[i32, i32]))
