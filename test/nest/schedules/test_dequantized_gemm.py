"""The product with quantised weights by hand: dequantised in shared memory, on tensor cores."""

import pytest

from tilewright.dialects.nest.intrinsics import DESCRIPTIONS
from tilewright.dialects.nest.program import Call, Loop, Program, walk
from tilewright.nest.check import check_schedule
from tilewright.nest.gpu import compile_for_gpu, lower_to_threads
from tilewright.nest.schedules.dequantized_gemm import dequantized_gemm
from tilewright.nest.schedules.tensor_tile import TensorTile
from tilewright.nest.values import NestError
from tilewright.nest.workloads import Workload, gemm
from tilewright.nest.workloads import dequantized_gemm as workload

from .simulated import simulated

# Weights with their scale are rounded to f16 or bf16 before they are multiplied.
ROUNDED = {"f16": 1e-3, "bf16": 8e-3}


def made(columns: int, depth: int, bits: int = 4, dtype: str = "f16") -> Workload:
    return workload("n", columns, depth, bits=bits, dtype=dtype, ranges="n in [1, 80]")


def scheduled(of: Workload) -> Program:
    return dequantized_gemm(of.program).program


@pytest.mark.parametrize("bits", [4, 8])
def test_the_schedule_computes_the_product(bits: int) -> None:
    of = made(64, 64, bits)
    report = check_schedule(of.program, scheduled(of), trials=1, descriptions=DESCRIPTIONS)
    report.require()


@pytest.mark.parametrize(("bits", "dtype"), [(4, "f16"), (8, "f16"), (4, "bf16")])
def test_any_number_of_rows_on_the_simulator(bits: int, dtype: str) -> None:
    of = made(128, 96, bits, dtype)
    sizes = [{"n": 1}, {"n": 64}, {"n": 70}]
    simulated(of, scheduled(of), sizes, tolerance=ROUNDED[dtype])


def test_a_known_number_of_whole_tiles_on_the_simulator() -> None:
    of = workload(64, 64, 64)
    simulated(of, scheduled(of), tolerance=ROUNDED["f16"])


def test_the_weights_are_dequantised_once_for_a_tile_and_stay_in_shared_memory() -> None:
    program = lower_to_threads(scheduled(made(64, 64)))
    shapes = {b.name: list(map(str, b.shape)) for b in program.allocations if b.scope == "shared"}
    # The values of two tiles: those that are made, and those that are multiplied.
    assert shapes["B"] == ["2", "32", "64"]
    calls = [part.intrinsic for part in walk(program.body) if isinstance(part, Call)]
    assert "mma.m16n8k16.f16.f32.row.row" in calls
    text = compile_for_gpu(scheduled(made(64, 64)), "sm_80").artifact.ptx
    # Eight neighbours are one load of bytes and one store of f16.
    assert "ld.shared.v2.b32" in text
    assert not any("st.shared.b16" in line for line in text.splitlines())


@pytest.mark.parametrize("bits", [4, 8])
def test_weights_and_rows_are_copied_in_the_background(bits: int) -> None:
    program = lower_to_threads(scheduled(made(64, 256, bits)))
    shapes = {b.name: list(map(str, b.shape)) for b in program.allocations if b.scope == "shared"}
    # Rows of A are three iterations ahead of their product, weights one less.
    assert shapes["A_m"] == ["4", "64", "32"]
    assert shapes["W_s"] == ["3", str(bits * 4), "64"]
    main = program.loop("k_0")
    assert isinstance(main, Loop)
    names = [part.intrinsic for part in walk(main.body) if isinstance(part, Call)]
    assert {f"cp.async.{bits * 2}.i8", "cp.async.16.f16", "cp.async.commit"} <= set(names)
    assert names.count("cta.barrier") == 1


def test_tiles_of_eight_warps() -> None:
    of = made(128, 96)
    wide = dequantized_gemm(of.program, TensorTile(warps=(2, 4), products=(4, 4)), stages=3)
    simulated(of, wide.program, [{"n": 70}], tolerance=ROUNDED["f16"])


def test_fewer_iterations_than_stages() -> None:
    of = workload(64, 64, 32)
    simulated(of, scheduled(of), tolerance=ROUNDED["f16"])


def test_columns_that_are_no_whole_tiles_are_refused() -> None:
    with pytest.raises(NestError, match="expected a multiple of 64 columns, got 72"):
        dequantized_gemm(made(72, 64).program)


def test_a_product_without_weights_to_make_is_refused() -> None:
    with pytest.raises(NestError, match="expected a product 'C' of weights that a block 'B' makes"):
        dequantized_gemm(gemm(64, 64, 64, dtype="f16").program)


def test_operands_that_tensor_cores_do_not_take_are_refused() -> None:
    with pytest.raises(NestError, match="expected operands of f16 or bf16, got f32"):
        dequantized_gemm(made(64, 64, dtype="f32").program)
