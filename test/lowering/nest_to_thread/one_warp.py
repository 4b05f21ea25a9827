"""A product of one warp by hand: copies to shared memory, ldmatrix, mma.sync, a store."""

from tilewright.dialects.nest.intrinsics import intrinsic_named
from tilewright.dialects.nest.program import (
    Body,
    Buffer,
    Call,
    Loop,
    LoopKind,
    Operand,
    Program,
    Range,
    Region,
    Scope,
)
from tilewright.dialects.sym import Expression, Ranges, constant, floordiv, mod, symbol

ROWS, ROW_BYTES = 16, 32
Part = tuple[Expression | int, int]


def region(buffer: str, *parts: Part) -> Region:
    ranges = (
        Range(start if isinstance(start, Expression) else constant(start), constant(extent))
        for start, extent in parts
    )
    return Region(buffer, tuple(ranges))


def call(name: str, *regions: Region) -> Call:
    operands = intrinsic_named(name).operands
    return Call(name, tuple(Operand(r, o.mode) for r, o in zip(regions, operands, strict=True)))


def array(name: str, rows: int, columns: int, dtype: str, scope: Scope, swizzle: int = 0) -> Buffer:
    return Buffer(name, (constant(rows), constant(columns)), dtype, scope, swizzle=swizzle)


def copies(source: str, target: str, elements: int, intrinsic: str) -> Loop:
    """Each lane copies 16 bytes: half a row."""
    lane = symbol(f"lane_{source}")
    half = mod(lane, 2) * elements, elements
    row = floordiv(lane, 2), 1
    body: Body = (call(intrinsic, region(target, row, half), region(source, row, half)),)
    return Loop(f"lane_{source}", constant(32), body, LoopKind.THREAD_X)


def product(
    form: tuple[str, str, int, str],
    layouts: tuple[str, str],
    stored: str,
    *,
    swizzle: int = 0,
    matrices: int = 4,
    copy: str = "cp.async",
) -> Program:
    """
    `C[16, 16] = A B` with `form` = word of the PTX ISA, dtype, bytes and accumulator.

    A is [16, k] or, `col`, [k, 16]; B is [k, 16] or, `col`, [16, k]. `matrices` are those of a load
    of B.
    """
    word, dtype, size, total = form
    depth, columns = ROW_BYTES // size, ROW_BYTES // size
    outside = [array(name, ROWS, columns, dtype, Scope.GLOBAL) for name in "AB"]
    out = array("C", 16, 16, stored, Scope.GLOBAL)
    inside = [
        array(f"{b.name}_shared", ROWS, columns, dtype, Scope.SHARED, swizzle) for b in outside
    ]
    tiles = [array(f"{b.name}_tile", ROWS, columns, dtype, Scope.FRAGMENT) for b in outside]
    sums = array("C_tile", 16, 16, total, Scope.FRAGMENT)
    j = symbol("j")
    whole = ((0, ROWS), (0, columns))
    b_part = ((j * 8, 8), (0, depth)) if layouts[1] == "col" else ((0, depth), (j * 8, 8))
    tile = ((0, 16), (j * 8, 8))
    loads: list[Call | Loop] = [
        call(
            f"ldmatrix.a.{layouts[0]}.x4.{word}",
            region("A_tile", *whole),
            region("A_shared", *whole),
        )
    ]
    load_b = f"ldmatrix.b.{layouts[1]}.x{matrices}.{word}"
    if matrices == 4:
        loads.append(call(load_b, region("B_tile", *whole), region("B_shared", *whole)))
    else:
        parts = tuple(
            (p[0].substitute({"j": symbol("jb")}) if isinstance(p[0], Expression) else p[0], p[1])
            for p in b_part
        )
        body: Body = (call(load_b, region("B_tile", *parts), region("B_shared", *parts)),)
        loads.append(Loop("jb", constant(2), body, LoopKind.UNROLLED))
    mma = f"mma.m16n8k{depth}.{word}.{total}.{layouts[0]}.{layouts[1]}"
    products: Body = (
        call(f"mma.fill.{total}", region("C_tile", *tile)),
        call(mma, region("C_tile", *tile), region("A_tile", *whole), region("B_tile", *b_part)),
        call(f"mma.store.{total}.{stored}", region("C", *tile), region("C_tile", *tile)),
    )
    chunk = 16 // size
    return Program(
        "product",
        (*outside, out),
        Ranges({}),
        (
            Loop(
                "one",
                constant(1),
                (
                    *(copies(n, f"{n}_shared", chunk, f"{copy}.16.{dtype}") for n in "AB"),
                    *loads,
                    Loop("j", constant(2), products, LoopKind.UNROLLED),
                ),
                LoopKind.BLOCK_X,
            ),
        ),
        (*inside, *tiles, sums),
        frozenset("C"),
    )
