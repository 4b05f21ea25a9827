"""
Multi-head latent attention in its absorbed form: decoding on a cache of one latent row a token.

```python
op = attention.compile_mla(num_heads=16, kv=attention.LatentKV(page_size=64),
                           softmax_scale=192**-0.5, variant=attention.causal())
plan = op.plan(qo_indptr, kv_indptr, kv_indices, kv_last_page_len)
out, lse = plan.run_mla(q_nope, q_pe, ckv_pages, kpe_pages)
```

The projection of the keys into the latent space is absorbed into the queries, that of the values
into the output's projection: `q_nope` and `out` are latent vectors, for each head (DeepSeek-V2,
section 2.1 and appendix C).
"""

from ..runtime.attention import AttentionOp
from ..runtime.errors import ArgumentError
from ..runtime.occupancy import RESERVED_BYTES, SM_SHARED_BYTES
from .cached import cached_attention
from .expression import is_integer
from .latent_kv import LatentKV
from .spec import TARGETS, AttentionSpec
from .tiles import ELEMENT_BYTES, Tiles, row_bytes
from .variants import as_variant

LARGEST_LATENT_ROWS = 64
_TILE_ROWS = (LARGEST_LATENT_ROWS, 32, 16)
# A warp of these kernels takes the registers of an eighth of an SM.
_MOST_WARPS = 8
# CTAs of an SM, keys of a tile and stages, the best first. 64 rows are bound by shared memory: the
# more keys a tile has, the less often queries are read. Fewer rows are bound by the cache: tiles
# under way in two CTAs, or in three stages, leave no gap between one and the next.
_TILES_OF_MANY_ROWS = ((1, 64, 3), (1, 64, 2), (1, 32, 3), (1, 32, 2))
_TILES_OF_FEW_ROWS = (
    (2, 64, 2),
    (2, 32, 3),
    (2, 32, 2),
    (1, 64, 3),
    (1, 32, 4),
    (1, 32, 3),
    (1, 64, 2),
    (1, 32, 2),
)
# The output of 16 rows takes half of a warp's registers with so many columns.
_LARGEST_COLUMNS = 256
_SMALLEST_COLUMNS = 64
# With more, keeping values apart that are no numbers spills registers.
_LARGEST_CONFINED_COLUMNS = 128
_ALIGNMENT = 1024


def compile_mla(
    *,
    num_heads: int,
    kv: LatentKV,
    softmax_scale: float,
    variant: object = None,
    dtype: str = "bf16",
    target: str = "sm_80",
    query_len: int = 1,
) -> AttentionOp:
    """
    Returns the latent attention of a variant, compiled or from the cache: see `Plan.run_mla`.

    `softmax_scale` is that of the scores before absorption, whose heads have other widths than the
    latent rows: 192 ** -0.5 for DeepSeek-V2 and V3, times what YaRN adds. `variant` changes scores,
    masks, and states of rows; several query rows of a request need a mask such as `causal()`.
    `query_len` query rows are what a request usually has at most: the tiles are chosen for it,
    other lengths are served by more of them. `dtype` is "bf16" or "f16".

    Raises `VariantError` for a function that cannot be traced, `ArgumentError` for numbers that no
    kernel can have, `DiagnosticError` for a variant or a target that these kernels cannot serve.
    """
    spec = latent_spec(
        num_heads=num_heads,
        kv=kv,
        softmax_scale=softmax_scale,
        dtype=dtype,
        target=target,
        query_len=query_len,
    )
    return AttentionOp(cached_attention(spec, as_variant(variant).traced))


def latent_spec(
    *,
    num_heads: int,
    kv: LatentKV,
    softmax_scale: float,
    dtype: str = "bf16",
    target: str = "sm_80",
    query_len: int = 1,
) -> AttentionSpec:
    """Returns what a kernel of latent attention is specialised on; raises ArgumentError."""
    if not isinstance(kv, LatentKV):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ArgumentError("kv", "a LatentKV", type(kv).__name__)
    if not is_integer(num_heads) or not 1 <= num_heads <= 65535:
        raise ArgumentError("num_heads", "an integer from 1 to 65535", repr(num_heads))
    if not is_integer(query_len) or query_len < 1:
        raise ArgumentError("query_len", "an integer from 1", repr(query_len))
    # An unknown target is refused with the other numbers.
    known = target if target in TARGETS else TARGETS[0]
    tiles = choose_latent_tiles(kv, num_heads * query_len, known)
    return AttentionSpec(
        num_qo_heads=num_heads,
        num_kv_heads=1,
        head_dim=kv.head_dim_ckv,
        kv=kv,
        dtype=dtype,
        target=target,
        softmax_scale=softmax_scale,
        warps=tiles.warps,
        tile_rows=tiles.rows,
        kv_tile=tiles.kv_tile,
        stages=tiles.stages,
    )


def choose_latent_tiles(kv: LatentKV, packed_rows: int, target: str) -> Tiles:
    """
    Returns the tiles for requests of usually `packed_rows` rows: query rows times heads.

    The choice is modelled, not measured. A tile of more rows reads the cache less often, a CTA can
    have as many as its shared memory holds beside two tiles of keys.
    """
    largest = _LARGEST_CONFINED_COLUMNS if kv.confined else _LARGEST_COLUMNS
    for rows in _TILE_ROWS:
        if rows > 16 and packed_rows <= rows // 2:
            continue
        many = rows == LARGEST_LATENT_ROWS
        for ctas, kv_tile, stages in _TILES_OF_MANY_ROWS if many else _TILES_OF_FEW_ROWS:
            warps = min(_MOST_WARPS, rows // 16 * (kv_tile // 16))
            tiles = Tiles(rows, warps, kv_tile, stages)
            columns = kv.head_dim_ckv * rows // (16 * warps)
            needed = ctas * (latent_shared_bytes(kv, tiles) + RESERVED_BYTES)
            fits = needed <= SM_SHARED_BYTES[target] and ctas * warps <= _MOST_WARPS
            if fits and _SMALLEST_COLUMNS <= columns <= largest:
                return tiles
    # The smallest: what is left for confined rows where SMs are small. Where it does not fit
    # either, it is refused by the compiler, which says what is missing.
    return Tiles(16, 2, 32, 2)


def latent_shared_bytes(kv: LatentKV, tiles: Tiles) -> int:
    """Returns the bytes of shared memory of a CTA with these tiles."""
    widths = (kv.head_dim_ckv, kv.head_dim_kpe)
    rows = [row_bytes(width * ELEMENT_BYTES) for width in widths]
    narrow = kv.format is not None and kv.format.is_quantized
    stored = [row_bytes(width) for width in widths] if narrow else rows
    parts = [
        *(tiles.rows * size for size in rows),
        *(tiles.stages * tiles.kv_tile * size for size in stored),
        tiles.rows * row_bytes(tiles.kv_tile * ELEMENT_BYTES),
        8 * row_bytes(tiles.warps * 16 * ELEMENT_BYTES),
        *(tiles.kv_tile * size for size in rows if narrow),
    ]
    whole = sum(-(-size // _ALIGNMENT) * _ALIGNMENT for size in parts[:-1])
    return whole + parts[-1]
