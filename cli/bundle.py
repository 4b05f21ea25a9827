"""`tilewright bundle`: every kernel of a manifest, compiled beforehand; which one a call uses."""

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..attention.beside import Task
from ..attention.deployment import CALL_FIELDS, Call, Deployment
from ..attention.manifest import TASKS, Manifest
from ..runtime.errors import ArgumentError
from ..runtime.kernel_set import key_text
from .diagnosis import diagnosed
from .report import Report, amount

NAME = "bundle"
SUMMARY = "Compile every kernel of a manifest, or say which kernel of a set a call uses."

_TASKS = {task.name: task for task in TASKS}
_NUMBERS = {field.name for field in fields(Call) if field.type in (int, "int")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Takes the manifest and the set, or the set and a call."""
    parser.add_argument("directory", metavar="DIRECTORY", help="the kernel set")
    parser.add_argument(
        "--manifest", metavar="FILE.toml", help="the kernels that are compiled into the set"
    )
    parser.add_argument(
        "--explain",
        nargs="+",
        metavar="NAME=VALUE",
        help=f"say which kernel a call uses: {', '.join(CALL_FIELDS)} such as 9.0; or, behind the "
        f"word {' or '.join(_TASKS)}, which kernels such a task uses",
    )


def execute(arguments: argparse.Namespace, report: Report) -> int:
    """Compiles the manifest, explains the call, or lists the set."""
    directory = Path(arguments.directory)
    if arguments.manifest is not None:
        _build(Path(arguments.manifest), directory, report)
    deployment = Deployment.load(directory)
    words = arguments.explain
    if words and words[0] in _TASKS:
        _explain_task(deployment, task_of(words), report)
    elif words:
        _explain(deployment, call_of(words), report)
    elif arguments.manifest is None:
        for key in (*deployment.kernels.keys, *deployment.tasks):
            report.line(key_text(key))
    report.record({"kernels": deployment.kernels.keys, "tasks": deployment.tasks})
    return 0


def _build(manifest: Path, directory: Path, report: Report) -> None:
    found = Manifest.load(manifest)
    with diagnosed({}), report.progress("compiling"):
        made = found.build(directory, lambda _: None)
    count = amount(len(made.keys), "kernel")
    report.line(f"{directory}: {count} for {', '.join(found.targets)}")


def _explain(deployment: Deployment, call: Call, report: Report) -> None:
    choice = deployment.choose(call)
    report.line(f"kernel: {key_text(choice.key)}")
    for reason in choice.reasons:
        report.line(f"  {reason}")
    report.record({"key": choice.key, "reasons": list(choice.reasons)})


def _explain_task(deployment: Deployment, task: Task, report: Report) -> None:
    names = deployment.kernels_of(task.key)
    report.line(f"{key_text(task.key)}: {amount(len(names), 'kernel')}")
    for name in names:
        report.line(f"  {name}")
    report.record({"key": task.key, "names": names})


def task_of(words: list[str]) -> Task:
    """Returns the task of words TASK NAME=VALUE..., with defaults as in a manifest."""
    kind = _TASKS[words[0]]
    given: dict[str, Any] = {}
    for word in words[1:]:
        name, equals, text = word.partition("=")
        if not equals or name not in kind.fields():
            expected = f"NAME=VALUE with a name of {', '.join(kind.fields())}"
            raise ArgumentError("--explain", expected, repr(word))
        given[name] = _integer(name, text) if name in kind.integers else text
    missing = [name for name in kind.integers if name not in given]
    if missing:
        raise ArgumentError("--explain", "every number of the task", f"no {', '.join(missing)}")
    values = {**kind.defaults, **given}
    task = kind({name: values[name] for name in kind.fields()})
    task.check()
    return task


def call_of(words: list[str]) -> Call:
    """Returns the call of words NAME=VALUE; raises ArgumentError."""
    given: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or name not in CALL_FIELDS:
            expected = f"NAME=VALUE with a name of {', '.join(CALL_FIELDS)}"
            raise ArgumentError("--explain", expected, repr(word))
        given[name] = _value(name, text)
    missing = [name for name in sorted(_NUMBERS - {"query_len"}) if name not in given]
    if missing:
        raise ArgumentError("--explain", "every number of the model", f"no {', '.join(missing)}")
    return Call(**given)


def _value(name: str, text: str) -> Any:
    if name != "capability":
        return _integer(name, text) if name in _NUMBERS else text
    try:
        major, minor = text.split(".")
        return int(major), int(minor)
    except ValueError:
        raise ArgumentError(name, "a compute capability such as 9.0", repr(text)) from None


def _integer(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ArgumentError(name, "an integer", repr(text)) from None
