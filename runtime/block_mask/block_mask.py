"""The block mask of a batch: which KV tiles each query tile needs, and which need the mask."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import ArgumentError
from .checked import checked_interpreter
from .conditions import Condition
from .evaluation import bind
from .geometry import Grid, Squares
from .interpretation import Interpreter, Value
from .program import MaskProgram
from .rows import append_rows
from .runs import RunCollector, TileRuns
from .settlement import search
from .subdivision import append_partial, append_squares, subdivide

EMPTY, PARTIAL, FULL = 0, 1, 2

# Parts of tiles that may be evaluated to settle the tiles that analysis leaves open.
DEFAULT_BUDGET = 1 << 18


class Position(NamedTuple):
    """The position of a query and of a key in their sequence."""

    q_idx: int
    kv_idx: int


@dataclass(frozen=True)
class Witness:
    """
    Why a tile is partial: a position that is kept and one that is masked.

    One that is None does not exist, or, if the tile is not `settled`, was not found. In a tile that
    overhangs a sequence the position that is masked can be the first one behind it.
    """

    kept: Position | None
    masked: Position | None
    settled: bool


@dataclass(frozen=True, eq=False)
class BlockMask:
    """
    The tiles that attention with a mask needs, for each row of query tiles.

    Rows are those of the grid: request by request, query head by query head, query tile by query
    tile. Kernels skip the tiles that are in neither list, and need the mask only in the `partial`
    ones. A tile that is called empty or full is so. `undecided` counts the partial tiles of which
    that is not known; all others have elements of both kinds, or overhang.
    """

    program: MaskProgram
    grid: Grid
    full: TileRuns
    partial: TileRuns
    undecided: int
    interpreter: Interpreter

    @property
    def nbytes(self) -> int:
        """The bytes of the runs of tiles, which is all that grows with the sequence."""
        return self.full.nbytes + self.partial.nbytes

    @property
    def kept_tiles(self) -> int:
        """The number of tiles that are not empty."""
        return int(self.full.counts.sum() + self.partial.counts.sum())

    @property
    def tiles(self) -> int:
        """The number of tiles of all slices, the empty ones included."""
        return int((self.grid.q_tiles * self.grid.kv_tiles).sum())

    def rows_of(self, part: int) -> range:
        """Returns the rows of a slice: `request * heads + head`."""
        first = self.grid.first_row
        return range(int(first[part]), int(first[part + 1]))

    def dense(self, part: int = 0) -> npt.NDArray[np.int8]:
        """Returns a slice's tiles as int8[q_tiles, kv_tiles]: 0 empty, 1 partial, 2 full."""
        rows = self.rows_of(part)
        dense = np.zeros((len(rows), int(self.grid.kv_tiles[part])), np.int8)
        for kind, runs in ((PARTIAL, self.partial), (FULL, self.full)):
            for at, number in enumerate(rows):
                dense[at, runs.row(number)] = kind
        return dense

    def witness(self, row: int, column: int, part: int = 0) -> Witness:
        """Returns an element that is kept and one that is masked of a tile of a slice."""
        boxes = self.grid.boxes(*self._tile(row, column, part))
        found = search(self.interpreter, boxes, DEFAULT_BUDGET)
        kept = Position(*found.kept[0].tolist()) if found.has_kept[0] else None
        masked = Position(*found.masked[0].tolist()) if found.has_masked[0] else None
        if masked is None:
            masked = self._behind(row, column, part)
        return Witness(kept, masked, bool(found.settled[0]))

    def _behind(self, row: int, column: int, part: int) -> Position | None:
        """Returns the first position behind a sequence that a tile overhangs."""
        grid = self.grid
        q_len, kv_len = int(grid.q_len[part]), int(grid.kv_len[part])
        q_begin, kv_begin = row * grid.block[0], column * grid.block[1]
        first = int(grid.q_first[part])
        if q_begin + grid.block[0] > q_len:
            return Position(q_len + first, kv_begin)
        if kv_begin + grid.block[1] > kv_len:
            return Position(q_begin + first, kv_len)
        return None

    def _tile(self, row: int, column: int, part: int) -> tuple[npt.NDArray[np.int64], ...]:
        grid = self.grid
        limits = (("part", part, len(grid.q_len)),)
        if 0 <= part < len(grid.q_len):
            limits += (("row", row, int(grid.q_tiles[part])),)
            limits += (("column", column, int(grid.kv_tiles[part])),)
        for name, value, limit in limits:
            if not 0 <= value < limit:
                raise ArgumentError(name, f"a number from 0 to {limit - 1}", str(value))
        return tuple(np.asarray([value], np.int64) for value in (part, row, column))

    def why(self, row: int, column: int, part: int = 0) -> list[str]:
        """
        Returns the comparisons that split a tile of a slice, each with its line in the source.

        A tile that overhangs its sequence says so. A tile that is empty or full gives no reasons.
        """
        boxes = self.grid.boxes(*self._tile(row, column, part))
        values = self.interpreter.values(boxes)
        sources = dict.fromkeys(_splitting(self.interpreter, values))
        reasons = [self._reason(source) for source in sources]
        mask = values[self.interpreter.program.root]
        assert isinstance(mask, Condition)
        if mask.may.all() and self._behind(row, column, part) is not None:
            reasons.append("the tile overhangs the sequence")
        return reasons

    def _reason(self, source: int) -> str:
        instruction = self.program.instructions[source]
        place = f"  ({instruction.place})" if instruction.place else ""
        if instruction.op == "opaque":
            return f"{instruction.value}{place}"
        return f"{self.program.text(source)}{place}"


def _splitting(interpreter: Interpreter, values: Mapping[int, Value]) -> Iterator[int]:
    """Yields the instructions of the comparisons that leave a tile open."""
    nodes = interpreter.program.nodes
    waiting = [interpreter.program.root]
    while waiting:
        number = waiting.pop()
        value = values[number]
        if not isinstance(value, Condition) or bool(value.must.all() or not value.may.any()):
            continue
        node = nodes[number]
        if node.op in ("and", "or", "not"):
            waiting += reversed(node.operands)
        else:
            yield node.source


def derive(
    program: MaskProgram, grid: Grid, parameters: Mapping[str, object], budget: int
) -> BlockMask:
    """
    Returns the block mask of a program over the tiles of a grid.

    Tiles that are open after the analysis are searched for elements of both kinds, as long as the
    `budget` of evaluated parts of tiles lasts; then they stay partial. Raises ArgumentError for
    parameters that are missing, or are read out of their bounds.
    """
    interpreter = checked_interpreter(program, bind(program, parameters), grid)
    columns = int(grid.kv_tiles.max(initial=0))
    runs = RunCollector(grid.rows, columns)
    found = subdivide(grid, interpreter, runs, append_rows(grid, interpreter, runs))
    for squares in found.proved:
        _append_partial(grid, squares, runs)
    undecided = 0
    for squares in found.tiles:
        undecided += _settle(grid, interpreter, squares, runs, budget)
    full, partial = runs.runs()
    return BlockMask(program, grid, full, partial, undecided, interpreter)


def _settle(
    grid: Grid, interpreter: Interpreter, squares: Squares, runs: RunCollector, budget: int
) -> int:
    """Appends tiles that were left open as what they are; returns how many stay undecided."""
    if not len(squares):
        return 0
    boxes = grid.boxes(squares.slices, squares.row, squares.column)
    found = search(interpreter, boxes, budget)
    is_full = found.settled & ~found.has_masked
    is_empty = found.settled & ~found.has_kept
    if is_full.any():
        append_squares(grid, squares.chosen(is_full), runs)
    _append_partial(grid, squares.chosen(~is_full & ~is_empty), runs)
    return int(np.count_nonzero(~found.settled))


def _append_partial(grid: Grid, squares: Squares, runs: RunCollector) -> None:
    append_partial(grid, runs, squares.slices, squares.row, squares.column, squares.column + 1)
