"""
CUDA kernels with one bug each: the report names kind, PTX line, source line, block and thread.

The comments BUG and OTHER in a kernel's source mark where a report has to lead, and which access
it has to name besides. The PTX lines are found by the `.loc` of the text.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tilewright.runtime import simulator

FOLDER = Path(__file__).parent / "bugs"
Arguments = Callable[[simulator.Device], list[Any]]
Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Bug:
    """A launch, and what its report has to say."""

    kind: str
    opcode: str  # of the PTX line
    grid: int
    block: int
    arguments: Arguments
    ctaid: Triple = (0, 0, 0)
    tid: Triple = (0, 0, 0)
    other: str = ""  # the opcode of the other access


def integers(device: simulator.Device, *sizes: int) -> list[simulator.Buffer]:
    """Returns buffers of random integers."""
    random = np.random.default_rng()
    return [device.array(random.integers(0, 100, size).astype("i4")) for size in sizes]


def matrices(device: simulator.Device) -> list[simulator.Buffer]:
    """Returns the operands of a wgmma, and a buffer for its sums."""
    return [device.array(np.zeros(2048, "u4")), device.empty(256, "f32")]


def freed(device: simulator.Device) -> list[Any]:
    """Returns a buffer, the address of one that was freed, and a buffer."""
    live, dead, out = integers(device, 128, 128, 256)
    dead.free()
    return [live, dead.address, out]


BUGS = {
    "bounds": Bug(
        "bounds",
        "ld.global",
        8,
        128,
        lambda device: [*integers(device, 1000, 1000), 1000],
        (7, 0, 0),
        (999 - 7 * 128, 0, 0),
    ),
    "bounds_shared": Bug(
        "bounds",
        "ld.shared",
        1,
        128,
        lambda device: [*integers(device, 128, 128)],
        tid=(96, 0, 0),
    ),
    "alignment": Bug(
        "alignment",
        "ld.global.v4",
        3,
        32,
        lambda device: [*integers(device, 3 * 129, 3 * 128), 129],
        (1, 0, 0),
    ),
    "use_after_free": Bug("use-after-free", "ld.global.f32", 2, 128, freed, (1, 0, 0)),
    "uninitialised": Bug(
        "uninitialised", "ld.shared", 1, 128, lambda device: [*integers(device, 128, 128)]
    ),
    "race": Bug(
        "race",
        "ld.shared",
        1,
        128,
        lambda device: [*integers(device, 128, 128)],
        other="st.shared",
    ),
    "deadlock": Bug(
        "deadlock", "mbarrier.try_wait", 1, 128, lambda device: [*integers(device, 128)]
    ),
    "mbarrier": Bug(
        "mbarrier",
        "mbarrier.arrive",
        1,
        128,
        lambda device: [*integers(device, 128)],
        tid=(64, 0, 0),
    ),
    "in_flight": Bug(
        "in-flight", "cp.async.cg", 1, 32, lambda device: [*integers(device, 128, 128), 3]
    ),
    "race_global": Bug(
        "race",
        "ld.global",
        3,
        128,
        lambda device: [*integers(device, 384, 384, 384)],
        other="st.global",
    ),
    "divergence": Bug(
        "divergence", "bar.sync", 1, 128, lambda device: [*integers(device, 128, 128)]
    ),
    "in_flight_store": Bug(
        "in-flight",
        "cp.async.bulk.global",
        2,
        128,
        lambda device: [*integers(device, 256, 256)],
    ),
    "proxy": Bug(
        "proxy",
        "cp.async.bulk.global",
        2,
        128,
        lambda device: [*integers(device, 256, 256)],
        other="st.shared",
    ),
    "transaction": Bug(
        "transaction",
        "mbarrier.try_wait",
        1,
        128,
        lambda device: [*integers(device, 128, 128)],
        other="mbarrier.arrive.expect_tx",
    ),
    "wgmma_wait": Bug("wgmma", "st.global", 1, 128, matrices, other="wgmma.mma_async"),
    "wgmma_fence": Bug("wgmma", "wgmma.mma_async", 1, 128, matrices),
    "registers": Bug(
        "registers",
        "setmaxnreg.inc",
        1,
        384,
        lambda device: [*integers(device, 384)],
        tid=(352, 0, 0),  # the last warp: for it no registers are left
    ),
}


def marked(name: str, comment: str) -> int:
    """Returns the line of a source that ends with a comment."""
    lines = (FOLDER / f"{name}.cu").read_text().splitlines()
    (line,) = (number for number, text in enumerate(lines, 1) if text.endswith(f"// {comment}"))
    return line


def places(text: str, line: int, opcode: str) -> set[int]:
    """Returns the PTX lines with an opcode that come from a line of the first source file."""
    found: set[int] = set()
    here = ""
    for number, content in enumerate(text.splitlines(), 1):
        location = re.match(r"\s*\.loc\s+(\d+ \d+)", content)
        here = location[1] if location else here
        if here == f"1 {line}" and re.match(rf"\s*(@\S+\s+)?{re.escape(opcode)}\b", content):
            found.add(number)
    return found


def report(name: str) -> simulator.Finding:
    """Runs the kernel of a bug; returns the one thing found."""
    bug = BUGS[name]
    device = simulator.Device("all")
    kernel = device.load((FOLDER / f"{name}.ptx").read_text())[name]
    arguments = bug.arguments(device)
    try:
        findings = kernel.launch(bug.grid, bug.block, arguments).findings
    except simulator.SimulationError as error:
        return error.finding
    assert len(findings) == 1, findings
    return findings[0]


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_is_reported_where_it_is(name: str) -> None:
    bug, finding = BUGS[name], report(name)
    line = marked(name, "BUG")
    assert finding.kind == bug.kind
    assert finding.source.startswith(f"{name}.cu:{line}:")
    assert finding.line in places((FOLDER / f"{name}.ptx").read_text(), line, bug.opcode)
    assert (finding.ctaid, finding.tid) == (bug.ctaid, bug.tid)


@pytest.mark.parametrize("name", [name for name, bug in BUGS.items() if bug.other])
def test_a_bug_of_two_accesses_names_the_other_one(name: str) -> None:
    other = report(name).other
    line = marked(name, "OTHER")
    assert other is not None
    assert other.source.startswith(f"{name}.cu:{line}:")
    assert other.line in places((FOLDER / f"{name}.ptx").read_text(), line, BUGS[name].other)
