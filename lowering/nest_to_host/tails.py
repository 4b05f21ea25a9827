"""Which guards of a nest hold for whole tiles, so that these are written without them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from ...dialects.nest.program import Body, Call, Guard, Loop, LoopKind, Statement, Store, walk
from ...dialects.nest.regions import bounds_over
from ...dialects.nest.scalars import Apply, Index, Load, Scalar, loads_of
from ...dialects.sym import Expression
from ...dialects.sym.expression import Symbol
from ...transforms.conditions import conjuncts, names_of, under


@dataclass(frozen=True)
class Tail:
    """
    A condition of a guard, and the expression that is negative where it holds in all of a tile.

    `has_lanes` says that lanes of a vector differ in it, `is_cheap` that it is asked for once for a
    vector or more, which costs little.
    """

    condition: Scalar
    excess: Expression
    has_lanes: bool
    is_cheap: bool


def tails_of(body: Body, loops: Mapping[str, Loop | None]) -> Iterator[Tail]:
    """
    Yields conditions over the lanes and the loops of the body that are written out.

    `loops` are others around that count as such. A condition that names another loop of the
    body is left to that loop.
    """
    for statement in body:
        match statement:
            case Loop(name, _, inner, kind):
                is_flat = kind in (LoopKind.VECTORIZED, LoopKind.UNROLLED)
                yield from tails_of(inner, {**loops, name: statement if is_flat else None})
            case Guard(condition, inner):
                for part in conjuncts(condition):
                    if tail := _tail(part, loops, inner):
                        yield tail
                yield from tails_of(inner, loops)
            case _:
                pass


def _tail(condition: Scalar, loops: Mapping[str, Loop | None], body: Body) -> Tail | None:
    match condition:
        case Apply("arith.cmpi", (Index(left), Index(right)), _, "slt"):
            excess = left - right
        case _:
            return None
    inside: dict[str, Expression] = {}
    has_lanes = False
    for name in excess.symbols() & loops.keys():
        loop = loops[name]
        if loop is None:
            return None
        inside[name] = loop.extent
        has_lanes |= loop.kind is LoopKind.VECTORIZED
    bounds = bounds_over(excess, inside) if inside else None
    if bounds is None or not bounds[1].symbols().isdisjoint(loops):
        return None
    is_cheap = not has_lanes and None not in loops.values() and _has_vectors(body)
    return Tail(condition, bounds[1], has_lanes, is_cheap)


def _has_vectors(body: Body) -> bool:
    return any(isinstance(p, Loop) and p.kind is LoopKind.VECTORIZED for p in walk(body))


def without(body: Body, conditions: frozenset[Scalar]) -> Body:
    """Returns statements whose guards do not ask for conditions that are known to hold."""
    result: list[Statement] = []
    for statement in body:
        match statement:
            case Loop():
                result.append(replace(statement, body=without(statement.body, conditions)))
            case Guard(condition, inner):
                rest = [part for part in conjuncts(condition) if part not in conditions]
                result += under(rest, without(inner, conditions))
            case _:
                result.append(statement)
    return tuple(result)


def is_vector_body(
    body: Body,
    name: str,
    offsets: Mapping[int, Expression | None],
    fixed: Collection[str],
) -> bool:
    """
    Whether iterations of a loop can be lanes: each stores to elements of its own, all go one way.

    `offsets` are those of the stores, by their identity; None where one depends on data. `fixed`
    are the symbols of the program, which are positive where they are strides.
    """
    loaded = {load.buffer for part in walk(body) for load in _loads(part)}
    for part in walk(body):
        match part:
            case Store(buffer):
                offset = offsets[id(part)]
                if offset is None or name not in offset.symbols():
                    return False
                factor, rest = offset.split(Symbol(name))
                is_line = name not in rest.symbols() and factor.symbols() <= set(fixed)
                if buffer in loaded and not is_line:
                    return False
            case Guard(condition):
                if name in names_of(condition):
                    return False
            case Loop():
                if name in part.extent.symbols():
                    return False
            case Call():
                return False
            case _:
                pass
    return True


def _loads(statement: Statement) -> Iterator[Load]:
    match statement:
        case Store(_, indices, value):
            yield from loads_of(value)
            for index in indices:
                if not isinstance(index, Expression):
                    yield from loads_of(index)
        case Guard(condition):
            yield from loads_of(condition)
        case _:
            pass
