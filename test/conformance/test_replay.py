"""
The simulator computes what GPUs computed, bit for bit or within the documented bound.

Results of GPUs lie in folders beside this file; record.py writes them.
"""

import runpy
import struct
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tilewright.runtime import simulator

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # as a script finds what lies beside it
RECORD: dict[str, Any] = runpy.run_path(str(HERE / "record.py"))
VARIANTS = {variant.name: variant for variant in RECORD["variants"]()}
STORED = [(path.parent.name, path.stem) for path in sorted(HERE.glob("*/*.npz"))]


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
def test_results_are_what_the_instruction_means(name: str) -> None:
    variant = VARIANTS[name]
    columns = [column.tolist() for column in RECORD["operands"](variant)]
    got = RECORD["results"](variant, RECORD["run_on_simulator"])
    mask = (1 << 8 * got.itemsize) - 1
    wanted = np.array(
        [MEANINGS[name](*row) & mask for row in zip(*columns, strict=True)], got.dtype
    )
    assert RECORD["differences"](variant, wanted, got).tolist() == []


def test_names_and_texts_are_one_to_one() -> None:
    found = list(RECORD["variants"]())
    assert len({variant.name for variant in found}) == len(found)
    assert len({RECORD["kernel_of"](variant) for variant in found}) == len(found)


def test_operands_hold_the_edges_and_are_the_same_each_time() -> None:
    variant = VARIANTS["fma.rn.f32"]
    first, second = RECORD["operands"](variant), RECORD["operands"](variant)
    assert all((a == b).all() for a, b in zip(first, second, strict=True))
    triples = set(zip(*(column.tolist() for column in first), strict=True))
    assert (0x7F800000, 0x80000000, 1) in triples


@pytest.mark.parametrize(
    ("name", "expected", "got", "differs"),
    [
        ("add.u32", [5], [6], [0]),
        ("add.rn.f32", [0x7FC00000], [0x7FFFFFFF], []),
        ("add.rn.f32", [0x7F800000], [0x7FFFFFFF], [0]),
        ("add.rn.f32", [0], [0x80000000], [0]),
        ("ex2.approx.ftz.f32", [0x3F800000], [0x3F800002], []),
        ("ex2.approx.ftz.f32", [0x3F800000], [0x3F800003], [0]),
        ("add.f16x2", [0x7E003C00, 0x3C00], [0x7FFF3C00, 0x3C01], [1]),
    ],
)
def test_a_difference_is_more_than_the_variant_allows(
    name: str, expected: list[int], got: list[int], differs: list[int]
) -> None:
    variant = VARIANTS[name]
    kind = f"u{RECORD['size_of'](variant.out)}"
    found = RECORD["differences"](variant, np.array(expected, kind), np.array(got, kind))
    assert found.tolist() == differs


def test_records_are_read_back_as_they_were_computed(tmp_path: Path) -> None:
    chosen = [VARIANTS[name] for name in ("add.u16", "add.rn.f32")]
    assert RECORD["record"](tmp_path, RECORD["run_on_simulator"], chosen) == {}
    with np.load(tmp_path / "float.npz") as stored:
        again = RECORD["results"](chosen[1], RECORD["run_on_simulator"])
        assert (stored["add.rn.f32"] == again).all()
    assert (tmp_path / "integer.npz").exists()


def test_a_variant_that_fails_is_named(tmp_path: Path) -> None:
    def refuse(ptx: str, entry: str, inputs: Sequence[Any], output: Any) -> None:
        raise RuntimeError("no such instruction")

    failed = RECORD["record"](tmp_path, refuse, [VARIANTS["add.u16"]])
    assert failed == {"add.u16": "no such instruction"}


@pytest.mark.parametrize(("gpu", "family"), STORED)
def test_the_simulator_computes_what_a_gpu_did(gpu: str, family: str) -> None:
    wrong: dict[str, int] = {}
    with np.load(HERE / gpu / f"{family}.npz") as stored:
        for name in stored.files:
            try:
                got = RECORD["results"](VARIANTS[name], RECORD["run_on_simulator"])
            except simulator.PTXError:
                continue  # refused, and so never wrong
            count = RECORD["differences"](VARIANTS[name], stored[name], got).size
            if count:
                wrong[name] = count
    assert not wrong


def test_the_simulator_covers_every_variant() -> None:
    device = simulator.Device()
    for variant in VARIANTS.values():
        device.load(RECORD["kernel_of"](variant))["k"]
