"""Rules of execution: symbols, bounds, predicates, rounding, intrinsics, lowered programs."""

from dataclasses import replace

import numpy as np
import pytest

from tilewright.dialects.nest.program import (
    AccessMode,
    Block,
    Call,
    LoopKind,
    Operand,
    Program,
    Range,
    Region,
)
from tilewright.dialects.sym import constant, symbol
from tilewright.nest.arithmetic import decode, encode
from tilewright.nest.builder import Builder
from tilewright.nest.interpreter import ExecutionError, interpret
from tilewright.nest.values import cast, value_of
from tilewright.nest.workloads import FAMILIES, gemm, symbolic_workload
from tilewright.runtime.errors import ArgumentError
from tilewright.test.nest.naive import interpret as interpret_naively
from tilewright.transforms.compact_buffers import compact_buffers
from tilewright.transforms.lower_blocks import lower_blocks
from tilewright.transforms.schedule.split import Split


def doubled(extent: str, ranges: str) -> Program:
    b = Builder("doubled", ranges)
    x, y = b.buffer("X", [extent], "f32"), b.buffer("Y", [extent], "f32", output=True)
    (i,) = b.axes(i=extent)
    y[i] = x[i] * 2.0
    return b.build()


def test_a_symbol_is_solved_from_a_linear_extent() -> None:
    x = np.arange(1, 8, dtype=np.float32)
    result = interpret(doubled("2*n + 1", "n in [1, 9]"), {"X": x, "Y": np.zeros_like(x)})
    np.testing.assert_array_equal(result["Y"], 2 * x)


def test_an_extent_that_no_symbol_gives_is_refused() -> None:
    x = np.ones(8, np.float32)
    with pytest.raises(ArgumentError, match=r"'X': expected axis 0 of extent 2\*n \+ 1"):
        interpret(doubled("2*n + 1", "n in [1, 9]"), {"X": x, "Y": x.copy()})


def test_extents_that_disagree_name_parameter_and_axis() -> None:
    x, y = np.ones(7, np.float32), np.ones(9, np.float32)
    with pytest.raises(ArgumentError, match=r"'Y': expected axis 0 of extent n = 7, got 9"):
        interpret(doubled("n", "n in [1, 9]"), {"X": x, "Y": y})


def test_a_symbol_out_of_its_range_is_refused() -> None:
    x = np.ones(10, np.float32)
    with pytest.raises(ArgumentError, match=r"'n': expected a value in \[1, 9\], got 10"):
        interpret(doubled("n", "n in [1, 9]"), {"X": x, "Y": x.copy()})


def test_a_symbol_that_is_no_multiple_is_refused() -> None:
    x = np.ones(10, np.float32)
    with pytest.raises(ArgumentError, match="and a multiple of 4, got 10"):
        interpret(doubled("n", "n in [1, 90], n mod 4 == 0"), {"X": x, "Y": x.copy()})


def test_an_array_of_another_dtype_is_refused() -> None:
    x = np.ones(4)
    with pytest.raises(ArgumentError, match="'X': expected elements of f32 as float32"):
        interpret(doubled("n", "n in [1, 9]"), {"X": x, "Y": x.astype(np.float32)})


def test_strides_determine_a_symbol() -> None:
    b = Builder("rows", "n in [1, 9], lda in [1, 99]")
    x = b.buffer("X", ["n", 4], "f32", strides=["lda", 1])
    y = b.buffer("Y", ["n"], "i32", output=True)
    (i,) = b.axes(i="n")
    y[i] = cast(x[i, 0], "i32") + cast(value_of(b.symbol("lda")), "i32")
    memory = np.arange(1, 31, dtype=np.float32).reshape(3, 10)
    result = interpret(b.build(), {"X": memory[:, :4], "Y": np.zeros(3, np.int32)})
    np.testing.assert_array_equal(result["Y"], [11, 21, 31])


@pytest.mark.parametrize("shift", [-1, 1])
def test_an_index_out_of_bounds_is_an_error_never_another_element(shift: int) -> None:
    b = Builder("shift", "s in [-1, 1]")
    x, y = b.buffer("X", [4], "f32"), b.buffer("Y", [4], "f32", output=True)
    (i,) = b.axes(i=4)
    y[i] = x[i + b.symbol("s")]
    arrays = {"X": np.ones(4, np.float32), "Y": np.ones(4, np.float32)}
    got = {-1: -1, 1: 4}[shift]
    message = f"block 'Y': expected an index of 'X' axis 0 in 0 .. 3, got {got}"
    with pytest.raises(ExecutionError, match=message):
        interpret(b.build(), arrays, symbols={"s": shift})


def test_a_gather_out_of_bounds_is_an_error() -> None:
    b = Builder("gather")
    x, r = b.buffer("X", [4], "f32"), b.buffer("R", [3], "i32")
    y = b.buffer("Y", [3], "f32", output=True)
    (i,) = b.axes(i=3)
    y[i] = x[cast(r[i], "index")]
    arrays = {"X": np.ones(4, np.float32), "Y": np.ones(3, np.float32)}
    with pytest.raises(ExecutionError, match="'X' axis 0 in 0 .. 3, got -2"):
        interpret(b.build(), {**arrays, "R": np.array([1, -2, 3], np.int32)})


def test_division_by_zero_is_an_error() -> None:
    b = Builder("division")
    x, y = b.buffer("X", [4], "i32"), b.buffer("Y", [4], "i32", output=True)
    (i,) = b.axes(i=4)
    y[i] = x[i] // (x[i] - 3)
    x_values = np.array([1, 2, 3, 4], np.int32)
    with pytest.raises(ExecutionError, match="expected a divisor"):
        interpret(b.build(), {"X": x_values, "Y": x_values.copy()})


def test_a_scan_is_executed_in_order() -> None:
    b = Builder("scan")
    x, y = b.buffer("X", [5, 9], "i64"), b.buffer("Y", [5, 10], "i64", output=True)
    with (
        b.loop("i", 5) as i,
        b.loop("t", 9) as t,
        b.block("B", spatial={"v": (5, i)}, ordered={"o": (9, t)}) as (v, o),
    ):
        y[v, o + 1] = y[v, o] * 3 + x[v, o]
    generator = np.random.default_rng(0)
    x_values = generator.integers(1, 100, (5, 9))
    result = interpret(b.build(), {"X": x_values, "Y": np.ones((5, 10), np.int64)})["Y"]
    for row in range(5):
        state = 1
        for step in range(9):
            state = state * 3 + int(x_values[row, step])
            assert result[row, step + 1] == state


def test_a_sum_of_f16_is_rounded_after_each_addition() -> None:
    b = Builder("total")
    x, y = b.buffer("X", [2048], "f16"), b.buffer("Y", [1], "f16", output=True)
    i, k = b.axes(i=1, k=2048)
    y[i] += x[k]
    result = interpret(
        b.build(), {"X": np.full(2048, 1.5, np.float16), "Y": np.ones(1, np.float16)}
    )
    expected = np.float16(0)
    for _ in range(2048):
        expected = np.float16(expected + np.float16(1.5))
    assert result["Y"][0] == expected
    assert float(expected) != 2048 * 1.5


def test_bf16_is_rounded_to_nearest_even_as_bits() -> None:
    b = Builder("narrow")
    x, y = b.buffer("X", [2], "f32"), b.buffer("Y", [2], "bf16", output=True)
    (i,) = b.axes(i=2)
    y[i] = cast(x[i], "bf16")
    x_values = np.array([1 + 2.0**-8, 1 + 3 * 2.0**-8], np.float32)
    result = interpret(b.build(), {"X": x_values, "Y": np.zeros(2, np.uint16)})["Y"]
    np.testing.assert_array_equal(result, [0x3F80, 0x3F82])


@pytest.mark.parametrize("dtype", ["f8E4M3FN", "f8E5M2", "bf16"])
def test_codes_of_narrow_floats_survive_decoding(dtype: str) -> None:
    codes = np.arange(1 << 8 if dtype != "bf16" else 1 << 15, dtype=np.uint16)
    codes = codes.astype(np.uint8) if dtype != "bf16" else codes
    values = decode(codes, dtype)
    finite = np.isfinite(values)
    np.testing.assert_array_equal(encode(values, dtype)[finite], codes[finite])


def test_a_scalar_parameter_is_read() -> None:
    b = Builder("scaled")
    x, y = b.buffer("X", [3], "f32"), b.buffer("Y", [3], "f32", output=True)
    factor = b.scalar("factor", "f32")
    (i,) = b.axes(i=3)
    y[i] = x[i] * factor
    arrays = {"X": np.array([1, 2, 4], np.float32), "Y": np.ones(3, np.float32)}
    result = interpret(b.build(), arrays, {"factor": 2.5})
    np.testing.assert_array_equal(result["Y"], [2.5, 5, 10])
    with pytest.raises(ArgumentError, match="'factor': expected a number of dtype f32"):
        interpret(b.build(), arrays)


def tiled(columns: int) -> tuple[Program, dict[str, Program]]:
    """A product of which each tile is a call of an intrinsic, and the description of it."""
    b = Builder("tile")
    left, right = b.buffer("a", [4, 8], "f32"), b.buffer("b", [8, columns], "f32")
    out = b.buffer("c", [4, columns], "f32", output=True)
    with (
        b.loop("i", 4) as i,
        b.loop("j", columns) as j,
        b.loop("k", 8) as k,
        b.block("u", spatial={"x": (4, i), "y": (columns, j)}, reduce={"z": (8, k)}) as (x, y, z),
    ):
        out[x, y] += left[x, z] * right[z, y]
    description = b.build()
    program = gemm(8, 2 * columns, 16).program
    i, j, k = (symbol(name) for name in ("i", "j", "k"))
    boxes = {
        "A": (Range(i * 4, constant(4)), Range(k * 8, constant(8))),
        "B": (Range(k * 8, constant(8)), Range(j * columns, constant(columns))),
        "C": (Range(i * 4, constant(4)), Range(j * columns, constant(columns))),
    }
    modes = {"A": AccessMode.READ, "B": AccessMode.READ, "C": AccessMode.UPDATE}
    call = Call("dot", tuple(Operand(Region(n, box), modes[n]) for n, box in boxes.items()))
    body = call
    loops = [program.loop(name) for name in ("k", "j", "i")]
    for loop in loops:
        assert loop is not None
        body = replace(loop, extent=constant(2), body=(body,))
    return replace(program, body=(body,)), {"dot": description}


def test_an_intrinsic_is_executed_by_its_description() -> None:
    program, descriptions = tiled(3)
    generator = np.random.default_rng(0)
    a, b = (generator.uniform(0.5, 1, s).astype(np.float32) for s in ((8, 16), (16, 6)))
    arrays = {"A": a, "B": b, "C": np.zeros((8, 6), np.float32)}
    result = interpret(program, arrays, descriptions=descriptions)
    np.testing.assert_allclose(result["C"], a.astype(float) @ b, rtol=1e-6)


def test_an_intrinsic_without_description_is_an_error() -> None:
    program, _ = tiled(3)
    arrays = {
        n: np.zeros(s, np.float32) for n, s in (("A", (8, 16)), ("B", (16, 6)), ("C", (8, 6)))
    }
    with pytest.raises(ExecutionError, match="that has a description"):
        interpret(program, arrays)


def test_exact_interpretation_leaves_the_arrays_as_they_are() -> None:
    workload = gemm(3, 4, 5, dtype="f16")
    arrays = workload.arguments(np.random.default_rng(0))
    result = interpret(workload.program, arrays, is_exact=True)
    assert result["C"].dtype == np.float64
    assert np.isnan(arrays["C"]).all()
    np.testing.assert_allclose(result["C"], workload.expected(arrays)["C"], rtol=1e-14)


@pytest.mark.parametrize("family", FAMILIES)
def test_lowered_programs_compute_the_same(family: str) -> None:
    workload = symbolic_workload(family)
    symbols = dict(zip(workload.program.ranges, (2, 5, 6), strict=False))
    arrays = workload.arguments(np.random.default_rng(1), symbols)
    expected = interpret(workload.program, arrays, is_exact=True)
    lowered = compact_buffers(lower_blocks(workload.program))
    assert not any(isinstance(path[-1], Block) for path in lowered.places.values())
    result = interpret(lowered, arrays, is_exact=True)
    for name in workload.program.outputs:
        np.testing.assert_allclose(result[name], expected[name], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    "family", ["NRM", "SFM", "LNM", "RMS", "ROPE", "CHAIN", "GATE", "GEMM", "TBG", "ATT"]
)
def test_workloads_are_what_one_point_after_the_other_computes(family: str) -> None:
    small = {"n": 3, "b": 1, "m": 2, "s": 2, "q": 2, "k": 3}
    workload = symbolic_workload(family)
    symbols = {name: small[name] for name in workload.program.ranges}
    arrays = workload.arguments(np.random.default_rng(2), symbols)
    expected = interpret_naively(workload.program, arrays, is_exact=True)
    result = interpret(workload.program, arrays, is_exact=True)
    for name in workload.program.outputs:
        np.testing.assert_allclose(result[name], expected[name], rtol=1e-12)


def test_a_guarded_tail_of_a_reduction_adds_nothing() -> None:
    workload = gemm(5, 6, 10)
    arrays = workload.arguments(np.random.default_rng(3))
    program = Split("k", (None, 4)).apply(Split("i", (None, 3)).apply(workload.program))
    result = interpret(program, arrays)
    np.testing.assert_allclose(result["C"], workload.expected(arrays)["C"], rtol=1e-5)


@pytest.mark.parametrize("kind", list(LoopKind))
def test_the_kind_of_a_loop_does_not_change_the_result(kind: LoopKind) -> None:
    workload = gemm(5, 6, 7, dtype="i8")
    arrays = workload.arguments(np.random.default_rng(4))
    loop = workload.program.loop("i")
    assert loop is not None
    interpret(workload.program.replace("i", replace(loop, kind=kind)), arrays)
    np.testing.assert_array_equal(arrays["C"], workload.expected(arrays)["C"])


def test_a_buffer_without_axes_holds_a_sum() -> None:
    b = Builder("total", "n in [1, 100]")
    x, y = b.buffer("X", ["n"], "f32"), b.buffer("Y", [], "f32", output=True)
    (k,) = b.axes(k="n")
    y[()] += x[k]
    numbers = np.arange(1, 8, dtype=np.float32)
    total = np.array(-1, np.float32)
    interpret(b.build(), {"X": numbers, "Y": total})
    assert total == 28
