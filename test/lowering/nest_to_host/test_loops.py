"""Loops of every kind on the host: lanes, threads, tails, buffers of the program's own."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tilewright.dialects.diagnostic import DiagnosticError
from tilewright.dialects.nest.program import LoopKind, Program, Scope
from tilewright.dialects.sym import ceildiv
from tilewright.nest.builder import Builder
from tilewright.nest.compiler import compile
from tilewright.nest.values import cast, exp, inside

pytest.importorskip("torch_mlir", reason="the MLIR bindings are not installed (extra mlir)")
pytest.importorskip("llvmlite", reason="llvmlite is not installed (extra mlir)")

from tilewright.lowering.nest_to_host import host_module

Array = npt.NDArray[Any]
LENGTHS = (1, 7, 16, 33, 128)
UNROLLED, VECTORIZED, PARALLEL = LoopKind.UNROLLED, LoopKind.VECTORIZED, LoopKind.PARALLEL


def numbers(seed: int, *shape: int) -> Array:
    """Returns random f32 that are not 0."""
    generator = np.random.default_rng(seed)
    signs = generator.integers(0, 2, shape) * 2 - 1
    return (signs * generator.uniform(0.125, 1, shape)).astype(np.float32)


def matmul(kinds: Sequence[LoopKind] = (LoopKind.SERIAL,) * 3) -> Program:
    """Returns C = A B with n rows, 24 columns and a sum of 10."""
    b = Builder("matmul", "n in [1, 8192]")
    a, w = b.buffer("A", ["n", 10], "f32"), b.buffer("B", [10, 24], "f32")
    c = b.buffer("C", ["n", 24], "f32", output=True)
    with b.loop("i", "n", kinds[0]) as i, b.loop("k", 10, kinds[1]) as k:
        with b.loop("j", 24, kinds[2]) as j:
            axes = {"vi": ("n", i), "vj": (24, j)}
            with b.block("C", spatial=axes, reduce={"vk": (10, k)}) as (vi, vj, vk):
                with b.init():
                    c[vi, vj] = 0.0
                c[vi, vj] = c[vi, vj] + a[vi, vk] * w[vk, vj]
    return b.build()


def tiled(rows: int = 6) -> Program:
    """Returns C = A B in tiles of `rows` by 16 that are kept in a local buffer."""
    b = Builder("tiled", "n in [1, 8192]")
    n = b.symbol("n")
    tiles = ceildiv(n, rows)
    a, w = b.buffer("A", [n, 40], "f32"), b.buffer("B", [40, 32], "f32")
    c = b.buffer("C", [n, 32], "f32", output=True)
    tile = b.temporary("tile", [rows * tiles, 32], "f32", Scope.LOCAL)
    with b.loop("i", tiles, PARALLEL) as i, b.loop("j", 2) as j:
        with (
            b.loop("k", 40) as k,
            b.loop("r", rows, UNROLLED) as r,
            b.loop("l", 16, VECTORIZED) as lane,
        ):
            axes = {"vi": (rows * tiles, rows * i + r), "vj": (32, 16 * j + lane)}
            where = [inside(rows * i + r, n)]
            reduce = {"vk": (40, k)}
            with b.block("sum", spatial=axes, reduce=reduce, where=where) as (vi, vj, vk):
                with b.init():
                    tile[vi, vj] = 0.0
                tile[vi, vj] = tile[vi, vj] + a[vi, vk] * w[vk, vj]
        with b.loop("r2", rows, UNROLLED) as r, b.loop("l2", 16, VECTORIZED) as lane:
            axes = {"wi": (rows * tiles, rows * i + r), "wj": (32, 16 * j + lane)}
            with b.block("out", spatial=axes, where=[inside(rows * i + r, n)]) as (vi, vj):
                c[vi, vj] = tile[vi, vj]
    return b.build()


@pytest.mark.parametrize("inner", [kind for kind in LoopKind if not kind.is_bound])
def test_a_loop_of_each_kind_computes_the_same(inner: LoopKind) -> None:
    kernel = compile(matmul((LoopKind.SERIAL, LoopKind.SERIAL, inner)), num_threads=2)
    for n in LENGTHS:
        a, b, c = numbers(1, n, 10), numbers(2, 10, 24), np.full((n, 24), np.nan, np.float32)
        kernel(a, b, c)
        np.testing.assert_allclose(c, a.astype(np.float64) @ b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_rows_in_parallel_with_unrolled_sums_and_lanes(threads: int) -> None:
    kernel = compile(matmul((PARALLEL, UNROLLED, VECTORIZED)), num_threads=threads)
    for n in LENGTHS:
        a, b, c = numbers(3, n, 10), numbers(4, 10, 24), np.full((n, 24), np.nan, np.float32)
        kernel(a, b, c)
        np.testing.assert_allclose(c, a.astype(np.float64) @ b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 4, 6])
def test_tiles_with_a_tail_are_right_for_all_lengths(rows: int) -> None:
    kernel = compile(tiled(rows), num_threads=2)
    for n in LENGTHS:
        a, b, c = numbers(5, n, 40), numbers(6, 40, 32), np.full((n, 32), np.nan, np.float32)
        kernel(a, b, c)
        np.testing.assert_allclose(c, a.astype(np.float64) @ b, rtol=1e-5, atol=1e-5)


def test_whole_tiles_have_no_guards() -> None:
    text = host_module(tiled())
    whole = text[text.index("scf.if") : text.index("} else {")]
    assert whole.count("vector<16xf32>") > 12
    assert whole.count("scf.if") == 1


def test_lanes_with_a_guard_run_where_all_hold_and_one_by_one_where_not() -> None:
    b = Builder("tail", "n in [1, 1000]")
    n = b.symbol("n")
    x, y = b.buffer("X", [n], "f32"), b.buffer("Y", [n], "f32", output=True)
    with b.loop("i", ceildiv(n, 8)) as i, b.loop("l", 8, VECTORIZED) as lane:
        where = [inside(8 * i + lane, n)]
        with b.block("B", spatial={"v": (n, 8 * i + lane)}, where=where) as (v,):
            y[v] = exp(x[v])
    kernel = compile(b.build())
    for size in LENGTHS:
        given, got = numbers(7, size), np.zeros(size, np.float32)
        kernel(given, got)
        np.testing.assert_allclose(got, np.exp(given.astype(np.float64)), rtol=3e-7)


@pytest.mark.parametrize("size", [1, 3, 63, 64, 100, 200])
def test_vectors_of_any_constant_length(size: int) -> None:
    b = Builder("double")
    x, y = b.buffer("X", [size], "f32"), b.buffer("Y", [size], "f32", output=True)
    with b.loop("i", size, VECTORIZED) as i, b.block("B", spatial={"v": (size, i)}) as (v,):
        y[v] = x[v] * 2.0
    given, got = numbers(8, size), np.zeros(size, np.float32)
    compile(b.build())(given, got)
    np.testing.assert_array_equal(got, 2 * given)


def test_lanes_gather_by_data_and_by_stride() -> None:
    b = Builder("gather", "n in [1, 100], m in [1, 100]")
    table, index = b.buffer("T", ["m", 3], "f32"), b.buffer("I", ["n"], "i32")
    y = b.buffer("Y", ["n"], "f32", output=True)
    with b.loop("i", "n", VECTORIZED) as i, b.block("B", spatial={"v": ("n", i)}) as (v,):
        y[v] = table[cast(index[v], "index"), 1] + table[v, 2]
    kernel = compile(b.build())
    t, got = numbers(9, 40, 3), np.zeros(37, np.float32)
    places = np.random.default_rng(10).integers(0, 40, 37).astype(np.int32)
    kernel(t, places, got)
    np.testing.assert_array_equal(got, t[places, 1] + t[:37, 2])


def test_a_sum_in_lanes_of_one_element_stays_a_sum() -> None:
    b = Builder("total", "n in [1, 100]")
    x, y = b.buffer("X", ["n"], "i32"), b.buffer("Y", [1], "i32", output=True)
    with b.loop("i", "n", VECTORIZED) as i, b.block("B", reduce={"v": ("n", i)}) as (v,):
        with b.init():
            y[0] = 0
        y[0] = y[0] + x[v]
    got = np.zeros(1, np.int32)
    compile(b.build())(np.arange(50, dtype=np.int32), got)
    assert got[0] == 1225


@pytest.mark.parametrize("threads", [1, 3])
def test_each_iteration_of_a_parallel_loop_runs_once(threads: int) -> None:
    b = Builder("count", "n in [1, 100000]")
    y = b.buffer("Y", ["n"], "i32", output=True)
    with b.loop("s", 3) as s, b.loop("i", "n", PARALLEL) as i:
        with b.block("B", spatial={"v": ("n", i)}, ordered={"w": (3, s)}) as (v, _):
            y[v] = y[v] + 1
    kernel = compile(b.build(), num_threads=threads)
    for size in (1, 2, 5, 1000):
        got = np.zeros(size, np.int32)
        kernel(got)
        assert (got == 3).all()


def test_large_buffers_of_the_programs_own_are_shared_by_threads() -> None:
    b = Builder("twice", "n in [1, 100000]")
    x, y = b.buffer("X", ["n", 100], "f32"), b.buffer("Y", ["n", 100], "f32", output=True)
    t = b.temporary("T", ["n", 100], "f32")
    for name, source, target in (("p", x, t), ("q", t, y)):
        with b.loop(name, "n", PARALLEL) as i, b.loop(f"{name}j", 100, VECTORIZED) as j:
            axes = {f"{name}v": ("n", i), f"{name}w": (100, j)}
            with b.block(f"{name}b", spatial=axes) as (v, w):
                target[v, w] = source[b.symbol("n") - 1 - v, w] + 1.0
    given, got = numbers(11, 300, 100), np.zeros((300, 100), np.float32)
    compile(b.build(), num_threads=2)(given, got)
    np.testing.assert_array_equal(got, given + np.float32(1) + np.float32(1))


def test_loops_of_a_gpu_are_refused() -> None:
    with pytest.raises(DiagnosticError, match="expected loops of a CPU, got 'i' bound to thread.x"):
        host_module(matmul((LoopKind.THREAD_X, LoopKind.SERIAL, LoopKind.SERIAL)))


def test_what_a_loop_does_not_change_stands_before_it() -> None:
    text = host_module(matmul())
    innermost = text[text.rindex("scf.for") :].partition("\n}\n")[0]
    assert innermost.count("llvm.load") == 2 + 1
    assert innermost.count("arith.muli") == 0
