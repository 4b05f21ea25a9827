"""
What the ops of `arith` and `math` compute, on NumPy arrays: integers wrap, floats are rounded.

bf16 and the 8-bit floats are held in f32, rounded after each op. Evaluated exactly, all floats are
held in f64 and nothing is rounded to a narrower dtype.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from ..dialects.nest.scalars import FLOAT_BITS, INTEGER_BITS
from ..runtime import bfloat16
from .errors import NestError

Array: TypeAlias = npt.NDArray[Any]
Operation: TypeAlias = Callable[..., Array]

# How the elements of a buffer are passed: bf16 and the 8-bit floats as their bits.
STORAGE: Mapping[str, np.dtype[Any]] = {
    "i1": np.dtype(np.bool_),
    "i8": np.dtype(np.int8),
    "i16": np.dtype(np.int16),
    "i32": np.dtype(np.int32),
    "i64": np.dtype(np.int64),
    "index": np.dtype(np.int64),
    "f8E4M3FN": np.dtype(np.uint8),
    "f8E5M2": np.dtype(np.uint8),
    "bf16": np.dtype(np.uint16),
    "f16": np.dtype(np.float16),
    "f32": np.dtype(np.float32),
    "f64": np.dtype(np.float64),
}
_EIGHT = {"f8E4M3FN": "e4m3", "f8E5M2": "e5m2"}
_UNSIGNED = {1: np.bool_, 8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}


def encode(values: Array, dtype: str) -> Array:
    """Returns numbers, rounded to a dtype, as a buffer of it holds them."""
    if dtype == "bf16":
        return bfloat16.from_float32(np.asarray(values, np.float32))
    if dtype in _EIGHT:
        # With it comes a whole instruction set, which only 8-bit floats need.
        from ..runtime.simulator.isa import eight

        return np.asarray(eight.encode(np.asarray(values, np.float32), _EIGHT[dtype]), np.uint8)
    return np.asarray(values).astype(STORAGE[dtype])


def decode(stored: Array, dtype: str) -> Array:
    """Returns what a buffer holds as numbers: bf16 and 8-bit floats as f32, others unchanged."""
    if dtype == "bf16":
        return bfloat16.to_float32(stored)
    if dtype in _EIGHT:
        from ..runtime.simulator.isa import eight

        return np.asarray(eight.decode(stored, _EIGHT[dtype]))
    return stored


class Arithmetic:
    """Computes ops on arrays that broadcast; `is_exact` computes all floats in f64."""

    def __init__(self, is_exact: bool = False) -> None:
        self.is_exact = is_exact

    def held(self, dtype: str) -> np.dtype[Any]:
        """Returns the NumPy dtype in which numbers of a dtype are computed."""
        if dtype in FLOAT_BITS and self.is_exact:
            return np.dtype(np.float64)
        return np.dtype(np.float32) if dtype in ("bf16", *_EIGHT) else STORAGE[dtype]

    def rounded(self, values: Array, dtype: str) -> Array:
        """Returns values in the NumPy dtype that holds a dtype, rounded to it."""
        if not self.is_exact and (dtype == "bf16" or dtype in _EIGHT):
            return decode(encode(values, dtype), dtype)
        return np.asarray(values).astype(self.held(dtype), copy=False)

    def constant(self, value: int | float, dtype: str) -> Array:
        """Returns a number of a dtype; integers are taken modulo the width."""
        if dtype in INTEGER_BITS and dtype != "i1":
            half = 1 << (INTEGER_BITS[dtype] - 1)
            value = (int(value) + half) % (2 * half) - half
        return self.rounded(np.asarray(value), dtype)

    def apply(
        self, op: str, operands: list[Array], source: str, dtype: str, predicate: str = ""
    ) -> Array:
        """Returns the result of an op; `source` is the dtype of its first operand."""
        if (function := _BINARY.get(op)) is not None:
            return self.rounded(function(*operands), dtype)
        if op in ("arith.cmpf", "arith.cmpi"):
            return _compare(predicate, operands[0], operands[1])
        if op == "arith.select":
            return np.where(operands[0], operands[1], operands[2])
        if op in _CONVERSIONS:
            return self._convert(op, operands[0], source, dtype)
        if (function := _MATH.get(op)) is not None:
            wide = [np.asarray(operand, np.float64) for operand in operands]
            return self.rounded(function(*wide), dtype)
        raise NestError(f"expected an op that can be executed, got '{op}'")

    def _convert(self, op: str, value: Array, source: str, dtype: str) -> Array:
        if op in ("arith.extui", "arith.uitofp", "arith.index_castui"):
            value = _unsigned(value)
        elif op in ("arith.fptosi", "arith.fptoui"):
            value = np.trunc(value)
        elif op == "arith.bitcast":
            bits = encode(value, source)
            return self.rounded(decode(bits.view(STORAGE[dtype]), dtype), dtype)
        elif source == "i1" and op in ("arith.extsi", "arith.sitofp"):
            value = -value.astype(np.int8)
        if dtype == "i1":
            return (value.astype(np.int64) & 1).astype(np.bool_)
        return self.rounded(value, dtype)


def _unsigned(value: Array) -> Array:
    if value.dtype == np.bool_:
        return value
    return np.asarray(value).view(_UNSIGNED[8 * value.dtype.itemsize])


def _signed_division(left: Array, right: Array) -> Array:
    quotient = np.abs(left) // np.abs(right)
    return np.where((left < 0) == (right < 0), quotient, -quotient)


def _ceiling_division(left: Array, right: Array) -> Array:
    return -(-left // right)


def _on_unsigned(function: Operation) -> Operation:
    def compute(*operands: Array) -> Array:
        result = np.asarray(function(*map(_unsigned, operands)))
        return result.view(operands[0].dtype) if result.dtype != np.bool_ else result

    return compute


def _of_booleans(on_booleans: Operation, on_integers: Operation) -> Operation:
    """Returns an op of integers; those of width 1 are NumPy's booleans, which it treats apart."""

    def compute(left: Array, right: Array) -> Array:
        is_boolean = left.dtype == np.bool_
        return on_booleans(left, right) if is_boolean else on_integers(left, right)

    return compute


def _fused_multiply_add(left: Array, right: Array, addend: Array) -> Array:
    return np.asarray(left, np.float64) * right + addend


_BINARY: Mapping[str, Operation] = {
    "arith.addf": np.add,
    "arith.subf": np.subtract,
    "arith.mulf": np.multiply,
    "arith.divf": np.divide,
    "arith.remf": np.fmod,
    "arith.negf": np.negative,
    "arith.maximumf": np.maximum,
    "arith.minimumf": np.minimum,
    "arith.maxnumf": np.fmax,
    "arith.minnumf": np.fmin,
    "arith.addi": _of_booleans(np.logical_xor, np.add),
    "arith.subi": _of_booleans(np.logical_xor, np.subtract),
    "arith.muli": np.multiply,
    "arith.floordivsi": np.floor_divide,
    "arith.ceildivsi": _ceiling_division,
    "arith.divsi": _signed_division,
    "arith.remsi": np.fmod,
    "arith.divui": _on_unsigned(np.floor_divide),
    "arith.remui": _on_unsigned(np.fmod),
    "arith.andi": np.bitwise_and,
    "arith.ori": np.bitwise_or,
    "arith.xori": np.bitwise_xor,
    "arith.shli": np.left_shift,
    "arith.shrsi": np.right_shift,
    "arith.shrui": _on_unsigned(np.right_shift),
    # Of the two signed integers of width 1, true is -1, so the lesser one.
    "arith.maxsi": _of_booleans(np.logical_and, np.maximum),
    "arith.minsi": _of_booleans(np.logical_or, np.minimum),
    "arith.maxui": _on_unsigned(np.maximum),
    "arith.minui": _on_unsigned(np.minimum),
    "math.absf": np.abs,
    "math.absi": np.abs,
    "math.floor": np.floor,
    "math.ceil": np.ceil,
    "math.roundeven": np.rint,
    "math.trunc": np.trunc,
    "math.fma": _fused_multiply_add,
}
_CONVERSIONS = frozenset(
    f"arith.{name}"
    for name in (
        "extf truncf extsi extui trunci sitofp uitofp fptosi fptoui index_cast index_castui bitcast"
    ).split()
)


def _erf(values: Array) -> Array:
    return np.asarray(cast(Any, np.frompyfunc(math.erf, 1, 1))(values)).astype(np.float64)


def _rsqrt(values: Array) -> Array:
    return 1.0 / np.sqrt(values)


# Computed in f64 and rounded once, so the result is the nearest one but for rare ties.
_MATH: Mapping[str, Operation] = {
    "math.exp": np.exp,
    "math.exp2": np.exp2,
    "math.expm1": np.expm1,
    "math.log": np.log,
    "math.log2": np.log2,
    "math.log10": np.log10,
    "math.log1p": np.log1p,
    "math.sqrt": np.sqrt,
    "math.rsqrt": _rsqrt,
    "math.tanh": np.tanh,
    "math.erf": _erf,
    "math.sin": np.sin,
    "math.cos": np.cos,
    "math.tan": np.tan,
    "math.atan": np.arctan,
    "math.powf": np.power,
}

_ORDER: Mapping[str, Operation] = {
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
}


def _compare(predicate: str, left: Array, right: Array) -> Array:
    """Returns a comparison; the first letter tells unordered or unsigned from the others."""
    if predicate in ("true", "false"):
        shape = np.broadcast_shapes(left.shape, right.shape)
        return np.full(shape, predicate == "true")
    is_float = left.dtype.kind == "f"
    if predicate in ("ord", "uno"):
        unordered = np.isnan(left) | np.isnan(right)
        return unordered if predicate == "uno" else ~unordered
    if predicate in ("eq", "ne"):
        return _ORDER[predicate](left, right)
    if not is_float:
        if predicate[0] == "u":
            left, right = _unsigned(left), _unsigned(right)
        elif left.dtype == np.bool_:
            left, right = right, left
        return _ORDER[predicate[1:]](left, right)
    unordered = np.isnan(left) | np.isnan(right)
    result = _ORDER[predicate[1:]](left, right)
    return result | unordered if predicate[0] == "u" else result & ~unordered
