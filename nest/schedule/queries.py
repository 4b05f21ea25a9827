"""Looks up loops and blocks of a schedule."""

from ...dialects.nest import structure
from .state import BlockHandle, BlockLike, LoopHandle, ScheduleState


class Queries(ScheduleState):
    """What a schedule answers about its program."""

    def block(self, name: str) -> BlockHandle:
        """Returns a block by name."""
        return self.block_handle(name)

    def loop(self, name: str) -> LoopHandle:
        """Returns a loop by name."""
        return self.loop_handle(name)

    def loops(self, target: BlockLike | LoopHandle) -> tuple[LoopHandle, ...]:
        """Returns the loops around a block or loop, outermost first, as far as its scope goes."""
        name = self.target_name(target)
        if name not in self.program.places:
            self.block_handle(name)
        scope = structure.scope_of(self.program, name)
        outer = set[str]() if scope is None else {*self._names_around(scope.name)}
        return self.loop_handles(n for n in self._names_around(name) if n not in outer)

    def blocks(self) -> tuple[BlockHandle, ...]:
        """Returns the blocks of the program, without those inside others."""
        return self.block_handles(structure.blocks_in(self.program.body))

    def child_blocks(self, target: BlockLike | LoopHandle) -> tuple[BlockHandle, ...]:
        """Returns the outermost blocks inside a block or loop."""
        name = self.target_name(target)
        if name not in self.program.places:
            self.block_handle(name)
        return self.block_handles(structure.child_blocks(self.program, name))

    def producers(self, block: BlockLike) -> tuple[BlockHandle, ...]:
        """Returns the blocks before a block that write what it reads."""
        name = self.block_handle(self.block_name(block)).name
        return self.block_handles(structure.producers(self.program, name))

    def consumers(self, block: BlockLike) -> tuple[BlockHandle, ...]:
        """Returns the blocks behind a block that read what it writes."""
        name = self.block_handle(self.block_name(block)).name
        return self.block_handles(structure.consumers(self.program, name))

    def output_blocks(self) -> tuple[BlockHandle, ...]:
        """Returns the blocks that write a buffer of the caller's."""
        return self.block_handles(structure.output_blocks(self.program))

    def _names_around(self, name: str) -> tuple[str, ...]:
        return tuple(loop.name for loop in self.program.loops_around(name))
