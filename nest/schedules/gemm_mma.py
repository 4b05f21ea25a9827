"""
A matrix product on the tensor cores of sm_80: cp.async in stages, ldmatrix, mma.sync.

A CTA of 8 warps has a tile of 128x128, a warp 64x32 of it; 32 terms of the sum are in shared memory
for each stage, swizzled. `thread.z` and `thread.y` are the warps, `thread.x` the lanes.
"""

from ...dialects.nest.program import Scope
from ...transforms.schedule.bind import Bind
from ...transforms.schedule.caching import CacheRead, CacheWrite
from ...transforms.schedule.compute_at import ComputeAt, ReverseComputeAt
from ...transforms.schedule.decompose_reduction import DecomposeReduction
from ...transforms.schedule.fuse import Fuse
from ...transforms.schedule.kinds import Unroll
from ...transforms.schedule.primitive import Primitive
from ...transforms.schedule.reorder import Reorder
from ...transforms.schedule.software_pipeline import SoftwarePipeline
from ...transforms.schedule.split import Split
from ...transforms.schedule.swizzle import SetSwizzle
from ...transforms.schedule.tensorize import Tensorize

ARCH = "sm_80"
THREADS = (("z", 2), ("y", 4), ("x", 32))


def gemm_mma(dtype: str = "f16", stages: int = 3) -> tuple[Primitive, ...]:
    """
    Returns the schedule for `C[i, j] += A[i, k] * B[k, j]` with loops i, j, k and a block C.

    A and B are f16 or bf16 (`dtype`), C is f32. The extents of i and j are multiples of 128, that
    of k of 32. `stages` tiles of A and B are in shared memory.
    """
    return (*_tiles(), *_places(), *_copies(), *_calls(dtype), *_kinds(stages))


def _tiles() -> tuple[Primitive, ...]:
    return (
        Split("i", (None, 2, 4, 16), ("by", "wz", "ti", "ii"), exact=True),
        Split("j", (None, 4, 4, 8), ("bx", "wy", "tj", "ji"), exact=True),
        Split("k", (None, 2, 16), ("k0", "k1", "ki"), exact=True),
        Reorder(("by", "bx", "k0", "wz", "wy", "k1", "ti", "tj", "ii", "ji", "ki")),
    )


def _places() -> tuple[Primitive, ...]:
    return (
        CacheWrite("C", "C", Scope.FRAGMENT, "C_tile"),
        CacheRead("C", "A", Scope.SHARED, "A_shared"),
        CacheRead("C", "B", Scope.SHARED, "B_shared"),
        CacheRead("C", "A_shared", Scope.FRAGMENT, "A_tile"),
        CacheRead("C", "B_shared", Scope.FRAGMENT, "B_tile"),
        ReverseComputeAt("C_tile", "bx", ("c_row", "c_column")),
        DecomposeReduction("C", "k0", ("C_zero",)),
        Bind("by", "block.y"),
        Bind("bx", "block.x"),
        Bind("wz", "thread.z"),
        Bind("wy", "thread.y"),
        ComputeAt("A_tile", "k1", ("a_row", "a_column")),
        ComputeAt("B_tile", "k1", ("b_row", "b_column")),
        ComputeAt("A_shared", "k0", ("as_row", "as_column")),
        ComputeAt("B_shared", "k0", ("bs_row", "bs_column")),
    )


def _copies() -> tuple[Primitive, ...]:
    steps: list[Primitive] = []
    counts = tuple(count for _, count in THREADS)
    for side in ("a", "b"):
        parts = tuple(f"{side}s_{axis}" for axis, _ in THREADS)
        names = (f"{side}s_step", *parts, f"{side}s_vector")
        steps.append(Fuse((f"{side}s_row", f"{side}s_column"), (f"{side}s",)))
        steps.append(Split(f"{side}s", (None, *counts, 8), names, exact=True))
    return tuple(steps)


def _calls(dtype: str) -> tuple[Primitive, ...]:
    copy = f"cp.async.16.{dtype}"
    return (
        SetSwizzle("A_shared", 64),
        SetSwizzle("B_shared", 128),
        Tensorize("as_vector", copy, ARCH),
        Tensorize("bs_vector", copy, ARCH),
        Split("a_row", (None, 16), ("a_step", "a_in")),
        Tensorize("a_in", f"ldmatrix.a.row.x4.{dtype}", ARCH),
        Split("b_column", (None, 16), ("b_step", "b_in")),
        Reorder(("b_step", "b_row", "b_in")),
        Tensorize("b_row", f"ldmatrix.b.row.x4.{dtype}", ARCH),
        Tensorize("ii", f"mma.m16n8k16.{dtype}.f32", ARCH),
        Tensorize("ii_1", "mma.fill.f32", ARCH),
        Split("c_row", (2, 4, 16), ("cz", "cti", "cii"), exact=True),
        Split("c_column", (4, 4, 8), ("cy", "ctj", "cji"), exact=True),
        Reorder(("cz", "cy", "cti", "ctj", "cii", "cji")),
        Tensorize("cii", "mma.store.f32.f32", ARCH),
    )


def _kinds(stages: int) -> tuple[Primitive, ...]:
    unrolled = ("k1", "a_step", "b_step", "ti", "tj", "ti_1", "tj_1", "cti", "ctj")
    places = (("w", "_1"), ("c", ""))
    warps = [(f"{a}{axis}{b}", f"thread.{axis}") for a, b in places for axis in "zy"]
    copies = [(f"{side}s_{axis}", f"thread.{axis}") for side in "ab" for axis, _ in THREADS]
    return (
        *(Bind(loop, axis) for loop, axis in (*warps, *copies)),
        *map(Unroll, (*unrolled, "as_step", "bs_step")),
        SoftwarePipeline("k0", (0, 0, stages - 1), (0, 1, 2), (0,)),
    )
