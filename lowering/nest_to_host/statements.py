"""Turns loops, guards and stores into `scf`, `vector` and `llvm` ops of one function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Protocol

from ...dialects.diagnostic import DiagnosticError
from ...dialects.nest.program import (
    Block,
    Body,
    Buffer,
    Call,
    Guard,
    Loop,
    LoopKind,
    Program,
    Statement,
    Store,
    walk,
)
from ...dialects.nest.scalars import Index, Subscript
from ...dialects.sym import Expression, Ranges, constant, symbol
from .calls import called
from .elements import Elements
from .indices import Indices
from .instructions import Instructions
from .memory import Lanes, Memory, offset_of
from .options import Options
from .scalars import Scalars
from .tails import Tail, is_vector_body, tails_of, without
from .writer import POINTER, Value, Writer

NO_MEMORY = 1
OUTSIDE, AXES = 2, 64  # the status of an axis of a buffer that an index is out of bounds of
MAX_LANES = 64  # longer vectors are written as loops over shorter ones
SYMBOLIC_LANES = 16
MAX_UNROLLED = 256
MAX_COPIES = 6  # how often tails may double a body


class Role(Enum):
    """What an argument of a function is in its body."""

    BUFFER = "buffer"
    NUMBER = "number"
    INDEX = "index"
    STATUS = "status"
    RUNNER = "runner"


@dataclass(frozen=True)
class Argument:
    """An argument of a function: `element` is its type, `name` that of the buffer or index."""

    role: Role
    name: str
    element: str


class ParallelLoops(Protocol):
    """Who writes the loops whose iterations run on several threads."""

    def loop(self, function: FunctionBody, loop: Loop) -> None:
        """Writes a loop into a function, its body as a function of its own."""
        ...


class FunctionBody:
    """
    The body of one function.

    `parallel` writes parallel loops; where it is None the function is run by one of many threads,
    and parallel loops in it are serial.
    """

    def __init__(
        self,
        program: Program,
        ranges: Ranges,
        options: Options,
        parallel: ParallelLoops | None,
    ) -> None:
        self.program = program
        self.ranges = ranges
        self.writer = Writer()
        self.indices = Indices(self.writer, ranges)
        self.memory = Memory(self.writer, self.indices, Elements(self.writer))
        buffers, flags = program.buffers, options.flags
        self.scalars = Scalars(self.writer, self.indices, self.memory, buffers, flags)
        if not options.trusts_indices:
            self.scalars.report = self._report
        self._instructions = Instructions(self.writer, self.memory, self.scalars, options.features)
        # Where is told what went wrong, and who runs parallel loops.
        self.status: Value | None = None
        self.runner: Value | None = None
        self._parallel = parallel
        self._copies = 0
        self._lane_bodies: dict[str, tuple[Body, list[Tail], Body | None]] = {}

    def bind(self, argument: Argument) -> Value:
        """Returns the value of an argument, which the body refers to from now on."""
        value = self.writer.argument(argument.element)
        match argument.role:
            case Role.BUFFER:
                self.memory.pointers[argument.name] = value
            case Role.NUMBER:
                self.scalars.numbers[argument.name] = value
            case Role.INDEX:
                self.indices.values[argument.name] = value
            case Role.STATUS:
                self.status = value
            case Role.RUNNER:
                self.runner = value
        return value

    def captures(self) -> list[tuple[Argument, Value]]:
        """Returns what a function for a part of this body needs: all that is known here."""
        known = (
            (Role.BUFFER, self.memory.pointers),
            (Role.NUMBER, self.scalars.numbers),
            (Role.INDEX, self.indices.values),
            (Role.STATUS, {"": self.status} if self.status else {}),
        )
        return [
            (Argument(role, name, value.element), value)
            for role, values in known
            for name, value in values.items()
        ]

    def write(self, place: str | None, body: Body) -> None:
        """Writes statements and the buffers that live in them; `place` is the loop around."""
        buffers = [buffer for buffer in self.program.allocations if buffer.place == place]
        self._with_buffers(buffers, lambda: self.body(body, None))

    def _with_buffers(self, buffers: Sequence[Buffer], write: Callable[[], None]) -> None:
        heap = [buffer for buffer in buffers if not self.memory.on_stack(buffer)]
        for buffer in buffers:
            if buffer not in heap:
                self.memory.allocate_on_stack(buffer)
        self._on_heap(heap, write)

    def _on_heap(self, buffers: Sequence[Buffer], write: Callable[[], None]) -> None:
        if not buffers:
            return write()
        with self.writer.condition(self.memory.allocate_on_heap(buffers[0])):
            self._on_heap(buffers[1:], write)
            self.memory.free(buffers[0])
        with self.writer.otherwise():
            self._tell(NO_MEMORY)

    def _report(self, buffer: Buffer, axis: int) -> None:
        position = list(self.program.buffers).index(buffer.name)
        self._tell(OUTSIDE + AXES * position + axis)

    def _tell(self, status: int) -> None:
        assert self.status is not None
        text = f"llvm.store {{0}}, {{1}} : i32, {POINTER}"
        self.writer.do(text, self.writer.integer(status, "i32"), self.status)

    def body(self, body: Body, lanes: Lanes | None) -> None:
        """Writes statements."""
        for statement in body:
            self._statement(statement, lanes)

    def _statement(self, statement: Statement, lanes: Lanes | None) -> None:
        match statement:
            case Loop():
                self._loop(statement, lanes)
            case Guard(condition, body):
                with self.writer.condition(self.scalars.value(condition, lanes)):
                    self.body(body, lanes)
            case Store(buffer, indices, value):
                number = self.scalars.value(value, lanes)
                self.memory.store(self.scalars.place(buffer, indices, lanes), number, lanes)
            case Call():
                if lanes is not None or not self._instructions.write(statement):
                    self.body(called(statement, self.program), lanes)
            case Block(name):
                raise DiagnosticError(f"expected a nest without blocks, got the block '{name}'")

    def _loop(self, loop: Loop, lanes: Lanes | None) -> None:
        if loop.kind.is_bound:
            raise DiagnosticError(
                f"expected loops of a CPU, got '{loop.name}' bound to {loop.kind}; "
                "make it serial or parallel"
            )
        extent = self.scalars.expression(loop.extent)
        loop = replace(loop, extent=extent)
        trips = extent.constant_value
        if trips is not None and trips <= 0:
            return
        if loop.kind is LoopKind.VECTORIZED and lanes is None and trips != 1:
            self._vectorized(loop)
        elif trips == 1 or (loop.kind is not LoopKind.SERIAL and self._is_unrolled(loop, lanes)):
            for trip in range(trips or 0):
                self._fixed(loop, constant(trip), lanes)
        elif loop.kind is LoopKind.PARALLEL and self._parallel is not None and lanes is None:
            self._parallel.loop(self, loop)
        else:
            self.serial(loop, lanes)

    def _is_unrolled(self, loop: Loop, lanes: Lanes | None) -> bool:
        trips = loop.extent.constant_value
        if trips is None or trips > MAX_UNROLLED:
            return False
        return loop.kind is LoopKind.UNROLLED or (
            loop.kind is LoopKind.VECTORIZED and lanes is not None
        )

    def _fixed(self, loop: Loop, value: Expression, lanes: Lanes | None) -> None:
        """Writes one iteration of a loop whose index is known."""
        self.scalars.names[loop.name] = value
        self._iteration(loop, lanes)
        del self.scalars.names[loop.name]

    def serial(
        self,
        loop: Loop,
        lanes: Lanes | None = None,
        low: Value | None = None,
        end: Value | None = None,
    ) -> None:
        """Writes a loop that runs from `low` to before `end`, else all of it."""
        low = self.writer.integer(0) if low is None else low
        end = self.indices.value(loop.extent) if end is None else end
        with self.writer.loop(low, end) as index:
            self.indices.values[loop.name] = index
            self._iteration(loop, lanes)
            del self.indices.values[loop.name]

    def _iteration(self, loop: Loop, lanes: Lanes | None) -> None:
        """Writes the body of a loop, a second time without the guards of its last iterations."""
        buffers = [buffer for buffer in self.program.allocations if buffer.place == loop.name]

        def write(body: Body) -> None:
            self._with_buffers(buffers, lambda: self.body(body, lanes))

        tails = [self._tails(loop, statement) for statement in loop.body]
        everything = [tail for some in tails for tail in some]
        if not everything or lanes is not None or self._copies >= MAX_COPIES:
            return write(loop.body)
        # Lanes one by one would keep buffers from registers, so each version has its own.
        has_lanes = any(tail.has_lanes for tail in everything)
        if (buffers and has_lanes) or sum(map(bool, tails)) > 1:
            return self._versions(everything, loop.body, write)

        def write_apart() -> None:
            for statement, some in zip(loop.body, tails, strict=True):
                if some:
                    self._versions(some, (statement,), lambda body: self.body(body, None))
                else:
                    self._statement(statement, None)

        self._with_buffers(buffers, write_apart)

    def _versions(self, tails: list[Tail], body: Body, write: Callable[[Body], None]) -> None:
        """Writes statements without conditions where these are known to hold, and with them."""
        self._copies += 1
        tails = list(dict.fromkeys(tails))
        with self.writer.condition(self._all_hold(tails)):
            write(without(body, frozenset(tail.condition for tail in tails)))
        with self.writer.otherwise():
            write(body)

    def _tails(self, loop: Loop, statement: Statement) -> list[Tail]:
        """Returns the conditions that are decided once this loop's index is known."""
        tails = tails_of((statement,), {})
        return [t for t in tails if loop.name in t.excess.symbols() and not t.is_cheap]

    def _all_hold(self, tails: Sequence[Tail]) -> Value:
        writer, zero = self.writer, self.writer.integer(0)
        result: Value | None = None
        for tail in tails:
            excess = self.indices.value(self.scalars.expression(tail.excess))
            holds = writer.compare("arith.cmpi", "slt", excess, zero)
            result = holds if result is None else writer.binary("arith.andi", result, holds)
        assert result is not None
        return result

    def _lanes_of(self, loop: Loop) -> tuple[list[Tail], Body | None]:
        """Returns the conditions of a loop's guards, and its body without them if it is lanes'."""
        # Loops that are written out bring the same loop many times.
        known = self._lane_bodies.get(loop.name)
        if known is not None and known[0] is loop.body:
            return known[1], known[2]
        tails = list(dict.fromkeys(tails_of(loop.body, {loop.name: loop})))
        body = (
            without(loop.body, frozenset(tail.condition for tail in tails)) if tails else loop.body
        )
        offsets = {id(s): self._offset(s) for s in walk(body) if isinstance(s, Store)}
        fixed = self.program.ranges
        lanes = body if is_vector_body(body, loop.name, offsets, tuple(fixed)) else None
        self._lane_bodies[loop.name] = (loop.body, tails, lanes)
        return tails, lanes

    def _vectorized(self, loop: Loop) -> None:
        tails, body = self._lanes_of(loop)
        if body is None or not all(map(self._is_known, tails)):
            self.serial(loop)
        elif not tails:
            self._vectors(replace(loop, body=body))
        else:
            with self.writer.condition(self._all_hold(tails)):
                self._vectors(replace(loop, body=body))
            with self.writer.otherwise():
                self.serial(loop)

    def _is_known(self, tail: Tail) -> bool:
        return self.indices.knows(self.scalars.expression(tail.excess))

    def _offset(self, store: Store) -> Expression | None:
        """Returns the offset of an element, None where it depends on data."""
        indices = [_plain(index) for index in store.indices]
        known = [index for index in indices if index is not None]
        if len(known) < len(indices):
            return None
        buffer = self.program.buffers[store.buffer]
        return offset_of(buffer, tuple(known))

    def _vectors(self, loop: Loop) -> None:
        """Writes a loop as vectors, what is left over as shorter ones or one by one."""
        trips = loop.extent.constant_value
        lanes = SYMBOLIC_LANES if trips is None else MAX_LANES
        start = 0
        if trips is None or trips > lanes:
            whole = loop.extent // lanes * lanes
            end = self.indices.value(whole)
            with self.writer.loop(self.writer.integer(0), end, lanes) as index:
                self.indices.values[loop.name] = index
                self._vector(loop, symbol(loop.name), lanes)
                del self.indices.values[loop.name]
            if trips is None:
                return self.serial(loop, None, end)
            start = trips // lanes * lanes
        while start < trips:
            count = min(lanes, 1 << ((trips - start).bit_length() - 1))
            self._vector(loop, constant(start), count)
            start += count

    def _vector(self, loop: Loop, start: Expression, count: int) -> None:
        if count == 1:
            return self._fixed(loop, start, None)
        if start == 0:
            return self.body(loop.body, Lanes(loop.name, count))
        name = f"{loop.name}_lane"
        while name in self.program.names:
            name += "_"
        self.scalars.names[loop.name] = start + symbol(name)
        self.body(loop.body, Lanes(name, count))
        del self.scalars.names[loop.name]


def _plain(index: Subscript) -> Expression | None:
    if isinstance(index, Index):
        return index.expression
    return index if isinstance(index, Expression) else None
