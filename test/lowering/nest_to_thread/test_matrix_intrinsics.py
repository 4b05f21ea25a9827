"""Every form of ldmatrix and mma.sync with a rule multiplies as NumPy does, on the simulator."""

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tilewright.dialects.diagnostic import DiagnosticError
from tilewright.nest.arithmetic import encode
from tilewright.nest.gpu import compile_for_gpu
from tilewright.runtime.simulator_device import SimulatorDevice

from .one_warp import product

Form = tuple[str, str, int, str]
F16: Form = ("f16", "f16", 2, "f32")
F16_SUMS: Form = ("f16", "f16", 2, "f16")
BF16: Form = ("bf16", "bf16", 2, "f32")
TF32: Form = ("tf32", "f32", 4, "f32")
I8: Form = ("i8", "i8", 1, "i32")
TYPES: dict[str, Any] = {
    "f16": np.float16,
    "f32": np.float32,
    "i8": np.int8,
    "i32": np.int32,
    "bf16": np.uint16,
}


def stored(values: npt.NDArray[Any], dtype: str) -> npt.NDArray[Any]:
    if dtype == "bf16":
        return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return values.astype(TYPES[dtype])


def factors(size: int) -> list[npt.NDArray[Any]]:
    """Integers without zeros, whose products and sums all formats hold exactly."""
    rng = np.random.default_rng(size)
    shape = (16, 32 // size)
    return [rng.integers(1, 6, shape) * rng.choice([-1, 1], shape) for _ in range(2)]


def check(form: Form, layouts: tuple[str, str], to: str, **options: Any) -> None:
    _, dtype, size, _ = form
    # With 16 columns in a row of 32 bytes, B is [k, 16] for 16-bit elements alone.
    left, right = factors(size)
    program = product(form, layouts, to, **options)
    run = compile_for_gpu(program, "sm_80", device=SimulatorDevice(checks="all"))
    out = np.zeros((16, 16), TYPES[to])
    run(stored(left, dtype), stored(right, dtype), out)
    a = left if layouts[0] == "row" else left.T
    b = right if layouts[1] == "row" else right.T
    np.testing.assert_array_equal(out, stored(a @ b, to))


@pytest.mark.parametrize("b_layout", ["row", "col"])
@pytest.mark.parametrize("a_layout", ["row", "col"])
@pytest.mark.parametrize("form", [F16, F16_SUMS, BF16], ids=["f16", "f16 sums", "bf16"])
def test_products_of_16_bits_in_all_layouts(form: Form, a_layout: str, b_layout: str) -> None:
    check(form, (a_layout, b_layout), form[3])


@pytest.mark.parametrize("form", [TF32, I8], ids=["tf32", "i8"])
def test_products_of_32_and_8_bits(form: Form) -> None:
    check(form, ("row", "col"), form[3])


@pytest.mark.parametrize("layout", ["row", "col"])
def test_fragments_of_b_loaded_one_by_one(layout: str) -> None:
    check(BF16, ("row", layout), "f32", matrices=2)


@pytest.mark.parametrize("to", ["f16", "bf16"])
def test_sums_are_rounded_where_they_are_stored(to: str) -> None:
    check(F16, ("row", "row"), to)


@pytest.mark.parametrize("layouts", [("row", "row"), ("col", "col")], ids=["row", "col"])
def test_operands_in_swizzled_memory(layouts: tuple[str, str]) -> None:
    check(BF16, layouts, "f32", swizzle=32)


def test_operands_copied_by_loads_and_stores() -> None:
    check(F16, ("row", "row"), "f32", copy="copy")


def test_a_form_of_a_later_architecture_is_refused() -> None:
    program = product(("e4m3", "f8E4M3FN", 1, "f32"), ("row", "col"), "f32")
    with pytest.raises(DiagnosticError, match="of sm_80, got '.*e4m3.*', which needs sm_89"):
        compile_for_gpu(program, "sm_80")


@pytest.mark.parametrize("target", ["sm_89", "sm_90a"])
@pytest.mark.parametrize("word", ["e4m3", "e5m2"])
def test_products_of_8_bit_floats(word: str, target: str) -> None:
    dtype = {"e4m3": "f8E4M3FN", "e5m2": "f8E5M2"}[word]
    # Both formats hold 1 to 5 but 5 as e5m2 does.
    left, right = (np.sign(part) * np.minimum(np.abs(part), 4) for part in factors(1))
    program = product((word, dtype, 1, "f32"), ("row", "col"), "f32")
    run = compile_for_gpu(program, target, device=SimulatorDevice(checks="all"))
    out = np.zeros((16, 16), np.float32)
    run(encode(left, dtype), encode(right, dtype), out)
    np.testing.assert_array_equal(out, left @ right.T)
    assert re.search(rf"mma\.sync\.aligned\.m16n8k32\.row\.col\.f32\.{word}", run.artifact.ptx)
