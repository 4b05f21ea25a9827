"""Conversions of pairs of 8-bit floats, printed for sm_89, and of other scalars to few bits."""

from functools import partial

import numpy as np
import pytest

from tilewright.lowering.ptx import print_ptx

from .execute import apply
from .kernels import elementwise

PRINTER = partial(print_ptx, target="sm_89")
# Numbers that both formats hold, of both signs.
NUMBERS = [0.0, 1.0, -2.0, 0.5, 12.0, -28.0, 96.0, -1.75]


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("form", ["f8E4M3FN", "f8E5M2"])
def test_each_number_of_a_pair_keeps_its_place(form: str, relu: bool) -> None:
    word = str(relu).lower()
    sat = "rnd = #nvvm.fp_rnd_mode<rn>, sat = #nvvm.sat_mode<satfinite>"
    code = f"""
    %codes = nvvm.convert.f32x2.to.f8x2 %a, %b {{{sat}, relu = {word}}} : vector<2xi8>({form})
    %h = nvvm.convert.f8x2.to.f16x2 %codes {{relu = false}} : vector<2xi8>({form}) -> vector<2xf16>
    %low = vector.extract %h[0] : f16 from vector<2xf16>
    %high = vector.extract %h[1] : f16 from vector<2xf16>
    %x = arith.extf %low : f16 to f32
    %y = arith.extf %high : f16 to f32
    %scale = arith.constant 1024.0 : f32
    %z = arith.mulf %y, %scale : f32
    %r = arith.addf %x, %z : f32
    """
    a = np.resize(np.array(NUMBERS, np.float32), 32)
    b = np.resize(np.array(NUMBERS[3:], np.float32), 32)
    least = 0 if relu else -np.inf
    result = apply(elementwise(code, ["f32", "f32"], "f32"), [a, b], np.float32, PRINTER)
    np.testing.assert_array_equal(result, np.maximum(b, least) + 1024 * np.maximum(a, least))


@pytest.mark.parametrize("form", ["f8E4M3FN", "f8E5M2"])
def test_numbers_below_0_become_0_when_they_are_widened(form: str) -> None:
    sat = "rnd = #nvvm.fp_rnd_mode<rn>, sat = #nvvm.sat_mode<satfinite>"
    code = f"""
    %codes = nvvm.convert.f32x2.to.f8x2 %a, %a {{{sat}, relu = false}} : vector<2xi8>({form})
    %h = nvvm.convert.f8x2.to.f16x2 %codes {{relu = true}} : vector<2xi8>({form}) -> vector<2xf16>
    %low = vector.extract %h[0] : f16 from vector<2xf16>
    %r = arith.extf %low : f16 to f32
    """
    a = np.resize(np.array(NUMBERS, np.float32), 32)
    result = apply(elementwise(code, ["f32"], "f32"), [a], np.float32, PRINTER)
    np.testing.assert_array_equal(result, np.maximum(a, 0))


@pytest.mark.parametrize("source", ["f32", "f64"])
def test_the_last_bit_of_a_whole_number(source: str) -> None:
    code = f"""
    %bit = arith.fptosi %a : {source} to i1
    %r = arith.extui %bit : i1 to i32
    """
    a = np.arange(-1, 31).clip(0).astype(np.float32 if source == "f32" else np.float64) + 0.5
    result = apply(elementwise(code, [source], "i32"), [a], np.int32)
    np.testing.assert_array_equal(result, a.astype(np.int32) % 2)


@pytest.mark.parametrize("signs", [True, False])
def test_integers_of_8_bits_become_f16_without_a_conversion(signs: bool) -> None:
    kind, extend = ("si", np.int8) if signs else ("ui", np.uint8)
    code = f"""
    %wide = arith.ext{kind} %a : i8 to i32
    %r = arith.sitofp %wide : i32 to f16
    """
    module = elementwise(code, ["i8"], "f16")
    a = np.arange(256).astype(np.uint8).view(np.int8)
    result = apply(module, [a], np.uint16).view(np.float16)
    np.testing.assert_array_equal(result, a.view(extend).astype(np.float16))
    np.testing.assert_array_equal(np.signbit(result), a.view(extend) < 0)
    assert "cvt.rn.f16" not in print_ptx(module)


@pytest.mark.parametrize("kind", ["i8", "i16", "i32", "i64"])
def test_magnitudes_of_integers_wrap(kind: str) -> None:
    dtype = np.dtype(f"int{kind[1:]}")
    least = np.iinfo(dtype).min
    a = np.random.default_rng().integers(least, -least - 1, 32, dtype)
    a[0] = least
    result = apply(elementwise(f"%r = math.absi %a : {kind}", [kind], kind), [a], dtype)
    np.testing.assert_array_equal(result, np.abs(a))
