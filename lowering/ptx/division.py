"""
Rules for integer division.

Powers of two become shifts and masks where the dividend is unsigned or known not to be negative;
other divisions stay one instruction, which ptxas expands. Division by zero gives any value.
"""

from __future__ import annotations

from collections.abc import Callable

from .elements import BITS, Element, unsigned, wrap
from .integer import BINARY, add, power_of_two, signed, zero_extended
from .kernel import KernelPrinter, Rule, Step, operand_kind

Division = Callable[[KernelPrinter, str, Element, Element], Element]


def _word(kind: str) -> int:
    return 64 if kind == "i64" else 32


def _cls(kind: str) -> str:
    return "rd" if kind == "i64" else "r"


def is_nonnegative(p: KernelPrinter, element: Element) -> bool:
    """Says whether a signed element is known to be 0 or more."""
    bounds = p.bounds_of(element)
    return bounds is not None and bounds[0] >= 0


def _print(p: KernelPrinter, mnemonic: str, kind: str, lhs: Element, rhs: Element) -> str:
    return p.compute(mnemonic, _cls(kind), p.operand(lhs, kind), p.operand(rhs, kind))


def divide_unsigned(p: KernelPrinter, kind: str, lhs: Element, rhs: Element) -> Element:
    """Divides unsigned integers, rounding down."""
    bits = BITS[kind]
    if type(lhs) is int and type(rhs) is int and rhs:
        return wrap(unsigned(lhs, bits) // unsigned(rhs, bits), bits)
    bounds = p.bounds_of(lhs)
    lhs = zero_extended(p, lhs, kind)
    shift = power_of_two(rhs)
    if shift == 0:
        return lhs
    if shift is not None:
        result = p.compute(f"shr.u{_word(kind)}", _cls(kind), p.operand(lhs, kind), str(shift))
    else:
        rhs = zero_extended(p, rhs, kind)
        result = _print(p, f"div.u{_word(kind)}", kind, lhs, rhs)
    if bounds is not None and bounds[0] >= 0 and isinstance(rhs, int) and rhs > 0:
        p.bounds[result] = (bounds[0] // rhs, bounds[1] // rhs)
    return result


def remainder_unsigned(p: KernelPrinter, kind: str, lhs: Element, rhs: Element) -> Element:
    """Computes the remainder of unsigned division."""
    bits = BITS[kind]
    if type(lhs) is int and type(rhs) is int and rhs:
        return wrap(unsigned(lhs, bits) % unsigned(rhs, bits), bits)
    bounds = p.bounds_of(lhs)
    if bounds is not None and isinstance(rhs, int) and 0 <= bounds[0] and bounds[1] < rhs:
        return lhs
    shift = power_of_two(rhs)
    if shift is not None and isinstance(rhs, int):
        return BINARY["arith.andi"](p, kind, lhs, rhs - 1)
    lhs, rhs = zero_extended(p, lhs, kind), zero_extended(p, rhs, kind)
    result = _print(p, f"rem.u{_word(kind)}", kind, lhs, rhs)
    if isinstance(rhs, int) and rhs > 0:
        p.bounds[result] = (0, rhs - 1)
    return result


def _truncated(quotient: int, lhs: int, rhs: int) -> int:
    return -quotient if (lhs < 0) != (rhs < 0) else quotient


def divide_signed(p: KernelPrinter, kind: str, lhs: Element, rhs: Element) -> Element:
    """Divides signed integers, rounding toward zero."""
    if isinstance(lhs, int) and isinstance(rhs, int) and rhs:
        return wrap(_truncated(abs(lhs) // abs(rhs), lhs, rhs), BITS[kind])
    if rhs == 1:
        return lhs
    if is_nonnegative(p, lhs) and is_nonnegative(p, rhs):
        return divide_unsigned(p, kind, lhs, rhs)
    return _print(p, f"div.s{_word(kind)}", kind, signed(p, lhs, kind), signed(p, rhs, kind))


def remainder_signed(p: KernelPrinter, kind: str, lhs: Element, rhs: Element) -> Element:
    """Computes the remainder of signed division, which has the sign of the dividend."""
    if isinstance(lhs, int) and isinstance(rhs, int) and rhs:
        return lhs - rhs * _truncated(abs(lhs) // abs(rhs), lhs, rhs)
    if is_nonnegative(p, lhs) and is_nonnegative(p, rhs):
        return remainder_unsigned(p, kind, lhs, rhs)
    return _print(p, f"rem.s{_word(kind)}", kind, signed(p, lhs, kind), signed(p, rhs, kind))


def _adjusted(step: int, p: KernelPrinter, kind: str, lhs: Element, rhs: Element) -> Element:
    """Rounds a signed quotient down (step -1) or up (step 1) where something remains."""
    lhs, rhs = signed(p, lhs, kind), signed(p, rhs, kind)
    word = _word(kind)
    quotient = _print(p, f"div.s{word}", kind, lhs, rhs)
    rest = _print(p, f"rem.s{word}", kind, lhs, rhs)
    signs = _print(p, f"xor.b{word}", kind, lhs, rhs)
    inexact = p.compute(f"setp.ne.s{word}", "p", rest, "0")
    comparison = "lt" if step < 0 else "ge"
    towards = p.compute(f"setp.{comparison}.s{word}", "p", signs, "0")
    both = p.compute("and.pred", "p", inexact, towards)
    moved = p.operand(add(p, kind, quotient, step), kind)
    return p.compute(f"selp.b{word}", _cls(kind), moved, quotient, both)


def divide_floor(p: KernelPrinter, kind: str, lhs: Element, rhs: Element) -> Element:
    """Divides signed integers, rounding down."""
    if isinstance(lhs, int) and isinstance(rhs, int) and rhs:
        return wrap(lhs // rhs, BITS[kind])
    shift = power_of_two(rhs)
    if shift is not None:
        return BINARY["arith.shrsi"](p, kind, lhs, shift)
    if is_nonnegative(p, lhs) and is_nonnegative(p, rhs):
        return divide_unsigned(p, kind, lhs, rhs)
    return _adjusted(-1, p, kind, lhs, rhs)


def divide_ceil(p: KernelPrinter, kind: str, lhs: Element, rhs: Element) -> Element:
    """Divides signed integers, rounding up."""
    if isinstance(lhs, int) and isinstance(rhs, int) and rhs:
        return wrap(-(-lhs // rhs), BITS[kind])
    if rhs == 1:
        return lhs
    if is_nonnegative(p, lhs) and isinstance(rhs, int) and rhs > 0 and kind in ("i32", "i64"):
        # Below 2**31 + 2**31, the sum is right as an unsigned number.
        raised = p.operand(add(p, kind, lhs, rhs - 1), kind)
        return divide_unsigned(p, kind, raised, rhs)
    return _adjusted(1, p, kind, lhs, rhs)


def divide_ceil_unsigned(p: KernelPrinter, kind: str, lhs: Element, rhs: Element) -> Element:
    """Divides unsigned integers, rounding up."""
    bits = BITS[kind]
    if isinstance(lhs, int) and isinstance(rhs, int) and rhs:
        return wrap(-(-unsigned(lhs, bits) // unsigned(rhs, bits)), bits)
    quotient = divide_unsigned(p, kind, lhs, rhs)
    rest = remainder_unsigned(p, kind, lhs, rhs)
    if isinstance(rest, int):
        return add(p, kind, quotient, int(rest != 0))
    inexact = p.compute(f"setp.ne.s{_word(kind)}", "p", p.operand(rest, kind), "0")
    one_more = p.operand(add(p, kind, quotient, 1), kind)
    below = p.operand(quotient, kind)
    return p.compute(f"selp.b{_word(kind)}", _cls(kind), one_more, below, inexact)


DIVISIONS: dict[str, Division] = {
    "arith.divui": divide_unsigned,
    "arith.remui": remainder_unsigned,
    "arith.divsi": divide_signed,
    "arith.remsi": remainder_signed,
    "arith.floordivsi": divide_floor,
    "arith.ceildivsi": divide_ceil,
    "arith.ceildivui": divide_ceil_unsigned,
}


# Ops that round down what is not negative.
_FOLDS: dict[str, Callable[[int, int], int]] = {
    **dict.fromkeys(("arith.divui", "arith.divsi", "arith.floordivsi"), int.__floordiv__),
    **dict.fromkeys(("arith.remui", "arith.remsi"), int.__mod__),
}


def _elementwise(p: KernelPrinter, step: Step) -> None:
    op = step.op
    if step.memo is None:
        step.memo = (DIVISIONS[op.name], operand_kind(op), _FOLDS.get(op.name))
    division, kind, fold = step.memo
    values, (left, right) = p.values, step.args
    lhs, rhs = values[left], values[right]
    if len(lhs) == 1:
        a, b = lhs[0], rhs[0]
        if fold is not None and type(a) is int and type(b) is int and a >= 0 and b > 0:
            values[step.outs[0]] = [fold(a, b)]
        else:
            values[step.outs[0]] = [division(p, kind, a, b)]
    else:
        values[step.outs[0]] = [division(p, kind, a, b) for a, b in zip(lhs, rhs)]


RULES: dict[str, Rule] = dict.fromkeys(DIVISIONS, _elementwise)
