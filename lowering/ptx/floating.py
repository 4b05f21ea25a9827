"""
Rules for floating-point arithmetic and functions.

Without `contract`, sums and products carry `.rn`, so that ptxas does not fuse them. bf16 (and
f16 where PTX has no instruction) is computed in f32 and rounded once more, which for `+ - * /`
and square roots gives the correctly rounded result, since f32 has more than twice the digits.
"""

# Operands are counted where they are kept: xDSL would wrap them in a list of their own.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain
from typing import cast

from xdsl.dialects.arith import FastMathFlagsAttr
from xdsl.ir import Operation

from ...dialects.diagnostic import error_at
from .elements import REGISTER_CLASS, Element
from .kernel import KernelPrinter, Rule, Step, operand_kind

Function = Callable[[KernelPrinter, str, tuple[str, ...]], str]


def flags_of(op: Operation) -> frozenset[str]:
    """Returns the fast-math flags of an op by their short names."""
    attribute = op.properties.get("fastmath")
    if not isinstance(attribute, FastMathFlagsAttr):
        return frozenset()
    return frozenset(flag.value for flag in attribute.data)


def narrowed(p: KernelPrinter, register: str, kind: str) -> Element:
    """Returns an f32 register rounded to f16 or bf16."""
    return p.compute(f"cvt.rn.{kind}.f32", "h", register)


def widened(p: KernelPrinter, element: Element, kind: str) -> str:
    """Returns an f16 or bf16 element as an operand of f32."""
    if kind == "bf16":
        return p.widened(element, kind)
    if isinstance(element, int | float):
        return p.operand(float(element), "f32")
    return p.compute("cvt.f32.f16", "f", p.operand(element, kind))


def _print(p: KernelPrinter, mnemonic: str, kind: str, sources: tuple[str, ...]) -> str:
    return p.emit_new(_template(mnemonic, len(sources)), REGISTER_CLASS[kind], sources)


_TEMPLATES: dict[tuple[str, int], str] = {}


def _template(mnemonic: str, sources: int) -> str:
    key = (mnemonic, sources)
    if key not in _TEMPLATES:
        _TEMPLATES[key] = f"\t{mnemonic} " + ", ".join(["%s"] * (sources + 1)) + ";"
    return _TEMPLATES[key]


def _arithmetic(name: str, flags: frozenset[str], kind: str) -> str | None:
    """Returns the mnemonic of a sum, difference or product."""
    rounding = "" if "contract" in flags else ".rn"
    return None if kind == "bf16" else f"{name}{rounding}.{kind}"


def _quotient(flags: frozenset[str], kind: str) -> str | None:
    if kind == "f32":
        return "div.full.f32" if flags & {"afn", "arcp"} else "div.rn.f32"
    return "div.rn.f64" if kind == "f64" else None


def _extremum(name: str, nan: bool, flags: frozenset[str], kind: str) -> str | None:
    if kind == "f64":
        return f"{name}.f64" if not nan or "nnan" in flags else None
    return f"{name}{'.NaN' if nan else ''}.{kind}"


def _fused(flags: frozenset[str], kind: str) -> str | None:
    return f"fma.rn.{kind}"


def _sign(name: str, flags: frozenset[str], kind: str) -> str | None:
    return f"{name}.{kind}"


def _root(flags: frozenset[str], kind: str) -> str | None:
    if kind == "f32":
        return "sqrt.approx.f32" if "afn" in flags else "sqrt.rn.f32"
    return "sqrt.rn.f64" if kind == "f64" else None


def _approximate(mnemonic: str, flags: frozenset[str], kind: str) -> str | None:
    """Returns an instruction that stands only for the approximate function of f32."""
    return mnemonic if kind == "f32" and "afn" in flags else None


def _power_of_two(flags: frozenset[str], kind: str) -> str | None:
    """Returns ex2; without .ftz it takes three more machine instructions, for subnormal results."""
    if kind != "f32":
        return None
    return "ex2.approx.ftz.f32" if "afn" in flags else "ex2.approx.f32"


def _rounding(mode: str, flags: frozenset[str], kind: str) -> str | None:
    return f"cvt.{mode}.{kind}.{kind}" if kind != "bf16" else None


Chooser = Callable[[frozenset[str], str], str | None]

# Op to the choice of its instruction by fast-math flags and kind. For 16-bit kinds that the
# choice declines, the op is computed in f32. Errors from PTX ISA, "Floating Point Instructions":
# ex2.approx 2^-22.5 relative, lg2.approx 2^-22 absolute near 1, sin/cos.approx 2^-20.5 absolute,
# tanh.approx 2^-11 relative, rsqrt.approx 2^-22.9 relative, div.full 2 ulp, sqrt.approx 2^-23.
INSTRUCTIONS: dict[str, Chooser] = {
    "arith.addf": partial(_arithmetic, "add"),
    "arith.subf": partial(_arithmetic, "sub"),
    "arith.mulf": partial(_arithmetic, "mul"),
    "arith.divf": _quotient,
    "arith.negf": partial(_sign, "neg"),
    "arith.maximumf": partial(_extremum, "max", True),
    "arith.minimumf": partial(_extremum, "min", True),
    "arith.maxnumf": partial(_extremum, "max", False),
    "arith.minnumf": partial(_extremum, "min", False),
    "math.fma": _fused,
    "vector.fma": _fused,
    "math.absf": partial(_sign, "abs"),
    "math.sqrt": _root,
    "math.rsqrt": partial(_approximate, "rsqrt.approx.f32"),
    "math.exp2": _power_of_two,
    "math.log2": partial(_approximate, "lg2.approx.f32"),
    "math.sin": partial(_approximate, "sin.approx.f32"),
    "math.cos": partial(_approximate, "cos.approx.f32"),
    "math.tanh": partial(_approximate, "tanh.approx.f32"),
    "math.floor": partial(_rounding, "rmi"),
    "math.ceil": partial(_rounding, "rpi"),
    "math.trunc": partial(_rounding, "rzi"),
    "math.roundeven": partial(_rounding, "rni"),
    "math.copysign": lambda flags, kind: f"copysign.{kind}" if kind[0] == "f" else None,
}
_REVERSED = frozenset({"math.copysign"})
# The types of elements that need nothing but to be named.
_REGISTERS = {str}


def _hint(kind: str, flags: frozenset[str]) -> str:
    if kind == "f64":
        return "; compute it in f32"
    return "" if "afn" in flags else " without fastmath<afn>; expand-math gives it more"


class _Choice:
    """The instruction chosen for one op, and whether 16-bit operands are widened for it."""

    def __init__(self, op: Operation) -> None:
        self.kind = operand_kind(op)
        chooser, flags = INSTRUCTIONS[op.name], flags_of(op)
        mnemonic = chooser(flags, self.kind)
        self.widens = mnemonic is None and self.kind in ("f16", "bf16")
        if self.widens:
            mnemonic = chooser(flags, "f32")
        if mnemonic is None:
            raise error_at(op, f"on {self.kind} has no PTX instruction{_hint(self.kind, flags)}")
        self.mnemonic = mnemonic
        width = "f32" if self.widens else self.kind
        self.template = _template(mnemonic, len(op._operands))
        self.cls = REGISTER_CLASS[width]
        self.reverses = op.name in _REVERSED
        self.is_plain = not self.widens and not self.reverses
        # x * 1, x / 1 are x.
        self.unit = 1.0 if op.name in ("arith.mulf", "arith.divf") else None


def _of_scalars(p: KernelPrinter, choice: _Choice, step: Step) -> Element:
    values, args, kind = p.values, step.args, choice.kind
    first = values[args[0]][0]
    a = first if type(first) is str else p.operand(first, kind)
    mnemonic = choice.mnemonic
    if len(args) == 1:
        return p.compute(mnemonic, choice.cls, a)
    second = values[args[1]][0]
    if second == choice.unit:
        return first
    b = second if type(second) is str else p.operand(second, kind)
    if len(args) == 2:
        return p.compute(mnemonic, choice.cls, a, b)
    return p.compute(mnemonic, choice.cls, a, b, p.operand(values[args[2]][0], kind))


def _elementwise(p: KernelPrinter, step: Step) -> None:
    choice: _Choice | None = step.memo
    if choice is None:
        step.memo = choice = _Choice(step.op)
    values = p.values
    if choice.is_plain and len(values[step.args[0]]) == 1:
        values[step.outs[0]] = [_of_scalars(p, choice, step)]
        return
    columns = [values[arg] for arg in step.args]
    if choice.reverses:
        columns.reverse()
    kind, template, cls = choice.kind, choice.template, choice.cls
    if not choice.widens and set(map(type, chain.from_iterable(columns))) == _REGISTERS:
        rows = cast(Iterable[tuple[str, ...]], zip(*columns))
        values[step.outs[0]] = list[Element](p.emit_each(template, cls, rows))
        return
    results: list[Element] = []
    for row in zip(*columns):
        if choice.unit is not None and row[1] == choice.unit:
            results.append(row[0])
        elif choice.widens:
            sources = [widened(p, e, kind) for e in row]
            results.append(narrowed(p, p.emit_new(template, "f", tuple(sources)), kind))
        else:
            sources = [e if type(e) is str else p.operand(e, kind) for e in row]
            results.append(p.emit_new(template, cls, tuple(sources)))
    values[step.outs[0]] = results


def _nan_extremum(p: KernelPrinter, step: Step) -> None:
    """Prints `maximumf` and `minimumf`; on f64 no instruction gives the NaN of an operand."""
    if operand_kind(step.op) != "f64" or "nnan" in flags_of(step.op):
        _elementwise(p, step)
        return
    name = "max.f64" if step.op.name == "arith.maximumf" else "min.f64"
    results: list[Element] = []
    for row in zip(*(p.values[arg] for arg in step.args)):
        sources = tuple(p.operand(element, "f64") for element in row)
        is_nan = p.compute("setp.nan.f64", "p", *sources)
        number = p.compute(name, "fd", *sources)
        results.append(p.compute("selp.f64", "fd", "0d7FF8000000000000", number, is_nan))
    p.values[step.outs[0]] = results


def _exp(p: KernelPrinter, step: Step) -> None:
    """Prints `exp` as a power of two, `log` and `powf` from `lg2`: with `afn` only."""
    op = step.op
    if step.memo is None:
        step.memo = operand_kind(op)
        if "afn" not in flags_of(op) or step.memo not in ("f32", "f16", "bf16"):
            hint = _hint(step.memo, flags_of(op))
            raise error_at(op, f"on {step.memo} has no PTX instruction{hint}")
    kind: str = step.memo
    columns = [p.values[arg] for arg in step.args]
    results: list[Element] = []
    for row in zip(*columns):
        sources = tuple(p.operand(e, kind) if kind == "f32" else widened(p, e, kind) for e in row)
        value = _APPROXIMATIONS[op.name](p, "f32", sources)
        results.append(value if kind == "f32" else narrowed(p, value, kind))
    p.values[step.outs[0]] = results


_LOG2_E = "0f3FB8AA3B"
_LN_2 = "0f3F317218"
_LOG10_2 = "0f3E9A209B"


def _exp_approx(p: KernelPrinter, kind: str, sources: tuple[str, ...]) -> str:
    scaled = _print(p, "mul.f32", kind, (sources[0], _LOG2_E))
    return _print(p, "ex2.approx.ftz.f32", kind, (scaled,))


def _log_approx(factor: str, p: KernelPrinter, kind: str, sources: tuple[str, ...]) -> str:
    return _print(p, "mul.f32", kind, (_print(p, "lg2.approx.f32", kind, sources), factor))


def _power_approx(p: KernelPrinter, kind: str, sources: tuple[str, ...]) -> str:
    log = _print(p, "lg2.approx.f32", kind, sources[:1])
    return _print(p, "ex2.approx.f32", kind, (_print(p, "mul.f32", kind, (log, sources[1])),))


_APPROXIMATIONS: dict[str, Function] = {
    "math.exp": _exp_approx,
    "math.log": partial(_log_approx, _LN_2),
    "math.log10": partial(_log_approx, _LOG10_2),
    "math.powf": _power_approx,
}


def _one_result(mnemonic: str, p: KernelPrinter, step: Step) -> None:
    operand = p.operand(p.element(step, 0), "f32")
    p.values[step.outs[0]] = [_print(p, mnemonic, "f32", (operand,))]


def _ex2(p: KernelPrinter, step: Step) -> None:
    if step.memo is None:
        flush = getattr(step.op.properties.get("ftz"), "value", None)
        step.memo = "ex2.approx.ftz.f32" if flush is not None and flush.data else "ex2.approx.f32"
    _one_result(step.memo, p, step)


RULES: dict[str, Rule] = {
    **{name: _elementwise for name in INSTRUCTIONS},
    **{name: _exp for name in _APPROXIMATIONS},
    "arith.maximumf": _nan_extremum,
    "arith.minimumf": _nan_extremum,
    "nvvm.rcp.approx.ftz.f": partial(_one_result, "rcp.approx.ftz.f32"),
    "nvvm.ex2": _ex2,
}
