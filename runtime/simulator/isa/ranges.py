"""Ranges of bytes that one thread names and the copy engines move: checks, reductions, arrivals."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..memory import SHARED_WINDOW
from ..scalars import Array

if TYPE_CHECKING:
    from ..machine import Group
    from ..program import Site

_where: Callable[..., Any] = np.where
SIZE = 16  # bytes; sizes and most addresses of bulk copies are multiples of it


def fault(group: "Group", site: "Site", kind: str, message: str, position: int) -> Exception:
    """Returns the error of one lane."""
    return group.fault(site, kind, message, np.array([position]))


def aligned(group: "Group", site: "Site", what: str, value: int, unit: int, position: int) -> None:
    """Faults where a value is no multiple of a unit."""
    if value % unit:
        message = f"{what} is {value:#x}, expected a multiple of {unit}"
        raise fault(group, site, "alignment", message, position)


def global_range(
    group: "Group", site: "Site", address: int, size: int, write: bool, position: int
) -> Array:
    """Returns `size` bytes of global memory as a view; faults where they aren't one buffer's."""
    memory = group.machine.launch.memory
    allocation = memory.find(address)
    if (
        allocation is None
        or not allocation.live
        or (address + size > allocation.base + allocation.size)
    ):
        kind, where = memory.describe(address, size)
        message = f"an access of {size} bytes at {address:#x}: {where}"
        raise group.fault(site, kind, message, np.array([position]), address)
    if write and not allocation.writable:
        message = f"a store of {size} bytes to {allocation}, which is read-only"
        raise group.fault(site, "read-only", message, np.array([position]), address)
    start = address - allocation.base
    allocation.written = None  # what bulk copies write is not followed
    return allocation.storage[start : start + size]


def shared_place(
    group: "Group", site: "Site", address: int, size: int, position: int
) -> tuple[int, int]:
    """Returns where `size` bytes lie in the batch's shared memory, and where its CTA's begin."""
    window = group.machine.shared
    if address >= SHARED_WINDOW:
        address -= SHARED_WINDOW
    if address < 0 or address + size > window.limit:
        message = (
            f"an access of {size} bytes at {address:#x} of .shared memory: its end is "
            f"{address + size - window.limit} bytes past the {window.limit} bytes there are"
        )
        raise group.fault(site, "bounds", message, np.array([position]), address)
    rows = group.row(window)
    row = 0 if rows is None else int(rows[position])
    return row + address, row


def shared_read(group: "Group", site: "Site", address: int, size: int, position: int) -> Array:
    """Returns `size` bytes of shared memory as a view; faults where they were never written."""
    window = group.machine.shared
    start, row = shared_place(group, site, address, size, position)
    if window.written is not None and not window.written[start : start + size].all():
        first = start - row + int(np.argmin(window.written[start : start + size]))
        message = f"a read of {size} bytes of .shared memory: byte {first:#x} was not written"
        raise group.fault(site, "uninitialised", message, np.array([position]), first)
    return window.storage[start : start + size]


def shared_write(group: "Group", site: "Site", address: int, data: Array, position: int) -> None:
    """Writes bytes to shared memory."""
    window = group.machine.shared
    start, _ = shared_place(group, site, address, data.size, position)
    window.storage[start : start + data.size] = data
    if window.written is not None:
        window.written[start : start + data.size] = 0xFF


def complete(group: "Group", site: "Site", barrier: int, size: int, position: int) -> None:
    """Tells an mbarrier that `size` bytes have arrived."""
    place, _ = shared_place(group, site, barrier, 8, position)
    aligned(group, site, "the mbarrier's address", barrier, 8, position)
    phases = group.machine.phases
    phase = phases.at.get(place // 8)
    if phase is None:
        message = f"there is no initialised mbarrier at {barrier:#x}"
        raise fault(group, site, "mbarrier", message, position)
    problem = phases.transact(phase, -size)
    if problem:
        raise fault(group, site, "mbarrier", problem, position)


def _wider(function: Callable[..., Any], form: str) -> Callable[[Array, Array], Array]:
    """Returns a reduction of 16-bit floats that is computed in f32 and rounded once."""

    def reduce(old: Array, new: Array) -> Array:
        if form == "f16":
            total = function(*(x.view(np.float16).astype(np.float32) for x in (old, new)))
            return total.astype(np.float16).view(np.uint16)
        wide = [(x.astype(np.uint32) << np.uint32(16)).view(np.float32) for x in (old, new)]
        bits = function(*wide).view(np.uint32)
        odd = (bits >> np.uint32(16)) & np.uint32(1)
        rounded = ((bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)).astype(np.uint16)
        nan = (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
        return _where(nan, np.uint16(0x7FFF), rounded)

    return reduce


def _wrap(old: Array, new: Array) -> Array:
    """Returns old + 1, or 0 where old has reached new."""
    return _where(old >= new, old.dtype.type(0), old + old.dtype.type(1))


def _unwrap(old: Array, new: Array) -> Array:
    """Returns old - 1, or new where old is 0 or above it."""
    return _where((old == 0) | (old > new), new, old - old.dtype.type(1))


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "min": np.minimum,
    "max": np.maximum,
    "inc": _wrap,
    "dec": _unwrap,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}


def reduction(operation: str, form: str) -> Callable[[Array, Array], Array]:
    """Returns what combines old and new elements; 16-bit floats come and go as their bits."""
    if form in ("f16", "bf16"):
        extremum = {"min": np.fmin, "max": np.fmax}
        return _wider(extremum.get(operation, np.add), form)
    return _FUNCTIONS[operation]
