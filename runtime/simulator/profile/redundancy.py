"""
Finds barriers, waits and fences that a launch does not need.

Each is left out in turn, the last one first, together with those already known not to be needed.
It is needed where a check finds something then, or where any byte of global memory differs after
the launch. That holds for this launch alone: other arguments may need what this one doesn't.
"""

import re
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from ..compiler.codegen import compile_function
from ..compiler.program import Program
from ..errors import LaunchError, SimulationError
from ..isa import FORMS
from ..isa.memory import emit_nothing
from ..launch import Report
from ..memory import DeviceMemory
from ..ptx.syntax import Function, Instruction
from ..scalars import Array

_SYNCHRONISES = re.compile(
    r"(?:bar|barrier)(?:\.cta)?\.(?:warp\.)?sync\b|cp\.async\.(?:bulk\.)?wait_(?:group|all)\b"
    r"|wgmma\.(?:wait_group|fence)\b|fence\b|membar\b"
)
_PATIENCE = 4  # times the instructions of the launch as it is, before it counts as endless


@dataclass(frozen=True)
class Synchronisation:
    """A barrier, wait or fence of a text: its line from 1, `file:line:column` or "", its text."""

    line: int
    source: str
    instruction: str

    def __str__(self) -> str:
        """Returns one line for a report."""
        at = f" from {self.source}" if self.source else ""
        return f"not needed for this launch: PTX line {self.line}{at}: {self.instruction}"


Run = Callable[[Program, int | None], Report]


def redundant(program: Program, memory: DeviceMemory, run: Run) -> tuple[Synchronisation, ...]:
    """
    Returns what a launch doesn't need, in text order; memory holds afterwards what it held before.

    `run` launches a program with all checks and a limit of instructions issued. What the
    simulator takes as nothing, such as a fence, is not judged. Raises SimulationError for a fault
    of the launch as it is, LaunchError for what else is found in it or where it doesn't end.
    """
    function, module = program.function, program.module
    with _kept(memory):
        report = run(program, None)
        after = _contents(memory)
    if report.findings:
        raise LaunchError(f"the launch has findings as it is; the first is {report.findings[0]}")
    if not report.complete:
        raise LaunchError("the launch does not end within its max_steps")
    limit = _PATIENCE * report.profile.steps + 1000
    dropped: set[Instruction] = set()
    for instruction in reversed(list(candidates(function))):
        shorter = compile_function(module, without(function, dropped | {instruction}))
        with _kept(memory):
            if _is_clean(shorter, run, limit) and _same(after, _contents(memory)):
                dropped.add(instruction)
    return tuple(
        Synchronisation(item.line, module.source_of(item), module.text_of(item))
        for item in sorted(dropped, key=lambda item: item.span)
    )


def candidates(function: Function) -> Iterator[Instruction]:
    """Yields the barriers, waits and fences that the simulator gives a meaning."""
    for item in function.body or ():
        if isinstance(item, Instruction) and _SYNCHRONISES.match(item.opcode):
            found = FORMS.find(item.opcode)
            if found is not None and found[0] is not emit_nothing:
                yield item


def without(function: Function, dropped: set[Instruction]) -> Function:
    """Returns a function that lacks some instructions."""
    return replace(function, body=[item for item in function.body or () if item not in dropped])


def _is_clean(program: Program, run: Run, limit: int) -> bool:
    """Says whether a launch ends and nothing is found."""
    try:
        report = run(program, limit)
    except SimulationError:
        return False
    return report.complete and not report.findings


def _contents(memory: DeviceMemory) -> list[Array]:
    """Returns copies of all buffers and variables that a kernel may write."""
    return [allocation.storage.copy() for allocation in memory.writable()]


def _same(first: list[Array], second: list[Array]) -> bool:
    """Says whether two states of memory are equal bit by bit."""
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@contextmanager
def _kept(memory: DeviceMemory) -> Generator[None]:
    """Gives memory back what it held, and which of it was written, after the `with` block."""
    held = [(a, a.storage.copy(), a.written) for a in memory.writable()]
    for allocation, _, marks in held:
        allocation.written = None if marks is None else marks.copy()
    try:
        yield
    finally:
        for allocation, storage, marks in held:
            allocation.storage[:] = storage
            allocation.written = marks
