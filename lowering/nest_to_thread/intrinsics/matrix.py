"""`mma.sync`, and the zeros and stores of its accumulators."""

from xdsl.dialects import arith, llvm
from xdsl.dialects.builtin import (
    BFloat16Type,
    Float16Type,
    FloatAttr,
    VectorType,
    f32,
    i32,
)
from xdsl.ir import Attribute, SSAValue

from ....dialects import nvvm
from ....dialects.diagnostic import DiagnosticError
from ....dialects.nest.intrinsics import Intrinsic
from ..thread import LANE_DIV_4, LANE_MOD_4, Thread, zeros
from .operands import OperandView

_TYPES = {
    "f16": nvvm.MMAType.F16,
    "bf16": nvvm.MMAType.BF16,
    "tf32": nvvm.MMAType.TF32,
    "i8": nvvm.MMAType.S8,
    "e4m3": nvvm.MMAType.E4M3,
    "e5m2": nvvm.MMAType.E5M2,
}
_NARROW: dict[str, Attribute] = {"f16": Float16Type(), "bf16": BFloat16Type()}
_F16_PAIR = VectorType(Float16Type(), (2,))


def multiply(thread: Thread, intrinsic: Intrinsic, operands: tuple[OperandView, ...]) -> None:
    """One mma.sync; the accumulator's registers are replaced."""
    c, a, b = operands
    word = str(intrinsic.parameter("multiplicand"))
    if word not in _TYPES:
        known = ", ".join(_TYPES)
        raise DiagnosticError(f"expected a product of {known} on {thread.target}, got {word}")
    in_pairs = intrinsic.parameter("accumulator") == "f16"
    left, right = (
        [_pair(thread, value) if word == "f16" else value for value in side.read_tile()]
        for side in (a, b)
    )
    before = [_pair(thread, value) if in_pairs else value for value in c.read_tile()]
    shape = (16, 8, int(intrinsic.parameter("depth")))
    # The sum of products of integers wraps, as it does everywhere else.
    wraps = nvvm.MMAIntOverflow.WRAPPED if word == "i8" else None
    emit = thread.emit
    product = emit.result(nvvm.MmaSyncOp, left, right, before, shape, _TYPES[word], wraps)
    after: list[SSAValue] = []
    for position, value in enumerate(before):
        part = emit.field(product, position, value.type)
        after.append(emit.result(llvm.BitcastOp, part, i32) if in_pairs else part)
    c.write_tiles(after)


def _pair(thread: Thread, value: SSAValue) -> SSAValue:
    return thread.emit.result(llvm.BitcastOp, value, _F16_PAIR)


def fill(thread: Thread, _: Intrinsic, operands: tuple[OperandView, ...]) -> None:
    """Zeros in all registers of a tile."""
    (target,) = operands
    emit, layout = thread.emit, target.fragment
    is_float = layout.element == f32
    zero = emit.constant(FloatAttr(0.0, f32)) if is_float else emit.integer(0)
    target.write_tiles([zero] * layout.registers)


def store(thread: Thread, _: Intrinsic, operands: tuple[OperandView, ...]) -> None:
    """Each lane stores two pairs of neighbours, 8 rows apart."""
    target, source = operands
    rows = target.matrix_strides[0]
    values = source.read_tile()
    in_pairs = len(values) == 2
    size = 2 * target.buffer.element_bytes
    for half in range(2):
        pair = values[half] if in_pairs else _joined(thread, values[2 * half : 2 * half + 2])
        if not in_pairs and (narrow := _NARROW.get(target.buffer.dtype)) is not None:
            pair = thread.emit.result(arith.TruncFOp, pair, VectorType(narrow, (2,)))
        place = target.address((LANE_DIV_4 + 8 * half) * rows + LANE_MOD_4 * 2)
        thread.emit.op(llvm.StoreOp, pair, place, size)


def _joined(thread: Thread, values: list[SSAValue]) -> SSAValue:
    whole = zeros(thread.emit, VectorType(values[0].type, (2,)))
    for position, value in enumerate(values):
        whole = thread.emit.insert(value, whole, position)
    return whole
