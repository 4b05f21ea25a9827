"""
Wrappers named as serving engines know them: plan once a step, run once a layer.

```python
decode = attention.BatchDecode(op, limits=BatchLimits(requests=64, query_rows=64, kv_len=8192,
                                                      pages=64 * 512), device=device)
decode.plan(kv_indptr, kv_indices, kv_last_page_len)
out, lse = decode.run(q, k_pages, v_pages)
decode.step(new_pages)
```

With limits every plan stays at the addresses of the first, so that a CUDA graph of `run` holds for
all of them; a batch beyond the limits is refused, and the plan is then what it was.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..runtime.attention import AttentionOp, Plan
from ..runtime.attention_planner import DEFAULT_CHUNK, BatchLimits
from ..runtime.block_mask import BlockMask
from ..runtime.device import Device
from ..runtime.errors import ArgumentError
from ..runtime.page_table import int32_table
from ..runtime.planner import Prefixes
from .block_sparse import BlockSparse

Int32Array = npt.NDArray[np.int32]


class _Batch:
    """The plan of a batch, made anew or changed in place."""

    def __init__(
        self,
        op: AttentionOp,
        *,
        limits: BatchLimits | None = None,
        device: Device | str | None = None,
        num_ctas: int | None = None,
        batch_invariant: bool = False,
        chunk: int = DEFAULT_CHUNK,
    ) -> None:
        self.op = op
        self.limits = limits
        self.device = device
        self._options: dict[str, Any] = {
            "limits": limits,
            "device": device,
            "num_ctas": num_ctas,
            "batch_invariant": batch_invariant,
            "chunk": chunk,
        }
        self._plan: Plan | None = None

    @property
    def planned(self) -> Plan:
        """The plan; raises ArgumentError before the first."""
        if self._plan is None:
            raise ArgumentError("plan", "a batch that was planned", "none")
        return self._plan

    def _replan(self, tables: tuple[object, ...], stream: object, **hints: Any) -> Plan:
        if self._plan is None or self.limits is None:
            self._plan = self.op.plan(*tables, **hints, **self._options)
        else:
            self._plan.update(*tables, **hints, stream=stream)
        return self._plan

    def run(self, q: object, k: object, v: object = None, **options: Any) -> tuple[Any, Any]:
        """
        Runs attention on one layer and returns (out, lse); `options` are those of `Plan.run`.

        `k` and `v` are the pages, rows or columns of keys and values that the kernel takes.
        """
        options.setdefault("device", self.device)
        return self.planned.run(q, k, v, **options)


class BatchPrefill(_Batch):
    """
    Requests of any number of query rows over a paged cache: prompts, and prompts that go on.

    `op` is the kernel. `limits`, `num_ctas`, `batch_invariant` and `chunk` are those of
    `AttentionOp.plan`. One object serves one stream at a time.
    """

    def plan(
        self,
        qo_indptr: object,
        kv_indptr: object,
        kv_indices: object,
        kv_last_page_len: object,
        *,
        block_mask: BlockMask | None = None,
        mask_parameters: Mapping[str, object] | None = None,
        stream: object = None,
    ) -> Plan:
        """
        Plans a batch of B requests; raises ArgumentError.

        All are int32 in host memory: qo_indptr[B+1] (query rows), kv_indptr[B+1] (pages),
        kv_indices[nnz], kv_last_page_len[B]. For an op of work "tile_lists", `block_mask` or
        `mask_parameters` tell which tiles of KV are empty, as for `AttentionOp.plan`.
        """
        hints = {"block_mask": block_mask, "mask_parameters": mask_parameters}
        return self._replan((qo_indptr, kv_indptr, kv_indices, kv_last_page_len), stream, **hints)


class BatchDecode(_Batch):
    """
    Requests of `query_len` query rows each, usually one, over a paged cache.

    With limits `q` has `limits.query_rows` rows, those of the batch first.
    """

    def __init__(self, op: AttentionOp, *, query_len: int = 1, **options: Any) -> None:
        super().__init__(op, **options)
        if query_len < 1:
            raise ArgumentError("query_len", "an integer from 1", repr(query_len))
        self.query_len = query_len

    def plan(
        self,
        kv_indptr: object,
        kv_indices: object,
        kv_last_page_len: object,
        *,
        stream: object = None,
    ) -> Plan:
        """Plans a batch of B requests: kv_indptr[B+1], kv_indices[nnz], kv_last_page_len[B]."""
        batch = max(int32_table(kv_indptr, "kv_indptr").size - 1, 0)
        qo_indptr = np.arange(batch + 1, dtype=np.int32) * np.int32(self.query_len)
        return self._replan((qo_indptr, kv_indptr, kv_indices, kv_last_page_len), stream)

    def step(self, pages: object = None, *, rows: int = 1, stream: object = None) -> None:
        """
        Plans the next step in place: each request has `rows` more KV rows; needs limits.

        `pages`, int32, are the new pages of requests whose last page is full, in their order.
        """
        self.planned.step(pages, rows=rows, stream=stream)

    def pages_needed(self, rows: int = 1) -> int:
        """Returns how many new pages such a step needs."""
        return self.planned.pages_needed(rows)


class BatchPrefillRagged(_Batch):
    """Requests of any number of query rows over keys and values as rows; `op` is of `RaggedKV`."""

    def plan(self, qo_indptr: object, kv_indptr: object, *, stream: object = None) -> Plan:
        """Plans a batch: qo_indptr[B+1] (query rows) and kv_indptr[B+1] (KV rows), int32."""
        return self._replan((qo_indptr, kv_indptr), stream)


class BlockSparseAttention(_Batch):
    """
    One sequence whose blocks of query rows see listed blocks of keys; `op` is of `BlockSparseKV`.

    An element mask within the blocks is the variant `bit_mask`, with `BlockSparse.bits`.
    """

    def plan(self, pattern: BlockSparse, *, stream: object = None) -> Plan:
        """Plans a pattern; raises ArgumentError."""
        return self._replan(pattern.tables, stream)


class CascadeAttention(_Batch):
    """
    Requests that share prefixes, which are read once, in one launch; `op` is of work "cascade".

    Several levels of prefixes, and trees of them, are found in the page table.
    """

    def plan(
        self,
        qo_indptr: object,
        kv_indptr: object,
        kv_indices: object,
        kv_last_page_len: object,
        *,
        prefixes: Prefixes | None = None,
        stream: object = None,
    ) -> Plan:
        """
        Plans a batch as `BatchPrefill.plan` does; raises ArgumentError.

        `prefixes` are by default those that the page table shows, in at most as many levels as the
        limits declare.
        """
        tables = (qo_indptr, kv_indptr, kv_indices, kv_last_page_len)
        return self._replan(tables, stream, prefixes=prefixes)
