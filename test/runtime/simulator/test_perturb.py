"""Errors of approximate functions: within what the PTX ISA admits, seeded, and there at all."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tilewright.runtime import simulator

from .conftest import lane_kernel

Array = np.ndarray[Any, np.dtype[Any]]
RANDOM = np.random.default_rng(11)


def run(text: str, codes: list[str], inputs: list[Array], seed: int | None, out: str) -> Array:
    """Runs a body over arrays with a seed of errors; returns what it computes."""
    device = simulator.Device("all")
    module = device.load(lane_kernel(text, codes, [out]))
    count = inputs[0].size
    result = device.array(np.zeros(count, out))
    buffers = [device.array(array) for array in inputs]
    arguments = [*buffers, result, count]
    module["lanes"].launch((count + 127) // 128, 128, arguments, perturb=seed)
    return result.numpy().copy()


def single(opcode: str, *inputs: Array, seed: int | None = 1) -> Array:
    """Returns an f32 function of f32 arrays."""
    registers = ", ".join(f"a{i}" for i in range(len(inputs)))
    return run(f"{opcode} o0, {registers};", ["f4"] * len(inputs), list(inputs), seed, "f4")


def spread(low: float, high: float) -> Array:
    """Returns f32 numbers whose logarithms spread evenly."""
    return np.exp2(RANDOM.uniform(low, high, 1500)).astype("f4")


def ulps(count: float) -> Callable[[Array], Array]:
    """Returns a bound in units in the last place of f32."""
    return lambda y: count * 2.0 ** (np.maximum(np.floor(np.log2(np.abs(y))), -126) - 23)


def relative(exponent: float) -> Callable[[Array], Array]:
    """Returns a bound relative to the exact result."""
    return lambda y: np.abs(y) * 2.0**exponent


def absolute(exponent: float) -> Callable[[Array], Array]:
    """Returns a bound that all results share."""
    return lambda y: np.full(y.shape, 2.0**exponent)


ANGLES, FAR = (RANDOM.uniform(-w, w, 1500).astype("f4") for w in (6.28, 314))
SCORES = RANDOM.uniform(-100, 100, 1500).astype("f4")
NUMERATORS, DIVISORS = spread(-30, 30), -spread(-60, 60)
INVERSE: Callable[..., Array] = np.reciprocal
ROOT: Callable[..., Array] = np.sqrt


def inverse_root(x: Array) -> Array:
    """Returns 1 / sqrt(x)."""
    return INVERSE(ROOT(x))


# Opcode: operands, the exact function, the largest error (PTX ISA, notes of each instruction).
# That of ex2 counts from the rounded result on, half a unit away from the exact one.
CASES: dict[str, tuple[tuple[Array, ...], Callable[..., Array], Callable[[Array], Array]]] = {
    "ex2.approx.f32": ((SCORES,), np.exp2, ulps(2.5)),
    "ex2.approx.ftz.f32": ((SCORES,), np.exp2, ulps(2.5)),
    "lg2.approx.f32": ((spread(-1, 1),), np.log2, absolute(-22)),
    "lg2.approx.ftz.f32": ((spread(1, 99),), np.log2, relative(-22)),
    "sin.approx.f32": ((ANGLES,), np.sin, absolute(-20.5)),
    "cos.approx.ftz.f32": ((FAR,), np.cos, absolute(-14.7)),
    "tanh.approx.f32": ((spread(-9, 3),), np.tanh, relative(-11)),
    "rsqrt.approx.f32": ((spread(-99, 99),), inverse_root, relative(-22.9)),
    "rcp.approx.ftz.f32": ((DIVISORS,), INVERSE, ulps(1)),
    "sqrt.approx.f32": ((spread(-99, 99),), ROOT, relative(-23)),
    "div.approx.f32": ((NUMERATORS, DIVISORS), np.divide, ulps(2)),
    "div.full.ftz.f32": ((NUMERATORS, DIVISORS), np.divide, ulps(2)),
}


@pytest.mark.parametrize("opcode", CASES)
def test_errors_stay_within_the_bound(opcode: str) -> None:
    inputs, function, bound = CASES[opcode]
    operands = [x.astype("f8") for x in inputs]
    y = function(*operands)
    assert (np.abs(single(opcode, *inputs) - y) <= bound(y)).all()


@pytest.mark.parametrize("opcode", CASES)
def test_errors_are_made(opcode: str) -> None:
    """Most results differ from the plain ones; a seed's are its own and come again."""
    inputs, _, _ = CASES[opcode]
    plain, one, other = (single(opcode, *inputs, seed=seed) for seed in (None, 1, 2))
    assert (one != plain).mean() > 0.15
    assert (one != other).mean() > 0.15
    assert (single(opcode, *inputs) == one).all()


def test_errors_go_either_way() -> None:
    y = np.exp2(SCORES.astype("f8"))
    above = (single("ex2.approx.f32", SCORES) > y).mean()
    assert 0.4 < above < 0.6


@pytest.mark.parametrize(
    ("opcode", "special"),
    [
        ("ex2.approx.f32", [-np.inf, np.inf, 0.0, -0.0, np.nan, 200.0, -200.0]),
        ("lg2.approx.f32", [-1.0, 0.0, -0.0, np.inf, np.nan, 1.0]),
        ("sin.approx.f32", [0.0, -0.0, np.inf, np.nan]),
        ("cos.approx.f32", [0.0, -0.0, np.inf]),
        ("tanh.approx.f32", [0.0, -0.0, np.inf, -np.inf, np.nan]),
        ("rsqrt.approx.f32", [0.0, -0.0, np.inf, -1.0]),
        ("rcp.approx.f32", [0.0, -0.0, np.inf, -np.inf]),
        ("sqrt.approx.f32", [0.0, -0.0, np.inf, -1.0]),
    ],
)
def test_special_values_stay(opcode: str, special: list[float]) -> None:
    x = np.array(special, "f4")
    plain, drawn = (single(opcode, x, seed=seed) for seed in (None, 5))
    nan = np.isnan(plain)
    assert (np.isnan(drawn) == nan).all()
    assert (drawn.view("u4")[~nan] == plain.view("u4")[~nan]).all()


@pytest.mark.parametrize(
    ("opcode", "type", "bound"),
    [
        ("ex2.approx", "f16", relative(-9.9)),
        ("ex2.approx.ftz", "bf16", relative(-7)),
        ("tanh.approx", "f16", absolute(-10.987)),
        ("tanh.approx", "bf16", absolute(-8)),
    ],
)
@pytest.mark.parametrize("pairs", [False, True])
def test_errors_of_halves(opcode: str, type: str, bound: Any, pairs: bool) -> None:
    values = RANDOM.uniform(-4, 4, 1500).astype("f4")
    bits = values.astype("f2").view("u2") if type == "f16" else (values.view("u4") >> 16)
    bits = np.ascontiguousarray(bits.astype("u2"))
    given = bits.view("u4") if pairs else bits
    text = f"{opcode}.{type}{'x2' if pairs else ''} o0, a0;"
    code = "u4" if pairs else "u2"
    plain, got = (run(text, [code], [given], seed, code).view("u2") for seed in (None, 3))

    def floats(words: Array) -> Array:
        if type == "f16":
            return words.view("f2").astype("f8")
        return (words.astype("u4") << 16).view("f4").astype("f8")

    function: Any = np.exp2 if opcode.startswith("ex2") else np.tanh
    y = function(floats(bits))
    assert (np.abs(floats(got) - y) <= bound(y)).all()
    assert (got != plain).mean() > 0.15


def test_a_guard_keeps_what_the_register_held() -> None:
    text = "setp.gt.f32 %p1, a0, 0f00000000; mov.b32 o0, a0; @%p1 ex2.approx.f32 o0, a0;"
    got = run(text, ["f4"], [SCORES], 1, "f4")
    assert (got[SCORES <= 0] == SCORES[SCORES <= 0]).all()
    assert (got[SCORES > 0] > SCORES[SCORES > 0]).all()


def test_exact_instructions_have_no_errors() -> None:
    for opcode in ("sqrt.rn.f32", "rcp.rn.f32"):
        x = spread(-9, 9)
        assert (single(opcode, x) == single(opcode, x, seed=None)).all()


def test_attention_keeps_its_tolerance(corpus: Callable[[str], str]) -> None:
    """The errors show in the output, and are small beside the rounding to bf16."""
    # Numbers of its own: few errors outlive the rounding, of some numbers none.
    random = np.random.default_rng(1)
    words = (random.standard_normal((3, 1, 128, 128)).astype("f4").view("u4") >> 16).astype("u2")
    q, k, v = ((w.astype("u4") << 16).view("f4").astype("f8")[0] for w in words)
    weights = np.exp2(0.125 * (q @ k.T))
    want = weights / weights.sum(1, keepdims=True) @ v
    outputs: list[Array] = []
    for seed in (None, 1, 2, 3):
        device = simulator.Device()
        out = device.empty((1, 128, 128), "bf16")
        kernel = device.load(corpus("attention.ptx"))["attention"]
        arguments = [*(device.array(w, "bf16") for w in words), out, 128, 0.125]
        kernel.launch((2, 1), 128, arguments, shared_bytes=5 * 64 * 256, perturb=seed)
        outputs.append((out.numpy().astype("u4") << 16).view("f4")[0])
        assert np.abs(outputs[-1] - want).max() <= 0.02
    assert any((output != outputs[0]).any() for output in outputs[1:])
