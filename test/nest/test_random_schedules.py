"""Schedules drawn at random never change what a program computes."""

from collections.abc import Callable
from functools import cache
from random import Random

import numpy as np
import pytest

from tilewright.dialects.nest.intrinsics import DESCRIPTIONS
from tilewright.dialects.nest.program import Buffer, Program
from tilewright.dialects.nest.verifier import verify_program
from tilewright.nest.arguments import random_array
from tilewright.nest.interpreter import interpret
from tilewright.nest.schedule import apply
from tilewright.nest.workloads import FAMILIES, symbolic_workload
from tilewright.test.nest.random_schedules import (
    RandomSchedule,
    blocks_of,
    random_schedule,
    reversed_concurrent,
)
from tilewright.test.nest.random_storage_steps import PROPOSERS
from tilewright.test.nest.small_programs import PROGRAMS as SMALL_PROGRAMS
from tilewright.test.nest.test_workloads import STATIC
from tilewright.test.spread import spread
from tilewright.test.transforms.schedule.loop_programs import (
    backwards,
    mirrored,
    not_an_update,
    rescaled,
    stencil,
)
from tilewright.transforms.auto_tensorize import propose
from tilewright.transforms.schedule.registry import PRIMITIVES

# In these an order that is changed, or an init that comes late, changes the result.
PROGRAMS = (*SMALL_PROGRAMS, stencil, not_an_update, rescaled, backwards, mirrored)
# 17 programs and 46 workloads: 3,010 sequences.
SEQUENCES = 150
WORKLOAD_SEQUENCES = 10
# Blocks that visit points in no order of digits: the verifier does not accept them as they are.
UNVERIFIED = ("triangle", "backwards")


class Expected:
    """A program's random arguments, and what it makes of them."""

    def __init__(self, program: Program, seed: int) -> None:
        source = Random(seed)
        self.program = program
        self.symbols = {name: _value(program, name, source) for name in program.ranges}
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
        """Returns the outputs of a program on copies of the arguments, floats in f64."""
        arrays = {name: array.copy() for name, array in self.arrays.items()}
        results = interpret(
            program, arrays, symbols=self.symbols, is_exact=True, descriptions=DESCRIPTIONS
        )
        return {name: results[name] for name in program.outputs}

    def draw(self, number: int) -> RandomSchedule:
        """Returns a schedule of up to 12 steps; the verifier accepts the program after each."""
        is_verified = self.program.name not in UNVERIFIED
        check = verify_program if is_verified else no_check
        return random_schedule(self.program, Random(number), 1 + number % 12, (), check)

    def check(self, program: Program) -> None:
        """Asserts that a program computes the same: floats within rounding, others exactly."""
        for name, got in self.run(program).items():
            expected = self.results[name]
            if expected.dtype.kind == "f":
                np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)
            else:
                np.testing.assert_array_equal(got, expected)


def no_check(program: Program) -> None:
    """Accepts a program."""


def _value(program: Program, name: str, source: Random) -> int:
    entry = program.ranges[name]
    least = 1 if entry.lower is None else entry.lower.constant_value or 1
    value = max(least, source.choice((3, 5, 7)))
    return -(-value // entry.multiple) * entry.multiple


@cache
def expected(build: Callable[[], Program], seed: int) -> Expected:
    return Expected(build(), seed)


@pytest.mark.parametrize("part", spread(range(3), 1))
@pytest.mark.parametrize("build", PROGRAMS, ids=lambda build: build.__name__)
def test_results_stay_the_same(build: Callable[[], Program], part: int) -> None:
    for number in range(part, SEQUENCES, 3):
        case = expected(build, number % 2)
        schedule = case.draw(number)
        # Iterations that may run at the same time run backwards: their order must not matter.
        case.check(reversed_concurrent(schedule.program))


# All families, each in one form.
FORMS = [
    pytest.param(family, form, marks=() if (number + turn) % 2 else pytest.mark.full)
    for number, family in enumerate(FAMILIES)
    for turn, form in enumerate(("static", "symbolic"))
]


@pytest.mark.parametrize(("family", "form"), FORMS)
def test_results_of_workloads_stay_the_same(family: str, form: str) -> None:
    if form == "static":
        workload = FAMILIES[family](*STATIC[family])
    else:
        workload = symbolic_workload(family)
    case = Expected(workload.program, 4)
    for number in range(WORKLOAD_SEQUENCES):
        case.check(reversed_concurrent(case.draw(number).program))


@pytest.mark.parametrize("build", PROGRAMS, ids=lambda build: build.__name__)
def test_steps_replay_by_themselves(build: Callable[[], Program]) -> None:
    program = build()
    for seed in range(5):
        schedule = random_schedule(program, Random(seed), 8)
        assert apply(program, schedule.steps) == schedule.program


@pytest.mark.parametrize("name", PROPOSERS)
def test_each_primitive_is_accepted_somewhere(name: str) -> None:
    accepted = False
    for seed in range(300):
        program = PROGRAMS[seed % len(PROGRAMS)]()
        schedule = random_schedule(program, Random(seed), 1 + seed % 6)
        found = random_schedule(schedule.program, Random(seed), 2, [name])
        if accepted := bool(found.steps):
            break
    assert accepted


def test_each_primitive_is_drawn() -> None:
    assert PRIMITIVES.keys() == PROPOSERS.keys()


@pytest.mark.parametrize("family", ["C1D", "C2D", "GMM"])
def test_products_on_tensor_cores_stay_the_same(family: str) -> None:
    """Random steps behind those that bring a block to tensor cores."""
    case = Expected(symbolic_workload(family, dtype="f16").program, 4)
    (block,) = (b.name for b in blocks_of(case.program) if b.init)
    proposals = propose(case.program, block, "mma.m16n8k16.f16.f32")
    for number, proposal in enumerate((proposals * 6)[:6]):
        program = apply(case.program, proposal.steps)
        case.check(random_schedule(program, Random(number), 6, (), verify_program).program)
