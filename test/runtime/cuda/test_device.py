"""A GPU as a device, on a driver that keeps device memory on the host and records every call."""

import ctypes
import gc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tilewright.runtime.artifact import KernelArtifact
from tilewright.runtime.buffer import Buffer
from tilewright.runtime.contract import (
    KernelContract,
    PointerParam,
    Resources,
    ScalarParam,
    SymbolRange,
)
from tilewright.runtime.cuda.device import CudaDevice
from tilewright.runtime.cuda.driver import Driver
from tilewright.runtime.errors import (
    ArgumentError,
    AssemblerError,
    CudaError,
    DeviceError,
    TargetError,
)
from tilewright.runtime.launch import run_kernel
from tilewright.runtime.ptxas import AssemblerTooOld, Assembly, Ptxas
from tilewright.test.runtime.attention_case import artifact_of
from tilewright.test.runtime.cuda.fake_driver import FakeBindings, Launch
from tilewright.test.runtime.foreign_array import CudaArray, Producer, random_bits

CONTRACT = KernelContract(
    "scale",
    "sm_80",
    (
        PointerParam("x", "f32", ("n",)),
        ScalarParam("n", "i32", "n"),
        ScalarParam("offset", "i64"),
        ScalarParam("a", "f32"),
        PointerParam("y", "f32", ("n",), "write"),
    ),
    ("n ceildiv 64", "1", "1"),
    (64, 1, 1),
    dynamic_shared_bytes=65536,
    symbols={"n": SymbolRange(0)},
)
ARTIFACT = artifact_of(CONTRACT)
LOAD_FUNCTIONS = ("cuModuleLoadData", "cuModuleLoadDataEx")


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TILEWRIGHT_CACHE_DIR", str(tmp_path))


def _open(bindings: FakeBindings, ptxas: Ptxas | None = None) -> CudaDevice:
    return CudaDevice(0, Driver(bindings), ptxas)


def _scale(launch: Launch) -> None:
    values = launch.values
    x, y = (_floats(values[name], values["n"]) for name in ("x", "y"))
    y[:] = x * values["a"] + values["offset"]


def _floats(address: int, count: int) -> Any:
    return np.ctypeslib.as_array((ctypes.c_float * count).from_address(address))


def test_a_kernel_gets_its_parameters_by_their_widths() -> None:
    bindings = FakeBindings(contract=CONTRACT, body=_scale)
    device = _open(bindings)
    x = np.arange(130, dtype=np.float32)
    args = {"x": x, "y": np.zeros(130, np.float32), "a": 0.5, "offset": -(2**40)}
    y = run_kernel(device, ARTIFACT, args, stream=77)["y"].numpy()
    np.testing.assert_array_equal(y, x * np.float32(0.5) + np.float32(-(2**40)))
    launch = bindings.launches[0]
    sizes = (launch.grid, launch.block, launch.shared_bytes, launch.stream)
    assert sizes == ((3, 1, 1), (64, 1, 1), 65536, 77)


def test_dynamic_shared_memory_is_opted_in() -> None:
    bindings = FakeBindings(contract=CONTRACT)
    _open(bindings).load(ARTIFACT)
    assert [args[1:] for args in bindings.arguments("cuFuncSetAttribute")] == [(8, 65536)]


def test_resources_are_those_the_driver_reports() -> None:
    attributes = {0: 1024, 1: 0, 3: 12, 4: 96}
    bindings = FakeBindings(contract=CONTRACT, function_attributes=attributes)
    assert _open(bindings).load(ARTIFACT).resources == Resources(96, 12)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({1: 200000}, "needs 265536 B of shared memory a CTA, the GPU has 232448 B"),
        ({0: 32}, "needs 64 threads a CTA, it can have 32"),
    ],
)
def test_a_kernel_that_does_not_fit_is_refused(attributes: dict[int, int], message: str) -> None:
    all_attributes = {0: 1024, 1: 0, 3: 0, 4: 168} | attributes
    bindings = FakeBindings(contract=CONTRACT, function_attributes=all_attributes)
    with pytest.raises(DeviceError) as caught:
        _open(bindings).load(ARTIFACT)
    assert str(caught.value) == f"kernel 'scale' {message}"


@pytest.mark.parametrize(
    ("target", "capability", "runs"),
    [
        ("sm_80", (8, 0), True),
        ("sm_80", (9, 0), True),
        ("sm_80", (7, 5), False),
        ("sm_90a", (9, 0), True),
        ("sm_90a", (10, 0), False),
    ],
)
def test_targets_are_checked_when_a_kernel_is_loaded(
    target: str, capability: tuple[int, int], runs: bool
) -> None:
    device = _open(FakeBindings(capability=capability))
    artifact = artifact_of(replace(CONTRACT, target=target))
    if runs:
        device.load(artifact)
    else:
        with pytest.raises(TargetError):
            device.load(artifact)


def test_a_kernel_is_loaded_once_and_unloaded_with_its_artifact() -> None:
    bindings = FakeBindings()
    device = _open(bindings)
    artifact = artifact_of(CONTRACT)
    assert device.load(artifact) is device.load(artifact)
    assert len(bindings.names(*LOAD_FUNCTIONS)) == 1
    del artifact
    gc.collect()
    assert len(bindings.names("cuModuleUnload")) == 1


def test_the_words_of_the_drivers_assembler_are_reported() -> None:
    bindings = FakeBindings(
        error_log=b"ptxas line 7; error: unknown opcode\nptxas fatal: aborted\n"
    )
    with pytest.raises(AssemblerError) as caught:
        _open(bindings).load(ARTIFACT)
    assert str(caught.value) == (
        "CUDA_ERROR_INVALID_PTX: kernel 'scale': "
        "ptxas line 7; error: unknown opcode; ptxas fatal: aborted"
    )


def test_the_log_of_the_drivers_assembler_is_kept() -> None:
    log = b"ptxas info : Used 168 registers"
    assert _open(FakeBindings(info_log=log)).load(ARTIFACT).log == log.decode()


def test_a_lost_property_is_refused_and_the_module_unloaded() -> None:
    warning = b"info : (C7508) Potential Performance Loss: 'setmaxnreg' ignored\nmore\n"
    bindings = FakeBindings(info_log=warning)
    with pytest.raises(AssemblerError, match=r"gives up a property: info : \(C7508\) Potential"):
        _open(bindings).load(ARTIFACT)
    assert len(bindings.names("cuModuleUnload")) == 1


class FakePtxas(Ptxas):
    """An assembler whose machine code says what it was made for."""

    def __init__(self, error: AssemblerError | None = None) -> None:
        super().__init__("ptxas")
        self.version = "13.0.88"
        self.calls: list[str] = []
        self.error = error

    def assemble(self, ptx: str, target: str) -> Assembly:
        """Returns code, or raises what it was told to."""
        self.calls.append(target)
        if self.error:
            raise self.error
        return Assembly(f"code for {target}".encode(), {}, "")


def _images(bindings: FakeBindings) -> list[bytes]:
    return [args[0] for args in bindings.arguments("cuModuleLoadData")]


@pytest.mark.parametrize(("target", "arch"), [("sm_80", "sm_90"), ("sm_90a", "sm_90a")])
def test_ptxas_assembles_for_the_gpu_at_hand(target: str, arch: str) -> None:
    bindings = FakeBindings()
    _open(bindings, FakePtxas()).load(artifact_of(replace(CONTRACT, target=target)))
    assert _images(bindings) == [f"code for {arch}".encode()]


def test_machine_code_is_kept_for_the_next_process() -> None:
    ptxas = FakePtxas()
    for _ in range(2):
        bindings = FakeBindings()
        _open(bindings, ptxas).load(ARTIFACT)
        assert _images(bindings) == [b"code for sm_90"]
    assert ptxas.calls == ["sm_90"]


@pytest.mark.parametrize(("capability", "image"), [((8, 6), b"cubin"), ((9, 0), b"code for sm_90")])
def test_the_machine_code_of_a_bundle_runs_on_its_own_architecture(
    capability: tuple[int, int], image: bytes
) -> None:
    bindings = FakeBindings(capability=capability)
    artifact = KernelArtifact(ARTIFACT.ptx, CONTRACT, b"cubin")
    _open(bindings, FakePtxas()).load(artifact)
    assert _images(bindings) == [image]


def test_a_driver_that_refuses_machine_code_assembles_itself() -> None:
    bindings = FakeBindings(failures={"cuModuleLoadData": 200})
    _open(bindings, FakePtxas()).load(ARTIFACT)
    assert bindings.names(*LOAD_FUNCTIONS) == list(LOAD_FUNCTIONS)


def test_an_assembler_that_is_too_old_leaves_it_to_the_driver() -> None:
    bindings = FakeBindings()
    _open(bindings, FakePtxas(AssemblerTooOld("unknown target"))).load(ARTIFACT)
    assert bindings.names(*LOAD_FUNCTIONS) == ["cuModuleLoadDataEx"]


def test_ptx_that_ptxas_refuses_is_not_loaded() -> None:
    bindings = FakeBindings()
    with pytest.raises(AssemblerError, match="bad PTX"):
        _open(bindings, FakePtxas(AssemblerError("bad PTX"))).load(ARTIFACT)
    assert bindings.names(*LOAD_FUNCTIONS) == []


@pytest.mark.parametrize("dtype", ["f16", "u16", "f32", "i32"])
def test_host_arrays_round_trip(dtype: str) -> None:
    kind = {"f16": np.float16, "u16": np.uint16, "f32": np.float32, "i32": np.int32}[dtype]
    array = random_bits((5, 8)).view(np.int16).astype(np.int32).astype(kind)
    np.testing.assert_array_equal(_open(FakeBindings()).array(array).numpy(), array)


def test_copies_have_ended_when_they_return() -> None:
    bindings = FakeBindings()
    buffer = _open(bindings).array(np.zeros(8, np.float32))
    buffer.numpy()
    moves = ("cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync", "cuStreamSynchronize", "cuCtxSynchronize")
    assert bindings.names(*moves) == [
        "cuMemcpyHtoDAsync",
        "cuStreamSynchronize",
        "cuCtxSynchronize",
        "cuMemcpyDtoHAsync",
        "cuStreamSynchronize",
    ]


def test_memory_is_freed_with_its_buffer() -> None:
    bindings = FakeBindings()
    buffer = _open(bindings).array(np.zeros(1000, np.float32))
    assert len(bindings.memory) == 1
    del buffer
    gc.collect()
    assert len(bindings.memory) == 0


@pytest.mark.parametrize(
    "array",
    [
        CudaArray(0x7F0000000200, (4, 8), "<f2"),
        Producer(random_bits((4, 8)), "f16", device=(2, 0), address=0x7F0000000200),
        Producer(
            random_bits((4, 8)), "f16", device=(2, 0), address=0x7F0000000200, versioned=False
        ),
    ],
)
def test_cuda_arrays_are_used_without_a_copy(array: object) -> None:
    bindings = FakeBindings()
    buffer = _open(bindings).array(array)
    assert (buffer.address, buffer.shape, buffer.dtype) == (0x7F0000000200, (4, 8), "f16")
    assert not bindings.names("cuMemAlloc", "cuMemcpyHtoDAsync")


def test_a_stream_named_by_the_array_is_waited_for() -> None:
    bindings = FakeBindings()
    _open(bindings).array(CudaArray(0x7F0000000200, (4, 8), "<f2", stream=5))
    (recorded,) = bindings.arguments("cuEventRecord")
    (waited,) = bindings.arguments("cuStreamWaitEvent")
    assert recorded == (waited[1], 5)
    assert waited[0] == 0


HELD = "f16, bf16, f32, i32, i8, i1, u8, i16, i64, f64"


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            Producer(random_bits((4,)), "f16", device=(2, 1)),
            "memory of 'cuda:0' or of the host, got cuda:1",
        ),
        (np.zeros(4, np.complex64), f"{HELD}, C-contiguous, got complex64"),
        (CudaArray(512, (4,), "<c8"), f"{HELD}, C-contiguous, got complex64"),
        (
            CudaArray(512, (4, 2), "<f4", strides=(4, 16)),
            f"{HELD}, C-contiguous, got other strides",
        ),
    ],
)
def test_what_a_gpu_cannot_use_is_refused(array: object, message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        _open(FakeBindings()).array(array, "x")
    assert str(caught.value) == f"argument 'x': expected {message}"


def test_a_buffer_exports_the_cuda_array_interface() -> None:
    buffer = _open(FakeBindings()).empty((3, 4), "bf16")
    interface = buffer.__cuda_array_interface__
    assert (interface["shape"], interface["typestr"]) == ((3, 4), "<u2")
    assert interface["data"] == (buffer.address, False)


def test_a_failed_call_names_function_and_code() -> None:
    with pytest.raises(CudaError) as caught:
        _open(FakeBindings(failures={"cuMemAlloc": 2})).empty((1 << 40,), "f32")
    assert str(caught.value) == "cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY: words of 2"
    assert (caught.value.function, caught.value.code) == ("cuMemAlloc", "CUDA_ERROR_OUT_OF_MEMORY")


def test_a_fault_of_a_kernel_is_raised_by_synchronize() -> None:
    device = _open(FakeBindings(failures={"cuCtxSynchronize": 700}))
    with pytest.raises(CudaError, match="cuCtxSynchronize: CUDA_ERROR_ILLEGAL_ADDRESS"):
        device.synchronize()


def test_a_missing_entry_is_named() -> None:
    bindings = FakeBindings(contract=replace(CONTRACT, name="other"))
    with pytest.raises(CudaError, match="cuModuleGetFunction: CUDA_ERROR_NOT_FOUND"):
        _open(bindings).load(ARTIFACT)


def test_the_callers_context_is_put_back() -> None:
    bindings = FakeBindings()
    device = _open(bindings)
    bindings.contexts.append(42)
    device.array(np.zeros(4, np.float32)).numpy()
    assert bindings.contexts == [42]


def test_no_context_is_switched_where_ours_is_current() -> None:
    bindings = FakeBindings()
    device = _open(bindings)
    bindings.contexts.append(3000)
    device.array(np.zeros(4, np.float32)).numpy()
    assert not bindings.names("cuCtxPushCurrent", "cuCtxPopCurrent")


def test_events_time_the_work_between_them() -> None:
    bindings = FakeBindings()
    device = _open(bindings)
    start = device.event(7)
    device.event(7)
    stop = device.event(7)
    assert stop.elapsed_ms(start) == 2.0
    assert [args[1] for args in bindings.arguments("cuEventRecord")] == [7, 7, 7]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((1, 2, 3), "'args': expected 5 arguments, got 3"),
        ((4096, 1 << 40, 0, 1.0, 4096), "'args': expected the types of the contract"),
        ((4096, 1.5, 0, 1.0, 4096), "'args': expected the types of the contract"),
        ((4096, 1, 0, 1e300, 4096), "'args': expected the types of the contract"),
    ],
)
def test_arguments_of_another_type_are_not_launched(values: tuple[Any, ...], message: str) -> None:
    bindings = FakeBindings(contract=CONTRACT)
    kernel = _open(bindings).load(ARTIFACT)
    with pytest.raises(ArgumentError, match=message):
        kernel.launch((1, 1, 1), values)
    assert bindings.launches == []


def test_buffers_without_elements_have_an_address() -> None:
    device = _open(FakeBindings())
    buffer = device.array(np.zeros((0, 4), np.float32))
    assert isinstance(buffer, Buffer)
    assert buffer.address > 0
    assert buffer.numpy().shape == (0, 4)
