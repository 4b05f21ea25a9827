"""A paged KV cache in NumPy: random batches, and what appending to a cache means, in float64."""

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from tilewright.runtime.page_table import PageTable

Array = npt.NDArray[Any]
DTYPES = {"f16": np.float16, "bf16": ml_dtypes.bfloat16, "f32": np.float32}
FLOAT8 = {"e4m3": ml_dtypes.float8_e4m3fn, "e5m2": ml_dtypes.float8_e5m2}
LARGEST = {"e4m3": 448.0, "e5m2": 57344.0, "i8": 127.0, "i4": 7.0}


@dataclass(frozen=True)
class Batch:
    """Requests whose last `counts[b]` tokens are new, on pages in random order."""

    table: PageTable
    counts: Array
    pages: int

    @property
    def append_indptr(self) -> npt.NDArray[np.int32]:
        """The rows of each request, int32 [B + 1]."""
        return np.concatenate([[0], np.cumsum(self.counts)]).astype(np.int32)

    @property
    def tokens(self) -> int:
        """The number of new tokens."""
        return int(self.counts.sum())

    def places(self) -> list[tuple[int, int, int]]:
        """Returns (page, slot, position) of each new token, by walking over the requests."""
        found: list[tuple[int, int, int]] = []
        for b, count in enumerate(self.counts):
            pages = self.table.kv_indices[self.table.kv_indptr[b] : self.table.kv_indptr[b + 1]]
            length = int(self.table.lengths[b])
            for position in range(length - int(count), length):
                page, slot = divmod(position, self.table.page_size)
                found.append((int(pages[page]), slot, position))
        return found


def batch_of(requests: list[tuple[int, int]], page_size: int, seed: int = 0) -> Batch:
    """Returns a batch of requests with (old, new) tokens each."""
    lengths = np.array([old + new for old, new in requests], np.int64)
    pages = -(-lengths // page_size)
    total = int(pages.sum()) + 3
    order = np.random.default_rng(seed).permutation(total)[: total - 3].astype(np.int32)
    last = np.where(lengths > 0, lengths - (pages - 1) * page_size, 0).astype(np.int32)
    indptr = np.concatenate([[0], np.cumsum(pages)]).astype(np.int32)
    counts = np.array([new for _, new in requests], np.int64)
    return Batch(PageTable(indptr, order, last, page_size), counts, total)


def rotated(rows: Array, positions: Array, frequencies: Array, interleaved: bool) -> Array:
    """Returns rows [n, heads, dim] rotated by RoPE, in float64."""
    angles = positions[:, None].astype(np.float64) * frequencies.astype(np.float64)
    cosine, sine = np.cos(angles)[:, None], np.sin(angles)[:, None]
    x, half = rows.astype(np.float64), rows.shape[-1] // 2
    first, second = (slice(None, half), slice(half, None))
    if interleaved:
        first, second = (slice(None, None, 2), slice(1, None, 2))
    out = np.empty_like(x)
    out[..., first] = x[..., first] * cosine - x[..., second] * sine
    out[..., second] = x[..., second] * cosine + x[..., first] * sine
    return out


def scattered(pages: Array, rows: Array, batch: Batch, layout: str) -> Array:
    """Returns pages with rows [nnz, heads, width] at the places of the new tokens."""
    result = pages.copy()
    for row, (page, slot, _) in zip(rows, batch.places(), strict=True):
        if layout == "NHD":
            result[page, slot] = row
        else:
            result[page, :, slot] = row
    return result


def gathered(pages: Array, batch: Batch, layout: str) -> Array:
    """Returns the rows of the new tokens, [nnz, heads, width]."""
    places = batch.places()
    rows = [pages[p, s] if layout == "NHD" else pages[p, :, s] for p, s, _ in places]
    return np.array(rows) if rows else np.empty((0, *pages.shape[2:]), pages.dtype)


def unpacked(codes: Array, dtype: str) -> Array:
    """Returns the numbers that stored codes stand for, before their scales, float64."""
    if dtype in FLOAT8:
        return codes.view(FLOAT8[dtype]).astype(np.float64)
    if dtype == "i8":
        return codes.astype(np.float64)
    low, high = codes & 15, codes >> 4
    both = np.stack([low, high], axis=-1).reshape(*codes.shape[:-1], -1).astype(np.int64)
    return np.where(both > 7, both - 16, both).astype(np.float64)


def quantized(rows: Array, dtype: str, block: int, scale_dtype: str) -> tuple[Array, Array]:
    """Returns (codes before packing, float64, and scales) of rows, as the format defines them."""
    x = rows.astype(np.float32).reshape(*rows.shape[:-1], -1, block)
    largest = np.abs(x).max(axis=-1)
    exact = largest * np.float32(1.0 / LARGEST[dtype])
    scales = exact.astype(DTYPES[scale_dtype])
    wide = scales.astype(np.float32)
    with np.errstate(divide="ignore"):
        inverse = np.where(wide == 0, np.float32(0), np.float32(1) / wide)
    scaled = np.clip(x * inverse[..., None], -LARGEST[dtype], LARGEST[dtype])
    codes = scaled.astype(FLOAT8[dtype]) if dtype in FLOAT8 else np.rint(scaled)
    return codes.astype(np.float64).reshape(rows.shape), scales
