"""Copies of 4, 8 and 16 bytes by a thread, in the background or not, and what orders them."""

from xdsl.dialects import gpu, llvm
from xdsl.dialects.builtin import VectorType, i32
from xdsl.ir import SSAValue

from ....dialects import nvvm
from ....dialects.diagnostic import DiagnosticError
from ....dialects.nest.intrinsics import Intrinsic, intrinsic_named
from ....dialects.nest.program import Call, Guard, Statement
from ....dialects.nest.scalars import Apply, Constant, Scalar
from ..thread import Thread, zeros
from .operands import OperandView


def barrier(thread: Thread, _: Intrinsic, __: tuple[OperandView, ...]) -> None:
    """All threads of the CTA wait for each other."""
    thread.emit.op(gpu.BarrierOp)


def commit(thread: Thread, _: Intrinsic, __: tuple[OperandView, ...]) -> None:
    """The copies since the last group are one."""
    thread.emit.op(nvvm.CpAsyncCommitGroupOp)


def wait(thread: Thread, intrinsic: Intrinsic, _: tuple[OperandView, ...]) -> None:
    """All groups but the latest few have arrived."""
    thread.emit.op(nvvm.CpAsyncWaitGroupOp, int(intrinsic.parameter("groups")))


def copy_async(thread: Thread, intrinsic: Intrinsic, operands: tuple[OperandView, ...]) -> None:
    """One cp.async; 16 bytes go by the L2 cache alone."""
    _start_copy(thread, intrinsic, operands, None)


def copy_or_fill(
    thread: Thread, intrinsic: Intrinsic, operands: tuple[OperandView, ...], chosen: SSAValue
) -> None:
    """One cp.async that reads nothing, and fills with zero, where it is not chosen."""
    emit, width = thread.emit, int(intrinsic.parameter("width"))
    size = emit.select(chosen, emit.integer(width), emit.integer(0))
    _start_copy(thread, intrinsic, operands, size)


def _start_copy(
    thread: Thread, intrinsic: Intrinsic, operands: tuple[OperandView, ...], size: SSAValue | None
) -> None:
    target, source = operands
    width = int(intrinsic.parameter("width"))
    cached = nvvm.LoadCacheModifier.CG if width == 16 else nvvm.LoadCacheModifier.CA
    thread.emit.op(nvvm.CpAsyncOp, target.address(), source.address(), width, cached, size)


def filled_copy(first: Statement, second: Statement) -> tuple[Scalar, Call] | None:
    """
    Returns the condition and the call of a copy in the background that else fills with zero.

    Both stand under guards of opposite conditions and have the same target.
    """
    match first, second:
        case (
            Guard(condition, (Call() as moved,)),
            Guard(Apply("arith.xori", (negated, Constant(1, "i1"))), (Call() as filled,)),
        ) if condition == negated:
            copied, zeroed = (intrinsic_named(call.intrinsic) for call in (moved, filled))
            if (copied.rule, zeroed.rule) != ("cp.async", "zero"):
                return None
            same = moved.operands[0].region == filled.operands[0].region
            same = same and copied.parameter("width") == zeroed.parameter("width")
            return (condition, moved) if same else None
        case _:
            return None


def copy(thread: Thread, intrinsic: Intrinsic, operands: tuple[OperandView, ...]) -> None:
    """One load and one store of words of 32 bits."""
    target, source = map(_in_memory, operands)
    width, emit = int(intrinsic.parameter("width")), thread.emit
    words = emit.result(llvm.LoadOp, source.address(), _words(width), width)
    emit.op(llvm.StoreOp, words, target.address(), width)


def fill_zero(thread: Thread, intrinsic: Intrinsic, operands: tuple[OperandView, ...]) -> None:
    """One store of words of zero."""
    (target,) = map(_in_memory, operands)
    width = int(intrinsic.parameter("width"))
    nothing: SSAValue = zeros(thread.emit, _words(width))
    thread.emit.op(llvm.StoreOp, nothing, target.address(), width)


def _words(width: int) -> VectorType[object]:  # pyright: ignore[reportInvalidTypeArguments]
    return VectorType(i32, (width // 4,))  # pyright: ignore[reportReturnType]


def _in_memory(view: OperandView) -> OperandView:
    if view.buffer.name not in view.thread.bases:
        raise DiagnosticError(
            f"expected a copy between global and shared memory, got the {view.buffer.scope} "
            f"buffer '{view.buffer.name}'; vectorise the loop instead"
        )
    return view
