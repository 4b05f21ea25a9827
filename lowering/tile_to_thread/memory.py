"""Copies, waits, ldmatrix and stores, for one thread."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from xdsl.dialects import arith, gpu, llvm
from xdsl.dialects.builtin import IntegerAttr, i32, i64
from xdsl.ir import Operation, Region, SSAValue

from ...dialects import nvvm, tile
from ...dialects.diagnostic import error_at
from ...dialects.tile import (
    FragmentLayout,
    FragmentType,
    InflightType,
    RingType,
    SharedLayout,
    SharedType,
    element_bits,
)
from ..emitter import Emitter, Scalar, vector_type
from .compute import pack
from .fragments import extract, insert, shape_of, shuffle, vector_of, zeros
from .lanes import (
    CHUNK_BYTES,
    SWIZZLE_PERIOD,
    Team,
    address,
    chunk_offset,
    is_multiple,
    load_element,
    step_columns,
)
from .rules import Rule
from .thread import Thread

ELEMENT_BYTES = 2
WORD_BYTES = 4
ROW_PATTERNS = {True: "operand_b_transposed", False: "operand_b"}


def lower_load(thread: Thread, op: tile.LoadOp) -> None:
    """A load of one element."""
    loaded = load_element(thread.emit, thread[op.pointer], thread[op.index], op.value.type)
    thread.set(op.value, loaded)


def lower_block_index(thread: Thread, op: tile.BlockIndexOp) -> None:
    """The index of the CTA along an axis."""
    axis = list(gpu.DimensionEnum)[op.axis.value.data]
    index = thread.emit.result(gpu.BlockIdOp, gpu.DimensionAttr(axis))
    thread.set(op.index, thread.emit.to_i32(index))


def lower_alloc(thread: Thread, op: tile.AllocOp) -> None:
    """A ring is a place in the kernel's shared memory."""
    ring = op.ring.type
    thread.set(op.ring, thread.allocate(ring.stages.data * ring.stage_bytes))


def lower_stage(thread: Thread, op: tile.StageOp) -> None:
    """The ring begins with it."""
    thread.values[op.stage] = thread[op.ring]


def lower_view(thread: Thread, op: tile.ViewOp) -> None:
    """The same place."""
    thread.values[op.view] = thread[op.ring]


@dataclass(frozen=True)
class Share:
    """
    Which 16-byte chunks of a tile a thread copies: rows and columns in even steps.

    A thread begins at `row` and `chunk`, and takes `row_steps` rows that lie `rows_apart`, of each
    `column_steps` chunks that lie `chunks_apart`. Steps of whole swizzle periods keep the places of
    all of them at constant distances. `partial` tells that some rows lie behind the tile's end.
    """

    row: SSAValue
    chunk: SSAValue
    row_steps: int
    rows_apart: int
    column_steps: int
    chunks_apart: int
    partial: bool


def share_of(thread: Thread, op: Operation, ring: RingType | InflightType) -> Share:
    """Returns the share of a thread of one stage of a ring."""
    emit, threads = thread.emit, thread.lanes.threads
    # As many neighbours on a row as rows in steps of the swizzle's period of 8 allow.
    across = max(n for n in range(1, ring.chunks + 1) if ring.chunks % n == threads % (8 * n) == 0)
    if ring.layout.data is SharedLayout.SWIZZLE_128 and across % 8:
        raise error_at(
            op,
            "expects an even number of warps where a copied tile is swizzled, got "
            f"{threads // tile.WARP_SIZE}",
        )
    rows_apart = threads // across
    lanes = thread.lanes
    row = lanes.once(("row of a share", across), lambda: emit.divu(lanes.thread, across))
    chunk = lanes.once(("chunk of a share", across), lambda: emit.remu(lanes.thread, across))
    return Share(
        row,
        chunk,
        row_steps=-(-ring.rows // rows_apart),
        rows_apart=rows_apart,
        column_steps=ring.chunks // across,
        chunks_apart=across,
        partial=ring.rows % rows_apart != 0,
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
            emit.op(nvvm.CpAsyncCommitGroupOp)

    if thread.is_true(op.predicate):
        copy_all()
    else:
        emit.branch(thread[op.predicate], copy_all, commit_all)
    for result, stage in zip(op.stages_in_flight, stages, strict=True):
        thread.set(result, stage)


def _copy_sources(
    thread: Thread, op: tile.CopyAsyncOp, ring: RingType, stages: Sequence[SSAValue]
) -> None:
    """The places of the rows are found once, then each source is copied by them."""
    emit, share = thread.emit, share_of(thread, op, ring)
    bits = element_bits(ring.element_type)

    def find(step: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
        row = row_at(emit, share, step)
        start, valid = _start_of_row(thread, op.rows, share, row, bits)
        size = emit.select(valid, emit.integer(CHUNK_BYTES), emit.integer(0))
        starts, sizes = carried
        return insert(emit, start, starts, step), insert(emit, size, sizes, step)

    kinds = (vector_type(i64, (share.row_steps,)), vector_type(i32, (share.row_steps,)))
    starts, sizes = emit.unrolled(share.row_steps, [zeros(emit, kind) for kind in kinds], find)
    for source, stage in zip(op.sources, stages, strict=True):

        def copy(step: SSAValue, pointer: SSAValue, target: SSAValue) -> None:
            size = extract(emit, sizes, step)
            start = address(emit, pointer, extract(emit, starts, step))
            each_chunk(
                emit,
                share,
                lambda distance: emit.op(
                    nvvm.CpAsyncOp,
                    _moved(emit, target, distance),
                    _moved(emit, start, distance),
                    CHUNK_BYTES,
                    nvvm.LoadCacheModifier.CG,
                    size,
                ),
            )

        _each_row(thread, share, ring, thread[source], stage, copy)
        emit.op(nvvm.CpAsyncCommitGroupOp)


def row_at(emit: Emitter, share: Share, step: SSAValue) -> SSAValue:
    """Appends the row of a step of a share."""
    return emit.add(share.row, emit.mul(emit.to_i32(step), share.rows_apart))


def _start_of_row(
    thread: Thread, rows: Region, share: Share, row: SSAValue, bits: int
) -> tuple[SSAValue, SSAValue]:
    """Returns the byte offset of a thread's first chunk of a row, i64, and the row's validity."""
    emit = thread.emit
    offset, valid = thread.inline(rows, (row,))
    in_row = emit.to_i64(emit.mul(share.chunk, CHUNK_BYTES))
    start = emit.mul(offset, bits // 8) if bits >= 8 else emit.divu(offset, 8 // bits)
    return emit.add(start, in_row), valid


def _each_row(
    thread: Thread,
    share: Share,
    ring: RingType,
    pointer: SSAValue,
    stage: SSAValue,
    body: Callable[[SSAValue, SSAValue, SSAValue], None],
) -> None:
    """Appends the body for each row of a share: step, pointer, address in shared memory."""
    emit = thread.emit
    key = ("share", share.row, share.chunk, ring.row_bytes, ring.layout.data)
    first = thread.lanes.once(key, lambda: chunk_offset(emit, ring, share.row, share.chunk))

    def step(index: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
        distance = emit.mul(emit.to_i32(index), share.rows_apart * ring.row_bytes)
        place = address(emit, address(emit, stage, first), distance)
        if share.partial:
            within = emit.compare("slt", row_at(emit, share, index), ring.rows)
            emit.when(within, lambda: body(index, pointer, place))
        else:
            body(index, pointer, place)
        return ()

    emit.unrolled(share.row_steps, (), step)


def each_chunk(emit: Emitter, share: Share, body: Callable[[Scalar], object]) -> None:
    """Appends the body for each chunk of a row of a share: its distance in bytes."""
    if share.column_steps == 1:
        body(0)
        return

    def step(index: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
        body(emit.mul(emit.to_i32(index), share.chunks_apart * CHUNK_BYTES))
        return ()

    emit.unrolled(share.column_steps, (), step)


def _moved(emit: Emitter, base: SSAValue, distance: Scalar) -> SSAValue:
    return base if isinstance(distance, int) and not distance else address(emit, base, distance)


def lower_wait(thread: Thread, op: tile.WaitOp) -> None:
    """Own copies have landed, then everybody's: a wait and a barrier."""
    thread.emit.op(nvvm.CpAsyncWaitGroupOp, thread.pending[op])
    thread.emit.op(gpu.BarrierOp)
    for stage, in_flight in zip(op.stages, op.stages_in_flight, strict=True):
        thread.set(stage, thread[in_flight])


def lower_drain(thread: Thread, op: tile.DrainOp) -> None:
    """Nothing stays in flight."""
    thread.emit.op(nvvm.CpAsyncWaitGroupOp, 0)


def lower_barrier(thread: Thread, op: tile.BarrierOp) -> None:
    """A barrier of the CTA."""
    thread.emit.op(gpu.BarrierOp)


def lower_ldmatrix(thread: Thread, op: tile.LdmatrixOp) -> None:
    """One ldmatrix.x4 for each 16x16 elements."""
    stage, kind = op.stage.type, op.fragment.type
    if not isinstance(stage, SharedType):
        raise TypeError(f"expected a stage, got {stage}")
    emit, transpose = thread.emit, op.transpose is not None
    is_a = kind.layout.data is FragmentLayout.MMA_A
    pattern = "operand_a" if is_a else ROW_PATTERNS[transpose]
    lane_offset = thread.lanes.offset(pattern, stage, kind.extents[0] if is_a else 0)
    row, column = (_number(thread, place) for place in (op.row, op.column))
    base = thread[op.stage]
    if row != 0:
        base = address(emit, base, emit.mul(row, stage.row_bytes))
    if is_multiple(op.column, SWIZZLE_PERIOD // ELEMENT_BYTES):
        # Whole periods of the swizzle are a distance that all loads share.
        base, column = address(emit, base, emit.mul(column, ELEMENT_BYTES)), 0
    # Each step of the loop moves 16 elements along the columns of the stage, or along its rows.
    along_columns = is_a or transpose
    layout = nvvm.MMALayout.COL if transpose else nvvm.MMALayout.ROW
    first = None if along_columns else columns_further(emit, stage, base, lane_offset, column)

    def step(index: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
        number = emit.to_i32(index)
        if first is None:
            further = (
                emit.mul(number, 16) if column == 0 else emit.add(emit.mul(number, 16), column)
            )
            start = columns_further(emit, stage, base, lane_offset, further)
        else:
            start = address(emit, first, emit.mul(number, 16 * stage.row_bytes))
        loaded = emit.result(nvvm.LdMatrixOp, start, 4, layout)
        return (_insert_matrices(thread, loaded, carried[0], index),)

    result = vector_of(kind)
    trips = result.get_shape()[0] // 2
    (fragment,) = emit.unrolled(trips, (zeros(emit, result),), step)
    thread.set(op.fragment, fragment)


def columns_further(
    emit: Emitter, tile: SharedType, base: SSAValue, offset: SSAValue, column: Scalar
) -> SSAValue:
    """Appends the address of a thread, at an offset in a tile, some columns further."""
    if column == 0:
        return address(emit, base, offset)
    column_bytes = emit.mul(emit.scalar(column), ELEMENT_BYTES)
    variable, constant = step_columns(emit, tile, offset, column_bytes)
    return address(emit, address(emit, base, variable), constant)


def _number(thread: Thread, place: SSAValue) -> Scalar:
    """Returns an index in i32, a constant as a number."""
    owner = place.owner
    if isinstance(owner, arith.ConstantOp) and isinstance(owner.value, IntegerAttr):
        return owner.value.value.data
    return thread.emit.to_i32(thread[place])


def _insert_matrices(thread: Thread, loaded: SSAValue, into: SSAValue, index: SSAValue) -> SSAValue:
    emit = thread.emit
    first = emit.mul(index, 2)
    rows = (first, emit.add(first, 1))
    registers = [emit.field(loaded, matrix, i32) for matrix in range(4)]
    for matrix, register in enumerate(registers):
        into = insert(emit, register, into, rows[matrix // 2], matrix % 2)
    return into


def lower_store_fragment(thread: Thread, op: tile.StoreFragmentOp) -> None:
    """Two elements of a row at a time, in the layout of the ring."""
    emit, ring = thread.emit, op.ring.type
    if not isinstance(ring, RingType):
        raise TypeError(f"expected a ring, got {ring}")
    pairs = pack(thread, thread[op.fragment], ring.element_type)
    lane_offset, base = thread.lanes.offset("accumulator", ring, ring.rows), thread[op.ring]
    shares = thread.lanes.team(ring.rows)
    if op.column is not None:
        shares = replace(shares, count=1)

    def store(n: SSAValue) -> None:
        column_bytes = emit.mul(emit.to_i32(n), 8 * ELEMENT_BYTES)
        if op.column is not None:
            column_bytes = emit.add(column_bytes, emit.mul(thread[op.column], ELEMENT_BYTES))
        variable, constant = step_columns(emit, ring, lane_offset, column_bytes)
        start = address(emit, address(emit, base, variable), constant)
        for half in range(2):
            place = address(emit, start, 8 * half * ring.row_bytes)
            emit.op(llvm.StoreOp, extract(emit, pairs, n, half), place)

    _each_block_of_team(thread, shares, shape_of(pairs)[0], store)


def _each_block_of_team(
    thread: Thread, team: Team, blocks: int, body: Callable[[SSAValue], None]
) -> None:
    """Appends the body for each block of columns; several teams that hold them take turns."""
    emit = thread.emit

    def step(n: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
        if team.count == 1:
            body(n)
        else:
            turn = emit.to_i32(emit.binary("remu", n, team.count))
            emit.when(emit.compare("eq", turn, team.team), lambda: body(n))
        return ()

    emit.unrolled(blocks, (), step)


def lower_store_rows(thread: Thread, op: tile.StoreRowsOp) -> None:
    """A ring's rows in chunks of 16 bytes, a fragment's from where they are held."""
    kind = op.tile.type
    if isinstance(kind, RingType):
        _store_ring(thread, op, kind)
    elif isinstance(kind, FragmentType):
        store = _store_row_fragment if kind.is_row else _store_accumulator
        team = thread.lanes.team(kind.extents[0])
        store(thread, op, team if op.each_team is None else replace(team, count=1))


def _store_ring(thread: Thread, op: tile.StoreRowsOp, ring: RingType) -> None:
    emit, share = thread.emit, share_of(thread, op, ring)
    bits = element_bits(ring.element_type)
    four_registers = vector_type(i32, (4,))

    def store(step: SSAValue, pointer: SSAValue, source: SSAValue) -> None:
        start, valid = _start_of_row(thread, op.rows, share, row_at(emit, share, step), bits)
        target = address(emit, pointer, start)

        def move(distance: Scalar) -> None:
            place = _moved(emit, source, distance)
            loaded = emit.result(llvm.LoadOp, place, four_registers, CHUNK_BYTES)
            emit.op(llvm.StoreOp, loaded, _moved(emit, target, distance), CHUNK_BYTES)

        emit.when(valid, lambda: each_chunk(emit, share, move))

    _each_row(thread, share, ring, thread[op.pointer], thread[op.tile], store)


def _store_row_fragment(thread: Thread, op: tile.StoreRowsOp, team: Team) -> None:
    """One value a row, by the first lane of a quad of the first team."""
    emit, rows, target = thread.emit, thread[op.tile], thread[op.pointer]
    stores = emit.compare("eq", thread.lanes.place, 0)
    if team.count > 1:
        stores = emit.binary("and", stores, emit.compare("eq", team.team, 0))
    for half in range(2):
        offset, valid = thread.inline(op.rows, (emit.add(team.row, 8 * half),))
        value = extract(emit, rows, half)

        def store(value: SSAValue = value, offset: SSAValue = offset) -> None:
            place = address(emit, target, emit.mul(offset, WORD_BYTES))
            emit.op(llvm.StoreOp, value, place)

        emit.when(emit.binary("and", stores, valid), store)


def _store_accumulator(thread: Thread, op: tile.StoreRowsOp, team: Team) -> None:
    """Two neighbours of a row at a time."""
    emit, fragment = thread.emit, thread[op.tile]
    for half in range(2):
        start, valid = accumulator_row(thread, op.pointer, op.rows, team, half)

        def store(n: SSAValue, start: SSAValue = start, half: int = half) -> None:
            block = extract(emit, fragment, n)
            pair = shuffle(emit, block, (2 * half, 2 * half + 1))
            place = address(emit, start, emit.mul(emit.to_i32(n), 8 * WORD_BYTES))
            emit.op(llvm.StoreOp, pair, place, 2 * WORD_BYTES)

        blocks = shape_of(fragment)[0]
        emit.when(valid, lambda store=store, n=blocks: _each_block_of_team(thread, team, n, store))


def accumulator_row(
    thread: Thread, pointer: SSAValue, rows: Region, team: Team, half: int
) -> tuple[SSAValue, SSAValue]:
    """Returns where a thread's part of one of its two rows begins, and the row's validity."""
    emit = thread.emit
    offset, valid = thread.inline(rows, (emit.add(team.row, 8 * half),))
    in_row = emit.to_i64(emit.mul(thread.lanes.column, WORD_BYTES))
    start = emit.add(emit.mul(offset, WORD_BYTES), in_row)
    return address(emit, thread[pointer], start), valid


MEMORY_RULES: Mapping[type[Operation], Rule] = {
    tile.AllocOp: lower_alloc,
    tile.BarrierOp: lower_barrier,
    tile.BlockIndexOp: lower_block_index,
    tile.CopyAsyncOp: lower_copy_async,
    tile.DrainOp: lower_drain,
    tile.LdmatrixOp: lower_ldmatrix,
    tile.LoadOp: lower_load,
    tile.StageOp: lower_stage,
    tile.StoreFragmentOp: lower_store_fragment,
    tile.StoreRowsOp: lower_store_rows,
    tile.ViewOp: lower_view,
    tile.WaitOp: lower_wait,
}
