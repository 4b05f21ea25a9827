"""Finds the accesses of a block to one buffer, element by element."""

from ...dialects.nest.program import Block, Body, Guard, Store, walk
from ...dialects.nest.scalars import Load, Subscript, loads_of
from ...dialects.sym import Expression


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
