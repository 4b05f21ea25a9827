"""Pipelines compute what their loops did, whatever the extents; what is not legal is refused."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tilewright.dialects.diagnostic import DiagnosticError
from tilewright.dialects.nest.intrinsics import DESCRIPTIONS
from tilewright.dialects.nest.program import (
    Call,
    Loop,
    LoopKind,
    Program,
    Scope,
    Store,
    walk,
)
from tilewright.nest.builder import Builder
from tilewright.nest.interpreter import interpret
from tilewright.nest.values import cast, inside, value_of
from tilewright.transforms.expand_pipelines import expand_pipelines
from tilewright.transforms.lower_blocks import lower_blocks
from tilewright.transforms.pipelines import PipelineError, pipeline_of
from tilewright.transforms.schedule.primitive import ScheduleError
from tilewright.transforms.schedule.software_pipeline import SoftwarePipeline

SHARED, LOCAL = Scope.SHARED, Scope.LOCAL


def chain(extent: str | int = "n", scope: Scope = SHARED, links: int = 2) -> Program:
    """`Y[k, :] = 2 * ... * (X[k, :] + 1)`, through `links - 1` buffers of one row."""
    b = Builder("chain", "n in [1, 100]")
    x, y = b.buffer("X", [extent, 8], "f32"), b.buffer("Y", [extent, 8], "f32", output=True)
    rows = [b.temporary(f"S{i}", [8], "f32", scope) for i in range(links - 1)]
    with b.loop("k", extent) as k:
        for link in range(links):
            with b.loop(f"i{link}", 8) as i:
                with b.block(
                    f"b{link}", spatial={f"vk{link}": (extent, k), f"vi{link}": (8, i)}
                ) as (
                    vk,
                    vi,
                ):
                    source = x[vk, vi] + 1.0 if link == 0 else rows[link - 1][vi] * 2.0
                    if link == links - 1:
                        y[vk, vi] = source
                    else:
                        rows[link][vi] = source
    return b.build()


def run(program: Program, count: int) -> Any:
    x = np.random.default_rng(3).standard_normal((count, 8)).astype(np.float32)
    y = np.full((count, 8), np.nan, np.float32)
    interpret(program, {"X": x, "Y": y}, descriptions=DESCRIPTIONS)
    return x, y


def expanded(program: Program, *fields: Any) -> Program:
    return expand_pipelines(lower_blocks(SoftwarePipeline("k", *fields).apply(program)))


def calls(program: Program) -> list[str]:
    return [part.intrinsic for part in walk(program.body) if isinstance(part, Call)]


@pytest.mark.parametrize("scope", [SHARED, LOCAL])
@pytest.mark.parametrize("late", [1, 2, 3, 5])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("asynchronous", [(), (0,)])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 9])
def test_two_stages_compute_the_same(
    scope: Scope, late: int, order: tuple[int, int], asynchronous: tuple[int, ...], count: int
) -> None:
    x, y = run(expanded(chain(scope=scope), (0, late), order, asynchronous), count)
    np.testing.assert_array_equal(y, (x + 1) * 2)


@pytest.mark.parametrize("stages", [(0, 1, 2), (0, 2, 3), (0, 0, 1), (0, 1, 1), (0, 3, 5)])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
@pytest.mark.parametrize("count", [1, 4, 7])
def test_three_stages_compute_the_same(
    stages: tuple[int, ...], order: tuple[int, ...], count: int
) -> None:
    equal = [i for i in (0, 1) if stages[i] == stages[i + 1]]
    if any(order[i] > order[i + 1] for i in equal):
        with pytest.raises(ScheduleError, match="change the order|later stage"):
            expanded(chain(links=3), stages, order)
        return
    x, y = run(expanded(chain(links=3), stages, order), count)
    np.testing.assert_array_equal(y, (x + 1) * 4)


def test_a_buffer_has_a_version_for_each_iteration_under_way() -> None:
    program = expanded(chain(), (0, 3), (0, 1))
    assert str(program.buffers["S0"].shape[0]) == "4"


def test_a_loop_that_is_long_enough_has_no_guards() -> None:
    program = expanded(chain(8), (0, 2), (0, 1), (0,))
    assert [type(part).__name__ for part in program.body] == [
        *("Loop", "Call", "Loop", "Call"),
        "Loop",
        *("Call", "Call", "Loop", "Call", "Call", "Loop"),
    ]
    steady = program.loop("k")
    assert isinstance(steady, Loop)
    assert str(steady.extent) == "6"


def test_groups_of_copies_are_waited_for_one_iteration_before_their_use() -> None:
    assert calls(expanded(chain(8), (0, 2), (0, 1), (0,))) == [
        *("cp.async.commit", "cp.async.commit"),
        *("cp.async.wait.1", "cta.barrier", "cp.async.commit"),
        *("cp.async.wait.1", "cta.barrier", "cp.async.wait.0", "cta.barrier"),
    ]


def test_registers_need_no_barrier() -> None:
    assert calls(expanded(chain(8, LOCAL), (0, 2), (0, 1))) == []


def test_names_of_loops_stay_unique() -> None:
    program = expanded(chain(8), (0, 2), (0, 1))
    names = [part.name for part in walk(program.body) if isinstance(part, Loop)]
    assert len(set(names)) == len(names)


def accumulated() -> Program:
    b = Builder("sums", "n in [1, 100]")
    x, y = b.buffer("X", ["n"], "f32"), b.buffer("Y", ["n"], "f32", output=True)
    total = b.temporary("T", [1], "f32", LOCAL)
    with b.loop("k", "n") as k:
        with b.block("add", ordered={"va": ("n", k)}) as (va,):
            total[0] = total[0] + x[va]
        with b.block("out", spatial={"vo": ("n", k)}) as (vo,):
            y[vo] = total[0]
    return b.build()


def through_global() -> Program:
    return chain(scope=Scope.GLOBAL)


def used_after() -> Program:
    b = Builder("after")
    x, y = b.buffer("X", [8], "f32"), b.buffer("Y", [8], "f32", output=True)
    last = b.buffer("L", [1], "f32", output=True)
    row = b.temporary("S", [1], "f32", SHARED)
    with b.loop("k", 8) as k:
        with b.block("in", spatial={"vi": (8, k)}) as (vi,):
            row[0] = x[vi]
        with b.block("out", spatial={"vo": (8, k)}) as (vo,):
            y[vo] = row[0]
    with b.block("last"):
        last[0] = row[0]
    return b.build()


def partly_written() -> Program:
    b = Builder("part")
    x, y = b.buffer("X", [8], "f32"), b.buffer("Y", [8], "f32", output=True)
    row = b.temporary("S", [1], "f32", SHARED)
    with b.loop("k", 8) as k:
        with b.block("in", spatial={"vi": (8, k)}, where=[inside(k, 5)]) as (vi,):
            row[0] = x[vi]
        with b.block("out", spatial={"vo": (8, k)}) as (vo,):
            y[vo] = row[0]
    return b.build()


def filled(same: bool = True) -> Program:
    """A copy of 5 rows; the others are filled with 0, or another buffer is."""
    b = Builder("filled")
    x, y = b.buffer("X", [8], "f32"), b.buffer("Y", [8], "f32", output=True)
    row, other = (b.temporary(name, [4], "f32", SHARED) for name in ("S", "T"))
    with b.loop("k", 8) as k:
        with b.loop("i", 4) as i, b.block("in", spatial={"vi": (8, k), "vj": (4, i)}) as (vi, vj):
            early = cast(vi, "index") < 5
            with b.when(early):
                row[vj] = x[vi]
            with b.when(early ^ value_of(1, "i1")):
                (row if same else other)[vj] = 0.0
        with b.block("out", spatial={"vo": (8, k)}) as (vo,):
            y[vo] = row[0]
    return b.build()


def test_a_copy_that_is_filled_otherwise_covers() -> None:
    program = lower_blocks(filled())
    loop = program.loop("k")
    assert isinstance(loop, Loop)
    assert [type(part) for part in loop.body] == [Loop, Store]
    assert pipeline_of(program, loop, (0, 1), (0, 1), ()).versions == {"S": 2}


def test_a_copy_without_the_same_filled_otherwise_does_not_cover() -> None:
    program = lower_blocks(filled(same=False))
    loop = program.loop("k")
    assert isinstance(loop, Loop)
    with pytest.raises(PipelineError, match="write all of 'S'"):
        pipeline_of(program, loop, (0, 1), (0, 1), ())


def reduced() -> Program:
    b = Builder("reduced")
    x, y = b.buffer("X", [8], "f32"), b.buffer("Y", [8], "f32", output=True)
    row = b.temporary("S", [1], "f32", SHARED)
    with b.loop("k", 8) as k:
        with b.block("in", spatial={"vi": (8, k)}) as (vi,):
            row[0] = x[vi]
        with b.block("out", reduce={"vo": (8, k)}):
            with b.init():
                y[0] = 0.0
            y[0] = y[0] + row[0]
    return b.build()


def parallel() -> Program:
    b = Builder("parallel")
    y = b.buffer("Y", [8], "f32", output=True)
    with b.loop("k", 8, LoopKind.PARALLEL) as k, b.block("out", spatial={"v": (8, k)}) as (v,):
        y[v] = 1.0
    return b.build()


REFUSED: dict[str, tuple[Callable[[], Program], tuple[Any, ...], str]] = {
    "a parallel loop": (parallel, ((0,), (0,)), "serial"),
    "one stage for two statements": (chain, ((0,), (0,)), "statements"),
    "one place twice": (chain, ((0, 1), (0, 0)), "order"),
    "no stage 0": (chain, ((1, 2), (0, 1)), "stages"),
    "one stage": (chain, ((0, 0), (0, 1)), "stages"),
    "100 stages": (chain, ((0, 100), (0, 1)), "stages"),
    "two asynchronous stages": (chain, ((0, 1), (0, 1), (0, 1)), "stages"),
    "the use before the copy": (chain, ((1, 0), (0, 1)), "dependence"),
    "a sum over iterations": (accumulated, ((0, 1), (0, 1)), "covers"),
    "through global memory": (through_global, ((0, 1), (0, 1)), "private"),
    "a buffer used behind the loop": (used_after, ((0, 1), (0, 1)), "private"),
    "a copy that is left out late": (partly_written, ((0, 1), (0, 1)), "covers"),
    "a reduction with its init": (reduced, ((0, 1), (0, 1)), "init"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_legal_is_refused(name: str) -> None:
    make, fields, condition = REFUSED[name]
    with pytest.raises(ScheduleError) as caught:
        SoftwarePipeline("k", *fields).apply(make())
    assert caught.value.condition == condition


def test_blocks_are_lowered_first() -> None:
    with pytest.raises(DiagnosticError, match="expected no blocks"):
        expand_pipelines(SoftwarePipeline("k", (0, 1), (0, 1)).apply(chain()))
