"""Vectorised loops: neighbours are moved by one access where that is proved to be aligned."""

from collections.abc import Mapping

from xdsl.dialects import arith, llvm, vector
from xdsl.dialects.builtin import VectorType, i32
from xdsl.ir import SSAValue

from ...dialects.nest.program import Buffer, Guard, Loop, Scope, Store
from ...dialects.nest.scalars import Apply, Index, Load, Scalar, Subscript, loads_of
from ...dialects.sym import Expression, Ranges, constant, prove_divisible, prove_le, prove_lt
from ...dialects.sym.expression import Symbol
from ...transforms.conditions import conjunction, conjuncts, less, names_of
from .scalars import Scalars
from .thread import Thread, type_of, zeros

MAX_BYTES = 16
_NARROWING = ("arith.truncf",)


def uniform_guard(loop: Loop, ranges: Ranges) -> Loop | Guard:
    """
    Returns a loop whose bound is moved out of it, where all its iterations agree on the bound.

    `start + v < end` says the same for all `v` in `0..8` if 8 divides `start` and `end`.
    """
    match loop.body:
        case (Guard(condition, body),):
            outer: list[Scalar] = []
            for part in conjuncts(condition):
                if (moved := _uniform(part, loop, ranges)) is None:
                    return loop
                outer.append(moved)
            inner = Loop(loop.name, loop.extent, body, loop.kind, loop.annotations)
            return Guard(conjunction(outer), (inner,))
        case _:
            return loop


def _uniform(condition: Scalar, loop: Loop, ranges: Ranges) -> Scalar | None:
    match condition:
        case Apply("arith.cmpi", (Index(left), Index(right)), _, "slt"):
            if loop.name in right.symbols():
                return None
            if loop.name not in left.symbols():
                return condition
            factor, rest = left.split(Symbol(loop.name))
            if factor != 1 or loop.name in rest.symbols():
                return None
            divides = prove_divisible(rest, loop.extent, ranges) and prove_divisible(
                right, loop.extent, ranges
            )
            return less(rest, right) if divides else None
        case _:
            return None


def last_iteration(loop: Loop, condition: Scalar) -> list[Scalar] | None:
    """Returns the conditions that all iterations of a loop pass: those of its last one."""
    found: list[Scalar] = []
    for part in conjuncts(condition):
        match part:
            case Apply("arith.cmpi", (Index(left), Index(right)), _, "slt"):
                factor, rest = left.split(Symbol(loop.name))
                if loop.name in rest.symbols() | right.symbols() | factor.symbols():
                    return None
                if (factor.constant_value or 0) < 0:
                    return None
                last = {loop.name: loop.extent - 1}
                found.append(less(left.substitute(last), right))
            case _:
                return None
    return found


def lower_vector_store(thread: Thread, loop: Loop, store: Store, count: int) -> bool:
    """Appends a store of `count` neighbours; returns False where it has to be done one by one."""
    target = thread.buffer(store.buffer)
    if not _is_movable(thread, loop, target, store.indices):
        return False
    for load in loads_of(store.value):
        if load.buffer == store.buffer and load.indices != store.indices:
            return False
    if any(load.buffer == store.buffer for load in _index_loads(store.indices)):
        return False
    width = count
    if target.scope is not Scope.LOCAL:
        width = _width(thread, loop, target, store.indices, count)
        if width == 1:
            return False
    for start in range(0, count, width):
        _store_group(thread, loop, store, target, (start, width))
    return True


def _is_movable(thread: Thread, loop: Loop, buffer: Buffer, indices: tuple[Subscript, ...]) -> bool:
    """
    Whether the elements of all iterations are neighbours, the first one known before.

    An index that depends on data is, where the data is the same for all iterations.
    """
    from_data = [index for index in indices if not isinstance(index, Expression)]
    if buffer.scope is Scope.FRAGMENT or buffer.dtype == "i1":
        return False
    if from_data and (buffer.scope is Scope.LOCAL or buffer.swizzle):
        return False
    if any(loop.name in names_of(index) for index in from_data):
        return False
    if buffer.scope is Scope.LOCAL:
        return True
    factor, rest = thread.offset(buffer, _without_data(indices)).split(Symbol(loop.name))
    return factor == 1 and loop.name not in rest.symbols()


def _without_data(indices: tuple[Subscript, ...]) -> tuple[Expression, ...]:
    """Returns indices with 0 for those that depend on data."""
    return tuple(i if isinstance(i, Expression) else constant(0) for i in indices)


def _index_loads(indices: tuple[Subscript, ...]) -> list[Load]:
    return [load for i in indices if not isinstance(i, Expression) for load in loads_of(i)]


def _width(
    thread: Thread, loop: Loop, buffer: Buffer, indices: tuple[Subscript, ...], count: int
) -> int:
    """Returns how many neighbours one access moves: 4, 8 or 16 bytes that are aligned, or 1."""
    first = thread.offset(buffer, _without_data(indices)).substitute({loop.name: 0})
    strides = zip(indices, thread.strides(buffer), strict=True)
    steps = [first, *(stride for index, stride in strides if not isinstance(index, Expression))]
    width = MAX_BYTES // buffer.element_bytes
    while width > 1:
        divides = count % width == 0 and all(
            prove_divisible(step, width, thread.ranges) for step in steps
        )
        if divides and width * buffer.element_bytes >= 4:
            return width
        width //= 2
    return 1


def _store_group(
    thread: Thread, loop: Loop, store: Store, target: Buffer, group: tuple[int, int]
) -> None:
    start, width = group
    loaded = _load_vectors(thread, loop, store, group)
    narrow: str | None = None
    value = store.value
    in_vectors = target.scope is not Scope.LOCAL and target.element_bytes > 1
    if isinstance(value, Apply) and value.op in _NARROWING and in_vectors:
        narrow, (value,) = value.dtype, value.operands
    elements: list[SSAValue] = []
    for lane in range(width):
        names = {loop.name: constant(start + lane)}
        elements.append(Scalars(thread, names, loaded, lane).value(value))
    first = Scalars(thread, {loop.name: constant(start)})
    if target.scope is Scope.LOCAL:
        for lane, element in enumerate(elements):
            names = {loop.name: constant(start + lane)}
            places = Scalars(thread, names).constant_indices(target, store.indices)
            thread.insert(target, places, element)
        return
    emit = thread.emit
    whole = zeros(emit, VectorType(type_of(value.dtype), (width,)))
    for lane, element in enumerate(elements):
        whole = emit.insert(element, whole, lane)
    if narrow is not None:
        kind = VectorType(type_of(narrow), (width,))
        whole = emit.result(arith.TruncFOp, whole, kind)
    if target.element_bytes == 1:
        whole = emit.result(vector.BitcastOp, whole, VectorType(i32, (width // 4,)))
    size = width * target.element_bytes
    emit.op(llvm.StoreOp, whole, first.address(target, store.indices), size)


def _load_vectors(
    thread: Thread, loop: Loop, store: Store, group: tuple[int, int]
) -> Mapping[int, SSAValue]:
    """Loads what the iterations of a group need at once, where it lies side by side."""
    start, width = group
    loaded: dict[int, SSAValue] = {}
    known: dict[tuple[str, tuple[Subscript, ...]], SSAValue] = {}
    for load in _safe(thread, store.value):
        source = thread.buffer(load.buffer)
        if source.scope is Scope.LOCAL or not _is_movable(thread, loop, source, load.indices):
            continue
        if _width(thread, loop, source, load.indices, width) != width:
            continue
        key = (load.buffer, load.indices)
        if key not in known:
            known[key] = _load_vector(thread, loop, load, (start, width))
        loaded[id(load)] = known[key]
    return loaded


def _load_vector(thread: Thread, loop: Loop, load: Load, group: tuple[int, int]) -> SSAValue:
    start, width = group
    source, emit = thread.buffer(load.buffer), thread.emit
    place = Scalars(thread, {loop.name: constant(start)}).address(source, load.indices)
    size = width * source.element_bytes
    kind = VectorType(type_of(source.dtype), (width,))
    if source.element_bytes > 1:
        return emit.result(llvm.LoadOp, place, kind, size)
    words = emit.result(llvm.LoadOp, place, VectorType(i32, (width // 4,)), size)
    return emit.result(vector.BitcastOp, words, kind)


def _safe(thread: Thread, scalar: Scalar) -> list[Load]:
    """Returns the loads of a scalar; of a selection only those that are inside of buffers."""
    found: list[Load] = []
    pending = [scalar]
    while pending:
        match node := pending.pop():
            case Load():
                found.append(node)
            case Apply("arith.select", (condition, *sides)):
                pending.append(condition)
                found += [x for side in sides for x in loads_of(side) if _is_inside(thread, x)]
            case Apply(_, operands):
                pending.extend(operands)
            case _:
                pass
    return found


def _is_inside(thread: Thread, load: Load) -> bool:
    """Whether a load is proved to be inside of its buffer, whatever is selected."""
    return all(
        isinstance(index, Expression)
        and bool(prove_le(0, index, thread.ranges))
        and bool(prove_lt(index, extent, thread.ranges))
        for index, extent in zip(load.indices, thread.buffer(load.buffer).shape, strict=True)
    )
