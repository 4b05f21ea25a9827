"""
Schedules as text: one primitive a line, its fields by name.

    # Tiles of 128 rows.
    split(loop="i", factors=[none, 128], names=["io", "ii"])
    bind(loop="io", kind="block.x")
    split("k", factors=[none, 16 * m], exact=true)

Values are strings, numbers, true, false, none, expressions over symbols, lists, mappings
`{"stages": 3}` and other records by the name of their class. Fields may be left out where they have
a default, and named by their order. A schedule that is printed and parsed is the same.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from enum import StrEnum
from functools import cache
from types import NoneType, UnionType
from typing import Any, NoReturn, Union, cast, get_args, get_origin, get_type_hints

from xdsl.dialects.builtin import FileLineColLoc, IntAttr, StringAttr

from ...dialects.diagnostic import DiagnosticError
from ...dialects.sym import Expression, constant
from ...dialects.sym.parsing import TextSource, read_expression
from .primitive import Primitive
from .registry import PRIMITIVES

_TOKEN = re.compile(
    r'[ \t]*("(?:[^"\\]|\\.)*"|[0-9]+\.[0-9]*(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+'
    r"|[A-Za-z_][A-Za-z0-9_]*|[0-9]+|\S)?"
)
_WORDS: Mapping[str, object] = {"none": None, "true": True, "false": False}
_ESCAPES = {"n": "\n", "t": "\t"}


def print_schedule(schedule: Iterable[Primitive]) -> str:
    """Returns the text of a schedule, which `parse_schedule` reads back."""
    return "".join(f"{print_primitive(primitive)}\n" for primitive in schedule)


def print_primitive(primitive: Primitive) -> str:
    """Returns the text of one primitive; fields that are at their default are left out."""
    return _record_text(primitive.name, primitive)


def _record_text(name: str, record: object) -> str:
    texts: list[str] = []
    for entry in fields(cast(Any, record)):
        value = getattr(record, entry.name)
        if not _is_default(entry, value):
            texts.append(f"{entry.name}={_text(value)}")
    return f"{name}({', '.join(texts)})"


def _is_default(entry: "Field[Any]", value: object) -> bool:
    default = entry.default
    if default is MISSING and entry.default_factory is not MISSING:
        default = entry.default_factory()
    return default is not MISSING and type(default) is type(value) and default == value


def _text(value: object) -> str:
    match value:
        case None | True | False:
            return str(value).lower()
        case str():
            return _quoted(value)
        case int() | float():
            return repr(value)
        case Expression():
            return str(value)
        case tuple():
            return f"[{', '.join(map(_text, cast(tuple[object, ...], value)))}]"
        case Mapping():
            items = cast(Mapping[str, object], value).items()
            return f"{{{', '.join(f'{_quoted(key)}: {_text(entry)}' for key, entry in items)}}}"
        case _ if is_dataclass(value):
            return _record_text(type(value).__name__, value)
        case _:
            raise TypeError(f"a schedule cannot say a value of type {type(value).__name__}")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped.replace(chr(10), chr(92) + "n").replace(chr(9), chr(92) + "t")}"'


@dataclass(frozen=True)
class Step:
    """A primitive and the place of its text."""

    primitive: Primitive
    location: FileLineColLoc


def parse_schedule(text: str, filename: str = "<schedule>") -> tuple[Primitive, ...]:
    """
    Returns the schedule that `text` says.

    Raises DiagnosticError with file, line and column for what is none.
    """
    return tuple(step.primitive for step in parse_steps(text, filename))


def parse_steps(text: str, filename: str = "<schedule>") -> tuple[Step, ...]:
    """Returns the steps of the schedule that `text` says, each with its place."""
    steps: list[Step] = []
    for number, line in enumerate(text.splitlines(), start=1):
        reader = _LineReader(line, filename, number)
        if not reader.at_end:
            location = reader.location(reader.place)
            steps.append(Step(reader.primitive(), location))
    return tuple(steps)


class _LineReader(TextSource):
    """Reads one line; it is a source of tokens for expressions too."""

    _pattern = _TOKEN

    def __init__(self, line: str, filename: str, number: int) -> None:
        self._filename = filename
        self._number = number
        super().__init__(line)

    def _advance(self) -> None:
        super()._advance()
        if self._token == "#":
            self._token, self._end = "", len(self._text)
            self.place = self._end

    @property
    def at_end(self) -> bool:
        """Whether nothing but a comment is left."""
        return not self._token

    def location(self, place: int) -> FileLineColLoc:
        """Returns the place of a character of the line, counted from 0."""
        return FileLineColLoc(StringAttr(self._filename), IntAttr(self._number), IntAttr(place + 1))

    def fail(self, message: str, place: int) -> NoReturn:
        """Raises the diagnostic at a place."""
        raise DiagnosticError(message, None, self.location(place))

    def fail_expected(self, expected: str) -> NoReturn:
        """Raises the diagnostic that the next token is not what was expected."""
        found = f"'{self._token}'" if self._token else "the end of the line"
        self.fail(f"expected {expected}, got {found}", self.place)

    def primitive(self) -> Primitive:
        """Returns the primitive that the line says."""
        place, name = self.place, self.accept_word()
        if name is None:
            self.fail_expected("the name of a primitive")
        if (kind := PRIMITIVES.get(name)) is None:
            self.fail(f"expected a primitive among {', '.join(PRIMITIVES)}, got '{name}'", place)
        result = self._record(name, kind, place)
        if not self.at_end:
            self.fail_expected("the end of the line")
        return cast(Primitive, result)

    def _record(self, name: str, kind: type[Any], place: int) -> object:
        """Reads `(value, field=value)` and makes the record."""
        known = {entry.name: entry for entry in fields(kind) if entry.init}
        hints = _hints(kind)
        given: dict[str, object] = {}
        self._expect("(")
        while not self.accept(")"):
            if given:
                self._expect(",")
            at = self.place
            field_name = self._field_name(list(known), len(given))
            if field_name not in known:
                self.fail(
                    f"expected a field of {name} among {', '.join(known)}, got '{field_name}'", at
                )
            if field_name in given:
                self.fail(f"expected one value of '{field_name}', got two", at)
            at = self.place
            value = self._value(hints[field_name])
            given[field_name] = self._converted(value, hints[field_name], field_name, at)
        for entry in known.values():
            has_default = entry.default is not MISSING or entry.default_factory is not MISSING
            if entry.name not in given and not has_default:
                self.fail(f"expected a value for '{entry.name}' of {name}, got none", place)
        return kind(**given)

    def _field_name(self, names: Sequence[str], position: int) -> str:
        """Takes `name =`, or answers by the order of the fields."""
        start = self._end, self._token, self.place
        word = self.accept_word()
        if word and self.accept("="):
            return word
        self._end, self._token, self.place = start
        if position >= len(names):
            self.fail(f"expected at most {len(names)} values, got more", self.place)
        return names[position]

    def _value(self, hint: object) -> object:
        token = self._token
        if token.startswith('"'):
            return self._string()
        if token in _WORDS:
            self._advance()
            return _WORDS[token]
        if self.accept("["):
            return tuple(self._list(hint))
        if self.accept("{"):
            return self._mapping(hint)
        if (record := _records(hint).get(token)) is not None:
            place = self.place
            self._advance()
            return self._record(token, record, place)
        if (number := self._float()) is not None:
            return number
        value = read_expression(self)
        number = value.constant_value
        return value if number is None else number

    def _string(self) -> str:
        token, place = self._token, self.place
        if len(token) < 2 or not token.endswith('"'):
            self.fail("expected the string to end in this line", place)
        self._advance()
        return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[1]), token[1:-1])

    def _float(self) -> float | None:
        sign, rest = "", self._token
        if rest == "-":
            match = _TOKEN.match(self._text, self._end)
            sign, rest = "-", str((match and match[1]) or "")
        if not re.fullmatch(r"[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?|inf|nan", rest):
            return None
        if rest.isdigit():
            return None
        if sign:
            self._advance()
        self._advance()
        return float(sign + rest)

    def _list(self, hint: object) -> list[object]:
        values: list[object] = []
        while not self.accept("]"):
            if values:
                self._expect(",")
            values.append(self._value(hint))
        return values

    def _mapping(self, hint: object) -> dict[str, object]:
        values: dict[str, object] = {}
        while not self.accept("}"):
            if values:
                self._expect(",")
            if not self._token.startswith('"'):
                self.fail_expected("a string")
            key = self._string()
            self._expect(":")
            values[key] = self._value(hint)
        return values

    def _expect(self, punctuation: str) -> None:
        if not self.accept(punctuation):
            self.fail_expected(f"'{punctuation}'")

    def _converted(self, value: object, hint: object, name: str, place: int) -> object:
        fits, result = _convert(value, hint)
        if not fits:
            self.fail(f"expected {_type_text(hint)} as '{name}', got {_text(value)}", place)
        return result


@cache
def _hints(kind: type[Any]) -> Mapping[str, object]:
    return get_type_hints(kind)


def _records(hint: object) -> dict[str, type[Any]]:
    """Returns the records that a type may hold, by the names of their classes."""
    if isinstance(hint, type) and is_dataclass(hint):
        return {hint.__name__: hint}
    found: dict[str, type[Any]] = {}
    for part in get_args(hint):
        found |= _records(part)
    return found


def _convert(value: object, hint: object) -> tuple[bool, object]:
    """Returns whether a value is one of a type, and the value as that type has it."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        # What needs no conversion comes first: 32 stays an integer where one is allowed.
        tried = [_convert(value, part) for part in arguments]
        same = [result for fits, result in tried if fits and type(result) is type(value)]
        other = [result for fits, result in tried if fits]
        return bool(other), (same or other or [value])[0]
    if origin is tuple:
        return _convert_tuple(value, arguments)
    if origin is not None and issubclass(cast(type, origin), Mapping):
        if not isinstance(value, Mapping):
            return False, value
        items = cast(Mapping[str, object], value).items()
        entries = {key: _convert(entry, arguments[1]) for key, entry in items}
        return all(fits for fits, _ in entries.values()), {k: e for k, (_, e) in entries.items()}
    return _convert_plain(value, hint)


def _convert_tuple(value: object, arguments: tuple[object, ...]) -> tuple[bool, object]:
    if not isinstance(value, tuple):
        return False, value
    entries: tuple[object, ...] = cast(Any, value)
    if len(arguments) == 2 and arguments[1] is ...:
        arguments = (arguments[0],) * len(entries)
    if len(arguments) != len(entries):
        return False, entries
    converted = [_convert(entry, part) for entry, part in zip(entries, arguments, strict=True)]
    return all(fits for fits, _ in converted), tuple(entry for _, entry in converted)


def _convert_plain(value: object, hint: object) -> tuple[bool, object]:
    if hint in (None, NoneType):
        return value is None, value
    if not isinstance(hint, type):
        return hint is Any, value
    if issubclass(hint, StrEnum) and isinstance(value, str):
        return value in set(hint), hint(value) if value in set(hint) else value
    if hint is Expression and type(value) is int:
        return True, constant(value)
    if hint is float and type(value) is int:
        return True, float(value)
    if hint in (int, float):
        return type(value) is hint, value
    return isinstance(value, hint), value


def _type_text(hint: object) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(map(_type_text, arguments))
    if origin is tuple:
        parts = " and ".join(dict.fromkeys(_type_text(p) for p in arguments if p is not ...))
        return f"a list of ({parts})"
    if origin is not None:
        return "a mapping"
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return "one of " + ", ".join(f'"{value}"' for value in hint)
    names = {str: "a string", int: "an integer", bool: "true or false", float: "a number"}
    if hint in (None, NoneType):
        return "none"
    if hint is Expression:
        return "an expression"
    name = hint.__name__ if isinstance(hint, type) else str(hint)
    return names.get(cast(type, hint), name)
