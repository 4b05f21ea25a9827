"""Launching by contract: binding of symbols, order of arguments, grids."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tilewright.runtime.contract import (
    KernelContract,
    Param,
    PointerParam,
    ScalarParam,
    SymbolRange,
)
from tilewright.runtime.device import Grid
from tilewright.runtime.errors import ArgumentError
from tilewright.runtime.launch import run_kernel
from tilewright.test.runtime.attention_case import artifact_of
from tilewright.test.runtime.fake_device import FakeDevice


def _contract(
    *params: Param, grid: tuple[str, str, str] = ("(n + 15) floordiv 16", "1", "1")
) -> KernelContract:
    return KernelContract(
        "axpy", "sm_80", params, grid, (16, 1, 1), symbols={"n": SymbolRange(0, 2**40)}
    )


AXPY = _contract(
    ScalarParam("n", "i32", "n"),
    PointerParam("x", "f32", ("n",)),
    PointerParam("y", "f32", ("n + 1",), "write"),
    ScalarParam("a", "f32"),
)


def _axpy(_contract: KernelContract, grid: Grid, values: dict[str, Any]) -> None:
    """Writes only what the CTAs of the grid reach, as a kernel would."""
    n = min(values["n"], grid[0] * 16)
    values["y"][: n + 1] = 1
    values["y"][:n] += values["a"] * values["x"][:n]


def test_a_kernel_runs_from_arrays_and_scalars_by_name() -> None:
    x = np.arange(37, dtype=np.float32)
    device = FakeDevice(_axpy)
    args = {"x": x, "y": np.zeros(38, np.float32), "a": 3}
    y = run_kernel(device, artifact_of(AXPY), args)["y"].numpy()
    np.testing.assert_array_equal(y, np.append(1 + 3 * x, np.float32(1)))
    assert device.launches == [(3, 1, 1)]


def test_an_empty_grid_is_not_launched() -> None:
    device = FakeDevice(_axpy)
    args = {"x": np.zeros(0, np.float32), "y": np.zeros(1, np.float32), "a": 1.0}
    run_kernel(device, artifact_of(AXPY), args)
    assert device.launches == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": np.zeros(5, np.float32)}, "'y': expected shape (5,) = (n + 1,), got (5,)"),
        ({"z": 1}, "'z': expected one of n, x, y, a, got an unknown name"),
        ({"a": None}, "'a': expected a value of type f32, got nothing"),
        ({"a": True}, "'a': expected a number of type f32, got True"),
        ({"a": 1e39}, "'a': expected a number of type f32, got 1e+39"),
        ({"x": 1.0}, "'x': expected an array (NumPy, DLPack or __cuda_array_interface__)"),
    ],
)
def test_a_wrong_argument_is_named(change: dict[str, object], message: str) -> None:
    device = FakeDevice(_axpy)
    args: dict[str, object] = {"x": np.zeros(4, np.float32), "y": np.zeros(5, np.float32), "a": 1.0}
    args |= change
    if "y" in change:
        args["x"] = np.zeros(5, np.float32)
        message = message.replace("shape (5,)", "shape (6,)", 1)
    with pytest.raises(ArgumentError) as caught:
        run_kernel(device, artifact_of(AXPY), args)
    assert str(caught.value).startswith(f"argument {message}")
    assert device.launches == []


def test_a_symbol_outside_its_range_is_refused() -> None:
    contract = replace(AXPY, symbols={"n": SymbolRange(1, 16)})
    args = {"x": np.zeros(17, np.float32), "y": np.zeros(18, np.float32), "a": 1.0}
    with pytest.raises(ArgumentError, match=r"'n': expected a value in \[1, 16\], got 17"):
        run_kernel(FakeDevice(_axpy), artifact_of(contract), args)


def test_a_missing_argument_is_named() -> None:
    with pytest.raises(ArgumentError, match="'y': expected a value, got nothing"):
        run_kernel(FakeDevice(_axpy), artifact_of(AXPY), {"x": np.zeros(1, np.float32), "a": 1})


@pytest.mark.parametrize(
    ("dtype", "value"),
    [("i32", 2**31), ("i32", -(2**31) - 1), ("i64", 2**63), ("i32", 1.0), ("i32", False)],
)
def test_an_integer_that_does_not_fit_is_refused(dtype: str, value: object) -> None:
    contract = _contract(ScalarParam("n", dtype, "n"))
    with pytest.raises(ArgumentError, match=f"'n': expected an integer of type {dtype}, got"):
        run_kernel(FakeDevice(_axpy), artifact_of(contract), {"n": value})


def test_a_symbol_that_no_shape_binds_comes_from_its_scalar() -> None:
    seen: list[Any] = []
    device = FakeDevice(lambda _contract, _grid, values: seen.append(values["n"]))
    contract = _contract(ScalarParam("n", "i64", "n"))
    run_kernel(device, artifact_of(contract), {"n": np.int64(33)})
    assert (seen, device.launches) == ([33], [(3, 1, 1)])


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (("n", "1", "1"), f"'grid.x': expected 0 to {2**31 - 1} CTAs, got {2**31}"),
        (("1", "n", "1"), f"'grid.y': expected 0 to 65535 CTAs, got {2**31}"),
        (("1", "1", "0 - n"), f"'grid.z': expected 0 to 65535 CTAs, got {-(2**31)}"),
    ],
)
def test_a_grid_that_no_gpu_takes_is_refused(grid: tuple[str, str, str], message: str) -> None:
    contract = _contract(ScalarParam("n", "i64", "n"), grid=grid)
    with pytest.raises(ArgumentError) as caught:
        run_kernel(FakeDevice(_axpy), artifact_of(contract), {"n": 2**31})
    assert str(caught.value) == f"argument {message}"
