"""The product on CUDA cores by hand: any extents, no guard where it computes."""

import re

import pytest

from tilewright.dialects.nest.program import Guard, Loop, Program, walk
from tilewright.nest.gpu import compile_for_gpu, lower_to_threads
from tilewright.nest.schedules.gemm_simt import Tiles, gemm_simt
from tilewright.nest.values import NestError
from tilewright.nest.workloads import gemm, softmax

from .simulated import check, simulated

SMALL = Tiles(rows=16, columns=8, depth=8, threads=4)


@pytest.mark.parametrize(("columns", "depth"), [(8, 8), (20, 12)])
def test_small_tiles_compute_the_product(columns: int, depth: int) -> None:
    workload = gemm("n", columns, depth, ranges="n in [1, 40]")
    check(workload, gemm_simt(workload.program, SMALL).program, [{"n": 17}])


def test_every_extent_may_be_unknown() -> None:
    ranges = "n in [1, 20], m in [1, 20], k in [1, 20]"
    workload = gemm("n", "m", "k", ranges=ranges)
    sizes = [{"n": 1, "m": 1, "k": 1}, {"n": 16, "m": 8, "k": 16}, {"n": 19, "m": 13, "k": 7}]
    check(workload, gemm_simt(workload.program, SMALL).program, sizes)


def test_the_tiles_of_the_schedule_compute_the_product() -> None:
    workload = gemm("n", 72, 40, ranges="n in [1, 4096]")
    program = gemm_simt(workload.program).program
    simulated(workload, program, [{"n": 1}, {"n": 64}, {"n": 70}])


@pytest.mark.parametrize("dtype", ["f16", "i8"])
def test_a_product_of_narrow_operands(dtype: str) -> None:
    workload = gemm(18, 9, 10, dtype=dtype)
    check(workload, gemm_simt(workload.program, SMALL).program)


def aligned() -> Program:
    return gemm_simt(gemm("n", 128, 64, ranges="n in [1, 4096]").program).program


def test_no_sum_is_guarded() -> None:
    main = lower_to_threads(aligned()).loop("k_0")
    assert isinstance(main, Loop)
    assert not any(isinstance(part, Guard) for part in walk(main.body))


def test_four_neighbours_are_moved_at_once() -> None:
    text = compile_for_gpu(aligned(), "sm_80").artifact.ptx
    widths = re.findall(r"(ld\.global|ld\.shared|st\.global)(\.v4)?\.b32", text)
    assert {width for _, width in widths} == {".v4"}
    # 16 terms of a tile: a vector of A and one of B each.
    assert len([1 for access, _ in widths if access == "ld.shared"]) == 32


def test_another_program_is_refused() -> None:
    with pytest.raises(NestError, match="expected a product 'C' of two matrices, got 'softmax'"):
        gemm_simt(softmax(4, 8).program)


@pytest.mark.parametrize(
    ("tiles", "what"),
    [
        (Tiles(rows=40), "expected rows that 16 threads divide, got 40"),
        (Tiles(columns=16), "expected a tile of a multiple of 1024 elements"),
    ],
)
def test_tiles_that_threads_do_not_divide_are_refused(tiles: Tiles, what: str) -> None:
    with pytest.raises(NestError, match=what):
        gemm_simt(gemm(64, 64, 64).program, tiles)
