"""
Proposers of the steps on memory, tiles and matrices, for `random_schedules`.

`PROPOSERS` of this module holds those of all primitives.
"""

from random import Random

from tilewright.dialects.nest.program import AxisKind, Program, Scope, Store
from tilewright.dialects.nest.program import blocks_of as all_blocks
from tilewright.dialects.nest.scalars import Load
from tilewright.transforms.schedule.blockize import Blockize
from tilewright.transforms.schedule.matricize import AxisGroup, Matricize
from tilewright.transforms.schedule.primitive import Primitive
from tilewright.transforms.schedule.software_pipeline import SoftwarePipeline
from tilewright.transforms.schedule.storage import SetScope, StorageAlign
from tilewright.transforms.schedule.swizzle import SetSwizzle
from tilewright.transforms.schedule.tensorize import Tensorize

from .random_data_steps import PROPOSERS, a_block, a_buffer
from .random_schedules import loops_of, proposes

__all__ = ["PROPOSERS"]

DTYPE_BYTES = {"f64": 8, "i64": 8, "f32": 4, "i32": 4, "f16": 2, "bf16": 2, "i16": 2, "i8": 1}


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


@proposes("blockize")
def blockize(program: Program, source: Random) -> Primitive | None:
    # Blocks around blocks make programs grow; a few say all that many do.
    if len(list(all_blocks(program.body))) > 6:
        return None
    return Blockize(source.choice(list(program.places)))


@proposes("tensorize")
def tensorize(program: Program, source: Random) -> Primitive | None:
    """Draws a copy of 4, 8 or 16 bytes: products on tensor cores are too large to come by."""
    choices: list[tuple[str, int, str]] = []
    for block in all_blocks(program.body):
        around = program.loops_around(block.name)
        match block.body:
            case (Store(buffer, _, Load()),) if around:
                dtype, count = program.buffers[buffer].dtype, around[-1].extent.constant_value
                size = (count or 0) * DTYPE_BYTES.get(dtype, 0)
                if size in (4, 8, 16):
                    choices.append((around[-1].name, size, dtype))
            case _:
                pass
    if not choices:
        return None
    loop, size, dtype = source.choice(choices)
    return Tensorize(loop, f"{source.choice(('copy', 'cp.async'))}.{size}.{dtype}")
