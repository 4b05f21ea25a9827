"""Reductions across the lanes of a warp: scheduled, interpreted, and run on the simulator."""

from typing import Any

import numpy as np
import pytest

from tilewright.dialects.diagnostic import DiagnosticError
from tilewright.dialects.nest.intrinsics import DESCRIPTIONS
from tilewright.dialects.nest.program import Program
from tilewright.nest.builder import Builder, maximize, minimize
from tilewright.nest.check import check_schedule
from tilewright.nest.gpu import CompiledForGPU, compile_for_gpu
from tilewright.nest.schedule import Schedule
from tilewright.runtime.simulator_device import SimulatorDevice

KINDS = {"sum": np.sum, "max": np.max, "min": np.min}
DTYPES = {"f32": np.float32, "i32": np.int32, "f16": np.float16}
FORMS = [(k, d) for k in KINDS for d in DTYPES if (k, d) != ("sum", "f16")]


def reduction(kind: str, dtype: str, columns: int) -> Program:
    b = Builder("reduction", "n in [1, 64]")
    n = b.symbol("n")
    x, y = b.buffer("X", [n, columns], dtype), b.buffer("Y", [n], dtype, output=True)
    i, j = b.axes(i=n, j=columns)
    if kind == "sum":
        y[i] += x[i, j]
    else:
        y[i] = (maximize if kind == "max" else minimize)(x[i, j])
    return b.build()


def scheduled(kind: str, dtype: str, columns: int, *, threads: bool = True) -> Schedule:
    s = Schedule(reduction(kind, dtype, columns))
    copy = s.cache_write("Y", "Y", "local")
    s.reverse_compute_at(copy, "i")
    step, lane = s.split("j", [None, 32])
    s.reorder(lane, step)
    s.rfactor(lane, names=["lanes", "init"], buffer="P", is_whole=True)
    for block in ("lanes", "init"):
        loop = s.loops(block)[1]
        if threads:
            s.bind(loop, "thread.x")
    s.tensorize(s.loops("Y")[-1], f"warp.reduce.{kind}.{dtype}")
    s.bind("i", "block.x")
    return s


def compiled(program: Program) -> CompiledForGPU:
    return compile_for_gpu(program, "sm_80", device=SimulatorDevice(checks="all"))


def values(dtype: str, shape: tuple[int, ...]) -> Any:
    generator = np.random.default_rng(sum(shape))
    return generator.integers(-900, 900, shape).astype(DTYPES[dtype])


@pytest.mark.parametrize(("kind", "dtype"), FORMS)
@pytest.mark.parametrize("columns", [5, 70])
def test_lanes_reduce_what_each_has(kind: str, dtype: str, columns: int) -> None:
    program = scheduled(kind, dtype, columns).program
    original = reduction(kind, dtype, columns)
    check_schedule(original, program, descriptions=DESCRIPTIONS).require()
    x, y = values(dtype, (3, columns)), np.zeros(3, DTYPES[dtype])
    compiled(program)(x, y)
    # Integers of this size are exact in f16, and their sums in f32.
    np.testing.assert_array_equal(y, KINDS[kind](x.astype(np.float64), axis=1))


def test_integers_are_reduced_by_one_instruction() -> None:
    text = compiled(scheduled("sum", "i32", 64).program).artifact.ptx
    assert text.count("redux.sync") == 1
    assert "shfl" not in text


def test_what_every_lane_has_is_refused() -> None:
    program = scheduled("sum", "f32", 64, threads=False).program
    with pytest.raises(DiagnosticError):
        compiled(program)
