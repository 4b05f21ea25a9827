"""Rules for conversions between scalar types, element by element."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from xdsl.dialects.builtin import Float8E4M3FNType, Float8E5M2Type
from xdsl.ir import Attribute, Operation

from ...dialects import nvvm
from ...dialects.diagnostic import error_at
from .elements import (
    BITS,
    REGISTER_CLASS,
    Byte,
    Element,
    Half,
    Sum,
    WideProduct,
    bits_float,
    float_bits,
    unsigned,
    wrap,
)
from .floating import narrowed, widened
from .integer import add, signed, zero_extended
from .kernel import EIGHT_BIT_VERSION, KernelPrinter, Rule, Step, operand_kind, result_kind

# (printer, kind of the source, kind of the result, element) -> element
Conversion = Callable[[KernelPrinter, str, str, Element], Element]


def extend_signed(p: KernelPrinter, source: str, to: str, element: Element) -> Element:
    """Widens an integer by its sign; an i1 becomes 0 or -1."""
    if isinstance(element, int):
        return -element if source == "i1" else element
    if source == "i1":
        return _select_word(p, to, "-1", p.operand(element, "i1"))
    if to != "i64":
        return signed(p, element, source)
    if isinstance(element, Sum) and p.bounds_of(element) is not None:
        wide = extend_signed(p, source, to, element.base)
        return Sum(p.operand(wide, "i64"), element.offset)
    return WideProduct(p.register_of(signed(p, element, source), "i32"), 1)


def extend_unsigned(p: KernelPrinter, source: str, to: str, element: Element) -> Element:
    """Widens an integer by zeros; an i1 becomes 0 or 1."""
    if isinstance(element, int):
        return unsigned(element, BITS[source])
    if source == "i1":
        return _select_word(p, to, "1", p.operand(element, "i1"))
    bounds = p.bounds_of(element)
    if bounds is not None and bounds[0] >= 0:
        return extend_signed(p, source, to, element)
    word = zero_extended(p, element, source)
    if to != "i64":
        return word
    return p.compute("cvt.u64.u32", "rd", p.operand(word, "i32"))


def _select_word(p: KernelPrinter, to: str, value: str, predicate: str) -> str:
    bits = 64 if to == "i64" else 32
    result = p.compute(f"selp.b{bits}", "rd" if bits == 64 else "r", value, "0", predicate)
    p.bounds[result] = (min(int(value), 0), max(int(value), 0))
    return result


def truncate(p: KernelPrinter, source: str, to: str, element: Element) -> Element:
    """Drops the upper bits of an integer."""
    if isinstance(element, int):
        return wrap(element, BITS[to])
    bounds = p.bounds_of(element)
    register = p.operand(element, source)
    if source == "i64":
        register = p.compute("cvt.u32.u64", "r", register)
        if bounds is not None:
            p.note_bounds(register, bounds, 32)
    if to != "i1":
        # Bounds of the wider integer do not hold for the narrower one.
        if bounds is not None and not (
            -(1 << (BITS[to] - 1)) <= bounds[0] and bounds[1] < 1 << (BITS[to] - 1)
        ):
            return p.compute(f"cvt.s32.s{BITS[to]}", "r", register) if to != "i32" else register
        return register
    return p.compute("setp.ne.s32", "p", p.compute("and.b32", "r", register, "1"), "0")


def cast_index(p: KernelPrinter, source: str, to: str, element: Element) -> Element:
    """Converts between an index, which has 32 bits, and an integer."""
    if BITS[to] > BITS[source]:
        return extend_signed(p, source, to, element)
    return element if BITS[to] == BITS[source] else truncate(p, source, to, element)


def bitcast(p: KernelPrinter, source: str, to: str, element: Element) -> Element:
    """Reads the bits of a scalar as another type of the same width."""
    source_is_float, to_is_float = "f" in source, "f" in to
    if isinstance(element, int | float):
        bits = float_bits(element, source) if source_is_float else unsigned(int(element), BITS[to])
        return bits_float(bits, to) if to_is_float else wrap(bits, BITS[to])
    if isinstance(element, Half) or BITS[to] != 16 or source_is_float == to_is_float:
        if isinstance(element, Half) and not to_is_float:
            return p.compute("cvt.u32.u16", "r", p.operand(element, source))
        return p.operand(element, source) if not isinstance(element, Half) else element
    if to_is_float:
        return p.compute("cvt.u16.u32", "h", p.operand(element, source))
    return p.compute("cvt.u32.u16", "r", p.operand(element, source))


def extend_float(p: KernelPrinter, source: str, to: str, element: Element) -> Element:
    """Widens a float, exactly."""
    if isinstance(element, int | float):
        return bits_float(float_bits(element, source), source)
    if source == "f32":
        return p.compute("cvt.f64.f32", "fd", p.operand(element, source))
    wide = widened(p, element, source)
    return wide if to == "f32" else p.compute("cvt.f64.f32", "fd", wide)


def truncate_float(p: KernelPrinter, source: str, to: str, element: Element) -> Element:
    """Narrows a float, rounding to nearest even."""
    if isinstance(element, int | float):
        return bits_float(float_bits(element, to), to)
    if source == "f32":
        return narrowed(p, p.operand(element, source), to)
    return p.compute(f"cvt.rn.{to}.f64", REGISTER_CLASS[to], p.operand(element, source))


def float_from_integer(
    is_signed: bool, p: KernelPrinter, source: str, to: str, element: Element
) -> Element:
    """Converts an integer to the nearest float."""
    if isinstance(element, int):
        value = element if is_signed else unsigned(element, BITS[source])
        if source == "i1":
            value = -element if is_signed else element
        return bits_float(float_bits(float(value), to), to)
    if source == "i1":
        one = float(-1 if is_signed else 1)
        kind = "f32" if to in ("f16", "bf16") else to
        texts = (p.operand(one, kind), p.operand(0.0, kind), p.operand(element, "i1"))
        chosen = p.compute(f"selp.{kind}", REGISTER_CLASS[kind], *texts)
        return chosen if kind == to else narrowed(p, chosen, to)
    word = (signed if is_signed else zero_extended)(p, element, source)
    if to == "f16" and source != "i64" and (small := _small_half(p, word)) is not None:
        return small
    letter = f"{'s' if is_signed else 'u'}{64 if source == 'i64' else 32}"
    text = p.operand(word, "i64" if source == "i64" else "i32")
    if to == "bf16":
        return narrowed(p, p.compute(f"cvt.rn.f32.{letter}", "f", text), to)
    return p.compute(f"cvt.rn.{to}.{letter}", REGISTER_CLASS[to], text)


def _small_half(p: KernelPrinter, word: Element) -> Element | None:
    """
    Returns the f16 of an integer from -512 to 511 without a conversion, which has a low rate.

    From 1024 to 2047 f16 numbers are whole, and their bits count: 1536 + x has those of 1536, + x.
    """
    bounds = p.bounds_of(word)
    if bounds is None or bounds[0] < -512 or bounds[1] > 511:
        return None
    counted = p.operand(add(p, "i32", word, float_bits(1536.0, "f16")), "i32")
    moved = p.compute("cvt.u16.u32", "h", counted)
    return p.compute("sub.rn.f16", "h", moved, p.operand(1536.0, "f16"))


def integer_from_float(
    is_signed: bool, p: KernelPrinter, source: str, to: str, element: Element
) -> Element:
    """Converts a float to an integer, rounding toward zero."""
    if source == "bf16":
        text, source = p.widened(element, source), "f32"
    else:
        text = p.register_of(element, source)
    letter = f"{'s' if is_signed else 'u'}{64 if to == 'i64' else 32}"
    if to == "i1":
        return truncate(p, "i32", to, p.compute(f"cvt.rzi.{letter}.{source}", "r", text))
    return p.compute(f"cvt.rzi.{letter}.{source}", REGISTER_CLASS[to], text)


_REFUSED: dict[str, tuple[tuple[str, str], ...]] = {
    # Rounding twice, to f32 and then to bf16, may differ from rounding once.
    "arith.truncf": (("f64", "bf16"),),
    "arith.sitofp": (("i32", "bf16"), ("i64", "bf16")),
    "arith.uitofp": (("i32", "bf16"), ("i64", "bf16")),
}


def _elementwise(conversion: Conversion, p: KernelPrinter, step: Step) -> None:
    if step.memo is None:
        op = step.op
        step.memo = (operand_kind(op), result_kind(op))
        if step.memo in _REFUSED.get(op.name, ()):
            source, to = step.memo
            raise error_at(op, f"from {source} to {to} has no PTX instruction; go through f32")
    source, to = step.memo
    p.values[step.outs[0]] = [conversion(p, source, to, e) for e in p.elements(step, 0)]


_PAIRS = {
    "f16": "\tcvt.rn.f16x2.f32 %s, %s, %s;",
    "bf16": "\tcvt.rn.bf16x2.f32 %s, %s, %s;",
}


def _truncf(p: KernelPrinter, step: Step) -> None:
    """Narrows neighbouring elements of a vector in pairs, packed in one register each."""
    if step.memo is None:
        op = step.op
        step.memo = (operand_kind(op), result_kind(op))
    source, to = step.memo
    elements = p.elements(step, 0)
    if source != "f32" or to not in _PAIRS or len(elements) % 2:
        step.memo = None
        _elementwise(truncate_float, p, step)
        return
    results: list[Element] = []
    for low, high in zip(elements[::2], elements[1::2]):
        if isinstance(low, int | float) and isinstance(high, int | float):
            results += [truncate_float(p, source, to, low), truncate_float(p, source, to, high)]
            continue
        # The first source goes to the upper half.
        sources = (p.operand(high, source), p.operand(low, source))
        (packed,) = p.compute_many(_PAIRS[to], ("r",), sources)
        results += [Half(packed, 0), Half(packed, 1)]
    p.values[step.outs[0]] = results


_EIGHT: dict[type[Attribute], str] = {Float8E4M3FNType: "e4m3x2", Float8E5M2Type: "e5m2x2"}


def _eight(p: KernelPrinter, op: Operation, of: Attribute) -> str:
    """Returns the PTX type of two 8-bit floats."""
    if p.target in ("sm_80", "sm_86"):
        raise error_at(op, f"needs sm_89, got {p.target}")
    p.versions.add(EIGHT_BIT_VERSION)
    return _EIGHT[type(of)]


def _to_eights(p: KernelPrinter, step: Step) -> None:
    op = step.op
    if not isinstance(op, nvvm.ConvertF32x2ToF8x2Op):
        raise error_at(op, "expects nvvm.convert.f32x2.to.f8x2")
    sources = [p.operand(p.element(step, side), "f32") for side in (0, 1)]
    relu = ".relu" if op.relu.value.data else ""
    mnemonic = f"cvt.rn.satfinite{relu}.{_eight(p, op, op.dstTy)}.f32"
    # The first source goes to the upper half.
    pair = p.compute("cvt.u32.u16", "r", p.compute(mnemonic, "h", *sources))
    p.values[step.outs[0]] = [pair, p.compute("shr.u32", "r", pair, "8")]


def _both(p: KernelPrinter, low: Element, high: Element) -> str:
    """Returns a 16-bit register of two bytes; neighbours in half a word need no arithmetic."""
    if isinstance(low, Byte) and isinstance(high, Byte) and low.word == high.word:
        if low.place % 2 == 0 and high.place == low.place + 1:
            return p.operand(Half(low.word, low.place // 2), "f16")
    codes = p.compute("and.b32", "r", p.operand(low, "i8"), "255")
    if high != 0:
        upper = p.compute("shl.b32", "r", p.operand(high, "i8"), "8")
        codes = p.compute("or.b32", "r", codes, upper)
    return p.compute("cvt.u16.u32", "h", codes)


def _from_eights(p: KernelPrinter, step: Step) -> None:
    op = step.op
    if not isinstance(op, nvvm.ConvertF8x2ToF16x2Op):
        raise error_at(op, "expects nvvm.convert.f8x2.to.f16x2")
    low, high = p.elements(step, 0)
    relu = ".relu" if op.relu.value.data else ""
    mnemonic = f"cvt.rn{relu}.f16x2.{_eight(p, op, op.srcType)}"
    packed = p.compute(mnemonic, "r", _both(p, low, high))
    p.values[step.outs[0]] = [Half(packed, 0), Half(packed, 1)]


CONVERSIONS: dict[str, Conversion] = {
    "arith.extsi": extend_signed,
    "arith.extui": extend_unsigned,
    "arith.trunci": truncate,
    "arith.index_cast": cast_index,
    "arith.bitcast": bitcast,
    "arith.extf": extend_float,
    "arith.sitofp": partial(float_from_integer, True),
    "arith.uitofp": partial(float_from_integer, False),
    "arith.fptosi": partial(integer_from_float, True),
    "arith.fptoui": partial(integer_from_float, False),
}

RULES: dict[str, Rule] = {
    **{name: partial(_elementwise, function) for name, function in CONVERSIONS.items()},
    "arith.truncf": _truncf,
    "nvvm.convert.f32x2.to.f8x2": _to_eights,
    "nvvm.convert.f8x2.to.f16x2": _from_eights,
}
