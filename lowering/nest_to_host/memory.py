"""Buffers in memory: addresses of elements, loads, stores and allocations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from ...dialects.nest.program import Buffer
from ...dialects.nest.strides import span_of, strides_of
from ...dialects.sym import Expression, constant
from ...dialects.sym.expression import Symbol
from .elements import STORED, Elements
from .indices import Indices
from .writer import POINTER, Value, Writer, type_of

# A buffer of constant size up to this is on the stack, where LLVM may keep it in registers.
STACK_BYTES = 16384
ALIGNMENT = 64


@dataclass(frozen=True)
class Lanes:
    """The loop that a vector's lanes are iterations of: `name` stands for the number of a lane."""

    name: str
    count: int


@dataclass(frozen=True)
class Place:
    """An element's address: an offset in elements, and scalars that are counted by strides."""

    buffer: Buffer
    offset: Expression
    scalars: tuple[tuple[Value, Expression], ...] = ()


class Memory:
    """Writes accesses to buffers; `pointers` are those of the buffers that are alive."""

    def __init__(self, writer: Writer, indices: Indices, elements: Elements) -> None:
        self._writer = writer
        self._indices = indices
        self._elements = elements
        self.pointers: dict[str, Value] = {}

    def load(self, place: Place, lanes: Lanes | None) -> Value:
        """Returns the element at a place: of each lane, or one where all lanes have the same."""
        dtype = place.buffer.dtype
        moves = lanes is not None and moves_with(place, lanes)
        if lanes is None or not moves:
            stored = self.read(place, 0)
        elif is_contiguous(place, lanes):
            stored = self.read(_at(place, lanes, 0), lanes.count)
        else:
            each = (self.read(self._lane(place, lanes, lane), 0) for lane in range(lanes.count))
            stored = self._writer.gather(list(each))
        return self._elements.decode(stored, dtype)

    def store(self, place: Place, value: Value, lanes: Lanes | None) -> None:
        """Writes a number, or one for each lane."""
        stored = self._elements.encode(value, place.buffer.dtype)
        if lanes is None:
            self.write(place, stored)
        elif is_contiguous(place, lanes):
            self.write(_at(place, lanes, 0), self._writer.broadcast(stored, lanes.count))
        else:
            for lane in range(lanes.count):
                number = self._writer.extract(stored, lane)
                self.write(self._lane(place, lanes, lane), number)

    def _lane(self, place: Place, lanes: Lanes, lane: int) -> Place:
        scalars = tuple(
            (self._writer.extract(value, lane), stride) for value, stride in place.scalars
        )
        return replace(_at(place, lanes, lane), scalars=scalars)

    def read(self, place: Place, lanes: int) -> Value:
        """Returns neighbouring elements from a place on as memory holds them; one for no lanes."""
        element = STORED[place.buffer.dtype]
        alignment = place.buffer.element_bytes
        text = f"llvm.load {{0}} {{{{alignment = {alignment} : i64}}}}"
        text += f" : {POINTER} -> {type_of(element, lanes)}"
        return self._writer.effect(text, element, lanes, self._address(place))

    def write(self, place: Place, value: Value) -> None:
        """Writes neighbouring elements from a place on as memory holds them."""
        alignment = place.buffer.element_bytes
        text = f"llvm.store {{0}}, {{1}} {{{{alignment = {alignment} : i64}}}}"
        self._writer.do(f"{text} : {value.type}, {POINTER}", value, self._address(place))

    def _address(self, place: Place) -> Value:
        element = STORED[place.buffer.dtype]
        pointer = self.pointers[place.buffer.name]
        first = place.offset.constant_term
        rest = place.offset - first
        if rest.terms:
            pointer = self._moved(pointer, self._indices.value(rest), element)
        for value, stride in place.scalars:
            step = self._indices.value(stride)
            moved = self._writer.binary("arith.muli", value, step)
            pointer = self._moved(pointer, moved, element)
        if first:
            text = f"llvm.getelementptr {{0}}[{first}] : ({POINTER}) -> {POINTER}, {element}"
            pointer = self._writer.pure(text, POINTER, 0, pointer)
        return pointer

    def _moved(self, pointer: Value, offset: Value, element: str) -> Value:
        text = f"llvm.getelementptr {{0}}[{{1}}] : ({POINTER}, i64) -> {POINTER}, {element}"
        return self._writer.pure(text, POINTER, 0, pointer, offset)

    def on_stack(self, buffer: Buffer) -> bool:
        """Whether a buffer is small enough for the stack."""
        size = span_of(buffer).constant_value
        return size is not None and size * buffer.element_bytes <= STACK_BYTES

    def allocate_on_stack(self, buffer: Buffer) -> None:
        """Makes a buffer on the stack of the function."""
        size = max(span_of(buffer).constant_value or 0, 1)
        one = self._writer.integer(1)
        text = f"llvm.alloca {{0}} x !llvm.array<{size} x {STORED[buffer.dtype]}>"
        text += f" {{{{alignment = {ALIGNMENT} : i64}}}} : (i64) -> {POINTER}"
        self.pointers[buffer.name] = self._writer.at_entry(text, POINTER, one)

    def allocate_on_heap(self, buffer: Buffer) -> Value:
        """Makes a buffer on the heap; returns whether there was memory."""
        writer = self._writer
        size = self._indices.value(span_of(buffer) * buffer.element_bytes + (ALIGNMENT - 1))
        by = writer.integer(ALIGNMENT)
        rounded = writer.binary("arith.muli", writer.binary("arith.divui", size, by), by)
        # No bytes are no memory, which looks like a failure.
        rounded = writer.binary("arith.maxsi", rounded, by)
        text = f"llvm.call @aligned_alloc({{0}}, {{1}}) : (i64, i64) -> {POINTER}"
        pointer = writer.effect(text, POINTER, 0, by, rounded)
        self.pointers[buffer.name] = pointer
        null = writer.pure(f"llvm.mlir.zero : {POINTER}", POINTER, 0)
        return writer.pure(f'llvm.icmp "ne" {{0}}, {{1}} : {POINTER}', "i1", 0, pointer, null)

    def free(self, buffer: Buffer) -> None:
        """Gives the memory of a buffer on the heap back."""
        self._writer.do(f"llvm.call @free({{0}}) : ({POINTER}) -> ()", self.pointers[buffer.name])


def _at(place: Place, lanes: Lanes, lane: int) -> Place:
    return replace(place, offset=place.offset.substitute({lanes.name: lane}))


def moves_with(place: Place, lanes: Lanes) -> bool:
    """Whether the lanes have different addresses."""
    return lanes.name in place.offset.symbols() or any(value.lanes for value, _ in place.scalars)


def is_contiguous(place: Place, lanes: Lanes) -> bool:
    """Whether the lanes have neighbouring elements, the first lane the first."""
    return not any(value.lanes for value, _ in place.scalars) and is_unit(place.offset, lanes.name)


def is_unit(offset: Expression, name: str) -> bool:
    """Whether an offset is a loop's index plus something that does not name it."""
    factor, rest = offset.split(Symbol(name))
    return factor == 1 and name not in rest.symbols()


@lru_cache(maxsize=4096)
def offset_of(buffer: Buffer, indices: tuple[Expression, ...]) -> Expression:
    """Returns the offset of an element of a buffer."""
    steps = zip(indices, strides_of(buffer), strict=True)
    return sum((index * stride for index, stride in steps), start=constant(0))
