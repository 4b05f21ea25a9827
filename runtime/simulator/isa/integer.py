"""Integer arithmetic (PTX ISA, "Integer Arithmetic Instructions" and extended precision)."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ..ptx.syntax import Instruction, Operand
from ..scalars import BITS, DTYPES, Lanes
from .forms import Emit, Fields, Table
from .operations import select

if TYPE_CHECKING:
    from ..compiler.emitter import BlockEmitter

_SYMBOLS = {"add": "+", "sub": "-", "and": "&", "or": "|", "xor": "^"}
_WIDE = {"u16": "u32", "s16": "s32", "u32": "u64", "s32": "s64"}


def _unsigned(type: str) -> str:
    """Returns the bit type as wide as an integer type: wrap-around is defined on it."""
    return f"b{BITS[type]}"


def saturating(a: Lanes, b: Lanes, sign: int) -> Lanes:
    """Returns a + b or a - b of s32 lanes, clamped to the range of s32."""
    wide = a.astype(np.int64) + np.int64(sign) * b.astype(np.int64)
    return np.clip(wide, -(1 << 31), (1 << 31) - 1).astype(np.int32)


def multiply_high(a: Lanes, b: Lanes) -> Lanes:
    """Returns the upper half of the product of integers of 16, 32 or 64 bits."""
    bits = a.itemsize * 8
    signed = a.dtype.kind == "i"
    if bits < 64:
        wide = np.dtype(f"{'i' if signed else 'u'}{bits // 4}").type
        return ((a.astype(wide) * b.astype(wide)) >> wide(bits)).astype(a.dtype.type)
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    x, y = a.view(np.uint64), b.view(np.uint64)
    x0, x1, y0, y1 = x & low, x >> half, y & low, y >> half
    middle = x1 * y0 + (x0 * y0 >> half)
    other = x0 * y1 + (middle & low)
    high = x1 * y1 + (middle >> half) + (other >> half)
    if not signed:
        return high
    zero = np.uint64(0)
    high = high - select(a < np.int64(0), y, zero) - select(b < np.int64(0), x, zero)
    return high.view(np.int64)


def divide(a: Lanes, b: Lanes) -> Lanes:
    """Returns a / b rounded to zero; all bits set where b is 0, as GPUs give it."""
    zero = b.dtype.type(0)
    safe = select(b == zero, b.dtype.type(1), b)
    if a.dtype.kind == "u":
        quotient = a // safe
    else:
        unsigned = np.dtype(f"u{a.itemsize}").type
        size = np.abs(a).view(unsigned) // np.abs(safe).view(unsigned)
        quotient = select((a < zero) != (safe < zero), -size, size).view(a.dtype.type)
    return select(b == zero, ~zero, quotient)


def remainder(a: Lanes, b: Lanes) -> Lanes:
    """Returns a - b * (a / b); the sign is that of a, and a where b is 0."""
    quotient = select(b == b.dtype.type(0), b.dtype.type(0), divide(a, b))
    return a - quotient * b


def absolute_difference(a: Lanes, b: Lanes) -> Lanes:
    """Returns |a - b|."""
    return select(a < b, b - a, a - b)


def dot(a: Lanes, b: Lanes, c: Lanes, parts: int, low: bool) -> Lanes:
    """Returns c plus the products of 4 bytes (dp4a) or 2 halves with 2 bytes (dp2a)."""
    out = c
    kind_a, kind_b = a.dtype.kind, b.dtype.kind
    first, second = a.view(np.uint32), b.view(np.uint32)
    width = 32 // parts
    for i in range(parts):
        x = (first >> np.uint32(width * i)).astype(f"u{width // 8}").view(f"{kind_a}{width // 8}")
        place = 8 * i if parts == 4 or low else 8 * i + 16
        y = (second >> np.uint32(place)).astype("u1").view(f"{kind_b}1")
        out = out + (x.astype(np.int64) * y.astype(np.int64)).astype(out.dtype.type)
    return out


def saturating_high(a: Lanes, b: Lanes, c: Lanes) -> Lanes:
    """Returns the upper half of a * b plus c of s32 lanes, clamped to the range of s32."""
    return saturating(multiply_high(a, b), c, 1)


def extend(a: Lanes, width: Lanes, clamp: bool) -> Lanes:
    """Returns the lowest bits of `a` extended to 32, by the sign where `a` is signed (szext)."""
    count = width & np.uint32(31)
    bits = a.view(np.uint32)
    mask = np.uint32(0xFFFFFFFF) << count
    if clamp:
        mask = select(width >= np.uint32(32), np.uint32(0), mask)
    low = bits & ~mask
    if a.dtype.kind == "u":
        return low
    top = (bits >> ((count - np.uint32(1)) & np.uint32(31))) & np.uint32(1)
    negative = (top != 0) & (count != 0)
    return select(negative, low | mask, low).view(np.int32)


def pairs(operation: str, relu: bool, a: Lanes, b: Lanes) -> Lanes:
    """Returns add, min or max of both 16-bit halves of i32 lanes (signed) or u32 lanes."""
    kind = np.int16 if a.dtype.kind == "i" else np.uint16
    halves: list[Lanes] = []
    for shift in (0, 16):
        x, y = (
            (value.view(np.uint32) >> np.uint32(shift)).astype(np.uint16).view(kind)
            for value in (a, b)
        )
        result = _PAIRED[operation](x, y)
        result = np.maximum(result, kind(0)) if relu else result
        halves.append(result.view(np.uint16).astype(np.uint32))
    return halves[0] | (halves[1] << np.uint32(16))


_PAIRED: dict[str, Callable[..., Lanes]] = {"add": np.add, "min": np.minimum, "max": np.maximum}


def add_carry(a: Lanes, b: Lanes, carry: Lanes) -> tuple[Lanes, Lanes]:
    """Returns a + b + carry of unsigned lanes and the carry out."""
    partial = a + b
    total = partial + carry.astype(a.dtype.type)
    return total, (partial < a) | (total < partial)


def _binary(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits add and sub."""
    d, x, y = b.operands(3)
    type = fields["t"]
    symbol = _SYMBOLS[fields["op"]]
    if fields.get("sat"):
        sign = 1 if symbol == "+" else -1
        call = f"{b.use(saturating)}({b.read(x, type)}, {b.read(y, type)}, {sign})"
        b.write(d, type, call)
        return
    bits = _unsigned(type)
    b.write(d, bits, f"{b.read(x, bits)} {symbol} {b.read(y, bits)}")


def _product(b: "BlockEmitter", x: Operand, y: Operand, fields: Fields) -> tuple[str, str]:
    """Returns the type and the expression of a product in a mode."""
    type, mode = fields["t"], fields["mode"]
    if mode == "hi":
        return type, f"{b.use(multiply_high)}({b.read(x, type)}, {b.read(y, type)})"
    if mode == "wide":
        if type not in _WIDE:
            raise b.error("has no .wide form for 64-bit types")
        wide = _WIDE[type]
        code = DTYPES[wide]
        first, second = b.read(x, type), b.read(y, type)
        return wide, f"{first}.astype({code}) * {second}"
    bits = _unsigned(type)
    return bits, f"{b.read(x, bits)} * {b.read(y, bits)}"


def _multiply(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits mul."""
    d, x, y = b.operands(3)
    b.write(d, *_product(b, x, y, fields))


def _multiply_add(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits mad."""
    d, x, y, z = b.operands(4)
    type, product = _product(b, x, y, fields)
    bits = _unsigned(type)
    code = DTYPES[bits]
    view = "" if type == bits else f".view({code})"
    b.write(d, bits, f"({product}){view} + {b.read(z, bits)}")


def _multiply24(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits mul24 and mad24: the low 24 bits of both factors, sign- or zero-extended."""
    d, x, y, *rest = b.operands(3 if fields["op"] == "mul24" else 4)
    type = fields["t"]
    wide = _WIDE[type]
    code = DTYPES[wide]
    eight = b.scope.constant(DTYPES[type], 8)
    first, second = (
        f"(({b.read(o, 'b32')} << {b.scope.constant('u4', 8)}).view({DTYPES[type]}) >> {eight})"
        for o in (x, y)
    )
    product = b.define(f"{first}.astype({code}) * {second}")
    if fields["mode"] == "hi":
        product = b.define(f"{product} >> {b.scope.constant(code, 16)}")
    result = f"{product}.astype(u4)"
    if fields.get("sat"):
        values = f"({result}).view(i4), {b.read(rest[0], 's32')}"
        b.write(d, "s32", f"{b.use(saturating)}({values}, 1)")
        return
    if rest:
        result = f"{result} + {b.read(rest[0], 'b32')}"
    b.write(d, "b32", result)


def _call_binary(function: Callable[[Lanes, Lanes], Lanes]) -> Emit:
    """Returns what emits a call of a run-time function of two operands."""

    def emit(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
        d, x, y = b.operands(3)
        type = fields["t"]
        b.write(d, type, f"{b.use(function)}({b.read(x, type)}, {b.read(y, type)})")

    return emit


def _extremum(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits min and max, also with .relu."""
    d, x, y = b.operands(3)
    type = fields["t"]
    function = b.use(np.minimum if fields["op"] == "min" else np.maximum)
    call = f"{function}({b.read(x, type)}, {b.read(y, type)})"
    if fields.get("relu"):
        call = f"{b.use(np.maximum)}({call}, {b.scope.constant(DTYPES[type], 0)})"
    b.write(d, type, call)


def _negate(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits neg: the two's complement, also of the smallest number."""
    d, x = b.operands(2)
    bits = _unsigned(fields["t"])
    b.write(d, bits, f"{b.scope.constant(DTYPES[bits], 0)} - {b.read(x, bits)}")


def _absolute(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits abs."""
    d, x = b.operands(2)
    b.write(d, fields["t"], f"abs({b.read(x, fields['t'])})")


def _pairs(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits add, min and max of pairs of 16-bit integers."""
    d, x, y = b.operands(3)
    type = f"{fields['t'][0]}32"
    values = f"{b.read(x, type)}, {b.read(y, type)}"
    call = f"{b.use(pairs)}({fields['op']!r}, {bool(fields.get('relu'))}, {values})"
    b.write(d, "b32", call)


def _extend(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits szext."""
    d, x, width = b.operands(3)
    type, clamp = fields["t"], fields["mode"] == "clamp"
    b.write(d, type, f"{b.use(extend)}({b.read(x, type)}, {b.read(width, 'u32')}, {clamp})")


def _saturating_mad(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits mad.hi.sat.s32."""
    d, *sources = b.operands(4)
    values = ", ".join(b.read(source, "s32") for source in sources)
    b.write(d, "s32", f"{b.use(saturating_high)}({values})")


def _sad(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits sad: c + |a - b|."""
    d, x, y, z = b.operands(4)
    type = fields["t"]
    difference = f"{b.use(absolute_difference)}({b.read(x, type)}, {b.read(y, type)})"
    b.write(d, type, f"{b.read(z, type)} + {difference}")


def _dot(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits dp4a and dp2a."""
    d, x, y, z = b.operands(4)
    first, second = fields["a"], fields["b"]
    out = "u32" if first == second == "u32" else "s32"
    parts = 4 if fields["op"] == "dp4a" else 2
    low = fields.get("mode", "lo") == "lo"
    b.write(
        d,
        out,
        f"{b.use(dot)}({b.read(x, first)}, {b.read(y, second)}, {b.read(z, out)}, {parts}, {low})",
    )


def _carry(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits add.cc, addc, sub.cc, subc and mad.cc, madc through the carry register."""
    head = fields["op"]
    type = _unsigned(fields["t"])
    code = DTYPES[type]
    if head.startswith("mad"):
        d, x, y, z = b.operands(4)
        kind, product = _product(b, x, y, fields)
        first = b.define(product if kind == type else f"({product}).view({code})")
        second = b.read(z, type)
    else:
        d, x, y = b.operands(3)
        first, second = b.read(x, type), b.read(y, type)
    subtract = head.startswith("sub")
    if subtract:
        second = b.define(f"~{second}")
    borrow = b.carry_in() if head.endswith("c") else b.scope.constant("?", int(subtract))
    total = b.define(f"{b.use(add_carry)}({first}, {second}, {borrow})")
    b.write(d, type, f"{total}[0]")
    if fields["cc"]:
        b.carry_out(f"{total}[1]")


FORMS: Table = (
    ("<op:add|sub>[.sat].<t:s32>", _binary),
    ("<op:add|sub>.<t:int>", _binary),
    ("<op:add|addc|sub|subc>[.cc].<t:u32|s32|u64|s64>", _carry),
    ("<op:add|min|max>.<t:u16x2>", _pairs),
    ("add.<t:s16x2>", _pairs),
    ("<op:min|max>[.relu].<t:s16x2>", _pairs),
    ("mad.<mode:lo|hi|wide>.<t:int>", _multiply_add),
    ("mad.hi.sat.s32", _saturating_mad),
    ("szext.<mode:clamp|wrap>.<t:u32|s32>", _extend),
    ("<op:mad|madc>.<mode:lo|hi>[.cc].<t:u32|s32|u64|s64>", _carry),
    ("mul.<mode:lo|hi|wide>.<t:int>", _multiply),
    ("<op:mul24|mad24>.<mode:lo|hi>.<t:u32|s32>", _multiply24),
    ("mad24.<mode:hi>[.sat].<t:s32>", _multiply24),
    ("div.<t:int>", _call_binary(divide)),
    ("rem.<t:int>", _call_binary(remainder)),
    ("<op:min|max>.<t:int>", _extremum),
    ("<op:min|max>[.relu].<t:s32>", _extremum),
    ("neg.<t:s16|s32|s64>", _negate),
    ("abs.<t:s16|s32|s64>", _absolute),
    ("sad.<t:int>", _sad),
    ("dp4a.<a:u32|s32>.<b:u32|s32>", _dot),
    ("dp2a.<mode:lo|hi>.<a:u32|s32>.<b:u32|s32>", _dot),
)
