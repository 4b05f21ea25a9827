"""
What schedules of work on rows share: each row belongs to the lanes of one warp, or of several.

    a row of columns, 4 neighbours a lane, 2 steps:

    lane   0    1    2   ...  31    0    1    2   ...  31
         |....|....|....|...|....|....|....|....|...|....|
          step 0                  step 1

A lane keeps its elements in registers. A reduction has a partial result in each lane, which the
lanes of a warp exchange, or all threads of the CTA where several warps have a row.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ...dialects.nest.program import Buffer, Program, blocks_of
from ...dialects.nest.scalars import DTYPE_BITS
from ...dialects.sym import Expression
from ..schedule import LoopHandle, Schedule
from ..schedule.state import BlockLike
from ..values import NestError

WARP_SIZE = 32
MAX_WARPS = 32
# Elements of a row that a lane keeps.
MAX_KEPT = 32
_VECTOR_BITS = 128
# Rows that a CTA has, where a warp has a row.
ROWS = 4


@dataclass(frozen=True)
class RowThreads:
    """
    Which threads have which elements of a row.

    `warps` have a row together; where it is one, `rows` of them are in a CTA. A lane has `vector`
    neighbours at once.
    """

    columns: int
    warps: int
    rows: int
    vector: int

    @property
    def threads(self) -> int:
        """How many threads have a row."""
        return self.warps * WARP_SIZE

    def rows_on_grid(self, s: Schedule, output: str) -> LoopHandle:
        """Gives a CTA its rows; returns the loop in which one row is worked on."""
        rows = s.loops(output)[0]
        if self.warps > 1:
            return rows
        return s.split(rows, [None, self.rows], names=["rows", "row"])[1]

    def bind_rows(self, s: Schedule, output: str) -> None:
        """Binds the loops around the work on a row: to the grid, and to warps with one each."""
        outer = s.loops(output)
        s.bind(outer[0], "block.x")
        if self.warps == 1:
            s.bind(outer[1], "thread.y")

    def keep(self, s: Schedule, block: BlockLike, buffer: str) -> None:
        """Lays a row out so that each thread has its elements for itself, in registers."""
        width, threads = self.vector, self.threads
        place = f"j floordiv {width} mod {threads}, j floordiv {width * threads}, j mod {width}"
        s.transform_layout(block, buffer, f"(i, j) -> (i, {place})")

    def elementwise(self, s: Schedule, block: str) -> None:
        """Divides a loop over a row among its threads; neighbours are loaded and stored at once."""
        step, thread, vector = self._divided(s, block)
        s.unroll(step)
        s.vectorize(vector)
        self._bind(s, thread)

    def reduce(self, s: Schedule, block: str, kind: str) -> None:
        """Reduces a row in each lane, then across the lanes of a warp, or across the CTA."""
        buffer, partial = _written(s, block), f"{block}_lanes"
        step, thread, vector = self._divided(s, block)
        names = [partial, f"{partial}_init"]
        s.rfactor(thread, names=names, buffer=f"{buffer.name}_lanes", is_whole=True)
        s.unroll(step)
        s.unroll(vector)
        self._bind(s, thread)
        self._bind(s, s.loops(f"{partial}_init")[-1])
        across = f"{kind}.{buffer.dtype}"
        intrinsic = f"warp.reduce.{across}"
        if self.warps > 1:
            intrinsic = f"cta.reduce.{across}.{self.threads}"
        s.tensorize(s.loops(block)[-1], intrinsic, arch="sm_80")

    def _divided(self, s: Schedule, block: str) -> tuple[LoopHandle, LoopHandle, LoopHandle]:
        """Divides the loop over a row into steps, threads and neighbours; threads are outside."""
        names = [f"{block}_{part}" for part in ("step", "thread", "vector")]
        whole = s.loops(block)[-1]
        step, thread, vector = s.split(whole, [None, self.threads, self.vector], names=names)
        s.reorder(thread, step, vector)
        return step, thread, vector

    def _bind(self, s: Schedule, thread: LoopHandle) -> None:
        if self.warps > 1:
            warp, thread = s.split(thread, [None, WARP_SIZE])
            s.bind(warp, "thread.y")
        s.bind(thread, "thread.x")


def _written(s: Schedule, name: str) -> Buffer:
    block = s.program.block(name)
    assert block is not None
    return s.program.buffers[block.writes[0].buffer]


def row_threads(program: Program, *blocks: str) -> RowThreads:
    """
    Returns how the rows of a program with these blocks are divided among threads.

    Raises NestError for blocks that are not over rows and a constant number of columns, and for
    rows that are too long for the registers of a CTA.
    """
    columns = _columns(program, blocks)
    vector = _vector(program, columns)
    warps = 1
    while columns > WARP_SIZE * warps * MAX_KEPT and warps < MAX_WARPS:
        warps *= 2
    if columns > WARP_SIZE * warps * MAX_KEPT:
        raise NestError(
            f"expected at most {WARP_SIZE * MAX_WARPS * MAX_KEPT} columns, which the registers of "
            f"a CTA hold, got {columns}"
        )
    return RowThreads(columns, warps, 1 if warps > 1 else ROWS, vector)


def _columns(program: Program, blocks: Sequence[str]) -> int:
    extents: set[Expression] = set()
    for name in blocks:
        block = program.block(name)
        if block is None or len(block.axes) != 2 or len(program.loops_around(name)) != 2:
            known = ", ".join(block.name for block in blocks_of(program.body))
            raise NestError(
                f"expected a block '{name}' over rows and columns with a loop each, got "
                + (f"blocks {known}" if block is None else f"'{name}' over other loops")
            )
        extents.add(block.axes[1].extent)
    counts = [extent.constant_value for extent in extents]
    if len(counts) != 1 or counts[0] is None:
        raise NestError(
            "expected the same constant number of columns in all blocks, got "
            f"{', '.join(map(str, extents))}; registers hold a row"
        )
    return counts[0]


def _vector(program: Program, columns: int) -> int:
    """Returns the most neighbours that a lane loads at once, of the widest dtype."""
    bits = max(DTYPE_BITS[parameter.dtype] for parameter in program.parameters)
    vector = _VECTOR_BITS // bits
    while columns % vector or (vector > 1 and columns < WARP_SIZE * vector):
        vector //= 2
    return vector
