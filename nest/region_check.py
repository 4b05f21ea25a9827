"""Whether the regions of a block cover what its statements touch, at points of its axes."""

from collections.abc import Mapping

import numpy as np

from ..dialects.nest.program import Block, Program, Region
from ..dialects.sym import Expression
from ..transforms.independence import Integers, Touch, evaluate_on, touches_of
from .concrete import Descriptions, undivided

MAX_POINTS = 1 << 14


def uncovered(
    program: Program,
    block: Block,
    symbols: Mapping[str, int],
    descriptions: Descriptions,
    generator: np.random.Generator,
) -> str | None:
    """
    Returns what a block touches outside of its regions, as a sentence; None for nothing.

    All points of the axes and inner loops are looked at, or random ones where they are too many.
    Indices that depend on data are left out.
    """
    body = undivided(program, symbols, descriptions, (*block.init, *block.body)).body
    axes = {
        axis.name: axis.extent.substitute(symbols)
        for part in program.places[block.name]
        if isinstance(part, Block)
        for axis in part.axes
    }
    for touch in touches_of(body):
        regions = block.writes if touch.is_write else block.reads
        mine = [region for region in regions if region.buffer == touch.buffer]
        what = "writes" if touch.is_write else "reads"
        if not mine:
            return f"block '{block.name}': expected a region of '{touch.buffer}' that it {what}"
        names = _points(touch, axes, symbols, generator)
        if names is not None and (place := _outside(touch, mine, names, symbols)) is not None:
            return (
                f"block '{block.name}': expected its region to hold '{touch.buffer}'"
                f"{place}, which it {what}"
            )
    return None


def _points(
    touch: Touch,
    axes: Mapping[str, Expression],
    symbols: Mapping[str, int],
    generator: np.random.Generator,
) -> dict[str, Integers] | None:
    """Returns values of axes and inner loops, a point each; None where extents are unknown."""
    extents = dict(axes)
    for loop in touch.loops:
        extents[loop.name] = loop.extent.substitute(symbols)
    sizes = [extent.constant_value for extent in extents.values()]
    counts = [size for size in sizes if size is not None]
    if len(counts) < len(sizes) or 0 in counts:
        return None
    if not counts:
        return {}
    if int(np.prod(counts, dtype=np.int64)) <= MAX_POINTS:
        grids = np.indices(counts, dtype=np.int64).reshape(len(counts), -1)
    else:
        grids = np.stack([generator.integers(0, count, MAX_POINTS) for count in counts])
    names = dict(zip(extents, grids, strict=True))
    made = np.ones(grids.shape[-1], np.bool_)
    for condition in touch.where:
        if condition.symbols() <= names.keys():
            made &= np.asarray(evaluate_on(condition, names)) > 0
    return {name: values[made] for name, values in names.items()}


def _outside(
    touch: Touch, regions: list[Region], names: Mapping[str, Integers], symbols: Mapping[str, int]
) -> list[int] | None:
    """Returns an element that none of the regions holds, if there is one."""
    known = {**symbols, **names}
    count = max((values.size for values in names.values()), default=1)
    columns: list[Integers] = []
    covered = np.zeros(count, np.bool_)
    for index in touch.indices:
        values = evaluate_on(index, known) if isinstance(index, Expression) else 0
        columns.append(np.broadcast_to(np.asarray(values, np.int64), (count,)))
    for region in regions:
        inside = np.ones(count, np.bool_)
        for index, values, part in zip(touch.indices, columns, region.ranges, strict=True):
            if isinstance(index, Expression):
                start, extent = (evaluate_on(p, known) for p in (part.start, part.extent))
                inside &= (values >= start) & (values < start + extent)
        covered |= inside
    if covered.all():
        return None
    first = int(np.flatnonzero(~covered)[0])
    return [int(column[first]) for column in columns]
