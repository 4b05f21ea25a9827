"""
What schedules of work on rows share: each row belongs to the lanes of one warp, or of several.

    a row of columns, 4 neighbours a lane, 2 steps:

    lane   0    1    2   ...  31    0    1    2   ...  31
         |....|....|....|...|....|....|....|....|...|....|
          step 0                  step 1

A lane keeps its elements in registers. A reduction has a partial result in each lane, which the
lanes of a warp exchange; results of several warps meet in shared memory.
"""

from dataclasses import dataclass

from ...dialects.nest.program import Program, Scope
from ...dialects.nest.scalars import DTYPE_BITS
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

    def elementwise(self, s: Schedule, block: BlockLike) -> None:
        """Divides a loop over a row among its threads; neighbours are loaded and stored at once."""
        step, lane, vector = self._divided(s, block)
        s.unroll(step)
        s.vectorize(vector)
        self._bind(s, s.block_name(block))

    def reduce(self, s: Schedule, block: str, kind: str) -> None:
        """Reduces a row in each lane, then across the lanes of a warp, then across warps."""
        step, lane, vector = self._divided(s, block)
        if self.warps > 1:
            block = self._across_warps(s, block)
        lanes, buffer = f"{block}_lanes", s.program.block(block).writes[0].buffer
        s.rfactor(lane, names=[lanes, f"{lanes}_init"], buffer=f"{buffer}_lanes", is_whole=True)
        for part in (lanes, f"{lanes}_init"):
            self._bind(s, part)
        s.unroll(step)
        s.unroll(vector)
        s.tensorize(s.loops(block)[-1], f"warp.reduce.{kind}.f32", arch="sm_80")
        self._bind(s, f"{block}_o")

    def _across_warps(self, s: Schedule, block: str) -> str:
        """
        Gives each warp a result of its own in shared memory, from which each thread reduces all.

        Returns the block that makes these results.
        """
        (warp,) = (loop for loop in s.loops(block) if loop.name == f"{block}_warp")
        warps, buffer = f"{block}_warps", s.program.block(block).writes[0].buffer
        s.rfactor(warp, names=[warps], buffer=f"{buffer}_warps")
        s.set_scope(f"{buffer}_warps", Scope.SHARED)
        copy = s.cache_write(warps, f"{buffer}_warps", Scope.LOCAL)
        s.reverse_compute_at(copy, warp)
        return warps

    def _bind(self, s: Schedule, block: str) -> None:
        """Binds the loops around a block that are over warps and lanes."""
        for loop in s.loops(block):
            for part, axis in (("_warp", "thread.y"), ("_lane", "thread.x")):
                if part in loop.name and s.program.loop(loop.name).kind == "serial":
                    s.bind(loop, axis)

    def _divided(self, s: Schedule, block: BlockLike) -> tuple[LoopHandle, LoopHandle, LoopHandle]:
        """Divides the loop over a row; binds that over its warps. Returns those over the rest."""
        name = s.block_name(block)
        whole = s.loops(block)[-1]
        if self.warps == 1:
            names = [f"{name}_{part}" for part in ("step", "lane", "vector")]
            step, lane, vector = s.split(whole, [None, WARP_SIZE, self.vector], names=names)
            s.reorder(lane, step, vector)
            return step, lane, vector
        names = [f"{name}_{part}" for part in ("step", "warp", "lane", "vector")]
        factors = [None, self.warps, WARP_SIZE, self.vector]
        step, warp, lane, vector = s.split(whole, factors, names=names)
        s.reorder(warp, lane, step, vector)
        return step, lane, vector


def row_threads(program: Program, output: str) -> RowThreads:
    """
    Returns how the rows that a block writes are divided among threads.

    Raises NestError for a block that is not over rows and a constant number of columns, and for
    rows that are too long for the registers of a CTA.
    """
    block = program.block(output)
    if block is None or len(block.axes) != 2:
        axes = "none" if block is None else ", ".join(axis.name for axis in block.axes)
        raise NestError(f"expected a block '{output}' over rows and columns, got axes {axes}")
    columns = block.axes[1].extent.constant_value
    if columns is None:
        raise NestError(
            f"expected a constant number of columns, got {block.axes[1].extent}; registers hold "
            "a row"
        )
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


def _vector(program: Program, columns: int) -> int:
    """Returns the most neighbours that one load of each row has, of the widest dtype."""
    bits = max(DTYPE_BITS[buffer.dtype] for buffer in program.buffers.values())
    vector = _VECTOR_BITS // bits
    while columns % vector or (vector > 1 and columns < WARP_SIZE * vector):
        vector //= 2
    return vector
