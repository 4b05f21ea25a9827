"""The op that brings a stage of narrow elements to the type that products are computed in."""

from xdsl.dialects.builtin import (
    BFloat16Type,
    Float8E4M3FNType,
    Float16Type,
    Float32Type,
    IntegerAttr,
    UnitAttr,
    f32,
    i64,
)
from xdsl.dialects.llvm import LLVMPointerType
from xdsl.ir import Attribute, Region, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    ParsePropInAttrDict,
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    opt_prop_def,
    opt_region_def,
    result_def,
    traits_def,
)
from xdsl.traits import MemoryReadEffect, MemoryWriteEffect
from xdsl.utils.exceptions import VerifyException

from .memory import verify_rows_region
from .types import InflightType, RingType, SharedType, element_bits


@irdl_op_definition
class WidenOp(IRDLOperation):
    """
    Waits for a stage of narrow elements and writes them, in 16 bits, to the stage of a ring.

    Every thread of the CTA may read the result. The elements of an i4 stage lie two in a byte, the
    first in the lower bits, in two's complement. An element is its code times a scale, rounded to
    the type of the ring. `scales` is one f32 for all; or an array in global memory of
    `scale_type`, f16 or f32, where `block` neighbours of a row share a scale and the region gives
    for each row the offset of its first scale, in scales, and whether the row is valid: others have
    the scale 0. Without scales an element is its code, but for f8E4M3FN, where it is 2^-8 of that:
    so it takes no product. With `convert` codes of f8E4M3FN are converted by the instruction of
    sm_89, and are what they are.

    The threads read what they copied themselves, so that no barrier is needed before; but
    all must have read what was in the ring.

    ```mlir
    %k = tile.widen %in_flight into %wide scales %scales rows {
    ^bb0(%row: i32):
      tile.yield %offset, %valid : i64, i1
    } {block = 32 : i64, scale_type = f16}
      : !tile.inflight<[64, 128], i4, padded16>, !llvm.ptr<1>
      into !tile.ring<1 x [64, 128], bf16, swizzle128> -> !tile.shared<[64, 128], bf16, swizzle128>
    ```
    """

    name = "tile.widen"

    stage_in_flight = operand_def(InflightType)
    ring = operand_def(RingType)
    scales = opt_operand_def()
    block = opt_prop_def(IntegerAttr)
    scale_type = opt_prop_def(Attribute)
    rows = opt_region_def("single_block")
    convert = opt_prop_def(UnitAttr)
    stage = result_def(SharedType)

    irdl_options = (ParsePropInAttrDict(),)
    traits = traits_def(MemoryReadEffect(), MemoryWriteEffect())
    assembly_format = (
        "$stage_in_flight `into` $ring (`scales` $scales^)? (`rows` $rows^)? attr-dict `:` "
        "type($stage_in_flight) (`,` type($scales)^)? `into` type($ring) `->` type($stage)"
    )

    def __init__(
        self,
        stage_in_flight: SSAValue,
        ring: SSAValue,
        scales: SSAValue | None = None,
        block: int | None = None,
        scale_type: Attribute | None = None,
        rows: Region | None = None,
        convert: bool = False,
    ):
        if not isinstance(ring.type, RingType):
            raise VerifyException(f"expected a ring, got {ring.type}")
        super().__init__(
            operands=[stage_in_flight, ring, scales],
            properties={
                "block": None if block is None else IntegerAttr(block, i64),
                "scale_type": scale_type,
                "convert": UnitAttr() if convert else None,
            },
            regions=[rows],
            result_types=[ring.type.landed()],
        )

    def verify_(self) -> None:
        narrow, ring = self.stage_in_flight.type, self.ring.type
        if not isinstance(narrow, InflightType) or not isinstance(ring, RingType):
            return
        if element_bits(narrow.element_type) > 8:
            raise VerifyException(f"expects a stage of at most 8 bits an element, got {narrow}")
        if not isinstance(ring.element_type, Float16Type | BFloat16Type):
            raise VerifyException(f"expects a ring of f16 or bf16, got {ring}")
        if ring.shape != narrow.shape or ring.stages.data != 1:
            raise VerifyException(
                f"expects a ring of one stage of the shape of {narrow}, got {ring}"
            )
        if self.stage.type != ring.landed():
            raise VerifyException(f"expects result type {ring.landed()}, got {self.stage.type}")
        if self.convert is not None and not isinstance(narrow.element_type, Float8E4M3FNType):
            raise VerifyException(f"expects elements of f8E4M3FN to convert, got {narrow}")
        self._verify_scales(narrow)

    def _verify_scales(self, narrow: InflightType) -> None:
        by_block = (self.block, self.scale_type, self.rows)
        kind = None if self.scales is None else self.scales.type
        if not isinstance(kind, LLVMPointerType):
            if kind not in (None, f32) or any(part is not None for part in by_block):
                raise VerifyException(
                    "expects a block, a scale type and rows where its scales are an array alone, "
                    f"and else scales of f32, got {kind}"
                )
            return
        if self.block is None or self.rows is None:
            raise VerifyException("expects a block and rows for its array of scales")
        if not isinstance(self.scale_type, Float16Type | Float32Type):
            raise VerifyException(f"expects scales of f16 or f32, got {self.scale_type}")
        verify_rows_region(self.rows)
        block = self.block.value.data
        if block < 1 or narrow.columns % block or (block % 16 and block != narrow.columns):
            raise VerifyException(
                f"expects a block of a multiple of 16 that divides the {narrow.columns} columns, "
                f"or all of them, got {block}"
            )
