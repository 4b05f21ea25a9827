"""The simulator as a device: kernels run from PTX, faults and refusals are errors of ours."""

import gc
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from tilewright.runtime.array import view_of
from tilewright.runtime.artifact import KernelArtifact
from tilewright.runtime.contract import KernelContract, PointerParam, ScalarParam, SymbolRange
from tilewright.runtime.errors import ArgumentError, AssemblerError, DeviceError, KernelFault
from tilewright.runtime.launch import run_kernel
from tilewright.runtime.simulator_device import SimulatorDevice
from tilewright.test.runtime.foreign_array import CudaArray, Producer, random_bits

AXPY_PTX = """
.version 7.4
.target sm_80
.address_size 64
.visible .entry axpy(.param .u64 x, .param .u64 y, .param .u32 n, .param .f32 a)
.reqntid 64, 1, 1
{
  .reg .pred %p;
  .reg .b32 %r<6>;
  .reg .b64 %rd<5>;
  .reg .f32 %f<4>;
  mov.u32 %r0, %tid.x;
  mov.u32 %r1, %ctaid.x;
  mad.lo.s32 %r2, %r1, 64, %r0;
  ld.param.u32 %r3, [n];
  setp.ge.s32 %p, %r2, %r3;
  @%p bra done;
  ld.param.u64 %rd0, [x];
  ld.param.u64 %rd1, [y];
  mul.wide.s32 %rd2, %r2, 4;
  add.s64 %rd3, %rd0, %rd2;
  add.s64 %rd4, %rd1, %rd2;
  ld.global.f32 %f0, [%rd3];
  ld.global.f32 %f1, [%rd4];
  ld.param.f32 %f2, [a];
  fma.rn.f32 %f3, %f0, %f2, %f1;
  st.global.f32 [%rd4], %f3;
done:
  ret;
}
"""
CONTRACT = KernelContract(
    "axpy",
    "sm_80",
    (
        PointerParam("x", "f32", ("n",)),
        PointerParam("y", "f32", ("n",), "read_write"),
        ScalarParam("n", "i32", "n"),
        ScalarParam("a", "f32"),
    ),
    ("n ceildiv 64", "1", "1"),
    (64, 1, 1),
    symbols={"n": SymbolRange(0)},
)
AXPY = KernelArtifact(AXPY_PTX, CONTRACT)


@pytest.fixture(scope="module")
def device() -> SimulatorDevice:
    return SimulatorDevice()


@pytest.mark.parametrize("n", [0, 1, 64, 200])
def test_a_kernel_runs(device: SimulatorDevice, n: int) -> None:
    x, y = np.random.default_rng(n).integers(-99, 99, (2, n)).astype(np.float32)
    result = run_kernel(device, AXPY, {"x": x, "y": y, "a": 0.5})["y"].numpy()
    np.testing.assert_array_equal(result, x * np.float32(0.5) + y)


def test_a_loaded_bundle_runs(device: SimulatorDevice, tmp_path: Path) -> None:
    AXPY.save(tmp_path / "bundle")
    x = np.arange(100, dtype=np.float32)
    args = {"x": x, "y": np.ones_like(x), "a": 2}
    result = run_kernel(device, KernelArtifact.load(tmp_path / "bundle"), args)["y"].numpy()
    np.testing.assert_array_equal(result, 2 * x + 1)


def test_buffers_are_used_in_place(device: SimulatorDevice) -> None:
    x, y = device.array(np.ones(70, np.float32), "x"), device.array(np.zeros(70, np.float32), "y")
    for _ in range(3):
        run_kernel(device, AXPY, {"x": x, "y": y, "a": 1.0})
    np.testing.assert_array_equal(y.numpy(), np.full(70, 3, np.float32))


def test_an_access_out_of_bounds_is_a_fault_that_names_the_array(device: SimulatorDevice) -> None:
    kernel = device.load(AXPY)
    x, y = (device.array(np.zeros(64, np.float32), name) for name in ("short", "y"))
    with pytest.raises(KernelFault) as caught:
        kernel.launch((2, 1, 1), [x, y, 65, 1.0])
    message = str(caught.value)
    assert "short" in message
    assert "axpy" in message
    assert "\n" not in message
    assert caught.value.finding is not None


def test_ptx_that_is_not_covered_is_refused_with_its_line(device: SimulatorDevice) -> None:
    ptx = AXPY_PTX.replace("fma.rn.f32", "frobnicate.f32")
    with pytest.raises(AssemblerError, match=r"simulator: axpy: .*frobnicate"):
        device.load(KernelArtifact(ptx, CONTRACT))


def test_a_kernel_is_loaded_once(device: SimulatorDevice) -> None:
    assert device.load(AXPY) is device.load(replace(AXPY))


@pytest.mark.parametrize("shape", [(5,), (3, 4), (0, 4), ()])
@pytest.mark.parametrize("dtype", [np.float16, np.uint16, np.float32, np.int32])
def test_arrays_round_trip(
    device: SimulatorDevice, shape: tuple[int, ...], dtype: type[np.generic]
) -> None:
    content = np.random.default_rng().integers(0, 2048, shape).astype(dtype)
    buffer = device.array(content)
    assert buffer.shape == shape
    np.testing.assert_array_equal(buffer.numpy(), content)


def test_bfloat16_over_dlpack_is_taken_as_bits(device: SimulatorDevice) -> None:
    bits = random_bits((3, 8))
    buffer = device.array(Producer(bits, "bf16"))
    assert buffer.dtype == "bf16"
    np.testing.assert_array_equal(buffer.numpy(), bits)


def test_the_content_is_a_copy(device: SimulatorDevice) -> None:
    source = np.zeros(4, np.float32)
    buffer = device.array(source)
    source[:] = 1
    buffer.numpy()[:] = 2
    np.testing.assert_array_equal(buffer.numpy(), np.zeros(4, np.float32))


def test_arrays_with_gaps_are_copied_together(device: SimulatorDevice) -> None:
    array = random_bits((3, 8))
    for strided in (array[:, ::2], array.view(ml_dtypes.bfloat16)[:, ::2]):
        np.testing.assert_array_equal(device.array(strided).numpy(), array[:, ::2])


def test_adopted_memory_is_not_copied(device: SimulatorDevice) -> None:
    array = np.zeros(4, np.float32)
    buffer = device.adopt(view_of(array, "x"))
    array[:] = 7
    np.testing.assert_array_equal(buffer.numpy(), array)


def test_read_only_memory_is_copied(device: SimulatorDevice) -> None:
    array = np.zeros(4, np.float32)
    array.flags.writeable = False
    np.testing.assert_array_equal(device.adopt(view_of(array, "x")).numpy(), array)


def test_a_kernel_run_by_name_does_not_write_the_callers_memory(device: SimulatorDevice) -> None:
    x, y = np.ones(70, np.float32), np.zeros(70, np.float32)
    run_kernel(device, AXPY, {"x": x, "y": y, "a": 1.0})
    assert not y.any()


def test_a_buffer_that_is_gone_is_freed(device: SimulatorDevice) -> None:
    kernel = device.load(AXPY)
    x, y = (device.array(np.zeros(64, np.float32), name) for name in ("x", "y"))
    address = x.address
    del x
    gc.collect()
    with pytest.raises(KernelFault, match="use-after-free"):
        kernel.launch((1, 1, 1), [address, y, 64, 1.0])


def test_unknown_checks_are_refused() -> None:
    with pytest.raises(DeviceError, match="unknown checks"):
        SimulatorDevice("everything")


RACE = """
.version 7.4
.target sm_80
.address_size 64
.shared .align 4 .b8 word[4];
.visible .entry axpy(.param .u64 x, .param .u64 y, .param .u32 n, .param .f32 a)
{
  .reg .b32 %r<2>;
  mov.u32 %r0, %tid.x;
  st.shared.u32 [word], %r0;
  ret;
}
"""


def _launch_race(device: SimulatorDevice) -> None:
    x = device.array(np.zeros(64, np.float32), "x")
    device.load(replace(AXPY, ptx=RACE)).launch((1, 1, 1), [x, x, 64, 1.0])


def test_what_checks_find_is_a_fault() -> None:
    with pytest.raises(KernelFault, match="race: .*PTX line 10: st.shared"):
        _launch_race(SimulatorDevice("all"))


def test_the_environment_chooses_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    _launch_race(SimulatorDevice())
    monkeypatch.setenv("TILEWRIGHT_SIMULATOR_CHECKS", "uninitialised,race")
    with pytest.raises(KernelFault, match="race"):
        _launch_race(SimulatorDevice())


def test_unknown_checks_in_the_environment_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEWRIGHT_SIMULATOR_CHECKS", "race,everything")
    with pytest.raises(DeviceError, match="everything"):
        SimulatorDevice()


def test_arguments_that_do_not_fit_the_ptx_are_refused(device: SimulatorDevice) -> None:
    with pytest.raises(DeviceError, match="simulator: "):
        device.load(AXPY).launch((1, 1, 1), [1, 2, 3])


def test_memory_of_a_gpu_is_refused(device: SimulatorDevice) -> None:
    with pytest.raises(ArgumentError) as caught:
        device.array(CudaArray(4096, (2,), "<f4"), "x")
    expected = "argument 'x': expected host memory, for device 'simulator', got cuda:0"
    assert str(caught.value) == expected


def test_a_buffer_of_another_device_is_refused(device: SimulatorDevice) -> None:
    buffer = SimulatorDevice().array(np.zeros(4, np.float32), "x")
    with pytest.raises(ArgumentError, match="'x': expected a buffer of 'simulator'"):
        device.array(buffer, "x")


def test_every_target_is_accepted(device: SimulatorDevice) -> None:
    for target in ("sm_80", "sm_90a", "sm_120"):
        device.check_target(target)
