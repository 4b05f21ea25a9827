"""Reductions across a warp and a CTA: scheduled, interpreted, and run on the simulator."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tilewright.dialects.diagnostic import DiagnosticError
from tilewright.dialects.nest.intrinsics import DESCRIPTIONS
from tilewright.dialects.nest.program import Call, Program, blocks_of
from tilewright.nest.builder import Builder, maximize, minimize
from tilewright.nest.check import check_schedule
from tilewright.nest.gpu import CompiledForGPU, compile_for_gpu
from tilewright.nest.schedule import Schedule
from tilewright.runtime.simulator_device import SimulatorDevice

KINDS = {"sum": np.sum, "max": np.max, "min": np.min}
DTYPES = {"f32": np.float32, "f64": np.float64, "i32": np.int32, "f16": np.float16}
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


def across_cta(
    kind: str, dtype: str, columns: int, threads: tuple[int, ...], rows: str = "block.x"
) -> Program:
    """A row by the threads of a CTA, along x or x and y; rows by CTAs or one after another."""
    count = int(np.prod(threads))
    s = Schedule(reduction(kind, dtype, columns))
    copy = s.cache_write("Y", "Y", "local")
    s.reverse_compute_at(copy, "i")
    step, thread = s.split("j", [None, count])
    s.reorder(thread, step)
    s.rfactor(thread, names=["parts", "init"], buffer="P", is_whole=True)
    for block in ("parts", "init"):
        loop = s.loops(block)[1]
        if len(threads) > 1:
            outer, loop = s.split(loop, [None, threads[0]])
            s.bind(outer, "thread.y")
        s.bind(loop, "thread.x")
    s.tensorize(s.loops("Y")[-1], f"cta.reduce.{kind}.{dtype}.{count}")
    if rows == "block.x":
        s.bind("i", rows)
    return s.program


def check_cta(program: Program, kind: str, dtype: str, columns: int) -> CompiledForGPU:
    original = reduction(kind, dtype, columns)
    check_schedule(original, program, descriptions=DESCRIPTIONS, trials=1).require()
    x, y = values(dtype, (3, columns)), np.zeros(3, DTYPES[dtype])
    run = compiled(program)
    run(x, y)
    np.testing.assert_array_equal(y, KINDS[kind](x.astype(np.float64), axis=1))
    return run


@pytest.mark.parametrize("dtype", ["f32", "f64", "i32"])
@pytest.mark.parametrize("kind", KINDS)
def test_threads_of_a_cta_reduce_what_each_has(kind: str, dtype: str) -> None:
    run = check_cta(across_cta(kind, dtype, 300, (128,)), kind, dtype, 300)
    # The results of four warps meet once in shared memory.
    assert run.artifact.ptx.count("bar.sync") == 1
    assert run.artifact.contract.dynamic_shared_bytes == 256


SHAPES = [(64,), (768,), (1024,), (32, 6), (16, 8), (64, 2)]


@pytest.mark.parametrize(
    ("kind", "threads"), [*((kind, (192,)) for kind in KINDS), *(("sum", t) for t in SHAPES)]
)
def test_ctas_of_other_sizes_and_shapes(kind: str, threads: tuple[int, ...]) -> None:
    check_cta(across_cta(kind, "f32", 40, threads), kind, "f32", 40)


def test_rows_one_after_the_other_wait_for_who_is_slower() -> None:
    run = check_cta(across_cta("sum", "i32", 70, (64,), "serial"), "sum", "i32", 70)
    assert run.artifact.ptx.count("bar.sync") == 2


def test_a_cta_of_another_size_is_refused() -> None:
    program = across_cta("sum", "f32", 70, (64,))
    (block,) = [b for b in blocks_of(program.body) if isinstance(b.body[0], Call)]
    wider = replace(block.body[0], intrinsic="cta.reduce.sum.f32.128")
    with pytest.raises(DiagnosticError, match="expected the 128 threads that .*, got 64 x 1 x 1"):
        compiled(program.replace(block.name, replace(block, body=(wider,))))
