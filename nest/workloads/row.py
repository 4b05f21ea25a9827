"""Work on rows: norms, softmax, layer norms, rotary embedding and elementwise chains."""

from collections.abc import Mapping
from math import log

import numpy as np

from ...dialects.sym import mod
from ..arithmetic import Array
from ..builder import Builder, Extent, maximize
from ..values import cast, exp, maximum, rsqrt, select, sigmoid, sqrt, tanh, value_of
from .workload import RangesLike, Workload, extent

EPSILON = 1e-5
ROPE_BASE = 10000.0


def norm(
    batch: Extent, rows: Extent, columns: Extent, *, dtype: str = "f32", ranges: RangesLike = ""
) -> Workload:
    """Returns NRM (B, M, N): the Frobenius norm of each matrix of `X`, in `Y[batch]`."""
    b = Builder("norm", ranges)
    x = b.buffer("X", [batch, rows, columns], dtype)
    y = b.buffer("Y", [batch], "f32", output=True)
    total = b.temporary("S", [batch], "f32")
    n, i, j = b.axes(b=batch, i=rows, j=columns)
    total[n] += x[n, i, j] * x[n, i, j]
    y[n] = sqrt(total[n])
    return Workload(
        b.build(), lambda arrays: {"Y": np.linalg.norm(arrays["X"], ord="fro", axis=(1, 2))}
    )


def softmax(
    rows: Extent, columns: Extent, *, dtype: str = "f32", ranges: RangesLike = ""
) -> Workload:
    """Returns SFM (M, N): `exp(x - max) / sum` of each row; no power overflows."""
    b = Builder("softmax", ranges)
    x = b.buffer("X", [rows, columns], dtype)
    y = b.buffer("Y", [rows, columns], dtype, output=True)
    largest, total = b.temporary("M", [rows], dtype), b.temporary("S", [rows], "f32")
    power = b.temporary("E", [rows, columns], "f32")
    i, j = b.axes(i=rows, j=columns)
    largest[i] = maximize(x[i, j])
    power[i, j] = exp(cast(x[i, j], "f32") - cast(largest[i], "f32"))
    total[i] += power[i, j]
    y[i, j] = cast(power[i, j] / total[i], dtype)

    def reference(arrays: Mapping[str, Array]) -> dict[str, Array]:
        x = arrays["X"]
        return {"Y": np.exp(x - np.logaddexp.reduce(x, axis=1, keepdims=True))}

    return Workload(b.build(), reference)


def layer_norm(
    rows: Extent, columns: Extent, *, dtype: str = "f32", ranges: RangesLike = ""
) -> Workload:
    """Returns `(x - mean) / sqrt(variance + 1e-5) * gamma + beta` of each row, by two sums."""
    b = Builder("layer_norm", ranges)
    x = b.buffer("X", [rows, columns], dtype)
    gamma, beta = b.buffer("gamma", [columns], dtype), b.buffer("beta", [columns], dtype)
    y = b.buffer("Y", [rows, columns], dtype, output=True)
    total, squares = b.temporary("S", [rows], "f32"), b.temporary("V", [rows], "f32")
    i, j = b.axes(i=rows, j=columns)
    count = cast(cast(value_of(extent(columns)), "i32"), "f32")
    total[i] += x[i, j]
    centred = cast(x[i, j], "f32") - total[i] / count
    squares[i] += centred * centred
    scaled = centred * rsqrt(squares[i] / count + EPSILON)
    y[i, j] = cast(scaled * cast(gamma[j], "f32") + cast(beta[j], "f32"), dtype)

    def reference(arrays: Mapping[str, Array]) -> dict[str, Array]:
        x = arrays["X"]
        deviation = np.sqrt(np.var(x, axis=1, keepdims=True) + EPSILON)
        scaled = (x - np.mean(x, axis=1, keepdims=True)) / deviation
        return {"Y": scaled * arrays["gamma"] + arrays["beta"]}

    return Workload(b.build(), reference)


def rms_norm(
    rows: Extent, columns: Extent, *, dtype: str = "f32", ranges: RangesLike = ""
) -> Workload:
    """Returns `x / sqrt(mean(x*x) + 1e-5) * gamma` of each row."""
    b = Builder("rms_norm", ranges)
    x, gamma = b.buffer("X", [rows, columns], dtype), b.buffer("gamma", [columns], dtype)
    y = b.buffer("Y", [rows, columns], dtype, output=True)
    squares = b.temporary("S", [rows], "f32")
    i, j = b.axes(i=rows, j=columns)
    count = cast(cast(value_of(extent(columns)), "i32"), "f32")
    wide = cast(x[i, j], "f32")
    squares[i] += wide * wide
    y[i, j] = cast(wide * rsqrt(squares[i] / count + EPSILON) * cast(gamma[j], "f32"), dtype)

    def reference(arrays: Mapping[str, Array]) -> dict[str, Array]:
        x = arrays["X"]
        size = np.sqrt(np.einsum("ij,ij->i", x, x) / x.shape[1] + EPSILON)
        return {"Y": x / size[:, np.newaxis] * arrays["gamma"]}

    return Workload(b.build(), reference)


def rope(
    batch: Extent,
    length: Extent,
    heads: Extent,
    size: int,
    *,
    dtype: str = "f32",
    ranges: RangesLike = "",
) -> Workload:
    """
    Returns the rotary embedding of `X[batch, length, heads, size]`, halves rotated.

    Elements d and d + size/2 turn by the angle `position * 10000**(-2d/size)`. The caller passes
    the table of angles' cosines and sines, `[length, size/2]` each, in f32.
    """
    b = Builder("rope", ranges)
    half = size // 2
    shape = [batch, length, heads, size]
    x, y = b.buffer("X", shape, dtype), b.buffer("Y", shape, dtype, output=True)
    cosine, sine = (b.buffer(name, [length, half], "f32") for name in ("cosine", "sine"))
    n, t, h, d = b.axes(b=batch, t=length, h=heads, d=size)
    other = cast(x[n, t, h, mod(d + half, size)], "f32")
    turned = select(value_of(d) < half, -other, other)
    straight = cast(x[n, t, h, d], "f32") * cosine[t, mod(d, half)]
    y[n, t, h, d] = cast(straight + turned * sine[t, mod(d, half)], dtype)

    def reference(arrays: Mapping[str, Array]) -> dict[str, Array]:
        x = arrays["X"][..., :half] + 1j * arrays["X"][..., half:]
        turn = arrays["cosine"] + 1j * arrays["sine"]
        turned = x * turn[:, np.newaxis, :]
        return {"Y": np.concatenate([turned.real, turned.imag], axis=-1)}

    return Workload(b.build(), reference)


def rope_tables(length: int, size: int) -> tuple[Array, Array]:
    """Returns the cosines and sines of the rotary embedding, `[length, size/2]` each, in f32."""
    frequency = np.exp(-2 * log(ROPE_BASE) / size * np.arange(size // 2))
    angle = np.arange(length)[:, np.newaxis] * frequency
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


def chain(
    rows: Extent, columns: Extent, *, dtype: str = "f32", ranges: RangesLike = ""
) -> Workload:
    """Returns four elementwise blocks after one another: `tanh(relu(x*scale + y) - y)`."""
    b = Builder("chain", ranges)
    shape = [rows, columns]
    x, y = b.buffer("X", shape, dtype), b.buffer("Z", shape, dtype)
    scale = b.buffer("scale", [columns], dtype)
    out = b.buffer("Y", shape, dtype, output=True)
    product, total, positive = (b.temporary(name, shape, dtype) for name in ("P", "S", "R"))
    i, j = b.axes(i=rows, j=columns)
    product[i, j] = x[i, j] * scale[j]
    total[i, j] = product[i, j] + y[i, j]
    positive[i, j] = maximum(total[i, j], 0.0)
    out[i, j] = tanh(positive[i, j] - y[i, j])

    def reference(arrays: Mapping[str, Array]) -> dict[str, Array]:
        total = arrays["X"] * arrays["scale"][np.newaxis] + arrays["Z"]
        return {"Y": np.tanh(np.clip(total, 0, None) - arrays["Z"])}

    return Workload(b.build(), reference)


def gated(
    rows: Extent, columns: Extent, *, dtype: str = "f32", ranges: RangesLike = ""
) -> Workload:
    """Returns the SwiGLU gate: `a*sigmoid(a) * c` of the halves of `X[rows, 2*columns]`."""
    b = Builder("gated", ranges)
    x = b.buffer("X", [rows, extent(columns) * 2], dtype)
    out = b.buffer("Y", [rows, columns], dtype, output=True)
    gate = b.temporary("G", [rows, columns], "f32")
    i, j = b.axes(i=rows, j=columns)
    gate[i, j] = cast(x[i, j], "f32") * sigmoid(cast(x[i, j], "f32"))
    out[i, j] = cast(gate[i, j] * cast(x[i, j + extent(columns)], "f32"), dtype)

    def reference(arrays: Mapping[str, Array]) -> dict[str, Array]:
        first, second = np.split(arrays["X"], 2, axis=1)
        return {"Y": first / (1 + np.exp(-first)) * second}

    return Workload(b.build(), reference)


def transposition(
    rows: Extent, columns: Extent, *, dtype: str = "f32", ranges: RangesLike = ""
) -> Workload:
    """Returns `Y[columns, rows]`, the transpose of `X`."""
    b = Builder("transposition", ranges)
    x = b.buffer("X", [rows, columns], dtype)
    y = b.buffer("Y", [columns, rows], dtype, output=True)
    i, j = b.axes(j=columns, i=rows)
    y[i, j] = x[j, i]
    return Workload(b.build(), lambda arrays: {"Y": np.swapaxes(arrays["X"], 0, 1)})
