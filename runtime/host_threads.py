"""The threads that run parallel loops of kernels on the host, outside the interpreter's lock."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Lock

# A thread takes this part of what each thread would have of the rest, so that a slow one holds
# nobody up: "guided self-scheduling" (Polychronopoulos and Kuck, IEEE Trans. Comp. 36(12), 1987).
SHARE = 2

_PART = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
_RUNNER = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)


def available_threads() -> int:
    """Returns how many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Threads:
    """
    A number of threads, the caller's own among them.

    `runner` is the address of a function that machine code calls with the address of a body, that
    of its context, and an extent; 0 where there is one thread.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self._pool = ThreadPoolExecutor(number - 1, "tilewright") if number > 1 else None
        self._callback = _RUNNER(self._run)
        address = ctypes.cast(self._callback, ctypes.c_void_p).value
        self.runner = (address or 0) if number > 1 else 0

    def _run(self, body: int, context: int, extent: int) -> None:
        if extent < 1 or self._pool is None:
            return
        part: Callable[[int, int, int], None] = _PART(body)
        parts, lock = parts_of(extent, self.number), Lock()

        def work() -> None:
            while True:
                with lock:
                    bounds = next(parts, None)
                if bounds is None:
                    return
                part(context, *bounds)

        others = [self._pool.submit(work) for _ in range(min(self.number, extent) - 1)]
        work()
        for other in others:
            other.result()


def parts_of(extent: int, number: int) -> Iterator[tuple[int, int]]:
    """Yields the parts of a loop, first and last plus 1, in which a number of threads take it."""
    start = 0
    while start < extent:
        end = start + max(1, (extent - start) // (SHARE * number))
        yield start, end
        start = end


@cache
def threads(number: int) -> Threads:
    """Returns threads, the same each time, that wait for work between calls."""
    return Threads(number)
