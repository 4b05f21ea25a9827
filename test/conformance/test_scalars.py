"""What scalar instructions mean, in Python's integers and floats."""

import struct
from collections.abc import Callable

import numpy as np
import pytest
from devices import Simulator
from record import compute
from variants import Variant, differences


def signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


def single(bits: int) -> float:
    return struct.unpack("<f", struct.pack("<I", bits))[0]


def bits_of(value: float) -> int:
    if value != value:
        return 0x7FFFFFFF
    try:
        return struct.unpack("<I", struct.pack("<f", value))[0]
    except OverflowError:
        return 0xFF800000 if value < 0 else 0x7F800000


# What a variant means, in Python's integers and floats. A double holds the product of two f32
# exactly and their sum well enough that rounding it again is right.
ONE: dict[str, Callable[[int], int]] = {
    "popc.b64": lambda a: a.bit_count(),
    "clz.b32": lambda a: 32 - a.bit_length(),
    "brev.b32": lambda a: int(f"{a:032b}"[::-1], 2),
    "neg.f32": lambda a: a ^ 1 << 31,
}
TWO: dict[str, Callable[[int, int], int]] = {
    "add.u16": lambda a, b: a + b,
    "sub.s64": lambda a, b: a - b,
    "mul.hi.s32": lambda a, b: signed(a, 32) * signed(b, 32) >> 32,
    "mul.hi.u64": lambda a, b: a * b >> 64,
    "mul.wide.s32": lambda a, b: signed(a, 32) * signed(b, 32),
    "min.s64": lambda a, b: min(signed(a, 64), signed(b, 64)),
    "shr.s32": lambda a, b: signed(a, 32) >> min(b, 31),
    "shl.b64": lambda a, b: a << b if b < 64 else 0,
    "add.sat.s32": lambda a, b: max(-(2**31), min(2**31 - 1, signed(a, 32) + signed(b, 32))),
    "add.rn.f32": lambda a, b: bits_of(single(a) + single(b)),
    "mul.rn.f32": lambda a, b: bits_of(single(a) * single(b)),
}
THREE: dict[str, Callable[[int, int, int], int]] = {
    "mad.lo.s16": lambda a, b, c: a * b + c,
    "shf.l.wrap.b32": lambda a, b, c: (b << 32 | a) << (c & 31) >> 32,
}
MEANINGS: dict[str, Callable[..., int]] = {**ONE, **TWO, **THREE}


@pytest.mark.parametrize("name", MEANINGS)
def test_results_are_what_the_instruction_means(known: dict[str, Variant], name: str) -> None:
    variant = known[name]
    columns = [column.tolist() for column in variant.inputs()]
    ((_, got, problem),) = compute(Simulator(), [variant])
    assert got is not None, problem
    mask = (1 << 8 * got.itemsize) - 1
    wanted = np.array(
        [MEANINGS[name](*row) & mask for row in zip(*columns, strict=True)], got.dtype
    )
    assert differences(variant, wanted, got).tolist() == []


def test_lop3_looks_up_each_bit(known: dict[str, Variant]) -> None:
    variant = known["lop3.b32"]
    a, b, c = variant.inputs()
    ((_, got, _),) = compute(Simulator(), [variant])
    assert got is not None
    bit = np.arange(32, dtype="u4")[:, None]
    index = (a >> bit & 1) << 2 | (b >> bit & 1) << 1 | c >> bit & 1
    for table, row in enumerate(got.reshape(256, 32)):
        assert (((table >> index & 1) << bit).sum(0) == row).all()


def test_operands_hold_the_edges_and_are_the_same_each_time(known: dict[str, Variant]) -> None:
    variant = known["fma.rn.f32"]
    first, second = variant.inputs(), variant.inputs()
    assert all((a == b).all() for a, b in zip(first, second, strict=True))
    triples = set(zip(*(column.tolist() for column in first), strict=True))
    assert (0x7F800000, 0x80000000, 1) in triples
