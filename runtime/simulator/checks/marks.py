"""
What the race checks remember of memory: marks of the last accesses, one for each unit of bytes.

A mark is one number, so that NumPy compares many at once: the lane in its warp (5 bits), the
instruction (14 bits), the agent, a flag for what async proxies may read, the time of the agent,
and on top a flag for what has to be looked at however old it is. Zero stands for no access.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import Finding, Place
from ..scalars import Array

if TYPE_CHECKING:
    from ..compiler.program import Site
    from ..machine import Machine

SITE_AT = 5
AGENT_AT = 19
_SITES = 1 << AGENT_AT - SITE_AT


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the agent ends and the time begins in a mark; the agent has the bits between."""

    agent_bits: int
    time_bits: int

    @property
    def time_at(self) -> int:
        """First bit of the time; the one below is the flag of the async proxy."""
        return AGENT_AT + self.agent_bits + 1

    @property
    def proxied(self) -> int:
        """Flag of writes that async proxies may read without a fence."""
        return 1 << self.time_at - 1

    @property
    def careful(self) -> int:
        """Flag of marks whose time is no warp's of the same CTA."""
        return 1 << self.time_at + self.time_bits

    @property
    def never(self) -> int:
        """The time of what is in flight: later than any other."""
        return (1 << self.time_bits) - 1

    def agent(self, marks: Any) -> Any:
        """Returns the agents of marks."""
        return (marks >> AGENT_AT) & ((1 << self.agent_bits) - 1)

    def time(self, marks: Any) -> Any:
        """Returns the times of marks."""
        return (marks >> self.time_at) & self.never


SHARED = Layout(16, 26)
GLOBAL = Layout(24, 18)


class Sites:
    """Numbers for the instructions that accessed memory."""

    def __init__(self) -> None:
        self._sites: list[Site] = []
        self._numbers: dict[Site, int] = {}

    def number(self, site: "Site") -> int:
        """Returns the number of a site; the last number stands for all beyond the limit."""
        number = self._numbers.get(site)
        if number is None:
            number = self._numbers[site] = min(len(self._sites), _SITES - 1)
            self._sites.append(site)
        return number

    def of(self, mark: int) -> "Site":
        """Returns the site of a mark."""
        return self._sites[(mark >> SITE_AT) & (_SITES - 1)]

    def are_strong(self, marks: Array) -> Array:
        """Says which marks come from strong accesses."""
        strong = np.array([bool(site.operation) for site in self._sites])
        return strong[(marks >> SITE_AT) & (_SITES - 1)]


def numbers_of(marks: Array) -> Array:
    """Returns the numbers of the sites of marks."""
    return (marks >> SITE_AT) & (_SITES - 1)


def pairs_of(
    sites: Sites, lanes: Array, units: Array, last: Array
) -> "Iterator[tuple[Site, Array, int, int]]":
    """
    Yields each earlier instruction that lanes met.

    `last` holds the marks that the lanes met at the units of a shadow. With the site of an
    instruction come its lanes, and the first unit and mark of them.
    """
    numbers = numbers_of(last)
    for number in np.unique(numbers):
        chosen = np.flatnonzero(numbers == number)
        first = int(chosen[0])
        yield sites.of(int(last[first])), lanes[chosen], int(units[first]), int(last[first])


def place_of(machine: "Machine", site: "Site", ctaid: Any, tid: Any) -> Place:
    """Returns the place of the other access of a pair."""
    module = machine.program.module
    instruction = site.instruction
    return Place(
        ctaid, tid, instruction.line, module.source_of(instruction), module.text_of(instruction)
    )


def add_finding(
    machine: "Machine",
    kind: str,
    site: "Site",
    other: "Site",
    make: Any,
) -> None:
    """Adds a finding of a pair of instructions, unless the launch has it; `make` returns it."""
    here, there = site.instruction.line, other.instruction.line
    findings = machine.launch.findings
    if (kind, here, there) not in findings and (kind, there, here) not in findings:
        findings[kind, here, there] = make()


def finding_of(
    machine: "Machine",
    kind: str,
    site: "Site",
    message: str,
    lanes: Array,
    **fields: Any,
) -> Finding:
    """Returns a finding at an instruction of some lanes; `fields` are more of its attributes."""
    error = machine.fault(site.instruction, kind, message, np.unique(lanes))
    return replace(error.finding, **fields)
