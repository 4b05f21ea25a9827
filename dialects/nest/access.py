"""Ops that touch elements: loads, stores, calls of tensor intrinsics, and indices as numbers."""

from collections.abc import Iterable, Sequence

from xdsl.dialects.builtin import ArrayAttr, IndexType, StringAttr, SymbolNameConstraint, UnitAttr
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import (
    AttrSizedOperandSegments,
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    prop_def,
    result_def,
    traits_def,
    var_operand_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import MemoryReadEffect, MemoryWriteEffect, Pure
from xdsl.utils.exceptions import VerifyException

from ..sym import Expression, ExpressionAttr
from .naming import index_name
from .notation import (
    IndexParser,
    index_text,
    parse_value,
    print_region,
    print_subscripts,
    ranges_of,
)
from .program import AccessMode
from .types import BufferType


def names_in(indices: Iterable[Attribute]) -> frozenset[str]:
    """Returns the names of symbols, loops and axes in indices."""
    names: set[str] = set()
    for index in indices:
        if isinstance(index, ExpressionAttr):
            names |= index.data.symbols()
    return frozenset(names)


def buffer_type(value: SSAValue) -> BufferType:
    """Returns the type of a buffer; raises VerifyException for another type."""
    if not isinstance(value.type, BufferType):
        raise VerifyException(f"expects a buffer, got a value of type {value.type}")
    return value.type


def written_names(indices: Iterable[Attribute], values: Sequence[SSAValue]) -> frozenset[str]:
    """Returns the names in indices that are printed as values: those of loops and axes."""
    return names_in(indices) & {index_name(value) for value in values}


class AccessOp(IRDLOperation):
    """What loads and stores have in common: a buffer, and one index for each of its axes."""

    buffer = operand_def(BufferType)
    index_values = var_operand_def(IndexType)
    data_indices = var_operand_def(IndexType)
    indices = prop_def(ArrayAttr[Attribute])

    irdl_options = (AttrSizedOperandSegments(as_property=True),)

    def print_access(self, printer: Printer) -> None:
        """Prints `%A[%vi, %vk]`."""
        printer.print_ssa_value(self.buffer)
        names = written_names(self.indices, self.index_values)
        print_subscripts(printer, self.indices, names, self.data_indices)

    def verify_access(self) -> BufferType:
        """Verifies the indices, and returns the type of the buffer."""
        kind = buffer_type(self.buffer)
        if len(self.indices) != len(kind.shape):
            raise VerifyException(
                f"expects {len(kind.shape)} indices of {kind}, got {len(self.indices)}"
            )
        data = 0
        for index in self.indices:
            data += isinstance(index, UnitAttr)
            if not isinstance(index, ExpressionAttr | UnitAttr):
                raise VerifyException(f"expects indices that are expressions or unit, got {index}")
        if data != len(self.data_indices):
            raise VerifyException(
                f"expects a value for each of {data} unit indices, got {len(self.data_indices)}"
            )
        return kind


def _parse_access(
    parser: Parser,
) -> tuple[SSAValue, ArrayAttr[Attribute], list[SSAValue], list[SSAValue]]:
    buffer = parse_value(parser)
    index_parser = IndexParser(parser)
    indices, data = index_parser.subscripts()
    return buffer, ArrayAttr(indices), index_parser.operands(), data


@irdl_op_definition
class LoadOp(AccessOp):
    """
    Loads one element of a buffer.

    Indices are expressions over loops, axes and symbols, or values of type index where they depend
    on data, as in a gather. A scalar parameter as an index is written `value(%n)`.

    ```mlir
    %a = nest.load %A[%vi * 2 + %r, %vk]
    ```
    """

    name = "nest.load"

    value = result_def()

    traits = traits_def(MemoryReadEffect())

    def __init__(
        self,
        buffer: SSAValue,
        indices: Sequence[Attribute] | ArrayAttr[Attribute],
        index_values: Sequence[SSAValue] = (),
        data_indices: Sequence[SSAValue] = (),
    ):
        super().__init__(
            operands=[buffer, index_values, data_indices],
            properties={"indices": ArrayAttr(indices)},
            result_types=[buffer_type(buffer).element_type],
        )

    @classmethod
    def parse(cls, parser: Parser) -> "LoadOp":
        place = parser.pos
        buffer, indices, values, data = _parse_access(parser)
        if not isinstance(buffer.type, BufferType):
            parser.raise_error(f"expected a buffer, got a value of type {buffer.type}", place)
        return cls(buffer, indices, values, data)

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        self.print_access(printer)

    def verify_(self) -> None:
        kind = self.verify_access()
        if self.value.type != kind.element_type:
            raise VerifyException(
                f"expects a result of type {kind.element_type}, got {self.value.type}"
            )


@irdl_op_definition
class StoreOp(AccessOp):
    """
    Stores one element of a buffer.

    ```mlir
    nest.store %sum, %C[%vi, %vj]
    ```
    """

    name = "nest.store"

    value = operand_def()

    traits = traits_def(MemoryWriteEffect())

    def __init__(
        self,
        value: SSAValue,
        buffer: SSAValue,
        indices: Sequence[Attribute] | ArrayAttr[Attribute],
        index_values: Sequence[SSAValue] = (),
        data_indices: Sequence[SSAValue] = (),
    ):
        super().__init__(
            operands=[value, buffer, index_values, data_indices],
            properties={"indices": ArrayAttr(indices)},
        )

    @classmethod
    def parse(cls, parser: Parser) -> "StoreOp":
        value = parse_value(parser)
        parser.parse_punctuation(",")
        return cls(value, *_parse_access(parser))

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_ssa_value(self.value)
        printer.print_string(", ")
        self.print_access(printer)

    def verify_(self) -> None:
        kind = self.verify_access()
        if self.value.type != kind.element_type:
            raise VerifyException(
                f"expects a value of type {kind.element_type}, got {self.value.type}"
            )


@irdl_op_definition
class IndexOp(IRDLOperation):
    """
    The value of an index expression over loops, axes and symbols.

    ```mlir
    %column = nest.index %vj * 16 + n
    ```
    """

    name = "nest.index"

    index_values = var_operand_def(IndexType)
    expression = prop_def(ExpressionAttr)
    value = result_def(IndexType)

    traits = traits_def(Pure())

    def __init__(self, expression: Expression, index_values: Sequence[SSAValue] = ()):
        super().__init__(
            operands=[index_values],
            properties={"expression": ExpressionAttr(expression)},
            result_types=[IndexType()],
        )

    @classmethod
    def parse(cls, parser: Parser) -> "IndexOp":
        index_parser = IndexParser(parser)
        expression = index_parser.expression()
        return cls(expression, index_parser.operands())

    def print(self, printer: Printer) -> None:
        names = written_names([self.expression], self.index_values)
        printer.print_string(f" {index_text(self.expression.data, names)}")


@irdl_op_definition
class CallOp(IRDLOperation):
    """
    Runs a tensor intrinsic on regions of buffers, in the order of its parameters.

    Each operand says whether the intrinsic reads, writes or updates the region.

    ```mlir
    nest.call @mma(update %C[%vi * 16 extent 16, %vj * 8 extent 8], read %A[0, %vk extent 16])
    ```
    """

    name = "nest.call"

    buffers = var_operand_def(BufferType)
    index_values = var_operand_def(IndexType)
    intrinsic = prop_def(SymbolNameConstraint())
    modes = prop_def(ArrayAttr[StringAttr])
    regions_ = prop_def(ArrayAttr[ArrayAttr[ExpressionAttr]], prop_name="regions")

    irdl_options = (AttrSizedOperandSegments(as_property=True),)
    traits = traits_def(MemoryReadEffect(), MemoryWriteEffect())

    def __init__(
        self,
        intrinsic: str,
        modes: Sequence[str],
        buffers: Sequence[SSAValue],
        regions: ArrayAttr[ArrayAttr[ExpressionAttr]],
        index_values: Sequence[SSAValue] = (),
    ):
        super().__init__(
            operands=[buffers, index_values],
            properties={
                "intrinsic": StringAttr(intrinsic),
                "modes": ArrayAttr([StringAttr(mode) for mode in modes]),
                "regions": regions,
            },
        )

    @classmethod
    def parse(cls, parser: Parser) -> "CallOp":
        name = parser.parse_symbol_name()
        index_parser = IndexParser(parser)
        modes: list[str] = []

        def operand() -> tuple[SSAValue, ArrayAttr[ExpressionAttr]]:
            modes.append(parser.parse_keyword_in(tuple(AccessMode)))
            buffer = parse_value(parser)
            sides = [
                ExpressionAttr(side)
                for part in index_parser.ranges()
                for side in (part.start, part.extent)
            ]
            return buffer, ArrayAttr(sides)

        found = parser.parse_comma_separated_list(parser.Delimiter.PAREN, operand)
        buffers = [buffer for buffer, _ in found]
        regions = ArrayAttr([region for _, region in found])
        return cls(name.data, modes, buffers, regions, index_parser.operands())

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_symbol_name(self.intrinsic.data)
        operands = zip(self.modes, self.buffers, self.regions_, strict=True)

        def operand(entry: tuple[StringAttr, SSAValue, ArrayAttr[ExpressionAttr]]) -> None:
            mode, buffer, region = entry
            printer.print_string(f"{mode.data} ")
            names = written_names(region, self.index_values)
            print_region(printer, buffer, ranges_of(region), names)

        with printer.in_parens():
            printer.print_list(operands, operand)

    def verify_(self) -> None:
        if not len(self.modes) == len(self.buffers) == len(self.regions_):
            raise VerifyException(
                f"expects a mode and a region for each of {len(self.buffers)} buffers, got "
                f"{len(self.modes)} and {len(self.regions_)}"
            )
        for mode in self.modes:
            if mode.data not in set(AccessMode):
                raise VerifyException(
                    f"expects modes among {', '.join(AccessMode)}, got {mode.data}"
                )
        for buffer, region in zip(self.buffers, self.regions_, strict=True):
            verify_region(buffer, region)


def verify_region(buffer: SSAValue, region: ArrayAttr[ExpressionAttr]) -> None:
    """Verifies that a region has a start and an extent for each axis of its buffer."""
    kind = buffer_type(buffer)
    if len(region) != 2 * len(kind.shape):
        raise VerifyException(
            f"expects a start and an extent for each of {len(kind.shape)} axes of {kind}, got "
            f"{len(region)} expressions"
        )
