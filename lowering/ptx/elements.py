"""
What one scalar of the thread level is while PTX is printed.

An element is a register, a constant, or a value that is not printed before it is needed. A vector
is the list of its elements in row-major order.
"""

# Types are read where they are kept: xDSL's properties take several times longer.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import Any, NamedTuple, cast

from xdsl.dialects.builtin import (
    BFloat16Type,
    Float16Type,
    Float32Type,
    Float64Type,
    IndexType,
    IntegerType,
    NoneAttr,
    VectorType,
)
from xdsl.dialects.llvm import LLVMPointerType, LLVMStructType
from xdsl.ir import Attribute, Operation, SSAValue


class Half(NamedTuple):
    """The lower (0) or upper (1) 16 bits of a 32-bit register."""

    packed: str
    upper: int


class Byte(str):
    """A register with a byte in its lower bits, and the word and the place that it comes from."""

    word: str
    place: int

    def __new__(cls, register: str, word: str, place: int) -> Byte:
        byte = super().__new__(cls, register)
        byte.word, byte.place = word, place
        return byte


class Sum(NamedTuple):
    """A register plus a constant, modulo the width of the type."""

    base: str
    offset: int


class Product(NamedTuple):
    """A 32-bit product that its only use, an addition, turns into one `mad`."""

    lhs: str
    rhs: str


class WideProduct(NamedTuple):
    """A 32-bit register, extended by its sign to 64 bits, times a constant of 32 bits."""

    register: str
    factor: int


class Address(NamedTuple):
    """A pointer: a register or the name of a variable, plus a constant in bytes."""

    base: str
    offset: int


# The constructors of named tuples are written in Python; that of tuples is not.
_new_tuple: Any = cast(Any, tuple).__new__
new_address = cast(Callable[[tuple[str, int]], Address], partial(_new_tuple, Address))
new_sum = cast(Callable[[tuple[str, int]], Sum], partial(_new_tuple, Sum))
new_half = cast(Callable[[tuple[str, int]], Half], partial(_new_tuple, Half))

Element = str | int | float | Half | Sum | Product | WideProduct | Address

# The kind of a scalar type: how its values are held in registers. Integers of 8 and 16 bits are
# held in 32-bit registers whose upper bits mean nothing. An index is a signed 32-bit integer.
REGISTER_CLASS: dict[str, str] = {
    "i1": "p",
    "i8": "r",
    "i16": "r",
    "i32": "r",
    "i64": "rd",
    "f16": "h",
    "bf16": "h",
    "f32": "f",
    "f64": "fd",
    "ptr": "rd",
    "ptr1": "rd",
    "ptr3": "r",
}
BITS: dict[str, int] = {
    "i1": 1,
    "i8": 8,
    "i16": 16,
    "i32": 32,
    "i64": 64,
    "f16": 16,
    "bf16": 16,
    "f32": 32,
    "f64": 64,
    "ptr": 64,
    "ptr1": 64,
    "ptr3": 32,
}
# The PTX type of each register class (PTX ISA, "Types"): bit types hold integers and floats.
CLASS_TYPE: dict[str, str] = {
    "p": "pred",
    "h": "b16",
    "r": "b32",
    "f": "b32",
    "rd": "b64",
    "fd": "b64",
}
SPACES: dict[str, str] = {"ptr": "", "ptr1": ".global", "ptr3": ".shared"}
_WITHOUT_PARAMETERS: dict[type[Attribute], str] = {
    IndexType: "i32",
    Float16Type: "f16",
    BFloat16Type: "bf16",
    Float32Type: "f32",
    Float64Type: "f64",
}


_INTEGERS = {1: "i1", 8: "i8", 16: "i16", 32: "i32", 64: "i64"}


def scalar_kind(type_: Attribute) -> str | None:
    """Returns the kind of a scalar type, or None for a type that the thread level lacks."""
    # Attributes are of an abstract class: to ask for the very class is many times faster.
    of = type(type_)
    if (kind := _WITHOUT_PARAMETERS.get(of)) is not None:
        return kind
    if of is IntegerType:
        return _INTEGERS.get(cast(IntegerType, type_).width.data)
    if of is LLVMPointerType:
        space = cast(LLVMPointerType, type_).addr_space
        number = 0 if isinstance(space, NoneAttr) else space.data
        return {0: "ptr", 1: "ptr1", 3: "ptr3"}.get(number)
    return None


# Kinds by the identity of a type, which stands beside its kind so that it lives.
_KINDS: dict[int, tuple[Attribute, str | None]] = {}
_MOST_KINDS = 4096


# xDSL would wrap the operands of an op in a list, and look an index up in Python.
_at: Callable[[Sequence[SSAValue], int], SSAValue] = cast(Any, tuple).__getitem__


def operand_type(op: Operation, index: int = 0) -> Attribute:
    """Returns the type of an operand."""
    return _at(op._operands, index)._type


def result_type(op: Operation) -> Attribute:
    """Returns the type of the only, or of the first result."""
    return _at(op.results, 0)._type


def element_kind(type_: Attribute) -> str | None:
    """Returns the kind of the elements of a scalar or vector type."""
    known = _KINDS.get(id(type_))
    if known is not None:
        return known[1]
    kind = scalar_kind(type_.element_type if type(type_) is VectorType else type_)
    if len(_KINDS) >= _MOST_KINDS:
        _KINDS.clear()
    _KINDS[id(type_)] = (type_, kind)
    return kind


# Shapes by the identity of a type, as kinds.
_SHAPES: dict[int, tuple[Attribute, tuple[int, ...]]] = {}


def shape_of(type_: Attribute) -> tuple[int, ...]:
    """Returns the shape of a vector's type, () of others."""
    known = _SHAPES.get(id(type_))
    if known is not None:
        return known[1]
    shape = type_.get_shape() if type(type_) is VectorType else ()
    if len(_SHAPES) >= _MOST_KINDS:
        _SHAPES.clear()
    _SHAPES[id(type_)] = (type_, shape)
    return shape


def element_count(type_: Attribute) -> int:
    """Returns how many elements a value of the type has; a struct has those of its members."""
    if type(type_) is LLVMStructType:
        return sum(element_count(member) for member in type_.types)
    return prod(shape_of(type_))


def wrap(value: int, bits: int) -> int:
    """Returns the signed integer of `bits` bits that equals `value` modulo 2**bits."""
    if bits == 1:
        return value & 1
    half = 1 << (bits - 1)
    if -half <= value < half:
        return value
    return ((value + half) & ((1 << bits) - 1)) - half


def unsigned(value: int, bits: int) -> int:
    """Returns the unsigned integer of `bits` bits that equals `value` modulo 2**bits."""
    return value & ((1 << bits) - 1)


def float_bits(value: float, kind: str) -> int:
    """Returns the bits of the value nearest to `value` in a floating-point kind."""
    if kind == "f64":
        return struct.unpack("<Q", struct.pack("<d", value))[0]
    if kind == "f16":
        try:
            return struct.unpack("<H", struct.pack("<e", value))[0]
        except OverflowError:
            return 0xFC00 if value < 0 else 0x7C00
    try:
        bits = struct.unpack("<I", struct.pack("<f", value))[0]
    except OverflowError:
        bits = 0xFF800000 if value < 0 else 0x7F800000
    if kind == "f32":
        return bits
    if value != value:
        return 0x7FC0
    return (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16


def bits_float(bits: int, kind: str) -> float:
    """Returns the value of the bits of a floating-point kind."""
    if kind == "f64":
        return struct.unpack("<d", struct.pack("<Q", bits))[0]
    if kind == "f16":
        return struct.unpack("<e", struct.pack("<H", bits))[0]
    return struct.unpack("<f", struct.pack("<I", bits << 16 if kind == "bf16" else bits))[0]


def literal(value: int | float, kind: str) -> str:
    """Returns the immediate of a constant (PTX ISA, "Constants")."""
    if isinstance(value, int):
        return str(value)
    bits = float_bits(value, kind)
    if kind == "f32":
        return f"0f{bits:08X}"
    if kind == "f64":
        return f"0d{bits:016X}"
    return f"0x{bits:04X}"
