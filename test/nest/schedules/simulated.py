"""Checks a schedule written by hand: by the interpreter, then as PTX on the simulator."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tilewright.dialects.nest.intrinsics import DESCRIPTIONS
from tilewright.dialects.nest.program import Program
from tilewright.nest.arithmetic import decode
from tilewright.nest.check import check_schedule
from tilewright.nest.gpu import CompiledForGPU, compile_for_gpu
from tilewright.nest.workloads import Workload
from tilewright.runtime.simulator_device import SimulatorDevice

# Of an element, relative to the greatest magnitude of the result.
TOLERANCE = {"i32": 0.0, "f32": 2e-6, "f16": 1e-3, "bf16": 8e-3}


def compiled(program: Program) -> CompiledForGPU:
    return compile_for_gpu(program, "sm_80", device=SimulatorDevice(checks="all"))


def check(
    workload: Workload,
    scheduled: Program,
    sizes: Iterable[Mapping[str, int]] = ({},),
    trials: int = 1,
) -> CompiledForGPU:
    """Compares with the interpreted program, and with NumPy in f64 for each of the sizes."""
    check_schedule(workload.program, scheduled, trials=trials, descriptions=DESCRIPTIONS).require()
    return simulated(workload, scheduled, sizes)


def simulated(
    workload: Workload,
    scheduled: Program,
    sizes: Iterable[Mapping[str, int]] = ({},),
    tolerance: float | None = None,
) -> CompiledForGPU:
    """Runs a program on the simulator, with all checks, and compares with NumPy in f64."""
    run = compiled(scheduled)
    for symbols in sizes:
        arrays = workload.arguments(np.random.default_rng(len(symbols) + 7), symbols)
        expected = workload.expected(arrays)
        for name in expected:
            arrays[name][...] = 1
        run(*(arrays[parameter.name] for parameter in scheduled.parameters), symbols=symbols)
        for name, exact in expected.items():
            dtype = workload.program.buffers[name].dtype
            bound = TOLERANCE[dtype] if tolerance is None else tolerance
            compare(decode(arrays[name], dtype), exact, bound)
    return run


def compare(found: npt.NDArray[Any], exact: npt.NDArray[Any], tolerance: float) -> None:
    bound = tolerance * float(np.abs(exact).max())
    np.testing.assert_allclose(found.astype(np.float64), exact, rtol=0, atol=bound)
