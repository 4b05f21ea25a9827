"""Reductions across the lanes of a warp by butterfly shuffles."""

from xdsl.dialects import arith
from xdsl.ir import Operation

from ....dialects import nvvm
from ....dialects.nest.intrinsics import Intrinsic
from ....dialects.nest.scalars import is_float
from ..thread import Thread
from .operands import OperandView

_FULL_WARP = -1
_LAST_LANE = 31
_OPS: dict[tuple[str, bool], type[Operation]] = {
    ("sum", True): arith.AddfOp,
    ("max", True): arith.MaximumfOp,
    ("min", True): arith.MinimumfOp,
    ("sum", False): arith.AddiOp,
    ("max", False): arith.MaxSIOp,
    ("min", False): arith.MinSIOp,
}


def reduce_warp(thread: Thread, intrinsic: Intrinsic, operands: tuple[OperandView, ...]) -> None:
    """Five shuffles, with lanes 1, 2, 4, 8 and 16 away; then all lanes have the result."""
    result, source = operands
    emit = thread.emit
    combine = _OPS[str(intrinsic.parameter("kind")), is_float(source.buffer.dtype)]
    value = thread.extract(source.buffer, source.starts)
    distance = 1
    while distance < int(intrinsic.parameter("threads")):
        other = emit.value(
            nvvm.ShflSyncOp(
                nvvm.ShflKind.BFLY,
                emit.integer(_FULL_WARP),
                value,
                emit.integer(distance),
                emit.integer(_LAST_LANE),
            )
        )
        value = emit.value(combine(value, other))
        distance *= 2
    before = thread.extract(result.buffer, result.starts)
    thread.insert(result.buffer, result.starts, emit.value(combine(before, value)))
