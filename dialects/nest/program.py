"""
A nest as the transformations see it: an immutable tree of loops, blocks and stores.

The ops of the dialect say the same in MLIR: `reading.py` and `writing.py` go from one to the
other. A step of a schedule makes a new tree that shares what it leaves alone, so the tree before
the step stays as it was, and a search can hold thousands of them.

A schedule refers to loops, blocks and buffers by name. Loops and blocks share their names with
symbols, buffers with scalar parameters; no two are the same. The name of an axis is that of no
loop, block or symbol, nor of an axis around it. What is inside a block names its axes, the axes
of blocks around it, loops inside it and symbols, but no loop around it: so a loop can be changed
without a look into the block. Stores stand in blocks until `lower-blocks` dissolves these.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import TypeAlias

from ..sym import Expression, Ranges, symbol
from .scalars import DTYPE_BITS, Scalar, Subscript

AnnotationValue: TypeAlias = int | str | tuple[int, ...] | tuple[str, ...]
Annotations: TypeAlias = Mapping[str, AnnotationValue]
NO_ANNOTATIONS: Annotations = {}


class Scope(StrEnum):
    """Where a buffer lives, and who sees it."""

    GLOBAL = "global"
    SHARED = "shared"  # of a CTA
    FRAGMENT = "fragment"  # in the registers of a warp, in the layout of its instructions
    LOCAL = "local"  # of a thread


class LoopKind(StrEnum):
    """How the iterations of a loop are executed."""

    SERIAL = "serial"
    PARALLEL = "parallel"
    VECTORIZED = "vectorized"
    UNROLLED = "unrolled"
    BLOCK_X = "block.x"
    BLOCK_Y = "block.y"
    BLOCK_Z = "block.z"
    THREAD_X = "thread.x"
    THREAD_Y = "thread.y"
    THREAD_Z = "thread.z"

    @property
    def is_thread(self) -> bool:
        """Whether the loop is bound to an axis of the threads of a CTA."""
        return self.value.startswith("thread.")

    @property
    def is_block(self) -> bool:
        """Whether the loop is bound to an axis of the grid."""
        return self.value.startswith("block.")

    @property
    def is_bound(self) -> bool:
        """Whether the loop is bound to an axis of the grid or of a CTA."""
        return self.is_block or self.is_thread

    @property
    def is_concurrent(self) -> bool:
        """Whether iterations may run at the same time."""
        return self.is_bound or self in (LoopKind.PARALLEL, LoopKind.VECTORIZED)


class AxisKind(StrEnum):
    """
    How the points of an axis depend on one another.

    Points of a spatial axis write different elements. Those of a reduce axis update the same ones,
    in any order. Those of an ordered axis are visited from the first to the last.
    """

    SPATIAL = "spatial"
    REDUCE = "reduce"
    ORDERED = "ordered"


@dataclass(frozen=True)
class Buffer:
    """
    A dense array of `shape` elements.

    `strides` are in elements, None is row-major. `swizzle` is the period in bytes in which 16-byte
    chunks of a shared buffer are exchanged by `chunk ^ row` (0, 32, 64 or 128); rows are counted as
    at least 128 bytes long. `padding` holds for axes of a shared or local buffer (axis, factor,
    offset): the stride of the axis is made `offset` modulo `factor` elements.

    `place` is the loop in whose body a buffer of the program's own is allocated, a new one in each
    iteration; None is the program. `compact-buffers` sets it.
    """

    name: str
    shape: tuple[Expression, ...]
    dtype: str
    scope: Scope = Scope.GLOBAL
    strides: tuple[Expression, ...] | None = None
    swizzle: int = 0
    padding: tuple[tuple[int, int, int], ...] = ()
    place: str | None = None

    @property
    def element_bytes(self) -> int:
        """The size of an element in bytes; a boolean takes one."""
        return max(1, DTYPE_BITS[self.dtype] // 8)


@dataclass(frozen=True)
class ScalarParameter:
    """A number that the caller passes."""

    name: str
    dtype: str


Parameter: TypeAlias = Buffer | ScalarParameter


@dataclass(frozen=True)
class Range:
    """The indices `start .. start + extent - 1`."""

    start: Expression
    extent: Expression


@dataclass(frozen=True)
class Region:
    """A box of a buffer's elements: what a block reads or writes, over its axes."""

    buffer: str
    ranges: tuple[Range, ...]


@dataclass(frozen=True)
class Bound:
    """The condition `left < right` over loops and symbols."""

    left: Expression
    right: Expression


@dataclass(frozen=True)
class Axis:
    """
    An iterator of a block: it runs over `0 .. extent - 1`.

    `binding` gives its value from the loops around the block.
    """

    name: str
    extent: Expression
    binding: Expression
    kind: AxisKind = AxisKind.SPATIAL


@dataclass(frozen=True)
class Store:
    """`buffer[indices] = value`."""

    buffer: str
    indices: tuple[Subscript, ...]
    value: Scalar


@dataclass(frozen=True)
class Guard:
    """The body runs where the condition, a scalar of dtype i1, holds."""

    condition: Scalar
    body: "Body"


class AccessMode(StrEnum):
    """What a tensor intrinsic does with an operand."""

    READ = "read"
    WRITE = "write"
    UPDATE = "update"


@dataclass(frozen=True)
class Operand:
    """A region of a buffer that an intrinsic works on."""

    region: Region
    mode: AccessMode

    @property
    def is_read(self) -> bool:
        """Whether the intrinsic reads the region."""
        return self.mode is not AccessMode.WRITE

    @property
    def is_written(self) -> bool:
        """Whether the intrinsic writes the region."""
        return self.mode is not AccessMode.READ


@dataclass(frozen=True)
class Call:
    """A tensor intrinsic on regions of buffers, in the order of its description's parameters."""

    intrinsic: str
    operands: tuple[Operand, ...]


@dataclass(frozen=True)
class Loop:
    """`for name in 0 .. extent - 1`."""

    name: str
    extent: Expression
    body: "Body"
    kind: LoopKind = LoopKind.SERIAL
    annotations: Annotations = field(default_factory=lambda: NO_ANNOTATIONS)

    @property
    def variable(self) -> Expression:
        """The loop's index as an expression."""
        return symbol(self.name)


@dataclass(frozen=True)
class Block:
    """
    A part of the computation that is written over its own axes, whatever loops are around it.

    The body runs for the points of the axes where all bounds of `predicate` hold. `init` runs
    before it where every reduce axis is at 0. `reads` and `writes` are over the axes; they cover
    what init and body touch.
    """

    name: str
    axes: tuple[Axis, ...]
    reads: tuple[Region, ...]
    writes: tuple[Region, ...]
    body: "Body"
    init: "Body" = ()
    predicate: tuple[Bound, ...] = ()
    annotations: Annotations = field(default_factory=lambda: NO_ANNOTATIONS)

    @property
    def bindings(self) -> dict[str, Expression]:
        """The value of each axis, by its name."""
        return {axis.name: axis.binding for axis in self.axes}

    def axes_of(self, kind: AxisKind) -> tuple[Axis, ...]:
        """Returns the axes of one kind."""
        return tuple(axis for axis in self.axes if axis.kind is kind)


Statement: TypeAlias = Loop | Block | Store | Guard | Call
Body: TypeAlias = tuple[Statement, ...]
Path: TypeAlias = tuple[Loop | Block | Guard, ...]


@dataclass(frozen=True)
class Program:
    """
    A function over buffers: parameters, buffers of its own, and a nest.

    `ranges` holds every symbol of the extents. Calls with other values of the symbols are refused.
    """

    name: str
    parameters: tuple[Parameter, ...]
    ranges: Ranges
    body: Body
    allocations: tuple[Buffer, ...] = ()
    outputs: frozenset[str] = frozenset()
    annotations: Annotations = field(default_factory=lambda: NO_ANNOTATIONS)

    @cached_property
    def buffers(self) -> dict[str, Buffer]:
        """All buffers by name, the parameters first."""
        parameters = [p for p in self.parameters if isinstance(p, Buffer)]
        return {buffer.name: buffer for buffer in (*parameters, *self.allocations)}

    @cached_property
    def places(self) -> "dict[str, Path]":
        """The way to each loop and block by name: what is around it, outermost first, then it."""
        places: dict[str, Path] = {}
        _record_places(self.body, (), places)
        return places

    @cached_property
    def names(self) -> frozenset[str]:
        """The names of symbols, loops, blocks and axes; buffers and numbers have their own."""
        names = {*self.ranges, *self.places}
        for path in self.places.values():
            if isinstance(block := path[-1], Block):
                names.update(axis.name for axis in block.axes)
        return frozenset(names)

    def fresh_name(self, name: str) -> str:
        """Returns `name`, with a number behind it if a symbol, loop, block or axis has it."""
        return _fresh(name, self.names)

    def fresh_buffer(self, name: str) -> str:
        """Returns `name`, with a number behind it if a buffer or number has it."""
        return _fresh(name, {*self.buffers, *(parameter.name for parameter in self.parameters)})

    def loop(self, name: str) -> Loop | None:
        """Returns the loop of that name, if there is one."""
        path = self.places.get(name)
        return path[-1] if path and isinstance(path[-1], Loop) else None

    def block(self, name: str) -> Block | None:
        """Returns the block of that name, if there is one."""
        path = self.places.get(name)
        return path[-1] if path and isinstance(path[-1], Block) else None

    def loops_around(self, name: str) -> tuple[Loop, ...]:
        """Returns the loops around a loop or block, outermost first, without itself."""
        return tuple(part for part in self.places[name][:-1] if isinstance(part, Loop))

    def replace(self, name: str, *statements: Statement) -> "Program":
        """Returns the program with other statements in the place of a loop or block."""
        *around, old = self.places[name]
        new: Body = statements
        for parent in reversed(around):
            new = (_with_child(parent, old, new),)
            old = parent
        body = _substitute_statement(self.body, old, new)
        return replace(self, body=body)


def _fresh(name: str, taken: Collection[str]) -> str:
    free, number = name, 1
    while free in taken:
        free, number = f"{name}_{number}", number + 1
    return free


def _record_places(body: Body, around: Path, places: dict[str, Path]) -> None:
    for statement in body:
        if isinstance(statement, Loop | Block):
            path = (*around, statement)
            places[statement.name] = path
            if isinstance(statement, Block):
                _record_places(statement.init, path, places)
            _record_places(statement.body, path, places)
        elif isinstance(statement, Guard):
            _record_places(statement.body, (*around, statement), places)


def _substitute_statement(body: Body, old: Statement, new: Body) -> Body:
    for position, statement in enumerate(body):
        if statement is old:
            return body[:position] + new + body[position + 1 :]
    return body


def _with_child(parent: Loop | Block | Guard, old: Statement, new: Body) -> Statement:
    body = _substitute_statement(parent.body, old, new)
    if body is parent.body and isinstance(parent, Block):
        return replace(parent, init=_substitute_statement(parent.init, old, new))
    return replace(parent, body=body)


def walk(body: Body) -> Iterator[Statement]:
    """Yields every statement, outer before inner, `init` before the body."""
    # What is still to come, the next one last: generators inside one another would cost more.
    pending = [*reversed(body)]
    while pending:
        statement = pending.pop()
        yield statement
        if isinstance(statement, Loop | Block | Guard):
            pending += reversed(statement.body)
            if isinstance(statement, Block):
                pending += reversed(statement.init)


def blocks_of(body: Body) -> Iterator[Block]:
    """Yields every block, outer before inner."""
    for statement in walk(body):
        if isinstance(statement, Block):
            yield statement
