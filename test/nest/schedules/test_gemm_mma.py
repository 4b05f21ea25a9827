"""The schedule of the product on tensor cores: what it computes, and what its main loop holds."""

from typing import Any

import numpy as np
import pytest

from tilewright.dialects.nest.intrinsics import DESCRIPTIONS
from tilewright.dialects.nest.program import Call, Loop, Program, Store, walk
from tilewright.nest.builder import Builder
from tilewright.nest.interpreter import interpret
from tilewright.nest.schedules.gemm_mma import gemm_mma
from tilewright.transforms.compact_buffers import compact_buffers
from tilewright.transforms.expand_pipelines import expand_pipelines
from tilewright.transforms.lower_blocks import lower_blocks

M, N, K = 128, 128, 96


def gemm(dtype: str) -> Program:
    b = Builder("gemm")
    left, right = b.buffer("A", [M, K], dtype), b.buffer("B", [K, N], dtype)
    out = b.buffer("C", [M, N], "f32", output=True)
    i, j, k = b.axes(i=M, j=N, k=K)
    out[i, j] += left[i, k] * right[k, j]
    return b.build()


def scheduled(dtype: str, stages: int) -> Program:
    program = gemm(dtype)
    for step in gemm_mma(dtype, stages):
        program = step.apply(program)
    return program


def check(program: Program, dtype: str) -> None:
    rng = np.random.default_rng(1)
    left, right = (rng.integers(-3, 4, shape).astype(np.float32) for shape in ((M, K), (K, N)))

    def stored(values: Any) -> Any:
        if dtype == "bf16":
            return (values.view(np.uint32) >> 16).astype(np.uint16)
        return values.astype(np.float16)

    out = np.full((M, N), np.nan, np.float32)
    interpret(program, {"A": stored(left), "B": stored(right), "C": out}, descriptions=DESCRIPTIONS)
    # Sums of small integers are exact in f32.
    np.testing.assert_array_equal(out, left.astype(np.float64) @ right.astype(np.float64))


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
def test_the_schedule_computes_the_product(dtype: str) -> None:
    check(scheduled(dtype, 3), dtype)


@pytest.mark.parametrize("stages", [2, 3, 4])
def test_the_pipeline_computes_the_product(stages: int) -> None:
    check(expand_pipelines(lower_blocks(scheduled("f16", stages))), "f16")


def test_the_main_loop_holds_copies_loads_and_products_alone() -> None:
    program = expand_pipelines(compact_buffers(lower_blocks(scheduled("bf16", 2))))
    main = program.loop("k0")
    assert isinstance(main, Loop)
    inside = list(walk(main.body))
    assert not any(isinstance(part, Store) for part in inside)
    assert [part.intrinsic for part in inside if isinstance(part, Call)] == [
        *("cp.async.wait.0", "cta.barrier", "cp.async.16.bf16", "cp.async.16.bf16"),
        *("ldmatrix.a.row.x4.bf16", "ldmatrix.b.row.x4.bf16"),
        *("mma.m16n8k16.bf16.f32.row.row", "cp.async.commit"),
    ]


def test_shared_memory_holds_a_tile_for_each_stage() -> None:
    program = expand_pipelines(compact_buffers(lower_blocks(scheduled("f16", 3))))
    shapes = {b.name: list(map(str, b.shape)) for b in program.allocations}
    assert shapes["A_shared"] == ["3", "128", "32"]
    assert shapes["B_shared"] == ["3", "32", "128"]
    assert shapes["C_tile"] == ["64", "32"]
