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
from .append_plan import AppendPlan, plan_append
from .compiled_kernels import recorded
from .kv_append import KVCache, append_kv, append_mla
from .kv_format import KVFormat
from .latent_kv import check_latent_format
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
LATENT_STORAGES = ("latent", "latent-combined")
_KPE_DIM = 64
_CHOICES = {
    "storage": ("paged", "combined", *LATENT_STORAGES),
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
        if not self._is_latent:
            self._cache()
            return
        check_latent_format(named_format(known["kv_format"])[0])
        if known["num_kv_heads"] != 1:
            raise ArgumentError("num_kv_heads", "1 for latent rows", str(known["num_kv_heads"]))
        if known["layout"] != "NHD":
            raise ArgumentError("layout", "'NHD' for latent rows", repr(known["layout"]))

    @property
    def _is_latent(self) -> bool:
        return self.numbers["storage"] in LATENT_STORAGES

    def record(self, target: str) -> dict[str, KernelArtifact]:
        """
        Returns the kernels that appending needs, by name; raises ArgumentError.

        C-contiguous arrays are appended, on the simulator.
        """
        known = cast("dict[str, Any]", dict(self.numbers))
        empty = (np.array(t, np.int32) for t in ([0, 1], [0], [1]))
        table = PageTable(*empty, page_size=known["page_size"])
        plan, where = plan_append(table, np.array([0, 1], np.int32)), ("simulator", target)
        with recorded() as found:
            if self._is_latent:
                self._append_latent(known, plan, *where)
            else:
                self._append(known, plan, *where)
        return found

    def _append(self, known: dict[str, Any], plan: AppendPlan, device: str, target: str) -> None:
        shape = (1, known["num_kv_heads"], known["head_dim"])
        k, v = (np.zeros(shape, _DTYPES[known["dtype"]]) for _ in range(2))
        turns = _rotation(known["rope"], known["head_dim"])
        append_kv(self._cache(), plan, k, v, rotation=turns, device=device, target=target)

    def _append_latent(
        self, known: dict[str, Any], plan: AppendPlan, device: str, target: str
    ) -> None:
        form, widths = named_format(known["kv_format"])[0], (known["head_dim"], _KPE_DIM)
        dtype = _DTYPES[known["dtype"]]
        stored = dtype if form is None else _DTYPES.get(form.stored[0], np.uint8)
        ckv, kpe = (np.zeros((1, width), dtype) for width in widths)
        pages = [np.zeros((1, known["page_size"], width), stored) for width in widths]
        if known["storage"] == "latent-combined":
            whole = np.concatenate(pages, axis=-1)
            pages = [whole[..., : widths[0]], whole[..., widths[0] :]]
        turns = _rotation(known["rope"], _KPE_DIM)
        options: dict[str, Any] = {"rotation": turns, "device": device, "target": target}
        append_mla(pages[0], pages[1], plan, ckv, kpe, format=form, **options)

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


def _rotation(rope: str, dim: int) -> Rotation | None:
    if rope == "none":
        return None
    return Rotation(rope_frequencies(dim), interleaved=rope == "interleaved")
