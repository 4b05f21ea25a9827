"""Cuts the range of a loop into loops one after the other."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from ...dialects.nest.copying import renamed
from ...dialects.nest.dependences import feeds, touches
from ...dialects.nest.linear import Order, linear
from ...dialects.nest.program import (
    Axis,
    AxisKind,
    Block,
    Body,
    Guard,
    Loop,
    Program,
    Statement,
)
from ...dialects.nest.regions import ONE, ZERO, bounds_over, ranges_inside, simplified
from ...dialects.nest.rewriting import Rewriter, substitute_loops
from ...dialects.sym import Expression, constant, prove_eq, prove_lt, symbol
from .blocks_around import with_blocks_around
from .legality import check_serial, check_written
from .primitive import Primitive, place_of
from .split import Factor


@dataclass(frozen=True)
class LoopPartition(Primitive):
    """
    Cuts the range of a loop into segments: loops of the given lengths, one after the other.

        for i in 0..n            for i_0 in 0..8
            @B vi = i     -->        @B vi = i_0              (vi in 0..8)
                                 for i_1 in 0..n - 8
                                     @B_1 vi = i_1            (vi in 0..n - 8, stands for vi + 8)

    At most one length is None: the rest. The blocks of the first segment keep their names, those of
    the others and all loops in them get new ones. An axis that the loop feeds covers its part of
    the range in each copy. An init stands in the first segment only.

    Legal if

    - `serial`: the loop is serial,
    - `lengths`: there are two or more, one of them None at most, over symbols,
    - `positive`: each length is positive provably,
    - `sum`: they add up to the extent provably,
    - `whole`: an axis that the loop feeds is bound to `f * loop + rest`, where the rest runs over
      0 .. f - 1, and the loop feeds no other axis of the block,
    - `written-before`: what is read of the program's own buffers that it writes is still written
      before, provably.
    """

    name: ClassVar[str] = "loop_partition"

    loop: str
    lengths: tuple[Factor | None, ...]
    names: tuple[str, ...] = ()

    def apply(self, program: Program) -> Program:
        """Returns the program with the segments in place of the loop."""
        loop = self.loop_of(program, self.loop)
        check_serial(self, program, loop)
        before = program
        lengths = self._lengths(program, loop)
        names = self.result_names(program)
        taken = {*program.names, *names}
        start: Expression = ZERO
        segments: list[Statement] = []
        for place, (name, length) in enumerate(zip(names, lengths, strict=True)):
            body = self._segment(program, loop, start, length, place == len(lengths) - 1)
            if place:
                body, images = renamed(body, taken)
                taken.update(images.values())
            body = substitute_loops(body, {self.loop: symbol(name)})
            segments.append(replace(loop, name=name, extent=length, body=body))
            start = start + length
        written = {touch.buffer for touch in touches(program, (loop,)) if touch.is_write}
        program = program.replace(self.loop, *segments)
        program = with_blocks_around(self, before, program)
        check_written(self, program, written, self.loop)
        return program

    def result_names(self, program: Program) -> tuple[str, ...]:
        """Returns the names of the loops that the step makes, in their order."""
        defaults = tuple(f"{self.loop}_{position}" for position in range(len(self.lengths)))
        return self.new_names(program, self.names, defaults)

    def _lengths(self, program: Program, loop: Loop) -> list[Expression]:
        place = place_of(program.places[self.loop])
        if len(self.lengths) < 2 or self.lengths.count(None) > 1:
            raise self.refused(
                "lengths", f"expected two lengths or more, one of them None, got {self.lengths}"
            )
        ranges = ranges_inside(program, self.loop)
        lengths = [constant(p) if isinstance(p, int) else p for p in self.lengths if p is not None]
        for length in lengths:
            if unknown := length.symbols() - frozenset(program.ranges):
                raise self.refused(
                    "lengths", f"expected lengths over symbols, got '{min(unknown)}'", place
                )
        total = sum(lengths, start=ZERO)
        if None in self.lengths:
            lengths.insert(self.lengths.index(None), loop.extent - total)
        elif not prove_eq(total, loop.extent, ranges):
            raise self.refused(
                "sum",
                f"expected lengths that add up to {loop.extent}, got {total}",
                place,
                "let one length be None",
            )
        for length in lengths:
            if not prove_lt(0, length, ranges):
                raise self.refused(
                    "positive",
                    f"expected positive lengths, got {length}",
                    place,
                    "cut within the least extent that the ranges allow",
                )
        return lengths

    def _segment(
        self, program: Program, loop: Loop, start: Expression, length: Expression, is_last: bool
    ) -> Body:
        """Returns the body of a segment; the loop's name stands for the index within it."""
        shift = {self.loop: loop.variable + start}

        def cut(statement: Statement) -> Statement:
            match statement:
                case Loop():
                    extent = statement.extent.substitute(shift)
                    return replace(statement, extent=extent, body=tuple(map(cut, statement.body)))
                case Guard():
                    condition = Rewriter(shift).scalar(statement.condition)
                    return Guard(condition, tuple(map(cut, statement.body)))
                case Block():
                    return self._cut_block(program, statement, start, length, is_last)
                case _:
                    return Rewriter(shift).statement(statement)

        return tuple(map(cut, loop.body))

    def _cut_block(
        self, program: Program, block: Block, start: Expression, length: Expression, is_last: bool
    ) -> Block:
        (shifted,) = substitute_loops((block,), {self.loop: symbol(self.loop) + start})
        assert isinstance(shifted, Block)
        if not (kinds := feeds(block, self.loop)):
            return shifted
        axes: list[Axis] = []
        moved: dict[str, Expression] = {}
        ranges = ranges_inside(program, self.loop)
        for axis in block.axes:
            if self.loop in axis.binding.symbols():
                factor = self._factor(program, block, axis)
                end = axis.extent - factor * start if is_last else factor * length
                moved[axis.name] = symbol(axis.name) + factor * start
                axis = replace(axis, extent=end)
            ranges = ranges.also(axis.name, 0, axis.extent - 1)
            axes.append(axis)
        if len(moved) > 1:
            raise self._not_whole(program, block, f"{len(moved)} axes")
        inside = Rewriter(moved if start.terms else {})
        is_begun = AxisKind.REDUCE in kinds and bool(start.terms)
        return replace(
            shifted,
            axes=tuple(axes),
            reads=tuple(simplified(inside.region(region), ranges) for region in block.reads),
            writes=tuple(simplified(inside.region(region), ranges) for region in block.writes),
            body=inside.body(block.body),
            init=() if is_begun else inside.body(block.init),
        )

    def _factor(self, program: Program, block: Block, axis: Axis) -> Expression:
        """Returns the factor of the loop in a binding whose rest runs over 0 .. factor - 1."""
        inner = {
            loop.name: loop.extent
            for loop in program.loops_around(block.name)
            if len(program.places[loop.name]) > len(program.places[self.loop])
        }
        form = linear(axis.binding, frozenset((*inner, self.loop)))
        factor = None if form is None else form.factors.get(self.loop)
        if form is None or factor is None:
            raise self._not_whole(program, block, f"the binding {axis.binding}")
        rest = axis.binding - factor * symbol(self.loop)
        bounds = bounds_over(rest, inner)
        order = Order(lambda: ranges_inside(program, self.loop))
        is_whole = (
            bounds is not None
            and bounds[0] == 0
            and bool(prove_eq(bounds[1] + 1, factor, order.ranges))
            and _has_no_gaps(form.factors, inner, self.loop, order)
        )
        if not is_whole:
            raise self._not_whole(program, block, f"the binding {axis.binding}")
        return factor

    def _not_whole(self, program: Program, block: Block, got: str) -> Exception:
        return self.refused(
            "whole",
            f"expected '{self.loop}' to count whole pieces of one axis of '{block.name}', "
            f"got {got}",
            place_of(program.places[block.name]),
            "partition the loop before it is split or fused",
        )


def _has_no_gaps(
    factors: Mapping[str, Expression], extents: Mapping[str, Expression], but: str, order: Order
) -> bool:
    """Whether the sum of `factor * index` takes every value up to its greatest."""
    reach: Expression = ONE
    inner = {loop: factor for loop, factor in factors.items() if loop != but and factor.terms}
    for loop in sorted(inner, key=lambda loop: inner[loop].constant_value or 1 << 62):
        if not order.at_most(inner[loop], reach):
            return False
        reach = reach + inner[loop] * (extents[loop] - 1)
    return True
