"""A parser that gives each op the place of its text, so that later passes can point at it."""

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import NoReturn, TypeVar

from xdsl.context import Context
from xdsl.dialects.builtin import (
    FileLineColLoc,
    IntAttr,
    ModuleOp,
    StringAttr,
    UnknownLoc,
)
from xdsl.ir import Attribute, BlockArgument, Operation, SSAValue, TypeAttribute
from xdsl.parser import Parser, Span, UnresolvedOperand
from xdsl.utils.exceptions import MultipleSpansParseError, ParseError, VerifyException
from xdsl.utils.mlir_lexer import MLIRToken, MLIRTokenKind

from .diagnostic import DiagnosticError, Note
from .verification import verify_module

_T = TypeVar("_T")

_REWORDED = {
    "Could not parse entire input!": "expected an op",
    "builtin.module operation expected": "expected a builtin.module",
}
# xDSL blames the token that it looks at. Where that is not what it waits for, the one before it
# is at fault.
_BLAMES_NEXT_TOKEN = re.compile("expected|could not parse|^ *in ", re.IGNORECASE)


def parse_module(
    text: str,
    filename: str,
    ctx: Context,
    *,
    implicit_module: bool = True,
    verify: bool = True,
) -> ModuleOp:
    """
    Parses and verifies a module; every op carries the place of its text.

    A location that the text spells out (`loc(...)`) is kept. Raises `DiagnosticError` with file,
    line and column (both from 1) for text that does not parse or verify.
    """
    places = SourcePlaces(text, filename)
    parser: LocationParser | None = None
    try:
        parser = LocationParser(ctx, text, places)
        module = parser.parse_module(implicit_module)
    except ParseError as err:
        start = parser.start_of(err) if parser else err.span.start
        raise _diagnostic_of(err, places, start) from None
    except DiagnosticError:
        raise
    except RecursionError:
        raise DiagnosticError("nests too deeply", None, places.at(0)) from None
    except Exception as err:
        # xDSL's parsers of single attributes meet malformed text with all kinds of exceptions.
        reason = f"{type(err).__name__}: {err}".splitlines()[0]
        place = places.at(parser.pos if parser else 0)
        raise DiagnosticError(f"does not parse here: {reason}", None, place) from err
    if verify:
        verify_module(module)
    return module


class SourcePlaces:
    """Turns positions in a text (from 0, in characters) into lines and columns (from 1)."""

    def __init__(self, text: str, filename: str):
        self._filename = StringAttr(filename)
        self._line_starts = [0]
        for index, character in enumerate(text):
            if character == "\n":
                self._line_starts.append(index + 1)

    @property
    def filename(self) -> str:
        """The name of the file, as given."""
        return self._filename.data

    def at(self, position: int) -> FileLineColLoc:
        """Returns the place of a character of the text."""
        line = bisect_right(self._line_starts, position)
        column = position - self._line_starts[line - 1] + 1
        return FileLineColLoc(self._filename, IntAttr(line), IntAttr(column))


def _diagnostic_of(err: ParseError, places: SourcePlaces, start: int) -> DiagnosticError:
    notes: list[Note] = []
    if isinstance(err, MultipleSpansParseError):
        notes = [
            Note(message or (err.ref_text or "see here").rstrip(":"), places.at(span.start))
            for span, message in err.refs
        ]
        # xDSL blames the end of the region for a branch to a block that is not there.
        if err.msg.startswith("region ends with missing block"):
            span = err.refs[0][0]
            message = f"branches to block {span.text}, which is not defined"
            return DiagnosticError(message, None, places.at(span.start))
    message = _REWORDED.get(err.msg, " ".join(err.msg.split())).rstrip(".")
    if message.startswith("in "):
        got = f"'{err.span.text}'" if err.span.text.strip() else "end of file"
        message = f"unexpected {got} {message}"
    # As MLIR does, messages begin in lower case; names and acronyms stay as they are.
    if message[:1].isupper() and message[1:2].islower():
        message = message[0].lower() + message[1:]
    return DiagnosticError(message, None, places.at(start), tuple(notes))


class LocationParser(Parser):
    """Parses MLIR as xDSL does, and attaches to ops and block arguments where they stand."""

    def __init__(self, ctx: Context, text: str, places: SourcePlaces):
        self._places = places
        # The tokens of the names of the ops that are being parsed, innermost last.
        self._op_names: list[Span] = []
        self._first_uses: dict[str, Span] = {}
        self._last_token: Span | None = None
        super().__init__(ctx, text, places.filename)

    def start_of(self, err: ParseError) -> int:
        """Returns the position of the token that a parse error is about."""
        at_next_token = err.span is self._current_token.span
        if at_next_token and self._last_token and not _BLAMES_NEXT_TOKEN.search(err.msg):
            return self._last_token.start
        return err.span.start

    def _consume_token(self, expected_kind: MLIRTokenKind | None = None) -> MLIRToken:
        token = super()._consume_token(expected_kind)
        self._last_token = token.span
        return token

    def parse_operation(self) -> Operation:
        depth = len(self._op_names)
        try:
            op = super().parse_operation()
        except VerifyException as err:
            self._refuse_op(depth, str(err))
        location = self._places.at(self._op_names[depth].start)
        del self._op_names[depth:]
        if isinstance(op.location, UnknownLoc):
            op.location = location
        # Terminators that a custom form leaves out stand where the op stands.
        for region in op.regions:
            for block in region.blocks:
                last = block.last_op
                if last is not None and isinstance(last.location, UnknownLoc):
                    last.location = op.location
        return op

    def _refuse_op(self, depth: int, message: str) -> NoReturn:
        name = self._op_names[depth]
        op_name = name.text.strip('"')
        location = self._places.at(name.start)
        raise DiagnosticError(" ".join(message.split()), op_name, location) from None

    def _parse_op_result_list(self) -> list[tuple[Span, int]]:
        results = super()._parse_op_result_list()
        self._op_names.append(self._current_token.span)
        return results

    def _get_op_by_name(self, name: str) -> type[Operation]:
        op_type = self.ctx.get_optional_op(name, dialect_stack=self._parser_state.dialect_stack)
        if op_type is not None:
            return op_type
        dialect_name, _, _ = name.rpartition(".")
        dialect = self.ctx.get_optional_dialect(dialect_name.split(".")[0])
        if dialect is None:
            what = f"'{name}' is an op of no registered dialect"
        else:
            near = get_close_matches(name, [op.name for op in dialect.operations], n=1)
            what = f"'{name}' is no op of dialect '{dialect.name}'"
            what += f"; did you mean '{near[0]}'?" if near else ""
        self.raise_error(what, self._op_names[-1])

    def resolve_operand(self, operand: UnresolvedOperand, type: Attribute) -> SSAValue:
        if operand.operand_name not in self.ssa_values:
            self._first_uses.setdefault(operand.operand_name, operand.span)
        return super().resolve_operand(operand, type)

    def _register_ssa_definition(self, name: str, values: Sequence[SSAValue], span: Span) -> None:
        super()._register_ssa_definition(name, values, span)
        self._first_uses.pop(name, None)
        for value in values:
            if isinstance(value, BlockArgument) and isinstance(value.location, UnknownLoc):
                value.location = self._places.at(span.start)

    def parse_module(self, allow_implicit_module: bool = True) -> ModuleOp:
        # An empty file is an empty module, as in MLIR.
        if allow_implicit_module and self._current_token.kind == MLIRTokenKind.EOF:
            module = ModuleOp([])
        else:
            try:
                module = super().parse_module(allow_implicit_module)
            except ParseError:
                if self._current_token.kind == MLIRTokenKind.EOF and self.forward_ssa_references:
                    self._refuse_undefined_values()
                raise
        if isinstance(module.location, UnknownLoc):
            module.location = self._places.at(0)
        return module

    def _refuse_undefined_values(self) -> NoReturn:
        undefined = [name for name in self._first_uses if name in self.forward_ssa_references]
        name = undefined[0]
        self.raise_error(f"%{name} is used but not defined", self._first_uses[name])

    def parse_optional_type(self) -> TypeAttribute | None:
        return self._at_its_start(super().parse_optional_type)

    def parse_optional_attribute(self) -> Attribute | None:
        return self._at_its_start(super().parse_optional_attribute)

    def _at_its_start(self, parse: Callable[[], _T]) -> _T:
        start = self.pos
        try:
            return parse()
        except VerifyException as err:
            self.raise_error(" ".join(str(err).split()), start)
