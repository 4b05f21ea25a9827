"""Teams of warps that hold fragments of their own, for one thread."""

from collections.abc import Mapping, Sequence

from xdsl.dialects import gpu, llvm
from xdsl.dialects.builtin import f32
from xdsl.ir import Operation, SSAValue

from ...dialects import tile
from ...dialects.diagnostic import error_at
from ...dialects.tile import RingType, SharedType
from ..emitter import vector_type
from .compute import REDUCTIONS
from .fragments import broadcast, extract, insert, shape_of
from .lanes import address
from .memory import WORD_BYTES
from .rules import Rule
from .thread import Thread


def lower_team_index(thread: Thread, op: tile.TeamIndexOp) -> None:
    """Neighbouring warps are a team."""
    thread.values[op.index] = thread.lanes.team(op.rows.value.data).team


def lower_slice(thread: Thread, op: tile.SliceOp) -> None:
    """The address of the first row; rows in eights keep their place in the swizzle."""
    emit, stage = thread.emit, op.stage.type
    if not isinstance(stage, SharedType):
        raise TypeError(f"expected a stage, got {stage}")
    start = emit.mul(thread[op.row], stage.row_bytes)
    thread.set(op.part, address(emit, thread[op.stage], start))


def lower_team_reduce(thread: Thread, op: tile.TeamReduceOp) -> None:
    """Each thread leaves its elements in shared memory, and folds those of all teams."""
    emit, fragment = thread.emit, thread[op.fragment]
    blocks = 1 if len(shape_of(fragment)) == 1 else shape_of(fragment)[0]
    block = fragment if len(shape_of(fragment)) == 1 else extract(emit, fragment, 0)
    block_bytes = thread.lanes.threads * shape_of(block)[0] * WORD_BYTES
    ring = op.ring.type
    if not isinstance(ring, RingType):
        raise TypeError(f"expected a ring, got {ring}")
    # As many blocks of columns at a time as the ring has room for.
    at_once = min(ring.stages.data * ring.stage_bytes // block_bytes, blocks)
    if not at_once:
        raise error_at(op, f"expects a ring of at least {block_bytes} bytes, got {ring}")
    result = broadcast(emit, emit.float32(0.0), shape_of(fragment))
    for begin in range(0, blocks, at_once):
        end = min(begin + at_once, blocks)
        result = _exchange(thread, op, (begin, end), result)
    thread.set(op.combined, result)


def _exchange(
    thread: Thread, op: tile.TeamReduceOp, span: tuple[int, int], result: SSAValue
) -> SSAValue:
    """Exchanges the blocks of a span; the places of a warp's lanes are neighbours."""
    emit, fragment, combine = thread.emit, thread[op.fragment], REDUCTIONS[op.kind.data]
    team = thread.lanes.team(op.combined.type.extents[0])
    size = shape_of(fragment)[-1] * WORD_BYTES
    threads = thread.lanes.threads
    own = address(emit, thread[op.ring], emit.mul(thread.lanes.thread, size))
    in_team = emit.remu(thread.lanes.thread, threads // team.count)
    first = address(emit, thread[op.ring], emit.mul(in_team, size))
    is_row = len(shape_of(fragment)) == 1
    bounds = emit.index(span[0]), emit.index(span[1])

    def place(base: SSAValue, n: SSAValue) -> SSAValue:
        moved = emit.sub(emit.to_i32(n), emit.integer(span[0]))
        return address(emit, base, emit.mul(moved, threads * size))

    def leave(n: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
        part = fragment if is_row else extract(emit, fragment, n)
        emit.op(llvm.StoreOp, part, place(own, n), size)
        return ()

    def fold(n: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
        kind, start = vector_type(f32, shape_of(fragment)[-1:]), place(first, n)
        folded = emit.result(llvm.LoadOp, start, kind, size)
        for other in range(1, team.count):
            theirs = address(emit, start, other * threads // team.count * size)
            loaded = emit.result(llvm.LoadOp, theirs, kind, size)
            folded = emit.binary(combine, folded, loaded)
        return (folded if is_row else insert(emit, folded, carried[0], n),)

    if span[0] or op.idle is None:
        emit.op(gpu.BarrierOp)
    emit.loop(bounds, (), leave, unroll=True)
    emit.op(gpu.BarrierOp)
    (result,) = emit.loop(bounds, (result,), fold, unroll=True)
    return result


TEAM_RULES: Mapping[type[Operation], Rule] = {
    tile.SliceOp: lower_slice,
    tile.TeamIndexOp: lower_team_index,
    tile.TeamReduceOp: lower_team_reduce,
}
