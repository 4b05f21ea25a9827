"""Divides a block that pads into one that fills and one that copies what is inside."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from ...dialects.nest.copying import renamed
from ...dialects.nest.program import Axis, AxisKind, Block, Body, Loop, Program, Store
from ...dialects.nest.regions import touched
from ...dialects.nest.rewriting import Rewriter
from ...dialects.nest.scalars import Apply, Constant, Index, Scalar, ScalarMap
from ...dialects.sym import (
    Expression,
    Ranges,
    constant,
    maximum,
    minimum,
    prove_le,
    simplify,
    symbol,
)
from .accesses import are_distinct, loads_in
from .primitive import Primitive, place_of

# What a comparison of an axis with a bound says: (first index inside, first one behind).
_BOUNDS = {"sge": (0, None), "sgt": (1, None), "slt": (None, 0), "sle": (None, 1)}


@dataclass(frozen=True)
class DecomposePadding(Primitive):
    """
    Divides a block that pads into one that fills and one that copies what is inside.

        for i in 0..n + 2                                  for i_1 in 0..n + 2
            @P: P[i] = X[i - 1] if 1 <= i < n + 1 else 0   -->  @P_fill: P[i_1] = 0
                                                           for i in 0..n
                                                               @P: P[i + 1] = X[i]

    The copy has neither conditions nor clamped indices, so that it can be made of vectors.
    `names` has the name of the block that fills.

    Legal if the block is alone in a nest with a loop for each axis (`nest`), has spatial axes only
    and no init (`spatial`), stores a `select` of a value and a constant, once (`select`), in other
    elements than it reads (`reads-own-writes`), at each point in one of its own (`distinct`), and
    its condition is a conjunction of comparisons of an axis with a bound over symbols (`box`).
    """

    name: ClassVar[str] = "decompose_padding"

    block: str
    names: tuple[str, ...] = ()

    def apply(self, program: Program) -> Program:
        """Returns the program with the block divided."""
        block = self.block_of(program, self.block)
        loops = self._loops(program, block)
        store, condition, inside, fill = self._select(program, block)
        self._check_stores(program, block, store)
        box = self._box(program, block, condition)
        (name,) = self.result_names(program)
        filled = _block(program, replace(block, name=name), (replace(store, value=fill),))
        (outermost,), _ = renamed(_around(loops, filled), {*program.names, name})
        copied, extents = _inside(program, block, replace(store, value=inside), box)
        shrunk = [replace(loop, extent=extents[loop.name]) for loop in loops]
        outer = _around(shrunk, _block(program, copied, copied.body))
        return program.replace(loops[0].name, _named(outermost, name), *outer)

    def result_names(self, program: Program) -> tuple[str, ...]:
        """Returns the name of the block that fills."""
        return self.new_names(program, self.names, (f"{self.block}_fill",))

    def _loops(self, program: Program, block: Block) -> list[Loop]:
        path = program.places[self.block]
        loops = [part for part in path[:-1] if isinstance(part, Loop)]
        bound = [axis.binding.symbol_name for axis in block.axes]
        is_nest = len(loops) == len(path) - 1 and all(len(loop.body) == 1 for loop in loops)
        if not loops or not is_nest or sorted(map(str, bound)) != sorted(x.name for x in loops):
            raise self.refused(
                "nest",
                "expected a loop for each axis around the block alone",
                place_of(path),
                "take this step before loops are split",
            )
        if block.predicate:
            raise self.refused("nest", "expected a block without a predicate", place_of(path))
        return loops

    def _select(self, program: Program, block: Block) -> tuple[Store, Scalar, Scalar, Constant]:
        place = place_of(program.places[self.block])
        if block.init or any(axis.kind is not AxisKind.SPATIAL for axis in block.axes):
            raise self.refused("spatial", "expected a block of spatial axes without init", place)
        match block.body:
            case (
                Store(
                    value=Apply("arith.select", (condition, inside, Constant() as fill))
                ) as store,
            ):
                return store, condition, inside, fill
            case _:
                raise self.refused(
                    "select", "expected one store of a select of a value and a constant", place
                )

    def _check_stores(self, program: Program, block: Block, store: Store) -> None:
        """Refuses stores of which one would come before another point's load or store."""
        place = place_of(program.places[self.block])
        if any(load.buffer == store.buffer for load in loads_in(block.body)):
            raise self.refused(
                "reads-own-writes",
                f"expected a block that does not read '{store.buffer}', which it fills",
                place,
                "cache what it writes by cache_write",
            )
        if not are_distinct(store.indices, block.axes, program.ranges):
            raise self.refused(
                "distinct", "expected each point to store in an element of its own", place
            )

    def _box(
        self, program: Program, block: Block, condition: Scalar
    ) -> dict[str, tuple[Expression, Expression]]:
        """Returns for each axis the first index inside, and the first one behind."""
        box = {axis.name: (constant(0), axis.extent) for axis in block.axes}
        for term in _conjuncts(condition):
            bound = _bound(term, box)
            if bound is None:
                raise self.refused(
                    "box",
                    "expected comparisons of an axis with a bound over symbols, joined by and",
                    place_of(program.places[self.block]),
                )
            axis, low, high = bound
            first, behind = box[axis]
            box[axis] = (
                first if low is None else simplify(maximum(first, low), program.ranges),
                behind if high is None else simplify(minimum(behind, high), program.ranges),
            )
        if any(prove_le(behind, first, program.ranges) for first, behind in box.values()):
            raise self.refused(
                "box", "expected a condition that may hold", place_of(program.places[self.block])
            )
        return box


def _conjuncts(condition: Scalar) -> Iterator[Scalar]:
    if isinstance(condition, Apply) and condition.op == "arith.andi":
        for operand in condition.operands:
            yield from _conjuncts(operand)
    else:
        yield condition


def _bound(
    term: Scalar, axes: Mapping[str, object]
) -> tuple[str, Expression | None, Expression | None] | None:
    """Returns the axis of a comparison, and its first index inside or its first one behind."""
    match term:
        case Apply("arith.cmpi", (Index(left), right), _, predicate) if predicate in _BOUNDS:
            pass
        case _:
            return None
    limit = right.expression if isinstance(right, Index) else None
    if isinstance(right, Constant):
        limit = constant(int(right.value))
    named = [name for name in axes if name in left.symbols()]
    if limit is None or len(named) != 1 or not limit.symbols().isdisjoint(axes):
        return None
    distance = left - symbol(named[0])
    if not distance.symbols().isdisjoint(axes):
        return None
    low, high = _BOUNDS[predicate]
    limit = limit - distance
    return named[0], None if low is None else limit + low, None if high is None else limit + high


def _inside(
    program: Program,
    block: Block,
    store: Store,
    box: Mapping[str, tuple[Expression, Expression]],
) -> tuple[Block, dict[str, Expression]]:
    """Returns the block over the box alone, and the extents of its loops."""
    axes: list[Axis] = []
    extents: dict[str, Expression] = {}
    ranges = program.ranges
    for axis in block.axes:
        first, behind = box[axis.name]
        extent = simplify(maximum(behind - first, 0), program.ranges)
        axes.append(replace(axis, extent=extent))
        extents[str(axis.binding)] = extent
        ranges = ranges.also(axis.name, 0, extent - 1)
    moved = {name: symbol(name) + first for name, (first, _) in box.items()}
    (body,) = Rewriter(moved).body((store,))
    return replace(block, axes=tuple(axes), body=(_simplified(body, ranges),)), extents


def _simplified(store: object, ranges: Ranges) -> Store:
    if not isinstance(store, Store):
        raise AssertionError("a rewritten store is a store")
    rebuild = ScalarMap(of_expression=lambda value: simplify(value, ranges))
    indices = tuple(map(rebuild.subscript, store.indices))
    return Store(store.buffer, indices, rebuild(store.value))


def _block(program: Program, block: Block, body: Body) -> Block:
    ranges = program.ranges
    for axis in block.axes:
        ranges = ranges.also(axis.name, 0, axis.extent - 1)
    reads, writes = touched(body, ranges, program.buffers)
    return replace(block, body=body, reads=reads, writes=writes)


def _around(loops: list[Loop], block: Block) -> Body:
    body: Body = (block,)
    for loop in reversed(loops):
        body = (replace(loop, body=body),)
    return body


def _named(statement: object, name: str) -> Loop:
    """Returns a copied nest whose one block has the name that was asked for."""
    if not isinstance(statement, Loop):
        raise AssertionError("a copied loop is a loop")
    (inner,) = statement.body
    if isinstance(inner, Block):
        return replace(statement, body=(replace(inner, name=name),))
    return replace(statement, body=(_named(inner, name),))
