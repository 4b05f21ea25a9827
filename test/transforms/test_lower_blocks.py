"""Blocks dissolve into loops and guards that compute the same."""

import random
from dataclasses import replace

import pytest

from tilewright.dialects.nest.program import (
    Block,
    Body,
    Guard,
    Loop,
    LoopKind,
    Program,
    Statement,
    walk,
)
from tilewright.nest.builder import Builder, maximize
from tilewright.transforms.conditions import names_of
from tilewright.transforms.lower_blocks import lower_blocks
from tilewright.transforms.schedule.split import Split

from .sequential import Memory, filled, run

ROWS, COLUMNS, DEPTH = 7, 6, 10


def matmul() -> Program:
    b = Builder("matmul", "n in [1, 64]")
    left, right = b.buffer("A", ["n", DEPTH], "i32"), b.buffer("B", [DEPTH, COLUMNS], "i32")
    out = b.buffer("C", ["n", COLUMNS], "i32", output=True)
    i, j, k = b.axes(i="n", j=COLUMNS, k=DEPTH)
    out[i, j] += left[i, k] * right[k, j]
    return b.build()


def split(program: Program) -> Program:
    for loop, factor in (("i", 4), ("j", 3), ("k", 4)):
        program = Split(loop, (None, factor)).apply(program)
    return program


def in_order(program: Program, *names: str, block: str = "C") -> Program:
    """Returns the program with the loops around its one block in another order."""
    loops = {loop.name: loop for loop in program.loops_around(block)}
    found = program.block(block)
    assert found is not None
    body: tuple[Statement, ...] = (found,)
    for name in reversed(names):
        body = (replace(loops[name], body=body),)
    return replace(program, body=body)


def inputs(seed: int) -> Memory:
    choose = random.Random(seed)
    shapes = {"A": (ROWS, DEPTH), "B": (DEPTH, COLUMNS)}
    return {name: filled(shape, lambda: choose.randint(1, 99)) for name, shape in shapes.items()}


def product_of(memory: Memory) -> dict[tuple[int, ...], int]:
    a, b = memory["A"], memory["B"]
    return {
        (i, j): sum(int(a[i, k] * b[k, j]) for k in range(DEPTH))
        for i in range(ROWS)
        for j in range(COLUMNS)
    }


ORDERS = (
    ("i_0", "i_1", "j_0", "j_1", "k_0", "k_1"),
    ("i_0", "j_0", "k_0", "i_1", "j_1", "k_1"),
    ("k_0", "i_0", "j_0", "k_1", "i_1", "j_1"),
    ("k_1", "k_0", "j_1", "i_1", "j_0", "i_0"),
)


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_a_split_product_is_the_same(order: tuple[str, ...]) -> None:
    lowered = lower_blocks(in_order(split(matmul()), *order))
    memory = inputs(len(order))
    expected = product_of(memory)
    run(lowered, memory, n=ROWS)
    assert memory["C"] == expected


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_no_guard_names_a_loop_of_the_reduction_for_its_beginning(order: tuple[str, ...]) -> None:
    lowered = lower_blocks(in_order(split(matmul()), *order))
    guards = [s for s in walk(lowered.body) if isinstance(s, Guard)]
    assert not any("eq" in str(guard.condition) for guard in guards)


def test_no_block_is_left() -> None:
    assert not any(isinstance(s, Block) for s in walk(lower_blocks(matmul()).body))


def test_a_bound_that_the_ranges_prove_becomes_no_guard() -> None:
    b = Builder("copy", "n in [1, 64], n mod 8 == 0")
    x, y = b.buffer("X", ["n"], "f32"), b.buffer("Y", ["n"], "f32", output=True)
    (i,) = b.axes(i="n")
    y[i] = x[i] + 1.0
    split_by = Split("i", (None, 8)).apply(b.build())
    assert not any(isinstance(s, Guard) for s in walk(lower_blocks(split_by).body))


def test_a_guard_stands_outside_the_loops_that_it_does_not_name() -> None:
    lowered = lower_blocks(split(matmul()))
    around: list[tuple[frozenset[str], tuple[str, ...]]] = []

    def visit(body: Body, loops: tuple[str, ...]) -> None:
        for statement in body:
            if isinstance(statement, Loop):
                visit(statement.body, (*loops, statement.name))
            elif isinstance(statement, Guard):
                around.append((names_of(statement.condition), loops))
                visit(statement.body, loops)

    visit(lowered.body, ())
    assert around
    assert all(loops[-1] in names for names, loops in around)


def test_a_guard_stays_inside_a_bound_loop() -> None:
    program = Split("i", (None, 4)).apply(matmul())
    loop = program.loop("j")
    assert loop is not None
    lowered = lower_blocks(program.replace("j", replace(loop, kind=LoopKind.THREAD_X)))
    inside = lowered.loop("j")
    assert inside is not None
    assert isinstance(inside.body[0], Guard)


def test_what_a_repeated_block_initialises_stays_guarded() -> None:
    # The outer loop is named by no axis: each iteration computes everything anew.
    b = Builder("again")
    x, m = b.buffer("X", [3, 4], "i32"), b.buffer("M", [3], "i32", output=True)
    with b.loop("k", 4) as k, b.loop("again", 2), b.loop("i", 3) as i:
        with b.block("m", spatial={"vi": (3, i)}, reduce={"vk": (4, k)}) as (vi, vk):
            with b.init():
                m[vi] = 0
            m[vi] = m[vi] + x[vi, vk]
    program = b.build()
    choose = random.Random(3)
    memory: Memory = {"X": filled((3, 4), lambda: choose.randint(1, 9))}
    expected: Memory = {"X": memory["X"]}
    run(program, expected)
    run(lower_blocks(program), memory)
    assert memory == expected


def test_a_maximum_is_the_same() -> None:
    b = Builder("rowmax")
    x, m = b.buffer("X", [5, 8], "i32"), b.buffer("M", [5], "i32", output=True)
    i, k = b.axes(i=5, k=8)
    m[i] = maximize(x[i, k])
    program = Split("k", (None, 3)).apply(b.build())
    choose = random.Random(4)
    memory: Memory = {"X": filled((5, 8), lambda: choose.randint(-99, 99))}
    run(lower_blocks(in_order(program, "k_0", "i", "k_1", block="M")), memory)
    assert memory["M"] == {(i,): max(memory["X"][i, k] for k in range(8)) for i in range(5)}
