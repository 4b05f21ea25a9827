"""
Time on a GPU: the median of CUDA events around single launches, the L2 cache flushed before each.

Launches that take less than `SMALL_US` are replayed as CUDA graphs, so that what the host does for
a launch is not in them: a replay costs it less than the flush takes the GPU, so the events stand
close around the work. Of longer launches the host's part is small.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..runtime.buffer import Buffer

SMALL_US = 5000.0
BUDGET_US = 200_000.0
FEWEST, MOST = 10, 200
WARM_UPS = 3

Launch = Callable[[], None]


class Event(Protocol):
    """A point in the work of a stream."""

    def elapsed_ms(self, start: Any) -> float:
        """Returns the milliseconds since `start`, once this point is reached."""
        ...


class TimedDevice(Protocol):
    """What a clock needs of a GPU."""

    l2_bytes: int

    def event(self, stream: object = None) -> Event:
        """Records an event."""
        ...

    def empty(self, shape: tuple[int, ...], dtype: str, name: str = "") -> Buffer:
        """Returns memory."""
        ...

    def fill(self, buffer: Buffer, pattern: int = 0, stream: object = None) -> None:
        """Sets each byte of a buffer."""
        ...

    def synchronize(self, stream: object = None) -> None:
        """Waits for the work of a stream."""
        ...


@dataclass(frozen=True)
class Timing:
    """Times of `count` launches in us: the median, and the 20th and the 80th of a hundred."""

    median_us: float
    low_us: float
    high_us: float
    count: int
    graph: bool


class Clock:
    """Times the work of launches on one stream of a GPU, each for about `budget_us`."""

    def __init__(self, device: TimedDevice, stream: object, budget_us: float = BUDGET_US) -> None:
        self._device = device
        self._budget_us = budget_us
        self.stream = stream
        self._flushed = device.empty((2 * max(device.l2_bytes, 1 << 20),), "i8", "L2")

    def time(self, launch: Launch, captured: Callable[[], Launch] | None = None) -> Timing:
        """
        Returns the times of a launch; `captured` makes a replay of it, where it can be captured.

        Raises what a launch raises.
        """
        for _ in range(WARM_UPS):
            launch()
        self._device.synchronize(self.stream)
        once = self._once(launch)
        replay = _captured(captured) if captured is not None and once < SMALL_US else None
        if replay is not None:
            launch = replay
            self._once(launch)
            once = self._once(launch)
        count = int(min(max(self._budget_us / max(once, 1.0), FEWEST), MOST))
        events = [self._around(launch) for _ in range(count)]
        times = [stop.elapsed_ms(start) * 1e3 for start, stop in events]
        low, median, high = np.percentile(times, (20, 50, 80)).tolist()
        return Timing(median, low, high, count, replay is not None)

    def floor_us(self) -> float:
        """Returns the time between two events with nothing between them."""
        return self.time(lambda: None).median_us

    def _once(self, launch: Launch) -> float:
        start, stop = self._around(launch)
        return stop.elapsed_ms(start) * 1e3

    def _around(self, launch: Launch) -> tuple[Event, Event]:
        self._device.fill(self._flushed, 0, self.stream)
        start = self._device.event(self.stream)
        launch()
        return start, self._device.event(self.stream)


def _captured(capture: Callable[[], Launch]) -> Launch | None:
    """Returns a replay, None of work that can't be captured: it is timed as it is."""
    try:
        return capture()
    except Exception:  # peers have errors of their own
        return None
