"""Integer ops of the direct printer, run on the simulator and compared with Python integers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tilewright.test.lowering.ptx.execute import apply
from tilewright.test.lowering.ptx.kernels import elementwise

Array = NDArray[Any]
DTYPES: dict[str, type[np.signedinteger[Any]]] = {
    "i8": np.int8,
    "i16": np.int16,
    "i32": np.int32,
    "i64": np.int64,
}


def _wrap(value: int, bits: int) -> int:
    half = 1 << (bits - 1)
    return (value + half) % (1 << bits) - half


def _truncated(a: int, b: int) -> int:
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


def _ceil(a: int, b: int) -> int:
    return -(-a // b)


# Op to its meaning on Python integers (signed, or unsigned below).
SIGNED: dict[str, Callable[[int, int], int]] = {
    "addi": lambda a, b: a + b,
    "subi": lambda a, b: a - b,
    "muli": lambda a, b: a * b,
    "andi": lambda a, b: a & b,
    "ori": lambda a, b: a | b,
    "xori": lambda a, b: a ^ b,
    "minsi": min,
    "maxsi": max,
    "divsi": _truncated,
    "remsi": lambda a, b: a - b * _truncated(a, b),
    "floordivsi": lambda a, b: a // b,
    "ceildivsi": _ceil,
}
UNSIGNED: dict[str, Callable[[int, int], int]] = {
    "minui": min,
    "maxui": max,
    "divui": lambda a, b: a // b,
    "remui": lambda a, b: a % b,
    "ceildivui": _ceil,
}
SHIFTS: dict[str, Callable[[int, int], int]] = {
    "shli": lambda a, b: a << b,
    "shrsi": lambda a, b: a >> b,
}
DIVISIONS = ("div", "rem", "floordiv", "ceildiv")


def _values(kind: str, count: int = 64) -> Array:
    """Random bits of all magnitudes, and the values at the ends of the range."""
    info = np.iinfo(DTYPES[kind])
    rng = np.random.default_rng()
    values = rng.integers(info.min, info.max, count, dtype=DTYPES[kind], endpoint=True)
    values >>= rng.integers(0, info.bits, count).astype(DTYPES[kind])
    values[:6] = [0, 1, -1, info.min, info.max, 2]
    return rng.permutation(values)


def _expected(name: str, kind: str, a: Array, b: Array) -> list[int]:
    bits = np.iinfo(DTYPES[kind]).bits
    pairs = zip(a.tolist(), b.tolist())
    if name in UNSIGNED:
        mask = (1 << bits) - 1
        return [_wrap(UNSIGNED[name](x & mask, y & mask), bits) for x, y in pairs]
    meaning = SIGNED.get(name) or SHIFTS[name]
    return [_wrap(meaning(x, y), bits) for x, y in pairs]


def _operands(name: str, kind: str) -> tuple[Array, Array]:
    a, b = _values(kind), _values(kind)
    if name.startswith(DIVISIONS):
        b[b == 0] = 3
        # The least number divided by -1 has no result.
        b[b == -1] = 5
    if name in SHIFTS or name == "shrui":
        b = np.abs(b.astype(np.int64) % np.iinfo(DTYPES[kind]).bits).astype(DTYPES[kind])
    return a, b


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("name", [*SIGNED, *UNSIGNED, *SHIFTS])
def test_registers(name: str, kind: str) -> None:
    a, b = _operands(name, kind)
    module = elementwise(f"%r = arith.{name} %a, %b : {kind}", [kind, kind], kind)
    assert apply(module, [a, b], DTYPES[kind]).tolist() == _expected(name, kind, a, b)


@pytest.mark.parametrize("kind", ["i8", "i32"])
@pytest.mark.parametrize("name", [*SIGNED, *UNSIGNED, *SHIFTS])
def test_constant_on_the_right(name: str, kind: str) -> None:
    a, b = _operands(name, kind)
    constant = b.tolist()[0]
    code = f"%k = arith.constant {constant} : {kind}\n%r = arith.{name} %a, %k : {kind}"
    result = apply(elementwise(code, [kind], kind), [a], DTYPES[kind])
    assert result.tolist() == _expected(name, kind, a, np.full_like(a, constant))


@pytest.mark.parametrize("constant", [1, 2, 8, 64])
@pytest.mark.parametrize("name", [*(n for n in SIGNED if n.startswith(DIVISIONS)), "muli"])
def test_power_of_two_on_the_right(name: str, constant: int) -> None:
    a = _values("i32")
    code = f"%k = arith.constant {constant} : i32\n%r = arith.{name} %a, %k : i32"
    result = apply(elementwise(code, ["i32"], "i32"), [a], np.int32)
    assert result.tolist() == _expected(name, "i32", a, np.full_like(a, constant))


@pytest.mark.parametrize("kind", ["i8", "i64"])
@pytest.mark.parametrize("name", [*SIGNED, *UNSIGNED, *SHIFTS])
def test_constants_fold_to_the_same(name: str, kind: str) -> None:
    a, b = (operand.tolist()[0] for operand in _operands(name, kind))
    code = f"""
    %x = arith.constant {a} : {kind}
    %y = arith.constant {b} : {kind}
    %s = arith.{name} %x, %y : {kind}
    %z = arith.constant 0 : {kind}
    %n = arith.andi %a, %z : {kind}
    %r = arith.addi %s, %n : {kind}
    """
    dtype = DTYPES[kind]
    result = apply(elementwise(code, [kind], kind), [np.zeros(32, dtype)], dtype)
    assert result.tolist() == _expected(name, kind, np.full(32, a, dtype), np.full(32, b, dtype))


@pytest.mark.parametrize("kind", DTYPES)
def test_logical_shift(kind: str) -> None:
    a, b = _operands("shrui", kind)
    module = elementwise(f"%r = arith.shrui %a, %b : {kind}", [kind, kind], kind)
    bits = np.iinfo(DTYPES[kind]).bits
    mask = (1 << bits) - 1
    expected = [_wrap((x & mask) >> y, bits) for x, y in zip(a.tolist(), b.tolist())]
    assert apply(module, [a, b], DTYPES[kind]).tolist() == expected


@pytest.mark.parametrize("divisor", [1, 3, 7, 16, 100])
@pytest.mark.parametrize("name", [n for n in (*SIGNED, *UNSIGNED) if n.startswith(DIVISIONS)])
def test_division_of_what_is_known_not_to_be_negative(name: str, divisor: int) -> None:
    # The thread index is known to lie in [0, 31]; so the printer may divide unsigned.
    code = f"""
    %k = arith.constant {divisor} : i32
    %scale = arith.constant 977 : i32
    %x = arith.muli %tid, %scale : i32
    %d = arith.{name} %x, %k : i32
    %r = arith.addi %d, %a : i32
    """
    zeros = np.zeros(32, np.int32)
    x = np.arange(32, dtype=np.int32) * 977
    result = apply(elementwise(code, ["i32"], "i32"), [zeros], np.int32)
    assert result.tolist() == _expected(name, "i32", x, np.full_like(x, divisor))


def test_sum_of_products_and_constants() -> None:
    code = """
    %k = arith.constant 12 : i32
    %m = arith.constant -7 : i32
    %p = arith.muli %a, %b : i32
    %q = arith.addi %p, %a : i32
    %s = arith.addi %q, %k : i32
    %t = arith.muli %s, %m : i32
    %u = arith.subi %k, %t : i32
    %r = arith.subi %u, %b : i32
    """
    a, b = _values("i32"), _values("i32")
    expected = [_wrap(12 - ((x * y + x + 12) * -7) - y, 32) for x, y in zip(a.tolist(), b.tolist())]
    assert apply(elementwise(code, ["i32", "i32"], "i32"), [a, b], np.int32).tolist() == expected


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize(
    ("predicate", "compare"),
    [
        ("eq", np.equal),
        ("ne", np.not_equal),
        ("slt", np.less),
        ("sle", np.less_equal),
        ("sgt", np.greater),
        ("sge", np.greater_equal),
        ("ult", np.less),
        ("ule", np.less_equal),
        ("ugt", np.greater),
        ("uge", np.greater_equal),
    ],
)
def test_comparison(predicate: str, compare: Any, kind: str) -> None:
    code = f"%p = arith.cmpi {predicate}, %a, %b : {kind}\n%r = arith.extui %p : i1 to i32"
    a, b = _values(kind), _values(kind)
    b[:16] = a[:16]
    result = apply(elementwise(code, [kind, kind], "i32"), [a, b], np.int32)
    if predicate[0] == "u":
        a, b = (x.view(f"u{x.dtype.itemsize}") for x in (a, b))
    assert result.tolist() == compare(a, b).astype(int).tolist()


@pytest.mark.parametrize("kind", DTYPES)
def test_select(kind: str) -> None:
    code = f"%p = arith.cmpi slt, %a, %b : {kind}\n%r = arith.select %p, %b, %a : {kind}"
    a, b = _values(kind), _values(kind)
    result = apply(elementwise(code, [kind, kind], kind), [a, b], DTYPES[kind])
    assert result.tolist() == np.maximum(a, b).tolist()


# Code that makes %q of the predicates %x and %y: what it means.
PREDICATES: dict[str, Callable[[Array, Array], Array]] = {
    "%q = arith.andi %x, %y : i1": lambda x, y: x & y,
    "%q = arith.ori %x, %y : i1": lambda x, y: x | y,
    "%q = arith.xori %x, %y : i1": lambda x, y: x ^ y,
    "%q = arith.xori %x, %true : i1": lambda x, y: ~x,
    "%q = arith.cmpi eq, %x, %y : i1": lambda x, y: x == y,
    "%q = arith.select %x, %y, %false : i1": lambda x, y: x & y,
    "%q = arith.select %x, %true, %y : i1": lambda x, y: x | y,
    "%q = arith.select %x, %false, %y : i1": lambda x, y: ~x & y,
    "%n = arith.xori %y, %true : i1\n%q = arith.select %x, %y, %n : i1": lambda x, y: x == y,
}


@pytest.mark.parametrize("code", PREDICATES)
def test_predicates(code: str) -> None:
    text = f"""
    %true = arith.constant true
    %false = arith.constant false
    %zero = arith.constant 0 : i32
    %x = arith.cmpi slt, %a, %zero : i32
    %y = arith.cmpi slt, %b, %zero : i32
    {code}
    %r = arith.extsi %q : i1 to i32
    """
    a, b = _values("i32"), _values("i32")
    result = apply(elementwise(text, ["i32", "i32"], "i32"), [a, b], np.int32)
    assert result.tolist() == (-PREDICATES[code](a < 0, b < 0).astype(int)).tolist()


@pytest.mark.parametrize(
    ("op", "source", "to"),
    [
        *(
            ("extsi", s, t)
            for s, t in (("i8", "i16"), ("i8", "i64"), ("i16", "i32"), ("i32", "i64"))
        ),
        *(
            ("extui", s, t)
            for s, t in (("i8", "i16"), ("i8", "i64"), ("i16", "i32"), ("i32", "i64"))
        ),
        *(("trunci", s, t) for s, t in (("i64", "i32"), ("i64", "i8"), ("i32", "i16"))),
    ],
)
def test_width_change(op: str, source: str, to: str) -> None:
    # The sum leaves arbitrary bits above those of the type.
    code = f"%s = arith.addi %a, %a : {source}\n%r = arith.{op} %s : {source} to {to}"
    a = _values(source)
    with np.errstate(over="ignore"):
        doubled = a + a
    if op == "extui":
        doubled = doubled.view(f"u{a.dtype.itemsize}")
    expected = doubled.astype(DTYPES[to])
    result = apply(elementwise(code, [source], to), [a], DTYPES[to])
    assert result.tolist() == expected.tolist()


def test_index_has_32_bits() -> None:
    code = """
    %i = arith.index_cast %a : i64 to index
    %two = arith.constant 2 : index
    %d = arith.muli %i, %two : index
    %r = arith.index_cast %d : index to i64
    """
    a = _values("i64")
    expected = [_wrap(2 * x, 32) for x in a.tolist()]
    assert apply(elementwise(code, ["i64"], "i64"), [a], np.int64).tolist() == expected


@pytest.mark.parametrize("predicate", ["slt", "sle", "sgt", "sge", "eq", "ne"])
def test_sums_of_one_base_compare_with_a_bounded_number_as_integers_do(predicate: str) -> None:
    holds = {
        "slt": int.__lt__,
        "sle": int.__le__,
        "sgt": int.__gt__,
        "sge": int.__ge__,
        "eq": int.__eq__,
        "ne": int.__ne__,
    }[predicate]
    code = f"""
    %seven = arith.constant 7 : i32
    %five = arith.constant 5 : i32
    %minus = arith.constant -1 : i32
    %low = arith.andi %a, %seven : i32
    %sum = arith.addi %low, %five : i32
    %bound = arith.maxsi %b, %minus : i32
    %is = arith.cmpi {predicate}, %sum, %bound : i32
    %r = arith.extui %is : i1 to i32
    """
    rng = np.random.default_rng()
    a, near = (rng.integers(-20, 20, 64, np.int32) for _ in range(2))
    far = rng.choice(np.array([-(2**31), -(2**31) + 3, 2**31 - 1, 2**31 - 4], np.int32), 64)
    b = np.where(rng.integers(0, 2, 64) == 1, near, far).astype(np.int32)
    result = apply(elementwise(code, ["i32", "i32"], "i32"), [a, b], np.int32)
    wanted = [int(holds((x & 7) + 5, max(y, -1))) for x, y in zip(a.tolist(), b.tolist())]
    assert result.tolist() == wanted
