"""Conversions between scalar types, and to pairs of halves (PTX ISA, cvt)."""

from typing import TYPE_CHECKING

import numpy as np

from ..ptx.syntax import Instruction
from ..scalars import BITS, DTYPES, FLOATS, Lanes
from .double import adjusted
from .forms import Fields, Table
from .half import to_float
from .operations import select
from .rounding import directed, narrow_odd, rectify, saturate, to_bfloat, to_half

if TYPE_CHECKING:
    from ..compiler.emitter import BlockEmitter

_INTEGRAL = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}
_INTEGERS = frozenset({"u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64"})


def _limits(type: str) -> tuple[int, int]:
    """Returns the smallest and the largest value of an integer type."""
    bits = BITS[type]
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if type[0] == "s" else (0, (1 << bits) - 1)


def clamp_integer(x: Lanes, source: str, target: str) -> Lanes:
    """Returns integer lanes clamped to the range of another type, in the source's dtype."""
    low, high = _limits(target)
    smallest, largest = _limits(source)
    kind = x.dtype.type
    return np.clip(x, kind(max(low, smallest)), kind(min(high, largest)))


def float_to_integer(x: Lanes, source: str, target: str, mode: str) -> Lanes:
    """
    Returns float lanes rounded to an integer type and clamped to its range.

    NaN becomes 0, or the value with only the top bit set where either type has 64 bits (PTX ISA,
    cvt).
    """
    low, high = _limits(target)
    whole = _INTEGRAL[mode](x.astype(np.float64))
    code = np.dtype(DTYPES[target]).type
    under, over = whole <= np.float64(low), whole >= np.float64(high)
    nan = whole != whole
    inside = select(under | over | nan, np.float64(0), whole)
    result = inside.astype(np.int64 if low < 0 else np.uint64).astype(code)
    result = select(under, code(low), select(over, code(high), result))
    wide = source == "f64" or BITS[target] == 64
    special = code(low if low < 0 else 1 << (BITS[target] - 1)) if wide else code(0)
    return select(nan, special, result)


def integer_to_float(x: Lanes, target: str, mode: str) -> Lanes:
    """Returns integer lanes as a float type, rounded once; 16-bit types as bits."""
    if target == "f64":
        wide = x.astype(np.float64)
        if mode == "rn" or x.itemsize < 8:
            return wide
        return adjusted(wide, _conversion_error(x, wide), mode)
    if target == "f32" and mode == "rn":
        return x.astype(np.float32)
    wide = x.astype(np.float64)
    if x.itemsize == 8:
        wide = _odd_double(x, wide)
    if target == "f32":
        return directed(wide, mode)
    return to_half(wide, mode) if target == "f16" else to_bfloat(narrow_odd(wide), mode)


def _conversion_error(x: Lanes, wide: Lanes) -> Lanes:
    """Returns 64-bit integers minus the f64 numbers that they were rounded to."""
    high = (x >> x.dtype.type(32)).astype(np.float64) * 4294967296.0
    low = (x & x.dtype.type(0xFFFFFFFF)).astype(np.float64)
    return (high - wide) + low


def _odd_double(x: Lanes, wide: Lanes) -> Lanes:
    """Returns 64-bit integers as f64 rounded to odd; `wide` is rounded to nearest."""
    error = _conversion_error(x, wide)
    bits = wide.view(np.int64)
    wrong = (error != 0) & ((bits & np.int64(1)) == 0)
    step = select((error > 0) == (wide > 0), np.int64(1), np.int64(-1))
    return select(wrong, bits + step, bits).view(np.float64)


def round_integral(x: Lanes, mode: str) -> Lanes:
    """Returns float lanes rounded to integers."""
    return _INTEGRAL[mode](x)


def to_tensor_float(x: Lanes, mode: str, finite: bool) -> Lanes:
    """
    Returns f32 lanes rounded to tf32 (10 bits), as u32 bits: rn, rz or rna (ties away).

    `finite` clips at the largest number. A NaN is one of tf32; rna cuts its bits as it does those
    of numbers, which makes an infinity of it where the upper 10 are zero, as on an H100.
    """
    bits = x.view(np.uint32)
    if mode == "rna":
        rounded = bits + np.uint32(0x1000)
    elif mode == "rn":
        rounded = bits + np.uint32(0xFFF) + ((bits >> np.uint32(13)) & np.uint32(1))
    else:
        rounded = bits
    special = (bits & np.uint32(0x7F800000)) == np.uint32(0x7F800000)
    cut = select(special, bits, rounded) & np.uint32(0xFFFFE000)
    if finite:
        infinite = (cut & np.uint32(0x7FFFFFFF)) == np.uint32(0x7F800000)
        cut = select(infinite, cut - np.uint32(0x2000), cut)
    if mode == "rna" and not finite:
        return cut
    return select(x != x, np.uint32(0x7FFFE000), cut)


def narrow(x: Lanes, type: str, mode: str, relu: bool, finite: bool) -> Lanes:
    """Returns f32 lanes as f16 or bf16 bits; `relu` clips at 0, `finite` at the largest number."""
    if relu:
        x = rectify(x)
    bits = to_half(x, mode) if type == "f16" else to_bfloat(x, mode)
    if finite:
        infinity = np.uint16(0x7C00 if type == "f16" else 0x7F80)
        bits = select((bits & np.uint16(0x7FFF)) == infinity, bits - np.uint16(1), bits)
    return bits


def narrow_pair(high: Lanes, low: Lanes, type: str, mode: str, relu: bool, finite: bool) -> Lanes:
    """Returns two f32 values as a packed pair; the first one is the upper half."""
    first = narrow(high, type, mode, relu, finite).astype(np.uint32)
    return (first << np.uint32(16)) | narrow(low, type, mode, relu, finite)


def _convert(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits cvt between two scalar types."""
    d, s = b.operands(2)
    source, target = fields["s"], fields["d"]
    name = b.read(s, source, wide=True)
    if fields.get("ftz") and source == "f32":
        name = b.flush(name, "f32")
    if source in _INTEGERS:
        result = _from_integer(b, name, fields)
    elif target in _INTEGERS:
        mode = fields["mode"]
        if mode not in _INTEGRAL:
            raise b.error("expects an integer rounding such as .rzi")
        if source in ("f16", "bf16"):
            name = b.define(f"{b.use(to_float)}({name}, {source!r})")
        result = f"{b.use(float_to_integer)}({name}, {source!r}, {target!r}, {mode!r})"
    else:
        result = _between_floats(b, name, fields)
    b.write(d, target, result, wide=target not in FLOATS)


def _from_integer(b: "BlockEmitter", name: str, fields: Fields) -> str:
    """Returns the conversion of an integer."""
    source, target, mode = fields["s"], fields["d"], fields["mode"]
    if target in FLOATS:
        if mode not in ("rn", "rz", "rm", "rp"):
            raise b.error("expects a rounding such as .rn")
        return f"{b.use(integer_to_float)}({name}, {target!r}, {mode!r})"
    if mode:
        raise b.error(f"takes no rounding .{mode} between integers")
    if fields.get("sat"):
        name = f"{b.use(clamp_integer)}({name}, {source!r}, {target!r})"
    if DTYPES[source] == DTYPES[target]:
        return name
    return f"{name}.astype({DTYPES[target]})"


def _between_floats(b: "BlockEmitter", name: str, fields: Fields) -> str:
    """Returns the conversion of a float type to a float type."""
    source, target, mode = fields["s"], fields["d"], fields["mode"]
    half = source in ("f16", "bf16")
    if half:
        name = b.define(f"{b.use(to_float)}({name}, {source!r})")
    if mode in _INTEGRAL:
        if source != target:
            raise b.error("rounds to an integer only where both types are the same")
        name = f"{b.use(round_integral)}({name}, {mode!r})"
        if half:
            return _to_half(b, name, {**fields, "mode": "rn"})
    elif target == "f32" and source == "f64":
        name = f"{b.use(directed)}({name}, {mode or 'rn'!r})"
    elif target == "f64":
        name = f"{name}.astype(f8)"
    elif target in ("f16", "bf16"):
        return _to_half(b, name, fields)
    if fields.get("sat"):
        name = f"{b.use(saturate)}({name})"
    if fields.get("ftz") and target == "f32":
        return b.flush(b.define(name), "f32")
    return name


def _to_half(b: "BlockEmitter", name: str, fields: Fields) -> str:
    """Returns the conversion of an f32 or f64 value to 16 bits."""
    source, target, mode = fields["s"], fields["d"], fields["mode"] or "rn"
    if fields.get("sat"):
        name = f"{b.use(saturate)}({name})"
    if source == "f64":
        name = f"{b.use(narrow_odd)}({name})"
    relu, finite = bool(fields.get("relu")), bool(fields.get("satfinite"))
    return f"{b.use(narrow)}({name}, {target!r}, {mode!r}, {relu}, {finite})"


def _tensor_float(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits cvt to tf32."""
    d, s = b.operands(2)
    name = b.read(s, "f32")
    if fields.get("relu"):
        name = b.define(f"{b.use(rectify)}({name})")
    finite = bool(fields.get("satfinite"))
    b.write(d, "tf32", f"{b.use(to_tensor_float)}({name}, {fields['mode']!r}, {finite})")


def _pair(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits cvt to f16x2 and bf16x2."""
    d, high, low = b.operands(3)
    type = fields["d"].removesuffix("x2")
    relu, finite = bool(fields["relu"]), bool(fields["satfinite"])
    names = f"{b.read(high, 'f32')}, {b.read(low, 'f32')}"
    b.write(
        d,
        fields["d"],
        f"{b.use(narrow_pair)}({names}, {type!r}, {fields['mode']!r}, {relu}, {finite})",
    )


_TYPES = "u8|s8|u16|s16|u32|s32|u64|s64|f16|bf16|f32|f64"
FORMS: Table = (
    (f"cvt[.<mode:rn|rz|rm|rp|rni|rzi|rmi|rpi>][.ftz][.sat].<d:{_TYPES}>.<s:{_TYPES}>", _convert),
    ("cvt.<mode:rn|rz>[.relu][.satfinite].<d:f16x2|bf16x2>.f32", _pair),
    ("cvt.<mode:rn|rz>[.relu][.satfinite].<d:f16|bf16>.<s:f32>", _convert),
    ("cvt.<mode:rna>[.satfinite].tf32.f32", _tensor_float),
    ("cvt.<mode:rn|rz>[.relu].tf32.f32", _tensor_float),
)
