"""Streams and CUDA graphs, on a driver that records every call."""

import gc
from dataclasses import replace
from pathlib import Path

import pytest

from tilewright.runtime.artifact import KernelArtifact
from tilewright.runtime.attention import AttentionOp, Plan
from tilewright.runtime.cuda.device import CudaDevice
from tilewright.runtime.cuda.driver import Driver
from tilewright.runtime.errors import ArgumentError, CudaError, DeviceError
from tilewright.test.runtime.attention_case import Batch, Geometry, batch_of, contract_of, op_of
from tilewright.test.runtime.cuda.fake_driver import FakeBindings

GEOMETRY = Geometry()
CONTRACT = contract_of(GEOMETRY)


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TILEWRIGHT_CACHE_DIR", str(tmp_path))


def _planned() -> tuple[FakeBindings, CudaDevice, Plan, Batch]:
    bindings = FakeBindings(contract=CONTRACT)
    batch = batch_of(GEOMETRY, [3, 5], [7, 0])
    return bindings, CudaDevice(0, Driver(bindings)), op_of(GEOMETRY).plan(*batch.tables), batch


def test_a_stream_is_passed_by_the_protocol_of_cuda_core() -> None:
    bindings, device, plan, batch = _planned()
    stream = device.stream()
    plan.run(*batch.arrays, device=device, stream=stream)
    assert [launch.stream for launch in bindings.launches] == [stream.handle]


def test_a_stream_is_destroyed_with_its_object() -> None:
    bindings, device, _, _ = _planned()
    device.stream()
    gc.collect()
    assert bindings.names("cuStreamCreate", "cuStreamDestroy") == [
        "cuStreamCreate",
        "cuStreamDestroy",
    ]


def test_a_replay_launches_what_was_captured_with_its_addresses() -> None:
    bindings, device, plan, batch = _planned()
    stream = device.stream()
    arrays = [device.array(array) for array in batch.arrays]
    plan.upload(device, stream)
    with device.capture(stream) as graph:
        out, _ = plan.run(*arrays, device=device, stream=stream)
    assert (graph.launches, bindings.launches) == (1, [])
    graph.replay(stream)
    graph.replay(stream)
    assert [launch.values["out"] for launch in bindings.launches] == [out.address] * 2


def test_a_graph_keeps_the_buffers_that_it_uses() -> None:
    bindings, device, plan, batch = _planned()
    stream = device.stream()
    plan.upload(device, stream)
    with device.capture(stream) as graph:
        out, _ = plan.run(*(device.array(a) for a in batch.arrays), device=device, stream=stream)
    address = out.address
    del out, plan
    gc.collect()
    assert address in bindings.memory
    del graph
    gc.collect()
    assert address not in bindings.memory


@pytest.mark.parametrize(
    ("uploaded", "words"),
    [(True, "'q' lies in host memory"), (False, "upload the plan before, by Plan.upload")],
)
def test_what_a_replay_could_not_repeat_is_refused(uploaded: bool, words: str) -> None:
    _, device, plan, batch = _planned()
    stream = device.stream()
    arrays = batch.arrays if uploaded else tuple(device.array(a) for a in batch.arrays)
    if uploaded:
        plan.upload(device, stream)
    with pytest.raises(DeviceError) as caught, device.capture(stream):
        plan.run(*arrays, device=device, stream=stream)
    assert str(caught.value) == f"a graph is being captured on this stream: {words}"


def test_a_capture_that_fails_is_ended() -> None:
    bindings, device, plan, batch = _planned()
    stream = device.stream()
    with pytest.raises(DeviceError, match="captured"), device.capture(stream):
        plan.run(*batch.arrays, device=device, stream=stream)
    assert bindings.captures == {}
    plan.run(*batch.arrays, device=device, stream=stream)
    assert len(bindings.launches) == 1


def test_a_failure_of_the_driver_in_a_capture_is_reported() -> None:
    bindings, device, _, _ = _planned()
    stream = device.stream()
    bindings.failures = {"cuStreamEndCapture": 1}
    with pytest.raises(CudaError, match="cuStreamEndCapture"), device.capture(stream):
        pass


@pytest.mark.parametrize("stream", [None, 0])
def test_the_default_stream_is_not_captured(stream: object) -> None:
    _, device, _, _ = _planned()
    with pytest.raises(DeviceError, match="got the default stream"), device.capture(stream):
        pass


def test_a_stream_is_captured_once_at_a_time() -> None:
    _, device, _, _ = _planned()
    stream = device.stream()
    with device.capture(stream):
        with pytest.raises(DeviceError, match="already"), device.capture(stream):
            pass


def test_a_capture_waits_for_the_plan_that_is_under_way() -> None:
    bindings, device, plan, batch = _planned()
    stream = device.stream()
    arrays = [device.array(array) for array in batch.arrays]
    plan.upload(device, stream)
    before = len(bindings.names("cuEventSynchronize"))
    with device.capture(stream):
        plan.run(*arrays, device=device, stream=stream)
    assert len(bindings.names("cuEventSynchronize")) == before + 1
    assert not bindings.names("cuStreamWaitEvent")


def test_a_capture_of_another_library_waits_for_the_plan_too() -> None:
    bindings, device, plan, batch = _planned()
    stream = device.stream()
    arrays = [device.array(array) for array in batch.arrays]
    plan.upload(device)
    bindings.captures[stream.handle] = []
    plan.run(*arrays, device=device, stream=stream)
    assert len(bindings.captures[stream.handle]) == 1
    assert not bindings.names("cuStreamWaitEvent")
    assert bindings.capture_mode == 0


def _waiting(artifact: KernelArtifact) -> KernelArtifact:
    """Returns a kernel that waits for the one in front of it."""
    return replace(artifact, ptx=artifact.ptx.replace("ret;", "griddepcontrol.wait; ret;"))


def test_a_programmatic_launch_differs_in_its_attribute_alone() -> None:
    bindings, device, _, batch = _planned()
    plan = AttentionOp(_waiting(op_of(GEOMETRY).artifact)).plan(*batch.tables, device=device)
    arrays = [device.array(array) for array in batch.arrays]
    out, lse = plan.run(*arrays, device=device, stream=7)
    plan.run(*arrays, out=out, lse=lse, device=device, stream=7, programmatic=True)
    plain, programmatic = bindings.launches
    assert programmatic == replace(plain, programmatic=True)


def test_a_kernel_that_waits_for_nothing_is_not_launched_early() -> None:
    bindings, device, plan, batch = _planned()
    with pytest.raises(ArgumentError, match="'programmatic': expected False for a kernel that"):
        plan.run(*batch.arrays, device=device, programmatic=True)
    assert bindings.launches == []
