"""Where the buffers of a program without blocks are used: the loops around, and the elements."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from ..dialects.nest.intrinsics import ExecutionScope, intrinsic_named, kept_axes
from ..dialects.nest.program import (
    Block,
    Body,
    Buffer,
    Call,
    Guard,
    Loop,
    Program,
    Range,
    Region,
    Statement,
    Store,
)
from ..dialects.nest.regions import relax
from ..dialects.nest.scalars import Scalar, Subscript, loads_of
from ..dialects.sym import Expression, Ranges, constant, maximum, symbol
from ..dialects.sym import Range as SymbolRange

_ONE, _ZERO = constant(1), constant(0)
_LANE = "thread_x_"


@dataclass(frozen=True)
class Use:
    """
    One read or write: the loops around it, outermost first, and the elements it touches.

    Of what the lanes of a warp hold together, the elements are those of the thread.
    """

    path: tuple[Loop, ...]
    region: Region
    is_write: bool


def uses_of(program: Program) -> dict[str, list[Use]]:
    """Returns the uses of each buffer, in order, reads of a statement before its writes."""
    uses: dict[str, list[Use]] = {}
    for kernel in kernels_apart(program):
        for use in _walk(kernel.body, (), kernel):
            uses.setdefault(use.region.buffer, []).append(use)
    return uses


def kernels_apart(program: Program) -> tuple[Program, ...]:
    """Returns the programs of the outermost statements, each of which is a kernel on a GPU."""
    if len(program.body) == 1:
        return (program,)
    return tuple(replace(program, body=(statement,)) for statement in program.body)


def _walk(body: Body, path: tuple[Loop, ...], kernel: Program) -> Iterator[Use]:
    for statement in body:
        seen = of_thread(statement, kernel) if isinstance(statement, Call) else statement
        for region, is_write in touches(seen, kernel.buffers):
            yield Use(path, region, is_write)
        if isinstance(statement, Loop):
            yield from _walk(statement.body, (*path, statement), kernel)
        elif isinstance(statement, Guard):
            yield from _walk(statement.body, path, kernel)


def of_thread(call: Call, kernel: Program) -> Call:
    """
    Returns a call of a kernel with what is spread over threads as the element of the thread.

    Lanes of a warp have an element each, in order, or all threads of the CTA.
    """
    intrinsic = intrinsic_named(call.intrinsic)
    if not any(needed.is_spread for needed in intrinsic.operands):
        return call
    is_warp = intrinsic.execution is ExecutionScope.WARP
    number = symbol(_LANE) if is_warp else thread_number(threads_of(kernel))
    pairs = zip(call.operands, intrinsic.operands, strict=True)
    return replace(
        call,
        operands=tuple(
            replace(operand, region=_of(number, operand.region)) if needed.is_spread else operand
            for operand, needed in pairs
        ),
    )


def thread_number(threads: Mapping[str, Expression]) -> Expression:
    """Returns the number of a thread in its CTA, over its indices on the axes; x is the fastest."""
    number = _ZERO
    for axis in ("thread_z_", "thread_y_", "thread_x_"):
        if axis in threads:
            number = number * threads[axis] + symbol(axis)
    return number


def _of(number: Expression, region: Region) -> Region:
    axes = kept_axes(region)
    return Region(
        region.buffer,
        tuple(
            Range(part.start + number, _ONE) if axis in axes else part
            for axis, part in enumerate(region.ranges)
        ),
    )


def touches(statement: Statement, buffers: Mapping[str, Buffer]) -> Iterator[tuple[Region, bool]]:
    """Yields what a statement itself reads, then what it writes; True for a write."""
    match statement:
        case Store(buffer, indices, value):
            for scalar in (value, *(i for i in indices if not isinstance(i, Expression))):
                yield from _reads(scalar, buffers)
            yield point(buffers[buffer], indices), True
        case Guard(condition, _):
            yield from _reads(condition, buffers)
        case Call(_, operands):
            yield from ((o.region, False) for o in operands if o.is_read)
            yield from ((o.region, True) for o in operands if o.is_written)
        case Block():
            raise TypeError(f"expected a program without blocks, got '{statement.name}'")
        case Loop():
            return


def _reads(scalar: Scalar, buffers: Mapping[str, Buffer]) -> Iterator[tuple[Region, bool]]:
    for load in loads_of(scalar):
        yield point(buffers[load.buffer], load.indices), False


def point(buffer: Buffer, indices: tuple[Subscript, ...]) -> Region:
    """Returns the box of one element; where an index depends on data it is the whole axis."""
    return Region(
        buffer.name,
        tuple(
            Range(index, _ONE) if isinstance(index, Expression) else Range(_ZERO, whole)
            for index, whole in zip(indices, buffer.shape, strict=True)
        ),
    )


def axis_name(loop: Loop) -> str:
    """Returns the symbol that stands for the thread's index on the axis of a bound loop."""
    return loop.kind.value.replace(".", "_") + "_"


def threads_of(program: Program) -> dict[str, Expression]:
    """Returns the extent of each axis of threads that loops are bound to: the largest of theirs."""
    extents: dict[str, Expression] = {}
    for path in program.places.values():
        if isinstance(loop := path[-1], Loop) and loop.kind.is_thread:
            name = axis_name(loop)
            known = extents.get(name)
            extents[name] = loop.extent if known is None else maximum(known, loop.extent)
    return extents


def loop_ranges(program: Program) -> Ranges:
    """Returns the ranges of symbols, loops, and the axes of threads."""
    entries = {name: program.ranges[name] for name in program.ranges}
    for path in program.places.values():
        if isinstance(loop := path[-1], Loop):
            entries[loop.name] = SymbolRange(_ZERO, loop.extent - 1)
    for axis, extent in threads_of(program).items():
        entries[axis] = SymbolRange(_ZERO, extent - 1)
    return _interned(Ranges(entries))


@lru_cache(maxsize=256)
def _interned(ranges: Ranges) -> Ranges:
    # What is proved is kept by the ranges: the same ones are found faster than equal ones.
    return ranges


def relax_over(region: Region, loops: Sequence[Loop], ranges: Ranges, buffer: Buffer) -> Region:
    """Returns the union of a region's values while loops run, which stand inside one another."""
    extents = {loop.name: loop.extent for loop in loops}
    if all(extent.symbols().isdisjoint(extents) for extent in extents.values()):
        return relax(region, extents, ranges, buffer) if extents else region
    for loop in reversed(loops):
        region = relax(region, {loop.name: loop.extent}, ranges, buffer)
    return region
