"""Reads tokens one after the other."""

import struct
from functools import lru_cache

from ..errors import PTXError
from .lexer import Source
from .syntax import Immediate

_MOST_BITS = 128
_BINARY = frozenset({"+", "-", "*", "<<"})


class Cursor:
    """A place in a list of tokens, with what every part of the parser asks."""

    def __init__(self, source: Source, tokens: list[str], positions: list[int]) -> None:
        self.source = source
        self.tokens = tokens
        self.positions = positions
        self.index: int = 0

    def peek(self) -> str:
        """Returns the current token; empty at the end of the text."""
        return self.tokens[self.index]

    def next(self) -> str:
        """Returns the current token and steps past it."""
        token = self.tokens[self.index]
        if not token:
            raise self.error("unexpected end of the text")
        self.index += 1
        return token

    def line(self) -> int:
        """Returns the line of the current token."""
        return self.source.place(self.positions[self.index])[0]

    def error(self, message: str, back: int = 0) -> PTXError:
        """Returns an error at the current token, or `back` tokens before it."""
        index = max(self.index - back, 0)
        return self.source.error(message, self.positions[index])

    def expected(self, what: str, back: int = 0) -> PTXError:
        """Returns the error "expected ..., got ..." at a token."""
        token = self.tokens[max(self.index - back, 0)]
        return self.error(f"expected {what}, got {token!r}" if token else f"expected {what}", back)

    def expect(self, token: str) -> None:
        """Steps past `token`, which must be the current one."""
        if self.tokens[self.index] != token:
            raise self.expected(f"{token!r}")
        self.index += 1

    def identifier(self, what: str) -> str:
        """Returns a name and steps past it."""
        token = self.peek()
        if not token or not (token[0].isalpha() or token[0] in "_$%"):
            raise self.expected(what)
        self.index += 1
        return token

    def names(self) -> tuple[str, ...]:
        """Returns a list `a, b, c`."""
        names = [self.identifier("a name")]
        while self.peek() == ",":
            self.next()
            names.append(self.identifier("a name"))
        return tuple(names)

    def integer(self) -> int:
        """Returns an integer constant expression of unary and + - * operators."""
        number = literal(self.tokens[self.index])
        if number is not None and number.kind == "int":
            if self.tokens[self.index + 1] not in _BINARY:
                self.index += 1
                return number.value
        value = self._factor()
        while self.peek() in ("+", "-"):
            sign = 1 if self.next() == "+" else -1
            value += sign * self._factor()
        return value

    def _factor(self) -> int:
        """Returns a product of integer literals with signs and parentheses."""
        value = self._unary()
        while self.peek() in ("*", "<<"):
            if self.next() == "*":
                value *= self._unary()
            else:
                value <<= self._shift()
            if value.bit_length() > _MOST_BITS:
                raise self.error(f"a constant of more than {_MOST_BITS} bits", back=1)
        return value

    def _shift(self) -> int:
        """Returns the right operand of <<."""
        count = self._unary()
        if not 0 <= count < 64:
            raise self.error("expected a shift by 0..63", back=1)
        return count

    def _unary(self) -> int:
        """Returns one integer literal, perhaps negated or in parentheses."""
        token = self.peek()
        if token == "-":
            self.next()
            return -self._unary()
        if token == "+":
            self.next()
            return self._unary()
        if token == "~":
            self.next()
            return ~self._unary()
        if token == "(":
            self.next()
            value = self.integer()
            self.expect(")")
            return value
        number = literal(token)
        if number is None or number.kind != "int":
            raise self.expected("an integer")
        self.index += 1
        return number.value

    def string_list(self) -> None:
        """Steps past `"a", "b";`."""
        while self.peek()[:1] == '"':
            self.next()
            if self.peek() == ",":
                self.next()
        self.expect(";")


@lru_cache(maxsize=1024)
def literal(token: str) -> Immediate | None:
    """
    Returns the constant that one token stands for, or None (PTX ISA, "Constants").

    Decimal floats are f64, as in the ISA; 0f and 0d give the bits.
    """
    first = token[:1]
    if not (first.isdigit() or first == "."):
        return None
    mark = token[:2].lower()
    try:
        if mark == "0f":
            return Immediate("f32", int(token[2:], 16))
        if mark == "0d":
            return Immediate("f64", int(token[2:], 16))
        digits = token.rstrip("U")
        if mark in ("0x", "0b"):
            return Immediate("int", int(digits, 0))
        if digits.isdigit():
            octal = len(digits) > 1 and digits[0] == "0"
            return Immediate("int", int(digits, 8 if octal else 10))
        return Immediate("f64", int.from_bytes(struct.pack("<d", float(token)), "little"))
    except (ValueError, OverflowError):
        return None
