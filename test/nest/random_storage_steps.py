"""
Proposers of the steps on memory, tiles and matrices, for `random_schedules`.

`PROPOSERS` of this module holds those of all primitives but `blockize` and `tensorize`.
"""

from random import Random

from tilewright.dialects.nest.program import AxisKind, Program, Scope
from tilewright.transforms.schedule.matricize import AxisGroup, Matricize
from tilewright.transforms.schedule.primitive import Primitive
from tilewright.transforms.schedule.software_pipeline import SoftwarePipeline
from tilewright.transforms.schedule.storage import SetScope, StorageAlign
from tilewright.transforms.schedule.swizzle import SetSwizzle

from .random_data_steps import PROPOSERS, a_block, a_buffer
from .random_schedules import loops_of, proposes

__all__ = ["PROPOSERS"]


@proposes("set_scope")
def set_scope(program: Program, source: Random) -> Primitive | None:
    if not program.allocations:
        return None
    return SetScope(source.choice(program.allocations).name, source.choice(list(Scope)))


@proposes("storage_align")
def storage_align(program: Program, source: Random) -> Primitive | None:
    block = a_block(program, source)
    buffer = a_buffer(block, source, is_written=True)
    return None if buffer is None else StorageAlign(block.name, buffer, 0, 8, source.randrange(8))


@proposes("set_swizzle")
def set_swizzle(program: Program, source: Random) -> Primitive | None:
    if not program.allocations:
        return None
    return SetSwizzle(source.choice(program.allocations).name, source.choice((0, 32, 64)))


@proposes("software_pipeline")
def software_pipeline(program: Program, source: Random) -> Primitive | None:
    loops = [loop for loop in loops_of(program) if len(loop.body) > 1]
    if not loops:
        return None
    loop = source.choice(loops)
    last = len(loop.body) - 1
    stages = (*([0] * last), source.choice((1, 2)))
    return SoftwarePipeline(loop.name, stages, tuple(range(last + 1)))


@proposes("matricize")
def matricize(program: Program, source: Random) -> Primitive | None:
    block = a_block(program, source)
    groups = tuple(
        AxisGroup(f"m{number}", (axis.name,), source.choice((1, 2, 3)))
        for number, axis in enumerate(block.axes)
        if axis.kind is not AxisKind.ORDERED
    )
    layouts: list[tuple[str, tuple[str, ...]]] = []
    for region in dict.fromkeys((*block.reads, *block.writes)):
        used = {name for part in region.ranges for name in part.start.symbols()}
        layouts.append((region.buffer, tuple(g.name for g in groups if g.axes[0] in used)))
    return Matricize(block.name, groups, tuple(dict(layouts).items()))
