"""
Runs the PTX that make_ptx.py wrote on the simulator, and compares with float64 NumPy.

    python docs/benchmarks/triton_kernels/run.py build/triton [--checks all]

Each kernel runs at three sizes. Prints the relative error, the findings, and the speed in million
thread-instructions per CPU second; ends with exit code 1 if anything is wrong.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tilewright.runtime import simulator

Array = npt.NDArray[Any]
LARGEST_ERROR = 2e-3
TILE, BLOCK = 64, 1024
SCRATCH = 2  # pointers that Triton adds behind the arguments


@dataclass(frozen=True)
class Case:
    """A launch: inputs and scalars in the kernel's order, where the output stands, the result."""

    inputs: tuple[Array, ...]
    scalars: tuple[int | float, ...]
    grid: tuple[int, ...]
    expected: Array
    dtype: str


def blocks(extent: int, block: int) -> int:
    """Returns how many blocks cover an extent."""
    return -(-extent // block)


def add_case(turn: int, rng: np.random.Generator) -> Case:
    """Returns a sum of two vectors."""
    n = (1000, 5000, 1 << 16)[turn]
    x, y = rng.random((2, n), dtype="f4")
    return Case((x, y), (n,), (blocks(n, BLOCK),), x.astype(float) + y, "f32")


def softmax_case(turn: int, rng: np.random.Generator) -> Case:
    """Returns the softmax of rows."""
    rows, columns = ((3, 1000), (64, 17), (10, 1024))[turn]
    x = rng.standard_normal((rows, columns)).astype("f4")
    weights = np.exp(x.astype(float) - x.max(axis=1, keepdims=True))
    return Case((x,), (columns,), (rows,), weights / weights.sum(1, keepdims=True), "f32")


def matmul_case(turn: int, rng: np.random.Generator) -> Case:
    """Returns a product whose extents do not divide into tiles."""
    m, n, k = ((64, 64, 32), (100, 70, 48), (200, 256, 128))[turn]
    a, b = rng.standard_normal((m, k)).astype("f2"), rng.standard_normal((k, n)).astype("f2")
    grid = (blocks(m, TILE), blocks(n, TILE))
    return Case((a, b), (m, n, k), grid, a.astype(float) @ b.astype(float), "f16")


def attention_case(turn: int, rng: np.random.Generator, head_dim: int, causal: bool) -> Case:
    """Returns attention of two heads."""
    length = (64, 100, 256)[turn]
    q, k, v = rng.standard_normal((3, 2, length, head_dim)).astype("f2")
    scores = np.einsum("hqd,hkd->hqk", q.astype(float), k.astype(float)) * head_dim**-0.5
    if causal:
        scores = np.where(np.tri(length, dtype=np.bool_), scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    expected = weights @ v.astype(float) / weights.sum(axis=-1, keepdims=True)
    scalars = (length, head_dim**-0.5)
    return Case((q, k, v), scalars, (blocks(length, TILE), 2), expected, "f16")


def case_of(name: str) -> Callable[[int, np.random.Generator], Case]:
    """Returns what makes the launches of a kernel."""
    if not name.startswith("attention"):
        return {"add": add_case, "softmax": softmax_case, "matmul": matmul_case}[name]
    _, head_dim, kind = name.split("_")
    return lambda turn, rng: attention_case(turn, rng, int(head_dim[1:]), kind == "causal")


def run(path: Path, checks: str, turn: int) -> bool:
    """Runs one kernel at one size, prints a line, and returns whether it is right."""
    facts = json.loads(path.with_suffix(".json").read_text())
    case = case_of(path.name.partition(".")[0])(turn, np.random.default_rng(turn))
    device = simulator.Device(checks)
    kernel = device.load(path.read_text())[facts["entry"]]
    out = device.empty(case.expected.shape, case.dtype)
    arguments = [*map(device.array, case.inputs), out, *case.scalars]
    arguments += [device.empty((16,), "i32") for _ in range(SCRATCH)]
    start = time.process_time()
    report = kernel.launch(
        case.grid, facts["threads"], arguments, shared_bytes=facts["shared_bytes"]
    )
    seconds = time.process_time() - start
    difference = np.linalg.norm(out.numpy().astype(float) - case.expected)
    error = float(difference / np.linalg.norm(case.expected))
    right = error <= LARGEST_ERROR and not report.findings
    speed = report.profile.thread_instructions / seconds / 1e6
    print(
        f"{path.stem:28} {case.expected.shape!s:16} error {error:.1e}, "
        f"{len(report.findings)} findings, {speed:4.0f} M/s{'' if right else '  WRONG'}"
    )
    return right


def main() -> int:
    """Runs every kernel of the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--checks", default="default")
    arguments = parser.parse_args()
    wrong = 0
    for path in sorted(arguments.folder.glob("*.ptx")):
        try:
            wrong += sum(not run(path, arguments.checks, turn) for turn in range(3))
        except simulator.PTXError as error:
            print(f"{path.stem:28} refused: {str(error).splitlines()[1].strip()}")
            wrong += 1
    print(f"{wrong} wrong or refused")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
