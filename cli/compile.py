"""`tilewright compile`: an `.mlir` file to a bundle."""

import argparse
from pathlib import Path

from ..attention.spec import TARGETS
from .diagnosis import diagnosed
from .report import Report, amount, kib

NAME = "compile"
SUMMARY = "Compile the attention function of an MLIR file to a bundle of PTX and contract."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Takes the file, the bundle and the target."""
    parser.add_argument("file", metavar="FILE.mlir", help="one function that attends; - is stdin")
    parser.add_argument(
        "-o", "--output", required=True, metavar="DIRECTORY", help="the bundle that is written"
    )
    parser.add_argument(
        "--target",
        default="sm_80",
        metavar="NAME",
        help=f"{', '.join(TARGETS)}; default %(default)s",
    )


def execute(arguments: argparse.Namespace, report: Report) -> int:
    """Compiles the file; raises Refused after diagnostics."""
    # The compiler is imported only by the commands that compile.
    from ..attention.compiler import lower_attention
    from .source import attention_of, check_target, parse_source, read_source, spec_of_op

    check_target(arguments.target)
    filename, text = read_source(arguments.file)
    with diagnosed({filename: text}), report.progress("compiling"):
        module = parse_source(filename, text)
        spec = spec_of_op(attention_of(module), arguments.target)
        artifact = lower_attention(module, spec)
    artifact.save(arguments.output)
    contract = artifact.contract
    lines = len(artifact.ptx.splitlines())
    path = Path(arguments.output) / f"{contract.name}.ptx"
    report.line(
        f"{path}: {amount(lines, 'line')} for {contract.target}, "
        f"{kib(contract.dynamic_shared_bytes)} of shared memory for {contract.block[0]} threads"
    )
    report.record(
        {
            "bundle": arguments.output,
            "ptx": str(path),
            "lines": lines,
            "name": contract.name,
            "kernel": {**spec.kernel_numbers, "softmax_scale": spec.softmax_scale},
            "threads": contract.block[0],
            "shared_bytes": contract.dynamic_shared_bytes,
        }
    )
    return 0
