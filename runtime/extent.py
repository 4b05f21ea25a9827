"""
Extents as text: integer expressions over named symbols, parsed once and evaluated often.

The grammar is that of MLIR's affine expressions, with products of symbols allowed:
`2*n + 1`, `(n + 15) floordiv 16`, `n ceildiv 64`, `n mod 8`, `min(n, m)`, `max(n, 1)`.
`floordiv`, `ceildiv` and `mod` round towards minus infinity, plus infinity and minus infinity
(MLIR Language Reference, Affine dialect, "Semi-affine expressions").
"""

import operator
import re
from collections.abc import Callable, Mapping
from functools import lru_cache, reduce
from typing import TypeAlias

from .errors import TilewrightError

Symbols: TypeAlias = Mapping[str, int]
Evaluator: TypeAlias = Callable[[Symbols], int]
Operation: TypeAlias = Callable[[int, int], int]

_TOKEN = re.compile(r"\s*(?:[0-9]+|[A-Za-z_][A-Za-z0-9_]*|\S)")
_SUM: dict[str, Operation] = {"+": operator.add, "-": operator.sub}
_PRODUCT: dict[str, Operation] = {
    "*": operator.mul,
    "floordiv": lambda a, b: a // b,
    "ceildiv": lambda a, b: -(-a // b),
    "mod": operator.mod,
}
_CALL: dict[str, Operation] = {"min": min, "max": max}
_NESTING = 64  # deeper text is refused before it can exhaust the Python stack


class ExtentError(TilewrightError):
    """An extent's text is malformed, or has no value for the symbols that are given."""


class Extent:
    """One extent: `text` as written, the `symbols` it names, and `evaluate`."""

    def __init__(self, text: str) -> None:
        parser = _Parser(text)
        self.text = text
        self._evaluate = parser.parse()
        self.symbols = frozenset(parser.symbols)
        # An extent that is one bare name binds that symbol when shapes are matched.
        self.name = text.strip() if parser.symbols == {text.strip()} else None

    def evaluate(self, symbols: Symbols) -> int:
        """Returns the value; raises ExtentError for an unbound symbol or a division by zero."""
        try:
            return self._evaluate(symbols)
        except KeyError as error:
            raise ExtentError(f"extent '{self.text}': symbol {error} has no value") from None
        except ZeroDivisionError:
            raise ExtentError(f"extent '{self.text}': division by zero") from None


@lru_cache(maxsize=4096)
def parse_extent(text: str) -> Extent:
    """Returns the extent that `text` says; raises ExtentError with the column of a mistake."""
    return Extent(text)


def _binary(function: Operation, left: Evaluator, right: Evaluator) -> Evaluator:
    return lambda symbols: function(left(symbols), right(symbols))


class _Parser:
    """Recursive descent over the tokens; sums, products, factors."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.symbols: set[str] = set()
        self.depth = 0
        self.tokens = [
            (match.group().strip(), match.end() - len(match.group().lstrip()) + 1)
            for match in _TOKEN.finditer(text)
        ]
        self.tokens.append(("", len(text) + 1))
        self.next = 0

    def parse(self) -> Evaluator:
        result = self.sum()
        self.expect("")
        return result

    def fail(self, expected: str) -> ExtentError:
        token, column = self.tokens[self.next]
        got = f"'{token}'" if token else "the end"
        return ExtentError(f"extent '{self.text}': column {column}: expected {expected}, got {got}")

    def accept(self, *tokens: str) -> str | None:
        token = self.tokens[self.next][0]
        if token not in tokens:
            return None
        self.next += 1
        return token

    def expect(self, token: str) -> None:
        if self.tokens[self.next][0] != token:
            raise self.fail(f"'{token}'" if token else "the end")
        self.next += 1

    def sum(self) -> Evaluator:
        left = self.product()
        while sign := self.accept(*_SUM):
            left = _binary(_SUM[sign], left, self.product())
        return left

    def product(self) -> Evaluator:
        left = self.factor()
        while sign := self.accept(*_PRODUCT):
            left = _binary(_PRODUCT[sign], left, self.factor())
        return left

    def factor(self) -> Evaluator:
        self.depth += 1
        if self.depth > _NESTING:
            raise ExtentError(f"extent '{self.text[:40]}...': nested deeper than {_NESTING}")
        result = self.atom()
        self.depth -= 1
        return result

    def atom(self) -> Evaluator:
        token = self.tokens[self.next][0]
        if self.accept("-"):
            inner = self.factor()
            return lambda symbols: -inner(symbols)
        if self.accept("("):
            inner = self.sum()
            self.expect(")")
            return inner
        if token.isdecimal() and token.isascii() and len(token) < 20:
            self.next += 1
            value = int(token)
            return lambda _symbols: value
        if token in _CALL:
            return self.call()
        if token.isascii() and token.isidentifier() and token not in _PRODUCT:
            self.next += 1
            self.symbols.add(token)
            return lambda symbols: symbols[token]
        raise self.fail("an integer, a symbol or '('")

    def call(self) -> Evaluator:
        function = _CALL[self.tokens[self.next][0]]
        self.next += 1
        self.expect("(")
        arguments = [self.sum()]
        while self.accept(","):
            arguments.append(self.sum())
        self.expect(")")
        return reduce(lambda left, right: _binary(function, left, right), arguments)
