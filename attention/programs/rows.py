"""How kernels on rows share their work: a thread has neighbours of a row, a CTA has some rows."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from ...dialects.nest.program import LoopKind
from ...dialects.nest.scalars import DTYPE_BITS
from ...dialects.sym import Expression, ceildiv
from ...nest.builder import Builder

GRID, ROW, LANE = LoopKind.BLOCK_X, LoopKind.THREAD_Y, LoopKind.THREAD_X
VECTOR, UNROLLED = LoopKind.VECTORIZED, LoopKind.UNROLLED
LARGEST = 2**31 - 1
_THREADS = 128
_VECTOR_BITS = 128


@dataclass(frozen=True)
class RowTile:
    """`rows` rows of a CTA; `lanes` threads have a row, `vector` neighbours each at once."""

    rows: int
    lanes: int
    vector: int

    @contextmanager
    def on_grid(self, b: Builder, rows: Expression) -> Generator[Expression]:
        """Gives each CTA its rows; yields the number of the first one."""
        with b.loop("group", ceildiv(rows, self.rows), GRID) as group:
            yield self.rows * group


def row_tile(elements: int, *dtypes: str) -> RowTile:
    """Returns the tile for rows of a constant number of elements of these dtypes."""
    vector = max(_VECTOR_BITS // max(DTYPE_BITS[dtype] for dtype in dtypes), 1)
    while elements % vector:
        vector //= 2
    lanes = elements // vector
    return RowTile(max(1, _THREADS // lanes), lanes, vector)
