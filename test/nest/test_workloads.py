"""Each workload computes what its reference in f64 says, with numbers and with symbols."""

import numpy as np
import pytest

from tilewright.nest.arithmetic import Array, decode
from tilewright.nest.interpreter import interpret
from tilewright.nest.workloads import (
    FAMILIES,
    SUITE,
    SYMBOLIC,
    Workload,
    attention_scores,
    conv2d,
    dequantized_gemm,
    gemm,
    layer_norm,
    rope_tables,
    softmax,
    suite_workload,
    symbolic_workload,
    transposed,
    transposition,
)

# The greatest error of one rounding to a dtype.
UNIT = {"f64": 2.0**-53, "f32": 2.0**-24, "f16": 2.0**-11, "bf16": 2.0**-8}

STATIC: dict[str, tuple[int, ...]] = {
    "C1D": (2, 17, 4, 6, 3, 2, 1),
    "C2D": (1, 11, 9, 3, 5, 7, 2, 3),
    "C3D": (1, 5, 6, 7, 3, 4, 3, 2, 1),
    "GMM": (2, 17, 5, 9),
    "GRP": (1, 8, 7, 8, 12, 3, 2, 1),
    "DIL": (1, 14, 13, 3, 4, 5, 2, 3),
    "DEP": (2, 9, 8, 6, 3, 2, 1),
    "T2D": (1, 4, 5, 6, 3, 4, 2, 1),
    "CAP": (1, 5, 6, 3, 2, 3, 2, 1),
    "NRM": (3, 17, 9),
    "SFM": (5, 33),
    "CBR": (1, 9, 8, 3, 5, 3, 2, 1),
    "TBG": (2, 7, 3, 5),
    "GEMM": (13, 11, 17),
    "GELU": (7, 9, 33),
    "ATT": (2, 3, 4, 7, 8),
    "W4": (3, 5, 64),
    "W8": (3, 5, 64),
    "LNM": (5, 33),
    "RMS": (5, 33),
    "ROPE": (2, 5, 3, 8),
    "CHAIN": (5, 33),
    "GATE": (5, 33),
}


def error_of(workload: Workload, arrays: dict[str, Array], got: dict[str, Array]) -> float:
    """Returns the greatest error of the outputs against the reference, over their magnitude."""
    worst = 0.0
    for name, expected in workload.expected(arrays).items():
        values = decode(got[name], workload.program.buffers[name].dtype).astype(np.float64)
        assert values.shape == expected.shape
        same = values == expected
        finite = np.where(same, 0, expected)
        error = np.abs(np.where(same, 0, values) - finite)
        worst = max(worst, float(np.max(error / max(1.0, float(np.abs(finite).max())))))
    return worst


def run(workload: Workload, symbols: dict[str, int], seed: int = 0) -> float:
    arrays = workload.arguments(np.random.default_rng(seed), symbols)
    return error_of(workload, arrays, interpret(workload.program, arrays))


def exact_error(workload: Workload, symbols: dict[str, int]) -> float:
    arrays = workload.arguments(np.random.default_rng(0), symbols)
    return error_of(workload, arrays, interpret(workload.program, arrays, is_exact=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_static_workload_agrees_with_its_reference(family: str) -> None:
    tolerance = 64 * UNIT["f16"] if family in ("W4", "W8") else 256 * UNIT["f32"]
    assert run(FAMILIES[family](*STATIC[family]), {}) < tolerance


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("sizes", [(3, 5, 6), (2, 8, 7)])
def test_symbolic_workload_agrees_with_its_reference(family: str, sizes: tuple[int, ...]) -> None:
    workload = symbolic_workload(family)
    symbols = dict(zip(workload.program.ranges, sizes, strict=False))
    tolerance = 64 * UNIT["f16"] if family in ("W4", "W8") else 256 * UNIT["f32"]
    assert run(workload, symbols) < tolerance


@pytest.mark.parametrize("family", FAMILIES)
def test_exact_interpretation_agrees_to_the_precision_of_f64(family: str) -> None:
    assert exact_error(FAMILIES[family](*STATIC[family]), {}) < 1024 * UNIT["f64"]


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
@pytest.mark.parametrize("family", ["C2D", "GEMM", "GMM", "TBG", "GELU", "CAP", "DEP"])
def test_products_of_narrow_floats_are_summed_in_f32(family: str, dtype: str) -> None:
    assert run(FAMILIES[family](*STATIC[family], dtype=dtype), {}) < 256 * UNIT["f32"]


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
@pytest.mark.parametrize("family", ["SFM", "LNM", "RMS", "ROPE", "GATE", "CHAIN"])
def test_rows_of_narrow_floats_are_right_to_some_units(family: str, dtype: str) -> None:
    assert run(FAMILIES[family](*STATIC[family], dtype=dtype), {}) < 4 * UNIT[dtype]


@pytest.mark.parametrize("family", ["C1D", "C2D", "C3D", "GRP", "DIL", "DEP", "T2D", "GEMM"])
def test_integers_are_computed_without_error(family: str) -> None:
    assert run(FAMILIES[family](*STATIC[family], dtype="i8"), {}) == 0


@pytest.mark.parametrize("family", SUITE)
def test_suite_has_the_shapes_of_each_family(family: str) -> None:
    for number in range(len(SUITE[family])):
        program = suite_workload(family, number).program
        assert not program.ranges
        assert program.outputs


def test_every_family_has_a_symbolic_form() -> None:
    assert set(SYMBOLIC) == set(FAMILIES) == set(SUITE) == set(STATIC)


def test_c2d_of_the_suite_has_the_published_extent() -> None:
    shape = suite_workload("C2D").program.buffers["Y"].shape
    assert [extent.constant_value for extent in shape] == [1, 112, 112, 64]


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 0), (4, 3, 1), (2, 2, 0)])
def test_transposed_convolution_of_other_strides(kernel: int, stride: int, padding: int) -> None:
    workload = transposed(1, 4, 3, 2, 3, kernel, stride, padding)
    assert run(workload, {}) < 256 * UNIT["f32"]


def test_dilated_and_grouped_at_once() -> None:
    workload = conv2d(1, 12, 11, 6, 9, 3, 2, 2, dilation=2, groups=3)
    assert run(workload, {}) < 256 * UNIT["f32"]


def test_softmax_of_large_numbers_does_not_overflow() -> None:
    workload = softmax(3, 8)
    arrays = workload.arguments(np.random.default_rng(1))
    arrays["X"] = arrays["X"] * np.float32(1e4)
    assert error_of(workload, arrays, interpret(workload.program, arrays)) < 64 * UNIT["f32"]


def test_one_query_sees_all_keys() -> None:
    workload = attention_scores(1, 1, 1, 9, 4)
    arrays = workload.arguments(np.random.default_rng(1))
    interpret(workload.program, arrays)
    assert np.isfinite(arrays["Y"]).all()


def test_nibbles_hold_two_rows_low_half_first() -> None:
    workload = dequantized_gemm(1, 1, 2, bits=4, group=2)
    arrays = workload.arguments(np.random.default_rng(1))
    arrays["A"][...] = [[1.0, 0.0625]]
    arrays["W"][...] = 3 + 16 * 5
    arrays["scale"][...] = 2.0
    interpret(workload.program, arrays)
    assert arrays["C"][0, 0] == (3 - 8) * 2.0 + (5 - 8) * 2.0 * 0.0625


def test_rope_keeps_lengths_with_its_own_tables() -> None:
    workload = FAMILIES["ROPE"](1, 6, 2, 8)
    arrays = workload.arguments(np.random.default_rng(2))
    arrays["cosine"], arrays["sine"] = rope_tables(6, 8)
    interpret(workload.program, arrays)
    before, after = (np.linalg.norm(arrays[name], axis=-1) for name in ("X", "Y"))
    np.testing.assert_allclose(before, after, rtol=1e-6)


def test_layer_norm_has_zero_mean_before_beta() -> None:
    workload = layer_norm(4, 64)
    arrays = workload.arguments(np.random.default_rng(3))
    arrays["gamma"][...], arrays["beta"][...] = 1.0, 0.5
    interpret(workload.program, arrays)
    np.testing.assert_allclose(arrays["Y"].mean(axis=1), 0.5, atol=1e-5)


def test_transposition_moves_every_element() -> None:
    assert run(transposition(5, 7), {}) == 0


def test_gemm_of_i8_wraps_nowhere() -> None:
    workload = gemm(2, 2, 300, dtype="i8")
    arrays = workload.arguments(np.random.default_rng(4))
    arrays["A"][...], arrays["B"][...] = -128, -128
    interpret(workload.program, arrays)
    assert (arrays["C"] == 300 * 128 * 128).all()
