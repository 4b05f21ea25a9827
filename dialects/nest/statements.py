"""Ops that nests are made of: loops, blocks and their init, buffers of the function's own."""

from collections.abc import Sequence
from dataclasses import replace

from xdsl.dialects.builtin import (
    ArrayAttr,
    DictionaryAttr,
    IndexType,
    StringAttr,
    SymbolNameConstraint,
)
from xdsl.ir import Block, BlockArgument, Region, SSAValue
from xdsl.irdl import (
    AttrSizedOperandSegments,
    IRDLOperation,
    irdl_op_definition,
    opt_prop_def,
    prop_def,
    region_def,
    result_def,
    traits_def,
    var_operand_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import MemoryAllocEffect, NoTerminator, RecursiveMemoryEffect
from xdsl.utils.exceptions import VerifyException

from ..sym import ExpressionAttr, symbol
from ..sym.polynomial import ExpressionError
from .access import buffer_type, verify_region, written_names
from .naming import IndexScopeOp, index_name
from .notation import (
    IndexParser,
    bounds_attribute,
    index_text,
    parse_annotations,
    parse_clause,
    print_annotations,
    print_region,
    ranges_of,
)
from .program import AxisKind, Buffer, LoopKind
from .types import BufferType, annotations_of

Regions = ArrayAttr[ArrayAttr[ExpressionAttr]]


@irdl_op_definition
class AllocOp(IRDLOperation):
    """
    A buffer of the function's own; its name is that of the symbol.

    A loop behind `in` has a new one in each iteration.

    ```mlir
    %tile = nest.alloc @tile in @k : !nest.buffer<[128, 32], f16, shared, swizzle 64>
    ```
    """

    name = "nest.alloc"

    buffer_name = prop_def(SymbolNameConstraint())
    place = opt_prop_def(StringAttr)
    buffer = result_def(BufferType)

    traits = traits_def(MemoryAllocEffect())

    def __init__(self, name: str, buffer: BufferType, place: str | None = None):
        properties = {
            "buffer_name": StringAttr(name),
            "place": None if place is None else StringAttr(place),
        }
        super().__init__(properties=properties, result_types=[buffer])
        self.buffer.name_hint = name

    @classmethod
    def parse(cls, parser: Parser) -> "AllocOp":
        name = parser.parse_symbol_name()
        loop = parse_clause(parser, "in", parser.parse_symbol_name)
        parser.parse_punctuation(":")
        place = parser.pos
        kind = parser.parse_type()
        if not isinstance(kind, BufferType):
            parser.raise_error(f"expected a type !nest.buffer, got {kind}", place)
        return cls(name.data, kind, None if loop is None else loop.data)

    def described(self) -> Buffer:
        """Returns the buffer as a program has it."""
        buffer = buffer_type(self.buffer).buffer(self.buffer_name.data)
        return replace(buffer, place=None if self.place is None else self.place.data)

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_symbol_name(self.buffer_name.data)
        if self.place is not None:
            printer.print_string(" in ")
            printer.print_symbol_name(self.place.data)
        printer.print_string(" : ")
        printer.print_attribute(self.buffer.type)


def parse_index(parser: Parser) -> Parser.Argument:
    """Returns the argument that is the index of a loop or axis; its name is an identifier."""
    argument = parser.parse_argument(expect_type=False)
    try:
        symbol(argument.name.text[1:])
    except ExpressionError as error:
        parser.raise_error(str(error), argument.name)
    return argument.resolve(IndexType())


@irdl_op_definition
class ForOp(IndexScopeOp):
    """
    A loop over `0 .. extent - 1`.

    Its kind says how the iterations are executed: serial where none is written, else parallel,
    vectorized, unrolled, or bound to an axis of the grid (block.x) or of a CTA (thread.x). Loops of
    which each is all that is in the one before are written in one line. The body has no
    terminator.

    ```mlir
    nest.for block.x %i in n, %j in 256, unrolled %k in 4 attributes {stages = 3} {
      nest.block @C [%vi = %i in n, %vj = %j in 256, reduce %vk = %k in 4] {
      }
    }
    ```
    """

    name = "nest.for"

    index_values = var_operand_def(IndexType)
    loop_name = prop_def(StringAttr)
    kind = prop_def(StringAttr)
    extent = prop_def(ExpressionAttr)
    annotations = opt_prop_def(DictionaryAttr)
    body = region_def("single_block")

    traits = traits_def(NoTerminator(), RecursiveMemoryEffect())

    def __init__(
        self,
        name: str,
        extent: ExpressionAttr,
        body: Region,
        *,
        kind: str = LoopKind.SERIAL.value,
        index_values: Sequence[SSAValue] = (),
        annotations: DictionaryAttr | None = None,
    ):
        super().__init__(
            operands=[index_values],
            properties={
                "loop_name": StringAttr(name),
                "kind": StringAttr(kind),
                "extent": extent,
                "annotations": annotations,
            },
            regions=[body],
        )

    @property
    def index_names(self) -> Sequence[str]:
        return (self.loop_name.data,)

    @property
    def index(self) -> BlockArgument:
        """The index of the loop."""
        return self.body.block.args[0]

    @classmethod
    def parse(cls, parser: Parser) -> "ForOp":
        kind = LoopKind.SERIAL.value
        word = parser.parse_optional_keyword_in(tuple(LoopKind))
        kind = word or kind
        argument = parse_index(parser)
        parser.parse_keyword("in")
        index_parser = IndexParser(parser)
        extent = ExpressionAttr(index_parser.expression())
        annotations = parse_annotations(parser)
        if parser.parse_optional_punctuation(","):
            body = _with_argument(parser, argument)
        else:
            body = parser.parse_region([argument])
        return cls(
            argument.name.text[1:],
            extent,
            body,
            kind=kind,
            index_values=index_parser.operands(),
            annotations=annotations,
        )

    def print(self, printer: Printer) -> None:
        loop = self
        printer.print_string(" ")
        loop._print_header(printer)
        while isinstance(inner := loop.body.block.first_op, ForOp) and inner.next_op is None:
            printer.print_string(", ")
            loop = inner
            loop._print_header(printer)
        printer.print_string(" ")
        printer.print_region(loop.body, print_entry_block_args=False, print_empty_block=False)

    def _print_header(self, printer: Printer) -> None:
        if self.kind.data != LoopKind.SERIAL.value:
            printer.print_string(f"{self.kind.data} ")
        names = written_names([self.extent], self.index_values)
        extent = index_text(self.extent.data, names)
        printer.print_string(f"%{self.loop_name.data} in {extent}")
        print_annotations(printer, self.annotations)

    def verify_(self) -> None:
        if self.kind.data not in set(LoopKind):
            raise VerifyException(
                f"expects a kind among {', '.join(LoopKind)}, got {self.kind.data}"
            )
        if tuple(self.body.block.arg_types) != (IndexType(),):
            raise VerifyException("expects a body with one argument, the index")
        annotations_of(self.annotations)


def _with_argument(parser: Parser, argument: Parser.Argument) -> Region:
    """Parses what follows a comma: the next loop, inside of the one whose index is given."""
    block = Block(arg_types=[argument.type])
    around = parser.ssa_values.copy()
    parser._register_ssa_definition(  # pyright: ignore[reportPrivateUsage]
        argument.name.text[1:], (block.args[0],), argument.name
    )
    inner = ForOp.parse(parser)
    inner.location = block.args[0].location
    block.add_op(inner)
    parser.ssa_values = around
    return Region(block)


@irdl_op_definition
class InitOp(IRDLOperation):
    """
    What a block does before its body where every reduce axis is at 0; the first op of the block.

    ```mlir
    nest.init {
      nest.store %zero, %C[%vi, %vj]
    }
    ```
    """

    name = "nest.init"

    body = region_def("single_block")

    traits = traits_def(NoTerminator(), RecursiveMemoryEffect())

    def __init__(self, body: Region):
        super().__init__(regions=[body])

    @classmethod
    def parse(cls, parser: Parser) -> "InitOp":
        return cls(parser.parse_region([]))

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_region(self.body, print_empty_block=False)

    def verify_(self) -> None:
        if self.body.block.args:
            raise VerifyException("expects a body without arguments")
        parent = self.parent_op()
        if not isinstance(parent, BlockOp) or parent.body.block.first_op is not self:
            raise VerifyException("expects to be the first op of a nest.block")


@irdl_op_definition
class BlockOp(IndexScopeOp):
    """
    A part of the computation over axes of its own, whatever loops are around it.

    Each axis runs over `0 .. extent - 1`; its value follows from loops, axes and symbols around the
    block. It is spatial where nothing is written, else reduce or ordered. The body runs where the
    bounds of `where` hold. Regions say what init and body touch; regions that are left out are
    computed from the body.

    ```mlir
    nest.block @C [%vi = %i_0 * 32 + %i_1 in n, reduce %vk = %k in 512] where (%i_0 * 32 + %i_1 < n)
        reads (%A[%vi, %vk]) writes (%C[%vi]) {
      nest.init {
        nest.store %zero, %C[%vi]
      }
      %a = nest.load %A[%vi, %vk]
      %c = nest.load %C[%vi]
      %sum = arith.addf %c, %a : f32
      nest.store %sum, %C[%vi]
    }
    ```
    """

    name = "nest.block"

    index_values = var_operand_def(IndexType)
    read_buffers = var_operand_def(BufferType)
    written_buffers = var_operand_def(BufferType)
    block_name = prop_def(SymbolNameConstraint())
    axis_names = prop_def(ArrayAttr[StringAttr])
    axis_kinds = prop_def(ArrayAttr[StringAttr])
    extents = prop_def(ArrayAttr[ExpressionAttr])
    bindings = prop_def(ArrayAttr[ExpressionAttr])
    predicate = prop_def(ArrayAttr[ExpressionAttr])
    reads = opt_prop_def(ArrayAttr[ArrayAttr[ExpressionAttr]])
    writes = opt_prop_def(ArrayAttr[ArrayAttr[ExpressionAttr]])
    annotations = opt_prop_def(DictionaryAttr)
    body = region_def("single_block")

    irdl_options = (AttrSizedOperandSegments(as_property=True),)
    traits = traits_def(NoTerminator(), RecursiveMemoryEffect())

    @property
    def index_names(self) -> Sequence[str]:
        return [name.data for name in self.axis_names]

    @property
    def init(self) -> InitOp | None:
        """The init, if there is one."""
        first = self.body.block.first_op
        return first if isinstance(first, InitOp) else None

    @classmethod
    def parse(cls, parser: Parser) -> "BlockOp":
        name = parser.parse_symbol_name()
        outer = IndexParser(parser)
        kinds: list[StringAttr] = []
        arguments: list[Parser.Argument] = []
        bindings: list[ExpressionAttr] = []
        extents: list[ExpressionAttr] = []

        def axis() -> None:
            kind = parser.parse_optional_keyword_in(tuple(AxisKind)) or AxisKind.SPATIAL.value
            kinds.append(StringAttr(kind))
            arguments.append(parse_index(parser))
            parser.parse_punctuation("=", " between an axis and its value")
            bindings.append(ExpressionAttr(outer.expression()))
            parser.parse_keyword("in")
            extents.append(ExpressionAttr(outer.expression()))

        parser.parse_comma_separated_list(parser.Delimiter.SQUARE, axis)
        names = [argument.name.text[1:] for argument in arguments]
        bounds = parse_clause(parser, "where", outer.bounds) or []
        inner = IndexParser(parser, frozenset(names), outer.values)
        read_buffers, reads = parse_clause(parser, "reads", inner.regions) or ([], None)
        written_buffers, writes = parse_clause(parser, "writes", inner.regions) or ([], None)
        annotations = parse_annotations(parser)
        body = parser.parse_region(arguments)
        return cls(
            operands=[outer.operands(), read_buffers, written_buffers],
            properties={
                "block_name": name,
                "axis_names": ArrayAttr([StringAttr(axis_name) for axis_name in names]),
                "axis_kinds": ArrayAttr(kinds),
                "extents": ArrayAttr(extents),
                "bindings": ArrayAttr(bindings),
                "predicate": bounds_attribute(bounds),
                "reads": reads,
                "writes": writes,
                "annotations": annotations,
            },
            regions=[body],
        )

    def print(self, printer: Printer) -> None:
        outside = frozenset(filter(None, map(index_name, self.index_values)))
        printer.print_string(" ")
        printer.print_symbol_name(self.block_name.data)
        axes = zip(self.axis_kinds, self.axis_names, self.bindings, self.extents, strict=True)
        texts: list[str] = []
        for kind, name, binding, extent in axes:
            prefix = "" if kind.data == AxisKind.SPATIAL.value else f"{kind.data} "
            value, size = (index_text(part.data, outside) for part in (binding, extent))
            texts.append(f"{prefix}%{name.data} = {value} in {size}")
        printer.print_string(f" [{', '.join(texts)}]")
        if self.predicate.data:
            sides = [index_text(side.data, outside) for side in self.predicate]
            bounds = [f"{a} < {b}" for a, b in zip(sides[::2], sides[1::2], strict=True)]
            printer.print_string(f" where ({', '.join(bounds)})")
        names = outside | frozenset(self.index_names)
        _print_regions(printer, "reads", self.read_buffers, self.reads, names)
        _print_regions(printer, "writes", self.written_buffers, self.writes, names)
        print_annotations(printer, self.annotations)
        printer.print_string(" ")
        printer.print_region(self.body, print_entry_block_args=False, print_empty_block=False)

    def verify_(self) -> None:
        count = len(self.axis_names)
        for what in (self.axis_kinds, self.extents, self.bindings):
            if len(what) != count:
                raise VerifyException(
                    f"expects a kind, an extent and a binding for each of {count} axes"
                )
        if tuple(self.body.block.arg_types) != (IndexType(),) * count:
            raise VerifyException("expects a body with one argument of type index for each axis")
        for kind in self.axis_kinds:
            if kind.data not in set(AxisKind):
                raise VerifyException(
                    f"expects kinds of axes among {', '.join(AxisKind)}, got {kind.data}"
                )
        if len(self.predicate) % 2:
            raise VerifyException("expects two sides of each bound of its predicate")
        for buffers, regions in (
            (self.read_buffers, self.reads),
            (self.written_buffers, self.writes),
        ):
            if len(buffers) != len(regions or ()):
                raise VerifyException(
                    f"expects a region for each of {len(buffers)} buffers, got {len(regions or ())}"
                )
            for buffer, region in zip(buffers, regions or (), strict=True):
                verify_region(buffer, region)
        annotations_of(self.annotations)


def _print_regions(
    printer: Printer,
    keyword: str,
    buffers: Sequence[SSAValue],
    regions: Regions | None,
    names: frozenset[str],
) -> None:
    if regions is None:
        return
    printer.print_string(f" {keyword} ")
    with printer.in_parens():
        printer.print_list(
            zip(buffers, regions, strict=True),
            lambda entry: print_region(printer, entry[0], ranges_of(entry[1]), names),
        )
