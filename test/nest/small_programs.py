"""Small programs of each kind: what schedules are tried on."""

from collections.abc import Callable

from tilewright.dialects.nest.program import Program, Scope
from tilewright.dialects.sym import maximum, minimum
from tilewright.nest.builder import Builder, maximize, minimize
from tilewright.nest.values import inside, select, value_of


def gemm(rows: int | str = "n", dtype: str = "i32") -> Program:
    b = Builder("gemm", "n in [3, 64]")
    left, right = b.buffer("A", [rows, 6], dtype), b.buffer("B", [6, 4], dtype)
    out = b.buffer("C", [rows, 4], dtype, output=True)
    i, j, k = b.axes(i=rows, j=4, k=6)
    out[i, j] += left[i, k] * right[k, j]
    return b.build()


def convolution() -> Program:
    b = Builder("convolution", "n in [3, 64]")
    x, w = b.buffer("X", ["n + 2", 6, 2], "i32"), b.buffer("W", [3, 3, 2], "i32")
    y = b.buffer("Y", ["n", 4], "i32", output=True)
    i, j, r, s, c = b.axes(i="n", j=4, r=3, s=3, c=2)
    y[i, j] += x[i + r, j + s, c] * w[r, s, c]
    return b.build()


def extremes() -> Program:
    b = Builder("extremes", "n in [3, 64], m in [3, 64]")
    x = b.buffer("X", ["n", "m"], "i8")
    high = b.buffer("H", ["n"], "i8", output=True)
    low = b.buffer("L", ["m"], "i8", output=True)
    i, k = b.axes(i="n", k="m")
    high[i] = maximize(x[i, k])
    low[k] = minimize(x[i, k])
    return b.build()


def chain() -> Program:
    b = Builder("chain", "n in [3, 64]")
    x, y = b.buffer("X", ["n", 5], "i32"), b.buffer("Y", ["n", 5], "i32", output=True)
    t, z = b.temporary("T", ["n", 5], "i32"), b.temporary("Z", ["n", 5], "i32")
    i, j = b.axes(i="n", j=5)
    t[i, j] = x[i, j] * 3
    z[i, j] = t[i, j] + x[i, j]
    y[i, j] = z[i, j] * t[i, j]
    return b.build()


def norm() -> Program:
    b = Builder("norm", "n in [3, 64]")
    x, y = b.buffer("X", ["n", 5], "i32"), b.buffer("Y", ["n", 5], "i32", output=True)
    total = b.temporary("S", ["n"], "i32")
    i, j, k = b.axes(i="n", j=5, k=5)
    total[i] += x[i, k] * x[i, k]
    y[i, j] = x[i, j] - total[i]
    return b.build()


def scan() -> Program:
    """Each row is the sum of the one before it and of a row of X."""
    b = Builder("scan", "n in [3, 64]")
    x, y = b.buffer("X", ["n", 4], "i32"), b.buffer("Y", ["n + 1", 4], "i32", output=True)
    with (
        b.loop("i", "n") as i,
        b.loop("j", 4) as j,
        b.block("Y", spatial={"vj": (4, j)}, ordered={"vi": ("n", i)}) as (vj, vi),
    ):
        y[vi + 1, vj] = y[vi, vj] + x[vi, vj]
    return b.build()


def fused() -> Program:
    """The producer of a product's left operand is computed row by row."""
    b = Builder("fused", "n in [3, 64]")
    x, w = b.buffer("X", ["n", 6], "i32"), b.buffer("W", [6, 4], "i32")
    y, t = b.buffer("Y", ["n", 4], "i32", output=True), b.temporary("T", ["n", 6], "i32")
    with b.loop("i", "n") as i:
        with (
            b.loop("p", 6) as p,
            b.block("T", spatial={"ti": ("n", i), "tp": (6, p)}) as (ti, tp),
        ):
            t[ti, tp] = x[ti, tp] + 1
        with (
            b.loop("j", 4) as j,
            b.loop("k", 6) as k,
            b.block("Y", spatial={"vi": ("n", i), "vj": (4, j)}, reduce={"vk": (6, k)}) as (
                vi,
                vj,
                vk,
            ),
        ):
            with b.init():
                y[vi, vj] = 0
            y[vi, vj] = y[vi, vj] + t[vi, vk] * w[vk, vj]
    return b.build()


def halo(scope: Scope = Scope.LOCAL) -> Program:
    """Windows of four elements, each loaded with a neighbour on both sides before it is used."""
    b = Builder("halo", "n in [3, 64]")
    x, y = b.buffer("X", ["4*n + 2"], "i32"), b.buffer("Y", ["4*n"], "i32", output=True)
    t = b.temporary("T", ["4*n + 2"], "i32", scope)
    with b.loop("i", "n") as i:
        with (
            b.loop("r", 6) as r,
            b.block("T", spatial={"tr": ("4*n + 2", 4 * i + r)}) as (tr,),
        ):
            t[tr] = x[tr] * 2
        with b.loop("u", 4) as u, b.block("Y", spatial={"v": ("4*n", 4 * i + u)}) as (v,):
            y[v] = t[v] + t[v + 1] + t[v + 2]
    return b.build()


def triangle() -> Program:
    b = Builder("triangle", "n in [3, 64]")
    x, y = b.buffer("X", ["n", "n"], "i32"), b.buffer("Y", ["n"], "i32", output=True)
    with b.loop("i", "n") as i:
        with b.block("Z", spatial={"zi": ("n", i)}) as (zi,):
            y[zi] = 0
        with (
            b.loop("k", i + 1) as k,
            b.block("Y", spatial={"vi": ("n", i)}, reduce={"vk": ("n", k)}) as (vi, vk),
        ):
            y[vi] = y[vi] + x[vi, vk]
    return b.build()


def clipped() -> Program:
    """A tiled copy whose last tile is cut."""
    b = Builder("clipped", "n in [3, 64]")
    x, y = b.buffer("X", ["n", 4], "i32"), b.buffer("Y", ["n", 4], "i32", output=True)
    with (
        b.loop("o", "(n + 3) floordiv 4") as o,
        b.loop("u", 4) as u,
        b.loop("j", 4) as j,
        b.block(
            "Y",
            spatial={"vi": ("n", 4 * o + u), "vj": (4, j)},
            where=[inside(4 * o + u, b.symbol("n"))],
        ) as (vi, vj),
    ):
        y[vi, vj] = x[vi, vj] + 1
    return b.build()


def window() -> Program:
    """Sums of three neighbours, zero beyond the ends."""
    b = Builder("window", "n in [3, 64]")
    x, y = b.buffer("X", ["n"], "i32"), b.buffer("Y", ["n"], "i32", output=True)
    padded = b.temporary("P", ["n + 2"], "i32")
    i, j, r = b.axes(i="n + 2", j="n", r=3)
    place, last = value_of(i), b.symbol("n") - 1
    near = x[minimum(maximum(i - 1, 0), last)]
    padded[i] = select((place >= 1) & (place < b.symbol("n") + 1), near, 0)
    y[j] += padded[j + r]
    return b.build()


def float_gemm() -> Program:
    return gemm(5, "f32")


PROGRAMS: tuple[Callable[[], Program], ...] = (
    gemm,
    convolution,
    extremes,
    chain,
    norm,
    scan,
    fused,
    halo,
    triangle,
    clipped,
    window,
    float_gemm,
)
