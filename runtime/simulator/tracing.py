"""Follows one thread instruction by instruction, and stops a warp at lines of the text."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .placement import WARP
from .ptx.syntax import Module, Register
from .scalars import Array, Lanes
from .scheduler import StepLimit


@dataclass(frozen=True)
class Step:
    """
    One instruction that the traced thread came to.

    `active` is False where its guard is off. `values` holds the registers that the instruction
    names, by name, as they are after it.
    """

    line: int
    source: str
    instruction: str
    active: bool
    values: dict[str, Any]


@dataclass(frozen=True)
class Stop:
    """
    A line that is about to run, and what the traced warp's registers hold.

    `lanes` are the lanes, 0 to 31, that came here together. `registers` holds those that the
    warp has used so far: 32 values each, zeros for lanes that haven't.
    """

    line: int
    source: str
    instruction: str
    lanes: tuple[int, ...]
    registers: dict[str, Array]


@dataclass(frozen=True)
class Trace:
    """
    What to follow: a thread of a block, both counted from 0 in order.

    `step` is called after each instruction of the thread. `stop` is called before each of
    `lines` that a lane of its warp comes to; where it returns True the launch ends there, with
    `complete=False` in its report.
    """

    block: int = 0
    thread: int = 0
    step: Callable[[Step], None] | None = None
    lines: frozenset[int] = field(default_factory=frozenset[int])
    stop: Callable[[Stop], bool] | None = None


class Tracer:
    """The observer behind a Trace."""

    wants_values = True

    def __init__(self, module: Module, trace: Trace) -> None:
        self._module = module
        self._trace = trace
        self._held: dict[str, Array] = {}

    def before(self, group: Any, site: Any, guard: Lanes, addresses: tuple[Lanes, ...]) -> None:
        """Stops at the lines asked for."""
        trace, instruction = self._trace, site.instruction
        if trace.stop is None or instruction.line not in trace.lines:
            return
        _, lanes = self._warp(group)
        if not lanes.size:
            return
        module = self._module
        stop = Stop(
            instruction.line,
            module.source_of(instruction),
            module.text_of(instruction),
            tuple(lanes.tolist()),
            {name: values.copy() for name, values in self._held.items()},
        )
        if trace.stop(stop):
            raise StepLimit

    def after(self, group: Any, site: Any, guard: Lanes, values: tuple[Lanes, ...]) -> None:
        """Keeps what the warp's registers hold; reports the traced thread's step."""
        positions, lanes = self._warp(group)
        if not lanes.size:
            return
        registers: tuple[Register, ...] = site.extra
        for register, value in zip(registers, values, strict=True):
            held = self._held.setdefault(register.name, np.zeros(WARP, value.dtype))
            held[lanes] = value[positions] if value.ndim else value
        lane = self._trace.thread % WARP
        at = positions[lanes == lane]
        if self._trace.step is None or not at.size:
            return
        instruction, module = site.instruction, self._module
        self._trace.step(
            Step(
                instruction.line,
                module.source_of(instruction),
                module.text_of(instruction),
                guard is None or bool(np.broadcast_to(guard, group.n)[at[0]]),
                {register.name: self._held[register.name][lane].item() for register in registers},
            )
        )

    def _warp(self, group: Any) -> tuple[Array, Array]:
        """Returns the positions in a group of the traced warp's lanes, and the lanes, 0 to 31."""
        machine = group.machine
        cta = machine.launch.placement.slot(self._trace.block) - machine.first
        everyone: Array = group.lanes()
        if not 0 <= cta < machine.ctas:
            return everyone[:0], everyone[:0]
        first = cta * machine.padded + self._trace.thread // WARP * WARP
        bounds: list[int] = np.searchsorted(everyone, (first, first + WARP)).tolist()
        return np.arange(*bounds), everyone[bounds[0] : bounds[1]] - first
