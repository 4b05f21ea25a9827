"""Global memory: allocations with addresses of their own, each on a NumPy array."""

from bisect import bisect_right
from typing import Any

import numpy as np

from .scalars import Array

GLOBAL_BASE = 1 << 40
GLOBAL_END = 1 << 47
# Generic addresses of the other spaces. A real GPU has windows as well, elsewhere.
SHARED_WINDOW = 1 << 48
PARAM_WINDOW = 1 << 49
LOCAL_WINDOW = 1 << 50
WINDOW_BYTES = 1 << 32
_ALIGNMENT = 256  # as cudaMalloc promises
_GAP = 512  # bytes that belong to nobody between two allocations


class Allocation:
    """A range of global memory; `storage` is a one-dimensional uint8 array of `size` bytes."""

    __slots__ = ("_views", "base", "heap", "live", "name", "size", "storage", "writable", "written")

    def __init__(self, name: str, base: int, storage: Array, writable: bool) -> None:
        self.name = name
        self.base = base
        self.size = storage.size
        self.storage = storage
        self.writable = writable
        self.live = True
        self.heap = False  # whether a kernel's malloc made it
        self.written: Array | None = None  # marks of written bytes, None where nobody asks
        self._views: dict[str, Array] = {}

    def view(self, code: str) -> Array:
        """Returns the contents as an array of a dtype, as many whole elements as there are."""
        view = self._views.get(code)
        if view is None:
            size = np.dtype(code).itemsize
            view = self.storage[: self.size // size * size].view(code)
            self._views[code] = view
        return view

    def release(self) -> None:
        """Lets go of the memory; name and range stay known."""
        self.live = False
        self.storage = np.empty(0, np.uint8)
        self._views.clear()

    def __str__(self) -> str:
        """Returns the name and the range."""
        name = self.name or "an unnamed buffer"
        return f"{name} [{self.base:#x}, {self.base + self.size:#x}) of {self.size} bytes"


class DeviceMemory:
    """All allocations of one device. Addresses are never used twice, so stale ones are known."""

    def __init__(self) -> None:
        self._bases: list[int] = []
        self._allocations: list[Allocation] = []
        self._ranges: tuple[Array, Array] | None = None  # bases and ends, as `owners` wants them
        self._next = GLOBAL_BASE
        self.heap_bytes = 0  # that kernels' mallocs hold

    def add(self, storage: Array, name: str = "", writable: bool = True) -> Allocation:
        """Gives a contiguous uint8 array an address, a multiple of 256."""
        allocation = Allocation(name, self._next, storage, writable)
        self._bases.append(allocation.base)
        self._ranges = None
        self._allocations.append(allocation)
        end = self._next + storage.size + _GAP
        self._next = (end + _ALIGNMENT - 1) & -_ALIGNMENT
        return allocation

    def writable(self) -> list[Allocation]:
        """Returns what is live and may be written, in the order in which it was made."""
        return [a for a in self._allocations if a.live and a.writable]

    def free(self, allocation: Allocation) -> None:
        """Ends an allocation; its range stays known as freed."""
        allocation.release()
        if len(self._allocations) > 4096:
            self._forget()

    def allocate(self, storage: Array, name: str) -> Allocation:
        """Adds what a kernel's malloc asks for; it outlives the launch."""
        allocation = self.add(storage, name)
        allocation.heap = True
        self.heap_bytes += storage.size
        return allocation

    def deallocate(self, allocation: Allocation) -> None:
        """Ends what a kernel's malloc made."""
        self.heap_bytes -= allocation.size
        self.free(allocation)

    def _forget(self) -> None:
        """Drops the older half of the freed ranges."""
        dead = [a for a in self._allocations if not a.live]
        gone = set(dead[: len(dead) // 2])
        self._allocations = [a for a in self._allocations if a not in gone]
        self._bases = [a.base for a in self._allocations]
        self._ranges = None

    def find(self, address: int) -> Allocation | None:
        """Returns the allocation, live or freed, that begins last at or before an address."""
        index = bisect_right(self._bases, address) - 1
        return self._allocations[index] if index >= 0 else None

    def owners(self, addresses: Array) -> tuple[Array, Array]:
        """
        Returns what the allocations of u64 addresses are: numbers, and which addresses have one.

        Addresses have the same number where `find` returns the same allocation.
        """
        if self._ranges is None:
            ends = [0, *(a.base + a.size for a in self._allocations)]
            self._ranges = np.array(self._bases, np.uint64), np.array(ends, np.uint64)
        bases, ends = self._ranges
        numbers = np.searchsorted(bases, addresses, "right")
        return numbers, addresses < ends[numbers]

    def describe(self, address: int, size: int) -> tuple[str, str]:
        """Returns the kind of fault that an access at an address is, and how far outside it is."""
        below = self.find(address)
        if below is not None and not below.live and address < below.base + below.size:
            return "use-after-free", f"the access lies in {below}, which was freed"
        index = bisect_right(self._bases, address)
        above = self._allocations[index] if index < len(self._allocations) else None
        candidates: list[tuple[int, str]] = []
        if below is not None:
            over = address + size - (below.base + below.size)
            candidates.append((over, f"its end is {over} bytes past the end of {below}"))
        if above is not None:
            under = above.base - address
            candidates.append((under, f"it begins {under} bytes before {above}"))
        if not candidates:
            return "bounds", "there is no allocation"
        return "bounds", min(candidates)[1]


class Window:
    """
    A space of which each CTA or each lane has a row: shared, local or param memory.

    `base` holds the byte at which each lane's row begins, None where all lanes share one row.
    `written` marks the bytes that were written, None where nobody asks.
    """

    def __init__(
        self, space: str, storage: Array, limit: int, base: Array | None, writable: bool = True
    ) -> None:
        self.space = space
        self.storage = storage
        self.limit = limit
        self.base = base
        self.writable = writable
        self.pitch = 0  # bytes from one CTA's row of shared memory to the next
        self.written: Array | None = None
        self.races: Any = None  # what checks/races.py keeps of a checked space
        self._views: dict[str, Array] = {}
        self._written_views: dict[str, Array] = {}

    def view(self, code: str) -> Array:
        """Returns the contents as an array of a dtype."""
        view = self._views.get(code)
        if view is None:
            view = self._views[code] = self.storage.view(code)
        return view

    def written_view(self, code: str) -> Array | None:
        """Returns the marks of written bytes as an array of a dtype."""
        if self.written is None:
            return None
        view = self._written_views.get(code)
        if view is None:
            view = self._written_views[code] = self.written.view(code)
        return view
