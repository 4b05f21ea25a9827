"""8-bit floats and cvt.pack against exact fractions and Python's integers."""

from bisect import bisect_left
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import pytest

# Format: bits of the fraction, bias, code of the largest finite number.
EIGHT = {"e4m3": (3, 7, 0x7E), "e5m2": (2, 15, 0x7B)}


def value(code: int, kind: str) -> Fraction:
    """Returns the number that a finite, positive code stands for (OCP OFP8)."""
    fraction, bias, _ = EIGHT[kind]
    exponent, rest = code >> fraction, code & (1 << fraction) - 1
    if exponent:
        return (1 + Fraction(rest, 1 << fraction)) * Fraction(2) ** (exponent - bias)
    return Fraction(rest, 1 << fraction) * Fraction(2) ** (1 - bias)


@cache
def values(kind: str) -> tuple[Fraction, ...]:
    """Returns the finite, positive numbers of a format, by code."""
    return tuple(value(code, kind) for code in range(EIGHT[kind][2] + 1))


def nearest(x: float, kind: str) -> int:
    """Returns the code nearest to a float; ties go to the even code, what is larger is clipped."""
    largest = EIGHT[kind][2]
    if x != x:
        return 0x7F
    sign = 0x80 if np.signbit(x) else 0
    if abs(x) >= value(largest, kind):
        return sign | largest
    size = Fraction(abs(x))
    above = bisect_left(values(kind), size)
    near = range(max(above - 1, 0), above + 1)
    return sign | min(near, key=lambda c: (abs(value(c, kind) - size), c & 1))


def drawn(kind: str) -> Any:
    """Returns float32 numbers: all codes, what lies halfway between them, edges, random ones."""
    codes = [float(value(c, kind)) for c in range(EIGHT[kind][2] + 1)]
    middle = [(a + b) / 2 for a, b in zip(codes, codes[1:], strict=False)]
    beyond = [codes[-1] * 1.01, codes[-1] * 2, float("inf"), float("nan"), 1e-30, 3e38]
    random = np.random.default_rng(1).normal(0, 4, 100).tolist()
    x = np.array(codes + middle + beyond + random, "f4")
    return np.concatenate([x, -x, np.nextafter(x, np.float32(9)), np.array([-0.0], "f4")])


@pytest.mark.parametrize("relu", ["", ".relu"])
@pytest.mark.parametrize("kind", EIGHT)
def test_pairs_of_floats_round_to_eight_bits(kind: str, relu: str, lanes: Any) -> None:
    x = drawn(kind)
    y = np.roll(x, 7)
    body = f"cvt.rn.satfinite{relu}.{kind}x2.f32 %h1, a0, a1; cvt.u32.u16 o0, %h1;"
    got = lanes(body, x, y)
    for high, low, g in zip(x.tolist(), y.tolist(), got.tolist(), strict=True):
        if relu:
            high, low = (0.0 if v <= 0 else v for v in (high, low))
        assert g == nearest(high, kind) << 8 | nearest(low, kind), (high, low)


@pytest.mark.parametrize("kind", EIGHT)
def test_pairs_of_halves_round_to_eight_bits(kind: str, lanes: Any) -> None:
    with np.errstate(over="ignore"):
        x = drawn(kind).astype("f2")
    x = x[: x.size // 2 * 2]
    body = f"cvt.rn.satfinite.{kind}x2.f16x2 %h1, a0; cvt.u32.u16 o0, %h1;"
    got = lanes(body, x.view("u4"))
    for low, high, g in zip(x[::2].tolist(), x[1::2].tolist(), got.tolist(), strict=True):
        assert g == nearest(high, kind) << 8 | nearest(low, kind), (high, low)


@pytest.mark.parametrize("relu", ["", ".relu"])
@pytest.mark.parametrize("kind", EIGHT)
def test_eight_bits_widen_exactly(kind: str, relu: str, lanes: Any) -> None:
    codes = np.arange(256, dtype="u2")
    packed = codes | np.roll(codes, 3) << np.uint16(8)
    got = lanes(f"cvt.rn{relu}.f16x2.{kind}x2 o0, a0;", packed).view("f2")
    bits = np.stack([packed & 0xFF, packed >> 8], 1).reshape(-1)
    for code, g in zip(bits.tolist(), got.tolist(), strict=True):
        if code & 0x7F <= EIGHT[kind][2]:
            want = float(value(code & 0x7F, kind)) * (-1 if code & 0x80 else 1)
            assert g == (max(want, 0) if relu else want)
        elif kind == "e5m2" and code & 0x7F == 0x7C:
            assert g == (0 if relu and code & 0x80 else np.inf * (-1 if code & 0x80 else 1))
        else:
            assert np.isnan(g)


def test_uniform_values_round_to_eight_bits(lanes: Any) -> None:
    x = np.zeros(3, "u4")
    body = "cvt.rn.satfinite.e4m3x2.f32 %h1, 0f3FC00000, 0fC3E00000; cvt.u32.u16 o0, %h1;"
    assert lanes(body, x).tolist() == [nearest(1.5, "e4m3") << 8 | nearest(-448, "e4m3")] * 3


@pytest.mark.parametrize("type", ["u16", "s16", "u8", "s8", "u4", "s4", "u2", "s2"])
def test_cvt_pack_clamps_and_shifts_the_third_in(type: str, lanes: Any, samples: Any) -> None:
    a, b, c = samples(32, 3)
    bits = int(type[1:])
    low = -(1 << bits - 1) if type[0] == "s" else 0
    high = low + (1 << bits) - 1
    tail = "" if bits == 16 else ", a2"
    got = lanes(f"cvt.pack.sat.{type}.s32{'' if bits == 16 else '.b32'} o0, a0, a1{tail};", a, b, c)
    columns = (a.view("i4").tolist(), b.view("i4").tolist(), c.tolist(), got.tolist())
    for x, y, z, g in zip(*columns, strict=True):
        upper, lower = (min(max(v, low), high) % (1 << bits) for v in (x, y))
        rest = 0 if bits == 16 else z << 2 * bits
        assert g == (rest | upper << bits | lower) % (1 << 32)
