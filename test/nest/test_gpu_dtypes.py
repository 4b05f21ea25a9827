"""Buffers and numbers of 8-bit floats, f64, i64 and others on a GPU, against Python and NumPy."""

import re
from collections.abc import Callable
from math import fmod
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tilewright.dialects.diagnostic import DiagnosticError
from tilewright.dialects.nest.program import Program, Scope
from tilewright.dialects.nest.scalars import Apply
from tilewright.nest.builder import Builder
from tilewright.nest.gpu import CompiledForGPU, compile_for_gpu
from tilewright.nest.values import Value, cast, exp, maximum, minimum, select
from tilewright.runtime.simulator_device import SimulatorDevice

from .gpu_programs import BLOCK_X, THREAD_X, VECTOR

Array = npt.NDArray[Any]
# Exponent bits, fraction bits, and the largest number of each (OCP OFP8, table 1).
EIGHTS = {"f8E4M3FN": (4, 3, 448.0), "f8E5M2": (5, 2, 57344.0)}
Function = Callable[[Value], Value] | Callable[[Value, Value], Value]
TARGETS = ["sm_80", "sm_89", "sm_90a"]


def compiled(program: Program, target: str = "sm_80") -> CompiledForGPU:
    return compile_for_gpu(program, target, device=SimulatorDevice(checks="all"))


def apart(count: int, inputs: list[str], output: str, compute: Function) -> Program:
    """`Y[i] = compute(A[i], B[i], ...)`, an element by a thread."""
    function: Callable[..., Value] = compute
    b = Builder("apart")
    sources = [b.buffer("ABC"[k], [count], dtype) for k, dtype in enumerate(inputs)]
    y = b.buffer("Y", [count], output, output=True)
    with b.loop("b", count // 32, BLOCK_X) as block, b.loop("t", 32, THREAD_X) as t:
        with b.block("Y", spatial={"i": (count, 32 * block + t)}) as (i,):
            y[i] = function(*(source[i] for source in sources))
    return b.build()


def number(code: int, dtype: str) -> float:
    """Returns the number that 8 bits mean, by the definition of the format."""
    exponents, fractions, _ = EIGHTS[dtype]
    sign = -1.0 if code & 0x80 else 1.0
    exponent, fraction = (code & 0x7F) >> fractions, code & (1 << fractions) - 1
    bias = (1 << exponents - 1) - 1
    if dtype == "f8E5M2" and exponent == 31:
        return float("nan") if fraction else sign * float("inf")
    if code & 0x7F == 0x7F:
        return float("nan")
    if exponent == 0:
        return sign * fraction * 2.0 ** (1 - bias - fractions)
    return sign * (1 + fraction / (1 << fractions)) * 2.0 ** (exponent - bias)


def nearest(value: float, dtype: str) -> int:
    """Returns the code of the nearest finite number, of two equally near ones the even one."""
    if value != value:
        return 0x7F
    size = min(abs(value), EIGHTS[dtype][2])
    codes = [code for code in range(0x80) if number(code, dtype) <= EIGHTS[dtype][2]]
    code = min(codes, key=lambda code: (abs(number(code, dtype) - size), code & 1))
    return code | (0x80 if np.signbit(value) else 0)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", EIGHTS)
def test_all_codes_mean_their_numbers(dtype: str, target: str) -> None:
    codes, y = np.arange(256, dtype=np.uint8), np.zeros(256, np.float32)
    compiled(apart(256, [dtype], "f32", lambda x: cast(x, "f32")), target)(codes, y)
    np.testing.assert_array_equal(y, [number(code, dtype) for code in range(256)])
    np.testing.assert_array_equal(np.signbit(y[128:250]), True)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", EIGHTS)
def test_numbers_are_rounded_to_the_nearest_code(dtype: str, target: str) -> None:
    rng = np.random.default_rng(8)
    finite = [number(code, dtype) for code in range(0x80) if number(code, dtype) < 1e6]
    halves = [(a + b) / 2 for a, b in zip(finite, finite[1:], strict=False)]
    others = rng.uniform(-1, 1, 300) * 2.0 ** rng.integers(-20, 18, 300)
    special = [np.inf, -np.inf, np.nan, -0.0, 3e38, 1e-40, -1e-7]
    x = np.array([*halves, *(-h for h in halves), *others, *special], np.float32)
    x = np.resize(x, -(-len(x) // 32) * 32)
    y = np.zeros(len(x), np.uint8)
    compiled(apart(len(x), ["f32"], dtype, lambda v: cast(v, dtype)), target)(x, y)
    np.testing.assert_array_equal(y, [nearest(float(value), dtype) for value in x])


@pytest.mark.parametrize("target", TARGETS)
def test_conversions_are_one_instruction_where_the_target_has_it(target: str) -> None:
    program = apart(32, ["f8E5M2"], "f8E5M2", lambda x: cast(cast(x, "f32") * 1.5, "f8E5M2"))
    ptx = compiled(program, target).artifact.ptx
    has = target != "sm_80"
    assert bool(re.search(r"cvt\.rn\.f16x2\.e5m2x2", ptx)) is has
    assert bool(re.search(r"cvt\.rn\.satfinite\.e5m2x2\.f32", ptx)) is has
    assert (".version 8.4" in ptx) is has


@pytest.mark.parametrize("dtype", EIGHTS)
@pytest.mark.parametrize("target", ["sm_80", "sm_89"])
def test_arithmetic_on_8_bit_floats_is_rounded_after_each_op(dtype: str, target: str) -> None:
    rng = np.random.default_rng(5)
    values = np.array([number(code, dtype) for code in range(256)], np.float32)
    codes = rng.choice(np.nonzero(np.abs(values) < 8)[0], (2, 64)).astype(np.uint8)
    y = np.zeros(64, np.uint8)
    program = apart(64, [dtype] * 2, dtype, lambda a, b: a * b + a)
    compiled(program, target)(*codes, y)
    a, b = values[codes].astype(np.float64)
    once = np.array([number(nearest(v, dtype), dtype) for v in a * b])
    # Codes of zeros differ in their signs alone.
    expected = [number(nearest(v, dtype), dtype) for v in once + a]
    np.testing.assert_array_equal([number(int(code), dtype) for code in y], expected)


def test_8_bit_floats_are_chosen_compared_and_constant() -> None:
    rng = np.random.default_rng(6)
    codes, y = rng.integers(0, 0x70, (2, 32)).astype(np.uint8), np.zeros(32, np.uint8)
    program = apart(
        32, ["f8E4M3FN"] * 2, "f8E4M3FN", lambda a, b: select(a < b, b, maximum(a, 1.75))
    )
    compiled(program)(*codes, y)
    # Codes of positive numbers are in the order of the numbers.
    least = [max(int(code), nearest(1.75, "f8E4M3FN")) for code in codes[0]]
    expected = [int(b) if a < b else low for a, b, low in zip(*codes, least, strict=True)]
    np.testing.assert_array_equal(y, expected)


def moved(dtype: str, by: str) -> Program:
    """`Y = X` by way of a buffer of a thread, 16 neighbours a thread."""
    b = Builder("moved")
    x, y = b.buffer("X", [512], dtype), b.buffer("Y", [512], by, output=True)
    held = b.temporary("H", [512], dtype, Scope.LOCAL)
    with b.loop("t", 32, THREAD_X) as t:
        for source, target, name in ((x, held, "h"), (held, y, "y")):
            with b.loop(f"{name}v", 16, VECTOR) as v:
                with b.block(name, spatial={f"{name}i": (512, 16 * t + v)}) as (i,):
                    target[i] = source[i] if name == "h" else cast(source[i], by)
    return b.build()


def test_neighbours_of_8_bits_move_16_at_a_time() -> None:
    run = compiled(moved("f8E4M3FN", "f16"))
    codes = np.random.default_rng(3).integers(0, 0x78, 512).astype(np.uint8)
    y = np.zeros(512, np.float16)
    run(codes, y)
    np.testing.assert_array_equal(y, [number(int(code), "f8E4M3FN") for code in codes])
    loads = set(re.findall(r"ld\.global\S*", run.artifact.ptx))
    assert loads == {"ld.global.v4.b32"}


@pytest.mark.parametrize("dtype", EIGHTS)
def test_neighbours_are_rounded_and_stored_16_at_a_time(dtype: str) -> None:
    b = Builder("narrowed")
    x, y = b.buffer("X", [512], "f32"), b.buffer("Y", [512], dtype, output=True)
    with b.loop("t", 32, THREAD_X) as t, b.loop("v", 16, VECTOR) as v:
        with b.block("y", spatial={"i": (512, 16 * t + v)}) as (i,):
            y[i] = cast(x[i], dtype)
    run = compiled(b.build())
    values = np.random.default_rng(3).uniform(-300, 300, 512).astype(np.float32)
    codes = np.zeros(512, np.uint8)
    run(values, codes)
    np.testing.assert_array_equal(codes, [nearest(float(value), dtype) for value in values])
    assert set(re.findall(r"st\.global\S*", run.artifact.ptx)) == {"st.global.v4.b32"}


def wide(shape: tuple[int, ...]) -> Array:
    return np.random.default_rng(shape[0]).uniform(0.5, 2, shape)


def test_f64_is_computed_in_f64() -> None:
    a, b, y = wide((64,)), -wide((65,))[:64], np.zeros(64)
    program = apart(
        64, ["f64"] * 2, "f64", lambda a, b: maximum(a * b, -2.5) / (a - b) + minimum(b, a)
    )
    compiled(program)(a, b, y)
    np.testing.assert_allclose(y, np.maximum(a * b, -2.5) / (a - b) + b, rtol=4e-16)


@pytest.mark.parametrize(("choose", "numpy"), [(maximum, np.maximum), (minimum, np.minimum)])
def test_extrema_of_f64_keep_nan(choose: Callable[[Value, Value], Value], numpy: Any) -> None:
    a, b, y = wide((32,)), -wide((33,))[:32], np.zeros(32)
    a[3] = b[5] = a[7] = b[7] = np.nan
    compiled(apart(32, ["f64"] * 2, "f64", choose))(a, b, y)
    np.testing.assert_array_equal(y, numpy(a, b))


def test_exponentials_of_f64() -> None:
    x = np.concatenate([np.linspace(-750, 720, 29), [np.inf, -np.inf, np.nan]])
    y = np.zeros(32)
    compiled(apart(32, ["f64"], "f64", exp))(x, y)
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(y, np.exp(x), rtol=5e-16, atol=5e-324)


def test_f64_functions_that_no_gpu_has_are_refused() -> None:
    logarithm = apart(32, ["f64"], "f64", lambda x: Value(Apply("math.log", (x.scalar,), "f64")))
    with pytest.raises(DiagnosticError, match="'math.log' op on f64 has no PTX instruction"):
        compiled(logarithm)


def test_i64_is_computed_in_i64() -> None:
    rng = np.random.default_rng(4)
    a, b = (rng.integers(2**33, 2**40, 64) * rng.choice([-1, 1], 64) for _ in range(2))
    b[::2] //= 2**31
    y = np.zeros(64, np.int64)
    program = apart(64, ["i64"] * 2, "i64", lambda a, b: a * b // 7 - maximum(a, b) % 1000 + a // b)
    compiled(program)(a, b, y)
    wrapped = [(int(p) * int(q) + 2**63) % 2**64 - 2**63 for p, q in zip(a, b, strict=True)]
    expected = [
        # A remainder has the sign of what is divided.
        p // 7 - int(fmod(max(u, v), 1000)) + int(u) // int(v)
        for p, u, v in zip(wrapped, a, b, strict=True)
    ]
    np.testing.assert_array_equal(y, expected)


def test_sums_of_i64_and_f64_are_kept_by_a_thread() -> None:
    for dtype, held in (("i64", np.int64), ("f64", np.float64)):
        b = Builder("sums", "n in [1, 64]")
        n = b.symbol("n")
        x, y = b.buffer("X", [n, 32], dtype), b.buffer("Y", [32], dtype, output=True)
        local = b.temporary("S", [32], dtype, Scope.LOCAL)
        with b.loop("t", 32, THREAD_X) as t:
            with b.loop("k", n) as k:
                with b.block("S", spatial={"i": (32, t)}, reduce={"r": (n, k)}) as (i, r):
                    with b.init():
                        local[i] = 0
                    local[i] = local[i] + x[r, i]
            with b.block("Y", spatial={"o": (32, t)}) as (o,):
                y[o] = local[o]
        values = (wide((21, 32)) * 2**40).astype(held)
        result = np.zeros(32, held)
        compiled(b.build())(values, result)
        np.testing.assert_allclose(result, values.sum(axis=0), rtol=1e-14)


@pytest.mark.parametrize(
    ("dtype", "held", "value"),
    [
        ("i1", np.bool_, True),
        ("i8", np.int8, -3),
        ("i16", np.int16, -30_000),
        ("i64", np.int64, 2**40 + 1),
        ("f16", np.float16, 1 + 2**-11 + 2**-30),
        ("f64", np.float64, 1 + 2**-40),
    ],
)
def test_numbers_of_all_dtypes(dtype: str, held: Any, value: Any) -> None:
    b = Builder("number")
    factor, y = b.scalar("factor", dtype), b.buffer("Y", [32], dtype, output=True)
    with b.loop("t", 32, THREAD_X) as t, b.block("Y", spatial={"i": (32, t)}) as (i,):
        y[i] = factor
    result = np.zeros(32, held)
    compiled(b.build())(value, result)
    np.testing.assert_array_equal(result, np.full(32, value).astype(held))


@pytest.mark.parametrize("dtype", EIGHTS)
def test_numbers_of_8_bit_floats(dtype: str) -> None:
    b = Builder("number")
    factor, y = b.scalar("factor", dtype), b.buffer("Y", [32], dtype, output=True)
    with b.loop("t", 32, THREAD_X) as t, b.block("Y", spatial={"i": (32, t)}) as (i,):
        y[i] = factor
    result = np.zeros(32, np.uint8)
    compiled(b.build())(-5.3, result)
    np.testing.assert_array_equal(result, nearest(-5.3, dtype))


def test_buffers_of_indices_are_refused() -> None:
    program = apart(32, ["index"], "i32", lambda x: cast(x, "i32"))
    with pytest.raises(DiagnosticError, match="expected elements of i32 or i64 in 'A' on a GPU"):
        compiled(program)
