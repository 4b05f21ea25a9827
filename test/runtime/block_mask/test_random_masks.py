"""Block masks of 2,000 random masks equal those of brute force."""

import numpy as np
import numpy.typing as npt
import pytest

from tilewright.runtime.block_mask import (
    DEFAULT_BUDGET,
    EMPTY,
    FULL,
    PARTIAL,
    MaskProgram,
    derive,
    evaluate,
)
from tilewright.runtime.block_mask.evaluation import bind
from tilewright.test.runtime.block_mask.grammar import classified, positions, random_case

TURNS, MASKS_A_TURN = 8, 250
Tiles = npt.NDArray[np.int8]


def is_sound(got: Tiles, expected: Tiles) -> bool:
    """Whether all tiles that are called empty or full are so."""
    return bool(((got == PARTIAL) | (got == expected)).all())


@pytest.mark.parametrize(
    "turn",
    [0, *(pytest.param(turn, marks=pytest.mark.full) for turn in range(1, TURNS))],
)
def test_tiles_are_sound_and_exact(turn: int) -> None:
    tiles = inexact = 0
    for number in range(MASKS_A_TURN):
        case = random_case(np.random.default_rng([turn, number]))
        expected = classified(case.dense(), case.grid.block)
        tiles += expected.size
        analysed = derive(case.program, case.grid, case.tensors, 0)
        assert is_sound(analysed.dense(), expected), f"mask {number}: {case.program.text()}"
        wrong = np.count_nonzero(analysed.dense() != expected)
        assert wrong <= analysed.undecided
        inexact += wrong
        searched = derive(case.program, case.grid, case.tensors, DEFAULT_BUDGET)
        np.testing.assert_array_equal(searched.dense(), expected, case.program.text())
    # The analysis alone, without evaluation of any part of a tile.
    assert inexact <= 0.02 * tiles


@pytest.mark.parametrize("turn", range(4))
def test_masks_of_rare_operations_are_sound_and_exact_but_for_what_is_undecided(turn: int) -> None:
    tiles = inexact = 0
    for number in range(60):
        case = random_case(np.random.default_rng([5, turn, number]), 256, with_rare=True)
        expected = classified(case.dense(), case.grid.block)
        for budget in (0, DEFAULT_BUDGET):
            found = derive(case.program, case.grid, case.tensors, budget)
            assert is_sound(found.dense(), expected), f"mask {number}: {case.program.text()}"
            wrong = np.count_nonzero(found.dense() != expected)
            assert wrong <= found.undecided
        tiles += expected.size
        inexact += np.count_nonzero(found.dense() != expected)
    assert inexact <= 0.02 * tiles


def test_kept_tiles_are_counted() -> None:
    for number in range(MASKS_A_TURN):
        case = random_case(np.random.default_rng([4, number]))
        found = derive(case.program, case.grid, case.tensors, DEFAULT_BUDGET)
        assert found.kept_tiles == np.count_nonzero(found.dense())


def test_the_random_masks_have_tiles_of_each_kind() -> None:
    counts = np.zeros(3, np.int64)
    for number in range(100):
        case = random_case(np.random.default_rng([0, number]))
        tiles = classified(case.dense(), case.grid.block)
        counts += np.bincount(tiles.reshape(-1), minlength=3)
    assert counts[[EMPTY, PARTIAL, FULL]].min() > 0.1 * counts.sum()


@pytest.mark.parametrize("turn", range(50))
def test_a_program_evaluates_to_its_function(turn: int) -> None:
    case = random_case(np.random.default_rng([1, turn]), 64)
    grid = case.grid
    at = positions(grid)
    got = evaluate(case.program, bind(case.program, case.tensors), **at)
    np.testing.assert_array_equal(got, case.dense())


@pytest.mark.parametrize("turn", range(20))
def test_a_program_is_the_same_after_json(turn: int) -> None:
    program = random_case(np.random.default_rng([2, turn])).program
    assert MaskProgram.from_json(program.to_json()) == program


@pytest.mark.parametrize("turn", range(20))
def test_witnesses_of_partial_tiles_are_kept_and_masked(turn: int) -> None:
    case = random_case(np.random.default_rng([3, turn]), 256)
    dense, first = case.dense(), int(case.grid.q_first[0])
    found = derive(case.program, case.grid, case.tensors, DEFAULT_BUDGET)
    for row, column in np.argwhere(found.dense() == PARTIAL)[:10].tolist():
        witness = found.witness(row, column)
        assert witness.settled
        assert witness.kept is not None
        assert witness.masked is not None
        assert dense[witness.kept.q_idx - first, witness.kept.kv_idx]
        q_row, kv_idx = witness.masked.q_idx - first, witness.masked.kv_idx
        outside = q_row >= dense.shape[0] or kv_idx >= dense.shape[1]
        assert outside or not dense[q_row, kv_idx]
