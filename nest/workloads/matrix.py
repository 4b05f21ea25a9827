"""Matrix products: plain, batched, with epilogues, of quantised weights, and attention scores."""

from collections.abc import Mapping
from math import erf as scalar_erf
from math import sqrt

import numpy as np

from ...dialects.sym import floordiv, mod
from ..arithmetic import Array
from ..builder import Builder, Extent
from ..values import cast, erf, select, value_of
from .convolution import accumulator_of
from .workload import RangesLike, Workload, extent

NIBBLE_BIAS = 8  # a nibble stands for itself less this


def gemm(
    rows: Extent,
    columns: Extent,
    inner: Extent,
    *,
    dtype: str = "f32",
    ranges: RangesLike = "",
) -> Workload:
    """
    Returns `C[rows, columns] = A[rows, inner] @ B[inner, columns]`.

    f16 and bf16 are summed in f32, i8 in i32.
    """
    b = Builder("gemm", ranges)
    left, right = b.buffer("A", [rows, inner], dtype), b.buffer("B", [inner, columns], dtype)
    out = b.buffer("C", [rows, columns], accumulator_of(dtype), output=True)
    i, j, k = b.axes(i=rows, j=columns, k=inner)
    out[i, j] += left[i, k] * right[k, j]
    return Workload(b.build(), lambda arrays: {"C": arrays["A"] @ arrays["B"]})


def batched_gemm(
    batch: Extent,
    rows: Extent,
    columns: Extent,
    inner: Extent,
    *,
    dtype: str = "f32",
    ranges: RangesLike = "",
) -> Workload:
    """Returns GMM: `C[b] = A[b] @ B[b]`; the suite's order of shapes is (B, N, M, K)."""
    b = Builder("batched_gemm", ranges)
    left = b.buffer("A", [batch, rows, inner], dtype)
    right = b.buffer("B", [batch, inner, columns], dtype)
    out = b.buffer("C", [batch, rows, columns], accumulator_of(dtype), output=True)
    n, i, j, k = b.axes(b=batch, i=rows, j=columns, k=inner)
    out[n, i, j] += left[n, i, k] * right[n, k, j]
    return Workload(b.build(), lambda arrays: {"C": np.matmul(arrays["A"], arrays["B"])})


def transposed_batch_gemm(
    batch: Extent,
    length: Extent,
    heads: Extent,
    size: Extent,
    *,
    dtype: str = "f32",
    ranges: RangesLike = "",
) -> Workload:
    """
    Returns TBG (B, seq, heads, dim): queries times keys of all heads, after transposition.

    `Q` and `K` are `[batch, length, heads, size]`, `C` is `[batch, heads, length, length]`.
    """
    b = Builder("transposed_batch_gemm", ranges)
    shape = [batch, length, heads, size]
    query, key = b.buffer("Q", shape, dtype), b.buffer("K", shape, dtype)
    turned = b.temporary("QT", [batch, heads, length, size], dtype)
    turned_key = b.temporary("KT", [batch, heads, size, length], dtype)
    out = b.buffer("C", [batch, heads, length, length], accumulator_of(dtype), output=True)
    n, h, i, j, k = b.axes(b=batch, h=heads, i=length, j=length, k=size)
    turned[n, h, i, k] = query[n, i, h, k]
    turned_key[n, h, k, j] = key[n, j, h, k]
    out[n, h, i, j] += turned[n, h, i, k] * turned_key[n, h, k, j]
    return Workload(
        b.build(), lambda arrays: {"C": np.einsum("bihk,bjhk->bhij", arrays["Q"], arrays["K"])}
    )


def gemm_bias_gelu(
    rows: Extent,
    columns: Extent,
    inner: Extent,
    *,
    dtype: str = "f32",
    ranges: RangesLike = "",
) -> Workload:
    """Returns `Y = gelu(A @ B + bias)` with the exact GELU `x/2 * (1 + erf(x / sqrt(2)))`."""
    b = Builder("gemm_bias_gelu", ranges)
    wide = accumulator_of(dtype)
    left, right = b.buffer("A", [rows, inner], dtype), b.buffer("B", [inner, columns], dtype)
    bias = b.buffer("bias", [columns], wide)
    out = b.buffer("Y", [rows, columns], wide, output=True)
    total, shifted = (b.temporary(name, [rows, columns], wide) for name in ("C", "S"))
    i, j, k = b.axes(i=rows, j=columns, k=inner)
    total[i, j] += left[i, k] * right[k, j]
    shifted[i, j] = total[i, j] + bias[j]
    out[i, j] = shifted[i, j] * 0.5 * (1.0 + erf(shifted[i, j] * sqrt(0.5)))

    def reference(arrays: Mapping[str, Array]) -> dict[str, Array]:
        x = arrays["A"] @ arrays["B"] + arrays["bias"]
        return {"Y": x * np.vectorize(_normal_distribution, otypes=[np.float64])(x)}

    return Workload(b.build(), reference)


def _normal_distribution(x: float) -> float:
    return 0.5 + 0.5 * scalar_erf(x / sqrt(2))


def attention_scores(
    batch: Extent,
    heads: Extent,
    queries: Extent,
    keys: Extent,
    size: int,
    *,
    dtype: str = "f32",
    ranges: RangesLike = "",
) -> Workload:
    """
    Returns `Q @ K^T / sqrt(size)` where a query sees a key, else -inf.

    The last query stands at the last key and sees all. `Q[b, h, queries, size]`,
    `K[b, h, keys, size]`, `Y[b, h, queries, keys]`.
    """
    b = Builder("attention_scores", ranges)
    wide = accumulator_of(dtype)
    query = b.buffer("Q", [batch, heads, queries, size], dtype)
    key = b.buffer("K", [batch, heads, keys, size], dtype)
    out = b.buffer("Y", [batch, heads, queries, keys], wide, output=True)
    scores = b.temporary("S", [batch, heads, queries, keys], wide)
    n, h, i, j, k = b.axes(b=batch, h=heads, i=queries, j=keys, k=size)
    scores[n, h, i, j] += query[n, h, i, k] * key[n, h, j, k]
    seen = value_of(j + extent(queries)) <= i + extent(keys)
    out[n, h, i, j] = select(seen, scores[n, h, i, j] * (1 / sqrt(size)), float("-inf"))

    def reference(arrays: Mapping[str, Array]) -> dict[str, Array]:
        q, k = arrays["Q"], arrays["K"]
        scaled = np.einsum("bhik,bhjk->bhij", q, k) / sqrt(size)
        rows, columns = scaled.shape[-2:]
        hidden = np.triu(np.ones((rows, columns), bool), columns - rows + 1)
        scaled[..., hidden] = -np.inf
        return {"Y": scaled}

    return Workload(b.build(), reference)


def dequantized_gemm(
    rows: Extent,
    columns: Extent,
    inner: int,
    *,
    bits: int = 4,
    group: int = 32,
    dtype: str = "f16",
    ranges: RangesLike = "",
) -> Workload:
    """
    Returns `C = A @ (W * scale)` with weights of 8 or 4 bits and a scale for `group` rows of them.

    `A[rows, inner]`, `scale[inner/group, columns]` and the product are of `dtype`, sums in f32.
    Weights are i8 `[inner, columns]`; those of 4 bits are `[inner/2, columns]`, row 2r in the low
    half of a byte and row 2r+1 in the high one, each 8 more than the weight.
    """
    b = Builder(f"dequantized_gemm_i{bits}", ranges)
    packed = 2 if bits == 4 else 1
    left = b.buffer("A", [rows, inner], dtype)
    weight = b.buffer("W", [inner // packed, columns], "i8")
    scale = b.buffer("scale", [inner // group, columns], dtype)
    out = b.buffer("C", [rows, columns], accumulator_of(dtype), output=True)
    right = b.temporary("B", [inner, columns], dtype)
    i, j, k = b.axes(i=rows, j=columns, k=inner)
    if packed == 1:
        whole = cast(weight[k, j], "i32")
    else:
        byte = cast(weight[floordiv(k, 2), j], "i32")
        whole = ((byte >> cast(mod(k, 2) * 4, "i32")) & 15) - NIBBLE_BIAS
    right[k, j] = cast(whole, dtype) * scale[floordiv(k, group), j]
    out[i, j] += left[i, k] * right[k, j]

    def reference(arrays: Mapping[str, Array]) -> dict[str, Array]:
        weights = arrays["W"] if packed == 1 else _unpacked(arrays["W"])
        return {"C": arrays["A"] @ (weights * np.repeat(arrays["scale"], group, axis=0))}

    return Workload(b.build(), reference)


def _unpacked(weights: Array) -> Array:
    halves = weights % 16 - NIBBLE_BIAS, weights // 16 % 16 - NIBBLE_BIAS
    return np.stack(halves, axis=1).reshape(-1, weights.shape[-1])
