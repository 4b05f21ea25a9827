"""Whether all that statements read of a buffer they have written themselves before."""

from dataclasses import dataclass

from ..dialects.nest.program import Body, Buffer, Guard, Loop, Range, Region
from ..dialects.nest.regions import contains
from ..dialects.nest.scalars import Scalar
from ..dialects.sym import Ranges, prove_lt, simplify
from ..dialects.sym.expression import Symbol
from .buffer_uses import touches
from .conditions import conjuncts, is_fixed, names_of


@dataclass(frozen=True)
class _Written:
    """A box that is written wherever the conditions hold."""

    region: Region
    conditions: frozenset[Scalar]


def is_covered(body: Body, buffer: Buffer, ranges: Ranges) -> bool:
    """
    Returns whether each read of a buffer is proved to see a write of the same statements.

    `ranges` are those of all loops, inside the statements and around them.
    """
    return _after(body, [], frozenset(), buffer, ranges) is not None


def _after(
    body: Body,
    written: list[_Written],
    conditions: frozenset[Scalar],
    buffer: Buffer,
    ranges: Ranges,
) -> list[_Written] | None:
    """Returns what is written after statements; None where a read sees no write."""
    known = list(written)
    for statement in body:
        for region, is_write in touches(statement, {buffer.name: buffer}):
            if region.buffer != buffer.name:
                continue
            if is_write:
                known.append(_Written(region, conditions))
            elif not any(
                entry.conditions <= conditions and contains(entry.region, region, ranges)
                for entry in known
            ):
                return None
        if isinstance(statement, Guard):
            inside = conditions | {c for c in conjuncts(statement.condition) if is_fixed(c)}
            # A write under a condition that stores may change covers nothing afterwards.
            depends = any(not is_fixed(c) for c in conjuncts(statement.condition))
            after = _after(statement.body, known, inside, buffer, ranges)
            if after is None:
                return None
            known = known if depends else after
        elif isinstance(statement, Loop):
            after = _after(statement.body, known, conditions, buffer, ranges)
            if after is None:
                return None
            known += _by_all_iterations(after[len(known) :], statement, ranges)
    return known


def _by_all_iterations(entries: list[_Written], loop: Loop, ranges: Ranges) -> list[_Written]:
    """Returns what a loop has written: boxes that its iterations fill without gaps."""
    if not prove_lt(0, loop.extent, ranges):
        return []
    result: list[_Written] = []
    for entry in entries:
        if any(loop.name in names_of(condition) for condition in entry.conditions):
            continue
        region = _filled(entry.region, loop, ranges)
        if region is not None:
            result.append(_Written(region, entry.conditions))
    return result


def _filled(region: Region, loop: Loop, ranges: Ranges) -> Region | None:
    sides: list[Range] = []
    moving = 0
    for side in region.ranges:
        if loop.name in side.extent.symbols():
            return None
        if loop.name not in side.start.symbols():
            sides.append(side)
            continue
        factor, rest = side.start.split(Symbol(loop.name))
        moving += 1
        if moving > 1 or factor != side.extent or loop.name in rest.symbols():
            return None
        sides.append(Range(rest, simplify(factor * loop.extent, ranges)))
    return Region(region.buffer, tuple(sides))
