"""
Bulk groups: copies and reductions out of shared memory that threads have issued and wait for.

They happen at the latest moment: they read their source when their thread waits for their group,
with .read or without, and write when it waits without .read, or when the batch ends (PTX ISA,
"cp.async.bulk.commit_group", "cp.async.bulk.wait_group").
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .chance import early
from .scalars import Array

if TYPE_CHECKING:
    from .compiler.program import Site
    from .machine import Machine

# A copy reads its source and returns what writes.
_Write = Callable[[], None]
_Copy = tuple[Callable[[], _Write], "Site"]


class BulkGroups:
    """The bulk groups of one batch, by lane."""

    def __init__(self, machine: "Machine") -> None:
        self.machine = machine
        self._open: dict[int, list[_Copy]] = {}
        self._closed: dict[int, list[tuple[int, list[_Copy]]]] = {}  # stamp, copies
        self._read: dict[int, list[list[_Write]]] = {}  # groups of which the source was read

    def issue(self, lane: int, site: "Site", copy: Callable[[], _Write]) -> None:
        """Takes a copy into the open group of a lane."""
        self._open.setdefault(lane, []).append((copy, site))

    def commit(self, lanes: Array) -> None:
        """Closes the open group of each lane."""
        clocks: Any = self.machine.clocks
        if clocks is not None:
            clocks.stores[clocks.agents_of(lanes)] += 1
        for lane in lanes.tolist():
            stamp = 0 if clocks is None else int(clocks.stores[lane // 32])
            self._closed.setdefault(lane, []).append((stamp, self._open.pop(lane, [])))

    def wait(self, lanes: Array, pending: int, read: bool) -> None:
        """Ends all but the last `pending` groups of each lane; with `read`, their reads alone."""
        clocks: Any = self.machine.clocks
        for lane in lanes.tolist():
            groups = self._closed.get(lane, [])
            done = groups[: max(len(groups) - pending, 0)]
            del groups[: len(done)]
            writes = self._read.setdefault(lane, [])
            for stamp, copies in done:
                writes.append([copy() for copy, _ in copies])
                if clocks is not None:
                    clocks.bulk_done(lane, stamp)
            if not read:
                self._write(writes, max(len(writes) + len(groups) - pending, 0))
            elif early(self.machine.launch.random):
                self._write(writes, len(writes))

    @staticmethod
    def _write(groups: list[list[_Write]], count: int) -> None:
        """Does the writes of the first groups."""
        for writes in groups[:count]:
            for write in writes:
                write()
        del groups[:count]

    def leave(self) -> list[tuple["Site", int]]:
        """Does what is left; returns the site and lane of each copy that nobody waited for."""
        left: list[tuple[Site, int]] = []
        for writes in self._read.values():
            self._write(writes, len(writes))
        for lane, groups in self._closed.items():
            groups.append((0, self._open.pop(lane, [])))
            for _, copies in groups:
                left += self._finish(lane, copies)
        for lane, copies in self._open.items():
            left += self._finish(lane, copies)
        self._open.clear()
        self._closed.clear()
        return left

    @staticmethod
    def _finish(lane: int, copies: list[_Copy]) -> list[tuple["Site", int]]:
        """Does some copies; returns their sites with the lane."""
        for copy, _ in copies:
            copy()()
        return [(site, lane) for _, site in copies]


def bulk_groups_of(machine: "Machine") -> BulkGroups:
    """Returns the bulk groups of a batch."""
    if machine.bulk_groups is None:
        machine.bulk_groups = BulkGroups(machine)
    return machine.bulk_groups
