"""
Steps that pad, or take padding apart: what they accept means the same, what they refuse says why.
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import pytest

from tilewright.dialects.nest.program import Program
from tilewright.dialects.nest.verifier import verify_program
from tilewright.nest.builder import Builder, maximize
from tilewright.nest.check import check_schedule
from tilewright.nest.values import Value, select, value_of
from tilewright.nest.workloads import FAMILIES, symbolic_workload
from tilewright.test.nest.test_workloads import STATIC
from tilewright.transforms.schedule.decompose_padding import DecomposePadding
from tilewright.transforms.schedule.pad_einsum import PadEinsum
from tilewright.transforms.schedule.primitive import Primitive, ScheduleError
from tilewright.transforms.schedule.split import Split

from . import data_programs as programs

Source: TypeAlias = Callable[[], Program]


def static(family: str) -> Source:
    return lambda: FAMILIES[family](*STATIC[family]).program


def symbolic(family: str) -> Source:
    return lambda: symbolic_workload(family).program


def padded(condition: Callable[[Value], Value], fill: float = 0.0) -> Source:
    """Returns a row of which a condition on the index tells the inside, read one to the left."""

    def source() -> Program:
        b = Builder("padded", "n in [1, 50]")
        x, y = b.buffer("X", ["n"], "f32"), b.buffer("P", ["n + 2"], "f32", output=True)
        (i,) = b.axes(i="n + 2")
        place = value_of(i)
        clamped = x[(i - 1) % b.symbol("n")]
        y[i] = select(condition(place), clamped, fill)
        return b.build()

    return source


def inside(place: Value) -> Value:
    return (place >= 1) & (place < 3)


def twice() -> Program:
    b = Builder("twice", "n in [1, 50]")
    x, y = b.buffer("X", ["n"], "f32"), b.buffer("Y", ["n"], "f32", output=True)
    (i,) = b.axes(i="n")
    y[i] = select(value_of(i) < 4, 2.0 * x[i], 1.0) + 1.0
    return b.build()


def greatest() -> Program:
    b = Builder("greatest", "n in [1, 50]")
    x, y = b.buffer("X", ["n", 4], "f32"), b.buffer("Y", ["n"], "f32", output=True)
    i, k = b.axes(i="n", k=4)
    y[i] = maximize(x[i, k])
    return b.build()


def doubled() -> Program:
    """A block that pads what it reads."""
    b = Builder("doubled", "n in [4, 50]")
    y = b.buffer("P", ["n"], "f32", output=True)
    (i,) = b.axes(i="n")
    y[i] = select(value_of(i) < 3, 2.0 * y[i], 0.0)
    return b.build()


def folded() -> Program:
    """A block of which two points store in one element, the second the fill."""
    b = Builder("folded", "n in [4, 50]")
    x, y = b.buffer("X", ["n"], "f32"), b.buffer("P", ["n"], "f32", output=True)
    (i,) = b.axes(i="n")
    y[i // 2] = select(value_of(i) < 3, x[i], 0.0)
    return b.build()


def mirrored() -> Program:
    """A block that pads from the last element on."""
    b = Builder("mirrored", "n in [4, 50]")
    x, y = b.buffer("X", ["n"], "f32"), b.buffer("P", ["n"], "f32", output=True)
    (i,) = b.axes(i="n")
    y[b.symbol("n") - 1 - i] = select(value_of(i) < 3, x[i], 0.0)
    return b.build()


ACCEPTED: list[tuple[Source, tuple[Primitive, ...]]] = [
    *((static(family), (DecomposePadding("P"),)) for family in ("C1D", "C2D", "C3D", "DEP", "DIL")),
    *((symbolic(family), (DecomposePadding("P"),)) for family in ("C1D", "C2D", "C3D", "GRP")),
    (static("CBR"), (DecomposePadding("P", ("zeros",)),)),
    (padded(inside), (DecomposePadding("P"),)),
    (padded(inside, 7.0), (DecomposePadding("P"),)),
    (padded(lambda i: i > 2), (DecomposePadding("P"),)),
    (padded(lambda i: i <= 0), (DecomposePadding("P"),)),
    (mirrored, (DecomposePadding("P"),)),
    (programs.matmul, (PadEinsum("C", (4, 4, 4)),)),
    (programs.matmul, (PadEinsum("C", (1, 1, 1)),)),
    (programs.matmul, (PadEinsum("C", (1, 8, 1), ("x", "y", "z")),)),
    (programs.matmul, (PadEinsum("C", (3, 1, 5)), Split("i_1", (None, 3)))),
    (symbolic("GMM"), (PadEinsum("C", (1, 16, 8, 8)),)),
    (static("C1D"), (PadEinsum("Y", (1, 4, 8, 1, 2)),)),
    (symbolic("C1D"), (PadEinsum("Y", (2, 4, 1, 1, 1)),)),
]


@pytest.mark.parametrize(
    ("source", "steps"), ACCEPTED, ids=[f"{n}-{case[1][0].name}" for n, case in enumerate(ACCEPTED)]
)
def test_what_is_accepted_means_the_same(source: Source, steps: tuple[Primitive, ...]) -> None:
    original = program = source()
    for step in steps:
        program = step.apply(program)
        verify_program(program)
    check_schedule(original, program).require()


TILE = (Split("i", (None, 4)),)
REFUSED: list[tuple[str, Source, tuple[Primitive, ...], Primitive]] = [
    ("exists", programs.matmul, (), PadEinsum("D", (1, 1, 1))),
    ("rank", programs.matmul, (), PadEinsum("C", (4, 4))),
    ("positive", programs.matmul, (), PadEinsum("C", (4, 0, 4))),
    ("nest", programs.matmul, TILE, PadEinsum("C", (4, 4, 4))),
    ("einsum", greatest, (), PadEinsum("Y", (4, 4))),
    ("einsum", programs.chain, (), PadEinsum("T", (4, 4))),
    ("names", programs.matmul, (), PadEinsum("C", (4, 4, 4), ("x", "y"))),
    ("exists", programs.matmul, (), DecomposePadding("P")),
    ("spatial", programs.matmul, (), DecomposePadding("C")),
    ("select", programs.chain, (), DecomposePadding("T")),
    ("select", twice, (), DecomposePadding("Y")),
    ("nest", padded(inside), TILE, DecomposePadding("P")),
    ("box", padded(lambda i: i % 2 < 1), (), DecomposePadding("P")),
    ("box", padded(lambda i: (i < 2) | (i >= 4)), (), DecomposePadding("P")),
    ("box", padded(lambda i: i.equals(3)), (), DecomposePadding("P")),
    ("box", padded(lambda i: (i >= 5) & (i < 3)), (), DecomposePadding("P")),
    ("reads-own-writes", doubled, (), DecomposePadding("P")),
    ("distinct", folded, (), DecomposePadding("P")),
    ("names", padded(inside), (), DecomposePadding("P", ("i",))),
]


@pytest.mark.parametrize(
    ("condition", "source", "steps", "step"),
    REFUSED,
    ids=[f"{n}-{case[3].name}-{case[0]}" for n, case in enumerate(REFUSED)],
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


def test_a_copy_of_the_inside_has_no_condition_and_no_clamp() -> None:
    program = DecomposePadding("P").apply(symbolic("C2D")())
    block = program.block("P")
    assert block is not None
    text = str(block.body)
    assert "select" not in text
    assert "min" not in text


def test_an_operand_of_the_right_size_is_read_as_it_is() -> None:
    program = PadEinsum("C", (1, 4, 1)).apply(programs.matmul())
    names: Mapping[str, object] = program.buffers
    assert "B_m" in names
    assert "A_m" not in names
