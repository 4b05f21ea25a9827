"""The instruction variants that record.py records, by family."""

from collections.abc import Iterator
from typing import NamedTuple

_MODES = ("rn", "rz", "rm", "rp")
_ORDERED = ("eq", "ne", "lt", "le", "gt", "ge")
_UNORDERED = ("equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan")


class Variant(NamedTuple):
    """
    One instruction: `text` names its operands a, b, c and its result o.

    `kinds` are the operands' types for the lattice of edges, `out` the result's. `ulps` is the
    documented bound of an approximate instruction, None where PTX promises every bit but those
    of a NaN. `target` is the first GPU that has it. The predicates q and r are free to use.
    """

    family: str
    name: str
    text: str
    kinds: tuple[str, ...]
    out: str
    ulps: int | None = None
    target: str = "sm_80"


def _of(family: str, opcode: str, kinds: str, out: str, ulps: int | None = None) -> Variant:
    operands = ", ".join("oabc"[: len(kinds.split()) + 1])
    return Variant(family, opcode, f"{opcode} {operands};", tuple(kinds.split()), out, ulps)


def _text(
    family: str, name: str, text: str, kinds: str, out: str, ulps: int | None = None
) -> Variant:
    return Variant(family, name, text, tuple(kinds.split()), out, ulps)


def variants() -> Iterator[Variant]:
    """Yields every variant."""
    yield from _integers()
    yield from _bits()
    yield from _floats()
    yield from _conversions()
    yield from _halves()
    yield from _more_integers()
    yield from _more_bits()
    yield from _more_floats()
    yield from _more_conversions()
    yield from _more_halves()
    yield from _comparisons()
    yield from _hopper()


def _integers() -> Iterator[Variant]:
    for sign in "us":
        for bits in (16, 32, 64):
            kind = f"{sign}{bits}"
            for op in ("add", "sub", "min", "max", "mul.lo", "mul.hi"):
                yield _of("integer", f"{op}.{kind}", f"{kind} {kind}", kind)
            yield _of("integer", f"mad.lo.{kind}", f"{kind} {kind} {kind}", kind)
            yield _of("integer", f"shr.{kind}", f"{kind} u32", kind)
        for op in ("mul24.lo", "mul24.hi"):
            yield _of("integer", f"{op}.{sign}32", f"{sign}32 {sign}32", f"{sign}32")
        yield _of("integer", f"mul.wide.{sign}32", f"{sign}32 {sign}32", f"{sign}64")
        yield _of("integer", f"sad.{sign}32", f"{sign}32 {sign}32 u32", "u32")
        for other in "us":
            yield _of("integer", f"dp4a.{sign}32.{other}32", f"{sign}32 {other}32 s32", "s32")
    for kind in ("s16", "s32", "s64"):
        yield _of("integer", f"neg.{kind}", kind, kind)
        yield _of("integer", f"abs.{kind}", kind, kind)
    yield _of("integer", "add.sat.s32", "s32 s32", "s32")
    yield _of("integer", "sub.sat.s32", "s32 s32", "s32")


def _bits() -> Iterator[Variant]:
    for bits in (16, 32, 64):
        kind = f"b{bits}"
        for op in ("and", "or", "xor"):
            yield _of("bits", f"{op}.{kind}", f"u{bits} u{bits}", f"u{bits}")
        yield _of("bits", f"not.{kind}", f"u{bits}", f"u{bits}")
        yield _of("bits", f"shl.{kind}", f"u{bits} u32", f"u{bits}")
    for kind in ("u32", "s32", "u64", "s64"):
        yield _of("bits", f"bfe.{kind}", f"{kind} u32 u32", kind)
        yield _of("bits", f"bfind.{kind}", kind, "u32")
    for bits in (32, 64):
        yield _of("bits", f"popc.b{bits}", f"u{bits}", "u32")
        yield _of("bits", f"clz.b{bits}", f"u{bits}", "u32")
        yield _of("bits", f"brev.b{bits}", f"u{bits}", f"u{bits}")
    for way in "lr":
        for mode in ("wrap", "clamp"):
            yield _of("bits", f"shf.{way}.{mode}.b32", "u32 u32 u32", "u32")
    yield _of("bits", "prmt.b32", "u32 u32 u32", "u32")


def _floats() -> Iterator[Variant]:
    for mode in _MODES:
        for ftz in ("", ".ftz"):
            for op in ("add", "sub", "mul"):
                yield _of("float", f"{op}.{mode}{ftz}.f32", "f32 f32", "f32")
            yield _of("float", f"fma.{mode}{ftz}.f32", "f32 f32 f32", "f32")
            yield _of("float", f"div.{mode}{ftz}.f32", "f32 f32", "f32")
            yield _of("float", f"sqrt.{mode}{ftz}.f32", "f32", "f32")
        for op in ("add", "mul", "div"):
            yield _of("float", f"{op}.{mode}.f64", "f64 f64", "f64")
        yield _of("float", f"fma.{mode}.f64", "f64 f64 f64", "f64")
    for op in ("min", "max", "min.NaN", "max.NaN", "min.ftz", "max.ftz"):
        yield _of("float", f"{op}.f32", "f32 f32", "f32")
    for op in ("neg", "abs"):
        yield _of("float", f"{op}.f32", "f32", "f32")
        yield _of("float", f"{op}.f64", "f64", "f64")
    for op, ulps in (("ex2", 2), ("rcp", 1), ("rsqrt", 2), ("sqrt", 1)):
        yield _of("approximate", f"{op}.approx.ftz.f32", "f32", "f32", ulps)
    yield _of("approximate", "div.full.f32", "f32 f32", "f32", 2)


def _conversions() -> Iterator[Variant]:
    for mode in ("rni", "rzi", "rmi", "rpi"):
        for kind in ("s32", "u32", "s64", "u64"):
            yield _of("conversion", f"cvt.{mode}.{kind}.f32", "f32", kind)
            yield _of("conversion", f"cvt.{mode}.{kind}.f64", "f64", kind)
        yield _of("conversion", f"cvt.{mode}.f32.f32", "f32", "f32")
    for mode in _MODES:
        for kind in ("s32", "u32", "s64", "u64"):
            yield _of("conversion", f"cvt.{mode}.f32.{kind}", kind, "f32")
        yield _of("conversion", f"cvt.{mode}.f32.f64", "f64", "f32")
    for mode in ("rn", "rz"):
        yield _of("conversion", f"cvt.{mode}.f16.f32", "f32", "f16")
        yield _of("conversion", f"cvt.{mode}.bf16.f32", "f32", "bf16")
        yield _of("conversion", f"cvt.{mode}.f16x2.f32", "f32 f32", "f16x2")
        yield _of("conversion", f"cvt.{mode}.bf16x2.f32", "f32 f32", "bf16x2")
    yield _of("conversion", "cvt.f32.f16", "f16", "f32")


def _halves() -> Iterator[Variant]:
    for op in ("add", "sub", "mul"):
        yield _of("half", f"{op}.f16", "f16 f16", "f16")
        yield _of("half", f"{op}.f16x2", "u32 u32", "f16x2")
    for kind, two in (("f16", "f16x2"), ("bf16", "bf16x2")):
        yield _of("half", f"fma.rn.{kind}", f"{kind} {kind} {kind}", kind)
        yield _of("half", f"fma.rn.{two}", "u32 u32 u32", two)
        for op in ("min", "max", "min.NaN", "max.NaN"):
            yield _of("half", f"{op}.{kind}", f"{kind} {kind}", kind)


def _more_integers() -> Iterator[Variant]:
    for kind in ("u16", "s16", "u32", "s32", "u64", "s64"):
        bits = kind[1:]
        for op in ("div", "rem"):  # what a division by zero gives is left open
            text = f"or.b{bits} b, b, 1; {op}.{kind} o, a, b;"
            yield _text("integer", f"{op}.{kind}", text, f"{kind} {kind}", kind)
        yield _of("integer", f"mad.hi.{kind}", f"{kind} {kind} {kind}", kind)
        if bits != "64":
            wide = f"{kind[0]}{2 * int(bits)}"
            yield _of("integer", f"mad.wide.{kind}", f"{kind} {kind} {wide}", wide)
        if kind != "u32" and kind != "s32":
            yield _of("integer", f"sad.{kind}", f"{kind} {kind} {kind}", kind)
        if bits != "16":
            for op in ("add", "sub"):
                text = f"{op}.cc.{kind} o, a, b; {op}c.{kind} o, c, a;"
                yield _text("integer", f"{op}c.{kind}", text, f"{kind} {kind} {kind}", kind)
            text = f"mad.lo.cc.{kind} o, a, b, c; madc.hi.{kind} o, a, b, c;"
            yield _text("integer", f"madc.hi.{kind}", text, f"{kind} {kind} {kind}", kind)
    for kind in ("u32", "s32"):
        for part in ("lo", "hi"):
            yield _of("integer", f"mad24.{part}.{kind}", f"{kind} {kind} {kind}", kind)
            for other in ("u32", "s32"):
                name = f"dp2a.{part}.{kind}.{other}"
                yield _of("integer", name, f"{kind} {other} s32", "s32")
        for mode in ("clamp", "wrap"):
            yield _of("integer", f"szext.{mode}.{kind}", f"{kind} u32", kind)
    yield _of("integer", "mad.hi.sat.s32", "s32 s32 s32", "s32")
    yield _of("integer", "mad24.hi.sat.s32", "s32 s32 s32", "s32")


def _more_bits() -> Iterator[Variant]:
    for bits in (16, 32, 64):
        yield _of("bits", f"cnot.b{bits}", f"u{bits}", f"u{bits}")
    for kind in ("u32", "s32", "u64", "s64"):
        yield _of("bits", f"bfind.shiftamt.{kind}", kind, "u32")
    for bits in (32, 64):
        text = f"bfi.b{bits} o, a, b, c, 7;"
        yield _text("bits", f"bfi.b{bits}", text, f"u{bits} u{bits} u32", f"u{bits}")
    for mode in ("f4e", "b4e", "rc8", "ecl", "ecr", "rc16"):
        yield _of("bits", f"prmt.b32.{mode}", "u32 u32 u32", "u32")
    for mode in ("clamp", "wrap"):
        yield _of("bits", f"bmsk.{mode}.b32", "u32 u32", "u32")
    text = "and.b32 b, b, 31; fns.b32 o, a, b, c;"  # a base above 31 is undefined
    yield _text("bits", "fns.b32", text, "u32 u32 s32", "u32")
    for table in (0x80, 0xE8, 0x1D, 0x69):
        name = f"lop3.b32 {table:#x}"
        yield _text("bits", name, f"lop3.b32 o, a, b, c, {table};", "u32 u32 u32", "u32")
    for join in ("or", "and"):
        text = f"setp.lt.u32 q, a, b; lop3.{join}.b32 o|r, a, b, c, 0x80, q; selp.u32 o, 1, 0, r;"
        yield _text("bits", f"lop3.{join}.b32", text, "u32 u32 u32", "u32")


def _more_floats() -> Iterator[Variant]:
    for mode in _MODES:
        yield _of("float", f"sub.{mode}.f64", "f64 f64", "f64")
        for op in ("rcp", "sqrt"):
            yield _of("float", f"{op}.{mode}.f64", "f64", "f64")
        yield _of("float", f"rcp.{mode}.f32", "f32", "f32")
        yield _of("float", f"add.{mode}.sat.f32", "f32 f32", "f32")
        yield _of("float", f"fma.{mode}.sat.f32", "f32 f32 f32", "f32")
    for op in ("min", "max"):
        yield _of("float", f"{op}.f64", "f64 f64", "f64")
        yield _of("float", f"{op}.ftz.NaN.f32", "f32 f32", "f32")
    for kind in ("f32", "f64"):
        yield _of("float", f"copysign.{kind}", f"{kind} {kind}", kind)
        for which in ("finite", "infinite", "number", "notanumber", "normal", "subnormal"):
            text = f"testp.{which}.{kind} q, a; selp.u32 o, 1, 0, q;"
            yield _text("float", f"testp.{which}.{kind}", text, kind, "u32")
    yield _of("approximate", "tanh.approx.f32", "f32", "f32", 1 << 13)
    yield _of("approximate", "rcp.approx.ftz.f64", "f64", "f64", 1 << 33)
    yield _of("approximate", "rsqrt.approx.ftz.f64", "f64", "f64", 1 << 33)


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
                yield _of("conversion", f"cvt.sat.{target}.{source}", source, target)
        for small in ("s8", "u8"):
            wide = f"{small[0]}32"
            yield _of("conversion", f"cvt.sat.{small}.{source}", source, wide)
        for mode in _MODES:
            yield _of("conversion", f"cvt.{mode}.f16.{source}", source, "f16")
            yield _of("conversion", f"cvt.{mode}.f64.{source}", source, "f64")
    for mode in ("rni", "rzi", "rmi", "rpi"):
        for kind in integers:
            yield _of("conversion", f"cvt.{mode}.{kind}.f16", "f16", kind)
        yield _of("conversion", f"cvt.{mode}.f16.f16", "f16", "f16")
        yield _of("conversion", f"cvt.{mode}.f64.f64", "f64", "f64")
        yield _of("conversion", f"cvt.{mode}.s8.f32", "f32", "s32")
        yield _of("conversion", f"cvt.{mode}.u8.f32", "f32", "u32")
    for mode in ("rm", "rp"):
        yield _of("conversion", f"cvt.{mode}.f16.f32", "f32", "f16")
    for mode in _MODES:
        yield _of("conversion", f"cvt.{mode}.f16.f64", "f64", "f16")
    for mode in ("rn", "rz"):
        for flag in ("relu", "satfinite", "relu.satfinite"):
            for kind in ("f16", "bf16"):
                yield _of("conversion", f"cvt.{mode}.{flag}.{kind}.f32", "f32", kind)
                yield _of("conversion", f"cvt.{mode}.{flag}.{kind}x2.f32", "f32 f32", f"{kind}x2")
    yield _of("conversion", "cvt.rna.tf32.f32", "f32", "u32")
    for kind in ("u16", "s16"):
        yield _of("conversion", f"cvt.pack.sat.{kind}.s32", "s32 s32", "u32")
    for kind in ("u8", "s8", "u4", "s4", "u2", "s2"):
        yield _of("conversion", f"cvt.pack.sat.{kind}.s32.b32", "s32 s32 u32", "u32")


def _more_halves() -> Iterator[Variant]:
    for kind, three in (("f16", "f16 f16 f16"), ("f16x2", "u32 u32 u32")):
        one, two = three.split()[0], three.rpartition(" ")[0]
        for op in ("add", "sub", "mul"):
            for flags in ("ftz", "sat", "ftz.sat"):
                yield _of("half", f"{op}.{flags}.{kind}", two, kind)
        for flags in ("ftz", "sat", "relu", "ftz.relu"):
            yield _of("half", f"fma.rn.{flags}.{kind}", three, kind)
        for op in ("neg", "abs"):
            yield _of("half", f"{op}.{kind}", one, kind)
            yield _of("half", f"{op}.ftz.{kind}", one, kind)
        for op in ("min", "max"):
            yield _of("half", f"{op}.ftz.{kind}", two, kind)
        for op in ("ex2", "tanh"):
            yield _of("approximate", f"{op}.approx.{kind}", one, kind, 2)
    for kind, three in (("bf16", "bf16 bf16 bf16"), ("bf16x2", "u32 u32 u32")):
        one, two = three.split()[0], three.rpartition(" ")[0]
        yield _of("half", f"fma.rn.relu.{kind}", three, kind)
        for op in ("neg", "abs"):
            yield _of("half", f"{op}.{kind}", one, kind)


def _comparisons() -> Iterator[Variant]:
    for kind in ("f16", "f32", "f64"):
        for comparison in (*_ORDERED, *_UNORDERED):
            text = f"setp.{comparison}.{kind} q, a, b; selp.u32 o, 1, 0, q;"
            yield _text("compare", f"setp.{comparison}.{kind}", text, f"{kind} {kind}", "u32")
    for comparison in (*_ORDERED, *_UNORDERED):
        text = f"setp.{comparison}.f16x2 q|r, a, b; selp.u32 a, 1, 0, q; selp.u32 b, 2, 0, r;"
        text += " or.b32 o, a, b;"
        yield _text("compare", f"setp.{comparison}.f16x2", text, "u32 u32", "u32")
        yield _of("compare", f"set.{comparison}.f16x2.f16x2", "u32 u32", "f16x2")
        yield _of("compare", f"set.{comparison}.u32.f32", "f32 f32", "u32")
        yield _of("compare", f"set.{comparison}.ftz.f32.f32", "f32 f32", "f32")
    for kind in ("u16", "s16", "u32", "s32", "u64", "s64"):
        for comparison in _ORDERED:
            text = f"setp.{comparison}.{kind} q, a, b; selp.u32 o, 1, 0, q;"
            yield _text("compare", f"setp.{comparison}.{kind}", text, f"{kind} {kind}", "u32")
    for kind in ("s32", "f32"):
        yield _of("compare", f"slct.u32.{kind}", f"u32 u32 {kind}", "u32")


def _hopper() -> Iterator[Variant]:
    """Yields what sm_90 has and sm_80 does not."""
    found: list[Variant] = []
    for kind in ("f32", "f16", "f16x2", "bf16", "bf16x2"):
        two = "u32 u32" if kind.endswith("x2") else f"{kind} {kind}"
        for op in ("min", "max"):  # since sm_86
            found.append(_of("hopper", f"{op}.xorsign.abs.{kind}", two, kind))
            found.append(_of("hopper", f"{op}.NaN.xorsign.abs.{kind}", two, kind))
    for kind, two in (("bf16", "bf16 bf16"), ("bf16x2", "u32 u32")):
        found += [_of("hopper", f"{op}.{kind}", two, kind) for op in ("add", "sub", "mul")]
    for kind in ("u16x2", "s16x2"):
        found += [_of("hopper", f"{op}.{kind}", "u32 u32", "u32") for op in ("add", "min", "max")]
    found += [_of("hopper", f"{op}.relu.s16x2", "u32 u32", "u32") for op in ("min", "max")]
    found += [_of("hopper", f"{op}.relu.s32", "s32 s32", "s32") for op in ("min", "max")]
    for kind in ("e4m3x2", "e5m2x2"):
        for flag in ("", ".relu"):
            head = f"cvt.rn.satfinite{flag}.{kind}"
            found.append(_of("hopper", f"{head}.f32", "f32 f32", "u16"))
            found.append(_of("hopper", f"{head}.f16x2", "u32", "u16"))
            found.append(_of("hopper", f"cvt.rn{flag}.f16x2.{kind}", "u16", "f16x2"))
    for mode in _MODES:
        found.append(_of("hopper", f"cvt.{mode}.bf16.f64", "f64", "bf16"))
        found += [_of("hopper", f"cvt.{mode}.bf16.{k}", k, "bf16") for k in ("s32", "u32", "u64")]
    for kind in ("s32", "u32", "s64", "u16"):
        found.append(_of("hopper", f"cvt.rzi.{kind}.bf16", "bf16", kind))
    found.append(_of("hopper", "cvt.f32.bf16", "bf16", "f32"))
    found.append(_of("hopper", "cvt.rn.bf16.f16", "f16", "bf16"))
    found.append(_of("hopper", "cvt.rn.relu.tf32.f32", "f32", "u32"))
    for comparison in ("eq", "lt", "geu", "nan"):
        text = f"setp.{comparison}.bf16 q, a, b; selp.u32 o, 1, 0, q;"
        found.append(_text("hopper", f"setp.{comparison}.bf16", text, "bf16 bf16", "u32"))
    for variant in found:
        yield variant._replace(target="sm_90")
