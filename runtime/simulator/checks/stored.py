"""
Values that a store is about to write, for the race checks.

A write that leaves memory as it is races with no other write: nobody can tell which came last.
Compilers print such writes where several warps hold the same values.
"""

import numpy as np

from ..scalars import Array, Lanes


class Stored:
    """The elements that lanes store: `value` goes to `view[index]`, one element a lane."""

    __slots__ = ("_index", "_value", "_view")

    def __init__(self, view: Array, index: Lanes, value: Lanes) -> None:
        self._view = view
        self._index = index
        self._value = value

    def keeps(self, positions: Array) -> Array:
        """Says which of the lanes at some positions store what is there already."""
        return _alike(self._view[_at(self._index, positions)], self._values(positions))

    def agrees(self, positions: Array, units: Array) -> Array:
        """Says which lanes store the same as the last one of them that stores to their unit."""
        _, which = np.unique(units, return_inverse=True)
        last = np.zeros(int(which.max(initial=0)) + 1, np.int64)
        last[which] = np.arange(positions.size)
        values = self._values(positions)
        return _alike(values, values[last[which]])

    def _values(self, positions: Array) -> Array:
        """Returns the values at some positions, as elements of the view."""
        values = np.broadcast_to(_at(self._value, positions), positions.size)
        return np.ascontiguousarray(values).view(self._view.dtype)


def _at(lanes: Lanes, positions: Array) -> Lanes:
    """Returns lanes at some positions; what all lanes share stays."""
    return lanes[positions] if lanes.ndim else np.full(positions.size, lanes)


def _alike(one: Array, other: Array) -> Array:
    """Says which elements have the same bits."""
    width = one.dtype.itemsize
    pair = (np.ascontiguousarray(a).view(np.uint8).reshape(-1, width) for a in (one, other))
    first, second = pair
    return np.all(first == second, axis=1)
