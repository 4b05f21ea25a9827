"""
The attention engine: variants, KV formats, compiled operations and their plans.

```python
op = attention.compile(variant=attention.causal(), kv=attention.PagedKV(page_size=16),
                       num_qo_heads=32, num_kv_heads=8, head_dim=128, dtype="bf16")
plan = op.plan(qo_indptr, kv_indptr, kv_indices, kv_last_page_len)
out, lse = plan.run(q, k_pages, v_pages)
```
"""

import math

from ..runtime.attention import AttentionOp, Plan
from ..runtime.attention import load_bundle as load
from ..runtime.attention_planner import BatchLimits
from ..runtime.block_mask import BlockMask
from ..runtime.errors import ArgumentError
from ..runtime.page_table import PageTable, append_positions, from_block_table
from .append_plan import AppendPlan, DeviceAppendPlan, plan_append, plan_append_on_device
from .block_mask import block_mask
from .block_sparse import BlockSparse, block_sparse, variable_blocks
from .cached import cached_attention
from .deployment import Call, Choice, Deployment
from .device_plan import DevicePlanner, plan_on_device
from .expression import Value, VariantError, is_integer
from .functions import (
    cos,
    exp,
    exp2,
    floor,
    log,
    log2,
    maximum,
    minimum,
    rsqrt,
    sigmoid,
    sin,
    sqrt,
    tanh,
    where,
)
from .kv_append import KVCache, append_kv, append_mla
from .kv_format import KVFormat
from .latent_kv import LatentKV
from .library import (
    alibi,
    attention_sinks,
    bit_mask,
    causal,
    differential,
    document_mask,
    full,
    multi_item_scoring,
    prefix_lm,
    qk_norm,
    relative_bias,
    rope,
    sigmoid_attention,
    sliding_window,
    soft_cap,
    temperature,
    tree_mask,
)
from .manifest import Manifest
from .mask_program import mask_program
from .mla import compile_mla
from .parameters import Tensor, page_of, row_of, scalar, tensor
from .quest import PageChoice, changed_pages, plan_choice, summarize_pages
from .rotary import llama31_frequencies, rope_frequencies
from .rotation import Rotation
from .spec import TARGETS, AttentionSpec, BlockSparseKV, KVStorage, PagedKV, RaggedKV
from .state import (
    lse_from_base2,
    lse_to_base2,
    merge_state,
    merge_states,
    merge_states_ragged,
)
from .tiles import Registers, Tiles, choose_tiles, registers_of
from .variants import Variant, as_variant
from .wrappers import (
    BatchDecode,
    BatchPrefill,
    BatchPrefillRagged,
    BlockSparseAttention,
    CascadeAttention,
)

__all__ = [
    "AppendPlan",
    "AttentionOp",
    "AttentionSpec",
    "BatchDecode",
    "BatchDecode",
    "BatchLimits",
    "BatchPrefill",
    "BatchPrefillRagged",
    "BlockSparseAttention",
    "CascadeAttention",
    "BatchPrefill",
    "BlockMask",
    "BlockSparse",
    "BlockSparseKV",
    "Call",
    "Choice",
    "Deployment",
    "DeviceAppendPlan",
    "DevicePlanner",
    "KVCache",
    "KVFormat",
    "KVStorage",
    "LatentKV",
    "Manifest",
    "PageChoice",
    "PageTable",
    "PagedKV",
    "Plan",
    "RaggedKV",
    "Rotation",
    "Tensor",
    "Value",
    "Variant",
    "VariantError",
    "alibi",
    "append_kv",
    "append_mla",
    "append_positions",
    "attention_sinks",
    "bit_mask",
    "block_mask",
    "block_sparse",
    "causal",
    "changed_pages",
    "compile",
    "compile_mla",
    "cos",
    "differential",
    "document_mask",
    "exp",
    "exp2",
    "floor",
    "from_block_table",
    "full",
    "llama31_frequencies",
    "load",
    "log",
    "log2",
    "lse_from_base2",
    "lse_to_base2",
    "maximum",
    "merge_state",
    "merge_states",
    "merge_states_ragged",
    "minimum",
    "multi_item_scoring",
    "page_of",
    "plan_append",
    "plan_append_on_device",
    "plan_choice",
    "plan_on_device",
    "prefix_lm",
    "qk_norm",
    "relative_bias",
    "rope",
    "rope_frequencies",
    "row_of",
    "rsqrt",
    "scalar",
    "sigmoid",
    "sigmoid_attention",
    "sin",
    "sliding_window",
    "soft_cap",
    "sqrt",
    "summarize_pages",
    "tanh",
    "temperature",
    "tensor",
    "tree_mask",
    "variable_blocks",
    "where",
]


def compile(
    *,
    num_qo_heads: int,
    num_kv_heads: int,
    head_dim: int,
    kv: KVStorage,
    variant: object = None,
    dtype: str = "bf16",
    target: str = "sm_80",
    softmax_scale: float | None = None,
    query_len: int | None = None,
    stages: int | None = None,
    work: str = "ranges",
) -> AttentionOp:
    """
    Returns the attention operation of a variant, compiled or from the cache.

    `variant` is a `Variant`, or a Python function with FlexAttention's signature: a score_mod
    of five parameters or a mask_mod of four. None sees every key. `softmax_scale` is by default
    `head_dim ** -0.5`. `dtype` of queries and results is "bf16" or "f16"; `kv` says how keys and
    values are stored, in which format and where. Lengths, page tables and the size of the batch
    are run-time values: one compilation serves them all. `query_len` says how many query rows the
    requests usually have at most, 1 where all decode: the tiles are chosen for it, and other
    lengths are served by more of them. `stages` tiles of keys are kept in shared memory, by default
    as many as the tiles are chosen for. `work` "tile_lists" is for masks that hide whole tiles of
    keys beside a range: plans take block masks. `work` "cascade" is for requests that share
    prefixes, which are read once for the query rows of all.

    Raises `VariantError` for a function that cannot be traced, `ArgumentError` for numbers that no
    kernel can have, `DiagnosticError` for what the target cannot do.
    """
    _check_kv(kv)
    numbers = (head_dim, num_qo_heads, num_kv_heads)
    traced = as_variant(variant).traced
    tiles = _tiles(*numbers, query_len, target, kv.format, registers_of(traced, kv, work))
    spec = AttentionSpec(
        num_qo_heads=num_qo_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        kv=kv,
        dtype=dtype,
        target=target,
        softmax_scale=_scale(softmax_scale, head_dim),
        warps=tiles.warps,
        tile_rows=tiles.rows,
        kv_tile=tiles.kv_tile,
        stages=tiles.stages if stages is None else stages,
        work=work,
    )
    mask = mask_program(traced.mask) if work == "tile_lists" else None
    return AttentionOp(cached_attention(spec, traced), mask)


def _check_kv(kv: object) -> None:
    if not isinstance(kv, KVStorage):
        raise ArgumentError("kv", "a PagedKV, RaggedKV or BlockSparseKV", type(kv).__name__)


def _tiles(
    head_dim: int,
    num_qo_heads: int,
    num_kv_heads: int,
    query_len: int | None,
    target: str,
    form: KVFormat | None,
    needs: Registers,
) -> Tiles:
    if query_len is not None and (not is_integer(query_len) or query_len < 1):
        raise ArgumentError("query_len", "an integer from 1, or None", repr(query_len))
    numbers = (head_dim, num_qo_heads, num_kv_heads)
    if target not in TARGETS or not all(is_integer(number) and number > 0 for number in numbers):
        # What is no number, and an unknown target, is refused with the other numbers.
        return choose_tiles(1, 1, None, TARGETS[0])
    group = num_qo_heads // num_kv_heads
    return choose_tiles(head_dim, group, query_len, target, form, needs)


def _scale(softmax_scale: float | None, head_dim: int) -> float:
    if softmax_scale is not None:
        return softmax_scale
    # A head_dim that is none is refused with the other numbers.
    return 1.0 / math.sqrt(head_dim) if is_integer(head_dim) and head_dim > 0 else 1.0
