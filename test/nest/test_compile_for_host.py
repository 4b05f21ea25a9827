"""`nest.compile` for the host: what is called, and what is refused before anything runs."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tilewright.dialects.diagnostic import DiagnosticError
from tilewright.dialects.nest.program import (
    AccessMode,
    Call,
    Loop,
    LoopKind,
    Operand,
    Program,
    Range,
    Region,
)
from tilewright.dialects.sym import Expression, constant, symbol
from tilewright.lowering.nest_to_host import Options, host_module
from tilewright.nest import compiler
from tilewright.nest.builder import Builder
from tilewright.nest.compiler import CompiledForHost, compile
from tilewright.nest.values import NestError, cast
from tilewright.runtime.errors import ArgumentError
from tilewright.runtime.host_device import HostDevice
from tilewright.runtime.launch import run_kernel

pytest.importorskip("torch_mlir", reason="the MLIR bindings are not installed (extra mlir)")
pytest.importorskip("llvmlite", reason="llvmlite is not installed (extra mlir)")


def strided() -> Program:
    """Returns Y = factor * X of n rows, X with rows `ld` apart."""
    b = Builder("strided", "n in [1, 100], ld in [4, 1000]")
    x = b.buffer("X", ["n", 4], "f16", strides=["ld", 1])
    y = b.buffer("Y", ["n", 4], "f32", output=True)
    factor = b.scalar("factor", "bf16")
    i, j = b.axes(i="n", j=4)
    y[i, j] = cast(x[i, j], "f32") * cast(factor, "f32")
    return b.build()


def test_strides_are_symbols_and_numbers_are_rounded() -> None:
    memory = np.random.default_rng(1).uniform(1, 2, (7, 10)).astype(np.float16)
    got = np.zeros((7, 4), np.float32)
    compile(strided())(memory[:, 2:6], got, 1.0 + 2**-10)
    # 1 + 2**-10 is no bf16: the nearest one is 1.
    np.testing.assert_array_equal(got, memory[:, 2:6].astype(np.float32))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones((3, 4), np.float16), np.ones((3, 4), np.float32)), "expected 3 arguments, got 2"),
        ((np.ones((3, 4), np.float16), [1.0], 2.0), "'Y': expected a NumPy array of f32, got list"),
        ((np.ones((3, 4), np.float32), np.ones((3, 4), np.float32), 2.0), "'X': expected elements"),
        ((np.ones((3, 4), np.float16), np.ones((2, 4), np.float32), 2.0), "'Y': expected axis 0"),
        (
            (np.ones((3, 4), np.float16), np.ones((4, 3), np.float32).T, 2.0),
            "'Y': expected a C-contiguous array",
        ),
        (
            (np.ones((101, 4), np.float16), np.ones((101, 4), np.float32), 2.0),
            r"'n': expected a value in \[1, 100\], got 101",
        ),
    ],
)
def test_arguments_that_do_not_match_are_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        compile(strided())(*arguments)


def test_shapes_that_came_before_are_not_solved_again(monkeypatch: pytest.MonkeyPatch) -> None:
    solved: list[int] = []
    solve = compiler.solve_symbols

    def counted(*arguments: Any) -> dict[str, int]:
        values = solve(*arguments)
        solved.append(values["n"])
        return values

    monkeypatch.setattr(compiler, "solve_symbols", counted)
    run = compile(strided())
    for rows in (3, 5, 3, 5, 3):
        x, got = np.ones((rows, 4), np.float16), np.zeros((rows, 4), np.float32)
        run(x, got, 2.0)
        np.testing.assert_array_equal(got, np.full((rows, 4), 2.0))
    assert solved == [3, 5]


def test_an_output_that_shares_memory_is_refused() -> None:
    b = Builder("copy", "n in [1, 100]")
    x, y = b.buffer("X", ["n"], "f32"), b.buffer("Y", ["n"], "f32", output=True)
    (i,) = b.axes(i="n")
    y[i] = x[i]
    memory = np.ones(20, np.float32)
    with pytest.raises(ArgumentError, match="'Y': expected memory of its own, got memory that 'X'"):
        compile(b.build())(memory[:10], memory[5:15])


def test_an_unknown_target_is_refused() -> None:
    with pytest.raises(NestError, match="expected a target among host, .*, got 'gfx90a'"):
        compile(strided(), "gfx90a")


def test_sums_in_another_order_only_where_that_is_asked_for() -> None:
    b = Builder("total", "n in [1, 100000]")
    x, y = b.buffer("X", ["n"], "f32"), b.buffer("Y", [1], "f32", output=True)
    with b.loop("k", "n") as k, b.block("B", reduce={"v": ("n", k)}) as (v,):
        with b.init():
            y[0] = 0.0
        y[0] = y[0] + x[v]
    numbers = np.random.default_rng(2).standard_normal(50000).astype(np.float32)
    in_order, got = np.float32(0), np.zeros(1, np.float32)
    for number in numbers:
        in_order += number
    compile(b.build())(numbers, got)
    assert got[0] == in_order
    compile(b.build(), fast_math=True)(numbers, got)
    assert got[0] != in_order
    np.testing.assert_allclose(got[0], numbers.astype(np.float64).sum(), rtol=1e-3)


def gather(kind: LoopKind, scatters: bool = False) -> Program:
    """Returns Y[i] = T[I[i], 1], or T[I[i], 1] = X[i]."""
    b = Builder("gather", "n in [1, 100], m in [1, 100]")
    table = b.buffer("T", ["m", 3], "f32", output=scatters)
    index = b.buffer("I", ["n"], "i32")
    y = b.buffer("Y", ["n"], "f32", output=not scatters)
    with b.loop("i", "n", kind) as i:
        point = {"v": ("n", i)}
        spatial, ordered = ({}, point) if scatters else (point, {})
        with b.block("B", spatial=spatial, ordered=ordered) as (v,):
            if scatters:
                table[cast(index[v], "index"), 1] = y[v]
            else:
                y[v] = table[cast(index[v], "index"), 1]
    return b.build()


@pytest.mark.parametrize("kind", [LoopKind.SERIAL, LoopKind.VECTORIZED, LoopKind.PARALLEL])
@pytest.mark.parametrize("bad", [-1, 8, 2**31 - 1, -(2**31)])
def test_a_gather_out_of_bounds_is_an_error(kind: LoopKind, bad: int) -> None:
    run = compile(gather(kind), num_threads=2)
    table = np.random.default_rng(5).standard_normal((8, 3)).astype(np.float32)
    places = np.random.default_rng(6).integers(0, 8, 50).astype(np.int32)
    got = np.zeros(50, np.float32)
    run(table, places, got)
    np.testing.assert_array_equal(got, table[places, 1])
    for place in (0, 31, 49):
        wrong = places.copy()
        wrong[place] = bad
        with pytest.raises(ArgumentError, match="'T': expected indices within axis 0, got one out"):
            run(table, wrong, got)


def test_a_scatter_out_of_bounds_writes_inside_the_buffer() -> None:
    run = compile(gather(LoopKind.SERIAL, scatters=True))
    memory = np.zeros((12, 3), np.float32)
    places = np.array([1, 9, -2], np.int32)
    with pytest.raises(ArgumentError, match="'T': expected indices within axis 0"):
        run(memory[2:10], places, np.ones(3, np.float32))
    assert not memory[:2].any()
    assert not memory[10:].any()


def test_indices_that_are_trusted_are_not_checked() -> None:
    program = gather(LoopKind.VECTORIZED)
    assert "uge" in host_module(program)
    assert "uge" not in host_module(program, Options(trusts_indices=True))
    table, got = np.arange(24, dtype=np.float32).reshape(8, 3), np.zeros(3, np.float32)
    compile(program, trusts_indices=True)(table, np.array([7, 0, 3], np.int32), got)
    np.testing.assert_array_equal(got, table[[7, 0, 3], 1])


def _region(buffer: str, *ranges: tuple[Expression | int, int]) -> Region:
    return Region(buffer, tuple(Range(_index(low), constant(extent)) for low, extent in ranges))


def _index(value: Expression | int) -> Expression:
    return constant(value) if isinstance(value, int) else value


def _with_call(intrinsic: str) -> Program:
    b = Builder("outer")
    b.buffer("A", [20, 6], "f32")
    b.buffer("B", [20, 16], "f32")
    b.buffer("C", [6, 16], "f32", output=True)
    k = symbol("k")
    operands = (
        Operand(_region("C", (0, 6), (0, 16)), AccessMode.UPDATE),
        Operand(_region("A", (k, 1), (0, 6)), AccessMode.READ),
        Operand(_region("B", (k, 1), (0, 16)), AccessMode.READ),
    )
    return replace(b.build(), body=(Loop("k", constant(20), (Call(intrinsic, operands),)),))


def test_an_outer_product_of_the_cpu_is_executed() -> None:
    generator = np.random.default_rng(3)
    a, b = (generator.standard_normal((20, n)).astype(np.float32) for n in (6, 16))
    got = np.ones((6, 16), np.float32)
    compile(_with_call("avx2.outer.f32.6x16"))(a, b, got)
    np.testing.assert_allclose(got, 1 + a.T.astype(np.float64) @ b, rtol=1e-5, atol=1e-5)


def test_an_outer_product_of_the_cpu_is_made_of_vectors() -> None:
    lines = host_module(_with_call("avx2.outer.f32.6x16")).splitlines()
    sums = [line for line in lines if "arith.addf" in line]
    assert len(sums) == 6
    assert all("vector<16xf32>" in line for line in sums)


def test_an_intrinsic_of_a_gpu_is_refused() -> None:
    with pytest.raises(DiagnosticError, match="expected intrinsics of a CPU, got 'mma"):
        compile(_with_call("mma.m16n8k16.f16.f32.row.col"))


def test_the_contract_of_a_buffer_with_strides_is_its_memory() -> None:
    memory = np.random.default_rng(4).uniform(1, 2, 2 * 10 + 4).astype(np.float16)
    arguments = {"X": memory, "Y": np.zeros((3, 4), np.float32), "factor": 2.0, "ld": 10}
    out = run_kernel(HostDevice(), compile(strided()).artifact, arguments)
    rows = np.lib.stride_tricks.as_strided(memory, (3, 4), (20, 2)).astype(np.float32)
    np.testing.assert_array_equal(out["Y"].numpy(), 2 * rows)
    with pytest.raises(ArgumentError, match="'X': expected shape"):
        run_kernel(HostDevice(), compile(strided()).artifact, {**arguments, "ld": 11})


def test_the_artifact_is_of_the_host() -> None:
    run = compile(strided())
    assert isinstance(run, CompiledForHost)
    assert run.artifact.contract.target == "host"
