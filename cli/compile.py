"""`tilewright compile`: an `.mlir` file to a bundle."""

import argparse

from ..attention.spec import TARGETS
from .report import Report

NAME = "compile"
SUMMARY = "Compile the attention function of an MLIR file to a bundle of PTX and contract."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Takes the file, the bundle and the target."""
    parser.add_argument("file", help="an .mlir file with one function that attends")
    parser.add_argument("-o", "--output", required=True, help="the bundle that is written")
    parser.add_argument("--target", default="sm_80", choices=TARGETS)


def execute(arguments: argparse.Namespace, report: Report) -> int:
    """Compiles the file; returns 1 after diagnostics."""
    # The compiler is imported only by the commands that compile.
    from ..attention.compiler import lower_attention
    from ..dialects.diagnostic import DiagnosticError
    from .source import attention_of, read_source, spec_of_op

    source = read_source(arguments.file)
    if source is None:
        return 1
    try:
        spec = spec_of_op(attention_of(source.module), arguments.target)
        artifact = lower_attention(source.module, spec)
    except DiagnosticError as error:
        source.print_error(error)
        return 1
    artifact.save(arguments.output)
    lines = len(artifact.ptx.splitlines())
    report.line(f"{arguments.output}: kernel '{artifact.contract.name}', {lines} lines of PTX")
    report.record({"bundle": arguments.output, "kernel": artifact.contract.name, "lines": lines})
    return 0
