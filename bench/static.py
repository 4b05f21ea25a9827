"""What is known of a kernel without a GPU: ptxas on its resources, the simulator on its work."""

from collections.abc import Sequence
from typing import Any, cast

from ..runtime.attention import AttentionOp
from ..runtime.errors import TilewrightError
from ..runtime.ptxas import find_ptxas
from ..runtime.simulator import Profile
from ..runtime.simulator_device import SimulatorDevice
from .case import Case
from .data import Data
from .engine import on_simulator
from .kernels import Kernels
from .measure import Say, first_line

# Bytes of a sector, the piece of memory that a request fetches.
SECTOR = 32
COLUMNS = (
    "registers",
    "spilled B",
    "shared B",
    "PTX lines",
    "tensor flops/flop",
    "sectors/least",
    "sectors/req",
    "conflict",
    "mix",
)


def static_rows(
    cases: Sequence[Case], kernels: Kernels, targets: Sequence[str], say: Say
) -> list[dict[str, Any]]:
    """
    Returns a row for each small case and target.

    `tensor flops/flop` is what the tensor cores do for one operation that the mask leaves;
    `sectors/least` the bytes of the sectors that requests touch, over the least bytes; `conflict`
    the wavefronts of shared memory for one phase, 1 without bank conflicts.
    """
    rows: list[dict[str, Any]] = []
    for target in targets:
        for case in cases:
            say(f"{case.name} for {target}")
            try:
                op = kernels.op(case.kernel, [target])
                row = _resources(op) | _profiled(op, case)
            except TilewrightError as error:
                row = {"error": first_line(error)}
            rows.append({"case": case.name, "target": target, **row})
    return rows


def _resources(op: AttentionOp) -> dict[str, Any]:
    contract, found = op.contract, op.contract.resources
    ptxas = find_ptxas()
    if found is None and ptxas is not None:
        found = ptxas.assemble(op.ptx, contract.target).resources.get(contract.name)
    return {
        "registers": None if found is None else found.registers,
        "spilled B": None if found is None else found.spilled_bytes,
        "shared B": contract.dynamic_shared_bytes + contract.static_shared_bytes,
        "PTX lines": len(op.ptx.splitlines()),
    }


def _profiled(op: AttentionOp, case: Case) -> dict[str, Any]:
    device = SimulatorDevice(profile=True)
    on_simulator(op, Data(case), device)
    report = device.load(op.artifact).report
    profile: Profile = report.profile if report is not None else Profile()
    total, mix = profile.total(), profile.mix()
    tensor = sum(flops for kind, flops in profile.flops().items() if kind.startswith("tensor"))
    executed = sum(mix.values()) or 1
    return {
        "tensor flops/flop": round(tensor / case.flops, 2),
        "sectors/least": round(SECTOR * total.sectors / case.bytes, 2),
        "sectors/req": round(total.sectors / max(total.requests, 1), 2),
        "conflict": round(total.wavefronts / max(total.phases, 1), 3),
        "mix": {family: round(100 * count / executed, 1) for family, count in mix.items()},
    }


def static_table(rows: Sequence[dict[str, Any]]) -> str:
    """Returns the rows as a table in Markdown."""
    titles = ("case", "target", *COLUMNS)
    lines = [" | ".join(titles), " | ".join("---" for _ in titles)]
    for row in rows:
        cells = [row["case"], row["target"], *(_cell(row.get(name)) for name in COLUMNS)]
        if "error" in row:
            cells[2] = row["error"]
        lines.append(" | ".join(cells))
    return "\n".join(f"| {line} |" for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        parts = cast("dict[str, float]", value)
        return ", ".join(f"{name} {part} %" for name, part in parts.items())
    return "" if value is None else str(value)
