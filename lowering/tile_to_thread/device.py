"""What the CTAs of a launch hand to one another, for one thread."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from xdsl.dialects import gpu, llvm
from xdsl.dialects.builtin import f32, i32
from xdsl.ir import Operation, SSAValue

from ...dialects import tile
from ..emitter import vector_type
from .fragments import broadcast, extract, insert, shape_of, vector_of
from .lanes import address
from .memory import WORD_BYTES, accumulator_row
from .rules import Rule
from .thread import Thread

# It wraps to 0 when as many have arrived as the operand says. The release covers what the other
# threads of the CTA wrote before the barrier, the acquire what they read after the next one.
_COUNT = "atom.acq_rel.gpu.global.inc.u32 $0, [$1], $2;"


def lower_arrive(thread: Thread, op: tile.ArriveOp) -> None:
    """One thread counts, between two barriers; the answer is left in shared memory."""
    emit, answer = thread.emit, thread[op.ring]
    counter = address(emit, thread[op.counters], emit.mul(thread[op.index], WORD_BYTES))
    before_last = emit.sub(thread[op.count], 1)
    emit.op(gpu.BarrierOp)

    def count() -> None:
        atomic = llvm.InlineAsmOp(
            _COUNT, "=r,l,r,~{memory}", (counter, before_last), (i32,), has_side_effects=True
        )
        emit.op(llvm.StoreOp, emit.value(atomic), answer)

    emit.when(emit.compare("eq", thread.lanes.thread, 0), count)
    emit.op(gpu.BarrierOp)
    arrived = emit.result(llvm.LoadOp, answer, i32)
    thread.set(op.last, emit.compare("eq", arrived, before_last))


def lower_load_rows(thread: Thread, op: tile.LoadRowsOp) -> None:
    """The two rows of a thread; 0 where one is not valid."""
    emit, fragment = thread.emit, op.fragment.type
    team = thread.lanes.team(fragment.extents[0])
    result = broadcast(emit, emit.float32(0.0), vector_of(fragment).get_shape())
    for half in range(2):
        offset, valid = thread.inline(op.rows, (emit.add(team.row, 8 * half),))
        start = address(emit, thread[op.pointer], emit.mul(offset, WORD_BYTES))

        def load(start: SSAValue = start, into: SSAValue = result, half: int = half) -> SSAValue:
            return insert(emit, emit.result(llvm.LoadOp, start, f32), into, half)

        result = _where(thread, valid, result, load)
    thread.set(op.fragment, result)


def lower_accumulate_rows(thread: Thread, op: tile.AccumulateRowsOp) -> None:
    """Two neighbours of a row at a time are loaded, and added at once."""
    emit, result, factors = thread.emit, thread[op.accumulator], thread[op.factors]
    team = thread.lanes.team(op.sum.type.extents[0])
    for half in range(2):
        start, valid = accumulator_row(thread, op.pointer, op.rows, team, half)
        factor = extract(emit, factors, half)
        accumulate = partial(_accumulate_row, thread, start, factor, half, result)
        result = _where(thread, valid, result, accumulate)
    thread.set(op.sum, result)


def _accumulate_row(
    thread: Thread, start: SSAValue, factor: SSAValue, half: int, accumulator: SSAValue
) -> SSAValue:
    emit = thread.emit

    def step(n: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
        (sums,) = carried
        place = address(emit, start, emit.mul(emit.to_i32(n), 8 * WORD_BYTES))
        pair = emit.result(llvm.LoadOp, place, vector_type(f32, (2,)), 2 * WORD_BYTES)
        for element in range(2):
            at = n, 2 * half + element
            added = emit.fma(extract(emit, pair, element), factor, extract(emit, sums, *at))
            sums = insert(emit, added, sums, *at)
        return (sums,)

    return emit.unrolled(shape_of(accumulator)[0], (accumulator,), step)[0]


def _where(
    thread: Thread, condition: SSAValue, otherwise: SSAValue, body: Callable[[], SSAValue]
) -> SSAValue:
    types = (otherwise.type,)
    (result,) = thread.emit.choose(condition, types, lambda: (body(),), lambda: (otherwise,))
    return result


DEVICE_RULES: Mapping[type[Operation], Rule] = {
    tile.AccumulateRowsOp: lower_accumulate_rows,
    tile.ArriveOp: lower_arrive,
    tile.LoadRowsOp: lower_load_rows,
}
