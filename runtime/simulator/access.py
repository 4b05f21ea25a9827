"""Checks addresses and turns them into indices of NumPy views."""

from typing import TYPE_CHECKING, Any

import numpy as np

from .checks.stored import Stored
from .distributed import cluster_index, is_distributed
from .memory import Allocation, Window
from .scalars import Array, Lanes, word_code

if TYPE_CHECKING:
    from .compiler.program import Site
    from .machine import Group

_MASK64 = (1 << 64) - 1


class Hit:
    """The allocation that an instruction accessed last, ready for the next access."""

    __slots__ = ("allocation", "delta", "limit", "low", "shift", "view")

    def __init__(self, allocation: Allocation, site: "Site") -> None:
        size = site.size
        self.allocation = allocation
        self.delta = np.uint64((site.offset - allocation.base) & _MASK64)
        self.limit = allocation.size - size
        self.low = size - 1
        self.shift = np.uint64(size.bit_length() - 1)
        self.view = allocation.view(site.code)


def _range(values: Lanes) -> tuple[int, int]:
    """Returns the largest value and the bits that are set in any."""
    if values.ndim == 0:
        return int(values), int(values)
    return int(np.maximum.reduce(values)), int(np.bitwise_or.reduce(values))


def global_index(
    group: "Group", site: "Site", address: Lanes, write: bool, value: Lanes = None
) -> tuple[Any, Any]:
    """
    Returns the view and the indices that u64 addresses plus the site's offset mean.

    `value` is what a store is about to write there, one element of the access a lane.

    Where the lanes access several allocations the view is None and the second result lists the
    positions of the lanes of each, for part_index. Raises SimulationError for a fault of any lane.
    """
    hits = group.machine.hits
    hit: Hit | None = hits.get(site)
    if hit is not None:
        relative = address + hit.delta
        top, bits = _range(relative)
        if top <= hit.limit and not bits & hit.low:
            index = (relative >> hit.shift).view(np.int64)
            if hit.allocation.written is not None or group.machine.launch.races is not None:
                _follow(group, site, hit, index, write, value)
            return hit.view, index
    if not address.ndim:
        return _settle(group, site, address, write, None, value)
    if address.size == 0:
        return np.empty(1, word_code(site.size)), address.view(np.int64)
    return _search(group, site, address, write, value)


def _search(
    group: "Group", site: "Site", address: Array, write: bool, value: Lanes
) -> tuple[Any, Any]:
    """Finds the allocation of the first lane; parts the lanes where others lie elsewhere."""
    full = address + np.uint64(site.offset & _MASK64)
    first = group.machine.launch.memory.find(int(full[0]))
    if first is None:
        raise _fault(group, site, full, np.arange(1))
    inside = (full - np.uint64(first.base)) < np.uint64(first.size)
    if inside.all() or not inside[0]:
        return _settle(group, site, address, write, full, value)
    owners, within = group.machine.launch.memory.owners(full)
    if not within.all():
        raise _fault(group, site, full, np.flatnonzero(~within)[:1])
    order = np.argsort(owners, kind="stable")
    starts = np.flatnonzero(np.diff(owners[order])) + 1
    return None, np.split(order, starts)


def part_index(
    group: "Group", site: "Site", address: Array, write: bool, value: Lanes = None
) -> tuple[Array, Array]:
    """Does what global_index does, for lanes that it has found to access one allocation."""
    full = address + np.uint64(site.offset & _MASK64)
    return _settle(group, site, address, write, full, value)


def _settle(
    group: "Group", site: "Site", address: Lanes, write: bool, full: Array | None, value: Lanes
) -> tuple[Any, Any]:
    """Checks lanes against the allocation of the first one and remembers it."""
    if full is None:
        full = np.asarray(address + np.uint64(site.offset & _MASK64)).reshape(1)
    allocation = group.machine.launch.memory.find(int(full[0]))
    if allocation is None:
        raise _fault(group, site, full, np.arange(1))
    relative = full - np.uint64(allocation.base)
    outside = relative > np.uint64(max(allocation.size - site.size, 0))
    if allocation.size < site.size or not allocation.live or outside.any():
        bad = np.flatnonzero(outside) if outside.any() else np.arange(full.size)
        raise _fault(group, site, full, bad)
    low = full & np.uint64(site.size - 1)
    if low.any():
        raise misaligned(group, site, full, np.flatnonzero(low))
    if write and not allocation.writable:
        message = f"a store of {site.size} bytes to {allocation}, which is read-only"
        raise group.fault(site, "read-only", message, None, int(full[0]))
    hit = Hit(allocation, site)
    group.machine.hits[site] = hit
    index = (relative >> hit.shift).view(np.int64)
    if not address.ndim:
        index = index[0]
    if allocation.written is not None or group.machine.launch.races is not None:
        _follow(group, site, hit, index, write, value)
    return hit.view, index


def _follow(
    group: "Group", site: "Site", hit: Hit, index: Lanes, write: bool, value: Lanes
) -> None:
    """Tells the checks that follow global memory of an access."""
    races, allocation = group.machine.launch.races, hit.allocation
    if races is not None:
        stored = None if value is None else Stored(hit.view, index, value)
        races.access(group, site, allocation, index, write, stored)
    if allocation.written is None:
        return
    size = site.size
    marks = allocation.written[: allocation.size // size * size].reshape(-1, size)
    if write:
        marks[index] = 1
        return
    bad = np.flatnonzero(~np.atleast_2d(marks[index]).all(axis=1))
    if bad.size:
        address = allocation.base + int(np.atleast_1d(index)[bad[0]]) * size
        message = f"a read of {size} bytes at {address:#x} in {allocation}: not written"
        positions = bad if bad.size < group.n and index.ndim else None
        raise group.fault(site, "uninitialised", message, positions, address)


def _fault(group: "Group", site: "Site", full: Array, bad: Array) -> Exception:
    """Returns the fault of lanes that access no allocation."""
    address = int(full[bad[0]])
    kind, where = group.machine.launch.memory.describe(address, site.size)
    message = f"an access of {site.size} bytes at {address:#x}: {where}"
    return group.fault(site, kind, message, bad if group.n > 1 else None, address)


def misaligned(group: "Group", site: "Site", full: Array, bad: Array) -> Exception:
    """Returns the fault of lanes whose address is no multiple of the access size."""
    address = int(full[bad[0]])
    message = f"an access of {site.size} bytes at {address:#x}, which is not a multiple of it"
    return group.fault(site, "alignment", message, bad if bad.size < group.n else None, address)


class Place:
    """
    Where the lanes of one array of addresses lie in a space, without any site's offset.

    `index` counts elements of an access from the start of the space's storage.
    """

    __slots__ = ("address", "index", "low", "top")

    def __init__(self, address: Lanes, top: int, index: Lanes) -> None:
        self.address = address  # kept, so that its id stays its own
        self.top = top
        self.low = -1  # the smallest address, once it was asked for
        self.index = index

    def admits(self, offset: int, last: int) -> bool:
        """Says whether all lanes stay within 0 and `last` with an offset added."""
        if self.top + offset > last:
            return False
        if offset < 0 and self.low < 0:
            self.low = int(self.address.min(initial=self.top))
        return offset >= 0 or self.low + offset >= 0


def window_index(
    group: "Group",
    site: "Site",
    window: Window,
    address: Lanes,
    write: bool,
    mark: bool = True,
    value: Lanes = None,
) -> tuple[Array, Lanes]:
    """
    Returns the view and indices for addresses that count from the start of a space.

    `address` is u32 or u64 without the site's offset. `mark` says that a write happens now, and
    `value` what a store is about to write, one element of the access a lane.
    Raises SimulationError for a fault.
    """
    start, index = _window_place(group, site, window, address, write, mark, value)
    return window.view(site.code), index + start if start else index


def window_access(
    group: "Group", site: "Site", window: Window, address: Lanes, write: bool, value: Lanes = None
) -> tuple[Array, Lanes]:
    """Does what window_index does; the view may begin behind the start of the space."""
    start, index = _window_place(group, site, window, address, write, True, value)
    view = window.view(site.code)
    return view[start:] if start else view, index


def _window_place(
    group: "Group",
    site: "Site",
    window: Window,
    address: Lanes,
    write: bool,
    mark: bool,
    value: Lanes,
) -> tuple[int, Lanes]:
    """Returns a start and indices from there, as int64; what lanes share is found only once."""
    if write and not window.writable:
        raise group.fault(site, "read-only", f"a store to .{window.space} memory")
    size, offset = site.size, site.offset
    key = id(address), size, window.space
    known = group.places.get(key)
    if known is None:
        known = _find_place(group, window, address, size)
        if known is not None:
            group.remember(key, known)
    shift = size.bit_length() - 1
    if known is not None and not offset & (size - 1) and known.admits(offset, window.limit - size):
        start, index = offset >> shift, known.index
        if start < 0:
            start, index = 0, index + start
    else:
        start, index = 0, _checked(group, site, window, address)
    if window.written is not None and mark:
        _track(group, site, window, start, index, write)
    if window.races is not None and (write or mark):
        stored = None if value is None else Stored(window.view(site.code)[start:], index, value)
        window.races.access(group, site, index, write, not mark, stored, start)
    return start, index


def _find_place(group: "Group", window: Window, address: Lanes, size: int) -> Place | None:
    """Returns the place of addresses; None where some are not aligned, or far outside."""
    top, bits = _range(address) if address.size else (0, 0)
    if bits & (size - 1) or top > window.limit:
        return None
    shift = size.bit_length() - 1
    return Place(address, top, _row_index(group, window, address, shift))


def _row_index(group: "Group", window: Window, address: Lanes, shift: int) -> Lanes:
    """Returns checked addresses as int64 indices of a space's storage."""
    row = group.row(window, shift)
    index = address >> address.dtype.type(shift)
    index = index.view(np.int64) if index.itemsize == 8 else index
    if row is not None:
        return index + row
    return index if index.dtype == np.int64 else index.astype(np.int64)


def _checked(group: "Group", site: "Site", window: Window, address: Lanes) -> Lanes:
    """Returns the indices of addresses of which each is checked with the offset added."""
    size = site.size
    if site.offset:
        mask = _MASK64 if address.itemsize == 8 else _MASK64 >> 32
        address = address + address.dtype.type(site.offset & mask)
    top, bits = _range(address) if address.size else (0, 0)
    shift = size.bit_length() - 1
    if top <= window.limit - size and not bits & (size - 1):
        return _row_index(group, window, address, shift)
    index = _elsewhere(group, site, window, address, top, bits) >> shift
    return index if index.dtype == np.int64 else index.astype(np.int64)


def _elsewhere(
    group: "Group", site: "Site", window: Window, address: Lanes, top: int, bits: int
) -> Any:
    """
    Returns the bytes of shared memory where another CTA of the cluster may have been meant.

    `top` is the largest address and `bits` are those set in any. Raises SimulationError else.
    """
    found = None
    if is_distributed(site, window, top) and not bits & (site.size - 1):
        found = cluster_index(group, site, window, address)
    if found is None:
        raise _window_fault(group, site, window, address)
    return found


def _track(
    group: "Group", site: "Site", window: Window, start: int, index: Lanes, write: bool
) -> None:
    """Marks written bytes, or checks that read bytes were written; see _window_place."""
    marks = window.written_view(word_code(site.size))
    if marks is None:
        return
    marks = marks[start:]
    if write:
        marks[index] = np.full(16, 0xFF, np.uint8).view(marks.dtype)[0]
        return
    raw = np.atleast_1d(marks.take(index))
    words = raw.view(word_code(min(site.size, 8)))
    if np.bitwise_and.reduce(words) == ~words.dtype.type(0):
        return
    raw = raw.view(np.uint8).reshape(-1, site.size)
    bad = np.flatnonzero(~raw.all(axis=1))
    if bad.size:
        where = (int(np.atleast_1d(index)[bad[0]]) + start) * site.size
        if window.pitch:
            where %= window.pitch
        message = (
            f"a read of {site.size} bytes of .{window.space} memory at {where:#x}: not written"
        )
        positions = bad if bad.size < group.n else None
        raise group.fault(site, "uninitialised", message, positions, where)


def _window_fault(group: "Group", site: "Site", window: Window, address: Lanes) -> Exception:
    """Returns the bounds or alignment fault of an access to a window."""
    size = site.size
    full = np.asarray(address).reshape(-1)
    limit = window.limit - size
    outside = full > full.dtype.type(limit) if limit >= 0 else np.ones(full.size, bool)
    if not outside.any():
        return misaligned(group, site, full, np.flatnonzero(full & full.dtype.type(size - 1)))
    bad = np.flatnonzero(outside)
    at = int(full[bad[0]])
    over = at + size - window.limit
    message = (
        f"an access of {size} bytes at {at:#x} of .{window.space} memory: its end is {over} bytes "
        f"past the {window.limit} bytes there are"
    )
    return group.fault(site, "bounds", message, bad if bad.size < group.n else None, at)
