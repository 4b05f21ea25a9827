"""Calling kernels in place: host memory copied there and back, strided arrays, refusals."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tilewright.runtime.array import view_of
from tilewright.runtime.contract import KernelContract, PointerParam, ScalarParam, SymbolRange
from tilewright.runtime.device import Grid
from tilewright.runtime.errors import ArgumentError
from tilewright.runtime.kernel_call import Tables, by_strides, call_kernel, overlaps
from tilewright.test.runtime.attention_case import artifact_of
from tilewright.test.runtime.fake_device import FakeDevice

Array = npt.NDArray[Any]
CONTRACT = KernelContract(
    "negate",
    "sm_80",
    (
        PointerParam("x", "f32", ("n",)),
        PointerParam("y", "f32", ("(n - 1) * s + 1",), "write"),
        PointerParam("z", "f32", ("(n - 1) * s + 1",), "write"),
        ScalarParam("n", "i32", "n"),
        ScalarParam("s", "i32", "s"),
    ),
    ("n", "1", "1"),
    (1, 1, 1),
    symbols={"n": SymbolRange(0, 2**31 - 1), "s": SymbolRange(1, 2**31 - 1)},
)


def _negate(_contract: KernelContract, _grid: Grid, values: dict[str, Any]) -> None:
    values["y"][:: values["s"]] = -values["x"]
    values["z"][:: values["s"]] = 2 * values["x"]


def call(x: Array, y: Array, z: Array, stride: int) -> FakeDevice:
    device = FakeDevice(_negate)
    arrays = {"x": view_of(x, "x")}
    for name, array in (("y", y), ("z", z)):
        arrays[name], _, _ = by_strides(view_of(array[:, None], name), name)
        if arrays[name].shape != ((len(x) - 1) * stride + 1,):
            arrays[name] = view_of(array, name)
    call_kernel(artifact_of(CONTRACT), arrays, device, symbols={"s": stride})
    return device


def test_results_are_copied_back_to_host_memory() -> None:
    x = np.arange(1.0, 6.0, dtype=np.float32)
    y, z = np.zeros(5, np.float32), np.zeros(5, np.float32)
    call(x, y, z, 1)
    np.testing.assert_array_equal(y, -x)
    np.testing.assert_array_equal(z, 2 * x)


def test_strided_results_that_stand_in_turns_do_not_undo_one_another() -> None:
    x = np.arange(1.0, 6.0, dtype=np.float32)
    memory = np.full((5, 3), 7, np.float32)
    call(x, memory[:, 0], memory[:, 1], 3)
    np.testing.assert_array_equal(memory, np.stack([-x, 2 * x, np.full(5, 7)], axis=1))


def test_nothing_is_launched_without_work() -> None:
    empty = np.zeros(0, np.float32)
    arrays = {name: view_of(empty, name) for name in "xyz"}
    contract = KernelContract(
        "none",
        "sm_80",
        tuple(PointerParam(name, "f32", ("n",), "write") for name in "xyz"),
        ("n", "1", "1"),
        (1, 1, 1),
        symbols={"n": SymbolRange(0, 5)},
    )
    device = FakeDevice(_negate)
    call_kernel(artifact_of(contract), arrays, device)
    assert device.launches == []


def test_a_wrong_shape_is_refused_before_the_launch() -> None:
    x, y = np.zeros(4, np.float32), np.zeros(5, np.float32)
    with pytest.raises(ArgumentError, match="'y': expected shape"):
        call(x, y, y, 1)


def test_tables_are_put_on_a_device_once() -> None:
    device, tables = FakeDevice(_negate), Tables({"t": np.arange(3, dtype=np.int32)})
    first, second = tables.on(device), tables.on(device)
    assert first["t"].address == second["t"].address
    assert device.workspaces == 1


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        (slice(0, 4), slice(4, 8), False),
        (slice(0, 5), slice(4, 8), True),
        (slice(0, 8, 2), slice(1, 8, 2), True),
        (slice(0, 0), slice(0, 8), False),
    ],
)
def test_arrays_whose_stretches_of_memory_meet_may_share_it(
    one: slice, other: slice, shared: bool
) -> None:
    memory = np.zeros(8, np.float32)
    assert overlaps(view_of(memory[one], "a"), view_of(memory[other], "b")) is shared


def test_strides_and_what_divides_them() -> None:
    memory = np.zeros((3, 24, 40), np.float16)
    view, symbols, step = by_strides(view_of(memory[:, ::2, :32], "m"), "m")
    assert symbols == {"m_stride_0": 960, "m_stride_1": 80}
    assert view.shape == (2 * 960 + 11 * 80 + 31 + 1,)
    assert step == 8
    _, _, odd = by_strides(view_of(np.zeros((3, 9), np.float16)[:, :8], "m"), "m")
    assert odd == 1
    assert by_strides(view_of(memory, "m"), "m")[1:] == ({}, 0)


@pytest.mark.parametrize("part", [np.s_[:, ::2], np.s_[::-1, :8]], ids=["last", "negative"])
def test_other_strides_are_refused(part: Any) -> None:
    with pytest.raises(ArgumentError, match="expected strides of whole elements"):
        by_strides(view_of(np.zeros((3, 16), np.float16)[part], "m"), "m")
