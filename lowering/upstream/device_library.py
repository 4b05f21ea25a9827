"""
The functions of libdevice to which upstream MLIR lowers `math` ops, in LLVM IR.

They stand for the same instructions that the direct way prints, so that both ways agree.
"""

from __future__ import annotations

import math
import re
import struct

from .bindings import UpstreamError


def _literal(value: float) -> str:
    """Returns the f32 nearest to a number as LLVM writes it: the bits of the equal double."""
    nearest = struct.unpack("<f", struct.pack("<f", value))[0]
    return f"0x{struct.unpack('<Q', struct.pack('<d', nearest))[0]:016X}"


_LOG2_E = _literal(math.log2(math.e))
_LN_2 = _literal(math.log(2))
_LOG10_2 = _literal(math.log10(2))


def _unary(intrinsic: str) -> str:
    return f"%r = call float @{intrinsic}(float %x)"


def _scaled_log(factor: str) -> str:
    return f"%l = call float @llvm.nvvm.lg2.approx.f(float %x)\n  %r = fmul float %l, {factor}"


def _assembly(instruction: str) -> str:
    return f'%r = call float asm "{instruction} $0, $1;", "=f,f"(float %x)'


# Name without `__nv_`: body that computes %r from %x (and %y).
_BODIES: dict[str, str] = {
    "exp2f": _unary("llvm.nvvm.ex2.approx.f"),
    "fast_exp2f": _unary("llvm.nvvm.ex2.approx.ftz.f"),
    "fast_expf": f"%s = fmul float %x, {_LOG2_E}\n"
    "  %r = call float @llvm.nvvm.ex2.approx.ftz.f(float %s)",
    "fast_log2f": _unary("llvm.nvvm.lg2.approx.f"),
    "fast_logf": _scaled_log(_LN_2),
    "fast_log10f": _scaled_log(_LOG10_2),
    "fast_sinf": _unary("llvm.nvvm.sin.approx.f"),
    "fast_cosf": _unary("llvm.nvvm.cos.approx.f"),
    "fast_tanhf": _assembly("tanh.approx.f32"),
    "tanhf": _assembly("tanh.approx.f32"),
    "rsqrtf": _unary("llvm.nvvm.rsqrt.approx.f"),
    "sqrtf": _unary("llvm.nvvm.sqrt.rn.f"),
    "fast_sqrtf": _unary("llvm.nvvm.sqrt.approx.f"),
    "fmaxf": "%r = call float @llvm.maxnum.f32(float %x, float %y)",
    "fminf": "%r = call float @llvm.minnum.f32(float %x, float %y)",
    "fabsf": _unary("llvm.fabs.f32"),
    "floorf": _unary("llvm.floor.f32"),
    "ceilf": _unary("llvm.ceil.f32"),
    "truncf": _unary("llvm.trunc.f32"),
    "rintf": _unary("llvm.roundeven.f32"),
    "copysignf": "%r = call float @llvm.copysign.f32(float %x, float %y)",
    "fmaf": "%r = call float @llvm.fma.f32(float %x, float %y, float %z)",
    "fast_powf": "%l = call float @llvm.nvvm.lg2.approx.f(float %x)\n"
    "  %m = fmul float %l, %y\n"
    "  %r = call float @llvm.nvvm.ex2.approx.f(float %m)",
}
# Those of f64, by the intrinsic that computes them.
_WIDE = {
    "sqrt": "llvm.nvvm.sqrt.rn.d",
    "fmax": "llvm.maxnum.f64",
    "fmin": "llvm.minnum.f64",
    "fabs": "llvm.fabs.f64",
    "floor": "llvm.floor.f64",
    "ceil": "llvm.ceil.f64",
    "trunc": "llvm.trunc.f64",
    "rint": "llvm.roundeven.f64",
    "copysign": "llvm.copysign.f64",
    "fma": "llvm.fma.f64",
}
_DECLARATION = re.compile(r"^declare (float|double) @__nv_(\w+)\((.*?)\).*$", re.MULTILINE)
_INTRINSIC = re.compile(r"call (?:float|double) @(llvm\.[\w.]+)\((.*?)\)")
# LLVM declares these itself where they are not used; a second declaration is an error.
_DECLARED = re.compile(r"^declare .*@([\w.]+)\(", re.MULTILINE)


def link(text: str) -> str:
    """
    Returns LLVM IR text with a body for each libdevice function of floats that it declares.

    Raises UpstreamError for a function that the direct way has no instruction for either.
    """
    intrinsics: dict[str, tuple[str, str]] = {}

    def define(match: re.Match[str]) -> str:
        kind, name, types = match.groups()
        parameters = ", ".join(f"{kind} %{x}" for x in "xyz"[: types.count(kind)])
        body = _BODIES.get(name)
        if body is None and name in _WIDE:
            body = f"%r = call double @{_WIDE[name]}({parameters})"
        if body is None:
            raise UpstreamError(f"upstream lowers to __nv_{name}, which has no instruction")
        for intrinsic in _INTRINSIC.finditer(body):
            arity = intrinsic[2].count(",") + 1
            intrinsics[intrinsic[1]] = kind, ", ".join([kind] * arity)
        return (
            f"define internal {kind} @__nv_{name}({parameters}) alwaysinline {{\n"
            f"  {body}\n  ret {kind} %r\n}}"
        )

    text = _DECLARATION.sub(define, text)
    declared = set(_DECLARED.findall(text))
    missing = [
        f"declare {kind} @{name}({types})"
        for name, (kind, types) in intrinsics.items()
        if name not in declared
    ]
    return "\n".join([text, *missing, ""])
