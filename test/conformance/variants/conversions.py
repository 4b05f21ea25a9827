"""Conversions and comparisons, and what scalars of sm_90 have more than those of sm_80."""

from collections.abc import Iterator
from dataclasses import replace

from .arithmetic import MODES
from .scalars import scalar, script
from .variant import Variant

_ORDERED = ("eq", "ne", "lt", "le", "gt", "ge")
_UNORDERED = ("equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan")


def variants() -> Iterator[Variant]:
    """Yields every variant."""
    yield from _conversions()
    yield from _more_conversions()
    yield from _saturations()
    yield from _comparisons()
    yield from _hopper()


def _conversions() -> Iterator[Variant]:
    for mode in ("rni", "rzi", "rmi", "rpi"):
        for kind in ("s32", "u32", "s64", "u64"):
            yield scalar("conversion", f"cvt.{mode}.{kind}.f32", "f32", kind)
            yield scalar("conversion", f"cvt.{mode}.{kind}.f64", "f64", kind)
        yield scalar("conversion", f"cvt.{mode}.f32.f32", "f32", "f32")
    for mode in MODES:
        for kind in ("s32", "u32", "s64", "u64"):
            yield scalar("conversion", f"cvt.{mode}.f32.{kind}", kind, "f32")
        yield scalar("conversion", f"cvt.{mode}.f32.f64", "f64", "f32")
    for mode in ("rn", "rz"):
        yield scalar("conversion", f"cvt.{mode}.f16.f32", "f32", "f16")
        yield scalar("conversion", f"cvt.{mode}.bf16.f32", "f32", "bf16")
        yield scalar("conversion", f"cvt.{mode}.f16x2.f32", "f32 f32", "f16x2")
        yield scalar("conversion", f"cvt.{mode}.bf16x2.f32", "f32 f32", "bf16x2")
    yield scalar("conversion", "cvt.f32.f16", "f16", "f32")


def _holds(target: str, source: str) -> bool:
    """Says whether an integer type holds every value of another one; .sat is illegal then."""
    if target[0] == source[0]:
        return int(target[1:]) >= int(source[1:])
    return target[0] == "s" and int(target[1:]) > int(source[1:])


def _more_conversions() -> Iterator[Variant]:
    integers = ("s16", "u16", "s32", "u32", "s64", "u64")
    for source in integers:
        for target in integers:
            if source != target and not _holds(target, source):
                yield scalar("conversion", f"cvt.sat.{target}.{source}", source, target)
        for small in ("s8", "u8"):
            wide = f"{small[0]}32"
            yield scalar("conversion", f"cvt.sat.{small}.{source}", source, wide)
        for mode in MODES:
            yield scalar("conversion", f"cvt.{mode}.f16.{source}", source, "f16")
            yield scalar("conversion", f"cvt.{mode}.f64.{source}", source, "f64")
    for mode in ("rni", "rzi", "rmi", "rpi"):
        for kind in integers:
            yield scalar("conversion", f"cvt.{mode}.{kind}.f16", "f16", kind)
        yield scalar("conversion", f"cvt.{mode}.f16.f16", "f16", "f16")
        yield scalar("conversion", f"cvt.{mode}.f64.f64", "f64", "f64")
        yield scalar("conversion", f"cvt.{mode}.s8.f32", "f32", "s32")
        yield scalar("conversion", f"cvt.{mode}.u8.f32", "f32", "u32")
    for mode in ("rm", "rp"):
        yield scalar("conversion", f"cvt.{mode}.f16.f32", "f32", "f16")
    for mode in MODES:
        yield scalar("conversion", f"cvt.{mode}.f16.f64", "f64", "f16")
    for mode in ("rn", "rz"):
        for flag in ("relu", "satfinite", "relu.satfinite"):
            for kind in ("f16", "bf16"):
                yield scalar("conversion", f"cvt.{mode}.{flag}.{kind}.f32", "f32", kind)
                yield scalar(
                    "conversion", f"cvt.{mode}.{flag}.{kind}x2.f32", "f32 f32", f"{kind}x2"
                )
    yield scalar("conversion", "cvt.rna.tf32.f32", "f32", "u32")
    for kind in ("u16", "s16"):
        yield scalar("conversion", f"cvt.pack.sat.{kind}.s32", "s32 s32", "u32")
    for kind in ("u8", "s8", "u4", "s4", "u2", "s2"):
        yield scalar("conversion", f"cvt.pack.sat.{kind}.s32.b32", "s32 s32 u32", "u32")


def _saturations() -> Iterator[Variant]:
    """Yields conversions of floats with .sat."""
    for kind in ("u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64"):
        for source in ("f32", "f64"):
            wide = f"{kind[0]}32" if kind[1:] == "8" else kind
            yield scalar("conversion", f"cvt.rni.sat.{kind}.{source}", source, wide)
    yield scalar("conversion", "cvt.sat.f32.f32", "f32", "f32")
    yield scalar("conversion", "cvt.ftz.sat.f32.f32", "f32", "f32")
    yield scalar("conversion", "cvt.rn.sat.f16.f32", "f32", "f16")
    yield scalar("conversion", "cvt.rn.sat.f32.f64", "f64", "f32")


def _comparisons() -> Iterator[Variant]:
    for kind in ("f16", "f32", "f64"):
        for comparison in (*_ORDERED, *_UNORDERED):
            text = f"setp.{comparison}.{kind} q, a, b; selp.u32 o, 1, 0, q;"
            yield script("compare", f"setp.{comparison}.{kind}", text, f"{kind} {kind}", "u32")
    for comparison in (*_ORDERED, *_UNORDERED):
        text = f"setp.{comparison}.f16x2 q|r, a, b; selp.u32 a, 1, 0, q; selp.u32 b, 2, 0, r;"
        text += " or.b32 o, a, b;"
        yield script("compare", f"setp.{comparison}.f16x2", text, "u32 u32", "u32")
        yield scalar("compare", f"set.{comparison}.f16x2.f16x2", "u32 u32", "f16x2")
        yield scalar("compare", f"set.{comparison}.u32.f32", "f32 f32", "u32")
        yield scalar("compare", f"set.{comparison}.ftz.f32.f32", "f32 f32", "f32")
    for kind in ("u16", "s16", "u32", "s32", "u64", "s64"):
        for comparison in _ORDERED:
            text = f"setp.{comparison}.{kind} q, a, b; selp.u32 o, 1, 0, q;"
            yield script("compare", f"setp.{comparison}.{kind}", text, f"{kind} {kind}", "u32")
    for kind in ("s32", "f32"):
        yield scalar("compare", f"slct.u32.{kind}", f"u32 u32 {kind}", "u32")


def _hopper() -> Iterator[Variant]:
    """Yields what sm_90 has and sm_80 does not."""
    found: list[Variant] = []
    for kind in ("f32", "f16", "f16x2", "bf16", "bf16x2"):
        two = "u32 u32" if kind.endswith("x2") else f"{kind} {kind}"
        for op in ("min", "max"):  # since sm_86
            found.append(scalar("hopper", f"{op}.xorsign.abs.{kind}", two, kind))
            found.append(scalar("hopper", f"{op}.NaN.xorsign.abs.{kind}", two, kind))
    for kind, two in (("bf16", "bf16 bf16"), ("bf16x2", "u32 u32")):
        found += [scalar("hopper", f"{op}.{kind}", two, kind) for op in ("add", "sub", "mul")]
    for kind in ("u16x2", "s16x2"):
        found += [
            scalar("hopper", f"{op}.{kind}", "u32 u32", "u32") for op in ("add", "min", "max")
        ]
    found += [scalar("hopper", f"{op}.relu.s16x2", "u32 u32", "u32") for op in ("min", "max")]
    found += [scalar("hopper", f"{op}.relu.s32", "s32 s32", "s32") for op in ("min", "max")]
    for kind in ("e4m3x2", "e5m2x2"):
        for flag in ("", ".relu"):
            head = f"cvt.rn.satfinite{flag}.{kind}"
            found.append(scalar("hopper", f"{head}.f32", "f32 f32", "u16"))
            found.append(scalar("hopper", f"{head}.f16x2", "u32", "u16"))
            found.append(scalar("hopper", f"cvt.rn{flag}.f16x2.{kind}", "u16", "f16x2"))
    for mode in MODES:
        found.append(scalar("hopper", f"cvt.{mode}.bf16.f64", "f64", "bf16"))
        found += [
            scalar("hopper", f"cvt.{mode}.bf16.{k}", k, "bf16") for k in ("s32", "u32", "u64")
        ]
    for kind in ("s32", "u32", "s64", "u16"):
        found.append(scalar("hopper", f"cvt.rzi.{kind}.bf16", "bf16", kind))
    found.append(scalar("hopper", "cvt.f32.bf16", "bf16", "f32"))
    found.append(scalar("hopper", "cvt.rn.bf16.f16", "f16", "bf16"))
    found.append(scalar("hopper", "cvt.rn.relu.tf32.f32", "f32", "u32"))
    for comparison in ("eq", "lt", "geu", "nan"):
        text = f"setp.{comparison}.bf16 q, a, b; selp.u32 o, 1, 0, q;"
        found.append(script("hopper", f"setp.{comparison}.bf16", text, "bf16 bf16", "u32"))
    for variant in found:
        yield replace(variant, target="sm_90")
