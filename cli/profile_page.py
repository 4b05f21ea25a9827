"""A profile as one HTML page: source beside PTX with the counts of each line, a roofline."""

from collections.abc import Mapping, Sequence
from html import escape
from math import log10

from ..runtime.simulator import LineProfile, Profile
from .gpu_rates import GPUS
from .profile_style import SCRIPT, STYLE
from .profile_table import COLUMNS, cells, mix_of, ratio, roofline

_BAR = 160  # pixels of the longest bar


def page(name: str, profile: Profile, text: str, gpu: str, sources: Mapping[str, str]) -> str:
    """
    Returns the page of a kernel's profile; it loads nothing else.

    `text` is the PTX; `sources` holds the texts of source files by the names that `.loc` uses.
    """
    panes = [
        _pane(file, source.splitlines(), counts, {n: f"{file}:{n}" for n in counts})
        for file, source in sources.items()
        if (counts := _of_file(profile, file))
    ]
    by_line: dict[int, LineProfile] = {}
    places: dict[int, str] = {}
    for line in profile.lines:
        by_line.setdefault(line.line, LineProfile(line.line, "", "")).add(line)
        places.setdefault(line.line, line.source.rpartition(":")[0])
    panes.append(_pane("PTX", text.splitlines(), by_line, places))
    summary = f"{profile.ctas} CTAs, {profile.thread_instructions} thread-instructions"
    return "\n".join(
        [
            "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
            f"<title>{escape(name)}</title><style>{STYLE}</style></head><body>",
            f"<header><h1>{escape(name)}</h1><span>{summary}</span></header><main>",
            f"<div class='top'>{_totals(profile)}{_mix(profile)}{_roof(profile, gpu)}</div>",
            f"<div class='panes{' two' if len(panes) > 1 else ''}'>",
            *panes,
            f"</div></main><script>{SCRIPT}</script></body></html>",
        ]
    )


def _of_file(profile: Profile, file: str) -> dict[int, LineProfile]:
    """Returns the counts of a source file by line."""
    places = [(line.source.rpartition(":"), line) for line in profile.by_source()]
    return {int(number): line for (name, _, number), line in places if name == file}


def _pane(
    title: str,
    lines: Sequence[str],
    counts: Mapping[int, LineProfile],
    places: Mapping[int, str],
) -> str:
    """Returns the table of a text with the counts of its lines; `places` are their sources."""
    most = [
        max((_number(cells(line)[column]) for line in counts.values()), default=0.0) or 1.0
        for column in range(len(COLUMNS))
    ]
    head = "".join(f"<th>{column}</th>" for column in ("line", "text", *COLUMNS))
    rows = [f"<div class='pane'><table><thead><tr>{head}</tr></thead><tbody>"]
    for number, text in enumerate(lines, 1):
        line = counts.get(number)
        if line is None:
            blank = "<td></td>" * len(COLUMNS)
            rows.append(f"<tr class='idle'><td>{number}</td><td>{escape(text)}</td>{blank}</tr>")
            continue
        shades = "".join(map(_shaded, cells(line), most, COLUMNS))
        place = places.get(number, "")
        source = f" data-source='{escape(place)}'" if place else ""
        mix = escape(mix_of(line.families()))
        rows.append(
            f"<tr{source} title='{mix}'><td>{number}</td><td>{escape(text)}</td>{shades}</tr>"
        )
    rows.append("</tbody></table></div></section>")
    return "\n".join([f"<section><h2>{escape(title)}</h2>", *rows])


def _number(cell: str) -> float:
    return float(cell or 0)


def _shaded(cell: str, most: float, column: str) -> str:
    """Returns a cell whose colour says how much of the column's largest value it is."""
    share = _number(cell) / most
    if column == "lanes":  # few are what one looks for
        share = 1 - _number(cell) / 32 if cell else 0.0
    elif column in ("conflict", "sectors/req"):  # 1 and 4 are the best of 4-byte accesses
        least = 1 if column == "conflict" else 4
        share = max(_number(cell) - least, 0) / max(most - least, 1)
    shade = f" style='background:rgba(240,110,30,{0.55 * share:.2f})'" if share > 0.005 else ""
    return f"<td{shade}>{cell}</td>"


def _totals(profile: Profile) -> str:
    """Returns the card of the launch's sums."""
    total = profile.total()
    pairs = {
        "global bytes": f"{total.global_bytes:,}",
        "sectors a request": ratio(total.sectors, total.requests),
        "shared bytes": f"{total.shared_bytes:,}",
        "wavefronts a phase": ratio(total.wavefronts, total.phases),
        "warps at barriers": f"{profile.barriers():,}",
        "divergent branches": f"{total.divergent:,}",
        "lanes active of 32": ratio(total.executed, total.warps),
        **{f"flops {type}": f"{flops:,.0f}" for type, flops in profile.flops().items()},
    }
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{value}</dd>" for name, value in pairs.items())
    return f"<div class='card'><h2>Launch</h2><dl>{rows}</dl></div>"


def _mix(profile: Profile) -> str:
    """Returns the card of instructions by family."""
    mix = profile.mix()
    most = max(mix.values(), default=1) or 1
    rows = "".join(
        f"<dt>{family}</dt><span class='bar' style='width:{_BAR * count / most:.0f}px'></span>"
        f"<dd>{count:,}</dd>"
        for family, count in mix.items()
    )
    return f"<div class='card'><h2>Instructions, by threads</h2><dl class='mix'>{rows}</dl></div>"


def _roof(profile: Profile, gpu: str) -> str:
    """Returns the roofline as SVG: both axes logarithmic."""
    rows = roofline(profile, gpu)
    if not rows:
        return ""
    memory = GPUS[gpu]["memory"] * 1e9
    width, height = 420, 190

    def point(intensity: float, rate: float) -> tuple[float, float]:
        x = (log10(min(max(intensity, 1e-3), 1e5)) + 3) / 8 * width
        return x, height - (log10(max(rate, 1e9)) - 9) / 7 * height

    shapes = [_axes(width, height)]
    for number, row in enumerate(rows):
        peak, intensity = float(row["peak"]) * 1e12, float(row["intensity"])
        points = (point(i, min(peak, i * memory)) for i in (1e-3, peak / memory, 1e5))
        corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        x, y = point(intensity, min(peak, intensity * memory))
        shapes.append(f"<polyline points='{corners}' fill='none' stroke='#4c78c8'/>")
        shapes.append(f"<circle cx='{x:.1f}' cy='{y:.1f}' r='5' fill='#e06a1a'/>")
        label = f"{row['type']}: {intensity:.2f} flop/byte, {row['bound']} bound"
        shapes.append(f"<text x='{width + 12}' y='{18 + 18 * number}'>{escape(label)}</text>")
    view = f"viewBox='-46 -8 {width + 300} {height + 40}' width='{width + 300}'"
    text = "flop/s over flop/byte; memory traffic as if no cache held any"
    return (
        f"<div class='card'><h2>Roofline of {gpu}</h2><svg {view} font-size='11'>"
        f"{''.join(shapes)}</svg><p>{text}</p></div>"
    )


def _axes(width: int, height: int) -> str:
    """Returns the grid of the roofline with its units."""
    lines: list[str] = []
    for exponent in range(-3, 6, 2):
        x = (exponent + 3) / 8 * width
        lines.append(f"<path d='M{x:.0f} 0V{height}' stroke='#e4e7ee'/>")
        lines.append(f"<text x='{x - 10:.0f}' y='{height + 16}' fill='#687083'>1e{exponent}</text>")
    for exponent, unit in ((9, "1 G"), (12, "1 T"), (15, "1 P")):
        y = height - (exponent - 9) / 7 * height
        lines.append(f"<path d='M0 {y:.0f}H{width}' stroke='#e4e7ee'/>")
        lines.append(f"<text x='-40' y='{y + 4:.0f}' fill='#687083'>{unit}</text>")
    return "".join(lines)
