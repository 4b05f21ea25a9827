"""Runs the pipelines of lit tests in this process: each command is a call of a Python function."""

import io
import linecache
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lit.ShCommands import Command, GlobItem, Pipeline, Seq
from xdsl.ir import Attribute
from xdsl.utils.diagnostic import Diagnostic

Tool = Callable[[list[str]], int | None]
Redirect = tuple[tuple[str] | tuple[str, int], str]


class UnsupportedShell(Exception):
    """A command line uses a tool or a feature of shells that is not available in process."""


class _Sink(io.RawIOBase):
    """Collects bytes, as the write end of a pipe does."""

    def __init__(self) -> None:
        self.content = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: object, /) -> int:
        view = memoryview(data)  # pyright: ignore[reportArgumentType]
        self.content += view
        return view.nbytes


@dataclass
class Outcome:
    """The exit code of a pipeline, and what of its output was not redirected."""

    code: int
    stdout: str
    stderr: str


@contextmanager
def _isolated(stdin: bytes, stdout: _Sink, stderr: _Sink) -> Generator[None]:
    """Gives the calls inside streams of their own, and undoes what they change globally."""
    saved = sys.stdin, sys.stdout, sys.stderr, sys.argv
    environment, folder = dict(os.environ), os.getcwd()
    post_init, colored = Attribute.__post_init__, Diagnostic.colored
    # Buffered as the streams of a process are, so that `2>&1` mixes them in the same order.
    out = io.TextIOWrapper(io.BufferedWriter(stdout), "utf-8")
    err = io.TextIOWrapper(io.BufferedWriter(stderr), "utf-8", line_buffering=True)
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin), "utf-8")
    sys.stdout, sys.stderr = out, err
    try:
        with warnings.catch_warnings():
            yield
    finally:
        err.flush()
        out.flush()
        sys.stdin, sys.stdout, sys.stderr, sys.argv = saved
        Attribute.__post_init__, Diagnostic.colored = post_init, colored
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        linecache.checkcache()


def _call(tool: Tool, args: list[str]) -> int:
    """Calls a tool as a process would: with an exit code and, if it fails, a traceback."""
    try:
        return tool(args) or 0
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        sys.stderr.write(f"{end.code}\n")
        return 1
    except Exception:
        traceback.print_exc()
        return 1


class InProcessShell:
    """
    Runs parsed command lines with the tools it is given, in a folder.

    Knows pipes, `&&`, `not`, and the redirections `<`, `>`, `>>`, `2>`, `2>&1`, `&>`; raises
    `UnsupportedShell` for all else.
    """

    def __init__(self, tools: Mapping[str, Tool], folder: Path):
        self._tools = tools
        self._folder = folder

    def run(self, line: Pipeline | Seq) -> Outcome:
        """Runs a command line."""
        if isinstance(line, Pipeline):
            return self._run_pipeline(line)
        if line.op != "&&":
            raise UnsupportedShell(f"operator '{line.op}' is not available in process")
        first = self.run(line.lhs)
        if first.code:
            return first
        second = self._run_pipeline(line.rhs)
        stdout, stderr = first.stdout + second.stdout, first.stderr + second.stderr
        return Outcome(second.code, stdout, stderr)

    def _run_pipeline(self, pipeline: Pipeline) -> Outcome:
        piped, code, stderr = b"", 0, ""
        for command in pipeline.commands:
            out, err = _Sink(), _Sink()
            own_code = self._run_command(command, piped, out, err)
            piped = bytes(out.content)
            stderr += err.content.decode("utf-8", "replace")
            code = own_code or (code if pipeline.pipe_err else 0)
        return Outcome(code, piped.decode("utf-8", "replace"), stderr)

    def _run_command(self, command: Command, stdin: bytes, out: _Sink, err: _Sink) -> int:
        args = [_plain(arg) for arg in command.args]
        negations = 0
        while args and args[0] == "not":
            negations += 1
            del args[0]
        tool = self._tools.get(args[0]) if args else None
        if tool is None:
            what = args[0] if args else "not"
            known = ", ".join(sorted(self._tools))
            raise UnsupportedShell(f"no tool '{what}' is available in process; there are {known}")
        files: list[tuple[_Sink, Path, str]] = []
        for redirect in command.redirects:
            stdin, out, err = self._redirect(redirect, stdin, out, err, files)
        with _isolated(stdin, out, err):
            os.chdir(self._folder)
            code = _call(tool, args[1:])
        for sink, path, mode in files:
            with path.open(mode) as file:
                file.write(sink.content)
        return code if negations % 2 == 0 else int(not code)

    def _redirect(
        self,
        redirect: Redirect,
        stdin: bytes,
        out: _Sink,
        err: _Sink,
        files: list[tuple[_Sink, Path, str]],
    ) -> tuple[bytes, _Sink, _Sink]:
        operator, target = redirect
        if operator == ("<",):
            return (self._folder / target).read_bytes(), out, err
        if operator == (">&", 2) and target == "1":
            return stdin, out, out
        mode = "ab" if operator[0] == ">>" else "wb"
        sink = _Sink()
        files.append((sink, self._folder / target, mode))
        match operator:
            case (">",) | (">>",):
                return stdin, sink, err
            case (">", 2) | (">>", 2):
                return stdin, out, sink
            case ("&>",):
                return stdin, sink, sink
            case _:
                raise UnsupportedShell(f"redirection {operator} is not available in process")


def _plain(arg: str | GlobItem) -> str:
    if isinstance(arg, GlobItem):
        raise UnsupportedShell(f"the pattern {arg!r} is not available in process")
    return arg
