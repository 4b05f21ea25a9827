"""
Bulk copies between global and shared memory (PTX ISA, "cp.async.bulk", "cp.reduce.async.bulk").

What comes to shared memory is sent to an mbarrier, which gets it at the latest moment; what leaves
shared memory goes in the bulk groups of threads.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..bulk_groups import bulk_groups_of
from ..ptx.syntax import Instruction
from ..scalars import DTYPES, Array, Lanes, size_of
from .forms import Fields, Table
from .memory import emit_nothing
from .operands import group_end, group_wait
from .operations import lanes_of
from .ranges import (
    SIZE,
    aligned,
    fault,
    follow_global,
    global_range,
    mbarrier_place,
    ranks_of,
    reads,
    reduction,
    send,
    shared_place,
    shared_read,
    steps_of,
    units_of,
)

if TYPE_CHECKING:
    from ..compiler.emitter import BlockEmitter
    from ..compiler.program import Site
    from ..machine import Group


def _plain(group: "Group", *values: Lanes) -> Any:
    """Returns operands lane by lane as Python numbers, with the lane's position."""
    return zip(range(group.n), *(lanes_of(group, value).tolist() for value in values), strict=True)


def fetch(
    group: "Group",
    site: "Site",
    target: Lanes,
    source: Lanes,
    size: Lanes,
    barrier: Lanes,
    *mask: Lanes,
) -> None:
    """
    Runs a copy from global memory to shared memory, of the CTAs in `mask` where there is one.

    `site.extra` holds the constant offsets.
    """
    to, at, of = site.extra
    for position, start, origin, count, place, *ranks in _plain(
        group, target, source, size, barrier, *mask
    ):
        _check(group, site, start + to, origin + at, count, position)
        data = global_range(group, site, origin + at, count, False, position).copy()
        steps = steps_of(count)
        follow_global(group, site, origin + at, steps, SIZE, False, position)
        for rank in ranks_of(ranks[0]) if ranks else (None,):
            bytes_at = shared_place(group, site, start + to, count, position, rank)
            units = units_of(bytes_at, count)
            mbarrier = mbarrier_place(group, site, place + of, position, rank)
            send(group, site, units, data.view(np.complex128), mbarrier, position)


def share(
    group: "Group", site: "Site", target: Lanes, source: Lanes, size: Lanes, barrier: Lanes
) -> None:
    """Runs a copy from a CTA's shared memory to that of another CTA of the cluster."""
    to, at, of = site.extra
    for position, start, origin, count, place in _plain(group, target, source, size, barrier):
        _check(group, site, start + to, origin + at, count, position)
        data = shared_read(group, site, origin + at, count, position).copy()
        bytes_at = shared_place(group, site, start + to, count, position)
        mbarrier = mbarrier_place(group, site, place + of, position)
        _same_cta(group, site, bytes_at, mbarrier, position)
        units = units_of(bytes_at, count)
        send(group, site, units, data.view(np.complex128), mbarrier, position)
        races, clocks = group.machine.shared.races, group.machine.clocks
        if races is not None:
            begin = shared_place(group, site, origin + at, count, position)
            read = units_of(begin, count)
            phase = group.machine.phases.at[mbarrier // 8]
            column = clocks.column(mbarrier // 8)
            lane = int(group.lanes()[position])
            time = clocks.phase_time(mbarrier // 8, phase.number + 1)
            races.engine_read(site, lane, read, SIZE, column, time)


def _same_cta(group: "Group", site: "Site", place: int, barrier: int, position: int) -> None:
    """Faults where data and mbarrier lie in different CTAs."""
    pitch = group.machine.shared.pitch
    if place // pitch != barrier // pitch:
        message = "the data and the mbarrier lie in the shared memory of different CTAs"
        raise fault(group, site, "mbarrier", message, position)


def store(group: "Group", site: "Site", target: Lanes, source: Lanes, size: Lanes) -> None:
    """Issues a copy or a reduction from shared to global memory."""
    to, at = site.extra
    for position, start, origin, count in _plain(group, target, source, size):
        _check(group, site, start + to, origin + at, count, position)
        data = shared_read(group, site, origin + at, count, position)
        into = global_range(group, site, start + to, count, True, position)
        begin = shared_place(group, site, origin + at, count, position)
        reads(group, site, units_of(begin, count), position)
        lane = int(group.lanes()[position])
        steps, address = steps_of(count), start + to
        follow = partial(follow_global, group, site, address, steps, SIZE, True, position)
        copy = partial(_take, site.operation, into, data, follow)
        bulk_groups_of(group.machine).issue(lane, site, copy)


def _take(
    operation: str, into: Array, data: Array, follow: Callable[[bool], None]
) -> Callable[[], None]:
    """Reads data of shared memory; returns what writes it."""
    return partial(_write, operation, into, data.copy(), follow)


def _write(operation: str, into: Array, data: Array, follow: Callable[[bool], None]) -> None:
    """Writes data to global memory, or combines it with what is there."""
    follow(not operation and bool((into == data).all()))
    if not operation:
        into[:] = data
        return
    name, _, form = operation.partition(".")
    code = DTYPES[form]
    old = into.copy().view(code)
    into[:] = reduction(name, form)(old, data.view(code)).view(np.uint8)


def commit(group: "Group") -> None:
    """Runs cp.async.bulk.commit_group."""
    bulk_groups_of(group.machine).commit(group.lanes())


def wait(group: "Group", pending: int) -> None:
    """Runs cp.async.bulk.wait_group."""
    bulk_groups_of(group.machine).wait(group.lanes(), pending, False)


def wait_read(group: "Group", pending: int) -> None:
    """Runs cp.async.bulk.wait_group.read: shared memory may be written again."""
    bulk_groups_of(group.machine).wait(group.lanes(), pending, True)


def _check(
    group: "Group", site: "Site", target: int, source: int, size: int, position: int
) -> None:
    """Faults where an address or the size of a copy isn't a multiple of 16 bytes."""
    aligned(group, site, "the size", size, SIZE, position)
    aligned(group, site, "the destination", target, SIZE, position)
    aligned(group, site, "the source", source, SIZE, position)


def _fetch(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits cp.async.bulk to shared memory."""
    multicast = bool(fields.get("multicast_cluster"))
    target, source, size, barrier, *rest = b.operands(
        4 + multicast + bool(fields.get("L2_cache_hint"))
    )
    (to, x), (at, y), (of, z) = b.address(target), b.address(source), b.address(barrier)
    site = b.site(space="shared", extra=(x, y, z))
    names = [to, at, b.read(size, "u32"), of]
    if multicast:
        names.append(b.read(rest[0], "u16"))
    b.call(share if fields["from"] == "shared::cta" else fetch, site, names)


def _store(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits cp.async.bulk and cp.reduce.async.bulk to global memory."""
    target, source, size, *_ = b.operands(4 if fields["L2_cache_hint"] else 3)
    operation = f"{fields['what']}.{fields['t']}" if "what" in fields else ""
    if operation:
        _covered(b, fields)
    (to, x), (at, y) = b.address(target), b.address(source)
    site = b.site(space="global", operation=operation, extra=(x, y))
    b.call(store, site, [to, at, b.read(size, "u32")])


def _covered(b: "BlockEmitter", fields: Fields) -> None:
    """Refuses reductions that the ISA doesn't have."""
    what, form = fields["what"], fields["t"]
    bitwise = what in ("and", "or", "xor")
    small = form in ("f16", "bf16")
    wrong = bitwise != (form[0] == "b" and not small) or (what in ("inc", "dec") and form != "u32")
    wrong = wrong or (form in ("f32", "f64") and what != "add")
    if wrong or (small and what == "add" and not fields["noftz"]) or size_of(form) < 2:
        raise b.error("is no reduction of the PTX ISA")


_HINT = "[.L2::cache_hint]"
_COMPLETE = ".mbarrier::complete_tx::bytes"
FORMS: Table = (
    (
        f"cp.async.bulk.shared::cluster.<from:global>{_COMPLETE}[.multicast::cluster]{_HINT}",
        _fetch,
    ),
    (f"cp.async.bulk.shared::cta.<from:global>{_COMPLETE}{_HINT}", _fetch),
    (f"cp.async.bulk.shared::cluster.<from:shared::cta>{_COMPLETE}", _fetch),
    ("cp.async.bulk.global.shared::cta.bulk_group" + _HINT, _store),
    (
        "cp.reduce.async.bulk.global.shared::cta.bulk_group" + _HINT + ".<what:add|min|max|inc|dec"
        "|and|or|xor>[.noftz].<t:u32|s32|u64|s64|f32|f64|f16|bf16|b32|b64>",
        _store,
    ),
    ("cp.async.bulk.prefetch.L2.global" + _HINT, emit_nothing),
    ("cp.async.bulk.commit_group", group_end(commit)),
    ("cp.async.bulk.wait_group", group_wait(wait)),
    ("cp.async.bulk.wait_group.read", group_wait(wait_read)),
)
