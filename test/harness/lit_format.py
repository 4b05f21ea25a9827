"""A lit test format that runs RUN lines in the process of lit, without a process a command."""

import os
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import filecheck.main
from lit import Test
from lit.formats import ShTest
from lit.LitConfig import LitConfig
from lit.ShUtil import ShParser
from lit.TestRunner import (
    applySubstitutions,
    getDefaultSubstitutions,
    getTempPaths,
    kPdbgRegex,
    parseIntegratedTestScript,
)

from tilewright import opt

from .shell import InProcessShell, Outcome, Tool, UnsupportedShell


def _filecheck(args: list[str]) -> int | None:
    return filecheck.main.main(["filecheck", *args])


def _tilewright(args: list[str]) -> int:
    # Only tests of the command pay for loading it.
    from tilewright import cli

    return cli.main(args)


def _cat(args: list[str]) -> None:
    for name in args:
        print(Path(name).read_text(), end="")


TOOLS: Mapping[str, Tool] = {
    "cat": _cat,
    "echo": lambda args: print(*args),
    "filecheck": _filecheck,
    "tilewright": _tilewright,
    "tilewright-opt": opt.main,
}


@contextmanager
def _environment(variables: Mapping[str, str]) -> Generator[None]:
    saved = dict(os.environ)
    os.environ.clear()
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(saved)


class InProcessTest(ShTest):
    """
    Runs the same files as lit's `ShTest`, about a hundred times faster.

    Lit parses the test and its command lines; the commands are function calls. What this cannot
    run is reported as UNRESOLVED, never skipped.
    """

    def __init__(self, tools: Mapping[str, Tool] = TOOLS):
        super().__init__(execute_external=False)
        self._tools = tools

    # A test is pickled on its way to a worker; functions defined in a lit.cfg cannot be.
    def __reduce__(self) -> tuple[type["InProcessTest"], tuple[()]]:
        return InProcessTest, ()

    def execute(self, test: Test.Test, litConfig: LitConfig) -> Test.Result:
        if test.config.unsupported:
            return Test.Result(Test.UNSUPPORTED, "the folder is not supported here")
        script = parseIntegratedTestScript(test)
        if isinstance(script, Test.Result):
            return script
        if litConfig.noExecute:
            return Test.Result(Test.PASS)
        folder, base = getTempPaths(test)
        Path(folder).mkdir(parents=True, exist_ok=True)
        lines = applySubstitutions(
            script,
            getDefaultSubstitutions(test, folder, base),
            dict.fromkeys(test.config.available_features, True),
            test.config.recursiveExpansionLimit,
        )
        shell = InProcessShell(self._tools, Path(test.getExecPath()).parent)
        with _environment(test.config.environment):
            return _run_lines(lines, shell, pipefail=test.config.pipefail)


def _run_lines(lines: list[str], shell: InProcessShell, *, pipefail: bool) -> Test.Result:
    log: list[str] = []
    for line in lines:
        match = re.fullmatch(kPdbgRegex, line)
        command = (match[2] if match else line).strip()
        log.append(f"$ {command}")
        try:
            outcome = shell.run(ShParser(command, False, pipefail).parse())
        except (UnsupportedShell, ValueError) as err:
            return Test.Result(Test.UNRESOLVED, "\n".join([*log, f"# {err}", ""]))
        log += _shown(outcome)
        if outcome.code:
            return Test.Result(Test.FAIL, "\n".join([*log, f"# exit code {outcome.code}", ""]))
    return Test.Result(Test.PASS, "\n".join([*log, ""]))


def _shown(outcome: Outcome) -> list[str]:
    return [text.rstrip() for text in (outcome.stdout, outcome.stderr) if text.strip()]
