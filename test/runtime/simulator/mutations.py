"""
Correct kernels of the corpus with one synchronisation changed, and which of the changes matter.

A mutation drops a line, lets a wait for an mbarrier end at once, lets one group more stay in
flight, or changes the bytes that an mbarrier expects. It is needed, that is, some legal schedule
gives another result or none at all, unless REDUNDANT says why not. Everything there was decided
from the kernels and the PTX ISA.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tilewright.runtime import simulator
from tilewright.test.runtime.simulator.cases import Case

_DROPPED = re.compile(
    r"\s*(bar(?:rier)?(?:\.cta)?\.(?:sync|arrive)"
    r"|cp\.async\.(?:commit_group|wait_group|wait_all)"
    r"|cp\.async\.bulk\.(?:commit_group|wait_group(?:\.read)?)"
    r"|cp\.async\.mbarrier\.arrive"
    r"|wgmma\.(?:fence|commit_group|wait_group)"
    r"|fence\.proxy\.async"
    r"|fence\.(?:acq_rel|sc)|membar"
    r"|barrier\.cluster\.(?:arrive|wait)"
    r"|mbarrier\.arrive(?!\.expect_tx))"
    r"(?![\w])"
)
_WAIT = re.compile(r"\s*mbarrier\.try_wait\S*\s+(?P<flag>[%\w]+),")
_EXPECT = re.compile(r"(?P<head>\s*mbarrier\.arrive\.expect_tx.*,\s*)(?P<bytes>[%\w]+);")
_GROUPS = re.compile(r"(?P<head>\s*(?P<name>[\w.]+\.wait_group(?:\.read)?)\S*\s+)(?P<left>\d+);")
_ENTRY = re.compile(r"\s*(?:\.visible\s+)?\.entry\s+(\w+)")


@dataclass(frozen=True)
class Mutation:
    """One change of a text: the line, from 1, what it does, and the line's new contents."""

    line: int
    operation: str
    number: int  # of this operation in its kernel, from 1
    contents: str

    @property
    def name(self) -> str:
        """The operation with its number, as the table of redundant ones has it."""
        return f"{self.operation} {self.number}"

    def apply(self, text: str) -> str:
        """Returns the text with the line changed."""
        lines = text.splitlines()
        lines[self.line - 1] = self.contents
        return "\n".join(lines)


# By case: mutations that change no result under any schedule, and why.
_FENCED = (
    "since the first fence nothing but wgmma of one shape has touched the accumulators, and A is "
    "in shared memory (PTX ISA, wgmma.fence)"
)
_NOT_AWAITED = "only the last of an odd number of steps comes here: no later step needs its stage"
REDUNDANT: dict[str, dict[str, str]] = {
    "gemm_ss": {
        "wgmma.fence 2": _FENCED,
        "mbarrier.arrive 3": _NOT_AWAITED,
    },
    "gemm_rs": {"mbarrier.arrive 3": _NOT_AWAITED},
    "grid_rounds": {"membar 2": "the load that ends the spinning acquires already"},
    "layer_norm": {"bar.sync 4": "nobody writes the parts again after the second sum"},
}


def _changes(line: str) -> Iterator[tuple[str, str]]:
    """Yields what a line may become, with the operation that goes."""
    dropped, wait, expect = _DROPPED.match(line), _WAIT.match(line), _EXPECT.match(line)
    groups = _GROUPS.match(line)
    if dropped:
        yield dropped[1], ""
    if groups:
        yield f"{groups['name']} + 1", f"{groups['head']}{int(groups['left']) + 1};"
    if wait:
        yield "mbarrier.try_wait", f"setp.eq.u32 {wait['flag']}, 0, 0;"
    if expect:
        for sign in ("add", "sub"):
            changed = f"{{ .reg .b32 bytes; {sign}.u32 bytes, {expect['bytes']}, 16;"
            yield f"expect_tx {sign} 16", f"{changed} {expect['head']} bytes; }}"


def alone(text: str, entry: str) -> str:
    """Returns a text with the bodies of its other kernels emptied; lines keep their numbers."""
    lines = text.splitlines()
    starts = [number for number, line in enumerate(lines) if _ENTRY.match(line)]
    for start in starts:
        head = _ENTRY.match(lines[start])
        if head is None or head[1] == entry:
            continue
        end = next(i for i in range(start, len(lines)) if lines[i].startswith("}"))
        lines[start : end + 1] = [""] * (end + 1 - start)
    return "\n".join(lines)


def mutations(text: str, entry: str) -> list[Mutation]:
    """Returns all mutations of one kernel of a text, in the order of its lines."""
    found: list[Mutation] = []
    count: dict[str, int] = {}
    for number, line in enumerate(alone(text, entry).splitlines(), 1):
        for operation, contents in _changes(line):
            count[operation] = count.get(operation, 0) + 1
            found.append(Mutation(number, operation, count[operation], contents))
    return found


def needed(name: str, case: Case) -> list[Mutation]:
    """Returns the mutations of a case that matter."""
    redundant = REDUNDANT.get(name, {})
    return [each for each in mutations(case.text, case.entry) if each.name not in redundant]


def kinds(case: Case, text: str) -> list[str]:
    """Returns the kinds of what is found when a text runs as the case."""
    try:
        return [finding.kind for finding in case.run(text).findings]
    except simulator.SimulationError as error:
        return [error.finding.kind]


def missed(name: str, case: Case) -> list[str]:
    """Returns the names of mutations that matter and of which no check finds anything."""
    text = alone(case.text, case.entry)
    return [each.name for each in needed(name, case) if not kinds(case, each.apply(text))]
