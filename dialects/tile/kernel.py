"""The kernel: what one CTA does, its parameters, its warps and its grid."""

from collections.abc import Sequence

from xdsl.dialects.builtin import (
    AnyFloat,
    ArrayAttr,
    FunctionType,
    IntegerAttr,
    IntegerType,
    StringAttr,
    SymbolNameConstraint,
    f32,
    i32,
)
from xdsl.dialects.llvm import LLVMPointerType
from xdsl.ir import Attribute, Block, Region, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    attr_def,
    irdl_op_definition,
    operand_def,
    prop_def,
    region_def,
    result_def,
    traits_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import (
    HasParent,
    IsolatedFromAbove,
    IsTerminator,
    MemoryReadEffect,
    NoMemoryEffect,
    Pure,
    SymbolOpInterface,
)
from xdsl.utils.exceptions import VerifyException
from xdsl.utils.hints import isa

from ..sym import ExpressionAttr
from .pipeline import check_in_flight
from .types import ROWS_PER_WARP, FragmentType

WARP_SIZE = 32


@irdl_op_definition
class ReturnOp(IRDLOperation):
    """
    Ends a kernel.

    ```mlir
    tile.return
    ```
    """

    name = "tile.return"
    traits = traits_def(IsTerminator(), NoMemoryEffect())
    assembly_format = "attr-dict"


@irdl_op_definition
class KernelOp(IRDLOperation):
    """
    A kernel, written as what one CTA of `warps` warps does.

    The grid is given by three expressions over the symbols of the launch. Parameters are global
    pointers and scalars. Fragments of the kernel have `16 * warps` rows, or a part that divides
    them, which each team of warps then holds on its own.

    ```mlir
    tile.kernel @copy(%x: !llvm.ptr<1>, %n: i32) warps 4 grid [tiles, 8, 1] {
      tile.return
    }
    ```
    """

    name = "tile.kernel"

    sym_name = attr_def(SymbolNameConstraint())
    function_type = prop_def(FunctionType)
    param_names = prop_def(ArrayAttr[StringAttr])
    warps = prop_def(IntegerAttr)
    grid = prop_def(ArrayAttr[ExpressionAttr])
    body = region_def("single_block")

    traits = traits_def(IsolatedFromAbove(), SymbolOpInterface())

    def __init__(
        self,
        name: str,
        params: Sequence[tuple[str, Attribute]],
        warps: int,
        grid: Sequence[ExpressionAttr],
    ):
        types = [param_type for _, param_type in params]
        block = Block(arg_types=types)
        for (param_name, _), argument in zip(params, block.args, strict=True):
            argument.name_hint = param_name
        super().__init__(
            attributes={"sym_name": StringAttr(name)},
            properties={
                "function_type": FunctionType.from_lists(types, []),
                "param_names": ArrayAttr([StringAttr(param_name) for param_name, _ in params]),
                "warps": IntegerAttr(warps, i32),
                "grid": ArrayAttr(grid),
            },
            regions=[Region(block)],
        )

    @property
    def threads(self) -> int:
        """The number of threads of a CTA."""
        return self.warps.value.data * WARP_SIZE

    @property
    def rows(self) -> int:
        """The largest number of rows of the kernel's fragments."""
        return self.warps.value.data * ROWS_PER_WARP

    @classmethod
    def parse(cls, parser: Parser) -> "KernelOp":
        name = parser.parse_symbol_name()
        arguments = parser.parse_comma_separated_list(
            parser.Delimiter.PAREN, lambda: parser.parse_argument()
        )
        parser.parse_keyword("warps")
        warps = parser.parse_integer()
        parser.parse_keyword("grid")
        grid = parser.parse_comma_separated_list(
            parser.Delimiter.SQUARE, lambda: ExpressionAttr.parse_bare(parser)
        )
        body = parser.parse_region(arguments)
        params = [(argument.name.text[1:], argument.type) for argument in arguments]
        op = cls(name.data, params, warps, grid)
        op.detach_region(op.body)
        op.add_region(body)
        return op

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_symbol_name(self.sym_name.data)
        printer.print_string("(")
        printer.print_list(self.body.block.args, printer.print_block_argument)
        printer.print_string(f") warps {self.warps.value.data} grid [")
        printer.print_list(self.grid, lambda extent: extent.print_bare(printer))
        printer.print_string("] ")
        printer.print_region(self.body, print_entry_block_args=False)

    def verify_(self) -> None:
        if tuple(self.function_type.inputs) != tuple(self.body.block.arg_types):
            raise VerifyException("expects the types of its parameters to be those of its body")
        if len(self.param_names) != len(self.function_type.inputs):
            raise VerifyException("expects a name for each of its parameters")
        for kind in self.function_type.inputs:
            if not isinstance(kind, LLVMPointerType | IntegerType) and not isa(kind, AnyFloat):
                raise VerifyException(f"expects pointers and numbers as parameters, got {kind}")
        if not 1 <= self.warps.value.data <= 32:
            raise VerifyException(f"expects 1 to 32 warps, got {self.warps.value.data}")
        if len(self.grid) != 3:
            raise VerifyException(f"expects 3 grid extents, got {len(self.grid)}")
        if not isinstance(self.body.block.last_op, ReturnOp):
            raise VerifyException("expects to end in tile.return")
        self._verify_fragment_rows()
        check_in_flight(self)

    def _verify_fragment_rows(self) -> None:
        for op in self.body.walk():
            for result in op.results:
                if isinstance(result.type, FragmentType):
                    self._verify_rows_of(result.type)

    def _verify_rows_of(self, fragment: FragmentType) -> None:
        if fragment.layout.data != "mma_b" and self.rows % fragment.extents[0]:
            raise VerifyException(
                f"of {self.warps.value.data} warps expects fragments of {self.rows} rows, "
                f"or a part that divides them, got {fragment}"
            )


@irdl_op_definition
class LoadOp(IRDLOperation):
    """
    Loads one scalar from global memory; the same for all threads if the index is.

    The index is not negative.

    ```mlir
    %length = tile.load %lengths[%request] : i32
    ```
    """

    name = "tile.load"

    pointer = operand_def(LLVMPointerType)
    index = operand_def(i32)
    value = result_def()

    traits = traits_def(MemoryReadEffect())
    assembly_format = "$pointer `[` $index `]` attr-dict `:` type($value) `from` type($pointer)"

    def __init__(self, pointer: SSAValue, index: SSAValue, element_type: Attribute):
        super().__init__(operands=[pointer, index], result_types=[element_type])

    def verify_(self) -> None:
        if self.value.type not in (f32, i32):
            raise VerifyException(f"expects a value of f32 or i32, got {self.value.type}")


@irdl_op_definition
class BlockIndexOp(IRDLOperation):
    """
    The index of this CTA along one axis of the grid.

    ```mlir
    %head = tile.block_index 1
    ```
    """

    name = "tile.block_index"

    axis = prop_def(IntegerAttr)
    index = result_def(i32)

    traits = traits_def(Pure(), HasParent(KernelOp))

    def __init__(self, axis: int):
        super().__init__(properties={"axis": IntegerAttr(axis, i32)}, result_types=[i32])

    @classmethod
    def parse(cls, parser: Parser) -> "BlockIndexOp":
        return cls(parser.parse_integer())

    def print(self, printer: Printer) -> None:
        printer.print_string(f" {self.axis.value.data}")

    def verify_(self) -> None:
        if not 0 <= self.axis.value.data <= 2:
            raise VerifyException(f"expects axis 0, 1 or 2, got {self.axis.value.data}")
