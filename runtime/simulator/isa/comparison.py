"""Comparison and selection (PTX ISA, "Comparison and Selection Instructions"), and mov."""

from typing import TYPE_CHECKING

import numpy as np

from ..ptx.syntax import Instruction, Name, Operand, Pair, Register, Vector
from ..scalars import BITS, DTYPES, FLOATS, Lanes
from .forms import Fields, Table
from .half import flush_half, to_float
from .operations import lanes_of, select

if TYPE_CHECKING:
    from ..compiler.emitter import BlockEmitter
    from ..machine import Group

# Comparison: how it reads in Python. `lo` and its kin compare unsigned values.
_COMPARISONS = {
    "eq": "{a} == {b}",
    "ne": "{a} != {b}",
    "lt": "{a} < {b}",
    "le": "{a} <= {b}",
    "gt": "{a} > {b}",
    "ge": "{a} >= {b}",
    "lo": "{a} < {b}",
    "ls": "{a} <= {b}",
    "hi": "{a} > {b}",
    "hs": "{a} >= {b}",
}
# Those of floats: the ordered ones are false with a NaN, the unordered ones (..u) true.
_FLOAT_COMPARISONS = {
    **_COMPARISONS,
    "ne": "({a} < {b}) | ({a} > {b})",
    "equ": "~(({a} < {b}) | ({a} > {b}))",
    "neu": "{a} != {b}",
    "ltu": "~({a} >= {b})",
    "leu": "~({a} > {b})",
    "gtu": "~({a} <= {b})",
    "geu": "~({a} < {b})",
    "num": "({a} == {a}) & ({b} == {b})",
    "nan": "({a} != {a}) | ({b} != {b})",
}
_ONES = {"f32": 0x3F800000, "f16": 0x3C00, "bf16": 0x3F80}
_UNSIGNED_ONLY = frozenset({"lo", "ls", "hi", "hs"})
_BOOLEAN = {"and": "&", "or": "|", "xor": "^"}


def _compare(b: "BlockEmitter", x: Operand, y: Operand, fields: Fields) -> str:
    """Returns the name of the comparison's result as bool lanes."""
    type, comparison = fields["t"], fields["cmp"]
    floating = type in FLOATS
    pattern = (_FLOAT_COMPARISONS if floating else _COMPARISONS).get(comparison)
    if pattern is None or (comparison in _UNSIGNED_ONLY and (floating or type[0] == "s")):
        raise b.error(f"has no comparison .{comparison} for .{type}")
    first, second = b.read(x, type), b.read(y, type)
    if type in ("f16", "bf16"):
        first, second = (_widened(b, name, fields) for name in (first, second))
    if fields["ftz"] and type == "f32":
        first, second = b.flush(first, type), b.flush(second, type)
    return b.define(pattern.format(a=first, b=second))


def _widened(b: "BlockEmitter", name: str, fields: Fields) -> str:
    """Returns the name of 16-bit floats as f32."""
    if fields["ftz"]:
        name = f"{b.use(flush_half)}({name})"
    return b.define(f"{b.use(to_float)}({name}, {fields['t']!r})")


def _compare_pairs(b: "BlockEmitter", x: Operand, y: Operand, fields: Fields) -> tuple[str, str]:
    """Returns the names of the comparisons of the lower and the upper halves."""
    type = fields["t"]
    single = {**fields, "t": type.removesuffix("x2")}
    halves = [b.define(f"{b.use(unpack)}({b.read(operand, type)}, 2)") for operand in (x, y)]
    pattern = _FLOAT_COMPARISONS[fields["cmp"]]
    low, high = (
        b.define(
            pattern.format(
                a=_widened(b, f"{halves[0]}[{i}]", single),
                b=_widened(b, f"{halves[1]}[{i}]", single),
            )
        )
        for i in (0, 1)
    )
    return low, high


def _set_predicates(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits setp of pairs: one predicate for each half."""
    d, x, y, *more = b.operands(4 if fields["bool"] else 3)
    if not isinstance(d, Pair):
        raise b.error("expects two predicates p|q as its destination")
    results = _compare_pairs(b, x, y, fields)
    if fields["bool"]:
        third = b.read(more[0], "pred")
        symbol = _BOOLEAN[fields["bool"]]
        results = tuple(b.define(f"{result} {symbol} {third}") for result in results)
    for target, result in zip((d.first, d.second), results, strict=True):
        b.write(target, "pred", result)


def _set_pair(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits set of pairs: all ones or 1.0 in each half."""
    d, x, y, *more = b.operands(4 if fields["bool"] else 3)
    results = _compare_pairs(b, x, y, fields)
    one = b.scope.constant("u2", _ONES.get(fields["d"].removesuffix("x2"), 0xFFFF))
    parts: list[str] = []
    for result in results:
        if fields["bool"]:
            result = f"{result} {_BOOLEAN[fields['bool']]} {b.read(more[0], 'pred')}"
        parts.append(f"{b.use(select)}({result}, {one}, {b.scope.constant('u2', 0)})")
    b.write(d, "b32", f"{b.use(pack)}(u4, {', '.join(parts)})")


def _set_predicate(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits setp."""
    d, x, y, *more = b.operands(4 if fields["bool"] else 3)
    result = _compare(b, x, y, fields)
    other = d.second if isinstance(d, Pair) else None
    first = d.first if isinstance(d, Pair) else d
    if not fields["bool"]:
        b.write(first, "pred", result)
        if other is not None:
            b.write(other, "pred", f"~{result}")
        return
    symbol = _BOOLEAN[fields["bool"]]
    third = b.read(more[0], "pred")
    b.write(first, "pred", f"{result} {symbol} {third}")
    if other is not None:
        b.write(other, "pred", f"~{result} {symbol} {third}")


def _set(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits set: all ones or 1.0 where the comparison holds."""
    d, x, y, *more = b.operands(4 if fields["bool"] else 3)
    result = _compare(b, x, y, fields)
    if fields["bool"]:
        result = b.define(f"{result} {_BOOLEAN[fields['bool']]} {b.read(more[0], 'pred')}")
    type = fields["d"]
    code = DTYPES[type]
    one = b.scope.constant(code, _ONES.get(type, (1 << BITS[type]) - 1))
    b.write(d, type, f"{b.use(select)}({result}, {one}, {b.scope.constant(code, 0)})")


def _select(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits selp."""
    d, x, y, p = b.operands(4)
    type = fields["t"]
    first, second = b.read(x, type), b.read(y, type)
    b.write(d, type, f"{b.use(select)}({b.read(p, 'pred')}, {first}, {second})")


def _select_sign(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits slct: the first operand where c >= 0, the second one otherwise, also for NaN."""
    d, x, y, c = b.operands(4)
    type = fields["t"]
    sign = b.read(c, fields["c"])
    if fields["ftz"]:
        sign = b.flush(sign, "f32")
    zero = b.scope.constant(DTYPES[fields["c"]], 0)
    chosen = f"{sign} >= {zero}"
    b.write(d, type, f"{b.use(select)}({chosen}, {b.read(x, type)}, {b.read(y, type)})")


def unpack(value: Lanes, parts: int) -> tuple[Lanes, ...]:
    """Returns an unsigned value cut into equal parts, the lowest first."""
    bits = value.itemsize * 8 // parts
    kind = np.dtype(f"u{bits // 8}").type
    return tuple((value >> value.dtype.type(i * bits)).astype(kind) for i in range(parts))


def pack(kind: type[np.unsignedinteger], *parts: Lanes) -> Lanes:
    """Returns parts put together, the lowest first."""
    bits = parts[0].itemsize * 8
    whole = parts[0].astype(kind)
    for i, part in enumerate(parts[1:], 1):
        whole = whole | (part.astype(kind) << kind(bits * i))
    return whole


def unpack_wide(value: Lanes, parts: int) -> tuple[Lanes, ...]:
    """Returns 128-bit lanes cut into equal parts, the lowest first."""
    flat = np.ascontiguousarray(value).reshape(-1).view(f"u{16 // parts}").reshape(-1, parts)
    columns = np.ascontiguousarray(flat.T)
    return tuple(columns) if value.ndim else tuple(column[0] for column in columns)


def pack_wide(group: "Group", *parts: Lanes) -> Lanes:
    """Returns parts put together as 128-bit lanes, the lowest first."""
    columns = [lanes_of(group, part) for part in parts]
    return np.ascontiguousarray(np.stack(columns, axis=1)).view(np.complex128).reshape(-1)


def _move(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits mov, also from and to vectors of halves or quarters."""
    d, x = b.operands(2)
    type = fields["t"]
    if isinstance(d, Vector) and isinstance(x, Vector):
        raise b.error("expects one vector at most")
    if isinstance(d, Vector):
        _unpack(b, d, x, type)
    elif isinstance(x, Vector):
        _pack(b, d, x, type)
    elif isinstance(x, Name) and x.text not in b.scope.module.functions:
        raise b.error(f"can't take the address of {x.text}")
    else:
        b.alias(d, x, type)


def _part(b: "BlockEmitter", vector: Vector, type: str) -> str:
    """Returns the bit type of one part of a packed value."""
    bits = BITS[type] // max(len(vector.items), 1)
    if type[0] != "b" or len(vector.items) not in (2, 4) or bits not in (8, 16, 32, 64):
        raise b.error(f"can't take .{type} apart into {len(vector.items)} registers")
    return f"b{bits}"


def _unpack(b: "BlockEmitter", d: Vector, x: Operand, type: str) -> None:
    """Emits mov {a, b}, x."""
    part = _part(b, d, type)
    if BITS[type] == 128:
        result = b.define(f"{b.use(unpack_wide)}({b.read(x, type)}, {len(d.items)})")
    else:
        source = b.define(f"{b.read(x, type)}.view(u{BITS[type] // 8})")
        result = b.define(f"{b.use(unpack)}({source}, {len(d.items)})")
    for i, item in enumerate(d.items):
        if isinstance(item, Register) and BITS[item.type] != BITS[part]:
            raise b.error(f"expects {BITS[part]}-bit registers, got .{item.type} {item}")
        b.write(item, part, f"{result}[{i}]")


def _pack(b: "BlockEmitter", d: Operand, x: Vector, type: str) -> None:
    """Emits mov x, {a, b}."""
    part = _part(b, x, type)
    items = ", ".join(b.read(item, part) for item in x.items)
    if BITS[type] == 128:
        b.write(d, type, f"{b.use(pack_wide)}(g, {items})")
    else:
        b.write(d, type, f"{b.use(pack)}({DTYPES[type]}, {items})")


_PAIRS = "f16x2|bf16x2"
_TYPES = "b16|b32|b64|u16|u32|u64|s16|s32|s64|f32|f64|f16|bf16"
_COMPARE = "<cmp:eq|ne|lt|le|gt|ge|lo|ls|hi|hs|equ|neu|ltu|leu|gtu|geu|num|nan>"
_FLOATING = "<cmp:eq|ne|lt|le|gt|ge|equ|neu|ltu|leu|gtu|geu|num|nan>"
_JOIN = "[.<bool:and|or|xor>]"
FORMS: Table = (
    (f"setp.{_COMPARE}{_JOIN}[.ftz].<t:{_TYPES}>", _set_predicate),
    (f"setp.{_FLOATING}{_JOIN}[.ftz].<t:{_PAIRS}>", _set_predicates),
    (f"set.{_COMPARE}{_JOIN}[.ftz].<d:u32|s32|f32|f16|bf16>.<t:{_TYPES}>", _set),
    (f"set.{_FLOATING}{_JOIN}[.ftz].<d:u16|s16>.<t:f16|bf16>", _set),
    (f"set.{_FLOATING}{_JOIN}[.ftz].<d:u32|s32|f16x2|bf16x2>.<t:{_PAIRS}>", _set_pair),
    (f"selp.<t:{_TYPES}>", _select),
    (f"slct[.ftz].<t:{_TYPES}>.<c:s32|f32>", _select_sign),
    (f"mov.<t:pred|b128|{_TYPES}>", _move),
)
