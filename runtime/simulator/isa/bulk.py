"""
Bulk copies between global and shared memory (PTX ISA, "cp.async.bulk", "cp.reduce.async.bulk").

The data moves when the copy is issued; an mbarrier hears of it then, and waits for bulk groups
find it done.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from ..scalars import DTYPES, Lanes, size_of
from ..syntax import Immediate, Instruction
from .forms import Fields, Table
from .memory import emit_nothing
from .operations import lanes_of
from .ranges import (
    SIZE,
    aligned,
    complete,
    global_range,
    reduction,
    shared_read,
    shared_write,
)

if TYPE_CHECKING:
    from ..emitter import BlockEmitter
    from ..machine import Group
    from ..program import Site


def _plain(group: "Group", *values: Lanes) -> Any:
    """Returns operands lane by lane as Python numbers, with the lane's position."""
    return zip(range(group.n), *(lanes_of(group, value).tolist() for value in values), strict=True)


def fetch(
    group: "Group", site: "Site", target: Lanes, source: Lanes, size: Lanes, barrier: Lanes
) -> None:
    """Runs a copy from global to shared memory; `site.extra` holds the constant offsets."""
    to, at, of = site.extra
    for position, start, origin, count, place in _plain(group, target, source, size, barrier):
        _check(group, site, start + to, origin + at, count, position)
        data = global_range(group, site, origin + at, count, False, position)
        shared_write(group, site, start + to, data, position)
        complete(group, site, place + of, count, position)


def store(group: "Group", site: "Site", target: Lanes, source: Lanes, size: Lanes) -> None:
    """Runs a copy or a reduction from shared to global memory."""
    to, at = site.extra
    for position, start, origin, count in _plain(group, target, source, size):
        _check(group, site, start + to, origin + at, count, position)
        data = shared_read(group, site, origin + at, count, position)
        into = global_range(group, site, start + to, count, True, position)
        if not site.operation:
            into[:] = data
            continue
        operation, _, form = site.operation.partition(".")
        code = DTYPES[form]
        old = into.copy().view(code)
        into[:] = reduction(operation, form)(old, data.copy().view(code)).view(np.uint8)


def _check(
    group: "Group", site: "Site", target: int, source: int, size: int, position: int
) -> None:
    """Faults where an address or the size of a copy isn't a multiple of 16 bytes."""
    aligned(group, site, "the size", size, SIZE, position)
    aligned(group, site, "the destination", target, SIZE, position)
    aligned(group, site, "the source", source, SIZE, position)


def _fetch(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits cp.async.bulk to shared memory."""
    target, source, size, barrier, *_ = b.operands(5 if fields["L2_cache_hint"] else 4)
    (to, x), (at, y), (of, z) = b.address(target), b.address(source), b.address(barrier)
    site = b.site(space="shared", extra=(x, y, z))
    b.call(fetch, site, [to, at, b.read(size, "u32"), of])


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


def _wait(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits cp.async.bulk.wait_group: bulk groups are done when they are issued."""
    (count,) = b.operands(1)
    if not isinstance(count, Immediate):
        raise b.error("expects a constant")


_HINT = "[.L2::cache_hint]"
FORMS: Table = (
    (
        "cp.async.bulk.<to:shared::cluster|shared::cta>.global.mbarrier::complete_tx::bytes"
        + _HINT,
        _fetch,
    ),
    ("cp.async.bulk.global.shared::cta.bulk_group" + _HINT, _store),
    (
        "cp.reduce.async.bulk.global.shared::cta.bulk_group" + _HINT + ".<what:add|min|max|inc|dec"
        "|and|or|xor>[.noftz].<t:u32|s32|u64|s64|f32|f64|f16|bf16|b32|b64>",
        _store,
    ),
    ("cp.async.bulk.prefetch.L2.global" + _HINT, emit_nothing),
    ("cp.async.bulk.commit_group", emit_nothing),
    ("cp.async.bulk.wait_group[.read]", _wait),
)
