"""The command `tilewright`: demo, compile, run, sim, explain, doctor."""

import argparse
import sys
from collections.abc import Callable, Sequence

from ..runtime.errors import TilewrightError
from . import compile as compile_command
from . import demo, doctor, explain, run, sim
from .report import Report

Command = Callable[[argparse.Namespace, Report], int]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tilewright", description="Compiles attention to PTX, and runs it on a GPU or a CPU."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for module in (demo, compile_command, run, sim, explain, doctor):
        name = module.NAME
        command = commands.add_parser(name, help=module.SUMMARY, description=module.SUMMARY)
        module.add_arguments(command)
        command.add_argument("--json", action="store_true", help="print one JSON object")
        command.set_defaults(action=module.execute)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Runs the command; returns the exit code.

    What a user may have caused is answered with one line on stderr and exit code 1.
    """
    parsed = _parser().parse_args(arguments)
    action: Command = parsed.action
    report = Report(as_json=parsed.json)
    try:
        code = action(parsed, report)
    except TilewrightError as error:
        message = str(error)
        print(
            message if ": error: " in message else f"tilewright: error: {message}", file=sys.stderr
        )
        return 1
    except BrokenPipeError:
        return 1
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"tilewright: error: {place}{error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("tilewright: interrupted", file=sys.stderr)
        return 130
    report.finish()
    return code
