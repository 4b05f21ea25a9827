"""The picture of a program names its loops, kinds, blocks and accesses."""

from dataclasses import replace

from tilewright.dialects.nest.program import LoopKind, Program
from tilewright.nest.builder import Builder
from tilewright.nest.picture import draw, page
from tilewright.transforms.schedule.split import Split


def scaled() -> Program:
    b = Builder("scaled", "n in [1, 100]")
    x, y = b.buffer("X", ["n"], "f32"), b.buffer("Y", ["n"], "f32", output=True)
    (i,) = b.axes(i="n")
    y[i] = x[i] * 2.0
    return b.build()


def test_a_program_is_drawn_as_a_tree() -> None:
    assert draw(scaled()).splitlines() == [
        "scaled(X: f32[n], Y: f32[n] (output))  where n in [1, 100]",
        "└─ for i in 0..n",
        "   └─ @Y",
        "      │  spatial vi = i",
        "      └─ Y[vi] = (X[vi] * 2)",
    ]


def test_a_tail_is_drawn_as_a_bound() -> None:
    split = Split("i", (None, 32), ("o", "u")).apply(scaled())
    assert "where 32*o + u < n" in draw(split)


def test_kinds_of_loops_are_drawn() -> None:
    program = scaled()
    loop = program.loop("i")
    assert loop is not None
    bound = program.replace("i", replace(loop, kind=LoopKind.THREAD_X))
    assert "for i in 0..n  thread.x" in draw(bound)


def test_a_page_holds_the_programs_beside_one_another() -> None:
    split = Split("i", (None, 32), ("o", "u")).apply(scaled())
    text = page([("before", scaled()), ("after", split)])
    assert text.index("before") < text.index("for i in") < text.index("after")
    assert "where 32*o + u &lt; n" in text
