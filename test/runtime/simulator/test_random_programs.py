"""Random structured programs: the simulator against one Python evaluation a lane."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, TypeAlias

import numpy as np
import pytest

MASK = 0xFFFFFFFF
REGISTERS = 5


@dataclass
class Assign:
    """`d = x op y`, for the lanes where register `guard` is odd if there is one."""

    op: str
    d: int
    x: int
    y: int
    guard: int | None


@dataclass
class Branch:
    """Two alternatives by `x < y`."""

    x: int
    y: int
    then: "list[Statement]"
    other: "list[Statement]"


@dataclass
class Loop:
    """A body that runs `x mod 4` times, or fewer: it is left when `y mod 8` is 5."""

    x: int
    y: int
    body: "list[Statement]"


@dataclass
class Leave:
    """Ends the lanes where `x mod 16` is 3."""

    x: int


Statement: TypeAlias = Assign | Branch | Loop | Leave
OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "add.u32": lambda a, b: a + b,
    "sub.u32": lambda a, b: a - b,
    "xor.b32": lambda a, b: a ^ b,
    "mul.lo.u32": lambda a, b: a * b,
    "min.u32": min,
    "mov.b32": lambda a, b: a,
}


def program(random: Random, depth: int) -> list[Statement]:
    """Returns some statements."""

    def register() -> int:
        return random.randrange(REGISTERS)

    out: list[Statement] = []
    for _ in range(random.randint(2, 5)):
        kind = random.random()
        if depth and kind < 0.25:
            then, other = program(random, depth - 1), program(random, depth - 1)
            out.append(Branch(register(), register(), then, other if kind < 0.15 else []))
        elif depth and kind < 0.4:
            out.append(Loop(register(), register(), program(random, depth - 1)))
        elif kind < 0.45:
            out.append(Leave(register()))
        else:
            guard = register() if random.random() < 0.3 else None
            op = random.choice(list(OPERATIONS))
            out.append(Assign(op, register(), register(), register(), guard))
    return out


class Left(Exception):
    """Says that a lane has ended."""


def evaluate(statements: list[Statement], r: list[int]) -> None:
    """Runs statements for one lane."""
    for item in statements:
        match item:
            case Assign(op, d, x, y, guard):
                if guard is None or r[guard] & 1:
                    r[d] = OPERATIONS[op](r[x], r[y]) & MASK
            case Branch(x, y, then, other):
                evaluate(then if r[x] < r[y] else other, r)
            case Loop(x, y, body):
                for _ in range(r[x] & 3):
                    if r[y] & 7 == 5:
                        break
                    evaluate(body, r)
            case Leave(x):
                if r[x] & 15 == 3:
                    raise Left


class Printer:
    """Prints statements as PTX with labels of its own."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.labels = 0

    def label(self) -> str:
        """Returns a new label."""
        self.labels += 1
        return f"L{self.labels}"

    def print(self, statements: list[Statement]) -> None:
        """Prints some statements."""
        for item in statements:
            match item:
                case Assign(op, d, x, y, guard):
                    self.assign(op, d, x, y, guard)
                case Branch(x, y, then, other):
                    high, end = self.label(), self.label()
                    self.lines.append(f"setp.ge.u32 %p1, %r{x}, %r{y}; @%p1 bra {high};")
                    self.print(then)
                    self.lines.append(f"bra {end}; {high}:")
                    self.print(other)
                    self.lines.append(f"{end}:")
                case Loop(x, y, body):
                    self.loop(x, y, body)
                case Leave(x):
                    self.lines.append(f"and.b32 %r20, %r{x}, 15; setp.eq.u32 %p1, %r20, 3;")
                    self.lines.append("@%p1 ret;")

    def assign(self, op: str, d: int, x: int, y: int, guard: int | None) -> None:
        """Prints an assignment."""
        prefix = ""
        if guard is not None:
            self.lines.append(f"and.b32 %r20, %r{guard}, 1; setp.ne.u32 %p1, %r20, 0;")
            prefix = "@%p1 "
        second = "" if op == "mov.b32" else f", %r{y}"
        self.lines.append(f"{prefix}{op} %r{d}, %r{x}{second};")

    def loop(self, x: int, y: int, body: list[Statement]) -> None:
        """Prints a loop whose count is a register of its own."""
        top, end = self.label(), self.label()
        count = f"count{self.labels}"
        self.lines.append(f".reg .u32 {count}; and.b32 {count}, %r{x}, 3; {top}:")
        self.lines.append(f"setp.eq.u32 %p1, {count}, 0; @%p1 bra {end};")
        self.lines.append(f"and.b32 %r20, %r{y}, 7; setp.eq.u32 %p1, %r20, 5; @%p1 bra {end};")
        self.print(body)
        self.lines.append(f"sub.u32 {count}, {count}, 1; bra {top}; {end}:")


@pytest.mark.parametrize("seed", range(25))
def test_a_random_program_does_what_each_lane_does_alone(seed: int, lanes: Any) -> None:
    statements = program(Random(seed), 3)
    generator = np.random.default_rng(seed)
    inputs = [generator.integers(0, 64, 200, dtype="u4") for _ in range(REGISTERS - 1)]
    inputs.append(np.full(200, seed, "u4"))
    printer = Printer()
    printer.print(statements)
    moves = "".join(f"mov.u32 %r{i}, a{i};" for i in range(REGISTERS - 1))
    total = "".join(f"mad.lo.u32 o0, o0, 31, %r{i};" for i in range(REGISTERS))
    body = f"{moves} mov.u32 %r4, {seed}; {' '.join(printer.lines)} mov.u32 o0, 7; {total}"
    got = lanes(body, *inputs[:-1])
    for lane, g in enumerate(got.tolist()):
        registers = [int(column[lane]) for column in inputs]
        want = 7
        try:
            evaluate(statements, registers)
            for value in registers:
                want = (want * 31 + value) & MASK
        except Left:
            want = 0
        assert g == want, lane
