"""Ops on fragments: matrix products, element maps, row reductions, layout conversions."""

from collections.abc import Sequence

from xdsl.dialects.builtin import BFloat16Type, Float16Type, Float32Type, IndexType, UnitAttr, i32
from xdsl.ir import Block, Region, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    opt_prop_def,
    prop_def,
    region_def,
    result_def,
    traits_def,
    var_operand_def,
    var_result_def,
)
from xdsl.traits import Pure, RecursiveMemoryEffect
from xdsl.utils.exceptions import VerifyException

from .memory import YieldOp
from .types import FragmentLayout, FragmentType, ReduceKind, ReduceKindAttr

# The layouts whose elements ops take one by one; the others hold pairs for the tensor cores.
_ELEMENT_LAYOUTS = (FragmentLayout.MMA_C, FragmentLayout.ROW, FragmentLayout.ROW_PARTIAL)


def _verify_element_layout(fragment: FragmentType) -> None:
    if fragment.layout.data not in _ELEMENT_LAYOUTS:
        raise VerifyException(
            f"expects fragments of layout mma_c, row or row_partial, got {fragment}"
        )


def _verify_f32(fragment: FragmentType) -> None:
    if not isinstance(fragment.element_type, Float32Type):
        raise VerifyException(f"expects elements of f32, got {fragment.element_type}")


@irdl_op_definition
class FillOp(IRDLOperation):
    """
    A fragment whose elements are all the same scalar.

    ```mlir
    %zero = tile.fill %c : f32 -> !tile.frag<[64, 64], f32, mma_c>
    ```
    """

    name = "tile.fill"

    value = operand_def()
    fragment = result_def(FragmentType)

    traits = traits_def(Pure())
    assembly_format = "$value attr-dict `:` type($value) `->` type($fragment)"

    def __init__(self, value: SSAValue, fragment: FragmentType):
        super().__init__(operands=[value], result_types=[fragment])

    def verify_(self) -> None:
        if self.value.type != self.fragment.type.element_type:
            raise VerifyException(
                f"expects a scalar of type {self.fragment.type.element_type}, got {self.value.type}"
            )
        is_operand = self.fragment.type.layout.data in (FragmentLayout.MMA_A, FragmentLayout.MMA_B)
        if is_operand and not isinstance(self.value.type, Float16Type | BFloat16Type):
            raise VerifyException(
                f"expects elements of f16 or bf16 in an operand, got {self.value.type}"
            )


@irdl_op_definition
class ExtractOp(IRDLOperation):
    """
    The 16 columns of an A fragment that one step of a matrix product takes.

    ```mlir
    %a = tile.extract %q[%step] : !tile.frag<[64, 128], bf16, mma_a>
      -> !tile.frag<[64, 16], bf16, mma_a>
    ```
    """

    name = "tile.extract"

    fragment = operand_def(FragmentType)
    step = operand_def(IndexType)
    columns = result_def(FragmentType)

    traits = traits_def(Pure())
    assembly_format = "$fragment `[` $step `]` attr-dict `:` type($fragment) `->` type($columns)"

    def __init__(self, fragment: SSAValue, step: SSAValue):
        source = fragment.type
        if not isinstance(source, FragmentType):
            raise VerifyException(f"expected a fragment, got {source}")
        result = FragmentType((source.extents[0], 16), source.element_type, source.layout)
        super().__init__(operands=[fragment, step], result_types=[result])

    def verify_(self) -> None:
        source, columns = self.fragment.type, self.columns.type
        if not isinstance(source, FragmentType):
            return
        if source.layout.data is not FragmentLayout.MMA_A:
            raise VerifyException(f"expects layout mma_a, got {source.layout.data}")
        expected = FragmentType((source.extents[0], 16), source.element_type, source.layout)
        if columns != expected:
            raise VerifyException(f"expects result type {expected}, got {columns}")


@irdl_op_definition
class ColumnsOp(IRDLOperation):
    """
    Neighbouring columns of an accumulator, the first of which is `index` times their number.

    ```mlir
    %part = tile.columns %c[%index] : !tile.frag<[64, 128], f32, mma_c>
      -> !tile.frag<[64, 64], f32, mma_c>
    ```
    """

    name = "tile.columns"

    fragment = operand_def(FragmentType)
    index = operand_def(IndexType)
    columns = result_def(FragmentType)

    traits = traits_def(Pure())
    assembly_format = "$fragment `[` $index `]` attr-dict `:` type($fragment) `->` type($columns)"

    def __init__(self, fragment: SSAValue, index: SSAValue, columns: FragmentType):
        super().__init__(operands=[fragment, index], result_types=[columns])

    def verify_(self) -> None:
        _verify_columns(self.fragment, self.columns)


@irdl_op_definition
class InsertColumnsOp(IRDLOperation):
    """
    An accumulator with some columns in the place of its own, as `tile.columns` counts them.

    ```mlir
    %after = tile.insert_columns %part into %c[%index] : !tile.frag<[64, 64], f32, mma_c>
      into !tile.frag<[64, 128], f32, mma_c> -> !tile.frag<[64, 128], f32, mma_c>
    ```
    """

    name = "tile.insert_columns"

    columns = operand_def(FragmentType)
    fragment = operand_def(FragmentType)
    index = operand_def(IndexType)
    after = result_def(FragmentType)

    traits = traits_def(Pure())
    assembly_format = (
        "$columns `into` $fragment `[` $index `]` attr-dict `:` type($columns) `into` "
        "type($fragment) `->` type($after)"
    )

    def __init__(self, columns: SSAValue, fragment: SSAValue, index: SSAValue):
        super().__init__(operands=[columns, fragment, index], result_types=[fragment.type])

    def verify_(self) -> None:
        _verify_columns(self.fragment, self.columns)
        if self.after.type != self.fragment.type:
            raise VerifyException(
                f"expects result type {self.fragment.type}, got {self.after.type}"
            )


def _verify_columns(fragment: SSAValue, columns: SSAValue) -> None:
    whole, part = fragment.type, columns.type
    if not isinstance(whole, FragmentType) or not isinstance(part, FragmentType):
        return
    for kind in (whole, part):
        if kind.layout.data is not FragmentLayout.MMA_C:
            raise VerifyException(f"expects layout mma_c, got {kind.layout.data}")
    same = whole.element_type == part.element_type and whole.extents[0] == part.extents[0]
    if not same or whole.extents[1] % part.extents[1]:
        raise VerifyException(
            f"expects columns of {whole}, whose number divides {whole.extents[1]}, got {part}"
        )


@irdl_op_definition
class MmaOp(IRDLOperation):
    """
    The matrix product `a @ b + c` of one step of 16, on the tensor cores.

    Source: PTX ISA, mma.m16n8k16 with .f16 or .bf16 operands and .f32 accumulators.

    ```mlir
    %d = tile.mma %a, %b, %c : !tile.frag<[64, 16], bf16, mma_a>,
      !tile.frag<[16, 64], bf16, mma_b>, !tile.frag<[64, 64], f32, mma_c>
    ```
    """

    name = "tile.mma"

    a = operand_def(FragmentType)
    b = operand_def(FragmentType)
    c = operand_def(FragmentType)
    d = result_def(FragmentType)

    traits = traits_def(Pure())
    assembly_format = (
        "$a `,` $b `,` $c attr-dict `:` type($a) `,` type($b) `,` type($c) `->` type($d)"
    )

    def __init__(self, a: SSAValue, b: SSAValue, c: SSAValue):
        super().__init__(operands=[a, b, c], result_types=[c.type])

    def verify_(self) -> None:
        _verify_product(self.a, self.b, self.c)
        if self.c.type != self.d.type:
            raise VerifyException(f"expects result type {self.c.type}, got {self.d.type}")


def _verify_product(*operands: SSAValue) -> None:
    a, b, c = (operand.type for operand in operands)
    if not (
        isinstance(a, FragmentType) and isinstance(b, FragmentType) and isinstance(c, FragmentType)
    ):
        return
    layouts = (a.layout.data, b.layout.data, c.layout.data)
    if layouts != (FragmentLayout.MMA_A, FragmentLayout.MMA_B, FragmentLayout.MMA_C):
        raise VerifyException(f"expects layouts mma_a, mma_b and mma_c, got {', '.join(layouts)}")
    if a.element_type != b.element_type or not isinstance(
        a.element_type, Float16Type | BFloat16Type
    ):
        raise VerifyException(
            "expects operands both of element type f16 or bf16, "
            f"got {a.element_type} and {b.element_type}"
        )
    if not isinstance(c.element_type, Float32Type):
        raise VerifyException(f"expects an accumulator of f32, got {c.element_type}")
    if a.extents[1] != 16 or b.extents[0] != 16:
        raise VerifyException(
            f"expects a step of 16, got {a.extents[1]} columns and {b.extents[0]} rows"
        )
    if c.extents != (a.extents[0], b.extents[1]):
        raise VerifyException(
            f"expects an accumulator of shape [{a.extents[0]}, {b.extents[1]}], "
            f"got {list(c.extents)}"
        )


@irdl_op_definition
class ConfineOp(IRDLOperation):
    """
    Takes NaN and infinities out of the B operand of a product, and adds those that are seen.

    An element -0.0 of `a` hides the elements of `b` that it meets; what is finite is not changed.
    `finite` is `b` with 0 for NaN and infinities. `reached` is `c` plus the products of those that
    no -0.0 of `a` hides, where +0.0 counts as a positive number too small for 16 bits. So
    `tile.mma %a, %finite, %reached` is `a @ b + c` in which -0.0 times anything is 0, while in
    `tile.mma %a, %b, %c` 0 times NaN or an infinity is NaN. Elements of `a` below 0 need `signed`.

    ```mlir
    %finite, %reached = tile.confine %a, %b, %c : !tile.frag<[64, 16], bf16, mma_a>,
      !tile.frag<[16, 64], bf16, mma_b>, !tile.frag<[64, 64], f32, mma_c>
      -> !tile.frag<[16, 64], bf16, mma_b>, !tile.frag<[64, 64], f32, mma_c>
    ```
    """

    name = "tile.confine"

    a = operand_def(FragmentType)
    b = operand_def(FragmentType)
    c = operand_def(FragmentType)
    signed = opt_prop_def(UnitAttr)
    finite = result_def(FragmentType)
    reached = result_def(FragmentType)

    traits = traits_def(Pure())
    assembly_format = (
        "$a `,` $b `,` $c (`signed` $signed^)? attr-dict `:` type($a) `,` type($b) `,` type($c) "
        "`->` type($finite) `,` type($reached)"
    )

    def __init__(self, a: SSAValue, b: SSAValue, c: SSAValue, signed: bool = False):
        super().__init__(
            operands=[a, b, c],
            properties={"signed": UnitAttr() if signed else None},
            result_types=[b.type, c.type],
        )

    def verify_(self) -> None:
        _verify_product(self.a, self.b, self.c)
        expected, got = (self.b.type, self.c.type), (self.finite.type, self.reached.type)
        if got != expected:
            wanted, found = (" and ".join(map(str, types)) for types in (expected, got))
            raise VerifyException(f"expects results of types {wanted}, got {found}")


@irdl_op_definition
class MapOp(IRDLOperation):
    """
    Computes each element of the results from the operands' elements and its coordinates.

    A row fragment gives the value of the element's row. The region's arguments are one scalar an
    operand, then the row and the column in the tile; for results of layout `row` no column.

    ```mlir
    %masked = tile.map(%s, %last : !tile.frag<..>, !tile.frag<..>) {
    ^bb0(%score: f32, %bound: i32, %row: i32, %column: i32):
      %visible = arith.cmpi sle, %column, %bound : i32
      %masked = arith.select %visible, %score, %minus_infinity : f32
      tile.yield %masked : f32
    } -> !tile.frag<[64, 64], f32, mma_c>
    ```
    """

    name = "tile.map"

    inputs = var_operand_def(FragmentType)
    body = region_def("single_block")
    outputs = var_result_def(FragmentType)

    traits = traits_def(RecursiveMemoryEffect())
    assembly_format = "`(` ($inputs^ `:` type($inputs))? `)` $body attr-dict `->` type($outputs)"

    def __init__(self, inputs: Sequence[SSAValue], body: Region, outputs: Sequence[FragmentType]):
        super().__init__(operands=[inputs], regions=[body], result_types=[outputs])

    def verify_(self) -> None:
        outputs = [output.type for output in self.outputs]
        if len({(output.extents, output.layout.data) for output in outputs}) != 1:
            raise VerifyException("expects results of one shape and layout")
        inputs = [kind for kind in self.inputs.types if isinstance(kind, FragmentType)]
        for kind in (*inputs, *outputs):
            _verify_element_layout(kind)
        for kind in inputs:
            if kind.extents != outputs[0].extents[: len(kind.extents)]:
                raise VerifyException(
                    f"expects operands of {list(outputs[0].extents)}, or of its rows, got {kind}"
                )
        coordinates = 1 if outputs[0].is_row else 2
        expected = [*(kind.element_type for kind in inputs), *[i32] * coordinates]
        if list(self.body.block.arg_types) != expected:
            raise VerifyException(
                "expects the region's arguments to be one scalar an operand and "
                f"{coordinates} coordinates of type i32"
            )
        terminator = self.body.block.last_op
        if not isinstance(terminator, YieldOp) or list(terminator.operand_types) != [
            output.element_type for output in outputs
        ]:
            raise VerifyException("expects its region to yield one scalar a result")


def map_region(inputs: Sequence[SSAValue], output: FragmentType) -> Region:
    """Returns an empty region for a `tile.map` of these operands and this result type."""
    elements = [
        kind.element_type for value in inputs if isinstance(kind := value.type, FragmentType)
    ]
    return Region(Block(arg_types=[*elements, *[i32] * (1 if output.is_row else 2)]))


@irdl_op_definition
class RowReduceOp(IRDLOperation):
    """
    Reduces the elements of each row that a thread holds itself.

    ```mlir
    %m = tile.row_reduce max %s : !tile.frag<[64, 64], f32, mma_c>
      -> !tile.frag<[64], f32, row_partial>
    ```
    """

    name = "tile.row_reduce"

    kind = prop_def(ReduceKindAttr)
    fragment = operand_def(FragmentType)
    rows = result_def(FragmentType)

    traits = traits_def(Pure())
    assembly_format = "$kind $fragment attr-dict `:` type($fragment) `->` type($rows)"

    def __init__(self, kind: ReduceKind, fragment: SSAValue):
        super().__init__(
            operands=[fragment],
            properties={"kind": ReduceKindAttr(kind)},
            result_types=[_rows_of(fragment, FragmentLayout.ROW_PARTIAL)],
        )

    def verify_(self) -> None:
        source = self.fragment.type
        if isinstance(source, FragmentType) and source.layout.data is not FragmentLayout.MMA_C:
            raise VerifyException(f"expects layout mma_c, got {source.layout.data}")
        expected = _rows_of(self.fragment, FragmentLayout.ROW_PARTIAL)
        if self.rows.type != expected:
            raise VerifyException(f"expects result type {expected}, got {self.rows.type}")
        _verify_f32(expected)


@irdl_op_definition
class QuadReduceOp(IRDLOperation):
    """
    Combines the parts of a row that the 4 lanes of a quad hold, by two shuffles.

    ```mlir
    %m = tile.quad_reduce max %part : !tile.frag<[64], f32, row_partial>
      -> !tile.frag<[64], f32, row>
    ```
    """

    name = "tile.quad_reduce"

    kind = prop_def(ReduceKindAttr)
    partial = operand_def(FragmentType)
    rows = result_def(FragmentType)

    traits = traits_def(Pure())
    assembly_format = "$kind $partial attr-dict `:` type($partial) `->` type($rows)"

    def __init__(self, kind: ReduceKind, partial: SSAValue):
        super().__init__(
            operands=[partial],
            properties={"kind": ReduceKindAttr(kind)},
            result_types=[_rows_of(partial, FragmentLayout.ROW)],
        )

    def verify_(self) -> None:
        source = self.partial.type
        if (
            isinstance(source, FragmentType)
            and source.layout.data is not FragmentLayout.ROW_PARTIAL
        ):
            raise VerifyException(f"expects layout row_partial, got {source.layout.data}")
        expected = _rows_of(self.partial, FragmentLayout.ROW)
        if self.rows.type != expected:
            raise VerifyException(f"expects result type {expected}, got {self.rows.type}")
        _verify_f32(expected)


def _rows_of(fragment: SSAValue, layout: FragmentLayout) -> FragmentType:
    kind = fragment.type
    if not isinstance(kind, FragmentType):
        raise VerifyException(f"expected a fragment, got {kind}")
    return FragmentType(kind.extents[:1], kind.element_type, layout)


@irdl_op_definition
class ConvertLayoutOp(IRDLOperation):
    """
    Turns an accumulator into the A operand of the next product, rounding to 16 bits.

    Thread for thread the elements stay where they are: no data are exchanged.

    ```mlir
    %p = tile.convert_layout %s : !tile.frag<[64, 64], f32, mma_c>
      -> !tile.frag<[64, 64], bf16, mma_a>
    ```
    """

    name = "tile.convert_layout"

    source = operand_def(FragmentType)
    result = result_def(FragmentType)

    traits = traits_def(Pure())
    assembly_format = "$source attr-dict `:` type($source) `->` type($result)"

    def __init__(self, source: SSAValue, result: FragmentType):
        super().__init__(operands=[source], result_types=[result])

    def verify_(self) -> None:
        source, result = self.source.type, self.result.type
        if not isinstance(source, FragmentType):
            return
        layouts = (source.layout.data, result.layout.data)
        if layouts != (FragmentLayout.MMA_C, FragmentLayout.MMA_A):
            raise VerifyException(
                "expects a conversion from mma_c to mma_a (others exchange data through shared "
                f"memory), got {layouts[0]} to {layouts[1]}"
            )
        if source.extents != result.extents:
            raise VerifyException(
                f"expects a result of shape {list(source.extents)}, got {list(result.extents)}"
            )
        if not isinstance(result.element_type, Float16Type | BFloat16Type):
            raise VerifyException(f"expects a result of f16 or bf16, got {result.element_type}")
        _verify_f32(source)
