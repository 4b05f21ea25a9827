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


# What would cure a fault, by its kind, where the checks don't know better.
CURES = {
    "bounds": "compare the index with the extent before the access, or make the memory larger",
    "alignment": "let the address be a multiple of the bytes that the instruction accesses",
    "use-after-free": "keep the buffer until the launch has ended",
    "read-only": "store to memory that kernels may write",
    "uninitialised": "write this memory, or wait for what writes it, before it is read",
    "deadlock": "let everything come that is waited for: threads, arrivals, bytes",
    "divergence": "let all threads of a warp come to the same barrier together",
    "mbarrier": "initialise the mbarrier with what arrives at it, before anybody uses it",
    "tensor map": "make the map with what cuTensorMapEncodeTiled accepts",
}


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
    One fault found in a kernel, most of them while it ran.

    `kind` is "bounds", "alignment", "use-after-free", "read-only", "uninitialised", "deadlock",
    "divergence", "race", "proxy", "in-flight", "mbarrier", "transaction", "tensor map", "assert",
    "trap", "wgmma" or "registers". `ctaid` and `tid` name the first thread concerned, `lanes`
    says how many threads the same execution of the instruction concerns: 0 for what the text
    alone shows. `source` is `file:line:column` from `.loc`, or "". `address` is the generic or
    space address, where one is concerned. `calls` holds the PTX lines of the calls that lead to
    an instruction in a function, innermost first.
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
        place = f"  kernel {self.kernel}"
        if self.lanes:
            place += f", block {self.ctaid}, thread {self.tid} ({self.lanes} threads concerned)"
        lines = [f"{self.kind}: {self.message}", place]
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
