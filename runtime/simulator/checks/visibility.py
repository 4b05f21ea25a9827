"""
What warps know of other clusters: release and acquire patterns in global memory.

Knowledge of all warps of the launch is one array of times. It is made only where something was
released, so that kernels whose CTAs don't talk to each other pay nothing.
"""

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from ..scalars import Array

if TYPE_CHECKING:
    from ..compiler.program import Site
    from .clocks import Clocks

Knowledge: TypeAlias = list[Array | None]
_MOST_BYTES = 1 << 28  # of knowledge that places hold; beyond it everything counts as ordered


class Released:
    """
    What was released at places of global memory: the times of all warps of the launch.

    `narrow` says that the kernel has strong accesses at the scope of a CTA or a cluster.
    """

    def __init__(self, total: int, narrow: bool) -> None:
        self.total = total
        self.narrow = narrow
        self.overflows = False
        self._places: dict[int, int] = {}  # to rows
        self._rows: Array = np.zeros((0, total), np.int64)

    def __bool__(self) -> bool:
        """Says whether anything was released."""
        return bool(self._places)

    def at(self, address: int) -> Array | None:
        """Returns what was released at a place."""
        number = self._places.get(address)
        return None if number is None else self._rows[number]

    def _number(self, address: int) -> int:
        """Returns the row of a place, or -1 if there are too many."""
        number = self._places.get(address)
        if number is not None:
            return number
        number = len(self._places)
        if (number + 1) * self.total * 8 > _MOST_BYTES:
            self.overflows = True
            return -1
        if number == len(self._rows):
            more = np.zeros((max(number, 1), self.total), np.int64)
            self._rows = np.concatenate([self._rows, more])
        self._places[address] = number
        return number

    def add(self, address: int, first: int, times: Array, more: Array | None) -> None:
        """Releases times of a cluster's warps, of which `first` is the first, and `more`."""
        number = self._number(address)
        if number < 0:
            return
        held = self._rows[number]
        part = held[first : first + times.size]
        np.maximum(part, times, out=part)
        if more is not None:
            np.maximum(held, more, out=held)

    def add_all(self, places: list[int], which: Array, first: Array, times: Array) -> None:
        """Releases times of the warps of clusters, one row each, at `places[which]`."""
        numbers: Array = np.array([self._number(place) for place in places], np.int64)[which]
        kept = numbers >= 0
        begins: Array = (numbers * self.total + first)[kept]
        steps: Array = np.arange(len(times[0]))
        flat: Array = np.add.outer(begins, steps)
        np.maximum.at(self._rows.reshape(-1), flat, times[kept])


class Foreign:
    """
    What the warps of one batch know of warps of other clusters, None for nothing.

    `fenced` is what a warp knew at its last fence, `seen` what strong reads have found since:
    another fence makes it known.
    """

    def __init__(self, clocks: "Clocks", released: Released, first: int) -> None:
        self.clocks = clocks
        self.released = released
        self.first = first  # the batch's first warp in the launch
        self.known: Knowledge = [None] * clocks.agents
        self.fenced: Knowledge = [None] * clocks.agents
        self.seen: Knowledge = [None] * clocks.agents
        self._active = False
        self._near: dict[tuple[str, int], Array] = {}  # rows of clocks, by place and CTA or cluster
        self._boxes: dict[tuple[str, int], tuple[Array | None, Array | None]] = {}

    def known_times(self, agents: Array, others: Array) -> Array:
        """Returns what warps know of warps of the launch, both counted from the batch's first."""
        times = np.zeros(agents.size, np.int64)
        if self.released.overflows:
            return times + (1 << 60)
        if not self._active:
            return times
        for agent in map(int, np.unique(agents)):
            known = self.known[agent]
            if known is not None:
                here = agents == agent
                times[here] = known[others[here] + self.first]
        return times

    # Patterns.

    def strong(self, site: "Site", address: Array, lanes: Array, write: bool) -> None:
        """Takes strong accesses of lanes to places, in the order of the lanes."""
        order = site.order
        reads = not write or site.returns
        releases = write and order in ("release", "acq_rel")
        acquires = reads and order in ("acquire", "acq_rel")
        if write and not releases and not self._any_fenced():
            write = False
        if not write and not self.released and not self._near:
            return
        wide = site.scope not in ("cta", "cluster")
        agents = lanes // 32
        if not reads and not self.released.narrow:
            self._release_all(agents, address, releases)
            return
        for place, agent in dict.fromkeys(zip(address.tolist(), agents.tolist(), strict=True)):
            near = self._boxes_near(place, agent, site.scope) if self.released.narrow else []
            if reads:
                self._acquire_near(agent, near, acquires)
                if wide:
                    self._acquire(agent, self.released.at(place), acquires)
            if write:
                self._release_near(agent, near, releases)
                if wide:
                    self._release(agent, place, releases)

    def _any_fenced(self) -> bool:
        """Says whether some warp of the batch has passed a fence."""
        clocks = self.clocks
        return bool(clocks.known[:, clocks.ordered : clocks.bulk].any())

    # Within a cluster, at the scope of its CTAs or its own.

    def _boxes_near(self, place: int, agent: int, scope: str) -> list[tuple[str, int]]:
        """Returns what a strong access to a place reaches: its CTA, and its cluster if it may."""
        clocks = self.clocks
        boxes = [(f"cta {place}", agent // clocks.warps)]
        if scope != "cta" and clocks.machine.cluster > 1:
            boxes.append((f"cluster {place}", agent // clocks.domain))
        return boxes

    def _acquire_near(self, agent: int, boxes: list[tuple[str, int]], orders: bool) -> None:
        """Lets a warp see what others of its cluster have released."""
        for box in boxes:
            row = self._near.get(box)
            if row is not None:
                self.clocks.acquire(np.array([agent]), self.clocks.widened(row[None]), orders)
                self.take(box, agent)

    def _release_near(self, agent: int, boxes: list[tuple[str, int]], orders: bool) -> None:
        """Releases what a warp knows to others of its cluster."""
        clocks = self.clocks
        row = clocks.released(np.array([agent]), orders)
        if not boxes or not row.any():
            return
        for box in boxes:
            held = self._near.get(box)
            self._near[box] = (
                row[0] if held is None else np.maximum(row[0], clocks.widened(held[None])[0])
            )
            self.put(box, agent)
        clocks.advance(np.array([agent]))

    # Between clusters.

    def _acquire(self, agent: int, times: Array | None, at_once: bool) -> None:
        """Lets a warp see what was released; it knows it at once, or after a fence."""
        if times is None:
            return
        if at_once:
            self._learn(agent, times)
        else:
            self.seen[agent] = _joined(self.seen[agent], times.copy())

    def _learn(self, agent: int, times: Array) -> None:
        """Makes released times known to a warp."""
        self._active = True
        self.known[agent] = _joined(self.known[agent], times.copy())
        clocks = self.clocks
        begin = self.first + agent // clocks.domain * clocks.domain
        row = clocks.known[agent, : clocks.domain]
        np.maximum(row, times[begin : begin + clocks.domain], out=row)
        clocks.version += 1

    def _release(self, agent: int, place: int, everything: bool) -> None:
        """Releases what a warp knows, or what it knew at its last fence."""
        clocks = self.clocks
        begin = 0 if everything else clocks.fenced
        times = clocks.known[agent, begin : begin + clocks.domain]
        more = (self.known if everything else self.fenced)[agent]
        if times.any() or more is not None:
            first = self.first + agent // clocks.domain * clocks.domain
            self.released.add(place, first, times, more)
            clocks.advance(np.array([agent]))

    def _release_all(self, agents: Array, address: Array, everything: bool) -> None:
        """Releases what warps know at places, one for each; see `_release`."""
        clocks = self.clocks
        numbers, which = np.unique(address, return_inverse=True)
        pairs = np.unique(which * clocks.agents + agents)
        which, agents = pairs // clocks.agents, pairs % clocks.agents
        more = (self.known if everything else self.fenced) if self._active else None
        if more is not None:
            for number, agent in zip(which.tolist(), agents.tolist(), strict=True):
                if more[agent] is not None:
                    self._release(agent, int(numbers[number]), everything)
        begin = 0 if everything else clocks.fenced
        times = clocks.known[agents, begin : begin + clocks.domain]
        chosen = np.flatnonzero(times.any(axis=1))
        if chosen.size:
            agents = agents[chosen]
            first = self.first + agents // clocks.domain * clocks.domain
            self.released.add_all(numbers.tolist(), which[chosen], first, times[chosen])
            clocks.advance(np.unique(agents))

    def fence(self, lanes: Array) -> None:
        """Takes a fence at gpu scope by some lanes."""
        clocks = self.clocks
        agents = clocks.agents_of(lanes)
        clocks.recall(agents)
        for agent in map(int, agents):
            seen = self.seen[agent]
            if seen is not None:
                self._learn(agent, seen)
                self.seen[agent] = None
            self.fenced[agent] = self.known[agent]
        known = clocks.known[agents, : clocks.domain]
        clocks.known[agents, clocks.fenced : clocks.ordered] = known
        clocks.known[agents, clocks.ordered : clocks.bulk] = known
        clocks.advance(agents)

    # Barriers within a cluster carry it on. A box holds what was put into it.

    def put(self, box: tuple[str, int], agent: int) -> None:
        """Joins what a warp knows to what a barrier holds."""
        known, fenced = self._boxes.get(box, (None, None))
        known, fenced = _joined(known, self.known[agent]), _joined(fenced, self.fenced[agent])
        self._boxes[box] = known, fenced

    def take(self, box: tuple[str, int], agent: int) -> None:
        """Joins what a barrier holds to what a warp knows."""
        known, fenced = self._boxes.get(box, (None, None))
        self.known[agent] = _joined(self.known[agent], known)
        self.fenced[agent] = _joined(self.fenced[agent], fenced)

    def barrier(self, clocks: "Clocks") -> None:
        """Joins what all warps of each CTA know."""
        if not self._active:
            return
        for cta in range(clocks.agents // clocks.warps):
            agents = range(cta * clocks.warps, (cta + 1) * clocks.warps)
            self._boxes.pop(("all", cta), None)
            for agent in agents:
                self.put(("all", cta), agent)
            for agent in agents:
                self.take(("all", cta), agent)

    def arrive(self, name: str, boxes: Array, agents: Array) -> None:
        """Puts what warps know into the boxes of a barrier, one for each."""
        if self._active:
            for box, agent in zip(boxes.tolist(), agents.tolist(), strict=True):
                self.put((name, box), agent)

    def forget(self, name: str, boxes: Array) -> None:
        """Empties the boxes of a barrier."""
        if self._active:
            for box in boxes.tolist():
                self._boxes.pop((name, box), None)

    def leave(self, name: str, boxes: Array, agents: Array) -> None:
        """Takes what the boxes of a barrier hold, one for each warp."""
        if self._active:
            for box, agent in zip(boxes.tolist(), agents.tolist(), strict=True):
                self.take((name, box), agent)


def _joined(one: Array | None, other: Array | None) -> Array | None:
    """Returns the later of two times each; arrays are never changed once they are shared."""
    if one is None or one is other:
        return other
    return one if other is None else np.maximum(one, other)
