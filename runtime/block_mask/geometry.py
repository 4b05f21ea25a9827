"""The grid of tiles of a batch: which positions a rectangle of tiles covers."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .forms import Boxes, Int64Array, Integers


@dataclass(frozen=True, eq=False)
class Grid:
    """
    The tiles of a batch of requests and heads.

    A slice is one request and one query head; slice s has number `b[s]`, `h[s]`, `q_len[s]` queries
    of which the first stands at position `q_first[s]`, and `kv_len[s]` keys from position 0. Its
    rows of query tiles follow those of the slices before it. `block` is the queries and the keys
    of a tile.
    """

    b: Int64Array
    h: Int64Array
    q_len: Int64Array
    kv_len: Int64Array
    q_first: Int64Array
    block: tuple[int, int]

    @cached_property
    def q_tiles(self) -> Int64Array:
        """The rows of query tiles of each slice."""
        return -(-self.q_len // self.block[0])

    @cached_property
    def kv_tiles(self) -> Int64Array:
        """The KV tiles of each slice, a last one that overhangs included."""
        return -(-self.kv_len // self.block[1])

    @cached_property
    def first_row(self) -> Int64Array:
        """The number of the first row of each slice, and the number of rows at the end."""
        ends = np.zeros(len(self.q_len) + 1, np.int64)
        np.cumsum(self.q_tiles, out=ends[1:])
        return ends

    @cached_property
    def row_shift(self) -> Int64Array:
        """The row of each slice's position 0 in the array of all queries, request by request."""
        is_new = np.ones(len(self.b), np.bool_)
        is_new[1:] = self.b[1:] != self.b[:-1]
        ends = np.cumsum(np.where(is_new, self.q_len, 0))
        return ends - self.q_len - self.q_first

    @property
    def rows(self) -> int:
        """The rows of query tiles of all slices."""
        return int(self.first_row[-1])

    def of_slices(self, values: Int64Array, slices: Int64Array) -> Integers:
        """Returns a value of each slice for rectangles; one number where there is one slice."""
        return int(values[0]) if len(values) == 1 else values[slices]

    def whole(self) -> Boxes:
        """Returns a rectangle for each slice that has positions: all of them."""
        slices = np.flatnonzero((self.q_len > 0) & (self.kv_len > 0))
        zero = np.zeros(len(slices), np.int64)
        return self.boxes(slices, zero, zero, self.q_tiles[slices], self.kv_tiles[slices])

    def boxes(
        self,
        slices: Int64Array,
        row: Int64Array,
        column: Int64Array,
        rows: Integers = 1,
        columns: Integers = 1,
    ) -> Boxes:
        """Returns the positions of rectangles of tiles; `row` counts in the slice."""
        q_block, kv_block = self.block
        q_len, kv_len = self.of_slices(self.q_len, slices), self.of_slices(self.kv_len, slices)
        first = self.of_slices(self.q_first, slices)
        return Boxes(
            self.of_slices(self.b, slices),
            self.of_slices(self.h, slices),
            row * q_block + first,
            np.minimum((row + rows) * q_block, q_len) + (first - 1),
            column * kv_block,
            np.minimum((column + columns) * kv_block, kv_len) - 1,
            self.of_slices(self.row_shift, slices),
        )


@dataclass(frozen=True, eq=False)
class Squares:
    """Squares of `size` times `size` tiles, by slice and by their first row and column in it."""

    slices: Int64Array
    row: Int64Array
    column: Int64Array
    size: int

    def __len__(self) -> int:
        return len(self.row)

    def chosen(
        self, which: "Int64Array | slice | np.ndarray[tuple[int], np.dtype[np.bool_]]"
    ) -> "Squares":
        """Returns some of the squares."""
        return Squares(self.slices[which], self.row[which], self.column[which], self.size)

    def quarters(self, grid: Grid) -> "Squares":
        """Returns the four quarters of each square, without those that are outside of the grid."""
        half = self.size // 2
        slices = np.tile(self.slices, 4)
        row = np.concatenate([self.row, self.row, self.row + half, self.row + half])
        right = self.column + half
        column = np.concatenate([self.column, right, self.column, right])
        inside = (row < grid.of_slices(grid.q_tiles, slices)) & (
            column < grid.of_slices(grid.kv_tiles, slices)
        )
        quarters = Squares(slices, row, column, half)
        return quarters if inside.all() else quarters.chosen(inside)


def first_squares(grid: Grid, most: int) -> Squares:
    """Returns squares that cover all slices: the smallest of which there are at most `most`."""
    size = 1
    largest = max(int(grid.q_tiles.max(initial=1)), int(grid.kv_tiles.max(initial=1)))
    while size < largest and int(_counts(grid, size).sum()) > most:
        size *= 2
    counts = _counts(grid, size)
    slices = np.repeat(np.arange(len(counts)), counts)
    number = np.arange(len(slices)) - np.repeat(np.cumsum(counts) - counts, counts)
    across = -(-grid.kv_tiles // size)[slices]
    return Squares(slices, number // across * size, number % across * size, size)


def _counts(grid: Grid, size: int) -> Int64Array:
    return -(-grid.q_tiles // size) * -(-grid.kv_tiles // size)
