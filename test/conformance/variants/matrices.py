"""
Products of a warp: mma.sync and wmma.

Each is recorded with operands whose products and sums are exact in every order, which leaves no
bit open, and with random ones, whose bound holds for any order and rounding of the sums.
"""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from .variant import INDEX, Array, Variant, group, loads, stores, words

_FLOATS = {"f16": 16, "bf16": 16, "tf32": 32, "e4m3": 8, "e5m2": 8, "f32": 32, "f64": 64}
BITS = {**_FLOATS, "s8": 8, "u8": 8, "s4": 4, "u4": 4, "b1": 1}
# Relative to the largest sum: what one of k additions may lose in tensor cores.
_UNITS = {"f32": 2.0**-22, "f16": 2.0**-10, "f64": 2.0**-52}
_UNIT8 = 2.0**-12  # products of 8-bit floats are added up with fewer bits


class Product(NamedTuple):
    """The types of A, B and C, D, and the extents of a product."""

    left: str
    right: str
    total: str
    m: int
    n: int
    k: int

    def bound(self) -> float:
        """Returns what a sum of k random products and C may be off by; all are below 1 in size."""
        unit = _UNIT8 if BITS[self.left] == 8 and self.total != "f16" else _UNITS[self.total]
        return (self.k + 1) ** 2 * unit


def variants() -> Iterator[Variant]:
    """Yields every variant."""
    for product, opcode, target, version in _multiplications():
        for how in ("exact", "random") if product.total != "s32" else ("random",):
            yield _multiply(product, opcode, how, target, version)
    yield from _wmma()


def codes(values: Array, kind: str) -> Array:
    """Returns whole numbers that a type holds exactly, as its bits."""
    if kind in ("f16", "f64"):
        return values.astype(f"f{BITS[kind] // 8}").view(f"u{BITS[kind] // 8}")
    word = values.astype("f4").view("u4")
    if kind in ("tf32", "f32"):
        return word
    if kind == "bf16":
        return (word >> 16).astype("u2")
    if kind in ("e4m3", "e5m2"):
        fraction, bias = (3, 7) if kind == "e4m3" else (2, 15)
        exponent = (word >> 23 & 255).astype("i4") - 127 + bias
        code = exponent << fraction | (word >> 23 - fraction & (1 << fraction) - 1).astype("i4")
        return (np.where(values == 0, 0, code) | (values < 0).astype("i4") << 7).astype("u1")
    return values.astype("i1").view("u1")


def elements(generator: np.random.Generator, kind: str, count: int, how: str) -> Array:
    """
    Returns `count` elements as bits, bytes for those of less than 8.

    "exact" are whole numbers from -4 to 4, "random" has any integer or floats below 1 in size.
    """
    if kind in ("s8", "u8", "s4", "u4", "b1"):
        return generator.integers(0, 1 << BITS[kind], count).astype("u1")
    if how == "exact":
        return codes(generator.integers(-4, 5, count), kind)
    if kind in ("e4m3", "e5m2"):
        sign = generator.integers(0, 2, count) << 7
        return (sign | generator.integers(0, 0x38 if kind == "e4m3" else 0x3C, count)).astype("u1")
    values = generator.uniform(-1, 1, count)
    if kind == "f64":
        return values.view("u8")
    if kind == "f16":
        return values.astype("f2").view("u2")
    word = values.astype("f4").view("u4")
    if kind == "bf16":
        return (word >> 16).astype("u2")
    return word & np.uint32(0xFFFFE000) if kind == "tf32" else word


def packed(items: Array, kind: str) -> Array:
    """Returns elements in 32-bit words, the first in the lowest bits; f64 stay as they are."""
    if BITS[kind] >= 8:
        return items if kind == "f64" else items.view("u4")
    each = 32 // BITS[kind]
    shifts = np.arange(each, dtype="u4") * np.uint32(BITS[kind])
    return np.bitwise_or.reduce(items.reshape(-1, each).astype("u4") << shifts, axis=1)


def start(generator: np.random.Generator, kind: str, count: int, how: str) -> Array:
    """Returns the accumulators' bits: s32 near both ends too."""
    if kind == "s32":
        found = words(generator, count)
        found[: count // 4] = 0x7FFFFFFF - found[: count // 4] % np.uint32(99)
        return found
    return packed(elements(generator, kind, count, how), kind)


def _operands(product: Product, how: str, generator: np.random.Generator) -> list[Array]:
    """Returns A, B and C as registers [number, 32], whatever lane holds what."""
    m, n, k = product.m, product.n, product.k
    parts = [(product.left, m * k), (product.right, k * n)]
    made = [packed(elements(generator, kind, count, how), kind) for kind, count in parts]
    return [*made, start(generator, product.total, m * n, how)]


_BYTES = [(a, b) for a in ("s8", "u8") for b in ("s8", "u8")]
_NIBBLES = [(a, b) for a in ("s4", "u4") for b in ("s4", "u4")]


def _multiplications() -> Iterator[tuple[Product, str, str, str]]:
    """Yields the products of mma.sync: with what ends the opcode, target and version."""
    for kind, total, depths in (
        ("f16", "f32", (8, 16)),
        ("f16", "f16", (8, 16)),
        ("bf16", "f32", (8, 16)),
        ("tf32", "f32", (4, 8)),
    ):
        for k in depths:
            yield Product(kind, kind, total, 16, 8, k), "", "sm_80", "8.0"
    yield Product("f64", "f64", "f64", 8, 8, 4), "", "sm_80", "8.0"
    for k in (4, 8, 16):
        yield Product("f64", "f64", "f64", 16, 8, k), "", "sm_90", "8.0"
    for k in (16, 32):
        for left in ("e4m3", "e5m2"):
            for right in ("e4m3", "e5m2"):
                for total in ("f32", "f16"):
                    version = "8.4" if (k, total) == (32, "f32") else "8.7"
                    yield Product(left, right, total, 16, 8, k), "", "sm_89", version
    for pairs, extents in (
        (_BYTES, ((8, 16), (16, 16), (16, 32))),
        (_NIBBLES, ((8, 32), (16, 32), (16, 64))),
    ):
        for (left, right), (m, k) in ((pair, extent) for pair in pairs for extent in extents):
            for saturated in ("", ".satfinite"):
                yield Product(left, right, "s32", m, 8, k), saturated, "sm_80", "8.0"
    for m, k in ((8, 128), (16, 128), (16, 256)):
        for operation in (".xor.popc", ".and.popc"):
            yield Product("b1", "b1", "s32", m, 8, k), operation, "sm_80", "8.0"


def _multiply(product: Product, tail: str, how: str, target: str, version: str) -> Variant:
    """Returns one mma.sync of a warp."""
    left, right, total, m, n, k = product
    middle, end = (tail, "") if tail == ".satfinite" else ("", tail)
    types = f"{total}.{left}.{right}.{total}"
    opcode = f"mma.sync.aligned.m{m}n{n}k{k}.row.col{middle}.{types}{end}"
    wide = left == "f64"
    sizes = [m * k * BITS[left], k * n * BITS[right]]
    counts = [size // (64 if wide else 32) // 32 for size in sizes]
    held = m * n // (64 if total == "f16" else 32)
    kinds = ["f64" if wide else "u32"] * 2 + [{"f16": "u32", "s32": "u32"}.get(total, total)]
    lines = [INDEX]
    for name, kind, count in zip("abc", kinds, (*counts, held), strict=True):
        lines.append(loads(name, kind, count, 32))
    a, b, c = (group(name, count) for name, count in zip("abc", (*counts, held), strict=True))
    lines += [f"{opcode} {c}, {a}, {b}, {c};"]
    lines += [stores([f"c{i}" for i in range(held)], kinds[2], 32)]
    return Variant(
        family="mma",
        name=f"{opcode} {how}",
        body="\n".join(lines),
        out={"f16": "f16x2", "s32": "u32"}.get(total, total),
        count=held * 32,
        operands=partial(_operands, product, how),
        target=target,
        version=version,
        bound=product.bound() if how == "random" and total != "s32" else 0.0,
    )


def _wmma() -> Iterator[Variant]:
    """Yields wmma, whose fragments go from and to memory: the ISA leaves their layout open."""
    large = ((16, 16, 16), (32, 8, 16), (8, 32, 16))
    ways = [(a, b) for a in ("row", "col") for b in ("row", "col")]
    for extents in large:
        for way in ways:
            for total in ("f16", "f32"):
                yield _tile(Product("f16", "f16", total, *extents), way)
            yield _tile(Product("bf16", "bf16", "f32", *extents), way)
            for kind in ("s8", "u8"):
                yield _tile(Product(kind, kind, "s32", *extents), way)
    for way in ways:
        yield _tile(Product("tf32", "tf32", "f32", 16, 16, 8), way)
        yield _tile(Product("f64", "f64", "f64", 8, 8, 4), way)
    for kind in ("s4", "u4"):
        yield _tile(Product(kind, kind, "s32", 8, 8, 32), ("row", "col"))
    for operation in ("xor", "and"):
        yield _tile(Product("b1", "b1", "s32", 8, 8, 128), ("row", "col"), operation)


def _tile(product: Product, way: tuple[str, str], operation: str = "") -> Variant:
    """Returns one wmma.mma of a warp; D is stored by rows."""
    left, right, total, m, n, k = product
    shape = f"m{m}n{n}k{k}"
    counts = [m * k * BITS[left] // 1024, k * n * BITS[right] // 1024, m * n // 32]
    if left == "f64":
        counts[:2] = [1, 1]
    elif left == "f16":
        counts[:2] = [8, 8]
    counts[2] //= 2 if total == "f16" else 1
    types = {"f64": "f64"}.get(left, "b32")
    held = total if total in ("f32", "f64") else "b32"
    lines = [INDEX, f".reg .{types} a<{counts[0]}>, b<{counts[1]}>; .reg .{held} c<{counts[2]}>;"]
    strides = [k if way[0] == "row" else m, n if way[1] == "row" else k, n]
    for name, matrix, kind, layout, stride, count in zip(
        "abc", "abc", (left, right, total), (*way, "row"), strides, counts, strict=True
    ):
        lines += [f"ld.param.u64 at, [p{name}];"]
        load = f"wmma.load.{matrix}.sync.aligned.{layout}.{shape}.global.{kind}"
        lines += [f"{load} {group(name, count)}, [at], {stride};"]
    a, b, c = (group(name, count) for name, count in zip("abc", counts, strict=True))
    lines += [f"{_wmma_opcode(product, way, operation)} {c}, {a}, {b}, {c};"]
    lines += ["ld.param.u64 at, [po];"]
    lines += [f"wmma.store.d.sync.aligned.row.{shape}.global.{total} [at], {c}, {n};"]
    name = f"wmma.{shape}.{'.'.join(way)}.{total}.{left}{operation and '.' + operation}"
    return Variant(
        family="wmma",
        name=name,
        body="\n".join(lines),
        out={"s32": "u32"}.get(total, total),
        count=m * n,
        operands=partial(_operands, product, "exact"),
    )


def _wmma_opcode(product: Product, way: tuple[str, str], operation: str) -> str:
    """Returns the spelling of wmma.mma."""
    left, right, total, m, n, k = product
    kinds = f"{total}.{total}" if left == "f16" else f"{total}.{left}.{right}.{total}"
    popc = f".{operation}.popc" if operation else ""
    return f"wmma.mma{popc}.sync.aligned.{'.'.join(way)}.m{m}n{n}k{k}.{kinds}"
