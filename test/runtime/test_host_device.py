"""The host as a device: artifacts, contracts, checks of arguments."""

from pathlib import Path

import numpy as np
import pytest

from tilewright.nest.builder import Builder
from tilewright.nest.compiler import compile
from tilewright.nest.values import cast
from tilewright.runtime.array import view_of
from tilewright.runtime.artifact import HostArtifact, KernelArtifact
from tilewright.runtime.contract import KernelContract
from tilewright.runtime.contract_json import from_json, to_json
from tilewright.runtime.default_device import get_device
from tilewright.runtime.errors import (
    ArgumentError,
    AssemblerError,
    BundleError,
    ContractError,
    DeviceError,
    TargetError,
)
from tilewright.runtime.host_device import HostDevice
from tilewright.runtime.launch import run_kernel

pytest.importorskip("torch_mlir", reason="the MLIR bindings are not installed (extra mlir)")
pytest.importorskip("llvmlite", reason="llvmlite is not installed (extra mlir)")


def artifact() -> HostArtifact:
    """Returns Y = scale * X of n pairs, n a multiple of 2 up to 1000."""
    b = Builder("scaled", "n in [2, 1000], n mod 2 == 0")
    x, y = b.buffer("X", ["n", 2], "f64"), b.buffer("Y", ["n", 2], "f64", output=True)
    scale = b.scalar("scale", "f32")
    i, j = b.axes(i="n", j=2)
    y[i, j] = x[i, j] * cast(scale, "f64")
    made = compile(b.build()).artifact
    assert isinstance(made, HostArtifact)
    return made


def test_a_kernel_runs_by_its_contract() -> None:
    x = np.random.default_rng(1).uniform(1, 2, (6, 2))
    out = run_kernel(HostDevice(), artifact(), {"X": x, "Y": np.zeros((6, 2)), "scale": 1.5})
    np.testing.assert_array_equal(out["Y"].numpy(), 1.5 * x)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"X": np.ones((6, 2), np.float32)}, "'X': expected dtype f64, got f32"),
        ({"X": np.ones((4, 2))}, r"'Y': expected shape \(4, 2\) = \(n, 2\), got \(6, 2\)"),
        ({"X": np.ones((7, 2)), "Y": np.ones((7, 2))}, "'n': expected a multiple of 2, got 7"),
        ({"X": np.ones((0, 2)), "Y": np.ones((0, 2))}, r"expected a value in \[2, 1000\], got 0"),
        ({"scale": "x"}, "'scale': expected a number of type f32"),
        ({"X": np.ones((2, 6)).T}, "'X': expected a C-contiguous array"),
    ],
)
def test_arguments_that_do_not_match_are_refused(changed: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"X": np.ones((6, 2)), "Y": np.zeros((6, 2)), "scale": 2.0}
    with pytest.raises(ArgumentError, match=message):
        run_kernel(HostDevice(), artifact(), arguments | changed)


def test_buffers_that_overlap_are_refused() -> None:
    device, memory = HostDevice(), np.ones((8, 2))
    views = [
        device.adopt(view_of(memory[part : part + 6], name)) for part, name in ((0, "X"), (2, "Y"))
    ]
    with pytest.raises(ArgumentError, match="'Y': expected memory of its own, got memory that 'X'"):
        device.load(artifact()).launch((1, 1, 1), [*views, 2.0, 6])


def test_an_artifact_is_stored_and_read_back(tmp_path: Path) -> None:
    made = artifact()
    made.save(tmp_path / "bundle")
    assert HostArtifact.load(tmp_path / "bundle") == made
    with pytest.raises(BundleError, match="expected PTX, got a kernel of the host"):
        KernelArtifact.load(tmp_path / "bundle")


def test_the_contract_keeps_the_multiple_of_a_symbol() -> None:
    contract = artifact().contract
    assert contract.symbols["n"].multiple == 2
    assert from_json(to_json(contract)) == contract


def test_devices_refuse_what_is_made_for_others() -> None:
    with pytest.raises(TargetError, match="device 'simulator': expected PTX, got 'scaled'"):
        get_device("simulator").load(artifact())
    contract = KernelContract("k", "sm_80", (), ("1", "1", "1"), (1, 1, 1))
    kernel = KernelArtifact(".target sm_80\n.entry k", contract)
    with pytest.raises(TargetError, match="expected a kernel for 'host', got one for 'sm_80'"):
        HostDevice().load(kernel)


def test_a_text_without_the_kernel_is_refused() -> None:
    contract = artifact().contract
    with pytest.raises(ContractError, match="the LLVM IR has no function 'scaled'"):
        HostArtifact("define void @other() { ret void }", contract)


def test_a_malformed_text_is_refused_when_it_is_loaded() -> None:
    broken = HostArtifact("define void @scaled(ptr %0) { ret i32 }", artifact().contract)
    with pytest.raises(AssemblerError, match="LLVM refuses the module"):
        HostDevice().load(broken)


def test_no_threads_are_refused() -> None:
    with pytest.raises(DeviceError, match="expected at least 1 thread, got 0"):
        HostDevice(0)


def test_the_host_is_a_device_by_name() -> None:
    assert get_device("host").kind == "host"
