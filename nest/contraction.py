"""Reductions of whole arrays: sums of products as matrix products, others by NumPy's ufuncs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .arithmetic import Array

_UFUNCS: Mapping[str, Callable[..., Any]] = {
    "addf": np.add.reduce,
    "addi": np.add.reduce,
    "mulf": np.multiply.reduce,
    "muli": np.multiply.reduce,
    "maximumf": np.maximum.reduce,
    "minimumf": np.minimum.reduce,
    "maxnumf": np.fmax.reduce,
    "minnumf": np.fmin.reduce,
    "maxsi": np.maximum.reduce,
    "minsi": np.minimum.reduce,
    "maxui": np.maximum.reduce,
    "minui": np.minimum.reduce,
    "andi": np.bitwise_and.reduce,
    "ori": np.bitwise_or.reduce,
    "xori": np.bitwise_xor.reduce,
}
# Integers of width 1 are NumPy's booleans: their sum is modulo 2, and true is -1 as a signed one.
_OF_BOOLEANS = {"addi": "xori", "muli": "andi", "maxsi": "andi", "minsi": "ori"}


def reduced(op: str, values: Array, axes: tuple[int, ...]) -> Array:
    """Returns the values combined by an op of `arith` along axes, in their own dtype."""
    name = op.removeprefix("arith.")
    if values.dtype == np.bool_:
        name = _OF_BOOLEANS.get(name, name)
    if name.endswith("ui") and values.dtype.kind == "i":
        unsigned = np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}")
        result = np.asarray(_UFUNCS[name](unsigned, axis=axes))
        return result.view(values.dtype)
    return np.asarray(_UFUNCS[name](values, axis=axes, dtype=values.dtype))


def identity_of(op: str, dtype: np.dtype[Any]) -> Array:
    """Returns the number that changes nothing when it is combined by an op."""
    name = op.removeprefix("arith.")
    if dtype == np.bool_:
        return np.asarray(_OF_BOOLEANS.get(name, name) in ("andi", "minui"))
    if dtype.kind == "f":
        values = {"addf": 0.0, "mulf": 1.0, "maximumf": -np.inf, "minimumf": np.inf}
        values |= {"maxnumf": -np.inf, "minnumf": np.inf}
        return np.asarray(values[name], dtype)
    limits = np.iinfo(dtype)
    whole = {"addi": 0, "muli": 1, "maxsi": limits.min, "minsi": limits.max}
    whole |= {"andi": -1, "ori": 0, "xori": 0, "maxui": 0, "minui": -1}
    return np.asarray(whole[name], dtype)


def masked(left: Array, right: Array, mask: Array) -> tuple[Array, Array] | None:
    """Returns factors whose product is 0 where a mask does not hold; None if `left` can't be it."""
    if left.ndim != mask.ndim:
        return None
    if any(size > 1 and left.shape[axis] == 1 for axis, size in enumerate(mask.shape)):
        return None
    # 0 times infinity is no number.
    if right.dtype.kind == "f" and not np.isfinite(right).all():
        return None
    return np.where(mask, left, np.zeros((), left.dtype)), right


def contracted(
    left: Array, right: Array, shape: Sequence[int], axes: tuple[int, ...]
) -> Array | None:
    """
    Returns the sum of `left * right` along axes, by a matrix product.

    Both have an axis for each extent of `shape`, of size 1 where they don't depend on it. The
    result has the axes that are left. None where a product does not help.
    """
    rank = len(shape)
    if left.ndim != rank or right.ndim != rank or not axes:
        return None
    if any(left.shape[axis] == right.shape[axis] == 1 for axis in axes):
        return None
    left = _summed(left, [axis for axis in axes if right.shape[axis] == 1])
    right = _summed(right, [axis for axis in axes if left.shape[axis] == 1])
    kept = [axis for axis in range(rank) if axis not in axes]
    both = [axis for axis in kept if left.shape[axis] > 1 and right.shape[axis] > 1]
    rows = [axis for axis in kept if axis not in both and left.shape[axis] > 1]
    columns = [axis for axis in kept if axis not in both and right.shape[axis] > 1]
    inner = [axis for axis in axes if left.shape[axis] > 1 and right.shape[axis] > 1]
    one = _matrices(left, both, rows, inner)
    two = _matrices(right, both, inner, columns)
    product = _product(one, two)
    rest = [axis for axis in kept if axis not in (*both, *rows, *columns)]
    order = [*both, *rows, *columns, *rest]
    sizes = [max(left.shape[axis], right.shape[axis]) for axis in order]
    return product.reshape(sizes).transpose([order.index(axis) for axis in kept])


def _summed(values: Array, axes: list[int]) -> Array:
    if not axes:
        return values
    return np.asarray(np.add.reduce(values, axis=tuple(axes), dtype=values.dtype, keepdims=True))


def _matrices(values: Array, batch: list[int], rows: list[int], columns: list[int]) -> Array:
    order = [*batch, *rows, *columns]
    order += [axis for axis in range(values.ndim) if axis not in order]
    sizes = [
        int(np.prod([values.shape[axis] for axis in group], dtype=np.int64))
        for group in (batch, rows, columns)
    ]
    return values.transpose(order).reshape(sizes)


def _product(left: Array, right: Array) -> Array:
    if left.dtype.kind != "i":
        return left @ right
    # Sums below 2**53 are exact in f64, and its products are fast.
    bound = left.shape[-1] * _magnitude(left) * _magnitude(right)
    if bound < 1 << 53:
        return (
            (left.astype(np.float64) @ right.astype(np.float64)).astype(np.int64).astype(left.dtype)
        )
    return left @ right


def _magnitude(values: Array) -> int:
    return max(abs(int(values.min())), abs(int(values.max()))) if values.size else 0
