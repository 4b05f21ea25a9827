"""Floating-point ops and conversions of the direct printer, against NumPy."""

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from tilewright.lowering.ptx import print_ptx
from tilewright.test.lowering.ptx.execute import apply, bf16_bits, bf16_values
from tilewright.test.lowering.ptx.kernels import elementwise

Array = NDArray[Any]
BF16 = np.dtype(ml_dtypes.bfloat16)
DTYPES: dict[str, Any] = {"f16": np.float16, "bf16": BF16, "f32": np.float32, "f64": np.float64}


def _random(kind: str, count: int = 64) -> Array:
    """Numbers of many magnitudes, zeros of both signs, infinities and a NaN."""
    rng = np.random.default_rng()
    values = rng.standard_normal(count) * 2.0 ** rng.integers(-9, 9, count)
    values[:6] = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0]
    return rng.permutation(values).astype(DTYPES[kind])


def _run(code: str, inputs: list[tuple[str, Array]], output: str) -> Array:
    """Applies code to arrays; bf16 arrays travel as their bits."""
    arrays = [a.view(np.uint16) if kind == "bf16" else a for kind, a in inputs]
    dtype = np.uint16 if output == "bf16" else DTYPES.get(output) or np.dtype(f"int{output[1:]}")
    module = elementwise(code, [kind for kind, _ in inputs], output)
    result = apply(module, arrays, dtype)
    return result.view(BF16) if output == "bf16" else result


def _assert_same(result: Array, expected: Array) -> None:
    """Any NaN equals any other; NumPy does not see those of bf16."""
    np.testing.assert_array_equal(result.astype(np.float64), expected.astype(np.float64))


def _inverse_root(a: Array) -> Array:
    return 1 / np.sqrt(a)


def _exactly(name: str, a: Array, b: Array) -> Array:
    """Computes in f64, which holds sums and products of the narrower kinds, and rounds once."""
    with np.errstate(all="ignore"):
        wide: Array = getattr(np, name)(a.astype(np.float64), b.astype(np.float64))
        return wide.astype(a.dtype)


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize(
    ("op", "name"),
    [("addf", "add"), ("subf", "subtract"), ("mulf", "multiply"), ("divf", "divide")],
)
def test_arithmetic_is_correctly_rounded(op: str, name: str, kind: str) -> None:
    a, b = _random(kind), _random(kind)
    result = _run(f"%r = arith.{op} %a, %b : {kind}", [(kind, a), (kind, b)], kind)
    _assert_same(result, _exactly(name, a, b))


@pytest.mark.parametrize("kind", DTYPES)
def test_square_root_is_correctly_rounded(kind: str) -> None:
    a = _random(kind)
    with np.errstate(all="ignore"):
        expected = np.sqrt(a.astype(np.float64)).astype(a.dtype)
    _assert_same(_run(f"%r = math.sqrt %a : {kind}", [(kind, a)], kind), expected)


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize(("op", "nan"), [("maximumf", True), ("maxnumf", False)])
def test_maxima_differ_in_nan(op: str, nan: bool, kind: str) -> None:
    a, b = _random(kind), _random(kind)
    pick = np.maximum if nan else np.fmax
    expected = pick(a.astype(np.float64), b.astype(np.float64)).astype(a.dtype)
    result = _run(f"%r = arith.{op} %a, %b : {kind}", [(kind, a), (kind, b)], kind)
    _assert_same(result, expected)


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize(("op", "nan"), [("minimumf", True), ("minnumf", False)])
def test_minima_differ_in_nan(op: str, nan: bool, kind: str) -> None:
    a, b = _random(kind), _random(kind)
    pick = np.minimum if nan else np.fmin
    expected = pick(a.astype(np.float64), b.astype(np.float64)).astype(a.dtype)
    result = _run(f"%r = arith.{op} %a, %b : {kind}", [(kind, a), (kind, b)], kind)
    _assert_same(result, expected)


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize(
    ("predicate", "ordered", "compare"),
    [
        *(("oeq", True, np.equal), ("ogt", True, np.greater), ("oge", True, np.greater_equal)),
        *(("olt", True, np.less), ("ole", True, np.less_equal), ("one", True, np.not_equal)),
        *(("ueq", False, np.equal), ("ugt", False, np.greater), ("une", False, np.not_equal)),
        *(("ult", False, np.less), ("ule", False, np.less_equal), ("uge", False, np.greater_equal)),
    ],
)
def test_comparison(predicate: str, ordered: bool, compare: Any, kind: str) -> None:
    a, b = _random(kind), _random(kind)
    b[:16] = a[:16]
    code = f"%p = arith.cmpf {predicate}, %a, %b : {kind}\n%r = arith.extui %p : i1 to i32"
    result = _run(code, [(kind, a), (kind, b)], "i32").astype(bool)
    with np.errstate(invalid="ignore"):
        expected = np.where((a != a) | (b != b), not ordered, compare(a, b))
    _assert_same(result, expected)


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize(("op", "name"), [("arith.negf", "negative"), ("math.absf", "abs")])
def test_sign(op: str, name: str, kind: str) -> None:
    a = _random(kind)
    expected = getattr(np, name)(a)
    result = _run(f"%r = {op} %a : {kind}", [(kind, a)], kind)
    _assert_same(result, expected)
    _assert_same(np.signbit(result)[a == a], np.signbit(expected)[a == a])


@pytest.mark.parametrize("name", ["floor", "ceil", "trunc", "roundeven"])
def test_rounding_to_whole_numbers(name: str) -> None:
    a = _random("f32")
    expected = getattr(np, {"roundeven": "rint"}.get(name, name))(a)
    _assert_same(_run(f"%r = math.{name} %a : f32", [("f32", a)], "f32"), expected)


@pytest.mark.parametrize(
    ("name", "exact", "low", "bound"),
    [
        ("exp2", np.exp2, -20.0, 3e-7),
        ("exp", np.exp, -20.0, 1e-5),
        ("log2", np.log2, 2.0, 3e-7),
        ("log", np.log, 2.0, 3e-7),
        ("log10", np.log10, 2.0, 5e-7),
        ("rsqrt", _inverse_root, 0.1, 3e-7),
        ("sqrt", np.sqrt, 0.1, 3e-7),
        ("tanh", np.tanh, 0.5, 2e-3),
    ],
)
def test_approximate_function(
    name: str, exact: Callable[[Array], Array], low: float, bound: float
) -> None:
    a = np.random.default_rng().uniform(low, 20.0, 512).astype(np.float32)
    result = _run(f"%r = math.{name} %a fastmath<afn> : f32", [("f32", a)], "f32")
    np.testing.assert_allclose(result, exact(a.astype(np.float64)), rtol=bound)


def test_approximate_power() -> None:
    rng = np.random.default_rng()
    a, b = (rng.uniform(0.5, 4.0, 64).astype(np.float32) for _ in range(2))
    code = "%r = math.powf %a, %b fastmath<afn> : f32"
    result = _run(code, [("f32", a), ("f32", b)], "f32")
    np.testing.assert_allclose(result, a.astype(np.float64) ** b, rtol=2e-6)


def test_fused_multiply_add_rounds_once() -> None:
    a = np.full(32, 1 + 2.0**-12, np.float32)
    c = -(a * a)
    code = "%r = math.fma %a, %a, %b : f32"
    result = _run(code, [("f32", a), ("f32", c)], "f32")
    exact = a.astype(np.float64) ** 2 + c.astype(np.float64)
    _assert_same(result, exact.astype(np.float32))


def test_copysign_takes_the_sign_of_its_second_operand() -> None:
    a, b = _random("f32"), _random("f32")
    result = _run("%r = math.copysign %a, %b : f32", [("f32", a), ("f32", b)], "f32")
    _assert_same(result, np.copysign(a, b))


def test_sums_are_fused_only_with_contract() -> None:
    code = "%m = arith.mulf %a, %b{0} : f32\n%r = arith.addf %m, %a{0} : f32"
    inputs = ["f32", "f32"]
    plain = print_ptx(elementwise(code.format(""), inputs, "f32"))
    contracted = print_ptx(elementwise(code.format(" fastmath<contract>"), inputs, "f32"))
    assert "mul.rn.f32" in plain
    assert "add.rn.f32" in plain
    assert "mul.f32" in contracted
    assert "add.f32" in contracted


@pytest.mark.parametrize(
    ("source", "to"),
    [
        *(("f32", "f16"), ("f32", "bf16"), ("f64", "f32"), ("f64", "f16")),
        *(("f16", "f32"), ("bf16", "f32"), ("f32", "f64"), ("f16", "f64"), ("bf16", "f64")),
    ],
)
def test_conversion_between_floats(source: str, to: str) -> None:
    op = "extf" if np.dtype(DTYPES[source]).itemsize < np.dtype(DTYPES[to]).itemsize else "truncf"
    a = _random(source)
    result = _run(f"%r = arith.{op} %a : {source} to {to}", [(source, a)], to)
    _assert_same(result, a.astype(DTYPES[to]))


@pytest.mark.parametrize("to", ["f16", "bf16"])
def test_pairs_are_packed_in_order(to: str) -> None:
    code = f"""
    %zero = arith.constant dense<0.0> : vector<2xf32>
    %x = vector.insert %a, %zero[0] : f32 into vector<2xf32>
    %v = vector.insert %b, %x[1] : f32 into vector<2xf32>
    %h = arith.truncf %v : vector<2xf32> to vector<2x{to}>
    %w = vector.bitcast %h : vector<2x{to}> to vector<1xi32>
    %r = vector.extract %w[0] : i32 from vector<1xi32>
    """
    rng = np.random.default_rng()
    a, b = (rng.standard_normal(32).astype(np.float32) for _ in range(2))
    packed = _run(code, [("f32", a), ("f32", b)], "i32").view(np.uint16).reshape(-1, 2)
    expected = np.stack([a, b], axis=1).astype(DTYPES[to]).view(np.uint16)
    _assert_same(packed, expected)


@pytest.mark.parametrize("to", ["f16", "f32", "f64"])
@pytest.mark.parametrize(("op", "source"), [("sitofp", "i8"), ("sitofp", "i32"), ("uitofp", "i16")])
def test_float_from_integer(op: str, source: str, to: str) -> None:
    bits = int(source[1:])
    a = np.random.default_rng().integers(-(1 << (bits - 1)), 1 << (bits - 1), 64, np.int64)
    a = a.astype(f"int{bits}")
    numbers = a.view(f"uint{bits}") if op == "uitofp" else a
    module = elementwise(f"%r = arith.{op} %a : {source} to {to}", [source], to)
    with np.errstate(over="ignore"):
        _assert_same(apply(module, [a], DTYPES[to]), numbers.astype(DTYPES[to]))


@pytest.mark.parametrize("source", ["f16", "bf16", "f32", "f64"])
def test_integer_from_float_rounds_toward_zero(source: str) -> None:
    a = (np.random.default_rng().standard_normal(64) * 100).astype(DTYPES[source])
    result = _run(f"%r = arith.fptosi %a : {source} to i32", [(source, a)], "i32")
    _assert_same(result, np.trunc(a.astype(np.float64)).astype(np.int32))


@pytest.mark.parametrize(
    ("source", "to"), [("f32", "i32"), ("i32", "f32"), ("f16", "i16"), ("i16", "bf16")]
)
def test_bitcast_keeps_bits(source: str, to: str) -> None:
    bits = int(source[-2:])
    a = np.random.default_rng().integers(0, 1 << bits, 64).astype(f"uint{bits}")
    module = elementwise(f"%r = arith.bitcast %a : {source} to {to}", [source], to)
    assert apply(module, [a], a.dtype).tolist() == a.tolist()


@pytest.mark.parametrize("kind", DTYPES)
def test_constants_keep_their_value(kind: str) -> None:
    values = [0.1, -3.25, 1e-3, 1024.0, -0.0]
    for value in values:
        code = f"""
        %k = arith.constant {value} : {kind}
        %zero = arith.constant -0.0 : {kind}
        %z = arith.mulf %a, %zero : {kind}
        %p = arith.cmpf oeq, %z, %zero : {kind}
        %r = arith.select %p, %k, %a : {kind}
        """
        result = _run(code, [(kind, np.ones(32, DTYPES[kind]))], kind)
        expected = np.full(32, value).astype(DTYPES[kind])
        _assert_same(result, expected)


@pytest.mark.parametrize("bits", ["0x7F800000", "0xFF800000", "0x7FC00000"])
def test_constants_that_are_not_numbers(bits: str) -> None:
    code = f"%k = arith.constant {bits} : f32\n%r = arith.addf %a, %k : f32"
    result = _run(code, [("f32", np.zeros(32, np.float32))], "f32")
    expected = np.full(32, int(bits, 16), np.uint32).view(np.float32)
    _assert_same(result, expected)


def test_selection_between_zeros_keeps_their_sign() -> None:
    code = """
    %plus = arith.constant 0.0 : f32
    %minus = arith.constant -0.0 : f32
    %p = arith.cmpf olt, %a, %plus : f32
    %r = arith.select %p, %plus, %minus : f32
    """
    a = _random("f32")
    result = _run(code, [("f32", a)], "f32")
    with np.errstate(invalid="ignore"):
        assert np.signbit(result).tolist() == (~(a < 0)).tolist()


def test_power_of_two_instruction_flushes_on_request() -> None:
    a = np.full(32, -130.0, np.float32)
    kept = _run("%r = nvvm.ex2 %a : f32", [("f32", a)], "f32")
    flushed = _run("%r = nvvm.ex2 %a {ftz = true} : f32", [("f32", a)], "f32")
    _assert_same(kept, np.full(32, 2.0**-130, np.float32))
    _assert_same(flushed, np.zeros(32, np.float32))


def test_approximate_reciprocal() -> None:
    a = np.random.default_rng().uniform(0.1, 100.0, 64).astype(np.float32)
    result = _run("%r = nvvm.rcp.approx.ftz.f %a : f32", [("f32", a)], "f32")
    np.testing.assert_allclose(result, 1 / a.astype(np.float64), rtol=2.0**-23)


def test_bits_of_bf16_round_to_nearest_even() -> None:
    a = np.random.default_rng().standard_normal(256).astype(np.float32)
    _assert_same(bf16_values(bf16_bits(a)), a.astype(BF16).astype(np.float32))
