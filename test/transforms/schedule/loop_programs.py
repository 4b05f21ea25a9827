"""Programs on which steps on loops are refused for one reason each."""

from tilewright.dialects.nest.program import Program, Scope
from tilewright.nest.builder import Builder
from tilewright.test.nest.small_programs import gemm, halo


def shared_halo() -> Program:
    return halo(Scope.SHARED)


def global_halo() -> Program:
    return halo(Scope.GLOBAL)


def fixed() -> Program:
    return gemm(8)


def wide() -> Program:
    """A copy with 2,048 columns."""
    b = Builder("wide", "n in [1, 8]")
    x, y = b.buffer("X", ["n", 2048], "i8"), b.buffer("Y", ["n", 2048], "i8", output=True)
    i, j = b.axes(i="n", j=2048)
    y[i, j] = x[i, j]
    return b.build()


def maybe_empty() -> Program:
    b = Builder("maybe_empty", "n in [0, 8]")
    x, y = b.buffer("X", [4, "n"], "i8"), b.buffer("Y", [4, "n"], "i8", output=True)
    i, j = b.axes(i=4, j="n")
    y[i, j] = x[i, j]
    return b.build()


def unbounded() -> Program:
    b = Builder("unbounded", "n in [1, ...]")
    x, y = b.buffer("X", ["n"], "i8"), b.buffer("Y", ["n"], "i8", output=True)
    (i,) = b.axes(i="n")
    y[i] = x[i]
    return b.build()


def shifted() -> Program:
    """The second loop reads what the first one writes one iteration later."""
    b = Builder("shifted", "n in [3, 64]")
    x, y = b.buffer("X", ["n + 1"], "i32"), b.buffer("Y", ["n"], "i32", output=True)
    t = b.temporary("T", ["n + 1"], "i32")
    i, j = b.axes(i="n + 1", j="n")
    t[i] = x[i] * 2
    y[j] = t[j + 1]
    return b.build()


def stencil() -> Program:
    """Sums along a diagonal, in place: (i, j) needs (i - 1, j + 1)."""
    b = Builder("stencil", "n in [3, 64]")
    y = b.buffer("Y", ["n + 1", 6], "i32", output=True)
    with (
        b.loop("i", "n") as i,
        b.loop("j", 5) as j,
        b.block("Y", spatial={"vi": ("n", i), "vj": (5, j)}) as (vi, vj),
    ):
        y[vi + 1, vj] = y[vi + 1, vj] + y[vi, vj + 1]
    return b.build()


def not_an_update() -> Program:
    """A reduce axis whose points don't commute."""
    b = Builder("horner", "n in [3, 64]")
    x, y = b.buffer("X", ["n", 3, 3], "i32"), b.buffer("Y", ["n"], "i32", output=True)
    with (
        b.loop("i", "n") as i,
        b.loop("k", 3) as k,
        b.loop("m", 3) as m,
        b.block("Y", spatial={"vi": ("n", i)}, reduce={"vk": (3, k), "vm": (3, m)}) as (
            vi,
            vk,
            vm,
        ),
    ):
        with b.init():
            y[vi] = 1
        y[vi] = y[vi] * 3 + x[vi, vk, vm]
    return b.build()


def squares() -> Program:
    """Two sums side by side, of equal extents."""
    b = Builder("squares", "n in [3, 64]")
    x = b.buffer("X", ["n", 4], "i32")
    one = b.buffer("P", ["n"], "i32", output=True)
    two = b.buffer("Q", ["n"], "i32", output=True)
    i, j, k, m = b.axes(i="n", j="n", k=4, m=4)
    one[i] += x[i, k]
    two[j] += x[j, m] * x[j, m]
    return b.build()


def ragged() -> Program:
    """A copy of the lower triangle."""
    b = Builder("ragged", "n in [3, 64]")
    x, y = b.buffer("X", ["n", "n"], "i32"), b.buffer("Y", ["n", "n"], "i32", output=True)
    with (
        b.loop("i", "n") as i,
        b.loop("k", i + 1) as k,
        b.block("Y", spatial={"vi": ("n", i), "vk": ("n", k)}) as (vi, vk),
    ):
        y[vi, vk] = x[vi, vk]
    return b.build()


def mirrored() -> Program:
    """The second loop reads backwards what the first one writes."""
    b = Builder("mirrored", "n in [3, 64]")
    x, y = b.buffer("X", ["n"], "i32"), b.buffer("Y", ["n"], "i32", output=True)
    t = b.temporary("T", ["n"], "i32")
    i, j = b.axes(i="n", j="n")
    t[i] = x[i] * 2
    y[j] = t[b.symbol("n") - 1 - j]
    return b.build()


def backwards() -> Program:
    """A sum whose inner loop runs over its axis from the end."""
    b = Builder("backwards", "n in [3, 64]")
    x, y = b.buffer("X", ["n", 6], "i32"), b.buffer("Y", ["n"], "i32", output=True)
    with (
        b.loop("i", "n") as i,
        b.loop("a", 2) as outer,
        b.loop("b", 3) as inner,
        b.block("Y", spatial={"vi": ("n", i)}, reduce={"vk": (6, 3 * outer + 2 - inner)}) as (
            vi,
            vk,
        ),
    ):
        with b.init():
            y[vi] = 0
        y[vi] = y[vi] + x[vi, vk]
    return b.build()


def rescaled() -> Program:
    """Sums that are doubled where they stand."""
    b = Builder("rescaled", "n in [3, 64]")
    x, s = b.buffer("X", ["n", 4], "i32"), b.buffer("S", ["n"], "i32", output=True)
    with b.loop("i", "n") as i:
        with (
            b.loop("k", 4) as k,
            b.block("S", spatial={"vi": ("n", i)}, reduce={"vk": (4, k)}) as (vi, vk),
        ):
            with b.init():
                s[vi] = 0
            s[vi] = s[vi] + x[vi, vk]
        with b.block("D", spatial={"di": ("n", i)}) as (di,):
            s[di] = s[di] * 2
    return b.build()
