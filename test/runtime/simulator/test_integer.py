"""Integer instructions against Python's integers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest


def signed(value: int, bits: int) -> int:
    """Returns an unsigned pattern as a two's-complement number."""
    return value - (1 << bits) if value >> (bits - 1) else value


def number(value: int, type: str) -> int:
    """Returns a pattern as the number that a type sees."""
    return signed(value, int(type[1:])) if type[0] == "s" else value


def truncated(a: int, b: int) -> int:
    """Returns a / b rounded to zero."""
    return abs(a) // abs(b) * (-1 if (a < 0) != (b < 0) else 1)


BINARY: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul.lo": lambda a, b: a * b,
    "min": min,
    "max": max,
    "div": truncated,
    "rem": lambda a, b: a - truncated(a, b) * b,
}
TYPES = ("u16", "s16", "u32", "s32", "u64", "s64")


@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize("name", BINARY)
def test_two_operand_instruction(name: str, type: str, lanes: Any, samples: Any) -> None:
    bits = int(type[1:])
    a, b = samples(bits, 2)
    if name in ("div", "rem"):
        a, b = a[b != 0], b[b != 0]
    got = lanes(f"{name}.{type} o0, a0, a1;", a, b, out=f"u{bits // 8}")
    for x, y, z in zip(a.tolist(), b.tolist(), got.tolist(), strict=True):
        assert z == BINARY[name](number(x, type), number(y, type)) % (1 << bits), (x, y)


@pytest.mark.parametrize("type", TYPES)
def test_mul_hi_gives_the_upper_half(type: str, lanes: Any, samples: Any) -> None:
    bits = int(type[1:])
    a, b = samples(bits, 2)
    got = lanes(f"mul.hi.{type} o0, a0, a1;", a, b, out=f"u{bits // 8}")
    for x, y, z in zip(a.tolist(), b.tolist(), got.tolist(), strict=True):
        assert z == (number(x, type) * number(y, type) >> bits) % (1 << bits), (x, y)


@pytest.mark.parametrize("type", TYPES[:4])
def test_mad_wide_adds_to_the_whole_product(type: str, lanes: Any, samples: Any) -> None:
    bits = int(type[1:])
    a, b = samples(bits, 2)
    c = np.random.default_rng(1).integers(0, 1 << 2 * bits, a.size, dtype=f"u{bits // 4}")
    got = lanes(f"mad.wide.{type} o0, a0, a1, a2;", a, b, c, out=f"u{bits // 4}")
    for x, y, w, z in zip(a.tolist(), b.tolist(), c.tolist(), got.tolist(), strict=True):
        assert z == (number(x, type) * number(y, type) + w) % (1 << 2 * bits), (x, y, w)


@pytest.mark.parametrize("name", ["add", "sub"])
def test_saturation_clamps_s32(name: str, lanes: Any, samples: Any) -> None:
    a, b = samples(32, 2)
    got = lanes(f"{name}.sat.s32 o0, a0, a1;", a, b)
    for x, y, z in zip(a.tolist(), b.tolist(), got.tolist(), strict=True):
        value = BINARY[name](signed(x, 32), signed(y, 32))
        assert signed(z, 32) == max(-(1 << 31), min((1 << 31) - 1, value))


def test_abs_neg_and_sad_of_s32(lanes: Any, samples: Any) -> None:
    a, b, c = samples(32, 3)
    body = "abs.s32 %r1, a0; neg.s32 %r2, a1; add.s32 %r3, %r1, %r2; sad.s32 o0, a0, a1, %r3;"
    got = lanes(body, a, b)
    for x, y, z in zip(a.tolist(), b.tolist(), got.tolist(), strict=True):
        p, q = signed(x, 32), signed(y, 32)
        assert z == (abs(p) - q + abs(p - q)) % (1 << 32)
    del c


def test_carry_chain_adds_128_bits(lanes: Any, samples: Any) -> None:
    a, b, c, d = samples(32, 4)
    body = "add.cc.u32 %r1, a0, a1; addc.cc.u32 %r2, a2, a3; addc.u32 %r3, 0, 0;"
    body += "xor.b32 o0, %r1, %r2; xor.b32 o0, o0, %r3;"
    got = lanes(body, a, b, c, d)
    for w, x, y, z, g in zip(*(v.tolist() for v in (a, b, c, d, got)), strict=True):
        total = (w | y << 32) + (x | z << 32)
        assert g == (total & 0xFFFFFFFF) ^ (total >> 32 & 0xFFFFFFFF) ^ (total >> 64)


def test_subtraction_borrows(lanes: Any, samples: Any) -> None:
    a, b, c, d = samples(32, 4)
    body = "sub.cc.u32 %r1, a0, a1; subc.u32 %r2, a2, a3; xor.b32 o0, %r1, %r2;"
    got = lanes(body, a, b, c, d)
    for w, x, y, z, g in zip(*(v.tolist() for v in (a, b, c, d, got)), strict=True):
        total = ((w | y << 32) - (x | z << 32)) % (1 << 64)
        assert g == (total & 0xFFFFFFFF) ^ (total >> 32)


@pytest.mark.parametrize(("a_type", "b_type"), [("u32", "u32"), ("s32", "u32"), ("s32", "s32")])
def test_dp4a_adds_four_products(a_type: str, b_type: str, lanes: Any, samples: Any) -> None:
    a, b, c = samples(32, 3)
    got = lanes(f"dp4a.{a_type}.{b_type} o0, a0, a1, a2;", a, b, c)
    for x, y, z, g in zip(a.tolist(), b.tolist(), c.tolist(), got.tolist(), strict=True):
        total = z
        for i in range(4):
            p, q = x >> 8 * i & 255, y >> 8 * i & 255
            p = signed(p, 8) if a_type == "s32" else p
            q = signed(q, 8) if b_type == "s32" else q
            total += p * q
        assert g == total % (1 << 32)


def test_mul24_uses_the_low_24_bits(lanes: Any, samples: Any) -> None:
    a, b = samples(32, 2)
    got = lanes("mul24.lo.s32 %r1, a0, a1; mul24.hi.u32 %r2, a0, a1; xor.b32 o0, %r1, %r2;", a, b)
    for x, y, g in zip(a.tolist(), b.tolist(), got.tolist(), strict=True):
        p, q = x & 0xFFFFFF, y & 0xFFFFFF
        low = signed(p, 24) * signed(q, 24) % (1 << 32)
        assert g == low ^ (p * q >> 16 & 0xFFFFFFFF)


@pytest.mark.parametrize("mode", ["clamp", "wrap"])
@pytest.mark.parametrize("type", ["u32", "s32"])
def test_szext_extends_a_number_of_some_bits(
    type: str, mode: str, lanes: Any, samples: Any
) -> None:
    a, b = samples(32, 2)
    n = b % 40
    n[::3] = b[::3]
    got = lanes(f"szext.{mode}.{type} o0, a0, a1;", a, n)
    for x, width, g in zip(a.tolist(), n.tolist(), got.tolist(), strict=True):
        if mode == "clamp" and width >= 32:
            assert g == x
            continue
        width %= 32
        low = x % (1 << width)
        negative = type == "s32" and width and low >> width - 1
        assert g == (low - (1 << width) if negative else low) % (1 << 32), (x, width)


@pytest.mark.parametrize(
    ("type", "name"),
    [(t, op) for t in ("u16", "s16") for op in ("add", "min", "max")]
    + [("s16", "min.relu"), ("s16", "max.relu")],
)
def test_pairs_of_integers_work_on_each_half(
    type: str, name: str, lanes: Any, samples: Any
) -> None:
    a, b = samples(32, 2)
    got = lanes(f"{name}.{type}x2 o0, a0, a1;", a, b).view(type.replace("s", "i")[0] + "2")
    x, y = (v.view(got.dtype).astype("i8") for v in (a, b))
    function = {"add": np.add, "min": np.minimum, "max": np.maximum}[name[:3]]
    want = function(x, y)
    want = np.maximum(want, 0) if "relu" in name else want
    assert (got == want.astype(got.dtype)).all()


@pytest.mark.parametrize(("name", "shift"), [("mad.hi.sat", 32), ("mad24.hi.sat", 16)])
def test_mad_hi_saturates(name: str, shift: int, lanes: Any, samples: Any) -> None:
    a, b, c = samples(32, 3)
    got = lanes(f"{name}.s32 o0, a0, a1, a2;", a, b, c).view("i4")
    columns = (v.view("i4").tolist() for v in (a, b, c))
    for x, y, z, g in zip(*columns, got.tolist(), strict=True):
        if shift == 16:
            x, y = ((v % (1 << 24) ^ 1 << 23) - (1 << 23) for v in (x, y))
        assert g == max(-(1 << 31), min((1 << 31) - 1, (x * y >> shift) + z))
