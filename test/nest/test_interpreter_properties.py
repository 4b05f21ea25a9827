"""Whole arrays at once are the same as one point after the other, whatever the dependences."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.dialects.nest.program import Program
from tilewright.nest.interpreter import interpret
from tilewright.test.nest.drawn_nests import SHAPES, programs
from tilewright.test.nest.naive import interpret as interpret_naively


@settings(max_examples=60, deadline=None)
@given(programs(), st.integers(0, 2**32 - 1))
def test_integers_are_the_same_bit_for_bit(program: Program, seed: int) -> None:
    generator = np.random.default_rng(seed)
    given_arrays = {
        name: generator.integers(-100, 100, shape).astype(np.int32)
        for name, shape in SHAPES.items()
    }
    first = {name: array.copy() for name, array in given_arrays.items()}
    second = {name: array.copy() for name, array in given_arrays.items()}
    interpret(program, first)
    interpret_naively(program, second)
    for name in SHAPES:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
