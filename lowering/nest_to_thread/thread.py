"""What the lowering of a kernel knows at each statement: indices, addresses, registers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from math import prod
from typing import Any

from xdsl.dialects.builtin import (
    BFloat16Type,
    DenseIntOrFPElementsAttr,
    Float16Type,
    Float32Type,
    Float64Type,
    IntegerType,
    VectorType,
    i8,
)
from xdsl.ir import Attribute, SSAValue

from ...dialects.diagnostic import DiagnosticError
from ...dialects.nest.program import Buffer, Scope
from ...dialects.nest.strides import strides_of
from ...dialects.sym import Expression, Ranges, constant, symbol
from ..emitter import Emitter
from .fragments import FragmentLayout
from .indices import Indices
from .kernels import Kernel
from .swizzle import swizzled_address

TYPES: Mapping[str, Attribute] = {
    "i1": IntegerType(1),
    "i8": i8,
    "i16": IntegerType(16),
    "i32": IntegerType(32),
    "i64": IntegerType(64),
    "index": IntegerType(32),
    "f8E4M3FN": i8,
    "f8E5M2": i8,
    "f16": Float16Type(),
    "bf16": BFloat16Type(),
    "f32": Float32Type(),
    "f64": Float64Type(),
}
_SPACES = {Scope.GLOBAL: 1, Scope.SHARED: 3}
# Parts of the lane's number, as symbols of index expressions: divisor, then modulus.
LANE_PARTS: Mapping[str, tuple[int, int]] = {
    "lane_div_4_": (4, 8),
    "lane_mod_4_": (1, 4),
    "lane_div_16_": (16, 2),
    "lane_mod_16_": (1, 16),
    "lane_second_8_": (8, 2),
    "lane_mod_8_": (1, 8),
}
LANE_DIV_4, LANE_MOD_4, LANE_DIV_16, LANE_MOD_16, LANE_SECOND_8, LANE_MOD_8 = map(
    symbol, LANE_PARTS
)


def type_of(dtype: str) -> Attribute:
    """
    Returns the type that holds a scalar, an 8-bit float by its bits.

    Raises DiagnosticError for one that PTX lacks.
    """
    if dtype not in TYPES:
        known = ", ".join(TYPES)
        raise DiagnosticError(f"expected scalars of {known} on a GPU, got {dtype}")
    return TYPES[dtype]


@dataclass
class Thread:
    """
    The thread-level kernel while it is written.

    `bases` are the addresses of buffers in memory, `numbers` the scalar parameters, `threads` the
    thread's index along x, y and z. `scratch` are places in shared memory for the results of warps,
    one for each reduction across the CTA that is still to come. `registers` hold the elements of
    each local buffer, in order, or the words of a fragment buffer, laid out as `fragments` says, as
    a vector; control flow hands them on. `axes` holds the axis of threads of each loop that is
    bound to one, `bound` the axes whose loops are open, `constant_names` the loops that are
    unrolled.
    """

    kernel: Kernel
    emit: Emitter
    indices: Indices
    ranges: Ranges
    target: str
    bases: dict[str, SSAValue] = field(default_factory=dict[str, SSAValue])
    numbers: dict[str, SSAValue] = field(default_factory=dict[str, SSAValue])
    threads: dict[str, SSAValue] = field(default_factory=dict[str, SSAValue])
    scratch: list[SSAValue] = field(default_factory=list[SSAValue])
    registers: dict[str, SSAValue] = field(default_factory=dict[str, SSAValue])
    fragments: Mapping[str, FragmentLayout] = field(default_factory=dict[str, FragmentLayout])
    axes: Mapping[str, Expression] = field(default_factory=dict[str, Expression])
    bound: frozenset[str] = frozenset()
    constant_names: frozenset[str] = frozenset()
    _strides: dict[str, tuple[Expression, ...]] = field(
        default_factory=dict[str, tuple[Expression, ...]]
    )

    def buffer(self, name: str) -> Buffer:
        """Returns a buffer by name."""
        return self.kernel.program.buffers[name]

    def strides(self, buffer: Buffer) -> tuple[Expression, ...]:
        """Returns the strides of a buffer in elements."""
        if buffer.strides is not None:
            return buffer.strides
        known = self._strides.get(buffer.name)
        if known is None:
            known = self._strides[buffer.name] = strides_of(buffer)
        return known

    def offset(self, buffer: Buffer, indices: tuple[Expression, ...]) -> Expression:
        """Returns the distance of an element from the buffer's first, in elements."""
        strides = self.strides(buffer)
        total = constant(0)
        for index, stride in zip(indices, strides, strict=True):
            total = total + index * stride
        if total.symbols().isdisjoint(self.axes):
            return total
        # Loops over the same threads share what is computed of their index.
        return total.substitute(self.axes)

    def address(self, buffer: Buffer, offset: Expression) -> SSAValue:
        """Returns the address of the element at an offset, swizzled where the buffer is."""
        if buffer.swizzle:
            start = partial(self.pointer, buffer)
            return swizzled_address(self.emit, self.indices, buffer, offset, start)
        return self.pointer(buffer, offset)

    def pointer(self, buffer: Buffer, offset: Expression) -> SSAValue:
        """Returns the address of a place that no swizzle moves, known outside inner loops."""
        number = offset.terms.get((), 0)
        if number and offset.constant_value is None:
            # Accesses at constant distances share the rest.
            start = self.pointer(buffer, offset - number)
            return self._moved(buffer, start, constant(number))
        depth = self.indices.depth(offset)
        key = (buffer.name, offset)
        outer, inner = self.indices.parts(offset)
        with self.indices.at(depth) as known:
            if key not in known:
                start = self.bases[buffer.name]
                if outer.terms and inner.terms:
                    start = self.pointer(buffer, outer)
                else:
                    inner = offset
                known[key] = self._counted(buffer, start, inner) or self._moved(
                    buffer, start, inner
                )
            return known[key]

    def _counted(self, buffer: Buffer, start: SSAValue, by: Expression) -> SSAValue | None:
        """Returns a pointer into global memory that a loop moves on by the same each time."""
        carried = self.indices.carried(by)
        if carried is None or buffer.scope is not Scope.GLOBAL:
            return None
        step, rest = self.indices.step_of(by, carried)
        if step is None or rest.terms:
            return None
        return carried.add(start, lambda pointer: self._moved(buffer, pointer, step))

    def _moved(self, buffer: Buffer, start: SSAValue, by: Expression) -> SSAValue:
        bits = 32 if buffer.scope is Scope.SHARED or self.indices.fits(by) else 64
        element = type_of(buffer.dtype) if buffer.dtype != "i1" else i8
        number = by.constant_value
        if number == 0:
            return start
        distance = number if number is not None else self.indices.value(by, bits)
        return self.emit.pointer(start, distance, element)

    def position(self, buffer: Buffer, indices: tuple[Expression, ...]) -> SSAValue | int:
        """Returns where an element of a local buffer stands in its registers."""
        return self.position_at(buffer, self.offset(replace_strides(buffer), indices))

    def position_at(self, buffer: Buffer, offset: Expression) -> SSAValue | int:
        """Returns a place in the registers of a local or fragment buffer."""
        if (number := offset.constant_value) is not None:
            return number
        if unknown := offset.symbols() - self.constant_names:
            raise DiagnosticError(
                f"expected indices of the {buffer.scope} buffer '{buffer.name}' over unrolled "
                f"loops, got '{min(unknown)}'; registers have no address, unroll the loop"
            )
        return self.indices.position(offset)

    def extract(self, buffer: Buffer, indices: tuple[Expression, ...]) -> SSAValue:
        """Appends the read of an element of a local buffer."""
        return self.register_at(buffer, self.offset(replace_strides(buffer), indices))

    def insert(self, buffer: Buffer, indices: tuple[Expression, ...], value: SSAValue) -> None:
        """Appends the write of an element of a local buffer."""
        self.set_register_at(buffer, self.offset(replace_strides(buffer), indices), value)

    def register_at(self, buffer: Buffer, offset: Expression) -> SSAValue:
        """Appends the read of one register of a local buffer."""
        registers = self.registers[buffer.name]
        place = self.position_at(buffer, offset)
        kind = self._register_type(buffer).get_element_type()
        return self.emit.extract(registers, kind, place)

    def set_register_at(self, buffer: Buffer, offset: Expression, value: SSAValue) -> None:
        """Appends the write of one register of a local buffer."""
        place = self.position_at(buffer, offset)
        registers = self.registers[buffer.name]
        self.registers[buffer.name] = self.emit.insert(value, registers, place)

    def _register_type(self, buffer: Buffer) -> VectorType[Any]:
        if (layout := self.fragments.get(buffer.name)) is not None:
            return layout.vector
        return register_type(buffer)

    def clear(self, buffer: Buffer) -> None:
        """Gives a local or fragment buffer new registers."""
        self.registers[buffer.name] = zeros(self.emit, self._register_type(buffer))


def replace_strides(buffer: Buffer) -> Buffer:
    """Returns a local buffer without padding: registers have no banks."""
    return Buffer(buffer.name, buffer.shape, buffer.dtype, buffer.scope)


def register_type(buffer: Buffer) -> VectorType[Any]:
    """Returns the type of the registers of a local buffer."""
    extents = [extent.constant_value for extent in buffer.shape]
    if None in extents:
        raise DiagnosticError(
            f"expected constant extents of the local buffer '{buffer.name}', got "
            f"[{', '.join(map(str, buffer.shape))}]"
        )
    return VectorType(type_of(buffer.dtype), (prod(e for e in extents if e is not None),))


def zeros(emit: Emitter, kind: VectorType[Any]) -> SSAValue:
    """Returns a vector of zeros."""
    return emit.constant(_zeros(kind))


@lru_cache(maxsize=256)
def _zeros(kind: VectorType[Any]) -> DenseIntOrFPElementsAttr:
    zero = 0 if isinstance(kind.get_element_type(), IntegerType) else 0.0
    return DenseIntOrFPElementsAttr.from_list(kind, [zero] * prod(kind.get_shape()))
