"""What strong writes to shared memory have released to those who read there."""

from typing import TYPE_CHECKING

import numpy as np

from ..placement import WARP
from ..scalars import Array
from .clocks import Clocks

if TYPE_CHECKING:
    from ..compiler.program import Site

_FIRST_ROWS = 16  # at the beginning; twice as many where they don't suffice


class Flags:
    """
    The rows of clocks that units of shared memory hold.

    A strong access that writes releases what its warp knew at its last fence, or all that it
    knows where it has an order of its own; one that reads makes it known to its warp at once.
    """

    def __init__(self, clocks: Clocks, units: int) -> None:
        self.clocks = clocks
        self._row = np.zeros(units, np.int32)  # of a unit; 0 for none
        self._rows = np.zeros((_FIRST_ROWS, clocks.width), np.int64)
        self._used = 1
        self._last: dict[Site, tuple[int, Array, Array]] = {}  # version, lanes, units of a release

    def refine(self, times: int) -> None:
        """Makes units smaller by a factor."""
        self._row = np.repeat(self._row, times)

    def access(self, site: "Site", lanes: Array, units: Array, write: bool) -> None:
        """Takes strong accesses of lanes to units."""
        clocks = self.clocks
        orders = site.order in ("release", "acq_rel")
        writes = write and (orders or bool(clocks.known[:, clocks.ordered : clocks.bulk].any()))
        if not writes and self._used == 1:
            return
        reads = not write or site.returns
        if not reads and self._repeats(site, lanes, units):
            return
        pairs = np.unique(units * clocks.agents + lanes // WARP)
        agents, places = pairs % clocks.agents, pairs // clocks.agents
        if reads:
            self._acquire(places, agents)
        if writes:
            self._release(places, agents, orders)
        self._last[site] = clocks.version, lanes, units

    def _repeats(self, site: "Site", lanes: Array, units: Array) -> bool:
        """Says whether a release is that of the last time, and warps have learnt nothing since."""
        last = self._last.get(site)
        if last is None or last[0] != self.clocks.version:
            return False
        return np.array_equal(last[1], lanes) and np.array_equal(last[2], units)

    def _acquire(self, units: Array, agents: Array) -> None:
        """Lets warps know what units hold."""
        numbers = self._row[units]
        held = np.flatnonzero(numbers)
        if held.size:
            self._rows = self.clocks.widened(self._rows)
            self.clocks.acquire(agents[held], self._rows[numbers[held]], True)
            if self.clocks.foreign is not None:
                self.clocks.foreign.leave("flag", units[held], agents[held])

    def _release(self, units: Array, agents: Array, orders: bool) -> None:
        """Adds what warps know to what units hold."""
        clocks = self.clocks
        rows = clocks.released(agents, orders)
        chosen = np.flatnonzero(rows.any(axis=1))
        if not chosen.size:
            return
        units, agents = units[chosen], agents[chosen]
        fresh = np.unique(units[self._row[units] == 0])
        self._row[fresh] = np.arange(self._used, self._used + fresh.size)
        self._used += fresh.size
        self._rows = clocks.widened(self._rows)
        while self._used > len(self._rows):
            self._rows = np.concatenate([self._rows, np.zeros_like(self._rows)])
        np.maximum.at(self._rows, self._row[units], rows[chosen])
        if clocks.foreign is not None:
            clocks.foreign.arrive("flag", units, agents)
        clocks.advance(np.unique(agents))
