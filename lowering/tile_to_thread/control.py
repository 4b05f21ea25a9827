"""Loops, branches and the ops that a thread does as they stand."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext

from xdsl.dialects import arith, scf
from xdsl.ir import Block, Operation, Region, SSAValue

from ...dialects import tile
from ...dialects.diagnostic import error_at
from ..creation import new_block, new_region, ops_of
from .compute import COMPUTE_RULES
from .confine import CONFINE_RULES
from .device import DEVICE_RULES
from .memory import MEMORY_RULES
from .rewrite import REWRITE_RULES
from .rules import Rule
from .teams import TEAM_RULES
from .thread import Thread, copy_with
from .widen import WIDEN_RULES

RULES: Mapping[type[Operation], Rule] = {
    **MEMORY_RULES,
    **COMPUTE_RULES,
    **CONFINE_RULES,
    **TEAM_RULES,
    **DEVICE_RULES,
    **REWRITE_RULES,
    **WIDEN_RULES,
}

# The dialects whose ops on scalars mean the same for a CTA and for its threads.
_SCALAR_DIALECTS = ("arith", "math", "llvm", "gpu")


def lower_block(thread: Thread, block: Block) -> Sequence[SSAValue]:
    """Appends what a block does; returns what its terminator passes on."""
    for op in ops_of(block):
        thread.emit.location = op.location
        # Ops are of an abstract class: to ask for the very class is many times faster.
        if type(op) in (scf.YieldOp, scf.ConditionOp, tile.ReturnOp):
            return [thread[operand] for operand in op.operands]
        lower_op(thread, op)
    return ()


def lower_op(thread: Thread, op: Operation) -> None:
    """Appends what one op does."""
    if (rule := RULES.get(type(op))) is not None:
        rule(thread, op)
    elif type(op) is scf.ForOp:
        _lower_for(thread, op)
    elif type(op) is scf.IfOp:
        _lower_if(thread, op)
    elif type(op) is scf.WhileOp:
        _lower_while(thread, op)
    elif type(op) is arith.ConstantOp:
        thread.values[op.result] = thread.emit.constant_of(op)
    elif op.dialect_name() in _SCALAR_DIALECTS and not op.regions:
        copy = copy_with(op, [thread[operand] for operand in op.operands])
        thread.emit.append(copy)
        thread.values.update(zip(op.results, copy.results, strict=True))
    else:
        raise error_at(op, "has no meaning for one thread")


def _lower_for(thread: Thread, loop: scf.ForOp) -> None:
    emit, source = thread.emit, loop.body.block
    lower, upper, step = thread[loop.lb], thread[loop.ub], thread[loop.step]
    carried = [thread[value] for value in loop.iter_args]
    types = [value.type for value in carried]
    block = new_block([lower.type, *types])
    thread.values.update(zip(source.args, block.args, strict=True))
    with emit.into(block):
        emit.op(scf.YieldOp, *lower_block(thread, source))
    emit.location = loop.location
    copy = emit.with_regions(scf.ForOp, (lower, upper, step, *carried), types, new_region(block))
    copy.attributes = dict(loop.attributes)
    thread.values.update(zip(loop.results, copy.results, strict=True))


def _lower_while(thread: Thread, loop: scf.WhileOp) -> None:
    emit = thread.emit
    regions: list[Region] = []
    for region, terminator in zip(loop.regions, (scf.ConditionOp, scf.YieldOp), strict=True):
        source = region.block
        block = Block(arg_types=[value.type for value in source.args])
        thread.values.update(zip(source.args, block.args, strict=True))
        with emit.into(block):
            emit.op(terminator, *lower_block(thread, source))
        regions.append(Region(block))
    emit.location = loop.location
    carried = [thread[value] for value in loop.arguments]
    types = [result.type for result in loop.results]
    copy = emit.with_regions(scf.WhileOp, carried, types, *regions)
    thread.values.update(zip(loop.results, copy.results, strict=True))


def _lower_if(thread: Thread, branch: scf.IfOp) -> None:
    emit = thread.emit
    regions: list[Region] = []
    types: list[SSAValue] = []
    for region in branch.regions:
        if not region.blocks:
            regions.append(new_region())
            continue
        block = new_block(())
        has_loops = any(type(op) is scf.ForOp for op in ops_of(region.block))
        shared = thread.lanes.within(block) if has_loops else nullcontext()
        with shared, emit.into(block):
            types = list(lower_block(thread, region.block))
            emit.op(scf.YieldOp, *types)
        regions.append(new_region(block))
    emit.location = branch.location
    results = [value.type for value in types]
    copy = emit.with_regions(scf.IfOp, (thread[branch.cond],), results, *regions)
    thread.values.update(zip(branch.results, copy.results, strict=True))
