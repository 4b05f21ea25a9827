"""What the lowering of a kernel knows at each statement: indices, addresses, registers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from xdsl.dialects import arith, llvm, vector
from xdsl.dialects.builtin import (
    BFloat16Type,
    DenseIntOrFPElementsAttr,
    Float16Type,
    Float32Type,
    Float64Type,
    IndexType,
    IntegerType,
    VectorType,
    i8,
)
from xdsl.ir import Attribute, Operation, SSAValue

from ...dialects.diagnostic import DiagnosticError
from ...dialects.nest.program import Buffer, Scope
from ...dialects.sym import Expression, Ranges, constant
from ..emitter import Emitter
from ..tile_to_thread.lanes import pointer_type
from .indices import Indices
from .kernels import Kernel

TYPES: Mapping[str, Attribute] = {
    "i1": IntegerType(1),
    "i8": i8,
    "i16": IntegerType(16),
    "i32": IntegerType(32),
    "i64": IntegerType(64),
    "index": IntegerType(32),
    "f16": Float16Type(),
    "bf16": BFloat16Type(),
    "f32": Float32Type(),
    "f64": Float64Type(),
}
_SPACES = {Scope.GLOBAL: 1, Scope.SHARED: 3}


def type_of(dtype: str) -> Attribute:
    """Returns the type of a scalar; raises DiagnosticError for one that PTX lacks."""
    if dtype not in TYPES:
        known = ", ".join(TYPES)
        raise DiagnosticError(f"expected scalars of {known} on a GPU, got {dtype}")
    return TYPES[dtype]


@dataclass
class Thread:
    """
    The thread-level kernel while it is written.

    `bases` are the addresses of buffers in memory, `numbers` the scalar parameters, `threads` the
    thread's index along x, y and z. `registers` hold the elements of each local buffer, in order,
    as a vector; control flow hands them on. `bound` are the axes of threads whose loops are open,
    `constant_names` the loops that are unrolled.
    """

    kernel: Kernel
    emit: Emitter
    indices: Indices
    ranges: Ranges
    target: str
    bases: dict[str, SSAValue] = field(default_factory=dict[str, SSAValue])
    numbers: dict[str, SSAValue] = field(default_factory=dict[str, SSAValue])
    threads: dict[str, SSAValue] = field(default_factory=dict[str, SSAValue])
    registers: dict[str, SSAValue] = field(default_factory=dict[str, SSAValue])
    bound: frozenset[str] = frozenset()
    constant_names: frozenset[str] = frozenset()

    def buffer(self, name: str) -> Buffer:
        """Returns a buffer by name."""
        return self.kernel.program.buffers[name]

    def offset(self, buffer: Buffer, indices: tuple[Expression, ...]) -> Expression:
        """Returns the distance of an element from the buffer's first, in elements."""
        strides = buffer.strides or row_major(buffer.shape)
        total = constant(0)
        for index, stride in zip(indices, strides, strict=True):
            total = total + index * stride
        return total

    def address(self, buffer: Buffer, offset: Expression) -> SSAValue:
        """Returns the address of the element at an offset, swizzled where the buffer is."""
        if buffer.swizzle:
            return self._swizzled(buffer, offset)
        return self._pointer(buffer, offset)

    def _pointer(self, buffer: Buffer, offset: Expression) -> SSAValue:
        depth = self.indices.depth(offset)
        key = (buffer.name, offset)
        outer, inner = self.indices.parts(offset)
        with self.indices.at(depth) as known:
            if key not in known:
                start = self.bases[buffer.name]
                if outer.terms and inner.terms:
                    start = self._pointer(buffer, outer)
                else:
                    inner = offset
                bits = 32 if buffer.scope is Scope.SHARED or self.indices.fits(inner) else 64
                known[key] = self._moved(buffer, start, inner, bits)
            return known[key]

    def _moved(self, buffer: Buffer, start: SSAValue, by: Expression, bits: int) -> SSAValue:
        kind = pointer_type(_SPACES[buffer.scope])
        element = type_of(buffer.dtype) if buffer.dtype != "i1" else i8
        number = by.constant_value
        if number == 0:
            return start
        distance = number if number is not None else self.indices.value(by, bits)
        return self.emit.value(llvm.GEPOp.from_mixed_indices(start, [distance], element, kind))

    def _swizzled(self, buffer: Buffer, offset: Expression) -> SSAValue:
        """
        The 16-byte chunk of an address is exchanged by the row of 128 bytes that it lies in.

        Steps of 1024 bytes keep the exchange, so they are added behind it.
        """
        emit, size = self.emit, buffer.element_bytes
        whole = Expression({m: f for m, f in offset.terms.items() if f * size % 1024 == 0})
        place = self.indices.value((offset - whole) * size)
        mask = buffer.swizzle - 16
        row = emit.binary("and", emit.value(_shifted(emit, place)), mask)
        place = emit.binary("xor", place, row)
        kind = pointer_type(_SPACES[buffer.scope])
        base = self._pointer(buffer, whole)
        return emit.value(llvm.GEPOp.from_mixed_indices(base, [place], i8, kind))

    def position(self, buffer: Buffer, indices: tuple[Expression, ...]) -> SSAValue | int:
        """Returns where an element of a local buffer stands in its registers."""
        offset = self.offset(replace_strides(buffer), indices)
        if (number := offset.constant_value) is not None:
            return number
        if unknown := offset.symbols() - self.constant_names:
            raise DiagnosticError(
                f"expected indices of the local buffer '{buffer.name}' over unrolled loops, got "
                f"'{min(unknown)}'; registers have no address, unroll the loop"
            )
        return self.emit.value(arith.IndexCastOp(self.indices.value(offset), IndexType()))

    def extract(self, buffer: Buffer, indices: tuple[Expression, ...]) -> SSAValue:
        """Appends the read of an element of a local buffer."""
        place = self.position(buffer, indices)
        op = vector.ExtractOp(self.registers[buffer.name], [place], type_of(buffer.dtype))
        return self.emit.value(op)

    def insert(self, buffer: Buffer, indices: tuple[Expression, ...], value: SSAValue) -> None:
        """Appends the write of an element of a local buffer."""
        place = self.position(buffer, indices)
        op = vector.InsertOp(value, self.registers[buffer.name], [place])
        self.registers[buffer.name] = self.emit.value(op)

    def clear(self, buffer: Buffer) -> None:
        """Gives a local buffer new registers."""
        self.registers[buffer.name] = zeros(self.emit, register_type(buffer))


def _shifted(emit: Emitter, place: SSAValue) -> Operation:

    return arith.ShRUIOp(place, emit.integer(3))


def row_major(shape: tuple[Expression, ...]) -> tuple[Expression, ...]:
    """Returns the strides of a dense array, in elements."""
    strides: list[Expression] = []
    step = constant(1)
    for extent in reversed(shape):
        strides.insert(0, step)
        step = step * extent
    return tuple(strides)


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
    element = kind.get_element_type()
    zero = 0 if isinstance(element, IntegerType) else 0.0
    count = prod(kind.get_shape())
    return emit.constant(DenseIntOrFPElementsAttr.from_list(kind, [zero] * count))
