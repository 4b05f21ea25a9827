"""
From ops to a program.

A program's scalars are trees: what a store uses is computed at the store. So a value that is loaded
before and used after its buffer is written is refused, as is all else that a program cannot say.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from xdsl.dialects import arith, math, scf
from xdsl.dialects.builtin import UnitAttr, UnknownLoc
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.ir import Block as IRBlock
from xdsl.traits import Pure

from ..diagnostic import Note, error_at, nearest_location
from ..sym import Expression, ExpressionAttr, Ranges, symbol
from .access import AccessOp, CallOp, IndexOp, LoadOp, StoreOp
from .notation import ranges_of
from .program import (
    AccessMode,
    Axis,
    AxisKind,
    Block,
    Body,
    Bound,
    Buffer,
    Call,
    Guard,
    Loop,
    LoopKind,
    Operand,
    Region,
    Statement,
    Store,
)
from .regions import touched
from .scalars import Apply, Index, Load, Scalar, Subscript, Variable
from .statements import AllocOp, BlockOp, ForOp, Regions
from .types import annotations_of, constant_of, dtype_of

Names = Mapping[str, SSAValue]
_NO_FLAGS = (
    arith.FastMathFlagsAttr("none"),
    arith.IntegerOverflowAttr("none"),
)


@dataclass(frozen=True)
class _Known:
    """A scalar, the indices that it names, and the state of each buffer that it loads."""

    scalar: Scalar
    names: frozenset[str] = frozenset()
    loads: frozenset[tuple[str, int]] = frozenset()


@dataclass
class Reader:
    """
    Reads the body of a function.

    `buffers` and `variables` are the parameters; buffers of the function's own are added, in
    `allocations` too. `ops` holds the op of each loop and block by name.
    """

    ranges: Ranges
    buffers: dict[SSAValue, Buffer]
    variables: dict[SSAValue, Variable]
    allocations: list[Buffer] = field(default_factory=list[Buffer])
    ops: dict[str, Operation] = field(default_factory=dict[str, Operation])
    _known: dict[SSAValue, _Known] = field(default_factory=dict[SSAValue, _Known])
    # How often each buffer was written, in the order of the text.
    _writes: dict[str, int] = field(default_factory=dict[str, int])

    def __post_init__(self) -> None:
        for value, variable in self.variables.items():
            self._known[value] = _Known(variable)

    def function_body(self, block: IRBlock) -> Body:
        """Returns the statements of the function."""
        ops = list(block.ops)
        for op in ops:
            if isinstance(op, AllocOp):
                self._plain(op)
                self.buffers[op.buffer] = op.described()
                self.allocations.append(self.buffers[op.buffer])
        return self._body((op for op in ops if not isinstance(op, AllocOp)), {}, {})

    def _body(self, ops: Iterable[Operation], loops: Names, axes: Names) -> Body:
        """`loops` are the loops that a statement may name, `axes` the axes of blocks around."""
        return tuple(self._statements(ops, loops, axes))

    def _statements(
        self, ops: Iterable[Operation], loops: Names, axes: Names
    ) -> Iterator[Statement]:
        visible = {**axes, **loops}
        for op in ops:
            match op:
                case ForOp():
                    yield self._loop(op, loops, axes)
                case BlockOp():
                    yield self._block(op, visible, axes)
                case StoreOp():
                    yield self._store(op, visible)
                case CallOp():
                    yield self._call(op, visible)
                case scf.IfOp():
                    yield self._guard(op, loops, axes)
                case AllocOp():
                    raise error_at(op, "expects to stand in the function itself, not in a loop")
                case _:
                    self._known[self._result(op)] = self._scalar(op, visible)

    def _loop(self, op: ForOp, loops: Names, axes: Names) -> Loop:
        self._plain(op)
        self._check_indices(op, [op.extent], op.index_values, {**axes, **loops})
        self._writes_inside(op)
        name = op.loop_name.data
        self.ops[name] = op
        self._index(op.index, name)
        body = self._body(op.body.block.ops, {**loops, name: op.index}, axes)
        annotations = annotations_of(op.annotations)
        return Loop(name, op.extent.data, body, LoopKind(op.kind.data), annotations)

    def _index(self, value: SSAValue, name: str) -> None:
        self._known[value] = _Known(Index(symbol(name)), frozenset((name,)))

    def _block(self, op: BlockOp, visible: Names, axes: Names) -> Block:
        self._plain(op)
        self.ops[op.block_name.data] = op
        own = dict(zip(op.index_names, op.body.block.args, strict=True))
        outside = [*op.bindings, *op.extents, *op.predicate]
        regions = [side for region in chain(op.reads or (), op.writes or ()) for side in region]
        self._check_indices(op, [*outside, *regions], op.index_values, visible, frozenset(own))
        self._check_own(op, outside, own)
        for name, value in own.items():
            self._index(value, name)
        inner = {**axes, **own}
        init_op = op.init
        init: Body = ()
        if init_op is not None:
            self._plain(init_op)
            init = self._body(init_op.body.block.ops, {}, inner)
        ops = (inside for inside in op.body.block.ops if inside is not init_op)
        body = self._body(ops, {}, inner)
        block_axes = tuple(
            Axis(name.data, extent.data, binding.data, AxisKind(kind.data))
            for name, extent, binding, kind in zip(
                op.axis_names, op.extents, op.bindings, op.axis_kinds, strict=True
            )
        )
        reads, writes = self._regions(op, block_axes, (*init, *body))
        sides = [side.data for side in op.predicate]
        predicate = tuple(map(Bound, sides[::2], sides[1::2]))
        name = op.block_name.data
        annotations = annotations_of(op.annotations)
        return Block(name, block_axes, reads, writes, body, init, predicate, annotations)

    def _regions(
        self, op: BlockOp, axes: Sequence[Axis], body: Body
    ) -> tuple[tuple[Region, ...], tuple[Region, ...]]:
        """Returns what a block says that it reads and writes, or what it touches."""
        found = ((), ())
        if op.reads is None or op.writes is None:
            buffers = {buffer.name: buffer for buffer in self.buffers.values()}
            found = touched(body, self._ranges_inside(op, axes), buffers)
        reads = self._written_out(op, op.read_buffers, op.reads)
        writes = self._written_out(op, op.written_buffers, op.writes)
        return (found[0] if reads is None else reads, found[1] if writes is None else writes)

    def _written_out(
        self, op: Operation, buffers: Sequence[SSAValue], regions: Regions | None
    ) -> tuple[Region, ...] | None:
        if regions is None:
            return None
        return tuple(
            Region(self._buffer(op, buffer).name, ranges_of(region))
            for buffer, region in zip(buffers, regions, strict=True)
        )

    def _ranges_inside(self, op: BlockOp, axes: Sequence[Axis]) -> Ranges:
        entries: list[tuple[str, Expression]] = [(axis.name, axis.extent) for axis in axes]
        around = op.parent_op()
        while around is not None:
            if isinstance(around, BlockOp):
                outer = zip(around.index_names, around.extents, strict=True)
                entries = [*((name, extent.data) for name, extent in outer), *entries]
            around = around.parent_op()
        ranges = self.ranges
        for name, extent in entries:
            if name not in ranges:
                ranges = ranges.also(name, 0, extent - 1)
        return ranges

    def _store(self, op: StoreOp, visible: Names) -> Store:
        self._plain(op)
        indices = self._subscripts(op, visible)
        for value in op.data_indices:
            self._use(op, value, visible)
        store = Store(self._buffer(op, op.buffer).name, indices, self._use(op, op.value, visible))
        self._write(store.buffer)
        return store

    def _call(self, op: CallOp, visible: Names) -> Call:
        self._plain(op)
        sides = [side for region in op.regions_ for side in region]
        self._check_indices(op, sides, op.index_values, visible)
        operands = tuple(
            Operand(Region(self._buffer(op, buffer).name, ranges_of(region)), AccessMode(mode.data))
            for mode, buffer, region in zip(op.modes, op.buffers, op.regions_, strict=True)
        )
        for operand in operands:
            if operand.is_written:
                self._write(operand.region.buffer)
        return Call(op.intrinsic.data, operands)

    def _guard(self, op: scf.IfOp, loops: Names, axes: Names) -> Guard:
        if op.results or op.false_region.blocks:
            raise error_at(op, "of a nest expects no results and no else; use arith.select")
        self._plain(op)
        condition = self._use(op, op.cond, {**axes, **loops})
        inner = [part for part in op.true_region.block.ops if not isinstance(part, scf.YieldOp)]
        return Guard(condition, self._body(inner, loops, axes))

    def _scalar(self, op: Operation, visible: Names) -> _Known:
        match op:
            case arith.ConstantOp():
                if (constant := constant_of(op.value)) is None:
                    raise error_at(op, f"of a nest expects a number, got {op.value}")
                return _Known(constant)
            case IndexOp():
                self._check_indices(op, [op.expression], op.index_values, visible)
                return _Known(Index(op.expression.data), op.expression.data.symbols())
            case LoadOp():
                return self._load(op, visible)
            case _:
                return self._apply(op)

    def _load(self, op: LoadOp, visible: Names) -> _Known:
        buffer = self._buffer(op, op.buffer)
        indices = self._subscripts(op, visible)
        parts = [self._value(op, value) for value in op.data_indices]
        names = {
            name for index in indices if isinstance(index, Expression) for name in index.symbols()
        }
        loads = {(buffer.name, self._writes.get(buffer.name, 0))}
        return _Known(
            Load(buffer.name, indices, buffer.dtype),
            frozenset(names).union(*(part.names for part in parts)),
            frozenset(loads).union(*(part.loads for part in parts)),
        )

    def _apply(self, op: Operation) -> _Known:
        dialect = op.name.partition(".")[0]
        result = self._result(op)
        if dialect not in (arith.Arith.name, math.Math.name) or not op.has_trait(Pure):
            raise error_at(op, "is no op of a nest: expected ops of nest, arith, math, or scf.if")
        dtype = dtype_of(result.type)
        if dtype is None:
            raise error_at(op, f"of a nest expects a result that is a number, got {result.type}")
        predicate = ""
        for name, value in (op.properties | op.attributes).items():
            if name == "predicate" and isinstance(op, arith.CmpiOp | arith.CmpfOp):
                predicate = comparisons(op)[op.predicate.value.data]
            elif value not in _NO_FLAGS:
                raise error_at(op, f"of a nest expects no attribute '{name}', got {value}")
        parts = [self._value(op, operand) for operand in op.operands]
        return _Known(
            Apply(op.name, tuple(part.scalar for part in parts), dtype, predicate),
            frozenset[str]().union(*(part.names for part in parts)),
            frozenset[tuple[str, int]]().union(*(part.loads for part in parts)),
        )

    def _subscripts(self, op: AccessOp, visible: Names) -> tuple[Subscript, ...]:
        self._check_indices(op, op.indices, op.index_values, visible)
        data = iter(op.data_indices)
        return tuple(
            self._value(op, next(data)).scalar
            if isinstance(index, UnitAttr)
            else _expression(index)
            for index in op.indices
        )

    def _use(self, op: Operation, value: SSAValue, visible: Names) -> Scalar:
        """Returns the scalar that an op takes; it has to be what it would be if computed here."""
        known = self._value(op, value)
        note = (Note("it is computed here", _place(value)),)
        for buffer, state in known.loads:
            if state != self._writes.get(buffer, 0):
                raise error_at(
                    op,
                    f"uses a value that was loaded from %{buffer} before %{buffer} is written; "
                    "load it again behind the store",
                    note,
                )
        for name in sorted(known.names):
            if name not in visible and name not in self.ranges:
                raise error_at(
                    op,
                    f"uses a value that names %{name}, which is outside of the block; "
                    "give the block an axis for it",
                    note,
                )
        return known.scalar

    def _value(self, op: Operation, value: SSAValue) -> _Known:
        if (known := self._known.get(value)) is None:
            raise error_at(op, "expects its operands to be numbers that are computed before")
        return known

    def _buffer(self, op: Operation, value: SSAValue) -> Buffer:
        if (buffer := self.buffers.get(value)) is None:
            raise error_at(
                op, "expects buffers that are parameters or allocated by the function itself"
            )
        return buffer

    def _check_indices(
        self,
        op: Operation,
        indices: Iterable[Attribute],
        values: Sequence[SSAValue],
        visible: Names,
        own: frozenset[str] = frozenset(),
    ) -> None:
        """Checks that names are symbols, or indices that may be named here and are operands."""
        names: set[str] = set()
        for index in indices:
            if isinstance(index, ExpressionAttr):
                names |= index.data.symbols()
        expected: list[SSAValue] = []
        for name in sorted(names - own):
            if (value := visible.get(name)) is not None:
                expected.append(value)
            elif name not in self.ranges:
                raise error_at(op, self._not_visible(name, visible))
        if expected != list(values):
            wanted = ", ".join(f"%{name}" for name in sorted(names - own) if name in visible)
            raise error_at(
                op,
                f"expects the indices that its expressions name as operands, [{wanted}]; an index "
                "is a loop or axis, and a scalar parameter is written value(%name)",
            )

    def _not_visible(self, name: str, visible: Names) -> str:
        known = ", ".join([*(f"%{index}" for index in visible), *self.ranges])
        if name in self.ops:
            return (
                f"expects indices over axes of the block, loops inside it and symbols ({known}), "
                f"got %{name}, which is around the block"
            )
        return f"expects indices over loops, axes and symbols ({known}), got '{name}'"

    def _check_own(self, op: BlockOp, outside: Iterable[ExpressionAttr], own: Names) -> None:
        for expression in outside:
            if inside := expression.data.symbols() & own.keys():
                raise error_at(
                    op,
                    f"expects bindings, extents and bounds over what is around the block, "
                    f"got its axis %{min(inside)}",
                )

    def _write(self, buffer: str) -> None:
        self._writes[buffer] = self._writes.get(buffer, 0) + 1

    def _writes_inside(self, op: ForOp) -> None:
        # What one iteration writes, the next one finds changed.
        for inside in op.walk():
            if isinstance(inside, StoreOp) and inside.buffer in self.buffers:
                self._write(self.buffers[inside.buffer].name)
            elif isinstance(inside, CallOp):
                for mode, buffer in zip(inside.modes, inside.buffers, strict=True):
                    if mode.data != AccessMode.READ and buffer in self.buffers:
                        self._write(self.buffers[buffer].name)

    def _plain(self, op: Operation) -> None:
        for name in op.attributes:
            raise error_at(op, f"of a nest expects no attribute '{name}'; write an annotation")

    def _result(self, op: Operation) -> SSAValue:
        if len(op.results) != 1 or op.regions:
            raise error_at(op, "is no op of a nest: expected ops of nest, arith, math, or scf.if")
        return op.results[0]


def comparisons(op: arith.CmpiOp | arith.CmpfOp) -> Sequence[str]:
    """Returns the predicates of a comparison, in the order of their numbers."""
    if isinstance(op, arith.CmpiOp):
        return arith.CMPI_COMPARISON_OPERATIONS
    return arith.CMPF_COMPARISON_OPERATIONS


def _expression(index: Attribute) -> Expression:
    assert isinstance(index, ExpressionAttr)
    return index.data


def _place(value: SSAValue) -> Attribute:
    owner = value.owner
    return nearest_location(owner) if isinstance(owner, Operation) else UnknownLoc()
