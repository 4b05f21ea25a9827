"""
How numbers of each dtype are held in registers and in memory.

f16, bf16 and the 8-bit floats are computed in f32 and rounded to their dtype after each op.
Addition, multiplication, division and square root so give the correctly rounded result, because
f32 has more than twice their bits and two (Figueroa, "When is double rounding innocuous?", 1995).
"""

from __future__ import annotations

from dataclasses import dataclass

from .writer import Value, Writer

# The element type in registers, and the one in memory.
HELD = {
    "i1": "i1",
    "i8": "i8",
    "i16": "i16",
    "i32": "i32",
    "i64": "i64",
    "index": "i64",
    "f8E4M3FN": "f32",
    "f8E5M2": "f32",
    "f16": "f32",
    "bf16": "f32",
    "f32": "f32",
    "f64": "f64",
}
STORED = HELD | {"i1": "i8", "f8E4M3FN": "i8", "f8E5M2": "i8", "f16": "f16", "bf16": "i16"}
NARROW = frozenset(("f16", "bf16", "f8E4M3FN", "f8E5M2"))


@dataclass(frozen=True)
class _Eight:
    """An 8-bit float: fraction bits, exponent of the least normal number, largest number."""

    fraction: int
    lowest: int
    largest: float


_EIGHT = {"f8E4M3FN": _Eight(3, -6, 448.0), "f8E5M2": _Eight(2, -14, 57344.0)}
_SIGN = -(1 << 31)
_INFINITY = 0x7F800000


class Elements:
    """Writes the conversions between registers and memory."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def decode(self, stored: Value, dtype: str) -> Value:
        """Returns what memory holds as a number."""
        writer = self._writer
        if dtype == "i1":
            return writer.convert("arith.trunci", stored, "i1")
        if dtype == "f16":
            return writer.convert("arith.extf", stored, "f32")
        if dtype == "bf16":
            wide = writer.convert("arith.extui", stored, "i32")
            shifted = writer.binary("arith.shli", wide, writer.integer(16, "i32"))
            return writer.convert("arith.bitcast", shifted, "f32")
        if dtype in _EIGHT:
            return self._decode_eight(stored, dtype)
        return stored

    def encode(self, value: Value, dtype: str) -> Value:
        """Returns a number that is rounded to its dtype as memory holds it."""
        writer = self._writer
        if dtype == "i1":
            return writer.convert("arith.extui", value, "i8")
        if dtype == "f16":
            return writer.convert("arith.truncf", value, "f16")
        if dtype == "bf16":
            bits = writer.convert("arith.bitcast", value, "i32")
            upper = writer.binary("arith.shrui", bits, writer.integer(16, "i32"))
            return writer.convert("arith.trunci", upper, "i16")
        if dtype in _EIGHT:
            return self._encode_eight(value, dtype)
        return value

    def rounded(self, value: Value, dtype: str) -> Value:
        """Returns an f32, or an f64, rounded to a dtype, in the form in which it is held."""
        writer = self._writer
        if value.element == "f64" and dtype != "f64":
            value = (
                self._odd(value) if dtype == "f16" else writer.convert("arith.truncf", value, "f32")
            )
        if dtype == "f16":
            return self.decode(self.encode(value, dtype), dtype)
        if dtype == "bf16":
            return self._round_bf16(value)
        if dtype in _EIGHT:
            return self.decode(self._encode_eight(value, dtype), dtype)
        return value

    def _integer(self, op: str, value: Value, number: int) -> Value:
        return self._writer.binary(op, value, self._writer.integer(number, value.element))

    def _odd(self, value: Value) -> Value:
        """
        Returns an f64 as the f32 beside it whose last bit is 1 if it is inexact.

        Rounded once more it is what rounding the f64 gives (Boldo and Melquiond, "Emulation of FMA
        and correctly rounded sums: proved algorithms using rounding to odd", 2008).
        """
        writer = self._writer
        near = writer.convert("arith.truncf", value, "f32")
        back = writer.convert("arith.extf", near, "f64")
        bits = writer.convert("arith.bitcast", near, "i32")
        is_above = writer.compare(
            "arith.cmpf", "ogt", writer.unary("math.absf", back), writer.unary("math.absf", value)
        )
        below = writer.select(is_above, self._integer("arith.subi", bits, 1), bits)
        odd = self._integer("arith.ori", below, 1)
        is_inexact = writer.compare("arith.cmpf", "one", back, value)
        return writer.convert("arith.bitcast", writer.select(is_inexact, odd, bits), "f32")

    def _round_bf16(self, value: Value) -> Value:
        """Rounds to nearest, ties to even; a NaN keeps its upper bits and is made quiet."""
        writer = self._writer
        bits = writer.convert("arith.bitcast", value, "i32")
        last = self._integer("arith.andi", self._integer("arith.shrui", bits, 16), 1)
        half = self._integer("arith.addi", last, 0x7FFF)
        rounded = writer.binary("arith.addi", bits, half)
        is_nan = writer.compare("arith.cmpf", "uno", value, value)
        chosen = writer.select(is_nan, self._integer("arith.ori", bits, 0x400000), rounded)
        kept = self._integer("arith.andi", chosen, -(1 << 16))
        return writer.convert("arith.bitcast", kept, "f32")

    def _decode_eight(self, stored: Value, dtype: str) -> Value:
        """Moves the bits into those of an f32, and lifts the exponent by a multiplication."""
        writer, kind = self._writer, _EIGHT[dtype]
        code = writer.convert("arith.extui", stored, "i32")
        size = self._integer("arith.andi", code, 0x7F)
        placed = self._integer("arith.shli", size, 23 - kind.fraction)
        # The least exponent field stands for `lowest` here, and for -126 in an f32.
        lift = writer.float(2.0 ** (kind.lowest + 126))
        magnitude = writer.binary(
            "arith.mulf", writer.convert("arith.bitcast", placed, "f32"), lift
        )
        bits = writer.convert("arith.bitcast", magnitude, "i32")
        if dtype == "f8E4M3FN":
            special = writer.compare("arith.cmpi", "eq", size, writer.integer(0x7F, "i32"))
            bits = writer.select(special, writer.integer(0x7FC00000, "i32"), bits)
        else:
            top = writer.compare("arith.cmpi", "uge", size, writer.integer(0x7C, "i32"))
            field = self._integer("arith.ori", placed, _INFINITY)
            bits = writer.select(top, field, bits)
        sign = self._integer("arith.shli", self._integer("arith.andi", code, 0x80), 24)
        return writer.convert("arith.bitcast", writer.binary("arith.ori", bits, sign), "f32")

    def _encode_eight(self, value: Value, dtype: str) -> Value:
        """Rounds to nearest even; what is too large becomes the largest number, NaN is 0x7f."""
        writer, kind = self._writer, _EIGHT[dtype]
        bits = writer.convert("arith.bitcast", value, "i32")
        largest = writer.float(kind.largest)
        size = writer.binary("arith.minnumf", writer.unary("math.absf", value), largest)
        shift = 23 - kind.fraction
        # A normal number: a carry out of the fraction is a carry of the code.
        wide = writer.convert("arith.bitcast", size, "i32")
        last = self._integer("arith.andi", self._integer("arith.shrui", wide, shift), 1)
        half = self._integer("arith.addi", last, (1 << shift - 1) - 1)
        carried = self._integer("arith.shrui", writer.binary("arith.addi", wide, half), shift)
        bias = (127 + kind.lowest - 1) << kind.fraction
        normal = self._integer("arith.subi", carried, bias)
        # A subnormal one: the addition rounds to the unit of the least number.
        magic = 2.0 ** (kind.lowest - kind.fraction + 23)
        lifted = writer.binary("arith.addf", size, writer.float(magic))
        low = writer.convert("arith.bitcast", lifted, "i32")
        subnormal = self._integer("arith.andi", low, 0x7FFFFF)
        least = writer.float(2.0**kind.lowest)
        is_small = writer.compare("arith.cmpf", "olt", size, least)
        code = writer.select(is_small, subnormal, normal)
        sign = self._integer("arith.andi", self._integer("arith.shrui", bits, 24), 0x80)
        signed = writer.binary("arith.ori", code, sign)
        is_nan = writer.compare("arith.cmpf", "uno", value, value)
        chosen = writer.select(is_nan, writer.integer(0x7F, "i32"), signed)
        return writer.convert("arith.trunci", chosen, "i8")
