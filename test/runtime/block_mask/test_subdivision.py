"""Halving squares of the grid finds the tiles that closed forms and single tiles find."""

import numpy as np
import pytest

from tilewright.runtime.block_mask import DEFAULT_BUDGET, derive, rows, settlement, subdivision
from tilewright.test.runtime.block_mask.grammar import classified, random_case
from tilewright.test.runtime.block_mask.test_block_mask import windows_of_requests


@pytest.fixture(autouse=True)
def _few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    """Begins with few squares instead of rows, and evaluates few at once."""
    monkeypatch.setattr(rows, "MOST_ROWS", -1)
    monkeypatch.setattr(subdivision, "FIRST", 3)
    monkeypatch.setattr(subdivision, "AT_ONCE", 7)
    monkeypatch.setattr(settlement, "AT_ONCE", 50)


@pytest.mark.parametrize("turn", range(4))
def test_tiles_of_random_masks_are_those_of_brute_force(turn: int) -> None:
    for number in range(25):
        case = random_case(np.random.default_rng([6, turn, number]), 256)
        expected = classified(case.dense(), case.grid.block)
        found = derive(case.program, case.grid, case.tensors, DEFAULT_BUDGET)
        np.testing.assert_array_equal(found.dense(), expected, case.program.text())


@pytest.mark.parametrize("part", range(6))
def test_tiles_of_several_requests_and_heads(part: int) -> None:
    mask, grid, window = windows_of_requests()
    found = derive(mask, grid, {"window": window}, 0)
    q_len, kv_len = int(grid.q_len[part]), int(grid.kv_len[part])
    distance = (kv_len - q_len + np.arange(q_len))[:, None] - np.arange(kv_len)
    dense = (distance >= 0) & (distance < window[part // 2, part % 2])
    np.testing.assert_array_equal(found.dense(part), classified(dense, (64, 64)))


def test_rows_that_are_left_over_are_subdivided(monkeypatch: pytest.MonkeyPatch) -> None:
    """With rows allowed but no tiles, nothing of the rows is kept twice."""
    monkeypatch.setattr(rows, "MOST_ROWS", 1 << 18)
    monkeypatch.setattr(rows, "MOST_TILES", -1)
    for number in range(50):
        case = random_case(np.random.default_rng([7, number]), 256)
        found = derive(case.program, case.grid, case.tensors, DEFAULT_BUDGET)
        assert found.kept_tiles == np.count_nonzero(classified(case.dense(), case.grid.block))
