"""Which guards of a nest hold for whole tiles, so that these are written without them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from ...dialects.nest.program import Body, Call, Guard, Loop, Statement, Store, walk
from ...dialects.nest.regions import bounds_over
from ...dialects.nest.scalars import Apply, Index, Load, Scalar, loads_of
from ...dialects.sym import Expression
from ...dialects.sym.expression import Symbol
from ...transforms.conditions import conjuncts, names_of, under


@dataclass(frozen=True)
class Tail:
    """A condition of a guard, and the expression that is negative where it holds in all of a tile."""

    condition: Scalar
    excess: Expression


def tails_of(body: Body, extents: Mapping[str, Expression]) -> Iterator[Tail]:
    """Yields conditions over loops of the body; `extents` are those of loops that count as inside."""
    for statement in body:
        match statement:
            case Loop(name, extent, inner):
                yield from tails_of(inner, {**extents, name: extent})
            case Guard(condition, inner):
                for part in conjuncts(condition):
                    if tail := _tail(part, extents):
                        yield tail
                yield from tails_of(inner, extents)
            case _:
                pass


def _tail(condition: Scalar, extents: Mapping[str, Expression]) -> Tail | None:
    match condition:
        case Apply("arith.cmpi", (Index(left), Index(right)), _, "slt"):
            excess = left - right
        case _:
            return None
    inside = {name: extents[name] for name in excess.symbols() if name in extents}
    bounds = bounds_over(excess, inside) if inside else None
    if bounds is None or not bounds[1].symbols().isdisjoint(extents):
        return None
    return Tail(condition, bounds[1])


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


def is_vector_body(body: Body, name: str, offsets: Mapping[int, Expression | None]) -> bool:
    """
    Whether iterations of a loop can be lanes: each stores to elements of its own, all go one way.

    `offsets` are those of the stores, by their identity; None where one depends on data.
    """
    loaded = {load.buffer for part in walk(body) for load in _loads(part)}
    for part in walk(body):
        match part:
            case Store(buffer):
                offset = offsets[id(part)]
                if offset is None or name not in offset.symbols():
                    return False
                factor, rest = offset.split(Symbol(name))
                if buffer in loaded and name in factor.symbols() | rest.symbols():
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
