"""cvt against exact fractions."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

WIDTH = {"f16": 16, "bf16": 16, "f32": 32, "f64": 64}
NUMBER = {"rni": round, "rzi": math.trunc, "rmi": math.floor, "rpi": math.ceil}


def limits(type: str) -> tuple[int, int]:
    """Returns the range of an integer type."""
    bits = int(type[1:])
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if type[0] == "s" else (0, (1 << bits) - 1)


@pytest.mark.parametrize("mode", NUMBER)
@pytest.mark.parametrize("target", ["s32", "u32", "s64", "u64", "s16"])
@pytest.mark.parametrize("source", ["f16", "f32", "f64"])
def test_float_to_integer_rounds_and_clamps(
    source: str, target: str, mode: str, lanes: Any, samples: Any, rounding: Any
) -> None:
    (a,) = samples(WIDTH[source], 1, source)
    if source == "f32":
        near = np.random.default_rng(1).normal(0, 1e5, 300).astype("f4").view("u4")
        a = np.concatenate([a, near, np.arange(-20, 20).astype("f4").view("u4") + 0])
    bits = int(target[1:])
    got = lanes(f"cvt.{mode}.{target}.{source} o0, a0;", a, out=f"u{bits // 8}")
    exact, _ = rounding
    low, high = limits(target)
    for x, g in zip(a.tolist(), got.tolist(), strict=True):
        value = exact(x, source)
        if isinstance(value, Fraction):
            want = max(low, min(high, NUMBER[mode](value)))
        elif value != value:
            wide = source == "f64" or bits == 64
            want = (1 << (bits - 1)) if wide else 0
        else:
            want = high if value > 0 else low
        assert g == want % (1 << bits), hex(x)


@pytest.mark.parametrize(
    ("target", "mode"),
    [(t, m) for t in ("f16", "bf16", "f32", "f64") for m in ("rn", "rz", "rm", "rp")],
)
@pytest.mark.parametrize("source", ["s32", "u32", "u64", "s64"])
def test_integer_to_float_rounds_once(
    source: str, target: str, mode: str, lanes: Any, samples: Any, rounding: Any
) -> None:
    bits = int(source[1:])
    (a,) = samples(bits, 1)
    a = np.concatenate([a, a >> np.array(bits // 2, a.dtype)])
    got = lanes(f"cvt.{mode}.{target}.{source} o0, a0;", a, out=f"u{WIDTH[target] // 8}")
    for x, g in zip(a.tolist(), got.tolist(), strict=True):
        value = x - (1 << bits) if source[0] == "s" and x >> (bits - 1) else x
        assert g == rounding[1](Fraction(value), target, mode), value


@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
@pytest.mark.parametrize(
    ("source", "target"),
    [(s, t) for t in ("f16", "bf16") for s in ("f32", "f64")]
    + [("f64", "f32"), ("bf16", "f16"), ("f16", "bf16")],
)
def test_narrowing_rounds_once(
    source: str, target: str, mode: str, lanes: Any, samples: Any, rounding: Any
) -> None:
    (a,) = samples(WIDTH[source], 1, source, 1000)
    if source == "f32":
        near = np.random.default_rng(2).normal(size=1000).astype("f4").view("u4")
        tie = near & np.uint32(0xFFFF8000 if target == "bf16" else 0xFFFFF000)
        small = np.random.default_rng(3).normal(0, 1e-7, 500).astype("f4").view("u4")
        a = np.concatenate([a, near, tie, small])
    elif source == "f64":
        near = np.random.default_rng(2).normal(size=500)
        a = np.concatenate([a, near.view("u8"), near.astype("f4").astype("f8").view("u8") + 1])
    got = lanes(f"cvt.{mode}.{target}.{source} o0, a0;", a, out=f"u{WIDTH[target] // 8}")
    exact, rounded = rounding
    for x, g in zip(a.tolist(), got.tolist(), strict=True):
        value = exact(x, source)
        if isinstance(value, Fraction):
            assert g == rounded(value, target, mode, x >> (WIDTH[source] - 1) == 1), hex(x)
        elif value != value:
            assert exact(g, target) != exact(g, target)
        else:
            assert exact(g, target) == value


@pytest.mark.parametrize("form", ["f16", "bf16"])
def test_packed_conversion_puts_the_first_operand_above(
    form: str, lanes: Any, samples: Any
) -> None:
    a, b = samples(32, 2, "f32")
    got = lanes(f"cvt.rn.{form}x2.f32 o0, a0, a1;", a, b)
    body = f"cvt.rn.{form}.f32 %h1, a0; cvt.rn.{form}.f32 %h2, a1; mov.b32 o0, {{%h2, %h1}};"
    assert (got == lanes(body, a, b)).all()


@pytest.mark.parametrize("form", ["f16", "bf16"])
def test_every_16_bit_float_survives_the_way_through_f32(form: str, lanes: Any) -> None:
    a = np.arange(1 << 16).astype("u2")
    body = f"cvt.f32.{form} %f1, a0; cvt.rn.{form}.f32 o0, %f1;"
    got = lanes(body, a, out="u2")
    infinity = 0x7C00 if form == "f16" else 0x7F80
    number = (a & 0x7FFF) <= infinity
    assert (got[number] == a[number]).all()
    assert ((got[~number] & 0x7FFF) > infinity).all()


def test_tf32_rounds_ties_away(lanes: Any, samples: Any, rounding: Any) -> None:
    (a,) = samples(32, 1, "f32")
    a = np.concatenate([a, a & np.uint32(0xFFFFF000)])
    got = lanes("cvt.rna.tf32.f32 o0, a0;", a)
    exact, _ = rounding
    for x, g in zip(a.tolist(), got.tolist(), strict=True):
        value = exact(x, "f32")
        if isinstance(value, Fraction) and x & 0x7F800000 and x & 0x7FFFFFFF < 0x7F7FF000:
            unit = Fraction(2) ** ((x >> 23 & 255) - 127 - 10)
            want = int(abs(value) / unit + Fraction(1, 2)) * unit
            assert abs(exact(g, "f32")) == want


def test_widening_follows_the_signs(lanes: Any, samples: Any) -> None:
    (a,) = samples(16, 1)
    body = "cvt.s64.s16 %d1, a0; cvt.u64.u16 %d2, a0; sub.s64 o0, %d1, %d2;"
    got = lanes(body, a, out="u8")
    want = np.where(a >> 15, np.uint64(2**64 - 2**16), np.uint64(0))
    assert (got == want).all()


def test_saturating_narrowing(lanes: Any, samples: Any) -> None:
    (a,) = samples(32, 1)
    body = "cvt.sat.s8.s32 %r1, a0; cvt.sat.u8.s32 %r2, a0; shl.b32 %r2, %r2, 8;"
    got = lanes(body + "and.b32 %r1, %r1, 255; or.b32 o0, %r1, %r2;", a)
    value = a.view("i4")
    want = (np.clip(value, -128, 127) & 255) | np.clip(value, 0, 255) << 8
    assert (got == want).all()


def test_rounding_to_integral_values(lanes: Any) -> None:
    x = np.array([0.5, 1.5, 2.5, -0.5, -2.5, 3.2, -3.7, 1e9], "f4")
    assert (lanes("cvt.rni.f32.f32 o0, a0;", x, out="f4") == np.rint(x)).all()


def test_relu_conversion_clips_at_zero(lanes: Any) -> None:
    x = np.array([-2, -0.0, 3], "f4")
    assert lanes("cvt.rn.relu.bf16.f32 o0, a0;", x, out="u2").tolist() == [0, 0, 0x4040]


@pytest.mark.parametrize("mode", NUMBER)
@pytest.mark.parametrize("form", ["f16", "bf16", "f32", "f64"])
def test_a_float_is_rounded_to_an_integer_in_its_own_type(
    form: str, mode: str, lanes: Any, samples: Any, rounding: Any
) -> None:
    (a,) = samples(WIDTH[form], 1, form, 500)
    got = lanes(f"cvt.{mode}.{form}.{form} o0, a0;", a, out=f"u{WIDTH[form] // 8}")
    exact, rounded = rounding
    for x, g in zip(a.tolist(), got.tolist(), strict=True):
        value = exact(x, form)
        if isinstance(value, Fraction):
            negative = x >> (WIDTH[form] - 1) == 1
            assert g == rounded(Fraction(NUMBER[mode](value)), form, "rn", negative), hex(x)


def test_satfinite_clips_tf32(lanes: Any) -> None:
    x = np.array([0x7F7FFFFF, 0xFF7FFFFF, 0x7F800000, 0x3F800000], "u4")
    got = lanes("cvt.rna.satfinite.tf32.f32 o0, a0;", x)
    assert got.tolist() == [0x7F7FE000, 0xFF7FE000, 0x7F7FE000, 0x3F800000]


def test_relu_of_tf32_keeps_nan(lanes: Any) -> None:
    x = np.array([-3, 3, np.nan], "f4")
    got = lanes("cvt.rn.relu.tf32.f32 o0, a0;", x)
    assert got[:2].tolist() == [0, 0x40400000]
    assert got[2] & 0x7FFFFFFF > 0x7F800000


def test_rna_cuts_the_bits_of_a_nan(lanes: Any) -> None:
    x = np.array([0x7FC7BBD3, 0xFFF17111, 0x7F800001, 0xFFC00000], "u4")
    got = lanes("cvt.rna.tf32.f32 o0, a0;", x)
    assert got.tolist() == [0x7FC7A000, 0xFFF16000, 0x7F800000, 0xFFC00000]


@pytest.mark.parametrize("how", ["rn", "rn.relu", "rz", "rna.satfinite"])
def test_a_nan_is_one_of_tf32(how: str, lanes: Any) -> None:
    x = np.array([0x7FC7BBD3, 0xFFF17111, 0x7F800001], "u4")
    assert lanes(f"cvt.{how}.tf32.f32 o0, a0;", x).tolist() == [0x7FFFE000] * 3
