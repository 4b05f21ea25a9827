"""What the regions of a variant read beside their arguments: parameters, pages, their row."""

from collections.abc import Sequence

from xdsl.dialects.builtin import ArrayAttr, StringAttr, f32, i32
from xdsl.ir import Attribute, Block, ParametrizedAttribute, Region, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    irdl_attr_definition,
    irdl_op_definition,
    operand_def,
    prop_def,
    region_def,
    result_def,
    traits_def,
    var_operand_def,
)
from xdsl.parser import AttrParser, Parser
from xdsl.printer import Printer
from xdsl.traits import IsTerminator, MemoryReadEffect, NoMemoryEffect, Pure
from xdsl.utils.exceptions import VerifyException

from ..sym import ExpressionAttr
from .types import parse_extents, print_extents


@irdl_attr_definition
class ParamAttr(ParametrizedAttribute):
    """
    A parameter of a variant: `#attn.param<slopes: f32[32]>`, a scalar without extents.

    A tensor is an array in row-major order without gaps. Its extents are constants or symbols.
    """

    name = "attn.param"

    param_name: StringAttr
    element_type: Attribute
    extents: ArrayAttr[ExpressionAttr]

    @classmethod
    def parse_bare(cls, parser: AttrParser) -> "ParamAttr":
        """Parses `slopes: f32[32]`."""
        name = parser.parse_identifier()
        parser.parse_punctuation(":")
        element_type = parser.parse_type()
        extents = ArrayAttr[ExpressionAttr]([])
        if parser.parse_optional_punctuation("[") is not None:
            extents = parse_extents(parser, opened=True)
        return cls(StringAttr(name), element_type, extents)

    def print_bare(self, printer: Printer) -> None:
        """Prints what `parse_bare` reads."""
        printer.print_string(f"{self.param_name.data}: ")
        printer.print_attribute(self.element_type)
        if self.extents.data:
            print_extents(printer, self.extents)

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            return cls.parse_bare(parser).parameters

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            self.print_bare(printer)

    def verify(self) -> None:
        if self.element_type not in (f32, i32):
            raise VerifyException(f"expected a parameter of f32 or i32, got {self.element_type}")
        for axis, extent in enumerate(self.extents):
            if (constant := extent.data.constant_value) is not None and constant < 1:
                raise VerifyException(f"axis {axis} has extent {constant}, expected at least 1")


@irdl_op_definition
class YieldOp(IRDLOperation):
    """
    Ends a region of a variant.

    ```mlir
    attn.yield %visible : i1
    ```
    """

    name = "attn.yield"

    values = var_operand_def()

    traits = traits_def(IsTerminator(), NoMemoryEffect())
    assembly_format = "attr-dict ($values^ `:` type($values))?"

    def __init__(self, *values: SSAValue):
        super().__init__(operands=[values])


@irdl_op_definition
class ParamOp(IRDLOperation):
    """
    Reads a parameter of the variant: a scalar, or an element of a tensor.

    An index outside of the tensor reads the nearest element of it.

    ```mlir
    %slope = attn.param "slopes"[%h] : f32
    ```
    """

    name = "attn.param"

    param = prop_def(StringAttr)
    indices = var_operand_def(i32)
    value = result_def()

    traits = traits_def(MemoryReadEffect())
    assembly_format = "$param (`[` $indices^ `]`)? attr-dict `:` type($value)"

    def __init__(self, param: str, indices: Sequence[SSAValue], element_type: Attribute):
        super().__init__(
            operands=[indices],
            properties={"param": StringAttr(param)},
            result_types=[element_type],
        )

    def verify_against(self, param: ParamAttr | None) -> None:
        """Verifies the read of a parameter that the variant declares, or does not."""
        name = self.param.data
        if param is None:
            raise VerifyException(f"expects a parameter named '{name}', which it does not declare")
        if self.value.type != param.element_type:
            raise VerifyException(
                f"expects '{name}' to be read as {param.element_type}, got {self.value.type}"
            )
        if len(self.indices) != len(param.extents):
            raise VerifyException(
                f"expects {len(param.extents)} indices of '{name}', got {len(self.indices)}"
            )


@irdl_op_definition
class PageOp(IRDLOperation):
    """
    The number of the page that holds a key of the request, at a position of its sequence.

    A position outside of the sequence stands for the nearest one in it.

    ```mlir
    %page = attn.page %kv_idx : i32
    ```
    """

    name = "attn.page"

    position = operand_def(i32)
    page = result_def(i32)

    traits = traits_def(MemoryReadEffect())
    assembly_format = "$position attr-dict `:` type($page)"

    def __init__(self, position: SSAValue):
        super().__init__(operands=[position], result_types=[i32])


@irdl_op_definition
class QueryRowOp(IRDLOperation):
    """
    The row of a query in the array of all queries, from its position in its sequence.

    ```mlir
    %row = attn.query_row %q_idx : i32
    ```
    """

    name = "attn.query_row"

    position = operand_def(i32)
    row = result_def(i32)

    traits = traits_def(Pure())
    assembly_format = "$position attr-dict `:` type($row)"

    def __init__(self, position: SSAValue):
        super().__init__(operands=[position], result_types=[i32])


@irdl_op_definition
class ElementOp(IRDLOperation):
    """
    Another element of the row that a transform works on, as it was before.

    An index outside of the row reads the nearest element of it.

    ```mlir
    %partner = attn.element %index : f32
    ```
    """

    name = "attn.element"

    index = operand_def(i32)
    element = result_def(f32)

    traits = traits_def(Pure())
    assembly_format = "$index attr-dict `:` type($element)"

    def __init__(self, index: SSAValue):
        super().__init__(operands=[index], result_types=[f32])


@irdl_op_definition
class RowSumOp(IRDLOperation):
    """
    The sum of a term over the indices of the row that a transform works on.

    ```mlir
    %squares = attn.row_sum {
    ^bb0(%index: i32):
      %x = attn.element %index : f32
      %square = arith.mulf %x, %x : f32
      attn.yield %square : f32
    } : f32
    ```
    """

    name = "attn.row_sum"

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
            raise VerifyException("expects its region to have one argument, the index: i32")
        terminator = self.term.block.last_op
        if not isinstance(terminator, YieldOp) or list(terminator.operand_types) != [f32]:
            raise VerifyException("expects its region to yield f32")
        if any(isinstance(op, RowSumOp) for op in self.term.walk()):
            raise VerifyException("expects no sum within its term")


def term_region() -> Region:
    """Returns an empty region for the term of a sum."""
    return Region(Block(arg_types=[i32]))
