"""Cuts a PTX text into tokens (PTX ISA, chapter "Syntax")."""

import re
from bisect import bisect_right

from ..errors import PTXError

# A token is text alone; its first character says what it is. Group 2 catches what no token begins
# with.
_TOKEN = re.compile(
    r"""(?:\s+|//[^\n]*|/\*[\s\S]*?\*/)*
    (?: ( [%$_A-Za-z][\w$]*(?:(?:\.|::)[\w$]+)*                     # name, register, opcode
    | \.[A-Za-z_][\w$]*(?:(?:\.|::)[\w$]+)*                     # directive
    | 0[fF][0-9A-Fa-f]{8}(?![\w.]) | 0[dD][0-9A-Fa-f]{16}(?![\w.])
    | 0[xX][0-9A-Fa-f]+U?(?![\w.]) | 0[bB][01]+U?(?![\w.])
    | (?:\d+\.\d*|\.\d+)(?:[eE][+-]?\d+)?(?!\w) | \d+[eE][+-]?\d+(?!\w) | \d+U?(?!\w)
    | "(?:[^"\\\n]|\\.)*"
    | <<|>>|==|!=|<=|>=|&&|\|\|
    | [{}()\[\],;:=<>|@!+\-*%~&^?] | /(?!\*)
    | \Z
    ) | ([\s\S]) )""",
    re.VERBOSE | re.ASCII,
)


class Source:
    """A PTX text that knows its lines."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._starts = [0, *(m.end() for m in re.finditer("\n", text))]

    def place(self, position: int) -> tuple[int, int]:
        """Returns line and column of a position, both from 1."""
        line = bisect_right(self._starts, position)
        return line, position - self._starts[line - 1] + 1

    def error(self, message: str, position: int) -> PTXError:
        """Returns an error at a position."""
        return PTXError(message, *self.place(position))


def tokenise(source: Source) -> tuple[list[str], list[int]]:
    """
    Returns the tokens of a text and their positions; the last two tokens are empty.

    Raises PTXError at a character that begins no token, and at a malformed number or string.
    """
    tokens: list[str] = []
    positions: list[int] = []
    for match in _TOKEN.finditer(source.text):
        token: str | None = match[1]
        if token is None:
            raise _problem(source, match.start(2))
        tokens.append(token)
        positions.append(match.start(1))
    while tokens[-2:] != ["", ""]:  # the end may match once more
        tokens.append("")
        positions.append(len(source.text))
    return tokens, positions


def _problem(source: Source, position: int) -> PTXError:
    """Returns the error for a character that begins no token."""
    character = source.text[position]
    if character == '"':
        return source.error("this string has no end on its line", position)
    if character in "0123456789":
        return source.error("malformed number", position)
    if character == "/":
        return source.error("this comment has no end", position)
    return source.error(f"unexpected character {character!r}", position)
