"""Programs on which the steps that move computation and data are tried."""

from tilewright.dialects.nest.program import LoopKind, Program
from tilewright.nest.builder import Builder, maximize
from tilewright.nest.values import exp, inside, maximum, minimum, select, value_of


def matmul() -> Program:
    b = Builder("matmul", "n in [1, 8192]")
    left, right = b.buffer("A", ["n", 5], "f32"), b.buffer("B", [5, 6], "f32")
    out = b.buffer("C", ["n", 6], "f32", output=True)
    i, j, k = b.axes(i="n", j=6, k=5)
    out[i, j] += left[i, k] * right[k, j]
    return b.build()


def reduced_first() -> Program:
    """A product whose reduce loop is the outermost, and an elementwise block behind it."""
    b = Builder("reduced_first", "n in [1, 64]")
    left, right = b.buffer("A", ["n", 4], "f32"), b.buffer("B", [4, 3], "f32")
    made, out = b.temporary("T", ["n", 3], "f32"), b.buffer("D", ["n", 3], "f32", output=True)
    with (
        b.loop("k", 4) as k,
        b.loop("i", "n") as i,
        b.loop("j", 3) as j,
        b.block("T", spatial={"vi": ("n", i), "vj": (3, j)}, reduce={"vk": (4, k)}) as (x, y, z),
    ):
        with b.init():
            made[x, y] = 0.0
        made[x, y] = made[x, y] + left[x, z] * right[z, y]
    p, q = b.axes(p="n", q=3)
    out[p, q] = made[p, q] * 2.0
    return b.build()


def epilogue(kind: str) -> Program:
    """A product, and an elementwise block behind it."""
    b = Builder("epilogue", "n in [1, 64]")
    left, right = b.buffer("A", ["n", 4], "f32"), b.buffer("B", [4, 3], "f32")
    bias = b.buffer("bias", [3], "f32")
    made, out = b.temporary("T", ["n", 3], "f32"), b.buffer("D", ["n", 3], "f32", output=True)
    i, j, k = b.axes(i="n", j=3, k=4)
    made[i, j] += left[i, k] * right[k, j]
    match kind:
        case "bias":
            out[i, j] = made[i, j] + bias[j]
        case "bias-first":
            out[i, j] = bias[j] + made[i, j]
        case "clip":
            out[i, j] = minimum(maximum(made[i, j], -1.0), 1.0)
        case "twice":
            out[i, j] = made[i, j] + made[i, j]
        case _:
            out[i, j] = made[i, j] * bias[j]
    return b.build()


def row_maximum() -> Program:
    """A maximum of rows, then that of it and a floor."""
    b = Builder("row_maximum", "n in [1, 64]")
    source, floor = b.buffer("X", ["n", 7], "f32"), b.buffer("L", ["n"], "f32")
    made, out = b.temporary("M", ["n"], "f32"), b.buffer("Y", ["n"], "f32", output=True)
    i, k = b.axes(i="n", k=7)
    made[i] = maximize(source[i, k])
    out[i] = maximum(made[i], floor[i])
    return b.build()


def softmax() -> Program:
    b = Builder("softmax", "n in [1, 64]")
    source, out = b.buffer("X", ["n", 6], "f32"), b.buffer("Y", ["n", 6], "f32", output=True)
    top, total = b.temporary("M", ["n"], "f32"), b.temporary("S", ["n"], "f32")
    power = b.temporary("E", ["n", 6], "f32")
    i, k = b.axes(i="n", k=6)
    top[i] = maximize(source[i, k])
    power[i, k] = exp(source[i, k] - top[i])
    total[i] += power[i, k]
    out[i, k] = power[i, k] / total[i]
    return b.build()


def conv() -> Program:
    b = Builder("conv", "n in [1, 100]")
    source, weight = b.buffer("X", ["n + 2"], "f32"), b.buffer("W", [3], "f32")
    made, out = b.temporary("T", ["n + 2"], "f32"), b.buffer("Y", ["n"], "f32", output=True)
    (i,) = b.axes(i="n + 2")
    made[i] = source[i] * 2.0
    o, r = b.axes(o="n", r=3)
    out[o] += made[o + r] * weight[r]
    return b.build()


def padded() -> Program:
    """A window whose region begins before the buffer."""
    b = Builder("padded", "n in [1, 100]")
    source, out = b.buffer("X", ["n"], "f32"), b.buffer("Y", ["n"], "f32", output=True)
    made = b.temporary("T", ["n"], "f32")
    (i,) = b.axes(i="n")
    made[i] = source[i] + 1.0
    with b.loop("o", "n") as o, b.block("Y", spatial={"vo": ("n", o)}) as (v,):
        out[v] = made[v]
        with b.when(value_of(v) > 0):
            out[v] = made[v] + made[v - 1]
    return b.build()


def strided() -> Program:
    b = Builder("strided", "n in [1, 50]")
    source, out = b.buffer("X", ["2*n"], "f32"), b.buffer("Y", ["n"], "f32", output=True)
    made = b.temporary("T", ["2*n"], "f32")
    i, o = b.axes(i="2*n", o="n")
    made[i] = source[i] * 3.0
    out[o] = made[2 * o] + made[2 * o + 1]
    return b.build()


def chain() -> Program:
    b = Builder("chain", "n in [1, 100], m in [1, 50]")
    source = b.buffer("X", ["n", "m"], "f32")
    one, two = b.temporary("T", ["n", "m"], "f32"), b.temporary("U", ["m", "n"], "f32")
    out = b.buffer("Y", ["m", "n"], "f32", output=True)
    i, j = b.axes(i="n", j="m")
    one[i, j] = source[i, j] * 2.0
    two[j, i] = one[i, j] + 1.0
    out[j, i] = two[j, i] * two[j, i]
    return b.build()


def diamond() -> Program:
    """One producer, two consumers, and a block that reads both."""
    b = Builder("diamond", "n in [1, 40]")
    source, out = b.buffer("X", ["n", 4], "f32"), b.buffer("Y", ["n", 4], "f32", output=True)
    made = b.temporary("T", ["n", 4], "f32")
    one, two = b.temporary("U", ["n", 4], "f32"), b.temporary("V", ["n", 4], "f32")
    i, j = b.axes(i="n", j=4)
    made[i, j] = source[i, j] + 1.0
    one[i, j] = made[i, j] * 2.0
    two[i, j] = made[i, j] * 3.0
    out[i, j] = one[i, j] + two[i, j]
    return b.build()


def broadcast() -> Program:
    b = Builder("broadcast", "n in [1, 40]")
    source, out = b.buffer("X", ["n"], "f32"), b.buffer("Y", ["n", 3], "f32", output=True)
    made = b.temporary("T", ["n"], "f32")
    i, j = b.axes(i="n", j=3)
    made[i] = source[i] * source[i]
    out[i, j] = made[i] + 1.0
    return b.build()


def gather() -> Program:
    b = Builder("gather", "n in [1, 40]")
    source, index = b.buffer("X", [8], "f32"), b.buffer("I", ["n"], "index")
    made, out = b.temporary("T", [8], "f32"), b.buffer("Y", ["n"], "f32", output=True)
    t, i = b.axes(t=8, i="n")
    made[t] = source[t] * 2.0
    out[i] = made[index[i]]
    return b.build()


def overwritten() -> Program:
    """The input of a producer is overwritten before the consumer runs."""
    b = Builder("overwritten", "n in [1, 40]")
    source = b.buffer("X", ["n"], "f32", output=True)
    made, out = b.temporary("T", ["n"], "f32"), b.buffer("Y", ["n"], "f32", output=True)
    (i,) = b.axes(i="n")
    made[i] = source[i] + 1.0
    source[i] = 0.0 * source[i]
    out[i] = made[i] * 2.0
    return b.build()


def inplace() -> Program:
    """A block that updates what the caller passes."""
    b = Builder("inplace", "n in [1, 40]")
    out, source = b.buffer("Y", ["n"], "f32", output=True), b.buffer("X", ["n"], "f32")
    (i,) = b.axes(i="n")
    out[i] = out[i] + source[i]
    return b.build()


def half_written() -> Program:
    """A block that writes every other element of an output."""
    b = Builder("half_written", "n in [1, 40]")
    out, source = b.buffer("Y", ["2*n"], "f32", output=True), b.buffer("X", ["n"], "f32")
    (i,) = b.axes(i="n")
    out[2 * i] = source[i] + 1.0
    return b.build()


def two_writers() -> Program:
    b = Builder("two_writers", "n in [1, 40]")
    source, out = b.buffer("X", ["n"], "f32"), b.buffer("Y", ["n"], "f32", output=True)
    made = b.temporary("T", ["2*n"], "f32")
    (i,) = b.axes(i="n")
    made[i] = source[i]
    made[i + b.symbol("n")] = source[i] * 2.0
    out[i] = made[i] + made[i + b.symbol("n")]
    return b.build()


def triangle() -> Program:
    """A producer that leaves out points."""
    b = Builder("triangle", "n in [1, 20]")
    source, out = b.buffer("X", ["n", "n"], "f32"), b.buffer("Y", ["n"], "f32", output=True)
    made = b.temporary("T", ["n", "n"], "f32")
    with (
        b.loop("i", "n") as i,
        b.loop("j", "n") as j,
        b.block("T", spatial={"vi": ("n", i), "vj": ("n", j)}, where=[inside(j, i + 1)]) as (v, w),
    ):
        made[v, w] = source[v, w] + 1.0
    (o,) = b.axes(o="n")
    out[o] = made[o, o] * 2.0
    return b.build()


def scan() -> Program:
    """A recurrence, elementwise before and behind."""
    b = Builder("scan", "n in [2, 40]")
    source, out = b.buffer("X", ["n"], "f32"), b.buffer("Y", ["n"], "f32", output=True)
    made, total = b.temporary("T", ["n"], "f32"), b.temporary("S", ["n + 1"], "f32")
    (i,) = b.axes(i="n")
    made[i] = source[i] * 2.0
    with b.loop("t", "n") as t, b.block("S", ordered={"vt": ("n", t)}) as (v,):
        with b.when(value_of(v) < 1):
            total[0] = 0.0
        total[v + 1] = total[v] + made[v]
    out[i] = total[i + 1] - 1.0
    return b.build()


def parallel_producer() -> Program:
    b = Builder("parallel_producer", "n in [1, 40]")
    source, out = b.buffer("X", ["n"], "f32"), b.buffer("Y", ["n"], "f32", output=True)
    made = b.temporary("T", ["n"], "f32")
    with (
        b.loop("p", "n", LoopKind.PARALLEL) as p,
        b.block("T", spatial={"vp": ("n", p)}) as (v,),
    ):
        made[v] = source[v] + 1.0
    (i,) = b.axes(i="n")
    out[i] = made[i] * 2.0
    return b.build()


def halves() -> Program:
    """f16 data that passes through a temporary."""
    b = Builder("halves", "n in [1, 40]")
    source, out = b.buffer("X", ["n"], "f16"), b.buffer("Y", ["n"], "f16", output=True)
    made = b.temporary("T", ["n"], "f16")
    (i,) = b.axes(i="n")
    made[i] = source[i] * source[i]
    out[i] = select(made[i] < 2.0, made[i], source[i])
    return b.build()


def epilogue_after() -> Program:
    return epilogue("scale")


def updated() -> Program:
    """A buffer that changes between two of its readers."""
    b = Builder("updated", "n in [1, 40]")
    source = b.buffer("X", ["n"], "f32", output=True)
    made, out = b.temporary("T", ["n"], "f32"), b.buffer("Y", ["n"], "f32", output=True)
    (i,) = b.axes(i="n")
    made[i] = source[i] + 1.0
    source[i] = source[i] * 3.0
    out[i] = source[i] * made[i]
    return b.build()


def overwritten_later() -> Program:
    """What a consumer reads besides is written between its producer and itself."""
    b = Builder("overwritten_later", "n in [1, 40]")
    source, out = b.buffer("X", ["n"], "f32"), b.buffer("Y", ["n"], "f32", output=True)
    made, other = b.temporary("T", ["n"], "f32"), b.temporary("U", ["n"], "f32")
    (i,) = b.axes(i="n")
    made[i] = source[i] + 1.0
    other[i] = source[i] * 2.0
    out[i] = made[i] * other[i]
    return b.build()


def loop_carried() -> Program:
    """A block that reads what a later block of its loop wrote in the iteration before."""
    b = Builder("loop_carried", "n in [1, 40]")
    source, out = b.buffer("X", ["n"], "f32"), b.buffer("Y", ["n"], "f32", output=True)
    other = b.temporary("U", ["n"], "f32")
    with b.loop("i", "n") as i, b.block("Y", spatial={"vi": ("n", i)}) as (v,):
        out[v] = source[v] + 1.0
        with b.when(value_of(v) < 0):
            out[v] = other[v]
    with b.loop("j", "n") as j, b.block("U", spatial={"vj": ("n", j)}) as (v,):
        other[v] = source[v] * 2.0
    return b.build()


def interleaved() -> Program:
    """A producer whose inner loop steps over what the outer one makes."""
    b = Builder("interleaved", "n in [1, 40]")
    source, out = b.buffer("X", ["4*n"], "f32"), b.buffer("Y", ["4*n"], "f32", output=True)
    made = b.temporary("T", ["4*n"], "f32")
    with (
        b.loop("a", 4) as a,
        b.loop("c", "n") as c,
        b.block("T", spatial={"v": ("4*n", 4 * c + a)}) as (v,),
    ):
        made[v] = source[v] + 1.0
    (i,) = b.axes(i="4*n")
    out[i] = made[i] * 2.0
    return b.build()


def dead() -> Program:
    b = Builder("dead", "n in [1, 40]")
    source, out = b.buffer("X", ["n"], "f32"), b.buffer("Y", ["n"], "f32", output=True)
    made = b.temporary("T", ["n"], "f32")
    (i,) = b.axes(i="n")
    made[i] = source[i] + 1.0
    out[i] = source[i] * 2.0
    return b.build()


def two_stores() -> Program:
    """A producer that stores twice."""
    b = Builder("two_stores", "n in [1, 40]")
    source, out = b.buffer("X", ["n"], "f32"), b.buffer("Y", ["n"], "f32", output=True)
    made = b.temporary("T", ["n"], "f32")
    with b.loop("i", "n") as i, b.block("T", spatial={"vi": ("n", i)}) as (v,):
        made[v] = source[v]
        with b.when(value_of(v) > 2):
            made[v] = source[v] * 2.0
    (o,) = b.axes(o="n")
    out[o] = made[o] + 1.0
    return b.build()


def shifted() -> Program:
    """A producer that stores beside its axis."""
    b = Builder("shifted", "n in [1, 40]")
    source, out = b.buffer("X", ["n"], "f32"), b.buffer("Y", ["n"], "f32", output=True)
    made = b.temporary("T", ["n + 1"], "f32")
    (i,) = b.axes(i="n")
    made[i + 1] = source[i] * 2.0
    out[i] = made[i + 1]
    return b.build()


def parallel_columns() -> Program:
    """A producer in a parallel loop that its consumer does not divide among the iterations."""
    b = Builder("parallel_columns", "n in [1, 40]")
    source, out = b.buffer("X", ["n"], "f32"), b.buffer("Y", ["n"], "f32", output=True)
    made, other = b.temporary("T", ["n"], "f32"), b.buffer("Z", [4, "n"], "f32", output=True)
    with b.loop("p", 4, LoopKind.PARALLEL) as p, b.loop("q", "n") as q:
        with b.block("T", spatial={"vi": ("n", q)}) as (v,):
            made[v] = source[v] + 1.0
        with b.block("Z", spatial={"vp": (4, p), "vq": ("n", q)}) as (v, w):
            other[v, w] = source[w] * 2.0
    (i,) = b.axes(i="n")
    out[i] = made[i] * 2.0
    return b.build()


def horner() -> Program:
    """A polynomial by Horner's rule: a reduction whose points come in one order alone."""
    b = Builder("horner")
    x, y = b.buffer("X", [3, 6], "f32"), b.buffer("Y", [3], "f32", output=True)
    with (
        b.loop("i", 3) as i,
        b.loop("k", 6) as k,
        b.block("Y", spatial={"vi": (3, i)}, reduce={"vk": (6, k)}) as (vi, vk),
    ):
        with b.init():
            y[vi] = 0.0
        y[vi] = y[vi] * 0.5 + x[vi, vk]
    return b.build()


def begins_at_the_end() -> Program:
    """A sum whose reduce axis is at 0 in the last iteration, where its init begins it anew."""
    b = Builder("begins_at_the_end")
    x, y = b.buffer("X", [3, 6], "f32"), b.buffer("Y", [3], "f32", output=True)
    with (
        b.loop("i", 3) as i,
        b.loop("k", 6) as k,
        b.block("Y", spatial={"vi": (3, i)}, reduce={"vk": (6, 5 - k)}) as (vi, vk),
    ):
        with b.init():
            y[vi] = 0.0
        y[vi] += x[vi, vk]
    return b.build()


def guarded() -> Program:
    """A producer and a consumer that run where a condition around them holds."""
    b = Builder("guarded", "n in [1, 40]")
    source, out = b.buffer("X", ["n"], "f32"), b.buffer("Y", ["n"], "f32", output=True)
    made = b.temporary("T", ["n"], "f32")
    with (
        b.loop("i", "n") as i,
        b.when(value_of(i) < 20),
        b.block("T", spatial={"vi": ("n", i)}) as (v,),
    ):
        made[v] = source[v] + 1.0
    with (
        b.loop("j", "n") as j,
        b.when(value_of(j) < 20),
        b.block("Y", spatial={"vj": ("n", j)}) as (v,),
    ):
        out[v] = made[v] * 2.0
    return b.build()


def two_buffers() -> Program:
    """A block that writes two buffers, and one that reads both."""
    b = Builder("two_buffers", "n in [1, 40]")
    source, out = b.buffer("X", ["n"], "f32"), b.buffer("Y", ["n"], "f32", output=True)
    one, two = b.temporary("T", ["n"], "f32"), b.temporary("U", ["n"], "f32")
    with b.loop("i", "n") as i, b.block("T", spatial={"vi": ("n", i)}) as (v,):
        one[v] = source[v] + 1.0
        two[v] = source[v] * 2.0
    (o,) = b.axes(o="n")
    out[o] = one[o] * two[o]
    return b.build()


def integers() -> Program:
    b = Builder("integers", "n in [1, 40]")
    source, out = b.buffer("X", ["n"], "i32"), b.buffer("Y", ["n"], "i32", output=True)
    made = b.temporary("T", ["n"], "i32")
    (i,) = b.axes(i="n")
    made[i] = source[i] + 1
    out[i] = made[i] * 2
    return b.build()


def turned() -> Program:
    """A copy whose axes are the digits, to another base, of the number that two loops make."""
    b = Builder("turned")
    source, out = b.buffer("X", [12], "f32"), b.buffer("Y", [12], "f32", output=True)
    with b.loop("i", 4) as i, b.loop("j", 3) as j:
        number = 3 * i + j
        with b.block("Y", spatial={"v": (3, number // 4), "w": (4, number % 4)}) as (v, w):
            out[4 * v + w] = source[4 * v + w]
    return b.build()


def crossed(kind: str) -> Program:
    """A reduction whose loops run in another order than its axes, and a block that reads it."""
    b = Builder("crossed")
    source, out = b.buffer("X", [3, 2, 6], "f32"), b.buffer("Y", [3], "f32", output=True)
    made = b.temporary("T", [3], "f32")
    with b.loop("i", 3) as i, b.loop("m", 2) as m, b.loop("k", 6) as k:
        reduce = {"vk": (6, 5 - k if kind == "backwards" else k), "vm": (2, m)}
        with b.block("T", spatial={"vi": (3, i)}, reduce=reduce) as (v, w, x):
            with b.init():
                made[v] = 0.0
            before = made[v] * 0.5 if kind == "horner" else made[v]
            made[v] = before + source[v, x, w]
    (o,) = b.axes(o=3)
    out[o] = made[o] * 2.0
    return b.build()
