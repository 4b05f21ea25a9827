"""The command `tilewright`: demo, compile, bundle, run, sim, explain, doctor."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import NoReturn

from ..runtime.errors import TilewrightError
from . import bundle, demo, doctor, explain, run, sim
from . import compile as compile_command
from .diagnosis import Refused
from .report import Report

Command = Callable[[argparse.Namespace, Report], int]

SUCCESS, REFUSED, INTERRUPTED = 0, 1, 130


class UsageError(TilewrightError):
    """The command line is wrong; the message is one line."""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, as all others of the command are."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see '{self.prog} --help'")


def _own_version() -> str:
    try:
        return version("tilewright")
    except PackageNotFoundError:
        return "(not installed)"


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="tilewright",
        description="Compiles attention to PTX, and runs it on a GPU or a CPU.",
        epilog="Exit codes: 0, 1 for what is refused or a check that fails.",
    )
    parser.add_argument("--version", action="version", version=f"tilewright {_own_version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (demo, compile_command, bundle, run, sim, explain, doctor):
        name = module.NAME
        command = commands.add_parser(
            name, help=module.SUMMARY, description=module.SUMMARY, allow_abbrev=False
        )
        module.add_arguments(command)
        command.add_argument("--json", action="store_true", help="print one JSON object")
        command.set_defaults(action=module.execute)
    return parser


def _fail(message: str) -> int:
    place = "" if ": error: " in message else "tilewright: error: "
    print(place + message, file=sys.stderr)
    return REFUSED


def _drop_output() -> None:
    """Points stdout away from a pipe that nobody reads, so that the exit writes nothing to it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Runs the command; returns the exit code.

    What a user may have caused is answered with one line on stderr and exit code 1; what a text
    in MLIR has wrong, with its place, its line and a caret.
    """
    try:
        parsed = _parser().parse_args(arguments)
        action: Command = parsed.action
        report = Report(as_json=parsed.json)
        code = action(parsed, report)
        report.finish()
    except TilewrightError as error:
        return _fail(str(error))
    except Refused:
        return REFUSED
    except BrokenPipeError:
        _drop_output()
        return REFUSED
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _fail(f"{place}{error.strerror or error}")
    except MemoryError as error:
        return _fail(f"out of memory: {error}")
    except KeyboardInterrupt:
        print("tilewright: interrupted", file=sys.stderr)
        return INTERRUPTED
    return code
