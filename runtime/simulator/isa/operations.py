"""Run-time functions that instructions of several families share."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..scalars import Array, Lanes

if TYPE_CHECKING:
    from ..compiler.program import Site
    from ..machine import Group


_where: Callable[..., Lanes] = np.where


def select(condition: Lanes, first: Lanes, second: Lanes) -> Lanes:
    """Returns `first` where the condition holds, `second` elsewhere."""
    if condition.ndim == 0:
        return first if condition else second
    return _where(condition, first, second)


def idle(group: "Group", guard: Lanes, count: int) -> None:
    """Takes `count` instructions of the lanes whose guard is off out of the profile."""
    active = np.count_nonzero(guard) if guard.ndim else (group.n if guard else 0)
    group.machine.thread_instructions -= count * (group.n - int(active))


def lanes_of(group: "Group", value: Lanes) -> Array:
    """Returns a value with one element a lane."""
    if value.ndim:
        return value
    full = np.empty(group.n, value.dtype)
    full.fill(value)
    return full


def require_warps(group: "Group", site: "Site") -> None:
    """Faults where a warp of the group is not complete."""
    if not group.whole_warps():
        message = "needs all 32 lanes of the warp; some have exited"
        raise group.fault(site, "divergence", message)


def pick(value: Lanes, positions: Array) -> Lanes:
    """Returns a value at some positions; scalars stay."""
    return value[positions] if value.ndim else value


def guarded(
    group: "Group",
    guard: Lanes,
    function: Callable[..., Any],
    site: "Site",
    operands: tuple[Any, ...],
    old: tuple[Lanes, ...],
) -> Any:
    """
    Calls `function(group, site, *operands)` for the lanes whose guard holds.

    `old` holds the destinations' former values, which the other lanes keep; the result is one
    value or a tuple, as `function` returns.
    """
    if guard.ndim == 0:
        if guard:
            return function(group, site, *operands)
        return old[0] if len(old) == 1 else old
    positions = np.flatnonzero(guard)
    if positions.size == group.n:
        return function(group, site, *operands)
    if positions.size == 0:
        return old[0] if len(old) == 1 else old
    narrow = group.at(positions)
    result = function(narrow, site, *(pick(operand, positions) for operand in operands))
    if not old:
        return None
    results: tuple[Lanes, ...] = (result,) if len(old) == 1 else result
    merged: list[Array] = []
    for new, former in zip(results, old, strict=True):
        full = lanes_of(group, former).copy()
        full[positions] = new
        merged.append(full)
    return merged[0] if len(merged) == 1 else tuple(merged)
