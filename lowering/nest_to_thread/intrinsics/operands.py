"""What a rule sees of a call: its operands, as a thread holds or addresses them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from xdsl.ir import SSAValue

from ....dialects.diagnostic import DiagnosticError
from ....dialects.nest.intrinsics import Intrinsic, Requirement, kept_axes
from ....dialects.nest.program import Buffer, Operand, Region, Scope
from ....dialects.sym import Expression, prove_divisible
from ..fragments import FragmentLayout
from ..thread import Thread, zeros


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
        return self.thread.strides(self.buffer)

    @property
    def matrix_strides(self) -> tuple[Expression, Expression]:
        """The strides of the two axes that are those of the intrinsic's parameter."""
        first, second = kept_axes(self.region)
        return self.strides[first], self.strides[second]

    @property
    def offset(self) -> Expression:
        """The distance of the region's first element from the buffer's, in elements."""
        return self.thread.offset(self.buffer, self.starts)

    def address(self, distance: Expression | int = 0) -> SSAValue:
        """Returns the address of an element some elements behind the region's first."""
        return self.thread.address(self.buffer, self.offset + distance)

    @property
    def fragment(self) -> FragmentLayout:
        """How the registers of a fragment buffer are held."""
        return self.thread.fragments[self.buffer.name]

    @property
    def registers(self) -> SSAValue:
        """The vector of all registers of a local or fragment buffer."""
        return self.thread.registers[self.buffer.name]

    def set_registers(self, value: SSAValue) -> None:
        """Replaces the registers of a local or fragment buffer."""
        self.thread.registers[self.buffer.name] = value

    def read_tile(self) -> list[SSAValue]:
        """Returns the registers of the fragment's tile."""
        layout, emit = self.fragment, self.thread.emit
        place = self.thread.position_at(self.buffer, layout.place(self.region))
        tile = emit.extract(self.registers, layout.tile_vector, place)
        return [emit.extract(tile, layout.element, e) for e in range(layout.registers)]

    def write_tiles(self, values: Sequence[SSAValue]) -> None:
        """Replaces the registers of the fragment's tile, and of those that follow it."""
        layout, emit = self.fragment, self.thread.emit
        first = layout.place(self.region)
        for number in range(len(values) // layout.registers):
            place = self.thread.position_at(self.buffer, first + number)
            tile = zeros(emit, layout.tile_vector)
            start = number * layout.registers
            for position in range(layout.registers):
                tile = emit.insert(values[start + position], tile, position)
            self.set_registers(emit.insert(tile, self.registers, place))


IntrinsicRule = Callable[[Thread, Intrinsic, tuple[OperandView, ...]], None]


def view_of(thread: Thread, operand: Operand, requirement: Requirement) -> OperandView:
    """Returns the view of an operand; raises DiagnosticError where rows are no neighbours."""
    view = OperandView(thread, thread.buffer(operand.region.buffer), operand.region, requirement)
    if requirement.alignment and view.buffer.name in thread.bases and view.strides[-1] != 1:
        raise DiagnosticError(
            f"expected neighbours on the last axis of '{view.buffer.name}' to be neighbours in "
            f"memory, got a stride of {view.strides[-1]}"
        )
    if requirement.alignment and view.buffer.scope is Scope.GLOBAL:
        _check_alignment(view)
    return view


def _check_alignment(view: OperandView) -> None:
    """Refuses a region whose rows are not proved to begin at multiples of what is required."""
    alignment, ranges = view.requirement.alignment, view.thread.ranges
    count = max(1, alignment // view.buffer.element_bytes)
    moving = [axis for axis in kept_axes(view.region) if axis < len(view.strides) - 1]
    for value in (view.offset, *(view.strides[axis] for axis in moving)):
        if not prove_divisible(value, count, ranges):
            raise DiagnosticError(
                f"expected addresses in '{view.buffer.name}' at multiples of {alignment} bytes, "
                f"got steps of {value} elements"
            )
