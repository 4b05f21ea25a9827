"""Copies of boxes by tensor maps: ranks, swizzles, strides, fills, and what lies outside."""

import math
from collections.abc import Iterator

import numpy as np

from .copies import BARRIER, WAIT, dump, fill, numbers
from .variant import INDEX, SIZES, Array, Box, Variant, size_of

CTAS = 8  # each moves a box at coordinates of its own
# Tensors and boxes of 1 to 5 dimensions.
_SHAPES = (
    ((96,), (32,)),
    ((48, 20), (16, 8)),
    ((32, 10, 6), (8, 4, 3)),
    ((16, 6, 5, 4), (8, 3, 2, 2)),
    ((16, 4, 3, 3, 2), (8, 2, 2, 2, 2)),
)


def variants() -> Iterator[Variant]:
    """Yields every variant."""
    for shape, box in _SHAPES:
        yield _load(Box("a", "u32", shape, box))
        yield _store(Box("o", "u32", shape, box))
    for swizzle, span in (("32B", 32), ("64B", 64), ("128B", 128)):
        for kind in ("u8", "u16", "u32", "u64"):
            width = span // SIZES[kind]
            tall = (width, 24)
            yield _load(Box("a", kind, (2 * width, 40), tall, swizzle))
        yield _load(Box("a", "u16", (span, 12, 5), (span // 2, 6, 3), swizzle))
        yield _store(Box("o", "u16", (span, 40), (span // 2, 24), swizzle))
    for kind in SIZES:
        width = max(8, 16 // SIZES[kind])
        yield _load(Box("a", kind, (4 * width, 12), (width, 4)))
    for kind in ("f16", "bf16", "f32", "f64"):
        yield _load(Box("a", kind, (32, 12), (16, 8), fill="nan"))
    for steps in ((1, 2), (1, 3), (1, 8), (2, 1)):
        yield _load(Box("a", "u32", (48, 30), (16, 12), steps=steps))
    yield _load(Box("a", "u16", (64, 30), (16, 12), "32B", (1, 2)))
    yield _load(Box("a", "u32", (16, 12, 12), (8, 6, 6), steps=(1, 2, 3)))
    for operation, kind in _REDUCTIONS:
        shape = (64 // SIZES[kind], 20)
        yield _store(Box("o", kind, shape, (32 // SIZES[kind], 8)), operation)


_REDUCTIONS = [
    *[("add", kind) for kind in ("u32", "i32", "u64", "f16", "bf16", "f32", "f64")],
    *[(op, kind) for op in ("min", "max") for kind in ("u32", "i32", "f16")],
    *[(op, "u32") for op in ("inc", "dec", "and", "or", "xor")],
]


def places(box: Box, apart: bool, generator: np.random.Generator) -> Array:
    """
    Returns coordinates [CTAS, 5]: inside, across each edge, beyond it.

    `apart` keeps the boxes from overlapping, along dimension 0: their order is open. There boxes
    begin at multiples of 16 bytes: a GPU takes no others.
    """
    rank = len(box.shape)
    shape, size = np.array(box.shape), np.array(box.box)
    found = np.zeros((CTAS, 5), "i4")
    found[:, :rank] = generator.integers(1 - size, shape, (CTAS, rank))
    found[:5, :rank] = generator.integers(0, shape - size, (5, rank), endpoint=True)
    found[1, :rank], found[2, :rank] = 1 - size, shape - 1
    axis = generator.integers(rank)
    found[3, axis], found[4, axis] = -size[axis], shape[axis]
    if apart:
        found[:, 0] = (np.arange(CTAS) - 1) * box.box[0]
        if box.swizzle == "none":
            found[:, 0] += box.box[0] // 2
    unit = 16 // SIZES[box.dtype]
    found[1, 0] = unit - size[0] if not apart else found[1, 0]
    found[:, 0] -= found[:, 0] % unit
    return found


def _elements(box: Box, generator: np.random.Generator, count: int) -> Array:
    kind = {"i32": "s32", "i64": "s64"}.get(box.dtype, box.dtype)
    return numbers(generator, kind, count)


def _coordinates(rank: int) -> str:
    lines = ["ld.param.u64 at, [pb]; mad.wide.u32 at, cta, 20, at; .reg .b32 x<5>;"]
    lines += [f"ld.global.b32 x{i}, [at+{4 * i}];" for i in range(rank)]
    lines += [".reg .b64 desc; mov.b64 desc, map; cvta.param.u64 desc, desc;"]
    return "\n".join([*lines, ".reg .b32 s; mov.u32 s, tile;"])


def _operand(rank: int) -> str:
    return "[desc, {" + ", ".join(f"x{i}" for i in range(rank)) + "}]"


def _moved(box: Box) -> int:
    """Returns the bytes of a box in shared memory: dimension 0 has no element stride."""
    steps = (1, *box.steps[1:]) if box.steps else (1,) * len(box.shape)
    extents = [-(-extent // step) for extent, step in zip(box.box, steps, strict=True)]
    return math.prod(extents) * SIZES[box.dtype]


def _name(box: Box) -> str:
    words = [box.dtype, "x".join(map(str, box.box)), "of", "x".join(map(str, box.shape))]
    words += [box.swizzle] if box.swizzle != "none" else []
    words += [f"steps {'x'.join(map(str, box.steps))}"] if box.steps else []
    return " ".join([*words, *([box.fill] if box.fill != "zeros" else [])])


def _load(box: Box) -> Variant:
    """Returns a copy of a box to shared memory, by each of some CTAs."""
    rank, size = len(box.shape), _moved(box)
    kind = box.dtype if box.fill == "nan" else "u8"  # which NaN fills a box is not documented
    lines = [INDEX, f".shared .align 1024 .b8 tile[{size}];", BARRIER, _coordinates(rank)]
    lines += ["@!first bra W;"]
    lines += [f"mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], {size};"]
    copy = f"cp.async.bulk.tensor.{rank}d.shared::cluster.global.mbarrier::complete_tx::bytes"
    lines += [f"{copy} [s], {_operand(rank)}, [bar];", WAIT, dump(size)]

    def operands(generator: np.random.Generator) -> list[Array]:
        tensor = _elements(box, generator, math.prod(box.shape))
        return [tensor, places(box, False, generator)]

    return Variant(
        family="tensor",
        name=f"load {rank}d {_name(box)}",
        body="\n".join(lines),
        out=kind,
        count=CTAS * size // size_of(kind),
        operands=operands,
        grid=CTAS,
        target="sm_90",
        box=box,
    )


def _store(box: Box, operation: str = "") -> Variant:
    """Returns a copy or reduction of a box into the results, by each of some CTAs."""
    rank, size = len(box.shape), _moved(box)
    lines = [INDEX, f".shared .align 1024 .b8 tile[{size}];", fill(size), _coordinates(rank)]
    lines += [".reg .b32 u; mov.u32 u, %tid.x; setp.ne.u32 q, u, 0; @q ret;"]
    head = f"cp.reduce.async.bulk.tensor.{rank}d.global.shared::cta.{operation}"
    head = head if operation else f"cp.async.bulk.tensor.{rank}d.global.shared::cta"
    lines += [f"{head}.bulk_group {_operand(rank)}, [s];"]
    lines += ["cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;"]

    def operands(generator: np.random.Generator) -> list[Array]:
        tile = _elements(box, generator, CTAS * size // SIZES[box.dtype])
        tensor = _elements(box, generator, math.prod(box.shape))
        return [tile, places(box, True, generator), tensor]

    floats = box.dtype if box.dtype in ("f16", "bf16", "f32", "f64") else None
    return Variant(
        family="tensor",
        name=f"store {rank}d {_name(box)} {operation}".strip(),
        body="\n".join(lines),
        out=floats or f"u{8 * SIZES[box.dtype]}",
        count=math.prod(box.shape),
        operands=operands,
        grid=CTAS,
        target="sm_90",
        box=box,
        keeps=True,
    )
