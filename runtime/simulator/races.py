"""
Finds races in shared memory by happens-before, over all lanes of an instruction at once.

The agents are warps: lanes of one warp are taken as ordered among themselves. Every warp has a
vector clock over the warps of its CTA; barriers join clocks. Each unit of memory remembers its
last write and the last read of every warp (after FastTrack, Flanagan and Freund, PLDI 2009). The
data of cp.async is in flight, and ordered with nobody, until its own threads have waited.

Arrivals at mbarriers are ordered before the waits that see a phase complete. What bulk and tensor
copies read and write is not followed.

Strong accesses (atomics, volatile, relaxed, acquire, release) don't race with each other, and one
that reads orders its warp after those that wrote there: fences are taken as being where they must.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from .errors import Place
from .machine import WARP, Group, Machine
from .program import Site
from .scalars import Array, Lanes

# A mark is one number: clock, then warp (5 bits), site (18 bits), lane (5 bits).
_WARP_AT = 23
_CLOCK_AT = 28
_FLYING = 1 << 34  # the clock of what is in flight: later than any other


class SharedRaces:
    """The marks of the shared memory of one batch, and the clocks of its warps."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.warps = machine.padded // WARP
        agents = machine.ctas * self.warps
        self.clocks = np.zeros((agents, self.warps), np.int64)
        self._agents = np.arange(agents)
        self._own = self._agents % self.warps
        self.clocks[self._agents, self._own] = 1
        self._pending: dict[int, Array] = {}  # barrier: joined clocks of who arrived, by CTA
        self._unit = 16  # bytes that share a mark; as small as the smallest access so far
        self._writes = np.zeros(machine.shared.storage.size // 16, np.int64)
        self._reads = np.zeros((self._writes.size, self.warps), np.int64)
        self._strong: Array | None = None  # clocks of the warps that strong writes came from
        self._signals: dict[int, Array] = {}  # mbarrier: joined clocks of who arrived
        self._sites: list[Site] = []
        self._numbers: dict[Site, int] = {}
        self._refresh()

    # Clocks.

    def _refresh(self) -> None:
        """Computes what the clocks imply: the mark of each lane, and what is past for all."""
        own = self.clocks[self._agents, self._own]
        marks = (own << _CLOCK_AT) | (self._own << _WARP_AT)
        self._marks = (marks[:, None] | np.arange(WARP)).reshape(-1)
        self._past = (int(self.clocks.min()) + 1 << _CLOCK_AT) - 1

    def barrier(self) -> None:
        """Orders all warps of each CTA."""
        rows = self.clocks.reshape(self.machine.ctas, self.warps, self.warps)
        rows[:] = rows.max(axis=1, keepdims=True)
        self.clocks[self._agents, self._own] += 1
        self._refresh()

    def arrive(self, number: int, lanes: Array) -> None:
        """Takes the clocks of warps that arrive at a barrier."""
        agents = np.unique(lanes // WARP)
        pending = self._pending.get(number)
        if pending is None:
            pending = np.zeros((self.machine.ctas, self.warps), np.int64)
            self._pending[number] = pending
        np.maximum.at(pending, agents // self.warps, self.clocks[agents])
        self.clocks[agents, self._own[agents]] += 1
        self._refresh()

    def release(self, number: int, lanes: Array) -> None:
        """Gives warps that leave a barrier the clocks of all who arrived or have exited."""
        pending = self._pending[number]
        gone = np.flatnonzero(self.machine.exited.reshape(-1, WARP).all(axis=1))
        np.maximum.at(pending, gone // self.warps, self.clocks[gone])
        agents = np.unique(lanes // WARP)
        self.clocks[agents] = np.maximum(self.clocks[agents], pending[agents // self.warps])
        self._refresh()

    def completed(self, number: int, ctas: Array) -> None:
        """Begins the next phase of a barrier in some CTAs."""
        self._pending[number][ctas] = 0

    def signal(self, lanes: Array, places: Array) -> None:
        """Takes the clocks of warps that arrive at mbarriers; `places` has one for each lane."""
        agents = lanes // WARP
        for agent, place in sorted(set(zip(agents.tolist(), places.tolist(), strict=True))):
            known = self._signals.get(place)
            row = self.clocks[agent]
            self._signals[place] = row.copy() if known is None else np.maximum(known, row)
        agents = np.unique(agents)
        self.clocks[agents, self._own[agents]] += 1
        self._refresh()

    def observe(self, lanes: Array, places: Array) -> None:
        """Orders warps that see a phase complete after those that arrived at its mbarrier."""
        pairs = set(zip((lanes // WARP).tolist(), places.tolist(), strict=True))
        for agent, place in pairs:
            if place in self._signals:
                self.clocks[agent] = np.maximum(self.clocks[agent], self._signals[place])
        self._refresh()

    # Accesses.

    def access(self, group: Group, site: Site, index: Lanes, write: bool, flies: bool) -> None:
        """Checks and marks an access; `index` counts elements of the site's size."""
        lanes = group.lanes()
        units = np.broadcast_to(index, group.n)
        units, lanes = self._units(site, units, lanes)
        marks = self._marks[lanes] | (self._number(site) << 5)
        last = self._writes[units]
        if int(last.max(initial=0)) > self._past:
            self._compare(site, lanes, units, last, True)
        if site.operation:
            self._synchronise(lanes // WARP, units, write)
        if not write:
            self._reads[units, self._own[lanes // WARP]] = marks
            return
        reads = self._reads[units]
        if int(reads.max(initial=0)) > self._past:
            for warp in range(self.warps):
                self._compare(site, lanes, units, reads[:, warp], False)
        if flies:
            marks |= _FLYING << _CLOCK_AT
        self._writes[units] = marks
        if not site.operation:
            self._collisions(site, lanes, units, marks)

    def _synchronise(self, agents: Array, units: Array, write: bool) -> None:
        """Orders warps by strong accesses; a write that is no atomic is taken to read as well."""
        if self._strong is None:
            self._strong = np.zeros((self._writes.size, self.warps), np.int64)
        if write:
            np.maximum.at(self._strong, units, self.clocks[agents])
        np.maximum.at(self.clocks, agents, self._strong[units])
        if write:
            agents = np.unique(agents)
            self.clocks[agents, self._own[agents]] += 1
        self._refresh()

    def land(self, site: Site, lanes: Array, index: Array) -> None:
        """Marks data of cp.async as written by its threads, which have waited for it."""
        units, lanes = self._units(site, index, lanes)
        self._writes[units] = self._marks[lanes] | (self._number(site) << 5)

    def _number(self, site: Site) -> int:
        """Returns the number of a site in marks."""
        number = self._numbers.get(site)
        if number is None:
            number = self._numbers[site] = len(self._sites)
            self._sites.append(site)
        return number

    def _units(self, site: Site, index: Array, lanes: Array) -> tuple[Array, Array]:
        """Returns the units that lanes access, and the lane of each."""
        if site.size < self._unit:
            times = self._unit // site.size
            self._writes = np.repeat(self._writes, times)
            self._reads = np.repeat(self._reads, times, axis=0)
            if self._strong is not None:
                self._strong = np.repeat(self._strong, times, axis=0)
            self._unit = site.size
        each = site.size // self._unit
        if each == 1:
            return index, lanes
        return (index[:, None] * each + np.arange(each)).reshape(-1), np.repeat(lanes, each)

    def _compare(self, site: Site, lanes: Array, units: Array, last: Array, wrote: bool) -> None:
        """Reports earlier accesses that the lanes are not ordered after."""
        near = np.flatnonzero(last > self._past)
        if not near.size:
            return
        earlier = last[near]
        known = self.clocks[lanes[near] // WARP, (earlier >> _WARP_AT) & 31]
        bad = near[(earlier >> _CLOCK_AT) > known]
        if bad.size and site.operation:
            atomic = np.array([bool(s.operation) for s in self._sites])
            bad = bad[~atomic[(last[bad] >> 5) & 0x3FFFF]]
        if bad.size:
            self._report(site, lanes[bad], units[bad], last[bad], wrote)

    def _collisions(self, site: Site, lanes: Array, units: Array, marks: Array) -> None:
        """Reports warps that write one unit by the same execution of an instruction."""
        bad = np.flatnonzero((self._writes[units] ^ marks) >> _WARP_AT & 31)
        if bad.size:
            self._report(site, lanes[bad], units[bad], self._writes[units[bad]], True)

    # Reports.

    def _report(self, site: Site, lanes: Array, units: Array, last: Array, wrote: bool) -> None:
        """Adds a finding for each earlier instruction that the lanes race with."""
        numbers = (last >> 5) & 0x3FFFF
        for number in np.unique(numbers):
            first = int(np.flatnonzero(numbers == number)[0])
            other = self._sites[int(number)]
            key = ("race", site.instruction.line, other.instruction.line)
            same = ("race", other.instruction.line, site.instruction.line)
            findings = self.machine.launch.findings
            if key in findings or same in findings:
                continue
            concerned = lanes[numbers == number]
            findings[key] = self._finding(
                site, other, concerned, int(units[first]), int(last[first]), wrote
            )

    def _finding(
        self, site: Site, other: Site, lanes: Array, unit: int, mark: int, wrote: bool
    ) -> Any:
        """Returns the finding of one pair of accesses."""
        machine = self.machine
        cta = int(lanes[0]) // machine.padded
        address = unit * self._unit
        base = machine.shared.base
        if base is not None:
            address -= int(base[int(lanes[0])])
        flies = mark >> _CLOCK_AT >= _FLYING
        lane = cta * machine.padded + ((mark >> _WARP_AT) & 31) * WARP + (mark & 31)
        ctaid, tid = machine.place(lane)
        module = machine.program.module
        place = Place(
            ctaid,
            tid,
            other.instruction.line,
            module.source_of(other.instruction),
            module.text_of(other.instruction),
        )
        what = "a copy in flight" if flies else "a write" if wrote else "a read"
        message = (
            f"an access of {site.size} bytes of .shared memory at {address:#x} is not ordered "
            f"after {what} of thread {tid} by PTX line {place.line}"
        )
        error = machine.fault(site.instruction, "race", message, np.unique(lanes), address)
        allocation = machine.program.layout.name_at("shared", address)
        return replace(error.finding, other=place, allocation=allocation, cure=_cure(place, flies))


def copies_left(machine: Machine) -> None:
    """Adds a finding where threads have exited that never waited for a cp.async of theirs."""
    flight: Any = machine.copies.flight if machine.copies is not None else ()
    for _, copies in flight:
        for copy in copies:
            instruction = copy.site.instruction
            key = ("in-flight", instruction.line, 0)
            if key in machine.launch.findings:
                continue
            message = "threads have exited while data of this copy may still be in flight"
            error = machine.fault(instruction, "in-flight", message, copy.lanes)
            cure = "wait with cp.async.wait_all before the kernel ends"
            machine.launch.findings[key] = replace(error.finding, cure=cure)


def _cure(place: Place, flies: bool) -> str:
    """Returns the sentence that says what would order a pair of accesses."""
    if flies:
        return (
            f"wait for the copy of line {place.line} with cp.async.wait_group in the threads that "
            "issued it, then bar.sync, before this access"
        )
    return f"put a bar.sync between line {place.line} and this access"
