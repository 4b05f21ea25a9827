"""A matrix product on the CUDA cores: tiles in shared memory, sums in registers."""

from dataclasses import dataclass

from ...dialects.nest.program import Program, Scope
from ...transforms.schedule.matricize import AxisGroup
from ..schedule import LoopHandle, Schedule
from ..values import NestError

VECTOR = 4


@dataclass(frozen=True)
class Tiles:
    """
    How a product is divided.

    A CTA of `threads` x `threads` threads has `rows` x `columns` results, of which each thread has
    a part in registers; `depth` terms of the sums are in shared memory at once.
    """

    rows: int = 64
    columns: int = 64
    depth: int = 16
    threads: int = 16


DEFAULT = Tiles()


def gemm_simt(program: Program, tiles: Tiles = DEFAULT) -> Schedule:
    """
    Schedules `C[i, j] += A[i, k] * B[k, j]`, any number of rows, columns and terms.

        for i, j, k:                      for by: block.y, bx: block.x
            C[i, j] += A[i, k] * B[k, j]      c = 0                               registers
                                              for k_0
                                       -->        A_shared = A[rows, terms]       0 beyond
                                                  B_shared = B[terms, columns]    0 beyond
                                                  for k_1
                                                      a, b = A_shared, B_shared   registers
                                                      for ti, tj: c += a * b
                                              C[rows, columns] = c                guarded

    What lies beyond the matrices is 0 in shared memory, so that no sum is guarded. Vectors of 4
    neighbours are moved where the extents are known multiples of the tiles. Raises NestError for
    another program, and for tiles that threads do not divide.
    """
    _check(program, tiles)
    s = Schedule(program)
    left, right, result = _padded(s, tiles)
    s.set_scope(result, Scope.LOCAL)
    for shared in (left, right):
        s.set_scope(shared, Scope.SHARED)
        s.cache_read("C", shared, Scope.LOCAL, cache=f"{shared}_read")
    (store,) = s.consumers("C")
    cta, terms, term = _tiled(s, tiles)
    s.reverse_compute_at(store, cta, names=["c_row", "c_column"])
    s.decompose_reduction("C", terms, names=["C_zero"])
    _bind(s, *s.loops("C")[3:5])
    _bind(s, *s.loops("C_zero")[2:4])
    for shared in (left, right):
        (loop,) = s.compute_at(f"{shared}_read", term)
        s.vectorize(loop)
    _copied_by_all(s, right, terms, tiles)
    # Of A, neighbours are loaded at once, and stored in rows of their own.
    (loop,) = s.compute_at(left, _copied_by_all(s, "A_load", terms, tiles))
    s.vectorize(loop)
    _stored(s, tiles)
    return s


def _padded(s: Schedule, tiles: Tiles) -> tuple[str, str, str]:
    """
    Pads the product to whole tiles, over copies of the operands; returns their names and its own.

    The copy of A is transposed: rows that a thread reads together are neighbours.
    """
    block = s.program.block("C")
    names = [axis.name for axis in block.axes] if block is not None else []
    sizes = (tiles.rows, tiles.columns, tiles.depth)
    groups = [AxisGroup(g, (n,), size) for g, n, size in zip("ijk", names, sizes, strict=True)]
    layouts = {"A": "ki", "B": "kj", "C": "ij"}
    s.matricize("C", groups, layouts, names=["rows", "columns", "terms"])
    s.cache_write("A_m", "A_m", Scope.LOCAL, cache="A_load")
    if "B_m" not in s.program.buffers:
        s.cache_read("C", "B", Scope.SHARED, cache="B_m")
    if "C_m" not in s.program.buffers:
        s.cache_write("C", "C", Scope.LOCAL, cache="C_m")
    return "A_m", "B_m", "C_m"


def _tiled(s: Schedule, tiles: Tiles) -> tuple[LoopHandle, LoopHandle, LoopHandle]:
    """Returns the loops in which a CTA has its tile, terms of its sums, and a thread one term."""
    i, j, k = s.loops("C")
    rows, columns = tiles.rows // tiles.threads, tiles.columns // tiles.threads
    by, ty, ti = s.split(i, [None, tiles.threads, rows], exact=True, names=["by", "ty", "ti"])
    bx, tx, tj = s.split(j, [None, tiles.threads, columns], exact=True, names=["bx", "tx", "tj"])
    terms, term = s.split(k, [None, tiles.depth], exact=True, names=["k_0", "k_1"])
    s.reorder(by, bx, terms, ty, tx, term, ti, tj)
    for loop in (term, ti, tj):
        s.unroll(loop)
    s.bind(by, "block.y")
    s.bind(bx, "block.x")
    return bx, terms, term


def _copied_by_all(s: Schedule, block: str, terms: LoopHandle, tiles: Tiles) -> LoopHandle:
    """
    Copies a tile of an operand into shared memory, neighbours by neighbouring threads.

    Returns the loop in which a thread has four neighbours.
    """
    row, column = s.compute_at(block, terms)
    if block == "A_load":
        # Neighbours of A are those along the terms.
        s.reorder(column, row)
        row, column = column, row
    whole = s.fuse(row, column)
    step, ty, tx, vector = s.split(whole, [None, tiles.threads, tiles.threads, VECTOR], exact=True)
    _bind(s, ty, tx)
    s.unroll(step)
    s.vectorize(vector)
    return tx


def _stored(s: Schedule, tiles: Tiles) -> None:
    """Stores the results of each thread, a row of them at once."""
    ty, row = s.split("c_row", [tiles.threads, None])
    tx, column = s.split("c_column", [tiles.threads, None])
    s.reorder(ty, tx, row, column)
    _bind(s, ty, tx)
    s.unroll(row)
    s.vectorize(column)


def _bind(s: Schedule, ty: LoopHandle, tx: LoopHandle) -> None:
    s.bind(ty, "thread.y")
    s.bind(tx, "thread.x")


def _check(program: Program, tiles: Tiles) -> None:
    block = program.block("C")
    if block is None or len(block.axes) != 3 or len(program.loops_around("C")) != 3:
        raise NestError(f"expected a product 'C' of two matrices, got '{program.name}'")
    for name, size in (("rows", tiles.rows), ("columns", tiles.columns)):
        if size % tiles.threads:
            raise NestError(f"expected {name} that {tiles.threads} threads divide, got {size}")
    for name, size in (("rows", tiles.rows), ("columns", tiles.columns)):
        count = tiles.threads**2 * VECTOR
        if size * tiles.depth % count:
            raise NestError(
                f"expected a tile of a multiple of {count} elements, which all threads copy, got "
                f"{size} {name} x {tiles.depth}"
            )
