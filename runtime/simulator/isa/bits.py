"""Logic, shifts and bit fields (PTX ISA, "Logic and Shift Instructions", bit-field ones)."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ..ptx.syntax import Immediate, Instruction, Pair
from ..scalars import BITS, DTYPES, Lanes
from .forms import Emit, Fields, Table
from .operands import constant
from .operations import select

if TYPE_CHECKING:
    from ..compiler.emitter import BlockEmitter

_SYMBOLS = {"and": "&", "or": "|", "xor": "^"}


def shift_left(a: Lanes, amount: Lanes) -> Lanes:
    """Returns a << amount; 0 where the u32 amount is the width or more."""
    bits = a.itemsize * 8
    kind = a.dtype.type
    shifted = a << np.minimum(amount, np.uint32(bits - 1)).astype(kind)
    return select(amount >= np.uint32(bits), kind(0), shifted)


def shift_right(a: Lanes, amount: Lanes) -> Lanes:
    """Returns a >> amount, filled with the sign of signed lanes; amounts are clamped."""
    bits = a.itemsize * 8
    kind = a.dtype.type
    shifted = a >> np.minimum(amount, np.uint32(bits - 1)).astype(kind)
    if a.dtype.kind == "i":
        return shifted
    return select(amount >= np.uint32(bits), kind(0), shifted)


def leading_zeros(a: Lanes) -> Lanes:
    """Returns the number of zeros above the highest set bit, as u32."""
    bits = a.itemsize * 8
    kind = a.dtype.type
    step = 1
    while step < bits:
        a = a | (a >> kind(step))
        step *= 2
    return np.uint32(bits) - np.bitwise_count(a).astype(np.uint32)


def find_bit(a: Lanes, shift_amount: bool) -> Lanes:
    """Returns the place of the highest bit that differs from the sign; all ones if none."""
    if a.dtype.kind == "i":
        a = select(a < a.dtype.type(0), ~a, a).view(f"u{a.itemsize}")
    zeros = leading_zeros(a)
    bits = np.uint32(a.itemsize * 8)
    place = zeros if shift_amount else bits - np.uint32(1) - zeros
    return select(zeros == bits, np.uint32(0xFFFFFFFF), place)


def reverse_bits(a: Lanes) -> Lanes:
    """Returns the bits in reverse order."""
    bits = a.itemsize * 8
    kind = a.dtype.type
    width = bits // 2
    mask = (1 << bits) - 1
    pattern = mask
    while width:
        pattern = pattern ^ (pattern << width) & mask
        low = kind(pattern)
        a = ((a >> kind(width)) & low) | ((a & low) << kind(width))
        width //= 2
    return a


def _extent(a: Lanes, places: Lanes) -> Lanes:
    """
    Returns the positions or lengths of bit fields in `a`, 255 at most.

    32-bit fields take 8 bits of them. The PTX ISA restricts those of 64-bit fields to 0..255; an
    H100 takes all their bits.
    """
    return np.minimum(places, np.uint32(255)) if a.itemsize == 8 else places & np.uint32(255)


def extract_field(a: Lanes, position: Lanes, length: Lanes) -> Lanes:
    """Returns `length` bits of `a` from `position` up, extended by the sign if signed (bfe)."""
    bits = a.itemsize * 8
    unsigned = np.dtype(f"u{bits // 8}").type
    pos, count = _extent(a, position), _extent(a, length)
    whole = a.view(unsigned)
    field = shift_right(a, pos) if a.dtype.kind == "i" else shift_right(whole, pos)
    mask = shift_left(unsigned(1), count) - unsigned(1)
    low = field.view(unsigned) & mask
    if a.dtype.kind == "u":
        return low
    top = np.minimum(pos + count - np.uint32(1), np.uint32(bits - 1))
    sign = (shift_right(whole, top) & unsigned(1)) != unsigned(0)
    filled = select(sign & (count > np.uint32(0)), low | ~mask, low)
    return filled.view(a.dtype.type)


def insert_field(a: Lanes, b: Lanes, position: Lanes, length: Lanes) -> Lanes:
    """Returns `b` with `length` bits from `position` up replaced by those of `a` (bfi)."""
    kind = a.dtype.type
    pos, count = _extent(a, position), _extent(a, length)
    mask = shift_left(shift_left(kind(1), count) - kind(1), pos)
    return (shift_left(a, pos) & mask) | (b & ~mask)


def funnel(low: Lanes, high: Lanes, amount: Lanes, left: bool, wrap: bool) -> Lanes:
    """Returns 32 bits of high:low shifted left (the upper ones) or right (the lower ones)."""
    shift = amount & np.uint32(31) if wrap else np.minimum(amount, np.uint32(32))
    both = (high.astype(np.uint64) << np.uint64(32)) | low
    wide = shift.astype(np.uint64)
    moved = (both << wide) >> np.uint64(32) if left else both >> wide
    return moved.astype(np.uint32)


def permute(a: Lanes, b: Lanes, selector: Lanes) -> Lanes:
    """Returns 4 bytes of b:a picked by the nibbles of the selector (prmt, default mode)."""
    both = (b.astype(np.uint64) << np.uint64(32)) | a
    out = np.uint32(0)
    for i in range(4):
        nibble = (selector >> np.uint32(4 * i)).astype(np.uint64)
        byte = ((both >> ((nibble & np.uint64(7)) << np.uint64(3))) & np.uint64(255)).astype("u4")
        sign = (nibble & np.uint64(8)) != np.uint64(0)
        filled = ((byte >> np.uint32(7)) & np.uint32(1)) * np.uint32(255)
        out = out | (select(sign, filled, byte) << np.uint32(8 * i))
    return out


_PERMUTATIONS = {
    "f4e": (0x3210, 0x4321, 0x5432, 0x6543),
    "b4e": (0x5670, 0x6701, 0x7012, 0x0123),
    "rc8": (0x0000, 0x1111, 0x2222, 0x3333),
    "ecl": (0x3210, 0x3211, 0x3222, 0x3333),
    "ecr": (0x0000, 0x1110, 0x2210, 0x3210),
    "rc16": (0x1010, 0x3232, 0x1010, 0x3232),
}


def permute_mode(a: Lanes, b: Lanes, selector: Lanes, mode: str) -> Lanes:
    """Returns prmt in one of its named modes: two bits of the selector pick the pattern."""
    patterns = np.array(_PERMUTATIONS[mode], np.uint32)
    return permute(a, b, patterns[(selector & np.uint32(3)).astype(np.int64)])


def bit_mask(start: Lanes, width: Lanes, clamp: bool) -> Lanes:
    """Returns u32 lanes with `width` bits set from `start` up (bmsk)."""
    first, count = start & np.uint32(31), width & np.uint32(31)
    if clamp:
        first, count = start, np.minimum(width, np.uint32(32))
    end = np.minimum(first + count, np.uint32(32))
    ones = np.uint32(0xFFFFFFFF)
    return shift_left(ones, first) & ~shift_left(ones, end)


def find_nth(mask: Lanes, base: Lanes, offset: Lanes) -> Lanes:
    """
    Returns the place of the offset-th set bit of a mask from a base on (fns).

    The offset -2^31, which has no absolute value in 32 bits, gives 0, as on an H100.
    """
    bits, start, wanted = np.broadcast_arrays(mask, base, offset)
    found = np.full(bits.shape, 0xFFFFFFFF, np.uint32)
    seen = np.zeros(bits.shape, np.int64)
    count = np.maximum(np.abs(wanted.astype(np.int64)), 1)
    step = np.where(wanted < 0, -1, 1)
    for i in range(32):
        place = start.astype(np.int64) + step * i
        inside = (place >= 0) & (place < 32) & ((i == 0) | (wanted != 0))
        shifted = bits >> np.clip(place, 0, 31).astype(np.uint32)
        hit = inside & ((shifted & np.uint32(1)) != 0)
        seen += hit
        found = np.where(hit & (seen == count), place, found).astype(np.uint32)
    found[wanted == np.int32(-(1 << 31))] = 0
    return found[()]


def _bit_mask(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits bmsk."""
    d, start, width = b.operands(3)
    values = f"{b.read(start, 'u32')}, {b.read(width, 'u32')}"
    b.write(d, "b32", f"{b.use(bit_mask)}({values}, {fields['mode'] == 'clamp'})")


def _find_nth(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits fns."""
    d, mask, base, offset = b.operands(4)
    values = f"{b.read(mask, 'b32')}, {b.read(base, 'u32')}, {b.read(offset, 's32')}"
    b.write(d, "b32", f"{b.use(find_nth)}({values})")


def _logic(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits and, or, xor."""
    d, x, y = b.operands(3)
    type = fields["t"]
    b.write(d, type, f"{b.read(x, type)} {_SYMBOLS[fields['op']]} {b.read(y, type)}")


def _not(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits not and cnot."""
    d, x = b.operands(2)
    type = fields["t"]
    source = b.read(x, type)
    if fields["op"] == "not":
        b.write(d, type, f"~{source}")
        return
    zero = b.scope.constant(DTYPES[type], 0)
    b.write(d, type, f"({source} == {zero}).astype({DTYPES[type]})")


def _shift(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits shl and shr; constant amounts below the width need no clamp."""
    d, x, amount = b.operands(3)
    type = fields["t"]
    left = fields["op"] == "shl"
    source = b.read(x, type)
    if isinstance(amount, Immediate) and 0 <= amount.value < BITS[type]:
        count = b.scope.constant(DTYPES[type], amount.value)
        b.write(d, type, f"{source} {'<<' if left else '>>'} {count}")
        return
    function = b.use(shift_left if left else shift_right)
    b.write(d, type, f"{function}({source}, {b.read(amount, 'u32')})")


def _unary32(function: Callable[..., Lanes]) -> Emit:
    """Returns what emits a function of one operand whose result is u32."""

    def emit(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
        d, x = b.operands(2)
        b.write(d, "u32", f"{b.use(function)}({b.read(x, fields['t'])})")

    return emit


def population(a: Lanes) -> Lanes:
    """Returns the number of set bits as u32."""
    return np.bitwise_count(a).astype(np.uint32)


def _find(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits bfind."""
    d, x = b.operands(2)
    amount = bool(fields["shiftamt"])
    b.write(d, "u32", f"{b.use(find_bit)}({b.read(x, fields['t'])}, {amount})")


def _reverse(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits brev."""
    d, x = b.operands(2)
    b.write(d, fields["t"], f"{b.use(reverse_bits)}({b.read(x, fields['t'])})")


def _extract(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits bfe."""
    d, x, position, length = b.operands(4)
    type = fields["t"]
    arguments = f"{b.read(x, type)}, {b.read(position, 'u32')}, {b.read(length, 'u32')}"
    b.write(d, type, f"{b.use(extract_field)}({arguments})")


def _insert(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits bfi."""
    d, x, y, position, length = b.operands(5)
    type = fields["t"]
    values = f"{b.read(x, type)}, {b.read(y, type)}"
    b.write(
        d,
        type,
        f"{b.use(insert_field)}({values}, {b.read(position, 'u32')}, {b.read(length, 'u32')})",
    )


def _funnel(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits shf."""
    d, low, high, amount = b.operands(4)
    values = ", ".join(b.read(o, "b32") for o in (low, high, amount))
    left, wrap = fields["way"] == "l", fields["mode"] == "wrap"
    b.write(d, "b32", f"{b.use(funnel)}({values}, {left}, {wrap})")


def _permute(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits prmt."""
    d, x, y, selector = b.operands(4)
    values = ", ".join(b.read(o, "b32") for o in (x, y, selector))
    mode = fields["mode"]
    call = f"{b.use(permute_mode)}({values}, {mode!r})" if mode else f"{b.use(permute)}({values})"
    b.write(d, "b32", call)


def _two(table: int, first: str, second: str) -> str:
    """Returns a logical function of two operands; bit 2*a + b of the table is its value."""
    return {
        0b0000: "",
        0b0001: f"~({first} | {second})",
        0b0010: f"(~{first} & {second})",
        0b0011: f"~{first}",
        0b0100: f"({first} & ~{second})",
        0b0101: f"~{second}",
        0b0110: f"({first} ^ {second})",
        0b0111: f"~({first} & {second})",
        0b1000: f"({first} & {second})",
        0b1001: f"~({first} ^ {second})",
        0b1010: second,
        0b1011: f"(~{first} | {second})",
        0b1100: first,
        0b1101: f"({first} | ~{second})",
        0b1110: f"({first} | {second})",
        0b1111: "",
    }[table]


def three(table: int, a: str, b: str, c: str, zero: str) -> str:
    """Returns a logical function of three operands as Python; lop3 defines the table's bits."""
    high, low = table >> 4, table & 15  # as functions of b and c where a is 1 and 0
    if high == low:
        return _two(low, b, c) or (f"~{zero}" if low else zero)
    if high ^ low == 15:
        return f"({a} ^ {_two(low, b, c)})" if low not in (0, 15) else (f"~{a}" if low else a)
    if_set = "" if high == 0 else a if high == 15 else f"({a} & {_two(high, b, c)})"
    if_clear = "" if low == 0 else f"~{a}" if low == 15 else f"(~{a} & {_two(low, b, c)})"
    return " | ".join(part for part in (if_set, if_clear) if part)


def _lop3(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits lop3; with .or and .and also the predicate (d != 0) joined with another one."""
    join = fields["join"]
    d, x, y, z, table, *more = b.operands(6 if join else 5)
    first, second, third = (b.read(o, "b32") for o in (x, y, z))
    zero = b.scope.constant("u4", 0)
    result = three(constant(b, table, "the table") & 255, first, second, third, zero)
    if not join:
        b.write(d, "b32", result)
        return
    if not isinstance(d, Pair):
        raise b.error("expects a register and a predicate d|p as its destination")
    result = b.define(result)
    predicate = b.define(f"({result} != {zero}) {_SYMBOLS[join]} {b.read(more[0], 'pred')}")
    b.write(d.first, "b32", result)
    b.write(d.second, "pred", predicate)


FORMS: Table = (
    ("<op:and|or|xor>.<t:pred|bits>", _logic),
    ("not.<t:pred|bits>", _not),
    ("cnot.<t:bits>", _not),
    ("shl.<t:bits>", _shift),
    ("shr.<t:bits|int>", _shift),
    ("popc.<t:b32|b64>", _unary32(population)),
    ("clz.<t:b32|b64>", _unary32(leading_zeros)),
    ("bfind[.shiftamt].<t:u32|s32|u64|s64>", _find),
    ("brev.<t:b32|b64>", _reverse),
    ("bfe.<t:u32|s32|u64|s64>", _extract),
    ("bfi.<t:b32|b64>", _insert),
    ("shf.<way:l|r>.<mode:wrap|clamp>.b32", _funnel),
    ("prmt.b32[.<mode:f4e|b4e|rc8|ecl|ecr|rc16>]", _permute),
    ("lop3[.<join:or|and>].b32", _lop3),
    ("bmsk.<mode:clamp|wrap>.b32", _bit_mask),
    ("fns.b32", _find_nth),
)
