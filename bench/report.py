"""The report of a run: tables in Markdown, and bars as SVG."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .plot import Bar, bars
from .results import FAULTS, OURS, Results

RESULTS, REPORT = "results.json", "report.md"
# Which rate tells how good a suite's cases are.
RATES = {suite: ("gb_s", "GB/s") for suite in ("decode", "cascade", "mla")}
SIMULATED = ("flops_per_instruction", "flops per thread instruction")


def write_report(results: Results, json_path: Path) -> Path:
    """Writes results.json, and beside it the tables and plots; returns the Markdown file."""
    folder = json_path.parent
    folder.mkdir(parents=True, exist_ok=True)
    results.save(json_path)
    return write_pages(results, folder)


def write_pages(results: Results, folder: Path) -> Path:
    """Writes the tables and plots of results into a folder; returns the Markdown file."""
    plots = {suite: _plot(suite, _of(results, suite)) for suite in _suites(results)}
    for suite, svg in plots.items():
        (folder / f"{suite}.svg").write_text(svg)
    page = folder / REPORT
    page.write_text(markdown(results))
    return page


def markdown(results: Results) -> str:
    """Returns the report."""
    parts = [_head(results)]
    for suite in _suites(results):
        parts += [f"## {suite}", f"![{suite}]({suite}.svg)", _table(_of(results, suite))]
    parts += _faults(results)
    return "\n\n".join(parts) + "\n"


def _suites(results: Results) -> list[str]:
    return list(dict.fromkeys(case["suite"] for case in results.cases))


def _of(results: Results, suite: str) -> list[dict[str, Any]]:
    return [case for case in results.cases if case["suite"] == suite]


def _head(results: Results) -> str:
    device = ", ".join(f"{name} {value}" for name, value in results.device.items())
    software = ", ".join(f"{name} {value}" for name, value in results.software.items())
    states = [run["state"] for case in results.cases for run in case["runs"]]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    lines = [f"# Attention on {results.device.get('model', 'unknown')}, {results.date}", ""]
    lines += [f"- device: {device}", f"- software: {software}", f"- runs: {counts}"]
    peaks = results.peaks
    if peaks.copy_gb_s is not None:
        lines.append(f"- copy within memory, measured: {peaks.copy_gb_s:.0f} GB/s")
    if peaks.matmul_tflop_s is not None:
        lines.append(f"- cuBLAS f16, measured: {peaks.matmul_tflop_s:.0f} Tflop/s")
    if peaks.floor_us is not None:
        lines.append(f"- two events with nothing between them: {peaks.floor_us:.1f} us")
    lines += [f"- no {name}: {reason}" for name, reason in results.missing.items()]
    return "\n".join(lines)


def _table(cases: list[dict[str, Any]]) -> str:
    """Returns the rows of a suite: our own times and rates, and the times of peers over ours."""
    peers = list(dict.fromkeys(run["engine"] for case in cases for run in case["runs"]))
    peers = [name for name in peers if name != OURS]
    timed = any(run["timing"] for case in cases for run in case["runs"])
    titles = ["case", "state", "error"]
    titles += ["us", "Tflop/s", "GB/s", "of copy", "of cuBLAS"] if timed else ["flops/instr."]
    titles += ["plan us", *peers]
    lines = [" | ".join(titles), " | ".join("---" if i < 2 else "---:" for i in range(len(titles)))]
    for case in cases:
        runs = {run["engine"]: run for run in case["runs"]}
        cells = _own_cells(case, runs[OURS], timed)
        cells += [_peer_cell(runs.get(name), runs[OURS]) for name in peers]
        lines.append(" | ".join(cells))
    return "\n".join(f"| {line} |" for line in lines)


def _own_cells(case: dict[str, Any], run: dict[str, Any], timed: bool) -> list[str]:
    error = run["error"]["relative"] if run["error"] else None
    cells = [case["name"], run["state"], "" if error is None else f"{error:.1e}"]
    if timed:
        median = run["timing"]["median_us"] if run["timing"] else None
        cells += [_number(median, 1), _number(run.get("tflop_s"), 1), _number(run.get("gb_s"), 0)]
        cells += [_percent(run.get("of_copy")), _percent(run.get("of_matmul"))]
    else:
        cells.append(_number(_flops_per_instruction(case, run), 2))
    return [*cells, _number(run["plan_us"], 0)]


def _peer_cell(run: dict[str, Any] | None, own: dict[str, Any]) -> str:
    """Returns a peer's time, and how many times ours it is; above 1 we are faster."""
    if run is None:
        return ""
    if not run["timing"]:
        return "failed" if run["state"] == "failed" else "-"
    median = run["timing"]["median_us"]
    wrong = " wrong" if run["state"] == "wrong" else ""
    if not own["timing"]:
        return f"{median:.1f} us{wrong}"
    return f"{median:.1f} us ({median / own['timing']['median_us']:.2f}x){wrong}"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %"


def _flops_per_instruction(case: dict[str, Any], run: dict[str, Any]) -> float | None:
    return case["flops"] / run["instructions"] if run["instructions"] else None


def _plot(suite: str, cases: list[dict[str, Any]]) -> str:
    key, unit = RATES.get(suite, ("tflop_s", "Tflop/s"))
    if not any(run["timing"] for case in cases for run in case["runs"]):
        key, unit = SIMULATED
    return bars(f"{suite}: {unit}", _bars(cases, key))


def _bars(cases: list[dict[str, Any]], key: str) -> Iterable[Bar]:
    for case in cases:
        for run in case["runs"]:
            value = run.get(key)
            if key == SIMULATED[0]:
                value = _flops_per_instruction(case, run)
            if value is not None:
                yield Bar(case["name"], run["engine"], float(value))


def _faults(results: Results) -> list[str]:
    lines: list[str] = []
    for case in results.cases:
        for run in case["runs"]:
            if run["state"] in FAULTS:
                lines.append(f"- {case['name']}, {run['engine']}: {run['state']}: {run['detail']}")
    return ["## Faults", "\n".join(lines)] if lines else []
