"""Ops that move tiles: rings in shared memory, asynchronous gathers, ldmatrix, stores."""

from collections.abc import Sequence

from xdsl.dialects.builtin import Float32Type, IndexType, UnitAttr, f32, i1, i32, i64
from xdsl.dialects.llvm import LLVMPointerType
from xdsl.ir import Block, Region, SSAValue
from xdsl.irdl import (
    AttrSizedOperandSegments,
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    opt_prop_def,
    region_def,
    result_def,
    traits_def,
    var_operand_def,
    var_result_def,
)
from xdsl.traits import (
    IsTerminator,
    MemoryAllocEffect,
    MemoryReadEffect,
    MemoryWriteEffect,
    NoMemoryEffect,
    Pure,
)
from xdsl.utils.exceptions import VerifyException

from .types import FragmentLayout, FragmentType, InflightType, RingType, SharedType


@irdl_op_definition
class YieldOp(IRDLOperation):
    """
    Ends a region of a tile op with the values of one row or one element.

    ```mlir
    tile.yield %offset, %valid : i64, i1
    ```
    """

    name = "tile.yield"

    values = var_operand_def()

    traits = traits_def(IsTerminator(), NoMemoryEffect())
    assembly_format = "attr-dict ($values^ `:` type($values))?"

    def __init__(self, *values: SSAValue):
        super().__init__(operands=[values])


def verify_rows_region(region: Region) -> None:
    """Verifies a region that gives for a row of a tile its offset in elements and its validity."""
    block = region.block
    if tuple(block.arg_types) != (i32,):
        raise VerifyException("expects a rows region with one argument, the row of the tile: i32")
    terminator = block.last_op
    if not isinstance(terminator, YieldOp) or tuple(terminator.operand_types) != (i64, i1):
        raise VerifyException(
            "expects its rows region to yield the offset of the row in elements and "
            "whether the row is valid: i64, i1"
        )


@irdl_op_definition
class AllocOp(IRDLOperation):
    """
    Allocates a ring of stages in shared memory.

    ```mlir
    %keys = tile.alloc : !tile.ring<2 x [64, 128], bf16, swizzle128>
    ```
    """

    name = "tile.alloc"

    ring = result_def(RingType)

    traits = traits_def(MemoryAllocEffect())
    assembly_format = "attr-dict `:` type($ring)"

    def __init__(self, ring: RingType):
        super().__init__(result_types=[ring])


@irdl_op_definition
class StageOp(IRDLOperation):
    """
    Stage 0 of a ring that no copy is under way into.

    What threads stored there may be read by others behind a barrier.

    ```mlir
    %p = tile.stage %ring : !tile.ring<1 x [64, 64], bf16, swizzle128>
      -> !tile.shared<[64, 64], bf16, swizzle128>
    ```
    """

    name = "tile.stage"

    ring = operand_def(RingType)
    stage = result_def(SharedType)

    traits = traits_def(Pure())
    assembly_format = "$ring attr-dict `:` type($ring) `->` type($stage)"

    def __init__(self, ring: SSAValue):
        if not isinstance(ring.type, RingType):
            raise VerifyException(f"expected a ring, got {ring.type}")
        super().__init__(operands=[ring], result_types=[ring.type.landed()])

    def verify_(self) -> None:
        ring = self.ring.type
        if isinstance(ring, RingType) and ring.landed() != self.stage.type:
            raise VerifyException(f"expects result type {ring.landed()}, got {self.stage.type}")


@irdl_op_definition
class ViewOp(IRDLOperation):
    """
    The bytes of a ring, counted in stages of another number of rows.

    ```mlir
    %small = tile.view %ring : !tile.ring<1 x [64, 128], bf16, swizzle128>
      -> !tile.ring<4 x [16, 128], bf16, swizzle128>
    ```
    """

    name = "tile.view"

    ring = operand_def(RingType)
    view = result_def(RingType)

    traits = traits_def(Pure())
    assembly_format = "$ring attr-dict `:` type($ring) `->` type($view)"

    def __init__(self, ring: SSAValue, view: RingType):
        super().__init__(operands=[ring], result_types=[view])

    def verify_(self) -> None:
        ring, view = self.ring.type, self.view.type
        if not isinstance(ring, RingType):
            return
        same = (ring.columns, ring.element_type, ring.layout)
        if (view.columns, view.element_type, view.layout) != same or view.rows_of_all > (
            ring.rows_of_all
        ):
            raise VerifyException(f"expects a ring within the bytes of {ring}, got {view}")


@irdl_op_definition
class CopyAsyncOp(IRDLOperation):
    """
    Starts to gather rows from global memory into a stage of each ring.

    The region gives for each row of the tile the offset of its first element, in elements, and
    whether the row is valid; an invalid row is filled with zeros and not read. The sources share
    the offsets, and the rings the type of a stage. Where the predicate is false nothing is copied.
    Each source commits a group.

    ```mlir
    %k, %v = tile.copy_async %keys, %values into %k_ring, %v_ring[%stage] if %more rows {
    ^bb0(%row: i32):
      tile.yield %offset, %valid : i64, i1
    } : !llvm.ptr<1>, !llvm.ptr<1> into !tile.ring<..>, !tile.ring<..>
      -> !tile.inflight<..>, !tile.inflight<..>
    ```
    """

    name = "tile.copy_async"

    sources = var_operand_def(LLVMPointerType)
    rings = var_operand_def(RingType)
    stage = operand_def(i32)
    predicate = operand_def(i1)
    rows = region_def("single_block")
    stages_in_flight = var_result_def(InflightType)

    irdl_options = (AttrSizedOperandSegments(as_property=True),)
    traits = traits_def(MemoryReadEffect(), MemoryWriteEffect())
    assembly_format = (
        "$sources `into` $rings `[` $stage `]` `if` $predicate `rows` $rows attr-dict `:` "
        "type($sources) `into` type($rings) `->` type($stages_in_flight)"
    )

    def __init__(
        self,
        sources: Sequence[SSAValue],
        rings: Sequence[SSAValue],
        stage: SSAValue,
        predicate: SSAValue,
        rows: Region,
    ):
        results = [ring.type.inflight() for ring in rings if isinstance(ring.type, RingType)]
        super().__init__(
            operands=[sources, rings, stage, predicate], regions=[rows], result_types=[results]
        )

    def verify_(self) -> None:
        rings = [ring.type for ring in self.rings]
        if not rings or len(self.sources) != len(rings):
            raise VerifyException(
                f"expects a ring for each source, got {len(self.sources)} sources and "
                f"{len(rings)} rings"
            )
        expected = [ring.inflight() for ring in rings if isinstance(ring, RingType)]
        if expected != list(self.stages_in_flight.types):
            raise VerifyException("expects a stage in flight of each ring as its results")
        if len(set(expected)) != 1:
            got = " and ".join(str(kind) for kind in expected)
            raise VerifyException(f"expects rings of one shape, element type and layout, got {got}")
        verify_rows_region(self.rows)


@irdl_op_definition
class WaitOp(IRDLOperation):
    """
    Waits until stages have landed and every thread of the CTA may read them.

    ```mlir
    %k = tile.wait %k_in_flight : !tile.inflight<..> -> !tile.shared<..>
    ```
    """

    name = "tile.wait"

    stages_in_flight = var_operand_def(InflightType)
    stages = var_result_def(SharedType)

    traits = traits_def(MemoryReadEffect(), MemoryWriteEffect())
    assembly_format = "$stages_in_flight attr-dict `:` type($stages_in_flight) `->` type($stages)"

    def __init__(self, *stages_in_flight: SSAValue):
        landed: list[SharedType] = []
        for stage in stages_in_flight:
            if not isinstance(stage.type, InflightType):
                raise VerifyException(f"expected a stage in flight, got {stage.type}")
            landed.append(stage.type.landed())
        super().__init__(operands=[stages_in_flight], result_types=[landed])

    def verify_(self) -> None:
        kinds = [kind for kind in self.stages_in_flight.types if isinstance(kind, InflightType)]
        if not kinds or len(kinds) != len(self.stages):
            raise VerifyException(
                f"expects a result for each stage in flight, got {len(kinds)} stages and "
                f"{len(self.stages)} results"
            )
        for kind, stage in zip(kinds, self.stages.types, strict=True):
            if kind.landed() != stage:
                raise VerifyException(f"expects result type {kind.landed()}, got {stage}")


@irdl_op_definition
class DrainOp(IRDLOperation):
    """
    Ends stages in flight that nobody will read.

    ```mlir
    tile.drain %k, %v : !tile.inflight<..>, !tile.inflight<..>
    ```
    """

    name = "tile.drain"

    stages_in_flight = var_operand_def(InflightType)

    traits = traits_def(MemoryReadEffect(), MemoryWriteEffect())
    assembly_format = "$stages_in_flight attr-dict `:` type($stages_in_flight)"

    def __init__(self, stages_in_flight: Sequence[SSAValue]):
        super().__init__(operands=[stages_in_flight])


@irdl_op_definition
class BarrierOp(IRDLOperation):
    """
    Makes the shared memory that each thread of the CTA wrote visible to all of them.

    ```mlir
    tile.barrier
    ```
    """

    name = "tile.barrier"

    traits = traits_def(MemoryReadEffect(), MemoryWriteEffect())
    assembly_format = "attr-dict"


@irdl_op_definition
class LdmatrixOp(IRDLOperation):
    """
    Loads a fragment for the tensor cores from a stage, at a row and a column of it.

    An `mma_a` fragment [M, K] is read as the stage holds it. An `mma_b` fragment [K, N] is read
    from a stage of [N, K] rows, or with `transpose` from one of [K, N] rows.
    Source: PTX ISA, ldmatrix.

    ```mlir
    %b = tile.ldmatrix %k[%row, %column] : !tile.shared<..> -> !tile.frag<[16, 64], bf16, mma_b>
    ```
    """

    name = "tile.ldmatrix"

    stage = operand_def(SharedType)
    row = operand_def(IndexType)
    column = operand_def(IndexType)
    transpose = opt_prop_def(UnitAttr)
    fragment = result_def(FragmentType)

    traits = traits_def(MemoryReadEffect())
    assembly_format = (
        "$stage `[` $row `,` $column `]` (`transpose` $transpose^)? attr-dict `:` "
        "type($stage) `->` type($fragment)"
    )

    def __init__(
        self,
        stage: SSAValue,
        row: SSAValue,
        column: SSAValue,
        fragment: FragmentType,
        transpose: bool = False,
    ):
        super().__init__(
            operands=[stage, row, column],
            properties={"transpose": UnitAttr() if transpose else None},
            result_types=[fragment],
        )

    def verify_(self) -> None:
        stage, fragment = self.stage.type, self.fragment.type
        if not isinstance(stage, SharedType):
            return
        if stage.element_type != fragment.element_type:
            raise VerifyException(
                f"expects element type {stage.element_type}, got {fragment.element_type}"
            )
        layout = fragment.layout.data
        if layout not in (FragmentLayout.MMA_A, FragmentLayout.MMA_B):
            raise VerifyException(f"expects a fragment of layout mma_a or mma_b, got {layout}")
        if layout is FragmentLayout.MMA_A and self.transpose is not None:
            raise VerifyException("expects no transposition for a fragment of layout mma_a")
        rows, columns = fragment.extents
        if columns % 16:
            raise VerifyException(f"expects a multiple of 16 columns, got {columns}")
        if layout is FragmentLayout.MMA_B and self.transpose is None:
            rows, columns = columns, rows
        if rows > stage.rows or columns > stage.columns:
            raise VerifyException(
                f"expects a fragment within the stage [{stage.rows}, {stage.columns}], "
                f"got {rows} rows and {columns} columns"
            )


@irdl_op_definition
class StoreFragmentOp(IRDLOperation):
    """
    Stores an accumulator, rounded to the ring's element type, into stage 0 of a ring.

    Teams, which hold the same, share the work. With a column, a multiple of 8, each team stores a
    fragment of its own from that column on.

    ```mlir
    tile.store_fragment %o into %ring : !tile.frag<[64, 128], f32, mma_c> into !tile.ring<..>
    tile.store_fragment %mine into %ring[%first] : !tile.frag<[64, 64], f32, mma_c> into
      !tile.ring<..>
    ```
    """

    name = "tile.store_fragment"

    fragment = operand_def(FragmentType)
    ring = operand_def(RingType)
    column = opt_operand_def(i32)

    traits = traits_def(MemoryWriteEffect())
    assembly_format = (
        "$fragment `into` $ring (`[` $column^ `]`)? attr-dict `:` type($fragment) `into` "
        "type($ring)"
    )

    def __init__(self, fragment: SSAValue, ring: SSAValue, column: SSAValue | None = None):
        super().__init__(operands=[fragment, ring, column])

    def verify_(self) -> None:
        fragment, ring = self.fragment.type, self.ring.type
        if not isinstance(fragment, FragmentType) or not isinstance(ring, RingType):
            return
        if fragment.layout.data is not FragmentLayout.MMA_C:
            raise VerifyException(f"expects layout mma_c, got {fragment.layout.data}")
        if not isinstance(fragment.element_type, Float32Type):
            raise VerifyException(f"expects elements of f32, got {fragment.element_type}")
        rows, columns = fragment.extents
        if rows != ring.rows or (self.column is None and columns != ring.columns):
            raise VerifyException(
                f"expects a fragment of the ring's shape [{ring.rows}, {ring.columns}], "
                f"got {list(fragment.extents)}"
            )
        if columns > ring.columns:
            raise VerifyException(
                f"expects a fragment of at most the ring's {ring.columns} columns, got {columns}"
            )


@irdl_op_definition
class StoreRowsOp(IRDLOperation):
    """
    Stores the valid rows of stage 0 of a ring, or of a fragment of 32 bits, to global memory.

    The region gives for each row of the tile its offset, in elements, and whether it is valid.
    Teams, which hold the same fragment, share the work; with `each_team` each stores an accumulator
    of its own, where the offsets of its rows say.

    ```mlir
    tile.store_rows %ring into %out rows {
    ^bb0(%row: i32):
      tile.yield %offset, %valid : i64, i1
    } : !tile.ring<1 x [64, 128], bf16, swizzle128> into !llvm.ptr<1>
    ```
    """

    name = "tile.store_rows"

    tile = operand_def(RingType | FragmentType)
    pointer = operand_def(LLVMPointerType)
    each_team = opt_prop_def(UnitAttr)
    rows = region_def("single_block")

    traits = traits_def(MemoryReadEffect(), MemoryWriteEffect())
    assembly_format = (
        "(`each_team` $each_team^)? $tile `into` $pointer `rows` $rows attr-dict `:` "
        "type($tile) `into` type($pointer)"
    )

    def __init__(self, tile: SSAValue, pointer: SSAValue, rows: Region, each_team: bool = False):
        super().__init__(
            operands=[tile, pointer],
            properties={"each_team": UnitAttr() if each_team else None},
            regions=[rows],
        )

    def verify_(self) -> None:
        tile = self.tile.type
        accumulator = isinstance(tile, FragmentType) and tile.layout.data is FragmentLayout.MMA_C
        if self.each_team is not None and not accumulator:
            raise VerifyException(f"expects an accumulator of each team, got {tile}")
        if isinstance(tile, FragmentType):
            if tile.layout.data not in (FragmentLayout.ROW, FragmentLayout.MMA_C):
                raise VerifyException(
                    f"expects a fragment of layout row or mma_c, got {tile.layout.data}"
                )
            if tile.element_type not in (f32, i32):
                raise VerifyException(f"expects a fragment of f32 or i32, got {tile.element_type}")
        verify_rows_region(self.rows)


def rows_region() -> Region:
    """Returns an empty rows region: one block with the row of the tile as its argument."""
    return Region(Block(arg_types=[i32]))
