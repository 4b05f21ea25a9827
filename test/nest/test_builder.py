"""The builder makes the nest that was written, and refuses what cannot be one."""

from collections.abc import Callable

import pytest

from tilewright.dialects.nest.program import AxisKind, Block, Bound, Loop, Program, Store
from tilewright.dialects.nest.scalars import Apply, Constant, Index, Load
from tilewright.dialects.sym import constant, symbol
from tilewright.nest.builder import Builder, maximize
from tilewright.nest.values import NestError, cast, exp, inside, number_of, select


def matmul(dtype: str = "f32", accumulator: str = "f32") -> Program:
    b = Builder("matmul", "n in [1, 8192]")
    left, right = b.buffer("A", ["n", 32], dtype), b.buffer("B", [32, 16], dtype)
    out = b.buffer("C", ["n", 16], accumulator, output=True)
    i, j, k = b.axes(i="n", j=16, k=32)
    out[i, j] += left[i, k] * right[k, j]
    return b.build()


def block_of(program: Program, name: str) -> Block:
    block = program.block(name)
    assert block is not None
    return block


def test_one_line_becomes_a_loop_for_each_axis_around_a_block() -> None:
    program = matmul()
    assert [loop.name for loop in program.loops_around("C")] == ["i", "j", "k"]
    assert isinstance(program.places["C"][-1], Block)


def test_axes_that_the_target_lacks_are_reduced() -> None:
    block = block_of(matmul(), "C")
    assert [(axis.name, axis.kind) for axis in block.axes] == [
        ("vi", AxisKind.SPATIAL),
        ("vj", AxisKind.SPATIAL),
        ("vk", AxisKind.REDUCE),
    ]


def test_a_sum_begins_at_zero() -> None:
    (store,) = block_of(matmul(), "C").init
    assert store == Store("C", (symbol("vi"), symbol("vj")), Constant(0.0, "f32"))


def test_a_maximum_of_integers_begins_at_the_least_integer() -> None:
    b = Builder("rowmax")
    x, m = b.buffer("X", [4, 8], "i8"), b.buffer("M", [4], "i8", output=True)
    i, k = b.axes(i=4, k=8)
    m[i] = maximize(x[i, k])
    (store,) = block_of(b.build(), "M").init
    assert isinstance(store, Store)
    assert store.value == Constant(-128, "i8")


def test_factors_are_widened_before_they_are_multiplied() -> None:
    (store,) = block_of(matmul("f16"), "C").body
    assert isinstance(store, Store)
    assert isinstance(product := store.value, Apply)
    factor = product.operands[1]
    assert isinstance(factor, Apply)
    assert (factor.op, factor.dtype) == ("arith.mulf", "f32")
    widened = factor.operands[0]
    assert isinstance(widened, Apply)
    assert (widened.op, widened.operands[0].dtype) == ("arith.extf", "f16")


def test_regions_are_over_the_axes() -> None:
    block = block_of(matmul(), "C")
    assert {region.buffer for region in block.reads} == {"A", "B", "C"}
    (written,) = block.writes
    assert [(str(part.start), part.extent) for part in written.ranges] == [("vi", 1), ("vj", 1)]


def test_a_window_is_read_where_it_is_shifted() -> None:
    b = Builder("blur", "n in [1, 100]")
    x, y = b.buffer("X", ["n + 2"], "f32"), b.buffer("Y", ["n"], "f32", output=True)
    i, k = b.axes(i="n", k=3)
    y[i] += x[i + k]
    (window,) = (region for region in block_of(b.build(), "Y").reads if region.buffer == "X")
    assert str(window.ranges[0].start) == "vi + vk"


def test_a_nest_is_written_with_context_managers() -> None:
    b = Builder("copy", "n in [1, 100]")
    x, y = b.buffer("X", ["n"], "f32"), b.buffer("Y", ["n"], "f32", output=True)
    with (
        b.loop("o", "(n + 7) floordiv 8") as outer,
        b.loop("u", 8) as inner,
        b.block(
            "copy",
            spatial={"v": ("n", outer * 8 + inner)},
            where=[inside(outer * 8 + inner, symbol("n"))],
        ) as (v,),
    ):
        y[v] = x[v]
    program = b.build()
    assert program.loop("u") is not None
    place = symbol("o") * 8 + symbol("u")
    assert block_of(program, "copy").predicate == (Bound(place, symbol("n")),)


def test_a_gather_has_a_scalar_as_an_index() -> None:
    b = Builder("gather", "n in [1, 100]")
    table = b.buffer("T", [16, 4], "f32")
    rows, y = b.buffer("R", ["n"], "i32"), b.buffer("Y", ["n", 4], "f32", output=True)
    i, j = b.axes(i="n", j=4)
    y[i, j] = table[cast(rows[i], "index"), j]
    (store,) = block_of(b.build(), "Y").body
    assert isinstance(store, Store)
    assert isinstance(load := store.value, Load)
    assert isinstance(load.indices[0], Apply)
    whole = next(r for r in block_of(b.build(), "Y").reads if r.buffer == "T").ranges[0]
    assert (whole.start, whole.extent) == (constant(0), constant(16))


def test_names_that_are_taken_get_a_number() -> None:
    b = Builder("twice")
    x, y = b.buffer("X", [4], "f32"), b.buffer("Y", [4], "f32", output=True)
    t = b.temporary("T", [4], "f32")
    (i,) = b.axes(i=4)
    t[i] = exp(x[i])
    y[i] = t[i] * 2.0
    program = b.build()
    assert [name for name, path in program.places.items() if isinstance(path[-1], Loop)] == [
        "i",
        "i_1",
    ]


def wrong_rank(b: Builder) -> None:
    x = b.buffer("X", [4, 4], "f32")
    (i,) = b.axes(i=4)
    x[i] = 0.0


def mixed_dtypes(b: Builder) -> None:
    x, y = b.buffer("X", [4], "f32"), b.buffer("Y", [4], "f16")
    (i,) = b.axes(i=4)
    x[i] = x[i] + y[i]


def unknown_dtype(b: Builder) -> None:
    b.buffer("X", [4], "float32")


def twice_the_same_name(b: Builder) -> None:
    b.buffer("X", [4], "f32")
    b.buffer("X", [4], "f32")


def axis_not_reduced(b: Builder) -> None:
    x, y = b.buffer("X", [4, 4], "f32"), b.buffer("Y", [4], "f32")
    i, k = b.axes(i=4, k=4)
    y[i] = x[i, k]


def float_as_index(b: Builder) -> None:
    x = b.buffer("X", [4], "f32")
    (i,) = b.axes(i=4)
    x[i] = x[x[i]]


def unknown_symbol(b: Builder) -> None:
    b.symbol("m")


def bad_extent(b: Builder) -> None:
    b.buffer("X", ["n +"], "f32")


def truth_of_a_value(b: Builder) -> None:
    x = b.buffer("X", [4], "f32")
    (i,) = b.axes(i=4)
    if x[i] < 1.0:
        x[i] = 0.0


def condition_that_is_none(b: Builder) -> None:
    x = b.buffer("X", [4], "f32")
    (i,) = b.axes(i=4)
    x[i] = select(x[i], 1.0, 0.0)


def number_too_large(b: Builder) -> None:
    x = b.buffer("X", [4], "i8")
    (i,) = b.axes(i=4)
    x[i] = x[i] + 300


def extent_of_no_symbol(b: Builder) -> None:
    b.buffer("X", ["n", "q"], "f32")


def axis_of_no_symbol(b: Builder) -> None:
    b.axes(i="q")


def negative_extent(b: Builder) -> None:
    b.buffer("X", [-4], "f32")


def name_that_is_none(b: Builder) -> None:
    b.buffer("my buffer", [4], "f32")


def behind_the_end(b: Builder) -> None:
    x, y = b.buffer("X", ["n"], "f32"), b.buffer("Y", ["n"], "f32")
    (i,) = b.axes(i="n")
    y[i] = x[i + 1]
    b.build()


def before_the_start(b: Builder) -> None:
    x, y = b.buffer("X", ["n", 4], "f32"), b.buffer("Y", ["n", 4], "f32")
    i, j = b.axes(i="n", j=4)
    y[i, j] = x[i, 2 * j - 1]
    b.build()


def init_outside_of_a_block(b: Builder) -> None:
    with b.init():
        pass


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (wrong_rank, "expected 2 indices of 'X', got 1"),
        (mixed_dtypes, "expected operands of one dtype, got f32 and f16; cast one"),
        (unknown_dtype, "expected a dtype among .*, got 'float32'"),
        (twice_the_same_name, "expected a name that no buffer or number has, got 'X'"),
        (axis_not_reduced, "expected 'Y' to be indexed by 'k' or reduced"),
        (float_as_index, "expected an index of dtype index, got f32; cast it"),
        (unknown_symbol, "expected a symbol of the ranges 'n in .*', got 'm'"),
        (bad_extent, "expected"),
        (truth_of_a_value, "a Value has no truth of its own"),
        (condition_that_is_none, "expected a condition of dtype i1, got f32"),
        (number_too_large, "expected a number that i8 holds, got 300"),
        (extent_of_no_symbol, "expected extents of 'X' over symbols of 'n in .*', got 'q'"),
        (axis_of_no_symbol, "expected extents of the axis 'i' over symbols of .*, got 'q'"),
        (negative_extent, "expected extents of 'X' that are not negative, got -4"),
        (name_that_is_none, "expected an identifier .*, got 'my buffer'"),
        (behind_the_end, r"indices of 'X' from 0 to n - 1 on axis 0, got vi \+ 1 from 1 to n"),
        (before_the_start, r"indices of 'X' from 0 to 3 on axis 1, got 2\*vj - 1 from -1 to 5"),
        (init_outside_of_a_block, "expected `init` directly inside a block"),
    ],
)
def test_what_cannot_be_built_is_refused(write: Callable[[Builder], None], message: str) -> None:
    with pytest.raises(NestError, match=message):
        write(Builder("bad", "n in [1, 8]"))


def test_an_axis_with_the_name_of_a_symbol_is_not_the_symbol() -> None:
    b = Builder("steps", "n in [1, 8]")
    y = b.buffer("Y", ["n"], "index", output=True)
    (n,) = b.axes(n="n")
    y[n] = n + symbol("n")
    (store,) = block_of(b.build(), "Y").body
    assert isinstance(store, Store)
    assert store.value == Index(symbol("vn_1") + symbol("n"))


def test_ranges_that_do_not_parse_are_refused() -> None:
    with pytest.raises(NestError, match="expected"):
        Builder("bad", "n in [1")


@pytest.mark.parametrize(
    ("dtype", "rounded"),
    [("f16", 0.0999755859375), ("bf16", 0.10009765625), ("f8E4M3FN", 0.1015625), ("f32", 0.1)],
)
def test_numbers_are_rounded_to_narrow_floats(dtype: str, rounded: float) -> None:
    assert number_of(0.1, dtype) == rounded
    assert number_of(-3, dtype) == -3.0


@pytest.mark.parametrize(("number", "dtype"), [(1e6, "f16"), (1e39, "f32"), (300, "i8")])
def test_numbers_that_are_too_large_are_refused(number: float, dtype: str) -> None:
    with pytest.raises(NestError, match=f"expected a number that {dtype} holds"):
        number_of(number, dtype)


def test_infinity_is_a_number_of_a_float() -> None:
    assert number_of(float("-inf"), "f16") == float("-inf")
