"""Rows that an index tensor names: moved in wide accesses, where the index is one for a row."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tilewright.dialects.nest.program import Program
from tilewright.nest.builder import Builder
from tilewright.nest.gpu import CompiledForGPU, compile_for_gpu
from tilewright.nest.values import Value, cast
from tilewright.runtime.simulator_device import SimulatorDevice

from .gpu_programs import BLOCK_X, THREAD_X, VECTOR

Array = npt.NDArray[Any]
COLUMNS = 64


def compiled(program: Program) -> CompiledForGPU:
    return compile_for_gpu(program, "sm_80", device=SimulatorDevice(checks="all"))


def moved(kind: str, stride: int = COLUMNS) -> Program:
    """Row `I[i]` of X becomes row i of Y, or row i becomes row `I[i]`; 8 elements a thread."""
    b = Builder(kind, "n in [1, 64], m in [1, 64]")
    n = b.symbol("n")
    far, near = ["m", COLUMNS], [n, COLUMNS]
    is_gather = kind == "gather"
    x = b.buffer("X", far if is_gather else near, "f16", strides=[stride, 1] if is_gather else None)
    y = b.buffer("Y", near if is_gather else far, "f16", output=True)
    rows = b.buffer("I", [n], "i32")
    with b.loop("row", n, BLOCK_X) as row, b.loop("t", COLUMNS // 8, THREAD_X) as t:
        with b.loop("v", 8, VECTOR) as v:
            with b.block("Y", spatial={"i": (n, row), "j": (COLUMNS, 8 * t + v)}) as (i, j):
                at: Value = cast(rows[i], "index")
                if is_gather:
                    y[i, j] = x[at, j]
                else:
                    y[at, j] = x[i, j]
    return b.build()


def random(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).uniform(0.5, 2.0, shape).astype(np.float16)


def test_a_gather_of_rows() -> None:
    x, y = random(9, COLUMNS), np.zeros((5, COLUMNS), np.float16)
    rows = np.array([8, 0, 3, 3, 7], np.int32)
    compiled(moved("gather"))(x, y, rows)
    np.testing.assert_array_equal(y, x[rows])


def test_a_scatter_of_rows() -> None:
    x, y = random(5, COLUMNS), np.zeros((9, COLUMNS), np.float16)
    rows = np.array([8, 0, 3, 4, 7], np.int32)
    compiled(moved("scatter"))(x, y, rows)
    expected = np.zeros((9, COLUMNS), np.float16)
    expected[rows] = x
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("kind", ["gather", "scatter"])
def test_neighbours_of_a_row_are_moved_together(kind: str) -> None:
    text = compiled(moved(kind)).artifact.ptx
    assert "ld.global.v4.b32" in text
    assert "st.global.v4.b32" in text
    assert "global.b16" not in text


def test_a_stride_that_breaks_alignment_is_loaded_one_by_one() -> None:
    memory = random(9, COLUMNS + 1)
    y, rows = np.zeros((5, COLUMNS), np.float16), np.array([8, 0, 3, 3, 7], np.int32)
    run = compiled(moved("gather", COLUMNS + 1))
    run(memory[:, :COLUMNS], y, rows)
    np.testing.assert_array_equal(y, memory[rows, :COLUMNS])
    assert "ld.global.v4.b32" not in run.artifact.ptx


def test_an_index_that_differs_between_neighbours_is_followed_one_by_one() -> None:
    b = Builder("picked", "m in [1, 64]")
    x, picks = b.buffer("X", ["m"], "f32"), b.buffer("I", [8], "i32")
    y = b.buffer("Y", [8], "f32", output=True)
    with b.loop("t", 2, THREAD_X) as t, b.loop("v", 4, VECTOR) as v:
        with b.block("Y", spatial={"i": (8, 4 * t + v)}) as (i,):
            y[i] = x[cast(picks[i], "index")]
    run = compiled(b.build())
    values, indices = np.arange(1.0, 10.0, dtype=np.float32), np.array([8, 0, 3, 3, 7, 1, 2, 5])
    found = np.zeros(8, np.float32)
    run(values, indices.astype(np.int32), found)
    np.testing.assert_array_equal(found, values[indices])
