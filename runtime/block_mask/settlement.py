"""Looks for an element that is kept and one that is masked in tiles that are left open."""

from dataclasses import dataclass

import numpy as np

from .forms import BoolArray, Boxes, Int64Array, Integers
from .interpretation import Interpreter

# Elements that are tried first, as fractions of a tile: corners, the middle, and some between.
_PLACES = np.asarray(
    [(0, 0), (1, 1), (0, 1), (1, 0), (0.5, 0.5), (0.25, 0.75), (0.75, 0.25), (0.37, 0.11)]
)
AT_ONCE = 1 << 16


@dataclass
class Witnesses:
    """
    An element of each of N tiles that is kept and one that is masked.

    Both are int64[N, 2], the positions of query and key, or -2^31 where none is found. `settled`
    tells that the search is complete: what is not found does not exist.
    """

    kept: Int64Array
    masked: Int64Array
    settled: BoolArray

    @property
    def has_kept(self) -> BoolArray:
        """Whether an element that is kept is known."""
        return self.kept[:, 1] >= 0

    @property
    def has_masked(self) -> BoolArray:
        """Whether an element that is masked is known."""
        return self.masked[:, 1] >= 0


def _chosen(boxes: Boxes, which: Int64Array) -> Boxes:
    def of(values: Integers) -> Integers:
        return values if isinstance(values, int) else values[which]

    return Boxes(
        of(boxes.b),
        of(boxes.h),
        boxes.q_first[which],
        boxes.q_last[which],
        boxes.kv_first[which],
        boxes.kv_last[which],
        of(boxes.row_shift),
    )


def search(interpreter: Interpreter, boxes: Boxes, budget: int) -> Witnesses:
    """
    Returns witnesses for each rectangle.

    A few elements are tried; what they leave open is halved until a part is empty or full, at the
    latest when it is a single element. `budget` is the number of parts that may be evaluated.
    """
    nothing = np.full((len(boxes), 2), -(2**31), np.int64)
    found = Witnesses(nothing, nothing.copy(), np.zeros(len(boxes), np.bool_))
    for x, y in _PLACES:
        tiles = np.flatnonzero(~(found.has_kept & found.has_masked))
        if not 0 < len(tiles) <= budget:
            break
        budget -= len(tiles)
        _try(interpreter, _chosen(boxes, tiles), tiles, (float(x), float(y)), found)
    _halve(interpreter, boxes, budget, found)
    return found


def _element(boxes: Boxes, place: tuple[float, float]) -> Boxes:
    q = boxes.q_first + ((boxes.q_last - boxes.q_first) * place[0]).astype(np.int64)
    kv = boxes.kv_first + ((boxes.kv_last - boxes.kv_first) * place[1]).astype(np.int64)
    return Boxes(boxes.b, boxes.h, q, q, kv, kv, boxes.row_shift)


def _try(
    interpreter: Interpreter,
    boxes: Boxes,
    tiles: Int64Array,
    place: tuple[float, float],
    found: Witnesses,
) -> None:
    """Evaluates the mask at one place of each rectangle."""
    element = _element(boxes, place)
    mask = interpreter.mask(element)
    positions = np.stack([element.q_first, element.kv_first], axis=1)
    for which, into in ((mask.must, found.kept), (~mask.may, found.masked)):
        which = np.broadcast_to(which, len(tiles))
        into[tiles[which]] = positions[which]


def _halve(interpreter: Interpreter, boxes: Boxes, budget: int, found: Witnesses) -> None:
    """Halves rectangles whose tile still lacks a witness, each along its longer side."""
    found.settled[:] = True
    waiting = [(np.arange(len(boxes)), boxes)]
    while waiting:
        tiles, parts = waiting.pop()
        wanted = np.flatnonzero(~(found.has_kept & found.has_masked)[tiles])
        if len(wanted) > AT_ONCE:
            middle = len(wanted) // 2
            for some in (wanted[middle:], wanted[:middle]):
                waiting.append((tiles[some], _chosen(parts, some)))
            continue
        tiles, parts = tiles[wanted], _chosen(parts, wanted)
        budget -= 2 * len(tiles)
        if budget < 0:
            found.settled[tiles] = False
        elif len(tiles):
            _try(interpreter, parts, tiles, (0.5, 0.5), found)
            waiting.append(_left_open(interpreter, parts, tiles, found))
    found.settled |= found.has_kept & found.has_masked


def _left_open(
    interpreter: Interpreter, parts: Boxes, tiles: Int64Array, found: Witnesses
) -> tuple[Int64Array, Boxes]:
    """Notes the parts that are empty or full; returns the halves of the others."""
    mask = interpreter.mask(parts)
    positions = np.stack([parts.q_first, parts.kv_first], axis=1)
    must, may = (np.broadcast_to(side, len(tiles)) for side in (mask.must, mask.may))
    found.kept[tiles[must]] = positions[must]
    found.masked[tiles[~may]] = positions[~may]
    single = (parts.q_first == parts.q_last) & (parts.kv_first == parts.kv_last)
    open_ = may & ~must
    found.settled[tiles[open_ & single]] = False
    left = np.flatnonzero(open_ & ~single)
    return np.tile(tiles[left], 2), _halves(_chosen(parts, left))


def _halves(boxes: Boxes) -> Boxes:
    by_query = boxes.q_last - boxes.q_first >= boxes.kv_last - boxes.kv_first
    q_middle = (boxes.q_first + boxes.q_last) // 2
    kv_middle = (boxes.kv_first + boxes.kv_last) // 2

    def twice(values: Integers) -> Integers:
        return values if isinstance(values, int) else np.tile(values, 2)

    def joined(first: Int64Array, second: Int64Array) -> Int64Array:
        return np.concatenate([first, second])

    return Boxes(
        twice(boxes.b),
        twice(boxes.h),
        joined(boxes.q_first, np.where(by_query, q_middle + 1, boxes.q_first)),
        joined(np.where(by_query, q_middle, boxes.q_last), boxes.q_last),
        joined(boxes.kv_first, np.where(by_query, boxes.kv_first, kv_middle + 1)),
        joined(np.where(by_query, boxes.kv_last, kv_middle), boxes.kv_last),
        twice(boxes.row_shift),
    )
