"""The product on the CPU: any number of rows, columns and terms, and what its inner loop holds."""

import re
from typing import Any

import numpy as np
import pytest

from tilewright.dialects.nest.intrinsics import DESCRIPTIONS
from tilewright.lowering.nest_to_host import host_module, llvm_ir_of
from tilewright.nest.check import check_schedule
from tilewright.nest.compiler import compile
from tilewright.nest.schedule import apply
from tilewright.nest.schedules.gemm_host import AVX2, AVX512, Tiles, gemm_host, tiles_for
from tilewright.nest.values import NestError
from tilewright.nest.workloads import gemm, softmax
from tilewright.runtime import host_device
from tilewright.runtime.host_code import Machine, assembly, host_machine

pytest.importorskip("torch_mlir", reason="the MLIR bindings are not installed (extra mlir)")
pytest.importorskip("llvmlite", reason="llvmlite is not installed (extra mlir)")


def check(run: Any, rows: int, columns: int, terms: int) -> None:
    """Compares with NumPy in f64."""
    generator = np.random.default_rng(rows)
    a = generator.standard_normal((rows, terms)).astype(np.float32)
    b = generator.standard_normal((terms, columns)).astype(np.float32)
    c = np.full((rows, columns), np.nan, np.float32)
    run(a, b, c)
    bound = 2e-6 * (np.abs(a).astype(np.float64) @ np.abs(b))
    assert np.all(np.abs(c - a.astype(np.float64) @ b) <= bound)


def test_one_compilation_serves_any_number_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    compiled = host_device.object_code

    def counted(ir: str, machine: Machine, is_short: bool = False) -> bytes:
        made.append(ir)
        return compiled(ir, machine, is_short)

    monkeypatch.setattr(host_device, "object_code", counted)
    workload = gemm("m", 80, 300, ranges="m in [1, 65536]")
    run = compile(gemm_host(workload.program).program, num_threads=2)
    for rows in (1, 7, 128, 1000, 1001):
        check(run, rows, 80, 300)
    assert len(made) == 1


def test_columns_and_terms_may_be_unknown_too() -> None:
    ranges = "m in [1, 999], n in [1, 999], k in [1, 999]"
    run = compile(gemm_host(gemm("m", "n", "k", ranges=ranges).program).program, num_threads=2)
    for shape in ((1, 1, 1), (7, 17, 255), (100, 33, 257), (97, 290, 600), (5, 100, 2)):
        check(run, *shape)


@pytest.mark.parametrize("shape", [(1, 1, 1), (6, 16, 256), (5, 15, 255), (103, 300, 600)])
def test_known_extents_with_and_without_remainders(shape: tuple[int, int, int]) -> None:
    check(compile(gemm_host(gemm(*shape).program).program, num_threads=2), *shape)


@pytest.mark.parametrize("size", [1408, 1664])
def test_tiles_that_fill_no_block_are_scheduled(size: int) -> None:
    program = gemm_host(gemm(size, size, size).program, AVX2).program
    assert program.block("C_zero") is not None


@pytest.mark.parametrize("rows", [1, 6, 50, 1000])
def test_no_tile_is_computed_that_has_no_row(rows: int) -> None:
    program = gemm_host(gemm(rows, 64, 300).program, AVX2).program
    loops = program.loops_around("tile_o")
    blocks, tiles = (loops[place].extent.constant_value or 0 for place in (0, -2))
    count = -(-rows // 6)
    assert blocks * tiles - count < tiles
    assert tiles <= min(count, 16)


def test_tiles_of_wider_vectors_compute_the_same() -> None:
    check(compile(gemm_host(gemm(61, 70, 300).program, AVX512).program), 61, 70, 300)


def test_the_schedule_means_the_same_and_replays() -> None:
    program = gemm("m", 20, 7, ranges="m in [1, 40]").program
    tiles = Tiles("avx2.outer.f32.4x16", 4, 16, 2, 1, 3)
    schedule = gemm_host(program, tiles)
    assert not check_schedule(program, schedule.program, descriptions=DESCRIPTIONS).findings
    assert apply(program, schedule.steps) == schedule.program


@pytest.mark.parametrize(
    ("tiles", "cpu", "features", "register"),
    [(AVX2, "haswell", "+avx2,+fma", "ymm"), (AVX512, "skylake-avx512", "+avx512f", "zmm")],
)
def test_sums_stay_in_registers(tiles: Tiles, cpu: str, features: str, register: str) -> None:
    program = gemm_host(gemm(tiles.rows * 16, 64, 512).program, tiles).program
    machine = Machine(host_machine().triple, cpu, features)
    lines = assembly(llvm_ir_of(host_module(program)), machine, is_short=True).splitlines()
    sums = [at for at, line in enumerate(lines) if "vfmadd" in line]
    assert len(sums) == tiles.rows * 2
    inner = lines[sums[0] : sums[-1] + 1]
    assert all(register in line for line in inner if "vfmadd" in line)
    stores = re.compile(r"\bvmov\w+\s+%[xyz]mm\d+, .*\(")
    assert not any(stores.search(line) for line in inner)


def test_tiles_are_those_that_the_cpu_has() -> None:
    assert tiles_for({"avx2", "fma"}) is AVX2
    assert tiles_for({"avx2", "avx512f"}) is AVX512


def test_another_program_is_refused() -> None:
    with pytest.raises(NestError, match="expected a product 'C' of two matrices, got 'softmax'"):
        gemm_host(softmax(4, 4).program, AVX2)
