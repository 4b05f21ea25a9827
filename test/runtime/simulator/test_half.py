"""f16 and bf16 arithmetic against exact fractions, rounded once."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

OPERATIONS: dict[str, Callable[[Fraction, Fraction, Fraction], Fraction]] = {
    "add": lambda a, b, c: a + b,
    "sub": lambda a, b, c: a - b,
    "mul": lambda a, b, c: a * b,
    "fma.rn": lambda a, b, c: a * b + c,
}


@pytest.mark.parametrize("form", ["f16", "bf16"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_arithmetic_rounds_once(
    name: str, form: str, lanes: Any, samples: Any, rounding: Any
) -> None:
    a, b, c = samples(16, 3, form, 500)
    third = ", a2" if name == "fma.rn" else ""
    got = lanes(f"{name}.{form} o0, a0, a1{third};", a, b, c, out="u2")
    exact, rounded = rounding
    for x, y, z, g in zip(a.tolist(), b.tolist(), c.tolist(), got.tolist(), strict=True):
        values = [exact(v, form) for v in (x, y, z)]
        if all(isinstance(value, Fraction) for value in values):
            want = OPERATIONS[name](*values)
            assert exact(g, form) == want == 0 or g == rounded(want, form), (x, y, z)


@pytest.mark.parametrize("form", ["f16", "bf16"])
def test_pairs_work_on_both_halves(form: str, lanes: Any, samples: Any) -> None:
    a, b = samples(32, 2)
    got = lanes(f"mul.{form}x2 o0, a0, a1;", a, b)
    body = "mov.b32 {%h1, %h2}, a0; mov.b32 {%h3, %h4}, a1;"
    body += f"mul.{form} %h1, %h1, %h3; mul.{form} %h2, %h2, %h4; mov.b32 o0, {{%h1, %h2}};"
    assert (got == lanes(body, a, b)).all()


def test_neg_of_a_pair_flips_both_signs(lanes: Any, samples: Any) -> None:
    (a,) = samples(32, 1)
    assert (lanes("neg.bf16x2 o0, a0;", a) == a ^ 0x80008000).all()


def test_ftz_flushes_f16(lanes: Any) -> None:
    x = np.array([0x0001, 0x83FF, 0x0400, 0x3C00], "u2")
    got = lanes("add.ftz.f16 o0, a0, a1;", x, np.zeros(4, "u2"), out="u2")
    assert got.tolist() == [0, 0, 0x0400, 0x3C00]


@pytest.mark.parametrize("name", ["mul", "fma.rn"])
def test_ftz_flushes_what_rounds_to_less_than_the_smallest_normal_f16(
    name: str, lanes: Any, rounding: Any
) -> None:
    generator = np.random.default_rng(13)
    a = generator.uniform(0.25, 1, 2000).astype("f2")
    b = ((2.0**-14 / a).astype("f2").view("i2") + generator.integers(-2, 3, 2000)).astype("u2")
    c = np.zeros(2000, "u2")
    if name == "fma.rn":  # what is added to 2^-14 reaches below half a place of it
        b = (2.0 ** generator.integers(-14, -10, 2000)).astype("f2").view("u2")
        a = (-a * np.float16(2.0**-12)).astype("f2")
        c = np.full(2000, 0x0400, "u2")
    third = ", a2" if name == "fma.rn" else ""
    got = lanes(f"{name}.ftz.f16 o0, a0, a1{third};", a.view("u2"), b, c, out="u2")
    exact, rounded = rounding
    lifted = kept = 0
    columns = (a.view("u2").tolist(), b.tolist(), c.tolist(), got.tolist())
    for x, y, z, g in zip(*columns, strict=True):
        inputs = [exact(v if v & 0x7C00 else v & 0x8000, "f16") for v in (x, y, z)]
        value = inputs[0] * inputs[1] + inputs[2]
        wide = exact(rounded(value * 2**8, "f16"), "f16")
        plain = rounded(value, "f16")
        want = plain & 0x8000 if abs(wide) < Fraction(2) ** -6 else plain
        lifted += want != plain and plain == 0x0400
        kept += want == 0x0400 and value < Fraction(2) ** -14
        assert g == want, (hex(x), hex(y), hex(z))
    assert kept if name == "fma.rn" else lifted


def test_relu_keeps_nan(lanes: Any) -> None:
    x = np.array([0xBC00, 0x3C00, 0x7E00], "u2")
    body = "mov.b16 %h1, 0x3C00; mov.b16 %h2, 0; fma.rn.relu.f16 o0, a0, %h1, %h2;"
    got = lanes(body, x, out="u2")
    assert got[:2].tolist() == [0, 0x3C00]
    assert np.isnan(got[2:].view("f2")).all()


@pytest.mark.parametrize("nan", ["", ".NaN"])
@pytest.mark.parametrize("name", ["min", "max"])
@pytest.mark.parametrize("form", ["f16", "bf16"])
def test_xorsign_takes_the_magnitude_and_the_sign_of_the_product(
    form: str, name: str, nan: str, lanes: Any, samples: Any
) -> None:
    a, b = samples(16, 2, form)
    got = lanes(f"{name}{nan}.xorsign.abs.{form} o0, a0, a1;", a, b, out="u2")
    infinity = 0x7C00 if form == "f16" else 0x7F80
    for x, y, g in zip(a.tolist(), b.tolist(), got.tolist(), strict=True):
        sizes = [v & 0x7FFF for v in (x, y)]
        numbers = [v for v in sizes if v <= infinity]
        if not numbers or (nan and len(numbers) < 2):
            assert g & 0x7FFF > infinity
        else:
            pick = min(numbers) if name == "min" else max(numbers)  # bits order magnitudes
            assert g == pick | (x ^ y) & 0x8000, (hex(x), hex(y))


@pytest.mark.parametrize("name", ["neg", "abs"])
def test_ftz_flushes_the_operand_of_a_sign_operation(name: str, lanes: Any) -> None:
    x = np.array([0x8001, 0x03FF, 0x8400, 0x3C00], "u2")
    want = [0x0000, 0x8000, 0x0400, 0xBC00] if name == "neg" else [0, 0, 0x0400, 0x3C00]
    assert lanes(f"{name}.ftz.f16 o0, a0;", x, out="u2").tolist() == want
