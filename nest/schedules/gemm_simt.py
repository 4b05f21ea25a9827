"""A matrix product on the CUDA cores: tiles in shared memory, sums in registers."""

from dataclasses import dataclass

from ...dialects.nest.program import Program, Scope
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
                                       -->        A_shared = A[rows, terms]       vector loads
                                                  B_shared = B[terms, columns]
                                                  for k_1
                                                      a, b = A_shared, B_shared   registers
                                                      for ti, tj: c += a * b
                                              C[rows, columns] = c                vector stores

    A and B are of any dtype of scalars, C of that of the sums. Remainders of all three extents are
    guarded; the extents that are neighbours in memory are vectors if they are known multiples
    of 4. Raises NestError for another program, and for tiles that threads do not divide.
    """
    _check(program, tiles)
    s = Schedule(program)
    s.cache_write("C", "C", Scope.LOCAL, cache="c")
    for side in ("A", "B"):
        s.cache_read("C", side, Scope.SHARED, cache=f"{side}_shared")
        s.cache_read("C", f"{side}_shared", Scope.LOCAL, cache=side.lower())
    # Rows that a thread reads together are neighbours in shared memory.
    s.transform_layout("A_shared", "A_shared", "(i, k) -> (k, i)")
    cta, terms, term = _tiled(s, tiles)
    s.reverse_compute_at("c", cta, names=["c_row", "c_column"])
    s.decompose_reduction("C", terms, names=["C_zero"])
    _bind(s, *s.loops("C")[3:5])
    _bind(s, *s.loops("C_zero")[2:4])
    for side in ("b", "a"):
        for loop in s.compute_at(side, term):
            s.vectorize(loop)
    for side in ("B", "A"):
        _copied_by_all(s, f"{side}_shared", terms, tiles)
    _stored(s, tiles)
    return s


def _tiled(s: Schedule, tiles: Tiles) -> tuple[LoopHandle, LoopHandle, LoopHandle]:
    """Returns the loops in which a CTA has its tile, terms of its sums, and a thread one term."""
    i, j, k = s.loops("C")
    rows, columns = tiles.rows // tiles.threads, tiles.columns // tiles.threads
    by, ty, ti = s.split(i, [None, tiles.threads, rows], names=["by", "ty", "ti"])
    bx, tx, tj = s.split(j, [None, tiles.threads, columns], names=["bx", "tx", "tj"])
    terms, term = s.split(k, [None, tiles.depth], names=["k_0", "k_1"])
    s.reorder(by, bx, terms, ty, tx, term, ti, tj)
    for loop in (term, ti, tj):
        s.unroll(loop)
    s.bind(by, "block.y")
    s.bind(bx, "block.x")
    return bx, terms, term


def _copied_by_all(s: Schedule, block: str, terms: LoopHandle, tiles: Tiles) -> None:
    """Copies a tile of an operand into shared memory, neighbours by neighbouring threads."""
    row, column = s.compute_at(block, terms)
    whole = s.fuse(row, column)
    step, ty, tx, vector = s.split(whole, [None, tiles.threads, tiles.threads, VECTOR])
    _bind(s, ty, tx)
    s.unroll(step)
    s.vectorize(vector)


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
