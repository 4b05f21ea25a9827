"""Atomic operations (PTX ISA, atom and red)."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..access import global_index, window_index
from ..memory import Window
from ..scalars import DTYPES, Array, Lanes, size_of
from ..syntax import Instruction
from .forms import Fields, Table
from .half import compute, compute_pairs
from .memory import space_of
from .operations import lanes_of, select

if TYPE_CHECKING:
    from ..emitter import BlockEmitter
    from ..machine import Group
    from ..program import Site


def _increment(old: Lanes, limit: Lanes) -> Lanes:
    """Returns old + 1, or 0 where old has reached the limit."""
    return select(old >= limit, old.dtype.type(0), old + old.dtype.type(1))


def _decrement(old: Lanes, limit: Lanes) -> Lanes:
    """Returns old - 1, or the limit where old is 0 or above it."""
    zero = old.dtype.type(0)
    return select((old == zero) | (old > limit), limit, old - old.dtype.type(1))


def _exchange(old: Lanes, new: Lanes) -> Lanes:
    """Returns the new value."""
    return new


def _compare_and_swap(old: Lanes, compare: Lanes, new: Lanes) -> Lanes:
    """Returns the new value where the old one is the one compared with."""
    return select(old == compare, new, old)


_OPERATIONS: dict[str, Callable[..., Lanes]] = {
    "add": np.add,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "exch": _exchange,
    "inc": _increment,
    "dec": _decrement,
    "cas": _compare_and_swap,
}
# Types that hold no NumPy numbers: the operation on their bits.
_HALVES: dict[str, Callable[..., Lanes]] = {
    "f16": partial(compute, "add", "f16", ""),
    "bf16": partial(compute, "add", "bf16", ""),
    "f16x2": partial(compute_pairs, "add", "f16", ""),
    "bf16x2": partial(compute_pairs, "add", "bf16", ""),
}


def _places(group: "Group", site: "Site", address: Lanes) -> tuple[Any, Any]:
    """Returns the view and the indices of the addresses, in the site's space."""
    machine = group.machine
    window: Window | None = machine.windows.get(site.space)
    if not site.space:
        window, start = machine.window_of(int(address[0]))
        address = address - np.uint64(start)
    if window is not None:
        return window_index(group, site, window, address, True)
    view, index = global_index(group, site, address, True)
    if view is None:
        message = "lanes access several allocations at once: not covered for atomics"
        raise group.fault(site, "bounds", message)
    return view, index


def atomic(group: "Group", site: "Site", address: Lanes, *operands: Lanes) -> Array:
    """
    Performs one atomic operation a lane, in lane order; returns what was there before.

    Lanes that meet at one address go in rounds: the first of each address, then the second.
    """
    view, index = _places(group, site, lanes_of(group, address))
    index = np.broadcast_to(index, group.n)
    values = [lanes_of(group, operand) for operand in operands]
    function = _HALVES.get(site.extra) or _OPERATIONS[site.operation]
    order = np.argsort(index, kind="stable")
    places = index[order]
    starts = np.flatnonzero(np.concatenate(([True], places[1:] != places[:-1])))
    counts = np.diff(np.append(starts, group.n))
    rank = np.arange(group.n) - np.repeat(starts, counts)
    old = np.empty(group.n, view.dtype)
    for turn in range(int(counts.max(initial=0))):
        now = order[rank == turn]
        here = index[now]
        old[now] = view[here]
        view[here] = function(old[now], *(value[now] for value in values))
    return old


def reduction(group: "Group", site: "Site", address: Lanes, *operands: Lanes) -> None:
    """Performs one atomic operation a lane and returns nothing: all at once where possible."""
    ufunc = _OPERATIONS[site.operation]
    if isinstance(ufunc, np.ufunc) and site.extra not in _HALVES:
        view, index = _places(group, site, lanes_of(group, address))
        ufunc.at(view, np.broadcast_to(index, group.n), lanes_of(group, operands[0]))
        return
    atomic(group, site, address, *operands)


def _atomic(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits atom and red."""
    operation, type = fields["what"], fields["t"]
    more = 2 if operation == "cas" else 1
    returns = fields["op"] == "atom"
    operands = b.operands(1 + more + returns)
    address = operands[1 if returns else 0]
    base, offset = b.address(address)
    values = [b.read(operand, type) for operand in operands[-more:]]
    site = b.site(
        dtype=np.dtype(DTYPES[type]).type,
        size=size_of(type),
        space=space_of(fields),
        offset=offset,
        operation=operation,
        order=fields["order"],
        scope=fields["scope"],
        returns=returns,
        extra=type,
    )
    if returns:
        b.call(atomic, site, [base, *values], [(operands[0], DTYPES[type])])
    else:
        b.call(reduction, site, [base, *values])


_HEAD = (
    "<op:atom|red>[.<order:relaxed|acquire|release|acq_rel>][.<scope:scope>]"
    "[.<space:global|shared::cta|shared::cluster|shared>]"
)
FORMS: Table = (
    (_HEAD + ".<what:add>.<t:u32|s32|u64|s64|f32|f64>", _atomic),
    (_HEAD + ".<what:add>.noftz.<t:f16|bf16|f16x2|bf16x2>", _atomic),
    (_HEAD + ".<what:min|max>.<t:u32|s32|u64|s64>", _atomic),
    (_HEAD + ".<what:and|or|xor>.<t:b32|b64>", _atomic),
    (_HEAD + ".<what:inc|dec>.<t:u32>", _atomic),
    (_HEAD + ".<what:exch>.<t:b32|b64>", _atomic),
    (_HEAD + ".<what:cas>.<t:b16|b32|b64>", _atomic),
)
