"""
Truncating sums of mma and wgmma against the published model in integers and fractions.

The model is that of Xie et al., "MMA-Sim", arXiv 2511.10909: aligned to the largest exponent, cut
off to 24 (Ampere) or 25 (Hopper) fraction bits, results cut off to f32; on Ampere an m16n8k16 is
two blocks of 8 terms.
"""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from tilewright.runtime import simulator

from .conftest import exact
from .test_wgmma import EMPTY, PLACE_B, accumulators, lay
from .test_wgmma import kernel as warpgroup_kernel

Array = np.ndarray[Any, np.dtype[Any]]
LOWEST = {"f16": -14, "bf16": -126, "f32": -126}


def binade(value: Fraction) -> int:
    """Returns the exponent of the largest power of two up to a dyadic number."""
    return abs(value.numerator).bit_length() - value.denominator.bit_length()


def exponent(bits: int, form: str) -> tuple[Fraction, int]:
    """Returns value and exponent of a finite number: that of its binade, or of subnormals."""
    value = exact(bits, form)
    assert isinstance(value, Fraction)
    if not value:
        return value, -126
    return value, max(binade(value), LOWEST[form])


def cut(value: Fraction, unit: Fraction) -> Fraction:
    """Returns a number without what is below a unit."""
    return int(value / unit) * unit


def block(left: list[int], right: list[int], start: Fraction, form: str, kept: int) -> Fraction:
    """Returns one block of terms added to a sum, as an f32."""
    terms: list[tuple[Fraction, int]] = []
    for x, y in zip(left, right, strict=True):
        (a, ea), (b, eb) = exponent(x, form), exponent(y, form)
        terms.append((a * b, ea + eb))
    word = int(np.float32(float(start)).view("u4"))
    terms.append((start, exponent(word, "f32")[1]))
    unit = Fraction(2) ** (max(e for _, e in terms) - kept)
    total = sum((cut(value, unit) for value, _ in terms), Fraction(0))
    power = max(binade(total), -126) if total else -126
    return cut(total, Fraction(2) ** (power - 23))


def expected(a: Array, b: Array, c: Array, form: str, terms: int, kept: int) -> Array:
    """Returns C + A B of bits [m, k], [k, n] and f32 [m, n] by the model."""
    out = np.empty_like(c)
    for i, j in np.ndindex(c.shape):
        total = Fraction(float(c[i, j]))
        for k in range(0, a.shape[1], terms):
            left, right = a[i, k : k + terms].tolist(), b[k : k + terms, j].tolist()
            total = block(left, right, total, form, kept)
        out[i, j] = float(total)
    return out


def kernel(target: str, form: str, depth: int, products: int) -> str:
    """Returns a kernel of one warp: products that add up in the same registers."""
    many = depth // 4
    half = many // 2
    fragment = ", ".join(f"%r{i}" for i in range(many))
    other = ", ".join(f"%r{many + i}" for i in range(half))
    sums = "%f0, %f1, %f2, %f3"
    lines = [f".version 8.0\n.target {target}\n.address_size 64"]
    lines += [".visible .entry k(.param .u64 x, .param .u64 c) {"]
    lines += [".reg .b32 %r<12>; .reg .b64 %d<4>; .reg .f32 %f<4>; .reg .u32 t;"]
    lines += ["mov.u32 t, %tid.x; ld.param.u64 %d0, [x]; ld.param.u64 %d1, [c];"]
    lines += ["mad.wide.u32 %d0, t, 4, %d0; mad.wide.u32 %d1, t, 4, %d1;"]
    lines += [f"ld.global.f32 %f{i}, [%d1+{128 * i}];" for i in range(4)]
    for p in range(products):
        start = p * (many + half)
        lines += [f"ld.global.b32 %r{i}, [%d0+{128 * (start + i)}];" for i in range(many + half)]
        shape = f"m16n8k{depth}.row.col.f32.{form}.{form}.f32"
        lines += [f"mma.sync.aligned.{shape} {{{sums}}}, {{{fragment}}}, {{{other}}}, {{{sums}}};"]
    lines += [f"st.global.f32 [%d1+{128 * i}], %f{i};" for i in range(4)]
    return "\n".join([*lines, "ret;", "}"])


def words(matrix: Array, across: bool) -> Array:
    """Returns [8 rows, k] 16-bit elements as registers [k / 8, 32]: two elements a register."""
    rows = np.ascontiguousarray(matrix.T if across else matrix).view("u4").reshape(8, -1, 4)
    return np.ascontiguousarray(rows.transpose(1, 0, 2)).reshape(-1, 32)


def multiply(
    target: str, form: str, a: Array, b: Array, c: Array, depth: int, accumulate: str
) -> Array:
    """Returns C + A B of bits [16, k], [k, 8] and f32 [16, 8] by mma.sync."""
    parts: list[Array] = []
    for k in range(0, a.shape[1], depth):
        upper, lower = (words(a[r : r + 8, k : k + depth], False) for r in (0, 8))
        parts += [np.stack([upper, lower], 1).reshape(-1, 32), words(b[k : k + depth], True)]
    sums = c.reshape(2, 8, 4, 2).transpose(0, 3, 1, 2).reshape(4, 32)
    device = simulator.Device("all")
    x, out = device.array(np.concatenate(parts)), device.array(np.ascontiguousarray(sums))
    text = kernel(target, form, depth, a.shape[1] // depth)
    device.load(text)["k"].launch(1, 32, [x, out], accumulate=accumulate)
    return out.numpy().reshape(2, 2, 8, 4).transpose(0, 2, 3, 1).reshape(16, 8)


def wide(random: np.random.Generator, form: str, *shape: int) -> Array:
    """Returns bits of numbers of many sizes, zeros and (f16) subnormal numbers among them."""
    numbers = random.standard_normal(shape) * np.exp2(random.uniform(-10, 4, shape))
    numbers *= random.random(shape) > 0.1
    if form == "f16":
        return (numbers * np.where(random.random(shape) > 0.9, 2.0**-14, 1)).astype("f2").view("u2")
    return (numbers.astype("f4").view("u4") >> 16).astype("u2")


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng()


@pytest.mark.parametrize(
    ("target", "depth", "terms", "kept"),
    [("sm_80", 16, 8, 24), ("sm_86", 8, 8, 24), ("sm_90", 16, 16, 25), ("sm_90", 8, 8, 25)],
)
@pytest.mark.parametrize("form", ["f16", "bf16"])
def test_sums_of_mma(
    target: str, depth: int, terms: int, kept: int, form: str, random: np.random.Generator
) -> None:
    """Two instructions one after the other; the simulator joins them into one product."""
    a, b = wide(random, form, 16, 2 * depth), wide(random, form, 2 * depth, 8)
    c = (random.standard_normal((16, 8)) * np.exp2(random.uniform(-9, 9, (16, 8)))).astype("f4")
    got = multiply(target, form, a, b, c, depth, "truncating")
    want = expected(a, b, c, form, terms, kept)
    assert (got.view("u4") == want.view("u4")).all()
    plain = multiply(target, form, a, b, c, depth, "f32")
    assert (got != plain).any()
    assert np.allclose(got, plain, rtol=1e-3, atol=1e-2)


def test_small_terms_beside_a_large_one_are_lost() -> None:
    """2**-25 beside 1 is below what Ampere keeps, and just what Hopper keeps."""
    a, b = np.zeros((16, 16), "f2"), np.zeros((16, 8), "f2")
    a[:, :8], b[:8] = 2.0**-10, 2.0**-15
    c = np.ones((16, 8), "f4")
    for target, want in (("sm_80", 1.0), ("sm_90", 1 + 8 * 2.0**-25 // 2.0**-23 * 2.0**-23)):
        got = multiply(target, "f16", a.view("u2"), b.view("u2"), c, 16, "truncating")
        assert (got == np.float32(want)).all()


def test_infinities_and_nan_pass() -> None:
    a, b = np.ones((16, 16), "f2"), np.ones((16, 8), "f2")
    a[0, 3], a[1, 5], c = np.inf, np.nan, np.zeros((16, 8), "f4")
    got = multiply("sm_90", "f16", a.view("u2"), b.view("u2"), c, 16, "truncating")
    assert (got[0] == np.inf).all()
    assert np.isnan(got[1]).all()
    assert (got[2:] == 16).all()


def test_sums_of_wgmma(random: np.random.Generator) -> None:
    a, b = wide(random, "f16", 64, 16), wide(random, "f16", 8, 16)
    c = random.standard_normal((64, 8)).astype("f4")
    memory = np.zeros(65536, "u1")
    da = lay(memory, 0, a.view("f2"), 128, False)
    db = lay(memory, PLACE_B, b.view("f2"), 128, False)
    device = simulator.Device("all")
    x, y, f = device.array(memory), device.array(accumulators(c)), device.array(EMPTY)
    entry = device.load(warpgroup_kernel(8, "f16.f16", "%q4", ", 1, 1, 0, 0"))["k"]
    entry.launch(1, 128, [x, y, f, da, db, 1], accumulate="truncating")
    want = accumulators(expected(a, np.ascontiguousarray(b.T), c, "f16", 16, 25))
    assert (y.numpy().view("u4") == want.view("u4")).all()


def test_a_target_without_a_model_is_refused() -> None:
    entry = simulator.Device().load(kernel("sm_75", "f16", 8, 1))["k"]
    with pytest.raises(simulator.LaunchError, match="sm_75"):
        entry.launch(1, 32, [0, 0], accumulate="truncating")


def test_an_unknown_kind_of_sum_is_refused() -> None:
    entry = simulator.Device().load(kernel("sm_80", "f16", 8, 1))["k"]
    with pytest.raises(simulator.LaunchError, match="truncating"):
        entry.launch(1, 32, [0, 0], accumulate="exact")
