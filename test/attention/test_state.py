"""Merging attention states on the simulator, with all its checks, against float64 NumPy."""

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright import attention
from tilewright.attention.compiled_kernels import kernel
from tilewright.nest import gpu
from tilewright.runtime.errors import ArgumentError
from tilewright.runtime.simulator_device import SimulatorDevice

Array = npt.NDArray[Any]
DTYPES = {"f16": np.float16, "bf16": ml_dtypes.bfloat16, "f32": np.float32}
# Half a unit in the last place of the output dtype, and a few of f32.
TOLERANCE = {"f16": 2.0**-11, "bf16": 2.0**-8, "f32": 2.0**-21}
EMPTY = -np.inf


@pytest.fixture(scope="module")
def device() -> SimulatorDevice:
    """Returns the simulator with all checks."""
    return SimulatorDevice(checks="all")


def states(generator: np.random.Generator, shape: tuple[int, ...], dtype: str) -> tuple[Array, Any]:
    """Returns random states, about a fifth of which are empty and hold NaN."""
    v = generator.normal(0.0, 1.0, shape)
    s = generator.normal(0.0, 4.0, shape[:-1]).astype(np.float32)
    s[generator.random(s.shape) < 0.2] = EMPTY
    v[s == EMPTY] = np.nan
    return v.astype(DTYPES[dtype]), s


def merged(v: Array, s: Array) -> tuple[Array, Array]:
    """Returns the merge of states [..., k, heads, head_dim] over axis -3, in float64."""
    scores = s.astype(np.float64)
    largest = scores.max(axis=-2, keepdims=True, initial=EMPTY)
    weights = np.exp(scores - np.where(largest == EMPTY, 0.0, largest))
    total = weights.sum(axis=-2)
    values = np.where(weights[..., None] > 0, v.astype(np.float64), 0.0)
    out = (weights[..., None] * values).sum(axis=-3)
    with np.errstate(divide="ignore", invalid="ignore"):
        lse = np.log(total) + np.where(largest == EMPTY, 0.0, largest)[..., 0, :]
        return np.where(total[..., None] > 0, out / total[..., None], 0.0), lse


def check(found: tuple[Array, Array], expected: tuple[Array, Array], dtype: str) -> None:
    """Compares a result with its meaning, to the rounding of the output."""
    assert found[0].dtype == DTYPES[dtype]
    tolerance = TOLERANCE[dtype]
    out = found[0].astype(np.float64)
    np.testing.assert_allclose(out, expected[0], rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-6, atol=2e-6)


def pair(n: int, heads: int, dim: int, dtype: str, seed: int = 0) -> list[Array]:
    """Returns v, s, v_other and s_other."""
    generator = np.random.default_rng(seed)
    return [*states(generator, (n, heads, dim), dtype), *states(generator, (n, heads, dim), dtype)]


def meaning(v: Array, s: Array, v_other: Array, s_other: Array) -> tuple[Array, Array]:
    """Returns the merge of two states in float64."""
    return merged(np.stack([v, v_other], axis=1), np.stack([s, s_other], axis=1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dim", [64, 80, 128, 256])
def test_two_states(dim: int, dtype: str, device: SimulatorDevice) -> None:
    arrays = pair(13, 3, dim, dtype)
    check(attention.merge_state(*arrays, device=device), meaning(*arrays), dtype)


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
def test_f32_states_give_a_narrow_result(dtype: str, device: SimulatorDevice) -> None:
    arrays = pair(9, 2, 64, "f32")
    out, lse = attention.merge_state(*arrays, dtype=dtype, device=device)
    # bf16 of NumPy, where no array that is given has ml_dtypes' type, are bits.
    check((out.view(DTYPES[dtype]), lse), meaning(*arrays), dtype)


@pytest.mark.parametrize("dtype", ["f16", "f32"])
def test_two_states_in_place(dtype: str, device: SimulatorDevice) -> None:
    arrays = pair(37, 5, 64, dtype)
    expected = meaning(*arrays)
    v, s, *others = arrays
    found = attention.merge_state(v, s, *others, out=v, lse=s, device=device)
    assert found[0] is v
    assert found[1] is s
    check((v, s), expected, dtype)


def test_merging_with_an_empty_state_changes_no_bit(device: SimulatorDevice) -> None:
    v, s, v_other, s_other = pair(20, 2, 64, "f32")
    s[...] = np.where(s == EMPTY, 1.25, s)
    v[...] = np.nan_to_num(v, nan=3.5)
    s_other[...] = EMPTY
    out, lse = attention.merge_state(v, s, v_other, s_other, device=device)
    np.testing.assert_array_equal(out, v)
    np.testing.assert_array_equal(lse, s)


def test_only_empty_states_give_zero_and_minus_infinity(device: SimulatorDevice) -> None:
    v, s = np.full((3, 4, 2, 64), np.nan, np.float16), np.full((3, 4, 2), EMPTY, np.float32)
    out, lse = attention.merge_states(v, s, device=device)
    np.testing.assert_array_equal(out, np.zeros((3, 2, 64)))
    np.testing.assert_array_equal(lse, np.full((3, 2), EMPTY))


def test_a_state_that_is_no_number_stays_in_its_row(device: SimulatorDevice) -> None:
    arrays = pair(8, 2, 64, "f32")
    arrays[1][3, 1] = np.nan
    out, lse = attention.merge_state(*arrays, device=device)
    assert np.isnan(out[3, 1]).all()
    assert np.isnan(lse[3, 1])
    out[3, 1], lse[3, 1], arrays[1][3, 1] = 0.0, 0.0, 0.0
    expected = meaning(*arrays)
    expected[0][3, 1], expected[1][3, 1] = 0.0, 0.0
    check((out, lse), expected, "f32")


@pytest.mark.parametrize("size", [1e4, -1e4])
def test_large_scores_do_not_overflow(size: float, device: SimulatorDevice) -> None:
    arrays = pair(8, 2, 64, "f32")
    arrays[1] += np.float32(size)
    arrays[3] += np.float32(size)
    out, lse = attention.merge_state(*arrays, device=device)
    expected = meaning(*arrays)
    np.testing.assert_allclose(out, expected[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(lse, expected[1], rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_any_number_of_states(count: int, dtype: str, device: SimulatorDevice) -> None:
    v, s = states(np.random.default_rng(count), (5, count, 3, 64), dtype)
    check(attention.merge_states(v, s, device=device), merged(v, s), dtype)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=12), st.integers(0, 2**32 - 1))
def test_rows_of_different_numbers_of_states(counts: list[int], seed: int) -> None:
    generator = np.random.default_rng(seed)
    indptr = np.cumsum([0, *counts]).astype(np.int32)
    v, s = states(generator, (int(indptr[-1]), 2, 64), "f16")
    device = SimulatorDevice(checks="all")
    out, lse = attention.merge_states_ragged(v, s, indptr, device=device)
    assert out.shape == (len(counts), 2, 64)
    for row, (first, end) in enumerate(zip(indptr[:-1], indptr[1:], strict=True)):
        expected = merged(v[first:end], s[first:end])
        check((out[row], lse[row]), expected, "f16")


def test_the_merge_is_the_same_whatever_the_batch(device: SimulatorDevice) -> None:
    v, s = states(np.random.default_rng(4), (40, 2, 64), "f16")
    alone = attention.merge_states_ragged(v[7:12], s[7:12], np.array([0, 5], np.int32))
    indptr = np.array([0, 3, 7, 12, 40], np.int32)
    out, lse = attention.merge_states_ragged(v, s, indptr, device=device)
    np.testing.assert_array_equal(out[2], alone[0][0])
    np.testing.assert_array_equal(lse[2], alone[1][0])


def test_lengths_recompile_nothing(
    device: SimulatorDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(n: int, count: int) -> None:
        v, s = states(np.random.default_rng(n), (n, count, 2, 64), "f16")
        attention.merge_states(v, s, device=device)

    run(1, 1)
    monkeypatch.setattr(gpu, "gpu_kernels", None)
    run(5, 3)
    run(17, 2)


def test_values_are_moved_16_bytes_at_once() -> None:
    for kind, numbers in (
        ("merge_pair", {"in_place": False}),
        ("merge_many", {"heads": 8, "ragged": True}),
    ):
        dtypes = {"dtype": "f16", "out_dtype": "f16"}
        text = kernel(kind, "sm_80", head_dim=128, **dtypes, **numbers).ptx
        assert "ld.global.v4.b32" in text
        assert "st.global.v4.b32" in text
        assert "global.b16" not in text


def test_log_sum_exps_in_base_2(device: SimulatorDevice) -> None:
    lse = np.random.default_rng(0).normal(0.0, 30.0, (33, 5)).astype(np.float32)
    lse[4, 2] = EMPTY
    found = attention.lse_to_base2(lse, device=device)
    np.testing.assert_allclose(found, lse.astype(np.float64) / np.log(2.0), rtol=2e-7)
    back = attention.lse_from_base2(found, out=found, device=device)
    assert back is found
    np.testing.assert_allclose(back, lse, rtol=4e-7)


def refused(message: str, call: Any, *arguments: Any, **options: Any) -> None:
    with pytest.raises(ArgumentError, match=message):
        call(*arguments, **options)


def test_bad_states_are_refused() -> None:
    v, s, v_other, s_other = pair(4, 2, 64, "f16")
    merge = attention.merge_state
    refused("'s_other': expected shape", merge, v, s, v_other, s_other[:3])
    refused("'v_other': expected dtype f16", merge, v, s, v_other.astype(np.float32), s_other)
    refused("'s': expected dtype f32", merge, v, s.astype(np.float64), v_other, s_other)
    refused("'v': expected a C-contig", merge, v[:, :, ::2], s, v_other[:, :, ::2], s_other)
    refused("'out': expected memory of its own", merge, v, s, v_other, s_other, out=v_other)
    refused("'out': expected both results in place", merge, v, s, v_other, s_other, out=v)
    refused("'dtype': expected one of", merge, v, s, v_other, s_other, dtype="f64")
    v.flags.writeable = False
    refused("'out': expected a writable", merge, v, s, v_other, s_other, out=v, lse=s)


@pytest.mark.parametrize(
    "indptr",
    [[0, 3, 2, 6], [1, 3, 6], [0, 3, 5], [0, 3, 9]],
    ids=["falls", "first", "short", "long"],
)
def test_bad_row_tables_are_refused(indptr: list[int]) -> None:
    v, s = states(np.random.default_rng(0), (6, 2, 64), "f16")
    table = np.array(indptr, np.int32)
    refused("'indptr': expected entries from 0 to 6", attention.merge_states_ragged, v, s, table)


def test_a_bound_of_the_states_that_is_too_low_is_refused() -> None:
    v, s = states(np.random.default_rng(0), (6, 2, 64), "f16")
    table = np.array([0, 2, 6], np.int32)
    refused("'longest'", attention.merge_states_ragged, v, s, table, longest=3)
