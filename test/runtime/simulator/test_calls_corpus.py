"""Kernels with calls that nvcc didn't inline, against NumPy, in different schedules."""

from typing import Any

import numpy as np
import pytest

from tilewright.runtime import simulator
from tilewright.runtime.simulator.scheduler import Scheduler

PAIR = np.dtype([("sum", "f8"), ("count", "i4"), ("largest", "f4")])


def highest(scheduler: Scheduler) -> int:
    """Picks the block furthest down."""
    return max(scheduler.ready, default=-1)


@pytest.fixture(params=["lowest", "highest"])
def kernels(request: Any, monkeypatch: Any, corpus: Any) -> simulator.Module:
    """Returns the kernels with calls, run in different orders."""
    if request.param == "highest":
        monkeypatch.setattr(Scheduler, "_pick", highest)
    return simulator.Device("all").load(corpus("calls.ptx"))


def test_calls_in_loops_of_their_own_length(kernels: simulator.Module) -> None:
    generator = np.random.default_rng(0)
    n = 300
    x, degree = generator.uniform(-1, 1, n).astype("f4"), generator.integers(0, 9, n)
    device = kernels.device
    out = device.empty((n,), "f32")
    args = [device.array(x), device.array(degree.astype("i4")), out, n]
    kernels["polynomials"].launch(3, 128, args)
    want = np.zeros(n)
    for i in range(n):
        for chosen in [(i + r) % n for r in range(i % 5 + 1) if (i + r) % 3]:
            powers = np.arange(int(degree[chosen]) + 1)
            want[i] += ((powers + 1) * np.float64(x[i]) ** powers).sum()
    assert np.allclose(out.numpy(), want, rtol=1e-5, atol=1e-5)


def test_structures_in_and_out(kernels: simulator.Module) -> None:
    x = np.random.default_rng(1).normal(size=(70, 13)).astype("f4")
    device = kernels.device
    out = device.array(np.zeros(70 * PAIR.itemsize, "u1"))
    kernels["statistics"].launch(2, 64, [device.array(x), out, 13, 70])
    got = out.numpy().view(PAIR)
    assert (got["sum"] == np.add.accumulate(x.astype("f8"), axis=1)[:, -1]).all()
    assert (got["count"] == 13).all()
    assert (got["largest"] == x.max(axis=1)).all()


def test_structures_of_bytes(kernels: simulator.Module) -> None:
    x = np.random.default_rng(2).integers(0, 256, (100, 5)).astype("u1")
    device = kernels.device
    out, at = device.array(np.zeros((100, 5), "u1")), device.array(np.zeros(100, "u1"))
    kernels["bytes"].launch(1, 128, [device.array(x), out, at, 100])
    assert (out.numpy() == x[:, ::-1]).all()
    assert (at.numpy() == x[np.arange(100), np.arange(100) % 5]).all()


def odd_part(value: int) -> int:
    """Returns the odd factor of a number below 8; -1 for 0, -2 for larger ones."""
    if value == 0:
        return -1
    odd = value // (value & -value)
    return odd if odd <= 7 else -2


def test_functions_that_return_early(kernels: simulator.Module) -> None:
    generator = np.random.default_rng(3)
    x = np.concatenate([np.arange(40), 1 << generator.integers(0, 31, 60)]).astype("u4")
    device = kernels.device
    out = device.empty((100,), "i32")
    kernels["parts"].launch(1, 128, [device.array(x), out, 100])
    pairs = [(odd_part(v), odd_part(v + 1)) for v in x.tolist()]
    assert out.numpy().tolist() == [a if a < 0 else 2 * b + a for a, b in pairs]


def test_an_array_in_local_memory_is_sorted_by_a_function(kernels: simulator.Module) -> None:
    x = np.random.default_rng(4).integers(-99, 99, (90, 9)).astype("i4")
    device = kernels.device
    out = device.empty((90,), "i32")
    kernels["medians"].launch(1, 96, [device.array(x), out, 90])
    assert (out.numpy() == np.median(x, axis=1)).all()


def test_barriers_in_a_function(kernels: simulator.Module) -> None:
    x = np.random.default_rng(5).normal(size=(5, 128)).astype("f4")
    device = kernels.device
    out = device.empty((5,), "f32")
    report = kernels["moments"].launch(5, 128, [device.array(x), out])
    wide = x.astype("f8")
    want = ((wide - wide.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    assert np.allclose(out.numpy(), want, rtol=1e-5)
    assert report.findings == ()


def test_an_assertion_that_holds_and_one_that_fails(kernels: simulator.Module) -> None:
    x = np.arange(128).astype("i4")
    device = kernels.device
    out = device.empty((128,), "i32")
    kernels["check"].launch(2, 64, [device.array(x), out])
    assert (out.numpy() == x + 1).all()
    x[100] = -1
    with pytest.raises(simulator.SimulationError) as caught:
        kernels["check"].launch(2, 64, [device.array(x), out])
    finding = caught.value.finding
    assert finding.kind == "assert"
    for part in ("`value >= 0`", "int checked(int)", "calls.cu:"):
        assert part in finding.message
    assert (finding.ctaid, finding.tid, finding.lanes) == ((1, 0, 0), (36, 0, 0), 1)
    assert "__assertfail" in finding.instruction


def test_memory_of_the_device_heap(kernels: simulator.Module) -> None:
    x = np.random.default_rng(6).integers(0, 9, (40, 7)).astype("i4")
    device = kernels.device
    out = device.empty((40,), "i32")
    kernels["heap"].launch(1, 40, [device.array(x), out, 7])
    assert (out.numpy() == x @ 3 ** np.arange(7)).all()
