"""
Ends loops where a guard that is all of their body ends.

    for k in 0..256                            for k in 0..min(256, n - 256*s)
        if 256*s + k < n: ...           -->        ...
"""

from dataclasses import dataclass, replace

from ..dialects.nest.program import Body, Guard, Loop, LoopKind, Program, Statement
from ..dialects.nest.scalars import Apply, Index, Scalar
from ..dialects.sym import (
    Expression,
    Ranges,
    ceildiv,
    constant,
    maximum,
    minimum,
    simplify,
)
from ..dialects.sym.expression import Symbol
from .conditions import conjuncts, under
from .nest_pass import NestPass


@dataclass(frozen=True)
class ShortenLoopsPass(NestPass):
    """Ends serial loops where their guards end."""

    name = "shorten-loops"

    def transform(self, program: Program) -> Program:
        """Returns the program with shorter loops."""
        return shorten_loops(program)


def shorten_loops(program: Program) -> Program:
    """Returns a program without blocks whose serial loops end where their guards do."""
    return replace(program, body=_shortened(program.body, program.ranges))


def _shortened(body: Body, ranges: Ranges) -> Body:
    return tuple(_statement(statement, ranges) for statement in body)


def _statement(statement: Statement, ranges: Ranges) -> Statement:
    match statement:
        case Loop():
            return _loop(statement, ranges)
        case Guard(condition, body):
            return Guard(condition, _shortened(body, ranges))
        case _:
            return statement


def _loop(loop: Loop, ranges: Ranges) -> Loop:
    extent, body = loop.extent, loop.body
    match body:
        case (Guard(condition, guarded),) if loop.kind is LoopKind.SERIAL:
            kept: list[Scalar] = []
            for part in conjuncts(condition):
                if (end := _end(part, loop.name)) is None:
                    kept.append(part)
                else:
                    extent = minimum(extent, maximum(end, constant(0)))
            body = under(kept, guarded)
        case _:
            pass
    inside = ranges.also(loop.name, 0, loop.extent - 1)
    return replace(loop, extent=simplify(extent, ranges), body=_shortened(body, inside))


def _end(condition: Scalar, loop: str) -> Expression | None:
    """Returns the first index of a loop at which a condition fails, and fails from there on."""
    match condition:
        case Apply("arith.cmpi", (Index(left), Index(right)), _, "slt"):
            factor, rest = (left - right).split(Symbol(loop))
        case _:
            return None
    step = factor.constant_value
    if step is None or step < 1 or loop in rest.symbols():
        return None
    return ceildiv(-rest, constant(step))
