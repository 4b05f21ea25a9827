"""
`tilewright-opt`: parses MLIR, runs passes, prints MLIR.

The driver of xDSL with the dialects and passes of tilewright and the manners of `mlir-opt`.
"""

import argparse
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import cast

from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass
from xdsl.utils.arg_spec import parse_spec
from xdsl.utils.diagnostic import Diagnostic
from xdsl.utils.exceptions import ArgSpecParseError, DiagnosticException
from xdsl.utils.target import Target
from xdsl.xdsl_opt_main import VersionAction, xDSLOptMain

from .dialects.diagnostic import DiagnosticError, Note, collect_findings
from .dialects.parsing import parse_module
from .dialects.verification import verify_module
from .driver.expectations import find_expectations, unmet
from .driver.inspection import IRDumps, StepTimes
from .driver.pipeline_spec import PipelineSpecError, instantiate, parse_pipeline_spec
from .driver.report import reports_of
from .registry import DIALECTS, PASSES, UNIVERSE

PROGRAM = "tilewright-opt"
SUCCESS, REFUSED, INTERNAL_ERROR = 0, 1, 2

_SEPARATOR = re.compile(r"^[ \t]*// -----[ \t]*\r?$", re.MULTILINE)

# Options with one value: names, placeholder, meaning.
_VALUES = (
    ("-p --passes", "PIPELINE", "the passes, such as 'a,b{option=1 other=x,y}'"),
    ("-o --output-file", "FILE", "where to write; standard output if left out or -"),
    ("-t --target", "TARGET", "what to print: mlir, ptx, or another of xDSL's targets"),
)
# Options that may be given more than once.
_LISTS = (
    ("--print-ir-before", "print the IR before this pass to stderr"),
    ("--print-ir-after", "print the IR after this pass to stderr"),
)
_SWITCHES = (
    ("--split-input-file -split-input-file", "process the parts between lines `// -----` singly"),
    ("--verify-diagnostics -verify-diagnostics", "check `// expected-error @+1 {{...}}` comments"),
    ("--allow-unregistered-dialect", "accept ops of any dialect"),
    ("--no-implicit-module", "expect a builtin.module around all"),
    ("--skip-verify --disable-verify", "do not verify ops"),
    ("--show-dialects", "list the dialects, those of tilewright first"),
    ("--show-passes", "list the passes, those of tilewright first"),
    ("--time-passes", "print a table of the times to stderr"),
    ("--print-ir-before-all --mlir-print-ir-before-all", "print the IR before each pass to stderr"),
    ("--print-ir-after-all --mlir-print-ir-after-all", "print the IR after each pass to stderr"),
    ("--print-ir-after-change --mlir-print-ir-after-change", "after passes that change it"),
    ("--print-ir-after-failure --mlir-print-ir-after-failure", "after the pass that fails"),
    ("--traceback", "print the traceback of an internal error"),
    ("--print-op-generic --mlir-print-op-generic", "print the generic form"),
    ("--print-debuginfo --mlir-print-debuginfo", "print locations"),
    ("--syntax-highlight", "colour the output for a terminal"),
)


def _own_version() -> str:
    try:
        return version("tilewright")
    except PackageNotFoundError:
        return "(not installed)"


class InputError(Exception):
    """The input cannot be read or the output not be written; the message is one line."""


class InternalError(Exception):
    """A defect of a pass or of a target; the message is one line, the cause is chained."""


class TilewrightOptMain(xDSLOptMain):
    """
    The driver: one instance for each command line.

    Exit codes: 0, 1 for input, options or diagnostics that are refused, 2 for a defect.
    """

    version_format = f"{PROGRAM} {_own_version()} built from xdsl {{xdsl_version}}"

    # A source tree that is not installed has no entry point, hence `UNIVERSE` beside what is found.

    def register_all_dialects(self) -> None:
        super().register_all_dialects()
        for name, factory in UNIVERSE.all_dialects.items():
            if name not in self.ctx.registered_dialect_names:
                self.ctx.register_dialect(name, factory)

    def register_all_passes(self) -> None:
        super().register_all_passes()
        self.available_passes |= UNIVERSE.all_passes

    def register_all_targets(self) -> None:
        super().register_all_targets()
        self.available_targets |= UNIVERSE.all_targets

    def register_all_frontends(self) -> None:
        """Registers none: the input is always MLIR."""

    def register_all_arguments(self, arg_parser: argparse.ArgumentParser) -> None:
        arg_parser.prog = PROGRAM
        for name, metavar, description in _VALUES:
            arg_parser.add_argument(*name.split(), metavar=metavar, help=description)
        for name, description in _LISTS:
            arg_parser.add_argument(
                name, metavar="PASS", action="append", default=[], help=description
            )
        for name, description in _SWITCHES:
            arg_parser.add_argument(*name.split(), action="store_true", help=description)
        arg_parser.add_argument("input_file", nargs="?", help="MLIR text; - is standard input")
        arg_parser.add_argument(
            "-v", "--version", action=VersionAction, version_format=self.version_format
        )
        # xDSL's own switch changes a global, so ours has another name.
        arg_parser.set_defaults(
            passes="", target="mlir", disable_verify=False, print_no_properties=False
        )

    def setup_pipeline(self) -> None:
        """Parses the pipeline; raises `PipelineSpecError`."""
        own = [module_pass.name for module_pass in PASSES]
        self.passes = parse_pipeline_spec(self.args.passes, self.available_passes, own)
        target = parse_spec(self.args.target)
        factory = self.available_targets[target.name]
        if not inspect.signature(factory).parameters:
            instantiate(cast(Callable[[], type[Target]], factory)(), target, "target")
        self.times = StepTimes()
        self.sources: dict[str, str] = {}
        self.dumps = self._ir_dumps()

    def _ir_dumps(self) -> IRDumps:
        args = self.args
        for name in (*args.print_ir_before, *args.print_ir_after):
            parse_pipeline_spec(name, self.available_passes)
        every_after = args.print_ir_after_all or args.print_ir_after_change
        return IRDumps(
            before=None if args.print_ir_before_all else tuple(args.print_ir_before),
            after=None if every_after else tuple(args.print_ir_after),
            only_changes=args.print_ir_after_change,
            on_failure=args.print_ir_after_failure,
            generic=args.print_op_generic,
            debug_info=args.print_debuginfo,
        )

    def execute(self) -> int:
        """Processes the input; returns the exit code."""
        if self.args.show_dialects or self.args.show_passes:
            sys.stdout.write(self._listing())
            return SUCCESS
        filename, text = self._read_input()
        self.sources[filename] = text
        outputs: list[str] = []
        code = SUCCESS
        for chunk, first_line in _chunks(text, split=self.args.split_input_file):
            output, chunk_code = self._process(chunk, filename, first_line)
            outputs.append(output)
            code = max(code, chunk_code)
        self._write_output("// -----\n".join(outputs), code)
        if self.args.time_passes:
            sys.stderr.write(self.times.table())
        return code

    def _listing(self) -> str:
        if self.args.show_dialects:
            own = {dialect.name for dialect in DIALECTS}
            names = sorted(self.ctx.registered_dialect_names, key=lambda n: (n not in own, n))
            return "".join(f"{name}\n" for name in names)
        lines: list[str] = []
        for module_pass in PASSES:
            summary = (module_pass.__doc__ or "").strip().partition("\n")[0]
            lines.append(f"{module_pass.name:32} {summary}\n".lstrip())
        own = {module_pass.name for module_pass in PASSES}
        lines += [f"{name}\n" for name in sorted(self.available_passes) if name not in own]
        return "".join(lines)

    def _read_input(self) -> tuple[str, str]:
        name = self.args.input_file
        try:
            from_stdin = name in (None, "-")
            content = sys.stdin.buffer.read() if from_stdin else Path(name).read_bytes()
        except OSError as err:
            raise InputError(f"cannot read '{name}': {err.strerror}") from None
        filename = "<stdin>" if from_stdin else name
        try:
            return filename, content.decode("utf-8")
        except UnicodeDecodeError as err:
            line = content.count(b"\n", 0, err.start) + 1
            raise InputError(f"{filename}:{line}: expected UTF-8 text, got {err.reason}") from None

    def _write_output(self, output: str, code: int) -> None:
        if self.args.output_file in (None, "-"):
            sys.stdout.write(output)
        elif code == SUCCESS:
            try:
                Path(self.args.output_file).write_text(output, "utf-8")
            except OSError as err:
                name = self.args.output_file
                raise InputError(f"cannot write '{name}': {err.strerror}") from None

    def _process(self, chunk: str, filename: str, first_line: int) -> tuple[str, int]:
        output, code = "", SUCCESS
        with collect_findings() as findings:
            try:
                output = self._transform(chunk, filename)
                error = None
            except DiagnosticError as err:
                error, code = err, REFUSED
            except InternalError as err:
                self._print_internal_error(err)
                error, code = None, INTERNAL_ERROR
        diagnostics = [*findings, *([error] if error else [])]
        reports = [report for diagnostic in diagnostics for report in reports_of(diagnostic)]
        if self.args.verify_diagnostics:
            expectations, malformed = find_expectations(chunk, filename, first_line)
            reports = malformed + unmet(expectations, reports, filename)
            code = max(INTERNAL_ERROR if code == INTERNAL_ERROR else SUCCESS, min(1, len(reports)))
        for report in reports:
            sys.stderr.write(report.render(self.sources))
        return output, code

    def _print_internal_error(self, err: InternalError) -> None:
        if self.args.traceback:
            traceback.print_exception(err.__cause__, file=sys.stderr)
        hint = "" if self.args.traceback else " (use --traceback)"
        sys.stderr.write(f"{PROGRAM}: {err}{hint}\n")

    def _transform(self, chunk: str, filename: str) -> str:
        args = self.args
        with self.times.step("(parse)"):
            module = parse_module(
                chunk, filename, self.ctx, implicit_module=not args.no_implicit_module, verify=False
            )
        self._verify(module)
        for module_pass in self.passes:
            self._run_pass(module_pass, module)
        with self.times.step("(print)"):
            try:
                return self.output_resulting_program(module)
            except DiagnosticError:
                raise
            except DiagnosticException as err:
                raise DiagnosticError(
                    f"target '{args.target}': {err}", None, module.location
                ) from None
            except Exception as err:
                raise InternalError(f"internal error in target {args.target}: {_of(err)}") from err

    def _verify(self, module: ModuleOp) -> None:
        if not self.args.skip_verify:
            with self.times.step("(verify)"):
                verify_module(module)

    def _run_pass(self, module_pass: ModulePass, module: ModuleOp) -> None:
        name = module_pass.name
        self.dumps.run_before(name, module)
        try:
            with self.times.step(name):
                _apply(self, module_pass, module)
            try:
                self._verify(module)
            except DiagnosticError as err:
                err.notes += (Note(f"the IR does not verify after pass '{name}'"),)
                raise
        except (DiagnosticError, InternalError):
            self.dumps.run_failed(name, module)
            raise
        self.dumps.run_after(name, module)


def _apply(tool: TilewrightOptMain, module_pass: ModulePass, module: ModuleOp) -> None:
    try:
        module_pass.apply(tool.ctx, module)
    except DiagnosticError:
        raise
    except DiagnosticException as err:
        message = f"pass '{module_pass.name}' failed: {' '.join(str(err).split())}"
        raise DiagnosticError(message, None, module.location) from None
    except Exception as err:
        raise InternalError(f"internal error in pass {module_pass.name}: {_of(err)}") from err


def _of(err: Exception) -> str:
    lines = str(err).strip().splitlines()
    return f"{type(err).__name__}: {lines[0]}" if lines else type(err).__name__


def _chunks(text: str, *, split: bool) -> Iterator[tuple[str, int]]:
    """Yields chunks and their first lines; blank lines before a chunk keep its line numbers."""
    if not split:
        yield text, 1
        return
    start, line = 0, 1
    for separator in [*_SEPARATOR.finditer(text), None]:
        end = separator.start() if separator else len(text)
        yield "\n" * (line - 1) + text[start:end], line
        line += text.count("\n", start, end)
        start = separator.end() if separator else end


def main(
    args: Sequence[str] | None = None, tool: type[TilewrightOptMain] = TilewrightOptMain
) -> int:
    """Runs the tool on a command line, by default that of the process; returns the exit code."""
    colored = Diagnostic.colored
    try:
        code = tool("Runs passes over MLIR.", args).execute()
        sys.stdout.flush()
        return code
    except (PipelineSpecError, InputError) as err:
        sys.stderr.write(f"{PROGRAM}: error: {err}\n")
        return REFUSED
    except ArgSpecParseError as err:
        reason = str(err).strip().splitlines()[-1].strip()
        sys.stderr.write(f"{PROGRAM}: error: argument --target: {reason}\n")
        return REFUSED
    except SystemExit as err:
        # argparse ends with 2, which is for defects here.
        return REFUSED if err.code else SUCCESS
    except BrokenPipeError:
        # Whoever reads the output has seen enough; nothing is left to say at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return REFUSED
    finally:
        Diagnostic.colored = colored
