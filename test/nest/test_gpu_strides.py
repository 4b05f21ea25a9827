"""Buffers with strides on a GPU: addresses, wide accesses only where they are aligned, memory."""

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tilewright.dialects.diagnostic import DiagnosticError
from tilewright.dialects.nest.intrinsics import DESCRIPTIONS
from tilewright.dialects.nest.program import Program, Scope
from tilewright.dialects.sym import ceildiv
from tilewright.nest.builder import Builder
from tilewright.nest.check import check_schedule
from tilewright.nest.gpu import CompiledForGPU, compile_for_gpu
from tilewright.nest.schedule import Schedule
from tilewright.nest.values import cast, inside
from tilewright.runtime.errors import ArgumentError
from tilewright.runtime.simulator_device import SimulatorDevice

from .gpu_programs import BLOCK_X, THREAD_X, VECTOR

Array = npt.NDArray[Any]


def compiled(program: Program) -> CompiledForGPU:
    return compile_for_gpu(program, "sm_80", device=SimulatorDevice(checks="all"))


def random(shape: tuple[int, ...], dtype: Any = np.float32) -> Array:
    return np.random.default_rng(sum(shape)).uniform(0.5, 2.0, shape).astype(dtype)


def scaled(symbols: str, source: list[Any], target: list[Any], dtype: str = "f32") -> Program:
    """`Y[i, j] = 2 X[i, j]` of n rows of 16, 4 neighbours of a row by a thread."""
    b = Builder("scaled", f"n in [1, 64], {symbols}")
    n = b.symbol("n")
    x = b.buffer("X", [n, 16], dtype, strides=source)
    y = b.buffer("Y", [n, 16], dtype, output=True, strides=target)
    with b.loop("b", ceildiv(n, 8), BLOCK_X) as block, b.loop("t", 32, THREAD_X) as t:
        row = 8 * block + t // 4
        with b.loop("v", 4, VECTOR) as v:
            places = {"i": (n, row), "j": (16, 4 * (t % 4) + v)}
            with b.block("Y", spatial=places, where=[inside(row, n)]) as (i, j):
                y[i, j] = x[i, j] * 2.0
    return b.build()


STRIDED = scaled("lx in [16, 99], ly in [16, 99]", ["lx", 1], ["ly", 1])
ALIGNED = scaled(
    "lx in [16, 96], ly in [16, 96], lx mod 4 == 0, ly mod 4 == 0", ["lx", 1], ["ly", 1]
)
COLUMNS = scaled("s in [1, 4]", [1, "n"], ["16 * s", "s"])


@pytest.mark.parametrize("rows", [1, 13, 64])
@pytest.mark.parametrize("program", [STRIDED, ALIGNED], ids=["any", "aligned"])
def test_rows_that_are_apart(program: Program, rows: int) -> None:
    x, memory = random((rows, 28)), np.full((rows, 20), 7, np.float32)
    compiled(program)(x[:, 8:24], memory[:, 4:])
    np.testing.assert_array_equal(memory[:, 4:], 2 * x[:, 8:24])
    np.testing.assert_array_equal(memory[:, :4], 7)


@pytest.mark.parametrize("step", [1, 3])
def test_columns_that_are_apart_and_a_transposed_operand(step: int) -> None:
    x, y = random((16, 13)), np.zeros((13, 16 * step), np.float32)
    # The stride of X along j is the number of rows: what lies side by side is a column.
    compiled(COLUMNS)(x.T, y[:, ::step])
    np.testing.assert_array_equal(y[:, ::step], 2 * x.T)


def accesses(program: Program) -> set[str]:
    return set(re.findall(r"\b(?:ld|st)\.global\S*", compiled(program).artifact.ptx))


def test_wide_accesses_need_strides_that_are_known_to_be_aligned() -> None:
    assert accesses(ALIGNED) == {"ld.global.v4.b32", "st.global.v4.b32"}
    assert accesses(STRIDED) == {"ld.global.b32", "st.global.b32"}


def test_wide_accesses_need_neighbours() -> None:
    assert accesses(COLUMNS) == {"ld.global.b32", "st.global.b32"}
    pairs = scaled("l in [16, 96], l mod 2 == 0", ["l", 1], ["l", 1])
    assert accesses(pairs) == {"ld.global.v2.b32", "st.global.v2.b32"}


def test_what_lies_between_the_columns_of_two_results_is_not_overwritten() -> None:
    b = Builder("both", "n in [1, 64], l in [2, 64]")
    n = b.symbol("n")
    x = b.buffer("X", [n], "f32")
    sides = [b.buffer(name, [n], "f32", output=True, strides=["l"]) for name in "YZ"]
    for factor, side in zip((2.0, 3.0), sides, strict=True):
        name = "YZ"[int(factor) - 2]
        with b.loop(f"{name}t", 64, THREAD_X) as t:
            places = {f"{name}i": (n, t)}
            with b.block(name, spatial=places, where=[inside(t, n)]) as (i,):
                side[i] = x[i] * factor
    x, memory = random((19,)), np.full((19, 4), 5, np.float32)
    compiled(b.build())(x, memory[:, 1], memory[:, 2])
    expected = np.stack([np.full(19, 5), 2 * x, 3 * x, np.full(19, 5)], axis=1)
    np.testing.assert_array_equal(memory, expected)


def test_a_stride_of_zero_repeats_a_row() -> None:
    program = scaled("lx in [0, 99], ly in [16, 99]", ["lx", 1], ["ly", 1])
    x, y = random((16,)), np.zeros((9, 16), np.float32)
    compiled(program)(np.broadcast_to(x, (9, 16)), y)
    np.testing.assert_array_equal(y, np.broadcast_to(2 * x, (9, 16)))


def test_offsets_that_pass_31_bits_are_of_64() -> None:
    wide = scaled("lx in [16, 2000000000], ly in [16, 99]", ["lx", 1], ["ly", 1])
    assert re.search(r"(cvt|mul|mad)\.\S*64", compiled(wide).artifact.ptx)
    x, y = random((11, 40)), np.zeros((11, 16), np.float32)
    compiled(wide)(x[:, :16], y)
    np.testing.assert_array_equal(y, 2 * x[:, :16])


def test_a_gather_counts_by_the_stride() -> None:
    b = Builder("gather", "n in [1, 64], m in [1, 64], l in [1, 64], s in [1, 8]")
    n = b.symbol("n")
    x = b.buffer("X", ["m", 8], "f16", strides=["l", "s"])
    where, y = b.buffer("I", [n], "i32"), b.buffer("Y", [n, 8], "f16", output=True)
    with b.loop("row", n, BLOCK_X) as row, b.loop("t", 8, THREAD_X) as t:
        with b.block("Y", spatial={"i": (n, row), "j": (8, t)}) as (i, j):
            y[i, j] = x[cast(where[i], "index"), j]
    x, y = random((9, 40), np.float16), np.zeros((5, 8), np.float16)
    rows = np.array([8, 0, 3, 3, 7], np.int32)
    compiled(b.build())(x[:, 1:25:3], rows, y)
    np.testing.assert_array_equal(y, x[rows, 1:25:3])


def staged(multiple: int) -> Schedule:
    """Y = 2 X by way of shared memory, 8 elements of f16 a copy."""
    s = Schedule(scaled_plain(multiple))
    s.cache_read("Y", "X", Scope.SHARED, cache="S")
    (column,) = s.compute_at("S", "i")
    lane, vector = s.split(column, [None, 8])
    s.tensorize(vector, "cp.async.16.f16", arch="sm_80")
    s.bind(lane, "thread.x")
    part, _ = s.split("j", [8, 8])
    s.bind(part, "thread.x")
    s.bind("i", "block.x")
    return s


def scaled_plain(multiple: int) -> Program:
    b = Builder("copied", f"n in [1, 64], l in [64, 256], l mod {multiple} == 0")
    x = b.buffer("X", ["n", 64], "f16", strides=["l", 1])
    y = b.buffer("Y", ["n", 64], "f16", output=True)
    i, j = b.axes(i="n", j=64)
    y[i, j] = x[i, j] * 2.0
    return b.build()


def test_a_copy_of_16_bytes_from_rows_that_are_aligned() -> None:
    program = staged(8).program
    check_schedule(scaled_plain(8), program, descriptions=DESCRIPTIONS).require()
    x, y = random((5, 80), np.float16), np.zeros((5, 64), np.float16)
    compiled(program)(x[:, 8:72], y)
    np.testing.assert_array_equal(y, 2 * x[:, 8:72])


def test_a_copy_of_16_bytes_from_rows_that_may_not_be_aligned_is_refused() -> None:
    with pytest.raises(DiagnosticError, match="multiples of 16 bytes"):
        staged(4)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (random((4, 16))[::-1], random((4, 16)), "'X': expected strides .* not negative"),
        (
            random((4, 16)),
            np.lib.stride_tricks.as_strided(random((80,)), (4, 16), (64, 0)),
            "'Y': expected",
        ),
        (
            random((4, 16)),
            np.lib.stride_tricks.as_strided(random((80,)), (4, 16), (32, 4)),
            "'Y': expected strides that give each element a place of its own",
        ),
        (random((4, 32))[:, ::2], random((4, 16)), "'X': expected axis 1 of stride 1, got 2"),
    ],
    ids=["negative", "repeated", "overlapping", "columns apart"],
)
def test_other_layouts_are_refused_before_anything_runs(x: Array, y: Array, message: str) -> None:
    program = scaled("lx in [-99, 99], ly in [0, 99]", ["lx", 1], ["ly", 1])
    before = y.copy()
    with pytest.raises(ArgumentError, match=message):
        compiled(program)(x, y)
    np.testing.assert_array_equal(y, before)


def test_rows_that_are_no_whole_elements_apart_are_refused() -> None:
    memory = np.zeros((3, 66), np.uint8)
    odd = np.lib.stride_tricks.as_strided(memory.view(np.uint8)[:, :64].view(np.float32), (3, 16))
    with pytest.raises(ArgumentError, match="'X': expected strides of whole elements"):
        compiled(STRIDED)(odd, np.zeros((3, 16), np.float32))


def test_the_contract_of_a_buffer_with_strides_is_its_memory() -> None:
    shapes = [p.shape for p in compiled(STRIDED).artifact.contract.pointers]
    assert [len(shape) for shape in shapes] == [1, 1]
