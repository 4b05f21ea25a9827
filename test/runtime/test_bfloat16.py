"""bfloat16 conversion against ml_dtypes."""

import ml_dtypes
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tilewright.runtime.bfloat16 import from_float32, to_float32

SINGLES = st.floats(width=32) | st.integers(0, 2**32 - 1).map(
    lambda bits: float(np.array(bits, np.uint32).view(np.float32))
)


@given(st.lists(SINGLES, min_size=1))
def test_rounding_is_that_of_ml_dtypes(values: list[float]) -> None:
    single = np.array(values, np.float32)
    with np.errstate(invalid="ignore"):
        expected = single.astype(ml_dtypes.bfloat16)
    rounded = from_float32(single)
    number = ~np.isnan(single)
    np.testing.assert_array_equal(rounded[number], expected.view(np.uint16)[number])
    assert np.isnan(to_float32(rounded[~number])).all()


def test_every_bfloat16_survives_the_round_trip() -> None:
    bits = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16)
    values = to_float32(bits)
    quiet = np.where(np.isnan(values), bits | 0x40, bits)
    np.testing.assert_array_equal(from_float32(values), quiet)


def test_every_nan_stays_a_nan_of_its_sign() -> None:
    bits = np.array([0x7F800001, 0x7FFFFFFF, 0xFF800001, 0xFFFFFFFF], np.uint32)
    rounded = from_float32(bits.view(np.float32))
    np.testing.assert_array_equal(rounded, np.array([0x7FC0, 0x7FFF, 0xFFC0, 0xFFFF]))


def test_ties_round_to_even() -> None:
    halves = np.array([0x3F808000, 0x3F818000, 0x7F7F8000], np.uint32).view(np.float32)
    np.testing.assert_array_equal(from_float32(halves), np.array([0x3F80, 0x3F82, 0x7F80]))


def test_shapes_are_kept() -> None:
    for shape in ((), (0,), (2, 3)):
        assert to_float32(from_float32(np.zeros(shape, np.float32))).shape == shape
