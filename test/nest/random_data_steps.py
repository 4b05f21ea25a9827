"""
Proposers of the steps that move computation and data, for `random_schedules`.

`PROPOSERS` of this module holds these and those of the steps on loops and reductions.
"""

from random import Random

from tilewright.dialects.nest.index_map import IndexMap
from tilewright.dialects.nest.program import Block, Program, Scope
from tilewright.dialects.nest.program import blocks_of as all_blocks
from tilewright.dialects.sym import symbol
from tilewright.transforms.schedule.caching import CacheInplace, CacheRead, CacheWrite
from tilewright.transforms.schedule.compute_at import ComputeAt, ReverseComputeAt
from tilewright.transforms.schedule.copies_at import ReadAt, WriteAt
from tilewright.transforms.schedule.decompose_padding import DecomposePadding
from tilewright.transforms.schedule.inlining import ComputeInline, ReverseComputeInline
from tilewright.transforms.schedule.layout import TransformBlockLayout, TransformLayout
from tilewright.transforms.schedule.pad_einsum import PadEinsum
from tilewright.transforms.schedule.primitive import Primitive
from tilewright.transforms.schedule.reduction_epilogue import FuseReductionEpilogue
from tilewright.transforms.schedule.reindexing import Reindex, ReindexCacheRead, ReindexCacheWrite
from tilewright.transforms.schedule.rolling_buffer import RollingBuffer
from tilewright.transforms.schedule.storage import SetDtype

from .random_schedules import PROPOSERS, loops_of, proposes

__all__ = ["PROPOSERS"]

SCOPES = (Scope.SHARED, Scope.GLOBAL, Scope.LOCAL)


def a_block(program: Program, source: Random) -> Block:
    return source.choice(list(all_blocks(program.body)))


def a_buffer(block: Block, source: Random, *, is_written: bool) -> str | None:
    regions = block.writes if is_written else block.reads
    return source.choice(regions).buffer if regions else None


def a_loop_name(program: Program, source: Random) -> str | None:
    loops = loops_of(program)
    return source.choice(loops).name if loops else None


def a_map(rank: int, source: Random) -> IndexMap:
    names = tuple(f"x{number}" for number in range(rank))
    outputs = [symbol(name) for name in names]
    source.shuffle(outputs)
    if outputs and source.random() < 0.5:
        index, by = outputs.pop(), source.choice((2, 3, 4))
        outputs = [index // by, *outputs, index % by]
    return IndexMap(names, tuple(outputs))


@proposes("cache_read")
def cache_read(program: Program, source: Random) -> Primitive | None:
    block = a_block(program, source)
    buffer = a_buffer(block, source, is_written=False)
    return None if buffer is None else CacheRead(block.name, buffer, source.choice(SCOPES))


@proposes("cache_write")
def cache_write(program: Program, source: Random) -> Primitive | None:
    block = a_block(program, source)
    buffer = a_buffer(block, source, is_written=True)
    return None if buffer is None else CacheWrite(block.name, buffer, source.choice(SCOPES))


@proposes("cache_inplace")
def cache_inplace(program: Program, source: Random) -> Primitive | None:
    block = a_block(program, source)
    buffer = a_buffer(block, source, is_written=True)
    return None if buffer is None else CacheInplace(block.name, buffer, source.choice(SCOPES))


@proposes("compute_at")
def compute_at(program: Program, source: Random) -> Primitive | None:
    loop = a_loop_name(program, source)
    return None if loop is None else ComputeAt(a_block(program, source).name, loop)


@proposes("reverse_compute_at")
def reverse_compute_at(program: Program, source: Random) -> Primitive | None:
    loop = a_loop_name(program, source)
    return None if loop is None else ReverseComputeAt(a_block(program, source).name, loop)


@proposes("compute_inline")
def compute_inline(program: Program, source: Random) -> Primitive | None:
    return ComputeInline(a_block(program, source).name)


@proposes("reverse_compute_inline")
def reverse_compute_inline(program: Program, source: Random) -> Primitive | None:
    return ReverseComputeInline(a_block(program, source).name)


@proposes("fuse_reduction_epilogue")
def fuse_reduction_epilogue(program: Program, source: Random) -> Primitive | None:
    reductions = [block.name for block in all_blocks(program.body) if block.init]
    if not reductions:
        return None
    return FuseReductionEpilogue(source.choice(reductions), a_block(program, source).name)


@proposes("reindex")
def reindex(program: Program, source: Random) -> Primitive | None:
    block = a_block(program, source)
    buffer = a_buffer(block, source, is_written=source.random() < 0.3)
    return None if buffer is None else Reindex(block.name, buffer)


@proposes("reindex_cache_read")
def reindex_cache_read(program: Program, source: Random) -> Primitive | None:
    block = a_block(program, source)
    buffer = a_buffer(block, source, is_written=False)
    layout = _map_of_axes(block, buffer, source)
    if buffer is None or layout is None:
        return None
    return ReindexCacheRead(block.name, buffer, source.choice(SCOPES), layout)


@proposes("reindex_cache_write")
def reindex_cache_write(program: Program, source: Random) -> Primitive | None:
    block = a_block(program, source)
    buffer = a_buffer(block, source, is_written=True)
    layout = _map_of_axes(block, buffer, source)
    if buffer is None or layout is None:
        return None
    return ReindexCacheWrite(block.name, buffer, source.choice(SCOPES), layout)


def _map_of_axes(block: Block, buffer: str | None, source: Random) -> IndexMap | None:
    """Returns a map of all axes whose outputs are those that index the buffer, exchanged."""
    used = {
        name
        for region in (*block.reads, *block.writes)
        if region.buffer == buffer
        for part in region.ranges
        for name in part.start.symbols()
    }
    names = tuple(axis.name for axis in block.axes)
    outputs = [symbol(name) for name in names if name in used]
    source.shuffle(outputs)
    return IndexMap(names, tuple(outputs)) if outputs else None


@proposes("read_at")
def read_at(program: Program, source: Random) -> Primitive | None:
    block, loop = a_block(program, source), a_loop_name(program, source)
    buffer = a_buffer(block, source, is_written=False)
    if loop is None or buffer is None:
        return None
    return ReadAt(loop, block.name, buffer, source.choice(SCOPES))


@proposes("write_at")
def write_at(program: Program, source: Random) -> Primitive | None:
    block, loop = a_block(program, source), a_loop_name(program, source)
    buffer = a_buffer(block, source, is_written=True)
    if loop is None or buffer is None:
        return None
    return WriteAt(loop, block.name, buffer, source.choice(SCOPES))


@proposes("set_dtype")
def set_dtype(program: Program, source: Random) -> Primitive | None:
    if not program.allocations:
        return None
    return SetDtype(source.choice(program.allocations).name, source.choice(("f32", "f64", "i32")))


@proposes("transform_layout")
def transform_layout(program: Program, source: Random) -> Primitive | None:
    block = a_block(program, source)
    buffer = a_buffer(block, source, is_written=source.random() < 0.5)
    if buffer is None:
        return None
    layout = a_map(len(program.buffers[buffer].shape), source)
    return TransformLayout(block.name, buffer, layout, source.choice((None, 1)))


@proposes("transform_block_layout")
def transform_block_layout(program: Program, source: Random) -> Primitive | None:
    block = a_block(program, source)
    return TransformBlockLayout(block.name, a_map(len(block.axes), source))


@proposes("pad_einsum")
def pad_einsum(program: Program, source: Random) -> Primitive | None:
    block = a_block(program, source)
    return PadEinsum(block.name, tuple(source.choice((1, 2, 3, 4)) for _ in block.axes))


@proposes("decompose_padding")
def decompose_padding(program: Program, source: Random) -> Primitive | None:
    return DecomposePadding(a_block(program, source).name)


@proposes("rolling_buffer")
def rolling_buffer(program: Program, source: Random) -> Primitive | None:
    block = a_block(program, source)
    buffer = a_buffer(block, source, is_written=True)
    return None if buffer is None else RollingBuffer(block.name, buffer)
