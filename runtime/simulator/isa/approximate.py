"""
Approximate functions with a random error of the size that the PTX ISA admits.

The bounds are those of the PTX ISA 9.1, "Floating Point Instructions" and "Half Precision
Floating Point Instructions", notes of each instruction. An error is a function of the seed, the
instruction's name and its operands, as on a GPU: equal operands give equal results. Rows of
FORMS replace those of floating.py and half.py in a launch that asks for errors.
"""

import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..ptx.syntax import Instruction
from ..scalars import Array, Lanes
from .forms import Fields, Forms, Table
from .half import from_float, to_float
from .rounding import flush

if TYPE_CHECKING:
    from ..compiler.emitter import BlockEmitter
    from ..machine import Group

_sqrt: Callable[[Array], Array] = np.sqrt


def _reciprocal_root(x: Array) -> Array:
    """Returns 1 / sqrt(x)."""
    return 1 / _sqrt(x)


# From f64 operands to f64 results.
_FUNCTIONS: dict[str, Callable[..., Array]] = {
    "ex2": np.exp2,
    "lg2": np.log2,
    "sin": np.sin,
    "cos": np.cos,
    "tanh": np.tanh,
    "rsqrt": _reciprocal_root,
    "rcp": np.reciprocal,
    "sqrt": np.sqrt,
    "div": np.divide,
}
_TINY = {"f32": 2.0**-126, "f16": 2.0**-14, "bf16": 2.0**-126}
# From the results in f64 and the operands to the largest error.
Bound: TypeAlias = Callable[[Array, list[Array]], Array]


def _ulps(count: float) -> Bound:
    """Returns the bound of so many units in the last place of an f32."""

    def bound(y: Array, operands: list[Array]) -> Array:
        return count * np.ldexp(1.0, np.maximum(np.frexp(y)[1] - 1, -126) - 23)

    return bound


def _relative(exponent: float) -> Bound:
    """Returns a bound relative to the result."""

    def bound(y: Array, operands: list[Array]) -> Array:
        return np.abs(y) * 2.0**exponent

    return bound


def _absolute(exponent: float) -> Bound:
    """Returns a bound that is the same for all results."""

    def bound(y: Array, operands: list[Array]) -> Array:
        return np.full(y.size, 2.0**exponent)

    return bound


def _logarithm(y: Array, operands: list[Array]) -> Array:
    """Returns the bound of lg2: absolute for operands in (0.5, 2), relative elsewhere."""
    (x,) = operands
    return np.where((x > 0.5) & (x < 2), 1.0, np.abs(y)) * 2.0**-22


def _angle(y: Array, operands: list[Array]) -> Array:
    """Returns the bound of sin and cos; beyond 100 pi, where there is none, that below it."""
    (x,) = operands
    bound: Array = np.full(x.size, 2.0**-14.7)
    bound[np.abs(x) <= 2 * np.pi] = 2.0**-20.5
    return bound


def _quotient(y: Array, operands: list[Array]) -> Array:
    """Returns the bound of div.approx; no error where the ISA gives none."""
    size = np.abs(operands[1])
    return np.where((size >= 2.0**-126) & (size <= 2.0**126), _ulps(2)(y, operands), 0.0)


BOUNDS: dict[tuple[str, str], Bound] = {
    ("ex2", "f32"): _ulps(2),
    ("lg2", "f32"): _logarithm,
    ("sin", "f32"): _angle,
    ("cos", "f32"): _angle,
    ("tanh", "f32"): _relative(-11),
    ("rsqrt", "f32"): _relative(-22.9),
    ("rcp", "f32"): _ulps(1),
    ("sqrt", "f32"): _relative(-23),
    ("div.approx", "f32"): _quotient,
    ("div.full", "f32"): _ulps(2),
    ("ex2", "f16"): _relative(-9.9),
    ("ex2", "bf16"): _relative(-7),
    ("tanh", "f16"): _absolute(-10.987),
    ("tanh", "bf16"): _absolute(-8),
}


def _mixed(word: Array) -> Array:
    """Returns 64-bit words with their bits mixed (Steele et al., SplitMix)."""
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


def _draws(seed: int, name: str, operands: list[Array]) -> Array:
    """Returns numbers in [-1, 1], one for each seed, name and operands."""
    start = seed * 0x9E3779B97F4A7C15 + zlib.crc32(name.encode()) & (1 << 64) - 1
    word = _mixed(np.full(operands[0].shape, start, np.uint64))
    for operand in operands:
        word = _mixed(word + operand.view(np.uint64))
    return (word >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1


def _decoded(bits: Array, type: str) -> Array:
    """Returns bits of a type as f64."""
    values = bits.view(np.float32) if type == "f32" else to_float(bits, type)
    return values.astype(np.float64)


def _encoded(values: Array, type: str) -> Array:
    """Returns f64 as bits of a type, rounded to nearest by way of f32."""
    single = values.astype(np.float32)
    return single.view(np.uint32) if type == "f32" else from_float(single, type)


def _erroneous(seed: int, name: str, type: str, bits: list[Array]) -> Array:
    """Returns the bits of a function with an error within its bound."""
    operands = [_decoded(operand, type) for operand in bits]
    y: Array = np.asarray(_FUNCTIONS[name.partition(".")[0]](*operands))
    nearest = _encoded(y, type)
    # ex2 is bounded from the rounded result on, all others from the exact one.
    center = _decoded(nearest, type) if (name, type) == ("ex2", "f32") else y
    limit = BOUNDS[name, type](y, operands)
    drawn = _encoded(center + _draws(seed, name, operands) * limit, type)
    here, there = _decoded(nearest, type), _decoded(drawn, type)
    # Rounding may have led out of the bound: one step back towards the result.
    outside = np.abs(there - center) > limit
    inwards = np.where(np.abs(there) > np.abs(here), drawn - 1, drawn + 1).astype(drawn.dtype)
    drawn = np.where(outside, inwards, drawn)
    there = _decoded(drawn, type)
    ordinary = np.isfinite(there) & np.isfinite(here) & (y != 0) & (np.sign(there) == np.sign(y))
    ordinary &= (np.abs(there - center) <= limit) & (np.abs(there) >= _TINY[type])
    for operand in operands:  # zeros and infinities have results that the ISA names
        ordinary &= np.isfinite(operand) & (operand != 0)
    return np.where(ordinary, drawn, nearest)


def perturbed(group: "Group", name: str, type: str, *operands: Lanes) -> Lanes:
    """Returns an approximate function of f32 lanes, or of f16 or bf16 bits, pairs too."""
    seed: int = group.machine.launch.perturb
    scalar = type.removesuffix("x2")
    arrays = np.broadcast_arrays(*operands)
    code: Any = np.uint32 if type == "f32" else np.uint16
    bits = [np.ascontiguousarray(array).reshape(-1).view(code) for array in arrays]
    result = np.ascontiguousarray(_erroneous(seed, name, scalar, bits)).view(operands[0].dtype)
    return result if arrays[0].ndim else result[0]


def _function(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits an approximate function with an error."""
    type, name = fields["t"], fields["op"]
    if name == "div":
        name = f"div.{fields['how']}"
    d, *sources = b.operands(3 if name.startswith("div") else 2)
    names = [b.read(source, type) for source in sources]
    flushing = bool(fields.get("ftz")) and type == "f32"
    if flushing:
        names = [b.flush(source, type) for source in names]
    expression = f"{b.use(perturbed)}(g, {name!r}, {type!r}, {', '.join(names)})"
    if flushing:
        expression = f"{b.use(flush)}({expression})"
    b.write(d, type, expression)


FORMS: Table = (
    ("<op:ex2|lg2|sin|cos|rsqrt|rcp|sqrt>.approx[.ftz].<t:f32>", _function),
    ("tanh.approx.<t:f32>", _function),
    ("div.<how:approx|full>[.ftz].<t:f32>", _function),
    ("ex2.approx.<t:f16|f16x2>", _function),
    ("ex2.approx.ftz.<t:bf16|bf16x2>", _function),
    ("tanh.approx.<t:f16|f16x2|bf16|bf16x2>", _function),
)
_ROWS = Forms(FORMS)


def overlaid(find: Callable[[str], Any]) -> Callable[[str], Any]:
    """Returns a search of instructions that finds the rows of this file first."""
    return lambda opcode: _ROWS.find(opcode) or find(opcode)
