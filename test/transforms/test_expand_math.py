"""The expansions of `expand-math`, run on the simulator and compared with f64."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from xdsl.dialects.builtin import ModuleOp

from tilewright.test.lowering.ptx.execute import apply, bf16_bits, bf16_values
from tilewright.test.lowering.ptx.kernels import context, elementwise
from tilewright.transforms.expand_math import ExpandMathPass

Array = NDArray[Any]
_ERF: Callable[[Array], Array] = np.vectorize(math.erf, otypes=[np.float64])


def _inverse_root(x: Array) -> Array:
    return 1 / np.sqrt(x)


def _expanded(name: str, kind: str = "f32") -> ModuleOp:
    module = elementwise(f"%r = math.{name} %a : {kind}", [kind], kind)
    ExpandMathPass().apply(context(), module)
    module.verify()
    return module


def _ulp(values: Array) -> Array:
    return np.spacing(np.maximum(np.abs(values), 2.0**-126).astype(np.float32)).astype(np.float64)


def _inputs(low: float, high: float) -> Array:
    return np.random.default_rng().uniform(low, high, 4096).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "exact", "low", "high", "ulps"),
    [
        ("exp", np.exp, -87.0, 88.7, 3),
        ("exp", np.exp, -1.0, 1.0, 3),
        ("log", np.log, 1e-30, 1e30, 3),
        ("log", np.log, 0.5, 2.0, 3),
        ("log2", np.log2, 0.5, 2.0, 4),
        ("log2", np.log2, 1e-6, 1e6, 4),
        ("log10", np.log10, 0.1, 100.0, 4),
        ("tanh", np.tanh, -10.0, 10.0, 4),
        ("tanh", np.tanh, -0.6, 0.6, 4),
        ("rsqrt", _inverse_root, 1e-6, 1e6, 2),
    ],
)
def test_error_in_ulp(
    name: str, exact: Callable[[Array], Array], low: float, high: float, ulps: int
) -> None:
    x = _inputs(low, high)
    expected = exact(x.astype(np.float64))
    error = np.abs(apply(_expanded(name), [x], np.float32) - expected) / _ulp(expected)
    assert error.max() <= ulps


@pytest.mark.parametrize(
    ("name", "exact", "reach", "bound"),
    [
        ("erf", _ERF, 4.0, 4e-7),
        ("sin", np.sin, 10.0, 2e-7),
        ("cos", np.cos, 10.0, 2e-7),
        ("sin", np.sin, 65536.0, 2e-7),
        ("cos", np.cos, 65536.0, 2e-7),
    ],
)
def test_absolute_error(
    name: str, exact: Callable[[Array], Array], reach: float, bound: float
) -> None:
    x = _inputs(-reach, reach)
    result = apply(_expanded(name), [x], np.float32)
    assert np.abs(result - exact(x.astype(np.float64))).max() <= bound


_SPECIAL = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 1.0, 200.0, -200.0] * 4, np.float32)


@pytest.mark.parametrize("name", ["exp", "log", "log2", "log10", "tanh"])
def test_special_values_are_those_of_numpy(name: str) -> None:
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(_SPECIAL.astype(np.float64)).astype(np.float32)
    result = apply(_expanded(name), [_SPECIAL], np.float32)
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_log_of_subnormal() -> None:
    x = np.full(32, 2.0**-140, np.float32)
    np.testing.assert_allclose(apply(_expanded("log2"), [x], np.float32), -140.0)


def test_halves_round_away_from_zero() -> None:
    x = np.array([0.5, -0.5, 1.5, -2.5, 0.49999997, 8388609.0, -3.2, 2.7] * 4, np.float32)
    expected = np.array([1.0, -1.0, 2.0, -3.0, 0.0, 8388609.0, -3.0, 3.0] * 4, np.float32)
    np.testing.assert_array_equal(apply(_expanded("round"), [x], np.float32), expected)


def test_bf16_is_rounded_once_from_f32() -> None:
    bits = bf16_bits(_inputs(-3.0, 3.0))
    expected = bf16_values(bf16_bits(np.exp(bf16_values(bits).astype(np.float64))))
    result = bf16_values(apply(_expanded("exp", "bf16"), [bits], np.uint16))
    # f32 errors may move a value across the middle between two bf16 numbers, 2^-8 apart.
    assert (result != expected).mean() < 0.01
    np.testing.assert_allclose(result, expected, rtol=2.0**-7)


def test_approximate_op_is_left_alone() -> None:
    module = elementwise("%r = math.exp %a fastmath<afn> : f32", ["f32"], "f32")
    before = str(module)
    ExpandMathPass().apply(context(), module)
    assert str(module) == before


def test_f64_is_left_alone_where_its_expansion_is_unknown() -> None:
    module = elementwise("%r = math.log %a : f64", ["f64"], "f64")
    before = str(module)
    ExpandMathPass().apply(context(), module)
    assert str(module) == before


def _two_to(x: Array) -> Array:
    return np.exp2(x)


@pytest.mark.parametrize(
    ("name", "exact", "low", "high"),
    [
        ("exp", np.exp, -707.0, 709.0),
        ("exp", np.exp, -1.0, 1.0),
        ("exp2", _two_to, -1020.0, 1023.0),
        ("rsqrt", _inverse_root, 1e-300, 1e300),
    ],
)
def test_error_in_ulp_of_f64(
    name: str, exact: Callable[[Array], Array], low: float, high: float
) -> None:
    x = np.random.default_rng().uniform(low, high, 4096)
    expected = exact(x.astype(np.longdouble))
    result = apply(_expanded(name, "f64"), [x], np.float64).astype(np.longdouble)
    assert (np.abs(result - expected) / np.spacing(expected.astype(np.float64))).max() <= 2


@pytest.mark.parametrize("name", ["exp", "exp2"])
def test_special_values_of_f64_are_those_of_numpy(name: str) -> None:
    x = np.resize([np.inf, -np.inf, np.nan, 0.0, -0.0, 1e5, -1e5, 1025.0, -1070.0], 32)
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(x)
    result = apply(_expanded(name, "f64"), [x], np.float64)
    np.testing.assert_allclose(result, expected, rtol=5e-16, atol=5e-324)


def test_vector_is_expanded_element_by_element() -> None:
    code = """
    %ones = arith.constant dense<1.0> : vector<2x3xf32>
    %v = vector.insert %a, %ones[1, 2] : f32 into vector<2x3xf32>
    %e = math.log %v : vector<2x3xf32>
    %r = vector.extract %e[1, 2] : f32 from vector<2x3xf32>
    """
    module = elementwise(code, ["f32"], "f32")
    ExpandMathPass().apply(context(), module)
    module.verify()
    x = _inputs(0.1, 10.0)
    np.testing.assert_allclose(apply(module, [x], np.float32), np.log(x), rtol=1e-5, atol=1e-6)
