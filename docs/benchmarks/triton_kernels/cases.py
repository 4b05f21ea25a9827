"""
Launches of the tutorials' kernels: inputs, grid, and the results in float64 NumPy.

A case names its arguments as the kernel does. An array is a pointer to a copy of it, or, where the
kernel takes a descriptor, a tensor map of it. Every kernel has three sizes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Constants = dict[str, Any]
Generator = np.random.Generator


@dataclass(frozen=True)
class Result:
    """An output and what a launch should leave in it; `zeroed` where the kernel reads it first."""

    expected: Array
    dtype: str = "f16"
    zeroed: bool = False


@dataclass(frozen=True)
class Pointers:
    """An argument that points to addresses of several inputs or outputs."""

    values: tuple[Array | Result, ...]


Value = Array | Result | Pointers | int | float


@dataclass(frozen=True)
class Case:
    """A launch of a kernel."""

    size: str
    grid: tuple[int, ...]
    arguments: dict[str, Value]


def blocks(extent: int, block: int) -> int:
    """Returns how many blocks cover an extent."""
    return -(-extent // block)


def wide(array: Array) -> Array:
    """Returns an array in double precision."""
    return array.astype(np.float64)


def halves(rng: Generator, *shape: int) -> Array:
    """Returns normally distributed numbers in f16."""
    return rng.standard_normal(shape).astype("f2")


def add(turn: int, rng: Generator, constants: Constants) -> Case:
    """Returns a sum of two vectors."""
    n = (1000, 5000, 98432)[turn]
    x, y = rng.random((2, n), dtype="f4")
    arguments: dict[str, Value] = {"x_ptr": x, "y_ptr": y, "n_elements": n}
    arguments["output_ptr"] = Result(wide(x) + y, "f32")
    return Case(f"{n}", (blocks(n, constants["BLOCK_SIZE"]),), arguments)


def softmax(turn: int, rng: Generator, constants: Constants) -> Case:
    """Returns the softmax of rows; each CTA has several."""
    rows, columns, grid = ((5, 1000, 2), (64, 513, 16), (183, 781, 32))[turn]
    x = rng.standard_normal((rows, columns)).astype("f4")
    weights = np.exp(wide(x) - x.max(axis=1, keepdims=True))
    return Case(
        f"{rows}x{columns}",
        (grid,),
        {
            "input_ptr": x,
            "output_ptr": Result(weights / weights.sum(1, keepdims=True), "f32"),
            "input_row_stride": columns,
            "output_row_stride": columns,
            "n_rows": rows,
            "n_cols": columns,
        },
    )


def _normalised(rng: Generator, rows: int, columns: int) -> tuple[Array, Array, Array, Array]:
    """Returns inputs of a layer normalisation, their means and reciprocal deviations."""
    x = (rng.standard_normal((rows, columns)) * 0.5 - 2.3).astype("f2")
    mean = wide(x).mean(axis=1)
    deviation = 1 / np.sqrt(wide(x).var(axis=1) + 1e-5)
    return x, rng.random(columns).astype("f2"), mean, deviation


def layer_norm(turn: int, rng: Generator, constants: Constants) -> Case:
    """Returns a layer normalisation."""
    rows, columns = ((4, 1000), (64, 96), (20, 2500))[turn]
    x, weight, mean, deviation = _normalised(rng, rows, columns)
    bias = rng.random(columns).astype("f2")
    y = (wide(x) - mean[:, None]) * deviation[:, None] * wide(weight) + wide(bias)
    arguments: dict[str, Value] = {"X": x, "W": weight, "B": bias, "Y": Result(y)}
    arguments |= {"Mean": Result(mean, "f32"), "Rstd": Result(deviation, "f32")}
    arguments |= {"stride": columns, "N": columns, "eps": 1e-5}
    return Case(f"{rows}x{columns}", (rows,), arguments)


def layer_norm_dx(turn: int, rng: Generator, constants: Constants) -> Case:
    """Returns the gradients of a layer normalisation; rows that share a lock wait for it."""
    groups, block = constants["GROUP_SIZE_M"], constants["BLOCK_SIZE_N"]
    rows, columns = ((7, block), (groups + 40, block // 2 + 16), (3 * groups, 96))[turn]
    x, weight, mean, deviation = _normalised(rng, rows, columns)
    dy = (0.1 * rng.standard_normal((rows, columns))).astype("f2")
    hat = (wide(x) - mean[:, None]) * deviation[:, None]
    slope = wide(weight) * wide(dy)
    first = (hat * slope).mean(axis=1, keepdims=True)
    dx = (slope - hat * first - slope.mean(axis=1, keepdims=True)) * deviation[:, None]
    dw, db = np.zeros((2, groups, columns))
    np.add.at(dw, np.arange(rows) % groups, wide(dy) * hat)
    np.add.at(db, np.arange(rows) % groups, wide(dy))
    used = np.array([group < rows for group in range(groups)], "i4")
    arguments: dict[str, Value] = {"X": x, "DY": dy, "W": weight, "DX": Result(dx)}
    arguments |= {"DW": Result(dw, zeroed=True), "DB": Result(db, zeroed=True)}
    arguments |= {"Mean": mean.astype("f4"), "Rstd": deviation.astype("f4")}
    locks = np.concatenate((np.zeros(groups, "i4"), used))
    arguments |= {"Lock": Result(locks, "i32", zeroed=True), "stride": columns, "N": columns}
    return Case(f"{rows}x{columns}", (rows,), arguments)


def layer_norm_dwdb(turn: int, rng: Generator, constants: Constants) -> Case:
    """Returns sums of partial gradients."""
    rows, columns = ((5, 100), (96, 1000), (256, 300))[turn]
    dw, db = halves(rng, 2, rows, columns)
    arguments: dict[str, Value] = {"DW": dw, "DB": db, "M": rows, "N": columns}
    arguments |= {"FINAL_DW": Result(wide(dw).sum(0)), "FINAL_DB": Result(wide(db).sum(0))}
    return Case(f"{rows}x{columns}", (blocks(columns, constants["BLOCK_SIZE_N"]),), arguments)


def _tiles(constants: Constants, m: int, n: int) -> int:
    """Returns how many tiles cover a result."""
    return blocks(m, constants["BLOCK_SIZE_M"]) * blocks(n, constants["BLOCK_SIZE_N"])


def matmul(turn: int, rng: Generator, constants: Constants) -> Case:
    """Returns a product of two row-major matrices."""
    m, n, k = ((64, 64, 32), (112, 80, 208), (400, 272, 256))[turn]
    if not constants["WHOLE"]:
        m, n, k = ((37, 51, 29), (101, 77, 201), (333, 255, 127))[turn]
    a, b = halves(rng, m, k), halves(rng, k, n)
    product = wide(a) @ wide(b)
    if constants.get("ACTIVATION"):
        product = np.where(product >= 0, product, 0.01 * product)
    arguments: dict[str, Value] = {"a_ptr": a, "b_ptr": b, "c_ptr": Result(product)}
    arguments |= {"M": m, "N": n, "K": k, "stride_am": k, "stride_bk": n, "stride_cm": n}
    grid = min(_tiles(constants, m, n), constants.get("NUM_SMS", m * n))
    return Case(f"{m}x{n}x{k}", (grid,), arguments)


def matmul_transposed(turn: int, rng: Generator, constants: Constants) -> Case:
    """Returns a product with a transposed second factor, through tensor maps."""
    m, n, k = ((128, 128, 64), (208, 336, 144), (640, 384, 320))[turn]
    a, b = halves(rng, m, k), halves(rng, n, k)
    product = Result(wide(a) @ wide(b).T)
    arguments: dict[str, Value] = {"M": m, "N": n, "K": k}
    arguments |= {"a_desc": a, "b_desc": b, "c_desc": product}
    arguments |= {"a_ptr": a, "b_ptr": b, "c_ptr": product}
    grid = min(_tiles(constants, m, n), constants.get("NUM_SMS", m * n))
    return Case(f"{m}x{n}x{k}", (grid,), arguments)


def grouped(turn: int, rng: Generator, constants: Constants, transposed: bool = False) -> Case:
    """Returns several products in one launch."""
    sizes = (
        ((128, 128, 64),),
        ((256, 128, 64), (128, 384, 192)),
        ((384, 256, 128), (128, 128, 256), (256, 256, 64), (128, 640, 128)),
    )[turn]
    if transposed:
        sizes = tuple((m - 48, n - 32, k - 16) for m, n, k in sizes)
    a = tuple(halves(rng, m, k) for m, _, k in sizes)
    b = tuple(halves(rng, *((n, k) if transposed else (k, n))) for _, n, k in sizes)
    c = tuple(
        Result(wide(x) @ (wide(y).T if transposed else wide(y))) for x, y in zip(a, b, strict=True)
    )
    strides = [(x.shape[1], y.shape[1], n) for x, y, (_, n, _) in zip(a, b, sizes, strict=True)]
    arguments: dict[str, Value] = {"group_size": len(sizes)}
    arguments |= {"group_a_ptrs": Pointers(a), "group_b_ptrs": Pointers(b)}
    arguments |= {"group_c_ptrs": Pointers(c), "g_lds": np.array(strides, "i4")}
    arguments |= {"group_gemm_sizes": np.array(sizes, "i4")}
    return Case(f"{len(sizes)} products", (constants["NUM_SM"],), arguments)


def _heads(turn: int, rng: Generator, head_dim: int, count: int) -> list[Array]:
    """Returns tensors of batches, heads, rows and columns."""
    batch, heads, length = ((1, 2, 128), (2, 1, 256), (2, 3, 384))[turn]
    return [(0.5 * halves(rng, batch, heads, length, head_dim)) for _ in range(count)]


def _scores(q: Array, k: Array, scale: float, causal: bool) -> Array:
    """Returns the scores of all queries and keys."""
    scores: Array = np.einsum("zhqd,zhkd->zhqk", wide(q), wide(k)) * scale
    if causal:
        scores = np.where(np.tri(q.shape[2], dtype=np.bool_), scores, -np.inf)
    return scores


def _softmax(scores: Array) -> tuple[Array, Array]:
    """Returns the softmax of rows and the binary logarithm of their sums."""
    highest = scores.max(axis=-1, keepdims=True)
    weights = np.exp(scores - highest)
    total = weights.sum(axis=-1, keepdims=True)
    return weights / total, ((highest + np.log(total)) / np.log(2))[..., 0]


def attention(turn: int, rng: Generator, constants: Constants) -> Case:
    """Returns attention, causal or not."""
    q, k, v = _heads(turn, rng, constants["HEAD_DIM"], 3)
    batch, heads, length, head_dim = q.shape
    scale = 0.5
    weights, logs = _softmax(_scores(q, k, scale, constants["STAGE"] == 3))
    flat = batch * heads * length
    arguments: dict[str, Value] = {"sm_scale": scale, "Z": batch, "H": heads, "N_CTX": length}
    for name, value in (("desc_q", q), ("desc_k", k), ("desc_v", v)):
        arguments[name] = value.reshape(flat, head_dim)
    arguments["desc_o"] = Result((weights @ wide(v)).reshape(flat, head_dim))
    arguments["M"] = Result(logs, "f32")
    grid = (blocks(length, constants["BLOCK_M"]), batch * heads, 1)
    return Case(f"{batch}x{heads}x{length}x{head_dim}", grid, arguments)


def attention_delta(turn: int, rng: Generator, constants: Constants) -> Case:
    """Returns the sums that the gradients of attention need of each row."""
    o, do = _heads(turn, rng, constants["HEAD_DIM"], 2)
    batch, heads, length, head_dim = o.shape
    arguments: dict[str, Value] = {"O": o, "DO": do, "Z": batch, "H": heads, "N_CTX": length}
    arguments["Delta"] = Result((wide(o) * wide(do)).sum(axis=-1), "f32")
    grid = (length // constants["BLOCK_M"], batch * heads)
    return Case(f"{batch}x{heads}x{length}x{head_dim}", grid, arguments)


def attention_backward(turn: int, rng: Generator, constants: Constants) -> Case:
    """Returns the gradients of attention."""
    q, k, v, do = _heads(turn, rng, constants["HEAD_DIM"], 4)
    batch, heads, length, head_dim = q.shape
    scale = 0.5
    # As the tutorial does, the keys come scaled; so the reference begins from these.
    scaled = (wide(k) * scale / np.log(2)).astype("f2")
    keys = wide(scaled) * np.log(2) / scale
    weights, logs = _softmax(_scores(q, keys, scale, constants["CAUSAL"]))
    delta = ((weights @ wide(v)) * wide(do)).sum(axis=-1)
    slopes = weights * (np.einsum("zhqd,zhkd->zhqk", wide(do), wide(v)) - delta[..., None])
    arguments: dict[str, Value] = {"Q": q, "K": scaled, "V": v, "DO": do, "sm_scale": scale}
    arguments["DQ"] = Result(slopes @ keys * scale)
    arguments["DK"] = Result(np.einsum("zhqk,zhqd->zhkd", slopes, wide(q)) * scale)
    arguments["DV"] = Result(np.einsum("zhqk,zhqd->zhkd", weights, wide(do)))
    arguments |= {"M": logs.astype("f4"), "D": delta.astype("f4"), "H": heads, "N_CTX": length}
    arguments |= {"stride_z": heads * length * head_dim, "stride_h": length * head_dim}
    arguments["stride_tok"] = head_dim
    grid = (length // constants["BLOCK_N1"], 1, batch * heads)
    return Case(f"{batch}x{heads}x{length}x{head_dim}", grid, arguments)


def grouped_tma(turn: int, rng: Generator, constants: Constants) -> Case:
    """Returns several products with transposed second factors in one launch."""
    return grouped(turn, rng, constants, transposed=True)


# Functions of the tutorials and what makes their launches.
CASES: dict[str, Callable[[int, Generator, Constants], Case]] = {
    "add_kernel": add,
    "softmax_kernel": softmax,
    "_layer_norm_fwd_fused": layer_norm,
    "_layer_norm_bwd_dx_fused": layer_norm_dx,
    "_layer_norm_bwd_dwdb": layer_norm_dwdb,
    "matmul_kernel": matmul,
    "matmul_kernel_persistent": matmul,
    "matmul_kernel_tma": matmul_transposed,
    "matmul_kernel_tma_persistent": matmul_transposed,
    "matmul_kernel_descriptor_persistent": matmul_transposed,
    "grouped_matmul_kernel": grouped,
    "grouped_matmul_tma_kernel": grouped_tma,
    "_attn_fwd": attention,
    "_attn_bwd_preprocess": attention_delta,
    "_attn_bwd": attention_backward,
}
