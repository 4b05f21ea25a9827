"""
Values that may be no numbers, in tiles that a mask cuts: kept to the rows that see them.

A weight of 0 times NaN or an infinity is NaN. So a row that hides a key has a weight of -0.0 for
it, which no row that sees it has, and `tile.confine` takes what is no number out of the values.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.dialects import arith
from xdsl.dialects.builtin import f32
from xdsl.ir import SSAValue

from ...dialects.tile import (
    ColumnsOp,
    ConfineOp,
    FragmentLayout,
    FragmentType,
    InsertColumnsOp,
    LdmatrixOp,
    MmaOp,
    fragment_type,
)
from ..emitter import Emitter
from .kv_range import Masked, where_masked
from .softmax import MINUS_INFINITY, emit_map

# Columns of the output that are worked on at a time, so that their values have registers beside
# those of the output: fewer of a wider one.
COLUMNS_OF_64 = 64
STEP = 16


def hidden_weights(emit: Emitter, weights: SSAValue, scores: SSAValue, hides: Masked) -> SSAValue:
    """Appends the weights of scores, -0.0 for a score of -inf, in a tile that `hides` some keys."""
    kind = weights.type
    if not isinstance(kind, FragmentType):
        raise TypeError(f"expected a fragment, got {kind}")

    def hidden(weight: SSAValue, score: SSAValue) -> Sequence[SSAValue]:
        unseen = emit.result(arith.CmpfOp, score, emit.float32(MINUS_INFINITY), "oeq")
        return (emit.select(unseen, emit.float32(-0.0), weight),)

    def some_hidden() -> Sequence[SSAValue]:
        return emit_map(emit, (weights, scores), (kind,), hidden)

    return where_masked(emit, hides, (kind,), some_hidden, lambda: (weights,))[0]


@dataclass(frozen=True)
class ConfinedValues:
    """
    The values of a tile of keys, in a stage of shared memory, from a column on.

    `signed` says that weights may be below 0, as they are without a softmax.
    """

    emit: Emitter
    stage: SSAValue
    first_column: SSAValue
    signed: bool

    def add_products(self, weights: SSAValue, key: SSAValue, out: SSAValue) -> SSAValue:
        """Appends the product of the weights of 16 keys and their values, added to an output."""
        emit, kind, of_weights = self.emit, out.type, weights.type
        if not isinstance(kind, FragmentType) or not isinstance(of_weights, FragmentType):
            raise TypeError(f"expected fragments, got {of_weights} and {kind}")
        rows, all_columns = kind.extents
        columns = columns_at_a_time(all_columns)
        part_type = fragment_type((rows, columns), f32, FragmentLayout.MMA_C)
        step_b = fragment_type((STEP, columns), of_weights.element_type, FragmentLayout.MMA_B)

        def step(index: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
            (before,) = carried
            column = emit.add(self.first_column, emit.mul(index, columns))
            b = emit.value(LdmatrixOp(self.stage, key, column, step_b, transpose=True))
            part = emit.result(ColumnsOp, before, index, part_type)
            confined = ConfineOp(weights, b, part, self.signed)
            emit.append(confined)
            part = emit.result(MmaOp, weights, confined.finite, confined.reached)
            return (emit.result(InsertColumnsOp, part, before, index),)

        return emit.unrolled(all_columns // columns, (out,), step)[0]


def columns_at_a_time(columns: int) -> int:
    """Returns how many columns of an output are worked on at a time: a divisor of them."""
    most = max(STEP, min(COLUMNS_OF_64, COLUMNS_OF_64 * 64 // columns) // STEP * STEP)
    return next(n for n in range(most, 0, -STEP) if columns % n == 0)
