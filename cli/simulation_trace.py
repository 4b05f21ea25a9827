"""Prints the steps of a thread and the registers of a warp, for `tilewright sim`."""

from typing import Any

from ..runtime.errors import TilewrightError
from ..runtime.simulator.tracing import Step, Stop, Trace
from .report import Report


def trace_of(thread: str | None, line: str | None, report: Report) -> Trace | None:
    """Returns what to follow, None where nothing is asked for; raises TilewrightError."""
    if thread is None and line is None:
        return None
    numbers = (thread or "0,0").split(",")
    if len(numbers) != 2 or not all(n.isascii() and n.isdigit() for n in numbers):
        raise TilewrightError(f"--trace {thread!r}: expected BLOCK,THREAD such as 0,5")
    if line is not None and not (line.isascii() and line.isdigit()):
        raise TilewrightError(f"--break {line!r}: expected a line of the PTX text")
    lines = frozenset[int]() if line is None else frozenset({int(line)})

    def step(step: Step) -> None:
        values = " ".join(f"{name}={_shown(value)}" for name, value in step.values.items())
        off = "" if step.active else " (guard is off)"
        report.line(f"{step.line:6d}  {step.instruction:50} {values}{off}".rstrip())

    def stop(stop: Stop) -> bool:
        report.line(f"stopped before PTX line {stop.line}: {stop.instruction}")
        report.line(f"lanes {_ranges(stop.lanes)}")
        for name, values in stop.registers.items():
            report.line(f"  {name:12} {' '.join(_shown(v.item()) for v in values)}")
        return True

    follows = None if thread is None else step
    return Trace(int(numbers[0]), int(numbers[1]), follows, lines, stop)


def _shown(value: Any) -> str:
    """Returns a value of a register."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _ranges(lanes: tuple[int, ...]) -> str:
    """Returns lane numbers as ranges, such as 0-7, 9."""
    parts: list[list[int]] = []
    for lane in lanes:
        if parts and parts[-1][-1] == lane - 1:
            parts[-1][-1:] = [lane] if len(parts[-1]) > 1 else [parts[-1][0], lane]
        else:
            parts.append([lane])
    return ", ".join("-".join(map(str, part)) for part in parts)
