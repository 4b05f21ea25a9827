"""
Runs the PTX that make_ptx.py wrote on the simulator, and compares with float64 NumPy.

    python docs/benchmarks/triton_kernels/run.py build/ptx --checks all --only attention --seed 1

Each kernel runs at three sizes with all checks. Prints the largest relative error of an output, the
findings, and the speed in million thread-instructions per CPU second; ends with exit code 1 if
anything is wrong. A seed draws another schedule. With --load it prints instead how long each
module takes to load.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from cases import CASES, Array, Case, Pointers, Result

from tilewright.runtime import simulator

# Largest norm of the error, relative to the norm of the result, by the type of the result.
LARGEST_ERRORS = {"f16": 2e-3, "f32": 1e-5, "i32": 0.0}
SIZES = 3
REFUSALS = (simulator.PTXError, simulator.LaunchError, simulator.SimulationError)
ZEROED = {"f16": "f2", "i32": "i4"}


class Arguments:
    """The arguments of a launch in a device's memory, in the kernel's order."""

    def __init__(self, device: simulator.Device, case: Case, facts: dict[str, Any]) -> None:
        self._device = device
        self.outputs: list[tuple[Result, simulator.Buffer]] = []
        self.values: list[Any] = []
        self._kept: list[simulator.Buffer] = []
        for name, kind, *more in facts["arguments"]:
            value = case.arguments[name]
            if kind == "number":
                self.values.append(value)
            elif isinstance(value, Pointers):
                addresses = [self._buffer(each).address for each in value.values]
                self.values.append(device.array(np.array(addresses, np.int64)))
            elif kind == "descriptor":
                self.values += self._descriptor(self._buffer(value), *more)
            else:
                self.values.append(self._buffer(value))
        ctas = int(np.prod(case.grid))
        self.values += [device.empty((max(16, ctas * n),), "u8") for n in facts["scratch"]]

    def _buffer(self, value: Any) -> simulator.Buffer:
        """Returns an input's copy, or memory for an output."""
        if not isinstance(value, Result):
            buffer = self._device.array(value)
        elif value.zeroed:
            buffer = self._device.array(np.zeros(value.expected.shape, ZEROED[value.dtype]))
        else:
            buffer = self._device.empty(value.expected.shape, value.dtype)
        if isinstance(value, Result):
            self.outputs.append((value, buffer))
        self._kept.append(buffer)
        return buffer

    def _descriptor(self, buffer: simulator.Buffer, box: list[int], swizzle: str) -> list[Any]:
        """Returns what Triton passes for a descriptor: tensor map, shape, strides in elements."""
        rows, columns = buffer.shape
        stride = columns * (buffer.nbytes // (rows * columns))
        map = self._device.tensor_map(
            buffer, buffer.dtype, (columns, rows), (stride,), box[::-1], swizzle=swizzle
        )
        return [map, rows, columns, columns, 1]


def error_of(result: Result, found: Array) -> float:
    """Returns the error of an output relative to its norm."""
    difference = found.astype(np.float64) - result.expected
    return float(np.linalg.norm(difference) / np.linalg.norm(result.expected))


def run(path: Path, checks: str, turn: int, seed: int | None) -> bool:
    """Runs one kernel at one size, prints a line, and returns whether it is right."""
    facts = json.loads(path.with_suffix(".json").read_text())
    constants = facts["constants"] | {"WHOLE": "M" in facts["multiples_of_16"]}
    case = CASES[facts["function"]](turn, np.random.default_rng(turn), constants)
    device = simulator.Device(checks)
    kernel = device.load(path.read_text())[facts["entry"]]
    arguments = Arguments(device, case, facts)
    start = time.process_time()
    report = kernel.launch(
        case.grid,
        facts["threads"],
        arguments.values,
        shared_bytes=facts["shared_bytes"],
        seed=seed,
    )
    seconds = time.process_time() - start
    errors = [(error_of(result, made.numpy()), result) for result, made in arguments.outputs]
    right = all(error <= LARGEST_ERRORS[result.dtype] for error, result in errors)
    right = right and not report.findings
    speed = report.profile.thread_instructions / seconds / 1e6
    print(
        f"{path.stem:42} {case.size:14} error {max(error for error, _ in errors):.1e}, "
        f"{len(report.findings)} findings, {report.profile.thread_instructions / 1e6:6.1f} M, "
        f"{speed:4.0f} M/s{'' if right else '  WRONG'}"
    )
    for finding in report.findings:
        print(finding)
    return right


def load(path: Path) -> None:
    """Prints how long a module takes to load."""
    text = path.read_text()
    start = time.process_time()
    kernel = next(iter(simulator.Device().load(text).values()))
    seconds = time.process_time() - start
    count = sum(hasattr(item, "opcode") for item in kernel.program.function.body or ())
    each = seconds / count * 1e6
    print(f"{path.stem:42} {count:5} instructions, {seconds * 1e3:4.0f} ms, {each:4.0f} us each")


def main() -> int:
    """Runs every kernel of the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--checks", default="all")
    parser.add_argument("--only", default="", help="part of the names of the kernels to run")
    parser.add_argument("--seed", type=int, help="of the schedule")
    parser.add_argument("--load", action="store_true", help="measure how long loading takes")
    arguments = parser.parse_args()
    wrong = 0
    for path in sorted(arguments.folder.glob("*.ptx")):
        if arguments.only not in path.stem:
            continue
        if arguments.load:
            load(path)
            continue
        for turn in range(SIZES):
            try:
                wrong += not run(path, arguments.checks, turn, arguments.seed)
            except REFUSALS as problem:
                print(f"{path.stem:42} {type(problem).__name__}: {problem}")
                wrong += 1
    print(f"{wrong} wrong or refused")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
