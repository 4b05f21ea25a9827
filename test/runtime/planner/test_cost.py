"""Cost models, fitted to measured items."""

import numpy as np
import pytest

from tilewright.runtime.errors import ArgumentError
from tilewright.runtime.planner import CostModel, fit_cost_model


def test_a_fit_finds_the_line_of_each_height() -> None:
    rng = np.random.default_rng(0)
    rows, tiles = np.repeat([16, 128], 50), rng.integers(1, 100, 100)
    time = np.where(rows == 16, 3.0 + 0.5 * tiles, 7.0 + 2.0 * tiles)
    model = fit_cost_model(rows, tiles, time + rng.normal(0, 1e-3, 100))
    assert model.tile_rows == (16, 128)
    np.testing.assert_allclose(model.item, [3, 7], rtol=1e-2)
    np.testing.assert_allclose(model.kv_tile, [0.5, 2], rtol=1e-3)


def test_a_fit_has_no_negative_constant() -> None:
    model = fit_cost_model([16, 16], [1, 2], [0.5, 2.0])
    # Through the origin: (1 * 0.5 + 2 * 2.0) / (1 + 4).
    assert model.item == (0.0,)
    assert model.kv_tile == pytest.approx((0.9,))


@pytest.mark.parametrize(
    ("rows", "tiles", "time", "message"),
    [
        ([16, 16], [3, 3], [1, 2], "two different counts"),
        ([16, 16], [1, 2], [2, 1], "grow"),
        ([16], [1, 2], [1, 2], "samples"),
        ([], [], [], "samples"),
    ],
)
def test_samples_that_tell_nothing_are_refused(
    rows: list[int], tiles: list[int], time: list[int], message: str
) -> None:
    with pytest.raises(ArgumentError, match=message):
        fit_cost_model(rows, tiles, time)


def test_costs_of_a_height_without_any_are_refused() -> None:
    with pytest.raises(ArgumentError, match="24 rows"):
        CostModel().costs((16, 24))


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"item": (1.0,)}, "4 numbers"),
        ({"kv_tile": (1.0, 0.0, 1.0, 1.0)}, "positive"),
        ({"merge": -1.0}, "at least 0"),
    ],
)
def test_models_that_make_no_sense_are_refused(numbers: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        CostModel(**numbers)  # pyright: ignore[reportArgumentType]
