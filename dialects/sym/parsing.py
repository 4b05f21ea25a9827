"""
Reads expressions from text, alone or inside larger text that somebody else's lexer reads.

    sum     ::= product (("+" | "-") product)*
    product ::= factor (("*" | "floordiv" | "ceildiv" | "mod") factor)*
    factor  ::= "-" factor | integer | symbol | "(" sum ")" | ("min" | "max") "(" sum ("," sum)* ")"
"""

import re
from collections.abc import Callable
from typing import NoReturn, Protocol, TypeAlias

from .expression import (
    RESERVED,
    Expression,
    ExpressionError,
    ceildiv,
    constant,
    floordiv,
    maximum,
    minimum,
    mod,
    symbol,
)

MAX_DIGITS = 40  # a longer integer is refused
MAX_NESTING = 64  # more parentheses inside one another are refused

_Binary: TypeAlias = Callable[[Expression, Expression], Expression]
_PRODUCTS: dict[str, _Binary] = {"floordiv": floordiv, "ceildiv": ceildiv, "mod": mod}
_CALLS: dict[str, Callable[..., Expression]] = {"min": minimum, "max": maximum}
_TOKEN = re.compile(r"\s*(?:([A-Za-z_][A-Za-z0-9_]*|[0-9]+|\.\.\.|\S)|\Z)")


class ExpressionSyntaxError(ExpressionError):
    """Text is no expression; `column` is the place of the mistake, counted from 1."""

    def __init__(self, message: str, column: int) -> None:
        super().__init__(f"column {column}: {message}")
        self.column = column


class TokenSource(Protocol):
    """A stream of tokens; each `accept` takes the next token if it is of that kind."""

    @property
    def place(self) -> int:
        """The place of the next token."""
        ...

    def accept_integer(self) -> int | None:
        """Takes an integer without a sign."""
        ...

    def accept_word(self, words: frozenset[str] | None = None) -> str | None:
        """Takes an identifier, of these words if any are given, else not a reserved one."""
        ...

    def accept(self, punctuation: str) -> bool:
        """Takes one of `( ) [ ] , + - * = ...`."""
        ...

    def fail(self, message: str, place: int) -> NoReturn:
        """Raises the error of this source."""
        ...

    def fail_expected(self, expected: str) -> NoReturn:
        """Raises the error that the next token is not what was expected."""
        ...


class TextSource:
    """The tokens of a plain string; a subclass may have others, and errors of its own."""

    _pattern = _TOKEN

    def __init__(self, text: str) -> None:
        self._text = text
        self._end = 0
        self._token = ""
        self.place = 0
        self._advance()

    def _advance(self) -> None:
        match = self._pattern.match(self._text, self._end)
        self._token = str((match and match[1]) or "")
        self._end = match.end() if match else len(self._text)
        self.place = self._end - len(self._token)

    def accept_integer(self) -> int | None:
        """Takes an integer without a sign; refuses one of too many digits."""
        token = self._token
        if not (token.isascii() and token.isdigit()):
            return None
        if len(token) > MAX_DIGITS:
            self.fail(f"expected an integer of at most {MAX_DIGITS} digits", self.place)
        self._advance()
        return int(token)

    def accept_word(self, words: frozenset[str] | None = None) -> str | None:
        """Takes an identifier, of these words if any are given, else not a reserved one."""
        token = self._token
        is_word = token.isascii() and token.isidentifier()
        if not is_word or (token in RESERVED if words is None else token not in words):
            return None
        self._advance()
        return token

    def accept(self, punctuation: str) -> bool:
        """Takes one token of punctuation."""
        if self._token != punctuation:
            return False
        self._advance()
        return True

    def fail(self, message: str, place: int) -> NoReturn:
        """Raises ExpressionSyntaxError with the column of `place`."""
        raise ExpressionSyntaxError(message, place + 1)

    def fail_expected(self, expected: str) -> NoReturn:
        """Raises ExpressionSyntaxError that names the token that was found."""
        found = f"'{self._token}'" if self._token else "the end"
        self.fail(f"expected {expected}, got {found}", self.place)

    def finish(self) -> None:
        """Raises ExpressionSyntaxError unless all tokens are taken."""
        if self._token:
            self.fail_expected("an operator or the end")


def parse_expression(text: str) -> Expression:
    """Returns the expression that `text` says; raises ExpressionSyntaxError with the column."""
    source = TextSource(text)
    result = read_expression(source)
    source.finish()
    return result


def read_expression(source: TokenSource) -> Expression:
    """Returns the longest expression at the front of `source`."""
    return _Reader(source).sum()


class _Reader:
    """Recursive descent: sums, products, factors."""

    def __init__(self, source: TokenSource) -> None:
        self.source = source
        self.nesting = 0

    def apply(self, place: int, operation: Callable[..., Expression], *operands: Expression):
        try:
            return operation(*operands)
        except ExpressionError as error:
            self.source.fail(str(error), place)

    def sum(self) -> Expression:
        result = self.product()
        while True:
            place = self.source.place
            if self.source.accept("+"):
                result = self.apply(place, Expression.__add__, result, self.product())
            elif self.source.accept("-"):
                result = self.apply(place, Expression.__sub__, result, self.product())
            else:
                return result

    def product(self) -> Expression:
        result = self.factor()
        while True:
            place = self.source.place
            if self.source.accept("*"):
                result = self.apply(place, Expression.__mul__, result, self.factor())
            elif word := self.source.accept_word(frozenset(_PRODUCTS)):
                result = self.apply(place, _PRODUCTS[word], result, self.factor())
            else:
                return result

    def factor(self) -> Expression:
        self.nesting += 1
        if self.nesting > MAX_NESTING:
            self.source.fail(f"expected at most {MAX_NESTING} levels", self.source.place)
        result = self.atom()
        self.nesting -= 1
        return result

    def atom(self) -> Expression:
        source, place = self.source, self.source.place
        if source.accept("-"):
            return -self.factor()
        if source.accept("("):
            result = self.sum()
            self.expect(")")
            return result
        if (value := source.accept_integer()) is not None:
            return constant(value)
        if name := source.accept_word():
            return self.apply(place, lambda: symbol(name))
        if function := source.accept_word(frozenset(_CALLS)):
            return self.call(place, function)
        source.fail_expected("an integer, a symbol or '('")

    def call(self, place: int, function: str) -> Expression:
        self.expect("(")
        arguments = [self.sum()]
        while self.source.accept(","):
            arguments.append(self.sum())
        self.expect(")")
        return self.apply(place, _CALLS[function], *arguments)

    def expect(self, punctuation: str) -> None:
        if not self.source.accept(punctuation):
            self.source.fail_expected(f"an operator or '{punctuation}'")
