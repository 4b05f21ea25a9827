"""Loops end where their guards end, and bounds over elements become bounds over tiles."""

import random

import pytest

from tilewright.dialects.nest.program import Bound, Guard, Loop, LoopKind, Program, walk
from tilewright.dialects.sym import Expression, Ranges, ceildiv, constant, symbol
from tilewright.nest.builder import Builder
from tilewright.nest.values import inside
from tilewright.transforms.coarse_bounds import coarse
from tilewright.transforms.lower_blocks import lower_blocks
from tilewright.transforms.schedule.kinds import Parallel
from tilewright.transforms.schedule.pad_einsum import PadEinsum
from tilewright.transforms.schedule.split import Split
from tilewright.transforms.shorten_loops import shorten_loops

from .sequential import Memory, filled, run


def sums() -> Program:
    b = Builder("sums", "n in [1, 64]")
    x, y = b.buffer("X", ["n", "n"], "i32"), b.buffer("Y", ["n"], "i32", output=True)
    i, k = b.axes(i="n", k="n")
    y[i] += x[i, k]
    return b.build()


def guards(program: Program) -> list[Guard]:
    return [part for part in walk(program.body) if isinstance(part, Guard)]


@pytest.mark.parametrize("n", [1, 4, 7, 12])
def test_shorter_loops_compute_the_same(n: int) -> None:
    program = sums()
    for loop, factor in (("i", 4), ("k", 3)):
        program = Split(loop, (None, factor)).apply(program)
    shortened = shorten_loops(lower_blocks(program))
    assert not guards(shortened)
    choose = random.Random(n)
    memory: Memory = {"X": filled((n, n), lambda: choose.randint(1, 99)), "Y": {}}
    run(shortened, memory, n=n)
    rows = [sum(memory["X"][row, column] for column in range(n)) for row in range(n)]
    assert [memory["Y"][(row,)] for row in range(n)] == rows


def test_a_loop_that_ends_beyond_its_guard_is_not_made_longer() -> None:
    b = Builder("some", "n in [1, 64], m in [1, 64]")
    y = b.buffer("Y", ["n"], "i32", output=True)
    with b.loop("i", "n") as i:
        with b.block("B", spatial={"v": ("n", i)}, where=[inside(i, symbol("m"))]) as (v,):
            y[v] = 1
    (loop,) = shorten_loops(lower_blocks(b.build())).body
    assert isinstance(loop, Loop)
    assert [loop.extent.evaluate({"n": 5, "m": m}) for m in (3, 9)] == [3, 5]


def test_a_parallel_loop_keeps_its_guard() -> None:
    program = Parallel("i_1").apply(Split("i", (None, 4)).apply(sums()))
    shortened = shorten_loops(lower_blocks(program))
    parallel = next(loop for loop in loops(shortened) if loop.kind is LoopKind.PARALLEL)
    assert parallel.extent == 4
    assert len(guards(shortened)) == 1


def loops(program: Program) -> list[Loop]:
    return [part for part in walk(program.body) if isinstance(part, Loop)]


def _at(bound: Bound, values: dict[str, int]) -> bool:
    return bound.left.evaluate(values) < bound.right.evaluate(values)


@pytest.mark.parametrize(
    ("bound", "names"),
    [
        (Bound(6 * symbol("j") + symbol("i"), constant(24)), {"j"}),
        (Bound(6 * symbol("j") + symbol("i"), 6 * ceildiv(symbol("n"), 6)), {"j", "n"}),
        (Bound(48 * symbol("k") + 6 * symbol("j") + symbol("i"), constant(60)), {"k", "j"}),
        (Bound(6 * symbol("j") + symbol("i"), constant(22)), {"j", "i"}),
        (Bound(symbol("i") - 6 * symbol("j"), constant(-6)), {"j"}),
        (Bound(symbol("i"), symbol("n")), {"i", "n"}),
    ],
)
def test_a_coarse_bound_holds_at_the_same_points(bound: Bound, names: set[str]) -> None:
    ranges = Ranges.parse("n in [1, 13], k in [0, 2], j in [0, 7], i in [0, 5]")
    changed = coarse(bound, ranges)
    assert changed.left.symbols() | changed.right.symbols() == names
    for number in range(13 * 3 * 8 * 6):
        rest, values = number, dict[str, int]()
        for name, low, count in (("n", 1, 13), ("k", 0, 3), ("j", 0, 8), ("i", 0, 6)):
            rest, digit = divmod(rest, count)
            values[name] = low + digit
        assert _at(changed, values) == _at(bound, values), values


def test_tails_of_padded_extents_are_guarded_by_the_tile() -> None:
    b = Builder("product", "n in [1, 64]")
    x, w = b.buffer("X", ["n", 5], "f32"), b.buffer("W", [5, 8], "f32")
    y = b.buffer("C", ["n", 8], "f32", output=True)
    i, j, k = b.axes(i="n", j=8, k=5)
    y[i, j] += x[i, k] * w[k, j]
    program = PadEinsum("C", (6, 1, 1), ("a", "b", "c")).apply(b.build())
    program = Split("a", (None, 4, 6), ("outer", "tile", "row")).apply(program)
    program = lower_blocks(program)
    tails = {str(part.condition) for part in guards(program)}
    assert len(tails) == 1
    assert not any("row" in tail for tail in tails)


def test_extents_are_those_of_expressions() -> None:
    program = shorten_loops(lower_blocks(Split("k", (None, 3)).apply(sums())))
    (inner,) = (loop for loop in loops(program) if loop.name == "k_1")
    assert isinstance(inner.extent, Expression)
    assert [inner.extent.evaluate({"n": 7, "k_0": k}) for k in range(3)] == [3, 3, 1]
