"""A product with quantised weights on tensor cores: dequantised on the way to shared memory."""

from ...dialects.nest.program import Program, Scope
from ...dialects.sym import prove_divisible
from ...transforms.schedule.matricize import AxisGroup
from ..schedule import Schedule
from ..values import NestError
from .tensor_tile import DEPTH, TILE, bind_tiles, by_all_threads, on_tensor_cores, tiled


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
    if "A_m" not in s.program.buffers:
        s.cache_read("C", "A", Scope.SHARED, cache="A_m")
        s.cache_write("C", "C", Scope.SHARED, cache="C_m")
    for buffer in ("A_m", "B", "C_m"):
        s.set_scope(buffer, Scope.SHARED)
    (store,) = s.consumers("C")
    s.cache_write("C", "C_m", Scope.FRAGMENT, cache="c")
    s.cache_read("C", "A_m", Scope.FRAGMENT, cache="a")
    s.cache_read("C", "B", Scope.FRAGMENT, cache="b")
    cta, terms, step = tiled(s, "C")
    s.reverse_compute_at("c", cta, names=["c_row", "c_column"])
    s.reverse_compute_at(store, cta, names=["row", "column"])
    s.decompose_reduction("C", terms, names=["C_zero"])
    bind_tiles(s)
    s.compute_at("a", step, names=["a_row", "a_column"])
    s.compute_at("b", step, names=["b_row", "b_column"])
    column, row = s.compute_at("B", terms)
    s.reorder(row, column)
    by_all_threads(s, row, column)
    by_all_threads(s, *s.compute_at("A_m", terms))
    on_tensor_cores(s, "A_m", "B", dtype)
    by_all_threads(s, "row", "column")
    return s


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
