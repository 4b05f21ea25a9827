"""Whether all that statements read of a buffer they have written themselves before."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..dialects.nest.program import Body, Buffer, Guard, Loop, Range, Region, Statement
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


def is_covered(body: Body, name: str, buffers: Mapping[str, Buffer], ranges: Ranges) -> bool:
    """
    Returns whether each read of a buffer is proved to see a write of the same statements.

    `ranges` are those of all loops, inside the statements and around them.
    """
    return _Coverage(name, buffers, ranges).after(body, [], frozenset()) is not None


class _Coverage:
    def __init__(self, name: str, buffers: Mapping[str, Buffer], ranges: Ranges) -> None:
        self._name = name
        self._buffers = buffers
        self._ranges = ranges

    def after(
        self, body: Body, written: list[_Written], conditions: frozenset[Scalar]
    ) -> list[_Written] | None:
        """Returns what is written after statements; None where a read sees no write."""
        known = list(written)
        for statement in body:
            if not self._itself(statement, known, conditions):
                return None
            if not isinstance(statement, Guard | Loop):
                continue
            parts = conjuncts(statement.condition) if isinstance(statement, Guard) else ()
            inside = conditions | {c for c in parts if is_fixed(c)}
            after = self.after(statement.body, known, inside)
            if after is None:
                return None
            if isinstance(statement, Loop):
                known += _by_all_iterations(after[len(known) :], statement, self._ranges)
            elif all(is_fixed(c) for c in parts):
                # A write under a condition that stores may change covers nothing afterwards.
                known = after
        return known

    def _itself(
        self, statement: Statement, known: list[_Written], conditions: frozenset[Scalar]
    ) -> bool:
        """Records what a statement writes; returns whether what it reads was written."""
        for region, is_write in touches(statement, self._buffers):
            if region.buffer != self._name:
                continue
            if is_write:
                known.append(_Written(region, conditions))
            elif not any(
                entry.conditions <= conditions and contains(entry.region, region, self._ranges)
                for entry in known
            ):
                return False
        return True


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
