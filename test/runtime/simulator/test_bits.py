"""Logic, shifts and bit fields against Python's integers."""

from typing import Any

import numpy as np
import pytest


def signed(value: int, bits: int) -> int:
    """Returns an unsigned pattern as a two's-complement number."""
    return value - (1 << bits) if value >> (bits - 1) else value


def amounts(size: int) -> Any:
    """Returns shift amounts below, at and above every width."""
    values = np.array([0, 1, 5, 15, 16, 17, 31, 32, 33, 63, 64, 65, 255, 256, 2**31, 2**32 - 1])
    return np.resize(values, size).astype("u4")


def places(size: int, seed: int) -> Any:
    """Returns positions and lengths of bit fields, some beyond every width."""
    return np.random.default_rng(seed).integers(0, 80, size, dtype="u4")


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_shl_clamps_the_amount(bits: int, lanes: Any, samples: Any) -> None:
    (a,) = samples(bits, 1)
    by = amounts(a.size)
    got = lanes(f"shl.b{bits} o0, a0, a1;", a, by, out=f"u{bits // 8}")
    for x, n, g in zip(a.tolist(), by.tolist(), got.tolist(), strict=True):
        assert g == (x << min(n, bits)) % (1 << bits)


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_shr_fills_with_the_sign(bits: int, lanes: Any, samples: Any) -> None:
    (a,) = samples(bits, 1)
    by = amounts(a.size)
    got = lanes(f"shr.s{bits} o0, a0, a1;", a, by, out=f"u{bits // 8}")
    for x, n, g in zip(a.tolist(), by.tolist(), got.tolist(), strict=True):
        assert g == (signed(x, bits) >> min(n, bits)) % (1 << bits)


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_shr_of_unsigned_fills_with_zeros(bits: int, lanes: Any, samples: Any) -> None:
    (a,) = samples(bits, 1)
    by = amounts(a.size)
    got = lanes(f"shr.u{bits} o0, a0, a1;", a, by, out=f"u{bits // 8}")
    for x, n, g in zip(a.tolist(), by.tolist(), got.tolist(), strict=True):
        assert g == x >> min(n, bits)


@pytest.mark.parametrize(
    "table", [0x80, 0xFE, 0x96, 0xE8, 0xCA, 0x00, 0xFF, 0x0F, 0x3C, 0x1B, 0x6A]
)
def test_lop3_follows_its_table(table: int, lanes: Any, samples: Any) -> None:
    a, b, c = samples(32, 3, number=50)
    got = lanes(f"lop3.b32 o0, a0, a1, a2, {table:#x};", a, b, c)
    for x, y, z, g in zip(a.tolist(), b.tolist(), c.tolist(), got.tolist(), strict=True):
        want = 0
        for i in range(32):
            index = (x >> i & 1) << 2 | (y >> i & 1) << 1 | (z >> i & 1)
            want |= (table >> index & 1) << i
        assert g == want


@pytest.mark.parametrize("bits", [32, 64])
def test_counts_of_bits(bits: int, lanes: Any, samples: Any) -> None:
    (a,) = samples(bits, 1)
    body = f"popc.b{bits} %r1, a0; clz.b{bits} %r2, a0; shl.b32 %r2, %r2, 8; or.b32 o0, %r1, %r2;"
    got = lanes(body, a)
    for x, g in zip(a.tolist(), got.tolist(), strict=True):
        assert g == x.bit_count() | (bits - x.bit_length()) << 8


@pytest.mark.parametrize("type", ["u32", "s32", "u64", "s64"])
def test_bfind_gives_the_highest_significant_bit(type: str, lanes: Any, samples: Any) -> None:
    bits = int(type[1:])
    (a,) = samples(bits, 1)
    got = lanes(f"bfind.{type} o0, a0;", a)
    for x, g in zip(a.tolist(), got.tolist(), strict=True):
        value = ~x % (1 << bits) if type[0] == "s" and x >> (bits - 1) else x
        assert g == (value.bit_length() - 1) % (1 << 32)


@pytest.mark.parametrize("bits", [32, 64])
def test_brev_reverses(bits: int, lanes: Any, samples: Any) -> None:
    (a,) = samples(bits, 1)
    got = lanes(f"brev.b{bits} o0, a0;", a, out=f"u{bits // 8}")
    for x, g in zip(a.tolist(), got.tolist(), strict=True):
        assert g == int(f"{x:0{bits}b}"[::-1], 2)


@pytest.mark.parametrize("type", ["u32", "s32", "u64", "s64"])
def test_bfe_extracts_a_field(type: str, lanes: Any, samples: Any) -> None:
    bits = int(type[1:])
    (a,) = samples(bits, 1)
    pos, length = places(a.size, 3), places(a.size, 4)
    got = lanes(f"bfe.{type} o0, a0, a1, a2;", a, pos, length, out=f"u{bits // 8}")
    for x, p, n, g in zip(a.tolist(), pos.tolist(), length.tolist(), got.tolist(), strict=True):
        top = 0 if type[0] == "u" or n == 0 else x >> min(p + n - 1, bits - 1) & 1
        want = sum((x >> p + i & 1 if i < n and p + i < bits else top) << i for i in range(bits))
        assert g == want, (hex(x), p, n)


@pytest.mark.parametrize("bits", [32, 64])
def test_bfi_inserts_a_field(bits: int, lanes: Any, samples: Any) -> None:
    a, b = samples(bits, 2)
    pos, length = places(a.size, 5), places(a.size, 6)
    got = lanes(f"bfi.b{bits} o0, a0, a1, a2, a3;", a, b, pos, length, out=f"u{bits // 8}")
    columns = (a.tolist(), b.tolist(), pos.tolist(), length.tolist(), got.tolist())
    for x, y, p, n, g in zip(*columns, strict=True):
        want = y
        for i in range(n):
            if p + i < bits:
                want = want & ~(1 << p + i) | (x >> i & 1) << p + i
        assert g == want


def test_64_bit_fields_take_all_bits_of_a_position_and_a_length(lanes: Any) -> None:
    a = np.full(6, 0xF123456789ABCDE5, "u8")
    pos = np.array([0, 0, 1, 256, 2**31, 2**32 - 1], "u4")
    length = np.array([256, 2**32 - 1, 2**31 + 1, 8, 3, 2**32 - 1], "u4")
    got = lanes("bfe.u64 o0, a0, a1, a2;", a, pos, length, out="u8")
    assert got.tolist() == [int(a[0]), int(a[0]), int(a[0]) >> 1, 0, 0, 0]
    got = lanes("bfe.s64 o0, a0, a1, a2;", a, pos, length, out="u8").view("i8")
    whole = int(a.view("i8")[0])
    assert got.tolist() == [whole, whole, whole >> 1, -1, -1, -1]
    got = lanes("bfi.b64 o0, a0, 0, a1, 7;", a, pos, out="u8")
    assert got.tolist() == [0x65, 0x65, 0x65 << 1, 0, 0, 0]


def test_32_bit_fields_take_8_bits_of_a_position_and_a_length(lanes: Any) -> None:
    a = np.full(3, 0x89ABCDE5, "u4")
    pos, length = np.array([256, 2**31 + 4, 1], "u4"), np.array([8, 2**31 + 8, 256], "u4")
    assert lanes("bfe.u32 o0, a0, a1, a2;", a, pos, length).tolist() == [0xE5, 0xDE, 0]
    assert lanes("bfi.b32 o0, a0, 0, a1, a2;", a, pos, length).tolist() == [0xE5, 0xE50, 0]


def test_prmt_picks_bytes_and_signs(lanes: Any, samples: Any) -> None:
    a, b, c = samples(32, 3)
    got = lanes("prmt.b32 o0, a0, a1, a2;", a, b, c)
    for x, y, s, g in zip(a.tolist(), b.tolist(), c.tolist(), got.tolist(), strict=True):
        whole, want = x | y << 32, 0
        for i in range(4):
            nibble = s >> 4 * i & 15
            byte = whole >> 8 * (nibble & 7) & 255
            want |= ((255 if byte >> 7 else 0) if nibble & 8 else byte) << 8 * i
        assert g == want


@pytest.mark.parametrize("mode", ["wrap", "clamp"])
def test_shf_shifts_a_pair(mode: str, lanes: Any, samples: Any) -> None:
    a, b = samples(32, 2)
    by = amounts(a.size)
    body = f"shf.l.{mode}.b32 %r1, a0, a1, a2; shf.r.{mode}.b32 %r2, a0, a1, a2;"
    got = lanes(body + "xor.b32 o0, %r1, %r2;", a, b, by)
    for x, y, n, g in zip(a.tolist(), b.tolist(), by.tolist(), got.tolist(), strict=True):
        shift = n & 31 if mode == "wrap" else min(n, 32)
        whole = x | y << 32
        assert g == (whole << shift >> 32 & 0xFFFFFFFF) ^ (whole >> shift & 0xFFFFFFFF)


def test_packing_and_unpacking_keep_the_order(lanes: Any, samples: Any) -> None:
    (a,) = samples(64, 1)
    body = "mov.b64 {%r1, %r2}, a0; mov.b32 {%h1, %h2}, %r2; mov.b32 %r3, {%h2, %h1};"
    got = lanes(body + "mov.b64 o0, {%r3, %r1};", a, out="u8")
    for x, g in zip(a.tolist(), got.tolist(), strict=True):
        assert g == (x >> 48 | (x >> 32 & 0xFFFF) << 16) | (x & 0xFFFFFFFF) << 32


def test_constants_may_be_hex_octal_binary_and_negative(lanes: Any) -> None:
    body = "mov.u32 %r1, 0x10; add.u32 %r1, %r1, 010; add.u32 %r1, %r1, 0b11; add.s32 o0, %r1, -5;"
    assert lanes(body, np.zeros(3, "u4")).tolist() == [16 + 8 + 3 - 5] * 3


@pytest.mark.parametrize("mode", ["clamp", "wrap"])
def test_bmsk_sets_a_run_of_bits(mode: str, lanes: Any) -> None:
    a, b = places(600, 3), places(600, 4)
    a[::9], b[::7] = 2**32 - 1, 2**32 - 3
    got = lanes(f"bmsk.{mode}.b32 o0, a0, a1;", a, b)
    for start, width, g in zip(a.tolist(), b.tolist(), got.tolist(), strict=True):
        if mode == "wrap":
            start, width = start % 32, width % 32
        assert g == sum(1 << i for i in range(32) if start <= i < start + width)


def test_fns_finds_the_nth_set_bit(lanes: Any) -> None:
    generator = np.random.default_rng(5)
    mask = generator.integers(0, 1 << 32, 800, dtype="u4")
    mask[::5] &= 0x8001
    base = generator.integers(0, 32, 800, dtype="u4")
    offset = generator.integers(-12, 13, 800, dtype="i4")
    got = lanes("fns.b32 o0, a0, a1, a2;", mask, base, offset.view("u4"))
    columns = (mask.tolist(), base.tolist(), offset.tolist(), got.tolist())
    for bits, start, n, g in zip(*columns, strict=True):
        places = range(start, 32) if n >= 0 else range(start, -1, -1)
        found = [i for i in places if bits >> i & 1 and (n or i == start)]
        index = max(abs(n), 1) - 1
        assert g == (found[index] if index < len(found) else 0xFFFFFFFF), (bits, start, n)


def test_fns_gives_zero_for_the_offset_without_an_absolute_value(lanes: Any) -> None:
    mask, base = np.array([0, 1, 2**32 - 1], "u4"), np.array([0, 7, 31], "u4")
    assert lanes("fns.b32 o0, a0, a1, -2147483648;", mask, base).tolist() == [0, 0, 0]


@pytest.mark.parametrize("join", ["or", "and"])
def test_lop3_joins_a_predicate(join: str, lanes: Any, samples: Any) -> None:
    a, b, c = samples(32, 3)
    body = f"setp.lt.u32 %p1, a2, 99; lop3.{join}.b32 %r1|%p2, a0, a1, a2, 0x80, !%p1;"
    got = lanes(f"{body} selp.u32 %r2, 3, 5, %p2; add.u32 o0, %r1, %r2;", a, b, c)
    every = a & b & c
    third = ~(c < 99)
    joined = (every != 0) | third if join == "or" else (every != 0) & third
    assert (got == every + np.where(joined, 3, 5).astype("u4")).all()
