"""The kernels by which a deployment appends to its cache, found by appending one token."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ..runtime.page_table import PageTable
from .append_plan import AppendPlan, plan_append, plan_append_on_device
from .beside import NUMPY_DTYPES, Task
from .kv_append import KVCache, append_kv, append_mla
from .kv_format import KVFormat
from .latent_kv import LATENT_FORMATS
from .named_storage import SAME, named_format
from .rotary import rope_frequencies
from .rotation import Rotation
from .spec import LAYOUTS

# The elements of a latent row that carry positions, as `LatentKV` has them.
_ROTATED = 64
_STORED: dict[str, Any] = {**NUMPY_DTYPES, "i8": np.int8}


@dataclass(frozen=True)
class AppendTask(Task):
    """Appending keys and values of `dtype` to a cache, planned on the host or on the device."""

    name: ClassVar[str] = "append"
    integers: ClassVar[tuple[str, ...]] = ("head_dim", "num_kv_heads", "page_size")
    defaults: ClassVar[Mapping[str, str]] = {
        "storage": "paged",
        "layout": "NHD",
        "kv_format": SAME,
        "dtype": "bf16",
        "rope": "none",
    }
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "storage": ("paged", "combined"),
        "layout": LAYOUTS,
        "dtype": tuple(NUMPY_DTYPES),
        "rope": ("none", "half", "interleaved"),
    }

    def check(self) -> None:
        """Raises ArgumentError for what no cache has."""
        super().check()
        self._cache()

    def run(self, place: Mapping[str, Any]) -> None:
        """Appends one token."""
        heads, head_dim, size = (
            self.number(name) for name in ("num_kv_heads", "head_dim", "page_size")
        )
        rows = np.zeros((1, heads, head_dim), NUMPY_DTYPES[self.text("dtype")])
        rotation = _rotation(self.text("rope"), head_dim)
        plan = _planned(size, place)
        append_kv(self._cache(), plan, rows, rows.copy(), rotation=rotation, **place)

    def _cache(self) -> KVCache:
        """Returns an empty cache of one page."""
        form = named_format(self.text("kv_format"))[0] or KVFormat(self.text("dtype"))
        head_dim, combined = self.number("head_dim"), self.text("storage") == "combined"
        page = [self.number("page_size"), self.number("num_kv_heads")]
        shape = (
            1,
            *((2,) if combined else ()),
            *(page[::-1] if self.text("layout") == "HND" else page),
        )
        stored = _STORED.get(form.stored[0], np.uint8)
        blocks = head_dim // form.block_of(head_dim) if form.has_blocks else 0

        def made(width: int, dtype: Any) -> npt.NDArray[Any] | tuple[npt.NDArray[Any], ...]:
            if combined:
                return np.zeros((*shape, width), dtype)
            return np.zeros((*shape, width), dtype), np.zeros((*shape, width), dtype)

        scales = made(blocks, _STORED[form.scale_dtype]) if form.has_blocks else None
        return KVCache(made(form.width(head_dim), stored), form, self.text("layout"), scales)


@dataclass(frozen=True)
class LatentAppendTask(Task):
    """Appending latent rows of `head_dim` elements, and 64 apart with RoPE, by `append_mla`."""

    name: ClassVar[str] = "append_latent"
    integers: ClassVar[tuple[str, ...]] = ("head_dim", "page_size")
    defaults: ClassVar[Mapping[str, str]] = {
        "storage": "latent",
        "kv_format": SAME,
        "dtype": "bf16",
        "rope": "none",
    }
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "storage": ("latent", "latent-combined"),
        "kv_format": (SAME, *LATENT_FORMATS),
        "dtype": tuple(NUMPY_DTYPES),
        "rope": ("none", "half", "interleaved"),
    }

    def run(self, place: Mapping[str, Any]) -> None:
        """Appends one token."""
        size, dtype = self.number("page_size"), NUMPY_DTYPES[self.text("dtype")]
        form = named_format(self.text("kv_format"))[0]
        stored = dtype if form is None else _STORED.get(form.stored[0], np.uint8)
        latent, whole = self.number("head_dim"), self.number("head_dim") + _ROTATED
        pages = np.zeros((1, size, whole), stored)
        parts = pages[..., :latent], pages[..., latent:]
        if self.text("storage") == "latent":
            parts = parts[0].copy(), parts[1].copy()
        ckv, kpe = (np.zeros((1, width), dtype) for width in (latent, _ROTATED))
        rotation = _rotation(self.text("rope"), _ROTATED)
        plan = _planned(size, place)
        append_mla(*parts, plan, ckv, kpe, format=form, rotation=rotation, **place)


def _planned(page_size: int, place: Mapping[str, Any]) -> AppendPlan:
    """Returns where one token goes in one page, after it was found on the device too."""
    begin, page = np.array([0, 1], np.int32), np.zeros(1, np.int32)
    table = PageTable(begin, page, np.ones(1, np.int32), page_size)
    numbers: dict[str, Any] = {"page_size": page_size, "num_pages": 1, "tokens": 1}
    plan_append_on_device(begin, table.lengths, begin, page, **numbers, **place)
    return plan_append(table, begin)


def _rotation(rope: str, head_dim: int) -> Rotation | None:
    if rope == "none":
        return None
    return Rotation(rope_frequencies(head_dim), interleaved=rope == "interleaved")
