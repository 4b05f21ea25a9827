"""`tilewright explain --block-map`: which KV tiles each query tile needs, and why."""

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.errors import ArgumentError
from .diagnosis import diagnosed
from .kernel_options import variant_of
from .report import Report

if TYPE_CHECKING:
    from ..runtime.block_mask import BlockMask, MaskProgram

_MOST_CELLS = 48


def add_mask_arguments(parser: argparse.ArgumentParser) -> None:
    """Takes the lengths, the sizes of a tile, and the tile to be explained."""
    group = parser.add_argument_group(
        "block map", "the tiles that a variant's mask needs, or an attn.variant of FILE.mlir"
    )
    group.add_argument(
        "--block-map", metavar="N|QxN", help="draw it for N tokens, or Q queries at the end of N"
    )
    group.add_argument(
        "--tile", metavar="ROW,COLUMN", help="say why this tile is empty, partial or full"
    )
    group.add_argument(
        "--block",
        default="128x128",
        metavar="QxKV",
        help="queries and keys of a tile; default %(default)s",
    )
    group.add_argument(
        "--head", type=int, default=0, metavar="N", help="the query head; default %(default)s"
    )


def check_mask_arguments(arguments: argparse.Namespace) -> None:
    """Raises ArgumentError for options that need a block map where none is asked for."""
    if arguments.block_map is None and arguments.tile is not None:
        raise ArgumentError("--tile", "a --block-map", "none")


def execute(arguments: argparse.Namespace, report: Report) -> int:
    """Prints the map, and why a tile is what it is; raises Refused after diagnostics."""
    # NumPy and what plans are made of are imported only by the commands that plan.
    from ..attention.block_mask import block_mask
    from ..attention.block_picture import draw, page, summary

    kv_len, q_len = _pair("--block-map", arguments.block_map, "x", (1, 1), single=True)
    kv_block, q_block = _pair("--block", arguments.block, "x", (1, 1))
    if not 0 <= arguments.head < arguments.heads:
        expected = f"a head from 0 to {arguments.heads - 1}"
        raise ArgumentError("--head", expected, str(arguments.head))
    program, title = _program(arguments)
    tells_heads_apart = any(instruction.op == "h" for instruction in program.instructions)
    heads, head = (arguments.heads, arguments.head) if tells_heads_apart else (1, 0)
    mask = block_mask(program, q_len, kv_len, (q_block, kv_block), batch=1, heads=heads)
    report.line(f"{title}: {program.text()}")
    report.line(draw(mask, head, _MOST_CELLS))
    report.line(summary(mask, head))
    results: dict[str, object] = {
        "mask": program.text(),
        "full": _of_head(mask, head, "full"),
        "partial": _of_head(mask, head, "partial"),
        "undecided": mask.undecided,
    }
    if arguments.tile is not None:
        column, row = _pair("--tile", arguments.tile, ",", (0, 0))
        results["tile"] = _explain_tile(mask, row, column, head, report)
    if arguments.page is not None:
        Path(arguments.page).write_text(page(mask, title, head), encoding="utf-8")
        report.line(f"{arguments.page}: the same as a page")
    report.record({"block_map": results})
    return 0


def _pair(
    option: str, text: str, separator: str, least: tuple[int, int], *, single: bool = False
) -> tuple[int, int]:
    """Returns the second and the first number; one alone stands for both where it may."""
    form = f"two integers from {least[0]}, as 4{separator}5" + (", or one" if single else "")
    match = re.fullmatch(rf"(\d{{1,9}})(?:{separator}(\d{{1,9}}))?", str(text))
    if match is None or (match[2] is None and not single):
        raise ArgumentError(option, form, repr(text))
    first, second = int(match[1]), int(match[2] or match[1])
    if first < least[0] or second < least[1]:
        raise ArgumentError(option, form, repr(text))
    return second, first


def _program(arguments: argparse.Namespace) -> "tuple[MaskProgram, str]":
    """Returns the mask of the variant that is named, or of that in the file, and its name."""
    from ..attention.mask_program import mask_program

    if arguments.file is None:
        return mask_program(variant_of(arguments).traced.mask), str(arguments.variant)
    from ..dialects.attn import VariantOp
    from ..dialects.diagnostic import DiagnosticError, error_at
    from ..runtime.block_mask import MaskProgram
    from ..transforms.mask_program import mask_instructions
    from .source import parse_source, read_source

    filename, text = read_source(arguments.file)
    with diagnosed({filename: text}):
        module = parse_source(filename, text)
        found = [op for op in module.walk() if isinstance(op, VariantOp)]
        if not found:
            raise DiagnosticError("expected an attn.variant, got none", None, module.location)
        if len(found) > 1:
            raise error_at(found[1], f"expects to be the only one in a file, got {len(found)}")
        program = MaskProgram.from_json(mask_instructions(found[0].mask))
    return program, f"@{found[0].sym_name.data}"


def _of_head(mask: "BlockMask", head: int, kind: str) -> list[list[list[int]]]:
    """Returns for each row of query tiles its runs `[first tile, tile behind the last]`."""
    runs = mask.full if kind == "full" else mask.partial
    rows = mask.rows_of(head)
    ends = runs.indptr[rows.start : rows.stop + 1].tolist()
    pairs = list(zip(runs.start.tolist(), runs.stop.tolist(), strict=True))
    return [
        [list(pair) for pair in pairs[first:last]]
        for first, last in zip(ends[:-1], ends[1:], strict=True)
    ]


def _explain_tile(
    mask: "BlockMask", row: int, column: int, head: int, report: Report
) -> dict[str, object]:
    from ..runtime.block_mask import FULL, PARTIAL

    reasons = mask.why(row, column, head)
    kinds = {
        PARTIAL: column in mask.partial.row(mask.rows_of(head)[row]),
        FULL: column in mask.full.row(mask.rows_of(head)[row]),
    }
    kind = "full" if kinds[FULL] else "partial" if kinds[PARTIAL] else "empty"
    report.line(f"tile {row},{column} is {kind}")
    if kind != "partial":
        return {"kind": kind}
    for reason in reasons:
        report.line(f"  split by  {reason}")
    witness = mask.witness(row, column, head)
    for name, position in (("kept", witness.kept), ("masked", witness.masked)):
        place = "not decided" if position is None else f"q_idx {position[0]}, kv_idx {position[1]}"
        report.line(f"  {name:8}  {place}")
    return {"kind": kind, "why": reasons, "kept": witness.kept, "masked": witness.masked}
