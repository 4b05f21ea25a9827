"""
What a program consists of at the block level: producers, consumers, kinds of blocks.

A scope is the program, or the body of a block. The blocks of a scope are those that stand in it
with loops and conditions around them at most; they answer for what is inside them by their
regions. The terms are those of TensorIR (ASPLOS'23, section 3).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .program import AxisKind, Block, Body, Guard, Loop, Program, Store, walk
from .regions import Access, accesses_of
from .scalars import DTYPE_BITS, Apply, Constant, Load, Scalar, is_float, loads_of


def scope_of(program: Program, name: str) -> Block | None:
    """Returns the innermost block around a loop or block; None is the program."""
    inside = [part for part in program.places[name][:-1] if isinstance(part, Block)]
    return inside[-1] if inside else None


def blocks_in(body: Body) -> Iterator[Block]:
    """Yields the outermost blocks of statements, in the order in which they stand."""
    for statement in body:
        if isinstance(statement, Block):
            yield statement
        elif isinstance(statement, Loop | Guard):
            yield from blocks_in(statement.body)


def blocks_of_scope(program: Program, scope: Block | None) -> tuple[Block, ...]:
    """Returns the blocks of a scope, in the order in which they stand."""
    if scope is None:
        return tuple(blocks_in(program.body))
    return (*blocks_in(scope.init), *blocks_in(scope.body))


def child_blocks(program: Program, name: str) -> tuple[Block, ...]:
    """Returns the outermost blocks inside a loop or block."""
    part = program.places[name][-1]
    if isinstance(part, Block):
        return blocks_of_scope(program, part)
    return tuple(blocks_in(part.body))


def reads_of(block: Block) -> frozenset[str]:
    """Returns the names of the buffers that a block reads."""
    return frozenset(region.buffer for region in block.reads)


def writes_of(block: Block) -> frozenset[str]:
    """Returns the names of the buffers that a block writes."""
    return frozenset(region.buffer for region in block.writes)


def producers(program: Program, name: str) -> tuple[Block, ...]:
    """Returns the blocks of the scope that stand before a block and write what it reads."""
    block, before, _ = _around(program, name)
    needed = reads_of(block)
    return tuple(other for other in before if not needed.isdisjoint(writes_of(other)))


def consumers(program: Program, name: str) -> tuple[Block, ...]:
    """Returns the blocks of the scope that stand behind a block and read what it writes."""
    block, _, behind = _around(program, name)
    made = writes_of(block)
    return tuple(other for other in behind if not made.isdisjoint(reads_of(other)))


def _around(program: Program, name: str) -> tuple[Block, tuple[Block, ...], tuple[Block, ...]]:
    block = program.block(name)
    if block is None:
        raise KeyError(name)
    blocks = blocks_of_scope(program, scope_of(program, name))
    place = next(at for at, other in enumerate(blocks) if other.name == name)
    return block, blocks[:place], blocks[place + 1 :]


def writers(program: Program, buffer: str, scope: Block | None = None) -> tuple[Block, ...]:
    """Returns the blocks of a scope that write a buffer."""
    return tuple(b for b in blocks_of_scope(program, scope) if buffer in writes_of(b))


def readers(program: Program, buffer: str, scope: Block | None = None) -> tuple[Block, ...]:
    """Returns the blocks of a scope that read a buffer."""
    return tuple(b for b in blocks_of_scope(program, scope) if buffer in reads_of(b))


def output_blocks(program: Program) -> tuple[Block, ...]:
    """Returns the blocks of the program that write a buffer of the caller's."""
    own = {buffer.name for buffer in program.allocations}
    return tuple(b for b in blocks_in(program.body) if writes_of(b) - own)


def is_output(program: Program, block: Block) -> bool:
    """Whether a block writes a buffer that the caller passes."""
    return bool(writes_of(block) - {buffer.name for buffer in program.allocations})


def incomplete(program: Program, name: str) -> str | None:
    """
    Returns why a block is not complete, None if it is.

    A complete block has spatial axes only, no init, is the only writer of what it writes, and
    reads none of it. So its points can be computed anywhere, in any order, and again.
    """
    block = program.block(name)
    if block is None:
        raise KeyError(name)
    for axis in block.axes:
        if axis.kind is not AxisKind.SPATIAL:
            return f"the axis '{axis.name}' is {axis.kind}"
    if block.init:
        return "it has an init"
    if shared := reads_of(block) & writes_of(block):
        return f"it reads '{min(shared)}', which it writes"
    return _other_writer(program, block)


def not_reduction(program: Program, name: str) -> str | None:
    """
    Returns why a block is not a reduction block, None if it is.

    A reduction block has an init, axes that are spatial or reduce, at least one of them reduce,
    is the only writer of what it writes, and updates it as one combiner says.
    """
    block = program.block(name)
    if block is None:
        raise KeyError(name)
    for axis in block.axes:
        if axis.kind is AxisKind.ORDERED:
            return f"the axis '{axis.name}' is ordered"
    if not block.axes_of(AxisKind.REDUCE):
        return "it has no reduce axis"
    if not block.init:
        return "it has no init"
    if combiner_of(block) is None:
        return "its stores are no updates of one combiner"
    return _other_writer(program, block)


def _other_writer(program: Program, block: Block) -> str | None:
    for buffer in sorted(writes_of(block)):
        for other in writers(program, buffer, scope_of(program, block.name)):
            if other.name != block.name:
                return f"'{other.name}' writes '{buffer}' too"
    return None


@dataclass(frozen=True)
class Combiner:
    """An op that is commutative and associative, up to rounding."""

    op: str

    def identity(self, dtype: str) -> Constant:
        """Returns the number that changes nothing when it is combined with another."""
        value = _IDENTITIES[self.op](dtype)
        return Constant(float(value) if is_float(dtype) else int(value), dtype)

    def combine(self, left: Scalar, right: Scalar) -> Scalar:
        """Returns the two scalars combined."""
        return Apply(self.op, (left, right), left.dtype)


def _greatest(dtype: str) -> float | int:
    if dtype == "f8E4M3FN":
        return 448.0  # it has no infinity
    return float("inf") if is_float(dtype) else (1 << (DTYPE_BITS[dtype] - 1)) - 1


def _least(dtype: str) -> float | int:
    return -_greatest(dtype) if is_float(dtype) else -(1 << (DTYPE_BITS[dtype] - 1))


_IDENTITIES: dict[str, Callable[[str], int | float]] = {
    "arith.addf": lambda _: 0,
    "arith.addi": lambda _: 0,
    "arith.mulf": lambda _: 1,
    "arith.muli": lambda _: 1,
    "arith.maximumf": _least,
    "arith.minimumf": _greatest,
    "arith.maxsi": _least,
    "arith.minsi": _greatest,
    "arith.andi": lambda _: -1,
    "arith.ori": lambda _: 0,
    "arith.xori": lambda _: 0,
}


@dataclass(frozen=True)
class Update:
    """`buffer[indices] = combiner(buffer[indices], value)`; the value reads no such buffer."""

    store: Store
    combiner: Combiner
    value: Scalar


def update_of(store: Store) -> Update | None:
    """Returns the update that a store is, None if it is none."""
    value = store.value
    if not isinstance(value, Apply) or value.op not in _IDENTITIES or len(value.operands) != 2:
        return None
    for old, new in (value.operands, value.operands[::-1]):
        if isinstance(old, Load) and (old.buffer, old.indices) == (store.buffer, store.indices):
            if any(load.buffer == store.buffer for load in loads_of(new)):
                return None
            return Update(store, Combiner(value.op), new)
    return None


def combiner_of(block: Block) -> Combiner | None:
    """
    Returns the combiner by which all stores of a block's body update what they write.

    None where a store is no update, two combiners differ, what is written is read elsewhere in
    the body, or the body calls intrinsics.
    """
    stores = [part for part in walk(block.body) if isinstance(part, Store)]
    updates = [update_of(store) for store in stores]
    combiners = {None if update is None else update.combiner for update in updates}
    written = frozenset(store.buffer for store in stores)
    if len(combiners) != 1 or written != writes_of(block):
        return None
    inner = [part.init for part in walk(block.body) if isinstance(part, Block) and part.init]
    reads = sum(not access.is_write for access in _all_accesses(block.body, written))
    return None if inner or reads != len(stores) else combiners.pop()


def _all_accesses(body: Body, buffers: frozenset[str]) -> Iterator[Access]:
    for part in walk(body):
        if isinstance(part, Store | Guard):
            inner: Body = (part,) if isinstance(part, Store) else (Guard(part.condition, ()),)
            for access in accesses_of(inner):
                if access.buffer in buffers:
                    yield access
