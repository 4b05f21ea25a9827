"""Rebuilds parts of a program: substitution of indices, of buffers, of single statements."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeAlias

from ..sym import Expression
from .program import (
    Axis,
    Block,
    Body,
    Bound,
    Call,
    Guard,
    Loop,
    Operand,
    Range,
    Region,
    Statement,
    Store,
)
from .scalars import Load, Scalar, ScalarMap, Variable

Substitution: TypeAlias = Mapping[str, Expression | int]
# Answers for an access to a buffer with the buffer and indices that take its place.
LeafMap: TypeAlias = Callable[[Load | Variable], Scalar | None]


class Rewriter:
    """
    Rebuilds statements; what does not change is shared with the original.

    `names` are replaced in all index expressions. `of_leaf` may replace loads and variables,
    `of_store` may replace stores, `of_region` regions, once names are replaced in them.
    """

    def __init__(
        self,
        names: Substitution | None = None,
        of_leaf: LeafMap | None = None,
        of_store: Callable[[Store], Statement] | None = None,
        of_region: Callable[[Region], Region] | None = None,
    ) -> None:
        self._names = names or {}
        self._of_store = of_store
        self._of_region = of_region
        self._scalar = ScalarMap(self.expression if self._names else None, of_leaf)

    def expression(self, value: Expression) -> Expression:
        """Returns an index expression with names replaced."""
        return value.substitute(self._names) if self._names else value

    def scalar(self, value: Scalar) -> Scalar:
        """Returns a scalar, rebuilt."""
        return self._scalar(value)

    def region(self, region: Region) -> Region:
        """Returns a region, rebuilt."""
        ranges = tuple(
            Range(self.expression(part.start), self.expression(part.extent))
            for part in region.ranges
        )
        rebuilt = region if ranges == region.ranges else Region(region.buffer, ranges)
        return rebuilt if self._of_region is None else self._of_region(rebuilt)

    def bound(self, bound: Bound) -> Bound:
        """Returns a bound, rebuilt."""
        return Bound(self.expression(bound.left), self.expression(bound.right))

    def body(self, body: Body) -> Body:
        """Returns a sequence of statements, rebuilt."""
        changed = tuple(map(self.statement, body))
        same = all(new is old for new, old in zip(changed, body, strict=True))
        return body if same else changed

    def statement(self, statement: Statement) -> Statement:
        """Returns a statement, rebuilt."""
        match statement:
            case Loop():
                extent, body = self.expression(statement.extent), self.body(statement.body)
                if extent is statement.extent and body is statement.body:
                    return statement
                return replace(statement, extent=extent, body=body)
            case Block():
                return self._block(statement)
            case Guard(condition, body):
                return Guard(self.scalar(condition), self.body(body))
            case Call(intrinsic, operands):
                return Call(
                    intrinsic, tuple(Operand(self.region(o.region), o.mode) for o in operands)
                )
            case Store(buffer, indices, value):
                indices = tuple(map(self._scalar.subscript, indices))
                store = Store(buffer, indices, self.scalar(value))
                return store if self._of_store is None else self._of_store(store)

    def _block(self, block: Block) -> Block:
        return replace(
            block,
            axes=tuple(self._axis(axis) for axis in block.axes),
            reads=tuple(map(self.region, block.reads)),
            writes=tuple(map(self.region, block.writes)),
            body=self.body(block.body),
            init=self.body(block.init),
            predicate=tuple(map(self.bound, block.predicate)),
        )

    def _axis(self, axis: Axis) -> Axis:
        extent, binding = self.expression(axis.extent), self.expression(axis.binding)
        if extent is axis.extent and binding is axis.binding:
            return axis
        return replace(axis, extent=extent, binding=binding)


def substitute(body: Body, names: Substitution) -> Body:
    """Returns statements with loops, axes or symbols replaced by expressions."""
    return Rewriter(names).body(body) if names else body


def rename_buffer(body: Body, old: str, new: str) -> Body:
    """Returns statements that access another buffer instead, at the same indices."""
    return Rewriter(
        of_leaf=lambda leaf: (
            replace(leaf, buffer=new) if isinstance(leaf, Load) and leaf.buffer == old else None
        ),
        of_store=lambda store: replace(store, buffer=new) if store.buffer == old else store,
        of_region=lambda region: replace(region, buffer=new) if region.buffer == old else region,
    ).body(body)


def substitute_loops(body: Body, names: Substitution) -> Body:
    """Returns statements with loops replaced by expressions; inside blocks only axes are named."""
    return tuple(_substitute_loops(statement, names) for statement in body)


def _substitute_loops(statement: Statement, names: Substitution) -> Statement:
    match statement:
        case Loop():
            body = substitute_loops(statement.body, names)
            return replace(statement, extent=statement.extent.substitute(names), body=body)
        case Block():
            axes = tuple(
                replace(axis, binding=axis.binding.substitute(names)) for axis in statement.axes
            )
            predicate = tuple(
                Bound(bound.left.substitute(names), bound.right.substitute(names))
                for bound in statement.predicate
            )
            return replace(statement, axes=axes, predicate=predicate)
        case Guard() | Store() | Call():
            return Rewriter(names).statement(statement)


def guarded(body: Body, bound: Bound) -> Body:
    """Returns statements whose outermost blocks run only where a bound holds."""
    return tuple(_guarded(statement, bound) for statement in body)


def _guarded(statement: Statement, bound: Bound) -> Statement:
    match statement:
        case Loop():
            return replace(statement, body=guarded(statement.body, bound))
        case Block():
            return replace(statement, predicate=(*statement.predicate, bound))
        case Guard() | Store() | Call():
            return statement
