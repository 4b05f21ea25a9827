"""How kernels on rows share their work: a thread has neighbours of a row, a CTA has some rows."""

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace

from ...dialects.nest.program import LoopKind
from ...dialects.nest.scalars import DTYPE_BITS
from ...dialects.sym import Expression, ceildiv, floordiv, mod
from ...nest.builder import Builder
from ...nest.values import inside

GRID, ROW, LANE = LoopKind.BLOCK_X, LoopKind.THREAD_Y, LoopKind.THREAD_X
VECTOR, UNROLLED, SERIAL = LoopKind.VECTORIZED, LoopKind.UNROLLED, LoopKind.SERIAL
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

    @contextmanager
    def threads(
        self, b: Builder, name: str, first: Expression, rows: Expression, heads: int = 1
    ) -> Generator[tuple[Expression, Expression, Expression]]:
        """
        Gives each lane of each row of a CTA a point of a block, and yields (row, head, lane).

        There are `rows * heads` rows, heads next to each other; `first` is the CTA's first one.
        """
        with (
            b.loop(f"{name}_row", self.rows, ROW) as row,
            b.loop(f"{name}_lane", self.lanes, LANE) as lane,
        ):
            at = first + row
            places = {
                f"{name}_i": (rows, floordiv(at, heads)),
                f"{name}_h": (heads, mod(at, heads)),
                f"{name}_t": (self.lanes, lane),
            }
            with b.block(name, spatial=places, where=[inside(at, rows * heads)]) as (i, h, t):
                yield i, h, t

    @property
    def one_lane(self) -> "RowTile":
        """The same rows with one thread each."""
        return replace(self, lanes=1)

    def neighbours(
        self, b: Builder, name: str, kind: LoopKind = VECTOR
    ) -> AbstractContextManager[Expression]:
        """Writes a loop over the neighbours that a thread has."""
        return b.loop(name, self.vector, kind)


def row_tile(elements: int, *dtypes: str) -> RowTile:
    """Returns the tile for rows of a constant number of elements of these dtypes."""
    vector = max(_VECTOR_BITS // max(DTYPE_BITS[dtype] for dtype in dtypes), 1)
    while elements % vector:
        vector //= 2
    lanes = elements // vector
    return RowTile(max(1, _THREADS // lanes), lanes, vector)


@contextmanager
def each(b: Builder, count: Expression) -> Generator[Expression]:
    """Gives each of `count` elements a thread; yields its number."""
    with b.loop("group", ceildiv(count, _THREADS), GRID) as group:
        with b.loop("lane", _THREADS, LANE) as lane:
            at = _THREADS * group + lane
            with b.block("element", spatial={"i": (count, at)}, where=[inside(at, count)]) as (i,):
                yield i


def stride_ranges(name: str, axes: int, step: int) -> str:
    """Returns the ranges of an array's strides, text to append, nothing where `step` is 0."""
    most = LARGEST - LARGEST % step if step else 0
    strides = [f"{name}_stride_{axis}" for axis in range(axes if step else 0)]
    return "".join(f", {s} in [0, {most}], {s} mod {step} == 0" for s in strides)
