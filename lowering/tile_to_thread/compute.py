"""Products, element maps, reductions and conversions of fragments, for one thread."""

from collections.abc import Mapping, Sequence

from xdsl.dialects import arith, llvm, vector
from xdsl.dialects.builtin import (
    AnyFloat,
    BFloat16Type,
    Float16Type,
    FloatAttr,
    IntegerType,
    VectorType,
    f32,
    i32,
)
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.utils.hints import isa

from ...dialects import nvvm, tile
from ...dialects.tile import FragmentType, ReduceKind
from ..creation import ops_of
from ..emitter import Emitter, vector_type
from .fragments import (
    broadcast,
    extract,
    insert,
    shape_of,
    shuffle,
    spread_rows,
    vector_of,
    zeros,
)
from .rules import Rule
from .thread import Thread, check_on_scalars, copy_with

FULL_WARP = -1
_F16_PAIR = VectorType(Float16Type(), (2,))
REDUCTIONS = {ReduceKind.MAX: "maxf", ReduceKind.SUM: "addf"}


def lower_fill(thread: Thread, op: tile.FillOp) -> None:
    """A fragment of one scalar is that scalar, broadcast; operands of products hold pairs."""
    kind, emit = vector_of(op.fragment.type), thread.emit
    shape = kind.get_shape()
    if kind.element_type == op.value.type:
        thread.set(op.fragment, broadcast(emit, thread[op.value], shape))
        return
    elements = broadcast(emit, thread[op.value], (shape[0], 2 * shape[1]))
    thread.set(op.fragment, emit.result(vector.BitcastOp, elements, kind))


def lower_extract(thread: Thread, op: tile.ExtractOp) -> None:
    """A step of 16 columns is two neighbours of the vector's first axis."""
    emit, source = thread.emit, thread[op.fragment]
    first = emit.mul(thread[op.step], 2)
    columns = zeros(emit, vector_type(i32, (2, 2)))
    for half in range(2):
        part = extract(emit, source, emit.add(first, half))
        columns = insert(emit, part, columns, half)
    thread.set(op.columns, columns)


def lower_columns(thread: Thread, op: tile.ColumnsOp) -> None:
    """Columns of an accumulator are a part of the vector's first axis."""
    emit, source = thread.emit, thread[op.fragment]
    kind = vector_of(op.columns.type)
    count = kind.get_shape()[0]
    first = emit.mul(thread[op.index], count)

    def step(n: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
        return (insert(emit, extract(emit, source, emit.add(first, n)), carried[0], n),)

    start = _zeros(emit, kind.element_type, kind.get_shape())
    thread.set(op.columns, emit.unrolled(count, (start,), step)[0])


def lower_insert_columns(thread: Thread, op: tile.InsertColumnsOp) -> None:
    """The part takes the place of as many neighbours of the vector's first axis."""
    emit, columns = thread.emit, thread[op.columns]
    count = shape_of(columns)[0]
    first = emit.mul(thread[op.index], count)

    def step(n: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
        return (insert(emit, extract(emit, columns, n), carried[0], emit.add(first, n)),)

    thread.set(op.after, emit.unrolled(count, (thread[op.fragment],), step)[0])


def lower_mma(thread: Thread, op: tile.MmaOp) -> None:
    """One mma.sync for each 8 columns of the accumulator."""
    emit = thread.emit
    b, c = thread[op.b], thread[op.c]
    element = element_of_fragment(op.a)
    a_registers = a_operands(emit, thread[op.a], element)

    def step(n: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
        (accumulator,) = carried
        quarter = extract(emit, accumulator, n)
        quarter = mma_of_8_columns(emit, a_registers, extract(emit, b, n), quarter, element)
        return (insert(emit, quarter, accumulator, n),)

    (result,) = emit.unrolled(shape_of(c)[0], (c,), step)
    thread.set(op.d, result)


def a_operands(emit: Emitter, a: SSAValue, element: Attribute) -> Sequence[SSAValue]:
    """Appends A's registers as mma.sync takes them: rows g, g+8 of columns 0-7, then of 8-15."""
    return [_operand(emit, extract(emit, a, k, row), element) for k in range(2) for row in range(2)]


def mma_of_8_columns(
    emit: Emitter, a: Sequence[SSAValue], b: SSAValue, c: SSAValue, element: Attribute
) -> SSAValue:
    """Appends one mma.sync of A's registers, a pair of B's, and `c`, `vector<4 x f32>`."""
    b_registers = [_operand(emit, extract(emit, b, k), element) for k in range(2)]
    c_registers = [extract(emit, c, e) for e in range(4)]
    operands = a, b_registers, c_registers
    product = emit.result(nvvm.MmaSyncOp, *operands, (16, 8, 16), _mma_type(element))
    sums = [emit.field(product, e, f32) for e in range(4)]
    for e, value in enumerate(sums):
        c = insert(emit, value, c, e)
    return c


def element_of_fragment(value: SSAValue) -> Attribute:
    """Returns the type of the elements of a fragment."""
    kind = value.type
    if not isinstance(kind, FragmentType):
        raise TypeError(f"expected a fragment, got {kind}")
    return kind.element_type


def _mma_type(element: Attribute) -> nvvm.MMAType:
    return nvvm.MMAType.BF16 if isinstance(element, BFloat16Type) else nvvm.MMAType.F16


def _operand(emit: Emitter, register: SSAValue, element: Attribute) -> SSAValue:
    """nvvm.mma.sync takes bf16 pairs as i32, f16 pairs as vectors."""
    if isinstance(element, BFloat16Type):
        return register
    return emit.result(llvm.BitcastOp, register, _F16_PAIR)


def lower_map(thread: Thread, op: tile.MapOp) -> None:
    """The region for all of a thread's elements at once, or for one after the other."""
    operations = [inner for inner in op.body.block.ops if type(inner) is not tile.YieldOp]
    uses_coordinates = any(argument.uses for argument in op.body.block.args[len(op.inputs) :])
    # All are checked, whatever the first one tells.
    need_scalars = [_needs_scalars(inner) for inner in operations]
    if uses_coordinates or any(need_scalars):
        if len(shape := _shape_of_results(op)) == 1:
            _map_each_row(thread, op)
        else:
            _ElementMap(thread, op, shape).emit_all()
    else:
        _map_whole_vector(thread, op)


def _needs_scalars(op: Operation) -> bool:
    """Whether an op of an element region has no form on vectors here."""
    check_on_scalars(op)
    return type(op) in (tile.LoadOp, arith.CmpiOp, arith.CmpfOp, arith.SelectOp)


def _map_whole_vector(thread: Thread, op: tile.MapOp) -> None:
    emit, shape = thread.emit, _shape_of_results(op)
    values: dict[SSAValue, SSAValue] = {}
    for argument, operand in zip(op.body.block.args, op.inputs, strict=False):
        values[argument] = spread_rows(emit, thread[operand], shape)
    for inner in op.body.block.ops:
        operands = [_known(thread, values, operand) for operand in inner.operands]
        if type(inner) is tile.YieldOp:
            for result, value in zip(op.outputs, operands, strict=True):
                thread.set(result, broadcast(emit, value, shape))
            return
        vectors = [broadcast(emit, operand, shape) for operand in operands]
        on_vectors = bool(operands) and any(shape_of(operand) for operand in operands)
        copy = copy_with(inner, vectors if on_vectors else operands, shape if on_vectors else ())
        values[inner.results[0]] = emit.value(copy)


def _map_each_row(thread: Thread, op: tile.MapOp) -> None:
    emit, inputs = thread.emit, [thread[operand] for operand in op.inputs]
    row = op.body.block.args[-1]

    def each(half: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
        number = _row_number(thread, op, half) if row.uses else emit.integer(0)
        arguments = [*(extract(emit, value, half) for value in inputs), number]
        results = thread.inline(op.body, arguments)
        return [insert(emit, new, into, half) for new, into in zip(results, carried, strict=True)]

    initial = [_zeros(emit, output.type.element_type, (2,)) for output in op.outputs]
    results = emit.unrolled(2, initial, each)
    thread.values.update(zip(op.outputs, results, strict=True))


def _row_number(thread: Thread, op: tile.MapOp, half: SSAValue) -> SSAValue:
    emit, team = thread.emit, thread.lanes.team(op.outputs[0].type.extents[0])
    return emit.add(team.row, emit.mul(emit.to_i32(half), 8))


class _ElementMap:
    """
    The lowering of a map whose region is computed for one element of an accumulator at a time.

    What depends on the row alone is computed once for each of the thread's two rows.
    """

    def __init__(self, thread: Thread, op: tile.MapOp, shape: tuple[int, ...]) -> None:
        self.thread, self.op, self.shape = thread, op, shape
        self.emit: Emitter = thread.emit
        *arguments, self.row, self.column = op.body.block.args
        self.inputs: dict[SSAValue, SSAValue] = {}
        self.inputs.update(zip(arguments, map(thread.__getitem__, op.inputs), strict=True))
        *ops, self.end = ops_of(op.body.block)
        varying = {
            self.column,
            *(arg for arg, value in self.inputs.items() if self._is_full(value)),
        }
        self.of_rows: list[Operation] = []
        self.of_elements: list[Operation] = []
        for inner in ops:
            if varying.isdisjoint(inner.operands) and type(inner) is not arith.ConstantOp:
                self.of_rows.append(inner)
            else:
                varying.update(inner.results)
                self.of_elements.append(inner)

    def _is_full(self, value: SSAValue) -> bool:
        return shape_of(value) == self.shape

    def emit_all(self) -> None:
        """Appends the rows' part, then loops over the elements."""
        emit, op, (blocks, elements) = self.emit, self.op, self.shape
        rows = self._rows()

        def each(n: SSAValue, e: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
            results = self._element(rows, n, e)
            return [insert(emit, new, to, n, e) for new, to in zip(results, carried, strict=True)]

        results = emit.unrolled(
            blocks,
            [_zeros(emit, output.type.element_type, self.shape) for output in op.outputs],
            lambda n, outer: emit.unrolled(elements, outer, lambda e, inner: each(n, e, inner)),
        )
        self.thread.values.update(zip(op.outputs, results, strict=True))

    def _read_by(self, ops: Sequence[Operation], value: SSAValue) -> bool:
        return any(use.operation in ops for use in value.uses)

    def _rows(self) -> dict[SSAValue, SSAValue]:
        """Appends what depends on the row alone; returns vectors, by the value of the region."""
        emit, readers = self.emit, [*self.of_elements, self.end]
        results = [result for inner in self.of_rows for result in inner.results]
        shared = [result for result in results if self._read_by(readers, result)]
        given = {arg: value for arg, value in self.inputs.items() if not self._is_full(value)}

        def each(half: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
            values = {arg: extract(emit, value, half) for arg, value in given.items()}
            values[self.row] = _row_number(self.thread, self.op, half)
            self.thread.run(self.of_rows, values)
            new = [values[value] for value in shared]
            return [insert(emit, value, to, half) for value, to in zip(new, carried, strict=True)]

        found = {arg: value for arg, value in given.items() if self._read_by(readers, arg)}
        if shared:
            initial = [_zeros(emit, value.type, (2,)) for value in shared]
            found.update(zip(shared, emit.unrolled(2, initial, each), strict=True))
        return found

    def _element(
        self, rows: Mapping[SSAValue, SSAValue], n: SSAValue, e: SSAValue
    ) -> Sequence[SSAValue]:
        emit, full = self.emit, [arg for arg, value in self.inputs.items() if self._is_full(value)]
        values = {arg: extract(emit, self.inputs[arg], n, e) for arg in full}
        half = emit.divu(e, 2)
        values.update((value, extract(emit, vector, half)) for value, vector in rows.items())
        if self._read_by([*self.of_elements, self.end], self.row):
            values[self.row] = _row_number(self.thread, self.op, half)
        if self.column.uses:
            block, element = emit.to_i32(n), emit.to_i32(e)
            in_block = emit.add(emit.mul(block, 8), emit.remu(element, 2))
            values[self.column] = emit.add(self.thread.lanes.column, in_block)
        self.thread.run(self.of_elements, values)
        return [self.thread.in_region(values, value) for value in self.end.operands]


def _zeros(emit: Emitter, element: Attribute, shape: tuple[int, ...]) -> SSAValue:
    """Returns a vector to insert numbers of a type into."""
    if element == f32 or isa(element, IntegerType):
        return zeros(emit, vector_type(element, shape))
    if isa(element, AnyFloat):
        return broadcast(emit, emit.constant(FloatAttr(0.0, element)), shape)
    raise TypeError(f"expected numbers, got {element}")


def _shape_of_results(op: tile.MapOp) -> tuple[int, ...]:
    return vector_of(op.outputs[0].type).get_shape()


def _known(thread: Thread, values: Mapping[SSAValue, SSAValue], value: SSAValue) -> SSAValue:
    known = values.get(value)
    return thread[value] if known is None else known


def lower_row_reduce(thread: Thread, op: tile.RowReduceOp) -> None:
    """Folds the vector's first axis, then the two columns of each row."""
    emit, source = thread.emit, thread[op.fragment]
    combine = REDUCTIONS[op.kind.data]

    def step(n: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
        return (emit.binary(combine, carried[0], extract(emit, source, n)),)

    first = extract(emit, source, 0)
    bounds = emit.index(1), emit.index(shape_of(source)[0])
    (folded,) = emit.loop(bounds, (first,), step, unroll=True)
    left, right = shuffle(emit, folded, (0, 2)), shuffle(emit, folded, (1, 3))
    thread.set(op.rows, emit.binary(combine, left, right))


def of_other_lane(emit: Emitter, value: SSAValue, distance: int) -> SSAValue:
    """Appends a butterfly shuffle: the value of the lane whose number differs in one bit."""
    return emit.result(
        nvvm.ShflSyncOp,
        nvvm.ShflKind.BFLY,
        emit.integer(FULL_WARP),
        value,
        emit.integer(distance),
        emit.integer(31),
    )


def lower_quad_reduce(thread: Thread, op: tile.QuadReduceOp) -> None:
    """Two butterfly shuffles within the 4 lanes that share a row."""
    emit, rows = thread.emit, thread[op.partial]
    combine = REDUCTIONS[op.kind.data]
    for row in range(2):
        value = extract(emit, rows, row)
        for distance in (1, 2):
            value = emit.binary(combine, value, of_other_lane(emit, value, distance))
        rows = insert(emit, value, rows, row)
    thread.set(op.rows, rows)


def lower_convert_layout(thread: Thread, op: tile.ConvertLayoutOp) -> None:
    """Rounds to 16 bits; neighbours of a row share a register."""
    thread.set(op.result, pack(thread, thread[op.source], op.result.type.element_type))


def pack(thread: Thread, accumulator: SSAValue, element: Attribute) -> SSAValue:
    """Appends the rounding of an accumulator to pairs of 16 bits: `vector<N/8 x 2 x i32>`."""
    emit, shape = thread.emit, shape_of(accumulator)
    rounded = emit.result(arith.TruncFOp, accumulator, vector_type(element, shape))
    pairs = vector_type(i32, (shape[0], 2))
    return emit.result(vector.BitcastOp, rounded, pairs)


COMPUTE_RULES: Mapping[type[Operation], Rule] = {
    tile.ColumnsOp: lower_columns,
    tile.ConvertLayoutOp: lower_convert_layout,
    tile.ExtractOp: lower_extract,
    tile.FillOp: lower_fill,
    tile.InsertColumnsOp: lower_insert_columns,
    tile.MapOp: lower_map,
    tile.MmaOp: lower_mma,
    tile.QuadReduceOp: lower_quad_reduce,
    tile.RowReduceOp: lower_row_reduce,
}
