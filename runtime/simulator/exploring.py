"""
Other legal schedules, drawn from a seed.

The default schedule keeps lanes together and lets data arrive late. Here any ready group may run
next, warps part from each other and lanes from their warp, waits for mbarriers may end in vain,
data may come early, CTAs come in any order, and of lanes that write one place any may be last. A
program that is right gives the same result under each (up to the order of atomic sums).
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from .machine import Group, Machine
from .placement import WARP
from .scalars import Array
from .scheduler import Scheduler

if TYPE_CHECKING:
    from .compiler.program import CompiledBlock

_TOGETHER = 0.5  # how often a group stays as it is
_BY_WARP = 0.9  # how often it parts between warps, not within them
_IN_VAIN = 0.25  # how often a wait for an mbarrier ends without its phase


class ExploringScheduler(Scheduler):
    """Runs one batch by chance."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self._random: np.random.Generator = machine.launch.random

    def _pick(self) -> int:
        """Returns any block that lanes are ready for, or -1."""
        if not self.ready:
            return -1
        return int(self._random.choice(list(self.ready)))

    def _merge(self, index: int) -> Array | None:
        """Takes some of the lanes that are ready for a block; None for all."""
        lanes = super()._merge(index)
        if self._random.random() < _TOGETHER:
            return lanes
        everyone = np.arange(self.machine.lanes) if lanes is None else lanes
        units = everyone // (WARP if self._random.random() < _BY_WARP else 1)
        first, which = np.unique(units, return_inverse=True)
        chosen = self._random.random(first.size) < self._random.random()
        chosen[self._random.integers(first.size)] = True
        now = chosen[which]
        if now.all():
            return lanes
        self._push(index, everyone[~now])
        return everyone[now]

    def _wait(self, block: "CompiledBlock", group: Group, lanes: Array | None, done: Any) -> None:
        """Sends lanes on as Scheduler does, or all of them: try_wait may return false."""
        first = block.first
        if first is not None and first.opcode.startswith("mbarrier"):
            if self._random.random() < _IN_VAIN:
                self._push(block.follow, lanes)
                return
        super()._wait(block, group, lanes, done)
