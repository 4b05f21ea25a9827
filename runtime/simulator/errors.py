"""Errors and findings of the simulator: each one names a place in the PTX text."""

from dataclasses import dataclass


class PTXError(Exception):
    """
    Says that a PTX text can't be parsed, or uses something that isn't covered.

    `line` and `column` count from 1 and name the first place; `message` may list more places.
    """

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(f"ptx:{line}:{column}: error: {message}")
        self.message = message
        self.line = line
        self.column = column


class LaunchError(Exception):
    """Says that a launch or an argument list doesn't fit the kernel; nothing has run."""


@dataclass(frozen=True)
class Place:
    """The other access of a pair: its thread and instruction."""

    ctaid: tuple[int, int, int]
    tid: tuple[int, int, int]
    line: int
    source: str
    instruction: str

    def __str__(self) -> str:
        """Returns one line for a report."""
        at = f" from {self.source}" if self.source else ""
        thread = f"block {self.ctaid}, thread {self.tid}"
        return f"{thread}, PTX line {self.line}{at}: {self.instruction}"


@dataclass(frozen=True)
class Finding:
    """
    One fault found while a kernel ran.

    `kind` is "bounds", "alignment", "use-after-free", "read-only", "uninitialised", "deadlock",
    "divergence", "race", "in-flight", "mbarrier", "tensor map", "assert" or "trap". `ctaid` and
    `tid` name the first thread concerned, `lanes` says how many threads the same execution of the
    instruction concerns. `source` is `file:line:column` from `.loc`, or "". `address` is the
    generic or space address, where one is concerned. `calls` holds the PTX lines of the calls
    that lead to an instruction in a function, innermost first.
    """

    kind: str
    message: str
    kernel: str
    ctaid: tuple[int, int, int] = (0, 0, 0)
    tid: tuple[int, int, int] = (0, 0, 0)
    lanes: int = 0
    line: int = 0
    source: str = ""
    instruction: str = ""
    address: int | None = None
    allocation: str = ""
    other: Place | None = None
    cure: str = ""
    calls: tuple[int, ...] = ()

    def __str__(self) -> str:
        """Returns the report as text, several lines."""
        place = f"kernel {self.kernel}, block {self.ctaid}, thread {self.tid}"
        lines = [f"{self.kind}: {self.message}", f"  {place} ({self.lanes} threads concerned)"]
        if self.line:
            at = f" from {self.source}" if self.source else ""
            lines.append(f"  PTX line {self.line}{at}: {self.instruction}")
        if self.calls:
            lines.append(f"  called from PTX line {', '.join(map(str, self.calls))}")
        if self.allocation:
            lines.append(f"  in {self.allocation}")
        if self.other is not None:
            lines.append(f"  other access: {self.other}")
        if self.cure:
            lines.append(f"  cure: {self.cure}")
        return "\n".join(lines)


class SimulationError(Exception):
    """
    Ends a launch: the kernel did what no GPU defines. `finding` says what and where.

    `printed` is what the kernel's printf calls gave before.
    """

    def __init__(self, finding: Finding) -> None:
        super().__init__(str(finding))
        self.finding = finding
        self.printed = ""
