"""
8-bit floats: held as their bits, computed in f32.

From sm_89 on `cvt` converts them, before that arithmetic on the bits. What is too large becomes the
largest number, as `cvt` has it, and a NaN the code 0x7f.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import copysign, frexp, isnan, ldexp

from xdsl.dialects import arith, math, vector
from xdsl.dialects.builtin import (
    Float8E4M3FNType,
    Float8E5M2Type,
    IntegerType,
    VectorType,
    f16,
    f32,
    i8,
    i32,
)
from xdsl.ir import Attribute, SSAValue

from ...dialects import nvvm
from ..emitter import Emitter

_INFINITY = 0x7F800000
_BY_BITS = frozenset(("sm_80", "sm_86"))


@dataclass(frozen=True)
class _Format:
    """Fraction bits, exponent of the least normal number, largest number, type."""

    fraction: int
    lowest: int
    largest: float
    type: Attribute


_FORMATS: Mapping[str, _Format] = {
    "f8E4M3FN": _Format(3, -6, 448.0, Float8E4M3FNType()),
    "f8E5M2": _Format(2, -14, 57344.0, Float8E5M2Type()),
}
EIGHT_BIT = frozenset(_FORMATS)


@lru_cache(maxsize=256)
def code_of(value: float, dtype: str) -> int:
    """Returns the bits of the nearest number, as an i8; ties go to the even code."""
    form = _FORMATS[dtype]
    if isnan(value):
        return 0x7F
    size = min(abs(value), form.largest)
    exponent = max(frexp(size)[1] - 1, form.lowest) if size else form.lowest
    whole = round(ldexp(size, form.fraction - exponent))
    # A carry out of the fraction is a carry of the code.
    code = whole + ((exponent - form.lowest) << form.fraction)
    return code - 0x80 if copysign(1.0, value) < 0 else code


def decoded(emit: Emitter, target: str, bits: SSAValue, dtype: str) -> SSAValue:
    """Returns the f32 of an 8-bit float's bits, i8."""
    if target in _BY_BITS:
        return _decoded_by_bits(emit, bits, dtype)
    pair = emit.dense(VectorType(i8, (2,)), [0, 0])
    pair = emit.result(vector.InsertOp, bits, pair, [0])
    wide = emit.result(nvvm.ConvertF8x2ToF16x2Op, pair, _FORMATS[dtype].type)
    return emit.result(arith.ExtFOp, emit.result(vector.ExtractOp, wide, [0], f16), f32)


def encoded(emit: Emitter, target: str, value: SSAValue, dtype: str) -> SSAValue:
    """Returns the bits, i8, of an f32 that is rounded to an 8-bit float."""
    if target in _BY_BITS:
        return _encoded_by_bits(emit, value, dtype)
    zero = emit.float32(0.0)
    pair = emit.result(nvvm.ConvertF32x2ToF8x2Op, zero, value, _FORMATS[dtype].type)
    return emit.result(vector.ExtractOp, pair, [0], i8)


def _bits_of(emit: Emitter, value: SSAValue) -> SSAValue:
    return emit.result(arith.BitcastOp, value, i32)


def _shifted_down(emit: Emitter, value: SSAValue, by: int) -> SSAValue:
    return emit.result(arith.ShRUIOp, value, emit.integer(by))


def _decoded_by_bits(emit: Emitter, bits: SSAValue, dtype: str) -> SSAValue:
    """Moves the bits into those of an f32, and lifts the exponent by a multiplication."""
    form = _FORMATS[dtype]
    code = emit.result(arith.ExtUIOp, bits, i32)
    size = emit.binary("and", code, 0x7F)
    placed = emit.binary("shl", size, 23 - form.fraction)
    # The least exponent field stands for `lowest` here, and for -126 in an f32.
    lift = emit.float32(2.0 ** (form.lowest + 126))
    number = emit.binary("mulf", emit.result(arith.BitcastOp, placed, f32), lift)
    found = _bits_of(emit, number)
    if dtype == "f8E4M3FN":
        special = emit.compare("eq", size, 0x7F)
        found = emit.select(special, emit.integer(0x7FC00000), found)
    else:
        special = emit.compare("uge", size, 0x7C)
        found = emit.select(special, emit.binary("or", placed, _INFINITY), found)
    sign = emit.binary("shl", emit.binary("and", code, 0x80), 24)
    return emit.result(arith.BitcastOp, emit.binary("or", found, sign), f32)


def _encoded_by_bits(emit: Emitter, value: SSAValue, dtype: str) -> SSAValue:
    form = _FORMATS[dtype]
    shift = 23 - form.fraction
    size = emit.result(math.AbsFOp, value)
    size = emit.result(arith.MinnumfOp, size, emit.float32(form.largest))
    # A normal number: a carry out of the fraction is a carry of the code.
    wide = _bits_of(emit, size)
    last = emit.binary("and", _shifted_down(emit, wide, shift), 1)
    half = emit.add(last, (1 << shift - 1) - 1)
    carried = _shifted_down(emit, emit.add(wide, half), shift)
    normal = emit.sub(carried, (127 + form.lowest - 1) << form.fraction)
    # A subnormal one: the addition rounds to the unit of the least number.
    magic = emit.float32(2.0 ** (form.lowest - form.fraction + 23))
    lifted = emit.binary("and", _bits_of(emit, emit.binary("addf", size, magic)), 0x7FFFFF)
    is_small = emit.result(arith.CmpfOp, size, emit.float32(2.0**form.lowest), "olt")
    code = emit.select(is_small, lifted, normal)
    sign = emit.binary("and", _shifted_down(emit, _bits_of(emit, value), 24), 0x80)
    is_nan = emit.result(arith.CmpfOp, value, value, "uno")
    chosen = emit.select(is_nan, emit.integer(0x7F), emit.binary("or", code, sign))
    return emit.result(arith.TruncIOp, chosen, IntegerType(8))
