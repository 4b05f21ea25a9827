"""What schedules of products on the tensor cores of sm_80 share: tiles of a CTA, and the calls."""

from ...transforms.schedule.swizzle import SetSwizzle
from ..schedule import LoopHandle, Schedule
from ..schedule.state import LoopLike

ARCH = "sm_80"
# A CTA has a tile of 64x64, in 2x2 warps of 32x32; 32 terms are in shared memory at once.
TILE, WARPS, DEPTH = 64, 2, 32
WARP_SIZE = 32
VECTOR = 8


def by_all_threads(s: Schedule, row: LoopLike, column: LoopLike) -> None:
    """Divides a tile among the threads of the CTA, neighbours by neighbouring ones."""
    whole = s.fuse(row, column)
    factors = [None, WARPS, WARPS, WARP_SIZE, VECTOR]
    step, *threads, vector = s.split(whole, factors)
    for loop, axis in zip(threads, "zyx", strict=True):
        s.bind(loop, f"thread.{axis}")
    s.unroll(step)
    s.vectorize(vector)


def on_tensor_cores(s: Schedule, left: str, right: str, dtype: str) -> None:
    """Hands tiles to ldmatrix and mma.sync, and the sums to shared memory."""
    s.step(SetSwizzle(left, 64))
    s.step(SetSwizzle(right, 128))
    a_step, a_row = s.split("a_row", [None, 16])
    s.tensorize(a_row, f"ldmatrix.a.row.x4.{dtype}", arch=ARCH)
    b_step, b_column = s.split("b_column", [None, 16])
    s.reorder(b_step, "b_row", b_column)
    s.tensorize("b_row", f"ldmatrix.b.row.x4.{dtype}", arch=ARCH)
    s.tensorize("ii", f"mma.m16n8k16.{dtype}.f32", arch=ARCH)
    s.tensorize("ii_1", "mma.fill.f32", arch=ARCH)
    wz, ti, ii = s.split("c_row", [2, 2, 16], exact=True)
    wy, tj, ji = s.split("c_column", [2, 4, 8], exact=True)
    s.reorder(wz, wy, ti, tj, ii, ji)
    s.tensorize(ii, "mma.store.f32.f32", arch=ARCH)
    s.bind(wz, "thread.z")
    s.bind(wy, "thread.y")
    for loop in (a_step, b_step, "k_1", "ti", "tj", "ti_1", "tj_1", ti, tj):
        s.unroll(loop)


def tiled(s: Schedule, block: str) -> tuple[LoopHandle, LoopHandle, LoopHandle]:
    """Returns the loops in which a CTA has its tile, terms of its sums, and a warp 16 terms."""
    i, j, k = s.loops(block)
    by, wz, ti, ii = s.split(i, [None, 2, 2, 16], exact=True, names=["by", "wz", "ti", "ii"])
    bx, wy, tj, ji = s.split(j, [None, 2, 4, 8], exact=True, names=["bx", "wy", "tj", "ji"])
    terms, step, ki = s.split(k, [None, 2, 16], exact=True, names=["k_0", "k_1", "ki"])
    s.reorder(by, bx, terms, wz, wy, step, ti, tj, ii, ji, ki)
    return bx, terms, step


def bind_tiles(s: Schedule) -> None:
    """Binds the loops of `tiled` to the grid and to warps, once the sums are set to 0 apart."""
    s.bind("by", "block.y")
    s.bind("bx", "block.x")
    for loop, axis in (("wz", "z"), ("wy", "y"), ("wz_1", "z"), ("wy_1", "y")):
        s.bind(loop, f"thread.{axis}")
