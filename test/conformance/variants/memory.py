"""Loads, stores, atomic operations, and where dynamic shared memory begins."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from .matrices import codes
from .variant import INDEX, Array, Variant, group, loads, size_of, stores, words

THREADS = 64


def variants() -> Iterator[Variant]:
    """Yields every variant."""
    yield from _moves()
    yield from _atomics()
    yield from _contended()
    yield from _vectors()
    yield _dynamic()


def _moves() -> Iterator[Variant]:
    """Yields loads that extend and stores that cut off, of one element and of vectors."""
    for kind in ("u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64"):
        for count in (1, 2, 4):
            if size_of(kind) * count > 16:
                continue
            for space in ("global", "shared"):
                yield _load(kind, count, space)
            yield _store(kind, count)


def _vector(count: int) -> str:
    return f".v{count}" if count > 1 else ""


def _load(kind: str, count: int, space: str) -> Variant:
    """Returns a load into 64-bit registers, which are wider than what is loaded."""
    size = size_of(kind) * count
    lines = [INDEX, f".reg .b64 o<{count}>, from; .reg .b32 s;"]
    lines += [f"ld.param.u64 from, [pa]; mad.wide.u32 from, t, {size}, from;"]
    target = group("o", count) if count > 1 else "o0"
    if space == "global":
        lines += [f"ld.global{_vector(count)}.{kind} {target}, [from];"]
    else:
        lines += [f".shared .align 16 .b8 tile[{16 * THREADS}]; mov.u32 s, tile;"]
        lines += [f"mad.lo.u32 s, t, {size}, s; .reg .b16 h;"]
        lines += [f"ld.global.b8 h, [from+{i}]; st.shared.b8 [s+{i}], h;" for i in range(size)]
        lines += [f"ld.shared{_vector(count)}.{kind} {target}, [s];"]
    lines += [stores([f"o{i}" for i in range(count)], "u64", THREADS)]
    return Variant(
        family="memory",
        name=f"ld.{space}{_vector(count)}.{kind}",
        body="\n".join(lines),
        out="u64",
        count=count * THREADS,
        operands=lambda generator: [words(generator, size * THREADS, kind="u1")],
        block=THREADS,
    )


def _store(kind: str, count: int) -> Variant:
    """Returns a store from 64-bit registers, which are wider than what is stored."""
    size = size_of(kind) * count
    lines = [INDEX, loads("a", "u64", count, THREADS), ".reg .b64 to;"]
    lines += [f"ld.param.u64 to, [po]; mad.wide.u32 to, t, {size}, to;"]
    source = group("a", count) if count > 1 else "a0"
    lines += [f"st.global{_vector(count)}.{kind} [to], {source};"]
    return Variant(
        family="memory",
        name=f"st.global{_vector(count)}.{kind}",
        body="\n".join(lines),
        out="u8",
        count=size * THREADS,
        operands=lambda generator: [words(generator, count, THREADS, kind="u8")],
        block=THREADS,
    )


# Operation, type, and how many operands it takes after the address.
_OPERATIONS = [
    *[("add", kind, 1) for kind in ("u32", "s32", "u64", "f32", "f64")],
    *[("add.noftz", kind, 1) for kind in ("f16", "bf16", "f16x2", "bf16x2")],
    *[(op, kind, 1) for op in ("min", "max") for kind in ("u32", "s32", "u64", "s64")],
    *[(op, kind, 1) for op in ("and", "or", "xor", "exch") for kind in ("b32", "b64")],
    *[(op, "u32", 1) for op in ("inc", "dec")],
    *[("cas", kind, 2) for kind in ("b16", "b32", "b64")],
]


def _old(kind: str, generator: np.random.Generator, count: int) -> list[Array]:
    """Returns operands of atomics: some alike, so that cas and inc meet equal ones."""
    if kind.rstrip("x2") in ("f16", "bf16") or kind in ("f32", "f64"):
        size = size_of(kind)
        values = (generator.integers(-99, 100, 2 * THREADS * size) for _ in range(count))
        base = kind.removesuffix("x2")
        return [codes(v, base).view(f"u{size}")[:THREADS] for v in values]
    found = [words(generator, THREADS, kind=f"u{size_of(kind)}") for _ in range(count)]
    found[0][: THREADS // 2] = found[-1][: THREADS // 2]
    return found


def _atomics() -> Iterator[Variant]:
    """Yields atomics of lanes at places of their own: old values in front of new ones."""
    for operation, kind, more in _OPERATIONS:
        spaces = ("global", "shared") if "f16" not in kind else ("global",)
        for space in spaces:
            yield _atomic(operation, kind, more, space)


def _atomic(operation: str, kind: str, more: int, space: str) -> Variant:
    size = size_of(kind)
    bits = f"u{8 * size}"
    lines = [INDEX, loads("a", kind, 1, THREADS), loads("b", kind, 1, THREADS)]
    lines += [loads("c", kind, 1, THREADS) if more > 1 else "", ".reg .b64 to; .reg .b32 s;"]
    lines += [f".shared .align 16 .b8 tile[{8 * THREADS}];"] if space == "shared" else []
    held = kind if kind in ("f32", "f64") else f"b{8 * size}"
    lines += [f".reg .{held} o<2>; ld.param.u64 to, [po]; mad.wide.u32 to, t, {size}, to;"]
    target = f"to+{THREADS * size}"
    if space == "shared":
        lines += [f"mov.u32 s, tile; mad.lo.u32 s, t, {size}, s;"]
        target = "s"
    values = "b0, c0" if more > 1 else "b0"
    lines += [f"st.{space}.{held} [{target}], a0;"]
    lines += [f"atom.{space}.{operation}.{kind} o0, [{target}], {values};"]
    lines += [f"ld.{space}.{held} o1, [{target}];", stores(["o0", "o1"], held_kind(held), THREADS)]
    return Variant(
        family="atomic",
        name=f"atom.{space}.{operation}.{kind}",
        body="\n".join(lines),
        out=kind if kind.rstrip("x2") in ("f16", "bf16", "f32", "f64") else bits,
        count=2 * THREADS,
        operands=lambda generator: _old(kind, generator, 1 + more),
        block=THREADS,
        target="sm_90" if "bf16" in kind else "sm_80",
    )


def held_kind(held: str) -> str:
    """Returns a register's type as a type of memory."""
    return held.replace("b", "u") if held[0] == "b" else held


def _contended() -> Iterator[Variant]:
    """Yields reductions of 4 CTAs at few places, whose order doesn't matter."""
    kinds = [("add", kind) for kind in ("u32", "s32", "u64", "f32", "f64")]
    kinds += [(op, kind) for op in ("min", "max") for kind in ("u32", "s32", "u64", "s64")]
    kinds += [(op, kind) for op in ("and", "or", "xor") for kind in ("b32", "b64")]
    kinds += [("inc", "u32"), ("dec", "u32")]
    for operation, kind in kinds:
        size, places = size_of(kind), 8
        lines = [
            INDEX,
            loads("a", kind, 1, 4 * THREADS),
            f".reg .b32 s; and.b32 s, t, {places - 1};",
        ]
        lines += [f".reg .b64 to; ld.param.u64 to, [po]; mad.wide.u32 to, s, {size}, to;"]
        if operation in ("inc", "dec"):  # the bound has to be one for the order not to matter
            lines += ["mov.u32 a0, 20;"]
        lines += [f"red.global.{operation}.{kind} [to], a0;"]
        yield Variant(
            family="atomic",
            name=f"red.global.{operation}.{kind}",
            body="\n".join(lines),
            out=kind if kind[0] == "f" else f"u{8 * size}",
            count=places,
            operands=partial(_added, kind, places),
            grid=4,
            block=THREADS,
            keeps=True,
        )


def _added(kind: str, places: int, generator: np.random.Generator) -> list[Array]:
    """Returns one operand a thread and what the places begin with; floats are whole."""
    found = [words(generator, count, kind=f"u{size_of(kind)}") for count in (4 * THREADS, places)]
    if kind[0] == "f":
        found = [codes(generator.integers(-99, 100, array.size), "tf32" if kind == "f32" else kind)
                 for array in found]  # fmt: skip
    return found


def _vectors() -> Iterator[Variant]:
    """Yields atomics of vectors: old values in front of new ones."""
    rows = [("f32", count, "add") for count in (2, 4)]
    for kind in ("f16", "bf16"):
        rows += [
            (kind, count, f"{op}.noftz") for count in (2, 4, 8) for op in ("add", "min", "max")
        ]
        rows += [
            (f"{kind}x2", count, f"{op}.noftz") for count in (2, 4) for op in ("add", "min", "max")
        ]
    for kind, count, operation in rows:
        yield _atomic_vector(kind, count, operation)


def _atomic_vector(kind: str, count: int, operation: str) -> Variant:
    size = size_of(kind)
    held = "f32" if kind == "f32" else f"b{8 * size}"
    lines = [INDEX, loads("a", kind, count, 32), f".reg .{held} o<{2 * count}>; .reg .b64 to;"]
    lines += [f"ld.param.u64 to, [pb]; mad.wide.u32 to, t, {size * count}, to;"]
    opcode = f"atom.global.v{count}.{kind}.{operation}"
    lines += [f"{opcode} {group('o', count)}, [to], {group('a', count)};"]
    lines += [f"ld.global.{held} o{count + i}, [to+{i * size}];" for i in range(count)]
    lines += [stores([f"o{i}" for i in range(2 * count)], held_kind(held), 32)]

    def operands(generator: np.random.Generator) -> list[Array]:
        base = "tf32" if kind == "f32" else kind.removesuffix("x2")
        numbers = (generator.integers(-99, 100, 32 * count * size) for _ in "ab")
        return [codes(v, base).view(f"u{size}")[: 32 * count] for v in numbers]

    return Variant(
        family="atomic",
        name=opcode,
        body="\n".join(lines),
        out=kind,
        count=2 * count * 32,
        operands=operands,
        target="sm_90",
        version="8.1",
    )


def _dynamic() -> Variant:
    """Returns where dynamic shared memory begins in its window, which no document says."""
    lines = [INDEX, ".reg .b32 o; mov.u32 o, dynamic;", stores(["o"], "u32", 32)]
    return Variant(
        family="memory",
        name="address of dynamic shared memory",
        body="\n".join(lines),
        out="u32",
        count=32,
        operands=lambda generator: [words(generator, 32)],
        dynamic=1024,
        promised=False,
    )
