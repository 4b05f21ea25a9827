"""Every workload computes on the simulator, with all its checks, what NumPy computes in f64."""

from collections.abc import Mapping

import numpy as np
import pytest

from tilewright.nest.arithmetic import decode
from tilewright.nest.default_schedule import default_gpu_schedule
from tilewright.nest.gpu import compile_for_gpu
from tilewright.nest.workloads import FAMILIES, SYMBOLIC, Workload, symbolic_workload
from tilewright.runtime.simulator_device import SimulatorDevice
from tilewright.test.nest.test_workloads import STATIC


def check(workload: Workload, family: str, symbols: Mapping[str, int]) -> None:
    """Runs a workload under the default schedule, and compares with its reference."""
    program = workload.program
    for step in default_gpu_schedule(program):
        program = step.apply(program)
    arrays = workload.arguments(np.random.default_rng(len(family)), symbols)
    expected = workload.expected(arrays)
    run = compile_for_gpu(program, "sm_80", device=SimulatorDevice(checks="all"))
    run(*(arrays[parameter.name] for parameter in program.parameters), symbols=symbols)
    for name, exact in expected.items():
        found = decode(arrays[name], program.buffers[name].dtype)
        # Weights that are stored in a few bits are rounded to f16 once they have their scale.
        atol = 2e-2 if family in ("W4", "W8") else 2e-4
        np.testing.assert_allclose(found, exact, rtol=2e-3, atol=atol)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_static_workload_on_the_simulator(family: str) -> None:
    check(FAMILIES[family](*STATIC[family]), family, {})


@pytest.mark.parametrize("family", SYMBOLIC)
def test_a_symbolic_workload_on_the_simulator(family: str) -> None:
    workload = symbolic_workload(family)
    ranges = workload.program.ranges
    symbols: dict[str, int] = {}
    for name in ranges:
        entry = ranges[name]
        least = 1 if entry.lower is None else entry.lower.evaluate(symbols)
        value = max(least, 2 if name in ("n", "b") else 5)
        symbols[name] = -(-value // entry.multiple) * entry.multiple
    check(workload, family, symbols)
