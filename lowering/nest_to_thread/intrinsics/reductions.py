"""Reductions across the lanes of a warp, and across the threads of a CTA."""

from collections.abc import Callable
from math import inf

from xdsl.dialects import arith, gpu, llvm
from xdsl.dialects.builtin import FloatAttr, IntegerType, f32, f64, i32, i64
from xdsl.ir import Operation, SSAValue

from ....dialects import nvvm
from ....dialects.diagnostic import DiagnosticError
from ....dialects.nest.intrinsics import Intrinsic
from ....dialects.sym import symbol
from ...emitter import Emitter
from ...tile_to_thread.compute import FULL_WARP
from ..kernels import THREAD_AXES, WARP_SIZE
from ..thread import Thread
from .operands import OperandView

# Of shared memory for one reduction across a CTA: a result of each of 32 warps.
SCRATCH_BYTES = 32 * 8
_FLOAT = {"sum": arith.AddfOp, "max": arith.MaximumfOp, "min": arith.MinimumfOp}
_INTEGER = {"sum": arith.AddiOp, "max": arith.MaxSIOp, "min": arith.MinSIOp}
_REDUX = {
    "sum": nvvm.ReductionKind.ADD,
    "max": nvvm.ReductionKind.MAX,
    "min": nvvm.ReductionKind.MIN,
}
# What changes no result.
_NEUTRAL = {"sum": (0.0, 0), "max": (-inf, -(2**31)), "min": (inf, 2**31 - 1)}

Combine = Callable[[SSAValue, SSAValue], SSAValue]


def reduce_warp(thread: Thread, intrinsic: Intrinsic, operands: tuple[OperandView, ...]) -> None:
    """Lanes exchange with ever nearer ones, after which all have the same, bit for bit."""
    _update(thread, intrinsic, operands, _across_warp)


def reduce_cta(thread: Thread, intrinsic: Intrinsic, operands: tuple[OperandView, ...]) -> None:
    """
    Each warp reduces, hands its result to all by shared memory, and reduces those of all warps.

    So all threads have the same result, bit for bit.
    """
    _update(thread, intrinsic, operands, _across_cta)


def _update(
    thread: Thread,
    intrinsic: Intrinsic,
    operands: tuple[OperandView, ...],
    across: Callable[[Thread, Intrinsic, SSAValue], SSAValue],
) -> None:
    target, source = operands
    emit = thread.emit
    if any(extent != 1 for extent in source.extents):
        who = "lane" if across is _across_warp else "thread"
        axes = "thread.x" if across is _across_warp else "all threads of the CTA"
        raise DiagnosticError(
            f"expected one element of '{source.buffer.name}' in each {who} for "
            f"'{intrinsic.name}', got all in each; write it in a loop over {axes}"
        )
    value = thread.extract(source.buffer, source.starts)
    narrow = value.type
    # Lanes exchange 32 bits; what has fewer is compared as f32, which is exact.
    is_short = narrow not in (i32, f32, f64)
    value = emit.result(arith.ExtFOp, value, f32) if is_short else value
    value = across(thread, intrinsic, value)
    value = emit.result(arith.TruncFOp, value, narrow) if is_short else value
    before = thread.extract(target.buffer, target.starts)
    combine = _combiner(emit, intrinsic, value)
    thread.insert(target.buffer, target.starts, combine(before, value))


def _combiner(emit: Emitter, intrinsic: Intrinsic, value: SSAValue) -> Combine:
    kind = str(intrinsic.parameter("kind"))
    table = _INTEGER if isinstance(value.type, IntegerType) else _FLOAT
    op: Callable[[SSAValue, SSAValue], Operation] = table[kind]
    return lambda one, other: emit.value(op(one, other))


def _across_warp(thread: Thread, intrinsic: Intrinsic, value: SSAValue) -> SSAValue:
    if value.type == i32:
        mask = thread.emit.integer(FULL_WARP)
        kind = _REDUX[str(intrinsic.parameter("kind"))]
        return thread.emit.result(nvvm.ReduxSyncOp, kind, value, mask)
    return _among(thread.emit, _combiner(thread.emit, intrinsic, value), value, WARP_SIZE)


def _among(emit: Emitter, combine: Combine, value: SSAValue, lanes: int) -> SSAValue:
    """Returns what neighbouring lanes, a power of two, have together."""
    while lanes > 1:
        lanes //= 2
        value = combine(value, _from_lane(emit, value, lanes))
    return value


def _from_lane(emit: Emitter, value: SSAValue, distance: int) -> SSAValue:
    """Returns the value of the lane at a distance; 64 bits go as two halves."""
    if value.type != f64:
        lanes = (emit.integer(FULL_WARP), value, emit.integer(distance), emit.integer(31))
        return emit.result(nvvm.ShflSyncOp, nvvm.ShflKind.BFLY, *lanes)
    bits = emit.result(arith.BitcastOp, value, i64)
    half = emit.integer(32, i64)
    parts = (bits, emit.result(arith.ShRUIOp, bits, half))
    low, high = (
        emit.result(
            arith.ExtUIOp, _from_lane(emit, emit.result(arith.TruncIOp, p, i32), distance), i64
        )
        for p in parts
    )
    whole = emit.binary("or", low, emit.binary("shl", high, half))
    return emit.result(arith.BitcastOp, whole, f64)


def _across_cta(thread: Thread, intrinsic: Intrinsic, value: SSAValue) -> SSAValue:
    emit = thread.emit
    warps = int(intrinsic.parameter("threads")) // WARP_SIZE
    scratch = thread.scratch.pop(0)
    value = _across_warp(thread, intrinsic, value)
    number = _number(thread)
    lane, warp = emit.remu(number, WARP_SIZE), emit.divu(number, WARP_SIZE)
    if thread.indices.is_in_loop:
        # Who is slower may still read the results of the iteration before.
        emit.op(gpu.BarrierOp)
    place = _place(emit, scratch, warp, value)

    def keep() -> None:
        emit.op(llvm.StoreOp, value, place)

    emit.when(emit.compare("eq", lane, 0), keep)
    emit.op(gpu.BarrierOp)
    # Lanes of a power of two have a result each, or what changes none.
    lanes = 1 << (warps - 1).bit_length()
    part = emit.remu(lane, lanes)
    of_warp = part if lanes == warps else emit.min(part, warps - 1)
    found = emit.result(llvm.LoadOp, _place(emit, scratch, of_warp, value), value.type)
    if lanes != warps:
        neutral = _neutral(emit, intrinsic, value)
        found = emit.select(emit.compare("slt", part, warps), found, neutral)
    return _among(emit, _combiner(emit, intrinsic, value), found, lanes)


def _number(thread: Thread) -> SSAValue:
    """Returns the number of the thread in its CTA."""
    number = symbol(THREAD_AXES[2])
    for axis, extent in zip(THREAD_AXES[1::-1], thread.kernel.threads[1::-1], strict=True):
        number = number * extent + symbol(axis)
    return thread.indices.value(number)


def _place(emit: Emitter, scratch: SSAValue, index: SSAValue, value: SSAValue) -> SSAValue:
    return emit.pointer(scratch, index, value.type)


def _neutral(emit: Emitter, intrinsic: Intrinsic, value: SSAValue) -> SSAValue:
    number, whole = _NEUTRAL[str(intrinsic.parameter("kind"))]
    if isinstance(value.type, IntegerType):
        return emit.integer(whole)
    return emit.constant(FloatAttr(number, f64 if value.type == f64 else f32))
