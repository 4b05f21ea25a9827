"""
What attention means, in float64 NumPy: the reference that kernels are compared with.

It follows the definition, request by request and head by head, with no tiles and no online softmax.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .expression import ScalarType, Value, in_order
from .variants import TracedVariant

Float64 = npt.NDArray[np.float64]
Array = npt.NDArray[Any]


def _to_float64(x: Array) -> Array:
    return np.asarray(x, np.float64)


def _rsqrt(x: Array) -> Array:
    return 1.0 / np.sqrt(x)


def _sigmoid(x: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-x))


# What each operation of an expression computes; integers as Python's, not as 32 bits.
_OPERATIONS: dict[str, Callable[..., Array]] = {
    "abs": np.abs,
    "add": np.add,
    "and": np.bitwise_and,
    "convert": _to_float64,
    "div": np.true_divide,
    "eq": np.equal,
    "exp": np.exp,
    "exp2": np.exp2,
    "floor": np.floor,
    "floordiv": np.floor_divide,
    "ge": np.greater_equal,
    "gt": np.greater,
    "le": np.less_equal,
    "log": np.log,
    "log2": np.log2,
    "lt": np.less,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "mod": np.mod,
    "mul": np.multiply,
    "ne": np.not_equal,
    "or": np.bitwise_or,
    "rsqrt": _rsqrt,
    "sigmoid": _sigmoid,
    "sqrt": np.sqrt,
    "sub": np.subtract,
    "tanh": np.tanh,
    "where": np.where,
    "xor": np.bitwise_xor,
}
_DTYPES = {ScalarType.F32: np.float64, ScalarType.I32: np.int64, ScalarType.I1: np.bool_}


def evaluate(root: Value, arguments: Mapping[str, Array]) -> Array:
    """Returns the value of an expression for arrays of arguments, broadcast to one shape."""
    known: dict[int, Array] = {}
    with np.errstate(all="ignore"):
        for value in in_order(root):
            if value.op in arguments:
                result = arguments[value.op]
            elif value.constant is not None:
                result = np.asarray(value.constant, _DTYPES[value.dtype])
            else:
                result = _OPERATIONS[value.op](*(known[id(part)] for part in value.operands))
            known[id(value)] = result
    return known[id(root)]


@dataclass(frozen=True)
class Batch:
    """A batch as `plan` takes it: which rows and which pages belong to which request."""

    qo_indptr: npt.NDArray[np.int32]
    kv_indptr: npt.NDArray[np.int32]
    kv_indices: npt.NDArray[np.int32]
    kv_last_page_len: npt.NDArray[np.int32]

    def pages(self, request: int) -> npt.NDArray[np.int32]:
        """Returns the page numbers of a request, in order."""
        return self.kv_indices[self.kv_indptr[request] : self.kv_indptr[request + 1]]


def attend(
    variant: TracedVariant,
    batch: Batch,
    q: Array,
    k_pages: Array,
    v_pages: Array,
    *,
    scale: float,
    layout: str = "NHD",
) -> tuple[Float64, Float64]:
    """
    Returns (out [n, Hq, D], lse [n, Hq]) in float64 for arrays of any float type.

    `q` is [n, Hq, D]; pages are [pages, page_size, Hkv, D] in layout NHD and
    [pages, Hkv, page_size, D] in HND. A row that sees no key has out 0 and lse -inf.
    """
    out = np.zeros(q.shape, np.float64)
    lse = np.full(q.shape[:2], -np.inf)
    for request in range(len(batch.kv_last_page_len)):
        rows = slice(int(batch.qo_indptr[request]), int(batch.qo_indptr[request + 1]))
        pages = batch.pages(request)
        if rows.stop > rows.start and len(pages):
            length = (len(pages) - 1) * _page_size(k_pages, layout)
            length += int(batch.kv_last_page_len[request])
            keys = _gather(k_pages, pages, layout)[:length]
            values = _gather(v_pages, pages, layout)[:length]
            query = q[rows].astype(np.float64)
            out[rows], lse[rows] = _attend_one(variant, request, query, keys, values, scale)
    return out, lse


def _page_size(pages: Array, layout: str) -> int:
    return pages.shape[1] if layout == "NHD" else pages.shape[2]


def _gather(array: Array, pages: npt.NDArray[np.int32], layout: str) -> Float64:
    """Returns the tokens of a request: [tokens, heads, head_dim]."""
    chosen: Array = array[pages]
    if layout == "HND":
        chosen = chosen.transpose(0, 2, 1, 3)
    return np.concatenate([page.astype(np.float64) for page in chosen])


def _attend_one(
    variant: TracedVariant,
    request: int,
    query: Float64,
    keys: Float64,
    values: Float64,
    scale: float,
) -> tuple[Float64, Float64]:
    heads, group = query.shape[1], query.shape[1] // keys.shape[1]
    keys, values = (np.repeat(array, group, axis=1) for array in (keys, values))
    scores = scale * np.einsum("qhd,khd->hqk", query, keys)
    first = len(keys) - len(query)
    arguments: dict[str, Array] = {
        "b": np.asarray(request),
        "h": np.arange(heads)[:, None, None],
        "q_idx": (first + np.arange(len(query)))[None, :, None],
        "kv_idx": np.arange(len(keys))[None, None, :],
    }
    if variant.score is not None:
        changed = evaluate(variant.score, {"score": scores, **arguments})
        scores = np.broadcast_to(changed, scores.shape)
    if variant.mask is not None:
        seen = np.broadcast_to(evaluate(variant.mask, arguments), scores.shape)
        scores = np.where(seen, scores, -np.inf)
    return _softmax_average(scores, values)


def _softmax_average(scores: Float64, values: Float64) -> tuple[Float64, Float64]:
    highest: Float64 = scores.max(axis=-1, keepdims=True)
    reference = np.where(np.isneginf(highest), 0.0, highest)
    with np.errstate(all="ignore"):
        weights = np.exp(scores - reference)
        total = weights.sum(axis=-1)
        average = np.einsum("hqk,khd->qhd", weights, values) / total.T[..., None]
        lse = np.log(total) + reference[..., 0]
    empty = total == 0.0
    average[empty.T] = 0.0
    lse[empty] = -np.inf
    return average, lse.T
