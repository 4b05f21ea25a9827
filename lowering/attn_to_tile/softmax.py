"""
The online softmax: running maximum, sum and average of a row, renewed with each tile of keys.

Source: Milakov and Gimelshein, "Online normalizer calculation for softmax", section 3; Dao,
"FlashAttention-2", section 3.1: the sum of a row is combined across lanes only at the end.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from xdsl.dialects import arith
from xdsl.dialects.builtin import f32
from xdsl.ir import SSAValue

from ...dialects.tile import (
    FillOp,
    FragmentLayout,
    FragmentType,
    MapOp,
    QuadReduceOp,
    ReduceKind,
    RowReduceOp,
    TeamReduceOp,
    YieldOp,
    fragment_type,
    map_region,
)
from ..emitter import Emitter
from .geometry import Geometry
from .scores import LN_2, LOG2_E

MINUS_INFINITY = float("-inf")
# The values that a loop carries of a state.
STATE_FIELDS = 3


@dataclass(frozen=True)
class RowState:
    """
    The state of the rows of a tile: `out` [rows, head_dim], `maximum` and `total` [rows].

    `maximum` is in the units of the scores. Until all keys are seen, `total` is the part of the
    lane, or, where weights are summed up by products, [rows, 8] with the sum in every column.
    """

    out: SSAValue
    maximum: SSAValue
    total: SSAValue

    def values(self) -> tuple[SSAValue, SSAValue, SSAValue]:
        """The state as loops carry it."""
        return self.out, self.maximum, self.total


def emit_map(
    emit: Emitter,
    inputs: Sequence[SSAValue],
    outputs: Sequence[FragmentType],
    body: Callable[..., Sequence[SSAValue]],
) -> Sequence[SSAValue]:
    """Appends a `tile.map` whose body takes one scalar an input and needs no coordinates."""
    region = map_region(inputs, outputs[0])
    with emit.into(region.block):
        emit.op(YieldOp, *body(*region.block.args[: len(inputs)]))
    return emit.with_regions(MapOp, inputs, outputs, region).results


def row_type(geometry: Geometry, layout: FragmentLayout = FragmentLayout.ROW) -> FragmentType:
    """Returns the type of one f32 a row."""
    return fragment_type((geometry.rows,), f32, layout)


def total_type(geometry: Geometry) -> FragmentType:
    """Returns the type of the totals until all keys are seen."""
    if geometry.sums_by_product:
        return fragment_type((geometry.rows, 8), f32, FragmentLayout.MMA_C)
    return row_type(geometry, FragmentLayout.ROW_PARTIAL)


def out_type(geometry: Geometry) -> FragmentType:
    """Returns the type of a team's output of a query tile, before it is rounded."""
    return fragment_type((geometry.rows, geometry.out_columns), f32, FragmentLayout.MMA_C)


def emit_initial_state(
    emit: Emitter,
    geometry: Geometry,
    softmax: bool,
    total: FragmentType,
) -> RowState:
    """Appends the state of rows that have seen no key; the maximum of weights stays 0."""
    maximum = emit.float32(MINUS_INFINITY if softmax else 0.0)
    zero = emit.float32(0.0)
    return RowState(
        out=emit.result(FillOp, zero, out_type(geometry)),
        maximum=emit.result(FillOp, maximum, row_type(geometry)),
        total=emit.result(FillOp, zero, total),
    )


def emit_probabilities(
    emit: Emitter,
    geometry: Geometry,
    scores: SSAValue,
    state: RowState,
    unit: SSAValue | None,
    of_all: Callable[[SSAValue], SSAValue] | None = None,
) -> tuple[SSAValue, RowState]:
    """
    Appends the step of one tile: probabilities against the new maximum, and the rescaled state.

    `unit` turns scores into log2 units. Scores of -inf weigh nothing, be they all so far. Where
    teams share a state, `of_all` appends the greatest of the scores that they have.
    """
    partial = emit.result(RowReduceOp, ReduceKind.MAX, scores)
    highest = emit.result(QuadReduceOp, ReduceKind.MAX, partial)
    if of_all is not None:
        highest = of_all(highest)
    maximum, shift, rescale = _renew_maximum(emit, geometry, highest, state.maximum, unit)
    scores_type = scores.type
    if not isinstance(scores_type, FragmentType):
        raise TypeError(f"scores are no fragment: {scores_type}")

    def probability(score: SSAValue, shift: SSAValue) -> Sequence[SSAValue]:
        return (emit.exp2(_in_log2(emit, score, unit, shift)),)

    def add_tile(old: SSAValue, factor: SSAValue, new: SSAValue) -> Sequence[SSAValue]:
        return (emit.fma(old, factor, new),)

    (probabilities,) = emit_map(emit, (scores, shift), (scores_type,), probability)
    if geometry.sums_by_product:
        total = _scale_rows(emit, state.total, rescale)
    else:
        tile_total = emit.result(RowReduceOp, ReduceKind.SUM, probabilities)
        of_lane = total_type(geometry)
        (total,) = emit_map(emit, (state.total, rescale, tile_total), (of_lane,), add_tile)
    return probabilities, RowState(_scale_rows(emit, state.out, rescale), maximum, total)


def add_weights(emit: Emitter, geometry: Geometry, weights: SSAValue, state: RowState) -> RowState:
    """Appends the step of one tile without a softmax: the sum of the weights alone is kept."""
    if geometry.sums_by_product:
        return state
    tile_total = emit.result(RowReduceOp, ReduceKind.SUM, weights)
    return _with_total(emit, geometry, state, tile_total, FragmentLayout.ROW_PARTIAL)


def _with_total(
    emit: Emitter, geometry: Geometry, state: RowState, more: SSAValue, layout: FragmentLayout
) -> RowState:
    def add(old: SSAValue, new: SSAValue) -> Sequence[SSAValue]:
        return (emit.binary("addf", old, new),)

    (total,) = emit_map(emit, (state.total, more), (row_type(geometry, layout),), add)
    return replace(state, total=total)


def _renew_maximum(
    emit: Emitter,
    geometry: Geometry,
    highest: SSAValue,
    maximum: SSAValue,
    unit: SSAValue | None,
) -> Sequence[SSAValue]:
    """Returns the new maximum, its negative in log2 units, and the factor for what is there."""
    row = row_type(geometry)

    def renew(old: SSAValue, new: SSAValue) -> Sequence[SSAValue]:
        renewed = emit.binary("maxf", old, new)
        nothing_seen = emit.result(arith.CmpfOp, renewed, emit.float32(MINUS_INFINITY), "oeq")
        reference = emit.select(nothing_seen, emit.float32(0.0), renewed)
        if unit is not None:
            reference = emit.binary("mulf", reference, unit)
        shift = emit.result(arith.NegfOp, reference)
        return renewed, shift, emit.exp2(_in_log2(emit, old, unit, shift))

    return emit_map(emit, (maximum, highest), (row, row, row), renew)


def _scale_rows(emit: Emitter, fragment: SSAValue, factors: SSAValue) -> SSAValue:
    kind = fragment.type
    if not isinstance(kind, FragmentType):
        raise TypeError(f"expected a fragment, got {kind}")

    def scale(element: SSAValue, factor: SSAValue) -> Sequence[SSAValue]:
        return (emit.binary("mulf", element, factor),)

    (scaled,) = emit_map(emit, (fragment, factors), (kind,), scale)
    return scaled


def scaled_by(emit: Emitter, fragment: SSAValue, factor: SSAValue) -> SSAValue:
    """Appends the product of a fragment and one factor."""
    kind = fragment.type
    if not isinstance(kind, FragmentType):
        raise TypeError(f"expected a fragment, got {kind}")

    def scale(element: SSAValue) -> Sequence[SSAValue]:
        return (emit.binary("mulf", element, factor),)

    (scaled,) = emit_map(emit, (fragment,), (kind,), scale)
    return scaled


def _in_log2(emit: Emitter, score: SSAValue, unit: SSAValue | None, shift: SSAValue) -> SSAValue:
    return emit.binary("addf", score, shift) if unit is None else emit.fma(score, unit, shift)


def emit_totals(emit: Emitter, geometry: Geometry, state: RowState) -> RowState:
    """Appends the sum over the lanes of a row: `total` is whole from here on."""
    total, kind = state.total, ReduceKind.SUM
    if geometry.sums_by_product:
        # Every column has the sum of the row.
        kind = ReduceKind.MAX
        total = emit.result(RowReduceOp, kind, total)
    return replace(state, total=emit.result(QuadReduceOp, kind, total))


def combine_teams(
    emit: Emitter, geometry: Geometry, state: RowState, unit: SSAValue | None, ring: SSAValue
) -> RowState:
    """
    Appends the merge of the states of all teams, with whole totals, through a ring's bytes.

    Each team has seen other keys of the same rows: its state is rescaled to the greatest maximum,
    then all are added up in the order of the teams.
    """
    if geometry.teams == 1:
        return state
    greatest = emit.result(TeamReduceOp, ReduceKind.MAX, state.maximum, ring)
    maximum, _, rescale = _renew_maximum(emit, geometry, greatest, state.maximum, unit)
    out = _scale_rows(emit, state.out, rescale)
    total = _scale_rows(emit, state.total, rescale)
    return RowState(
        out=emit.result(TeamReduceOp, ReduceKind.SUM, out, ring),
        maximum=maximum,
        total=emit.result(TeamReduceOp, ReduceKind.SUM, total, ring),
    )


def emit_added_partial(
    emit: Emitter,
    geometry: Geometry,
    state: RowState,
    lse: SSAValue,
    add: Callable[[SSAValue, SSAValue], SSAValue],
) -> RowState:
    """
    Appends the merge of a partial result into a state in log2 units with whole totals.

    `lse` [rows] is the natural logarithm of the partial result's sum of exponentials, and
    `add(out, weight)` appends the addition of its output, times a weight a row.
    """
    row = row_type(geometry)

    def in_log2(lse: SSAValue) -> Sequence[SSAValue]:
        return (emit.binary("mulf", lse, emit.float32(LOG2_E)),)

    def weigh(
        lse: SSAValue, shift: SSAValue, total: SSAValue, rescale: SSAValue
    ) -> Sequence[SSAValue]:
        weight = emit.exp2(emit.binary("addf", lse, shift))
        return weight, emit.fma(total, rescale, weight)

    (lse,) = emit_map(emit, (lse,), (row,), in_log2)
    maximum, shift, rescale = _renew_maximum(emit, geometry, lse, state.maximum, None)
    weight, total = emit_map(emit, (lse, shift, state.total, rescale), (row, row), weigh)
    return RowState(add(_scale_rows(emit, state.out, rescale), weight), maximum, total)


def emit_added_sum(
    emit: Emitter,
    geometry: Geometry,
    state: RowState,
    total: SSAValue,
    add: Callable[[SSAValue, SSAValue], SSAValue],
) -> RowState:
    """Appends the merge of a partial result without a softmax: `total` [rows] of its weights."""
    one = emit.result(FillOp, emit.float32(1.0), row_type(geometry))
    state = _with_total(emit, geometry, state, total, FragmentLayout.ROW)
    return replace(state, out=add(state.out, one))


def emit_log_total(emit: Emitter, geometry: Geometry, total: SSAValue) -> SSAValue:
    """Appends the natural logarithm of the sum of a row's weights."""

    def finish(total: SSAValue) -> Sequence[SSAValue]:
        return (emit.binary("mulf", emit.log2(total), emit.float32(LN_2)),)

    (lse,) = emit_map(emit, (total,), (row_type(geometry),), finish)
    return lse


def emit_result(
    emit: Emitter, geometry: Geometry, state: RowState, unit: SSAValue | None
) -> tuple[SSAValue, SSAValue]:
    """Appends the division by the total, and the natural logarithm of the sum; returns both."""
    row = row_type(geometry)

    def finish(total: SSAValue, maximum: SSAValue) -> Sequence[SSAValue]:
        zero, one = emit.float32(0.0), emit.float32(1.0)
        nothing_seen = emit.result(arith.CmpfOp, total, zero, "oeq")
        factor = emit.select(nothing_seen, zero, emit.binary("divf", one, total))
        scaled = maximum if unit is None else emit.binary("mulf", maximum, unit)
        log2_sum = emit.binary("addf", scaled, emit.log2(total))
        lse = emit.binary("mulf", log2_sum, emit.float32(LN_2))
        return factor, emit.select(nothing_seen, emit.float32(MINUS_INFINITY), lse)

    factor, lse = emit_map(emit, (state.total, state.maximum), (row, row), finish)
    return _scale_rows(emit, state.out, factor), lse
