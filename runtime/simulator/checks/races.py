"""
Finds races in shared memory by happens-before, over all lanes of an instruction at once.

The agents are warps: lanes of one warp are taken as ordered among themselves. What they know of
each other stands in clocks.py. Each unit of memory remembers its last write and the last read of
every warp (after FastTrack, Flanagan and Freund, PLDI 2009). Engines that work for a warp are
agents of their own: cp.async, whose data is in flight until its own threads have waited; bulk and
tensor copies and the products of warpgroups, which work through the async proxy.

Strong accesses (atomics, volatile, relaxed, acquire, release) don't race with each other; flags.py
says what they order. Fences that acquire are taken as being where they must.
"""

from typing import Any

import numpy as np

from ..compiler.program import Site
from ..machine import Group, Machine
from ..placement import WARP
from ..scalars import Array, Lanes
from .clocks import Clocks
from .flags import Flags
from .marks import AGENT_AT, SHARED, SITE_AT, Sites, numbers_of
from .shared_report import report_exit, report_proxy, report_race
from .stored import Stored

_TIME_AT = SHARED.time_at
_KEPT = 4  # indices of which it is kept where their reads stand


class SharedRaces:
    """The marks of the shared memory of one batch."""

    def __init__(self, machine: Machine, clocks: Clocks) -> None:
        self.machine = machine
        self.clocks = clocks
        self.sites = Sites()
        self.unit = 16  # bytes that share a mark; as small as the smallest access so far
        self._writes = np.zeros(machine.shared.storage.size // 16, np.int64)
        # Columns of reads: the CTA's warps, its warpgroups' products, bulk copies, other CTAs.
        self._bulk = clocks.warps + clocks.groups
        self._foreign = self._bulk + 1
        self._reads = np.zeros((self._writes.size, self._foreign + 1), np.int64)
        self._flags = Flags(clocks, self._writes.size)
        self.issuers: dict[tuple[int, int], int] = {}  # cluster, column of an mbarrier: a lane
        self._lanes = np.arange(machine.lanes)
        self._columns = self._lanes // WARP % clocks.warps  # of what a lane reads
        self._version = -1
        self._marks: Array = np.zeros(0, np.int64)
        self._pasts: Array = np.zeros(machine.ctas, np.int64)
        self._past = 0
        self._group: Group | None = None  # whose past it is, None for all
        self._latest = 0  # the largest mark of a write, but for what is in flight
        self._flying = 0  # bytes that are
        self._slots: dict[Any, tuple[Array, Array]] = {}  # indices, and where their reads stand

    def _refresh(self, group: Group | None = None) -> None:
        """Computes what the clocks imply: marks of lanes, and what is past for all of a group."""
        clocks = self.clocks
        if self._version == clocks.version and self._group is group:
            return
        if self._version != clocks.version:
            self._version = clocks.version
            self._marks, self._pasts = self._marks_now(), clocks.past()
        self._group, pasts = group, self._pasts
        if group is not None and group.select is not None:
            pasts = pasts[group.lanes() // self.machine.padded]
        self._past = (int(np.minimum.reduce(pasts)) + 1 << _TIME_AT) - 1

    def _marks_now(self) -> Array:
        """Returns the mark of each lane at the present time of its warp."""
        clocks = self.clocks
        marks = (clocks.time() << _TIME_AT) | (clocks.own << AGENT_AT)
        return (marks[:, None] | np.arange(WARP)).reshape(-1)

    # Accesses by threads, through the generic proxy.

    def access(
        self,
        group: Group,
        site: Site,
        index: Lanes,
        write: bool,
        flies: bool,
        stored: Stored | None = None,
        start: int = 0,
    ) -> None:
        """
        Checks and marks an access; `index` counts elements of the site's size from `start`.

        `flies` says that the data comes later. `stored` is what a store is about to write.
        """
        self._refresh(group)
        self.refine(site.size)
        known = not self._flying and self._latest <= self._past  # all know of all writes
        if known and not write and not site.operation and self.machine.cluster == 1:
            self._mark_reads(group, site, index, start)
            return
        units, lanes, marks, columns = self._unit_by_unit(group, site, index, start)
        careful = self._careful(units, lanes)
        if careful is not None:
            marks |= careful
            columns = np.where(careful, self._foreign, columns)
        if careful is not None or not known:
            last = self._writes.take(units)
            last = last if careful is None else last | careful
            if int(np.maximum.reduce(last, initial=0)) > self._past:
                self._compare(site, lanes, units, last, True, stored)
        if site.operation:
            self._flags.access(site, lanes, units, write)
        if write:
            self._read_before(site, lanes, units, careful)
            self._write(site, lanes, units, marks, flies, stored)
        else:
            units = units * self._reads.shape[1]
            units += columns
            self._reads.reshape(-1)[units] = marks

    def _unit_by_unit(
        self, group: Group, site: Site, index: Lanes, start: int
    ) -> tuple[Array, Array, Array, Array]:
        """Returns an access unit by unit: where, by which lane, its marks and their columns."""
        index = index + start if start else index
        select = slice(None) if group.select is None else group.select
        units = index if index.ndim else np.full(group.n, index)
        lanes, marks, columns = self._lanes[select], self._marks[select], self._columns[select]
        each = site.size // self.unit
        if each > 1:
            units = (units[:, None] * each + np.arange(each)).reshape(-1)
            lanes, marks, columns = (np.repeat(a, each) for a in (lanes, marks, columns))
        return units, lanes, marks | (self.sites.number(site) << SITE_AT), columns

    def _mark_reads(self, group: Group, site: Site, index: Lanes, start: int) -> None:
        """Marks reads of what no write can race with; see `access`."""
        select = slice(None) if group.select is None else group.select
        each, wide = site.size // self.unit, self._reads.shape[1]
        key = id(index), self.unit
        known = self._slots.get(key)
        if known is None:
            units = index if index.ndim else np.full(group.n, index)
            columns = self._columns[select]
            if each > 1:
                units = (units[:, None] * each + np.arange(each)).reshape(-1)
                columns = np.repeat(columns, each)
            if len(self._slots) >= _KEPT:
                del self._slots[next(iter(self._slots))]
            known = self._slots[key] = index, units * wide + columns
        marks = self._marks[select] | (self.sites.number(site) << SITE_AT)
        marks = np.repeat(marks, each) if each > 1 else marks
        self._reads.reshape(-1)[start * each * wide :][known[1]] = marks

    def _read_before(self, site: Site, lanes: Array, units: Array, careful: Array | None) -> None:
        """Checks a write against earlier reads; `careful` is the flag of lanes of other CTAs."""
        reads = self._reads[units]
        if careful is not None:
            reads |= careful[:, None]
        if int(reads.max(initial=0)) > self._past:
            rows, columns = (reads > self._past).nonzero()
            self._compare(site, lanes[rows], units[rows], reads[rows, columns], False)

    def _write(
        self,
        site: Site,
        lanes: Array,
        units: Array,
        marks: Array,
        flies: bool,
        stored: Stored | None,
    ) -> None:
        """Marks a write; reports other warps that write there at once."""
        if flies:
            marks |= SHARED.never << _TIME_AT
            self._flying += units.size * self.unit
        else:
            self._latest = max(self._latest, int(np.maximum.reduce(marks, initial=0)))
        self._writes[units] = marks
        if not site.operation:
            self._collisions(site, lanes, units, marks, stored)

    def _careful(self, units: Array, lanes: Array) -> Array | None:
        """
        Returns the flag of marks of lanes that access the memory of another CTA, 0 for others.

        The past is what warps of one CTA know of each other; it says nothing to those lanes.
        """
        if self.machine.cluster == 1:
            return None
        pitch = max(self.machine.shared.pitch // self.unit, 1)
        return np.where(units // pitch != lanes // self.machine.padded, SHARED.careful, 0)

    def land(self, site: Site, lanes: Array, index: Array) -> None:
        """Marks data of cp.async as written by its threads, which have waited for it."""
        self._refresh()
        units, lanes = self._units(site.size, index, lanes)
        marks = self._marks[lanes] | (self.sites.number(site) << SITE_AT)
        self._writes[units] = marks | SHARED.proxied
        self._flying -= units.size * self.unit
        self._latest = max(self._latest, int(np.maximum.reduce(marks, initial=0)) | SHARED.proxied)

    def refine(self, size: int) -> None:
        """Makes units as small as an access."""
        if size >= self.unit:
            return
        times = self.unit // size
        self._writes = np.repeat(self._writes, times)
        self._reads = np.repeat(self._reads, times, axis=0)
        self._flags.refine(times)
        self.unit = size

    def _units(self, size: int, index: Array, lanes: Array) -> tuple[Array, Array]:
        """Returns the units that lanes access, and the lane of each."""
        self.refine(size)
        each = size // self.unit
        if each == 1:
            return index, lanes
        return (index[:, None] * each + np.arange(each)).reshape(-1), np.repeat(lanes, each)

    def _compare(
        self,
        site: Site,
        lanes: Array,
        units: Array,
        last: Array,
        wrote: bool,
        stored: Stored | None = None,
    ) -> None:
        """Reports earlier accesses that the lanes are not ordered after."""
        near = (last > self._past).nonzero()[0]
        if not near.size:
            return
        earlier = last[near]
        known = self.clocks.known[lanes[near] // WARP, SHARED.agent(earlier)]
        late = SHARED.time(earlier) > known
        if not late.any():
            return
        bad = near[late]
        if bad.size and site.operation:
            bad = bad[~self._are_strong(last[bad])]
        if bad.size and stored is not None:
            bad = bad[~stored.keeps(bad // (site.size // self.unit))]
        if bad.size:
            report_race(self, site, lanes[bad], units[bad], last[bad], wrote)

    def _are_strong(self, marks: Array) -> Array:
        """Says which marks come from strong accesses; what bulk reductions read is none."""
        columns, clocks = SHARED.agent(marks), self.clocks
        threads = (columns < clocks.domain) | (columns >= clocks.mbarriers)
        return threads & self.sites.are_strong(marks)

    def _collisions(
        self, site: Site, lanes: Array, units: Array, marks: Array, stored: Stored | None
    ) -> None:
        """Reports warps that write one unit by the same execution of an instruction."""
        bad = np.flatnonzero(SHARED.agent(self._writes[units] ^ marks))
        if bad.size and stored is not None:
            every = np.arange(units.size) // (site.size // self.unit)
            bad = bad[~stored.agrees(every, units)[bad]]
        if bad.size:
            report_race(self, site, lanes[bad], units[bad], self._writes[units[bad]], True)

    # Accesses by engines, through the async proxy.

    def engine_read(
        self, site: Site, lane: int, units: Array, size: int, column: int, time: int
    ) -> None:
        """
        Checks and marks what an engine reads on behalf of a lane.

        `units` count `size` bytes. `column` is the engine's, `time` the one of its work. The
        read is over for a warp that knows of this time.
        """
        units, _ = self._units(size, units, units)
        self._check_writes(site, lane, units, self._knowledge(lane, column), True)
        mark = SHARED.careful | time << _TIME_AT | column << AGENT_AT | lane % WARP
        mark |= self.sites.number(site) << SITE_AT
        clocks = self.clocks
        slot = self._bulk
        if clocks.products <= column < clocks.mbarriers:
            slot = clocks.warps + (column - clocks.products) % clocks.groups
        self._reads[units, slot] = mark

    def engine_write(
        self, site: Site, lane: int, units: Array, size: int, place: int, copies: bool = True
    ) -> None:
        """
        Checks and marks what an engine writes that arrives at the mbarrier at a place.

        `copies` says that it is a bulk or tensor copy, which works through the async proxy;
        st.async and red.async don't.
        """
        units, _ = self._units(size, units, units)
        known = self.clocks.known[lane // WARP]
        self._check_writes(site, lane, units, known, copies)
        reads = self._reads[units]
        if reads.any():
            late = SHARED.time(reads) > known[SHARED.agent(reads)]
            if not copies and site.operation:
                late &= ~self._are_strong(reads)
            for column in np.flatnonzero(late.any(axis=0)):
                bad = np.flatnonzero(late[:, column])
                lanes = np.full(bad.size, lane)
                report_race(self, site, lanes, units[bad], reads[bad, column], False)
        column = self.clocks.column(place)
        cluster = lane // self.machine.padded // self.machine.cluster
        self.issuers[cluster, column] = lane
        time = self.clocks.phase_time(place, self.machine.phases.at[place].number + 1)
        mark = SHARED.careful | SHARED.proxied | time << _TIME_AT | column << AGENT_AT
        self._writes[units] = mark | self.sites.number(site) << SITE_AT | lane % WARP
        self._latest = max(self._latest, mark)

    def glance(self, site: Site, lane: int, place: int) -> None:
        """Checks that the engine of a lane finds the mbarrier at a place initialised."""
        self._refresh()
        units, lanes = self._units(8, np.array([place]), np.array([lane]))
        self._compare(site, lanes, units, self._writes[units], True)

    def exits(self) -> None:
        """Reports accesses to the memory of CTAs that may have exited before."""
        clocks = self.clocks
        pitch = self.machine.shared.pitch // self.unit
        for cta in range(self.machine.ctas if pitch else 0):
            rows = clocks.known[cta * clocks.warps : (cta + 1) * clocks.warps].max(axis=0)
            here = slice(cta * pitch, (cta + 1) * pitch)
            for marks in (self._reads[here, self._foreign], self._writes[here]):
                columns = SHARED.agent(marks)
                own = columns // clocks.warps == cta % self.machine.cluster
                warps = (marks > 0) & (columns < clocks.domain) & ~own
                late = np.flatnonzero(warps & (SHARED.time(marks) > rows[columns]))
                if late.size:
                    report_exit(self, cta, int(late[0]), int(marks[late[0]]))

    def unfinished(self) -> list[tuple[Site, int]]:
        """Returns site and lane of copies into CTAs of which no warp has waited for their phase."""
        clocks, ctas = self.clocks, self.machine.ctas
        pitch = self.machine.shared.pitch // self.unit
        known = clocks.shown().reshape(ctas, clocks.warps, -1).max(axis=1)
        marks = self._writes[: ctas * pitch].reshape(ctas, pitch)
        where = np.nonzero(SHARED.agent(marks) >= clocks.mbarriers)
        marks = marks[where]
        late = np.flatnonzero(SHARED.time(marks) > known[where[0], SHARED.agent(marks)])
        _, first = np.unique(numbers_of(marks[late]), return_index=True)
        found: list[tuple[Site, int]] = []
        for mark, cta in zip(marks[late[first]], where[0][late[first]], strict=True):
            issuer = int(cta) // self.machine.cluster, int(SHARED.agent(mark))
            found.append((self.sites.of(int(mark)), self.issuers[issuer]))
        return found

    def _knowledge(self, lane: int, column: int) -> Array:
        """Returns what a lane's warp knows; all four of its warpgroup for a product."""
        clocks, agent = self.clocks, lane // WARP
        if not clocks.products <= column < clocks.mbarriers:
            return clocks.known[agent]
        cta, warp = divmod(agent, clocks.warps)
        first = cta * clocks.warps + warp // 4 * 4
        return clocks.known[first : min(first + 4, (cta + 1) * clocks.warps)].max(axis=0)

    def _check_writes(
        self, site: Site, lane: int, units: Array, known: Array, copies: bool
    ) -> None:
        """Reports writes that an engine's access is not ordered after, or lacks a fence for."""
        last = self._writes[units]
        if not last.any():
            return
        times, columns = SHARED.time(last), SHARED.agent(last)
        late = times > known[columns]
        if not copies and site.operation:
            late &= ~self._are_strong(last)
        if late.any():
            bad = np.flatnonzero(late)
            report_race(self, site, np.full(bad.size, lane), units[bad], last[bad], True)
        if not copies:
            return
        clocks = self.clocks
        generic = ~late & (columns < clocks.domain) & ((last & SHARED.proxied) == 0) & (last > 0)
        if not generic.any():
            return
        unseen = generic & (times > known[np.minimum(columns, clocks.domain) + clocks.proxied])
        if unseen.any():
            bad = np.flatnonzero(unseen)
            report_proxy(self, site, np.full(bad.size, lane), units[bad], last[bad])
