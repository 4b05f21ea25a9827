"""
Rows of shared memory computed anew, for one thread.

A warp takes one row after the other, so that a lane may read what any lane of its warp holds: all
lanes read, wait for each other, then write. What depends on the column alone is computed once
before the rows, what depends on the row alone once for each row. A lane has pairs of neighbouring
columns, over which loops go: what it knows of them are vectors `[pairs, 2]`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Flag, auto

from xdsl.dialects import arith, llvm
from xdsl.dialects.builtin import AnyFloat, FloatAttr, f32, i1, i32
from xdsl.ir import Attribute, Operation, Region, SSAValue
from xdsl.utils.hints import isa

from ...dialects import nvvm, tile
from ...dialects.diagnostic import error_at
from ...dialects.tile import SharedType
from ..creation import ops_of
from ..emitter import INDEX, Emitter, vector_type
from .compute import FULL_WARP, of_other_lane
from .fragments import broadcast, extract, insert, zeros
from .lanes import address, chunk_offset, load_element
from .own_elements import OwnPlaces, own_places
from .rules import Rule
from .thread import Thread, check_on_scalars, copy_with

# Rows that a warp has in work at a time, to hide the latency of shared memory.
ROWS_AT_ONCE = 2
ELEMENT_BYTES = 2
Values = Mapping[SSAValue, SSAValue]


class Depends(Flag):
    """What the value of an op in a rewrite region depends on."""

    NOTHING = 0
    ROW = auto()
    COLUMN = auto()


@dataclass(frozen=True)
class Columns:
    """
    The columns of a lane: `numbers` are their indices, a vector `[pairs, 2]`.

    `known` are vectors of what depends on the column alone, by the value of the region. `inside`,
    `[pairs]`, tells which lie within the row, where not all do; the others stand for its last pair.
    """

    numbers: SSAValue
    known: Values
    inside: SSAValue | None


@dataclass(frozen=True)
class Numbers:
    """The rows that a warp has in work at a time: `count` from `first` on, `apart` from another."""

    first: SSAValue
    apart: int
    count: int

    def at(self, emit: Emitter, index: SSAValue) -> SSAValue:
        """Returns the number of the row at an index, of type index."""
        return emit.add(self.first, emit.mul(emit.to_i32(index), self.apart))


@dataclass(frozen=True)
class Row:
    """One row in work: its number, and the elements of this lane by their columns."""

    number: SSAValue
    elements: SSAValue
    columns: Columns


@dataclass(frozen=True)
class Element:
    """
    An element of a row that this lane has, at its pair and its place in that.

    The column is None where nothing reads it.
    """

    row: Row
    at: Sequence[SSAValue]
    column: SSAValue | None
    value: SSAValue


def lower_rewrite_rows(thread: Thread, op: tile.RewriteRowsOp) -> None:
    """A loop over the rows of a warp, some at a time."""
    kind = op.stage.type
    if not isinstance(kind, SharedType):
        raise TypeError(f"expected a stage, got {kind}")
    Rewriting(thread, op, kind).emit_all()


class Rewriting:
    """The lowering of one `tile.rewrite_rows`."""

    def __init__(self, thread: Thread, op: tile.RewriteRowsOp, kind: SharedType) -> None:
        self.thread, self.op, self.kind = thread, op, kind
        self.emit: Emitter = thread.emit
        self.row_argument, self.column_argument = op.body.block.args
        self.pairs = -(-kind.columns // (2 * tile.WARP_SIZE))
        self.depends = self._dependences()
        # Of the ops that read elements, where the lane has them itself; None where it is the same.
        self.own: dict[Operation, OwnPlaces | None] = {}
        self.by_dependence: dict[Depends, list[Operation]] = {}
        for inner in ops_of(op.body.block):
            if type(inner) is not tile.YieldOp:
                depends = self.depends[inner.results[0]]
                self.by_dependence.setdefault(depends, []).append(inner)
            if type(inner) is tile.RowElementOp:
                own = own_places(inner.index, self.column_argument, kind.columns)
                if own is not None or inner.index is self.column_argument:
                    self.own[inner] = None if inner.index is self.column_argument else own

    def emit_all(self) -> None:
        """Appends the whole rewriting."""
        emit, warps = self.emit, self.thread.lanes.threads // tile.WARP_SIZE
        warp = emit.divu(self.thread.lanes.thread, tile.WARP_SIZE)
        always = self._run(Depends.NOTHING, {})
        columns = self._columns(always)
        steps = -(-self.kind.rows // warps)
        at_once = ROWS_AT_ONCE if self.kind.rows % (warps * ROWS_AT_ONCE) == 0 else 1

        def step(index: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
            first = emit.add(warp, emit.mul(index, warps * at_once))
            numbers = Numbers(first, warps, at_once)
            if self.kind.rows % warps == 0:
                self._rewrite(numbers, columns, always)
            else:
                within = emit.compare("slt", first, self.kind.rows)
                emit.when(within, lambda: self._rewrite(numbers, columns, always))
            return ()

        emit.loop((emit.integer(0), emit.integer(steps // at_once)), (), step)

    def _columns(self, always: Values) -> Columns:
        """Appends the columns of this lane, and what depends on nothing but them."""
        emit, pairs = self.emit, self.kind.columns // 2
        inside = self._inside() if self.pairs * tile.WARP_SIZE > pairs else None
        known = self._known_of_columns()
        kinds = (i32, *(value.type for value in known))

        def each(at: Sequence[SSAValue], carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
            pair = emit.add(self.thread.lanes.lane, emit.mul(emit.to_i32(at[0]), tile.WARP_SIZE))
            if inside is not None:
                pair = emit.min(pair, pairs - 1)
            column = emit.add(emit.mul(pair, 2), emit.to_i32(at[1]))
            values = self._run(Depends.COLUMN, {**always, self.column_argument: column})
            found = (column, *(values[value] for value in known))
            return [insert(emit, new, into, *at) for new, into in zip(found, carried, strict=True)]

        numbers, *vectors = self._each_column([self._zeros(kind) for kind in kinds], each)
        return Columns(numbers, dict(zip(known, vectors, strict=True)), inside)

    def _inside(self) -> SSAValue:
        """Appends which pairs of columns of this lane lie within the row."""
        emit = self.emit

        def each(pair: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
            place = emit.mul(emit.to_i32(pair), tile.WARP_SIZE)
            number = emit.add(self.thread.lanes.lane, place)
            within = emit.compare("slt", number, self.kind.columns // 2)
            return (insert(emit, within, carried[0], pair),)

        nothing = zeros(emit, vector_type(i1, (self.pairs,)))
        return emit.unrolled(self.pairs, (nothing,), each)[0]

    def _known_of_columns(self) -> list[SSAValue]:
        """The values that depend on the column alone, of which others read."""
        of_columns = [value for value, on in self.depends.items() if on == Depends.COLUMN]
        return [
            value
            for value in of_columns
            if value is not self.column_argument
            and any(self._reads_more(use.operation) for use in value.uses)
        ]

    def _reads_more(self, op: Operation) -> bool:
        if op in self.own:
            return False
        return not op.results or self.depends.get(op.results[0]) != Depends.COLUMN

    def _zeros(self, kind: Attribute) -> SSAValue:
        """Returns a vector to insert what is known of the columns into."""
        return zeros(self.emit, vector_type(kind, (self.pairs, 2)))

    def _each_column(
        self,
        carried: Sequence[SSAValue],
        body: Callable[[Sequence[SSAValue], Sequence[SSAValue]], Sequence[SSAValue]],
    ) -> Sequence[SSAValue]:
        """Appends the body for each column of this lane, by the numbers of its pair and in it."""
        emit = self.emit
        return emit.unrolled(
            self.pairs,
            carried,
            lambda pair, outer: emit.unrolled(2, outer, lambda half, c: body((pair, half), c)),
        )

    def _rewrite(self, numbers: Numbers, columns: Columns, always: Values) -> None:
        """Reads all rows that are in work, waits for the lanes of the warp, and writes them."""
        emit = self.emit
        element = self.kind.element_type
        if not isa(element, AnyFloat):
            raise TypeError(f"expected a stage of numbers, got {self.kind}")
        zero = emit.constant(FloatAttr(0.0, element))
        unset = broadcast(emit, zero, (numbers.count, self.pairs, 2))

        def compute(index: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
            row = self._read_row(numbers.at(emit, index), columns)
            known: dict[SSAValue, SSAValue] = {**always, self.row_argument: row.number}
            known.update(self._run(Depends.ROW, known, row))
            pairs = self._new_pairs(row, known)
            return (insert(emit, pairs, carried[0], index),)

        (results,) = emit.unrolled(numbers.count, (unset,), compute)
        emit.op(nvvm.SyncWarpOp, emit.integer(FULL_WARP))

        def store(index: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
            place_of = self._places(numbers.at(emit, index), columns)

            def store_pair(pair: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
                self._store(place_of, columns, pair, extract(emit, results, index, pair))
                return ()

            return emit.unrolled(self.pairs, (), store_pair)

        emit.unrolled(numbers.count, (), store)

    def _read_row(self, number: SSAValue, columns: Columns) -> Row:
        emit = self.emit
        narrow, wide = (vector_type(kind, (2,)) for kind in (self.kind.element_type, f32))
        place_of = self._places(number, columns)

        def read(pair: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
            place = place_of(pair)
            loaded = emit.result(arith.ExtFOp, emit.result(llvm.LoadOp, place, narrow, 4), wide)
            return (insert(emit, loaded, carried[0], pair),)

        (elements,) = emit.unrolled(self.pairs, (self._zeros(f32),), read)
        return Row(number, elements, columns)

    def _places(self, row: SSAValue, columns: Columns) -> Callable[[SSAValue], SSAValue]:
        """Returns a function that appends the address of one of this lane's pairs of a row."""
        emit = self.emit
        if columns.inside is not None or self.pairs == 1:
            return lambda pair: self._address(row, extract(emit, columns.numbers, pair, 0))
        # The pairs of a warp fill whole periods of the swizzle, which keep their distance.
        first = self._address(row, extract(emit, columns.numbers, 0, 0))
        apart = 2 * tile.WARP_SIZE * ELEMENT_BYTES
        return lambda pair: address(emit, first, emit.mul(emit.to_i32(pair), apart))

    def _address(self, row: SSAValue, column: SSAValue) -> SSAValue:
        """Appends the address of an element of a row."""
        emit = self.emit
        offset = chunk_offset(emit, self.kind, row, emit.divu(column, 8))
        in_chunk = emit.mul(emit.remu(column, 8), ELEMENT_BYTES)
        return address(emit, self.thread[self.op.stage], emit.add(offset, in_chunk))

    def _store(
        self,
        place_of: Callable[[SSAValue], SSAValue],
        columns: Columns,
        pair: SSAValue,
        value: SSAValue,
    ) -> None:
        emit = self.emit

        def store() -> None:
            emit.op(llvm.StoreOp, value, place_of(pair), 4)

        if columns.inside is not None:
            emit.when(extract(emit, columns.inside, pair), store)
        else:
            store()

    def _new_pairs(self, row: Row, known: Values) -> SSAValue:
        """Appends the new elements of a row, rounded: `[pairs, 2]`."""
        emit = self.emit
        reads_column = any(self._reads_more(use.operation) for use in self.column_argument.uses)

        def each(at: Sequence[SSAValue], carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
            column = extract(emit, row.columns.numbers, *at) if reads_column else None
            own = Element(row, at, column, extract(emit, row.elements, *at))
            values: dict[SSAValue, SSAValue] = dict(known)
            if column is not None:
                values[self.column_argument] = column
            for value, vector in row.columns.known.items():
                values[value] = extract(emit, vector, *at)
            values.update(self._run(Depends.ROW | Depends.COLUMN, values, own))
            value, changes = (self._known(values, v) for v in self._yielded(self.op.body))
            return (insert(emit, emit.select(changes, value, own.value), carried[0], *at),)

        (pairs,) = self._each_column((self._zeros(f32),), each)
        kind = vector_type(self.kind.element_type, (self.pairs, 2))
        return emit.result(arith.TruncFOp, pairs, kind)

    def _run(
        self, depends: Depends, known: Values, at: Row | Element | None = None
    ) -> dict[SSAValue, SSAValue]:
        """Appends the ops that depend on just that, and returns their results beside `known`."""
        values = dict(known)
        for op in self.by_dependence.get(depends, ()):
            self._run_op(op, values, at)
        return values

    def _run_op(
        self, op: Operation, values: dict[SSAValue, SSAValue], at: Row | Element | None
    ) -> None:
        emit = self.emit
        if op in self.own and isinstance(at, Element):
            values.update(zip(op.results, (self._own_element(self.own[op], at),), strict=True))
            return
        operands = [self._known(values, operand) for operand in op.operands]
        # Ops are of an abstract class: to ask for the very class is many times faster.
        if type(op) is tile.LoadOp:
            loaded = load_element(emit, operands[0], operands[1], op.value.type)
            values[op.value] = loaded
        elif type(op) is tile.RowElementOp and at is not None:
            values[op.element] = self._element(at, operands[0])
        elif type(op) is tile.RowSumOp and isinstance(at, Row):
            values[op.total] = self._sum(op, at, values)
        elif type(op) is arith.ConstantOp:
            values[op.result] = emit.constant_of(op)
        else:
            check_on_scalars(op)
            copy = copy_with(op, operands)
            emit.append(copy)
            values.update(zip(op.results, copy.results, strict=True))

    def _element(self, at: Row | Element, index: SSAValue) -> SSAValue:
        if isinstance(at, Element) and at.column is index:
            return at.value
        emit, row = self.emit, at.row if isinstance(at, Element) else at
        index = emit.max(emit.min(index, self.kind.columns - 1), 0)
        loaded = emit.result(llvm.LoadOp, self._address(row.number, index), self.kind.element_type)
        return emit.result(arith.ExtFOp, loaded, f32)

    def _own_element(self, own: OwnPlaces | None, at: Element) -> SSAValue:
        """Appends the read of another element of this lane, or returns the element itself."""
        if own is None:
            return at.value
        emit, kind = self.emit, vector_type(INDEX, (self.pairs, 2))
        tables = (emit.dense(kind, own.pairs), emit.dense(kind, own.halves))
        return extract(emit, at.row.elements, *(extract(emit, table, *at.at) for table in tables))

    def _sum(self, op: tile.RowSumOp, row: Row, known: Values) -> SSAValue:
        emit, zero = self.emit, self.emit.float32(0.0)

        def each(at: Sequence[SSAValue], carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
            column = extract(emit, row.columns.numbers, *at)
            own = Element(row, at, column, extract(emit, row.elements, *at))
            values: dict[SSAValue, SSAValue] = {**known, op.term.block.args[0]: column}
            for inner in ops_of(op.term.block):
                if type(inner) is not tile.YieldOp:
                    self._run_op(inner, values, own)
            (term,) = (self._known(values, value) for value in self._yielded(op.term))
            if (inside := row.columns.inside) is not None:
                term = emit.select(extract(emit, inside, at[0]), term, zero)
            return (emit.binary("addf", carried[0], term),)

        (total,) = self._each_column((zero,), each)
        return _over_warp(emit, total)

    def _known(self, values: Values, value: SSAValue) -> SSAValue:
        known = values.get(value)
        return self.thread[value] if known is None else known

    def _yielded(self, region: Region) -> Sequence[SSAValue]:
        terminator = region.block.last_op
        if not isinstance(terminator, tile.YieldOp):
            raise error_at(self.op, "expects a yield")
        return terminator.operands

    def _dependences(self) -> dict[SSAValue, Depends]:
        found: dict[SSAValue, Depends] = {
            self.row_argument: Depends.ROW,
            self.column_argument: Depends.COLUMN,
        }
        for op in self.op.body.block.ops:
            reads = [*op.operands]
            inherent = Depends.NOTHING
            if type(op) in (tile.RowElementOp, tile.RowSumOp):
                inherent = Depends.ROW
            if type(op) is tile.RowSumOp:
                reads += [operand for inner in op.term.block.ops for operand in inner.operands]
            depends = inherent
            for value in reads:
                depends |= found.get(value, Depends.NOTHING)
            if type(op) is tile.RowSumOp and Depends.COLUMN in depends:
                raise error_at(op, "expects a term that does not depend on the element's column")
            found.update(dict.fromkeys(op.results, depends))
        return found


def _over_warp(emit: Emitter, value: SSAValue) -> SSAValue:
    """Appends the sum over the lanes of the warp, which every lane gets."""
    for distance in (16, 8, 4, 2, 1):
        value = emit.binary("addf", value, of_other_lane(emit, value, distance))
    return value


REWRITE_RULES: Mapping[type[Operation], Rule] = {tile.RewriteRowsOp: lower_rewrite_rows}
