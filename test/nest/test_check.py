"""A check finds what a wrong schedule does, and nothing in a right one."""

from dataclasses import replace

import numpy as np
import pytest

from tilewright.dialects.nest.program import (
    Block,
    Bound,
    Loop,
    LoopKind,
    Program,
    Range,
    Region,
    Scope,
    Store,
)
from tilewright.dialects.nest.scalars import Apply, Constant, Load
from tilewright.dialects.sym import constant, symbol
from tilewright.nest.arguments import random_array
from tilewright.nest.builder import Builder
from tilewright.nest.check import check_schedule, random_symbols
from tilewright.nest.values import NestError, inside
from tilewright.nest.workloads import FAMILIES, SYMBOLIC, gemm, softmax, symbolic_workload
from tilewright.transforms.schedule.split import Split


def block_of(program: Program, name: str) -> Block:
    block = program.block(name)
    assert block is not None
    return block


def with_kind(program: Program, name: str, kind: LoopKind) -> Program:
    loop = program.loop(name)
    assert loop is not None
    return program.replace(name, replace(loop, kind=kind))


@pytest.mark.parametrize("family", SYMBOLIC)
def test_a_guarded_split_of_the_first_loop_passes(family: str) -> None:
    program = symbolic_workload(family).program
    first = next(name for name, path in program.places.items() if isinstance(path[-1], Loop))
    report = check_schedule(program, Split(first, (None, 4)).apply(program), trials=2)
    assert report.passed, str(report)


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16", "i8"])
def test_a_split_reduction_passes(dtype: str) -> None:
    program = symbolic_workload("GEMM", dtype=dtype).program
    scheduled = Split("k_1", (None, 8)).apply(Split("j", (None, 16)).apply(program))
    report = check_schedule(program, scheduled)
    assert report.passed, str(report)


def test_a_tail_without_its_guard_is_found() -> None:
    program = gemm(10, 8, 4).program
    scheduled = Split("i", (None, 4)).apply(program)
    unguarded = scheduled.replace("C", replace(block_of(scheduled, "C"), predicate=()))
    report = check_schedule(program, unguarded)
    assert "scheduled program: block 'C': expected an index of" in str(report)
    assert "axis 0 in 0 .. 9, got 10" in str(report)


def test_a_guard_that_is_too_narrow_is_found_with_the_first_element() -> None:
    program = gemm(10, 8, 4, dtype="i8").program
    scheduled = Split("i", (5, 2)).apply(program)
    block = block_of(scheduled, "C")
    narrow = Bound(symbol("i_0") * 2 + symbol("i_1"), constant(7))
    report = check_schedule(program, scheduled.replace("C", replace(block, predicate=(narrow,))))
    assert "'C'[7, 0]: expected" in str(report)
    assert "24 of 80 elements differ" in str(report)


def test_a_wrong_constant_is_found_in_floats() -> None:
    program = softmax(4, 8).program
    block = block_of(program, "Y")
    (store,) = block.body
    assert isinstance(store, Store)
    wrong = replace(store, value=Apply("arith.mulf", (store.value, Constant(1.001, "f32")), "f32"))
    report = check_schedule(program, program.replace("Y", replace(block, body=(wrong,))))
    assert "'Y'[0, 0]: expected" in str(report)


def test_a_parallel_reduction_is_a_race_with_a_witness() -> None:
    program = with_kind(gemm(4, 4, 4).program, "k", LoopKind.PARALLEL)
    report = check_schedule(gemm(4, 4, 4).program, program)
    assert "parallel loop 'k', buffer 'C': iteration" in str(report)
    assert "writes [0, 0] in 'C'" in str(report)


def test_parallel_rows_are_no_race() -> None:
    program = with_kind(gemm(4, 4, 4).program, "i", LoopKind.PARALLEL)
    assert check_schedule(gemm(4, 4, 4).program, program).passed


def shifted(kind: LoopKind) -> Program:
    b = Builder("shift")
    x, y = b.buffer("X", [9], "i32"), b.buffer("Y", [9], "i32", output=True)
    with b.loop("i", 8, kind) as i, b.block("B", spatial={"v": (8, i)}) as (v,):
        y[v + 1] = y[v] + x[v]
    return b.build()


def test_a_vectorised_loop_with_a_carried_dependence_is_a_race() -> None:
    report = check_schedule(shifted(LoopKind.SERIAL), shifted(LoopKind.VECTORIZED))
    assert "vectorized loop 'i', buffer 'Y': iteration" in str(report)


def single_writer() -> Program:
    b = Builder("first")
    y = b.buffer("Y", [1], "i32", output=True)
    with (
        b.loop("t", 32, LoopKind.THREAD_X) as t,
        b.block("B", spatial={"v": (32, t)}, where=[inside(t, 1)]) as (v,),
    ):
        y[v] = 7
    return b.build()


def test_one_thread_by_a_predicate_is_no_race() -> None:
    report = check_schedule(single_writer(), single_writer())
    assert report.passed, str(report)


def overlapping(scope: Scope, reach: int) -> Program:
    """Each CTA fills 6 elements of a buffer, 4 steps apart, and reads `reach` on."""
    b = Builder("halo")
    x, y = b.buffer("X", [32], "i32"), b.buffer("Y", [16], "i32", output=True)
    t = b.temporary("T", [32], "i32", scope)
    with b.loop("c", 4, LoopKind.BLOCK_X) as c:
        with b.loop("u", 6) as u, b.block("fill", spatial={"a": (32, c * 4 + u)}) as (a,):
            t[a] = x[a] * 2
        with b.loop("w", 4) as w, b.block("use", spatial={"e": (16, c * 4 + w)}) as (e,):
            y[e] = t[e] + t[e + reach]
    return b.build()


def test_a_halo_of_copies_is_no_race() -> None:
    report = check_schedule(overlapping(Scope.SHARED, 2), overlapping(Scope.SHARED, 2))
    assert report.passed, str(report)


def test_a_halo_in_global_memory_is_a_race() -> None:
    report = check_schedule(overlapping(Scope.GLOBAL, 2), overlapping(Scope.GLOBAL, 2))
    assert "block.x loop 'c', buffer 'T'" in str(report)


def halo_of_the_neighbour() -> Program:
    b = Builder("neighbour")
    x, y = b.buffer("X", [16], "i32"), b.buffer("Y", [16], "i32", output=True)
    t = b.temporary("T", [20], "i32", Scope.SHARED)
    with b.loop("c", 4, LoopKind.BLOCK_X) as c:
        with b.loop("u", 4) as u, b.block("fill", spatial={"a": (16, c * 4 + u)}) as (a,):
            t[a + 4] = x[a]
        with b.loop("w", 4) as w, b.block("use", spatial={"e": (16, c * 4 + w)}) as (e,):
            y[e] = t[e + 2]
    return b.build()


def test_reading_what_another_cta_wrote_to_its_shared_memory_is_found() -> None:
    report = check_schedule(halo_of_the_neighbour(), halo_of_the_neighbour())
    assert "block.x loop 'c', buffer 'T'" in str(report)


def test_a_region_that_is_too_small_is_found() -> None:
    program = gemm(4, 4, 4).program
    block = block_of(program, "C")
    reads = tuple(
        Region("A", (Range(symbol("vi"), constant(1)), Range(constant(0), constant(2))))
        if region.buffer == "A"
        else region
        for region in block.reads
    )
    report = check_schedule(program, program.replace("C", replace(block, reads=reads)))
    assert "block 'C': expected its region to hold 'A'" in str(report)


def test_a_region_that_is_missing_is_found() -> None:
    program = gemm(4, 4, 4).program
    block = replace(block_of(program, "C"), writes=())
    report = check_schedule(program, program.replace("C", block))
    assert "block 'C': expected a region of 'C' that it writes" in str(report)


def test_other_parameters_are_found() -> None:
    report = check_schedule(gemm(4, 4, 4).program, gemm(4, 4, 4, dtype="f16").program)
    assert "expected the parameter" in str(report)


def test_a_failed_report_is_raised_where_it_is_required() -> None:
    report = check_schedule(shifted(LoopKind.SERIAL), shifted(LoopKind.VECTORIZED))
    with pytest.raises(NestError, match="vectorized loop 'i'"):
        report.require()


def test_reading_what_nobody_wrote_is_found() -> None:
    b = Builder("unwritten")
    y = b.buffer("Y", [4], "f32", output=True)
    t = b.temporary("T", [4], "f32")
    (i,) = b.axes(i=4)
    y[i] = t[i]
    program = b.build()
    block = block_of(program, "Y")
    (store,) = block.body
    assert isinstance(store, Store)
    assert isinstance(store.value, Load)
    zero = replace(store, value=Constant(0.0, "f32"))
    report = check_schedule(program.replace("Y", replace(block, body=(zero,))), program)
    assert "got nan" in str(report)


def test_values_of_symbols_are_in_their_ranges_and_multiples() -> None:
    b = Builder("ranges", "n in [3, 900], n mod 4 == 0, m in [n, n + 2]")
    b.buffer("X", ["n", "m"], "f32")
    program = b.build()
    generator = np.random.default_rng(0)
    for _ in range(20):
        symbols = random_symbols(program, generator, (program,))
        assert symbols["n"] % 4 == 0
        assert 4 <= symbols["n"] <= 900
        assert symbols["n"] <= symbols["m"] <= symbols["n"] + 2


@pytest.mark.parametrize("dtype", ["i1", "i8", "i32", "f16", "bf16", "f32", "f8E4M3FN"])
def test_random_inputs_are_never_zero(dtype: str) -> None:
    values = random_array(np.random.default_rng(0), (1000,), dtype)
    if dtype != "i1":
        assert np.all(values != 0)
    assert len(np.unique(values)) > 1


def test_every_static_family_is_the_same_as_itself() -> None:
    program = FAMILIES["C2D"](1, 6, 6, 3, 4, 3, 1, 1).program
    assert check_schedule(program, program).passed
