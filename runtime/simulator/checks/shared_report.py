"""
Reports of races in shared memory: who, where, what would cure it.

`races` is the SharedRaces that found them.
"""

from typing import Any

import numpy as np

from ..compiler.program import Site
from ..errors import Place
from ..scalars import Array
from .marks import SHARED, add_finding, finding_of, pairs_of, place_of


def report_race(
    races: Any, site: Site, lanes: Array, units: Array, last: Array, wrote: bool
) -> None:
    """Adds a finding for each earlier instruction that the lanes race with."""
    for other, concerned, unit, mark in pairs_of(races.sites, lanes, units, last):
        add_finding(
            races.machine,
            "race",
            site,
            other,
            lambda o=other, c=concerned, u=unit, m=mark: _race(races, site, o, c, u, m, wrote),
        )


def report_proxy(races: Any, site: Site, lanes: Array, units: Array, last: Array) -> None:
    """Adds a finding for each write that an engine may not see yet, for want of a proxy fence."""
    for other, concerned, unit, mark in pairs_of(races.sites, lanes, units, last):
        add_finding(
            races.machine,
            "proxy",
            site,
            other,
            lambda o=other, c=concerned, u=unit, m=mark: _proxy(races, site, o, c, u, m),
        )


def report_exit(races: Any, cta: int, unit: int, mark: int) -> None:
    """Adds a finding for an access to the memory of a CTA that its exit is not ordered after."""
    machine = races.machine
    site = races.sites.of(mark)
    first = np.array([cta * machine.padded])
    lane = np.array([_lane(races, first, mark)])
    address = _address(races, unit)
    message = (
        f"block {machine.place(int(first[0]))[0]}, whose shared memory at {address:#x} this "
        "accesses, may have exited before"
    )
    cure = "put barrier.cluster.arrive and barrier.cluster.wait between this and the exit"

    def make() -> Any:
        return finding_of(
            machine, "use-after-free", site, message, lane, address=address, cure=cure
        )

    add_finding(machine, "use-after-free", site, site, make)


def _address(races: Any, unit: int) -> int:
    """Returns the place in a CTA's shared memory of a unit."""
    address = unit * races.unit
    pitch = races.machine.shared.pitch
    return address % pitch if pitch else address


def _lane(races: Any, lanes: Array, mark: int) -> int:
    """Returns the lane of a mark that some lanes of the same cluster met."""
    machine, clocks = races.machine, races.clocks
    cluster = int(lanes[0]) // machine.padded // machine.cluster
    column = int(SHARED.agent(mark))
    if column >= clocks.mbarriers:
        return races.issuers.get((cluster, column), int(lanes[0]))
    return clocks.lane_of(cluster, column, mark & 31)


def _race(
    races: Any, site: Site, other: Site, lanes: Array, unit: int, mark: int, wrote: bool
) -> Any:
    """Returns the finding of one pair of accesses."""
    machine = races.machine
    address = _address(races, unit)
    place = place_of(machine, other, *machine.place(_lane(races, lanes, mark)))
    flies = SHARED.time(mark) == SHARED.never
    engine = int(SHARED.agent(mark)) >= races.clocks.bulk
    what = "a copy in flight" if flies else "a write" if wrote else "a read"
    by = "for" if engine else "of"
    message = (
        f"an access of {site.size or 16} bytes of .shared memory at {address:#x} is not ordered "
        f"after {what} {by} thread {place.tid} by PTX line {place.line}"
    )
    return finding_of(
        machine,
        "race",
        site,
        message,
        lanes,
        address=address,
        other=place,
        allocation=machine.program.layout.name_at("shared", address),
        cure=_cure(races, place, mark, flies),
    )


def _proxy(races: Any, site: Site, other: Site, lanes: Array, unit: int, mark: int) -> Any:
    """Returns the finding of a write through one proxy and an access through another."""
    machine = races.machine
    address = _address(races, unit)
    place = place_of(machine, other, *machine.place(_lane(races, lanes, mark)))
    message = (
        f"the async proxy may not see what thread {place.tid} wrote to .shared memory at "
        f"{address:#x} by PTX line {place.line}"
    )
    cure = f"put fence.proxy.async between line {place.line} and what orders it before this"
    return finding_of(
        machine,
        "proxy",
        site,
        message,
        lanes,
        address=address,
        other=place,
        allocation=machine.program.layout.name_at("shared", address),
        cure=cure,
    )


def _cure(races: Any, place: Place, mark: int, flies: bool) -> str:
    """Returns the sentence that says what would order a pair of accesses."""
    clocks, column = races.clocks, int(SHARED.agent(mark))
    if flies:
        return (
            f"wait for the copy of line {place.line} with cp.async.wait_group in the threads that "
            "issued it, then bar.sync, before this access"
        )
    if column >= clocks.mbarriers:
        return (
            f"wait with mbarrier.try_wait for the phase of the mbarrier that line {place.line} "
            "names, before this access"
        )
    if column >= clocks.products:
        return (
            f"wait for the product of line {place.line} with wgmma.wait_group, and signal it to "
            "the thread of this access"
        )
    if column >= clocks.bulk:
        return (
            f"wait for the copy of line {place.line} with cp.async.bulk.wait_group.read in the "
            "thread that issued it, then bar.sync, before this access"
        )
    if races.machine.cluster > 1:
        return f"put a bar.sync or barrier.cluster between line {place.line} and this access"
    return f"put a bar.sync between line {place.line} and this access"
