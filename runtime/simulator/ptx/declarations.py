"""Parses declarations of variables and parameters, and debugging directives."""

import struct

from ..scalars import DECLARABLE, size_of
from .cursor import Cursor, literal
from .lexer import Source
from .syntax import Location, Module, Variable

MOST_BYTES = 1 << 30  # that one variable may take
_VECTORS = {".v2": 2, ".v4": 4, ".v8": 8}
_FLOAT_CODES = {"f16": "<e", "f32": "<f", "f64": "<d"}


class Declarations(Cursor):
    """The part of the parser that module level and function bodies share."""

    def __init__(
        self, source: Source, tokens: list[str], positions: list[int], module: Module
    ) -> None:
        super().__init__(source, tokens, positions)
        self.module = module
        self.location: Location | None = None

    def type_name(self) -> str:
        """Returns a type such as b32 and steps past it."""
        token = self.peek()
        if token[:1] != "." or token[1:] not in DECLARABLE:
            raise self.expected("a type such as .b32")
        self.index += 1
        return token[1:]

    def alignment(self, default: int) -> int:
        """Parses `.align N`, if it is there."""
        if self.peek() != ".align":
            return default
        self.next()
        align = self.integer()
        if align <= 0 or align & (align - 1):
            raise self.error(f"expected a power of two after .align, got {align}", back=1)
        return align

    def parameter(self) -> Variable:
        """Parses one formal parameter; functions may have `.reg` parameters."""
        if self.peek() not in (".param", ".reg"):
            raise self.expected(".param")
        space = self.next()[1:]
        align = self.alignment(0)
        lanes = _VECTORS.get(self.peek(), 1)
        if lanes > 1:
            self.next()
        type = self.type_name()
        if self.peek() == ".ptr":
            self.next()
            if self.peek() in (".global", ".shared", ".const", ".local"):
                self.next()
            self.alignment(0)
        name = self.identifier("the name of a parameter")
        size = lanes * max(size_of(type), 1)
        count = self._extents()
        if count is not None:
            size *= count
        return Variable(name, space, type, align or lanes * max(size_of(type), 1), size)

    def variables(self, extern: bool = False) -> list[Variable]:
        """Parses `.space [.align N] type name[..] [= init], ...;`."""
        space = self.next()[1:].partition("::")[0]
        if self.peek() == ".attribute":
            self.skip_parentheses()
        align = self.alignment(0)
        lanes = _VECTORS.get(self.peek(), 1)
        if lanes > 1:
            self.next()
        type = self.type_name()
        if type == "pred":
            raise self.error("a variable can't be a predicate", back=1)
        found: list[Variable] = []
        while True:
            found.append(self._variable(space, align, lanes, type, extern))
            if self.peek() != ",":
                break
            self.next()
        self.expect(";")
        return found

    def _variable(self, space: str, align: int, lanes: int, type: str, extern: bool) -> Variable:
        """Parses one declarator with its extents and initialiser."""
        name = self.identifier("the name of a variable")
        element = size_of(type)
        count = self._extents()
        size = element * lanes * (1 if count is None else count)
        variable = Variable(name, space, type, align or element * lanes, size, extern)
        if self.peek() == "=":
            self.next()
            if space not in ("global", "const"):
                raise self.error(f"a .{space} variable takes no initial value", back=1)
            self._initialise(variable, element)
        elif size == 0 and not extern:
            raise self.error(f"variable {name} has no size")
        if variable.size > MOST_BYTES:
            raise self.error(f"variable {name} takes more than {MOST_BYTES} bytes")
        return variable

    def _extents(self) -> int | None:
        """Parses `[n][m]`; returns n*m, 0 for `[]`, None where there are none."""
        count: int | None = None
        while self.peek() == "[":
            self.next()
            extent = 0 if self.peek() == "]" else self.integer()
            if extent < 0:
                raise self.error("an extent is negative", back=1)
            count = extent if count is None else count * extent
            if count > MOST_BYTES:
                raise self.error(f"more than {MOST_BYTES} elements", back=1)
            self.expect("]")
        return count

    def _initialise(self, variable: Variable, element: int) -> None:
        """Parses an initialiser into bytes and relocations."""
        data = bytearray()
        symbols: list[tuple[int, str, int]] = []
        depth = 0
        while True:
            token = self.peek()
            if token == "{":
                depth += 1
                self.next()
            elif token == "}":
                depth -= 1
                self.next()
            elif token == "," and depth:
                self.next()
            else:
                self._element(variable, element, data, symbols)
            if depth == 0:
                break
        if variable.size == 0:
            variable.size = len(data)
        if len(data) > variable.size:
            raise self.error(f"the initialiser of {variable.name} is longer than the variable")
        variable.data = bytes(data)
        variable.symbols = tuple(symbols)

    def _element(
        self, variable: Variable, element: int, data: bytearray, symbols: list[tuple[int, str, int]]
    ) -> None:
        """Parses one constant or symbol of an initialiser."""
        token = self.peek()
        if token[:1].isalpha() or token[:1] in "_$":
            if element != 8:
                raise self.error("an address initialises only 64-bit elements")
            name = self.identifier("a symbol")
            if name == "generic":
                self.expect("(")
                name = self.identifier("a symbol")
                self.expect(")")
            addend = self.integer() if self.peek() in ("+", "-") else 0
            symbols.append((len(data), name, addend))
            data += bytes(8)
            return
        data += self._constant(variable.type, element)

    def _constant(self, type: str, element: int) -> bytes:
        """Parses one numeric constant of an initialiser into its bytes."""
        negative = False
        if self.peek() == "-" and "." in self.tokens[self.index + 1]:
            negative = True
            self.next()
        number = literal(self.peek())
        if number is None or number.kind == "int":
            value = self.integer()
            code = _FLOAT_CODES.get(type)
            if code:
                return self._packed(code, value)
            return (value & ((1 << (8 * element)) - 1)).to_bytes(element, "little")
        self.next()
        if number.kind == "f32":
            return number.value.to_bytes(4, "little")
        bits = number.value.to_bytes(8, "little")
        if type == "f64" and not negative:
            return bits
        (value,) = struct.unpack("<d", bits)
        return self._packed(_FLOAT_CODES.get(type, "<d"), -value if negative else value)

    def _packed(self, code: str, value: float) -> bytes:
        """Returns the bytes of a number as a floating-point type."""
        try:
            return struct.pack(code, float(value))
        except OverflowError:
            raise self.error("this number does not fit its type", back=1) from None

    def file(self) -> None:
        """Parses `.file N "name"[, time, size]`."""
        self.next()
        number = self.integer()
        name = self.next()
        if name[:1] != '"':
            raise self.error("expected a file name in quotes", back=1)
        self.module.files[number] = name[1:-1]
        while self.peek() == ",":
            self.next()
            self.integer()

    def loc(self) -> None:
        """Parses `.loc file line column [, function_name L][, inlined_at file line column]`."""
        self.next()
        numbers = (self.integer(), self.integer(), self.integer())
        self.location = Location(*numbers)
        while self.peek() == ",":
            self.next()
            self.identifier("function_name or inlined_at")
            while self.peek()[:1].isdigit() or self.peek() == "+" or self.peek()[:1] in "$_":
                if self.tokens[self.index + 1] == ":":
                    break  # the label of the next statement
                self.next()

    def section(self) -> None:
        """Steps past a .section with its data in braces."""
        self.next()
        self.next()
        if self.peek() != "{":
            raise self.expected("'{'")
        depth = 0
        while True:
            token = self.next()
            depth += (token == "{") - (token == "}")
            if depth == 0:
                return

    def skip_statement(self, stop: str = ";") -> None:
        """Steps past everything up to and with `stop`."""
        while self.next() != stop:
            pass

    def skip_parentheses(self) -> None:
        """Steps past a directive's `( ... )`."""
        self.next()
        self.expect("(")
        self.skip_statement(")")
