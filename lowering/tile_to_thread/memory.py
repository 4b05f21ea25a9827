"""Copies, waits, ldmatrix and stores, for one thread."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from xdsl.dialects import gpu, llvm, scf
from xdsl.dialects.builtin import VectorType, i32, i64
from xdsl.ir import Block, Operation, Region, SSAValue

from ...dialects import nvvm, tile
from ...dialects.tile import FragmentLayout, FragmentType, RingType, SharedType
from ..emitter import Emitter
from .compute import member, pack
from .fragments import extract, insert, shape_of, vector_of, zeros
from .lanes import CHUNK_BYTES, address, chunk_offset, load_element, step_columns
from .rules import Rule
from .thread import Thread

ELEMENT_BYTES = 2
ROW_PATTERNS = {True: "operand_b_transposed", False: "operand_b"}


def lower_load(thread: Thread, op: tile.LoadOp) -> None:
    """A load of one element."""
    loaded = load_element(thread.emit, thread[op.pointer], thread[op.index], op.value.type)
    thread.set(op.value, loaded)


def lower_block_index(thread: Thread, op: tile.BlockIndexOp) -> None:
    """The index of the CTA along an axis."""
    axis = list(gpu.DimensionEnum)[op.axis.value.data]
    index = thread.emit.value(gpu.BlockIdOp(gpu.DimensionAttr(axis)))
    thread.set(op.index, thread.emit.to_i32(index))


def lower_alloc(thread: Thread, op: tile.AllocOp) -> None:
    """A ring is a place in the kernel's shared memory."""
    ring = op.ring.type
    thread.set(op.ring, thread.allocate(ring.stages.data * ring.stage_bytes))


@dataclass(frozen=True)
class Passes:
    """
    How the threads of a CTA share the 16-byte chunks of a tile, pass after pass.

    `row` and `chunk` give a thread's place in a pass; `partial` tells that some threads have
    nothing to do in the last pass.
    """

    count: int
    partial: bool
    row: Callable[[SSAValue], SSAValue]
    chunk: Callable[[SSAValue], SSAValue]


def passes_over(thread: Thread, ring: RingType) -> Passes:
    """Returns the passes in which a CTA copies one stage of a ring."""
    emit, threads, chunks = thread.emit, thread.lanes.threads, ring.chunks
    total = ring.rows * chunks
    count = -(-total // threads)
    thread_index = thread.lanes.thread
    if threads % chunks == 0:
        rows_per_pass = threads // chunks
        with emit.into(emit.entry):
            first_row = emit.divu(thread_index, chunks)
            chunk = emit.remu(thread_index, chunks)
        return Passes(
            count,
            total % threads != 0,
            row=lambda index: emit.add(first_row, emit.mul(index, rows_per_pass)),
            chunk=lambda _: chunk,
        )

    def flat(index: SSAValue) -> SSAValue:
        return emit.add(thread_index, emit.mul(index, threads))

    return Passes(
        count,
        total % threads != 0,
        row=lambda index: emit.divu(flat(index), chunks),
        chunk=lambda index: emit.remu(flat(index), chunks),
    )


def lower_copy_async(thread: Thread, op: tile.CopyAsyncOp) -> None:
    """Every thread copies 16-byte chunks; each source is a group of its own."""
    emit = thread.emit
    ring = op.rings[0].type
    if not isinstance(ring, RingType):
        raise TypeError(f"expected a ring, got {ring}")
    stage_offset = emit.mul(thread[op.stage], ring.stage_bytes)
    stages = [address(emit, thread[target], stage_offset) for target in op.rings]

    def copy_all() -> None:
        _copy_sources(thread, op, ring, stages)

    def commit_all() -> None:
        for _ in stages:
            emit.append(nvvm.CpAsyncCommitGroupOp())

    if thread.is_true(op.predicate):
        copy_all()
    else:
        yes, no = Block(), Block()
        for block, body in ((yes, copy_all), (no, commit_all)):
            with emit.into(block):
                body()
                emit.append(scf.YieldOp())
        emit.append(scf.IfOp(thread[op.predicate], [], Region(yes), Region(no)))
    for result, stage in zip(op.stages_in_flight, stages, strict=True):
        thread.set(result, stage)


def _copy_sources(
    thread: Thread, op: tile.CopyAsyncOp, ring: RingType, stages: Sequence[SSAValue]
) -> None:
    """The places of the rows are found once, then each source is copied by them."""
    emit, passes = thread.emit, passes_over(thread, ring)
    offsets_type, sizes_type = VectorType(i64, (passes.count,)), VectorType(i32, (passes.count,))

    def find(index: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
        step = emit.to_i32(index)
        row, chunk = passes.row(step), passes.chunk(step)
        offset, valid = thread.inline(op.rows, (row,))
        in_row = emit.to_i64(emit.mul(chunk, CHUNK_BYTES))
        offset = emit.add(emit.mul(offset, ELEMENT_BYTES), in_row)
        size = emit.select(valid, emit.integer(CHUNK_BYTES), emit.integer(0))
        offsets, sizes = carried
        return insert(emit, offset, offsets, index), insert(emit, size, sizes, index)

    initial = zeros(emit, offsets_type), zeros(emit, sizes_type)
    offsets, sizes = emit.unrolled(passes.count, initial, find)
    for source, stage in zip(op.sources, stages, strict=True):
        pointer = thread[source]

        def copy(
            index: SSAValue,
            _: Sequence[SSAValue],
            pointer: SSAValue = pointer,
            stage: SSAValue = stage,
        ) -> Sequence[SSAValue]:
            step = emit.to_i32(index)
            row, chunk = passes.row(step), passes.chunk(step)
            target = address(emit, stage, chunk_offset(emit, ring, row, chunk))
            start = address(emit, pointer, extract(emit, offsets, index))
            size = extract(emit, sizes, index)

            def issue() -> None:
                emit.append(
                    nvvm.CpAsyncOp(target, start, CHUNK_BYTES, nvvm.LoadCacheModifier.CG, size)
                )

            _within(emit, passes, row, ring, issue)
            return ()

        emit.unrolled(passes.count, (), copy)
        emit.append(nvvm.CpAsyncCommitGroupOp())


def _within(
    emit: Emitter, passes: Passes, row: SSAValue, ring: RingType, body: Callable[[], None]
) -> None:
    """Appends the body, for threads that have a row of the tile in this pass."""
    if passes.partial:
        emit.when(emit.compare("slt", row, ring.rows), body)
    else:
        body()


def lower_wait(thread: Thread, op: tile.WaitOp) -> None:
    """Own copies have landed, then everybody's: a wait and a barrier."""
    thread.emit.append(nvvm.CpAsyncWaitGroupOp(thread.pending[op]))
    thread.emit.append(gpu.BarrierOp())
    thread.set(op.stage, thread[op.stage_in_flight])


def lower_drain(thread: Thread, op: tile.DrainOp) -> None:
    """Nothing stays in flight."""
    thread.emit.append(nvvm.CpAsyncWaitGroupOp(0))


def lower_barrier(thread: Thread, op: tile.BarrierOp) -> None:
    """A barrier of the CTA."""
    thread.emit.append(gpu.BarrierOp())


def lower_ldmatrix(thread: Thread, op: tile.LdmatrixOp) -> None:
    """One ldmatrix.x4 for each 16x16 elements."""
    stage, kind = op.stage.type, op.fragment.type
    if not isinstance(stage, SharedType):
        raise TypeError(f"expected a stage, got {stage}")
    emit, transpose = thread.emit, op.transpose is not None
    is_a = kind.layout.data is FragmentLayout.MMA_A
    pattern = "operand_a" if is_a else ROW_PATTERNS[transpose]
    lane_offset = thread.lanes.offset(pattern, stage)
    row, column = emit.to_i32(thread[op.row]), emit.to_i32(thread[op.column])
    # Each step of the loop moves 16 elements along the columns of the stage, or along its rows.
    along_columns = is_a or transpose
    layout = nvvm.MMALayout.COL if transpose else nvvm.MMALayout.ROW
    base = thread[op.stage]

    def step(index: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
        moved = emit.mul(emit.to_i32(index), 16)
        at_row = row if along_columns else emit.add(row, moved)
        at_column = emit.add(column, moved) if along_columns else column
        column_bytes = emit.mul(at_column, ELEMENT_BYTES)
        variable, constant = step_columns(emit, stage, lane_offset, column_bytes)
        constant = emit.add(constant, emit.mul(at_row, stage.row_bytes))
        start = address(emit, address(emit, base, variable), constant)
        loaded = emit.value(nvvm.LdMatrixOp(start, 4, layout))
        return (_insert_matrices(thread, loaded, carried[0], index),)

    result = vector_of(kind)
    trips = result.get_shape()[0] // 2
    (fragment,) = emit.unrolled(trips, (zeros(emit, result),), step)
    thread.set(op.fragment, fragment)


def _insert_matrices(thread: Thread, loaded: SSAValue, into: SSAValue, index: SSAValue) -> SSAValue:
    emit = thread.emit
    first = emit.mul(index, 2)
    for matrix in range(4):
        register = member(thread, loaded, matrix, i32)
        into = insert(emit, register, into, emit.add(first, matrix // 2), matrix % 2)
    return into


def lower_store_fragment(thread: Thread, op: tile.StoreFragmentOp) -> None:
    """Two elements of a row at a time, in the layout of the ring."""
    emit, ring = thread.emit, op.ring.type
    if not isinstance(ring, RingType):
        raise TypeError(f"expected a ring, got {ring}")
    pairs = pack(thread, thread[op.fragment], ring.element_type)
    lane_offset, base = thread.lanes.offset("accumulator", ring), thread[op.ring]

    def step(n: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
        column_bytes = emit.mul(emit.to_i32(n), 8 * ELEMENT_BYTES)
        variable, constant = step_columns(emit, ring, lane_offset, column_bytes)
        start = address(emit, address(emit, base, variable), constant)
        for half in range(2):
            place = address(emit, start, 8 * half * ring.row_bytes)
            emit.append(llvm.StoreOp(extract(emit, pairs, n, half), place))
        return ()

    emit.unrolled(shape_of(pairs)[0], (), step)


def lower_store_rows(thread: Thread, op: tile.StoreRowsOp) -> None:
    """The rows of a ring in chunks of 16 bytes; one value a row by the first lane of a quad."""
    kind = op.tile.type
    if isinstance(kind, RingType):
        _store_ring(thread, op, kind)
    elif isinstance(kind, FragmentType):
        _store_row_fragment(thread, op)


def _store_ring(thread: Thread, op: tile.StoreRowsOp, ring: RingType) -> None:
    emit, passes = thread.emit, passes_over(thread, ring)
    source, target = thread[op.tile], thread[op.pointer]
    four_registers = VectorType(i32, (4,))

    def step(index: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
        number = emit.to_i32(index)
        row, chunk = passes.row(number), passes.chunk(number)

        def store() -> None:
            offset, valid = thread.inline(op.rows, (row,))
            in_row = emit.to_i64(emit.mul(chunk, CHUNK_BYTES))
            offset = emit.add(emit.mul(offset, ELEMENT_BYTES), in_row)

            def move() -> None:
                start = address(emit, source, chunk_offset(emit, ring, row, chunk))
                loaded = emit.value(llvm.LoadOp(start, four_registers, CHUNK_BYTES))
                emit.append(llvm.StoreOp(loaded, address(emit, target, offset), CHUNK_BYTES))

            emit.when(valid, move)

        _within(emit, passes, row, ring, store)
        return ()

    emit.unrolled(passes.count, (), step)


def _store_row_fragment(thread: Thread, op: tile.StoreRowsOp) -> None:
    emit, rows, target = thread.emit, thread[op.tile], thread[op.pointer]
    first_lane = emit.compare("eq", thread.lanes.place, 0)
    for half in range(2):
        row = emit.add(thread.lanes.row, 8 * half)
        offset, valid = thread.inline(op.rows, (row,))
        value = extract(emit, rows, half)

        def store(value: SSAValue = value, offset: SSAValue = offset) -> None:
            place = address(emit, target, emit.mul(offset, 4))
            emit.append(llvm.StoreOp(value, place))

        emit.when(emit.binary("and", first_lane, valid), store)


MEMORY_RULES: Mapping[type[Operation], Rule] = {
    tile.AllocOp: lower_alloc,
    tile.BarrierOp: lower_barrier,
    tile.BlockIndexOp: lower_block_index,
    tile.CopyAsyncOp: lower_copy_async,
    tile.DrainOp: lower_drain,
    tile.LdmatrixOp: lower_ldmatrix,
    tile.LoadOp: lower_load,
    tile.StoreFragmentOp: lower_store_fragment,
    tile.StoreRowsOp: lower_store_rows,
    tile.WaitOp: lower_wait,
}
