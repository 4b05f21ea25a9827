"""The results of a run: what was measured of each case by each engine, as one JSON object."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

from ..runtime.errors import TilewrightError
from .case import Case
from .clock import Timing
from .oracle import Verdict, describe
from .rates import Peaks

FORMAT = "tilewright-bench"
VERSION = 1
OURS = "tilewright"
# What became of a run. Of these "wrong" and "failed" are faults.
STATES = ("ok", "wrong", "failed", "not applicable")
FAULTS = ("wrong", "failed")


@dataclass(frozen=True)
class Run:
    """
    One case by one engine; `detail` says why there is no result, or what is wrong with it.

    `plan_us` is what the host took to plan. `instructions` are those that the simulator's threads
    executed.
    """

    engine: str
    state: str
    detail: str = ""
    timing: Timing | None = None
    error: dict[str, Any] | None = None
    plan_us: float | None = None
    instructions: int | None = None

    def judged(self, verdict: Verdict) -> "Run":
        """Returns the run with what the comparison says."""
        state = "ok" if verdict.right else "wrong"
        detail = "" if verdict.right else f"relative error {verdict.error:.2g}"
        parts: dict[str, Any] = {"state": state, "detail": detail, "error": dict(describe(verdict))}
        known = {name: getattr(self, name) for name in Run.__dataclass_fields__}
        return Run(**(known | parts))


@dataclass
class Results:
    """All runs by the name of the case, the machine, and the peers that are not there."""

    device: dict[str, Any]
    software: dict[str, str]
    date: str
    peaks: Peaks = field(default_factory=Peaks)
    missing: dict[str, str] = field(default_factory=dict[str, str])
    cases: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def add(self, case: Case, runs: list[Run]) -> None:
        """Adds the runs of a case, with the rates that follow from its work."""
        rows: list[dict[str, Any]] = []
        for run in runs:
            rows.append(asdict(run) | self._rates(case, run))
        kernel = asdict(case.kernel)
        work = {"flops": case.flops, "bytes": case.bytes, "requests": len(case.requests)}
        rows_of = {"query_rows": case.query_rows, "kv_rows": case.kv_rows}
        known = {"name": case.name, "suite": case.suite, "kernel": kernel}
        self.cases.append(known | work | rows_of | {"runs": rows})

    def _rates(self, case: Case, run: Run) -> dict[str, float | None]:
        """Returns Tflop/s, GB/s, and the parts of the measured peaks that they are."""
        if run.timing is None:
            return {}
        seconds = run.timing.median_us * 1e-6
        tflop_s, gb_s = case.flops / seconds / 1e12, case.bytes / seconds / 1e9
        peaks = self.peaks
        return {
            "tflop_s": tflop_s,
            "gb_s": gb_s,
            "of_copy": gb_s / peaks.copy_gb_s if peaks.copy_gb_s else None,
            "of_matmul": tflop_s / peaks.matmul_tflop_s if peaks.matmul_tflop_s else None,
        }

    @property
    def faults(self) -> list[str]:
        """The runs of our own that are wrong or failed, a line each."""
        return [
            f"{case['name']}: {run['state']}: {run['detail']}"
            for case in self.cases
            for run in case["runs"]
            if run["engine"] == OURS and run["state"] in FAULTS
        ]

    def to_json(self) -> dict[str, Any]:
        """Returns the results as one JSON object."""
        return {"format": FORMAT, "version": VERSION} | asdict(self)

    def save(self, path: Path) -> None:
        """Writes the results."""
        path.write_text(json.dumps(self.to_json(), indent=1) + "\n")

    @staticmethod
    def load(path: Path) -> "Results":
        """Reads results; raises TilewrightError for a file that holds none."""
        try:
            value: object = json.loads(path.read_bytes())
        except (ValueError, RecursionError):
            raise TilewrightError(f"{path}: expected the results of a benchmark") from None
        found = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
        kind = found.pop("format", None), found.pop("version", None)
        if kind != (FORMAT, VERSION) or set(found) != set(Results.__dataclass_fields__):
            raise TilewrightError(f"{path}: expected the results of a benchmark")
        peaks = Peaks(**found.pop("peaks"))
        return Results(**found, peaks=peaks)
