"""Nests bound to threads compute on the simulator, with all its checks, what NumPy computes."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tilewright.dialects.diagnostic import DiagnosticError
from tilewright.dialects.nest.program import Program, Scope
from tilewright.dialects.sym import ceildiv
from tilewright.nest.builder import Builder
from tilewright.nest.compiler import compile as compile_nest
from tilewright.nest.gpu import CompiledForGPU, compile_for_gpu
from tilewright.nest.values import exp, inside, maximum
from tilewright.runtime.simulator_device import SimulatorDevice

from .gpu_programs import BLOCK_X, THREAD_X, VECTOR, gemm

Array = npt.NDArray[Any]


def compiled(program: Program) -> CompiledForGPU:
    return compile_for_gpu(program, "sm_80", device=SimulatorDevice(checks="all"))


def random(shape: tuple[int, ...], dtype: Any = np.float32) -> Array:
    generator = np.random.default_rng(sum(shape))
    values = generator.uniform(0.5, 2.0, shape) * generator.choice([-1, 1], shape)
    return values.astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float16], ids=["f32", "f16"])
@pytest.mark.parametrize("rows", [1, 31, 32, 70])
def test_a_product_with_operands_in_shared_memory(rows: int, dtype: Any) -> None:
    run = compiled(gemm("f32" if dtype is np.float32 else "f16"))
    a, b = random((rows, 40), dtype), random((40, 48), dtype)
    c = np.zeros((rows, 48), np.float32)
    run(a, b, c)
    expected = a.astype(np.float64) @ b.astype(np.float64)
    np.testing.assert_allclose(c, expected, rtol=1e-5, atol=1e-4)


def scaled(dtype: str = "f32", multiple: int = 1) -> Program:
    """`Y = 2 X + 1` in steps of 4 neighbours, n symbolic."""
    b = Builder("scaled", f"n in [1, 4096], n mod {multiple} == 0")
    n = b.symbol("n")
    x, y = b.buffer("X", [n], dtype), b.buffer("Y", [n], dtype, output=True)
    with b.loop("b", ceildiv(n, 128), BLOCK_X) as block, b.loop("t", 32, THREAD_X) as t:
        with b.loop("v", 4, VECTOR) as v:
            at = 128 * block + 4 * t + v
            with b.block("Y", spatial={"i": (n, at)}, where=[inside(at, n)]) as (i,):
                y[i] = x[i] * 2.0 + 1.0
    return b.build()


@pytest.mark.parametrize("count", [1, 3, 128, 130, 1023])
def test_a_tail_is_done_one_by_one(count: int) -> None:
    x, y = random((count,)), np.zeros(count, np.float32)
    compiled(scaled())(x, y)
    np.testing.assert_allclose(y, 2.0 * x.astype(np.float64) + 1.0, rtol=1e-6, atol=1e-6)


def test_neighbours_are_moved_together_where_the_length_is_known_to_divide() -> None:
    text = compiled(scaled(multiple=4)).artifact.ptx
    assert "ld.global.v4.b32" in text
    assert "ld.global.b32" not in text


def test_both_ways_stand_where_it_is_not_known() -> None:
    text = compiled(scaled()).artifact.ptx
    assert "ld.global.v4.b32" in text
    assert "ld.global.b32" in text


def softmax(columns: int) -> Program:
    """A row of 32 or more a CTA of 32 threads: partial maxima and sums meet in shared memory."""
    b = Builder("softmax", "n in [1, 64]")
    n = b.symbol("n")
    x, y = b.buffer("X", [n, columns], "f32"), b.buffer("Y", [n, columns], "f32", output=True)
    most, part = (b.temporary(s, [n, 32], "f32", Scope.SHARED) for s in ("most", "part"))
    steps = ceildiv(columns, 32)
    with b.loop("row", n, BLOCK_X) as row:
        for stage, into in (("m", most), ("s", part)):
            with b.loop(f"{stage}_t", 32, THREAD_X) as t, b.loop(f"{stage}_k", steps) as k:
                at = 32 * k + t
                with b.block(
                    stage,
                    spatial={f"{stage}r": (n, row), f"{stage}t": (32, t)},
                    reduce={f"{stage}k": (steps, k)},
                    where=[inside(at, columns)],
                ) as (r, lane, step):
                    with b.init():
                        into[r, lane] = -1e30 if stage == "m" else 0.0
                    value = x[r, 32 * step + lane]
                    if stage == "m":
                        into[r, lane] = maximum(into[r, lane], value)
                    else:
                        into[r, lane] = into[r, lane] + exp(value - most[r, 0])
            with b.loop(f"{stage}_f", 31) as f:
                with b.block(
                    f"{stage}_all",
                    spatial={f"{stage}ar": (n, row)},
                    ordered={f"{stage}f": (31, f)},
                ) as (r, other):
                    if stage == "m":
                        into[r, 0] = maximum(into[r, 0], into[r, other + 1])
                    else:
                        into[r, 0] = into[r, 0] + into[r, other + 1]
        with b.loop("o_t", 32, THREAD_X) as t, b.loop("o_k", steps) as k:
            at = 32 * k + t
            with b.block(
                "Y", spatial={"yr": (n, row), "yc": (columns, at)}, where=[inside(at, columns)]
            ) as (r, c):
                y[r, c] = exp(x[r, c] - most[r, 0]) / part[r, 0]
    return b.build()


@pytest.mark.parametrize("columns", [32, 64, 100])
def test_softmax_with_partial_results_in_shared_memory(columns: int) -> None:
    x, y = random((3, columns)), np.zeros((3, columns), np.float32)
    compiled(softmax(columns))(x, y)
    exact = np.exp(x.astype(np.float64) - x.max(axis=1, keepdims=True))
    np.testing.assert_allclose(y, exact / exact.sum(axis=1, keepdims=True), rtol=1e-5)


def test_nests_that_follow_each_other_are_kernels_in_order() -> None:
    b = Builder("two", "n in [1, 1024]")
    n = b.symbol("n")
    x, y = b.buffer("X", [n], "f32"), b.buffer("Y", [n], "f32", output=True)
    between = b.temporary("T", [n], "f32")
    for name, source, target in (("first", x, between), ("second", between, y)):
        with b.loop(f"{name}_b", ceildiv(n, 32), BLOCK_X) as block:
            with b.loop(f"{name}_t", 32, THREAD_X) as t:
                at = 32 * block + t
                with b.block(name, spatial={f"{name}_i": (n, at)}, where=[inside(at, n)]) as (i,):
                    target[i] = source[n - 1 - i] * 3.0
    run = compiled(b.build())
    values, result = random((77,)), np.zeros(77, np.float32)
    run(values, result)
    assert len(run.artifacts) == 2
    np.testing.assert_allclose(result, 9.0 * values.astype(np.float64), rtol=1e-6)


def test_compile_takes_a_gpu_as_target() -> None:
    assert ".target sm_90" in compile_nest(scaled(), target="sm_90").artifact.ptx  # pyright: ignore


def test_more_than_1024_threads_are_refused() -> None:
    b = Builder("many")
    y = b.buffer("Y", [2048], "f32", output=True)
    with b.loop("t", 2048, THREAD_X) as t, b.block("Y", spatial={"i": (2048, t)}) as (i,):
        y[i] = 1.0
    with pytest.raises(DiagnosticError, match="at most 1024 threads"):
        compiled(b.build())


def test_shared_memory_over_the_limit_of_the_target_is_refused() -> None:
    b = Builder("large")
    y = b.buffer("Y", [32], "f32", output=True)
    held = b.temporary("H", [50_000], "f32", Scope.SHARED)
    with b.loop("b", 1, BLOCK_X):
        with b.loop("t", 32, THREAD_X) as t, b.loop("k", 1562) as k:
            with b.block("H", spatial={"i": (50_000, 32 * k + t)}) as (i,):
                held[i] = 1.0
        with b.loop("u", 32, THREAD_X) as u, b.block("Y", spatial={"o": (32, u)}) as (o,):
            y[o] = held[49_983 - 7 * o]
    with pytest.raises(DiagnosticError, match="at most 166912 bytes of shared memory"):
        compiled(b.build())
