"""The scores of one tile of keys: scaled, changed by the variant, masked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from xdsl.dialects import arith
from xdsl.dialects.builtin import f32, i32
from xdsl.ir import SSAValue

from ...dialects.tile import (
    FragmentLayout,
    FragmentType,
    MapOp,
    YieldOp,
    fragment_type,
    map_region,
)
from ...transforms.kv_bounds import kv_bounds
from ..emitter import Emitter
from .kv_range import Masked, where_masked
from .regions import NOTHING_HOISTED, Hoisted, Scope, hoist_reads
from .request import key_position, query_of
from .scales import scale_after

LOG2_E = 1.4426950408889634
LN_2 = 0.6931471805599453
# The smallest number of a type above 0.
SMALLEST = {"f16": 2.0**-24, "bf16": 2.0**-133}


@dataclass(frozen=True)
class Scores:
    """
    What the scores of a CTA depend on beside the tile of keys.

    The softmax works in powers of two. A score of the variant is turned into log2 units at once;
    without a variant's score the raw products are kept, and `unit` turns them into log2 units
    where the exponential is taken. Without a softmax the scores are the weights themselves.

    `rows` are the positions and heads of the rows. They are None where the mask is a range of keys
    and nothing else asks for them: `seen` are then the last and, where keys are hidden in front,
    the first key that a row sees; there are none where only some tiles are masked, which find them
    anew, so that they take no registers in the others.
    """

    scope: Scope
    softmax_scale: SSAValue
    unit: SSAValue | None
    rows: tuple[SSAValue, SSAValue] | None
    seen: Sequence[SSAValue]
    hoisted: Hoisted

    @property
    def softmax(self) -> bool:
        """Whether the weights are those of a softmax."""
        return self.scope.variant.no_softmax is None

    @property
    def confined(self) -> bool:
        """Whether NaN and infinities of values are kept to the rows that see them."""
        # Values behind the last key are never copied: without a mask no others are hidden.
        return self.scope.geometry.storage.confined and self.scope.variant.mask is not None

    def hides(self, masked: Masked) -> Masked:
        """Whether the values of a tile are confined to some rows, by weights of -0.0."""
        return masked if self.confined else False


def emit_scale(scope: Scope) -> tuple[SSAValue, SSAValue | None]:
    """Appends the factor of all products, and what turns it into log2 units where scores do not."""
    emit, variant, softmax_scale = scope.emit, scope.variant, scope.params.softmax_scale
    if (factor := scale_after(scope, "key", scope.request.kv_head)) is not None:
        softmax_scale = emit.binary("mulf", softmax_scale, factor)
    if variant.score is not None or variant.no_softmax is not None:
        return softmax_scale, None
    return softmax_scale, emit.binary("mulf", softmax_scale, emit.float32(LOG2_E))


def emit_scores(
    scope: Scope, scale: tuple[SSAValue, SSAValue | None], partly_masked: bool = False
) -> Scores:
    """
    Appends what the scores of all tiles share: the rows' positions, heads, and reads.

    `scale` is that of `emit_scale`; `partly_masked` tells that some tiles need no mask.
    """
    (softmax_scale, unit), variant = scale, scope.variant
    is_range = kv_bounds(variant.mask).exact and not scope.geometry.storage.columns
    if unit is not None and variant.mask is not None and is_range:
        seen = () if partly_masked else _seen_keys(scope)
        return Scores(scope, softmax_scale, unit, None, seen, NOTHING_HOISTED)
    rows = rows_of_tile(scope)
    return Scores(scope, softmax_scale, unit, rows, (), hoist_reads(scope, *rows))


def _seen_keys(scope: Scope) -> Sequence[SSAValue]:
    """Appends the last, and where keys are hidden in front the first key that each row sees."""
    emit, request, bounds = scope.emit, scope.request, kv_bounds(scope.variant.mask)
    position, _ = rows_of_tile(scope)
    kinds = [fragment_type((scope.geometry.rows,), i32, FragmentLayout.ROW)]
    kinds *= 2 if bounds.lower else 1
    region = map_region((position,), kinds[0])
    with emit.into(region.block):
        at = region.block.args[0]
        last = emit.sub(request.kv_end, 1)
        for bound in bounds.upper:
            last = emit.min(last, emit.add(emit.mul(at, bound.slope), bound.offset))
        first = emit.integer(0)
        for bound in bounds.lower:
            first = emit.max(first, emit.add(emit.mul(at, bound.slope), bound.offset))
        emit.op(YieldOp, *(last, first)[: len(kinds)])
    return emit.with_regions(MapOp, (position,), kinds, region).results


def rows_of_tile(scope: Scope) -> tuple[SSAValue, SSAValue]:
    """Appends the position and the head of each row of a query tile."""
    emit, request, geometry = scope.emit, scope.request, scope.geometry
    kind = fragment_type((geometry.rows,), i32, FragmentLayout.ROW)
    region = map_region((), kind)
    with emit.into(region.block):
        packed = emit.add(request.first_row, region.block.args[0])
        position, head = query_of(emit, scope.params, request, geometry, packed)
        emit.op(YieldOp, position, head)
    position, head = emit.with_regions(MapOp, (), (kind, kind), region).results
    return position, head


def change_scores(
    emit: Emitter, scores: Scores, products: SSAValue, first_key: SSAValue, masked: Masked
) -> SSAValue:
    """Appends the variant's score and, if `masked`, its mask and the end of the sequence."""

    def change(masked: bool) -> Callable[[], Sequence[SSAValue]]:
        return lambda: (_changed_scores(emit, scores, products, first_key, masked),)

    return where_masked(emit, masked, (products.type,), change(True), change(False))[0]


def _scores_in_range(
    emit: Emitter, scores: Scores, products: SSAValue, first_key: SSAValue
) -> SSAValue:
    """Appends the mask of products by the range of keys that each row sees."""
    kind = products.type
    if not isinstance(kind, FragmentType):
        raise TypeError(f"the products of queries and keys are no fragment: {kind}")
    # Columns are compared, so that the position of a key is not computed; all in front of the
    # tile are alike, so that differences of columns are known to fit.
    keys = scores.seen or _seen_keys(scores.scope)
    row = fragment_type((scores.scope.geometry.rows,), i32, FragmentLayout.ROW)
    region = map_region(keys, row)
    with emit.into(region.block):
        places = (emit.sub(key, first_key) for key in region.block.args[: len(keys)])
        emit.op(YieldOp, *(emit.max(place, -1) for place in places))
    columns = emit.with_regions(MapOp, keys, [row] * len(keys), region).results
    inputs = (products, *columns)
    region = map_region(inputs, kind)
    with emit.into(region.block):
        score, last, *first, _, column = region.block.args
        seen = emit.compare("sle", column, last)
        for bound in first:
            seen = emit.binary("and", seen, emit.compare("sge", column, bound))
        emit.op(YieldOp, emit.select(seen, score, emit.float32(float("-inf"))))
    return emit.with_regions(MapOp, inputs, (kind,), region).results[0]


def _changed_scores(
    emit: Emitter, scores: Scores, products: SSAValue, first_key: SSAValue, masked: bool
) -> SSAValue:
    scope, variant = scores.scope, scores.scope.variant
    if scores.unit is not None and not masked:
        return products
    if scores.rows is None:
        return _scores_in_range(emit, scores, products, first_key)
    kind = products.type
    if not isinstance(kind, FragmentType):
        raise TypeError(f"the products of queries and keys are no fragment: {kind}")
    inputs = (products, *scores.rows, *scores.hoisted.rows)
    region = map_region(inputs, kind)
    with emit.into(region.block):
        score, position, head, *reads, _, column = region.block.args
        key = emit.add(first_key, column)
        at = key
        if variant.reads_key_position:
            at = key_position(emit, scope.params, scope.request, scope.geometry, key)
        place = (scope.request.batch, head, position, at)
        known = scores.hoisted.known(reads)
        if scores.unit is None:
            score = _changed_score(scores, score, place, known)
        if masked:
            seen = emit.compare("slt", key, scope.request.kv_end)
            if variant.mask is not None:
                (wanted,) = scope.inline(variant.mask, place, known)
                seen = emit.binary("and", seen, wanted)
            if scores.softmax:
                hidden = float("-inf")
            elif scores.confined:
                hidden, score = -0.0, _without_negative_zeros(scores, score)
            else:
                hidden = 0.0
            score = emit.select(seen, score, emit.float32(hidden))
        emit.op(YieldOp, score)
    result = FragmentType(kind.shape, f32, kind.layout)
    return emit.with_regions(MapOp, inputs, (result,), region).results[0]


def _without_negative_zeros(scores: Scores, weight: SSAValue) -> SSAValue:
    """Appends a weight that is not rounded to -0.0, but to the smallest negative number instead."""
    emit = scores.scope.emit
    smallest = emit.float32(-SMALLEST[scores.scope.geometry.dtype])
    negative = emit.result(arith.CmpfOp, weight, emit.float32(0.0), "olt")
    below = emit.binary("minf", weight, smallest)
    # The sum of -0.0 and 0.0 is 0.0.
    return emit.select(negative, below, emit.binary("addf", weight, emit.float32(0.0)))


def _changed_score(
    scores: Scores,
    product: SSAValue,
    place: Sequence[SSAValue],
    known: Mapping[SSAValue, SSAValue],
) -> SSAValue:
    """Appends the variant's score of a product: in log2 units, or a weight."""
    scope, emit = scores.scope, scores.scope.emit
    score = emit.binary("mulf", product, scores.softmax_scale)
    if scope.variant.score is not None:
        (score,) = scope.inline(scope.variant.score, (score, *place), known)
    return emit.binary("mulf", score, emit.float32(LOG2_E)) if scores.softmax else score
