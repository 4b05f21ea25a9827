"""What the contract of a kernel says to who plans for it: its tiles, and the keys a mask hides."""

from dataclasses import dataclass

from xdsl.dialects.builtin import ModuleOp

from ..dialects.attn import AttendLatentOp, AttendOp, VariantOp
from ..lowering.attn_to_tile.geometry import Geometry, geometry_of
from ..lowering.attn_to_tile.latent import latent_geometry_of
from ..transforms.kv_bounds import kv_bounds
from .spec import AttentionSpec

Bounds = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class PlanContract:
    """
    The tiles of a kernel, and its mask's bounds as pairs (slope, offset).

    `short_rows` is 0 where the kernel has tiles of one height.
    """

    short_rows: int
    kv_tile: int
    kv_lower: Bounds
    kv_upper: Bounds
    work: str


def plan_contract(module: ModuleOp, spec: AttentionSpec) -> PlanContract:
    """Returns what planning needs of a module that attends once; raises `DiagnosticError`."""
    geometry = _geometry(module, spec)
    short = geometry.short.rows
    variant = next((op for op in module.walk() if isinstance(op, VariantOp)), None)
    # Positions that pages tell are not those that the planner counts in.
    mask = variant.mask if variant and not geometry.storage.columns else None
    bounds = kv_bounds(mask)
    return PlanContract(
        short_rows=short if short < geometry.rows else 0,
        kv_tile=geometry.kv_tile,
        kv_lower=tuple((bound.slope, bound.offset) for bound in bounds.lower),
        kv_upper=tuple((bound.slope, bound.offset) for bound in bounds.upper),
        work=spec.work,
    )


def _geometry(module: ModuleOp, spec: AttentionSpec) -> Geometry:
    attend = next(op for op in module.walk() if isinstance(op, AttendOp | AttendLatentOp))
    numbers = (spec.warps, spec.tile_rows, spec.kv_tile, spec.stages)
    if isinstance(attend, AttendLatentOp):
        return latent_geometry_of(attend, spec.target, *numbers, spec.work)
    return geometry_of(attend, spec.target, *numbers, spec.work)
