"""Smallest and largest entries of integer tensors over ranges of an index."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from .forms import Form, Int64Array, Integers, Range, between, point

Int32Array = npt.NDArray[np.int32]

# Ranges of at least twice this length are answered from blocks of this length and two windows.
_BLOCK_LOG = 7
_BLOCK = 1 << _BLOCK_LOG
# Blocks of several dimensions that are read whole, and the entries that are read at once.
_LARGEST_BLOCK = 1 << 13
_READ_AT_ONCE = 1 << 20


class Table:
    """
    A tensor of int32 that masks read, with what is precomputed to bound its entries over ranges.

    Entries that never fall along the index are bounded by those at the ends of the range; others
    by minima over windows of powers of two, which are made when they are first needed.
    """

    def __init__(self, array: Int32Array) -> None:
        self.array = array
        self._rows: dict[int, Rows] = {}
        self._labels: dict[int, Table] = {}

    def labels(self, axis: int) -> "Table":
        """
        Returns numbers that are as equal as the entries of each row along an axis.

        They count the values in the order in which they appear: those of documents that follow one
        another rise by one, whatever the documents' own numbers are.
        """
        if axis not in self._labels:
            rows = self._along(axis)
            labelled = self
            if not rows.consecutive or self.array.ndim > 1:
                labelled = Table(np.moveaxis(_labels(rows).reshape(rows.shape), -1, axis))
            self._labels[axis] = labelled
        return self._labels[axis]

    def consecutive(self, axis: int) -> bool:
        """Whether the entries of each row along an axis rise by one, or stay, from each to next."""
        return self._along(axis).consecutive

    def extent(self, axis: int, label: Integers) -> Range:
        """Returns the first and the last index of a label along an axis; labels have no gaps."""
        return self._along(axis).extent(label)

    def _along(self, axis: int) -> "Rows":
        if axis not in self._rows:
            self._rows[axis] = Rows(np.moveaxis(self.array, axis, -1))
        return self._rows[axis]

    def entries(self, indices: Sequence[Form], ranges: Sequence[Range]) -> Form:
        """
        Returns a form that holds all entries at the indices; `ranges` bounds each of them.

        Indices outside of the tensor are those of the nearest entry.
        """
        varying = [axis for axis, index in enumerate(indices) if not index.uniform]
        ranges = [self._clamped(axis, *bounds) for axis, bounds in enumerate(ranges)]
        if not varying:
            at = tuple(lo for lo, _ in ranges)
            value: Any = self.array[at]
            return point(int(value) if np.ndim(value) == 0 else value.astype(np.int64))
        if len(varying) > 1:
            return self._entries_of_blocks(ranges)
        axis = varying[0]
        others = [lo for number, (lo, _) in enumerate(ranges) if number != axis]
        return between(*self._along(axis).extremes(others, *ranges[axis]))

    def _clamped(self, axis: int, lo: Integers, hi: Integers) -> Range:
        largest = self.array.shape[axis] - 1
        if isinstance(lo, int) and isinstance(hi, int):
            return min(max(lo, 0), largest), min(max(hi, 0), largest)
        if np.min(lo, initial=0) >= 0 and np.max(hi, initial=0) <= largest:
            return lo, hi
        return np.clip(lo, 0, largest), np.clip(hi, 0, largest)

    def _entries_of_blocks(self, ranges: Sequence[Range]) -> Form:
        """Several indices vary: small blocks are read entry by entry, others are all that is."""
        count = max(np.size(end) for bounds in ranges for end in bounds)
        first = [np.broadcast_to(np.asarray(lo, np.int64), count) for lo, _ in ranges]
        extents = [np.broadcast_to(np.asarray(hi - lo + 1, np.int64), count) for lo, hi in ranges]
        size = np.prod(extents, axis=0)
        lo, hi = np.full(count, self._extremes[0]), np.full(count, self._extremes[1])
        small = np.flatnonzero(size <= _LARGEST_BLOCK)
        at_once = max(1, _READ_AT_ONCE // max(int(size[small].max(initial=1)), 1))
        for at in range(0, len(small), at_once):
            some = small[at : at + at_once]
            entries = self._blocks([x[some] for x in first], [x[some] for x in extents])
            lo[some], hi[some] = entries.min(axis=1), entries.max(axis=1)
        return between(lo, hi)

    def _blocks(self, first: list[Int64Array], extents: list[Int64Array]) -> Int32Array:
        """Returns the entries of blocks, a row each; blocks that are smaller repeat entries."""
        rank, indices = len(first), list[Int64Array]()
        for axis, (start, extent) in enumerate(zip(first, extents, strict=True)):
            offset = np.minimum(np.arange(int(extent.max())), extent[:, None] - 1)
            shape = [len(start)] + [1] * rank
            shape[axis + 1] = offset.shape[1]
            indices.append((start[:, None] + offset).reshape(shape))
        return self.array[tuple(indices)].reshape(len(first[0]), -1)

    @cached_property
    def _extremes(self) -> tuple[int, int]:
        return int(self.array.min()), int(self.array.max())


class Rows:
    """The rows of a tensor along its last dimension, which the ranges are in."""

    def __init__(self, array: Int32Array) -> None:
        self.shape = array.shape
        self.flat = np.ascontiguousarray(array).reshape(-1)

    @cached_property
    def rising(self) -> bool:
        """Whether no entry is smaller than the one before it in its row."""
        rows = self.flat.reshape(-1, self.shape[-1])
        return self.consecutive or bool((rows[:, 1:] >= rows[:, :-1]).all())

    @cached_property
    def consecutive(self) -> bool:
        """Whether each entry is that before it in its row, or one more."""
        rows = self.flat.reshape(-1, self.shape[-1])
        steps = (rows[:, 1:] - rows[:, :-1]).view(np.uint32)
        # Steps of 0 and 1 that wrap in 32 bits end below where they began.
        small = int(steps.max(initial=0)) <= 1
        return small and bool((rows[:, -1] >= rows[:, 0]).all())

    @cached_property
    def _begins(self) -> Int64Array:
        """Where each label begins in the flat array, and where the last one ends."""
        steps = np.flatnonzero(self.flat[1:] != self.flat[:-1]) + 1
        return np.concatenate([[0], steps, [len(self.flat)]])

    def extent(self, label: Integers) -> Range:
        """Returns the first and the last index of a label in its row."""
        at = np.asarray(label, np.int64) - int(self.flat[0])
        length = self.shape[-1]
        return self._begins[at] % length, (self._begins[at + 1] - 1) % length

    def extremes(self, others: Sequence[Integers], lo: Integers, hi: Integers) -> Range:
        """Returns the smallest and the largest entry with indices from lo to hi in each row."""
        start: Integers = 0
        for extent, index in zip(self.shape[:-1], others, strict=True):
            start = start * extent + index
        if others:
            lo, hi = start * self.shape[-1] + lo, start * self.shape[-1] + hi
        first, last = np.asarray(lo, np.int64), np.asarray(hi, np.int64)
        if self.rising:
            smallest, largest = self.flat.take(first), self.flat.take(last)
            return smallest.astype(np.int64), largest.astype(np.int64)
        first, last = np.broadcast_arrays(first, last)
        return self._windows.extremes(first, last)

    @cached_property
    def _windows(self) -> "_Windows":
        return _Windows(self.flat)


def _labels(rows: Rows) -> Int32Array:
    """Numbers the values of each row in the order in which they appear, on from row to row."""
    length = rows.shape[-1]
    begins = np.ones(len(rows.flat), np.bool_)
    begins[1:] = rows.flat[1:] != rows.flat[:-1]
    begins[::length] = True
    at = np.flatnonzero(begins)
    keys = (at // length << 32) + rows.flat[at]
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    order = np.empty(len(first), np.int32)
    order[np.argsort(first)] = np.arange(len(first))
    return np.repeat(order[inverse], np.diff(at, append=len(rows.flat)))


class _Windows:
    """Minima and maxima over windows of 2^k entries, of an array and of its blocks."""

    def __init__(self, array: Int32Array) -> None:
        self._entries = [(array, array)]
        padded = np.pad(array, (0, -len(array) % _BLOCK), mode="edge").reshape(-1, _BLOCK)
        self._blocks = [(padded.min(axis=1), padded.max(axis=1))]

    def extremes(self, first: Int64Array, last: Int64Array) -> tuple[Int64Array, Int64Array]:
        """Returns the smallest and the largest entry from `first` to `last`, both included."""
        lo, hi = np.empty(first.shape, np.int64), np.empty(first.shape, np.int64)
        block_first, block_last = -(-first // _BLOCK), (last + 1) // _BLOCK - 1
        aligned = (block_first * _BLOCK == first) & ((block_last + 1) * _BLOCK == last + 1)
        long = last - first >= 2 * _BLOCK
        for chosen in (aligned, ~aligned & ~long, ~aligned & long):
            if not chosen.any():
                continue
            if chosen is aligned:
                found = _query(self._blocks, block_first[chosen], block_last[chosen])
            else:
                found = self._unaligned(first[chosen], last[chosen])
            lo[chosen], hi[chosen] = found
        return lo, hi

    def _unaligned(self, first: Int64Array, last: Int64Array) -> tuple[Int32Array, Int32Array]:
        """Ranges that are all long, or all short: windows at both ends, and blocks between."""
        if not (last - first >= 2 * _BLOCK).all():
            return _query(self._entries, first, last)
        left = _query(self._entries, first, first + (_BLOCK - 1))
        right = _query(self._entries, last - (_BLOCK - 1), last)
        inner = _query(self._blocks, -(-first // _BLOCK), (last + 1) // _BLOCK - 1)
        lo = np.minimum(np.minimum(left[0], right[0]), inner[0])
        return lo, np.maximum(np.maximum(left[1], right[1]), inner[1])


def _query(
    levels: list[tuple[Int32Array, Int32Array]], first: Int64Array, last: Int64Array
) -> tuple[Int32Array, Int32Array]:
    """Two windows of a power of two cover each range (Bender and Farach-Colton, LATIN 2000)."""
    # frexp gives the exponent of a whole number exactly.
    exponents = np.frexp((last - first + 1).astype(np.float64))[1] - 1
    while len(levels) <= int(exponents.max()):
        lo, hi = levels[-1]
        half = 1 << (len(levels) - 1)
        levels.append((np.minimum(lo[:-half], lo[half:]), np.maximum(hi[:-half], hi[half:])))
    smallest = np.empty(first.shape, np.int32)
    largest = np.empty(first.shape, np.int32)
    for exponent in np.unique(exponents):
        chosen = exponents == exponent
        lo, hi = levels[int(exponent)]
        one, other = first[chosen], last[chosen] - ((1 << int(exponent)) - 1)
        smallest[chosen] = np.minimum(lo[one], lo[other])
        largest[chosen] = np.maximum(hi[one], hi[other])
    return smallest, largest
