"""
Plans of decode steps made on the device, from lengths that the host never reads.

A captured CUDA graph can so go on for many steps: a kernel of the caller's advances the page table
in the plan's own buffers, three kernels share the work anew, attention runs.

```python
plan = op.plan(rows, kv_indptr, kv_indices, kv_last_page_len, limits=limits)
on_device = attention.plan_on_device(plan, device="cuda:0")
on_device.tables["kv_last_page_len"]  # where the page table lies
on_device.run(stream)                 # captured, before plan.run
```
"""

from collections.abc import Mapping

import numpy as np

from ..runtime.array import view_of
from ..runtime.attention import Plan
from ..runtime.buffer import Buffer
from ..runtime.default_device import default_device, get_device
from ..runtime.device import Device
from ..runtime.errors import ArgumentError
from ..runtime.kernel_call import call_kernel
from ..runtime.planner import OPEN_END, CostModel, PlanLimits
from .compiled_kernels import kernel
from .part import Line

_LARGEST = 2**31 - 1
_PAGE_TABLE = ("kv_indptr", "kv_indices", "kv_last_page_len")


class DevicePlanner:
    """
    Shares the work of a decode plan among its CTAs, from the page table in the plan's own buffers.

    `tables` are `kv_indptr`, `kv_indices` and `kv_last_page_len` on the device, which the caller's
    kernels may write. They must stay a page table: nothing checks them there.
    """

    def __init__(self, plan: Plan, device: Device, target: str) -> None:
        limits, line = plan.plan_limits, _line(plan)
        self._plan, self._device = plan, device
        self._buffers = {**plan.upload(device).buffers}
        self.tables: Mapping[str, Buffer] = {name: self._buffers[name] for name in _PAGE_TABLE}
        for name in ("unit", "inside", "rows"):
            self._buffers[name] = device.empty((limits.num_ctas - 1,), "i32", name)
        heads = limits.num_kv_heads
        self._symbols = {"units": limits.requests * heads}
        self._kernels = (
            kernel("plan_cuts", target, line=line),
            kernel("plan_items", target, heads=heads, open_end=OPEN_END),
            kernel("plan_queues", target, heads=heads),
        )

    def run(self, stream: object = None) -> None:
        """
        Plans by three kernels on `stream`, behind what writes the tables; nothing is copied.

        The plan knows nothing of it in host memory: it refuses steps until it is updated.
        """
        self._plan.note_planned_on_device()
        views = {name: view_of(buffer, name) for name, buffer in self._buffers.items()}
        for artifact in self._kernels:
            call_kernel(artifact, views, self._device, symbols=self._symbols, stream=stream)


def plan_on_device(
    plan: Plan, *, device: Device | str | None = None, target: str = "sm_80"
) -> DevicePlanner:
    """
    Returns the planner on a device of a plan with limits, which must be one of decode steps.

    The plan has one query row for each of its declared requests (those that are not in use have no
    KV), a mask that hides no keys from the last query, and is not batch-invariant. Shares are equal
    parts of all work, as on the host where there are more units of work than CTAs. Put it where
    plan and tables are before a graph is captured. Raises ArgumentError.
    """
    named = get_device(device) if isinstance(device, str) else device
    return DevicePlanner(plan, named or default_device(), target)


def _line(plan: Plan) -> Line:
    """Returns the numbers that the kernels are specialised on; refuses plans of other batches."""
    section, limits = plan.op.section, plan.plan_limits
    _check_decode(plan, limits)
    costs = CostModel.of_heights(limits.tile_rows).costs(
        limits.tile_rows, limits.kv_tile // limits.granule
    )
    height = sum(rows < limits.group for rows in limits.tile_rows[:-1])
    if costs.granule[height] != 1:
        got = str(costs.granule[height])
        raise ArgumentError("plan", "tiles whose heights cost the same for a KV tile", got)
    longest = -(-limits.kv_len // limits.granule) + costs.item[height]
    if (limits.requests + 1) * limits.num_kv_heads * longest + limits.num_ctas * longest > _LARGEST:
        expected = f"limits of less than {_LARGEST} granules of KV in all heads"
        raise ArgumentError("plan", expected, f"{limits.requests} requests of {limits.kv_len}")
    return Line(
        limits.num_kv_heads,
        section.page_size,
        limits.granule,
        costs.item[height],
        costs.partial,
    )


def _check_decode(plan: Plan, limits: PlanLimits) -> None:
    section, starts = plan.op.section, plan.arrays.tables["qo_indptr"]
    if "ragged" in section.kv:
        raise ArgumentError("plan", "a plan of keys in pages", "one of ragged keys")
    if limits.batch_invariant:
        raise ArgumentError("plan", "a plan that depends on the batch", "a batch-invariant one")
    if not np.array_equal(starts, np.arange(limits.requests + 1)):
        expected = f"one query row for each of the {limits.requests} declared requests"
        raise ArgumentError("plan", expected, "another batch")
    if limits.group > limits.tile_rows[-1]:
        expected = f"a group of at most {limits.tile_rows[-1]} heads"
        raise ArgumentError("plan", expected, str(limits.group))
    if section.kv_lower or any(slope != 1 or offset < 0 for slope, offset in section.kv_upper):
        expected = "a mask that hides no keys from the last query of a request"
        raise ArgumentError("plan", expected, f"bounds {section.kv_lower} and {section.kv_upper}")
