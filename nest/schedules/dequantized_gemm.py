"""A product with quantised weights on tensor cores: dequantised on the way to shared memory."""

from ...dialects.nest.program import Program, Scope
from ...dialects.sym import prove_divisible
from ...transforms.schedule.matricize import AxisGroup
from ...transforms.schedule.swizzle import SetSwizzle
from ..schedule import LoopHandle, Schedule
from ..schedule.state import LoopLike
from ..values import NestError

ARCH = "sm_80"
# A CTA has a tile of 64x64, in 2x2 warps of 32x32; 32 terms are in shared memory at once.
TILE, WARPS, DEPTH = 64, 2, 32
WARP_SIZE = 32
VECTOR = 8


def dequantized_gemm(program: Program) -> Schedule:
    """
    Schedules the workload `dequantized_gemm`, any number of rows; weights of 4 or 8 bits.

        for j, k: B[k, j] = W * scale            for by: block.y, bx: block.x
        for i, j, k: C += A[i, k] * B[k, j]          c = 0                         fragments
                                                     for k_0
                                              -->        A_m = A[64, 32]           0 beyond
                                                         B = W * scale             shared memory
                                                         for k_1: c += mma(A_m, B)
                                                     C_m = c                       shared memory
                                                     C[64, 64] = C_m               guarded

    `A` is f16 or bf16, `C` f32. `thread.z` and `thread.y` are the warps, `thread.x` the lanes.
    Raises NestError for another program, and for columns or terms that are not whole tiles.
    """
    dtype, groups = _checked(program)
    s = Schedule(program)
    # Rows beyond the matrix are 0, in a tile that is copied to shared memory.
    s.matricize("C", groups, {"A": "ik", "B": "kj", "C": "ij"}, names=["rows", "columns", "terms"])
    for buffer in ("A_m", "B", "C_m"):
        s.set_scope(buffer, Scope.SHARED)
    (store,) = s.consumers("C")
    s.cache_write("C", "C_m", Scope.FRAGMENT, cache="c")
    s.cache_read("C", "A_m", Scope.FRAGMENT, cache="a")
    s.cache_read("C", "B", Scope.FRAGMENT, cache="b")
    cta, terms, step = _tiled(s)
    s.reverse_compute_at("c", cta, names=["c_row", "c_column"])
    s.reverse_compute_at(store, cta, names=["row", "column"])
    s.decompose_reduction("C", terms, names=["C_zero"])
    s.bind("by", "block.y")
    s.bind("bx", "block.x")
    for loop, axis in (("wz", "z"), ("wy", "y"), ("wz_1", "z"), ("wy_1", "y")):
        s.bind(loop, f"thread.{axis}")
    s.compute_at("a", step, names=["a_row", "a_column"])
    s.compute_at("b", step, names=["b_row", "b_column"])
    column, row = s.compute_at("B", terms)
    s.reorder(row, column)
    _by_all_threads(s, row, column)
    _by_all_threads(s, *s.compute_at("A_m", terms))
    _on_tensor_cores(s, dtype)
    _by_all_threads(s, "row", "column")
    return s


def _by_all_threads(s: Schedule, row: LoopLike, column: LoopLike) -> None:
    """Divides a tile among the threads of the CTA, neighbours by neighbouring ones."""
    whole = s.fuse(row, column)
    factors = [None, WARPS, WARPS, WARP_SIZE, VECTOR]
    step, *threads, vector = s.split(whole, factors, exact=True)
    for loop, axis in zip(threads, "zyx", strict=True):
        s.bind(loop, f"thread.{axis}")
    s.unroll(step)
    s.vectorize(vector)


def _on_tensor_cores(s: Schedule, dtype: str) -> None:
    """Hands tiles to ldmatrix and mma.sync, and the sums to shared memory."""
    s.step(SetSwizzle("A_m", 64))
    s.step(SetSwizzle("B", 128))
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


def _tiled(s: Schedule) -> tuple[LoopHandle, LoopHandle, LoopHandle]:
    """Returns the loops in which a CTA has its tile, terms of its sums, and a warp 16 terms."""
    i, j, k = s.loops("C")
    by, wz, ti, ii = s.split(i, [None, 2, 2, 16], exact=True, names=["by", "wz", "ti", "ii"])
    bx, wy, tj, ji = s.split(j, [None, 2, 4, 8], exact=True, names=["bx", "wy", "tj", "ji"])
    terms, step, ki = s.split(k, [None, 2, 16], exact=True, names=["k_0", "k_1", "ki"])
    s.reorder(by, bx, terms, wz, wy, step, ti, tj, ii, ji, ki)
    return bx, terms, step


def _checked(program: Program) -> tuple[str, list[AxisGroup]]:
    """Returns the dtype of the operands, and the axes of the product as those of tiles."""
    product, weights = program.block("C"), program.block("B")
    if product is None or weights is None or len(product.axes) != 3 or "B" in program.outputs:
        raise NestError(
            f"expected a product 'C' of weights that a block 'B' makes, got '{program.name}'"
        )
    dtype = program.buffers["A"].dtype
    if dtype not in ("f16", "bf16"):
        raise NestError(f"expected operands of f16 or bf16, got {dtype}")
    for axis, size, what in zip(product.axes[1:], (TILE, DEPTH), ("columns", "terms"), strict=True):
        if not prove_divisible(axis.extent, size, program.ranges):
            raise NestError(f"expected a multiple of {size} {what}, got {axis.extent}")
    sizes = (TILE, TILE, DEPTH)
    return dtype, [
        AxisGroup(g, (a.name,), n) for g, a, n in zip("ijk", product.axes, sizes, strict=True)
    ]
