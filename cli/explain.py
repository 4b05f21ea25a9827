"""`tilewright explain`: one kernel at every level; block maps of masks; loop nests as trees."""

import argparse
import itertools
import re
import shutil
import textwrap
from collections.abc import Mapping
from typing import NamedTuple

from ..runtime.errors import ArgumentError
from . import explain_mask, explain_nest
from .diagnosis import diagnosed
from .kernel_options import add_kernel_options, spec_of, variant_of
from .report import Report, amount

NAME = "explain"
SUMMARY = "Show an attention kernel at every level, its mask's block map; draw loop nests."

LEVELS = ("attn", "tile", "thread", "ptx")
SMALLEST_WIDTH = 60


class Step(NamedTuple):
    """A step of the kernel: what it does, and the op that does it at each level below `attn`."""

    meaning: str
    tile: str
    thread: str
    ptx: str


# In the order in which a kernel takes them.
STEPS = {
    "copy": Step(
        "global to shared memory", "tile.copy_async", "nvvm.cp.async.shared.global", "cp.async.cg"
    ),
    "wait": Step(
        "until a stage is there", "tile.wait", "nvvm.cp.async.wait.group", "cp.async.wait_group"
    ),
    "load": Step("shared memory to fragments", "tile.ldmatrix", "nvvm.ldmatrix", "ldmatrix"),
    "product": Step("of tiles", "tile.mma", "nvvm.mma.sync", "mma.sync"),
    "exchange": Step("among lanes of a row", "tile.quad_reduce", "nvvm.shfl.sync", "shfl.sync"),
    "exp2": Step("of the softmax", "math.exp2", "math.exp2", "ex2.approx"),
    "store": Step(
        "of the results", "tile.store_(?:rows|fragment)", "llvm.store", "st.(?:global|shared)"
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Takes the kernel, the level, and how much is shown."""
    explain_nest.add_nest_arguments(parser)
    explain_mask.add_mask_arguments(parser)
    add_kernel_options(parser)
    parser.add_argument(
        "--level", metavar="NAME", help=f"print one level whole: {', '.join(LEVELS)}"
    )
    parser.add_argument(
        "--step",
        default="product",
        metavar="NAME",
        help=f"where the columns begin: start, {', '.join(STEPS)}; default %(default)s",
    )
    parser.add_argument(
        "--lines",
        type=int,
        default=24,
        metavar="N",
        help="lines of each column; default %(default)s",
    )
    parser.add_argument(
        "--width", type=int, metavar="N", help="characters of a line; by default the terminal's"
    )


def _check(arguments: argparse.Namespace) -> None:
    if arguments.level not in (None, *LEVELS):
        raise ArgumentError("--level", f"one of {', '.join(LEVELS)}", repr(arguments.level))
    if arguments.step not in ("start", *STEPS):
        expected = f"one of start, {', '.join(STEPS)}"
        raise ArgumentError("--step", expected, repr(arguments.step))
    if arguments.lines < 1:
        raise ArgumentError("--lines", "an integer from 1", str(arguments.lines))
    if arguments.width is not None and arguments.width < SMALLEST_WIDTH:
        expected = f"an integer from {SMALLEST_WIDTH}"
        raise ArgumentError("--width", expected, str(arguments.width))


def execute(arguments: argparse.Namespace, report: Report) -> int:
    """Compiles the kernel and prints its levels, or draws a block map, or the nests of a file."""
    explain_mask.check_mask_arguments(arguments)
    if arguments.block_map is not None:
        return explain_mask.execute(arguments, report)
    explain_nest.check_nest_arguments(arguments)
    if arguments.file is not None:
        return explain_nest.execute(arguments, report)
    _check(arguments)
    spec, variant = spec_of(arguments), variant_of(arguments)
    with report.progress("compiling"), diagnosed({}):
        from ..attention.compiler import Levels, compile_attention

        levels = Levels()
        compile_attention(spec, variant.traced, levels)
    texts = levels.texts
    if arguments.level:
        texts = {arguments.level: texts[arguments.level]}
        report.line(texts[arguments.level].rstrip())
    else:
        _print_steps(texts, report)
        report.line()
        width = arguments.width or shutil.get_terminal_size((160, 40)).columns
        begun = {level: _from_step(level, text, arguments.step) for level, text in texts.items()}
        for line in side_by_side(begun, max(width, SMALLEST_WIDTH), arguments.lines):
            report.line(line)
        report.line()
        report.line("one level whole: --level NAME; other places: --step NAME, --lines N")
    report.record(
        {
            "kernel": {**spec.kernel_numbers, "softmax_scale": spec.softmax_scale},
            "variant": arguments.variant,
            "levels": texts,
            "steps": {name: counts(step, levels.texts) for name, step in STEPS.items()},
        }
    )
    return 0


def _pattern(op: str) -> re.Pattern[str]:
    """Matches an op where it stands in a line: first, or behind its results or predicate."""
    name = op.replace(".", r"\.")
    return re.compile(rf"^\s*(?:[%\w, :]+ = |@!?%\w+ )?{name}\b", re.MULTILINE)


def counts(step: Step, texts: Mapping[str, str]) -> dict[str, int]:
    """Returns how often each level below `attn` has the op of a step."""
    ops = {"tile": step.tile, "thread": step.thread, "ptx": step.ptx}
    return {level: len(_pattern(op).findall(texts[level])) for level, op in ops.items()}


def _print_steps(texts: Mapping[str, str], report: Report) -> None:
    rows = [
        (name, *(str(count) for count in counts(step, texts).values()), step.meaning)
        for name, step in STEPS.items()
    ]
    lengths = [amount(len(texts[level].splitlines()), "line") for level in LEVELS]
    report.line("attn: " + lengths[0] + "; one op, `attn.attend`, and the variant's functions")
    report.line("ops of each step; PTX has the loops over registers unrolled:")
    report.table(("step", *LEVELS[1:], "what"), rows)


def _from_step(level: str, text: str, step: str) -> str:
    """Returns the text from the line of a step on."""
    if level == "attn" or step == "start":
        return text
    op = getattr(STEPS[step], level)
    found = _pattern(op).search(text)
    if found is None:
        return text
    return text[text.rfind("\n", 0, found.end()) + 1 :]


def side_by_side(texts: Mapping[str, str], width: int, lines: int) -> list[str]:
    """Returns the beginnings of texts as columns, each headed by its name and not indented."""
    column = (width - 3 * (len(texts) - 1)) // len(texts)
    begun = ("\n".join(text.expandtabs(2).splitlines()[:lines]) for text in texts.values())
    bodies = [textwrap.dedent(text).splitlines() for text in begun]
    rows = [list(texts), ["-" * column] * len(texts)]
    rows += [list(row) for row in itertools.zip_longest(*bodies, fillvalue="")]
    return [" | ".join(_fit(cell, column) for cell in row).rstrip() for row in rows]


def _fit(text: str, width: int) -> str:
    return (text if len(text) <= width else text[: width - 1] + "…").ljust(width)
