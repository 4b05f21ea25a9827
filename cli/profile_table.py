"""A profile as numbers: the columns of its tables, the roofline of a GPU."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..runtime.simulator import LineProfile, Profile
from .gpu_rates import GPUS
from .report import Report

# Of a line: threads that executed instructions, lanes active when a warp issued one, floating-point
# operations, bytes of global memory and sectors a request, bytes of shared memory and wavefronts a
# phase (1 is without bank conflicts), warps at barriers, branches that part a warp.
COLUMNS = (
    "threads",
    "lanes",
    "flops",
    "global B",
    "sectors/req",
    "shared B",
    "conflict",
    "barriers",
    "divergent",
)


def ratio(over: float, under: float) -> str:
    """Returns a quotient for a table, nothing where there is none."""
    return f"{over / under:.1f}" if under else ""


def cells(line: LineProfile) -> list[str]:
    """Returns the COLUMNS of a line; nothing stands for zero."""
    return [
        str(line.executed or ""),
        ratio(line.executed, line.warps),
        f"{line.flops:.0f}" if line.flops else "",
        str(line.global_bytes or ""),
        ratio(line.sectors, line.requests),
        str(line.shared_bytes or ""),
        ratio(line.wavefronts, line.phases),
        str(line.barriers or ""),
        str(line.divergent or ""),
    ]


def mix_of(counts: Mapping[str, int]) -> str:
    """Returns instructions by family, the most frequent first."""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{family} {count}" for family, count in ordered)


def read_sources(files: Sequence[str]) -> dict[str, str]:
    """Returns the texts of the source files that are there to be read."""
    return {
        file: path.read_text(encoding="utf-8", errors="replace")
        for file in files
        if (path := Path(file)).is_file()
    }


def print_lines(profile: Profile, report: Report) -> None:
    """Prints a row for each instruction."""
    rows = [[str(line.line), *cells(line), line.text] for line in profile.lines]
    report.table(("line", *COLUMNS, "text"), rows)


def print_sources(profile: Profile, sources: Mapping[str, str], report: Report) -> None:
    """Prints a row for each source line that `.loc` names, with its instruction mix and text."""
    texts = {file: text.splitlines() for file, text in sources.items()}
    rows: list[list[str]] = []
    for line in profile.by_source():
        file, _, number = line.source.rpartition(":")
        known = texts.get(file, [])
        at = int(number) - 1 if number.isdigit() else -1
        text = known[at].strip() if 0 <= at < len(known) else ""
        rows.append([line.source or "(none)", *cells(line), mix_of(line.families()), text])
    report.table(("source", *COLUMNS, "mix", "text"), rows)


def print_totals(profile: Profile, gpu: str, report: Report) -> None:
    """Prints what the whole launch did, and the roofline."""
    total = profile.total()
    report.line(f"instructions: {mix_of(profile.mix())}")
    for row in roofline(profile, gpu):
        report.line(
            f"{row['type']}: {row['flops']:.0f} flops, {row['intensity']:.2f} a byte; "
            f"{row['bound']} bound on {gpu}"
        )
    report.line(
        f"global memory: {total.global_bytes} bytes, {total.requests} requests, "
        f"{total.sectors} sectors"
    )
    report.line(
        f"shared memory: {total.shared_bytes} bytes, {total.phases} phases, "
        f"{total.wavefronts} wavefronts"
    )
    report.line(
        f"barriers: {profile.barriers()} warps; divergent branches: {total.divergent}; "
        f"lanes active: {ratio(total.executed, total.warps)} of 32"
    )


def roofline(profile: Profile, gpu: str) -> list[dict[str, float | str]]:
    """
    Returns for each flop type what a GPU's peaks allow.

    `intensity` is flops per byte of the sectors that requests touch, as if no cache held any;
    `seconds` is the least time of these flops alone or of the memory traffic, `bound` says which.
    """
    peaks = GPUS[gpu]
    traffic = 32 * profile.total().sectors
    rows: list[dict[str, float | str]] = []
    for type, flops in profile.flops().items():
        peak = peaks.get(type, 0.0)
        if not peak:
            continue
        compute, memory = flops / (peak * 1e12), traffic / (peaks["memory"] * 1e9)
        rows.append(
            {
                "type": type,
                "flops": flops,
                "intensity": flops / traffic if traffic else float("inf"),
                "seconds": max(compute, memory),
                "bound": "compute" if compute >= memory else "memory",
                "peak": peak,
            }
        )
    return rows
