"""Layer norm and RMS norm of rows: a row is loaded once, and stays in registers."""

from ...dialects.nest.program import Program, Scope
from ..schedule import Schedule
from .row_threads import row_threads


def layer_norm(program: Program) -> Schedule:
    """
    Schedules the workload `layer_norm`, any number of rows of a constant number of columns.

        for i, j: S[i] += X[i, j]               for rows: block.x, row: thread.y
        for i, j: V[i] += (X - S/n)**2   -->        x = X[i, ...]        registers, vector loads
        for i, j: Y = normed(X, S, V)               S = sum(x)           lane, then warp
                                                    V = sum((x - S/n)**2)
                                                    Y[i, ...] = normed   vector stores

    Two sums, not one of squares: a mean that is large beside the deviation costs no digits. All
    arrays are f32, f16 or bf16, sums f32. Raises NestError for columns that the registers of a CTA
    do not hold.
    """
    return _normed(program, ("S", "V"))


def rms_norm(program: Program) -> Schedule:
    """
    Schedules the workload `rms_norm`: as `layer_norm`, with the one sum of squares `S`.

    Any number of rows of a constant number of columns, of f32, f16 or bf16; raises NestError for
    columns that the registers of a CTA do not hold.
    """
    return _normed(program, ("S",))


def _normed(program: Program, sums: tuple[str, ...]) -> Schedule:
    tile = row_threads(program, "Y", *sums)
    s = Schedule(program)
    s.cache_read(sums[0], "X", Scope.LOCAL, consumers=[*sums, "Y"], cache="x")
    for buffer in sums:
        s.set_scope(buffer, Scope.LOCAL)
    tile.keep(s, "x", "x")
    row = tile.rows_on_grid(s, "Y")
    for block in (*reversed(sums), "x"):
        s.compute_at(block, row)
    tile.elementwise(s, "x")
    for block in sums:
        tile.reduce(s, block, "sum")
    tile.elementwise(s, "Y")
    tile.bind_rows(s, "Y")
    return s
