"""f32 and f64 instructions against exact fractions, rounded once."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

SIZE = {"f32": 32, "f64": 64}


def is_nan(bits: int, form: str) -> bool:
    """Says whether float bits are a NaN."""
    infinity = {"f32": 0xFF << 23, "f64": 0x7FF << 52}[form]
    return bits & ((1 << (SIZE[form] - 1)) - 1) > infinity


def plain(value: Any) -> bool:
    """Says whether a value is a number."""
    return isinstance(value, Fraction)


def check(got: int, want: Fraction, form: str, mode: str, rounding: Any, note: Any) -> None:
    """Asserts that a result is a fraction rounded once; either zero is right for zero."""
    exact, rounded = rounding
    if want == 0:
        assert exact(got, form) == 0, note
    else:
        assert got == rounded(want, form, mode), (hex(got), note)


OPERATIONS: dict[str, Callable[[Fraction, Fraction], Fraction]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
}


@pytest.mark.parametrize(
    ("form", "mode"), [(f, m) for f in ("f32", "f64") for m in ("rn", "rz", "rm", "rp")]
)
@pytest.mark.parametrize("name", OPERATIONS)
def test_arithmetic_rounds_once(
    name: str, form: str, mode: str, lanes: Any, samples: Any, rounding: Any
) -> None:
    a, b = samples(SIZE[form], 2, form, 200)
    got = lanes(f"{name}.{mode}.{form} o0, a0, a1;", a, b, out=f"u{SIZE[form] // 8}")
    exact, _ = rounding
    for x, y, g in zip(a.tolist(), b.tolist(), got.tolist(), strict=True):
        p, q = exact(x, form), exact(y, form)
        if plain(p) and plain(q) and not (name == "div" and q == 0):
            check(g, OPERATIONS[name](p, q), form, mode, rounding, (hex(x), hex(y)))


@pytest.mark.parametrize("name", OPERATIONS)
def test_infinities_and_nans_follow_ieee(
    name: str, lanes: Any, samples: Any, rounding: Any
) -> None:
    a, b = samples(32, 2, "f32", 0)
    got = lanes(f"{name}.rn.f32 o0, a0, a1;", a, b)
    exact, _ = rounding
    symbols = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide}
    with np.errstate(all="ignore"):
        want = symbols[name](a.view("f4"), b.view("f4")).view("u4")
    for x, y, g, w in zip(a.tolist(), b.tolist(), got.tolist(), want.tolist(), strict=True):
        if plain(exact(x, "f32")) and plain(exact(y, "f32")):
            continue
        assert g == w or (is_nan(g, "f32") and is_nan(w, "f32"))


@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
def test_fma_f32_rounds_once(mode: str, lanes: Any, samples: Any, rounding: Any) -> None:
    a, b, c = samples(32, 3, "f32", 600)
    near = np.random.default_rng(5).integers(0, 1 << 32, (3, 600), dtype="u4") & 0x87FFFFFF
    a, b, c = (np.concatenate([v, (n | 0x38000000).astype("u4")]) for v, n in zip((a, b, c), near))
    got = lanes(f"fma.{mode}.f32 o0, a0, a1, a2;", a, b, c)
    exact, _ = rounding
    for x, y, z, g in zip(a.tolist(), b.tolist(), c.tolist(), got.tolist(), strict=True):
        p, q, r = (exact(v, "f32") for v in (x, y, z))
        if plain(p) and plain(q) and plain(r):
            check(g, p * q + r, "f32", mode, rounding, (hex(x), hex(y), hex(z)))


def test_fma_f32_rounds_ties_once(lanes: Any, rounding: Any) -> None:
    """The sum lies just off the middle of two f32 numbers; rounding it to f64 first is wrong."""
    generator = np.random.default_rng(6)
    scale = generator.integers(0, 20, 500)
    a = (1 + 2.0**-23 * generator.integers(1, 1 << 23, 500)).astype("f4")
    b = (1 + 2.0**-23 * generator.integers(1, 1 << 23, 500)).astype("f4")
    product = a.astype("f8") * b.astype("f8")
    c = (np.ldexp(1.0, 25 + scale)).astype("f4")
    c = np.concatenate([c, np.float32(2.0**60) * np.ones(500, "f4")])
    a = np.concatenate([a, np.full(500, 2.0**36, "f4")])
    b = np.concatenate([b, (1 + 2.0**-23 * generator.integers(-9, 9, 500)).astype("f4")])
    del product
    got = lanes("fma.rn.f32 o0, a0, a1, a2;", a.view("u4"), b.view("u4"), c.view("u4"))
    for x, y, z, g in zip(a.tolist(), b.tolist(), c.tolist(), got.tolist(), strict=True):
        check(g, Fraction(x) * Fraction(y) + Fraction(z), "f32", "rn", rounding, (x, y, z))


@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
def test_fma_f64_rounds_once(mode: str, lanes: Any, samples: Any, rounding: Any) -> None:
    a, b, c = samples(64, 3, "f64", 300)
    near = np.random.default_rng(7).normal(size=(3, 300)).view("u8")
    a, b, c = (np.concatenate([v, n]) for v, n in zip((a, b, c), near))
    got = lanes(f"fma.{mode}.f64 o0, a0, a1, a2;", a, b, c, out="u8")
    exact, _ = rounding
    for x, y, z, g in zip(a.tolist(), b.tolist(), c.tolist(), got.tolist(), strict=True):
        p, q, r = (exact(v, "f64") for v in (x, y, z))
        if plain(p) and plain(q) and plain(r):
            check(g, p * q + r, "f64", mode, rounding, (hex(x), hex(y), hex(z)))


@pytest.mark.parametrize("form", ["f32", "f64"])
@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
def test_sqrt_rounds_once(mode: str, form: str, lanes: Any, samples: Any, rounding: Any) -> None:
    (a,) = samples(SIZE[form], 1, form, 100)
    got = lanes(f"sqrt.{mode}.{form} o0, a0;", a, out=f"u{SIZE[form] // 8}")
    exact, rounded = rounding
    for x, g in zip(a.tolist(), got.tolist(), strict=True):
        p = exact(x, form)
        if plain(p) and p > 0:
            scale = 4**200 if form == "f32" else 4**1200
            root = math.isqrt(int(p * scale))
            sticky = root * root != p * scale
            check(
                g, Fraction(2 * root + sticky, 2 * math.isqrt(scale)), form, mode, rounding, hex(x)
            )
    del rounded


def reciprocal_root(v: Any) -> Any:
    """Returns 1 / sqrt(v)."""
    return np.reciprocal(np.sqrt(v))


@pytest.mark.parametrize(
    ("name", "function", "tolerance"),
    [
        ("ex2.approx", np.exp2, 2.0**-22),
        ("lg2.approx", np.log2, 2.0**-22),
        ("sin.approx", np.sin, 2.0**-20),
        ("cos.approx", np.cos, 2.0**-20),
        ("tanh.approx", np.tanh, 2.0**-11),
        ("rsqrt.approx", reciprocal_root, 2.0**-22),
        ("rcp.approx", np.reciprocal, 2.0**-22),
    ],
)
def test_approximations_are_within_their_bounds(
    name: str, function: Any, tolerance: float, lanes: Any
) -> None:
    x = np.random.default_rng(8).uniform(0.01, 3.0, 500).astype("f4")
    got = lanes(f"{name}.f32 o0, a0;", x, out="f4")
    want = function(x.astype("f8"))
    assert (np.abs(got - want) <= tolerance * np.maximum(np.abs(want), 0.5)).all()


@pytest.mark.parametrize("name", ["add", "mul"])
def test_ftz_flushes_inputs_and_results(name: str, lanes: Any, samples: Any) -> None:
    a, b = samples(32, 2, "f32")
    tiny = np.random.default_rng(9).integers(0, 1 << 24, (2, 200), dtype="u4")
    a, b = np.concatenate([a, tiny[0]]), np.concatenate([b, tiny[1] | 0x3F000000])
    got = lanes(f"{name}.ftz.f32 o0, a0, a1;", a, b).view("f4")

    def flush(v: Any) -> Any:
        return v * (np.abs(v) >= np.float32(2.0**-126))

    with np.errstate(all="ignore"):
        symbols = {"add": np.add, "mul": np.multiply}
        x, y = flush(a.view("f4")), flush(b.view("f4"))
        size = np.abs(symbols[name](x.astype("f8"), y.astype("f8")))
        want = symbols[name](x, y) * ~(size < 2.0**-126 * (1 - 2.0**-25))
    assert np.array_equal(got, want, equal_nan=True)


def near_the_smallest(name: str) -> list[Any]:
    """Returns f32 operands, none of them subnormal, whose results lie around 2^-126."""
    generator = np.random.default_rng(12)
    a = generator.uniform(0.25, 0.99, 2000).astype("f4")
    sign = generator.choice([-1, 1], 2000).astype("f4")
    step = generator.integers(-2, 3, 2000, dtype="i4")
    if name == "div":  # numbers that are nearly alike
        b = (a.view("i4") + step).view("f4")
        parts = [a * np.float32(2.0**-124), sign * b * np.float32(4)]
        return [part.view("u4") for part in parts]
    if name == "mul":
        b = (2.0**-126 / a.astype("f8")).astype("f4")
        return [(sign * a).view("u4"), (b.view("i4") + step).view("u4")]
    sizes = np.ldexp(generator.choice([-1.0, 1.0], 2000), generator.integers(-34, -22, 2000))
    b = sizes.astype("f4") * np.float32(2.0**-92)  # the product reaches below half a place of c
    c = (generator.choice([-1.0, 1.0], 2000) * 2.0**-126).astype("f4")
    return [(a * np.float32(2.0**-32)).view("u4"), b.view("u4"), c.view("u4")]


@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
@pytest.mark.parametrize("name", ["mul", "fma", "div"])
def test_ftz_flushes_what_rounds_to_less_than_the_smallest_normal_number(
    name: str, mode: str, lanes: Any, rounding: Any
) -> None:
    operands = near_the_smallest(name)
    body = f"{name}.{mode}.ftz.f32 o0, {', '.join(f'a{i}' for i in range(len(operands)))};"
    got = lanes(body, *operands)
    exact, rounded = rounding
    lifted = 0
    for *bits, g in zip(*(column.tolist() for column in operands), got.tolist(), strict=True):
        p, q, *rest = (exact(value, "f32") for value in bits)
        value = p / q if name == "div" else p * q + sum(rest)
        # Scaled up, nothing is subnormal: this rounds as with an exponent of any size.
        wide = exact(rounded(value * 2**64, "f32", mode), "f32")
        plain = rounded(value, "f32", mode)
        want = plain & 1 << 31 if abs(wide) < Fraction(2) ** -62 else plain
        lifted += want != plain and plain & 0x7FFFFFFF == 0x00800000
        assert g == want, ([hex(value) for value in bits], hex(g), hex(want))
    assert (lifted > 0) == (mode != "rz" and (name, mode) != ("div", "rn"))


def test_ftz_flushes_a_product_that_all_lanes_share(lanes: Any) -> None:
    body = "mul.ftz.f32 o0, 0f3F7FFFFF, 0f80800000;"
    assert lanes(body, np.zeros(3, "u4")).tolist() == [1 << 31] * 3


@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
@pytest.mark.parametrize("name", ["div", "rcp"])
def test_what_is_divided_by_infinity_is_zero(name: str, mode: str, lanes: Any) -> None:
    a = np.array([1, -1, 3e-39, 3e38, 0, -0.0], "f4") if name == "div" else np.ones(6, "f4")
    for sign in (1, -1):
        b = np.full(6, sign * np.inf, "f4")
        got = lanes(f"{name}.{mode}.f32 o0, {'a0, ' * (name == 'div')}a1;", a, b, out="f4")
        assert (got == 0).all()
        assert (np.signbit(got) == (np.signbit(a) ^ (sign < 0))).all()


@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
@pytest.mark.parametrize("form", ["f32", "f64"])
def test_fma_adds_a_product_beyond_the_largest_number_to_an_infinity(
    form: str, mode: str, lanes: Any
) -> None:
    kind = f"f{SIZE[form] // 8}"
    large = np.finfo(kind).max
    a = np.array([large, -large, large, np.inf, 0.0], kind)
    b = np.array([large, 3, 1.5, 2, 1], kind)
    c = np.array([-np.inf, np.inf, np.nan, -np.inf, np.inf], kind)
    got = lanes(f"fma.{mode}.{form} o0, a0, a1, a2;", a, b, c, out=kind)
    assert np.array_equal(got, [-np.inf, np.inf, np.nan, np.nan, np.inf], equal_nan=True)


def test_sat_clamps_and_turns_nan_into_zero(lanes: Any) -> None:
    x = np.array([-1, -0.0, 0.25, 1, 2, np.inf, -np.inf, np.nan], "f4")
    got = lanes("add.sat.f32 o0, a0, 0f00000000;", x, out="f4")
    assert got.tolist() == [0, 0, 0.25, 1, 1, 1, 0, 0]
    assert not np.signbit(got).any()


@pytest.mark.parametrize(("name", "pick"), [("min", np.fmin), ("max", np.fmax)])
def test_min_and_max_prefer_numbers(name: str, pick: Any, lanes: Any, samples: Any) -> None:
    a, b = samples(32, 2, "f32")
    got = lanes(f"{name}.f32 o0, a0, a1;", a, b, out="f4")
    assert np.array_equal(got, pick(a.view("f4"), b.view("f4")), equal_nan=True)


@pytest.mark.parametrize(("name", "sign"), [("min", True), ("max", False)])
def test_min_and_max_order_zeros(name: str, sign: bool, lanes: Any) -> None:
    a, b = np.array([0.0, -0.0], "f4"), np.array([-0.0, 0.0], "f4")
    assert (np.signbit(lanes(f"{name}.f32 o0, a0, a1;", a, b, out="f4")) == sign).all()


def test_max_nan_propagates(lanes: Any) -> None:
    a, b = np.array([np.nan, 1, np.nan], "f4"), np.array([1, np.nan, np.nan], "f4")
    assert np.isnan(lanes("max.NaN.f32 o0, a0, a1;", a, b, out="f4")).all()


def test_sign_operations(lanes: Any, samples: Any) -> None:
    a, b = samples(32, 2, "f32")
    body = "neg.f32 %f1, a0; copysign.f32 %f2, %f1, a1; mov.b32 o0, %f2;"
    got = lanes(body, a, b)
    assert (got == (b & 0x7FFFFFFF) | (~a & 0x80000000)).all()


def is_number(v: Any) -> Any:
    """Says which floats are no NaN."""
    return v == v


def is_normal(v: Any) -> Any:
    """Says which floats are zeros or numbers of full precision."""
    return np.isfinite(v) & ((np.abs(v) >= np.finfo(v.dtype).tiny) | (v == 0))


def is_subnormal(v: Any) -> Any:
    """Says which floats lie between zero and the smallest normal number."""
    return (np.abs(v) < np.finfo(v.dtype).tiny) & (v != 0)


@pytest.mark.parametrize(
    ("which", "test"),
    [
        ("finite", np.isfinite),
        ("infinite", np.isinf),
        ("number", is_number),
        ("notanumber", np.isnan),
        ("normal", is_normal),
        ("subnormal", is_subnormal),
    ],
)
@pytest.mark.parametrize("form", ["f32", "f64"])
def test_testp(form: str, which: str, test: Any, lanes: Any, samples: Any) -> None:
    (a,) = samples(SIZE[form], 1, form)
    got = lanes(f"testp.{which}.{form} %p1, a0; selp.u32 o0, 1, 0, %p1;", a)
    assert (got == test(a.view(f"f{SIZE[form] // 8}"))).all()


@pytest.mark.parametrize("form", ["f32", "f64"])
@pytest.mark.parametrize("name", ["add", "sub", "fma"])
def test_an_exact_zero_is_negative_only_when_rounded_down(name: str, form: str, lanes: Any) -> None:
    kind = f"f{SIZE[form] // 8}"
    values = np.array([0.0, -0.0, 3.0, -3.0], kind)
    a, b = (part.reshape(-1) for part in np.meshgrid(values, values))
    one = "0f3F800000" if form == "f32" else "0d3FF0000000000000"
    tail = f"a0, {one}, a1" if name == "fma" else "a0, a1"
    second = -b if name == "sub" else b
    for mode in ("rn", "rz", "rm", "rp"):
        got = lanes(f"{name}.{mode}.{form} o0, {tail};", a, b, out=kind)
        for x, y, g in zip(a.tolist(), second.tolist(), got.tolist(), strict=True):
            if x + y == 0:
                both = math.copysign(1, x), math.copysign(1, y)
                same = both[0] == both[1] and x == 0
                negative = both[0] < 0 if same else mode == "rm"
                assert math.copysign(1, g) == (-1 if negative else 1), (x, y, mode)


@pytest.mark.parametrize(("name", "function"), [("rcp", np.reciprocal), ("rsqrt", reciprocal_root)])
def test_gross_approximations_of_f64_use_the_upper_half(
    name: str, function: Any, lanes: Any
) -> None:
    x = np.random.default_rng(10).uniform(0.01, 900, 300)
    got = lanes(f"{name}.approx.ftz.f64 o0, a0;", x, out="f8")
    cut = (x.view("u8") >> np.uint64(32) << np.uint64(32)).view("f8")
    assert (got.view("u8") & np.uint64(0xFFFFFFFF) == 0).all()
    assert (np.abs(got - function(cut)) <= 2.0**-20 * function(cut)).all()


def test_gross_approximations_of_f64_at_the_edges(lanes: Any) -> None:
    x = np.array([0.0, -0.0, 1e-310, -1e-310, np.inf, -np.inf, np.nan, 1e308])
    got = lanes("rcp.approx.ftz.f64 o0, a0;", x, out="f8")
    assert got[:4].tolist() == [np.inf, -np.inf, np.inf, -np.inf]
    assert got[[4, 5, 7]].tolist() == [0, 0, 0]
    assert np.isnan(got[6])
    assert np.signbit(got[5])


def test_gross_approximations_of_f64_see_no_nan_in_the_lower_half(lanes: Any) -> None:
    x = np.array([0x7FF0000000000001, 0xFFF0000000000001, 0x7FF00000FFFFFFFF], "u8")
    assert lanes("rcp.approx.ftz.f64 o0, a0;", x, out="u8").tolist() == [0, 1 << 63, 0]
    got = lanes("rsqrt.approx.ftz.f64 o0, a0;", x, out="u8")
    assert got[[0, 2]].tolist() == [0, 0]
    assert np.isnan(got.view("f8")[1])
    nan = np.array([0x7FF0000100000000], "u8")
    assert np.isnan(lanes("rcp.approx.ftz.f64 o0, a0;", nan, out="f8")).all()


@pytest.mark.parametrize("name", ["min", "max"])
def test_xorsign_takes_the_magnitude_and_the_sign_of_the_product(
    name: str, lanes: Any, samples: Any
) -> None:
    a, b = samples(32, 2, "f32")
    got = lanes(f"{name}.xorsign.abs.f32 o0, a0, a1;", a, b)
    pick = np.fmin if name == "min" else np.fmax
    size = pick(np.abs(a.view("f4")), np.abs(b.view("f4"))).view("u4")
    want = size | ((a ^ b) & 0x80000000)
    nan = np.isnan(a.view("f4")) & np.isnan(b.view("f4"))
    assert np.isnan(got.view("f4")[nan]).all()
    assert (got == want)[~nan].all()


def test_llvm_spells_sat_before_ftz(lanes: Any) -> None:
    x = np.array([0.25, 7, 1e-40], "f4")
    assert lanes("add.rn.sat.ftz.f32 o0, a0, 0f00000000;", x, out="f4").tolist() == [0.25, 1, 0]
