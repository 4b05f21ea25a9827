"""What is looked at when the threads of a batch have exited: copies in flight, open mbarriers."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import Place
from ..scalars import Array
from .marks import place_of

if TYPE_CHECKING:
    from ..compiler.program import Site
    from ..machine import Machine
    from ..phases import Phase


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
    for site, lane in _on_its_way(machine) if checked else ():
        cure = "wait for the phase of its mbarrier before the CTA exits"
        message = "threads have exited while data of this copy may still be in flight"
        _add(machine, "in-flight", site, message, np.array([lane]), cure)
    machine.phases.deliver_all()
    if "transaction" in machine.checks:
        _transactions(machine)
    if machine.cluster > 1 and machine.shared.races is not None:
        machine.shared.races.exits()


def _on_its_way(machine: "Machine") -> "list[tuple[Site, int]]":
    """Returns site and lane of copies to shared memory that nobody has waited for."""
    found = [
        (site, lane) for phase in machine.phases.under_way for _, _, site, lane in phase.deliveries
    ]
    races = machine.shared.races
    return found if races is None else found + races.unfinished()


def _transactions(machine: "Machine") -> None:
    """Adds a finding for each mbarrier that was told of other bytes than have come."""
    for site, lane, size, phase in machine.phases.excess:
        message = (
            f"{size} bytes come to an mbarrier after its phase is complete: more come than were "
            "announced"
        )
        _add_transaction(machine, site, message, lane, phase)
    for phase in machine.phases.at.values():
        source = phase.announced or phase.brought
        if phase.bytes and source is not None:
            site, lane = source
            word = "fewer" if phase.bytes > 0 else "more"
            message = (
                f"{abs(phase.bytes)} bytes {word} have come to an mbarrier than were announced"
            )
            _add_transaction(machine, site, message, lane, phase)


def _add_transaction(
    machine: "Machine", site: "Site", message: str, lane: int, phase: "Phase"
) -> None:
    """Adds a finding of kind "transaction"."""
    cure = "let the mbarrier expect the bytes that the copies of its phase bring"
    other: Place | None = None
    if phase.announced is not None and phase.announced[0] is not site:
        there, other_lane = phase.announced
        other = place_of(machine, there, *machine.place(other_lane))
    _add(machine, "transaction", site, message, np.array([lane]), cure, other)


def _copies(machine: "Machine") -> None:
    """Adds a finding where threads have exited that never waited for a cp.async of theirs."""
    flight: Any = machine.copies.flight if machine.copies is not None else ()
    for _, copies in flight:
        for copy in copies:
            message = "threads have exited while data of this copy may still be in flight"
            cure = "wait with cp.async.wait_all before the kernel ends"
            _add(machine, "in-flight", copy.site, message, copy.lanes, cure)


def _add(
    machine: "Machine",
    kind: str,
    site: "Site",
    message: str,
    lanes: Array,
    cure: str,
    other: "Place | None" = None,
) -> None:
    """Adds a finding at an instruction, unless the launch has one there."""
    key = (kind, site.instruction.line, 0)
    if key not in machine.launch.findings:
        error = machine.fault(site.instruction, kind, message, lanes)
        machine.launch.findings[key] = replace(error.finding, cure=cure, other=other)
