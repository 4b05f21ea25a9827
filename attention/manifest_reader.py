"""Reads the tables of a manifest in TOML; every error is one line with the file and the place."""

import itertools
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from ..runtime.contract import JsonScalar
from ..runtime.errors import TilewrightError

_SYNTAX = re.compile(r"(.*?) ?\(at (?:line (\d+), column (\d+)|end of document)\)")
_HEADER = re.compile(r"\s*\[\[\s*(\w+)\s*\]\]")


class ManifestError(TilewrightError):
    """A manifest is malformed; the message is one line with the file and the place."""


@dataclass(frozen=True)
class Place:
    """A table of an array of tables, such as `kernels[1]`."""

    array: str
    index: int

    def __str__(self) -> str:
        return f"{self.array}[{self.index}]"


class Reader:
    """The text of a manifest, and where its tables and fields stand; raises ManifestError."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self._lines = text.splitlines()
        try:
            self.tables = cast("dict[str, object]", tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            found = _SYNTAX.fullmatch(str(error))
            last = max(text.count("\n"), 1)
            line, column = (found[2], found[3]) if found and found[2] else (last, 1)
            message = found[1] if found else str(error)
            raise ManifestError(f"{path}:{line}:{column}: error: {message}") from None
        headers = ((n, _HEADER.match(line)) for n, line in enumerate(self._lines))
        self._headers = [(number, match[1]) for number, match in headers if match]

    def error(self, place: Place | None, name: str | None, message: str) -> ManifestError:
        """Returns an error with the line of a field, of a table, or of the file."""
        field = ".".join(str(part) for part in (place, name) if part)
        text = f"{field}: {message}" if field else message
        return ManifestError(f"{self.path}:{self.line(place, name)}: error: {text}")

    def line(self, place: Place | None, name: str | None) -> int:
        """Returns the line, counted from 1, of a field; of its table where it is not found."""
        starts = [number for number, _ in self._headers] + [len(self._lines)]
        first, last = 0, starts[0]
        if place is not None:
            own = [n for n, (_, array) in enumerate(self._headers) if array == place.array]
            if place.index < len(own):
                first, last = starts[own[place.index]], starts[own[place.index] + 1]
        pattern = re.compile(rf"\s*[\"']?{re.escape(name or '')}[\"']?\s*[=.]")
        for number in range(first, last):
            if name and pattern.match(self._lines[number]):
                return number + 1
        return first + 1

    def arrays(self, array: str) -> Iterator[tuple[Place, dict[str, object]]]:
        """Yields the tables `[[array]]`."""
        tables = self.tables.get(array, [])
        if not isinstance(tables, list):
            raise self.error(None, array, f"expected [[{array}]] tables")
        for index, table in enumerate(cast("list[object]", tables)):
            place = Place(array, index)
            if not isinstance(table, dict):
                raise self.error(place, None, f"expected a table, got {table!r}")
            yield place, cast("dict[str, object]", table)

    def texts(self, name: str, default: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
        """Returns a list of texts at the top of the manifest, all of which must be known."""
        value = self.tables.get(name, list(default))
        found = cast("list[object]", value) if isinstance(value, list) else [value]
        for text in found:
            if text not in known:
                raise self.error(None, name, f"expected one of {', '.join(known)}, got {text!r}")
        return tuple(dict.fromkeys(str(text) for text in found))

    def products(
        self,
        place: Place,
        table: Mapping[str, object],
        fields: Sequence[str],
        numbers: Sequence[str],
        defaults: Mapping[str, object],
    ) -> Iterator[dict[str, JsonScalar]]:
        """Yields the product of the lists of a table; those of `numbers` hold integers."""
        for name in table:
            if name not in fields:
                raise self.error(place, name, f"expected one of {', '.join(fields)}")
        choices: list[list[JsonScalar]] = []
        for name in fields:
            if name not in table and name not in defaults:
                raise self.error(place, name, "expected a value, got nothing")
            value = table[name] if name in table else defaults[name]
            choices.append(self._values(place, name, value, int if name in numbers else str))
        for values in itertools.product(*choices):
            yield dict(zip(fields, values, strict=True))

    def _values(
        self, place: Place, name: str, value: object, kind: type[int] | type[str]
    ) -> list[JsonScalar]:
        values = cast("list[object]", value) if isinstance(value, list) else [value]
        for one in values:
            if not isinstance(one, kind) or isinstance(one, bool):
                expected = "an integer" if kind is int else "a text"
                raise self.error(place, name, f"expected {expected}, got {one!r}")
        if not values:
            raise self.error(place, name, "expected a value, got an empty list")
        return cast("list[JsonScalar]", list(dict.fromkeys(values)))
