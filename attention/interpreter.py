"""
What attention means, in float64 NumPy: the reference that kernels are compared with.

It follows the definition, request by request and head by head, with no tiles and no online softmax.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..runtime.errors import ArgumentError
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


def _shift_left(x: Array, places: Array) -> Array:
    """The word of 32 bits, with its sign."""
    return np.left_shift(x, places).astype(np.int32).astype(np.int64)


# What each operation of an expression computes; integers as Python's, not as 32 bits.
_OPERATIONS: dict[str, Callable[..., Array]] = {
    "abs": np.abs,
    "add": np.add,
    "and": np.bitwise_and,
    "convert": _to_float64,
    "cos": np.cos,
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
    "shl": _shift_left,
    "shr": np.right_shift,
    "sigmoid": _sigmoid,
    "sin": np.sin,
    "sqrt": np.sqrt,
    "sub": np.subtract,
    "tanh": np.tanh,
    "where": np.where,
    "within_turn": _to_float64,
    "xor": np.bitwise_xor,
}
_DTYPES = {ScalarType.F32: np.float64, ScalarType.I32: np.int64, ScalarType.I1: np.bool_}


@dataclass(frozen=True)
class Reads:
    """
    What expressions read beside their arguments.

    `params` holds the variant's parameters by name, as arrays. `pages` are the pages of the
    request and `page_size` the tokens of one; `first_row` is the row of q of position 0. `row`
    [..., head_dim] is the row that a transform works on.
    """

    params: Mapping[str, Array] = field(default_factory=dict[str, Array])
    pages: Array | None = None
    page_size: int = 1
    first_row: int = 0
    row: Array | None = None

    def read(self, value: Value, operands: Sequence[Array]) -> Array:
        """Returns what a node reads; an index outside of an axis stands for the nearest one."""
        match value.op:
            case "scalar":
                return np.asarray(self._param(value), _DTYPES[value.dtype])
            case "load":
                array = self._param(value)
                places = tuple(
                    np.clip(index, 0, extent - 1)
                    for index, extent in zip(operands, array.shape, strict=True)
                )
                return array[places].astype(_DTYPES[value.dtype])
            case "page" if self.pages is not None:
                entry = np.clip(operands[0] // self.page_size, 0, len(self.pages) - 1)
                return self.pages[entry].astype(np.int64)
            case "query_row":
                return operands[0] + self.first_row
            case "element" if self.row is not None:
                return _element(self.row, operands[1])
            case _:
                raise ValueError(f"nothing gives the {value.op} that an expression reads")

    def _param(self, value: Value) -> Array:
        parameter = value.parameter
        if parameter is None or parameter.name not in self.params:
            name = "" if parameter is None else parameter.name
            raise ArgumentError(name, "a value for this parameter of the variant", "nothing")
        return np.asarray(self.params[parameter.name])


def _element(row: Array, index: Array) -> Array:
    """Returns elements of the last axis of a row, at indices that broadcast with it."""
    index = np.clip(index, 0, row.shape[-1] - 1)
    index = index.reshape((1,) * (row.ndim - index.ndim) + index.shape)
    shape = np.broadcast_shapes(row.shape[:-1], index.shape[:-1])
    wide = np.broadcast_to(row, (*shape, row.shape[-1]))
    return np.take_along_axis(wide, np.broadcast_to(index, (*shape, index.shape[-1])), axis=-1)


_NO_READS = Reads()
_READS = ("scalar", "load", "page", "query_row", "element")


def evaluate(root: Value, arguments: Mapping[str, Array], reads: Reads = _NO_READS) -> Array:
    """Returns the value of an expression for arrays of arguments, broadcast to one shape."""
    known: dict[int, Array] = {}
    with np.errstate(all="ignore"):
        for value in in_order(root):
            operands = [known[id(part)] for part in value.operands]
            result: Array
            if value.op in arguments:
                result = arguments[value.op]
            elif value.constant is not None:
                result = np.asarray(value.constant, _DTYPES[value.dtype])
            elif value.op == "index" and reads.row is not None:
                # The terms of a sum lie along the last axis.
                result = np.arange(reads.row.shape[-1], dtype=np.int64)
            elif value.op == "row_sum" and reads.row is not None:
                shape = np.broadcast_shapes(operands[0].shape, operands[1].shape)
                result = np.broadcast_to(operands[0], shape).sum(axis=-1, keepdims=True)
            elif value.op in _READS:
                result = reads.read(value, operands)
            else:
                result = _OPERATIONS[value.op](*operands)
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
    params: Mapping[str, Any] | None = None,
) -> tuple[Float64, Float64]:
    """
    Returns (out [n, Hq, D], lse [n, Hq]) in float64 for arrays of any float type.

    `q` is [n, Hq, D]; pages are [pages, page_size, Hkv, D] in layout NHD and
    [pages, Hkv, page_size, D] in HND. `params` holds the variant's parameters by name. A row that
    sees no key has out 0 and lse -inf, unless the variant's update of its state says otherwise.
    Raises `ArgumentError` for a parameter that is missing.
    """
    out = np.zeros(q.shape, np.float64)
    lse = np.full(q.shape[:2], -np.inf)
    arrays = {name: np.asarray(value) for name, value in (params or {}).items()}
    for request in range(len(batch.kv_last_page_len)):
        rows = slice(int(batch.qo_indptr[request]), int(batch.qo_indptr[request + 1]))
        pages = batch.pages(request)
        if rows.stop == rows.start:
            continue
        page_size = _page_size(k_pages, layout)
        length = max(len(pages) - 1, 0) * page_size + int(batch.kv_last_page_len[request])
        query = q[rows].astype(np.float64)
        keys, values = (
            _gather(array, pages, layout)[:length].astype(np.float64)
            for array in (k_pages, v_pages)
        )
        first = length - len(query)
        reads = Reads(arrays, pages, page_size, rows.start - first)
        one = _Request(variant, reads, request, first)
        out[rows], lse[rows] = one.attend(query, keys, values, scale)
    return out, lse


def _page_size(pages: Array, layout: str) -> int:
    return pages.shape[1] if layout == "NHD" else pages.shape[2]


def _gather(array: Array, pages: npt.NDArray[np.int32], layout: str) -> Array:
    """Returns the tokens of a request: [tokens, heads, head_dim]."""
    chosen: Array = array[pages]
    if layout == "HND":
        chosen = chosen.transpose(0, 2, 1, 3)
    return chosen.reshape(-1, *chosen.shape[2:])


@dataclass(frozen=True)
class _Request:
    """One request: its number, the position of its first query, and what its regions read."""

    variant: TracedVariant
    reads: Reads
    number: int
    first: int

    def attend(
        self, query: Float64, keys: Float64, values: Float64, scale: float
    ) -> tuple[Float64, Float64]:
        """Returns (out [rows, Hq, D], lse [rows, Hq])."""
        heads, group = query.shape[1], query.shape[1] // keys.shape[1]
        at = self.first + np.arange(len(query))
        query = self._transform("query", "x", query, "q_idx", at)
        keys = self._transform("key", "x", keys, "kv_idx", np.arange(len(keys)))
        values = self._transform("value", "x", values, "kv_idx", np.arange(len(values)))
        keys, values = (np.repeat(array, group, axis=1) for array in (keys, values))
        with np.errstate(invalid="ignore", over="ignore"):
            scores: Float64 = scale * np.einsum("qhd,khd->hqk", query, keys)
        positions: dict[str, Array] = {
            "b": np.asarray(self.number),
            "h": np.arange(heads)[:, None, None],
            "q_idx": at[None, :, None],
            "kv_idx": np.arange(len(keys))[None, None, :],
        }
        if self.variant.score is not None:
            changed = evaluate(self.variant.score, {"score": scores, **positions}, self.reads)
            scores = np.broadcast_to(changed, scores.shape)
        seen = np.ones(scores.shape, np.bool_)
        if self.variant.mask is not None:
            seen = np.broadcast_to(evaluate(self.variant.mask, positions, self.reads), scores.shape)
        out, lse = self._average(scores, seen, values)
        return self._transform("output", "out", out, "q_idx", at), lse

    def _transform(self, kind: str, name: str, rows: Float64, position: str, at: Array) -> Float64:
        """Returns rows [rows, heads, head_dim] as a region of the variant changes them."""
        roots = self.variant.regions.get(kind)
        if roots is None or not rows.size:
            return rows
        arguments: dict[str, Array] = {
            name: rows,
            "b": np.asarray(self.number),
            "h": np.arange(rows.shape[1])[None, :, None],
            position: at[:, None, None],
            "d": np.arange(rows.shape[2])[None, None, :],
        }
        changed = evaluate(roots[0], arguments, replace(self.reads, row=rows))
        return np.broadcast_to(changed, rows.shape)

    def _average(
        self, scores: Float64, seen: npt.NDArray[np.bool_], values: Float64
    ) -> tuple[Float64, Float64]:
        """Returns the average of the values by the weights of the scores, and its lse."""
        if not self.variant.softmax:
            weights = np.where(seen, scores, 0.0)
            with np.errstate(all="ignore"):
                lse = np.log(weights.sum(axis=-1))
                return _weighted(weights, seen, values), lse.T
        scores = np.where(seen, scores, -np.inf)
        highest: Float64 = scores.max(axis=-1, initial=-np.inf)
        reference = np.where(np.isneginf(highest), 0.0, highest)
        with np.errstate(all="ignore"):
            weights = np.exp(scores - reference[..., None])
            total = weights.sum(axis=-1)
            weighted = _weighted(weights, seen, values)
            new_highest, new_total = self._update_state(highest, total)
            new_reference = np.where(np.isneginf(new_highest), 0.0, new_highest)
            factor = np.exp(reference - new_reference) / new_total
            lse = np.log(new_total) + new_reference
        factor = np.where(new_total == 0.0, 0.0, factor)
        average = np.where((total == 0.0).T[..., None], 0.0, weighted * factor.T[..., None])
        return average, lse.T

    def _update_state(self, highest: Float64, total: Float64) -> tuple[Float64, Float64]:
        roots = self.variant.regions.get("state")
        if roots is None:
            return highest, total
        heads, rows = total.shape
        arguments: dict[str, Array] = {
            "m": highest,
            "total": total,
            "b": np.asarray(self.number),
            "h": np.arange(heads)[:, None],
            "q_idx": (self.first + np.arange(rows))[None, :],
        }
        first, second = (evaluate(root, arguments, self.reads) for root in roots)
        return np.broadcast_to(first, total.shape), np.broadcast_to(second, total.shape)


def _weighted(weights: Float64, seen: npt.NDArray[np.bool_], values: Float64) -> Float64:
    """
    Returns the sums [q, h, d] of values [k, h, d], by weights [h, q, k].

    NaN and infinities reach the rows that see them, of whatever weight, and no others.
    """
    finite = np.isfinite(values)
    sums = np.einsum("hqk,khd->qhd", weights, np.where(finite, values, 0.0))
    for key in np.flatnonzero(~finite.all(axis=(1, 2))):
        # A weight of 0 was too small for a number: it makes no NaN of an infinity.
        signs = np.where(weights[..., key] < 0, -1.0, 1.0).T[..., None]
        reaching = seen[..., key].T[..., None] & ~finite[key]
        sums += np.where(reaching, signs * np.where(finite[key], 0.0, values[key]), 0.0)
    return sums
