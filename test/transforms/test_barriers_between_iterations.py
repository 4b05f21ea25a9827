"""Barriers stand where iterations share elements, and nowhere else."""

from tilewright.dialects.nest.intrinsics import BARRIER
from tilewright.dialects.nest.program import (
    Body,
    Buffer,
    Call,
    Loop,
    LoopKind,
    Program,
    Scope,
    Store,
    walk,
)
from tilewright.dialects.nest.scalars import Apply, Load
from tilewright.dialects.sym import Expression, Ranges, constant, floordiv, mod, symbol
from tilewright.transforms.place_barriers import place_barriers

THREADS = 32
T, U, STEP, K = map(symbol, ("t", "u", "i", "k"))


def barriers(body: Body) -> int:
    return sum(isinstance(s, Call) and s.intrinsic == BARRIER for s in walk(body))


def load(buffer: str, *indices: Expression) -> Load:
    return Load(buffer, indices, "f32")


def program(shared: tuple[int, ...], body: Body) -> Program:
    def buffer(name: str, shape: tuple[int, ...], scope: Scope) -> Buffer:
        return Buffer(name, tuple(map(constant, shape)), "f32", scope)

    arrays = (
        buffer("X", (8, 8, THREADS), Scope.GLOBAL),
        buffer("Y", (8, THREADS), Scope.GLOBAL),
    )
    outer = Loop("b", constant(1), body, LoopKind.BLOCK_X)
    own = (buffer("S", shared, Scope.SHARED),)
    return Program("p", arrays, Ranges({}), (outer,), own, frozenset("Y"))


def staged(row: Expression, column: Expression) -> Body:
    """Each thread writes elements of S in 8 steps; then others read them."""
    write = Store("S", (row, column), load("X", constant(0), STEP, T))
    read = Store("Y", (constant(0), U), load("S", constant(0), THREADS - 1 - U))
    threads = LoopKind.THREAD_X
    return (
        Loop("i", constant(8), (Loop("t", constant(THREADS), (write,), threads),)),
        Loop("u", constant(THREADS), (read,), threads),
    )


def test_steps_of_a_copy_write_elements_of_their_own() -> None:
    # Rows of 4 chunks: 8 threads a row, 4 rows a step.
    body = staged(STEP * 4 + floordiv(T, 8), mod(T, 8) * 8)
    assert barriers(place_barriers(program((32, 64), body)).body) == 1


def test_steps_that_overlap_are_parted() -> None:
    body = staged(STEP * 3 + floordiv(T, 8), mod(T, 8) * 8)
    assert barriers(place_barriers(program((32, 64), body)).body) >= 2


def ring(written: Expression, length: int) -> Body:
    """An iteration writes one slot of a ring and reads another."""
    value = load("S", mod(K, length), THREADS - 1 - U)
    value = Apply("arith.addf", (value, load("Y", K, U)), "f32")
    fill = Store("S", (written, T), load("X", K, constant(0), T))
    use = Store("Y", (K, U), value)
    threads = LoopKind.THREAD_X
    return (
        Loop(
            "k",
            constant(8),
            (
                Call(BARRIER, ()),
                Loop("t", constant(THREADS), (fill,), threads),
                Loop("u", constant(THREADS), (use,), threads),
            ),
        ),
    )


def test_different_slots_of_a_ring_need_no_barrier() -> None:
    body = ring(mod(K + 2, 3), 3)
    assert barriers(place_barriers(program((3, THREADS), body)).body) == 1


def test_the_same_slot_of_a_ring_does() -> None:
    body = ring(mod(K + 3, 3), 3)
    assert barriers(place_barriers(program((3, THREADS), body)).body) == 2
