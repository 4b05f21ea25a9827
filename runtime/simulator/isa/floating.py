"""Arithmetic of f32 and f64 (PTX ISA, "Floating-Point Instructions")."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ..ptx.syntax import Instruction
from ..scalars import DTYPES, Lanes
from .double import (
    directed64,
    directed_sum64,
    gross_reciprocal,
    gross_reciprocal_root,
    negative_zero,
)
from .forms import Emit, Fields, Table
from .rounding import (
    directed,
    exact_product,
    exact_sum,
    extremum,
    flush_rounded,
    fused32,
    fused64,
    saturate,
    signed_extremum,
    to_odd,
    two_sum,
)

if TYPE_CHECKING:
    from ..compiler.emitter import BlockEmitter

_SYMBOLS = {"add": "+", "sub": "-", "mul": "*"}


def directed_sum(a: Lanes, b: Lanes, mode: str) -> Lanes:
    """Returns a + b of f32 lanes rounded in a mode."""
    total, error = two_sum(a.astype(np.float64), b.astype(np.float64))
    result = directed(to_odd(total, error), mode)
    return negative_zero(result, a, b) if mode == "rm" else result


def directed_product(a: Lanes, b: Lanes, mode: str) -> Lanes:
    """Returns a * b of f32 lanes rounded in a mode; f64 holds the exact product."""
    return directed(exact_product(a, b), mode)


def directed_fused(a: Lanes, b: Lanes, c: Lanes, mode: str) -> Lanes:
    """Returns a * b + c of f32 lanes rounded in a mode."""
    result = directed(exact_sum(a, b, c), mode)
    if mode != "rm":
        return result
    return negative_zero(result, exact_product(a, b), c)


def exact_quotient(a: Lanes, b: Lanes) -> Lanes:
    """Returns a / b of f32 lanes as f64 rounded to odd: the sign of the remainder decides."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    quotient = x / y
    # q * y has at most 53 + 24 bits: its error is the low part of an exact product.
    high = quotient.astype(np.float32).astype(np.float64)
    rest = (x - high * y) - (quotient - high) * y
    inexact = np.isfinite(quotient) & np.isfinite(y) & (y != 0)
    return to_odd(quotient, np.where(inexact, rest * np.sign(y), 0.0))


def directed_quotient(a: Lanes, b: Lanes, mode: str) -> Lanes:
    """Returns a / b of f32 lanes rounded in a mode."""
    return directed(exact_quotient(a, b), mode)


def directed_root(a: Lanes, mode: str) -> Lanes:
    """Returns the square root of f32 lanes rounded in a mode."""
    x = a.astype(np.float64)
    root = np.sqrt(x)
    high = root.astype(np.float32).astype(np.float64)
    low = root - high
    error = ((x - high * high) - 2.0 * high * low) - low * low
    return directed(to_odd(root, np.where(np.isfinite(root), error, 0.0)), mode)


def _in_double(function: Callable[[Lanes], Lanes]) -> Callable[[Lanes], Lanes]:
    """Returns a function of f32 lanes computed in f64 and rounded once."""

    def rounded(x: Lanes) -> Lanes:
        return function(x.astype(np.float64)).astype(np.float32)

    rounded.__name__ = f"approx_{getattr(function, '__name__', 'function')}"
    return rounded


def reciprocal_root(x: Lanes) -> Lanes:
    """Returns 1 / sqrt(x)."""
    return x.dtype.type(1) / np.sqrt(x)


_FUNCTIONS: dict[str, Callable[[Lanes], Lanes]] = {
    "ex2": _in_double(np.exp2),
    "lg2": _in_double(np.log2),
    "sin": _in_double(np.sin),
    "cos": _in_double(np.cos),
    "tanh": _in_double(np.tanh),
    "rsqrt": _in_double(reciprocal_root),
}


def _sources(b: "BlockEmitter", fields: Fields, count: int) -> tuple[object, list[str]]:
    """Returns the destination and the names of the sources, flushed where .ftz says so."""
    d, *sources = b.operands(count + 1)
    type = fields["t"]
    names = [b.read(source, type) for source in sources]
    if fields.get("ftz"):
        names = [b.flush(name, type) for name in names]
    return d, names


def _finish(
    b: "BlockEmitter",
    fields: Fields,
    expression: str,
    exact: Callable[..., Lanes] | None = None,
    operands: str = "",
) -> None:
    """
    Writes a result with .sat and .ftz applied.

    `exact` computes what was rounded from the operands, where rounding makes tiny results larger.
    """
    assert b.instruction is not None
    flushes, mode = bool(fields.get("ftz")), fields.get("round") or "rn"
    if flushes and exact is not None:
        arguments = f"{expression}, {mode!r}, {b.use(exact)}, {operands}"
        expression = f"{b.use(flush_rounded)}({arguments})"
    if fields.get("sat"):
        expression = f"{b.use(saturate)}({expression})"
    if flushes:
        name = b.define(expression)
        flushed = exact is not None
        expression = b.without_subnormals(name) if flushed else b.flush(name, fields["t"])
    b.write(b.instruction.operands[0], fields["t"], expression)


def _arithmetic(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits add, sub and mul."""
    _, (x, y) = _sources(b, fields, 2)
    mode, op = fields["round"] or "rn", fields["op"]
    exact = exact_product if op == "mul" else None  # a tiny sum is exact
    if mode == "rn":
        _finish(b, fields, f"{x} {_SYMBOLS[op]} {y}", exact, f"{x}, {y}")
        return
    y = f"-{y}" if op == "sub" else y
    if fields["t"] == "f64" and op == "mul":
        _finish(b, fields, f"{b.use(directed64)}('mul', {mode!r}, {x}, {y})")
        return
    function = directed_product if op == "mul" else directed_sum
    function = directed_sum64 if fields["t"] == "f64" else function
    _finish(b, fields, f"{b.use(function)}({x}, {y}, {mode!r})", exact, f"{x}, {y}")


def _saturated(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits add.sat and sub.sat."""
    _arithmetic(b, instruction, {**fields, "sat": "sat"})


def _fused(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits fma and mad."""
    _, names = _sources(b, fields, 3)
    mode, joined = fields["round"] or "rn", ", ".join(names)
    if fields["t"] == "f64":
        call = f"{b.use(fused64)}(" if mode == "rn" else f"{b.use(directed64)}('fma', {mode!r}, "
        _finish(b, fields, f"{call}{joined})")
    elif mode == "rn":
        _finish(b, fields, f"{b.use(fused32)}({joined})", exact_sum, joined)
    else:
        _finish(b, fields, f"{b.use(directed_fused)}({joined}, {mode!r})", exact_sum, joined)


def _divide(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits div and rcp; .approx and .full give the correctly rounded quotient."""
    type = fields["t"]
    if fields["op"] == "rcp":
        _, (y,) = _sources(b, fields, 1)
        if type == "f64" and fields["round"] == "approx":
            _finish(b, fields, f"{b.use(gross_reciprocal)}({y})")
            return
        x = b.scope.constant(DTYPES[type], 0x3F800000 if type == "f32" else 0x3FF << 52)
    else:
        _, (x, y) = _sources(b, fields, 2)
    mode = fields["round"]
    if mode in ("rn", "approx", "full"):
        _finish(b, fields, f"{x} / {y}")
        return
    if type == "f64":
        _finish(b, fields, f"{b.use(directed64)}('div', {mode!r}, {x}, {y})")
        return
    quotient = f"{b.use(directed_quotient)}({x}, {y}, {mode!r})"
    _finish(b, fields, quotient, exact_quotient, f"{x}, {y}")


def _root(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits sqrt."""
    _, (x,) = _sources(b, fields, 1)
    mode = fields["round"]
    if mode in ("rn", "approx"):
        _finish(b, fields, f"{b.use(np.sqrt)}({x})")
    elif fields["t"] == "f64":
        _finish(b, fields, f"{b.use(directed64)}('sqrt', {mode!r}, {x})")
    else:
        _finish(b, fields, f"{b.use(directed_root)}({x}, {mode!r})")


def _function(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits ex2, lg2, sin, cos, tanh, rsqrt: the correctly rounded value, computed in f64."""
    _, (x,) = _sources(b, fields, 1)
    if fields["t"] == "f64":
        function = gross_reciprocal_root if fields["ftz"] else reciprocal_root
        _finish(b, fields, f"{b.use(function)}({x})")
        return
    _finish(b, fields, f"{b.use(_FUNCTIONS[fields['op']])}({x})")


def _extremum(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits min and max."""
    _, (x, y) = _sources(b, fields, 2)
    largest, nan = fields["op"] == "max", bool(fields.get("NaN"))
    if not fields.get("xorsign_abs"):
        _finish(b, fields, f"{b.use(extremum)}({x}, {y}, {largest}, {nan})")
        return
    _finish(b, fields, f"{b.use(signed_extremum)}({x}, {y}, {largest}, {nan})")


def _sign(expression: str) -> Emit:
    """Returns what emits abs or neg: an operation on the sign."""

    def emit(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
        _, (x,) = _sources(b, fields, 1)
        _finish(b, fields, expression.format(x=x))

    return emit


def _copysign(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits copysign: the sign of the first source on the magnitude of the second."""
    _, (x, y) = _sources(b, fields, 2)
    _finish(b, fields, f"{b.use(np.copysign)}({y}, {x})")


def test_property(x: Lanes, which: str) -> Lanes:
    """
    Returns whether float lanes are finite, infinite, number, notanumber, normal, subnormal.

    Zeros count as normal numbers (PTX ISA, testp).
    """
    tiny = np.finfo(x.dtype).tiny
    size = np.abs(x)
    return {
        "finite": lambda: np.isfinite(x),
        "infinite": lambda: np.isinf(x),
        "number": lambda: ~np.isnan(x),
        "notanumber": lambda: np.isnan(x),
        "normal": lambda: np.isfinite(x) & ((size >= tiny) | (size == 0)),
        "subnormal": lambda: (size < tiny) & (size > 0),
    }[which]()


def _test(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits testp."""
    d, x = b.operands(2)
    call = f"{b.use(test_property)}({b.read(x, fields['t'])}, {fields['which']!r})"
    b.write(d, "pred", call)


FORMS: Table = (
    ("<op:add|sub|mul>[.<round:round>][.ftz][.sat].<t:f32>", _arithmetic),
    ("<op:add|sub>[.<round:round>].sat[.ftz].<t:f32>", _saturated),  # as LLVM spells it
    ("<op:add|sub|mul>[.<round:round>].<t:f64>", _arithmetic),
    ("fma.<round:round>[.ftz][.sat].<t:f32>", _fused),
    ("mad[.<round:round>][.ftz][.sat].<t:f32>", _fused),
    ("<op:fma|mad>.<round:round>.<t:f64>", _fused),
    ("div.<round:approx|full|round>[.ftz].<t:f32>", _divide),
    ("rcp.<round:approx|round>[.ftz].<t:f32>", _divide),
    ("<op:div|rcp>.<round:round>.<t:f64>", _divide),
    ("rcp.<round:approx>.ftz.<t:f64>", _divide),
    ("sqrt.<round:approx|round>[.ftz].<t:f32>", _root),
    ("sqrt.<round:round>.<t:f64>", _root),
    ("<op:ex2|lg2|sin|cos|rsqrt>.approx[.ftz].<t:f32>", _function),
    ("tanh.approx.<t:f32>", _function),
    ("rsqrt.approx[.ftz].<t:f64>", _function),
    ("<op:min|max>[.ftz][.NaN][.xorsign.abs].<t:f32>", _extremum),
    ("<op:min|max>.<t:f64>", _extremum),
    ("abs[.ftz].<t:f32>", _sign("abs({x})")),
    ("neg[.ftz].<t:f32>", _sign("-{x}")),
    ("abs.<t:f64>", _sign("abs({x})")),
    ("neg.<t:f64>", _sign("-{x}")),
    ("copysign.<t:f32|f64>", _copysign),
    ("testp.<which:finite|infinite|number|notanumber|normal|subnormal>.<t:f32|f64>", _test),
)
