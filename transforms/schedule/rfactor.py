"""Reduces to partial results first, and these in a second block."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from ...dialects.nest.copying import fresh_names
from ...dialects.nest.dependences import Dependences, feeds, feeds_only_reduce
from ...dialects.nest.program import (
    Axis,
    AxisKind,
    Block,
    Body,
    Bound,
    Buffer,
    Loop,
    LoopKind,
    Program,
    Scope,
    Store,
)
from ...dialects.nest.regions import ranges_inside, touched
from ...dialects.nest.rewriting import Substitution, substitute
from ...dialects.nest.scalars import Load, Subscript
from ...dialects.nest.structure import Update, child_blocks, not_reduction, update_of
from ...dialects.sym import Expression, constant, symbol
from .legality import check_first_at_zero, check_written, substituted_bounds
from .primitive import Primitive, place_of


@dataclass(frozen=True)
class RFactor(Primitive):
    """
    Reduces to one partial result for each iteration of a loop, and these in a second block.

        for i in 0..n                       for i in 0..n
            for o in 0..8                       for o in 0..8
                for u in 0..4                       for u in 0..4
                    @C vi = i, vk = 4*o + u    -->      @C_rf vu = u, vi = i, vo = o (reduce)
                        init: C[vi] = 0                     init: C_rf[vu, vi] = 0
                        C[vi] += A[vi, vk]                  C_rf[vu, vi] += A[vi, 4*vo + vu]
                                                    for u_1 in 0..4
                                                        @C vu = u_1 (reduce), vi = i
                                                            init: C[vi] = 0
                                                            C[vi] += C_rf[vu, vi]

    `factor_axis` is the place of the new axis in the shape of the new buffer; a negative one
    counts from the end. The second block stands behind the outermost loop that feeds a reduce
    axis; loops outside of it are around both. Its loops are serial and new. To reduce across
    threads, the loop is factored, and it and its copy are bound to the same axis.

    Legal if

    - `one-block`: the block is all that is in the loop, and the loops down to it hold one another,
    - `reduction`: it is a reduction block whose body is one update, by sum, product, maximum,
      minimum, and, or, xor, of a buffer at the same index as its init,
    - `reduce-loop`: the loop feeds reduce axes only,
    - `serial`: the loops that feed reduce axes, and the loop, are serial or unrolled,
    - `pure`: no loop that feeds a reduce axis feeds a spatial one,
    - `first`: the reduce axes are all 0 only where the loops that feed them are,
    - `once`: each element is reduced once inside the outermost loop that feeds a reduce axis,
    - `extent`: the loop's extent is over symbols,
    - `bounds`: with `is_whole`, no bound of the predicate is over loops of both kinds,
    - `factor-axis`: the place is one of the new buffer's axes,
    - `written-before`: the partial results that are combined were written before, provably.
    """

    name: ClassVar[str] = "rfactor"

    loop: str
    factor_axis: int = 0
    names: tuple[str, ...] = ()
    buffer: str = ""
    is_whole: bool = False

    def apply(self, program: Program) -> Program:
        """Returns the program with both blocks."""
        loop = self.loop_of(program, self.loop)
        block = self._block(program, loop)
        update = self._update(program, block)
        loops = self._loops(program, block, loop)
        self._check_once(program, block, loops)
        partial = self._partial_buffer(program, loop, update)
        name, *inits = self.result_names(program)
        axis = program.fresh_name(f"v{self.loop}")
        first = self._first(program, block, update, partial, name, axis)
        changed = replace(program, allocations=(*program.allocations, partial))
        changed = changed.replace(block.name, first)
        before: Body = ()
        if self.is_whole:
            block = self._without_bounds(program, block, loops)
            changed = changed.replace(name, replace(first, init=()))
            before = self._inits(changed, block, update, partial, (inits[0], axis), loops)
            changed = changed.replace(loops[0].name, *before, changed.places[loops[0].name][-1])
        second = self._second(changed, block, update, partial, axis, loops)
        outer = loops[0].name
        changed = changed.replace(outer, changed.places[outer][-1], *second)
        check_written(self, changed, (partial.name,), self.loop)
        return changed

    def result_names(self, program: Program) -> tuple[str, ...]:
        """
        Returns the name of the block that makes the partial results.

        The one that sets them before follows, if they are whole.
        """
        blocks = child_blocks(program, self.loop) if self.loop in program.places else ()
        default = f"{blocks[0].name}_rf" if blocks else "rf"
        inits = (f"{default}_init",) if self.is_whole else ()
        return self.new_names(program, self.names, (default, *inits))

    def named(self, program: Program) -> "RFactor":
        """Returns the step with the names of the block and the buffer that it makes."""
        if self.buffer:
            return replace(self, names=self.result_names(program))
        buffer = self._partial_name(program)
        return replace(self, names=self.result_names(program), buffer=buffer)

    def _partial_name(self, program: Program) -> str:
        blocks = child_blocks(program, self.loop) if self.loop in program.places else ()
        written = blocks[0].writes[0].buffer if blocks and blocks[0].writes else "partial"
        return program.fresh_buffer(f"{written}_rf")

    def _block(self, program: Program, loop: Loop) -> Block:
        body = loop.body
        while len(body) == 1 and isinstance(inner := body[0], Loop):
            body = inner.body
        if len(body) == 1 and isinstance(block := body[0], Block):
            return block
        raise self.refused(
            "one-block",
            f"expected one block inside loops that hold one another, got {len(body)} statements",
            place_of(program.places[loop.name]),
            "move the other statements out of the loop",
        )

    def _update(self, program: Program, block: Block) -> Update:
        place = place_of(program.places[block.name])
        why = not_reduction(program, block.name)
        if why is not None:
            raise self.refused(
                "reduction",
                f"expected a reduction block, got '{block.name}': {why}",
                place,
                "factor before the reduction is decomposed",
            )
        stores = (*block.init, *block.body)
        if len(stores) == 2 and all(isinstance(part, Store) for part in stores):
            init, body = stores
            if isinstance(init, Store) and isinstance(body, Store):
                update = update_of(body)
                if update is not None and (init.buffer, init.indices) == (
                    body.buffer,
                    body.indices,
                ):
                    return update
        raise self.refused(
            "reduction",
            f"expected one update of one element in '{block.name}', at the index of its init",
            place,
            "factor before the block is tensorised",
        )

    def _loops(self, program: Program, block: Block, loop: Loop) -> list[Loop]:
        """Returns the loops from the outermost that feeds a reduce axis to the block."""
        place = place_of(program.places[block.name])
        around = program.loops_around(block.name)
        if not feeds_only_reduce(block, loop.name):
            raise self.refused(
                "reduce-loop",
                f"expected a loop that feeds reduce axes of '{block.name}' only, got '{loop.name}'",
                place,
                "choose a loop of the reduction, and don't fuse it with others",
            )
        start = next(
            at for at, part in enumerate(around) if AxisKind.REDUCE in feeds(block, part.name)
        )
        for part in around[start:]:
            self._check_loop(program, block, part)
        check_first_at_zero(self, program, block)
        if others := loop.extent.symbols() - set(program.ranges):
            raise self.refused(
                "extent",
                f"expected an extent over symbols, got {loop.extent} over '{min(others)}'",
                place,
            )
        self._check_chain(program, block, around[start])
        return list(around[start:])

    def _check_chain(self, program: Program, block: Block, outermost: Loop) -> None:
        path = program.places[block.name]
        for part in path[len(program.places[outermost.name]) - 1 : -1]:
            if not isinstance(part, Loop) or len(part.body) > 1:
                raise self.refused(
                    "one-block",
                    f"expected the loops from '{outermost.name}' on to hold one another, "
                    "got statements beside them",
                    place_of(path),
                    "move the other statements out of the loops",
                )

    def _check_loop(self, program: Program, block: Block, loop: Loop) -> None:
        kinds = set(feeds(block, loop.name))
        place = place_of(program.places[loop.name])
        if len(kinds) > 1:
            raise self.refused(
                "pure",
                f"expected '{loop.name}' to feed axes of one kind, got {', '.join(sorted(kinds))}",
                place,
                "fuse only loops of axes of one kind",
            )
        is_plain = loop.kind in (LoopKind.SERIAL, LoopKind.UNROLLED)
        if AxisKind.REDUCE in kinds and not is_plain:
            raise self.refused(
                "serial",
                f"expected serial loops of the reduction, got '{loop.name}', which is {loop.kind}",
                place,
                "factor before loops are given a kind",
            )

    def _check_once(self, program: Program, block: Block, loops: Sequence[Loop]) -> None:
        found = Dependences(program, loops[0].name)
        rest = {loop.name for loop in loops if not feeds_only_reduce(block, loop.name)}
        for pair in found.all:
            if pair.is_of_one_block and (again := pair.carriers & rest):
                raise self.refused(
                    "once",
                    f"expected each element to be reduced once inside '{loops[0].name}', got "
                    f"'{min(again)}', whose iterations repeat some",
                    place_of(program.places[block.name]),
                    f"reorder '{min(again)}' to the outside",
                )

    def _partial_buffer(self, program: Program, loop: Loop, update: Update) -> Buffer:
        whole = program.buffers[update.store.buffer]
        rank = len(whole.shape) + 1
        if not -rank <= self.factor_axis < rank:
            raise self.refused(
                "factor-axis",
                f"expected a place in {-rank} .. {rank - 1}, got {self.factor_axis}",
                place_of(program.places[loop.name]),
            )
        name = self.buffer or self._partial_name(program)
        if program.fresh_buffer(name) != name:
            raise self.refused("names", f"expected a name that no buffer has, got '{name}'")
        scope = Scope.GLOBAL if whole.scope is Scope.FRAGMENT else whole.scope
        return Buffer(name, self._inserted(whole.shape, loop.extent), whole.dtype, scope)

    def _inserted(self, parts: tuple[Expression, ...], new: Expression) -> tuple[Expression, ...]:
        place = self.factor_axis % (len(parts) + 1)
        return (*parts[:place], new, *parts[place:])

    def _inserted_index(
        self, parts: tuple[Subscript, ...], new: Expression
    ) -> tuple[Subscript, ...]:
        place = self.factor_axis % (len(parts) + 1)
        return (*parts[:place], new, *parts[place:])

    def _first(
        self,
        program: Program,
        block: Block,
        update: Update,
        partial: Buffer,
        name: str,
        factored: str,
    ) -> Block:
        """Returns the block of the partial results."""
        axes, image = self._axes(program, block, factored)
        index = self._inserted_index(update.store.indices, symbol(factored))
        element = Load(partial.name, index, partial.dtype)
        init = Store(partial.name, index, update.combiner.identity(partial.dtype))
        body = Store(partial.name, index, update.combiner.combine(element, update.value))
        statements = substitute((init, body), image)
        return self._with_regions(
            program, partial, replace(block, name=name, axes=axes), statements[:1], statements[1:]
        )

    def _axes(
        self, program: Program, block: Block, factored: str
    ) -> tuple[tuple[Axis, ...], Substitution]:
        """
        Returns the axes of the first block, and the images of those that it doesn't have.

        Reduce axes that share loops with the factored one become one axis for each loop.
        """
        around = {loop.name: loop for loop in program.loops_around(block.name)}
        reduces = block.axes_of(AxisKind.REDUCE)
        shared = {self.loop}
        while True:
            touching = [a for a in reduces if not shared.isdisjoint(a.binding.symbols())]
            more = {s for a in touching for s in a.binding.symbols() if s in around}
            if more <= shared:
                break
            shared |= more
        opened = {axis.name for axis in touching}
        taken = {*program.names, factored}
        new: dict[str, str] = {self.loop: factored}
        for loop in around:
            if loop in shared and loop != self.loop:
                number, name = 1, f"v{loop}"
                while name in taken:
                    name, number = f"v{loop}_{number}", number + 1
                new[loop] = name
                taken.add(name)
        axes = [Axis(factored, around[self.loop].extent, symbol(self.loop))]
        axes += [axis for axis in block.axes if axis.name not in opened]
        axes += [
            Axis(name, around[loop].extent, symbol(loop), AxisKind.REDUCE)
            for loop, name in new.items()
            if loop != self.loop
        ]
        names = {loop: symbol(name) for loop, name in new.items()}
        image = {a.name: a.binding.substitute(names) for a in touching}
        return tuple(axes), image

    def _with_regions(
        self, program: Program, partial: Buffer, block: Block, init: Body, body: Body
    ) -> Block:
        ranges = ranges_inside(program, self.loop)
        for axis in block.axes:
            ranges = ranges.also(axis.name, 0, axis.extent - 1)
        buffers = {**program.buffers, partial.name: partial}
        reads, writes = touched((*init, *body), ranges, buffers)
        return replace(block, reads=reads, writes=writes, init=init, body=body)

    def _without_bounds(self, program: Program, block: Block, loops: Sequence[Loop]) -> Block:
        """Returns a block without the bounds over loops that feed its reduce axes."""
        reducing = {loop.name for loop in loops if feeds_only_reduce(block, loop.name)}
        others = {loop.name for loop in program.loops_around(block.name)} - reducing
        kept: list[Bound] = []
        for bound in block.predicate:
            names = bound.left.symbols() | bound.right.symbols()
            if names.isdisjoint(reducing):
                kept.append(bound)
            elif not names.isdisjoint(others):
                raise self.refused(
                    "bounds",
                    "expected no bound over loops of reduce and of other axes, got "
                    f"{bound.left} < {bound.right}",
                    place_of(program.places[block.name]),
                )
        return replace(block, predicate=tuple(kept))

    def _copies(
        self, program: Program, block: Block, loops: Sequence[Loop]
    ) -> tuple[list[Loop], Substitution]:
        """Returns new loops, as those of spatial axes and the factored one, and what stands for."""
        kept = [loop for loop in loops if not feeds_only_reduce(block, loop.name)]
        factor = program.loop(self.loop)
        kept += [] if factor is None else [factor]
        fresh = fresh_names((loop.name for loop in kept), program.names)
        image: Substitution = {
            loop.name: symbol(fresh[loop.name]) if loop.name in fresh else constant(0)
            for loop in loops
        }
        copies = [Loop(fresh[loop.name], loop.extent.substitute(image), loop.body) for loop in kept]
        return copies, image

    def _inits(
        self,
        program: Program,
        block: Block,
        update: Update,
        partial: Buffer,
        names: tuple[str, str],
        loops: Sequence[Loop],
    ) -> Body:
        """Returns the nest that sets all partial results to what changes nothing."""
        name, factored = names
        copies, image = self._copies(program, block, loops)
        axes = [
            replace(axis, binding=axis.binding.substitute(image))
            for axis in block.axes_of(AxisKind.SPATIAL)
        ]
        axes.append(Axis(factored, copies[-1].extent, symbol(copies[-1].name)))
        index = self._inserted_index(update.store.indices, symbol(factored))
        store = Store(partial.name, index, update.combiner.identity(partial.dtype))
        filled = Block(
            name, tuple(axes), (), (), (), predicate=substituted_bounds(block.predicate, image)
        )
        body: Body = (self._with_regions(program, partial, filled, (), (store,)),)
        for loop in reversed(copies):
            body = (replace(loop, body=body),)
        return body

    def _second(
        self,
        program: Program,
        block: Block,
        update: Update,
        partial: Buffer,
        factored: str,
        loops: Sequence[Loop],
    ) -> Body:
        """Returns the nest that combines the partial results."""
        copies, image = self._copies(program, block, loops)
        axes = [
            replace(axis, binding=axis.binding.substitute(image))
            for axis in block.axes_of(AxisKind.SPATIAL)
        ]
        last = Axis(factored, copies[-1].extent, symbol(copies[-1].name), AxisKind.REDUCE)
        index = self._inserted_index(update.store.indices, symbol(factored))
        element = Load(update.store.buffer, update.store.indices, partial.dtype)
        value = update.combiner.combine(element, Load(partial.name, index, partial.dtype))
        predicate = substituted_bounds(block.predicate, image)
        final = replace(block, axes=(*axes, last), predicate=predicate, annotations={})
        zeros = {axis.name: constant(0) for axis in block.axes_of(AxisKind.REDUCE)}
        init = substitute(block.init, zeros)
        store = (replace(update.store, value=value),)
        body: Body = (self._with_regions(program, partial, final, init, store),)
        for loop in reversed(copies):
            body = (replace(loop, body=body),)
        return body
