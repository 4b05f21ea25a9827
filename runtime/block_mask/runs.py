"""Lists of tiles, as runs and as CSR."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from .forms import Int64Array

Int32Array = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class TileRuns:
    """
    The KV tiles of each row of query tiles, as runs of neighbours.

    Row r owns the runs `indptr[r]` to `indptr[r + 1]`; run i is the KV tiles from `start[i]` up to
    and without `stop[i]`. Runs of a row rise and never touch. All int32 but `indptr`, int64.
    """

    indptr: Int64Array
    start: Int32Array
    stop: Int32Array

    @property
    def rows(self) -> int:
        """The number of rows of query tiles."""
        return len(self.indptr) - 1

    @cached_property
    def counts(self) -> Int64Array:
        """The number of KV tiles of each row, int64[rows]."""
        return np.diff(self.tile_indptr)

    @cached_property
    def tile_indptr(self) -> Int64Array:
        """Where the tiles of each row begin in `tiles`, int64[rows + 1]."""
        ends = np.zeros(len(self.start) + 1, np.int64)
        np.cumsum(self.stop - self.start, out=ends[1:])
        return ends[self.indptr]

    @cached_property
    def tiles(self) -> Int32Array:
        """The KV tiles of all rows in order, int32[number of tiles]; made when first asked for."""
        lengths = self.stop - self.start
        ends = np.cumsum(lengths, dtype=np.int64)
        shift = self.start.astype(np.int64)
        shift[1:] -= ends[:-1]
        total = int(ends[-1]) if len(ends) else 0
        return (np.repeat(shift, lengths) + np.arange(total)).astype(np.int32)

    @property
    def nbytes(self) -> int:
        """The bytes of the runs."""
        return self.indptr.nbytes + self.start.nbytes + self.stop.nbytes

    def row(self, number: int) -> Int32Array:
        """Returns the KV tiles of one row, int32."""
        own = slice(int(self.indptr[number]), int(self.indptr[number + 1]))
        pairs = zip(self.start[own].tolist(), self.stop[own].tolist(), strict=True)
        parts = [np.arange(start, stop, dtype=np.int32) for start, stop in pairs]
        return np.concatenate(parts) if parts else np.empty(0, np.int32)


class RunCollector:
    """
    Takes runs of tiles in any order, and sorts and joins them at the end.

    A run is packed into one integer of 64 bits, so that sorting is that of plain integers.
    """

    def __init__(self, rows: int, columns: int) -> None:
        self.rows = rows
        self._bits = max(columns, 1).bit_length()
        # 2^62 rows and columns together is beyond any memory that could hold a row's tiles.
        assert rows.bit_length() + 2 * self._bits < 63
        self._packed: list[Int64Array] = []

    def append(self, row: Int64Array, start: Int64Array, stop: Int64Array, full: bool) -> None:
        """Adds runs, full or partial."""
        packed = (row << self._bits | start) << self._bits | stop
        self._packed.append(packed << 1 | int(full))

    def runs(self) -> tuple[TileRuns, TileRuns]:
        """Returns the full and the partial tiles of each row."""
        packed = np.concatenate(self._packed) if self._packed else np.empty(0, np.int64)
        packed.sort()
        is_full = (packed & 1).astype(np.bool_)
        return self._of_kind(packed[is_full] >> 1), self._of_kind(packed[~is_full] >> 1)

    def _of_kind(self, packed: Int64Array) -> TileRuns:
        mask = (1 << self._bits) - 1
        stop, start = packed & mask, packed >> self._bits & mask
        row = packed >> 2 * self._bits
        begins = np.ones(len(packed), np.bool_)
        begins[1:] = (start[1:] != stop[:-1]) | (row[1:] != row[:-1])
        ends = np.ones(len(packed), np.bool_)
        ends[:-1] = begins[1:]
        indptr = np.zeros(self.rows + 1, np.int64)
        np.cumsum(np.bincount(row[begins], minlength=self.rows), out=indptr[1:])
        return TileRuns(indptr, start[begins].astype(np.int32), stop[ends].astype(np.int32))
