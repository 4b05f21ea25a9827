"""Keeps Python's garbage collector out of a compilation, and leaves it nothing behind."""

# What links ops in circles are xDSL's own fields.
# pyright: reportPrivateUsage=false

import gc
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from xdsl.ir import Operation
from xdsl.ir.core import SSAValues

from .creation import ops_of

_NO_VALUES: SSAValues[Any] = SSAValues()


@contextmanager
def paused_collection() -> Generator[None]:
    """
    Pauses the collector of cycles, unless it is paused already.

    A compilation makes many objects and drops few of them before its end. The collector would look
    at all of them several times, and now and then at everything that the process has imported,
    which takes longer than the compilation.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def take_apart(program: Operation) -> None:
    """
    Frees an op that stands in no block, and all that it contains; none may be used any more.

    Ops, their results and their blocks refer to each other in circles, which only the collector
    would find: that takes several times longer. What else refers to a result keeps its type.
    """
    ops = [program]
    for op in ops:
        for use in op._operand_uses:
            use._prev_use = None
        for region in op.regions:
            for block in region.blocks:
                ops += ops_of(block)
                block._first_op = block._last_op = block.parent = block._prev_block = None
                block._args = ()
            region._first_block = region._last_block = None
        op.regions = op._operand_uses = op._successor_uses = ()
        op.results = op._operands = _NO_VALUES
        op._prev_op = None
