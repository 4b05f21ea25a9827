"""Schedules are text: what is printed is read back, and mistakes are named at their place."""

from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import ClassVar

import pytest

from tilewright.dialects.diagnostic import DiagnosticError, source_position
from tilewright.dialects.nest.program import LoopKind, Program, Scope
from tilewright.dialects.sym import Expression, constant, symbol
from tilewright.transforms.schedule import notation
from tilewright.transforms.schedule.notation import (
    PRIMITIVES,
    parse_schedule,
    parse_steps,
    print_schedule,
)
from tilewright.transforms.schedule.primitive import Primitive
from tilewright.transforms.schedule.split import Split

M = symbol("m")


@dataclass(frozen=True)
class Layout:
    """A record inside a primitive."""

    axes: tuple[str, ...]
    places: tuple[Expression, ...]


@dataclass(frozen=True)
class Everything(Primitive):
    """A primitive with a field of each type."""

    name: ClassVar[str] = "everything"

    text: str
    layout: Layout
    kind: LoopKind = LoopKind.SERIAL
    scope: Scope | None = None
    number: float = 0.0
    flag: bool = False
    pair: tuple[int, str] = (0, "")
    size: Expression = constant(1)
    either: int | str | tuple[int, ...] = 0
    notes: dict[str, int] = field(default_factory=dict[str, int])

    def apply(self, program: Program) -> Program:
        return program


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(notation, "PRIMITIVES", {**PRIMITIVES, "everything": Everything})


SCHEDULES = [
    Split("i", (None, 32)),
    Split("i", (4, None, 16 * M + 1), ("a", "b", "c"), exact=True),
    Everything("", Layout((), ())),
    Everything('say "a\\b"\n\t#', Layout(("i", "j"), (M // 4, constant(3)))),
    Everything("t", Layout(("i",), (M,)), LoopKind.BLOCK_X, Scope.SHARED, -2.5e-8, True),
    Everything("t", Layout((), ()), pair=(-3, "x"), size=constant(7), either=(1, -2)),
    Everything("t", Layout((), ()), either="5", notes={"a": 1, "b c": -2}),
]


@pytest.mark.parametrize("step", SCHEDULES, ids=range(len(SCHEDULES)))
def test_printed_primitive_is_read_back(step: Primitive):
    (found,) = parse_schedule(print_schedule([step]))
    assert found == step
    assert repr(found) == repr(step)


def test_schedule_is_read_line_by_line():
    text = '# Tiles.\n\n  split("i", [none, 8])  # of 8\nsplit(loop="j", factors=[2, none])\n'
    assert parse_schedule(text) == (Split("i", (None, 8)), Split("j", (2, None)))
    assert [step.location.line.data for step in parse_steps(text)] == [3, 4]


def test_constant_is_an_expression_where_one_is_wanted():
    (found,) = parse_schedule('everything("t", Layout([], [3]))')
    assert isinstance(found, Everything)
    assert isinstance(found.layout.places[0], Expression)


def test_field_at_its_default_is_not_printed():
    assert print_schedule([Split("i", (None, 2))]) == 'split(loop="i", factors=[none, 2])\n'


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("splt()", 1, "expected a primitive among"),
        ("3", 1, "expected the name of a primitive, got '3'"),
        ("split", 6, "expected '(', got the end of the line"),
        ('split("i")', 1, "expected a value for 'factors' of split, got none"),
        ('split("i", 3)', 12, "expected a list of (an expression or an integer or none)"),
        ('split("i", [2], loops=1)', 17, "expected a field of split among loop, factors"),
        ('split("i", loop="j")', 12, "expected one value of 'loop', got two"),
        ('split("i", [1 2])', 15, "expected ',', got '2'"),
        ('split("i", [1 + ])', 17, "expected an integer, a symbol or '('"),
        ('split("i', 7, "expected the string to end in this line"),
        ('split("i", [2, none]) x', 23, "expected the end of the line, got 'x'"),
        ('split("i", [2, none], [], true, 4)', 33, "expected at most 4 values, got more"),
        ('split("i", [2, none], exact=1)', 29, "expected true or false as 'exact', got 1"),
        ('everything("t", Layout([], []), "warp")', 33, 'expected one of "serial"'),
        ('everything("t", Layout([3], []))', 24, "expected a list of (a string) as 'axes'"),
        ('everything("t", Layout([], []), notes={1: 2})', 40, "expected a string, got '1'"),
    ],
)
def test_mistake_is_named_at_its_place(text: str, column: int, message: str):
    with pytest.raises(DiagnosticError) as caught:
        parse_schedule(f"\n{text}", "tiles.schedule")
    place = source_position(caught.value.location)
    assert place is not None
    assert (place.filename.data, place.line.data) == ("tiles.schedule", 2)
    assert str(caught.value).startswith(message), str(caught.value)
    assert place.column.data == column


def test_every_primitive_of_the_folder_can_be_named():
    folder = Path(notation.__file__).parent
    for path in folder.glob("*.py"):
        import_module(f"tilewright.transforms.schedule.{path.stem}")
    pending, found = [Primitive], set[type[Primitive]]()
    while pending:
        pending.extend(children := pending.pop().__subclasses__())
        found.update(kind for kind in children if kind.__dict__.get("name"))
    ours = {kind for kind in found if kind.__module__.startswith("tilewright.transforms.")}
    assert ours == set(PRIMITIVES.values())
    assert all(name.isidentifier() for name in PRIMITIVES)
