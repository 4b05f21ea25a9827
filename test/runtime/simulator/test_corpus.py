"""Whole kernels compiled by nvcc, against NumPy; results don't depend on the schedule."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tilewright.runtime import simulator
from tilewright.runtime.simulator.scheduler import Scheduler

Pick = Callable[[Scheduler], int]


def highest(scheduler: Scheduler) -> int:
    """Picks the block furthest down."""
    return max(scheduler.ready, default=-1)


def anyone(scheduler: Scheduler) -> int:
    """Picks some block, by a generator of its own."""
    ready = sorted(scheduler.ready)
    return ready[int(GENERATOR.integers(len(ready)))] if ready else -1


GENERATOR = np.random.default_rng(11)


@pytest.fixture(params=["lowest", "highest", "any"])
def kernels(request: Any, monkeypatch: Any, corpus: Any) -> simulator.Module:
    """Returns the scalar kernels, run in different orders."""
    picks: dict[str, Pick] = {"highest": highest, "any": anyone}
    if request.param in picks:
        monkeypatch.setattr(Scheduler, "_pick", picks[request.param])
    return simulator.Device("all").load(corpus("simt.ptx"))


def test_saxpy(kernels: simulator.Module) -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 1000)).astype("f4")
    device = kernels.device
    buffers = [device.array(x), device.array(y)]
    kernels["saxpy"].launch(8, 128, [1000, 2.5, *buffers])
    want = (np.float64(2.5) * x + y.astype("f8")).astype("f4")
    assert (buffers[1].numpy() == want).all()


@pytest.mark.parametrize("shape", [(16, 16, 16), (33, 50, 19)])
def test_tiled_product(kernels: simulator.Module, shape: tuple[int, int, int]) -> None:
    m, n, k = shape
    generator = np.random.default_rng(1)
    a, b = generator.normal(size=(m, k)).astype("f4"), generator.normal(size=(k, n)).astype("f4")
    device = kernels.device
    out = device.empty((m, n), "f32")
    grid = ((n + 15) // 16, (m + 15) // 16)
    kernels["matmul"].launch(grid, (16, 16), [device.array(a), device.array(b), out, m, n, k])
    want = a.astype("f8") @ b.astype("f8")
    assert np.abs(out.numpy() - want).max() <= 1e-5


def test_softmax_by_shuffles(kernels: simulator.Module) -> None:
    x = np.random.default_rng(2).normal(size=(9, 100)).astype("f4")
    device = kernels.device
    out = device.empty(x.shape, "f32")
    kernels["softmax"].launch(9, 32, [device.array(x), out, 100])
    weights = np.exp(x.astype("f8"))
    assert np.abs(out.numpy() - weights / weights.sum(1, keepdims=True)).max() <= 1e-6


def escape_times(width: int, height: int, limit: int) -> Any:
    """Returns the iterations of each point, in the kernel's order of operations."""
    one, two, three = (np.float32(v) for v in (1.5, 2, 3))
    px, py = np.meshgrid(np.arange(width), np.arange(height))
    cx = (px.astype("f4") * three / np.float32(width) - two).astype("f4")
    cy = (py.astype("f4") * three / np.float32(height) - one).astype("f4")
    x, y = np.zeros((2, height, width))
    times = np.zeros((height, width), int)
    for _ in range(limit):
        inside = x * x + y * y < 4
        times += inside
        x, y = np.where(inside, x * x - y * y + cx, x), np.where(inside, 2 * x * y + cy, y)
    return times


def test_points_leave_their_loops_one_by_one(kernels: simulator.Module) -> None:
    """Points at the rim may differ: the kernel works in f32."""
    out = kernels.device.empty((24, 40), "i32")
    kernels["mandelbrot"].launch((3, 3), (16, 8), [out, 40, 24, 30])
    assert (out.numpy() == escape_times(40, 24, 30)).mean() > 0.97


def mixed(value: int, thread: int) -> int:
    """Returns what the kernel of that name computes for one thread."""
    weights = [1, -2, 3, -4]
    local = [0] * 4
    for j in range(4):
        local[(value + j) & 3] = weights[j] * value
    picked = local[thread & 3]
    cases = {0: picked + 10, 1: picked - 20, 2: picked ^ 30, 3: picked * 40, 5: picked | 50}
    return cases.get(value & 7, ~picked)


def test_local_arrays_tables_and_atomics(kernels: simulator.Module) -> None:
    x = np.random.default_rng(3).integers(-1000, 1000, 300).astype("i4")
    device = kernels.device
    out = device.empty((300,), "i32")
    kernels["mixed"].launch(3, 128, [device.array(x), out, 300])
    assert out.numpy().tolist() == [mixed(v, i) for i, v in enumerate(x.tolist())]
    assert kernels.variables["total"].view("u4")[0] == 5 + (x & 1).sum()
