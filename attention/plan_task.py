"""The kernels by which a deployment plans decode steps on the device, found by planning one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..runtime.attention import AttentionOp
from ..runtime.attention_planner import BatchLimits
from .beside import Task
from .cached import cached_attention
from .device_plan import plan_on_device
from .library import causal
from .listed_spec import listed_spec
from .named_storage import SAME
from .spec import DTYPES, LAYOUTS, TARGETS, AttentionSpec


@dataclass(frozen=True)
class DevicePlanTask(Task):
    """
    Planning decode steps on the device, for the attention kernels of these numbers.

    The plan's kernels depend on the tiles of attention, which each target has of its own.
    """

    name: ClassVar[str] = "plan_on_device"
    integers: ClassVar[tuple[str, ...]] = ("num_qo_heads", "num_kv_heads", "head_dim", "page_size")
    defaults: ClassVar[Mapping[str, str]] = {
        "storage": "paged",
        "layout": "NHD",
        "kv_format": SAME,
        "dtype": "bf16",
    }
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "storage": ("paged", "combined"),
        "layout": LAYOUTS,
        "dtype": DTYPES,
    }

    def check(self) -> None:
        """Raises ArgumentError for what no kernel does."""
        super().check()
        for target in TARGETS:
            self._spec(target)

    def run(self, place: Mapping[str, Any]) -> None:
        """Makes the planner of a step of one request, for the kernels of every target."""
        begin, page = np.array([0, 1], np.int32), np.zeros(1, np.int32)
        limits = BatchLimits(requests=1, query_rows=1, kv_len=1, pages=1)
        for target in TARGETS:
            op = AttentionOp(cached_attention(self._spec(target), causal().traced))
            plan = op.plan(begin, begin, page, np.ones(1, np.int32), num_ctas=2, limits=limits)
            plan_on_device(plan, **place)

    def _spec(self, target: str) -> AttentionSpec:
        """Returns the attention that is planned for; raises ArgumentError."""
        numbers = {**self.numbers, "phase": "decode", "work": "ranges"}
        return listed_spec(numbers, causal().traced, target)
