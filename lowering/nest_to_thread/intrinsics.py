"""
Calls of tensor intrinsics: a rule for each, which sees its operands as a thread does.

`INTRINSIC_RULES` is keyed by the `rule` of the intrinsics, so that forms share one function.
"""

from collections.abc import Callable
from dataclasses import dataclass

from xdsl.dialects import arith, gpu
from xdsl.dialects.builtin import f32, i32
from xdsl.ir import Operation, SSAValue

from ...dialects import nvvm
from ...dialects.diagnostic import DiagnosticError
from ...dialects.nest.intrinsics import Intrinsic, Requirement, intrinsic_named
from ...dialects.nest.program import Buffer, Call, Operand, Region
from ...dialects.sym import Expression
from ..tile_to_thread.compute import FULL_WARP
from .thread import Thread, row_major


@dataclass(frozen=True)
class OperandView:
    """
    An operand of a call: a region of a buffer in memory, or in the registers of the thread.

    `starts` is the first index of the region on each axis, `extents` its size. In memory,
    `address` gives the element at a distance from the first, with the buffer's swizzle, and
    `strides` are in elements. In registers the whole buffer is a vector, `registers`.
    """

    thread: Thread
    buffer: Buffer
    region: Region
    requirement: Requirement

    @property
    def starts(self) -> tuple[Expression, ...]:
        """The first index on each axis."""
        return tuple(part.start for part in self.region.ranges)

    @property
    def extents(self) -> tuple[int, ...]:
        """The size on each axis, constant for an intrinsic."""
        return tuple(part.extent.constant_value or 0 for part in self.region.ranges)

    @property
    def strides(self) -> tuple[Expression, ...]:
        """The strides of the buffer in elements."""
        return self.buffer.strides or row_major(self.buffer.shape)

    @property
    def offset(self) -> Expression:
        """The distance of the region's first element from the buffer's, in elements."""
        return self.thread.offset(self.buffer, self.starts)

    def address(self, distance: Expression | int = 0) -> SSAValue:
        """Returns the address of an element some elements behind the region's first."""
        return self.thread.address(self.buffer, self.offset + distance)

    @property
    def registers(self) -> SSAValue:
        """The vector of all registers of a local or fragment buffer."""
        return self.thread.registers[self.buffer.name]

    def set_registers(self, value: SSAValue) -> None:
        """Replaces the registers of a local or fragment buffer."""
        self.thread.registers[self.buffer.name] = value


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

IntrinsicRule = Callable[[Thread, Intrinsic, tuple[OperandView, ...]], None]


def _barrier(thread: Thread, _: Intrinsic, __: tuple[OperandView, ...]) -> None:
    thread.emit.append(gpu.BarrierOp())


def _commit(thread: Thread, _: Intrinsic, __: tuple[OperandView, ...]) -> None:
    thread.emit.append(nvvm.CpAsyncCommitGroupOp())


def _wait(thread: Thread, intrinsic: Intrinsic, _: tuple[OperandView, ...]) -> None:
    thread.emit.append(nvvm.CpAsyncWaitGroupOp(int(intrinsic.parameter("groups"))))


def _copy_async(thread: Thread, intrinsic: Intrinsic, operands: tuple[OperandView, ...]) -> None:
    target, source = operands
    width = int(intrinsic.parameter("width"))
    cached = nvvm.LoadCacheModifier.CG if width == 16 else nvvm.LoadCacheModifier.CA
    thread.emit.append(nvvm.CpAsyncOp(target.address(), source.address(), width, cached))


def _reduce(thread: Thread, intrinsic: Intrinsic, operands: tuple[OperandView, ...]) -> None:
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


INTRINSIC_RULES: dict[str, IntrinsicRule] = {
    "cta.barrier": _barrier,
    "cp.async": _copy_async,
    "cp.async.commit": _commit,
    "cp.async.wait": _wait,
    "warp.reduce": _reduce,
}


def lower_call(thread: Thread, call: Call) -> None:
    """Appends what a thread does for a call; raises DiagnosticError where there is no rule."""
    intrinsic = intrinsic_named(call.intrinsic)
    rule = INTRINSIC_RULES.get(intrinsic.rule)
    if rule is None or not intrinsic.is_on(thread.target):
        known = ", ".join(INTRINSIC_RULES)
        raise DiagnosticError(
            f"expected an intrinsic of {thread.target} with a rule among {known}, got "
            f"'{call.intrinsic}'"
        )
    views = tuple(
        _view(thread, operand, requirement)
        for operand, requirement in zip(call.operands, intrinsic.operands, strict=True)
    )
    rule(thread, intrinsic, views)


def _view(thread: Thread, operand: Operand, requirement: Requirement) -> OperandView:
    return OperandView(thread, thread.buffer(operand.region.buffer), operand.region, requirement)
