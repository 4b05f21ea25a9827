"""A product with quantised weights on tensor cores: dequantised on the way to shared memory."""

from ...dialects.nest.program import Program, Scope
from ...dialects.sym import prove_divisible
from ...transforms.schedule.matricize import AxisGroup
from ..schedule import Schedule
from ..values import NestError
from .tensor_tile import DEPTH, TensorTile

# Of 64 x 64 and 4 warps: few rows are what weights of few bits are for.
TILE = TensorTile()


def dequantized_gemm(program: Program, tile: TensorTile = TILE, stages: int = 4) -> Schedule:
    """
    Schedules the workload `dequantized_gemm`, any number of rows; weights of 4 or 8 bits.

        for j, k: B[k, j] = W * scale            for by: block.y, bx: block.x
        for i, j, k: C += A[i, k] * B[k, j]          c = 0                         fragments
                                                     for k_0, in stages
                                                         A_m = A[rows, 32]         cp.async
                                              -->        W_s = W                   cp.async
                                                         B = W_s * scale           shared memory
                                                         for k_1: c += mma(A_m, B)
                                                     C_m = c                       shared memory
                                                     C[rows, columns] = C_m        guarded

    Copies run `stages` - 1 iterations ahead of their product, and weights have their values one
    iteration ahead of it. `A` is f16 or bf16, 0 beyond its rows, `C` f32. `thread.z` and `thread.y`
    are the warps, `thread.x` the lanes. `tile` says what a CTA has of `C`. Raises NestError for
    another program, and for columns or terms that are not whole tiles.
    """
    dtype, groups = _checked(program, tile)
    bits = 4 if program.buffers["W"].shape[0] != program.buffers["B"].shape[0] else 8
    s = Schedule(program)
    # Rows beyond the matrix are 0, in a tile that is copied to shared memory.
    s.matricize("C", groups, {"A": "ik", "B": "kj", "C": "ij"}, names=["rows", "columns", "terms"])
    if "A_m" not in s.program.buffers:
        s.cache_read("C", "A", Scope.SHARED, cache="A_m")
        s.cache_write("C", "C", Scope.SHARED, cache="C_m")
    for buffer in ("A_m", "B", "C_m"):
        s.set_scope(buffer, Scope.SHARED)
    (store,) = s.consumers("C")
    terms = tile.divide(s, "C", ("A_m", "B", "C_m"), store)
    column, row = s.compute_at("B", terms)
    s.reorder(row, column)
    s.cache_read("B", "W", Scope.SHARED, cache="W_s")
    weights = s.compute_at("W_s", terms)
    tile.by_all_threads(s, row, column)
    tile.by_all_threads(s, *s.compute_at("A_m", terms), copy=f"cp.async.16.{dtype}")
    # A tile of weights has so many bytes for each thread.
    vector = min(16, tile.columns * DEPTH * bits // 8 // tile.threads)
    tile.by_all_threads(s, *weights, copy=f"cp.async.{vector}.i8", vector=vector)
    tile.on_tensor_cores(s, "A_m", "B", dtype)
    tile.by_all_threads(s, "row", "column")
    # The statements of an iteration: weights, their values, A, the product.
    s.software_pipeline(terms, (0, stages - 2, 0, stages - 1), (0, 3, 1, 2), (0,))
    return s


def _checked(program: Program, tile: TensorTile) -> tuple[str, list[AxisGroup]]:
    """Returns the dtype of the operands, and the axes of the product as those of tiles."""
    product, weights = program.block("C"), program.block("B")
    if product is None or weights is None or len(product.axes) != 3 or "B" in program.outputs:
        raise NestError(
            f"expected a product 'C' of weights that a block 'B' makes, got '{program.name}'"
        )
    dtype = program.buffers["A"].dtype
    if dtype not in ("f16", "bf16"):
        raise NestError(f"expected operands of f16 or bf16, got {dtype}")
    sizes = (tile.rows, tile.columns, DEPTH)
    for axis, size, what in zip(product.axes[1:], sizes[1:], ("columns", "terms"), strict=True):
        if not prove_divisible(axis.extent, size, program.ranges):
            raise NestError(f"expected a multiple of {size} {what}, got {axis.extent}")
    return dtype, [
        AxisGroup(g, (a.name,), n) for g, a, n in zip("ijk", product.axes, sizes, strict=True)
    ]
