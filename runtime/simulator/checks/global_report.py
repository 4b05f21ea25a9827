"""Reports of races in global memory: who, where, what would cure it."""

from typing import Any

from ..scalars import Array
from .marks import GLOBAL, add_finding, finding_of, pairs_of, place_of


def report_race(where: Any, lanes: Array, index: Array, last: Array, wrote: bool) -> None:
    """
    Adds a finding for each earlier instruction that the lanes race with.

    `where` is (races, machine, site, allocation, shadow), `index` counts the shadow's units.
    """
    races, machine, site, _, _ = where
    for other, concerned, unit, mark in pairs_of(races.sites, lanes, index, last):

        def make(other: Any = other, lanes: Array = concerned, at: Any = (unit, mark)) -> Any:
            return _race(where, other, lanes, at, wrote)

        add_finding(machine, "race", site, other, make)


def _race(where: Any, other: Any, lanes: Array, at: tuple[int, int], wrote: bool) -> Any:
    """Returns the finding of one pair of accesses."""
    races, machine, site, allocation, shadow = where
    unit, mark = at
    address = allocation.base + unit * shadow.unit
    slot, warp = divmod(int(GLOBAL.agent(mark)), races.warps)
    thread = warp * 32 + (mark & 31)
    bx, by, _ = machine.launch.block
    tid = (thread % bx, thread // bx % by, thread // (bx * by))
    place = place_of(machine, other, machine.launch.placement.ctaid(slot), tid)
    same = place.ctaid == machine.place(int(lanes[0]))[0]
    whose = f"thread {tid}" if same else f"thread {tid} of block {place.ctaid}"
    message = (
        f"an access of global memory at {address:#x} is not ordered after "
        f"{'a write' if wrote else 'a read'} of {whose} by PTX line {place.line}"
    )
    if same:
        cure = f"put a bar.sync between line {place.line} and this access"
    else:
        cure = (
            f"let block {place.ctaid} release what line {place.line} did (fence.acq_rel.gpu, then "
            "a strong write to a flag) and acquire the flag before this access, or use atomics"
        )
    return finding_of(
        machine,
        "race",
        site,
        message,
        lanes,
        address=address,
        other=place,
        allocation=str(allocation),
        cure=cure,
    )
