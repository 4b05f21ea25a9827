"""The scalar types of PTX (PTX ISA, "Fundamental types") and how NumPy holds them."""

from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
# A value of one PTX register over the lanes of a group: an array with one element a lane, or a
# NumPy scalar where all lanes agree. Any, because NumPy's stubs know no such union.
Lanes: TypeAlias = Any

# Registers of 16 bits that hold f16 are kept as their bits, like bf16.
DTYPES: dict[str, str] = {
    "pred": "?",
    "b8": "u1",
    "u8": "u1",
    "s8": "i1",
    "b16": "u2",
    "u16": "u2",
    "s16": "i2",
    "f16": "u2",
    "bf16": "u2",
    "b32": "u4",
    "u32": "u4",
    "s32": "i4",
    "f32": "f4",
    "tf32": "u4",
    "f16x2": "u4",
    "bf16x2": "u4",
    "u16x2": "u4",
    "s16x2": "u4",
    "b64": "u8",
    "u64": "u8",
    "s64": "i8",
    "f64": "f8",
    "f32x2": "u8",
    "b128": "c16",
}
BITS: dict[str, int] = {
    name: 1 if code == "?" else 8 * np.dtype(code).itemsize for name, code in DTYPES.items()
}
# Types that a declaration may use (.reg, .param, variables).
DECLARABLE = frozenset(DTYPES) - {"tf32", "u16x2", "s16x2", "f32x2"}
NUMPY: dict[str, Any] = {code: np.dtype(code).type for code in set(DTYPES.values())}
FLOATS = frozenset({"f16", "bf16", "f32", "f64", "f16x2", "bf16x2", "tf32"})


def word_code(size: int) -> str:
    """Returns the dtype code of 1 to 16 bytes that move at once."""
    return "c16" if size == 16 else f"u{size}"


def size_of(name: str) -> int:
    """Returns the bytes that a value of a type takes in memory."""
    return BITS[name] // 8
