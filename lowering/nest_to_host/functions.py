"""
Functions of f32 as arithmetic that vectors take too; others by the C library in f64.

Errors, measured against float64: exp, exp2, expm1, log, log2 2 ulp, tanh 4 ulp, erf 2e-7.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from .writer import Value, Writer

_LN_2_HIGH = 0.693145751953125  # 15 bits of ln 2: times an exponent it is exact
_LN_2_LOW = math.log(2) - _LN_2_HIGH
_MAGIC = 1.5 * 2.0**23  # adding it rounds to an integer, which is then in the low bits
_SIGN = -(1 << 31)

# What the C library computes, by the name of the op.
LIBRARY = {
    "math.exp": "exp",
    "math.exp2": "exp2",
    "math.expm1": "expm1",
    "math.log": "log",
    "math.log2": "log2",
    "math.log10": "log10",
    "math.log1p": "log1p",
    "math.tanh": "tanh",
    "math.erf": "erf",
    "math.sin": "sin",
    "math.cos": "cos",
    "math.tan": "tan",
    "math.atan": "atan",
    "math.powf": "pow",
    "arith.remf": "fmod",
}


class Functions:
    """Writes functions of f32, a scalar or a vector."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def find(self, op: str) -> Callable[[Value], Value] | None:
        """Returns what writes a function, None where the C library computes it."""
        return {
            "math.exp": self.exp,
            "math.exp2": self.exp2,
            "math.expm1": self.expm1,
            "math.log": self.log,
            "math.log2": self.log2,
            "math.tanh": self.tanh,
            "math.erf": self.erf,
        }.get(op)

    def exp(self, x: Value) -> Value:
        """Returns e to the power of x."""
        bounded = self._bounded(x, -104.0, 89.0)
        whole, rest = self._parts(bounded)
        small = self._plus(self._exp_minus_one(rest), 1.0)
        return self._scaled(small, whole)

    def exp2(self, x: Value) -> Value:
        """Returns 2 to the power of x."""
        bounded = self._bounded(x, -151.0, 129.0)
        whole, n = self._nearest(bounded)
        rest = self._times(self._writer.binary("arith.subf", bounded, n), math.log(2))
        return self._scaled(self._plus(self._exp_minus_one(rest), 1.0), whole)

    def expm1(self, x: Value) -> Value:
        """Returns e to the power of x, minus 1."""
        bounded = self._bounded(x, -20.0, 88.7)
        whole, rest = self._parts(bounded)
        power = self._power(whole)
        large = self._writer.fma(power, self._exp_minus_one(rest), self._plus(power, -1.0))
        # Above it is infinite.
        is_large = self._compares("ogt", x, 88.7)
        return self._writer.select(is_large, self.exp(x), large)

    def log(self, x: Value) -> Value:
        """Returns the natural logarithm."""
        exponent, log = self._log_parts(x)
        low = self._fma(exponent, _LN_2_LOW, log)
        return self._log_limits(x, self._fma(exponent, _LN_2_HIGH, low))

    def log2(self, x: Value) -> Value:
        """Returns the logarithm to base 2."""
        exponent, log = self._log_parts(x)
        return self._log_limits(x, self._fma(log, math.log2(math.e), exponent))

    def tanh(self, x: Value) -> Value:
        """Below 0.55 the [5/4] Pade approximant, above 1 - 2 / (exp 2x + 1)."""
        writer = self._writer
        size, square = writer.unary("math.absf", x), self._square(x)
        above = writer.binary("arith.mulf", size, self._polynomial(square, [1, 105, 945]))
        below = self._polynomial(square, [15, 420, 945])
        small = writer.binary("arith.divf", above, below)
        grown = self._plus(self.exp(writer.binary("arith.addf", size, size)), 1.0)
        rest = writer.binary("arith.divf", writer.float(2.0), grown)
        large = writer.binary("arith.subf", writer.float(1.0), rest)
        return self._signed(writer.select(self._compares("olt", size, 0.55), small, large), x)

    def erf(self, x: Value) -> Value:
        """Below 0.5 the power series, above Abramowitz and Stegun, formula 7.1.26."""
        writer = self._writer
        size, square = writer.unary("math.absf", x), self._square(x)
        scale = 2 / math.sqrt(math.pi)
        series = [scale * (-1) ** n / (math.factorial(n) * (2 * n + 1)) for n in range(7)]
        small = writer.binary("arith.mulf", size, self._polynomial(square, series[::-1]))
        one = writer.float(1.0)
        t = writer.binary("arith.divf", one, self._plus(self._times(size, 0.3275911), 1.0))
        stegun = [1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592, 0.0]
        gauss = self.exp(writer.unary("arith.negf", square))
        tail = writer.binary("arith.mulf", self._polynomial(t, stegun), gauss)
        large = writer.binary("arith.subf", one, tail)
        return self._signed(writer.select(self._compares("olt", size, 0.5), small, large), x)

    def _plus(self, x: Value, number: float) -> Value:
        return self._writer.binary("arith.addf", x, self._writer.float(number))

    def _times(self, x: Value, number: float) -> Value:
        return self._writer.binary("arith.mulf", x, self._writer.float(number))

    def _fma(self, x: Value, factor: float, z: Value) -> Value:
        return self._writer.fma(x, self._writer.float(factor), z)

    def _square(self, x: Value) -> Value:
        return self._writer.binary("arith.mulf", x, x)

    def _compares(self, predicate: str, x: Value, number: float) -> Value:
        return self._writer.compare("arith.cmpf", predicate, x, self._writer.float(number))

    def _bits(self, op: str, value: Value, number: int) -> Value:
        return self._writer.binary(op, value, self._writer.integer(number, "i32"))

    def _polynomial(self, x: Value, coefficients: Sequence[float]) -> Value:
        writer = self._writer
        value = writer.float(coefficients[0])
        for coefficient in coefficients[1:]:
            value = writer.fma(value, x, writer.float(coefficient))
        return value

    def _signed(self, size: Value, x: Value) -> Value:
        """Returns a number that is not negative with the sign of another."""
        writer = self._writer
        sign = self._bits("arith.andi", writer.convert("arith.bitcast", x, "i32"), _SIGN)
        bits = writer.binary("arith.ori", writer.convert("arith.bitcast", size, "i32"), sign)
        return writer.convert("arith.bitcast", bits, "f32")

    def _bounded(self, x: Value, low: float, high: float) -> Value:
        """Returns x within bounds; a NaN stays one."""
        writer = self._writer
        below = writer.select(self._compares("ogt", x, high), writer.float(high), x)
        return writer.select(self._compares("olt", below, low), writer.float(low), below)

    def _nearest(self, x: Value) -> tuple[Value, Value]:
        """Returns the nearest integer, as i32 and as f32."""
        shifted = self._plus(x, _MAGIC)
        bits = self._writer.convert("arith.bitcast", shifted, "i32")
        return self._bits("arith.subi", bits, 0x4B400000), self._plus(shifted, -_MAGIC)

    def _parts(self, x: Value) -> tuple[Value, Value]:
        """Returns n as i32 and the rest within ln 2 / 2: x = n ln 2 + rest."""
        whole, n = self._nearest(self._times(x, math.log2(math.e)))
        rest = self._fma(n, -_LN_2_LOW, self._fma(n, -_LN_2_HIGH, x))
        return whole, rest

    def _exp_minus_one(self, rest: Value) -> Value:
        """The power series up to rest**7; |rest| is at most ln 2 / 2."""
        series = [1 / math.factorial(n) for n in range(7, 1, -1)]
        square = self._square(rest)
        return self._writer.fma(self._polynomial(rest, series), square, rest)

    def _power(self, exponent: Value) -> Value:
        """Returns 2**exponent for exponents of normal numbers."""
        field = self._bits("arith.shli", self._bits("arith.addi", exponent, 127), 23)
        return self._writer.convert("arith.bitcast", field, "f32")

    def _scaled(self, x: Value, exponent: Value) -> Value:
        """Returns x 2**exponent, in two steps: 2**128 and 2**-149 are no normal numbers."""
        half = self._bits("arith.shrsi", exponent, 1)
        rest = self._writer.binary("arith.subi", exponent, half)
        once = self._writer.binary("arith.mulf", x, self._power(half))
        return self._writer.binary("arith.mulf", once, self._power(rest))

    def _log_parts(self, x: Value) -> tuple[Value, Value]:
        """Returns (e, log m) with x = m 2**e and m within [2/3, 4/3)."""
        writer = self._writer
        is_small = self._compares("olt", x, 2.0**-126)
        normal = writer.select(is_small, self._times(x, 2.0**23), x)
        correction = writer.select(is_small, writer.float(-23.0), writer.float(0.0))
        bits = writer.convert("arith.bitcast", normal, "i32")
        exponent = self._bits("arith.shrsi", self._bits("arith.subi", bits, 0x3F2AAAAB), 23)
        mantissa = writer.binary("arith.subi", bits, self._bits("arith.shli", exponent, 23))
        f = self._plus(writer.convert("arith.bitcast", mantissa, "f32"), -1.0)
        # log m = 2 atanh s with s = (m - 1) / (m + 1), |s| <= 1/5.
        s = writer.binary("arith.divf", f, self._plus(f, 2.0))
        square = self._square(s)
        series = self._polynomial(square, [2 / 11, 2 / 9, 2 / 7, 2 / 5, 2 / 3])
        cube = writer.binary("arith.mulf", writer.binary("arith.mulf", s, square), series)
        log = self._fma(s, 2.0, cube)
        whole = writer.convert("arith.sitofp", exponent, "f32")
        return writer.binary("arith.addf", whole, correction), log

    def _log_limits(self, x: Value, value: Value) -> Value:
        writer = self._writer
        value = writer.select(self._compares("oeq", x, math.inf), x, value)
        value = writer.select(self._compares("oeq", x, 0.0), writer.float(-math.inf), value)
        is_number = self._compares("oge", x, 0.0)
        return writer.select(is_number, value, writer.float(math.nan))
