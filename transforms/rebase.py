"""Makes the indices of buffers relative to an origin."""

from collections.abc import Mapping
from dataclasses import replace

from ..dialects.diagnostic import DiagnosticError
from ..dialects.nest.program import (
    Body,
    Call,
    Guard,
    Loop,
    Program,
    Range,
    Region,
    Statement,
    Store,
)
from ..dialects.nest.rewriting import Rewriter
from ..dialects.nest.scalars import Load, Scalar, Subscript, Variable
from ..dialects.sym import Expression, Ranges, simplify, symbol
from ..dialects.sym.expression import Symbol
from .buffer_uses import axis_name, kernels_apart, of_thread

Origins = Mapping[str, tuple[Expression, ...]]


def rebased(program: Program, origins: Origins, ranges: Ranges) -> Body:
    """
    Returns the statements of a program, in which buffers are indexed from their origins.

    Origins are over loops around the uses and over the axes of threads (`thread_x_`), for which
    the loop around a use that is bound to the axis stands.
    """
    kernels = kernels_apart(program)
    bodies = (_Rebasing(kernel, origins, ranges, {}).body(kernel.body) for kernel in kernels)
    return tuple(statement for body in bodies for statement in body)


class _Rebasing:
    def __init__(
        self, kernel: Program, origins: Origins, ranges: Ranges, axes: Mapping[str, Expression]
    ) -> None:
        self._kernel = kernel
        self._origins = origins
        self._ranges = ranges
        self._axes = axes
        self._rewriter = Rewriter(of_leaf=self._leaf, of_store=self._store, of_region=self._region)

    def body(self, body: Body) -> Body:
        return tuple(map(self._statement, body))

    def _statement(self, statement: Statement) -> Statement:
        if isinstance(statement, Loop):
            inner = self
            if statement.kind.is_thread:
                axes = {**self._axes, axis_name(statement): symbol(statement.name)}
                inner = _Rebasing(self._kernel, self._origins, self._ranges, axes)
            return replace(statement, body=inner.body(statement.body))
        if isinstance(statement, Guard):
            condition = self._rewriter.scalar(statement.condition)
            return Guard(condition, self.body(statement.body))
        if isinstance(statement, Call):
            statement = of_thread(statement, self._kernel)
        return self._rewriter.statement(statement)

    def _leaf(self, leaf: Load | Variable) -> Scalar | None:
        if isinstance(leaf, Load) and leaf.buffer in self._origins:
            return Load(leaf.buffer, self._indices(leaf.buffer, leaf.indices), leaf.dtype)
        return None

    def _store(self, store: Store) -> Store:
        if store.buffer not in self._origins:
            return store
        return replace(store, indices=self._indices(store.buffer, store.indices))

    def _region(self, region: Region) -> Region:
        if region.buffer not in self._origins:
            return region
        starts = tuple(part.start for part in region.ranges)
        moved = self._indices(region.buffer, starts)
        return Region(
            region.buffer,
            tuple(
                Range(start, part.extent)
                for start, part in zip(moved, region.ranges, strict=True)
                if isinstance(start, Expression)
            ),
        )

    def _indices(self, buffer: str, indices: tuple[Subscript, ...]) -> tuple[Subscript, ...]:
        return tuple(
            self._relative(index, origin.substitute(self._axes), buffer)
            if isinstance(index, Expression)
            else index
            for index, origin in zip(indices, self._origins[buffer], strict=True)
        )

    def _relative(self, index: Expression, origin: Expression, buffer: str) -> Expression:
        result = index - origin
        missing = [n for n in result.symbols() if n.startswith("thread_") and n.endswith("_")]
        if missing:
            raise DiagnosticError(
                f"expected each use of the local buffer '{buffer}' below a loop over "
                f"{missing[0].rstrip('_').replace('_', '.')}, got one outside; a thread has only "
                "its own elements"
            )
        if any(not isinstance(atom, Symbol) for atom in result.variables()):
            return simplify(result, self._ranges)
        return result
