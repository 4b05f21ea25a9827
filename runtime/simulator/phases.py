"""The mbarrier objects of one batch of CTAs (PTX ISA, "mbarrier")."""

MAX_COUNT = (1 << 20) - 1  # of arrivals and of bytes in flight
NUMBER = 32  # bit of a state token from which the number of its phase stands


class Phase:
    """
    One mbarrier: `pending` of `expected` arrivals and `bytes` are missing to complete a phase.

    `number` counts the phases that are complete. Bytes are negative where data came before it
    was announced.
    """

    __slots__ = ("bytes", "expected", "number", "pending")

    def __init__(self, expected: int) -> None:
        self.expected = expected
        self.pending = expected
        self.bytes = 0
        self.number = 0

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
    """The mbarriers by place in shared memory, and how many phases have completed in all."""

    __slots__ = ("at", "flips")

    def __init__(self) -> None:
        self.at: dict[int, Phase] = {}  # byte in the batch's shared memory, divided by 8
        self.flips = 0

    def arrive(self, phase: Phase, count: int) -> str:
        """Takes `count` arrivals; returns what is wrong with them, or the empty string."""
        if count > phase.pending:
            return f"{count} arrivals where {phase.pending} are pending"
        phase.pending -= count
        self.flips += phase.completes()
        return ""

    def transact(self, phase: Phase, count: int) -> str:
        """Adds to the bytes in flight, or takes from them; returns what is wrong, or ""."""
        phase.bytes += count
        if not -MAX_COUNT <= phase.bytes <= MAX_COUNT:
            return f"{phase.bytes} bytes in flight, the limit is {MAX_COUNT}"
        if count < 0:
            self.flips += phase.completes()
        return ""
