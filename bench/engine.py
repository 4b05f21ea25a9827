"""tilewright's own kernels on a case: on a GPU as work to be timed, on the simulator at once."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..runtime.attention import AttentionOp, Plan
from ..runtime.cuda.device import CudaDevice
from ..runtime.device import Device
from ..runtime.simulator_device import SimulatorDevice
from .data import Data, as_float
from .peers import OnDevice, Runnable

# Bits of a NaN in f16 and bf16 and, twice, in f32: what a kernel does not write is found.
UNWRITTEN = 0xFF
PLANS = 5


def planned(op: AttentionOp, data: Data, device: Device) -> tuple[Plan, float]:
    """Returns the plan of a case, and the least time in us that the host took to make it."""
    times: list[float] = []
    plan = op.plan(*data.tables, device=device)
    for _ in range(PLANS):
        start = time.perf_counter()
        plan = op.plan(*data.tables, device=device)
        times.append((time.perf_counter() - start) * 1e6)
    return plan, min(times)


def on_gpu(op: AttentionOp, inputs: OnDevice, device: CudaDevice, stream: object) -> Runnable:
    """Returns a case as work on a stream of a GPU."""
    plan, plan_us = planned(op, inputs.data, device)
    plan.upload(device, stream)
    kernel, rows = inputs.case.kernel, inputs.case.query_rows
    heads, head_dim = kernel.num_qo_heads, kernel.head_dim
    out = device.empty((rows, heads, head_dim), kernel.dtype, "out")
    lse = device.empty((rows, heads), "f32", "lse")
    for array in (out, lse):
        device.fill(array, UNWRITTEN, stream)
    params = {name: device.array(value, name) for name, value in inputs.data.params.items()}
    results = {"out": out, "lse": lse, "params": params, "softmax_scale": kernel.scale}
    options: dict[str, Any] = {**results, "device": device}

    def launch() -> None:
        _attend(plan, inputs.arrays, stream=stream, **options)

    def captured() -> Callable[[], None]:
        with device.capture(stream) as graph:
            launch()
        return lambda: graph.replay(stream)

    def result() -> tuple[Any, Any]:
        return as_float(device.to_numpy(out, None, stream)), device.to_numpy(lse, None, stream)

    return Runnable(launch, captured, result, plan_us)


def on_simulator(op: AttentionOp, data: Data, device: SimulatorDevice) -> tuple[Any, Any, float]:
    """Runs a case on the simulator: out, lse, and the time in us that the plan took."""
    plan, plan_us = planned(op, data, device)
    kernel, arrays = data.case.kernel, {name: rows.host() for name, rows in data.arrays.items()}
    out = np.empty_like(data.q.host())
    out.view(np.uint8).fill(UNWRITTEN)
    lse = np.full(out.shape[:2], np.nan, np.float32)
    options: dict[str, Any] = {"params": dict(data.params), "softmax_scale": kernel.scale}
    _attend(plan, arrays, out=out, lse=lse, device=device, **options)
    return as_float(out), lse, plan_us


def _attend(plan: Plan, arrays: Mapping[str, object], **options: Any) -> None:
    """Runs attention on arrays that the kernel knows by these names."""
    run = plan.run_mla if "q_nope" in arrays else plan.run
    run(*arrays.values(), **options)
