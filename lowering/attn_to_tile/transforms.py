"""
What a variant does to whole rows: queries, keys and values before the products, results after.

Rows of queries, keys and values are changed where they lie in shared memory, once for a CTA.
"""

from collections.abc import Callable

from xdsl.dialects import arith
from xdsl.dialects.builtin import f32
from xdsl.ir import Region, SSAValue

from ...dialects.attn import VariantOp
from ...dialects.tile import (
    BarrierOp,
    FragmentType,
    MapOp,
    RewriteRowsOp,
    RowElementOp,
    YieldOp,
    map_region,
    rewrite_region,
)
from .regions import Scope
from .request import key_position, query_of
from .scores import LN_2, LOG2_E, rows_of_tile

MINUS_INFINITY = float("-inf")
# Of a row of a tile: request, head, position, whether it is one of the request.
Place = tuple[SSAValue, SSAValue, SSAValue, SSAValue]


def transform_query(scope: Scope, stage: SSAValue) -> None:
    """Appends the query transform, if there is one, of the tile of queries in a stage."""
    region = scope.variant.query
    emit, request, geometry = scope.emit, scope.request, scope.geometry

    def place(row: SSAValue) -> Place:
        packed = emit.add(request.first_row, row)
        valid = emit.compare("slt", packed, request.packed_rows)
        position, head = query_of(emit, scope.params, request, geometry, packed)
        return request.batch, head, position, valid

    _rewrite(scope, region, stage, place)


def transform_keys(scope: Scope, stage: SSAValue, first_key: SSAValue) -> None:
    """Appends the key transform, if there is one, of a tile of keys that has landed."""
    _rewrite(scope, scope.variant.key, stage, _place_of_key(scope, first_key))


def transform_values(scope: Scope, stage: SSAValue, first_key: SSAValue) -> None:
    """Appends the value transform, if there is one, of a tile of values that has landed."""
    _rewrite(scope, scope.variant.value, stage, _place_of_key(scope, first_key))


def _place_of_key(scope: Scope, first_key: SSAValue) -> Callable[[SSAValue], Place]:
    emit, request = scope.emit, scope.request

    def place(row: SSAValue) -> Place:
        key = emit.add(first_key, row)
        # Rows behind the last key stay zero, so that a weight of 0 leaves nothing of them.
        at = key_position(emit, scope.params, request, scope.geometry, key)
        return request.batch, request.kv_head, at, emit.compare("slt", key, request.kv_end)

    return place


def _rewrite(
    scope: Scope, region: Region | None, stage: SSAValue, place: Callable[[SSAValue], Place]
) -> None:
    if region is None:
        return
    emit, body = scope.emit, rewrite_region()
    row, column = body.block.args
    with emit.into(body.block):
        request, head, position, valid = place(row)
        element = emit.result(RowElementOp, column)
        arguments = (element, request, head, position, column)
        (changed,) = scope.inline(region, arguments)
        emit.op(YieldOp, changed, valid)
    emit.append(RewriteRowsOp(stage, body))
    emit.op(BarrierOp)


def changes_results(variant: VariantOp) -> bool:
    """Whether a variant changes results when all keys are seen."""
    return variant.state is not None or variant.output is not None


def finish_rows(scope: Scope, out: SSAValue, lse: SSAValue) -> tuple[SSAValue, SSAValue]:
    """
    Appends the update of the rows' states and the output transform; returns (out, lse) anew.

    Takes results that are complete: of all keys that a row sees, merged from their parts.
    """
    variant = scope.variant
    if not changes_results(variant):
        return out, lse
    position, head = rows_of_tile(scope)
    if variant.state is not None:
        out, lse = _update_state(scope, variant.state, (position, head), out, lse)
    if variant.output is not None:
        out = _transform_output(scope, variant.output, (position, head), out)
    return out, lse


def _update_state(
    scope: Scope, region: Region, place: tuple[SSAValue, SSAValue], out: SSAValue, lse: SSAValue
) -> tuple[SSAValue, SSAValue]:
    """The reference of the exponentials is the lse itself, so that the total is 1, or 0."""
    emit, row = scope.emit, _fragment(lse)
    inputs = (lse, *place)
    body = map_region(inputs, row)
    with emit.into(body.block):
        before, position, head, _ = body.block.args
        zero, one = emit.float32(0.0), emit.float32(1.0)
        nothing = emit.float32(MINUS_INFINITY)
        nothing_seen = emit.result(arith.CmpfOp, before, nothing, "oeq")
        total = emit.select(nothing_seen, zero, one)
        arguments = (before, total, scope.request.batch, head, position)
        after, new_total = scope.inline(region, arguments)
        grown = emit.binary("mulf", emit.binary("subf", before, after), emit.float32(LOG2_E))
        factor = emit.binary("divf", emit.exp2(grown), new_total)
        factor = emit.select(nothing_seen, zero, factor)
        log = emit.binary("mulf", emit.log2(new_total), emit.float32(LN_2))
        emptied = emit.result(arith.CmpfOp, new_total, zero, "oeq")
        new_lse = emit.select(emptied, nothing, emit.binary("addf", after, log))
        emit.op(YieldOp, emit.select(emptied, zero, factor), new_lse)
    factor, lse = emit.with_regions(MapOp, inputs, (row, row), body).results
    kind = _fragment(out)
    body = map_region((out, factor), kind)
    with emit.into(body.block):
        emit.op(YieldOp, emit.binary("mulf", body.block.args[0], body.block.args[1]))
    return emit.with_regions(MapOp, (out, factor), (kind,), body).results[0], lse


def _transform_output(
    scope: Scope, region: Region, place: tuple[SSAValue, SSAValue], out: SSAValue
) -> SSAValue:
    emit, kind = scope.emit, _fragment(out)
    inputs = (out, *place)
    body = map_region(inputs, kind)
    with emit.into(body.block):
        element, position, head, _, column = body.block.args
        arguments = (element, scope.request.batch, head, position, column)
        emit.op(YieldOp, *scope.inline(region, arguments))
    return emit.with_regions(MapOp, inputs, (kind,), body).results[0]


def _fragment(value: SSAValue) -> FragmentType:
    kind = value.type
    if not isinstance(kind, FragmentType) or kind.element_type != f32:
        raise TypeError(f"expected a fragment of f32, got {kind}")
    return kind
