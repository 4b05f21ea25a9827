"""Ranges of bytes that one thread names and the copy engines move: checks, reductions, arrivals."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..chance import early
from ..distributed import is_gone, target_of
from ..scalars import Array

if TYPE_CHECKING:
    from ..compiler.program import Site
    from ..machine import Group

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
    return allocation.storage[start : start + size]


def follow_global(
    group: "Group",
    site: "Site",
    address: int,
    offsets: Array,
    size: int,
    write: bool,
    position: int,
    unchanged: bool = False,
) -> None:
    """
    Tells the checks that follow global memory of elements that a copy of one lane accesses.

    `offsets` are in bytes from the address; each element has `size` bytes. `unchanged` says that
    a write leaves them as they are.
    """
    races, memory = group.machine.launch.races, group.machine.launch.memory
    allocation = memory.find(address)
    if allocation is None or not offsets.size or (races is None and allocation.written is None):
        return
    index = (offsets + (address - allocation.base)) // size
    if races is not None:
        lanes = np.full(index.size, int(group.lanes()[position]))
        races.touch(group.machine, site, allocation, index, size, lanes, write, unchanged)
    if allocation.written is None:
        return
    marks = allocation.written[: allocation.size // size * size].reshape(-1, size)
    if write:
        marks[index] = 1
    elif not marks[index].all():
        bad = int(index[np.flatnonzero(~marks[index].all(axis=1))[0]]) * size + allocation.base
        message = f"a read of {size} bytes at {bad:#x} in {allocation}: not written"
        raise group.fault(site, "uninitialised", message, np.array([position]), bad)


def shared_place(
    group: "Group",
    site: "Site",
    address: int,
    size: int,
    position: int,
    rank: int | None = None,
) -> int:
    """
    Returns where `size` bytes lie in the batch's shared memory, in bytes.

    With `rank` it is the same place in the CTA of that rank of the cluster. Faults for what lies
    outside, and for the memory of a CTA that has exited.
    """
    machine, window = group.machine, group.machine.shared
    own = int(group.lanes()[position]) // machine.padded
    cta, place = target_of(machine, own, address)
    if rank is not None:
        cta = own - own % machine.cluster + rank if rank < machine.cluster else -1
    if cta < 0:
        message = f"there are {machine.cluster} CTAs in the cluster; {address:#x} is in none"
        raise group.fault(site, "bounds", message, np.array([position]), address)
    if place < 0 or place + size > window.limit:
        message = (
            f"an access of {size} bytes at {place:#x} of .shared memory: its end is "
            f"{place + size - window.limit} bytes past the {window.limit} bytes there are"
        )
        raise group.fault(site, "bounds", message, np.array([position]), address)
    if cta != own and is_gone(machine, cta):
        message = f"an access to the shared memory of CTA {cta % machine.cluster}, which has exited"
        raise group.fault(site, "use-after-free", message, np.array([position]), address)
    return cta * window.pitch + place


def shared_read(group: "Group", site: "Site", address: int, size: int, position: int) -> Array:
    """Returns `size` bytes of shared memory as a view; faults where they were never written."""
    window = group.machine.shared
    start = shared_place(group, site, address, size, position)
    if window.written is not None and not window.written[start : start + size].all():
        first = start + int(np.argmin(window.written[start : start + size]))
        first %= max(window.pitch, 1)
        message = f"a read of {size} bytes of .shared memory: byte {first:#x} was not written"
        raise group.fault(site, "uninitialised", message, np.array([position]), first)
    return window.storage[start : start + size]


def send(
    group: "Group",
    site: "Site",
    index: Array,
    data: Array,
    barrier: int,
    position: int,
    combine: Callable[[Array, Array], Array] | None = None,
    copies: bool = True,
) -> None:
    """
    Puts data on its way to shared memory; an mbarrier hears of it when it is there.

    `index` are its places in units of the data's elements, `barrier` is the byte of the mbarrier
    in the batch's shared memory. `combine` makes what is written of old and new elements.
    `copies` says that a bulk or tensor copy brings it.
    """
    machine, window = group.machine, group.machine.shared
    code, lane = data.dtype.str[1:], int(group.lanes()[position])
    phase = machine.phases.at.get(barrier // 8)
    if phase is None:
        message = f"there is no initialised mbarrier at {barrier % max(window.pitch, 1):#x}"
        raise fault(group, site, "mbarrier", message, position)
    if window.races is not None:
        window.races.glance(site, lane, barrier // 8)
        window.races.engine_write(site, lane, index, data.itemsize, barrier // 8, copies)

    def write() -> None:
        view = window.view(code)
        view[index] = data if combine is None else combine(view[index], data)
        marks = window.written_view(code)
        if marks is not None:
            marks[index] = np.full(16, 0xFF, np.uint8).view(marks.dtype)[0]

    problem = machine.phases.send(phase, write, data.nbytes, site, lane)
    if problem:
        raise fault(group, site, "transaction", problem, position)
    if early(machine.launch.random):
        machine.phases.deliver(phase)


def reads(group: "Group", site: "Site", units: Array, position: int) -> None:
    """Tells the race check that a bulk copy of one lane reads units of 16 bytes."""
    machine = group.machine
    if machine.shared.races is None:
        return
    lane, clocks = int(group.lanes()[position]), machine.clocks
    agent = lane // 32
    column = clocks.bulk + int(clocks.own[agent])
    machine.shared.races.engine_read(site, lane, units, SIZE, column, int(clocks.stores[agent]) + 1)


def mbarrier_place(
    group: "Group", site: "Site", address: int, position: int, rank: int | None = None
) -> int:
    """Returns the byte of an mbarrier in the batch's shared memory."""
    aligned(group, site, "the mbarrier's address", address, 8, position)
    return shared_place(group, site, address, 8, position, rank)


def steps_of(size: int) -> Array:
    """Returns the offsets of the units of 16 bytes that a copy of some bytes has."""
    return np.arange(0, size, SIZE)


def units_of(start: int, size: int) -> Array:
    """Returns the units of 16 bytes that a range of shared memory has."""
    return np.arange(start // SIZE, (start + size) // SIZE)


def ranks_of(mask: int) -> list[int]:
    """Returns the ranks of the CTAs that a mask of multicast names."""
    return [rank for rank in range(16) if mask >> rank & 1]


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
