"""
The registers that warps hand over to each other with setmaxnreg.

A launch notes who executes setmaxnreg; when a batch has ended its CTAs are replayed against the
pool of registers they were launched with (PTX ISA, "setmaxnreg"). How many those are, the ISA
leaves to the compiler: the rule here is that of ptxas 13.0.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..errors import Finding
from ..placement import WARP
from ..ptx.syntax import Function, Immediate, Instruction, Module
from .hazards import static_finding

if TYPE_CHECKING:
    from ..compiler.program import Site
    from ..launch import Launch
    from ..machine import Group, Machine

_PARTITION = 512  # registers a lane that each of the four partitions of an SM has
_MOST = 256


def change(group: "Group", site: "Site") -> None:
    """Notes that the lanes of a group execute setmaxnreg."""
    group.machine.register_changes.append((site, group.lanes()))


def _immediates(function: Function) -> Iterator[tuple[Instruction, int]]:
    """Yields each setmaxnreg of a function with its constant."""
    for item in function.body or ():
        if isinstance(item, Instruction) and item.opcode.startswith("setmaxnreg"):
            count = item.operands[0]
            if isinstance(count, Immediate):
                yield item, count.value


def at_launch(function: Function, threads: int) -> int:
    """
    Returns the registers a thread that a kernel with setmaxnreg is launched with.

    That is `.maxnreg`, or what leaves room for `.minnctapersm` CTAs in the partitions of an SM;
    in no case more than the largest constant of a setmaxnreg.
    """
    largest = max(count for _, count in _immediates(function))
    if function.maxnreg:
        return min((function.maxnreg + 7) // 8 * 8, largest)
    x, y, z = function.reqntid or function.maxntid or (threads, 1, 1)
    warps = (x * y * z + WARP - 1) // WARP * max(function.minnctapersm, 1)
    return min(_PARTITION // ((warps + 3) // 4) // 8 * 8, _MOST, largest)


def ignored(module: Module, function: Function) -> tuple[Finding, ...]:
    """Returns a finding where ptxas ignores setmaxnreg: it can't tell the registers at entry."""
    first = next(_immediates(function), None)
    bounded = function.maxntid or function.reqntid
    if first is None or function.maxnreg or (bounded and function.minnctapersm):
        return ()
    message = "ptxas ignores setmaxnreg (C7508): it can't tell the registers at entry"
    cure = "give the kernel .maxntid or .reqntid and .minnctapersm 1 (or .maxnreg)"
    return (static_finding("registers", message, module, function, first[0], cure),)


@dataclass(frozen=True, slots=True)
class _Step:
    """One execution of setmaxnreg by a warp of a CTA."""

    warp: int
    site: "Site"


def check_registers(machine: "Machine") -> None:
    """Adds findings for setmaxnreg that a GPU would wait at for ever, or that is undefined."""
    changes = machine.register_changes
    if not changes or ignored(machine.program.module, machine.program.function):
        return
    ctas: dict[int, list[_Step]] = {}
    for site, lanes in changes:
        for warp in np.unique(lanes // WARP).tolist():
            cta, own = divmod(warp, machine.padded // WARP)
            steps = ctas.setdefault(cta, [])
            step = _Step(own, site)
            # Lanes of a warp that come one after the other execute one setmaxnreg.
            mine = [earlier for earlier in steps if earlier.warp == own]
            lone = np.count_nonzero(lanes // WARP == warp) < WARP
            if not (lone and mine and mine[-1].site is site):
                steps.append(step)
    seen: set[tuple[tuple[int, int], ...]] = set()
    for cta, steps in ctas.items():
        key = tuple((step.warp, step.site.instruction.line) for step in steps)
        if key not in seen:
            seen.add(key)
            _Replay(machine, cta).run(steps)


class _Replay:
    """Replays the setmaxnreg of one CTA in the order of their execution."""

    def __init__(self, machine: "Machine", cta: int) -> None:
        self.machine = machine
        self.cta = cta
        launch: Launch = machine.launch
        self.count = machine.padded // WARP
        self.start = at_launch(machine.program.function, launch.threads)
        self.held = [self.start] * self.count
        self.free = 0

    def run(self, steps: list[_Step]) -> None:
        """Adds what is wrong to the findings of the launch."""
        if not self._check_groups(steps):
            return
        queues: list[list[_Step]] = [[] for _ in range(self.count)]
        for step in steps:  # in the order of the launch, which its barriers admit
            queues[step.warp].append(step)
            self._drain(queues)
        waiting = [queue[0] for queue in queues if queue]
        if waiting:
            self._tell_waiting(waiting)

    def _drain(self, queues: list[list[_Step]]) -> None:
        """Executes what can be executed of the steps that warps have come to."""
        moved = True
        while moved:
            moved = False
            for queue in queues:
                while queue and self._advance(queue[0]):
                    queue.pop(0)
                    moved = True

    def _check_groups(self, steps: list[_Step]) -> bool:
        """Checks that the warps of a warpgroup execute the same; returns whether they do."""
        for first in range(0, self.count, 4):
            members = range(first, min(first + 4, self.count))
            lines = [[step.site for step in steps if step.warp == warp] for warp in members]
            longest = max(lines, key=len)
            short = [warp for warp, mine in zip(members, lines, strict=True) if mine != longest]
            if short:
                mine = lines[short[0] - first]
                at = next((n for n, s in enumerate(mine) if s is not longest[n]), len(mine))
                message = (
                    f"warps {short} don't execute this setmaxnreg with the rest of their "
                    f"warpgroup (warps {members[0]} to {members[-1]}), which is undefined"
                )
                cure = "branch around it for whole warpgroups alone"
                self._add(longest[at], message, cure, short)
                return False
        return True

    def _advance(self, step: _Step) -> bool:
        """Executes setmaxnreg of a warp; returns False where it has to wait."""
        wanted, held = step.site.extra, self.held[step.warp]
        increases = step.site.operation == "inc"
        if wanted != held and increases != (wanted > held):
            way = "above" if increases else "below"
            message = (
                f"a warp has {held} registers a thread, {way} the {wanted} it is to be "
                f"{'increased' if increases else 'decreased'} to, which is undefined"
            )
            cure = f"the kernel is launched with {self.start} registers a thread"
            self._add(step.site, message, cure, [step.warp])
            return True
        if wanted - held > self.free:
            return False
        self.free -= wanted - held
        self.held[step.warp] = wanted
        return True

    def _tell_waiting(self, waiting: list[_Step]) -> None:
        """Adds the finding for warps that wait for registers for ever."""
        site = waiting[0].site
        warps = [step.warp for step in waiting]
        missing = sum(step.site.extra - self.held[step.warp] for step in waiting) - self.free
        pool = self.start * self.count
        message = (
            f"warps {warps} wait for ever: they ask for {missing * WARP} registers more than "
            f"the {pool * WARP} that the CTA was launched with ({self.start} a thread)"
        )
        cure = (
            "decrease other warps by as much: the counts of all warps together must not be "
            f"above {self.count} times {self.start}"
        )
        self._add(site, message, cure, warps)

    def _add(self, site: "Site", message: str, cure: str, warps: list[int]) -> None:
        """Adds a finding, one a line."""
        findings = self.machine.launch.findings
        key = ("registers", site.instruction.line, 0)
        if key in findings:
            return
        first = self.cta * self.machine.padded
        lanes = np.concatenate([first + warp * WARP + np.arange(WARP) for warp in warps])
        error = self.machine.fault(site.instruction, "registers", message, lanes)
        findings[key] = replace(error.finding, cure=cure)
