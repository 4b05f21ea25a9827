"""Scalar arithmetic: integers, bits, floats of all sizes, and approximate functions."""

from collections.abc import Iterator

from .scalars import scalar, script
from .variant import INDEX, Variant, loads, words

MODES = ("rn", "rz", "rm", "rp")


def variants() -> Iterator[Variant]:
    """Yields every variant."""
    yield from _integers()
    yield from _more_integers()
    yield from _bits()
    yield from _more_bits()
    yield _lop3()
    yield from _floats()
    yield from _more_floats()
    yield from _halves()
    yield from _more_halves()


def _integers() -> Iterator[Variant]:
    for sign in "us":
        for bits in (16, 32, 64):
            kind = f"{sign}{bits}"
            for op in ("add", "sub", "min", "max", "mul.lo", "mul.hi"):
                yield scalar("integer", f"{op}.{kind}", f"{kind} {kind}", kind)
            yield scalar("integer", f"mad.lo.{kind}", f"{kind} {kind} {kind}", kind)
            yield scalar("integer", f"shr.{kind}", f"{kind} u32", kind)
        for op in ("mul24.lo", "mul24.hi"):
            yield scalar("integer", f"{op}.{sign}32", f"{sign}32 {sign}32", f"{sign}32")
        yield scalar("integer", f"mul.wide.{sign}32", f"{sign}32 {sign}32", f"{sign}64")
        yield scalar("integer", f"sad.{sign}32", f"{sign}32 {sign}32 u32", "u32")
        for other in "us":
            yield scalar("integer", f"dp4a.{sign}32.{other}32", f"{sign}32 {other}32 s32", "s32")
    for kind in ("s16", "s32", "s64"):
        yield scalar("integer", f"neg.{kind}", kind, kind)
        yield scalar("integer", f"abs.{kind}", kind, kind)
    yield scalar("integer", "add.sat.s32", "s32 s32", "s32")
    yield scalar("integer", "sub.sat.s32", "s32 s32", "s32")


def _more_integers() -> Iterator[Variant]:
    for kind in ("u16", "s16", "u32", "s32", "u64", "s64"):
        bits = kind[1:]
        for op in ("div", "rem"):  # what a division by zero gives is left open
            text = f"or.b{bits} b, b, 1; {op}.{kind} o, a, b;"
            yield script("integer", f"{op}.{kind}", text, f"{kind} {kind}", kind)
        yield scalar("integer", f"mad.hi.{kind}", f"{kind} {kind} {kind}", kind)
        if bits != "64":
            wide = f"{kind[0]}{2 * int(bits)}"
            yield scalar("integer", f"mad.wide.{kind}", f"{kind} {kind} {wide}", wide)
        if kind != "u32" and kind != "s32":
            yield scalar("integer", f"sad.{kind}", f"{kind} {kind} {kind}", kind)
        if bits != "16":
            for op in ("add", "sub"):
                text = f"{op}.cc.{kind} o, a, b; {op}c.{kind} o, c, a;"
                yield script("integer", f"{op}c.{kind}", text, f"{kind} {kind} {kind}", kind)
            text = f"mad.lo.cc.{kind} o, a, b, c; madc.hi.{kind} o, a, b, c;"
            yield script("integer", f"madc.hi.{kind}", text, f"{kind} {kind} {kind}", kind)
    for kind in ("u32", "s32"):
        for part in ("lo", "hi"):
            yield scalar("integer", f"mad24.{part}.{kind}", f"{kind} {kind} {kind}", kind)
            for other in ("u32", "s32"):
                name = f"dp2a.{part}.{kind}.{other}"
                yield scalar("integer", name, f"{kind} {other} s32", "s32")
        for mode in ("clamp", "wrap"):
            yield scalar("integer", f"szext.{mode}.{kind}", f"{kind} u32", kind)
    yield scalar("integer", "mad.hi.sat.s32", "s32 s32 s32", "s32")
    yield scalar("integer", "mad24.hi.sat.s32", "s32 s32 s32", "s32")


def _bits() -> Iterator[Variant]:
    for bits in (16, 32, 64):
        kind = f"b{bits}"
        for op in ("and", "or", "xor"):
            yield scalar("bits", f"{op}.{kind}", f"u{bits} u{bits}", f"u{bits}")
        yield scalar("bits", f"not.{kind}", f"u{bits}", f"u{bits}")
        yield scalar("bits", f"shl.{kind}", f"u{bits} u32", f"u{bits}")
    for kind in ("u32", "s32", "u64", "s64"):
        yield scalar("bits", f"bfe.{kind}", f"{kind} u32 u32", kind)
        yield scalar("bits", f"bfind.{kind}", kind, "u32")
    for bits in (32, 64):
        yield scalar("bits", f"popc.b{bits}", f"u{bits}", "u32")
        yield scalar("bits", f"clz.b{bits}", f"u{bits}", "u32")
        yield scalar("bits", f"brev.b{bits}", f"u{bits}", f"u{bits}")
    for way in "lr":
        for mode in ("wrap", "clamp"):
            yield scalar("bits", f"shf.{way}.{mode}.b32", "u32 u32 u32", "u32")
    yield scalar("bits", "prmt.b32", "u32 u32 u32", "u32")


def _more_bits() -> Iterator[Variant]:
    for bits in (16, 32, 64):
        yield scalar("bits", f"cnot.b{bits}", f"u{bits}", f"u{bits}")
    for kind in ("u32", "s32", "u64", "s64"):
        yield scalar("bits", f"bfind.shiftamt.{kind}", kind, "u32")
    for bits in (32, 64):
        text = f"bfi.b{bits} o, a, b, c, 7;"
        yield script("bits", f"bfi.b{bits}", text, f"u{bits} u{bits} u32", f"u{bits}")
    for mode in ("f4e", "b4e", "rc8", "ecl", "ecr", "rc16"):
        yield scalar("bits", f"prmt.b32.{mode}", "u32 u32 u32", "u32")
    for mode in ("clamp", "wrap"):
        yield scalar("bits", f"bmsk.{mode}.b32", "u32 u32", "u32")
    text = "and.b32 b, b, 31; fns.b32 o, a, b, c;"  # a base above 31 is undefined
    yield script("bits", "fns.b32", text, "u32 u32 s32", "u32")
    for join in ("or", "and"):
        text = f"setp.lt.u32 q, a, b; lop3.{join}.b32 o|r, a, b, c, 0x80, q; selp.u32 o, 1, 0, r;"
        yield script("bits", f"lop3.{join}.b32", text, "u32 u32 u32", "u32")
    for selector in (0x0000, 0x3210, 0x7654, 0x0123, 0x5410, 0x8888, 0xFB73, 0x9ACE):
        text = f"prmt.b32 o, a, b, {selector:#x};"
        yield script("bits", f"prmt.b32 {selector:#x}", text, "u32 u32", "u32")


def _floats() -> Iterator[Variant]:
    for mode in MODES:
        for ftz in ("", ".ftz"):
            for op in ("add", "sub", "mul"):
                yield scalar("float", f"{op}.{mode}{ftz}.f32", "f32 f32", "f32")
            yield scalar("float", f"fma.{mode}{ftz}.f32", "f32 f32 f32", "f32")
            yield scalar("float", f"div.{mode}{ftz}.f32", "f32 f32", "f32")
            yield scalar("float", f"sqrt.{mode}{ftz}.f32", "f32", "f32")
        for op in ("add", "mul", "div"):
            yield scalar("float", f"{op}.{mode}.f64", "f64 f64", "f64")
        yield scalar("float", f"fma.{mode}.f64", "f64 f64 f64", "f64")
    for op in ("min", "max", "min.NaN", "max.NaN", "min.ftz", "max.ftz"):
        yield scalar("float", f"{op}.f32", "f32 f32", "f32")
    for op in ("neg", "abs"):
        yield scalar("float", f"{op}.f32", "f32", "f32")
        yield scalar("float", f"{op}.f64", "f64", "f64")
    for op, ulps in (("ex2", 2), ("rcp", 1), ("rsqrt", 2), ("sqrt", 1)):
        yield scalar("approximate", f"{op}.approx.ftz.f32", "f32", "f32", ulps)
    yield scalar("approximate", "div.full.f32", "f32 f32", "f32", 2)


def _more_floats() -> Iterator[Variant]:
    for mode in MODES:
        yield scalar("float", f"sub.{mode}.f64", "f64 f64", "f64")
        for op in ("rcp", "sqrt"):
            yield scalar("float", f"{op}.{mode}.f64", "f64", "f64")
        yield scalar("float", f"rcp.{mode}.f32", "f32", "f32")
        yield scalar("float", f"add.{mode}.sat.f32", "f32 f32", "f32")
        yield scalar("float", f"fma.{mode}.sat.f32", "f32 f32 f32", "f32")
    for op in ("min", "max"):
        yield scalar("float", f"{op}.f64", "f64 f64", "f64")
        yield scalar("float", f"{op}.ftz.NaN.f32", "f32 f32", "f32")
    for kind in ("f32", "f64"):
        yield scalar("float", f"copysign.{kind}", f"{kind} {kind}", kind)
        for which in ("finite", "infinite", "number", "notanumber", "normal", "subnormal"):
            text = f"testp.{which}.{kind} q, a; selp.u32 o, 1, 0, q;"
            yield script("float", f"testp.{which}.{kind}", text, kind, "u32")
    yield scalar("approximate", "tanh.approx.f32", "f32", "f32", 1 << 13)
    yield scalar("approximate", "rcp.approx.ftz.f64", "f64", "f64", 1 << 33)
    yield scalar("approximate", "rsqrt.approx.ftz.f64", "f64", "f64", 1 << 33)


def _halves() -> Iterator[Variant]:
    for op in ("add", "sub", "mul"):
        yield scalar("half", f"{op}.f16", "f16 f16", "f16")
        yield scalar("half", f"{op}.f16x2", "u32 u32", "f16x2")
    for kind, two in (("f16", "f16x2"), ("bf16", "bf16x2")):
        yield scalar("half", f"fma.rn.{kind}", f"{kind} {kind} {kind}", kind)
        yield scalar("half", f"fma.rn.{two}", "u32 u32 u32", two)
        for op in ("min", "max", "min.NaN", "max.NaN"):
            yield scalar("half", f"{op}.{kind}", f"{kind} {kind}", kind)


def _more_halves() -> Iterator[Variant]:
    for kind, three in (("f16", "f16 f16 f16"), ("f16x2", "u32 u32 u32")):
        one, two = three.split()[0], three.rpartition(" ")[0]
        for op in ("add", "sub", "mul"):
            for flags in ("ftz", "sat", "ftz.sat"):
                yield scalar("half", f"{op}.{flags}.{kind}", two, kind)
        for flags in ("ftz", "sat", "relu", "ftz.relu"):
            yield scalar("half", f"fma.rn.{flags}.{kind}", three, kind)
        for op in ("neg", "abs"):
            yield scalar("half", f"{op}.{kind}", one, kind)
            yield scalar("half", f"{op}.ftz.{kind}", one, kind)
        for op in ("min", "max"):
            yield scalar("half", f"{op}.ftz.{kind}", two, kind)
        for op in ("ex2", "tanh"):
            yield scalar("approximate", f"{op}.approx.{kind}", one, kind, 2)
    for kind, three in (("bf16", "bf16 bf16 bf16"), ("bf16x2", "u32 u32 u32")):
        one, two = three.split()[0], three.rpartition(" ")[0]
        yield scalar("half", f"fma.rn.relu.{kind}", three, kind)
        for op in ("neg", "abs"):
            yield scalar("half", f"{op}.{kind}", one, kind)


def _lop3() -> Variant:
    """Returns lop3 with all 256 immediates: a row of results each."""
    threads = 32
    lines = [INDEX, loads("a", "u32", 1, threads), loads("b", "u32", 1, threads)]
    lines += [loads("c", "u32", 1, threads), ".reg .b32 o;"]
    lines += ["ld.param.u64 at, [po]; mad.wide.u32 at, t, 4, at;"]
    for table in range(256):
        lines += [f"lop3.b32 o, a0, b0, c0, {table};"]
        lines += [f"st.global.b32 [at+{4 * threads * table}], o;"]
    return Variant(
        family="bits",
        name="lop3.b32",
        body="\n".join(lines),
        out="u32",
        count=256 * threads,
        operands=lambda generator: [words(generator, threads) for _ in "abc"],
    )
