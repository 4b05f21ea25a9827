"""Schedules drawn at random never change what a program computes."""

from collections.abc import Callable
from functools import cache
from random import Random

import numpy as np
import pytest

from tilewright.dialects.nest.program import Buffer, Program
from tilewright.nest.arguments import random_array
from tilewright.nest.interpreter import interpret
from tilewright.nest.schedule import apply
from tilewright.test.nest.random_schedules import (
    PROPOSERS,
    random_schedule,
    reversed_concurrent,
)
from tilewright.test.nest.small_programs import PROGRAMS

SEQUENCES = 273  # for each program: 3,003 in total
PARTS = 3


class Expected:
    """A program's random arguments, and what it makes of them."""

    def __init__(self, program: Program, seed: int) -> None:
        source = Random(seed)
        self.program = program
        self.symbols = {name: source.choice((3, 5, 7)) for name in program.ranges}
        generator = np.random.default_rng(seed)
        self.arrays = {
            p.name: random_array(
                generator, tuple(e.evaluate(self.symbols) for e in p.shape), p.dtype
            )
            for p in program.parameters
            if isinstance(p, Buffer)
        }
        self.results = self.run(program)

    def run(self, program: Program) -> dict[str, np.ndarray]:
        """Returns the outputs of a program on copies of the arguments."""
        arrays = {name: array.copy() for name, array in self.arrays.items()}
        interpret(program, arrays, symbols=self.symbols)
        return {name: arrays[name] for name in program.outputs}

    def check(self, program: Program) -> None:
        """Asserts that a program computes the same: floats within rounding, others exactly."""
        for name, got in self.run(program).items():
            expected = self.results[name]
            if expected.dtype.kind == "f":
                np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
            else:
                np.testing.assert_array_equal(got, expected)


@cache
def expected(build: Callable[[], Program], seed: int) -> Expected:
    return Expected(build(), seed)


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("build", PROGRAMS, ids=lambda build: build.__name__)
def test_results_stay_the_same(build: Callable[[], Program], part: int) -> None:
    for number in range(part, SEQUENCES, PARTS):
        case = expected(build, number % 2)
        schedule = random_schedule(case.program, Random(number), 1 + number % 12)
        # Iterations that may run at the same time run backwards: their order must not matter.
        case.check(reversed_concurrent(schedule.program))


@pytest.mark.parametrize("build", PROGRAMS, ids=lambda build: build.__name__)
def test_steps_replay_by_themselves(build: Callable[[], Program]) -> None:
    program = build()
    for seed in range(5):
        schedule = random_schedule(program, Random(seed), 8)
        assert apply(program, schedule.steps) == schedule.program


@pytest.mark.parametrize("name", PROPOSERS)
def test_each_primitive_is_accepted_somewhere(name: str) -> None:
    accepted = 0
    for seed in range(60):
        program = PROGRAMS[seed % len(PROGRAMS)]()
        schedule = random_schedule(program, Random(seed), 6)
        found = random_schedule(schedule.program, Random(seed), 2, [name])
        accepted += len(found.steps)
    assert accepted
