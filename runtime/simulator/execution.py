"""Runs a launch: batches of CTAs, one after the other, as many at once as wait for each other."""

from typing import Any

import numpy as np

from .clocks import Clocks
from .errors import SimulationError
from .global_races import GlobalRaces
from .launch import Launch, Report
from .leaving import leave
from .machine import Machine
from .races import SharedRaces
from .registers import check_registers
from .scheduler import Scheduler, StepLimit

_BATCH_LANES = 4096  # where NumPy's cost per call is spread thin and values still fit the cache
_LOCAL_BYTES = 16 << 20  # of a batch, where its lanes have much local memory
_SLICE_BLOCKS = 20_000  # blocks that a batch runs before the next one gets a turn
_LIVE_BATCHES = 64  # about the threads that a large GPU holds at once


def run(launch: Launch, max_steps: int | None) -> Report:
    """Runs all CTAs, in ascending batches of about 4096 lanes; returns the report."""
    try:
        report = _run(launch, max_steps)
    except SimulationError as error:
        error.printed = launch.text()
        raise
    report.printed = launch.text()
    return report


def _run(launch: Launch, max_steps: int | None) -> Report:
    """Runs all CTAs; returns the report without what was printed."""
    placement = launch.placement
    total = placement.total
    padded = (launch.threads + 31) // 32 * 32
    lanes = min(_BATCH_LANES, _LOCAL_BYTES // max(launch.program.layout.local, 1))
    clusters = max(1, lanes // (padded * placement.size))
    each = min(total, clusters * placement.size)
    report = Report()
    if "race" in launch.checks:
        launch.races = GlobalRaces(launch)
    pending = iter(range(0, total, each))
    running: list[tuple[Machine, Any]] = []
    left: int | None = max_steps
    with np.errstate(all="ignore"):
        while True:
            if len(running) < _LIVE_BATCHES:
                first = next(pending, None)
                if first is not None:
                    machine = Machine(launch, first, min(each, total - first))
                    _watch(machine)
                    running.append((machine, Scheduler(machine, left).run(_SLICE_BLOCKS)))
            if not running:
                report.findings = tuple(launch.findings.values())
                return report
            for entry in list(running):
                machine, steps = entry
                try:
                    next(steps)
                    continue
                except StopIteration:
                    pass
                except StepLimit:
                    report.complete = False
                _account(report, machine)
                if report.complete:
                    leave(machine)
                if report.complete and "registers" in launch.checks:
                    check_registers(machine)
                if not report.complete:
                    report.findings = tuple(launch.findings.values())
                    return report
                left = None if left is None else left - int(machine.steps)
                running.remove(entry)
                launch.hits = [machine.hits for machine, _ in running]


def _watch(machine: Machine) -> None:
    """Gives a batch what its checks keep."""
    if "race" in machine.checks:
        machine.clocks = machine.phases.clocks = Clocks(machine)
        machine.shared.races = SharedRaces(machine, machine.clocks)
        machine.launch.races.watch(machine)


def _account(report: Report, machine: Machine) -> None:
    """Adds what a batch did to the report."""
    report.profile.thread_instructions += machine.thread_instructions
    report.profile.steps += machine.steps
    report.profile.ctas += machine.ctas
