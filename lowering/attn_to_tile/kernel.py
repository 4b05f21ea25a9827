"""
The persistent attention kernel: each CTA works through its queue of work items.

One launch serves prefill, append and decode. Requests of few packed rows, as those of decode, take
a small query tile, whose keys the teams of a CTA share; which tile a request takes depends on
itself alone, so that its results do not depend on the batch.

Source: Ye et al., FlashInfer, MLSys 2025, section 3.3 (the work queue of each CTA).
"""

from collections.abc import Sequence
from dataclasses import replace

from xdsl.dialects.builtin import IntAttr, LocationAttr, f32
from xdsl.dialects.llvm import LLVMPointerType
from xdsl.ir import Attribute, SSAValue

from ...dialects.attn import VariantOp
from ...dialects.sym import ExpressionAttr, constant, symbol
from ...dialects.tile import AllocOp, BarrierOp, KernelOp, ReturnOp
from ...transforms.kv_bounds import kv_bounds
from ..emitter import Emitter, name_fields
from .geometry import Geometry
from .kv_range import emit_kv_range
from .query_tile import QueryTile
from .regions import Scope, variant_params
from .request import Params, Request, emit_queue, emit_request
from .result import Results, ring_of
from .scores import emit_scores

GLOBAL = LLVMPointerType(IntAttr(1))
# The symbol of the launch: how many entries `cta_indptr` has, one more than there are CTAs.
CTA_BOUNDS = "cta_bounds"

PARAMS: tuple[tuple[str, Attribute], ...] = (
    ("q", GLOBAL),
    ("k_pages", GLOBAL),
    ("v_pages", GLOBAL),
    ("qo_indptr", GLOBAL),
    ("kv_indptr", GLOBAL),
    ("kv_indices", GLOBAL),
    ("kv_last_page_len", GLOBAL),
    ("cta_indptr", GLOBAL),
    ("items", GLOBAL),
    ("item_merge", GLOBAL),
    ("merges", GLOBAL),
    ("counters", GLOBAL),
    ("partial_out", GLOBAL),
    ("partial_lse", GLOBAL),
    ("out", GLOBAL),
    ("lse", GLOBAL),
    ("softmax_scale", f32),
)


def build_kernel(
    name: str, variant: VariantOp, geometry: Geometry, location: LocationAttr
) -> KernelOp:
    """Returns the kernel of a variant of attention, for these geometry's numbers."""
    more = variant_params(variant)
    kernel_op = _new_kernel(name, more, geometry, location)
    emit = Emitter(kernel_op.body.block, location)
    arguments, bounds = kernel_op.body.block.args, kv_bounds(variant.mask)
    params = Params(*arguments[: len(PARAMS)])
    read = dict(zip((name for name, _ in more), arguments[len(PARAMS) :], strict=True))
    query_ring = emit.value(AllocOp(geometry.query_ring))
    keys, values = (emit.value(AllocOp(geometry.kv_ring)) for _ in range(2))
    short = geometry.short

    def attend(geometry: Geometry, request: Request, results: Results) -> None:
        """The work on one item, with query tiles of these numbers."""
        tiles = emit_kv_range(emit, request, geometry, bounds)
        scope = replace(results.scope, geometry=geometry)
        scores = emit_scores(emit, scope, params.softmax_scale)
        ring = ring_of(emit, query_ring, geometry)
        tile = QueryTile(emit, geometry, params, request, scores, tiles, ring, keys, values)
        for record in (tiles, scores, tile):
            name_fields(record)
        state = tile.visit_keys(cut_at_front=bool(bounds.lower))
        results.store(geometry, state, scores.unit)

    def work_on(item: SSAValue) -> None:
        # Every thread is done with the shared memory of the item before.
        emit.append(BarrierOp())
        request = emit_request(emit, params, geometry, item)
        scope = Scope(emit, variant, geometry, params, request, read)
        results = Results(scope, item, geometry.rows, query_ring, keys)
        if short == geometry:
            attend(geometry, request, results)
        else:
            emit.branch(
                emit.compare("sgt", request.packed_rows, short.rows),
                lambda: attend(geometry, request, results),
                lambda: attend(short, request, results),
            )
        results.merge(short)

    emit_queue(emit, params, work_on)
    emit.append(ReturnOp())
    return kernel_op


def _new_kernel(
    name: str,
    more: Sequence[tuple[str, Attribute]],
    geometry: Geometry,
    location: LocationAttr,
) -> KernelOp:
    """Returns an empty kernel with the parameters of every attention kernel, and more."""
    grid = (symbol(CTA_BOUNDS) - 1, constant(1), constant(1))
    sizes = [ExpressionAttr(axis) for axis in grid]
    kernel_op = KernelOp(name, [*PARAMS, *more], geometry.warps, sizes)
    kernel_op.location = location
    return kernel_op
