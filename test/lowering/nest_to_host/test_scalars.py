"""Every scalar op on the host, one by one and as vectors, against NumPy in float64."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tilewright.dialects.nest.program import LoopKind, Program
from tilewright.dialects.nest.scalars import Apply
from tilewright.nest.arithmetic import STORAGE, decode, encode
from tilewright.nest.builder import Builder
from tilewright.nest.compiler import compile
from tilewright.nest.values import Value

pytest.importorskip("torch_mlir", reason="the MLIR bindings are not installed (extra mlir)")
pytest.importorskip("llvmlite", reason="llvmlite is not installed (extra mlir)")

Numbers = npt.NDArray[Any]
COUNT = 37  # two vectors of 16 lanes and a rest
KINDS = (LoopKind.SERIAL, LoopKind.VECTORIZED)
BITS = {"f8E4M3FN": 4, "f8E5M2": 3, "f16": 11, "bf16": 8, "f32": 24, "f64": 53}
INTEGERS = ("i8", "i16", "i32", "i64")
# What is added to the error of rounding once, in units of 2**-24.
FUNCTION_ERROR = {"math.erf": 8.0, "math.tanh": 4.0, "math.remf": 0.0}

BINARY: dict[str, Callable[..., Numbers]] = {
    "arith.addf": np.add,
    "arith.subf": np.subtract,
    "arith.mulf": np.multiply,
    "arith.divf": np.divide,
    "arith.remf": np.fmod,
    "arith.maximumf": np.maximum,
    "arith.minimumf": np.minimum,
    "arith.maxnumf": np.fmax,
    "arith.minnumf": np.fmin,
}
UNARY: dict[str, Callable[[Numbers], Numbers]] = {
    "arith.negf": np.negative,
    "math.absf": np.abs,
    "math.floor": np.floor,
    "math.ceil": np.ceil,
    "math.roundeven": np.rint,
    "math.trunc": np.trunc,
}
POSITIVE: dict[str, Callable[[Numbers], Numbers]] = {
    "math.sqrt": np.sqrt,
    "math.rsqrt": lambda x: 1 / np.sqrt(x),
    "math.log": np.log,
    "math.log2": np.log2,
    "math.log10": np.log10,
    "math.log1p": np.log1p,
}
CURVES: dict[str, Callable[[Numbers], Numbers]] = {
    "math.exp": np.exp,
    "math.exp2": np.exp2,
    "math.expm1": np.expm1,
    "math.tanh": np.tanh,
    "math.erf": lambda x: np.array([math.erf(value) for value in x]),
    "math.sin": np.sin,
    "math.cos": np.cos,
    "math.tan": np.tan,
    "math.atan": np.arctan,
}
FLOAT_ORDER: dict[str, Callable[[Numbers, Numbers], Numbers]] = {
    "oeq": lambda a, b: a == b,
    "ogt": lambda a, b: a > b,
    "oge": lambda a, b: a >= b,
    "olt": lambda a, b: a < b,
    "ole": lambda a, b: a <= b,
    "one": lambda a, b: (a < b) | (a > b),
    "ord": lambda a, b: ~(np.isnan(a) | np.isnan(b)),
    "ueq": lambda a, b: ~((a < b) | (a > b)),
    "ugt": lambda a, b: ~(a <= b),
    "uge": lambda a, b: ~(a < b),
    "ult": lambda a, b: ~(a >= b),
    "ule": lambda a, b: ~(a > b),
    "une": lambda a, b: a != b,
    "uno": lambda a, b: np.isnan(a) | np.isnan(b),
}


def _wrapped(value: int, bits: int) -> int:
    return (value + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1)


def _toward_zero(a: int, b: int) -> int:
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def _unsigned(function: Callable[[int, int], int]) -> Callable[[int, int, int], int]:
    return lambda a, b, bits: function(a % (1 << bits), b % (1 << bits))


WHOLE: dict[str, Callable[[int, int, int], int]] = {
    "arith.addi": lambda a, b, _: a + b,
    "arith.subi": lambda a, b, _: a - b,
    "arith.muli": lambda a, b, _: a * b,
    "arith.divsi": lambda a, b, _: _toward_zero(a, b),
    "arith.remsi": lambda a, b, _: a - b * _toward_zero(a, b),
    "arith.floordivsi": lambda a, b, _: a // b,
    "arith.ceildivsi": lambda a, b, _: -(-a // b),
    "arith.divui": _unsigned(lambda a, b: a // b),
    "arith.remui": _unsigned(lambda a, b: a % b),
    "arith.andi": lambda a, b, _: a & b,
    "arith.ori": lambda a, b, _: a | b,
    "arith.xori": lambda a, b, _: a ^ b,
    "arith.maxsi": lambda a, b, _: max(a, b),
    "arith.minsi": lambda a, b, _: min(a, b),
    "arith.maxui": _unsigned(max),
    "arith.minui": _unsigned(min),
}
SHIFTS: dict[str, Callable[[int, int, int], int]] = {
    "arith.shli": lambda a, b, _: a << b,
    "arith.shrsi": lambda a, b, _: a >> b,
    "arith.shrui": lambda a, b, bits: (a % (1 << bits)) >> b,
}


def program_of(ops: list[tuple[str, str]], inputs: list[str], out: str, kind: LoopKind) -> Program:
    """Returns a program that applies ops, each with its predicate, to n elements of each input."""
    b = Builder("ops", "n in [1, 1024]")
    given = [b.buffer(f"X{place}", ["n"], dtype) for place, dtype in enumerate(inputs)]
    results = [b.buffer(f"Y{place}", ["n"], out, output=True) for place in range(len(ops))]
    with b.loop("i", "n", kind) as i, b.block("all", spatial={"v": ("n", i)}) as (v,):
        for (op, predicate), result in zip(ops, results, strict=True):
            operands = tuple(array[v].scalar for array in given)
            result[v] = Value(Apply(op, operands, out, predicate))
    return b.build()


def computed(
    ops: list[tuple[str, str]],
    inputs: dict[int, Numbers],
    dtypes: list[str],
    out: str,
    kind: LoopKind,
) -> list[Numbers]:
    """Returns what the host computes, decoded."""
    results = [np.zeros(COUNT, STORAGE[out]) for _ in ops]
    compile(program_of(ops, dtypes, out, kind))(*inputs.values(), *results)
    return [decode(result, out) for result in results]


def drawn(
    seed: int, dtype: str, low: float = 0.125, high: float = 3.0, signs: bool = True
) -> Numbers:
    """Returns random numbers of a float dtype that are not 0, as a buffer holds them."""
    generator = np.random.default_rng(seed)
    size = generator.uniform(low, high, COUNT)
    return encode(size * (generator.integers(0, 2, COUNT) * 2 - 1 if signs else 1), dtype)


def assert_close(got: Numbers, exact: Numbers, dtype: str, op: str, more: float = 3.0) -> None:
    """Holds a result to half a unit of its dtype, and to errors of functions computed in f32."""
    bits = BITS[dtype]
    exponent = np.floor(np.log2(np.maximum(np.abs(exact), 1e-30)))
    least = {"f8E4M3FN": -6, "f8E5M2": -14, "f16": -14}.get(dtype, -120)
    unit = 2.0 ** (np.maximum(exponent, least) + 1 - bits)
    own = unit if bits >= 24 else 2.0 ** (exponent - 23)
    allowed = 0.5 * unit + more * own
    assert np.all(np.abs(got.astype(np.float64) - exact) <= allowed), f"{op} of {dtype}"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", BITS)
def test_arithmetic_of_floats_is_rounded_once(dtype: str, kind: LoopKind) -> None:
    x, y = drawn(1, dtype), drawn(2, dtype)
    a, b = (np.asarray(decode(array, dtype), np.float64) for array in (x, y))
    got = computed([(op, "") for op in BINARY], {0: x, 1: y}, [dtype] * 2, dtype, kind)
    for (op, function), result in zip(BINARY.items(), got, strict=True):
        assert_close(result, function(a, b), dtype, op, more=1e-6)
    got = computed([(op, "") for op in UNARY], {0: x}, [dtype], dtype, kind)
    for (op, function), result in zip(UNARY.items(), got, strict=True):
        assert_close(result, function(a), dtype, op, more=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", BITS)
def test_functions_are_within_a_few_units(dtype: str, kind: LoopKind) -> None:
    for table, signs in ((POSITIVE, False), (CURVES, True)):
        x = drawn(3, dtype, signs=signs)
        exact = np.asarray(decode(x, dtype), np.float64)
        got = computed([(op, "") for op in table], {0: x}, [dtype], dtype, kind)
        for (op, function), result in zip(table.items(), got, strict=True):
            assert_close(result, function(exact), dtype, op, FUNCTION_ERROR.get(op, 3.0))


@pytest.mark.parametrize("op", ["math.exp", "math.exp2", "math.expm1", "math.log", "math.tanh"])
def test_functions_of_f32_hold_over_the_whole_range(op: str) -> None:
    wide = np.linspace(-110, 110, COUNT, dtype=np.float32)
    x = np.abs(wide) ** 15 if op == "math.log" else wide
    (got,) = computed([(op, "")], {0: x}, ["f32"], "f32", LoopKind.VECTORIZED)
    with np.errstate(over="ignore", under="ignore", divide="ignore"):
        exact = (CURVES | POSITIVE)[op](x.astype(np.float64)).astype(np.float32)
    np.testing.assert_allclose(got, exact, rtol=5e-7, atol=2e-45)


@pytest.mark.parametrize("op", [*CURVES, "math.log", "math.log2", "math.sqrt"])
def test_functions_of_nan_are_nan(op: str) -> None:
    x = np.full(COUNT, np.nan, np.float32)
    (got,) = computed([(op, "")], {0: x}, ["f32"], "f32", LoopKind.VECTORIZED)
    assert np.isnan(got).all()


def test_logarithms_of_0_and_below_are_as_ieee_says() -> None:
    x = np.resize(np.array([0.0, -1.0, np.inf, 1.0], np.float32), COUNT)
    for op in ("math.log", "math.log2"):
        (got,) = computed([(op, "")], {0: x}, ["f32"], "f32", LoopKind.VECTORIZED)
        np.testing.assert_array_equal(got[:4], [-np.inf, np.nan, np.inf, 0.0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_wrap(dtype: str, kind: LoopKind) -> None:
    bits, generator = int(dtype[1:]), np.random.default_rng(5)
    info = np.iinfo(STORAGE[dtype])
    x = generator.integers(info.min, info.max, COUNT, STORAGE[dtype], endpoint=True)
    y = generator.integers(1, 100, COUNT).astype(STORAGE[dtype])
    y[::2] = -y[::2]
    shifts = generator.integers(0, bits, COUNT).astype(STORAGE[dtype])
    for table, right in ((WHOLE, y), (SHIFTS, shifts)):
        got = computed([(op, "") for op in table], {0: x, 1: right}, [dtype] * 2, dtype, kind)
        for (op, function), result in zip(table.items(), got, strict=True):
            pairs = zip(x.tolist(), right.tolist(), strict=True)
            exact = [_wrapped(function(a, b, bits), bits) for a, b in pairs]
            assert result.tolist() == exact, op


@pytest.mark.parametrize("kind", KINDS)
def test_comparisons_of_floats_know_nan(kind: LoopKind) -> None:
    x, y = drawn(6, "f32"), drawn(7, "f32")
    x[3], y[5], y[7] = np.nan, np.nan, x[7]
    ops = [("arith.cmpf", predicate) for predicate in FLOAT_ORDER]
    got = computed(ops, {0: x, 1: y}, ["f32"] * 2, "i1", kind)
    for (predicate, function), result in zip(FLOAT_ORDER.items(), got, strict=True):
        np.testing.assert_array_equal(result, function(x, y), err_msg=predicate)


@pytest.mark.parametrize("kind", KINDS)
def test_comparisons_of_integers_know_signs(kind: LoopKind) -> None:
    x = np.arange(-18, 19, dtype=np.int16)
    y = np.roll(x, 5)
    u, w = x.view(np.uint16), y.view(np.uint16)
    exact = {"slt": x < y, "sle": x <= y, "sgt": x > y, "sge": x >= y, "eq": x == y, "ne": x != y}
    exact |= {"ult": u < w, "ule": u <= w, "ugt": u > w, "uge": u >= w}
    got = computed([("arith.cmpi", p) for p in exact], {0: x, 1: y}, ["i16"] * 2, "i1", kind)
    for (predicate, expected), result in zip(exact.items(), got, strict=True):
        np.testing.assert_array_equal(result, expected, err_msg=predicate)


@pytest.mark.parametrize("dtype", ["f8E4M3FN", "f8E5M2", "f16", "bf16"])
@pytest.mark.parametrize("source", ["f32", "f64"])
def test_rounding_to_narrow_floats_is_to_nearest_even(dtype: str, source: str) -> None:
    generator = np.random.default_rng(8)
    numbers = 2.0 ** generator.uniform(-30, 17, 4000) * generator.choice([-1, 1], 4000)
    with np.errstate(over="ignore"):
        ties = np.asarray(decode(encode(numbers, dtype), dtype), np.float64)
    halfway = ties * (1 + 2.0 ** -BITS[dtype])
    x = np.concatenate([numbers, ties, halfway, [np.nan, np.inf, -np.inf, 0.0, -0.0]])
    x = x.astype(STORAGE[source])
    b = Builder("round", "n in [1, 100000]")
    given, result = b.buffer("X", ["n"], source), b.buffer("Y", ["n"], dtype, output=True)
    with b.loop("i", "n", LoopKind.VECTORIZED) as i, b.block("b", spatial={"v": ("n", i)}) as (v,):
        result[v] = Value(Apply("arith.truncf", (given[v].scalar,), dtype))
    got = np.zeros(len(x), STORAGE[dtype])
    compile(b.build())(x, got)
    with np.errstate(over="ignore"):
        exact = encode(x, dtype)
    np.testing.assert_array_equal(decode(got, dtype), decode(exact, dtype))


@pytest.mark.parametrize("dtype", ["f8E4M3FN", "f8E5M2"])
def test_all_codes_of_8_bit_floats_are_read(dtype: str) -> None:
    codes = np.arange(256, dtype=np.uint8)
    b = Builder("widen", "n in [1, 256]")
    given, result = b.buffer("X", ["n"], dtype), b.buffer("Y", ["n"], "f32", output=True)
    with b.loop("i", "n", LoopKind.VECTORIZED) as i, b.block("b", spatial={"v": ("n", i)}) as (v,):
        result[v] = Value(Apply("arith.extf", (given[v].scalar,), "f32"))
    got = np.zeros(256, np.float32)
    compile(b.build())(codes, got)
    np.testing.assert_array_equal(got, decode(codes, dtype))


@pytest.mark.parametrize("kind", KINDS)
def test_conversions_between_integers_and_floats(kind: LoopKind) -> None:
    small = np.random.default_rng(9).integers(-100, 100, COUNT)
    for integer in INTEGERS:
        x = small.astype(STORAGE[integer])
        for dtype in ("f16", "bf16", "f32", "f64"):
            (got,) = computed([("arith.sitofp", "")], {0: x}, [integer], dtype, kind)
            np.testing.assert_array_equal(got, small)
            numbers = encode(small + 0.5, dtype)
            (back,) = computed([("arith.fptosi", "")], {0: numbers}, [dtype], integer, kind)
            np.testing.assert_array_equal(back, np.trunc(decode(numbers, dtype)))


@pytest.mark.parametrize("kind", KINDS)
def test_integers_change_their_width(kind: LoopKind) -> None:
    x = np.arange(-18, 19, dtype=np.int8) * 7
    (wide,) = computed([("arith.extsi", "")], {0: x}, ["i8"], "i32", kind)
    (plain,) = computed([("arith.extui", "")], {0: x}, ["i8"], "i64", kind)
    (back,) = computed([("arith.trunci", "")], {0: wide * 1001}, ["i32"], "i8", kind)
    (index,) = computed([("arith.index_cast", "")], {0: wide}, ["i32"], "index", kind)
    np.testing.assert_array_equal(wide, x)
    np.testing.assert_array_equal(plain, x.view(np.uint8))
    np.testing.assert_array_equal(back, (wide * 1001).astype(np.int8))
    np.testing.assert_array_equal(index, x)


@pytest.mark.parametrize(
    ("source", "target"), [("f32", "i32"), ("i64", "f64"), ("bf16", "i16"), ("i16", "f16")]
)
def test_bits_are_kept_by_a_bitcast(source: str, target: str) -> None:
    x = drawn(10, source) if source in BITS else np.arange(15000, 15037).astype(STORAGE[source])
    (got,) = computed([("arith.bitcast", "")], {0: x}, [source], target, LoopKind.VECTORIZED)
    np.testing.assert_array_equal(encode(got, target).view(x.dtype), x)


@pytest.mark.parametrize("kind", KINDS)
def test_select_and_fma(kind: LoopKind) -> None:
    x, y, z = (drawn(seed, "f32") for seed in (11, 12, 13))
    exact = x.astype(np.float64) * y + z
    (got,) = computed([("math.fma", "")], {0: x, 1: y, 2: z}, ["f32"] * 3, "f32", kind)
    np.testing.assert_array_equal(got, exact.astype(np.float32))
    chosen = np.arange(COUNT) % 3 == 0
    (got,) = computed(
        [("arith.select", "")], {0: chosen, 1: x, 2: y}, ["i1", "f32", "f32"], "f32", kind
    )
    np.testing.assert_array_equal(got, np.where(chosen, x, y))
