"""Runs a launch: batches of CTAs, one after the other, as many at once as wait for each other."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from .checks.clocks import Clocks
from .checks.global_races import GlobalRaces
from .checks.leaving import leave
from .checks.races import SharedRaces
from .checks.registers import check_registers
from .errors import SimulationError
from .exploring import ExploringScheduler
from .launch import Launch, Report
from .machine import Machine
from .scheduler import Scheduler, StepLimit

_BATCH_LANES = 16384  # where NumPy's cost per call is spread thin and values still fit the cache
_SHORT_BATCH = 4096  # lanes of a batch where a seed decides: its CTAs keep an order among them
_LOCAL_BYTES = 16 << 20  # of a batch, where its lanes have much local memory
_SHARED_BYTES = 32 << 20  # of a batch, where its CTAs have few lanes and much shared memory
_MARKED_BYTES = 12 << 20  # the same where races are looked for: marks take many times as much
_SLICE_BLOCKS = 20_000  # blocks that a batch runs before the next one gets a turn
_SHORT_SLICE = 50  # the same where a seed decides
_LIVE_LANES = 1 << 18  # about the threads that a large GPU holds at once
_ENDED: Any = object()


def run(launch: Launch) -> Report:
    """Runs all CTAs, in ascending batches of about 16384 lanes; returns the report."""
    if launch.seed is not None:
        launch.random = np.random.default_rng(launch.seed)
    if "race" in launch.checks:
        launch.races = GlobalRaces(launch)
    execution = _Execution(launch)
    try:
        with np.errstate(all="ignore"):
            execution.run()
    except StepLimit:
        execution.report.complete = False
    except SimulationError as error:
        error.printed = launch.text()
        raise
    execution.finish()
    return execution.report


class _Execution:
    """The batches of one launch: those that run, and those that have not begun."""

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        self.report = Report()
        self._running: list[tuple[Machine, Iterator[None]]] = []
        placement, total = launch.placement, launch.placement.total
        padded = (launch.threads + 31) // 32 * 32
        most = _BATCH_LANES if launch.random is None else _SHORT_BATCH
        self._live = _LIVE_LANES // most
        lanes = min(most, _LOCAL_BYTES // max(launch.program.layout.local, 1))
        shared = _SHARED_BYTES if launch.races is None else _MARKED_BYTES
        ctas = min(lanes // padded, shared // max(launch.shared_bytes, 1))
        self._each = min(total, max(1, ctas // placement.size) * placement.size)
        self._pending = self._order(list(range(0, total, self._each)))

    def _order(self, first: list[int]) -> Iterator[int]:
        """Yields the first slots of batches in the order in which they begin."""
        if self.launch.random is not None and len(first) <= self._live:
            self.launch.random.shuffle(first)
        return iter(first)

    def run(self) -> None:
        """Gives every batch its turns, and begins the next one in each round."""
        while True:
            if len(self._running) < self._live:
                self._begin()
            if not self._running:
                return
            for entry in list(self._running):
                machine, turns = entry
                if next(turns, _ENDED) is _ENDED:
                    leave(machine)
                    if "registers" in self.launch.checks:
                        check_registers(machine)
                    self._running.remove(entry)
                    self._account(machine)
                    self.launch.hits = [machine.hits for machine, _ in self._running]

    def _begin(self) -> None:
        """Begins the next batch, if there is one."""
        launch, first = self.launch, next(self._pending, None)
        if first is None:
            return
        machine = Machine(launch, first, min(self._each, launch.placement.total - first))
        if launch.races is not None:
            machine.clocks = machine.phases.clocks = Clocks(machine)
            machine.shared.races = SharedRaces(machine, machine.clocks)
            launch.races.watch(machine)
        if launch.random is None:
            turns = Scheduler(machine).run(_SLICE_BLOCKS)
        else:
            turns = ExploringScheduler(machine).run(_SHORT_SLICE)
        self._running.append((machine, turns))

    def _account(self, machine: Machine) -> None:
        """Adds what a batch did to the report."""
        profile = self.report.profile
        profile.thread_instructions += machine.thread_instructions
        profile.steps += machine.steps
        profile.ctas += machine.ctas

    def finish(self) -> None:
        """Completes the report, with what batches did that have not ended."""
        for machine, _ in self._running:
            self._account(machine)
        self.report.findings = tuple(self.launch.findings.values())
        self.report.printed = self.launch.text()
