"""Attention in float64 NumPy from its definition, and random batches to compare it on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

import tilewright as tw
from tilewright.attention import AttentionOp, PagedKV
from tilewright.runtime.bfloat16 import from_float32, to_float32

Array = npt.NDArray[Any]
Int32 = npt.NDArray[np.int32]
Float64 = npt.NDArray[np.float64]
# Functions with FlexAttention's signatures, that take NumPy arrays as well as traced values.
ScoreMod = Callable[[Any, Any, Any, Any, Any], Any]
MaskMod = Callable[[Any, Any, Any, Any], Any]


@dataclass(frozen=True)
class Geometry:
    """The compile-time geometry of attention; `group` query heads share a KV head."""

    group: int = 2
    num_kv_heads: int = 2
    head_dim: int = 64
    page_size: int = 16
    layout: str = "NHD"
    dtype: str = "f16"

    @property
    def num_qo_heads(self) -> int:
        """The number of query heads."""
        return self.group * self.num_kv_heads

    @property
    def page_shape(self) -> tuple[int, int, int]:
        """The extents of one page of keys or values."""
        rows, heads = self.page_size, self.num_kv_heads
        return (
            (rows, heads, self.head_dim) if self.layout == "NHD" else (heads, rows, self.head_dim)
        )

    def compile(self, variant: object = None, **options: Any) -> AttentionOp:
        """Returns the operation of a variant for this geometry."""
        return tw.attention.compile(
            variant=variant,
            kv=PagedKV(self.page_size, self.layout),
            num_qo_heads=self.num_qo_heads,
            num_kv_heads=self.num_kv_heads,
            head_dim=self.head_dim,
            dtype=self.dtype,
            **options,
        )


@dataclass(frozen=True)
class Batch:
    """
    Requests with their queries and their pages, as `plan` and `run` take them.

    `q` is [n, Hq, D], pages are [pages, ...page_shape], in 16 bits; bf16 as its bits.
    """

    qo_indptr: Int32
    kv_indptr: Int32
    kv_indices: Int32
    kv_last_page_len: Int32
    q: Array
    k_pages: Array
    v_pages: Array

    @property
    def tables(self) -> tuple[Int32, Int32, Int32, Int32]:
        """The arguments of `plan`."""
        return self.qo_indptr, self.kv_indptr, self.kv_indices, self.kv_last_page_len

    @property
    def arrays(self) -> tuple[Array, Array, Array]:
        """The arguments of `run`."""
        return self.q, self.k_pages, self.v_pages

    def rows(self, request: int) -> slice:
        """Returns the query rows of a request."""
        return slice(int(self.qo_indptr[request]), int(self.qo_indptr[request + 1]))

    def query_len(self, request: int) -> int:
        """Returns the number of query rows of a request."""
        return int(self.qo_indptr[request + 1] - self.qo_indptr[request])

    def pages(self, request: int) -> Int32:
        """Returns the page numbers of a request, in order."""
        return self.kv_indices[self.kv_indptr[request] : self.kv_indptr[request + 1]]


def rounded(values: Array, dtype: str) -> Array:
    """Returns values in 16 bits: f16, or the bits of bf16."""
    single = values.astype(np.float32)
    return from_float32(single) if dtype == "bf16" else single.astype(np.float16)


def exact(values: Array) -> Float64:
    """Returns 16-bit values, or the bits of bf16, in float64."""
    # A NaN that signals does so where it is converted.
    with np.errstate(invalid="ignore"):
        return (to_float32(values) if values.dtype == np.uint16 else values).astype(np.float64)


def random_batch(
    geometry: Geometry,
    lengths: Sequence[tuple[int, int]],
    rng: np.random.Generator,
    garbage: float = np.nan,
) -> Batch:
    """
    Returns a batch of requests of (query rows, KV rows) on shuffled pages.

    Page slots behind the end of a request, and pages of no request, hold `garbage`.
    """
    g = geometry
    kv_len = np.array([kv for _, kv in lengths], np.int64)
    counts = -(-kv_len // g.page_size)
    total = int(counts.sum()) + 3
    indices = rng.permutation(total)[: total - 3].astype(np.int32)
    used = _used_slots(g, lengths, indices, total)

    def pages() -> Array:
        content = rng.standard_normal((total, *g.page_shape))
        return rounded(np.where(used, content, garbage), g.dtype)

    n = sum(q for q, _ in lengths)
    return Batch(
        qo_indptr=np.cumsum([0, *(q for q, _ in lengths)], dtype=np.int32),
        kv_indptr=np.cumsum([0, *counts], dtype=np.int32),
        kv_indices=indices,
        kv_last_page_len=(kv_len - np.maximum(counts - 1, 0) * g.page_size).astype(np.int32),
        q=rounded(rng.standard_normal((n, g.num_qo_heads, g.head_dim)), g.dtype),
        k_pages=pages(),
        v_pages=pages(),
    )


def _used_slots(
    geometry: Geometry, lengths: Sequence[tuple[int, int]], indices: Int32, total: int
) -> npt.NDArray[np.bool_]:
    """Returns which slots of all pages hold a row of a request, to broadcast over pages."""
    used = np.zeros((total, geometry.page_size), np.bool_)
    begin = 0
    for _, length in lengths:
        count = -(-length // geometry.page_size)
        slots = np.arange(count * geometry.page_size) < length
        used[indices[begin : begin + count]] = slots.reshape(count, geometry.page_size)
        begin += count
    return used[:, :, None, None] if geometry.layout == "NHD" else used[:, None, :, None]


def gathered(geometry: Geometry, batch: Batch, pages: Array, request: int) -> Float64:
    """Returns the rows of a request out of an array of pages: [kv_len, heads, head_dim]."""
    chosen = exact(pages[batch.pages(request)])
    if geometry.layout == "HND":
        chosen = chosen.swapaxes(1, 2)
    count = len(chosen)
    length = max(count - 1, 0) * geometry.page_size + int(batch.kv_last_page_len[request])
    return chosen.reshape(-1, geometry.num_kv_heads, geometry.head_dim)[:length]


def attend(
    geometry: Geometry,
    batch: Batch,
    *,
    score_mod: ScoreMod | None = None,
    mask_mod: MaskMod | None = None,
    scale: float | None = None,
) -> tuple[Float64, Float64]:
    """
    Returns (out [n, Hq, D], lse [n, Hq]) in float64; the logarithm is natural.

    A row that sees no key has out 0 and lse -inf.
    """
    q = exact(batch.q)
    out, lse = np.zeros(q.shape), np.full(q.shape[:2], -np.inf)
    factor = geometry.head_dim**-0.5 if scale is None else scale
    for request in range(len(batch.kv_last_page_len)):
        rows = batch.rows(request)
        keys, values = (
            gathered(geometry, batch, pages, request) for pages in (batch.k_pages, batch.v_pages)
        )
        kv_idx = np.arange(len(keys))[None, :]
        n = batch.query_len(request)
        q_idx = np.arange(len(keys) - n, len(keys))[:, None]
        for head in range(geometry.num_qo_heads):
            k, v = keys[:, head // geometry.group], values[:, head // geometry.group]
            scores: Array = factor * (q[rows, head] @ k.T)
            if score_mod is not None:
                scores = np.asarray(score_mod(scores, request, head, q_idx, kv_idx))
            if mask_mod is not None:
                scores = np.where(mask_mod(request, head, q_idx, kv_idx), scores, -np.inf)
            scores = np.broadcast_to(scores, (n, len(keys)))
            out[rows, head], lse[rows, head] = average(scores, v)
    return out, lse


def average(scores: Float64, values: Float64) -> tuple[Float64, Float64]:
    """Returns the average of values [k, d] by the softmax of scores [n, k], and its lse [n]."""
    if not scores.size:
        return np.zeros((len(scores), values.shape[1])), np.full(len(scores), -np.inf)
    highest = scores.max(axis=1)
    # inf - inf is NaN, as it is for the kernel; only rows that see nothing are set apart.
    reference = np.where(highest == -np.inf, 0.0, highest)
    with np.errstate(invalid="ignore", divide="ignore"):
        weights = np.exp(scores - reference[:, None])
        total = weights.sum(axis=1)
        out = np.where(total[:, None] == 0, 0.0, weights @ values / total[:, None])
        return out, reference + np.log(total)


# Relative error of a whole result (Frobenius norm), by the dtype of the result.
TOLERANCE = {"bf16": 1e-2, "f16": 2e-3}
LSE_TOLERANCE = 1e-3
# That of two blocks of rows is of rounded weights: their relative errors are no greater.
ROUNDED_LSE_TOLERANCE = {"bf16": 2**-8, "f16": 2**-11}


def check(geometry: Geometry, got: tuple[Array, Array], expected: tuple[Float64, Float64]) -> None:
    """Compares (out, lse) with the reference, within the errors of 16-bit inputs and results."""
    out, lse = exact(got[0]), got[1].astype(np.float64)
    np.testing.assert_array_equal(np.isnan(out), np.isnan(expected[0]))
    error = np.linalg.norm(np.nan_to_num(out - expected[0]))
    assert error <= TOLERANCE[geometry.dtype] * np.linalg.norm(np.nan_to_num(expected[0]))
    np.testing.assert_allclose(lse, expected[1], rtol=0, atol=ROUNDED_LSE_TOLERANCE[geometry.dtype])
