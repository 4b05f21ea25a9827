"""Every workload computes on the host what NumPy computes in f64, for numbers and for symbols."""

import numpy as np
import pytest

from tilewright.dialects.nest.program import Loop as NestLoop
from tilewright.dialects.nest.program import LoopKind, Program, walk
from tilewright.nest.compiler import compile
from tilewright.nest.workloads import FAMILIES, SYMBOLIC, Workload, symbolic_workload
from tilewright.test.nest.test_workloads import STATIC, UNIT, error_of
from tilewright.transforms.schedule.kinds import Parallel, Vectorize
from tilewright.transforms.schedule.primitive import ScheduleError

pytest.importorskip("torch_mlir", reason="the MLIR bindings are not installed (extra mlir)")
pytest.importorskip("llvmlite", reason="llvmlite is not installed (extra mlir)")


def tolerance(family: str) -> float:
    """Returns the error that is allowed, over the magnitude of a result."""
    return 64 * UNIT["f16"] if family in ("W4", "W8") else 256 * UNIT["f32"]


def scheduled(program: Program) -> Program:
    """Returns a program with every loop that may be parallel or lanes made so."""
    loops = [part for part in walk(program.body) if isinstance(part, NestLoop)]
    for loop in loops:
        innermost = not any(isinstance(part, NestLoop) for part in walk(loop.body))
        step = Vectorize(loop.name) if innermost else Parallel(loop.name)
        try:
            program = step.apply(program)
        except ScheduleError:
            continue
    return program


def error_on_host(workload: Workload, program: Program, symbols: dict[str, int]) -> float:
    """Returns the greatest error over the magnitude of the results."""
    arrays = workload.arguments(np.random.default_rng(1), symbols)
    run = compile(program, num_threads=2)
    run(*(arrays[parameter.name] for parameter in program.parameters), symbols=symbols)
    return error_of(workload, arrays, arrays)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_static_workload_with_parallel_loops_and_lanes(family: str) -> None:
    workload = FAMILIES[family](*STATIC[family])
    program = scheduled(workload.program)
    kinds = {part.kind for part in walk(program.body) if isinstance(part, NestLoop)}
    assert kinds & {LoopKind.PARALLEL, LoopKind.VECTORIZED}
    assert error_on_host(workload, program, {}) < tolerance(family)


@pytest.mark.parametrize("family", SYMBOLIC)
def test_a_symbolic_workload_as_it_is_written(family: str) -> None:
    workload = symbolic_workload(family)
    symbols: dict[str, int] = {}
    for name in workload.program.ranges:
        entry = workload.program.ranges[name]
        least = 1 if entry.lower is None else entry.lower.evaluate(symbols)
        value = max(least, 2 if name in ("n", "b") else 7)
        symbols[name] = -(-value // entry.multiple) * entry.multiple
    assert error_on_host(workload, workload.program, symbols) < tolerance(family)
