"""Conversions to and from packed small types: 8-bit floats, cvt.pack (PTX ISA, cvt, cvt.pack)."""

from typing import TYPE_CHECKING

import numpy as np

from ..ptx.syntax import Instruction
from ..scalars import Array, Lanes
from .eight import NAN, decode, encode
from .forms import Fields, Table
from .half import to_float
from .operations import select
from .rounding import rectify

if TYPE_CHECKING:
    from ..compiler.emitter import BlockEmitter


def to_eights(high: Lanes, low: Lanes, type: str, relu: bool) -> Lanes:
    """Returns two f32 values as 8-bit floats in u16 lanes; the first one is the upper byte."""
    parts: list[Lanes] = []
    for value in (high, low):
        if relu:
            value = rectify(value)
        parts.append(encode(value, type).astype(np.uint16))
    return (parts[0] << np.uint16(8)) | parts[1]


def pair_to_eights(pair: Lanes, type: str, relu: bool) -> Lanes:
    """Returns f16x2 lanes as 8-bit floats in u16 lanes."""
    high, low = (to_float((pair >> np.uint32(shift)).astype(np.uint16), "f16") for shift in (16, 0))
    return to_eights(high, low, type, relu)


def from_eights(bits: Lanes, type: str, relu: bool) -> Lanes:
    """Returns two 8-bit floats of u16 lanes as f16x2 lanes, which hold them exactly."""
    out = np.uint32(0)
    for shift in (0, 8):
        code = (bits >> np.uint16(shift)).astype(np.uint8)
        value = decode(code, type).astype(np.float16).view(np.uint16)
        value = select((code & np.uint8(0x7F)) >= NAN[type], np.uint16(0x7FFF), value)
        if type == "e5m2":
            value = select((code & np.uint8(0x7F)) == np.uint8(0x7C), _infinity(code), value)
        if relu:
            negative = (value >= np.uint16(0x8000)) & (value <= np.uint16(0xFC00))
            value = select(negative, np.uint16(0), value)
        out = out | (value.astype(np.uint32) << np.uint32(2 * shift))
    return out


def _infinity(code: Lanes) -> Lanes:
    """Returns f16 infinities with the sign of 8-bit floats."""
    return np.uint16(0x7C00) | ((code & np.uint8(0x80)).astype(np.uint16) << np.uint16(8))


def clamp_pack(a: Lanes, b: Lanes, c: Lanes, low: int, high: int, bits: int) -> Lanes:
    """Returns c moved up by two fields, with s32 a and b clamped into them; b is the lower one."""
    mask = np.uint32((1 << bits) - 1)
    upper, lower = (
        np.clip(value, np.int32(low), np.int32(high)).view(np.uint32) & mask for value in (a, b)
    )
    packed: Array = (upper << np.uint32(bits)) | lower
    return packed if bits == 16 else packed | (c << np.uint32(2 * bits))


def _to_eights(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits cvt to e4m3x2 and e5m2x2."""
    type, relu = fields["d"].removesuffix("x2"), bool(fields["relu"])
    if fields["s"] == "f16x2":
        d, pair = b.operands(2)
        call = f"{b.use(pair_to_eights)}({b.read(pair, 'b32')}, {type!r}, {relu})"
    else:
        d, high, low = b.operands(3)
        values = f"{b.read(high, 'f32')}, {b.read(low, 'f32')}"
        call = f"{b.use(to_eights)}({values}, {type!r}, {relu})"
    b.write(d, "b16", call)


def _from_eights(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits cvt from e4m3x2 and e5m2x2 to f16x2."""
    d, s = b.operands(2)
    type, relu = fields["s"].removesuffix("x2"), bool(fields["relu"])
    b.write(d, "b32", f"{b.use(from_eights)}({b.read(s, 'b16')}, {type!r}, {relu})")


def _pack(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits cvt.pack.sat."""
    type = fields["d"]
    bits = int(type[1:])
    d, x, y, *rest = b.operands(3 if bits == 16 else 4)
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if type[0] == "s" else (0, (1 << bits) - 1)
    c = b.read(rest[0], "b32") if rest else b.scope.constant("u4", 0)
    values = f"{b.read(x, 's32')}, {b.read(y, 's32')}, {c}"
    b.write(d, "b32", f"{b.use(clamp_pack)}({values}, {low}, {high}, {bits})")


_EIGHTS = "e4m3x2|e5m2x2"
FORMS: Table = (
    (f"cvt.rn.satfinite[.relu].<d:{_EIGHTS}>.<s:f32|f16x2>", _to_eights),
    (f"cvt.rn[.relu].f16x2.<s:{_EIGHTS}>", _from_eights),
    ("cvt.pack.sat.<d:u16|s16>.s32", _pack),
    ("cvt.pack.sat.<d:u8|s8|u4|s4|u2|s2>.s32.b32", _pack),
)
