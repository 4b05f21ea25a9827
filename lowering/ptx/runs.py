"""
Neighbouring ops that take a vector apart, or put one together, as one step.

They print nothing, and there are many of them around each product of matrices: an unrolled loop
would pass them one after the other in every iteration.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from xdsl.dialects import vector

from .elements import Element, operand_type
from .kernel import KernelPrinter, Step
from .vector import Position, member_range

_EXTRACT, _INSERT, _FIELD = "vector.extract", "vector.insert", "llvm.extractvalue"
RENAMES = frozenset({_EXTRACT, _INSERT, _FIELD})


def join_runs(steps: Sequence[Step]) -> list[Step]:
    """Returns the steps of a block with each run of neighbours as one step."""
    joined: list[Step] = []
    begin, count = 0, len(steps)
    while begin < count:
        step = steps[begin]
        end = begin + 1
        if (name := step.op.name) not in RENAMES:
            joined.append(step)
        elif name == _INSERT:
            while end < count and _builds_on(steps[end], steps[end - 1]):
                end += 1
            joined.append(_inserts(steps[begin:end]) if end > begin + 1 else step)
        else:
            source = _source_of_run(steps, begin)
            while end < count and _reads_from(steps[end], source):
                end += 1
            joined.append(_extracts(steps[begin:end]) if end > begin + 1 else step)
        begin = end
    return joined


def _builds_on(step: Step, before: Step) -> bool:
    """Whether a step inserts into what the step before has made, for it alone."""
    is_next = step.op.name == _INSERT and step.args[1] == before.outs[0]
    return is_next and before.op.results[0].has_one_use()


def _source_of_run(steps: Sequence[Step], begin: int) -> int:
    """Returns what the steps from here on may read: the first one's result, or its operand."""
    first = steps[begin]
    if begin + 1 < len(steps) and _reads_from(steps[begin + 1], first.outs[0]):
        return first.outs[0]
    # A step whose position is a value is no sibling of others.
    return first.args[0] if len(first.args) == 1 else 0


def _reads_from(step: Step, source: int) -> bool:
    """Whether a step reads a part of a value, at a place that is known."""
    return step.args == (source,) and step.op.name in (_EXTRACT, _FIELD)


class _Reads(NamedTuple):
    """Which part of a vector is read first, all of it if None, and the ranges of its parts."""

    part: Position | None
    ranges: Sequence[tuple[int, int]]


def _extracts(steps: Sequence[Step]) -> Step:
    first, second = steps[0], steps[1]
    is_nested = second.args[0] == first.outs[0]
    part = _position(first, 0, 1) if is_nested else None
    ranges = tuple([_range(step) for step in steps[1 if is_nested else 0 :]])
    return first.joined(steps, first.args, _print_reads, _Reads(part, ranges))


def _range(step: Step) -> tuple[int, int]:
    if step.op.name == _FIELD:
        return member_range(step.op, operand_type(step.op))
    position = _position(step, 0, 1)
    return position.offset, position.offset + position.count


def _position(step: Step, whole: int, first: int) -> Position:
    op = step.op
    if not isinstance(op, vector.ExtractOp | vector.InsertOp):
        raise TypeError(f"expected a position in a vector, got {op.name}")
    return Position(op, operand_type(op, whole), first)


def _print_reads(p: KernelPrinter, step: Step) -> None:
    reads: _Reads = step.memo
    values, outs = p.values, step.outs
    elements = values[step.args[0]]
    if (part := reads.part) is not None:
        begin = part.begin(p, step) if part.dynamic else part.offset
        elements = values[outs[0]] = elements[begin : begin + part.count]
        outs = outs[1:]
    for out, (begin, end) in zip(outs, reads.ranges):
        values[out] = elements[begin:end]


def _inserts(steps: Sequence[Step]) -> Step:
    """Operands are the vector, then each part with the positions that are values."""
    args = [steps[0].args[1]]
    writes: list[tuple[int, Position]] = []
    for step in steps:
        writes.append((len(args), _position(step, 1, len(args) + 1)))
        args += (step.args[0], *step.args[2:])
    joined = steps[0].joined(steps[-1:], tuple(args), _print_writes, tuple(writes))
    return joined


def _print_writes(p: KernelPrinter, step: Step) -> None:
    values, args = p.values, step.args
    whole: list[Element] = list(values[args[0]])
    for part, position in step.memo:
        begin = position.begin(p, step) if position.dynamic else position.offset
        whole[begin : begin + position.count] = values[args[part]]
    values[step.outs[0]] = whole
