"""The recorder: variants that fail, processes that break, and calls of libcuda."""

import ctypes
import json
import subprocess
import sys
from pathlib import Path

import pytest
from devices import Broken, Gpu, Simulator
from faulty_devices import Absent, Faulty
from record import Session, compute, record, stored
from variants import Variant, module

from .fake_libcuda import INVALID_PTX, FakeLibcuda

HERE = Path(__file__).parent
FAULTY = {
    "mul.hi.u16": "no such instruction",
    "min.u32": "launch failed",
    "min.u64": "an illegal address",
    "max.u16": "no answer in 3 seconds",
    "max.u32": "the process ended",
}


def test_a_recording_goes_on_after_every_kind_of_failure(
    tmp_path: Path, known: dict[str, Variant]
) -> None:
    """Names of other targets are counted; one process hangs, one dies, one breaks its context."""
    good = ["add.u16", "sub.u32", "add.u32", "add.u64", "sub.u64"]
    names = ["add.u16", "mul.hi.u16", "sub.u32", "min.u32", "min.u64", "add.u32", "max.u16"]
    names += ["add.u64", "max.u32", "sub.u64", "stmatrix.x1"]
    failed = record(tmp_path, Faulty, [known[name] for name in names], limit=3)
    assert failed == FAULTY
    assert list(stored(tmp_path / "integer.npz")) == good
    meta = json.loads((tmp_path / "meta.json").read_text())
    assert meta["failed"] == FAULTY
    assert meta["skipped"] == {"sm_90": 1}
    assert meta["recorded"] == len(good)


def test_a_machine_without_a_gpu_is_told_of() -> None:
    with pytest.raises(RuntimeError, match="there is no libcuda"):
        Session(Absent)


def test_the_command_records_what_a_pattern_finds(tmp_path: Path) -> None:
    words = ["--on", "simulator", "--out", str(tmp_path), "--only", "^bits bfe"]
    command = [sys.executable, str(HERE / "record.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "4 of 4 variants recorded on simulator" in done.stdout
    names = {"bfe.u32", "bfe.s32", "bfe.u64", "bfe.s64"}
    assert set(stored(tmp_path / "bits.npz")) == names


def test_the_command_says_that_there_is_no_gpu(tmp_path: Path) -> None:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        command = [sys.executable, str(HERE / "record.py"), "--out", str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "libcuda" in done.stderr.splitlines()[0]
    else:
        pytest.skip("there is a driver")


# Arrays of all three places, results that begin as operands, tensor maps, dynamic shared memory.
THROUGH_LIBCUDA = (
    "add.u16",
    "fma.rn.f32",
    "shfl.up",
    "red.global.add.u32",
    "load 2d u16 32x24 of 64x40 64B",
    "store 2d u32 8x8 of 16x20 add",
    "load 3d u32 8x6x6 of 16x12x12 steps 1x2x3",
    "load 2d f16 16x8 of 32x12 nan",
    "address of dynamic shared memory",
)


@pytest.mark.parametrize("name", THROUGH_LIBCUDA)
def test_libcuda_gets_what_the_simulator_gets(known: dict[str, Variant], name: str) -> None:
    library = FakeLibcuda()
    gpu = Gpu(library)
    assert gpu.capability == (9, 0)
    assert gpu.description == {"device": "Fake GPU", "driver": "CUDA 12.8"}
    variant = known[name]
    ((_, got, problem),) = compute(gpu, [variant])
    assert got is not None, problem
    ((_, expected, _),) = compute(Simulator(), [variant])
    assert (got == expected).all()
    assert not library.live
    copies = library.calls.index("cuMemcpyDtoH_v2")
    assert library.calls[copies - 2 : copies] == ["cuLaunchKernel", "cuCtxSynchronize"]


def test_what_the_compiler_says_is_kept() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)CUDA_ERROR_INVALID_PTX.*frob\.u32"):
        Gpu(FakeLibcuda()).load(
            ".version 8.0\n.target sm_80\n.address_size 64\n.entry k() { frob.u32 a; }"
        )


def test_memory_is_freed_when_a_launch_fails(known: dict[str, Variant]) -> None:
    library = FakeLibcuda({"cuLaunchKernel": INVALID_PTX})
    gpu = Gpu(library)
    loaded = gpu.load(module([known["add.u16"]]))
    with pytest.raises(RuntimeError, match="cuLaunchKernel: CUDA_ERROR_INVALID_PTX"):
        gpu.run(loaded, "k0", known["add.u16"])
    assert not library.live


def test_an_error_that_outlasts_a_launch_is_told_apart(known: dict[str, Variant]) -> None:
    gpu = Gpu(FakeLibcuda({"cuCtxSynchronize": 700}))
    loaded = gpu.load(module([known["add.u16"]]))
    with pytest.raises(Broken, match="CUDA_ERROR_ILLEGAL_ADDRESS"):
        gpu.run(loaded, "k0", known["add.u16"])


def test_a_driver_that_does_not_start_is_told_of() -> None:
    with pytest.raises(RuntimeError, match="cuInit: CUDA error 100"):
        Gpu(FakeLibcuda({"cuInit": 100}))
