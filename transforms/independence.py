"""
Whether the iterations of a loop touch different elements, where all extents are numbers.

For two accesses in the same iteration of the loops around a loop, but in different ones of it, an
axis of the buffer separates them if the indices along it never meet. That is decided by the set of
differences that the loops inside can make; where indices are not linear, by enumeration.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from math import prod
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..dialects.nest.program import AxisKind, Block, Body, Call, Guard, Loop, Store
from ..dialects.nest.scalars import Apply, Index, Scalar, Subscript, loads_of
from ..dialects.sym import Expression, constant
from ..dialects.sym.expression import Extremum, Symbol, expression_of

Integers: TypeAlias = npt.NDArray[np.int64]
MAX_DIFFERENCES = 1 << 16
MAX_POINTS = 1 << 18
MAX_KEY = 1 << 62
SPARSE = 16  # a table with more room than this for each row is slower than sorted rows
ZERO = constant(0)


@dataclass(frozen=True)
class Touch:
    """A read or write of one element at each point of the loops around it, outermost first."""

    buffer: str
    indices: tuple[Subscript, ...]
    is_write: bool
    loops: tuple[Loop, ...]
    block: str
    # The access is made where all of these are positive; conditions on data are left out.
    where: tuple[Expression, ...] = ()


def touches_of(body: Body) -> list[Touch]:
    """Returns the accesses of statements without axes and calls, in the order of the text."""
    collector = _Collector([])
    collector.body(body, (), "", ())
    return collector.found


@dataclass
class _Collector:
    found: list[Touch]

    def body(
        self, body: Body, loops: tuple[Loop, ...], block: str, where: tuple[Expression, ...]
    ) -> None:
        for statement in body:
            match statement:
                case Loop():
                    self.body(statement.body, (*loops, statement), block, where)
                case Block(name):
                    inside = (*where, *(bound.right - bound.left for bound in statement.predicate))
                    starts = statement.axes_of(AxisKind.REDUCE)
                    first = (*inside, *(1 - axis.binding for axis in starts))
                    self.body(statement.init, loops, name, first)
                    self.body(statement.body, loops, name, inside)
                case Guard(condition, inner):
                    self.read(condition, loops, block, where)
                    self.body(inner, loops, block, (*where, *_positive_where(condition)))
                case Store(buffer, indices, value):
                    self.read(value, loops, block, where)
                    for index in indices:
                        if not isinstance(index, Expression):
                            self.read(index, loops, block, where)
                    self.found.append(Touch(buffer, indices, True, loops, block, where))
                case Call(intrinsic):
                    raise ValueError(f"expected no calls, got one of '{intrinsic}'")

    def read(
        self, scalar: Scalar, loops: tuple[Loop, ...], block: str, where: tuple[Expression, ...]
    ) -> None:
        for load in loads_of(scalar):
            self.found.append(Touch(load.buffer, load.indices, False, loops, block, where))


def _positive_where(condition: Scalar) -> tuple[Expression, ...]:
    """Returns expressions that are positive where a condition on indices holds."""
    match condition:
        case Apply("arith.andi", (left, right)):
            return (*_positive_where(left), *_positive_where(right))
        case Apply("arith.cmpi", (Index(left), Index(right)), _, predicate):
            less, more = right - left, left - right
            known = {"slt": (less,), "sle": (less + 1,), "sgt": (more,), "sge": (more + 1,)}
            return (known | {"eq": (less + 1, more + 1)}).get(predicate, ())
        case _:
            return ()


def conflict_of(loop: Loop, touches: Sequence[Touch]) -> tuple[Touch, Touch] | None:
    """
    Returns a write and another access that may meet in different iterations of a loop.

    `touches` are the accesses inside the loop. None says that no two iterations touch the same
    element, unless both only read it.
    """
    by_buffer: dict[str, list[Touch]] = {}
    for touch in touches:
        by_buffer.setdefault(touch.buffer, []).append(touch)
    for group in by_buffer.values():
        tried: set[tuple[object, ...]] = set()
        for write in group:
            if not write.is_write:
                continue
            for other in group:
                key = (_key(write, loop), _key(other, loop))
                if key not in tried and not is_separated(write, other, loop):
                    return write, other
                tried.add(key)
    return None


def _key(touch: Touch, loop: Loop) -> tuple[object, ...]:
    return touch.indices, tuple(inner.name for inner in _inside(touch, loop))


def _inside(touch: Touch, loop: Loop) -> tuple[Loop, ...]:
    position = next(p for p, outer in enumerate(touch.loops) if outer.name == loop.name)
    return touch.loops[position + 1 :]


def is_separated(one: Touch, two: Touch, loop: Loop) -> bool:
    """Whether two accesses provably touch different elements in different iterations."""
    extent = loop.extent.constant_value
    if extent is None:
        return False
    if extent < 2:
        return True
    pairs = [
        (left, right)
        for left, right in zip(one.indices, two.indices, strict=True)
        if isinstance(left, Expression) and isinstance(right, Expression)
    ]
    if any(_separates(left, right, one, two, loop) for left, right in pairs):
        return True
    return any(not _is_linear(left + right) for left, right in pairs) and _enumerated(
        pairs, one, two, loop
    )


def _is_linear(value: Expression) -> bool:
    return all(
        not monomial or (len(monomial) == 1 and isinstance(monomial[0], Symbol))
        for monomial in value.terms
    )


def linear_terms(value: Expression) -> tuple[int, dict[str, int], Expression]:
    """Returns the constant, the factor of each symbol, and what is not linear."""
    factors: dict[str, int] = {}
    rest = ZERO
    for monomial, factor in value.terms.items():
        match monomial:
            case ():
                pass
            case (Symbol(name),):
                factors[name] = factor
            case _:
                rest = rest + Expression({monomial: factor})
    return value.constant_term, factors, rest


def _separates(left: Expression, right: Expression, one: Touch, two: Touch, loop: Loop) -> bool:
    start, factors, rest = linear_terms(left)
    other_start, other_factors, other_rest = linear_terms(right)
    moving = {loop.name, *(inner.name for t in (one, two) for inner in _inside(t, loop))}
    if rest != other_rest or not rest.symbols().isdisjoint(moving):
        return False
    step = factors.pop(loop.name, 0)
    if other_factors.pop(loop.name, 0) != step:
        return False
    differences = _differences(
        start - other_start, _strides(factors, other_factors, one, two, loop)
    )
    if differences is None:
        return False
    extent = loop.extent.constant_value or 0
    if step == 0:
        return not np.any(differences == 0)
    whole = differences[differences % step == 0] // step
    return not np.any((whole != 0) & (np.abs(whole) < extent))


def _strides(
    factors: Mapping[str, int], others: Mapping[str, int], one: Touch, two: Touch, loop: Loop
) -> list[tuple[int, int | None]]:
    """Returns factor and extent of what moves the difference of two indices apart."""
    moves: list[tuple[int, int | None]] = []
    inside = {inner.name for inner in _inside(one, loop)}
    extents = {outer.name: outer.extent.constant_value for outer in (*one.loops, *two.loops)}
    for name, factor in factors.items():
        if name in inside:
            moves.append((factor, extents.get(name)))
        elif factor != others.get(name, 0):
            moves.append((factor - others.get(name, 0), extents.get(name)))
    inside = {inner.name for inner in _inside(two, loop)}
    for name, factor in others.items():
        if name in inside:
            moves.append((-factor, extents.get(name)))
        elif name not in factors:
            moves.append((-factor, extents.get(name)))
    return moves


def _differences(start: int, moves: Sequence[tuple[int, int | None]]) -> Integers | None:
    """Returns all values of a linear expression over a box; None for too many."""
    values = np.array([start], np.int64)
    for factor, extent in moves:
        if extent is None or values.size * extent > 16 * MAX_DIFFERENCES:
            return None
        steps = factor * np.arange(extent, dtype=np.int64)
        values = np.unique(np.add.outer(values, steps))
        if values.size > MAX_DIFFERENCES:
            return None
    return values


def evaluate_on(value: Expression, names: Mapping[str, Any]) -> Any:
    """Returns the values of an expression on arrays of integers that broadcast."""
    total: Any = value.constant_term
    for monomial, factor in value.terms.items():
        if monomial:
            total = total + factor * reduce(
                lambda product, atom: product * _atom_on(atom, names), monomial, 1
            )
    return total


def _atom_on(atom: Any, names: Mapping[str, Any]) -> Any:
    if isinstance(atom, Symbol):
        if atom.name not in names:
            expression_of(atom).evaluate({})  # raises, naming the symbol
        return names[atom.name]
    parts = [evaluate_on(part, names) for part in atom.parts]
    if isinstance(atom, Extremum):
        return reduce(np.minimum if atom.kind == "min" else np.maximum, parts)
    return parts[0] // parts[1]


def _enumerated(
    pairs: Sequence[tuple[Expression, Expression]], one: Touch, two: Touch, loop: Loop
) -> bool:
    """Whether accesses are separated at all points of the loops that their indices name."""
    outer = {o.name for o in one.loops} - {i.name for i in _inside(one, loop)} - {loop.name}
    named = {name for pair in pairs for index in pair for name in index.symbols()}
    around = [o for o in one.loops if o.name in outer & named]
    first = _points([left for left, _ in pairs], around, one, loop)
    second = _points([right for _, right in pairs], around, two, loop)
    if first is None or second is None:
        return False
    if not len(first) or not len(second):
        return True
    # Each row is an iteration around, an element, and the iteration of the loop at the end.
    keys, count = keys_of(np.concatenate([first[:, :-1], second[:, :-1]]))
    split = len(first)
    reach: list[tuple[Integers, Integers]] = []
    for part, where in ((first, keys[:split]), (second, keys[split:])):
        low, high = np.full(count, np.iinfo(np.int64).max), np.full(count, -1)
        np.minimum.at(low, where, part[:, -1])
        np.maximum.at(high, where, part[:, -1])
        reach.append((low, high))
    (low, high), (other_low, other_high) = reach
    common = (high >= 0) & (other_high >= 0)
    same = (low == high) & (other_low == other_high) & (low == other_low)
    return bool(np.all(same | ~common))


def _points(
    indices: Sequence[Expression], around: Sequence[Loop], touch: Touch, loop: Loop
) -> Integers | None:
    named = {name for index in indices for name in index.symbols()}
    loops = [*around, *(i for i in _inside(touch, loop) if i.name in named), loop]
    extents = [part.extent.constant_value for part in loops]
    sizes = [extent for extent in extents if extent is not None]
    total = int(np.prod(sizes, dtype=np.int64))
    if len(sizes) < len(extents) or total > MAX_POINTS:
        return None
    grids = np.indices(sizes, dtype=np.int64).reshape(len(sizes), -1)
    names = {part.name: grid for part, grid in zip(loops, grids, strict=True)}
    places = [np.broadcast_to(evaluate_on(index, names), (total,)) for index in indices]
    return np.stack([*grids[: len(around)], *places, grids[-1]], axis=1)


def keys_of(rows: Integers) -> tuple[Integers, int]:
    """Returns a number for each row, equal for equal rows, and a bound of the numbers."""
    if not len(rows):
        return np.zeros(0, np.int64), 0
    least = rows.min(axis=0)
    sizes = [int(size) for size in rows.max(axis=0) - least + 1]
    count = prod(sizes)
    if count > MAX_KEY:
        _, keys = np.unique(rows, axis=0, return_inverse=True)
        return keys.reshape(-1), int(keys.max()) + 1
    keys = np.zeros(len(rows), np.int64)
    for column, size in enumerate(sizes):
        keys = keys * size + (rows[:, column] - least[column])
    if count > SPARSE * len(rows):
        _, keys = np.unique(keys, return_inverse=True)
        return keys, int(keys.max()) + 1
    return keys, count
