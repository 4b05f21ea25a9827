"""The scores of one tile of keys: scaled, changed by the variant, masked."""

from dataclasses import dataclass

from xdsl.dialects.builtin import f32, i32
from xdsl.ir import SSAValue

from ...dialects.attn import VariantOp
from ...dialects.tile import (
    FragmentLayout,
    FragmentType,
    MapOp,
    YieldOp,
    map_region,
)
from ..emitter import Emitter
from .geometry import Geometry
from .request import Request

LOG2_E = 1.4426950408889634
LN_2 = 0.6931471805599453


@dataclass(frozen=True)
class Scores:
    """
    What the scores of a CTA depend on beside the tile of keys.

    The softmax works in powers of two. A score of the variant is turned into log2 units at once;
    without a variant's score the raw products are kept, and `unit` turns them into log2 units
    where the exponential is taken.
    """

    variant: VariantOp
    geometry: Geometry
    request: Request
    softmax_scale: SSAValue
    unit: SSAValue | None
    position: SSAValue
    head: SSAValue


def emit_scores(
    emit: Emitter,
    variant: VariantOp,
    geometry: Geometry,
    request: Request,
    softmax_scale: SSAValue,
) -> Scores:
    """Appends what the scores of all tiles share: the rows' positions and heads."""
    unit = None
    if variant.score is None:
        unit = emit.binary("mulf", softmax_scale, emit.float32(LOG2_E))
    position, head = _rows_of_tile(emit, request, geometry)
    return Scores(variant, geometry, request, softmax_scale, unit, position, head)


def _rows_of_tile(emit: Emitter, request: Request, geometry: Geometry) -> tuple[SSAValue, SSAValue]:
    kind = FragmentType((geometry.rows,), i32, FragmentLayout.ROW)
    region = map_region((), kind)
    with emit.into(region.block):
        packed = emit.add(request.first_row, region.block.args[0])
        position = emit.add(request.position, emit.divu(packed, geometry.group))
        first_head = emit.mul(request.kv_head, geometry.group)
        head = emit.add(first_head, emit.remu(packed, geometry.group))
        emit.append(YieldOp(position, head))
    position, head = emit.append(MapOp((), region, (kind, kind))).results
    return position, head


def change_scores(
    emit: Emitter, scores: Scores, products: SSAValue, first_key: SSAValue, masked: bool
) -> SSAValue:
    """Appends the variant's score and, if `masked`, its mask and the end of the sequence."""
    variant = scores.variant
    if variant.score is None and not masked:
        return products
    kind = products.type
    if not isinstance(kind, FragmentType):
        raise TypeError(f"the products of queries and keys are no fragment: {kind}")
    inputs = (products, scores.position, scores.head)
    region = map_region(inputs, kind)
    with emit.into(region.block):
        score, position, head, _, column = region.block.args
        key = emit.add(first_key, column)
        place = (scores.request.index, head, position, key)
        if variant.score is not None:
            scaled = emit.binary("mulf", score, scores.softmax_scale)
            (score,) = emit.inline(variant.score, (scaled, *place))
            score = emit.binary("mulf", score, emit.float32(LOG2_E))
        if masked:
            seen = emit.compare("slt", key, scores.request.kv_end)
            if variant.mask is not None:
                (wanted,) = emit.inline(variant.mask, place)
                seen = emit.binary("and", seen, wanted)
            score = emit.select(seen, score, emit.float32(float("-inf")))
        emit.append(YieldOp(score))
    return emit.value(MapOp(inputs, region, (FragmentType(kind.shape, f32, kind.layout),)))
