"""Every mapping of convolutions and products to intrinsics, each of which computes the same."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tilewright.dialects.nest.defects import ProgramError
from tilewright.dialects.nest.intrinsics import DESCRIPTIONS
from tilewright.dialects.nest.program import Block, Buffer, Call, Loop, Program, walk
from tilewright.dialects.nest.verifier import verify_program
from tilewright.dialects.sym import Expression, constant
from tilewright.nest.builder import Builder
from tilewright.nest.interpreter import interpret
from tilewright.nest.values import exp
from tilewright.transforms.auto_tensorize import NoMappingError, propose
from tilewright.transforms.schedule.matricize import AxisGroup, Matricize
from tilewright.transforms.schedule.primitive import ScheduleError

F32 = "mma.m16n8k16.f16.f32"
BYTES = "mma.m16n8k32.i8.i32"

# Sum of products as text: extents of the axes, then what is written and the factors by index.
WORKLOADS: dict[str, tuple[dict[str, int], str, str, str]] = {
    "gemm": ({"i": 20, "j": 12, "k": 24}, "i j", "i k", "k j"),
    "gemm, B transposed": ({"i": 20, "j": 12, "k": 24}, "i j", "i k", "j k"),
    "gemm, A transposed": ({"i": 20, "j": 12, "k": 24}, "i j", "k i", "k j"),
    "gemm, C transposed": ({"i": 20, "j": 12, "k": 24}, "j i", "i k", "k j"),
    "batched": ({"b": 3, "i": 8, "j": 9, "k": 10}, "b i j", "b i k", "b k j"),
    "heads": ({"b": 2, "h": 2, "i": 6, "j": 7, "k": 8}, "b h i j", "b i h k", "b j h k"),
    "conv 1d": ({"n": 2, "x": 5, "o": 6, "p": 3, "c": 4}, "n x o", "n x+p c", "p c o"),
    "conv 1d, channels first": (
        {"n": 2, "x": 5, "o": 6, "p": 3, "c": 4}, "n o x", "n c x+p", "o c p",
    ),
    "conv 2d": (
        {"n": 2, "y": 3, "x": 4, "o": 5, "p": 3, "q": 2, "c": 3},
        "n y x o", "n y+p x+q c", "p q c o",
    ),
    "conv 2d, channels first": (
        {"n": 2, "o": 5, "y": 3, "x": 4, "c": 3, "p": 3, "q": 2},
        "n o y x", "n c y+p x+q", "o c p q",
    ),
    "conv 2d, strides": (
        {"n": 1, "y": 3, "x": 4, "o": 5, "p": 3, "q": 3, "c": 3},
        "n y x o", "n 2*y+p 2*x+q c", "p q c o",
    ),
    "conv 2d, dilated": (
        {"n": 1, "y": 3, "x": 4, "o": 5, "p": 3, "q": 3, "c": 3},
        "n y x o", "n y+2*p x+2*q c", "p q c o",
    ),
    "conv 2d, groups": (
        {"n": 1, "g": 2, "y": 3, "x": 3, "o": 4, "p": 2, "q": 2, "c": 3},
        "n g y x o", "n y+p x+q g c", "g p q c o",
    ),
    "conv 3d": (
        {"n": 1, "z": 2, "y": 2, "x": 3, "o": 4, "r": 2, "p": 2, "q": 2, "c": 3},
        "n z y x o", "n z+r y+p x+q c", "r p q c o",
    ),
}  # fmt: skip


def parsed(index: str, axes: dict[str, Any]) -> Any:
    total: Any = 0
    for term in index.split("+"):
        *factor, name = term.split("*")
        total = total + axes[name] * int(factor[0] if factor else 1)
    return total


def build(name: str, dtype: str = "f16", total: str = "f32") -> Program:
    extents, written, left, right = WORKLOADS[name]
    b = Builder("workload")
    axes: dict[str, Expression] = dict(zip(extents, b.axes(**extents), strict=True))
    last = {axis: extent - 1 for axis, extent in extents.items()}

    def array(buffer: str, indices: str, kind: str, output: bool = False) -> Any:
        shape = [parsed(index, last) + 1 for index in indices.split()]
        return b.buffer(buffer, shape, kind, output=output)

    def at(indices: str) -> tuple[Any, ...]:
        return tuple(parsed(index, axes) for index in indices.split())

    x, w = array("X", left, dtype), array("W", right, dtype)
    y = array("Y", written, total, output=True)
    y[at(written)] += x[at(left)] * w[at(right)]
    return b.build()


def numbers(program: Program) -> dict[str, Any]:
    rng = np.random.default_rng(5)
    arrays: dict[str, Any] = {}
    for buffer in program.parameters:
        assert isinstance(buffer, Buffer)
        shape = tuple(int(str(extent)) for extent in buffer.shape)
        code = {"f16": "f2", "f32": "f4", "i8": "i1", "i32": "i4"}[buffer.dtype]
        arrays[buffer.name] = rng.integers(-4, 5, shape).astype(code)
    return arrays


def expected(name: str, arrays: dict[str, Any]) -> Any:
    """The sum of products by NumPy's indexing in f64."""
    extents, written, left, right = WORKLOADS[name]
    grid = np.meshgrid(*map(np.arange, extents.values()), indexing="ij", sparse=True)
    axes = dict(zip(extents, grid, strict=True))
    at = [tuple(parsed(i, axes) for i in part.split()) for part in (written, left, right)]
    x, w = arrays["X"].astype(np.float64)[at[1]], arrays["W"].astype(np.float64)[at[2]]
    result = np.zeros(arrays["Y"].shape)
    full = np.broadcast_arrays(x * w, *at[0])
    np.add.at(result, tuple(full[1:]), full[0])
    return result


def check(program: Program, name: str) -> None:
    arrays = numbers(program)
    wanted = expected(name, arrays)
    interpret(program, arrays, descriptions=DESCRIPTIONS)
    # The products are small integers: their sums are exact in f32.
    np.testing.assert_array_equal(arrays["Y"].astype(np.float64), wanted)


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_best_mapping_computes_the_same(name: str) -> None:
    program = build(name)
    best = propose(program, "Y", F32)[0]
    for step in best.steps:
        program = step.apply(program)
    assert [p.intrinsic for p in walk(program.body) if isinstance(p, Call)] == [best.intrinsic]
    check(program, name)


@pytest.mark.parametrize("position", [1, 20, 40, 60, 80, -1])
def test_other_mappings_of_a_convolution_compute_the_same(position: int) -> None:
    program = build("conv 2d")
    for step in propose(program, "Y", F32)[position].steps:
        program = step.apply(program)
    check(program, "conv 2d")


def test_bytes_are_mapped_as_well() -> None:
    program = build("conv 2d, channels first", "i8", "i32")
    for step in propose(program, "Y", BYTES)[0].steps:
        program = step.apply(program)
    check(program, "conv 2d, channels first")


def test_a_host_intrinsic_leaves_the_reduction_outside() -> None:
    program = build("gemm", "f32")
    best = propose(program, "Y", "avx2.outer.f32.4x16")[0]
    assert best.around == ("vk",)
    for step in best.steps:
        program = step.apply(program)
    check(program, "gemm")


@pytest.mark.parametrize(
    ("name", "count"),
    [
        # Choices of axes of the three groups, times two: A and B may change places.
        ("gemm", 1 * 1 * 1 * 2),
        ("batched", 1 * 1 * 1 * 2),
        ("conv 1d", 3 * 1 * 3 * 2),
        ("conv 2d", 7 * 1 * 7 * 2),
        ("conv 2d, groups", 7 * 1 * 7 * 2),
        ("conv 3d", 15 * 1 * 15 * 2),
    ],
)
def test_every_choice_of_axes_is_proposed(name: str, count: int) -> None:
    proposals = propose(build(name), "Y", F32)
    assert len({(str(p.groups), str(p.operands)) for p in proposals}) == count


def test_axes_that_index_all_operands_stay_loops() -> None:
    assert all("vg" in p.around for p in propose(build("conv 2d, groups"), "Y", F32))


def test_those_with_the_least_padding_come_first() -> None:
    padding = [p.padding for p in propose(build("conv 2d"), "Y", F32)]
    assert padding == sorted(padding)
    # 24 of 32 rows, 5 of 8 columns, 18 of 32 terms.
    assert padding[0] == pytest.approx(32 / 24 * 8 / 5 * 32 / 18)


def test_a_depthwise_convolution_has_no_mapping() -> None:
    b = Builder("depthwise")
    x, w = b.buffer("X", [8, 16], "f16"), b.buffer("W", [3, 16], "f16")
    y = b.buffer("Y", [6, 16], "f32", output=True)
    i, c, p = b.axes(i=6, c=16, p=3)
    y[i, c] += x[i + p, c] * w[p, c]
    with pytest.raises(NoMappingError, match="axes of 'Y' that index the operands"):
        propose(b.build(), "Y", F32)


def test_other_dtypes_have_no_mapping() -> None:
    with pytest.raises(NoMappingError, match="dtype of 'X': expected bf16, got f16"):
        propose(build("gemm"), "Y", "mma.m16n8k16.bf16.f32")


def test_what_is_no_sum_of_products_has_no_mapping() -> None:
    b = Builder("exponential")
    x, y = b.buffer("X", [8], "f32"), b.buffer("Y", [8], "f32", output=True)
    (i,) = b.axes(i=8)
    y[i] = exp(x[i])
    with pytest.raises(NoMappingError, match="a value that is no sum"):
        propose(b.build(), "Y", F32)


def test_symbolic_extents_are_padded_at_run_time() -> None:
    b = Builder("symbolic", "n in [1, 64]")
    x, w = b.buffer("X", ["n", 20], "f16"), b.buffer("W", [20, 12], "f16")
    y = b.buffer("Y", ["n", 12], "f32", output=True)
    i, j, k = b.axes(i="n", j=12, k=20)
    y[i, j] += x[i, k] * w[k, j]
    program = b.build()
    for step in propose(program, "Y", F32)[0].steps:
        program = step.apply(program)
    rng = np.random.default_rng(9)
    for n in (1, 15, 16, 33):
        left = rng.integers(-4, 5, (n, 20)).astype(np.float16)
        right = rng.integers(-4, 5, (20, 12)).astype(np.float16)
        out = np.full((n, 12), np.nan, np.float32)
        interpret(program, {"X": left, "W": right, "Y": out}, descriptions=DESCRIPTIONS)
        np.testing.assert_array_equal(out, left.astype(np.float64) @ right.astype(np.float64))


def test_an_operand_in_the_right_form_is_not_copied() -> None:
    groups = tuple(AxisGroup(name, (f"v{name}",)) for name in "ijk")
    layouts = (("Y", ("i", "j")), ("X", ("i", "k")), ("W", ("k", "j")))
    program = Matricize("Y", groups, layouts).apply(build("gemm"))
    assert [p.name for p in walk(program.body) if isinstance(p, Block)] == ["Y"]


@pytest.mark.parametrize(
    ("groups", "condition"),
    [
        ((AxisGroup("i", ("vi", "vj")), AxisGroup("k", ("vk",))), "groups"),
        ((AxisGroup("i", ("vi",)), AxisGroup("k", ("vi",))), "groups"),
        ((AxisGroup("i", ("vx",)),), "groups"),
        ((AxisGroup("i", ("vi",)), AxisGroup("j", ("vk",))), "layouts"),
    ],
)
def test_groups_of_other_axes_are_refused(groups: tuple[AxisGroup, ...], condition: str) -> None:
    layouts = (("Y", ("i", "j")), ("X", ("i", "k")), ("W", ("k", "j")))
    with pytest.raises(ScheduleError) as caught:
        Matricize("Y", groups, layouts).apply(build("gemm"))
    assert caught.value.condition == condition


def tensorized_product() -> Program:
    program = build("gemm")
    for step in propose(program, "Y", F32)[0].steps:
        program = step.apply(program)
    return program


def test_the_verifier_finds_the_init_of_a_product_on_tensor_cores() -> None:
    verify_program(tensorized_product())


def test_an_init_that_leaves_out_rows_is_refused() -> None:
    program = tensorized_product()
    init = next(
        part
        for block in walk(program.body)
        if isinstance(block, Block)
        for part in block.init
        if isinstance(part, Loop)
    )
    assert init.extent == 16
    program = program.replace(init.name, replace(init, extent=constant(8)))
    with pytest.raises(ProgramError, match="expects what it reads, .*to be written before"):
        verify_program(program)
