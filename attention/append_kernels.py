"""The kernels by which a deployment appends to its cache, found by appending one token."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ..runtime.artifact import KernelArtifact
from ..runtime.contract import JsonScalar
from ..runtime.errors import ArgumentError
from ..runtime.page_table import PageTable
from .append_plan import plan_append
from .compiled_kernels import recorded
from .kv_append import KVCache, append_kv
from .kv_format import KVFormat
from .named_storage import named_format
from .rotary import rope_frequencies
from .rotation import Rotation

NUMBERS = ("head_dim", "num_kv_heads", "page_size")
DEFAULTS: dict[str, object] = {
    "storage": "paged",
    "layout": "NHD",
    "kv_format": "same",
    "dtype": "bf16",
    "rope": "none",
}
_CHOICES = {
    "storage": ("paged", "combined"),
    "layout": ("NHD", "HND"),
    "dtype": ("f16", "bf16", "f32"),
    "rope": ("none", "half", "interleaved"),
}
_DTYPES: dict[str, Any] = {"f16": np.float16, "bf16": np.uint16, "f32": np.float32, "i8": np.int8}


@dataclass(frozen=True)
class AppendEntry:
    """One way to append: keys and values of `dtype`, the cache's numbers, RoPE of keys or none."""

    numbers: Mapping[str, JsonScalar]

    def check(self) -> None:
        """Raises ArgumentError for what no cache has."""
        known = cast("dict[str, Any]", dict(self.numbers))
        for name, choices in _CHOICES.items():
            if known[name] not in choices:
                raise ArgumentError(name, f"one of {', '.join(choices)}", repr(known[name]))
        for name in NUMBERS:
            if not 1 <= known[name] <= 2**20:
                raise ArgumentError(name, "an integer from 1 to 2^20", str(known[name]))
        self._cache()

    def record(self, target: str) -> dict[str, KernelArtifact]:
        """
        Returns the kernels that appending needs, by name; raises ArgumentError.

        C-contiguous arrays are appended, on the simulator.
        """
        known = cast("dict[str, Any]", dict(self.numbers))
        heads, head_dim, size = (known[n] for n in ("num_kv_heads", "head_dim", "page_size"))
        table = PageTable(*(np.array(t, np.int32) for t in ([0, 1], [0], [1])), page_size=size)
        rows = np.zeros((1, heads, head_dim), _DTYPES[known["dtype"]])
        rotation = None
        if known["rope"] != "none":
            turned = known["rope"] == "interleaved"
            rotation = Rotation(rope_frequencies(head_dim), interleaved=turned)
        with recorded() as found:
            plan = plan_append(table, np.array([0, 1], np.int32))
            cache = self._cache()
            append_kv(
                cache, plan, rows, rows.copy(), rotation=rotation, device="simulator", target=target
            )
        return found

    def _cache(self) -> KVCache:
        """Returns an empty cache of one page."""
        known = cast("dict[str, Any]", dict(self.numbers))
        form = named_format(known["kv_format"])[0] or KVFormat(known["dtype"])
        head_dim, combined = known["head_dim"], known["storage"] == "combined"
        page = [known["page_size"], known["num_kv_heads"]]
        shape = (
            1,
            *((2,) if combined else ()),
            *(page[::-1] if known["layout"] == "HND" else page),
        )
        stored = _DTYPES.get(form.stored[0], np.uint8)
        blocks = head_dim // form.block_of(head_dim) if form.has_blocks else 0

        def made(width: int, dtype: Any) -> npt.NDArray[Any] | tuple[npt.NDArray[Any], ...]:
            if combined:
                return np.zeros((*shape, width), dtype)
            return np.zeros((*shape, width), dtype), np.zeros((*shape, width), dtype)

        scales = made(blocks, _DTYPES[form.scale_dtype]) if form.has_blocks else None
        return KVCache(made(form.width(head_dim), stored), form, known["layout"], scales)
