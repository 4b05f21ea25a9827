"""Moves the init of a reduction before a loop around it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from ...dialects.nest.copying import fresh_names
from ...dialects.nest.defects import ProgramError
from ...dialects.nest.dependences import Dependences, feeds, feeds_only_reduce
from ...dialects.nest.program import AxisKind, Block, Body, Loop, Program
from ...dialects.nest.regions import touched
from ...dialects.nest.rewriting import Substitution, substitute
from ...dialects.nest.sites import site_of
from ...dialects.nest.structure import writes_of
from ...dialects.nest.visits import check_visits
from ...dialects.sym import constant, symbol
from .legality import check_first_at_zero, substituted_bounds
from .primitive import Primitive, place_of


@dataclass(frozen=True)
class DecomposeReduction(Primitive):
    """
    Moves the init of a reduction into a block of its own, before a loop around the reduction.

        for i in 0..n                     for i in 0..n
            for k in 0..8                     @C_init vi = i: C[vi] = 0
                @C vi = i, vk = k     -->     for k in 0..8
                    init: C[vi] = 0               @C vi = i, vk = k
                    C[vi] += A[vi, vk]                C[vi] += A[vi, vk]

    The loops that feed spatial axes of the block, at the loop and inside it, are repeated around
    the init, with new names and of the same kinds.

    Legal if

    - `around`: the loop is around the block, in the same scope,
    - `init`: the block has an init, and its axes are spatial or reduce,
    - `outside`: no loop outside the given one feeds a reduce axis,
    - `pure`: a loop that feeds a reduce axis feeds no spatial one,
    - `first`: the reduce axes are all 0 only where the loops that feed them are,
    - `once`: elements that the block writes are reduced once inside the loop: the loops at it and
      inside that don't feed reduce axes are fixed by the element,
    - `untouched`: other blocks inside the loop don't write what the block writes or what its init
      reads, and read it only behind the block, in the same iteration,
    - `visits`: each element of what it writes is reduced, and in an iteration of loops that reduce
      it again the init comes first.
    """

    name: ClassVar[str] = "decompose_reduction"

    block: str
    loop: str
    names: tuple[str, ...] = ()

    def apply(self, program: Program) -> Program:
        """Returns the program with the init before the loop."""
        block, loop = self.block_of(program, self.block), self.loop_of(program, self.loop)
        loops = self._loops(program, block, loop)
        self._check_axes(program, block, loops)
        self._check_elements(program, block, loops)
        (name,) = self.result_names(program)
        init = self._init_nest(program, block, loops, name)
        updates = program.replace(self.block, replace(block, init=()))
        updates = updates.replace(self.loop, *init, updates.places[self.loop][-1])
        self._check_visits(updates)
        return updates

    def _check_visits(self, program: Program) -> None:
        """Refuses what is no more a reduction of all elements, once, when its init is elsewhere."""
        try:
            check_visits(program, *site_of(program, self.block))
        except ProgramError as error:
            raise self.refused(
                "visits",
                f"expected a reduction that is right without its init: {error}",
                place_of(program.places[self.block]),
                "decompose the reduction before it is moved by compute_at",
            ) from None

    def result_names(self, program: Program) -> tuple[str, ...]:
        """Returns the name of the block that holds the init."""
        return self.new_names(program, self.names, (f"{self.block}_init",))

    def _loops(self, program: Program, block: Block, loop: Loop) -> list[Loop]:
        """Returns the loops from the given one to the block."""
        path = program.places[self.block]
        depth = len(program.places[self.loop]) - 1
        inside = path[depth:-1]
        if depth >= len(path) or path[depth] is not loop:
            raise self.refused(
                "around",
                f"expected a loop around '{self.block}', got '{self.loop}'",
                place_of(path),
                "choose one of the loops around the block",
            )
        loops = [part for part in inside if isinstance(part, Loop)]
        if len(loops) < len(inside):
            raise self.refused(
                "around",
                f"expected loops only between '{self.loop}' and '{self.block}', got a block or "
                "condition",
                place_of(path),
                "choose a loop further inside",
            )
        return loops

    def _check_axes(self, program: Program, block: Block, loops: list[Loop]) -> None:
        place = place_of(program.places[self.block])
        if not block.init or block.axes_of(AxisKind.ORDERED):
            got = "an ordered axis" if block.init else "no init"
            raise self.refused("init", f"expected a block with an init, got {got}", place)
        inside = {loop.name for loop in loops}
        for loop in program.loops_around(self.block):
            kinds = set(feeds(block, loop.name))
            if AxisKind.REDUCE not in kinds:
                continue
            if loop.name not in inside:
                raise self.refused(
                    "outside",
                    f"expected all loops of reduce axes inside '{self.loop}', got '{loop.name}' "
                    "outside",
                    place,
                    f"decompose at '{loop.name}', or at a loop outside of it",
                )
            if kinds != {AxisKind.REDUCE}:
                raise self.refused(
                    "pure",
                    f"expected '{loop.name}' to feed reduce axes only, got a spatial one too",
                    place,
                    "fuse only loops of axes of one kind",
                )
        check_first_at_zero(self, program, block)

    def _check_elements(self, program: Program, block: Block, loops: list[Loop]) -> None:
        place = place_of(program.places[self.block])
        found = Dependences(program, self.loop)
        inits = touched(block.init, program.ranges, program.buffers)[0]
        needed = {region.buffer for region in inits}
        inside = {loop.name for loop in loops if not feeds_only_reduce(block, loop.name)}
        here = next(t.place for t in found.touches if t.block is block)
        for pair in found.all:
            if pair.first.buffer not in writes_of(block):
                continue
            ours = [touch for touch in (pair.first, pair.second) if touch.place == here]
            if len(ours) == 2 and (again := pair.carriers & inside):
                raise self.refused(
                    "once",
                    f"expected each element to be reduced once inside '{self.loop}', got "
                    f"'{min(again)}', whose iterations repeat some",
                    place,
                    f"decompose inside '{min(again)}'",
                )
            if len(ours) == 1:
                other = pair.first if pair.second is ours[0] else pair.second
                if other.is_write or other.place < here or pair.carriers:
                    raise self._touched_by(other.name, pair.first.buffer, place)
        for touch in found.touches:
            if touch.is_write and touch.buffer in needed:
                raise self._touched_by(touch.name, touch.buffer, place)

    def _touched_by(self, name: str, buffer: str, place: str) -> Exception:
        return self.refused(
            "untouched",
            f"expected '{buffer}' to be left alone by others inside '{self.loop}', got {name}",
            place,
            "decompose at a loop further inside",
        )

    def _init_nest(self, program: Program, block: Block, loops: Sequence[Loop], name: str) -> Body:
        kept = [loop for loop in loops if AxisKind.SPATIAL in feeds(block, loop.name)]
        fresh = fresh_names((loop.name for loop in kept), {*program.names, name})
        image: Substitution = {
            loop.name: symbol(fresh[loop.name]) if loop.name in fresh else constant(0)
            for loop in loops
        }
        axes = tuple(
            replace(axis, binding=axis.binding.substitute(image))
            for axis in block.axes_of(AxisKind.SPATIAL)
        )
        predicate = substituted_bounds(block.predicate, image)
        ranges = program.ranges
        for axis in axes:
            ranges = ranges.also(axis.name, 0, axis.extent - 1)
        at_zero = {axis.name: constant(0) for axis in block.axes_of(AxisKind.REDUCE)}
        inits = substitute(block.init, at_zero)
        reads, writes = touched(inits, ranges, program.buffers)
        body: Body = (Block(name, axes, reads, writes, inits, predicate=predicate),)
        for loop in reversed(kept):
            extent = loop.extent.substitute(image)
            body = (replace(loop, name=fresh[loop.name], extent=extent, body=body),)
        return body
