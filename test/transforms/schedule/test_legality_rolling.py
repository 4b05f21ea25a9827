"""Circular buffers: what the step accepts means the same, what it refuses says why."""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from tilewright.dialects.nest.defects import ProgramError
from tilewright.dialects.nest.program import Bound, LoopKind, Program, Scope
from tilewright.dialects.nest.verifier import verify_program
from tilewright.dialects.sym import constant, symbol
from tilewright.nest.builder import Builder
from tilewright.nest.check import check_schedule
from tilewright.nest.interpreter import interpret
from tilewright.transforms.compact_buffers import compact_buffers
from tilewright.transforms.lower_blocks import lower_blocks
from tilewright.transforms.schedule.caching import CacheRead
from tilewright.transforms.schedule.compute_at import ComputeAt
from tilewright.transforms.schedule.decompose_reduction import DecomposeReduction
from tilewright.transforms.schedule.inlining import ComputeInline
from tilewright.transforms.schedule.primitive import Primitive, ScheduleError
from tilewright.transforms.schedule.rolling_buffer import RollingBuffer
from tilewright.transforms.schedule.split import Split
from tilewright.transforms.schedule.storage import SetScope, StorageAlign

from . import data_programs as programs

Source: TypeAlias = Callable[[], Program]
Matrix: TypeAlias = NDArray[np.float32]
ROLL = RollingBuffer("T", "T")
AT = ComputeAt("T", "o")


def two_convolutions() -> Program:
    b = Builder("two_convolutions", "n in [1, 40], m in [1, 20]")
    source, out = (
        b.buffer("X", ["n + 4", "m + 4"], "f32"),
        b.buffer("Y", ["n", "m"], "f32", output=True),
    )
    one, two = b.buffer("V", [3, 3], "f32"), b.buffer("W", [3, 3], "f32")
    made = b.temporary("T", ["n + 2", "m + 2"], "f32")
    i, j, r, q = b.axes(i="n + 2", j="m + 2", r=3, q=3)
    made[i, j] += source[i + r, j + q] * one[r, q]
    h, w, s, t = b.axes(h="n", w="m", s=3, t=3)
    out[h, w] += made[h + s, w + t] * two[s, t]
    return b.build()


def stencils() -> Program:
    """Sums of three neighbours of sums of three neighbours."""
    b = Builder("stencils", "n in [1, 60]")
    source, out = b.buffer("X", ["n + 4"], "f32"), b.buffer("Y", ["n"], "f32", output=True)
    one, two = b.temporary("T", ["n + 4"], "f32"), b.temporary("U", ["n + 2"], "f32")
    i, j, o = b.axes(i="n + 4", j="n + 2", o="n")
    one[i] = source[i] * source[i]
    two[j] = one[j] + one[j + 1] + one[j + 2]
    out[o] = two[o] + two[o + 1] * two[o + 2]
    return b.build()


def strided() -> Program:
    """Windows of five that move by two."""
    b = Builder("strided", "n in [1, 60]")
    source, out = b.buffer("X", ["2*n + 3"], "f32"), b.buffer("Y", ["n"], "f32", output=True)
    weight, made = b.buffer("W", [5], "f32"), b.temporary("T", ["2*n + 3"], "f32")
    (i,) = b.axes(i="2*n + 3")
    made[i] = source[i] + 1.0
    o, r = b.axes(o="n", r=5)
    out[o] += made[2 * o + r] * weight[r]
    return b.build()


def diagonal() -> Program:
    """Windows that move along two axes at once."""
    b = Builder("diagonal", "n in [1, 40]")
    source, out = b.buffer("X", ["n + 2", "n + 2"], "f32"), b.buffer("Y", ["n"], "f32", output=True)
    made = b.temporary("T", ["n + 2", "n + 2"], "f32")
    i, j = b.axes(i="n + 2", j="n + 2")
    made[i, j] = source[i, j] * 3.0
    o, r, s = b.axes(o="n", r=3, s=3)
    out[o] += made[o + r, o + s] * source[o, o]
    return b.build()


def fed_back() -> Program:
    """A producer that reads what its consumer writes in the same loop."""
    b = Builder("fed_back", "n in [1, 40]")
    out, made = b.buffer("Y", ["n + 2"], "f32", output=True), b.temporary("T", ["n + 2"], "f32")
    with b.loop("o", "n") as o:
        with b.loop("a", 3) as a, b.block("T", spatial={"v": ("n + 2", o + a)}) as (v,):
            made[v] = out[v] + 1.0
        with b.block("Y", spatial={"w": ("n", o)}) as (w,):
            out[w] = made[w] + made[w + 2]
    return b.build()


def parallel_outside() -> Program:
    """Windows in iterations of a parallel loop, along the same axis."""
    b = Builder("parallel_outside", "n in [8, 64]")
    source, out = b.buffer("X", ["8*n + 2"], "f32"), b.buffer("Y", ["8*n"], "f32", output=True)
    made = b.temporary("T", ["8*n + 2"], "f32")
    with b.loop("p", "n", LoopKind.PARALLEL) as p, b.loop("o", 8) as o:
        where = 8 * p + o
        with b.loop("a", 3) as a, b.block("T", spatial={"v": ("8*n + 2", where + a)}) as (v,):
            made[v] = source[v] + 1.0
        with b.block("Y", spatial={"w": ("8*n", where)}) as (w,):
            out[w] = made[w] + made[w + 1] * made[w + 2]
    return b.build()


def triangular() -> Program:
    """Windows of rows of which later ones are longer."""
    b = Builder("triangular", "n in [3, 30]")
    source, out = (
        b.buffer("X", ["n + 2", "n"], "f32"),
        b.buffer("Y", ["n", "n"], "f32", output=True),
    )
    made = b.temporary("T", ["n + 2", "n"], "f32")
    with b.loop("o", "n") as o:
        with (
            b.loop("a", 3) as a,
            b.loop("c", o + 1) as c,
            b.block("T", spatial={"i": ("n + 2", o + a), "j": ("n", c)}) as (i, j),
        ):
            made[i, j] = source[i, j] + 1.0
        with (
            b.loop("q", o + 1) as q,
            b.block("Y", spatial={"v": ("n", o), "w": ("n", q)}) as (v, w),
        ):
            out[v, w] = made[v, w] + made[v + 2, w]
    return b.build()


TILED = (Split("h", (None, 4)), Split("w", (None, 4)))
ACCEPTED: list[tuple[Source, tuple[Primitive, ...]]] = [
    (programs.conv, (AT, ROLL)),
    (programs.conv, (AT, ROLL, SetScope("T", Scope.LOCAL))),
    (programs.conv, (AT, SetScope("T", Scope.LOCAL), ROLL)),
    (programs.conv, (AT, ROLL, CacheRead("Y", "T", Scope.LOCAL))),
    (programs.conv, (AT, ROLL, Split("o", (None, 4)))),
    (programs.conv, (AT, ROLL, Split("ax0", (None, 2)))),
    (programs.conv, (Split("o", (None, 4)), ComputeAt("T", "o_0"), ROLL)),
    (strided, (AT, ROLL)),
    (strided, (Split("o", (None, 3)), ComputeAt("T", "o_0"), ROLL)),
    (two_convolutions, (ComputeAt("T", "h"), ROLL)),
    (two_convolutions, (Split("h", (None, 4)), ComputeAt("T", "h_0"), ROLL)),
    (two_convolutions, (ComputeAt("T", "w"), RollingBuffer("T", "T", "h"))),
    (two_convolutions, (ComputeAt("T", "w"), RollingBuffer("T", "T", "w"))),
    (stencils, (ComputeAt("U", "o"), RollingBuffer("U", "U"))),
    (stencils, (ComputeAt("U", "o"), ComputeAt("T", "o"), RollingBuffer("U", "U"), ROLL)),
]


@pytest.mark.parametrize(
    ("source", "steps"),
    ACCEPTED,
    ids=[f"{n}-{case[0].__name__}" for n, case in enumerate(ACCEPTED)],
)
def test_what_is_accepted_means_the_same(source: Source, steps: tuple[Primitive, ...]) -> None:
    original = program = source()
    for step in steps:
        program = step.apply(program)
        verify_program(program)
    check_schedule(original, program, trials=6).require()


def early_reader() -> Program:
    """A block that reads, before the producer, what it made in the iteration before."""
    b = Builder("early_reader", "n in [1, 40]")
    source, out = b.buffer("X", ["n + 2"], "f32"), b.buffer("Y", ["n + 1"], "f32", output=True)
    made = b.temporary("T", ["n + 2"], "f32")
    (i,) = b.axes(i="n + 1")
    out[i] = made[i]
    with b.loop("a", "n + 2") as a, b.block("T", spatial={"v": ("n + 2", a)}) as (v,):
        made[v] = source[v] + 1.0
    return b.build()


def gapped() -> Program:
    """Windows of every other element."""
    b = Builder("gapped", "n in [1, 40]")
    source, out = b.buffer("X", ["n + 4"], "f32"), b.buffer("Y", ["n"], "f32", output=True)
    made = b.temporary("T", ["n + 4"], "f32")
    with b.loop("o", "n") as o:
        with b.loop("a", 3) as a, b.block("T", spatial={"v": ("n + 4", o + 2 * a)}) as (v,):
            made[v] = source[v] + 1.0
        with b.block("Y", spatial={"w": ("n", o)}) as (w,):
            out[w] = made[w] + made[w + 2] * made[w + 4]
    return b.build()


REFUSED: list[tuple[str, Source, tuple[Primitive, ...], Primitive]] = [
    ("exists", programs.conv, (), RollingBuffer("Q", "T")),
    ("exists", programs.conv, (), RollingBuffer("T", "Q")),
    ("exists", programs.conv, (AT,), RollingBuffer("T", "T", "q")),
    ("output", programs.conv, (AT,), RollingBuffer("Y", "Y")),
    ("writes", programs.conv, (AT,), RollingBuffer("Y", "T")),
    (
        "layout",
        two_convolutions,
        (ComputeAt("T", "h"), SetScope("T", Scope.SHARED), StorageAlign("T", "T", 0, 32, 8)),
        ROLL,
    ),
    (
        "sole-writer",
        two_convolutions,
        (ComputeAt("T", "h"), DecomposeReduction("T", "ax2")),
        ROLL,
    ),
    ("order", early_reader, (), ROLL),
    ("order", programs.dead, (), ROLL),
    ("window", programs.conv, (), ROLL),
    ("window", programs.conv, (AT,), RollingBuffer("T", "T", "r")),
    ("window", programs.strided, (AT,), ROLL),
    ("window", programs.broadcast, (ComputeAt("T", "i_1"),), ROLL),
    ("window", diagonal, (AT,), ROLL),
    ("window", triangular, (), ROLL),
    ("window", gapped, (), ROLL),
    ("complete-or-reduction", programs.conv, (AT, ROLL), ROLL),
    ("races", parallel_outside, (), ROLL),
    ("inputs-stable", fed_back, (), ROLL),
    (
        "inputs-stable",
        stencils,
        (ComputeAt("U", "o"), ComputeAt("T", "o"), ROLL),
        RollingBuffer("U", "U"),
    ),
    ("covers", programs.padded, (AT,), ROLL),
    (
        "predicate",
        programs.conv,
        (Split("o", (None, 4)), ComputeAt("T", "o_1")),
        RollingBuffer("T", "T", "o_0"),
    ),
    ("complete", programs.conv, (AT, ROLL), ComputeInline("T")),
]


@pytest.mark.parametrize(
    ("condition", "source", "steps", "step"),
    REFUSED,
    ids=[f"{n}-{case[1].__name__}-{case[0]}" for n, case in enumerate(REFUSED)],
)
def test_what_is_refused_names_the_condition(
    condition: str, source: Source, steps: tuple[Primitive, ...], step: Primitive
) -> None:
    program = source()
    for earlier in steps:
        program = earlier.apply(program)
    with pytest.raises(ScheduleError) as caught:
        step.apply(program)
    assert (caught.value.condition, caught.value.primitive) == (condition, step.name)


def test_the_buffer_holds_one_window() -> None:
    program = ROLL.apply(ComputeAt("T", "h").apply(two_convolutions()))
    assert [str(extent) for extent in program.buffers["T"].shape] == ["3", "m + 2"]


def test_each_element_is_made_once() -> None:
    program = ROLL.apply(AT.apply(strided()))
    block = program.block("T")
    assert block is not None
    (bound,) = block.predicate
    points = [{"o": o, "ax0": a} for o in range(7) for a in range(5)]
    made = [
        block.axes[0].binding.evaluate(point)
        for point in points
        if bound.left.evaluate(point) < bound.right.evaluate(point)
    ]
    assert sorted(made) == list(range(2 * 7 + 3))


@pytest.mark.parametrize("rows", [1, 2, 3, 7])
def test_a_compact_buffer_outlives_the_iterations(rows: int) -> None:
    program = ROLL.apply(ComputeAt("T", "h").apply(two_convolutions()))
    small = compact_buffers(lower_blocks(program))
    generator = np.random.default_rng(rows)
    shapes = {"X": (rows + 4, 9), "V": (3, 3), "W": (3, 3), "Y": (rows, 5)}
    arrays = {
        name: generator.normal(size=shape).astype(np.float32) for name, shape in shapes.items()
    }
    symbols = {"n": rows, "m": 5}
    got = interpret(small, arrays, symbols=symbols, is_exact=True)["Y"]
    made = convolved(arrays["X"], arrays["V"])
    np.testing.assert_allclose(got, convolved(made, arrays["W"]), rtol=1e-5)
    assert [str(extent) for extent in small.buffers["T"].shape] == ["3", "m + 2"]


def convolved(source: Matrix, weight: Matrix) -> Matrix:
    windows = np.lib.stride_tricks.sliding_window_view(source, weight.shape)
    return np.einsum("hwrs,rs->hw", windows, weight)


def test_what_reads_a_circle_stays_in_its_loop() -> None:
    program = ROLL.apply(ComputeAt("T", "o").apply(followed()))
    with pytest.raises(ScheduleError) as caught:
        ComputeAt("Y", "z").apply(program)
    assert caught.value.condition == "inputs-stable"


def followed() -> Program:
    """A convolution, and an elementwise block behind it."""
    b = Builder("followed", "n in [1, 40]")
    source, out = b.buffer("X", ["n + 2"], "f32"), b.buffer("Z", ["n"], "f32", output=True)
    made, sums = b.temporary("T", ["n + 2"], "f32"), b.temporary("Y", ["n"], "f32")
    i, o, z = b.axes(i="n + 2", o="n", z="n")
    made[i] = source[i] * 2.0
    sums[o] = made[o] + made[o + 2]
    out[z] = sums[z] + 1.0
    return b.build()


def test_a_read_before_the_first_write_is_not_covered() -> None:
    program = ROLL.apply(AT.apply(programs.conv()))
    late = Bound(constant(1), symbol("o") + 1)
    block = program.block("T")
    assert block is not None
    broken = program.replace("T", replace(block, predicate=(*block.predicate, late)))
    with pytest.raises(ProgramError) as caught:
        verify_program(broken)
    assert caught.value.condition == "producers"
