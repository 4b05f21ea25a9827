"""Ops by which the CTAs of a launch hand results to one another through global memory."""

from xdsl.dialects.builtin import Float32Type, i1, i32
from xdsl.dialects.llvm import LLVMPointerType
from xdsl.ir import Region, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    region_def,
    result_def,
    traits_def,
)
from xdsl.traits import MemoryReadEffect, MemoryWriteEffect
from xdsl.utils.exceptions import VerifyException

from .memory import verify_rows_region
from .types import FragmentLayout, FragmentType, RingType


@irdl_op_definition
class LoadRowsOp(IRDLOperation):
    """
    Loads one f32 a row from global memory.

    The region gives for each row of the tile its offset, in elements, and whether it is valid; an
    invalid row is 0 and not read.

    ```mlir
    %lse = tile.load_rows %partials rows {
    ^bb0(%row: i32):
      tile.yield %offset, %valid : i64, i1
    } : !llvm.ptr<1> -> !tile.frag<[64], f32, row>
    ```
    """

    name = "tile.load_rows"

    pointer = operand_def(LLVMPointerType)
    rows = region_def("single_block")
    fragment = result_def(FragmentType)

    traits = traits_def(MemoryReadEffect())
    assembly_format = "$pointer `rows` $rows attr-dict `:` type($pointer) `->` type($fragment)"

    def __init__(self, pointer: SSAValue, rows: Region, fragment: FragmentType):
        super().__init__(operands=[pointer], regions=[rows], result_types=[fragment])

    def verify_(self) -> None:
        _verify_f32(self.fragment.type, FragmentLayout.ROW)
        verify_rows_region(self.rows)


@irdl_op_definition
class AccumulateRowsOp(IRDLOperation):
    """
    Adds rows of f32 in global memory, each times a factor of its own, to an accumulator.

    The region gives for each row of the tile its offset, in elements, and whether it is valid; to
    an invalid row nothing is added, and it is not read. What is loaded never is a fragment, so
    that it takes no registers beside the accumulator.

    ```mlir
    %sum = tile.accumulate_rows %out, %weights times %partials rows {
    ^bb0(%row: i32):
      tile.yield %offset, %valid : i64, i1
    } : !tile.frag<[64, 128], f32, mma_c>, !tile.frag<[64], f32, row>, !llvm.ptr<1>
      -> !tile.frag<[64, 128], f32, mma_c>
    ```
    """

    name = "tile.accumulate_rows"

    accumulator = operand_def(FragmentType)
    factors = operand_def(FragmentType)
    pointer = operand_def(LLVMPointerType)
    rows = region_def("single_block")
    sum = result_def(FragmentType)

    traits = traits_def(MemoryReadEffect())
    assembly_format = (
        "$accumulator `,` $factors `times` $pointer `rows` $rows attr-dict `:` "
        "type($accumulator) `,` type($factors) `,` type($pointer) `->` type($sum)"
    )

    def __init__(self, accumulator: SSAValue, factors: SSAValue, pointer: SSAValue, rows: Region):
        super().__init__(
            operands=[accumulator, factors, pointer],
            regions=[rows],
            result_types=[accumulator.type],
        )

    def verify_(self) -> None:
        accumulator, factors = self.accumulator.type, self.factors.type
        if not isinstance(accumulator, FragmentType) or not isinstance(factors, FragmentType):
            return
        _verify_f32(accumulator, FragmentLayout.MMA_C)
        _verify_f32(factors, FragmentLayout.ROW)
        if factors.extents[0] != accumulator.extents[0]:
            raise VerifyException(
                f"expects a factor for each of {accumulator.extents[0]} rows, "
                f"got {factors.extents[0]}"
            )
        if self.sum.type != accumulator:
            raise VerifyException(f"expects result type {accumulator}, got {self.sum.type}")
        verify_rows_region(self.rows)


def _verify_f32(fragment: FragmentType, layout: FragmentLayout) -> None:
    if fragment.layout.data is not layout:
        raise VerifyException(f"expects layout {layout}, got {fragment.layout.data}")
    if not isinstance(fragment.element_type, Float32Type):
        raise VerifyException(f"expects elements of f32, got {fragment.element_type}")


@irdl_op_definition
class ArriveOp(IRDLOperation):
    """
    Counts this CTA among the `count` that arrive at a counter, and tells whether it is the last.

    What any thread of an arriving CTA wrote to global memory before is visible to every thread of
    the last one. The counter begins at 0, and is 0 again when the last one has arrived. The answer
    is told to all threads through the bytes of a ring of which no stage is in flight.
    Source: PTX ISA, atom.inc with .acq_rel at .gpu scope, and "Release and Acquire Patterns".

    ```mlir
    %last = tile.arrive %counters[%merge] of %count through %ring
      : !llvm.ptr<1>, !tile.ring<2 x [64, 128], bf16, swizzle128>
    ```
    """

    name = "tile.arrive"

    counters = operand_def(LLVMPointerType)
    index = operand_def(i32)
    count = operand_def(i32)
    ring = operand_def(RingType)
    last = result_def(i1)

    traits = traits_def(MemoryReadEffect(), MemoryWriteEffect())
    assembly_format = (
        "$counters `[` $index `]` `of` $count `through` $ring attr-dict `:` "
        "type($counters) `,` type($ring)"
    )

    def __init__(self, counters: SSAValue, index: SSAValue, count: SSAValue, ring: SSAValue):
        super().__init__(operands=[counters, index, count, ring], result_types=[i1])
