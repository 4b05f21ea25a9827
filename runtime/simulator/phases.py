"""The mbarrier objects of one batch of CTAs (PTX ISA, "mbarrier")."""

from collections.abc import Callable
from typing import Any

MAX_COUNT = (1 << 20) - 1  # of arrivals and of bytes in flight
NUMBER = 32  # bit of a state token from which the number of its phase stands


class Phase:
    """
    One mbarrier: `pending` of `expected` arrivals and `bytes` are missing to complete a phase.

    `number` counts the phases that are complete. Bytes are negative where data came before it
    was announced. `deliveries` holds data that is on its way: what writes it, how many bytes it
    counts for, and the site and lane that sent it. `announced` is the last site and lane that
    told it of bytes to come, `brought` the last ones that brought some.
    """

    __slots__ = (
        "announced",
        "brought",
        "bytes",
        "deliveries",
        "expected",
        "number",
        "pending",
        "place",
    )

    def __init__(self, place: int, expected: int) -> None:
        self.place = place  # byte in the batch's shared memory, divided by 8
        self.expected = expected
        self.pending = expected
        self.bytes = 0
        self.number = 0
        self.announced: tuple[Any, int] | None = None
        self.brought: tuple[Any, int] | None = None
        self.deliveries: list[tuple[Callable[[], None], int, Any, int]] = []

    def token(self) -> int:
        """Returns the state that an arrival now would be given: phase and pending count."""
        return self.number << NUMBER | self.pending

    def completes(self) -> bool:
        """Begins the next phase if nothing is missing; says whether it did."""
        if self.pending or self.bytes:
            return False
        self.number += 1
        self.pending = self.expected
        return True

    def __str__(self) -> str:
        """Returns what is missing."""
        return (
            f"phase {self.number}: {self.pending} of {self.expected} arrivals and "
            f"{self.bytes} bytes are missing"
        )


class Phases:
    """
    The mbarriers by place in shared memory, and how many phases have completed in all.

    Data that copies bring is delivered at the latest moment: when a thread asks for the phase, or
    when nothing else can go on. So a thread that forgets to wait sees what was there before.
    """

    __slots__ = ("at", "clocks", "excess", "flips", "under_way")

    def __init__(self) -> None:
        self.at: dict[int, Phase] = {}
        self.flips = 0
        self.under_way: dict[Phase, None] = {}  # those with deliveries
        self.excess: list[tuple[Any, int, int, Phase]] = []  # site, lane, bytes that came too late
        self.clocks: Any = None  # the batch's vector clocks, where races are looked for

    def _advance(self, phase: Phase) -> None:
        """Begins the next phase if nothing is missing."""
        if phase.completes():
            self.flips += 1
            if self.clocks is not None:
                self.clocks.phase_completed(phase.place, phase.number)

    def arrive(self, phase: Phase, count: int) -> str:
        """Takes `count` arrivals; returns what is wrong with them, or the empty string."""
        if count > phase.pending and phase.deliveries:
            self.deliver(phase)
        if count > phase.pending:
            return f"{count} arrivals where {phase.pending} are pending"
        phase.pending -= count
        self._advance(phase)
        return ""

    def transact(self, phase: Phase, count: int) -> str:
        """Adds to the bytes in flight, or takes from them; returns what is wrong, or ""."""
        phase.bytes += count
        if not -MAX_COUNT <= phase.bytes <= MAX_COUNT:
            return f"{phase.bytes} bytes in flight, the limit is {MAX_COUNT}"
        if count < 0:
            self._advance(phase)
        return ""

    def send(self, phase: Phase, write: Callable[[], None], size: int, site: Any, lane: int) -> str:
        """Takes data for a phase; returns what is wrong with its size, or ""."""
        phase.deliveries.append((write, size, site, lane))
        self.under_way[phase] = None
        coming = sum(count for _, count, _, _ in phase.deliveries)
        if coming - phase.bytes > MAX_COUNT:
            return f"{coming} bytes in flight, the limit is {MAX_COUNT}"
        return ""

    def deliver(self, phase: Phase) -> None:
        """Writes the data that is on its way to an mbarrier, and tells it of its bytes."""
        deliveries, phase.deliveries = phase.deliveries, []
        self.under_way.pop(phase, None)
        number = phase.number
        for write, size, site, lane in deliveries:
            if phase.number != number:  # sent for a phase that was complete without it
                self.excess.append((site, lane, size, phase))
            write()
            phase.brought = site, lane
            self.transact(phase, -size)

    def deliver_all(self) -> None:
        """Writes all data that is on its way."""
        for phase in list(self.under_way):
            self.deliver(phase)
