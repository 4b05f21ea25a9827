"""What the lowering of a kernel knows at each op: values, lanes, shared memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from xdsl.dialects import arith
from xdsl.dialects.builtin import IntegerAttr
from xdsl.ir import Operation, Region, SSAValue

from ...dialects.diagnostic import error_at
from ...dialects.tile import RING_ALIGNMENT, LoadOp, YieldOp
from ..creation import copy_of, ops_of
from ..emitter import Emitter, vector_type
from .lanes import Lanes, address, load_element


@dataclass
class Thread:
    """
    The thread-level kernel while it is written.

    `values` maps each value of the tile level to the value of one thread; `pending` tells for each
    wait how many younger groups may stay in flight.
    """

    emit: Emitter
    lanes: Lanes
    shared: SSAValue
    pending: Mapping[Operation, int]
    values: dict[SSAValue, SSAValue] = field(default_factory=dict[SSAValue, SSAValue])
    shared_bytes: int = 0

    def __getitem__(self, value: SSAValue) -> SSAValue:
        return self.values[value]

    def set(self, value: SSAValue, lowered: SSAValue) -> None:
        """Records what a value of the tile level became."""
        self.values[value] = lowered
        lowered.name_hint = lowered.name_hint or value.name_hint

    def allocate(self, size: int) -> SSAValue:
        """Returns the address of `size` more bytes of shared memory."""
        start = -(-self.shared_bytes // RING_ALIGNMENT) * RING_ALIGNMENT
        self.shared_bytes = start + size
        return address(self.emit, self.shared, start)

    def is_true(self, condition: SSAValue) -> bool:
        """Whether a condition of the tile level is the constant true."""
        owner = condition.owner
        if not isinstance(owner, arith.ConstantOp):
            return False
        return isinstance(owner.value, IntegerAttr) and owner.value.value.data != 0

    def inline(self, region: Region, arguments: Sequence[SSAValue]) -> list[SSAValue]:
        """Appends a region of scalars for these arguments and returns what it yields."""
        *ops, end = ops_of(region.block)
        # Ops are of an abstract class: to ask for the very class is many times faster.
        if type(end) is not YieldOp:
            raise error_at(end, "expects a yield")
        values: dict[SSAValue, SSAValue] = {}
        values.update(zip(region.block.args, arguments, strict=True))
        self.run(ops, values)
        return [self.in_region(values, value) for value in end.operands]

    def run(self, ops: Sequence[Operation], values: dict[SSAValue, SSAValue]) -> None:
        """Appends ops of a region of scalars, and adds their results to what is known of it."""
        for op in ops:
            operands = [self.in_region(values, operand) for operand in op.operands]
            if type(op) is LoadOp:
                pointer, index = operands
                values[op.value] = load_element(self.emit, pointer, index, op.value.type)
            elif type(op) is arith.ConstantOp:
                values[op.results[0]] = self.emit.constant_of(op)
            else:
                check_on_scalars(op)
                copy = copy_with(op, operands)
                self.emit.append(copy)
                values.update(zip(op.results, copy.results, strict=True))

    def in_region(self, values: Mapping[SSAValue, SSAValue], value: SSAValue) -> SSAValue:
        """Returns what a value is in a region of which some values are known."""
        known = values.get(value)
        return self.values[value] if known is None else known


def check_on_scalars(op: Operation) -> None:
    """Refuses an op that a region of rows or of elements cannot have."""
    of_scalars = op.dialect_name() in ("arith", "math") and not op.regions
    if not of_scalars and type(op) is not LoadOp:
        raise error_at(
            op,
            "expects an op of arith or math, or tile.load, in a region of rows or elements",
        )


def copy_with(op: Operation, operands: Sequence[SSAValue], shape: Sequence[int] = ()) -> Operation:
    """Returns a copy of an op without regions, with other operands, on vectors of a shape."""
    types = [result.type for result in op.results]
    if shape:
        types = [vector_type(kind, tuple(shape)) for kind in types]
    return copy_of(op, operands, types)
