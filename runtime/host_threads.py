"""The threads that run parallel loops of kernels on the host, outside the interpreter's lock."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import count
from threading import Lock

CHUNKS = 4  # parts of a loop for each thread, so that a slow one holds nobody up

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
        parts = min(extent, CHUNKS * self.number)
        part: Callable[[int, int, int], None] = _PART(body)
        numbers, lock = count(), Lock()

        def work() -> None:
            while True:
                with lock:
                    number = next(numbers)
                if number >= parts:
                    return
                part(context, number * extent // parts, (number + 1) * extent // parts)

        others = [self._pool.submit(work) for _ in range(min(self.number, parts) - 1)]
        work()
        for other in others:
            other.result()


@cache
def threads(number: int) -> Threads:
    """Returns threads, the same each time, that wait for work between calls."""
    return Threads(number)
