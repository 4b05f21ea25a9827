"""Reductions across the lanes of a warp."""

from collections.abc import Callable

from xdsl.dialects import arith
from xdsl.dialects.builtin import f32, i32
from xdsl.ir import Operation, SSAValue

from ....dialects import nvvm
from ....dialects.diagnostic import DiagnosticError
from ....dialects.nest.intrinsics import Intrinsic
from ...tile_to_thread.compute import FULL_WARP
from ..thread import Thread
from .operands import OperandView

_COMBINERS: dict[tuple[str, str], Callable[[SSAValue, SSAValue], Operation]] = {
    ("sum", "f32"): arith.AddfOp,
    ("max", "f32"): arith.MaximumfOp,
    ("min", "f32"): arith.MinimumfOp,
    ("sum", "i32"): arith.AddiOp,
    ("max", "i32"): arith.MaxSIOp,
    ("min", "i32"): arith.MinSIOp,
}
_REDUX = {
    "sum": nvvm.ReductionKind.ADD,
    "max": nvvm.ReductionKind.MAX,
    "min": nvvm.ReductionKind.MIN,
}


def reduce_warp(thread: Thread, intrinsic: Intrinsic, operands: tuple[OperandView, ...]) -> None:
    """Lanes exchange with ever nearer ones, after which all have the same, bit for bit."""
    target, source = operands
    kind, emit = str(intrinsic.parameter("kind")), thread.emit
    if any(extent != 1 for extent in source.extents):
        raise DiagnosticError(
            f"expected one element of '{source.buffer.name}' in each lane for "
            f"'{intrinsic.name}', got all in each; write it in a loop over thread.x"
        )
    value = thread.extract(source.buffer, source.starts)
    narrow = value.type
    combine = _COMBINERS[kind, "i32" if narrow == i32 else "f32"]
    if narrow == i32:
        mask = emit.integer(FULL_WARP)
        value = emit.value(nvvm.ReduxSyncOp(_REDUX[kind], value, mask))
    else:
        # Lanes exchange 32 bits; what has fewer is compared as f32, which is exact.
        value = value if narrow == f32 else emit.value(arith.ExtFOp(value, f32))
        for distance in (16, 8, 4, 2, 1):
            lanes = (emit.integer(FULL_WARP), value, emit.integer(distance), emit.integer(31))
            other = emit.value(nvvm.ShflSyncOp(nvvm.ShflKind.BFLY, *lanes))
            value = emit.value(combine(value, other))
        value = value if narrow == f32 else emit.value(arith.TruncFOp(value, narrow))
    before = thread.extract(target.buffer, target.starts)
    thread.insert(target.buffer, target.starts, emit.value(combine(before, value)))
