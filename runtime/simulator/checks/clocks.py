"""
What the warps of a batch know of each other: vector clocks, joined where they synchronise.

Every warp has a row. Its columns are the agents of its cluster: the warps themselves, and the
engines that work on their behalf. An entry is a time of that agent; all that the agent did up to
it is ordered before what the warp does next (after FastTrack, Flanagan and Freund, PLDI 2009).

Columns of a cluster with D warps:

    0 .. D       warps, what they have done through the generic proxy
    D .. 2D      the same, as far as a proxy fence lies in between (PTX ISA, "Async proxy")
    2D .. 3D     the same, as far as a fence at gpu scope lies in between (PTX ISA, "Release
                 and Acquire Patterns")
    3D .. 4D     the same, as far as a fence at any scope lies in between
    4D .. 5D     the bulk copies that a warp's threads issued, by bulk group
    5D .. 5D+G   the products of warpgroups, by wgmma group
    then         what arrives at mbarriers, by phase: a column for each mbarrier of the cluster
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from ..placement import WARP
from ..scalars import Array

if TYPE_CHECKING:
    from ..machine import Machine

_FIRST_MBARRIERS = 8  # columns at the beginning; twice as many where they don't suffice


class Clocks:
    """The vector clocks of one batch, and what barriers hold of them."""

    def __init__(self, machine: "Machine") -> None:
        self.machine = machine
        self.warps = machine.padded // WARP  # of a CTA
        self.domain = self.warps * machine.cluster  # warps of a cluster
        self.groups = -(-self.warps // 4)  # warpgroups of a CTA
        self.agents = machine.ctas * self.warps
        domain = self.domain
        self.proxied, self.fenced, self.ordered = domain, 2 * domain, 3 * domain
        self.bulk, self.products = 4 * domain, 5 * domain
        self.mbarriers = 5 * domain + self.groups * machine.cluster
        self.known = np.zeros((self.agents, self.mbarriers + _FIRST_MBARRIERS), np.int64)
        self.rows = np.arange(self.agents)
        self.own = self.rows % domain
        self.known[self.rows, self.own] = 1
        self.committed = np.zeros(self.agents, np.int64)  # wgmma groups, by warp
        self.stores = np.zeros(self.agents, np.int64)  # bulk groups, by warp
        self.version = 0  # grows with every change of what a warp knows
        self._arrived: dict[int, Array] = {}  # barrier: joined clocks of who arrived, by CTA
        self._clusters = np.zeros((machine.ctas // machine.cluster, self.width), np.int64)
        self._met = self._clusters.copy()  # of the last phase that is complete
        self._slots: dict[int, int] = {}  # place of an mbarrier: its row below
        self._columns: list[int] = []  # of each slot
        self._begins: list[int] = []  # of each slot: times before its present mbarrier
        self._ends: list[int] = []  # of each slot: the time of its last phase
        self._used = [0] * len(self._clusters)  # columns of mbarriers, by cluster
        self._open = np.zeros((_FIRST_MBARRIERS, self.width), np.int64)
        self._closed = self._open.copy()
        self._seen: Array | None = None  # by relaxed waits, and no fence has come since
        self.foreign: Any = None  # what visibility.py keeps of other clusters

    @property
    def width(self) -> int:
        """Columns of a row."""
        return self.known.shape[1]

    def time(self) -> Array:
        """Returns the time of each warp."""
        return self.known[self.rows, self.own]

    def past(self) -> Array:
        """Returns for each CTA a time that all its warps know of all of them."""
        size, ctas = self.machine.cluster, self.machine.ctas
        square = self.known[:, : self.domain].reshape(ctas, self.warps, size, self.warps)
        each = np.arange(ctas)
        return square[each, :, each % size].reshape(ctas, -1).min(axis=1)

    def advance(self, agents: Array) -> None:
        """Begins a new time of some warps: what they do from now on is not known yet."""
        self.known[agents, self.own[agents]] += 1
        self.version += 1

    def agents_of(self, lanes: Array) -> Array:
        """Returns the warps of some lanes, each once."""
        warps = lanes // WARP
        if warps.size > 1 and (warps[1:] < warps[:-1]).any():
            return np.unique(warps)
        return warps[np.flatnonzero(np.diff(warps, prepend=-1))]

    def join(self, agents: Array, rows: Array) -> None:
        """Lets warps know what rows hold, one for each."""
        self.known[agents] = np.maximum(self.known[agents], rows)

    def released(self, agents: Array, orders: bool) -> Array:
        """
        Returns what a release by warps lets others know: all that they know if it `orders`.

        A relaxed operation releases what its warp knew at its last fence. What engines did is
        taken as known at that fence.
        """
        rows = self.known[agents]
        if not orders:
            fenced = rows[:, self.ordered : self.bulk]
            rows[:, : self.domain] = fenced
            rows[~fenced.any(axis=1)] = 0
        return rows

    # Barriers of a CTA and of a cluster.

    def barrier(self) -> None:
        """Orders all warps of each CTA."""
        rows = self.known.reshape(self.machine.ctas, self.warps, self.width)
        rows[:] = rows.max(axis=1, keepdims=True)
        if self.foreign is not None:
            self.foreign.barrier(self)
        self.advance(self.rows)

    def arrive(self, number: int, lanes: Array) -> None:
        """Takes what warps know that arrive at a barrier."""
        agents = self.agents_of(lanes)
        arrived = self._arrived.get(number)
        if arrived is None:
            arrived = np.zeros((self.machine.ctas, self.width), np.int64)
            self._arrived[number] = arrived
        np.maximum.at(arrived, agents // self.warps, self.known[agents])
        if self.foreign is not None:
            self.foreign.arrive(f"barrier {number}", agents // self.warps, agents)
        self.advance(agents)

    def missed(self, number: int, ctas: Array) -> None:
        """Takes what warps knew that have exited, as if they had arrived at a barrier."""
        gone = np.flatnonzero(self.machine.exited.reshape(-1, WARP).all(axis=1))
        gone = gone[ctas[gone // self.warps]]
        np.maximum.at(self._arrived[number], gone // self.warps, self.known[gone])

    def release(self, number: int, lanes: Array) -> None:
        """Gives warps that leave a barrier what all knew who arrived."""
        arrived = self._arrived[number]
        agents = self.agents_of(lanes)
        self.join(agents, arrived[agents // self.warps])
        if self.foreign is not None:
            self.foreign.leave(f"barrier {number}", agents // self.warps, agents)
        self.version += 1

    def completed(self, number: int, ctas: Array) -> None:
        """Begins the next phase of a barrier in some CTAs."""
        self._arrived[number][ctas] = 0
        if self.foreign is not None:
            self.foreign.forget(f"barrier {number}", np.flatnonzero(ctas))

    def cluster_arrive(self, lanes: Array, orders: bool = True) -> None:
        """Takes what warps know that arrive at the barrier of their cluster; see `released`."""
        agents = self.agents_of(lanes)
        np.maximum.at(self._clusters, agents // self.domain, self.released(agents, orders))
        if self.foreign is not None:
            self.foreign.arrive("cluster", agents // self.domain, agents)
        self.advance(agents)

    def cluster_completed(self, clusters: Array) -> None:
        """Ends the phase of the barriers of some clusters."""
        self._met[clusters] = self._clusters[clusters]

    def cluster_wait(self, lanes: Array) -> None:
        """Gives warps that leave the barrier of their cluster what all knew who arrived."""
        agents = self.agents_of(lanes)
        self.join(agents, self._met[agents // self.domain])
        if self.foreign is not None:
            self.foreign.leave("cluster", agents // self.domain, agents)
        self.version += 1

    # Mbarriers. `place` is the byte in the batch's shared memory, divided by 8.

    def slot(self, place: int) -> int:
        """Returns the row of an mbarrier, and gives it a column."""
        slot = self._slots.get(place)
        if slot is None:
            machine = self.machine
            pitch = max(machine.shared.pitch, 8)
            cluster = place * 8 // pitch // machine.cluster
            slot = self._slots[place] = len(self._columns)
            self._columns.append(self.mbarriers + self._used[cluster])
            self._begins.append(0)
            self._ends.append(0)
            self._used[cluster] += 1
            if self._columns[-1] >= self.width:
                self._widen()
            if slot >= len(self._open):
                self._open = np.concatenate([self._open, np.zeros_like(self._open)])
                self._closed = np.concatenate([self._closed, np.zeros_like(self._closed)])
        return slot

    def column(self, place: int) -> int:
        """Returns the column of what arrives at an mbarrier."""
        return self._columns[self.slot(place)]

    def begin(self, place: int) -> None:
        """Takes an mbarrier as a new one: nothing is known of its phases."""
        slot = self._slots.get(place)
        if slot is not None:
            self._begins[slot] = self._ends[slot] + 1  # one may be in flight
            self._ends[slot] = self._begins[slot]
            self._open[slot] = self._closed[slot] = 0

    def phase_time(self, place: int, number: int) -> int:
        """Returns the time, in its column, at which phase `number` of an mbarrier ends."""
        return self._begins[self.slot(place)] + number

    def _widen(self) -> None:
        """Adds columns for mbarriers."""
        more = max(self.width - self.mbarriers, _FIRST_MBARRIERS)
        wider, width = self.widened, self.width + more
        self._open, self._closed = wider(self._open, width), wider(self._closed, width)
        self._clusters, self._met = wider(self._clusters, width), wider(self._met, width)
        self._seen = None if self._seen is None else wider(self._seen, width)
        self._arrived = {number: wider(rows, width) for number, rows in self._arrived.items()}
        self.known = wider(self.known, width)

    def widened(self, rows: Array, width: int = 0) -> Array:
        """Returns rows with all columns that there are by now, or with `width` of them."""
        more = (width or self.width) - rows.shape[1]
        if not more:
            return rows
        return np.concatenate([rows, np.zeros((len(rows), more), np.int64)], axis=1)

    def signal(self, lanes: Array, places: Array, orders: bool = True) -> None:
        """
        Takes what warps know that arrive at mbarriers; `places` has one for each lane.

        `orders` is off for relaxed operations, see `released`.
        """
        agents, slots = self._pairs(lanes, places)
        np.maximum.at(self._open, slots, self.released(agents, orders))
        if self.foreign is not None:
            self.foreign.arrive("mbarrier", slots, agents)
        self.advance(self.agents_of(lanes))

    def observe(self, lanes: Array, places: Array, orders: bool = True) -> None:
        """
        Gives warps that see a phase complete what all knew who arrived in it.

        With `orders` off it becomes known to a warp at its next fence.
        """
        agents, slots = self._pairs(lanes, places)
        self.acquire(agents, self._closed[slots], orders)
        if self.foreign is not None and orders:
            self.foreign.leave("mbarrier", slots, agents)

    def acquire(self, agents: Array, rows: Array, orders: bool) -> None:
        """Lets warps know what was released; without an order, from their next fence on."""
        if orders:
            np.maximum.at(self.known, agents, rows)
            self.version += 1
            return
        if self._seen is None:
            self._seen = np.zeros_like(self.known)
        np.maximum.at(self._seen, agents, rows)

    def _pairs(self, lanes: Array, places: Array) -> tuple[Array, Array]:
        """Returns warps and the rows of their mbarriers, without most of the repetitions."""
        slots, agents = self._slots_of(places), lanes // WARP
        first = np.flatnonzero(
            (np.diff(agents, prepend=-1) != 0) | (np.diff(slots, prepend=-1) != 0)
        )
        return agents[first], slots[first]

    def phase_completed(self, place: int, number: int) -> None:
        """Ends a phase of an mbarrier; `number` of them are complete now."""
        slot = self.slot(place)
        np.maximum(self._closed[slot], self._open[slot], out=self._closed[slot])
        self._ends[slot] = self.phase_time(place, number)
        self._closed[slot, self._columns[slot]] = self._ends[slot]

    def _slots_of(self, places: Array) -> Array:
        """Returns the rows of the mbarriers at some places."""
        if places.size and (places == places[0]).all():
            return np.full(places.size, self.slot(int(places[0])))
        first, pick = np.unique(places, return_inverse=True)
        return np.array([self.slot(place) for place in first.tolist()], np.int64)[pick]

    # Fences, and the engines that work for warps.

    def fence_proxy(self, lanes: Array) -> None:
        """Lets the async proxy see what warps know now (fence.proxy.async)."""
        agents, domain = self.agents_of(lanes), self.domain
        self.known[agents, self.proxied : self.fenced] = self.known[agents, :domain]
        self.advance(agents)

    def fence(self, lanes: Array) -> None:
        """Takes a fence at any scope: what warps know now, they may release within their CTA."""
        agents, domain = self.agents_of(lanes), self.domain
        self.recall(agents)
        self.known[agents, self.ordered : self.bulk] = self.known[agents, :domain]
        self.advance(agents)

    def shown(self) -> Array:
        """Returns what warps know, and what relaxed waits have shown them."""
        return self.known if self._seen is None else np.maximum(self.known, self._seen)

    def recall(self, agents: Array) -> None:
        """Makes known to warps what relaxed waits have shown them before this fence."""
        if self._seen is not None:
            self.join(agents, self._seen[agents])
            self.version += 1

    def commit(self, lanes: Array) -> None:
        """Closes the open group of products of warps (wgmma.commit_group)."""
        self.committed[self.agents_of(lanes)] += 1

    def wait(self, lanes: Array, pending: int) -> None:
        """Tells warps that all but the last groups of their products are done."""
        agents = self.agents_of(lanes)
        columns = self.product_column(agents)
        done = self.committed[agents] - pending
        self.known[agents, columns] = np.maximum(self.known[agents, columns], done)
        self.version += 1

    def product_column(self, agents: Array) -> Array:
        """Returns the columns of the products of warps."""
        cta, warp = agents // self.warps, agents % self.warps
        return self.products + cta % self.machine.cluster * self.groups + warp // 4

    def bulk_done(self, lane: int, stamp: int) -> None:
        """Tells a lane's warp that its bulk groups up to a stamp are done."""
        agent = lane // WARP
        column = self.bulk + int(self.own[agent])
        self.known[agent, column] = max(int(self.known[agent, column]), stamp)
        self.version += 1

    def lane_of(self, cluster: int, column: int, lane: int) -> int:
        """Returns the lane of a batch that a column and a lane of its warp stand for."""
        first = cluster * self.machine.cluster * self.machine.padded
        if column >= self.products:
            group = column - self.products
            warp = group // self.groups * self.warps + group % self.groups * 4
        else:
            warp = column % self.domain
        return first + warp * WARP + lane
