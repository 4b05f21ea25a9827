"""Devices, buffers, modules and launches: what they hold and what they refuse."""

import gc
from typing import Any

import numpy as np
import pytest

from tilewright.runtime import simulator

TEXT = """.version 8.0
.target sm_80
.address_size 64
.visible .entry first(.param .u64 p, .param .u32 n, .param .f32 a, .param .s32 s)
.maxntid 64, 1, 1
{ ret; }
.visible .entry second(.param .align 8 .b8 s[24]) .reqntid 32, 2, 1 { ret; }
"""


def test_buffers_hold_what_they_were_given() -> None:
    device = simulator.Device()
    values = np.arange(12, dtype="f4").reshape(3, 4)
    buffer = device.array(values, name="x")
    values[0, 0] = 99
    assert buffer.shape == (3, 4)
    assert buffer.dtype == "f32"
    assert buffer.nbytes == 48
    assert buffer.address % 256 == 0
    assert (buffer.numpy() == np.arange(12).reshape(3, 4)).all()


def test_a_view_shares_its_memory() -> None:
    device = simulator.Device()
    values = np.zeros(8, "u2")
    buffer = device.view(values, "bf16")
    buffer.numpy()[3] = 7
    assert values.tolist() == [0, 0, 0, 7, 0, 0, 0, 0]
    assert buffer.dtype == "bf16"


@pytest.mark.parametrize("values", [np.zeros((4, 4), "f4").T, np.zeros(4, "M8[s]")])
def test_a_view_of_something_else_is_refused(values: Any) -> None:
    with pytest.raises(ValueError, match="contiguous"):
        simulator.Device().view(values)


def test_empty_takes_names_of_types() -> None:
    buffer = simulator.Device().empty((2, 5), "bf16")
    assert buffer.numpy().dtype == np.uint16
    assert not buffer.numpy().any()
    with pytest.raises(ValueError, match="unknown dtype 'f8'; there are f16"):
        simulator.Device().empty(3, "f8")


def test_an_array_keeps_its_buffer_alive() -> None:
    device = simulator.Device()
    array = device.array(np.arange(5)).numpy()
    gc.collect()
    assert array.tolist() == [0, 1, 2, 3, 4]


def test_a_freed_buffer_gives_no_array() -> None:
    buffer = simulator.Device().array(np.zeros(3), name="gone")
    buffer.free()
    with pytest.raises(ValueError, match="gone was freed"):
        buffer.numpy()


def test_buffers_lie_apart() -> None:
    device = simulator.Device()
    first, second = device.empty((1,), "u8"), device.empty((1,), "u8")
    assert second.address - (first.address + 1) >= 256


def test_an_unknown_kernel_lists_the_entries() -> None:
    module = simulator.Device().load(TEXT)
    assert list(module) == ["first", "second"]
    with pytest.raises(KeyError, match="no entry 'third'; the entries are first, second"):
        module["third"]


def test_an_unknown_check_lists_the_checks() -> None:
    with pytest.raises(ValueError, match=r"unknown checks \['speed'\]; there are alignment"):
        simulator.Device({"speed"})


def test_checks_can_be_picked_by_name() -> None:
    assert "uninitialised" in simulator.Device({"uninitialised"}).checks
    assert "uninitialised" not in simulator.Device({"bounds"}).checks
    assert simulator.Device("all").checks > simulator.Device("default").checks


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((1, 2), "first takes 4 arguments, got 2"),
        ((1.5, 2, 3.0, 4), "argument 0: a .u64 parameter can't take 1.5"),
        ((0, -1, 3.0, 4), "argument 1: -1 doesn't fit a .u32 parameter"),
        ((0, 1 << 32, 3.0, 4), "argument 1: 4294967296 doesn't fit"),
        ((0, "x", 3.0, 4), "argument 1: a .u32 parameter takes an integer or a buffer"),
        ((0, 1, "x", 4), "argument 2: a .f32 parameter can't take 'x'"),
        ((0, 1, 3.0, 1 << 31), "argument 3: 2147483648 doesn't fit a .s32 parameter"),
        ((0, 1, 3.0, np.zeros(2)), "argument 3: a .s32 parameter takes an integer"),
    ],
)
def test_arguments_must_fit_the_parameters(args: tuple[Any, ...], message: str) -> None:
    kernel = simulator.Device().load(TEXT)["first"]
    with pytest.raises(simulator.LaunchError) as raised:
        kernel.launch(1, 32, args)
    assert message in str(raised.value)


def test_a_buffer_is_no_32_bit_argument() -> None:
    device = simulator.Device()
    buffer = device.empty((4,), "f32")
    with pytest.raises(simulator.LaunchError, match="a .u32 parameter can't take a buffer"):
        device.load(TEXT)["first"].launch(1, 32, [buffer, buffer, 1.0, 0])


def test_a_buffer_of_another_device_is_refused() -> None:
    buffer = simulator.Device().empty((4,), "f32")
    with pytest.raises(simulator.LaunchError, match="another device"):
        simulator.Device().load(TEXT)["first"].launch(1, 32, [buffer, 1, 1.0, 0])


def test_a_structure_takes_its_bytes() -> None:
    kernel = simulator.Device().load(TEXT)["second"]
    kernel.launch(1, (32, 2), [bytes(24)])
    with pytest.raises(simulator.LaunchError, match="takes 24 bytes, got 8"):
        kernel.launch(1, (32, 2), [bytes(8)])


@pytest.mark.parametrize(
    ("grid", "block", "shared", "message"),
    [
        (0, 32, 0, "grid (0, 1, 1) is outside"),
        ((1, 1, 1, 1), 32, 0, "grid has 4 extents"),
        ((1, 65536), 32, 0, "grid (1, 65536, 1) is outside"),
        (1, 2048, 0, "block (2048, 1, 1) is outside"),
        (1, 128, 0, "block (128, 1, 1) exceeds .maxntid (64, 1, 1)"),
        (1, 32, 1 << 20, "bytes of shared memory"),
        (1, 32, -1, "shared_bytes is -1"),
    ],
)
def test_extents_must_fit(grid: Any, block: Any, shared: int, message: str) -> None:
    kernel = simulator.Device().load(TEXT)["first"]
    with pytest.raises(simulator.LaunchError) as raised:
        kernel.launch(grid, block, [0, 1, 1.0, 0], shared_bytes=shared)
    assert message in str(raised.value)


def test_reqntid_must_be_met() -> None:
    with pytest.raises(simulator.LaunchError, match="is not .reqntid"):
        simulator.Device().load(TEXT)["second"].launch(1, 64, [bytes(24)])


def test_a_text_seen_before_is_not_compiled_again() -> None:
    first, second = (simulator.Device().load(TEXT)["first"] for _ in range(2))
    assert first.program is second.program


def test_programs_on_two_devices_keep_their_variables_apart() -> None:
    text = """.version 8.0
.target sm_80
.address_size 64
.global .u32 counter = 5;
.visible .entry bump() { .reg .b32 %r<3>; ld.global.u32 %r1, [counter]; add.u32 %r1, %r1, 1;
    st.global.u32 [counter], %r1; ret; }
"""
    modules = [simulator.Device().load(text) for _ in range(2)]
    modules[0]["bump"].launch(1, 1, [])
    modules[0]["bump"].launch(1, 1, [])
    values = [int(module.variables["counter"].storage.view("u4")[0]) for module in modules]
    assert values == [7, 5]


def test_importing_the_simulator_needs_no_xdsl() -> None:
    import subprocess
    import sys

    code = "import sys; from tilewright.runtime import simulator; print('xdsl' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


@pytest.mark.parametrize("option", ["seed", "perturb", "max_steps", "shared_bytes"])
@pytest.mark.parametrize("value", [-1, 1.5, "3", True])
def test_options_of_a_launch_are_whole_numbers(option: str, value: Any) -> None:
    text = ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k() { ret; }"
    kernel = simulator.Device().load(text)["k"]
    with pytest.raises(simulator.LaunchError, match=f"{option} is .*, expected a whole number"):
        kernel.launch(1, 1, [], **{option: value})
