"""Writes the intrinsics of a CPU out as the loops that describe them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ...dialects.diagnostic import DiagnosticError
from ...dialects.nest.intrinsics.model import ExecutionScope, kept_axes
from ...dialects.nest.intrinsics.registry import intrinsic_named
from ...dialects.nest.program import (
    Body,
    Call,
    Guard,
    Loop,
    LoopKind,
    Program,
    Region,
    Statement,
    Store,
    walk,
)
from ...dialects.nest.rewriting import Rewriter
from ...dialects.nest.scalars import Index, Load, Subscript, Variable
from ...dialects.sym import Expression, symbol
from ...transforms.lower_blocks import lower_blocks


def called(call: Call, program: Program) -> Body:
    """
    Returns the statements of an intrinsic on the regions of a call.

    The last axis of what it writes becomes lanes, others are unrolled.
    """
    intrinsic = intrinsic_named(call.intrinsic)
    if intrinsic.execution is not ExecutionScope.HOST:
        raise DiagnosticError(
            f"expected intrinsics of a CPU, got '{call.intrinsic}' of a {intrinsic.execution}"
        )
    description = lower_blocks(intrinsic.description)
    regions = {
        buffer.name: operand.region
        for buffer, operand in zip(intrinsic.buffers, call.operands, strict=True)
    }
    lane = _lane_axis(description.body)
    names = _fresh_names(description.body, program)
    body = Rewriter({old: symbol(new) for old, new in names.items()}).body(description.body)
    body = _on_regions(body, regions)
    return tuple(_with_kinds(statement, names, lane) for statement in body)


def _fresh_names(body: Body, program: Program) -> dict[str, str]:
    loops = [part.name for part in walk(body) if isinstance(part, Loop)]
    return {name: program.fresh_name(f"{name}_of_call") for name in loops}


def _lane_axis(body: Body) -> str | None:
    """Returns the loop that moves along the last axis of what is written."""
    for part in walk(body):
        if isinstance(part, Store) and part.indices:
            last = part.indices[-1]
            names = last.symbols() if isinstance(last, Expression) else frozenset[str]()
            loops = {loop.name for loop in walk(body) if isinstance(loop, Loop)}
            return next(iter(names & loops), None)
    return None


def _with_kinds(statement: Statement, names: Mapping[str, str], lane: str | None) -> Statement:
    match statement:
        case Loop(name):
            new = names.get(name, name)
            kind = LoopKind.VECTORIZED if name == lane else LoopKind.UNROLLED
            body = tuple(_with_kinds(inner, names, lane) for inner in statement.body)
            return replace(statement, name=new, kind=kind, body=body)
        case Guard(condition, body):
            return Guard(condition, tuple(_with_kinds(inner, names, lane) for inner in body))
        case _:
            return statement


def _on_regions(body: Body, regions: Mapping[str, Region]) -> Body:
    def moved(buffer: str, indices: tuple[Subscript, ...]) -> tuple[str, tuple[Subscript, ...]]:
        region = regions[buffer]
        axes = dict(zip(kept_axes(region), indices, strict=True))
        places: list[Subscript] = []
        for axis, part in enumerate(region.ranges):
            index = axes.get(axis)
            if isinstance(index, Index):
                index = index.expression
            if index is not None and not isinstance(index, Expression):
                raise DiagnosticError("expected an intrinsic whose indices depend on no data")
            places.append(part.start if index is None else part.start + index)
        return region.buffer, tuple(places)

    def leaf(scalar: Load | Variable) -> Load | None:
        if not isinstance(scalar, Load):
            return None
        buffer, indices = moved(scalar.buffer, scalar.indices)
        return Load(buffer, indices, scalar.dtype)

    def stored(store: Store) -> Store:
        buffer, indices = moved(store.buffer, store.indices)
        return replace(store, buffer=buffer, indices=indices)

    return Rewriter(of_leaf=leaf, of_store=stored).body(body)
