"""Softmax of rows: a row stays in registers from the one load of it to the one store."""

from ...dialects.nest.program import Program, Scope
from ..schedule import Schedule
from .row_threads import row_threads


def softmax(program: Program) -> Schedule:
    """
    Schedules the workload `softmax`, any number of rows of a constant number of columns.

        for i: M[i] = max(X[i, j])           for rows: block.x, row: thread.y
        for i, j: E = exp(X - M[i])    -->       x = X[i, ...]           registers, vector loads
        for i: S[i] += E                         M = max(x)              lane, then warp
        for i, j: Y = E / S[i]                   E = exp(x - M)          registers
                                                 S = sum(E)              lane, then warp
                                                 Y[i, ...] = E / S       vector stores

    `X` and `Y` are f32. Raises NestError for columns that the registers of a CTA do not hold.
    """
    tile = row_threads(program, "M", "E", "S", "Y")
    s = Schedule(program)
    s.cache_read("M", "X", Scope.LOCAL, consumers=["M", "E"], cache="x")
    for buffer in ("M", "E", "S"):
        s.set_scope(buffer, Scope.LOCAL)
    for kept in ("x", "E"):
        tile.keep(s, kept, kept)
    row = tile.rows_on_grid(s, "Y")
    for block in ("S", "E", "M", "x"):
        s.compute_at(block, row)
    tile.elementwise(s, "x")
    tile.reduce(s, "M", "max")
    tile.elementwise(s, "E")
    tile.reduce(s, "S", "sum")
    tile.elementwise(s, "Y")
    tile.bind_rows(s, "Y")
    return s
