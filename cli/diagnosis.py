"""Prints the diagnostics of the compiler, and ends the command."""

import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager


class Refused(Exception):
    """A program is refused; its diagnostics are printed."""


@contextmanager
def diagnosed(sources: Mapping[str, str]) -> Generator[None]:
    """
    Prints the diagnostics of a `DiagnosticError` that the `with` block raises, then raises Refused.

    `sources` holds texts by file name, for the line that a diagnostic points at.
    """
    # The compiler is imported only by the commands that compile.
    from ..dialects.diagnostic import DiagnosticError
    from ..driver.report import reports_of

    try:
        yield
    except DiagnosticError as error:
        for report in reports_of(error):
            sys.stderr.write(report.render(sources))
        raise Refused from None
