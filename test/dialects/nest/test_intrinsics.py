"""What the descriptions of tensor intrinsics compute, and the registry."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from tilewright.dialects.nest.intrinsics import (
    DESCRIPTIONS,
    ExecutionScope,
    Intrinsic,
    Requirement,
    UnknownIntrinsicError,
    intrinsic_named,
    intrinsic_names,
    register,
    unregister,
    variants_of,
)
from tilewright.dialects.nest.program import AccessMode, Scope
from tilewright.nest.builder import Builder
from tilewright.nest.interpreter import interpret
from tilewright.nest.values import cast

Array = NDArray[np.generic]
Numbers = NDArray[np.float64]
NAMES = intrinsic_names()
# Rounding of an element to the dtype of the result, relative.
TOLERANCE = {"f64": 1e-12, "f32": 1e-5, "f16": 2e-2, "bf16": 1e-2}


def numbers(dtype: str, shape: tuple[int, ...], seed: int) -> Numbers:
    """Random numbers that the dtype holds exactly, none of them 0."""
    rng = np.random.default_rng(seed)
    values = np.array(rng.integers(1, 8, shape) * rng.choice([-1, 1], shape), np.float64)
    return values if dtype.startswith("i") or "8" in dtype else values / 4


# 8-bit floats hold these numbers exactly: sign, exponent, mantissa of 3 and 2 bits.
def eight_bits(value: float, mantissa: int, bias: int) -> int:
    sign, magnitude = (1 if value < 0 else 0), abs(value)
    exponent = int(np.floor(np.log2(magnitude)))
    fraction = int(magnitude / 2.0**exponent * 2**mantissa) - 2**mantissa
    return sign << 7 | (exponent + bias) << mantissa | fraction


def stored(values: Numbers, dtype: str) -> Array:
    if dtype == "bf16":
        return np.array(values.astype(np.float32).view(np.uint32) >> 16, np.uint16)
    if dtype.startswith("f8"):
        mantissa, bias = (3, 7) if dtype == "f8E4M3FN" else (2, 15)
        codes = [eight_bits(float(value), mantissa, bias) for value in values.flat]
        return np.array(codes, np.uint8).reshape(values.shape)
    return np.array(values, np.dtype({"f": "float", "i": "int"}[dtype[0]] + dtype[1:]))


def numbers_of(array: Array, dtype: str) -> Numbers:
    if dtype == "bf16":
        return (array.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    if dtype == "f8E5M2":
        return (array.astype(np.uint16) << 8).view(np.float16).astype(np.float64)
    if dtype == "f8E4M3FN":
        code = array.astype(np.int64)
        magnitude = np.exp2((code >> 3) % 16 - 7.0) * (1 + code % 8 / 8)
        return np.where(code == 0, 0, np.where(code < 128, magnitude, -magnitude))
    return array.astype(np.float64)


def run(name: str) -> tuple[list[Numbers], Numbers, str]:
    """Returns the operands before, what the first one is after, and its dtype."""
    intrinsic = intrinsic_named(name)
    shapes = [tuple(int(str(n)) for n in b.shape) for b in intrinsic.buffers]
    dtypes = [b.dtype for b in intrinsic.buffers]
    before = [numbers(d, s, 7 + i) for i, (d, s) in enumerate(zip(dtypes, shapes, strict=True))]
    arrays = {
        # NumPy makes numbers of arrays without axes, which nothing can be written to.
        b.name: np.array(stored(values, b.dtype))
        for b, values in zip(intrinsic.buffers, before, strict=True)
    }
    interpret(intrinsic.description, arrays)
    first = intrinsic.buffers[0]
    return before, numbers_of(arrays[first.name], first.dtype), first.dtype


def check(name: str, expected: Callable[[list[Numbers]], Numbers]) -> None:
    before, after, dtype = run(name)
    tolerance = TOLERANCE.get(dtype, 0)
    np.testing.assert_allclose(after, expected(before), rtol=tolerance, atol=tolerance)


def names_of(prefix: str) -> list[str]:
    return [name for name in NAMES if name.startswith(prefix)]


@pytest.mark.parametrize("name", names_of("mma.m16"))
def test_mma_adds_the_matrix_product(name: str) -> None:
    a_layout, b_layout = name.split(".")[-2:]

    def expected(operands: list[Numbers]) -> Numbers:
        c, a, b = operands
        return c + (a if a_layout == "row" else a.T) @ (b if b_layout == "row" else b.T)

    check(name, expected)


@pytest.mark.parametrize(
    "name",
    [*names_of("ldmatrix"), *names_of("copy."), *names_of("cp.async.1"), *names_of("mma.store")],
)
def test_copies_copy(name: str) -> None:
    check(name, lambda operands: operands[1])


@pytest.mark.parametrize("name", [*names_of("mma.fill"), *names_of("zero")])
def test_zeros_are_zero(name: str) -> None:
    check(name, lambda operands: np.zeros_like(operands[0]))


@pytest.mark.parametrize("name", [*names_of("warp.reduce"), *names_of("cta.reduce")])
def test_reductions_combine_all_threads_with_what_was_there(name: str) -> None:
    combine = {"sum": np.sum, "max": np.max, "min": np.min}[name.split(".")[2]]
    check(name, lambda ops: np.array(combine(np.append(ops[1], ops[0]))))


@pytest.mark.parametrize("name", [n for n in NAMES if ".outer." in n])
def test_outer_products_add_rows_times_columns(name: str) -> None:
    check(
        name,
        lambda ops: (
            ops[0] + ops[1][..., None].squeeze() * ops[2]
            if ops[0].ndim == 1
            else ops[0] + np.outer(ops[1], ops[2])
        ),
    )


@pytest.mark.parametrize("name", [n for n in NAMES if ".dot." in n])
def test_byte_products_take_a_unsigned_and_b_signed(name: str) -> None:
    check(name, lambda ops: ops[0] + ops[2] @ (ops[1] % 256))


@pytest.mark.parametrize("name", ["cp.async.commit", "cp.async.wait.2", "cta.barrier"])
def test_what_orders_copies_computes_nothing(name: str) -> None:
    assert interpret(intrinsic_named(name).description, {}) == {}


@pytest.mark.parametrize("name", NAMES)
def test_an_intrinsic_has_its_name_and_a_rule(name: str) -> None:
    intrinsic = intrinsic_named(name)
    assert intrinsic.name == name
    assert intrinsic.rule
    assert len(intrinsic.buffers) == len(intrinsic.operands)


def test_fp8_is_on_no_gpu_before_sm_89() -> None:
    fp8 = intrinsic_named("mma.m16n8k32.e4m3.f32.row.col")
    assert [fp8.is_on(arch) for arch in ("sm_80", "sm_86", "sm_89", "sm_90a")] == [
        False,
        False,
        True,
        True,
    ]


def test_a_cpu_has_what_its_features_say() -> None:
    outer = intrinsic_named("avx2.outer.f32.6x16")
    assert outer.is_on("host", {"avx2"})
    assert not outer.is_on("host", {"sse4.2"})
    assert not outer.is_on("sm_80")


def test_an_unknown_name_is_answered_with_those_that_are_alike() -> None:
    with pytest.raises(UnknownIntrinsicError, match=r"such as mma\.m16n8k16\.bf16"):
        intrinsic_named("mma.m16n8k16.bf16.i32.row.row")


def test_the_beginning_of_names_stands_for_all_that_have_it() -> None:
    assert len(variants_of("mma.m16n8k16.bf16.f32")) == 4
    assert variants_of("mma.fill.f32") == ("mma.fill.f32",)


def test_users_add_intrinsics() -> None:
    b = Builder("dot4")
    y = b.buffer("Y", [], "i32", output=True)
    a, x = b.buffer("A", [4], "i8"), b.buffer("X", [4], "i8")
    with b.loop("k", 4) as k, b.block("dot", reduce={"v": (4, k)}) as (v,):
        y[()] = y[()] + cast(a[v], "i32") * cast(x[v], "i32")
    word = Requirement(AccessMode.READ, alignment=4)
    result = Requirement(AccessMode.UPDATE, frozenset((Scope.LOCAL,)))
    operands = (result, word, word)
    made = Intrinsic("dp4a", b.build(), operands, ExecutionScope.THREAD, "sm_61", "dp4a")
    register(made)
    try:
        assert DESCRIPTIONS["dp4a"] is made.description
        with pytest.raises(UnknownIntrinsicError, match="no intrinsic has"):
            register(made)
    finally:
        unregister("dp4a")
    assert "dp4a" not in DESCRIPTIONS
