"""
Finds races in global memory between warps of one launch, by happens-before.

Warps of a cluster are ordered by what clocks.py knows of them. Warps of different clusters are
ordered by memory alone: a release pattern on a place, and an acquire pattern that sees it (PTX
ISA, "Release and Acquire Patterns"). A strong access without an order of its own needs a fence at
gpu scope before it to release, and one after it to acquire.

Each unit of memory remembers its last write, its last read, and the last read before that by
another CTA: enough never to report a pair that is ordered, and to miss few that are not.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..memory import Allocation
from ..placement import WARP
from ..ptx.syntax import Instruction
from ..scalars import Array, Lanes
from .clocks import Clocks
from .global_report import report_race
from .marks import AGENT_AT, GLOBAL, SITE_AT, Sites
from .stored import Stored
from .visibility import Foreign, Released

if TYPE_CHECKING:
    from ..compiler.program import Site
    from ..launch import Launch
    from ..machine import Group, Machine

_TIME_AT = GLOBAL.time_at
_SYNCHRONISING = "iubc"  # kinds of NumPy elements that flags are made of


@dataclass(eq=False, slots=True)
class Shadow:
    """The marks of one allocation, one for each `unit` bytes."""

    unit: int
    writes: Array
    reads: Array
    others: Array  # the last read by a CTA that is not the one of `reads`

    def refine(self, size: int) -> None:
        """Makes units as small as an access."""
        times = self.unit // size
        self.writes, self.reads, self.others = (
            np.repeat(marks, times) for marks in (self.writes, self.reads, self.others)
        )
        self.unit = size


class GlobalRaces:
    """The marks of global memory of one launch."""

    def __init__(self, launch: "Launch") -> None:
        self.launch = launch
        self.sites = Sites()
        self.warps = (launch.threads + WARP - 1) // WARP
        self.domain = self.warps * launch.placement.size
        self.total = self.warps * launch.placement.total
        self.released = Released(self.total, _is_narrow(launch))
        self._shadows: dict[Allocation, Shadow] = {}
        self._marks: Array = np.zeros(0, np.int64)
        self._marked: tuple[Any, int] = (None, -1)

    def watch(self, machine: "Machine") -> None:
        """Takes a batch: its clocks learn of other clusters."""
        machine.clocks.foreign = Foreign(machine.clocks, self.released, machine.first * self.warps)

    def shadow(self, allocation: Allocation) -> Shadow:
        """Returns the marks of an allocation."""
        found = self._shadows.get(allocation)
        if found is None:
            count = (allocation.size + 15) // 16
            marks = (np.zeros(count, np.int64) for _ in range(3))
            found = self._shadows[allocation] = Shadow(16, *marks)
        return found

    # Accesses.

    def access(
        self,
        group: "Group",
        site: "Site",
        allocation: Allocation,
        index: Lanes,
        write: bool,
        stored: Stored | None,
    ) -> None:
        """
        Checks and marks an access; `index` counts elements of the site's size.

        `stored` is what a store is about to write.
        """
        lanes = group.lanes()
        places = np.broadcast_to(index, group.n)
        self.touch(group.machine, site, allocation, places, site.size, lanes, write, stored=stored)
        if site.operation and np.dtype(site.dtype or "u4").kind in _SYNCHRONISING:
            address = places * site.size + allocation.base
            group.machine.clocks.foreign.strong(site, address, lanes, write)

    def touch(
        self,
        machine: "Machine",
        site: "Site",
        allocation: Allocation,
        index: Array,
        size: int,
        lanes: Array,
        write: bool,
        unchanged: bool = False,
        stored: Stored | None = None,
    ) -> None:
        """
        Checks and marks accesses of lanes to elements of `size` bytes of an allocation.

        `unchanged` says that a write leaves all of them as they are.
        """
        shadow = self.shadow(allocation)
        if size < shadow.unit:
            shadow.refine(size)
        each = size // shadow.unit
        if each > 1:
            index = (index[:, None] * each + np.arange(each)).reshape(-1)
            lanes = np.repeat(lanes, each)
        marks = self._marks_of(machine)[lanes] | (self.sites.number(site) << SITE_AT)
        where = (self, machine, site, allocation, shadow)
        last = shadow.writes[index]
        same = None if stored is None else (stored, each)
        if not unchanged and last.any():
            self._compare(where, lanes, index, last, True, same)
        if not write:
            _remember(shadow, index, marks, self.warps)
            return
        for former in (shadow.reads[index], shadow.others[index]):
            if former.any():
                self._compare(where, lanes, index, former, False, None)
        shadow.writes[index] = marks
        if not site.operation:
            _compare_at_once(where, lanes, index, marks, same)

    def _marks_of(self, machine: "Machine") -> Array:
        """Returns the mark of each lane of a batch at its present time."""
        clocks: Clocks = machine.clocks
        now = (machine, clocks.version)
        if self._marked[0] is not machine or self._marked[1] != clocks.version:
            agents = clocks.rows + machine.first * self.warps
            time = np.minimum(clocks.time(), GLOBAL.never)
            marks = (time << _TIME_AT) | (agents << AGENT_AT)
            self._marks = (marks[:, None] | np.arange(WARP)).reshape(-1)
            self._marked = now
        return self._marks

    def _compare(
        self,
        where: Any,
        lanes: Array,
        index: Array,
        last: Array,
        wrote: bool,
        same: tuple[Stored, int] | None,
    ) -> None:
        """Reports earlier accesses that the lanes are not ordered after."""
        _, machine, site, _, _ = where
        clocks: Clocks = machine.clocks
        agents = lanes // WARP
        there = GLOBAL.agent(last) - machine.first * self.warps
        other = np.flatnonzero((last > 0) & (there != agents))
        if not other.size:
            return
        times, there, agents = GLOBAL.time(last[other]), there[other], agents[other]
        near = there // self.domain == agents // self.domain
        foreign: Foreign = machine.clocks.foreign
        known = foreign.known_times(agents, there)
        column = np.where(near, there % self.domain, 0)
        known = np.where(near, clocks.known[agents, column], known)
        bad = other[(times > known) & (times < GLOBAL.never)]
        if bad.size and site.operation:
            bad = bad[~self.sites.are_strong(last[bad])]
        if bad.size and same is not None:
            bad = bad[~same[0].keeps(bad // same[1])]
        if bad.size:
            report_race(where, lanes[bad], index[bad], last[bad], wrote)

    def fence(self, machine: "Machine", lanes: Array) -> None:
        """Takes a fence at gpu scope by some lanes."""
        machine.clocks.foreign.fence(lanes)


def _compare_at_once(where: Any, lanes: Array, index: Array, marks: Array, same: Any) -> None:
    """Reports lanes of other warps that have just written to one place by one instruction."""
    written = where[4].writes
    bad = np.flatnonzero(GLOBAL.agent(written[index] ^ marks))
    if bad.size and same is not None:
        stored, each = same
        bad = bad[~stored.agrees(np.arange(index.size) // each, index)[bad]]
    if bad.size:
        report_race(where, lanes[bad], index[bad], written[index[bad]], True)


def _is_narrow(launch: "Launch") -> bool:
    """Says whether a kernel has strong accesses at the scope of a CTA or a cluster."""
    body = launch.program.function.body or ()
    opcodes = (item.opcode for item in body if isinstance(item, Instruction))
    memory = (f"{opcode}." for opcode in opcodes if opcode.startswith(("ld", "st", "atom", "red")))
    return any(".cta." in opcode or ".cluster." in opcode for opcode in memory)


def _remember(shadow: Shadow, index: Array, marks: Array, warps: int) -> None:
    """Marks reads; keeps one of another CTA where there is one."""
    old = shadow.reads[index]
    shadow.reads[index] = marks
    if old.any():
        apart = (old > 0) & (GLOBAL.agent(old) // warps != GLOBAL.agent(marks) // warps)
        if apart.any():
            shadow.others[index[apart]] = old[apart]
    lost = GLOBAL.agent(shadow.reads[index] ^ marks) > 0  # several lanes read one unit at once
    if lost.any():
        shadow.others[index[lost]] = marks[lost]
