"""What is looked at when the threads of a batch have exited: copies in flight, open mbarriers."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .scalars import Array

if TYPE_CHECKING:
    from .machine import Machine
    from .program import Site


def leave(machine: "Machine") -> None:
    """Does what is left of bulk copies; adds a finding for each copy that nobody waited for."""
    left = machine.bulk_groups.leave() if machine.bulk_groups is not None else ()
    checked = "in-flight" in machine.checks
    if checked:
        _copies(machine)
        for site, lane in left:
            cure = "wait with cp.async.bulk.wait_group.read 0 before the thread exits"
            message = "a thread has exited while this copy may still read its shared memory"
            _add(machine, "in-flight", site, message, np.array([lane]), cure)
    for phase in list(machine.phases.under_way):
        for _, _, site, lane in phase.deliveries if checked else ():
            cure = "wait for the phase of its mbarrier before the CTA exits"
            message = "threads have exited while data of this copy may still be in flight"
            _add(machine, "in-flight", site, message, np.array([lane]), cure)
    machine.phases.deliver_all()


def _copies(machine: "Machine") -> None:
    """Adds a finding where threads have exited that never waited for a cp.async of theirs."""
    flight: Any = machine.copies.flight if machine.copies is not None else ()
    for _, copies in flight:
        for copy in copies:
            message = "threads have exited while data of this copy may still be in flight"
            cure = "wait with cp.async.wait_all before the kernel ends"
            _add(machine, "in-flight", copy.site, message, copy.lanes, cure)


def _add(
    machine: "Machine", kind: str, site: "Site", message: str, lanes: Array, cure: str
) -> None:
    """Adds a finding at an instruction, unless the launch has one there."""
    key = (kind, site.instruction.line, 0)
    if key not in machine.launch.findings:
        error = machine.fault(site.instruction, kind, message, lanes)
        machine.launch.findings[key] = replace(error.finding, cure=cure)
