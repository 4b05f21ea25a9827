"""Programs that are wrong are refused at the loop or block, whoever built them."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from tilewright.dialects.nest.defects import ProgramError
from tilewright.dialects.nest.program import Block, Buffer, Loop, LoopKind, Program, Scope, Store
from tilewright.dialects.nest.scalars import Constant, Load
from tilewright.dialects.nest.threads import kernels_of
from tilewright.dialects.nest.verifier import verify_program
from tilewright.dialects.sym import constant, symbol
from tilewright.nest.builder import Builder
from tilewright.nest.values import inside


@contextmanager
def _refused(condition: str, place: str) -> Generator[None]:
    with pytest.raises(ProgramError) as caught:
        yield
    assert (caught.value.condition, caught.value.place) == (condition, place)


def _copy() -> Program:
    b = Builder("copy", "n in [1, ...]")
    x, y = b.buffer("x", ["n"], "f32"), b.buffer("y", ["n"], "f32", output=True)
    (i,) = b.axes(i="n")
    y[i] = x[i]
    return b.build()


def _block(program: Program, name: str) -> Block:
    block = program.block(name)
    assert block is not None
    return block


def test_program_of_the_builder_is_accepted():
    verify_program(_copy())


def test_unknown_buffer_is_refused():
    block = _block(_copy(), "y")
    store = Store("z", (symbol("vi"),), Constant(0.0, "f32"))
    with _refused("names", "y"):
        verify_program(_copy().replace("y", replace(block, body=(store,))))


def test_load_of_another_dtype_is_refused():
    block = _block(_copy(), "y")
    store = Store("y", (symbol("vi"),), Load("x", (symbol("vi"),), "f16"))
    with _refused("dtype", "y"):
        verify_program(_copy().replace("y", replace(block, body=(store,))))


def test_loop_named_in_a_block_is_refused():
    block = _block(_copy(), "y")
    store = Store("y", (symbol("i"),), Constant(0.0, "f32"))
    with _refused("scope", "y"):
        verify_program(_copy().replace("y", replace(block, body=(store,))))


def test_buffer_allocated_in_no_loop_is_refused():
    buffer = Buffer("t", (constant(4),), "f32", Scope.LOCAL, place="y")
    with _refused("names", ""):
        verify_program(replace(_copy(), allocations=(buffer,)))


def _two_stages(read_from: int, count: int) -> Program:
    """A producer of `count` elements at 16*t - 1 in each tile, and its consumer of 3 neighbours."""
    b = Builder("stages")
    x, y = b.buffer("x", [128], "f32"), b.buffer("y", [128], "f32", output=True)
    t = b.temporary("t", [128], "f32", Scope.SHARED)
    with b.loop("o", 8) as o:
        with b.loop("a", count) as a:
            at = 16 * o + a - 1
            where = [inside(-1, at), inside(at, 128)]
            with b.block("P", spatial={"u": (128, at)}, where=where) as (u,):
                t[u] = x[u]
        with b.loop("i", 16) as i, b.loop("r", 3) as r:
            at = 16 * o + i + r - read_from
            with b.block(
                "C",
                spatial={"v": (128, 16 * o + i)},
                reduce={"w": (3, r)},
            ) as (v, _):
                with b.init():
                    y[v] = 0.0
                y[v] += t[v]
    return b.build()


def test_halo_that_covers_its_consumer_is_accepted():
    verify_program(_two_stages(1, 18))


def test_halo_that_misses_an_element_is_refused():
    with _refused("producers", "C"):
        verify_program(_two_stages(1, 16))


def _concatenated(second: int) -> Program:
    b = Builder("concatenated")
    y = b.buffer("y", [8], "f32", output=True)
    t = b.temporary("t", [8], "f32")
    for name, start, extent in (("P", 0, 4), ("Q", second, 4)):
        with (
            b.loop(f"{name}_i", extent) as i,
            b.block(name, spatial={f"{name}_v": (extent, i)}) as (v,),
        ):
            t[v + start] = 1.0
    with b.loop("i", 8) as i, b.block("C", spatial={"v": (8, i)}) as (v,):
        y[v] = t[v]
    return b.build()


def test_producers_of_parts_that_touch_cover():
    verify_program(_concatenated(4))


@pytest.mark.parametrize("second", [3, 0])
def test_producers_of_parts_that_leave_a_gap_are_refused(second: int):
    with _refused("producers", "C"):
        verify_program(_concatenated(second))


def _reduction(outer: str) -> Program:
    """A sum that runs twice, `again` being the outermost or the innermost loop."""
    b = Builder("sum")
    x, y = b.buffer("x", [8], "f32"), b.buffer("y", [], "f32", output=True)
    names = ["again", "k"] if outer == "again" else ["k", "again"]
    extents = {"again": 2, "k": 8}
    with b.loop(names[0], extents[names[0]]), b.loop(names[1], extents[names[1]]):
        with b.block("S", reduce={"v": (8, symbol("k"))}) as (v,):
            with b.init():
                y[()] = 0.0
            y[()] += x[v]
    return b.build()


def test_whole_reduction_may_run_again():
    verify_program(_reduction("again"))


def test_part_of_a_reduction_must_not_run_again():
    with _refused("once", "S"):
        verify_program(_reduction("k"))


def test_inner_block_is_covered_together_with_the_axes_around():
    b = Builder("nested")
    x, y = b.buffer("x", [64], "f32"), b.buffer("y", [64], "f32", output=True)
    with b.loop("i", 4) as i, b.block("O", spatial={"o": (4, i)}) as (o,):
        with b.loop("j", 16) as j, b.block("I", spatial={"v": (64, 16 * o + j)}) as (v,):
            y[v] = x[v]
    verify_program(b.build())


def _bound(*kinds: tuple[str, LoopKind]) -> Program:
    program = _copy()
    loop = program.loop("i")
    assert loop is not None
    nest: Loop = loop
    for name, kind in kinds:
        nest = Loop(name, constant(16), (nest,), kind)
    return program.replace("i", nest)


def test_kernel_tells_its_extents():
    (kernel,) = kernels_of(_bound(("t", LoopKind.THREAD_X), ("b", LoopKind.BLOCK_X)))
    assert kernel.extents == {LoopKind.BLOCK_X: 16, LoopKind.THREAD_X: 16}
    assert kernel.threads == 16


@pytest.mark.parametrize(
    ("bound", "place"),
    [
        (lambda: _bound(("a", LoopKind.BLOCK_X), ("b", LoopKind.THREAD_X)), "a"),
        (lambda: _bound(("a", LoopKind.THREAD_X), ("b", LoopKind.VECTORIZED)), "a"),
        (lambda: _bound(("a", LoopKind.PARALLEL), ("b", LoopKind.THREAD_X)), "a"),
        (lambda: _bound(("a", LoopKind.THREAD_Y), ("b", LoopKind.THREAD_Y)), "a"),
    ],
)
def test_bound_loop_in_the_wrong_place_is_refused(bound: Callable[[], Program], place: str):
    with _refused("thread-binding", place):
        verify_program(bound())
