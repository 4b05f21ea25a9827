"""Products of a warpgroup: wgmma.mma_async, over all widths, types, majors and swizzles."""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from .matrices import BITS, Product, elements, packed, start
from .variant import INDEX, Array, Variant, group, loads, stores

THREADS = 128
PLACE_B = 8192  # bytes in shared memory before B
SHARED = 40960
MODES = {0: 0, 128: 1, 64: 2, 32: 3}


class Form(NamedTuple):
    """
    How operands lie: swizzles in bytes, and which of them have rows side by side.

    A lies in registers where its swizzle is None. `scale` is scale-d; `signs` negate A and B.
    """

    spans: tuple[int | None, int] = (128, 128)
    across: tuple[bool, bool] = (False, False)
    scale: int = 1
    signs: tuple[int, int] = (1, 1)
    base_offset: int = 0


def variants() -> Iterator[Variant]:
    """Yields every variant."""
    f16 = partial(Product, "f16", "f16", "f32", 64)
    for n in range(8, 257, 8):
        yield _of(f16(n, 16), Form())
    for n in (8, 64, 256):
        for kind, total in (("bf16", "f32"), ("f16", "f16"), ("tf32", "f32")):
            yield _of(Product(kind, kind, total, 64, n, 256 // BITS[kind]), Form())
        for left in ("e4m3", "e5m2"):
            for right in ("e4m3", "e5m2"):
                for total in ("f32", "f16"):
                    yield _of(Product(left, right, total, 64, n, 32), Form())
        for left in ("s8", "u8"):
            for right in ("s8", "u8"):
                for saturated in ("", ".satfinite"):
                    yield _of(Product(left, right, "s32", 64, n, 32), Form(), saturated)
    for span in MODES:
        for across in ((False, False), (True, False), (False, True), (True, True)):
            if (span, across) != (128, (False, False)):  # one of the widths
                yield _of(f16(64, 16), Form((span, span), across))
        for other in (False, True):
            yield _of(f16(64, 16), Form((None, span), (False, other)))
        for kind, total in (("tf32", "f32"), ("e4m3", "f32"), ("s8", "s32")):
            product = Product(kind, kind, total, 64, 32, 256 // BITS[kind])
            yield _of(product, Form((span, span)))
            yield _of(product, Form((None, span)))
    for signs in ((1, -1), (-1, 1), (-1, -1)):
        yield _of(f16(16, 16), Form(signs=signs))
    yield _of(f16(16, 16), Form(scale=0))
    for kind, total in (
        ("f16", "f32"), ("bf16", "f32"), ("tf32", "f32"), ("e4m3", "f32"), ("f16", "f16"),
    ):  # fmt: skip
        yield _of(Product(kind, kind, total, 64, 16, 256 // BITS[kind]), Form(), how="random")
    for offset in (1, 4, 7):  # rows of 128 bytes by which A and B are moved
        yield _of(f16(16, 16), Form(base_offset=offset))


def strides(span: int, across: bool) -> tuple[int, int]:
    """Returns the leading and stride byte offsets of an operand."""
    if across:
        return (2 * 8 * span, 8 * span) if span else (1024, 128)
    return (16, 8 * span) if span else (128, 256)


def _fields(span: int, across: bool) -> int:
    """Returns a matrix descriptor without its address (PTX ISA, "Matrix Descriptor Format")."""
    leading, stride = strides(span, across)
    return leading >> 4 << 16 | stride >> 4 << 32 | MODES[span] << 62


def _descriptor(name: str, place: int, span: int, across: bool, offset: int) -> str:
    """Returns the text that makes a descriptor of what lies at tile + place."""
    fields = _fields(span, across) | offset << 49
    return (
        f".reg .b64 {name}; add.u32 w, s, {place + 128 * offset}; and.b32 w, w, 0x3FFFF;"
        f"shr.u32 w, w, 4; cvt.u64.u32 {name}, w; or.b64 {name}, {name}, {fields:#x};"
    )


_FILL = f""".shared .align 1024 .b8 tile[{SHARED}]; .reg .b32 s, w, x, v<4>; .reg .b64 from;
mov.u32 s, tile; shl.b32 x, t, 4; ld.param.u64 at, [pa];
L: cvt.u64.u32 from, x; add.u64 from, at, from; add.u32 w, s, x;
ld.global.v4.b32 {{v0, v1, v2, v3}}, [from]; st.shared.v4.b32 [w], {{v0, v1, v2, v3}};
add.u32 x, x, 2048; setp.lt.u32 q, x, {SHARED}; @q bra L;
fence.proxy.async; bar.sync 0;"""


def _operands(product: Product, how: str, generator: np.random.Generator) -> list[Array]:
    """Returns shared memory full of elements of A and of B, A's registers, and D."""
    left, right = (
        packed(elements(generator, kind, size * 8 // BITS[kind], how), kind).view("u4")
        for kind, size in ((product.left, PLACE_B), (product.right, SHARED - PLACE_B))
    )
    depth = 64 * product.k
    fragment = packed(elements(generator, product.left, depth, how), product.left).view("u4")
    held = start(generator, product.total, 64 * product.n, how)
    return [np.concatenate([left, right]), fragment, held]


def _of(product: Product, form: Form, tail: str = "", how: str = "exact") -> Variant:
    """Returns one wgmma of 128 threads."""
    left, right, total, _, n, k = product
    count = n // (4 if total == "f16" else 2)
    kind = {"f16": "u32", "s32": "u32"}.get(total, total)
    span, other = form.spans
    lines = [INDEX, _FILL, loads("b", "u32", 4, THREADS), loads("c", kind, count, THREADS)]
    lines += [f".reg .pred on; setp.ne.u32 on, {form.scale}, 0;"]
    if span is not None:
        lines += [_descriptor("da", 0, span, form.across[0], form.base_offset)]
    lines += [_descriptor("db", PLACE_B, other, form.across[1], form.base_offset)]
    opcode = f"wgmma.mma_async.sync.aligned.m64n{n}k{k}{tail}.{total}.{left}.{right}"
    options = ["on"]
    if total != "s32":
        options += map(str, form.signs)
    if BITS[left] == 16:
        options += [str(int(way)) for way in form.across[span is None :]]
    a = "da" if span is not None else group("b", 4)
    lines += ["wgmma.fence.sync.aligned;"]
    lines += [f"{opcode} {group('c', count)}, {a}, db, {', '.join(options)};"]
    lines += ["wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;"]
    lines += [stores([f"c{i}" for i in range(count)], kind, THREADS)]
    return Variant(
        family="wgmma",
        name=f"{opcode} {_word(form)} {how}",
        body="\n".join(lines),
        out={"f16": "f16x2", "s32": "u32"}.get(total, total),
        count=count * THREADS,
        operands=partial(_operands, product, how),
        block=THREADS,
        target="sm_90a",
        version="8.4" if total == "s32" else "8.0",
        bound=product.bound() if how == "random" else 0.0,
        promised=form.base_offset == 0,
    )


def _word(form: Form) -> str:
    """Returns what tells a form from the others."""
    ways = ["MN" if way else "K" for way in form.across]
    places = [
        "registers" if span is None else f"{way}-{span}B"
        for span, way in zip(form.spans, ways, strict=True)
    ]
    signs = "".join("-" if sign < 0 else "+" for sign in form.signs)
    offset = f" base {form.base_offset}" if form.base_offset else ""
    return f"{' '.join(places)} {signs}{form.scale}{offset}"
