"""Finds the accesses of a block to one buffer, element by element."""

from collections.abc import Sequence

from ...dialects.nest.index_map import IndexMap, IndexMapError
from ...dialects.nest.program import Axis, Block, Body, Guard, Store, walk
from ...dialects.nest.scalars import Load, Subscript, loads_of
from ...dialects.sym import Expression, Ranges, prove_lt


def loads_in(body: Body) -> list[Load]:
    """Returns every load of statements, those of blocks inside included."""
    found: list[Load] = []
    for statement in walk(body):
        match statement:
            case Store(_, indices, value):
                found.extend(loads_of(value))
                for index in indices:
                    if not isinstance(index, Expression):
                        found.extend(loads_of(index))
            case Guard(condition, _):
                found.extend(loads_of(condition))
            case _:
                pass
    return found


def indices_in(block: Block, buffer: str) -> set[tuple[Subscript, ...]]:
    """Returns the indices at which the statements of a block load from and store to a buffer."""
    body = (*block.init, *block.body)
    found = {load.indices for load in loads_in(body) if load.buffer == buffer}
    stores = (statement for statement in walk(body) if isinstance(statement, Store))
    return found | {store.indices for store in stores if store.buffer == buffer}


def are_distinct(indices: Sequence[Subscript], axes: Sequence[Axis], ranges: Ranges) -> bool:
    """Whether different points of axes are proved to have different indices."""
    known = [index for index in indices if isinstance(index, Expression)]
    if len(known) < len(indices):
        return False
    at_zero = dict.fromkeys((axis.name for axis in axes), 0)
    moving = (index - index.substitute(at_zero) for index in known)
    # An index that falls where its one axis rises tells as much as one that rises.
    outputs = tuple(-index if (-index).symbol_name in at_zero else index for index in moving)
    index_map = IndexMap(tuple(at_zero), outputs)
    try:
        digits = [digit for output in outputs for digit in index_map.digits(output)]
        if not all(prove_lt(0, digit.scale, ranges) for digit in digits):
            return False
        index_map.inverse([axis.extent for axis in axes], ranges)
    except IndexMapError:
        return False
    return True
