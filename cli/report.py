"""What a command says: lines and tables for people, one JSON object for machines."""

import json
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def amount(count: int, noun: str) -> str:
    """Returns a number with its noun, such as `1 request` or `8 requests`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def kib(count: int) -> str:
    """Returns a number of bytes in KiB, with a decimal only where one is needed."""
    return f"{count / 1024:.1f}".removesuffix(".0") + " KiB"


class Report:
    """
    Collects a command's results; prints them as they come, or all as JSON at the end.

    Progress goes to stderr, with rich's spinner where rich is installed and a person looks.
    """

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.results: dict[str, Any] = {}

    def line(self, text: str = "") -> None:
        """Prints a line for people."""
        if not self.as_json:
            print(text, flush=True)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Prints a table for people: columns of numbers to the right, others to the left."""
        widths = [max(len(row[i]) for row in (columns, *rows)) for i in range(len(columns))]
        numeric = [all(_is_number(row[i]) for row in rows) for i in range(len(columns))]
        for row in (columns, *rows):
            cells = [
                cell.rjust(width) if right else cell.ljust(width)
                for cell, width, right in zip(row, widths, numeric, strict=True)
            ]
            self.line("  " + "   ".join(cells).rstrip())

    def record(self, results: Mapping[str, Any]) -> None:
        """Adds results to the JSON object."""
        self.results.update(results)

    @contextmanager
    def progress(self, text: str) -> Generator[None]:
        """Shows that something is being done, for as long as the `with` block runs."""
        if self.as_json or not sys.stderr.isatty() or find_spec("rich") is None:
            yield
            return
        from rich.console import Console

        with Console(stderr=True).status(text):
            yield

    def finish(self) -> None:
        """Prints the JSON object, where it is wanted."""
        if self.as_json:
            print(json.dumps(self.results, indent=2), flush=True)
