"""`tilewright explain FILE.mlir`: loop nests as trees, before and after a schedule."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.errors import ArgumentError
from .diagnosis import diagnosed
from .report import Report

if TYPE_CHECKING:
    from ..dialects.nest.program import Program


def add_nest_arguments(parser: argparse.ArgumentParser) -> None:
    """Takes the file, a schedule, and where a page is written."""
    nest = parser.add_argument_group("loop nests", "of an MLIR file, instead of a kernel")
    nest.add_argument("file", nargs="?", metavar="FILE.mlir", help="draw its nest.func; - is stdin")
    nest.add_argument(
        "--schedule", metavar="FILE", help="draw each function also after this schedule"
    )
    nest.add_argument("--page", metavar="FILE.html", help="write the pictures as a page, too")


def check_nest_arguments(arguments: argparse.Namespace) -> None:
    """Raises ArgumentError for options that need a file where none is given."""
    for option in ("schedule", "page"):
        if arguments.file is None and getattr(arguments, option) is not None:
            raise ArgumentError(f"--{option}", "an MLIR file to draw", "none")


def execute(arguments: argparse.Namespace, report: Report) -> int:
    """Prints the pictures; raises Refused after diagnostics."""
    # The compiler is imported only by the commands that compile.
    from ..nest.picture import draw, page
    from .source import read_source

    filename, text = read_source(arguments.file)
    sources = {filename: text}
    if arguments.schedule is not None:
        sources[arguments.schedule] = read_source(arguments.schedule)[1]
    with diagnosed(sources):
        pictures = _pictures(filename, text, arguments.schedule)
    for number, (heading, program) in enumerate(pictures):
        if number:
            report.line()
        if arguments.schedule is not None:
            report.line(f"{heading}:")
        report.line(draw(program))
    if arguments.page is not None:
        Path(arguments.page).write_text(page(pictures), encoding="utf-8")
        report.line()
        report.line(f"{arguments.page}: the same as a page")
    report.record(
        {"pictures": [{"heading": name, "tree": draw(program)} for name, program in pictures]}
    )
    return 0


def _pictures(filename: str, text: str, schedule: str | None) -> list[tuple[str, "Program"]]:
    """Returns each function with a heading, and where there is a schedule once more after it."""
    from ..dialects.diagnostic import DiagnosticError
    from ..dialects.nest import FuncOp
    from ..transforms.apply_schedule import ApplySchedulePass
    from .source import parse_source

    module = parse_source(filename, text)
    functions = [op for op in module.walk() if isinstance(op, FuncOp)]
    if not functions:
        raise DiagnosticError("expected a nest.func, got none", None, module.location)
    pictures: list[tuple[str, Program]] = []
    for function in functions:
        program = function.read()[0]
        pictures.append((f"{program.name} as it is written" if schedule else program.name, program))
        if schedule is not None:
            scheduled = ApplySchedulePass(file=schedule).transform(program)
            pictures.append((f"{program.name} after the schedule", scheduled))
    return pictures
