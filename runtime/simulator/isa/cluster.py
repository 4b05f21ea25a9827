"""
Clusters: mapa, getctarank, barrier.cluster, st.async, red.async.

PTX ISA, "Data Movement and Conversion Instructions", "barrier.cluster".
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ..cluster_barrier import cluster_barriers_of
from ..distributed import mapped, rank_of
from ..ptx.syntax import Instruction, Operand, Vector
from ..scalars import DTYPES, Array, Lanes, size_of
from .forms import Fields, Table
from .operations import lanes_of
from .ranges import aligned, fault, mbarrier_place, reduction, send, shared_place

if TYPE_CHECKING:
    from ..compiler.emitter import BlockEmitter
    from ..compiler.program import Site
    from ..machine import Group


def arrive(group: "Group", site: "Site") -> None:
    """Runs barrier.cluster.arrive; `site.extra` says whether it orders memory accesses."""
    twice = cluster_barriers_of(group.machine).arrive(group.lanes(), site.extra)
    if twice.size:
        message = "a thread arrives again before it has waited with barrier.cluster.wait"
        raise group.machine.fault(site.instruction, "divergence", message, twice)


def wait(group: "Group", site: "Site") -> Array:
    """Says which lanes' cluster has met (barrier.cluster.wait)."""
    done, early = cluster_barriers_of(group.machine).wait(group.lanes())
    if early.size:
        message = "a thread waits that has not arrived with barrier.cluster.arrive"
        raise group.machine.fault(site.instruction, "divergence", message, early)
    return done


def store(group: "Group", site: "Site", target: Lanes, barrier: Lanes, *values: Lanes) -> None:
    """
    Runs st.async and red.async: data on its way to the shared memory of a CTA of the cluster.

    `site.extra` is (offset of the address, offset of the mbarrier).
    """
    to, of = site.extra
    targets, barriers = lanes_of(group, target).tolist(), lanes_of(group, barrier).tolist()
    rows = np.empty((group.n, len(values)), site.dtype)
    for column, value in enumerate(values):
        rows[:, column] = value
    pitch = max(group.machine.shared.pitch, 1)
    combine: Callable[[Array, Array], Array] | None = None
    if site.operation:
        combine = reduction(*site.operation.split("."))
    count = len(values)
    for position in range(group.n):
        address = targets[position] + to
        aligned(group, site, "the address", address, site.size, position)
        place = shared_place(group, site, address, site.size, position)
        mbarrier = mbarrier_place(group, site, barriers[position] + of, position)
        if place // pitch != mbarrier // pitch:
            message = "the data and the mbarrier lie in the shared memory of different CTAs"
            raise fault(group, site, "mbarrier", message, position)
        row = rows[position]
        first: int = place // rows.itemsize
        index = np.arange(first, first + count)
        send(group, site, index, row, mbarrier, position, combine, copies=False)


def _mapa(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits mapa."""
    d, a, rank = b.operands(3)
    type = fields["t"]
    result = f"{b.use(mapped)}({b.read(a, type)}, {b.read(rank, 'u32')})"
    b.write(d, type, result)


def _rank(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits getctarank."""
    d, a = b.operands(2)
    b.write(d, "u32", f"{b.use(rank_of)}(g, {b.read(a, fields['t'])})")


def _arrive(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits barrier.cluster.arrive."""
    b.operands(0)
    b.call(arrive, b.site(extra=fields["order"] != "relaxed"), [])


def _wait(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits barrier.cluster.wait: lanes whose cluster has not met run it again later."""
    b.operands(0)
    if b.guard is not None:
        raise b.error("with a guard is not covered")
    b.end("park", b.define(f"{b.use(wait)}(g, {b.site()})"))


def _store(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits st.async and red.async."""
    target, value, barrier = b.operands(3)
    type = fields["t"]
    count = int(fields["vec"][1:]) if fields.get("vec") else 1
    items: tuple[Operand, ...] = value.items if isinstance(value, Vector) else (value,)
    if len(items) != count:
        raise b.error(f"expects a vector of {count} elements, got {len(items)}")
    (to, x), (at, y) = b.address(target), b.address(barrier)
    site = b.site(
        dtype=np.dtype(DTYPES[type]).type,
        size=size_of(type) * count,
        count=count,
        space="shared::cluster",
        operation=f"{fields['what']}.{type}" if "what" in fields else "",
        extra=(x, y),
    )
    b.call(store, site, [to, at, *(b.read(item, type) for item in items)])


_CLUSTER = "[.shared::cluster].mbarrier::complete_tx::bytes"
FORMS: Table = (
    ("mapa[.shared::cluster].<t:u32|u64>", _mapa),
    ("getctarank[.shared::cluster].<t:u32|u64>", _rank),
    ("barrier.cluster.arrive[.<order:release|relaxed>][.aligned]", _arrive),
    ("barrier.cluster.wait[.acquire][.aligned]", _wait),
    (
        f"st.async[.weak]{_CLUSTER}[.<vec:v2|v4>].<t:b32|u32|s32|f32|b64|u64|s64|f64>",
        _store,
    ),
    (f"red.async.relaxed.cluster{_CLUSTER}.<what:inc|dec>.<t:u32>", _store),
    (f"red.async.relaxed.cluster{_CLUSTER}.<what:min|max>.<t:u32|s32>", _store),
    (f"red.async.relaxed.cluster{_CLUSTER}.<what:add>.<t:u32|s32|u64>", _store),
    (f"red.async.relaxed.cluster{_CLUSTER}.<what:and|or|xor>.<t:b32>", _store),
)
