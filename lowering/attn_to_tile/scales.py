"""
Where the scales of keys and values that are stored as codes are multiplied in.

One scale for all, or for a head, is a factor of the scores or of the output, so that it costs
nothing for each key; but where a variant transforms keys or values, it is given what they are.
"""

from typing import Literal

from xdsl.dialects.builtin import Float8E4M3FNType, f32
from xdsl.ir import SSAValue

from ...dialects.tile import LoadOp
from .regions import Scope

Scaled = Literal["key", "value"]
# What widened codes of e4m3 are to be multiplied by; see `tile.widen`.
E4M3_LIFT = 2.0**8


def scale_before(scope: Scope, what: Scaled) -> SSAValue | None:
    """Appends the scale that codes are multiplied by when they are widened, None for none."""
    return _scale(scope, what, scope.request.kv_head) if _transformed(scope, what) else None


def scale_after(scope: Scope, what: Scaled, kv_head: SSAValue) -> SSAValue | None:
    """Appends the factor of products with keys or values that are widened codes, None for 1."""
    storage, emit = scope.geometry.storage, scope.emit
    if storage.scales is None or storage.block is not None or _transformed(scope, what):
        return None
    scale = _scale(scope, what, kv_head)
    if isinstance(storage.element_type, Float8E4M3FNType) and not storage.converts:
        scale = emit.binary("mulf", scale, emit.float32(E4M3_LIFT))
    return scale


def _transformed(scope: Scope, what: Scaled) -> bool:
    return (scope.variant.key if what == "key" else scope.variant.value) is not None


def _scale(scope: Scope, what: Scaled, kv_head: SSAValue) -> SSAValue:
    scale = scope.params.k_scale if what == "key" else scope.params.v_scale
    assert scale is not None, "codes without blocks have one scale for all, or one a head"
    if scale.type == f32:
        return scale
    return scope.emit.result(LoadOp, scale, kv_head, f32)
