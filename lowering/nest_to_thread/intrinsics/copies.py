"""Copies of 4, 8 and 16 bytes by a thread, in the background or not, and what orders them."""

from xdsl.dialects import gpu, llvm
from xdsl.dialects.builtin import VectorType, i32
from xdsl.ir import SSAValue

from ....dialects import nvvm
from ....dialects.diagnostic import DiagnosticError
from ....dialects.nest.intrinsics import Intrinsic
from ..thread import Thread, zeros
from .operands import OperandView


def barrier(thread: Thread, _: Intrinsic, __: tuple[OperandView, ...]) -> None:
    """All threads of the CTA wait for each other."""
    thread.emit.append(gpu.BarrierOp())


def commit(thread: Thread, _: Intrinsic, __: tuple[OperandView, ...]) -> None:
    """The copies since the last group are one."""
    thread.emit.append(nvvm.CpAsyncCommitGroupOp())


def wait(thread: Thread, intrinsic: Intrinsic, _: tuple[OperandView, ...]) -> None:
    """All groups but the latest few have arrived."""
    thread.emit.append(nvvm.CpAsyncWaitGroupOp(int(intrinsic.parameter("groups"))))


def copy_async(thread: Thread, intrinsic: Intrinsic, operands: tuple[OperandView, ...]) -> None:
    """One cp.async; 16 bytes go by the L2 cache alone."""
    target, source = operands
    width = int(intrinsic.parameter("width"))
    cached = nvvm.LoadCacheModifier.CG if width == 16 else nvvm.LoadCacheModifier.CA
    thread.emit.append(nvvm.CpAsyncOp(target.address(), source.address(), width, cached))


def copy(thread: Thread, intrinsic: Intrinsic, operands: tuple[OperandView, ...]) -> None:
    """One load and one store of words of 32 bits."""
    target, source = map(_in_memory, operands)
    width, emit = int(intrinsic.parameter("width")), thread.emit
    words = emit.value(llvm.LoadOp(source.address(), _words(width), width))
    emit.append(llvm.StoreOp(words, target.address(), width))


def fill_zero(thread: Thread, intrinsic: Intrinsic, operands: tuple[OperandView, ...]) -> None:
    """One store of words of zero."""
    (target,) = map(_in_memory, operands)
    width = int(intrinsic.parameter("width"))
    nothing: SSAValue = zeros(thread.emit, _words(width))
    thread.emit.append(llvm.StoreOp(nothing, target.address(), width))


def _words(width: int) -> VectorType[object]:  # pyright: ignore[reportInvalidTypeArguments]
    return VectorType(i32, (width // 4,))  # pyright: ignore[reportReturnType]


def _in_memory(view: OperandView) -> OperandView:
    if view.buffer.name not in view.thread.bases:
        raise DiagnosticError(
            f"expected a copy between global and shared memory, got the {view.buffer.scope} "
            f"buffer '{view.buffer.name}'; vectorise the loop instead"
        )
    return view
