"""
Which of the elements of a row that a region reads are elements that the lane has itself.

A lane has the pairs of columns `lane`, `lane + 32`, ... of a row. What is read is known for every
column where its index is arithmetic on the column and constants, as in rotary embeddings.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from xdsl.dialects import arith
from xdsl.dialects.builtin import IntegerAttr
from xdsl.ir import Operation, SSAValue

from ...dialects.tile import WARP_SIZE

# Beyond it arithmetic of 32 bits might have wrapped.
_LARGEST = 1 << 30
_COMPARISONS: Sequence[Callable[[int, int], bool]] = (
    *(operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge),
    # Those of unsigned numbers, which are the same where none is negative.
    *(operator.lt, operator.le, operator.gt, operator.ge),
)
# Ops that are Python's on numbers that are not negative.
_FUNCTIONS: Mapping[type[Operation], Callable[[int, int], int]] = {
    arith.AddiOp: int.__add__,
    arith.SubiOp: int.__sub__,
    arith.MuliOp: int.__mul__,
    arith.AndIOp: int.__and__,
    arith.OrIOp: int.__or__,
    arith.XOrIOp: int.__xor__,
    arith.ShLIOp: lambda value, amount: value << min(amount, 32),
    arith.ShRSIOp: int.__rshift__,
    arith.ShRUIOp: int.__rshift__,
    arith.MinSIOp: min,
    arith.MaxSIOp: max,
}


@dataclass(frozen=True)
class OwnPlaces:
    """The pair, and the place in it, that is read for each place of a lane: pair by pair."""

    pairs: Sequence[int]
    halves: Sequence[int]


def own_places(index: SSAValue, column: SSAValue, columns: int) -> OwnPlaces | None:
    """Returns where a lane itself has what is read at an index, None where it does not always."""
    period = 2 * WARP_SIZE
    if columns % period:
        return None
    read = _values(index, column, columns)
    if read is None:
        return None
    pairs: list[int] = []
    halves: list[int] = []
    for first in range(0, columns, period):
        for half in range(2):
            distances = {read[at] - at for at in range(first + half, first + period, 2)}
            if len(distances) != 1:
                return None
            place = first + half + distances.pop()
            # Another half of the same pair of columns, any number of periods further.
            if not 0 <= place < columns or place % period > 1:
                return None
            pairs.append(place // period)
            halves.append(place % period)
    return OwnPlaces(pairs, halves)


def _values(value: SSAValue, column: SSAValue, columns: int) -> list[int] | None:
    """Returns an integer for each column; None where it depends on something else."""
    if value is column:
        return list(range(columns))
    op = value.owner
    if isinstance(op, arith.ConstantOp):
        attribute = op.value
        return [attribute.value.data] * columns if isinstance(attribute, IntegerAttr) else None
    if not isinstance(op, Operation) or op.regions or not op.operands:
        return None
    operands: list[list[int]] = []
    for operand in op.operands:
        if (known := _values(operand, column, columns)) is None:
            return None
        operands.append(known)
    if isinstance(op, arith.SelectOp):
        return [yes if condition else no for condition, yes, no in zip(*operands, strict=True)]
    if any(min(known) < 0 or max(known) > _LARGEST for known in operands):
        return None
    if isinstance(op, arith.CmpiOp):
        return list(map(int, map(_COMPARISONS[op.predicate.value.data], *operands)))
    function = _FUNCTIONS.get(type(op))
    return None if function is None else list(map(function, *operands))
