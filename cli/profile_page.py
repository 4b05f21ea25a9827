"""A profile as one HTML page: the text beside its counts, heat by instructions, a roofline."""

from collections.abc import Mapping, Sequence
from html import escape
from math import log10

from ..runtime.simulator import LineProfile, Profile

# Peak rates of GPUs in Tflop/s by type, and memory in GB/s: NVIDIA's data sheets of A100 SXM
# 80 GB and H100 SXM, the Ada whitepaper for RTX 4090; dense, at boost clock.
GPUS: dict[str, dict[str, float]] = {
    "a100": {
        "memory": 2039,
        "f64": 9.7,
        "f32": 19.5,
        "f16": 78,
        "bf16": 39,
        "tensor f16": 312,
        "tensor bf16": 312,
        "tensor tf32": 156,
    },
    "h100": {
        "memory": 3350,
        "f64": 33.5,
        "f32": 66.9,
        "f16": 133.8,
        "bf16": 133.8,
        "tensor f16": 989.4,
        "tensor bf16": 989.4,
        "tensor tf32": 494.7,
        "tensor e4m3": 1978.9,
        "tensor e5m2": 1978.9,
    },
    "rtx4090": {
        "memory": 1008,
        "f64": 1.29,
        "f32": 82.6,
        "f16": 82.6,
        "bf16": 82.6,
        "tensor f16": 165.2,
        "tensor bf16": 165.2,
        "tensor tf32": 82.6,
    },
}
_STYLE = """
body { font: 14px system-ui, sans-serif; margin: 2em; color: #222; }
table { border-collapse: collapse; font: 12px ui-monospace, monospace; }
td, th { padding: 1px 8px; text-align: right; white-space: pre; }
td:last-child, th:last-child { text-align: left; }
th { position: sticky; top: 0; background: #fff; border-bottom: 1px solid #888; }
"""
COLUMNS = ("line", "threads", "lanes", "sectors/req", "conflict", "divergent", "text")


def ratio(over: float, under: float) -> str:
    """Returns a quotient for a table, nothing where there is none."""
    return f"{over / under:.1f}" if under else ""


def cells(line: LineProfile, text: str) -> list[str]:
    """Returns one row: lanes a warp, sectors a request, wavefronts a phase."""
    return [
        str(line.line or ""),
        str(line.executed),
        ratio(line.executed, line.warps),
        ratio(line.sectors, line.requests),
        ratio(line.wavefronts, line.phases),
        str(line.divergent or ""),
        text,
    ]


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


def page(name: str, profile: Profile, text: str, gpu: str, sources: Mapping[str, str]) -> str:
    """
    Returns the page of a kernel's profile; it loads nothing else.

    `text` is the PTX; `sources` holds the texts of source files by the names that `.loc` uses.
    """
    mix = ", ".join(f"{family} {count}" for family, count in profile.mix().items())
    by_line: dict[int, LineProfile] = {}
    for line in profile.lines:
        known = by_line.setdefault(line.line, LineProfile(line.line, "", ""))
        known.add(line)
    parts = [
        "<!doctype html><html><head><meta charset='utf-8'>",
        f"<title>{escape(name)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(name)}</h1><p>{profile.ctas} CTAs, "
        f"{profile.thread_instructions} thread-instructions: {escape(mix)}</p>",
        _roof(profile, gpu),
    ]
    for file, source in sources.items():
        counts = {
            int(line.source.rpartition(":")[2]): line
            for line in profile.by_source()
            if line.source.rpartition(":")[0] == file
        }
        parts += [f"<h2>{escape(file)}</h2>", _listing(source.splitlines(), counts)]
    parts += ["<h2>PTX</h2>", _listing(text.splitlines(), by_line), "</body></html>"]
    return "\n".join(parts)


def _listing(lines: Sequence[str], counts: Mapping[int, LineProfile]) -> str:
    """Returns the table of a text with the counts of its lines."""
    most = max([line.executed for line in counts.values()], default=0) or 1
    rows = ["<table><tr>" + "".join(f"<th>{column}</th>" for column in COLUMNS) + "</tr>"]
    for number, text in enumerate(lines, 1):
        line = counts.get(number)
        row = ["", "", "", "", "", "", text] if line is None else cells(line, text)
        row[0] = str(number)
        heat = 0.0 if line is None else 0.6 * line.executed / most
        inside = "".join(f"<td>{escape(cell)}</td>" for cell in row)
        rows.append(f"<tr style='background:rgba(255,90,0,{heat:.2f})'>{inside}</tr>")
    return "\n".join([*rows, "</table>"])


def _roof(profile: Profile, gpu: str) -> str:
    """Returns the roofline as SVG: both axes logarithmic."""
    rows = roofline(profile, gpu)
    if not rows:
        return ""
    memory = GPUS[gpu]["memory"] * 1e9
    width, height = 480, 240

    def point(intensity: float, rate: float) -> str:
        x = (log10(min(max(intensity, 1e-3), 1e5)) + 3) / 8 * width
        y = height - (log10(max(rate, 1e8)) - 8) / 8 * height
        return f"{x:.1f},{y:.1f}"

    shapes: list[str] = []
    for row in rows:
        peak, intensity = float(row["peak"]) * 1e12, float(row["intensity"])
        corners = " ".join(point(i, min(peak, i * memory)) for i in (1e-3, peak / memory, 1e5))
        x, y = point(intensity, min(peak, intensity * memory)).split(",")
        shapes.append(f"<polyline points='{corners}' fill='none' stroke='#888'/>")
        shapes.append(f"<circle cx='{x}' cy='{y}' r='5' fill='#d40'/>")
        label = f"{row['type']}: {intensity:.2f} flop/byte, {row['bound']} bound"
        shapes.append(f"<text x='{float(x) + 8:.1f}' y='{y}' font-size='11'>{label}</text>")
    view = f"viewBox='0 0 {width + 220} {height}' width='{width + 220}' height='{height}'"
    heading = f"<h2>Roofline of {gpu}</h2><p>flop/s over flop/byte; memory traffic as if uncached"
    return f"{heading}</p><svg {view}>{''.join(shapes)}</svg>"
