"""Functions over buffers, and what they say as a program."""

from collections.abc import Sequence

from xdsl.dialects.builtin import (
    ArrayAttr,
    DictionaryAttr,
    FunctionType,
    StringAttr,
    SymbolNameConstraint,
)
from xdsl.ir import Operation, Region
from xdsl.irdl import (
    IRDLOperation,
    attr_def,
    irdl_op_definition,
    opt_prop_def,
    prop_def,
    region_def,
    traits_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import IsolatedFromAbove, NoTerminator, SymbolOpInterface
from xdsl.utils.exceptions import VerifyException

from ..diagnostic import error_at
from ..sym import RangesAttr
from ..sym.attributes import ParserSource
from ..sym.ranges import Ranges, read_ranges
from .defects import ProgramError
from .naming import name_values
from .notation import parse_annotations, print_annotations
from .program import Buffer, Parameter, Program, ScalarParameter
from .reading import Reader
from .scalars import Variable
from .statements import AllocOp
from .types import BufferType, annotations_of, dtype_of
from .verifier import verify_program


@irdl_op_definition
class FuncOp(IRDLOperation):
    """
    A function over buffers: what is computed once, in loops and blocks.

    Parameters are buffers and numbers; those after `out` hold results. `symbols` gives the range of
    each symbol of the extents. A parameter has the name of its value, or of the symbol behind it.
    Source: TensorIR, section 3.

    ```mlir
    nest.func @matmul(%A: !nest.buffer<[n, 512], f16>, out %C: !nest.buffer<[n, 512], f32>)
        symbols (n in [1, 8192]) {
      nest.for %i in n, %j in 512 {
        nest.block @C [%vi = %i in n, %vj = %j in 512] {
          %a = nest.load %A[%vi, %vj]
          %wide = arith.extf %a : f16 to f32
          nest.store %wide, %C[%vi, %vj]
        }
      }
    }
    ```
    """

    name = "nest.func"

    sym_name = attr_def(SymbolNameConstraint())
    function_type = prop_def(FunctionType)
    parameter_names = prop_def(ArrayAttr[StringAttr])
    outputs = prop_def(ArrayAttr[StringAttr])
    ranges = prop_def(RangesAttr)
    annotations = opt_prop_def(DictionaryAttr)
    body = region_def("single_block")

    traits = traits_def(IsolatedFromAbove(), SymbolOpInterface(), NoTerminator())

    def __init__(
        self,
        name: str,
        parameter_names: Sequence[str],
        body: Region,
        ranges: Ranges,
        outputs: Sequence[str] = (),
        annotations: DictionaryAttr | None = None,
    ):
        super().__init__(
            attributes={"sym_name": StringAttr(name)},
            properties={
                "function_type": FunctionType.from_lists(body.block.arg_types, []),
                "parameter_names": ArrayAttr([StringAttr(entry) for entry in parameter_names]),
                "outputs": ArrayAttr([StringAttr(entry) for entry in outputs]),
                "ranges": RangesAttr(ranges),
                "annotations": annotations,
            },
            regions=[body],
        )

    @classmethod
    def parse(cls, parser: Parser) -> "FuncOp":
        name = parser.parse_symbol_name()
        names: list[str] = []
        outputs: list[str] = []

        def parameter() -> Parser.Argument:
            is_output = parser.parse_optional_keyword("out") is not None
            argument = parser.parse_argument(expect_type=False)
            own = parser.parse_optional_symbol_name()
            names.append(own.data if own else argument.name.text[1:])
            outputs.extend(names[-1:] if is_output else [])
            parser.parse_punctuation(":")
            return argument.resolve(parser.parse_type())

        arguments = parser.parse_comma_separated_list(parser.Delimiter.PAREN, parameter)
        ranges = Ranges({})
        if parser.parse_optional_keyword("symbols"):
            with parser.in_parens():
                ranges = read_ranges(ParserSource(parser))
        annotations = parse_annotations(parser)
        body = parser.parse_region(arguments)
        return cls(name.data, names, body, ranges, sorted(outputs), annotations)

    def print(self, printer: Printer) -> None:
        names = [name.data for name in self.parameter_names]
        arguments = self.body.block.args
        outputs = {output.data for output in self.outputs}
        allocated = [
            (op.buffer, op.buffer_name.data)
            for op in self.body.block.ops
            if isinstance(op, AllocOp)
        ]
        name_values(printer, self, [*zip(arguments, names, strict=True), *allocated])
        printer.print_string(" ")
        printer.print_symbol_name(self.sym_name.data)
        with printer.in_parens():
            for position, (argument, name) in enumerate(zip(arguments, names, strict=True)):
                printer.print_string(", " if position else "")
                printer.print_string("out " if name in outputs else "")
                if printer.print_ssa_value(argument) != name:
                    printer.print_string(" ")
                    printer.print_symbol_name(name)
                printer.print_string(": ")
                printer.print_attribute(argument.type)
        if len(self.ranges.data):
            printer.print_string(f" symbols ({self.ranges.data})")
        print_annotations(printer, self.annotations)
        printer.print_string(" ")
        printer.print_region(self.body, print_entry_block_args=False, print_empty_block=False)

    def program(self) -> Program:
        """Returns what the function says; raises DiagnosticError at what a program cannot say."""
        return self.read()[0]

    def read(self) -> tuple[Program, dict[str, Operation]]:
        """Returns the program, and the op of each of its loops and blocks by name."""
        parameters = self._parameters()
        values = dict(zip(self.body.block.args, parameters, strict=True))
        reader = Reader(
            self.ranges.data,
            {value: entry for value, entry in values.items() if isinstance(entry, Buffer)},
            {
                value: Variable(entry.name, entry.dtype)
                for value, entry in values.items()
                if isinstance(entry, ScalarParameter)
            },
        )
        body = reader.function_body(self.body.block)
        program = Program(
            self.sym_name.data,
            tuple(parameters),
            self.ranges.data,
            body,
            tuple(reader.allocations),
            frozenset(output.data for output in self.outputs),
            annotations_of(self.annotations),
        )
        return program, reader.ops

    def _parameters(self) -> list[Parameter]:
        parameters: list[Parameter] = []
        for name, argument in zip(self.parameter_names, self.body.block.args, strict=True):
            if isinstance(argument.type, BufferType):
                parameters.append(argument.type.buffer(name.data))
            elif (dtype := dtype_of(argument.type)) is not None:
                parameters.append(ScalarParameter(name.data, dtype))
            else:
                raise VerifyException(
                    f"expects buffers and numbers as parameters, got {argument.type}"
                )
        return parameters

    def verify_(self) -> None:
        arguments = self.body.block.args
        if tuple(self.function_type.inputs) != tuple(self.body.block.arg_types):
            raise VerifyException("expects the types of its parameters to be those of its body")
        if self.function_type.outputs.data:
            raise VerifyException("expects no results; results are written to buffers after `out`")
        if len(self.parameter_names) != len(arguments):
            raise VerifyException("expects a name for each of its parameters")
        program, ops = self.read()
        try:
            verify_program(program)
        except ProgramError as error:
            raise error_at(ops.get(error.place, self), error.message) from None
