"""
A matrix product on the CPU with the structure of Goto and van de Geijn, on several threads.

"Anatomy of High-Performance Matrix Multiplication", ACM TOMS 34(3), 2008: panels of B packed once,
blocks of A packed into the second-level cache, and tiles of C that stay in registers.
"""

from collections.abc import Collection
from dataclasses import dataclass

from ...dialects.nest.program import Program, Scope
from ...dialects.sym import Expression
from ...runtime.host_code import host_machine
from ...transforms.schedule.matricize import AxisGroup
from ..schedule import BlockHandle, LoopHandle, Schedule
from ..values import NestError


@dataclass(frozen=True)
class Tiles:
    """
    How a product is divided.

    `intrinsic` adds an outer product of `rows` and `columns` to a tile in registers. A thread has
    blocks of `row_tiles` x `column_tiles` tiles, which it sums up in slices of `depth` terms: they
    and what is read for a slice stay in the second-level cache.
    """

    intrinsic: str
    rows: int
    columns: int
    row_tiles: int
    column_tiles: int
    depth: int


AVX2 = Tiles("avx2.outer.f32.6x16", 6, 16, 12, 16, 256)
AVX512 = Tiles("avx512f.outer.f32.14x32", 14, 32, 6, 8, 256)


def tiles_for(features: Collection[str]) -> Tiles:
    """Returns the tiles for a CPU with these features, such as `avx512f`."""
    return AVX512 if "avx512f" in features else AVX2


def gemm_host(program: Program, tiles: Tiles | None = None) -> Schedule:
    """
    Schedules `C[i, j] += A[i, k] * B[k, j]` of f32, any number of rows, columns and terms.

        for i, j, k:                         B_m = B                in panels of 16 columns
            C[i, j] += A[i, k] * B[k, j]     parallel i0: blocks of 72 rows
                                                 A_m = A            in panels of 6 rows
                                                 for j0: blocks of 256 columns
                                       -->           C = 0
                                                     for k0: slices of 256 terms
                                                         for j1, i1: tiles of 6x16
                                                             c = 0
                                                             for tk: c += A_m x B_m
                                                             C += c           inside C

    Panels hold 0 beyond the matrices, so that no sum is guarded. Without `tiles`, they are those
    for the CPU of this process. Raises NestError for another program.
    """
    _check(program)
    tiles = tiles or tiles_for(host_machine().feature_names)
    s = Schedule(program)
    copy = _padded(s, tiles)
    row_block, slices = _tiled(s, tiles, copy)
    _packed(s, tiles, row_block)
    zero = s.decompose_reduction("tile", "tk", names=["zero"])
    s.tensorize("ti", tiles.intrinsic)
    blank = s.decompose_reduction("C", slices, names=["C_zero"])
    for block in (zero, s.block("C"), blank):
        row, column = s.loops(block)[-2:]
        s.vectorize(column)
        if block is not blank:
            s.unroll(row)
    s.parallel(row_block)
    return s


def _padded(s: Schedule, tiles: Tiles) -> BlockHandle:
    """
    Pads the product to whole tiles, over copies of the operands and the result.

    Returns the block that copies the result.
    """
    block = s.program.block("C")
    axes = [axis.name for axis in block.axes] if block is not None else []
    # One term alone is padded: it would have no loop.
    single = s.program.loops_around("C")[-1].extent == 1
    sizes = (tiles.rows, tiles.columns, 2 if single else 1)
    groups = [AxisGroup(g, (n,), size) for g, n, size in zip("ijk", axes, sizes, strict=True)]
    layouts = {"A": "ki", "B": "kj", "C": "ij"}
    s.matricize("C", groups, layouts, names=["rows", "columns", "terms"])
    if "B_m" not in s.program.buffers:
        s.cache_read("C", "B", Scope.GLOBAL, cache="B_m")
    if "C_m" not in s.program.buffers:
        s.cache_write("C", "C", Scope.LOCAL, cache="C_m")
    (copy,) = s.consumers("C")
    return copy


def _tiled(s: Schedule, tiles: Tiles, copy: BlockHandle) -> tuple[LoopHandle, LoopHandle]:
    """
    Sums slices of terms into tiles of their own, which are added up in the result.

    Returns the loops over blocks of rows and over slices.
    """
    row, column, term = s.loops("C")
    extents = [loop.extent for loop in s.program.loops_around("C")]
    panels, ii = s.split(row, [None, tiles.rows], exact=True)
    i0, i1 = s.split(panels, [None, _even(extents[0] // tiles.rows, tiles.row_tiles)])
    panels, ji = s.split(column, [None, tiles.columns], exact=True)
    j0, j1 = s.split(panels, [None, _even(extents[1] // tiles.columns, tiles.column_tiles)])
    k0, k1 = s.split(term, [None, _even(extents[2], tiles.depth)])
    s.reorder(i0, j0, k0, j1, i1, k1, ii, ji)
    s.rfactor(k0, names=["tile"], buffer="C_tile")
    s.fuse_reduction_epilogue("C", copy, "init")
    i0, j0, j1, i1, ii, ji, k0 = s.loops("C")
    s.reorder(k0, j1, i1, ii, ji)
    s.set_scope("C_tile", Scope.LOCAL)
    ti, tj, tk = s.compute_at("tile", i1, names=["t0", "ti", "tj", "tk"])
    s.reorder(tk, ti, tj)
    return i0, k0


def _packed(s: Schedule, tiles: Tiles, row_block: LoopHandle) -> None:
    """Packs the operands into panels: B once, A for each block of rows and slice of terms."""
    rows, columns = tiles.rows, tiles.columns
    term, row = s.compute_at("A_m", row_block)
    panel, row = s.split(row, [None, rows], exact=True)
    s.reorder(panel, term, row)
    s.unroll(row)
    term, column = s.loops("B_m")
    panel, column = s.split(column, [None, columns], exact=True)
    s.reorder(panel, term, column)
    s.vectorize(column)
    s.parallel(panel)
    s.transform_layout("tile", "A_m", _panels(rows))
    s.transform_layout("tile", "B_m", _panels(columns))


def _panels(size: int) -> str:
    """Returns the map to panels of `size` neighbours, a term of the sums after the other."""
    return f"(k, i) -> (i floordiv {size}, k, i mod {size})"


def _even(extent: Expression, part: int) -> int:
    """Returns the size of parts that are about as large as asked for, and all alike."""
    count = extent.constant_value
    return part if count is None else -(-count // max(1, round(count / part)))


def _check(program: Program) -> None:
    block = program.block("C")
    if block is None or len(block.axes) != 3 or len(program.loops_around("C")) != 3:
        raise NestError(f"expected a product 'C' of two matrices, got '{program.name}'")
