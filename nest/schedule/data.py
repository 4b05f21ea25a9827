"""Steps of a schedule that move computation and data."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from ...dialects.nest.index_map import IndexMap
from ...dialects.nest.program import Scope
from ...dialects.sym import Expression
from ...transforms.schedule.caching import CacheInplace, CacheRead, CacheWrite
from ...transforms.schedule.compute_at import ComputeAt, ReverseComputeAt
from ...transforms.schedule.copies_at import ReadAt, WriteAt
from ...transforms.schedule.decompose_padding import DecomposePadding
from ...transforms.schedule.inlining import ComputeInline, ReverseComputeInline
from ...transforms.schedule.layout import TransformBlockLayout, TransformLayout
from ...transforms.schedule.pad_einsum import PadEinsum
from ...transforms.schedule.primitive import Primitive
from ...transforms.schedule.reduction_epilogue import FuseReductionEpilogue
from ...transforms.schedule.reindexing import Reindex, ReindexCacheRead, ReindexCacheWrite
from ...transforms.schedule.rolling_buffer import RollingBuffer
from ...transforms.schedule.storage import SetDtype, SetScope, StorageAlign
from ...transforms.schedule.swizzle import SetSwizzle
from .state import BlockHandle, BlockLike, LoopHandle, LoopLike, ScheduleState

AnyMap: TypeAlias = IndexMap | str | Callable[..., Sequence[Expression | int]]


def _index_map(given: AnyMap) -> IndexMap:
    if isinstance(given, str):
        return IndexMap.parse(given)
    return given if isinstance(given, IndexMap) else IndexMap.of(given)


class DataSteps(ScheduleState):
    """What a schedule does to buffers and to the places of blocks."""

    def cache_read(
        self,
        block: BlockLike,
        buffer: str,
        scope: Scope | str,
        *,
        consumers: Sequence[BlockLike] = (),
        cache: str = "",
        names: Sequence[str] = (),
    ) -> BlockHandle:
        """Copies a buffer before its readers, which read the copy then; returns its block."""
        readers = tuple(map(self.block_name, consumers))
        return self._copied(
            CacheRead(self.block_name(block), buffer, _scope(scope), cache, tuple(names), readers)
        )

    def cache_write(
        self,
        block: BlockLike,
        buffer: str,
        scope: Scope | str,
        *,
        cache: str = "",
        names: Sequence[str] = (),
    ) -> BlockHandle:
        """Lets a block write a copy, copied to the buffer behind it; returns the copy's block."""
        name = self.block_name(block)
        return self._copied(CacheWrite(name, buffer, _scope(scope), cache, tuple(names)))

    def cache_inplace(
        self,
        block: BlockLike,
        buffer: str,
        scope: Scope | str,
        *,
        cache: str = "",
        names: Sequence[str] = (),
    ) -> tuple[BlockHandle, BlockHandle]:
        """Copies a buffer before a block that changes it, and back; returns both blocks."""
        name = self.block_name(block)
        step = CacheInplace(name, buffer, _scope(scope), cache, tuple(names))
        made = self.step_naming(step)
        return self.block_handle(made[0]), self.block_handle(made[len(made) // 2])

    def reindex(
        self, block: BlockLike, buffer: str, *, cache: str = "", names: Sequence[str] = ()
    ) -> BlockHandle:
        """Copies a buffer so that a block indexes it by its axes; returns the copy's block."""
        return self._copied(Reindex(self.block_name(block), buffer, cache, tuple(names)))

    def reindex_cache_read(
        self,
        block: BlockLike,
        buffer: str,
        scope: Scope | str,
        index_map: AnyMap,
        *,
        cache: str = "",
        names: Sequence[str] = (),
    ) -> BlockHandle:
        """Copies a buffer into a layout given by a block's axes; returns the copy's block."""
        return self._copied(
            ReindexCacheRead(
                self.block_name(block),
                buffer,
                _scope(scope),
                _index_map(index_map),
                cache,
                tuple(names),
            )
        )

    def reindex_cache_write(
        self,
        block: BlockLike,
        buffer: str,
        scope: Scope | str,
        index_map: AnyMap,
        *,
        cache: str = "",
        names: Sequence[str] = (),
    ) -> BlockHandle:
        """Lets a block write a copy in a layout given by its axes; returns the copy's block."""
        return self._copied(
            ReindexCacheWrite(
                self.block_name(block),
                buffer,
                _scope(scope),
                _index_map(index_map),
                cache,
                tuple(names),
            )
        )

    def read_at(
        self, loop: LoopLike, block: BlockLike, buffer: str, scope: Scope | str, *, cache: str = ""
    ) -> BlockHandle:
        """Copies under a loop what the block reads; returns the block that copies."""
        step = ReadAt(self.loop_name(loop), self.block_name(block), buffer, _scope(scope), cache)
        return self._copied_at(step)

    def write_at(
        self, loop: LoopLike, block: BlockLike, buffer: str, scope: Scope | str, *, cache: str = ""
    ) -> BlockHandle:
        """Copies back under a loop what the block writes; returns the block that copies."""
        step = WriteAt(self.loop_name(loop), self.block_name(block), buffer, _scope(scope), cache)
        return self._copied_at(step)

    def _copied_at(self, step: ReadAt | WriteAt) -> BlockHandle:
        name = step.steps(self.program)[2]
        self.step(step)
        return self.block_handle(name)

    def compute_at(
        self, block: BlockLike, loop: LoopLike, *, names: Sequence[str] = ()
    ) -> tuple[LoopHandle, ...]:
        """Moves a producer under a loop, to make what is read there; returns its new loops."""
        return self._moved(ComputeAt(self.block_name(block), self.loop_name(loop), tuple(names)))

    def reverse_compute_at(
        self, block: BlockLike, loop: LoopLike, *, names: Sequence[str] = ()
    ) -> tuple[LoopHandle, ...]:
        """Moves a consumer under a loop, to use what is made there; returns its new loops."""
        step = ReverseComputeAt(self.block_name(block), self.loop_name(loop), tuple(names))
        return self._moved(step)

    def compute_inline(self, block: BlockLike) -> None:
        """Puts what an elementwise block computes into its readers, and removes it."""
        self.step(ComputeInline(self.block_name(block)))

    def reverse_compute_inline(self, block: BlockLike) -> None:
        """Puts what an elementwise block computes into the block that it reads, and removes it."""
        self.step(ReverseComputeInline(self.block_name(block)))

    def fuse_reduction_epilogue(
        self,
        reduction: BlockLike,
        block: BlockLike,
        place: str = "",
        *,
        names: Sequence[str] = (),
    ) -> None:
        """Fuses the elementwise block behind a reduction, into its init or after its loops."""
        fused = (self.block_name(reduction), self.block_name(block))
        self.step(FuseReductionEpilogue(*fused, place, tuple(names)))

    def transform_layout(
        self,
        block: BlockLike,
        buffer: str,
        index_map: AnyMap,
        pad_value: int | float | None = None,
        *,
        names: Sequence[str] = (),
    ) -> None:
        """Stores a buffer of the program in another layout."""
        name, layout = self.block_name(block), _index_map(index_map)
        self.step(TransformLayout(name, buffer, layout, pad_value, tuple(names)))

    def transform_block_layout(
        self, block: BlockLike, index_map: AnyMap, *, names: Sequence[str] = ()
    ) -> tuple[LoopHandle, ...]:
        """Gives a block other axes and loops; returns the loops around it."""
        name = self.block_name(block)
        self.step(TransformBlockLayout(name, _index_map(index_map), tuple(names)))
        return self.loop_handles(loop.name for loop in self.program.loops_around(name))

    def pad_einsum(
        self, block: BlockLike, padding: Sequence[int], *, names: Sequence[str] = ()
    ) -> tuple[LoopHandle, ...]:
        """Pads the axes of a sum of products to multiples; returns the loops around it."""
        step = PadEinsum(self.block_name(block), tuple(padding), tuple(names))
        return self.loop_handles(self.step_naming(step))

    def decompose_padding(self, block: BlockLike, *, names: Sequence[str] = ()) -> BlockHandle:
        """Divides a block that pads into fill and copy; returns the block that fills."""
        return self._copied(DecomposePadding(self.block_name(block), tuple(names)))

    def rolling_buffer(self, block: BlockLike, buffer: str, loop: LoopLike | None = None) -> None:
        """Keeps the newest window of a buffer, which a block makes in windows along a loop."""
        name = "" if loop is None else self.loop_name(loop)
        self.step(RollingBuffer(self.block_name(block), buffer, name))

    def storage_align(
        self, block: BlockLike, buffer: str, axis: int, factor: int, offset: int
    ) -> None:
        """Makes the stride of an axis of a buffer `offset` modulo `factor` elements."""
        self.step(StorageAlign(self.block_name(block), buffer, axis, factor, offset))

    def set_scope(self, buffer: str, scope: Scope | str) -> None:
        """Lets a buffer of the program live elsewhere."""
        self.step(SetScope(buffer, _scope(scope)))

    def set_swizzle(self, buffer: str, period: int) -> None:
        """Exchanges 16-byte chunks of a shared buffer by their row, within a period of bytes."""
        self.step(SetSwizzle(buffer, period))

    def set_dtype(self, buffer: str, dtype: str, *, rounds: bool = False) -> None:
        """Stores a buffer of the program in another dtype; `rounds` agrees to lose precision."""
        self.step(SetDtype(buffer, dtype, rounds))

    def _copied(self, step: Primitive) -> BlockHandle:
        return self.block_handle(self.step_naming(step)[0])

    def _moved(self, step: Primitive) -> tuple[LoopHandle, ...]:
        before = frozenset(self.program.places)
        self.step(step)
        new = [name for name in self.program.places if name not in before]
        return self.loop_handles(name for name in new if self.program.loop(name) is not None)


def _scope(scope: Scope | str) -> Scope:
    # What is no scope is left to the primitive, which refuses it.
    return Scope(scope) if scope in set(Scope) else scope  # pyright: ignore[reportReturnType]
