"""The barriers of the clusters of one batch (PTX ISA, "barrier.cluster")."""

from typing import TYPE_CHECKING, Any

import numpy as np

from .scalars import Array

if TYPE_CHECKING:
    from .machine import Machine


class ClusterBarriers:
    """
    One barrier for each cluster: it completes when all threads that have not exited arrived.

    `due` is the phase that a lane has arrived for and not waited for yet, 0 for none.
    """

    def __init__(self, machine: "Machine") -> None:
        self.machine = machine
        self.lanes = machine.padded * machine.cluster  # of one cluster
        self.completed = np.zeros(machine.lanes // self.lanes, np.int64)
        self.due = np.zeros(machine.lanes, np.int64)
        self._arrived = np.zeros(machine.lanes, np.bool_)

    def arrive(self, lanes: Array, orders: bool) -> Array:
        """Takes lanes that arrive; returns those that arrived before and have not waited."""
        twice = lanes[self.due[lanes] > 0]
        self._arrived[lanes] = True
        self.due[lanes] = self.completed[lanes // self.lanes] + 1
        if self.machine.clocks is not None:
            self.machine.clocks.cluster_arrive(lanes, orders)
        self.complete()
        return twice

    def wait(self, lanes: Array) -> tuple[Array, Array]:
        """Says which lanes may go on, and returns those that have not arrived."""
        early = lanes[self.due[lanes] == 0]
        done = self.completed[lanes // self.lanes] >= self.due[lanes]
        free = lanes[done]
        self.due[free] = 0
        if free.size and self.machine.clocks is not None:
            self.machine.clocks.cluster_wait(free)
        return done, early

    def complete(self) -> None:
        """Completes the barrier of the clusters whose threads have all arrived or exited."""
        missing = ~(self._arrived | self.machine.exited)
        rows = self._arrived.reshape(-1, self.lanes)
        done = rows.any(axis=1) & ~missing.reshape(-1, self.lanes).any(axis=1)
        if not done.any():
            return
        rows[done] = False
        self.completed[done] += 1
        self.machine.phases.flips += 1
        if self.machine.clocks is not None:
            self.machine.clocks.cluster_completed(np.flatnonzero(done))

    def missing(self, lane: int) -> int:
        """Returns how many threads of a lane's cluster have neither arrived nor exited."""
        first = lane // self.lanes * self.lanes
        here = slice(first, first + self.lanes)
        return int(np.count_nonzero(~(self._arrived[here] | self.machine.exited[here])))


def cluster_barriers_of(machine: "Machine") -> Any:
    """Returns the cluster barriers of a batch."""
    if machine.cluster_barriers is None:
        machine.cluster_barriers = ClusterBarriers(machine)
    return machine.cluster_barriers
