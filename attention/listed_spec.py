"""What is compiled for a kernel that a manifest lists, by the names of its fields."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from ..runtime.contract import JsonScalar
from .latent_kv import LatentKV
from .mla import LARGEST_LATENT_ROWS, choose_latent_tiles
from .named_storage import named_storage
from .spec import AttentionSpec
from .tiles import choose_tiles, registers_of
from .variants import TracedVariant


def listed_spec(
    numbers: Mapping[str, JsonScalar], variant: TracedVariant, target: str
) -> AttentionSpec:
    """
    Returns the numbers of a kernel for a target, with the tiles of its phase.

    `numbers` are a kernel's fields of a manifest. Raises ArgumentError for what no kernel can do.
    """
    known = cast("dict[str, Any]", dict(numbers))
    head_dim, heads, kv_heads = (known[n] for n in ("head_dim", "num_qo_heads", "num_kv_heads"))
    named = ("storage", "page_size", "layout", "kv_format", "head_dim")
    kv = named_storage(*(known[n] for n in named))
    # Numbers that no kernel can have are refused before tiles are chosen for them.
    spec = AttentionSpec(
        num_qo_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        kv=kv,
        dtype=known["dtype"],
        target=target,
        softmax_scale=head_dim**-0.5 if head_dim > 0 else 1.0,
        work=known["work"],
    )
    decode = known["phase"] == "decode"
    if isinstance(kv, LatentKV):
        tiles = choose_latent_tiles(kv, heads if decode else LARGEST_LATENT_ROWS, target)
    else:
        query_len = 1 if decode else None
        needs = registers_of(variant, kv, spec.work)
        group = heads // kv_heads
        tiles = choose_tiles(head_dim, group, query_len, target, kv.format, needs)
    chosen = {"warps": tiles.warps, "tile_rows": tiles.rows}
    return replace(spec, kv_tile=tiles.kv_tile, stages=tiles.stages, **chosen)
