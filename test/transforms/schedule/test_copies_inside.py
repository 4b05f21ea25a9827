"""Copies inside loops and blocks: they touch what is read or written there, and nothing else."""

from dataclasses import replace

import pytest

from tilewright.dialects.nest.program import Bound, LoopKind, Program, Scope
from tilewright.dialects.nest.verifier import verify_program
from tilewright.nest import Schedule
from tilewright.nest.check import check_schedule
from tilewright.test.nest.small_programs import fused, gemm
from tilewright.transforms.schedule.bind import Bind
from tilewright.transforms.schedule.blockize import Blockize
from tilewright.transforms.schedule.caching import CacheRead, CacheWrite
from tilewright.transforms.schedule.compute_at import ComputeAt, ReverseComputeAt
from tilewright.transforms.schedule.kinds import Parallel
from tilewright.transforms.schedule.layout import TransformLayout
from tilewright.transforms.schedule.primitive import Primitive, ScheduleError
from tilewright.transforms.schedule.split import Split

from . import data_programs as programs
from .test_legality_data import index_map

TILE = Split("i", (None, 4))
UNDER = (TILE, ReverseComputeAt("U", "i_0"))
BLOCK = (TILE, Blockize("i_1", ("outer",)))
CASES: dict[str, tuple[Program, tuple[Primitive, ...]]] = {
    "read below a producer": (programs.chain(), (*UNDER, CacheRead("U", "T", Scope.SHARED))),
    "write above a consumer": (programs.chain(), (*UNDER, CacheWrite("T", "T", Scope.SHARED))),
    "read by hand": (fused(), (CacheRead("Y", "T", Scope.LOCAL),)),
    "write of a part": (
        programs.matmul(),
        (
            TILE,
            CacheRead("C", "A", Scope.SHARED),
            ComputeAt("A_shared", "i_0"),
            CacheWrite("A_shared", "A_shared", Scope.LOCAL),
        ),
    ),
    "read in a block": (programs.matmul(), (*BLOCK, CacheRead("C", "A", Scope.SHARED))),
    "write in a block": (programs.chain(), (*BLOCK, CacheWrite("T", "T", Scope.LOCAL))),
    "layout that does not divide": (
        programs.chain(),
        (
            CacheWrite("T", "T", Scope.SHARED),
            TransformLayout("T", "T_shared", index_map("(i, j) -> (i floordiv 3, j, i mod 3)")),
            Split("i", (None, 2)),
        ),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_copy_keeps_the_meaning_and_reads_what_was_written(name: str) -> None:
    original, steps = CASES[name]
    program = original
    for step in steps:
        program = step.apply(program)
        verify_program(program)
    check_schedule(original, program).require()


def extents_around(program: Program, block: str) -> list[str]:
    return [str(loop.extent) for loop in program.loops_around(block)]


def test_a_copy_below_a_loop_holds_what_is_read_there() -> None:
    original, steps = CASES["read below a producer"]
    program = original
    for step in steps:
        program = step.apply(program)
    assert extents_around(program, "T_shared")[1] == "4"


def cooperative(rows: int | str) -> tuple[Program, Schedule, list[str]]:
    """Returns a product whose operands are copied by 4 x 2 threads, and its outer loops."""
    original = gemm(rows)
    s = Schedule(original)
    c = s.block("C")
    i, j, k = s.loops(c)
    i0, i1 = s.split(i, [None, 4])
    j0, j1 = s.split(j, [None, 4])
    k0, k1 = s.split(k, [None, 2])
    s.reorder(i0, j0, k0, i1, j1, k1)
    for operand in "AB":
        copy = s.cache_read(c, operand, "shared")
        s.compute_at(copy, k0)
        fused_loop = s.fuse(*s.loops(copy)[-2:])
        _, y, x = s.split(fused_loop, [None, 4, 2])
        s.bind(y, "thread.y")
        s.bind(x, "thread.x")
    return original, s, [i0.name, j0.name]


@pytest.mark.parametrize("rows", [12, "n"])
def test_each_cta_has_copies_of_its_own_that_its_threads_make(rows: int | str) -> None:
    original, s, (i0, j0) = cooperative(rows)
    s.bind(i0, "block.y")
    s.bind(j0, "block.x")
    verify_program(s.program)
    check_schedule(original, s.program).require()
    kinds = [part.kind for part in s.program.loops_around("C")][:2]
    assert kinds == [LoopKind.BLOCK_Y, LoopKind.BLOCK_X]


def test_a_copy_that_leaves_out_a_row_is_shared_by_ctas() -> None:
    _, s, (i0, _) = cooperative(12)
    program = s.program
    block = program.block("B_shared")
    assert block is not None
    thread = program.loops_around("B_shared")[-1]
    bounds = (*block.predicate, Bound(thread.variable, thread.extent - 1))
    with pytest.raises(ScheduleError) as refusal:
        Bind(i0, "block.y").apply(program.replace("B_shared", replace(block, predicate=bounds)))
    assert refusal.value.condition == "dependence"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Parallel("i"), Bind("j", "thread.x")),
        (Bind("j", "thread.x"), Parallel("i")),
        (Bind("i", "block.x"), Parallel("j")),
        (Bind("i", "thread.x"), Bind("j", "block.x")),
    ],
    ids=str,
)
def test_loops_of_the_host_and_of_kernels_do_not_mix(first: Primitive, second: Primitive) -> None:
    program = first.apply(gemm())
    with pytest.raises(ScheduleError) as refusal:
        second.apply(program)
    assert refusal.value.condition == "kernel"
