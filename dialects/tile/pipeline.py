"""
The order in which asynchronous copies land.

Each copy commits one group for each of its results, and a wait names how many younger groups may
still be under way. The analysis follows the stages in flight through loops and branches, so that
this number is known without being written down, and a stage that is used twice, dropped, or
reordered by a loop is an error.
"""

# Operands and types are read where they are kept: xDSL's properties take several times longer.
# pyright: reportPrivateUsage=false

from collections.abc import Sequence

from xdsl.dialects import scf
from xdsl.ir import Block, Operation, SSAValue

from ..diagnostic import error_at
from .types import InflightType

Queue = tuple[SSAValue, ...]


def check_in_flight(kernel: Operation) -> None:
    """Verifies that each stage in flight is waited for once, in an order that can be counted."""
    pending_groups(kernel)


def pending_groups(kernel: Operation) -> dict[Operation, int]:
    """
    Returns, for each `tile.wait` of a kernel, how many younger groups may stay in flight.

    Raises `DiagnosticError` where the stages in flight cannot be followed.
    """
    pending: dict[Operation, int] = {}
    for region in kernel.regions:
        for block in region.blocks:
            rest = _follow_block(block, (), pending)
            if rest:
                maker = rest[0].owner
                op = maker if isinstance(maker, Operation) else kernel
                dropped = sum(value.owner is maker for value in rest)
                raise error_at(
                    op, f"expects its stages in flight to be waited for, got {dropped} dropped"
                )
    return pending


def _in_flight(values: Sequence[SSAValue]) -> Queue:
    return tuple([value for value in values if type(value._type) is InflightType])


def _follow_block(block: Block, queue: Queue, pending: dict[Operation, int]) -> Queue:
    op = block.first_op
    while op is not None:
        queue = _follow_op(op, queue, pending)
        op = op.next_op
    return queue


def _follow_op(op: Operation, queue: Queue, pending: dict[Operation, int]) -> Queue:
    # Ops are of an abstract class: to ask for the very class is many times faster.
    if type(op) is scf.ForOp:
        return _follow_loop(op, queue, pending)
    if type(op) is scf.IfOp or type(op) is scf.WhileOp:
        return _follow_regions(op, queue, pending)
    if type(op) is scf.YieldOp or type(op) is scf.ConditionOp:
        return queue
    for operand in _in_flight(op._operands):
        if operand not in queue:
            raise error_at(
                op,
                "expects a stage that is in flight here, "
                "got one that was waited for before, or that a loop does not pass on",
            )
        younger = len(queue) - 1 - queue.index(operand)
        pending[op] = min(pending.get(op, younger), younger)
        queue = tuple(value for value in queue if value is not operand)
    return queue + _in_flight(op.results)


def _follow_loop(loop: scf.ForOp, queue: Queue, pending: dict[Operation, int]) -> Queue:
    names = dict(zip(loop.iter_args, loop.body.block.args[1:], strict=True))
    inside = tuple(names.get(value, value) for value in queue)
    end = _follow_block(loop.body.block, inside, pending)
    terminator = loop.body.block.last_op
    operands = terminator.operands if terminator else ()
    yielded: dict[SSAValue, SSAValue] = {}
    yielded.update(zip(loop.body.block.args[1:], operands, strict=True))
    _expect_same_order(loop, tuple(yielded.get(value, value) for value in inside), end)
    results = dict(zip(loop.iter_args, loop.results, strict=True))
    return tuple(results.get(value, value) for value in queue)


def _follow_regions(
    op: scf.IfOp | scf.WhileOp, queue: Queue, pending: dict[Operation, int]
) -> Queue:
    """Branches, and loops that pass on no stages, leave those in flight as they were."""
    for region in op.regions:
        if region.blocks:
            _expect_same_order(op, queue, _follow_block(region.block, queue, pending))
    return queue


def _expect_same_order(op: Operation, expected: Queue, got: Queue) -> None:
    if expected != got:
        order = " in another order" if len(expected) == len(got) else ""
        raise error_at(
            op,
            "expects the stages in flight at its end to be those that it passes on, oldest first: "
            f"{len(expected)} expected, {len(got)} got{order}",
        )
