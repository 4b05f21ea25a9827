"""Loops, guards, stores and calls, for one thread."""

from collections.abc import Callable, Sequence

from xdsl.dialects import llvm, scf
from xdsl.ir import Block, Region, SSAValue

from ...dialects.diagnostic import DiagnosticError
from ...dialects.nest.intrinsics import ExecutionScope, intrinsic_named
from ...dialects.nest.program import (
    Block as NestBlock,
)
from ...dialects.nest.program import (
    Body,
    Call,
    Guard,
    Loop,
    LoopKind,
    Scope,
    Statement,
    Store,
    walk,
)
from ...dialects.nest.rewriting import substitute
from ...dialects.nest.scalars import Scalar
from ...dialects.sym import constant
from ...transforms.buffer_uses import axis_name, touches
from ...transforms.conditions import less
from .carried import Carried
from .intrinsics import filled_copy, lower_call, lower_filled_copy
from .kernels import THREAD_AXES
from .scalars import Scalars
from .thread import Thread
from .vectorized import last_iteration, lower_vector_store, uniform_guard

# Serial loops over registers are unrolled up to this many iterations.
MAX_UNROLLED = 64


def lower_body(thread: Thread, body: Body) -> None:
    """Appends what a thread does for statements."""
    following = iter((*body[1:], None))
    done: Statement | None = None
    for statement in body:
        after = next(following)
        if statement is done:
            continue
        if after is not None and _lower_filled_copy(thread, statement, after):
            done = after
            continue
        match statement:
            case Loop():
                _lower_loop(thread, statement)
            case Guard(condition, inner):
                _when(thread, condition, lambda inner=inner: lower_body(thread, inner), inner)
            case Store():
                _lower_store(thread, statement)
            case Call():
                _lower_call(thread, statement)
            case NestBlock(name):
                raise TypeError(f"expected a nest without blocks, got '{name}'")


def _lower_filled_copy(thread: Thread, first: Statement, second: Statement) -> bool:
    """Whether two statements are one copy that fills with zero; then it is appended."""
    found = filled_copy(first, second)
    if found is None or _alone(thread):
        return False
    condition, call = found
    lower_filled_copy(thread, call, Scalars(thread).value(condition))
    return True


def _lower_loop(thread: Thread, loop: Loop) -> None:
    count = loop.extent.constant_value
    if loop.kind.is_thread:
        _lower_threads(thread, loop)
    elif loop.kind is LoopKind.PARALLEL:
        raise DiagnosticError(
            f"expected loops bound to threads on a GPU, got the parallel loop '{loop.name}'; bind "
            "it to an axis of the grid or of the CTA"
        )
    elif count == 1:
        lower_body(thread, substitute(loop.body, {loop.name: constant(0)}))
    elif loop.kind is LoopKind.VECTORIZED:
        _lower_vectorized(thread, loop)
    elif loop.kind is LoopKind.UNROLLED or _indexes_registers(thread, loop):
        _lower_unrolled(thread, loop)
    else:
        _lower_serial(thread, loop)


def _lower_threads(thread: Thread, loop: Loop) -> None:
    """The loop's index is the thread's; threads beyond its extent have nothing to do."""
    axis = axis_name(loop)
    if axis in thread.bound:
        raise DiagnosticError(
            f"expected one loop bound to {loop.kind} around a statement, got '{loop.name}' inside "
            "another"
        )
    whole: dict[str, int] = dict(zip(THREAD_AXES, thread.kernel.threads, strict=True))
    before, thread.bound = thread.bound, thread.bound | {axis}
    if loop.extent.constant_value == whole[axis]:
        lower_body(thread, loop.body)
    else:
        inside = less(loop.variable, loop.extent)
        _when(thread, inside, lambda: lower_body(thread, loop.body), loop.body)
    thread.bound = before


def _indexes_registers(thread: Thread, loop: Loop) -> bool:
    """Whether a short serial loop counts the elements of a local buffer."""
    count = loop.extent.constant_value
    if count is None or count > MAX_UNROLLED:
        return False
    for statement in walk(loop.body):
        for region, _ in touches(statement, thread.kernel.program.buffers):
            if thread.buffer(region.buffer).scope in (Scope.LOCAL, Scope.FRAGMENT):
                if any(loop.name in part.start.symbols() for part in region.ranges):
                    return True
    return False


def _carried(thread: Thread, body: Body) -> list[str]:
    """Returns the buffers in registers that statements write, of those that are alive."""
    written: dict[str, None] = {}
    for statement in walk(body):
        for region, is_write in touches(statement, thread.kernel.program.buffers):
            if is_write and region.buffer in thread.registers:
                written[region.buffer] = None
    return list(written)


def _enter(thread: Thread, loop: Loop) -> None:
    """Gives the buffers that live in a loop new registers."""
    for buffer in thread.kernel.program.allocations:
        if buffer.place == loop.name and buffer.name in thread.registers:
            thread.clear(buffer)


def _lower_serial(thread: Thread, loop: Loop) -> None:
    extent = thread.indices.value(loop.extent)
    names, emit = _carried(thread, loop.body), thread.emit
    start = [thread.registers[name] for name in names]
    block = Block(arg_types=[extent.type, *(value.type for value in start)])
    further = Carried(loop.name, block)
    index, *registers = block.args
    with emit.into(block):
        done = _iteration(thread, loop, index, names, registers, further)
        emit.op(scf.YieldOp, *done, *further.nexts())
    carried = [*start, *further.starts]
    operands = (emit.integer(0), extent, emit.integer(1), *carried)
    types = [value.type for value in carried]
    op = emit.with_regions(scf.ForOp, operands, types, Region(block))
    thread.registers.update(zip(names, op.results, strict=False))


def _lower_unrolled(thread: Thread, loop: Loop) -> None:
    count = loop.extent.constant_value
    if count is None:
        raise DiagnosticError(
            f"expected a constant extent of the unrolled loop '{loop.name}', got {loop.extent}"
        )
    names = _carried(thread, loop.body)

    def body(index: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
        return _iteration(thread, loop, index, names, carried)

    before, thread.constant_names = thread.constant_names, thread.constant_names | {loop.name}
    start = [thread.registers[name] for name in names]
    bounds = thread.emit.integer(0), thread.emit.integer(count)
    results = thread.emit.loop(bounds, start, body, unroll=True)
    thread.registers.update(zip(names, results, strict=True))
    thread.constant_names = before


def _iteration(
    thread: Thread,
    loop: Loop,
    index: SSAValue,
    names: list[str],
    carried: Sequence[SSAValue],
    further: Carried | None = None,
) -> list[SSAValue]:
    thread.registers.update(zip(names, carried, strict=True))
    index.name_hint = index.name_hint or loop.name
    with thread.indices.level(thread.emit.block, further):
        thread.indices.define(loop.name, index)
        _enter(thread, loop)
        lower_body(thread, loop.body)
    return [thread.registers[name] for name in names]


def _when(thread: Thread, condition: Scalar, body: Callable[[], None], inner: Body) -> None:
    """Appends a branch; registers that are written in it come out of both of its sides."""
    emit = thread.emit
    chosen = Scalars(thread).value(condition)
    names = _carried(thread, inner)
    before = [thread.registers[name] for name in names]

    def yes() -> Sequence[SSAValue]:
        body()
        return [thread.registers[name] for name in names]

    bodies = (yes, lambda: before) if names else (yes,)
    results = emit.choose(chosen, [value.type for value in before], *bodies)
    thread.registers.update(zip(names, results, strict=True))


def _alone(thread: Thread, shared_axes: frozenset[str] = frozenset()) -> list[SSAValue]:
    """Returns the conditions of the thread that acts for all along axes without a loop."""
    axes = zip(THREAD_AXES, thread.kernel.threads, strict=True)
    return [
        thread.emit.compare("eq", thread.threads[axis], 0)
        for axis, extent in axes
        if extent > 1 and axis not in thread.bound and axis not in shared_axes
    ]


def _by_one(thread: Thread, conditions: list[SSAValue], body: Callable[[], None]) -> None:
    if not conditions:
        body()
        return
    both = conditions[0]
    for condition in conditions[1:]:
        both = thread.emit.binary("and", both, condition)
    thread.emit.when(both, body)


def _lower_store(thread: Thread, store: Store) -> None:
    target = thread.buffer(store.buffer)
    scalars = Scalars(thread)
    if target.scope is Scope.LOCAL:
        places = scalars.constant_indices(target, store.indices)
        thread.insert(target, places, scalars.value(store.value))
        return

    def body() -> None:
        value = scalars.value(store.value)
        thread.emit.op(llvm.StoreOp, value, scalars.address(target, store.indices))

    _by_one(thread, _alone(thread), body)


def _lower_call(thread: Thread, call: Call) -> None:
    execution = intrinsic_named(call.intrinsic).execution
    if not call.operands or execution is ExecutionScope.CTA:
        lower_call(thread, call)
        return
    lanes = frozenset(("thread_x_",)) if execution is ExecutionScope.WARP else frozenset[str]()
    in_registers = all(
        thread.buffer(o.region.buffer).scope in (Scope.LOCAL, Scope.FRAGMENT)
        for o in call.operands
        if o.is_written
    )
    alone = [] if in_registers else _alone(thread, lanes)
    _by_one(thread, alone, lambda: lower_call(thread, call))


def _lower_vectorized(thread: Thread, loop: Loop) -> None:
    count = loop.extent.constant_value
    if count is None:
        raise DiagnosticError(
            f"expected a constant extent of the vectorised loop '{loop.name}', got {loop.extent}"
        )
    moved = uniform_guard(loop, thread.ranges)
    if isinstance(moved, Guard):
        _when(thread, moved.condition, lambda: lower_body(thread, moved.body), moved.body)
        return
    match loop.body:
        case (Store() as store,) if not _needs_one(thread, store):
            if lower_vector_store(thread, loop, store, count):
                return
        case (Guard(condition, (Store() as store,)),) if not _needs_one(thread, store):
            whole = last_iteration(loop, condition)
            if whole is not None and thread.buffer(store.buffer).scope is not Scope.LOCAL:
                _whole_or_tail(thread, loop, store, whole)
                return
        case _:
            pass
    _one_by_one(thread, loop, loop.body)


def _needs_one(thread: Thread, store: Store) -> bool:
    return thread.buffer(store.buffer).scope is not Scope.LOCAL and bool(_alone(thread))


def _whole_or_tail(thread: Thread, loop: Loop, store: Store, whole: list[Scalar]) -> None:
    """Appends one access where all iterations are inside, else each by itself."""
    emit, scalars = thread.emit, Scalars(thread)
    count = loop.extent.constant_value or 0
    chosen = scalars.value(whole[0])
    for condition in whole[1:]:
        chosen = emit.binary("and", chosen, scalars.value(condition))
    with emit.into(yes := Block()):
        moved = lower_vector_store(thread, loop, store, count)
        emit.op(scf.YieldOp)
    if not moved:
        _one_by_one(thread, loop, loop.body)
        return
    with emit.into(no := Block()):
        _one_by_one(thread, loop, loop.body)
        emit.op(scf.YieldOp)
    emit.with_regions(scf.IfOp, (chosen,), (), Region(yes), Region(no))


def _one_by_one(thread: Thread, loop: Loop, body: Body) -> None:
    """Appends the iterations of a vectorised loop as those of an unrolled one."""
    _lower_unrolled(thread, Loop(loop.name, loop.extent, body, LoopKind.UNROLLED))
