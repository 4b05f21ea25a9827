"""
Rows of shared memory computed anew, for one thread.

A warp takes one row after the other, so that a lane may read what any lane of its warp holds: all
lanes read, wait for each other, then write. What depends on the column alone is computed once
before the rows, what depends on the row alone once for each row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Flag, auto

from xdsl.dialects import arith, llvm, vector
from xdsl.dialects.builtin import AnyFloat, FloatAttr, f32
from xdsl.ir import Operation, Region, SSAValue
from xdsl.utils.hints import isa

from ...dialects import nvvm, tile
from ...dialects.diagnostic import error_at
from ...dialects.tile import SharedType
from ..emitter import Emitter, vector_type
from .compute import FULL_WARP
from .fragments import broadcast
from .lanes import address, chunk_offset, load_element
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
class Place:
    """Two neighbouring columns of a lane: their indices, and whether they lie within the row."""

    columns: tuple[SSAValue, SSAValue]
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
    elements: Mapping[SSAValue, SSAValue]


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
        self.depends = self._dependences()

    def emit_all(self) -> None:
        """Appends the whole rewriting."""
        emit, warps = self.emit, self.thread.lanes.threads // tile.WARP_SIZE
        warp = emit.divu(self.thread.lanes.thread, tile.WARP_SIZE)
        places = self._places()
        always = self._run(Depends.NOTHING, {})
        by_column = {
            column: self._run(Depends.COLUMN, {**always, self.column_argument: column})
            for place in places
            for column in place.columns
        }
        steps = -(-self.kind.rows // warps)
        at_once = ROWS_AT_ONCE if self.kind.rows % (warps * ROWS_AT_ONCE) == 0 else 1

        def step(index: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
            first = emit.add(warp, emit.mul(index, warps * at_once))
            numbers = Numbers(first, warps, at_once)
            if self.kind.rows % warps == 0:
                self._rewrite(numbers, places, always, by_column)
            else:
                within = emit.compare("slt", first, self.kind.rows)
                emit.when(within, lambda: self._rewrite(numbers, places, always, by_column))
            return ()

        emit.loop((emit.integer(0), emit.integer(steps // at_once)), (), step)

    def _places(self) -> list[Place]:
        """The pairs of columns of this lane; those behind the row stand for its last pair."""
        emit, pairs = self.emit, self.kind.columns // 2
        places: list[Place] = []
        for begin in range(0, pairs, tile.WARP_SIZE):
            pair = emit.add(self.thread.lanes.lane, begin)
            inside = None
            if begin + tile.WARP_SIZE > pairs:
                inside = emit.compare("slt", pair, pairs)
                pair = emit.min(pair, pairs - 1)
            left = emit.mul(pair, 2)
            places.append(Place((left, emit.add(left, 1)), inside))
        return places

    def _rewrite(
        self,
        numbers: Numbers,
        places: Sequence[Place],
        always: Values,
        by_column: Mapping[SSAValue, Values],
    ) -> None:
        """Reads all rows that are in work, waits for the lanes of the warp, and writes them."""
        emit, count = self.emit, len(places)
        element = self.kind.element_type
        if not isa(element, AnyFloat):
            raise TypeError(f"expected a stage of numbers, got {self.kind}")
        zero = emit.constant(FloatAttr(0.0, element))
        zeros = broadcast(emit, zero, (numbers.count, count, 2))

        def compute(index: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
            (results,) = carried
            row = self._read_row(numbers.at(emit, index), places)
            changed = self._new_elements(row, places, always, by_column)
            for number, place in enumerate(places):
                left, right = (changed[column] for column in place.columns)
                results = emit.insert(self._rounded(left, right), results, index, number)
            return (results,)

        (results,) = emit.unrolled(numbers.count, (zeros,), compute)
        emit.op(nvvm.SyncWarpOp, emit.integer(FULL_WARP))

        def store(index: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
            for number, place in enumerate(places):
                pair = emit.extract(results, vector_type(element, (2,)), index, number)
                self._store(numbers.at(emit, index), place, pair)
            return ()

        emit.unrolled(numbers.count, (), store)

    def _rounded(self, left: SSAValue, right: SSAValue) -> SSAValue:
        emit = self.emit
        wide = emit.result(vector.BroadcastOp, left, vector_type(f32, (2,)))
        wide = emit.insert(right, wide, 1)
        return emit.result(arith.TruncFOp, wide, vector_type(self.kind.element_type, (2,)))

    def _read_row(self, number: SSAValue, places: Sequence[Place]) -> Row:
        emit = self.emit
        elements: dict[SSAValue, SSAValue] = {}
        for place in places:
            pair = vector_type(self.kind.element_type, (2,))
            loaded = emit.result(llvm.LoadOp, self._address(number, place.columns[0]), pair, 4)
            wide = emit.result(arith.ExtFOp, loaded, vector_type(f32, (2,)))
            for half, column in enumerate(place.columns):
                elements[column] = emit.extract(wide, f32, half)
        return Row(number, elements)

    def _address(self, row: SSAValue, column: SSAValue) -> SSAValue:
        """Appends the address of an element of a row."""
        emit = self.emit
        offset = chunk_offset(emit, self.kind, row, emit.divu(column, 8))
        in_chunk = emit.mul(emit.remu(column, 8), ELEMENT_BYTES)
        return address(emit, self.thread[self.op.stage], emit.add(offset, in_chunk))

    def _store(self, row: SSAValue, place: Place, pair: SSAValue) -> None:
        emit = self.emit

        def store() -> None:
            emit.op(llvm.StoreOp, pair, self._address(row, place.columns[0]), 4)

        if place.inside is None:
            store()
        else:
            emit.when(place.inside, store)

    def _new_elements(
        self,
        row: Row,
        places: Sequence[Place],
        always: Values,
        by_column: Mapping[SSAValue, Values],
    ) -> Mapping[SSAValue, SSAValue]:
        known: dict[SSAValue, SSAValue] = {**always, self.row_argument: row.number}
        known.update(self._run(Depends.ROW, known, row, places))
        results: dict[SSAValue, SSAValue] = {}
        for column, found in by_column.items():
            at = {**known, **found, self.column_argument: column}
            at.update(self._run(Depends.ROW | Depends.COLUMN, at, row, places))
            value, changes = (self._known(at, v) for v in self._yielded(self.op.body))
            results[column] = self.emit.select(changes, value, row.elements[column])
        return results

    def _run(
        self,
        depends: Depends,
        known: Values,
        row: Row | None = None,
        places: Sequence[Place] = (),
    ) -> dict[SSAValue, SSAValue]:
        """Appends the ops that depend on just that, and returns their results beside `known`."""
        values = dict(known)
        for op in self.op.body.block.ops:
            if not isinstance(op, tile.YieldOp) and self.depends[op.results[0]] == depends:
                self._run_op(op, values, row, places)
        return values

    def _run_op(
        self,
        op: Operation,
        values: dict[SSAValue, SSAValue],
        row: Row | None,
        places: Sequence[Place],
    ) -> None:
        emit = self.emit
        operands = [self._known(values, operand) for operand in op.operands]
        if isinstance(op, tile.LoadOp):
            loaded = load_element(emit, operands[0], operands[1], op.value.type)
            values[op.value] = loaded
        elif isinstance(op, tile.RowElementOp) and row is not None:
            values[op.element] = self._element(row, operands[0])
        elif isinstance(op, tile.RowSumOp) and row is not None:
            values[op.total] = self._sum(op, row, places, values)
        else:
            check_on_scalars(op)
            copy = copy_with(op, operands)
            emit.append(copy)
            values.update(zip(op.results, copy.results, strict=True))

    def _element(self, row: Row, index: SSAValue) -> SSAValue:
        own = row.elements.get(index)
        if own is not None:
            return own
        emit = self.emit
        index = emit.max(emit.min(index, self.kind.columns - 1), 0)
        loaded = emit.result(llvm.LoadOp, self._address(row.number, index), self.kind.element_type)
        return emit.result(arith.ExtFOp, loaded, f32)

    def _sum(self, op: tile.RowSumOp, row: Row, places: Sequence[Place], known: Values) -> SSAValue:
        emit, zero = self.emit, self.emit.float32(0.0)
        total = zero
        for place in places:
            for column in place.columns:
                values = {**known, op.term.block.args[0]: column}
                for inner in op.term.block.ops:
                    if not isinstance(inner, tile.YieldOp):
                        self._run_op(inner, values, row, places)
                (term,) = (self._known(values, v) for v in self._yielded(op.term))
                if place.inside is not None:
                    term = emit.select(place.inside, term, zero)
                total = emit.binary("addf", total, term)
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
            if isinstance(op, tile.RowElementOp | tile.RowSumOp):
                inherent = Depends.ROW
            if isinstance(op, tile.RowSumOp):
                reads += [operand for inner in op.term.block.ops for operand in inner.operands]
            depends = inherent
            for value in reads:
                depends |= found.get(value, Depends.NOTHING)
            if isinstance(op, tile.RowSumOp) and Depends.COLUMN in depends:
                raise error_at(op, "expects a term that does not depend on the element's column")
            found.update(dict.fromkeys(op.results, depends))
        return found


def _over_warp(emit: Emitter, value: SSAValue) -> SSAValue:
    """Appends the sum over the lanes of the warp, which every lane gets."""
    for distance in (16, 8, 4, 2, 1):
        other = emit.result(
            nvvm.ShflSyncOp,
            nvvm.ShflKind.BFLY,
            emit.integer(FULL_WARP),
            value,
            emit.integer(distance),
            emit.integer(31),
        )
        value = emit.binary("addf", value, other)
    return value


REWRITE_RULES: Mapping[type[Operation], Rule] = {tile.RewriteRowsOp: lower_rewrite_rows}
