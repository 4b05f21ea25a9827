"""
Replaces functions that the GPU has no accurate instruction for by arithmetic.

What an approximate instruction does is left alone: an op with `fastmath<afn>` keeps its name,
and `expand-math` touches the others.
"""

from __future__ import annotations

import math as numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

from xdsl.context import Context
from xdsl.dialects import arith, math, scf, vector
from xdsl.dialects.arith import FastMathFlagsAttr
from xdsl.dialects.builtin import (
    BFloat16Type,
    Float16Type,
    Float32Type,
    Float64Type,
    FloatAttr,
    IndexType,
    IntegerAttr,
    ModuleOp,
    UnitAttr,
    VectorType,
    f32,
    f64,
    i32,
    i64,
)
from xdsl.dialects.utils import FastMathFlag
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue
from xdsl.passes import ModulePass
from xdsl.utils.hints import isa

_AFN = FastMathFlagsAttr([FastMathFlag.APPROX_FUNC])
_LN_2_HIGH = 0.693145751953125  # 15 bits of ln 2: times an exponent it is exact
_LN_2_LOW = numbers.log(2) - _LN_2_HIGH
# In f64 the upper part has 33 bits.
_LN_2_WIDE_HIGH = float.fromhex("0x1.62e42fee00000p-1")
_LN_2_WIDE_LOW = float.fromhex("0x1.a39ef35793c76p-33")
# pi / 2 in three parts of 11 bits and the rest: times a small integer the first are exact.
_HALF_PI = (1.5703125, 0.0004837512969970703125, 7.54953362047672271728515625e-08)
_SIGN_BIT = -(1 << 31)


class _Arithmetic:
    """Collects arithmetic on scalars: f32 and i32, or f64 and i64."""

    def __init__(self, is_wide: bool = False) -> None:
        self.ops: list[Operation] = []
        self.float: Float32Type | Float64Type = f64 if is_wide else f32
        self.word = i64 if is_wide else i32

    def add(self, op: Operation) -> SSAValue:
        """Appends an op and returns its result."""
        self.ops.append(op)
        return op.results[0]

    def real(self, value: float | SSAValue) -> SSAValue:
        """Returns a number as a constant; values as they are."""
        if isinstance(value, SSAValue):
            return value
        return self.add(arith.ConstantOp(FloatAttr(value, self.float)))

    def integer(self, value: int | SSAValue) -> SSAValue:
        """Returns an integer constant; values as they are."""
        if isinstance(value, SSAValue):
            return value
        return self.add(arith.ConstantOp(IntegerAttr(value, self.word)))

    def binary(
        self,
        op: Callable[[SSAValue, SSAValue], Operation],
        x: SSAValue | float,
        y: SSAValue | float,
    ) -> SSAValue:
        """Appends an op of two floats."""
        return self.add(op(self.real(x), self.real(y)))

    def bitwise(
        self, op: Callable[[SSAValue, SSAValue], Operation], x: SSAValue, y: int | SSAValue
    ) -> SSAValue:
        """Appends an op of two integers."""
        return self.add(op(x, self.integer(y)))

    def fma(self, x: SSAValue, y: SSAValue | float, z: SSAValue | float) -> SSAValue:
        """Appends a fused x * y + z."""
        return self.add(math.FmaOp(x, self.real(y), self.real(z)))

    def polynomial(self, x: SSAValue, coefficients: Sequence[float]) -> SSAValue:
        """Returns a polynomial by Horner's rule; the coefficient of the highest power is first."""
        value = self.real(coefficients[0])
        for coefficient in coefficients[1:]:
            value = self.fma(value, x, coefficient)
        return value

    def select(
        self, predicate: str, x: SSAValue, y: float, yes: SSAValue | float, no: SSAValue | float
    ) -> SSAValue:
        """Returns `yes` where x compares with y, else `no`."""
        condition = self.add(arith.CmpfOp(x, self.real(y), predicate))
        return self.add(arith.SelectOp(condition, self.real(yes), self.real(no)))

    def convert(self, op: type[Operation], x: SSAValue, to: Attribute) -> SSAValue:
        """Appends a conversion to a scalar type."""
        return self.add(op.create(operands=[x], result_types=[to]))

    def bits(self, x: SSAValue) -> SSAValue:
        """Returns the bits of a float."""
        return self.convert(arith.BitcastOp, x, self.word)

    def from_bits(self, x: SSAValue) -> SSAValue:
        """Returns the float of an integer's bits."""
        return self.convert(arith.BitcastOp, x, self.float)

    def with_sign_of(self, magnitude: SSAValue, sign: SSAValue) -> SSAValue:
        """Returns a positive number with the sign of another."""
        bit = self.bitwise(arith.AndIOp, self.bits(sign), _SIGN_BIT)
        return self.from_bits(self.bitwise(arith.OrIOp, self.bits(magnitude), bit))


def _exp(a: _Arithmetic, x: SSAValue) -> SSAValue:
    """x = n ln 2 + r, and exp x = 2**n exp r; the rest r is within ln 2 / 2."""
    low = a.binary(arith.MinimumfOp, x, 89.0)
    bounded = a.binary(arith.MaximumfOp, low, -104.0)
    scaled = a.binary(arith.MulfOp, bounded, numbers.log2(numbers.e))
    n = a.add(math.RoundEvenOp(scaled))
    rest = a.fma(n, -_LN_2_LOW, a.fma(n, -_LN_2_HIGH, bounded))
    small = a.add(math.Exp2Op(a.binary(arith.MulfOp, rest, numbers.log2(numbers.e)), _AFN))
    # 2**128 is not a number, but 2 * 2**127 times something below 1 may be.
    power = a.add(math.Exp2Op(a.binary(arith.SubfOp, n, 1.0), _AFN))
    return a.binary(arith.MulfOp, a.binary(arith.MulfOp, small, 2.0), power)


def _log_parts(a: _Arithmetic, x: SSAValue) -> tuple[SSAValue, SSAValue]:
    """Returns (e, log m) with x = m 2**e and m within [2/3, 4/3)."""
    subnormal = 2.0**-126
    lifted = a.binary(arith.MulfOp, x, 2.0**23)
    normal = a.select("olt", x, subnormal, lifted, x)
    correction = a.select("olt", x, subnormal, -23.0, 0.0)
    bits = a.bits(normal)
    two_thirds = 0x3F2AAAAB
    shifted = a.bitwise(arith.SubiOp, bits, two_thirds)
    exponent = a.bitwise(arith.ShRSIOp, shifted, 23)
    mantissa = a.bitwise(arith.SubiOp, bits, a.bitwise(arith.ShLIOp, exponent, 23))
    f = a.binary(arith.SubfOp, a.from_bits(mantissa), 1.0)
    # log m = 2 atanh s with s = (m - 1) / (m + 1), |s| <= 1/5.
    s = a.binary(arith.DivfOp, f, a.binary(arith.AddfOp, f, 2.0))
    square = a.binary(arith.MulfOp, s, s)
    series = a.polynomial(square, [2 / 11, 2 / 9, 2 / 7, 2 / 5, 2 / 3])
    cube = a.binary(arith.MulfOp, a.binary(arith.MulfOp, s, square), series)
    log = a.fma(s, 2.0, cube)
    whole = a.convert(arith.SIToFPOp, exponent, f32)
    return a.binary(arith.AddfOp, whole, correction), log


def _log_limits(a: _Arithmetic, x: SSAValue, value: SSAValue) -> SSAValue:
    value = a.select("oeq", x, numbers.inf, x, value)
    value = a.select("oeq", x, 0.0, -numbers.inf, value)
    return a.select("uge", x, 0.0, a.select("uno", x, 0.0, x, value), numbers.nan)


def _log(a: _Arithmetic, x: SSAValue) -> SSAValue:
    e, log = _log_parts(a, x)
    return _log_limits(a, x, a.fma(e, _LN_2_HIGH, a.fma(e, _LN_2_LOW, log)))


def _log2(a: _Arithmetic, x: SSAValue) -> SSAValue:
    e, log = _log_parts(a, x)
    return _log_limits(a, x, a.fma(log, numbers.log2(numbers.e), e))


def _log10(a: _Arithmetic, x: SSAValue) -> SSAValue:
    e, log = _log_parts(a, x)
    decimal = a.binary(arith.MulfOp, log, numbers.log10(numbers.e))
    return _log_limits(a, x, a.fma(e, numbers.log10(2), decimal))


def _tanh(a: _Arithmetic, x: SSAValue) -> SSAValue:
    """Below 0.55 the [5/4] Pade approximant, above 1 - 2 / (exp 2x + 1)."""
    magnitude = a.add(math.AbsFOp(x))
    square = a.binary(arith.MulfOp, x, x)
    above = a.binary(arith.MulfOp, magnitude, a.polynomial(square, [1, 105, 945]))
    small = a.binary(arith.DivfOp, above, a.polynomial(square, [15, 420, 945]))
    grown = a.binary(arith.AddfOp, _exp(a, a.binary(arith.AddfOp, magnitude, magnitude)), 1.0)
    large = a.binary(arith.SubfOp, 1.0, a.binary(arith.DivfOp, 2.0, grown))
    return a.with_sign_of(a.select("olt", magnitude, 0.55, small, large), x)


def _erf(a: _Arithmetic, x: SSAValue) -> SSAValue:
    """
    Below 0.5 the power series, above Abramowitz and Stegun, formula 7.1.26.

    The formula's absolute error is below 1.5e-7.
    """
    magnitude = a.add(math.AbsFOp(x))
    square = a.binary(arith.MulfOp, x, x)
    factors = [(-1) ** n / (numbers.factorial(n) * (2 * n + 1)) for n in range(7)]
    scale = 2 / numbers.sqrt(numbers.pi)
    series = a.polynomial(square, [scale * factor for factor in reversed(factors)])
    small = a.binary(arith.MulfOp, magnitude, series)
    t = a.binary(arith.DivfOp, 1.0, a.fma(magnitude, 0.3275911, 1.0))
    stegun = [1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592, 0.0]
    gauss = _exp(a, a.binary(arith.SubfOp, 0.0, square))
    tail = a.binary(arith.MulfOp, a.polynomial(t, stegun), gauss)
    large = a.binary(arith.SubfOp, 1.0, tail)
    return a.with_sign_of(a.select("olt", magnitude, 0.5, small, large), x)


def _exp_wide(base: float, a: _Arithmetic, x: SSAValue) -> SSAValue:
    """base**x = 2**n exp r with |r| <= ln 2 / 2; 2**n is a product of two, each a normal number."""
    log2 = numbers.log2(base)
    low = a.binary(arith.MinimumfOp, x, 1100 / log2)
    bounded = a.binary(arith.MaximumfOp, low, -1100 / log2)
    n = a.add(math.RoundEvenOp(a.binary(arith.MulfOp, bounded, log2)))
    if base == 2.0:
        rest = a.binary(arith.MulfOp, a.binary(arith.SubfOp, bounded, n), numbers.log(2))
    else:
        rest = a.fma(n, -_LN_2_WIDE_LOW, a.fma(n, -_LN_2_WIDE_HIGH, bounded))
    small = a.polynomial(rest, [1 / numbers.factorial(k) for k in reversed(range(14))])
    whole = a.convert(arith.FPToSIOp, n, i64)
    half = a.bitwise(arith.ShRSIOp, whole, 1)
    for exponent in (half, a.add(arith.SubiOp(whole, half))):
        biased = a.bitwise(arith.ShLIOp, a.bitwise(arith.AddiOp, exponent, 1023), 52)
        small = a.binary(arith.MulfOp, small, a.from_bits(biased))
    return small


def _rsqrt(a: _Arithmetic, x: SSAValue) -> SSAValue:
    return a.binary(arith.DivfOp, 1.0, a.add(math.SqrtOp(x)))


def _round(a: _Arithmetic, x: SSAValue) -> SSAValue:
    """Halves go away from zero: adds the number before 1/2, which rounds up from 1/2 on."""
    nearly_half = a.with_sign_of(a.real(0.5 - 2.0**-25), x)
    return a.add(math.TruncOp(a.binary(arith.AddfOp, x, nearly_half)))


def _circular(quarter: int, a: _Arithmetic, x: SSAValue) -> SSAValue:
    """x = n pi / 2 + r with |r| <= pi / 4; the quadrant n chooses between two Taylor series."""
    n = a.add(math.RoundEvenOp(a.binary(arith.MulfOp, x, 2 / numbers.pi)))
    rest = x
    remainder = numbers.pi / 2 - sum(_HALF_PI)
    for part in (*_HALF_PI, remainder):
        rest = a.fma(n, -part, rest)
    square = a.binary(arith.MulfOp, rest, rest)
    sine_terms = [(-1) ** k / numbers.factorial(2 * k + 1) for k in range(5)]
    cosine_terms = [(-1) ** k / numbers.factorial(2 * k) for k in range(6)]
    odd = a.polynomial(square, [*reversed(sine_terms[1:])])
    sine = a.fma(a.binary(arith.MulfOp, odd, square), rest, rest)
    cosine = a.polynomial(square, [*reversed(cosine_terms)])
    quadrant = a.bitwise(arith.AddiOp, a.convert(arith.FPToSIOp, n, i32), quarter)
    swaps = a.bitwise(arith.AndIOp, quadrant, 1)
    condition = a.add(arith.CmpiOp(swaps, a.integer(1), "eq"))
    value = a.add(arith.SelectOp(condition, cosine, sine))
    half_turn = a.bitwise(arith.ShLIOp, a.bitwise(arith.AndIOp, quadrant, 2), 30)
    return a.from_bits(a.bitwise(arith.XOrIOp, a.bits(value), half_turn))


Expansion = Callable[[_Arithmetic, SSAValue], SSAValue]

# Op to its expansion in f32. Largest error measured against f64: exp, rsqrt, log 3 ulp; log2,
# log10, tanh 4 ulp; erf 4e-7; sin and cos 2e-7 for |x| <= 2**16, growing in proportion beyond.
EXPANSIONS: dict[type[Operation], Expansion] = {
    math.ExpOp: _exp,
    math.LogOp: _log,
    math.Log2Op: _log2,
    math.Log10Op: _log10,
    math.TanhOp: _tanh,
    math.ErfOp: _erf,
    math.RsqrtOp: _rsqrt,
    math.RoundOp: _round,
    math.SinOp: partial(_circular, 0),
    math.CosOp: partial(_circular, 1),
}
# The same in f64: exp and exp2 2 ulp, rsqrt 1 ulp.
WIDE_EXPANSIONS: dict[type[Operation], Expansion] = {
    math.ExpOp: partial(_exp_wide, numbers.e),
    math.Exp2Op: partial(_exp_wide, 2.0),
    math.RsqrtOp: _rsqrt,
}
_EXPANDED = frozenset((*EXPANSIONS, *WIDE_EXPANSIONS))
# Functions without an approximate instruction: `afn` does not keep them.
_NEVER_APPROXIMATE = (math.ErfOp, math.RoundOp)


def _scalar(op: Operation, expansion: Expansion, x: SSAValue) -> tuple[list[Operation], SSAValue]:
    """Returns the ops that expand a scalar, and their result; 16-bit types go through f32."""
    type_ = x.type
    build = _Arithmetic(is_wide=type_ == f64)
    is_narrow = type_ != build.float
    if is_narrow:
        x = build.convert(arith.ExtFOp, x, f32)
    value = expansion(build, x)
    if is_narrow:
        value = build.convert(arith.TruncFOp, value, type_)
    return build.ops, value


def _vector(
    op: Operation, expansion: Expansion, indices: list[SSAValue], whole: SSAValue, shape: list[int]
) -> tuple[list[Operation], SSAValue]:
    """Returns unrolled loops over the axes of a vector, around the expansion of one element."""
    if not shape:
        source = op.operands[0]
        element = vector.ExtractOp(source, indices, cast(VectorType, source.type).element_type)
        ops, value = _scalar(op, expansion, element.result)
        insert = vector.InsertOp(value, whole, indices)
        return [element, *ops, insert], insert.result
    bounds = [arith.ConstantOp(IntegerAttr(n, IndexType())) for n in (0, shape[0], 1)]
    block = Block(arg_types=[IndexType(), whole.type])
    index, carried = block.args
    ops, value = _vector(op, expansion, [*indices, index], carried, shape[1:])
    block.add_ops([*ops, scf.YieldOp(value)])
    low, high, step = (bound.result for bound in bounds)
    loop = scf.ForOp(low, high, step, [whole], Region(block))
    loop.attributes["tilewright.unroll"] = UnitAttr()
    return [*bounds, loop], loop.results[0]


def expand(op: Operation, expansion: Expansion) -> None:
    """Replaces one op on floats, or on vectors of them, by its expansion."""
    operand = op.operands[0]
    if isa(operand.type, VectorType):
        shape = list(operand.type.get_shape())
        ops, value = _vector(op, expansion, [], operand, shape)
    else:
        ops, value = _scalar(op, expansion, operand)
    for new in ops:
        for inner in new.walk():
            inner.location = op.location
    if op.parent is not None:
        op.parent.insert_ops_before(ops, op)
    op.results[0].replace_all_uses_with(value)
    op.detach()
    op.erase()


def _is_approximate(op: Operation) -> bool:
    flags = op.properties.get("fastmath")
    if isinstance(op, _NEVER_APPROXIMATE) or not isinstance(flags, FastMathFlagsAttr):
        return False
    return FastMathFlag.APPROX_FUNC in flags.data


@dataclass(frozen=True)
class ExpandMathPass(ModulePass):
    """
    Replaces exp, log, log2, log10, tanh, erf, rsqrt, round, sin and cos by f32 arithmetic.

    Ops with `fastmath<afn>` stay as they are. On f64 exp, exp2 and rsqrt are replaced.
    """

    name = "expand-math"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for inner in [*op.walk()]:
            if type(inner) not in _EXPANDED or _is_approximate(inner):
                continue
            type_ = inner.results[0].type
            scalar = type_.element_type if isa(type_, VectorType) else type_
            is_narrow = scalar == f32 or isinstance(scalar, Float16Type | BFloat16Type)
            table = EXPANSIONS if is_narrow else WIDE_EXPANSIONS if scalar == f64 else {}
            if (expansion := table.get(type(inner))) is not None:
                expand(inner, expansion)
