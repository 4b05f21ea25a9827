"""The persistent kernel of multi-head latent attention; its work items are those of any other."""

from xdsl.dialects.builtin import LocationAttr
from xdsl.ir import SSAValue

from ....dialects.attn import VariantOp
from ....dialects.diagnostic import error_at
from ....dialects.tile import BarrierOp, KernelOp, ReturnOp, TeamIndexOp
from ....transforms.kv_bounds import kv_bounds
from ...emitter import Emitter, name_fields
from ..kernel import new_kernel
from ..kv_range import emit_kv_range
from ..regions import Scope, variant_params
from ..request import emit_queue, emit_request
from ..scores import emit_scale, emit_scores
from .geometry import LatentGeometry
from .params import bound_latent_params, latent_params
from .result import LatentResults
from .tile import LatentRings, LatentTile, Team

# What a variant may change: rows of a latent cache belong to no head, and no team has whole rows
# of the output.
_REGIONS = ("score", "mask", "state")


def build_latent_kernel(
    name: str, variant: VariantOp, geometry: LatentGeometry, location: LocationAttr
) -> KernelOp:
    """Returns the kernel of a variant of latent attention; raises `DiagnosticError`."""
    _check_variant(variant)
    own, more = latent_params(geometry), variant_params(variant)
    kernel_op = new_kernel(name, [*own, *more], geometry.warps, location)
    emit = Emitter(kernel_op.body.block, location)
    names = [name for name, _ in (*own, *more)]
    named = dict(zip(names, kernel_op.body.block.args, strict=True))
    params, arrays = bound_latent_params(emit, geometry, {name: named[name] for name, _ in own})
    read = {name: named[name] for name, _ in more}
    bounds, rings = kv_bounds(variant.mask), LatentRings.alloc(emit, geometry)
    index = emit.result(TeamIndexOp, geometry.rows)
    keys, columns = (emit.mul(index, n) for n in (geometry.team_keys, geometry.out_columns))
    team = Team(keys, columns)
    name_fields(team)

    def work_on(item: SSAValue) -> None:
        request = emit_request(emit, params, geometry, item)
        # Every thread is done with the shared memory of the item before; the loads are under way.
        emit.op(BarrierOp)
        scope = Scope(emit, variant, geometry, params, request, read)
        results = LatentResults(scope, item, geometry.rows, rings.q_nope, rings.exchange, columns)
        tiles = emit_kv_range(emit, request, geometry, bounds)
        scores = emit_scores(scope, emit_scale(scope))
        tile = LatentTile(emit, geometry, arrays, scores, tiles, rings, team)
        for record in (tiles, scores):
            name_fields(record)
        state = tile.visit_keys(cut_at_front=bool(bounds.lower))
        results.store(geometry, state, scores.unit)
        results.merge(geometry)

    emit_queue(emit, params, work_on)
    emit.op(ReturnOp)
    return kernel_op


def _check_variant(variant: VariantOp) -> None:
    for kind, _ in variant.named_regions():
        if kind not in _REGIONS:
            raise error_at(
                variant,
                "expects a variant of score, mask and state for latent attention, "
                f"got one of {kind}",
            )
