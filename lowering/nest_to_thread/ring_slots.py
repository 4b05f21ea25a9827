"""Slots of rings: remainders of a loop's index, counted from one iteration to the next."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from xdsl.ir import SSAValue

from ...dialects.nest.program import Call, Loop, Statement, Store, walk
from ...dialects.nest.scalars import loads_of
from ...dialects.sym import Expression, mod
from ...dialects.sym.expression import Atom, Quotient, Symbol
from ..emitter import Emitter


@dataclass(frozen=True)
class Slot:
    """`(loop + offset) mod length` of a serial loop, which begins at `start`."""

    expression: Expression
    length: int
    start: int


NO_SLOTS: Mapping[Slot, SSAValue] = {}


def remainders_of(loop: Loop) -> list[Slot]:
    """
    Returns the remainders of a loop's index in the indices of its body, each once.

    Division by a power of two is a mask already, and cheaper than a count.
    """
    found: dict[Slot, None] = {}
    for statement in walk(loop.body):
        for index in _indices(statement):
            for atom in index.variables():
                if (slot := _slot(loop, atom)) is not None:
                    found[slot] = None
    return list(found)


def next_slot(emit: Emitter, slot: Slot, value: SSAValue) -> SSAValue:
    """Appends the step to the next iteration: one more, but the first after the last."""
    further = emit.add(value, 1)
    is_last = emit.compare("eq", value, slot.length - 1)
    return emit.select(is_last, emit.integer(0), further)


def _slot(loop: Loop, atom: Atom) -> Slot | None:
    if not isinstance(atom, Quotient) or (length := atom.divisor.constant_value) is None:
        return None
    factor, rest = atom.numerator.split(Symbol(loop.name))
    offset = rest.constant_value
    if factor != 1 or offset is None or not length & (length - 1):
        return None
    return Slot(mod(atom.numerator, length), length, offset % length)


def _indices(statement: Statement) -> Iterator[Expression]:
    if isinstance(statement, Call):
        for operand in statement.operands:
            yield from (part.start for part in operand.region.ranges)
    if isinstance(statement, Store):
        yield from (i for i in statement.indices if isinstance(i, Expression))
        for load in loads_of(statement.value):
            yield from (i for i in load.indices if isinstance(i, Expression))
