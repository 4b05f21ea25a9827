"""Accesses that leave their buffers for every value of the symbols."""

from collections.abc import Iterator

from ..sym import Expression, prove_le, prove_lt
from .defects import ProgramError
from .program import Block, Body, Loop, Program, Store
from .regions import Access, Extents, accesses_of, bounds_over


def check_inside(program: Program) -> None:
    """
    Raises ProgramError for an access that is provably out of its buffer's bounds.

    Indices that are linear in loops and axes take their least and greatest value. What stands below
    a condition or a predicate may not happen at these, and is left to who executes it; so are
    indices that depend on data.
    """
    for place, access in _unconditional(program.body, {}, ""):
        shape = program.buffers[access.buffer].shape
        for axis, (index, extent) in enumerate(zip(access.indices, shape, strict=True)):
            if not isinstance(index, Expression) or index.depth:
                continue
            if access.extents.get(index.symbol_name or "") == extent:
                continue
            if (bounds := bounds_over(index, access.extents)) is None:
                continue
            low, high = bounds
            if prove_lt(low, 0, program.ranges) or prove_le(extent, high, program.ranges):
                raise ProgramError(
                    f"expects indices of '{access.buffer}' from 0 to {extent - 1} on axis {axis}, "
                    f"got {index} from {low} to {high}",
                    place=place,
                    condition="inside",
                )


def _unconditional(body: Body, extents: Extents, place: str) -> Iterator[tuple[str, Access]]:
    """Yields the accesses that no condition is around, with the block that they stand in."""
    for access in accesses_of(tuple(part for part in body if isinstance(part, Store)), extents):
        yield place, access
    for part in body:
        if isinstance(part, Loop):
            yield from _unconditional(part.body, {**extents, part.name: part.extent}, place)
        elif isinstance(part, Block) and not part.predicate:
            inner = {**extents, **{axis.name: axis.extent for axis in part.axes}}
            yield from _unconditional((*part.init, *part.body), inner, part.name)
