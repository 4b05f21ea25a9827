"""Which tiles are intrinsics, and the first difference of those that are not."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from tilewright.dialects.nest.intrinsics import DESCRIPTIONS
from tilewright.dialects.nest.program import (
    Block,
    Buffer,
    Call,
    LoopKind,
    Program,
    Scope,
    walk,
)
from tilewright.dialects.sym import Expression, constant
from tilewright.nest.builder import Builder
from tilewright.nest.interpreter import interpret
from tilewright.nest.values import cast, inside, select
from tilewright.transforms.schedule.blockize import Blockize
from tilewright.transforms.schedule.primitive import ScheduleError
from tilewright.transforms.schedule.tensorize import Tensorize

FRAGMENTS = {"A": Scope.FRAGMENT, "B": Scope.FRAGMENT, "C": Scope.FRAGMENT}


def scoped(program: Program, scopes: Mapping[str, Scope]) -> Program:
    parameters = tuple(
        replace(p, scope=scopes.get(p.name, p.scope)) if isinstance(p, Buffer) else p
        for p in program.parameters
    )
    return replace(program, parameters=parameters)


@dataclass(frozen=True)
class Product:
    """A matrix product of 32x16x32 in tiles, with what may differ from one case to the next."""

    dtype: str = "f16"
    total: str = "f32"
    tile: tuple[int, int, int] = (16, 8, 16)
    a: str = "ik"
    b: str = "kj"
    swapped: bool = False
    order: str = "ijk"
    init: bool = False
    guarded: bool = False
    scopes: Mapping[str, Scope] | None = None
    shift: int = 0
    subtract: bool = False
    kind: LoopKind = LoopKind.SERIAL

    def build(self) -> Program:
        extents = dict(zip("ijk", (32, 16, 64), strict=True))
        tiles = dict(zip("ijk", self.tile, strict=True))
        b = Builder("product")
        x, y = (
            b.buffer(n, [extents[axis] + self.shift for axis in axes], self.dtype)
            for n, axes in (("A", self.a), ("B", self.b))
        )
        c = b.buffer("C", [32, 16], self.total, output=True)
        at: dict[str, Expression] = {}
        with b.loop("io", 32 // tiles["i"], self.kind) as io:
            with b.loop("jo", 16 // tiles["j"]) as jo, b.loop("ko", 64 // tiles["k"]) as ko:
                outer = {"i": io, "j": jo, "k": ko}
                first, second, third = self.order
                with b.loop(first, tiles[first]) as at[first]:
                    with b.loop(second, tiles[second]) as at[second]:
                        with b.loop(third, tiles[third]) as at[third]:
                            self.block(b, c, x, y, outer, tiles, at)
        return scoped(b.build(), FRAGMENTS if self.scopes is None else self.scopes)

    def block(self, b: Builder, c: Any, x: Any, y: Any, outer: Any, tiles: Any, at: Any) -> None:
        extents = dict(zip("ijk", (32, 16, 64), strict=True))
        bound = {n: (extents[n], outer[n] * tiles[n] + at[n]) for n in "ijk"}
        where = [inside(bound["i"][1], 31)] if self.guarded else []
        spatial = {"vi": bound["i"], "vj": bound["j"]}
        with b.block("C", spatial=spatial, reduce={"vk": bound["k"]}, where=where) as axes:
            v = dict(zip("ijk", axes, strict=True))
            if self.init:
                with b.init():
                    c[v["i"], v["j"]] = 0
            left = cast(x[tuple(v[n] + self.shift for n in self.a)], self.total)
            right = cast(y[tuple(v[n] for n in self.b)], self.total)
            product = right * left if self.swapped else left * right
            element = c[v["i"], v["j"]]
            c[v["i"], v["j"]] = element - product if self.subtract else product + element


def calls(program: Program) -> list[Call]:
    return [part for part in walk(program.body) if isinstance(part, Call)]


def check_same(before: Program, after: Program, arrays: dict[str, Any]) -> None:
    results: list[dict[str, Any]] = []
    for program in (before, after):
        copies = {name: array.copy() for name, array in arrays.items()}
        results.append(interpret(program, copies, descriptions=DESCRIPTIONS))
    for name in arrays:
        np.testing.assert_allclose(
            results[1][name].astype(np.float64),
            results[0][name].astype(np.float64),
            rtol=1e-4,
            atol=1e-4,
        )


def arrays_of(program: Program) -> dict[str, Any]:
    rng = np.random.default_rng(11)
    arrays: dict[str, Any] = {}
    for buffer in program.parameters:
        assert isinstance(buffer, Buffer)
        shape = tuple(int(str(extent)) for extent in buffer.shape)
        numbers = rng.integers(-4, 5, shape) + 0.0
        dtype = buffer.dtype
        if dtype == "bf16":
            arrays[buffer.name] = (numbers.astype(np.float32).view(np.uint32) >> 16).astype("u2")
        else:
            arrays[buffer.name] = numbers.astype(
                {"f": "f", "i": "i"}[dtype[0]] + str(int(dtype[1:]) // 8)
            )
    return arrays


F32 = "mma.m16n8k16.f16.f32"
ACCEPTED: dict[str, tuple[Product, str]] = {
    "as the description says it": (Product(), F32),
    "factors the other way round": (Product(swapped=True), F32),
    "bf16": (Product("bf16"), "mma.m16n8k16.bf16.f32"),
    "f16 sums": (Product(total="f16"), "mma.m16n8k16.f16.f16"),
    "tf32": (Product("f32", tile=(16, 8, 8)), "mma.m16n8k8.tf32.f32"),
    "bytes": (Product("i8", "i32", (16, 8, 32)), "mma.m16n8k32.i8.i32"),
    "A transposed": (Product(a="ki"), F32),
    "B transposed": (Product(b="jk"), F32),
    "both transposed": (Product(a="ki", b="jk"), F32),
    "A transposed, by its name": (Product(a="ki"), f"{F32}.col.row"),
    "both transposed, by their name": (Product(a="ki", b="jk"), f"{F32}.col.col"),
    "bytes with B transposed": (Product("i8", "i32", (16, 8, 32), b="jk"), "mma.m16n8k32.i8.i32"),
    "with an init": (Product(init=True), F32),
    "loops kji": (Product(order="kji"), F32),
    "loops jki": (Product(order="jki"), F32),
    "loops ikj": (Product(order="ikj"), F32),
    "loops jik, factors the other way round": (Product(order="jik", swapped=True), F32),
    "in a grid": (Product(kind=LoopKind.BLOCK_X), F32),
    "one warp a tile": (Product(kind=LoopKind.THREAD_Y), F32),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_tile_becomes_a_call_that_computes_the_same(name: str) -> None:
    product, intrinsic = ACCEPTED[name]
    before = product.build()
    precision = "tf32" if "tf32" in intrinsic else ""
    after = Tensorize(product.order[0], intrinsic, precision=precision).apply(before)
    (call,) = calls(after)
    assert call.intrinsic.startswith(intrinsic)
    check_same(before, after, arrays_of(before))


def vectors(dtype: str, width: int, scopes: Mapping[str, Scope], start: int = 0) -> Program:
    """`Y[8, 64] = X[8, 64 + start]`, in vectors of `width` elements."""
    b = Builder("copy")
    x = b.buffer("X", [8, 64 + start], dtype)
    y = b.buffer("Y", [8, 64], dtype, output=True)
    with b.loop("i", 8) as i, b.loop("jo", 64 // width) as jo, b.loop("j", width) as j:
        with b.block("Y", spatial={"vi": (8, i), "vj": (64, jo * width + j)}) as (vi, vj):
            y[vi, vj] = x[vi, vj + start]
    return scoped(b.build(), scopes)


SHARED_Y = {"Y": Scope.SHARED}


@pytest.mark.parametrize(
    ("intrinsic", "dtype", "width", "scopes"),
    [
        ("copy.16.f16", "f16", 8, {}),
        ("copy.8.f16", "f16", 4, {}),
        ("copy.4.f16", "f16", 2, SHARED_Y),
        ("copy.16.f32", "f32", 4, {"Y": Scope.LOCAL}),
        ("copy.16.i8", "i8", 16, {}),
        ("cp.async.16.f16", "f16", 8, SHARED_Y),
        ("cp.async.8.f32", "f32", 2, SHARED_Y),
        ("cp.async.16.bf16", "bf16", 8, SHARED_Y),
    ],
)
def test_a_vector_becomes_a_copy(
    intrinsic: str, dtype: str, width: int, scopes: Mapping[str, Scope]
) -> None:
    before = vectors(dtype, width, scopes)
    after = Tensorize("j", intrinsic).apply(before)
    assert [call.intrinsic for call in calls(after)] == [intrinsic]
    check_same(before, after, arrays_of(before))


def padded_copy(bound_on_vector: bool = False) -> Program:
    """`Y[8, 64] = X[8, 64]`, 0 from row 5 on, or from column 5 on."""
    b = Builder("copy")
    x, y = b.buffer("X", [8, 64], "f16"), b.buffer("Y", [8, 64], "f16", output=True)
    with b.loop("i", 8) as i, b.loop("jo", 8) as jo, b.loop("j", 8) as j:
        with b.block("Y", spatial={"vi": (8, i), "vj": (64, jo * 8 + j)}) as (vi, vj):
            index = cast(vj if bound_on_vector else vi, "index")
            y[vi, vj] = select(index < 5, x[vi, vj], 0.0)
    return scoped(b.build(), SHARED_Y)


def test_a_vector_under_a_condition_is_filled_with_zero() -> None:
    before = padded_copy()
    after = Tensorize("j", "cp.async.16.f16").apply(before)
    assert [call.intrinsic for call in calls(after)] == ["cp.async.16.f16", "zero.16.f16"]
    check_same(before, after, arrays_of(before))


def test_conditions_in_one_another_are_one_if_the_whole_vector_agrees_on_them() -> None:
    b = Builder("copy")
    x, y = b.buffer("X", [8, 64], "f16"), b.buffer("Y", [8, 64], "f16", output=True)
    with b.loop("i", 8) as i, b.loop("jo", 8) as jo, b.loop("j", 8) as j:
        with b.block("Y", spatial={"vi": (8, i), "vj": (64, jo * 8 + j)}) as (vi, vj):
            # The eighths of a row, of which each is a vector.
            part = select(cast(vj // 8, "index") >= 3, x[vi, vj], 0.0)
            y[vi, vj] = select(cast(vi, "index") < 5, part, 0.0)
    before = scoped(b.build(), SHARED_Y)
    after = Tensorize("j", "cp.async.16.f16").apply(before)
    assert [call.intrinsic for call in calls(after)] == ["cp.async.16.f16", "zero.16.f16"]
    check_same(before, after, arrays_of(before))


def outer(rows: int = 6, columns: int = 16) -> Program:
    b = Builder("outer")
    x, y = b.buffer("A", [12, 9], "f32"), b.buffer("B", [9, 32], "f32")
    c = b.buffer("C", [12, 32], "f32", output=True)
    with b.loop("io", 2) as io, b.loop("jo", 2) as jo, b.loop("k", 9) as k:
        with b.loop("i", rows) as i, b.loop("j", columns) as j:
            with b.block(
                "C",
                spatial={"vi": (12, io * rows + i), "vj": (32, jo * columns + j)},
                reduce={"vk": (9, k)},
            ) as (vi, vj, vk):
                c[vi, vj] = c[vi, vj] + x[vi, vk] * y[vk, vj]
    return b.build()


def test_a_host_tile_becomes_an_outer_product() -> None:
    before = outer()
    after = Tensorize("i", "avx2.outer.f32.6x16").apply(before)
    check_same(before, after, arrays_of(before))


def two_blocks() -> Program:
    b = Builder("two")
    x, y = b.buffer("X", [16], "f16", output=True), b.buffer("Y", [16], "f16", output=True)
    with b.loop("jo", 2) as jo, b.loop("j", 8) as j:
        for target in (x, y):
            name = target.buffer.name
            with b.block(name, spatial={f"v{name}": (16, jo * 8 + j)}) as (v,):
                target[v] = 0.0
    return b.build()


def fused() -> Program:
    b = Builder("fused")
    x, y = b.buffer("X", [8, 8], "f16"), b.buffer("Y", [8, 8], "f16", output=True)
    with b.loop("f", 64) as f:
        with b.block("Y", spatial={"vi": (8, f // 8), "vj": (8, f % 8)}) as (vi, vj):
            y[vi, vj] = x[vi, vj]
    return b.build()


def strided() -> Program:
    b = Builder("strided")
    x, y = b.buffer("X", [8, 16], "f16"), b.buffer("Y", [8, 8], "f16", output=True)
    with b.loop("i", 8) as i, b.loop("j", 8) as j:
        with b.block("Y", spatial={"vi": (8, i), "vj": (8, j)}) as (vi, vj):
            y[vi, vj] = x[vi, 2 * vj]
    return b.build()


def columns() -> Program:
    b = Builder("columns")
    x, y = b.buffer("X", [8, 8], "f16"), b.buffer("Y", [8, 8], "f16", output=True)
    with b.loop("j", 8) as j, b.loop("i", 8) as i:
        with b.block("Y", spatial={"vi": (8, i), "vj": (8, j)}) as (vi, vj):
            y[vi, vj] = x[vi, vj]
    return b.build()


def product(**changes: Any) -> Callable[[], Program]:
    return lambda: Product(**changes).build()


@dataclass(frozen=True)
class Refused:
    """A step that is refused: the program, the step, the condition, and what the message has."""

    program: Callable[[], Program]
    step: Tensorize
    condition: str
    message: str


def mma(name: str = F32, target: str = "i", arch: str = "") -> Tensorize:
    return Tensorize(target, name, arch)


REFUSED: dict[str, Refused] = {
    "no such intrinsic": Refused(product(), mma("mma.m16n8k4.f64"), "exists", "such as mma"),
    "no such loop": Refused(product(), mma(target="x"), "exists", "expected a loop or block"),
    "fp8 on sm_80": Refused(
        product(), mma("mma.m16n8k32.e4m3.f32", arch="sm_80"), "target", "got sm_80"
    ),
    "tf32 unasked": Refused(
        product(dtype="f32"), mma("mma.m16n8k8.tf32.f32"), "precision", "rounded to tf32"
    ),
    "f16 for bf16": Refused(
        product(dtype="bf16"), mma(), "matches", "dtype of 'A': expected f16, got bf16"
    ),
    "f32 sums for f16": Refused(
        product(), mma("mma.m16n8k16.f16.f16"), "matches", "dtype of 'C': expected f16, got f32"
    ),
    "a difference": Refused(
        product(subtract=True),
        mma(),
        "matches",
        "value: expected arith.addf of f32, got arith.subf of f32",
    ),
    "8 rows": Refused(
        product(tile=(8, 8, 16)), mma(), "matches", "expected 16 iterations ('i'), got 8 ('i')"
    ),
    "16 columns": Refused(
        product(tile=(16, 16, 16)), mma(), "matches", "expected 8 iterations ('j'), got 16 ('j')"
    ),
    "32 deep": Refused(
        product(tile=(16, 8, 32)), mma(), "matches", "expected 16 iterations ('k'), got 32 ('k')"
    ),
    "A transposed, by another name": Refused(
        product(a="ki"), mma(f"{F32}.row.row"), "matches", "expected the iterator 'i', got 'k'"
    ),
    "A in shared memory": Refused(
        product(scopes={**FRAGMENTS, "A": Scope.SHARED}),
        mma(),
        "matches",
        "operand A: expected a buffer of scope fragment, got 'A' of scope shared",
    ),
    "C in global memory": Refused(
        product(scopes={**FRAGMENTS, "C": Scope.GLOBAL}),
        mma(),
        "matches",
        "operand C: expected a buffer of scope fragment, got 'C' of scope global",
    ),
    "A shifted by a row": Refused(
        product(shift=1), mma(), "matches", "expected a region of 'A' that begins at a multiple"
    ),
    "a bound": Refused(
        product(guarded=True), mma(), "matches", "predicate: expected a whole tile, got points"
    ),
    "one loop too many": Refused(
        product(), mma(target="ko"), "matches", "expected one iterator of stride 1, got k + 16*ko"
    ),
    "one loop too few": Refused(
        product(), mma(target="j"), "matches", "expected 2 iterators as indices, got 1"
    ),
    "lanes around a warp's work": Refused(
        product(kind=LoopKind.THREAD_X), mma(), "execution", "no loop bound to thread.x"
    ),
    "a copy for a product": Refused(
        product(), mma("copy.16.f32"), "matches", "got arith.addf of f32"
    ),
    "two blocks": Refused(
        two_blocks, mma("zero.16.f16", "j"), "one-block", "got 2 statements in 'j'"
    ),
    "4 of 8 elements": Refused(
        lambda: vectors("f16", 4, {}),
        mma("copy.16.f16", "j"),
        "matches",
        "expected 8 iterations ('i'), got 4 ('j')",
    ),
    "one element beside the vector": Refused(
        lambda: vectors("f16", 8, {}, start=1),
        mma("copy.16.f16", "j"),
        "matches",
        "expected addresses in 'X' at multiples of 16 bytes",
    ),
    "rows that are no multiple of the vector": Refused(
        lambda: vectors("f16", 8, {}, start=4),
        mma("copy.16.f16", "j"),
        "matches",
        "expected addresses in 'X' at multiples of 16 bytes",
    ),
    "an asynchronous copy to global memory": Refused(
        lambda: vectors("f16", 8, {}),
        mma("cp.async.16.f16", "j"),
        "matches",
        "operand T: expected a buffer of scope shared, got 'Y' of scope global",
    ),
    "an asynchronous copy from shared memory": Refused(
        lambda: vectors("f16", 8, {"X": Scope.SHARED, "Y": Scope.SHARED}),
        mma("cp.async.16.f16", "j"),
        "matches",
        "operand S: expected a buffer of scope global, got 'X' of scope shared",
    ),
    "a condition on the vector's elements": Refused(
        lambda: padded_copy(bound_on_vector=True),
        mma("cp.async.16.f16", "j"),
        "matches",
        "value: expected an element of 'S' (f16), got arith.select of f16",
    ),
    "a fused loop": Refused(
        fused,
        mma("copy.16.f16", "f"),
        "matches",
        "expected one iterator of stride 1, got f floordiv 8",
    ),
    "every second element": Refused(
        strided, mma("copy.16.f16", "j"), "matches", "expected one iterator of stride 1, got 2*j"
    ),
    "a column": Refused(
        columns,
        mma("copy.16.f16", "i"),
        "matches",
        "expected neighbours in memory along the last index of",
    ),
    "another host tile": Refused(
        outer, mma("avx2.outer.f32.4x24"), "matches", "expected 4 iterations ('i'), got 6 ('i')"
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_mismatch_is_refused_with_the_first_difference(name: str) -> None:
    case = REFUSED[name]
    program = case.program()
    with pytest.raises(ScheduleError) as caught:
        case.step.apply(program)
    assert caught.value.condition == case.condition
    assert case.message in str(caught.value)


def test_one_fragment_has_one_layout() -> None:
    program = Product(b="jk").build()
    once = Tensorize("i", F32).apply(program)
    b = Builder("load")
    stored = b.buffer("S", [16, 64], "f16")
    with b.loop("n", 1), b.loop("x", 16) as x, b.loop("y", 16) as y:
        with b.block("load", spatial={"vx": (16, x), "vy": (16, y)}) as (vx, vy):
            b.buffer("B", [16, 64], "f16")[vx, vy] = stored[vx, vy]
    load = scoped(b.build(), {"S": Scope.SHARED, **FRAGMENTS})
    both = replace(
        once, body=(*load.body, *once.body), parameters=(*once.parameters, load.parameters[0])
    )
    Tensorize("x", "ldmatrix.b.col.x4.f16").apply(both)
    with pytest.raises(ScheduleError, match=r"expected 'B' to be held as B\[n, k\]"):
        Tensorize("x", "ldmatrix.b.row.x4.f16").apply(both)


def test_a_refused_step_leaves_the_program_alone() -> None:
    program = Product(tile=(8, 8, 16)).build()
    body = program.body
    with pytest.raises(ScheduleError):
        Tensorize("i", F32).apply(program)
    assert program.body is body


@pytest.mark.parametrize("product", [Product(), Product(init=True), Product(guarded=True)])
def test_blockize_keeps_what_is_computed(product: Product) -> None:
    before = product.build()
    after = Blockize("i", names=("tile",)).apply(before)
    tile = after.block("tile")
    assert isinstance(tile, Block)
    assert [axis.extent for axis in tile.axes] == [constant(2), constant(2), constant(4)]
    check_same(before, after, arrays_of(before))
