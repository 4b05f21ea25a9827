"""setp, set, selp, slct against NumPy's comparisons."""

from typing import Any

import numpy as np
import pytest

ORDERED = {
    "eq": np.equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}


@pytest.mark.parametrize("type", ["u16", "s16", "u32", "s32", "u64", "s64"])
@pytest.mark.parametrize("name", [*ORDERED, "ne"])
def test_integers_compare_by_their_type(name: str, type: str, lanes: Any, samples: Any) -> None:
    bits = int(type[1:])
    a, b = samples(bits, 2)
    got = lanes(f"setp.{name}.{type} %p1, a0, a1; selp.u32 o0, 1, 0, %p1;", a, b)
    code = f"{'i' if type[0] == 's' else 'u'}{bits // 8}"
    x, y = a.view(code), b.view(code)
    assert (got == (x != y if name == "ne" else ORDERED[name](x, y))).all()


@pytest.mark.parametrize("form", ["f16", "f32", "f64"])
@pytest.mark.parametrize("name", [*ORDERED, "ne"])
def test_ordered_comparisons_are_false_with_nan(
    name: str, form: str, lanes: Any, samples: Any
) -> None:
    bits = int(form[1:])
    a, b = samples(bits, 2, form)
    got = lanes(f"setp.{name}.{form} %p1, a0, a1; selp.u32 o0, 1, 0, %p1;", a, b)
    x, y = a.view(f"f{bits // 8}"), b.view(f"f{bits // 8}")
    want = (x < y) | (x > y) if name == "ne" else ORDERED[name](x, y)
    assert (got == want).all()


@pytest.mark.parametrize("name", [*ORDERED, "ne"])
def test_unordered_comparisons_are_true_with_nan(name: str, lanes: Any, samples: Any) -> None:
    a, b = samples(32, 2, "f32")
    got = lanes(f"setp.{name}u.f32 %p1, a0, a1; selp.u32 o0, 1, 0, %p1;", a, b)
    x, y = a.view("f4"), b.view("f4")
    want = x != y if name == "ne" else ORDERED[name](x, y)
    assert (got == (want | np.isnan(x) | np.isnan(y))).all()


def test_num_and_nan(lanes: Any, samples: Any) -> None:
    a, b = samples(32, 2, "f32")
    body = "setp.num.f32 %p1, a0, a1; setp.nan.f32 %p2, a0, a1; selp.u32 %r1, 1, 0, %p1;"
    got = lanes(body + "selp.u32 %r2, 2, 0, %p2; or.b32 o0, %r1, %r2;", a, b)
    assert (got == np.where(np.isnan(a.view("f4")) | np.isnan(b.view("f4")), 2, 1)).all()


@pytest.mark.parametrize(("name", "join"), [("and", "&"), ("or", "|"), ("xor", "^")])
def test_combined_predicates(name: str, join: str, lanes: Any, samples: Any) -> None:
    a, b, c = samples(32, 3)
    body = "setp.ne.u32 %p3, a2, 0; and.b32 %r3, a2, 1; setp.eq.u32 %p3, %r3, 1;"
    body += f"setp.lt.{name}.u32 %p1|%p2, a0, a1, !%p3;"
    body += "selp.u32 %r1, 1, 0, %p1; selp.u32 %r2, 2, 0, %p2; or.b32 o0, %r1, %r2;"
    got = lanes(body, a, b, c)
    less, third = a < b, c & 1 == 0
    symbol = {"&": np.logical_and, "|": np.logical_or, "^": np.logical_xor}[join]
    assert (got == symbol(less, third) + 2 * symbol(~less, third)).all()


def test_set_gives_ones_or_one(lanes: Any, samples: Any) -> None:
    a, b = samples(32, 2)
    got = lanes(
        "set.gt.u32.s32 %r1, a0, a1; set.gt.f32.s32 %f1, a0, a1;"
        "mov.b32 %r2, %f1; xor.b32 o0, %r1, %r2;",
        a,
        b,
    )
    assert (got == np.where(a.view("i4") > b.view("i4"), 0xFFFFFFFF ^ 0x3F800000, 0)).all()


def test_slct_takes_the_second_for_nan(lanes: Any) -> None:
    sign = np.array([1, 0, -0.0, -1, np.nan], "f4")
    a, b = np.full(5, 7, "u4"), np.full(5, 9, "u4")
    assert lanes("slct.u32.f32 o0, a0, a1, a2;", a, b, sign).tolist() == [7, 7, 7, 9, 9]


def test_logic_on_predicates(lanes: Any, samples: Any) -> None:
    a, b = samples(32, 2)
    body = "setp.lt.u32 %p1, a0, a1; setp.lt.s32 %p2, a0, a1; xor.pred %p3, %p1, %p2;"
    got = lanes(body + "not.pred %p3, %p3; selp.u32 o0, 1, 0, %p3;", a, b)
    assert (got == ((a < b) == (a.view("i4") < b.view("i4")))).all()


def test_a_guard_keeps_the_old_value(lanes: Any, samples: Any) -> None:
    a, b = samples(32, 2)
    body = (
        "setp.lt.u32 %p1, a0, a1; mov.u32 o0, 5; @%p1 add.u32 o0, a0, 1; @!%p1 xor.b32 o0, o0, 8;"
    )
    assert (lanes(body, a, b) == np.where(a < b, a + 1, 13)).all()


def half(x: Any, form: str) -> Any:
    """Returns the float32 values of 16-bit patterns."""
    if form == "f16":
        return x.view("f2").astype("f4")
    return (x.astype("u4") << 16).view("f4")


@pytest.mark.parametrize("form", ["f16", "bf16"])
@pytest.mark.parametrize("name", [*ORDERED, "equ", "neu", "ltu", "geu", "num", "nan"])
def test_pairs_compare_into_two_predicates(name: str, form: str, lanes: Any, samples: Any) -> None:
    low, high = samples(16, 2, form)
    a = low.astype("u4") | np.roll(high, 1).astype("u4") << 16
    b = high.astype("u4") | np.roll(low, 5).astype("u4") << 16
    body = f"setp.{name}.{form}x2 %p1|%p2, a0, a1; selp.u32 %r1, 1, 0, %p1;"
    got = lanes(body + "selp.u32 %r2, 2, 0, %p2; or.b32 o0, %r1, %r2;", a, b)
    results: list[Any] = []
    for i in (0, 1):
        x, y = (half(v.view("u2")[i::2].copy(), form) for v in (a, b))
        unordered = np.isnan(x) | np.isnan(y)
        if name in ("num", "nan"):
            results.append(unordered == (name == "nan"))
        else:
            plain = x != y if name == "neu" else ORDERED[name.removesuffix("u")](x, y)
            results.append(plain | unordered if name.endswith("u") else plain)
    assert (got == results[0] + 2 * results[1]).all()


def test_pairs_join_each_predicate_with_a_third(lanes: Any, samples: Any) -> None:
    a, b, c = samples(32, 3)
    body = "setp.lt.u32 %p3, a2, 99; setp.gt.and.f16x2 %p1|%p2, a0, a1, !%p3;"
    got = lanes(f"{body} selp.u32 %r1, 1, 0, %p1; selp.u32 %r2, 2, 0, %p2; or.b32 o0, %r1, %r2;",
                a, b, c)  # fmt: skip
    x, y = (v.view("f2") for v in (a, b))
    want = (x > y).reshape(-1, 2) & (c >= 99)[:, None]
    assert (got == want[:, 0] + 2 * want[:, 1]).all()


@pytest.mark.parametrize(
    ("type", "one"), [("f16x2", 0x3C00), ("bf16x2", 0x3F80), ("u32", 0xFFFF), ("s32", 0xFFFF)]
)
def test_set_of_pairs_fills_each_half(type: str, one: int, lanes: Any, samples: Any) -> None:
    a, b = samples(32, 2)
    form = "bf16" if type == "bf16x2" else "f16"
    got = lanes(f"set.le.{type}.{form}x2 o0, a0, a1;", a, b).view("u2")
    x, y = (half(v.view("u2"), form) for v in (a, b))
    assert (got == np.where(x <= y, one, 0)).all()


@pytest.mark.parametrize(
    ("type", "one"), [("f16", 0x3C00), ("bf16", 0x3F80), ("u16", 0xFFFF), ("s16", 0xFFFF)]
)
def test_set_of_halves_gives_sixteen_bits(type: str, one: int, lanes: Any, samples: Any) -> None:
    a, b = samples(16, 2, "bf16")
    got = lanes(f"set.gtu.{type}.bf16 o0, a0, a1;", a, b, out="u2")
    x, y = half(a, "bf16"), half(b, "bf16")
    assert (got == np.where(~(x <= y), one, 0)).all()


def test_ftz_flushes_halves_before_they_compare(lanes: Any) -> None:
    a, b = np.array([1, 0x8001, 0x400], "u2"), np.array([2, 0, 0], "u2")
    body = "setp.eq.ftz.f16 %p1, a0, a1; selp.u32 o0, 1, 0, %p1;"
    assert lanes(body, a, b).tolist() == [1, 1, 0]


def test_mov_packs_and_unpacks_128_bits(lanes: Any, samples: Any) -> None:
    a, b = samples(64, 2)
    body = ".reg .b128 %q; mov.b128 %q, {a0, a1}; mov.b128 {%d1, %d2}, %q; sub.u64 o0, %d2, %d1;"
    assert (lanes(body, a, b, out="u8") == b - a).all()


def test_mov_takes_four_bytes_apart(lanes: Any, samples: Any) -> None:
    (a,) = samples(32, 1)
    body = ".reg .b8 %c<4>; mov.b32 {%c0, %c1, %c2, %c3}, a0; mov.b32 o0, {%c3, %c2, %c1, %c0};"
    assert (lanes(body, a) == a.byteswap()).all()
