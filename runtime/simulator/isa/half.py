"""Half precision: f16, bf16 and their packed pairs (PTX ISA, "Half Precision Floating-Point")."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ..ptx.syntax import Instruction
from ..scalars import BITS, Lanes
from .forms import Fields, Table
from .operations import select
from .rounding import (
    exact_sum,
    extremum,
    from_bfloat,
    narrow_odd,
    rectify,
    saturate,
    signed_extremum,
    to_bfloat,
    to_half,
)

if TYPE_CHECKING:
    from ..compiler.emitter import BlockEmitter


def to_float(bits: Lanes, type: str) -> Lanes:
    """Returns the f32 values of f16 or bf16 bits."""
    if type == "f16":
        return bits.view(np.float16).astype(np.float32)
    return from_bfloat(bits)


def from_float(x: Lanes, type: str) -> Lanes:
    """Returns f32 or f64 lanes rounded to f16 or bf16, as bits; f64 must be rounded to odd."""
    if type == "f16":
        return to_half(x)
    if x.itemsize == 8:
        x = narrow_odd(x)
    return to_bfloat(x)


def _power(x: Lanes) -> Lanes:
    """Returns 2 to the power of x."""
    return np.exp2(x.astype(np.float64)).astype(np.float32)


def _tangent(x: Lanes) -> Lanes:
    """Returns the hyperbolic tangent."""
    return np.tanh(x.astype(np.float64)).astype(np.float32)


def flush_half(bits: Lanes) -> Lanes:
    """Returns 16-bit lanes with subnormal f16 numbers replaced by zero of their sign."""
    field = bits & np.uint16(0x7C00)
    return select(field == 0, bits & np.uint16(0x8000), bits)


# What is below rounds, in 11 bits with an exponent of any size, to less than 2^-14, the smallest
# normal f16 number: .ftz makes it zero (IEEE 754-2019, 7.5, after rounding), as on an H100.
_TINY = 2.0**-14 * (1 - 2.0**-12)
# Operations on f32 values; each result is rounded to 16 bits afterwards. One rounding to f32
# before is harmless where f32 has 2p+2 bits or more (Figueroa); fma needs rounding to odd.
_ARITHMETIC: dict[str, Callable[..., Lanes]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "fma": exact_sum,
    "min": partial(extremum, largest=False, nan=False),
    "max": partial(extremum, largest=True, nan=False),
    "min.NaN": partial(extremum, largest=False, nan=True),
    "max.NaN": partial(extremum, largest=True, nan=True),
    "min.xorsign.abs": partial(signed_extremum, largest=False, nan=False),
    "max.xorsign.abs": partial(signed_extremum, largest=True, nan=False),
    "min.NaN.xorsign.abs": partial(signed_extremum, largest=False, nan=True),
    "max.NaN.xorsign.abs": partial(signed_extremum, largest=True, nan=True),
    "ex2": _power,
    "tanh": _tangent,
}


def compute(operation: str, type: str, modifiers: str, *operands: Lanes) -> Lanes:
    """
    Returns an operation on f16 or bf16 bits of any shape.

    `modifiers` is a comma-separated list of ftz, sat and relu.
    """
    if operation in ("abs", "neg"):
        flushes = "ftz" in modifiers and type == "f16"
        bits = flush_half(operands[0]) if flushes else operands[0]
        return bits & np.uint16(0x7FFF) if operation == "abs" else bits ^ np.uint16(0x8000)
    flushing = "ftz" in modifiers and type == "f16"
    inputs = [flush_half(bits) for bits in operands] if flushing else operands
    result = _ARITHMETIC[operation](*(to_float(bits, type) for bits in inputs))
    if "sat" in modifiers:
        result = saturate(result)
    if "relu" in modifiers:
        result = rectify(result)
    bits = from_float(result, type)
    if not flushing:
        return bits
    return select(np.abs(result) < _TINY, bits & np.uint16(0x8000), bits)


def compute_pairs(operation: str, type: str, modifiers: str, *operands: Lanes) -> Lanes:
    """Returns an operation on both halves of packed u32 lanes."""
    arrays = np.broadcast_arrays(*operands)
    flat = [np.ascontiguousarray(array).reshape(-1).view(np.uint16) for array in arrays]
    packed = np.ascontiguousarray(compute(operation, type, modifiers, *flat)).view(np.uint32)
    return packed if arrays[0].ndim else packed[0]


def _arithmetic(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits an operation on f16, bf16 or pairs of them."""
    operation = fields["op"]
    count = {"fma": 4, "abs": 2, "neg": 2, "ex2": 2, "tanh": 2}.get(operation, 3)
    d, *sources = b.operands(count)
    type = fields["t"]
    modifiers = ",".join(m for m in ("ftz", "sat", "relu") if fields.get(m))
    operation += ".NaN" if fields.get("NaN") else ""
    operation += ".xorsign.abs" if fields.get("xorsign_abs") else ""
    function = b.use(compute_pairs if BITS[type] == 32 else compute)
    names = ", ".join(b.read(source, type) for source in sources)
    b.write(
        d, type, f"{function}({operation!r}, {type.removesuffix('x2')!r}, {modifiers!r}, {names})"
    )


_F16, _BF16 = "f16|f16x2", "bf16|bf16x2"
FORMS: Table = (
    (f"<op:add|sub|mul>[.rn][.ftz][.sat].<t:{_F16}>", _arithmetic),
    (f"<op:add|sub|mul>[.rn].<t:{_BF16}>", _arithmetic),
    (f"fma.rn[.ftz][.sat].<t:{_F16}>", _arithmetic),
    (f"fma.rn[.ftz][.relu].<t:{_F16}>", _arithmetic),
    (f"fma.rn[.relu].<t:{_BF16}>", _arithmetic),
    (f"<op:min|max>[.ftz][.NaN][.xorsign.abs].<t:{_F16}>", _arithmetic),
    (f"<op:min|max>[.NaN][.xorsign.abs].<t:{_BF16}>", _arithmetic),
    (f"<op:abs|neg>[.ftz].<t:{_F16}>", _arithmetic),
    (f"<op:abs|neg>.<t:{_BF16}>", _arithmetic),
    (f"ex2.approx.<t:{_F16}>", _arithmetic),
    (f"ex2.approx.ftz.<t:{_BF16}>", _arithmetic),
    (f"tanh.approx.<t:{_F16}|{_BF16}>", _arithmetic),
)
