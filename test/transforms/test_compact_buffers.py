"""Buffers shrink to what the loop where they live needs, and the program computes the same."""

import random
from dataclasses import replace

import pytest

from tilewright.dialects.diagnostic import DiagnosticError
from tilewright.dialects.nest.program import Buffer, LoopKind, Program, Scope
from tilewright.dialects.sym import ceildiv, constant
from tilewright.nest.builder import Builder
from tilewright.nest.values import inside, value_of
from tilewright.transforms.compact_buffers import compact_buffers
from tilewright.transforms.lower_blocks import lower_blocks

from ..nest.gpu_programs import gemm
from .sequential import Memory, filled, run

PARALLEL, BLOCK, THREAD = LoopKind.PARALLEL, LoopKind.BLOCK_X, LoopKind.THREAD_X


def compacted(program: Program) -> Program:
    return compact_buffers(lower_blocks(program))


def sizes(program: Program) -> dict[str, tuple[int | None, ...]]:
    return {b.name: tuple(e.constant_value for e in b.shape) for b in program.allocations}


def allocated(program: Program) -> dict[str, Buffer]:
    return {buffer.name: buffer for buffer in program.allocations}


def test_a_product_in_tiles_keeps_a_tile_of_each_operand() -> None:
    program = compacted(gemm("i32"))
    assert sizes(program) == {"A_shared": (32, 8), "B_shared": (8, 16), "C_local": (4, 2)}
    assert {b.name: b.place for b in program.allocations} == {
        "A_shared": "k0",
        "B_shared": "k0",
        "C_local": "bx",
    }


@pytest.mark.parametrize("rows", [1, 31, 33])
def test_a_product_in_tiles_is_the_same(rows: int) -> None:
    choose = random.Random(rows)
    memory: Memory = {
        "A": filled((rows, 8), lambda: choose.randint(1, 9)),
        "B": filled((8, 16), lambda: choose.randint(1, 9)),
    }
    expected = {
        (i, j): sum(memory["A"][i, k] * memory["B"][k, j] for k in range(8))
        for i in range(rows)
        for j in range(16)
    }
    run(compacted(gemm("i32", columns=16, depth=8)), memory, n=rows)
    assert memory["C"] == expected


def rows_and_sums(kind: LoopKind, carries: bool = False) -> Program:
    """Squares of a row, then their sum; `carries` reads the row before, too."""
    b = Builder("rows", "n in [2, 64]")
    n = b.symbol("n")
    x, y = b.buffer("X", [n, 8], "i32"), b.buffer("Y", [n], "i32", output=True)
    squares = b.temporary("S", [8] if carries else [n, 8], "i32")
    with b.loop("i", n, kind) as i:
        with b.loop("k", 8) as k, b.block("S", spatial={"si": (n, i), "sk": (8, k)}) as (si, sk):
            if carries:
                with b.when(value_of(si) < 1):
                    squares[sk] = x[si, sk] * x[si, sk]
            else:
                squares[si, sk] = x[si, sk] * x[si, sk]
        with b.loop("r", 8) as r:
            with b.block("Y", spatial={"yi": (n, i)}, reduce={"yr": (8, r)}) as (yi, yr):
                with b.init():
                    y[yi] = 0
                y[yi] = y[yi] + (squares[yr] if carries else squares[yi, yr])
    return b.build()


@pytest.mark.parametrize("kind", [LoopKind.SERIAL, PARALLEL])
def test_a_row_lives_in_the_loop_over_rows(kind: LoopKind) -> None:
    program = compacted(rows_and_sums(kind))
    assert sizes(program) == {"S": (1, 8)}
    assert allocated(program)["S"].place == "i"
    choose = random.Random(5)
    memory: Memory = {"X": filled((6, 8), lambda: choose.randint(1, 99))}
    expected = {(i,): sum(memory["X"][i, k] ** 2 for k in range(8)) for i in range(6)}
    run(program, memory, n=6)
    assert memory["Y"] == expected


def test_what_one_iteration_hands_to_the_next_lives_outside_the_loop() -> None:
    program = compacted(rows_and_sums(LoopKind.SERIAL, carries=True))
    assert allocated(program)["S"].place is None


def test_a_buffer_that_is_written_anew_in_each_iteration_lives_inside() -> None:
    b = Builder("scratch")
    x, y = b.buffer("X", [4, 8], "i32"), b.buffer("Y", [4, 8], "i32", output=True)
    row = b.temporary("R", [8], "i32")
    with b.loop("i", 4) as i:
        with b.loop("k", 8) as k, b.block("R", spatial={"rk": (8, k), "ri": (4, i)}) as (rk, ri):
            row[rk] = x[ri, rk]
        with b.loop("c", 8) as c, b.block("Y", spatial={"yi": (4, i), "yc": (8, c)}) as (yi, yc):
            y[yi, yc] = row[7 - yc]
    program = compacted(b.build())
    assert allocated(program)["R"].place == "i"


def threads(scope: Scope = Scope.LOCAL, shift: int = 0) -> Program:
    """One thread writes an element, one reads the element `shift` behind its own."""
    b = Builder("threads", "n in [1, 64]")
    n = b.symbol("n")
    x = b.buffer("X", [n, 32], "i32")
    y = b.buffer("Y", [n, 32], "i32", output=True)
    held = b.temporary("H", [n, 64], "i32", scope)
    with b.loop("b", n, BLOCK) as block:
        with b.loop("t", 32, THREAD) as t:
            with b.block("H", spatial={"hb": (n, block), "ht": (32, t)}) as (hb, ht):
                held[hb, ht] = x[hb, ht]
        with b.loop("u", 32, THREAD) as u:
            with b.block("Y", spatial={"yb": (n, block), "yt": (32, u)}) as (yb, yt):
                y[yb, yt] = held[yb, (yt + shift) % 32]
    return b.build()


def test_a_local_buffer_holds_what_one_thread_needs() -> None:
    program = compacted(threads())
    assert sizes(program) == {"H": (1, 1)}


def test_a_shared_buffer_holds_what_all_threads_need() -> None:
    program = compacted(threads(scope=Scope.SHARED, shift=1))
    assert sizes(program) == {"H": (1, 32)}


def test_a_local_buffer_of_another_thread_is_refused() -> None:
    with pytest.raises(DiagnosticError, match=r"elements that threads of thread_x_ share"):
        compacted(threads(shift=1))


def test_a_shared_buffer_without_a_constant_extent_is_refused() -> None:
    b = Builder("rows", "n in [1, ...], m in [1, ...]")
    n, m = b.symbol("n"), b.symbol("m")
    x, y = b.buffer("X", [n, m], "i32"), b.buffer("Y", [n, m], "i32", output=True)
    row = b.temporary("R", [n, m], "i32", Scope.SHARED)
    with b.loop("i", n, BLOCK) as i:
        with b.loop("t", 32, THREAD) as t, b.loop("k", ceildiv(m, 32)) as k:
            column = 32 * k + t
            with b.block(
                "R", spatial={"ri": (n, i), "rk": (m, column)}, where=[inside(column, m)]
            ) as (ri, rk):
                row[ri, rk] = x[ri, rk]
        with b.loop("u", 32, THREAD) as u, b.loop("c", ceildiv(m, 32)) as c:
            column = 32 * c + u
            with b.block(
                "Y", spatial={"yi": (n, i), "yc": (m, column)}, where=[inside(column, m)]
            ) as (yi, yc):
                y[yi, yc] = row[yi, m - 1 - yc]
    with pytest.raises(DiagnosticError, match="constant extent of axis 1 of the shared buffer 'R'"):
        compacted(b.build())


def test_padding_becomes_strides() -> None:
    program = lower_blocks(gemm("f32"))
    padded = tuple(
        replace(buffer, padding=((0, 32, 4),)) if buffer.name == "A_shared" else buffer
        for buffer in program.allocations
    )
    buffer = allocated(compact_buffers(replace(program, allocations=padded)))["A_shared"]
    assert buffer.shape == (constant(32), constant(8))
    assert buffer.strides == (constant(36), constant(1))
    assert buffer.padding == ()
