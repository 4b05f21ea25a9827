"""Changes the order of nested loops, and that of a block's axes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from ...dialects.nest.dependences import (
    Dependence,
    Dependences,
    feeds,
    feeds_only_reduce,
    is_first_at_zero,
    is_private,
)
from ...dialects.nest.program import AxisKind, Block, Body, Call, Loop, LoopKind, Program, walk
from ...dialects.nest.structure import blocks_in, combiner_of
from .primitive import Primitive, place_of


@dataclass(frozen=True)
class Reorder(Primitive):
    """
    Nests loops in the order that is given, outermost first.

        for i in 0..n              for k in 0..8
            for j in 0..16            for j in 0..16
                for k in 0..8   -->       for i in 0..n
                    @B ...                    @B ...

    The loops take one another's places; loops between them that are not named stay in theirs.

    Legal if

    - `nested`: the loops are all on one way down, and each loop from the outermost to the
      innermost of them is all that the body of the one around it holds,
    - `rectangular`: no extent names a loop that would be inside,
    - `vectorized`: a vectorised loop stays the innermost,
    - `ordered`: loops that feed ordered axes of a block keep their order,
    - `dependence`: where two iterations touch the same element and one writes it, the loops in
      which they differ keep their order. An update by a combiner may change it if these loops
      feed reduce axes only: the result changes by rounding. So may buffers of which each
      iteration writes all that it reads,
    - `init-first`: an init still runs before the first update of each element.
    """

    name: ClassVar[str] = "reorder"

    loops: tuple[str, ...]

    def apply(self, program: Program) -> Program:
        """Returns the program with the loops in their new order."""
        if len(self.loops) < 2 or len(set(self.loops)) < len(self.loops):
            raise self.refused(
                "loops", f"expected two different loops or more, got {', '.join(self.loops)}"
            )
        chain = self._chain(program)
        named = [self.loop_of(program, name) for name in self.loops]
        places = [place for place, loop in enumerate(chain) if loop.name in self.loops]
        order = list(chain)
        for place, loop in zip(places, named, strict=True):
            order[place] = loop
        if all(new is old for new, old in zip(order, chain, strict=True)):
            return program
        self._check_extents(program, order)
        self._check_ordered(program, chain, order)
        self._check_dependences(program, chain, order)
        body: Body = chain[-1].body
        for loop in reversed(order):
            body = (replace(loop, body=body),)
        return program.replace(chain[0].name, *body)

    def _chain(self, program: Program) -> list[Loop]:
        """Returns the loops from the outermost to the innermost of those named."""
        named = [self.loop_of(program, name) for name in self.loops]
        innermost = max(named, key=lambda loop: len(program.places[loop.name]))
        path = program.places[innermost.name]
        for loop in named:
            if all(loop is not part for part in path):
                raise self.refused(
                    "nested",
                    f"expected loops around one another, got '{loop.name}', which is not "
                    f"around '{innermost.name}'",
                    place_of(path),
                    "reorder loops of one nest",
                )
        chain = path[min(len(program.places[loop.name]) for loop in named) - 1 :]
        loops: list[Loop] = []
        for outer, inner in zip(chain, (*chain[1:], None), strict=True):
            is_whole = inner is None or len(outer.body) == 1
            if not isinstance(outer, Loop) or not is_whole:
                got = "statements beside it" if isinstance(outer, Loop) else "a block between"
                raise self.refused(
                    "nested",
                    f"expected each loop to be all that is in the one around it, got {got}",
                    place_of(path),
                    "move what is beside it out of the loops first",
                )
            loops.append(outer)
        return loops

    def _check_extents(self, program: Program, order: list[Loop]) -> None:
        for place, loop in enumerate(order):
            inside = {inner.name for inner in order[place:]}
            if others := loop.extent.symbols() & inside:
                raise self.refused(
                    "rectangular",
                    f"expected an extent over the loops around it, got {loop.extent} over "
                    f"'{min(others)}'",
                    place_of(program.places[loop.name]),
                    f"keep '{min(others)}' outside",
                )
            if loop.kind is LoopKind.VECTORIZED and loop is not order[-1]:
                raise self.refused(
                    "vectorized",
                    f"expected the vectorised loop '{loop.name}' to stay the innermost",
                    place_of(program.places[loop.name]),
                    "reorder before the loop is vectorised",
                )

    def _check_ordered(self, program: Program, chain: list[Loop], order: list[Loop]) -> None:
        for block in blocks_in(chain[-1].body):
            names = {loop.name for loop in chain if AxisKind.ORDERED in feeds(block, loop.name)}
            if _swapped(names, chain, order):
                raise self.refused(
                    "ordered",
                    f"expected {_listed(names)}, which feed ordered axes of '{block.name}', "
                    "to keep their order",
                    place_of(program.places[block.name]),
                    "keep these loops in their order",
                )

    def _check_dependences(self, program: Program, chain: list[Loop], order: list[Loop]) -> None:
        found = Dependences(program, chain[0].name)
        names = {loop.name for loop in chain}
        private: dict[str, bool] = {}
        for pair in found.all:
            carriers = pair.carriers & names
            if not _swapped(carriers, chain, order):
                continue
            buffer = pair.first.buffer
            if buffer not in private:
                private[buffer] = is_private(program, chain[-1].name, buffer)
            if not private[buffer]:
                self._check_pair(program, pair, carriers)

    def _check_pair(self, program: Program, pair: Dependence, carriers: frozenset[str]) -> None:
        block = pair.first.block if pair.is_of_one_block else None
        if block is None or not _is_update(block, carriers):
            raise self.refused(
                "dependence",
                f"expected {_listed(carriers)} to keep their order, because {pair.text}",
                "" if block is None else place_of(program.places[block.name]),
                "keep these loops in their order, or move one of the blocks out of them",
            )
        if block.init and not is_first_at_zero(block, carriers, program):
            raise self.refused(
                "init-first",
                f"expected the init of '{block.name}' to stay before its updates; "
                f"it is not proved for {_listed(carriers)}",
                place_of(program.places[block.name]),
                "decompose the reduction first",
            )


def _is_update(block: Block, carriers: frozenset[str]) -> bool:
    """Whether points of a block may be exchanged along the loops."""
    if not all(feeds_only_reduce(block, loop) for loop in carriers):
        return False
    return combiner_of(block) is not None or _is_intrinsic_update(block)


def _is_intrinsic_update(block: Block) -> bool:
    """Whether a block does nothing but update what it writes by intrinsics."""
    parts = [part for part in walk(block.body) if not isinstance(part, Loop | Block)]
    return bool(parts) and all(
        isinstance(part, Call) and all(o.is_read for o in part.operands if o.is_written)
        for part in parts
    )


def _swapped(names: set[str] | frozenset[str], old: Sequence[Loop], new: Sequence[Loop]) -> bool:
    """Whether two of the named loops are in another order."""
    before = [loop.name for loop in old if loop.name in names]
    return before != [loop.name for loop in new if loop.name in names]


def _listed(names: set[str] | frozenset[str]) -> str:
    return ", ".join(f"'{name}'" for name in sorted(names))


@dataclass(frozen=True)
class ReorderBlockAxes(Primitive):
    """
    Lists the axes of a block in another order.

        @B vi = i, vj = j, vk = k   -->   @B vk = k, vi = i, vj = j

    The order means nothing to the computation; a tensor intrinsic is matched by it.

    Legal if `permutation`: each axis of the block is named once.
    """

    name: ClassVar[str] = "reorder_block_axes"

    block: str
    axes: tuple[str, ...]

    def apply(self, program: Program) -> Program:
        """Returns the program with the axes of the block in their new order."""
        block = self.block_of(program, self.block)
        by_name = {axis.name: axis for axis in block.axes}
        if sorted(self.axes) != sorted(by_name):
            raise self.refused(
                "permutation",
                f"expected each of {', '.join(by_name)} once, got {', '.join(self.axes)}",
                place_of(program.places[self.block]),
                "name all axes of the block",
            )
        axes = tuple(by_name[name] for name in self.axes)
        return program.replace(self.block, replace(block, axes=axes))
