"""
The persistent attention kernel: each CTA works through its queue of work items.

One launch serves prefill, append and decode. Requests of few packed rows, as those of decode, take
a small query tile, whose keys the teams of a CTA share; which tile a request takes depends on
itself alone, so that its results do not depend on the batch.

Source: Ye et al., FlashInfer, MLSys 2025, section 3.3 (the work queue of each CTA).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from xdsl.dialects.builtin import LocationAttr
from xdsl.ir import Attribute, SSAValue

from ...dialects.attn import VariantOp
from ...dialects.sym import ExpressionAttr, constant, symbol
from ...dialects.tile import AllocOp, BarrierOp, KernelOp, ReturnOp
from ...transforms.kv_bounds import KvBounds, kv_bounds
from ..emitter import Emitter, name_fields
from .geometry import Geometry, Work
from .key_tiles import KeyRings
from .kv_range import emit_kv_range, emit_list_range
from .params import Params, bound_params, kernel_params
from .query_tile import QueryTile
from .regions import Scope, variant_params
from .request import Request, blocks_of, emit_queue, emit_request
from .result import Results, ring_of
from .scores import emit_scale, emit_scores

# The symbol of the launch: how many entries `cta_indptr` has, one more than there are CTAs.
CTA_BOUNDS = "cta_bounds"


def build_kernel(
    name: str, variant: VariantOp, geometry: Geometry, location: LocationAttr
) -> KernelOp:
    """Returns the kernel of a variant of attention, for these geometry's numbers."""
    more = variant_params(variant)
    own = kernel_params(geometry.storage, geometry.work)
    kernel_op = new_kernel(name, [*own, *more], geometry.warps, location)
    emit = Emitter(kernel_op.body.block, location)
    names = [name for name, _ in (*own, *more)]
    named = dict(zip(names, kernel_op.body.block.args, strict=True))
    params = bound_params(emit, geometry, {name: named[name] for name, _ in own})
    read = {name: named[name] for name, _ in more}
    query_ring = emit.result(AllocOp, geometry.query_ring)
    rings = KeyRings.alloc(emit, geometry)
    items = _Items(emit, variant, geometry, params, read, query_ring, rings)
    emit_queue(emit, params, items.work_on)
    emit.op(ReturnOp)
    return kernel_op


@dataclass(frozen=True)
class _Items:
    """The work on the items of a queue; `read` are the variant's own parameters."""

    emit: Emitter
    variant: VariantOp
    geometry: Geometry
    params: Params
    read: Mapping[str, SSAValue]
    query_ring: SSAValue
    rings: KeyRings

    @cached_property
    def bounds(self) -> KvBounds:
        """The keys that a query may see, by its position."""
        if self.geometry.storage.columns and self.variant.mask is not None:
            # Positions are not those that tiles are counted in.
            return KvBounds(exact=False)
        return kv_bounds(self.variant.mask)

    def work_on(self, item: SSAValue) -> None:
        """Appends the work on one item, with the query tile that its request takes."""
        emit, geometry, short = self.emit, self.geometry, self.geometry.short
        request = emit_request(emit, self.params, geometry, item)
        # Every thread is done with the shared memory of the item before; the loads are under way.
        emit.op(BarrierOp)
        scope = Scope(emit, self.variant, geometry, self.params, request, self.read)
        results = Results(scope, item, geometry.tile_rows, self.query_ring, self.rings.scratch)
        if short == geometry:
            self.attend(geometry, request, results)
        else:
            emit.branch(
                emit.compare("sgt", request.own_rows(emit), short.rows),
                lambda: self.attend(geometry, request, results),
                lambda: self.attend(short, request, results),
            )
        results.merge(short)

    def attend(self, geometry: Geometry, request: Request, results: Results) -> None:
        """Appends the attention of one item, with query tiles of these numbers."""
        emit, params, lists = self.emit, self.params, geometry.work is Work.TILE_LISTS
        if lists:
            tiles = emit_list_range(emit, params, geometry, results.item)
        else:
            tiles = emit_kv_range(emit, request, geometry, self.bounds)
            # No row sees a key from there on: one end is enough.
            request = replace(request, kv_end=tiles.end)
        scope = replace(results.scope, geometry=geometry, request=request)
        scale, partly_masked = emit_scale(scope), tiles.full_end is not None
        blocks = [
            emit_scores(replace(scope, request=rows), scale, partly_masked)
            for rows in blocks_of(emit, request, geometry)
        ]
        ring = ring_of(emit, self.query_ring, geometry.query_ring)
        tile = QueryTile(emit, geometry, params, request, blocks, tiles, ring, self.rings)
        for record in (tiles, *blocks, tile):
            name_fields(record)
        states = tile.visit_keys(cut_at_front=lists or bool(self.bounds.lower))
        for block, state in enumerate(states):
            results.store(geometry, state, blocks[block].unit, block)


def new_kernel(
    name: str, params: Sequence[tuple[str, Attribute]], warps: int, location: LocationAttr
) -> KernelOp:
    """Returns an empty persistent kernel with these parameters."""
    grid = (symbol(CTA_BOUNDS) - 1, constant(1), constant(1))
    sizes = [ExpressionAttr(axis) for axis in grid]
    kernel_op = KernelOp(name, params, warps, sizes)
    kernel_op.location = location
    return kernel_op
