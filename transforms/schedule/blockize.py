"""Makes a block of a tile: an outer block around the loops below a loop."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from ...dialects.nest.program import (
    Axis,
    AxisKind,
    Block,
    Body,
    Bound,
    Loop,
    Program,
    Statement,
)
from ...dialects.nest.regions import bounds_over, ranges_inside, touched
from ...dialects.nest.rewriting import substitute
from ...dialects.sym import (
    Expression,
    Ranges,
    ceildiv,
    constant,
    floordiv,
    prove_divisible,
    simplify,
    symbol,
)
from .blocks_around import with_blocks_around
from .primitive import Primitive, place_of

ZERO = constant(0)


@dataclass(frozen=True)
class _Split:
    """The part of an axis that the loops around move, in tiles of `tile`, and the part inside."""

    axis: Axis
    outer: Expression
    inner: Expression
    tile: Expression
    name: str
    original: Expression

    @property
    def is_outer(self) -> bool:
        """Whether the axis has a part outside of the tile."""
        return self.outer != ZERO

    @property
    def binding(self) -> Expression:
        """The value of the axis over the outer block's axis and the loops inside."""
        return symbol(self.name) * self.tile + self.inner if self.is_outer else self.inner


@dataclass(frozen=True)
class Blockize(Primitive):
    """
    Makes one block of a loop and all that is in it; its axes count tiles.

        for i_0 in 0..n/16                      for i_0 in 0..n/16
            for i_1 in 0..16                        @B_o vi_o = i_0
                @B vi = 16*i_0 + i_1      -->           for i_1 in 0..16
                                                            @B vi = 16*vi_o + i_1

    `target` is a loop, or a block, which becomes an outer block around itself. What init does for
    the tile becomes the init of the outer block. `names` names the outer block.

    Legal if
    - `one-block`: the loops inside are around one block, and around nothing else;
    - `extents`: the extents of the loops inside name no loop outside;
    - `separable`: each binding is a sum of loops outside and loops inside;
    - `tile`: the loops inside make values from 0, and those outside make multiples of their number;
    - `predicate`: each bound is over loops outside, or compares the binding of an axis;
    - `init`: no loop inside moves a reduce axis together with another axis;
    - `blocks-around`: what blocks that hold others touch is known by their axes, after the step.

    Source: TensorIR, ASPLOS 2023, section 3.2.
    """

    name: ClassVar[str] = "blockize"

    target: str
    names: tuple[str, ...] = ()

    def apply(self, program: Program) -> Program:
        """Returns the program with the outer block."""
        return with_blocks_around(self, program, self.blockized(program), moves=False)

    def blockized(self, program: Program) -> Program:
        """Returns the program with the outer block, whose regions may be larger than is known."""
        path = program.places.get(self.target)
        if path is None:
            known = ", ".join(program.places)
            raise self.refused("exists", f"expected a loop or block among {known}", self.target)
        target, place = path[-1], place_of(path)
        loops, block = self._tile(target, place)
        ranges = ranges_inside(program, self.target)
        extents = self._extents(program, loops, place)
        splits = self._splits(program, block, extents, ranges, place)
        predicate = self._predicate(program, block, splits, extents, ranges, place)
        (name,) = self.result_names(program)
        inner = _rebuilt(block, splits, predicate[1])
        body = _around(loops, (inner,))
        axes = tuple(_outer_axis(split, ranges) for split in splits if split.is_outer)
        around = program.ranges
        for axis in (*_axes_around(path), *axes):
            around = around.also(axis.name, 0, axis.extent - 1)
        init = self._init(program, loops, inner, splits, place) if block.init else ()
        reads, writes = touched((*init, *body), around, program.buffers)
        outer = Block(name, axes, reads, writes, body, init, predicate[0])
        return program.replace(self.target, outer)

    def result_names(self, program: Program) -> tuple[str, ...]:
        """Returns the name of the outer block."""
        target = program.places[self.target][-1]
        _, block = self._tile(target, self.target)
        return self.new_names(program, self.names, (f"{block.name}_o",))

    def _tile(self, target: Statement, place: str) -> tuple[tuple[Loop, ...], Block]:
        loops: list[Loop] = []
        while isinstance(target, Loop):
            loops.append(target)
            if len(target.body) != 1:
                raise self.refused(
                    "one-block",
                    f"expected one block below '{loops[0].name}', got {len(target.body)} "
                    f"statements in '{target.name}'",
                    place,
                    "take the other blocks out, with compute_at or decompose_reduction",
                )
            target = target.body[0]
        if not isinstance(target, Block):
            raise self.refused("one-block", "expected a block inside the loops", place)
        return tuple(loops), target

    def _extents(
        self, program: Program, loops: tuple[Loop, ...], place: str
    ) -> dict[str, Expression]:
        extents: dict[str, Expression] = {}
        outside = {loop.name for loop in program.loops_around(self.target)}
        for loop in loops:
            if named := loop.extent.symbols() & (outside | extents.keys()):
                raise self.refused(
                    "extents",
                    f"expected an extent of '{loop.name}' over symbols, got {loop.extent}, "
                    f"which names the loop '{min(named)}'",
                    place,
                )
            extents[loop.name] = loop.extent
        return extents

    def _splits(
        self,
        program: Program,
        block: Block,
        extents: Mapping[str, Expression],
        ranges: Ranges,
        place: str,
    ) -> tuple[_Split, ...]:
        taken = set(program.names)
        splits: list[_Split] = []
        inside = ranges
        for name, extent in extents.items():
            inside = inside.also(name, 0, extent - 1)
        for axis in block.axes:
            original = axis.binding
            # Of `(8*x + v) floordiv 32`, v has no part once its range is known.
            axis = replace(axis, binding=simplify(axis.binding, inside))
            outer, inner = self._separated(axis, extents, place)
            tile = self._tile_of(axis, inner, extents, ranges, place)
            if not prove_divisible(outer, tile, ranges):
                raise self.refused(
                    "tile",
                    f"expected '{axis.name}' in tiles of {tile}, got the binding {axis.binding}",
                    place,
                    "split the loop so that its inner part is below the target",
                )
            name = f"{axis.name}_o"
            while name in taken:
                name += "_"
            taken.add(name)
            splits.append(_Split(axis, outer, inner, tile, name, original))
        return tuple(splits)

    def _separated(
        self, axis: Axis, extents: Mapping[str, Expression], place: str
    ) -> tuple[Expression, Expression]:
        outer = separate(axis.binding, extents)
        if outer is None:
            raise self.refused(
                "separable",
                f"expected '{axis.name}' to be a sum of loops outside and inside, got "
                f"{axis.binding}",
                place,
            )
        return outer, axis.binding - outer

    def _tile_of(
        self,
        axis: Axis,
        inner: Expression,
        extents: Mapping[str, Expression],
        ranges: Ranges,
        place: str,
    ) -> Expression:
        bounds = bounds_over(inner, extents)
        if bounds is None or simplify(bounds[0], ranges) != 0:
            raise self.refused(
                "tile", f"expected '{axis.name}' to begin at 0 in a tile, got {inner}", place
            )
        return simplify(bounds[1] + 1, ranges)

    def _predicate(
        self,
        program: Program,
        block: Block,
        splits: tuple[_Split, ...],
        extents: Mapping[str, Expression],
        ranges: Ranges,
        place: str,
    ) -> tuple[tuple[Bound, ...], tuple[Bound, ...]]:
        """Returns the bounds of the outer block and those of the inner one."""
        outside: list[Bound] = []
        inside: list[Bound] = []
        outside_loops = {loop.name for loop in program.loops_around(self.target)} | extents.keys()
        for bound in block.predicate:
            if not (bound.left.symbols() | bound.right.symbols()) & extents.keys():
                outside.append(bound)
                continue
            split = next((s for s in splits if s.original == bound.left), None)
            if split is None or bound.right.symbols() & outside_loops:
                raise self.refused(
                    "predicate",
                    f"expected a bound of the binding of an axis, got {bound.left} < {bound.right}",
                    place,
                )
            # Tiles that are wholly outside are no points of the outer block.
            if split.is_outer:
                outside.append(Bound(split.outer, bound.right))
            if not split.is_outer or not prove_divisible(bound.right, split.tile, ranges):
                inside.append(Bound(split.binding, bound.right))
        return tuple(outside), tuple(inside)

    def _init(
        self,
        program: Program,
        loops: tuple[Loop, ...],
        inner: Block,
        splits: tuple[_Split, ...],
        place: str,
    ) -> Body:
        moves = {
            kind: {
                name
                for split in splits
                if (split.axis.kind is AxisKind.SPATIAL) == (kind == "spatial")
                for name in split.inner.symbols()
            }
            for kind in ("spatial", "reduce")
        }
        if both := moves["spatial"] & moves["reduce"]:
            raise self.refused(
                "init",
                f"expected '{min(both)}' to move spatial axes or reduce axes, got both",
                place,
                "decompose the reduction first",
            )
        block = program.block(inner.name)
        if block is None:
            raise AssertionError(f"{inner.name} is a block of the program")
        return _init_nest(program, loops, block, inner, splits, moves["reduce"])


def separate(value: Expression, inside: Mapping[str, Expression]) -> Expression | None:
    """Returns the part of a sum without the names of `inside`; None if a term has both."""
    outer = ZERO
    for monomial, factor in value.terms.items():
        term = Expression({monomial: factor})
        if term.symbols().isdisjoint(inside):
            outer = outer + term
        elif len(monomial) > 1 and any(
            not Expression({(atom,): 1}).symbols() <= inside.keys() for atom in monomial
        ):
            # A stride that is a symbol is no loop: tiles of a size that is not known.
            return None
        elif not term.symbols() <= inside.keys():
            return None
    return outer


def _rebuilt(block: Block, splits: tuple[_Split, ...], predicate: tuple[Bound, ...]) -> Block:
    axes = tuple(replace(split.axis, binding=split.binding) for split in splits)
    return replace(block, axes=axes, init=(), predicate=predicate)


def _around(loops: tuple[Loop, ...], body: Body) -> Body:
    for loop in reversed(loops):
        body = (replace(loop, body=body),)
    return body


def _outer_axis(split: _Split, ranges: Ranges) -> Axis:
    extent = simplify(ceildiv(split.axis.extent, split.tile), ranges)
    return Axis(split.name, extent, floordiv(split.outer, split.tile), split.axis.kind)


def _axes_around(path: tuple[Statement, ...]) -> tuple[Axis, ...]:
    return tuple(axis for part in path[:-1] if isinstance(part, Block) for axis in part.axes)


def _init_nest(
    program: Program,
    loops: tuple[Loop, ...],
    block: Block,
    inner: Block,
    splits: tuple[_Split, ...],
    reduce: set[str],
) -> Body:
    kept = tuple(loop for loop in loops if loop.name not in reduce)
    loop_names = {loop.name: program.fresh_name(f"{loop.name}_init") for loop in kept}
    at_zero: dict[str, Expression] = {name: ZERO for name in reduce}
    at_zero |= {old: symbol(new) for old, new in loop_names.items()}
    spatial = [split for split in splits if split.axis.kind is AxisKind.SPATIAL]
    renamed = {s.axis.name: program.fresh_name(f"{s.axis.name}_init") for s in spatial}
    axes = tuple(
        replace(s.axis, name=renamed[s.axis.name], binding=s.binding.substitute(at_zero))
        for s in spatial
    )
    points: dict[str, Expression] = {s.axis.name: ZERO for s in splits}
    points |= {old: symbol(new) for old, new in renamed.items()}
    body = substitute(block.init, points)
    ranges = program.ranges
    for axis in axes:
        ranges = ranges.also(axis.name, 0, axis.extent - 1)
    reads, writes = touched(body, ranges, program.buffers)
    bounds = tuple(
        Bound(bound.left.substitute(at_zero), bound.right.substitute(at_zero))
        for bound in inner.predicate
    )
    init = Block(program.fresh_name(f"{block.name}_init"), axes, reads, writes, body, (), bounds)
    nest: Body = (init,)
    for loop in reversed(kept):
        nest = (replace(loop, name=loop_names[loop.name], body=nest),)
    return nest
