"""The report of a deadlock: who waits for what (and whose fault it may be)."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import SimulationError
from ..machine import Machine
from ..phases import Phase
from ..ptx.syntax import Instruction
from ..scalars import Array
from .marks import place_of

_MOST = 8  # mbarriers that a report lists


@dataclass(frozen=True, slots=True)
class _Wait:
    """Lanes that wait at one place, and what they wait for."""

    instruction: Instruction | None
    lanes: Array
    text: str
    aligned: bool = False  # at a barrier for which whole warps must come


def deadlock(scheduler: Any) -> SimulationError:
    """Returns the error that says who waits where; `scheduler` is the batch's Scheduler."""
    machine: Machine = scheduler.machine
    waits = [
        *_at_barriers(scheduler, machine),
        *_at_warp_barriers(scheduler),
        *_at_phases(scheduler, machine),
        *_for_mates(scheduler),
    ]
    message = "no thread can go on:\n    " + "\n    ".join(wait.text for wait in waits)
    torn = next((wait for wait in waits if wait.aligned and _is_torn(machine, wait)), None)
    if torn is not None:
        lead = "lanes of one warp have parted, and some of them wait at a barrier for the others"
        return machine.fault(torn.instruction, "divergence", f"{lead}; {message}", torn.lanes)
    first = waits[0] if waits else _Wait(None, np.flatnonzero(~machine.exited), "")
    short = next((phase for phase in machine.phases.at.values() if _is_short(phase)), None)
    if short is not None and first.instruction is not None:
        return _transaction(machine, first, short, message)
    return machine.fault(first.instruction, "deadlock", message, first.lanes)


def _is_torn(machine: Machine, wait: _Wait) -> bool:
    """Says whether some lanes wait while others of their warp have neither come nor exited."""
    here = np.zeros(machine.lanes, np.bool_)
    here[wait.lanes] = True
    there = ~here & ~machine.exited
    return bool((here.reshape(-1, 32).any(axis=1) & there.reshape(-1, 32).any(axis=1)).any())


def _is_short(phase: Phase) -> bool:
    """Says whether all have arrived at an mbarrier, and only bytes are missing."""
    return phase.pending == 0 and phase.bytes != 0


def _transaction(machine: Machine, wait: _Wait, phase: Phase, message: str) -> SimulationError:
    """Returns the error of an mbarrier whose bytes never come."""
    lead = (
        f"an mbarrier waits for {phase.bytes} bytes that nothing on its way brings"
        if phase.bytes > 0
        else f"{-phase.bytes} bytes more have come to an mbarrier than were announced"
    )
    error = machine.fault(wait.instruction, "transaction", f"{lead}; {message}", wait.lanes)
    if phase.announced is None:
        return error
    site, lane = phase.announced
    other = place_of(machine, site, *machine.place(lane))
    cure = f"let line {other.line} expect the bytes that the copies of its phase bring"
    return SimulationError(replace(error.finding, other=other, cure=cure))


def _at_barriers(scheduler: Any, machine: Machine) -> Iterator[_Wait]:
    """Yields who waits at barriers of CTAs."""
    for number, entries in scheduler.barriers.waiting.items():
        arrived = scheduler.barriers.arrived[number]
        expected = scheduler.barriers.expected[number]
        for entry in entries:
            cta = int(entry.lanes[0]) // machine.padded
            wanted = int(expected[cta]) or int(scheduler.barriers.alive()[cta])
            line = entry.site.instruction.line
            text = (
                f"{entry.lanes.size} threads wait at barrier {number} in PTX line {line}; in "
                f"block {machine.place(cta * machine.padded)[0]} {int(arrived[cta])} of {wanted} "
                "have arrived"
            )
            yield _Wait(entry.site.instruction, entry.lanes, text, bool(entry.site.extra))


def _at_warp_barriers(scheduler: Any) -> Iterator[_Wait]:
    """Yields who waits at bar.warp.sync."""
    for lanes, masks, site, _ in scheduler.barriers.warps:
        line = site.instruction.line
        text = f"{lanes.size} threads wait at bar.warp.sync {int(masks[0]):#x} in PTX line {line}"
        yield _Wait(site.instruction, lanes, text)


def _at_phases(scheduler: Any, machine: Machine) -> Iterator[_Wait]:
    """Yields who waits for mbarriers and for clusters."""
    for index, parts in scheduler.waiting.items():
        first, lanes = scheduler.blocks[index].first, np.concatenate(parts)
        line = first.line if first else 0
        if first is not None and first.opcode.startswith("barrier.cluster"):
            missing = machine.cluster_barriers.missing(int(lanes[0]))
            text = (
                f"{lanes.size} threads wait for their cluster in PTX line {line}; in the cluster "
                f"of block {machine.place(int(lanes[0]))[0]} {missing} threads have not arrived"
            )
        else:
            text = "\n    ".join(
                [
                    f"{lanes.size} threads wait for an mbarrier in PTX line {line}",
                    *_mbarriers(machine),
                ]
            )
        yield _Wait(first, lanes, text)


def _mbarriers(machine: Machine) -> Iterator[str]:
    """Yields what the first mbarriers lack."""
    pitch = max(machine.shared.pitch, 1)
    for place, phase in list(machine.phases.at.items())[:_MOST]:
        cta, at = divmod(place * 8, pitch)
        yield f"the mbarrier at {at:#x} in block {machine.place(cta * machine.padded)[0]}, {phase}"


def _for_mates(scheduler: Any) -> Iterator[_Wait]:
    """Yields who waits for the other lanes of a mask."""
    for index, lanes in scheduler.parked.items():
        first = scheduler.blocks[index].first
        line = first.line if first else 0
        text = (
            f"{lanes.size} threads wait before PTX line {line} for the other lanes of their masks"
        )
        yield _Wait(first, lanes, text)
