"""`tilewright explain`: one kernel at every level."""

import argparse
import itertools
import shutil
from collections.abc import Mapping

from .kernel_options import add_kernel_options, spec_of, variant_of
from .report import Report

NAME = "explain"
SUMMARY = "Show one attention kernel at every level, from its op to PTX."

LEVELS = ("attn", "tile", "thread", "ptx")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Takes the kernel, the level, and how much is shown."""
    add_kernel_options(parser)
    parser.add_argument("--level", choices=LEVELS, help="print this level whole")
    parser.add_argument("--lines", type=int, default=40, help="lines that are shown side by side")
    parser.add_argument("--width", type=int, help="columns; by default those of the terminal")


def execute(arguments: argparse.Namespace, report: Report) -> int:
    """Compiles the kernel and prints its levels."""
    from ..attention.compiler import Levels, compile_attention

    levels = Levels()
    with report.progress("compiling"):
        compile_attention(spec_of(arguments), variant_of(arguments).traced, levels)
    report.record({"levels": levels.texts, "seconds": levels.seconds})
    if arguments.level:
        report.line(levels.texts[arguments.level].rstrip())
        return 0
    width = arguments.width or shutil.get_terminal_size((160, 40)).columns
    for line in side_by_side(levels.texts, max(width, 40), max(arguments.lines, 1)):
        report.line(line)
    report.line()
    report.line(f"whole levels: tilewright explain --level {'|'.join(LEVELS)}")
    return 0


def side_by_side(texts: Mapping[str, str], width: int, lines: int) -> list[str]:
    """Returns the beginnings of texts as columns, each headed by its name."""
    column = (width - 3 * (len(texts) - 1)) // len(texts)
    headings = [f"{name} ({len(text.splitlines())} lines)" for name, text in texts.items()]
    bodies = [text.splitlines()[:lines] for text in texts.values()]
    rows = [headings, ["-" * column] * len(texts)]
    rows += [list(row) for row in itertools.zip_longest(*bodies, fillvalue="")]
    return [" | ".join(_fit(cell, column) for cell in row).rstrip() for row in rows]


def _fit(text: str, width: int) -> str:
    return (text if len(text) <= width else text[: width - 1] + "…").ljust(width)
