"""The workspace of a plan on a GPU: one copy, fixed addresses, order between streams."""

import ctypes
import gc
from pathlib import Path

import numpy as np
import pytest

from tilewright.runtime.buffer import Buffer
from tilewright.runtime.cuda.device import CudaDevice
from tilewright.runtime.cuda.driver import Driver
from tilewright.runtime.launch import Signature
from tilewright.test.runtime.attention_case import (
    Geometry,
    attend_tiles,
    batch_of,
    contract_of,
    op_of,
    reference,
    to_float,
)
from tilewright.test.runtime.cuda.fake_driver import FakeBindings, Launch
from tilewright.test.runtime.foreign_array import Producer

GEOMETRY = Geometry()
CONTRACT = contract_of(GEOMETRY)
TABLES = {"a": np.arange(5, dtype=np.int32), "b": np.zeros(0, np.int32), "c": np.arange(99, 300)}


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TILEWRIGHT_CACHE_DIR", str(tmp_path))


def _tables() -> dict[str, np.ndarray[tuple[int], np.dtype[np.int32]]]:
    return {name: table.astype(np.int32) for name, table in TABLES.items()}


def test_all_tables_travel_in_one_asynchronous_copy() -> None:
    bindings = FakeBindings()
    workspace = CudaDevice(0, Driver(bindings)).workspace(_tables(), 7)
    ((_, _, size, stream),) = bindings.arguments("cuMemcpyHtoDAsync")
    assert (size, stream) == (256 + 4 * len(TABLES["c"]), 7)
    assert not bindings.names("cuStreamSynchronize", "cuCtxSynchronize")
    for name, table in TABLES.items():
        np.testing.assert_array_equal(workspace.buffers[name].numpy(), table)


def test_tables_are_aligned_to_256_bytes() -> None:
    workspace = CudaDevice(0, Driver(FakeBindings())).workspace(_tables())
    assert all(buffer.address % 256 == 0 for buffer in workspace.buffers.values())


def test_another_stream_waits_for_the_copy_while_it_is_under_way() -> None:
    bindings = FakeBindings(failures={"cuEventQuery": 600})
    workspace = CudaDevice(0, Driver(bindings)).workspace(_tables(), 7)
    workspace.ready(7)
    assert not bindings.names("cuStreamWaitEvent")
    workspace.ready(8)
    assert [args[0] for args in bindings.arguments("cuStreamWaitEvent")] == [8]


def test_nobody_waits_for_a_copy_that_has_ended() -> None:
    bindings = FakeBindings()
    workspace = CudaDevice(0, Driver(bindings)).workspace(_tables(), 7)
    for _ in range(3):
        workspace.ready(8)
    assert not bindings.names("cuStreamWaitEvent")
    assert len(bindings.names("cuEventQuery")) == 1


def test_memory_is_given_back_after_the_copy_has_ended() -> None:
    bindings = FakeBindings()
    workspace = CudaDevice(0, Driver(bindings)).workspace(_tables(), 7)
    del workspace
    gc.collect()
    ends = ("cuEventSynchronize", "cuMemFreeHost", "cuEventDestroy", "cuMemFree")
    assert bindings.names(*ends) == list(ends)
    assert not bindings.memory


def _attend(launch: Launch) -> None:
    """Runs the NumPy kernel on the memory that the launch's addresses name."""
    values = dict(launch.values)
    shapes = {name: len(param.shape) for name, (param, _) in Signature(CONTRACT).pointers.items()}
    batch = int(_words(values["qo_indptr"], 3)[-1])
    ctas = launch.grid[0]
    known = {"n": batch, "pages": 64, "batch": 2, "nnz": 64, "merges": 0, "slots": 0}
    known |= {"cta_bounds": ctas + 1, "items": ctas}
    for name, (param, extents) in Signature(CONTRACT).pointers.items():
        shape = tuple(extent.evaluate(known) for extent in extents)
        kind = {"bf16": np.uint16, "f32": np.float32, "i32": np.int32}[param.dtype]
        size = int(np.prod(shape)) * np.dtype(kind).itemsize
        raw = (ctypes.c_ubyte * size).from_address(values[name])
        values[name] = np.ctypeslib.as_array(raw).view(kind).reshape(shape)
        assert values[name].ndim == shapes[name]
    attend_tiles(CONTRACT, (launch.grid[0], launch.grid[1], launch.grid[2]), values)


def _words(address: int, count: int) -> "np.ndarray[tuple[int], np.dtype[np.int32]]":
    return np.ctypeslib.as_array((ctypes.c_int32 * count).from_address(address))


def test_attention_runs_on_host_arrays() -> None:
    bindings = FakeBindings(contract=CONTRACT, body=_attend)
    batch = batch_of(GEOMETRY, [3, 5], [7, 0])
    plan = op_of(GEOMETRY).plan(*batch.tables)
    out, lse = plan.run(*batch.arrays, device=CudaDevice(0, Driver(bindings)))
    expected, expected_lse = reference(GEOMETRY, batch)
    np.testing.assert_allclose(to_float(out), expected, rtol=1e-2, atol=1e-2)
    np.testing.assert_allclose(lse, expected_lse, rtol=1e-4, atol=1e-4)


def test_attention_on_gpu_arrays_neither_copies_nor_waits() -> None:
    bindings = FakeBindings(contract=CONTRACT)
    device = CudaDevice(0, Driver(bindings))
    batch = batch_of(GEOMETRY, [3, 5], [7, 0])
    arrays = [
        Producer(a, "bf16", device=(2, 0), address=512 << i) for i, a in enumerate(batch.arrays)
    ]
    plan = op_of(GEOMETRY).plan(*batch.tables)
    plan.upload(device, 7)
    before = len(bindings.calls)
    out, _ = plan.run(*arrays, device=device, stream=7)
    assert isinstance(out, Buffer)
    calls = {name for name, _ in bindings.calls[before:]}
    assert not {name for name in calls if "Memcpy" in name or "Synchronize" in name}
    (launch,) = bindings.launches
    assert [launch.values[name] for name in ("q", "k_pages", "v_pages")] == [512, 1024, 2048]
    assert (launch.stream, launch.values["out"]) == (7, out.address)
    assert [array.streams for array in arrays] == [[7], [7], [7]]


def test_a_plan_keeps_its_addresses() -> None:
    bindings = FakeBindings(contract=CONTRACT)
    device = CudaDevice(0, Driver(bindings))
    batch = batch_of(GEOMETRY, [3, 5], [7, 0])
    plan = op_of(GEOMETRY).plan(*batch.tables)
    for _ in range(2):
        plan.run(*batch.arrays, device=device)
    first, second = (launch.values for launch in bindings.launches)
    names = ("qo_indptr", "kv_indptr", "kv_indices", "kv_last_page_len", "cta_indptr", "items")
    assert [first[name] for name in names] == [second[name] for name in names]
