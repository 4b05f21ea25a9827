"""Rules for integer arithmetic: folding, identities and the instructions that remain."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from xdsl.dialects import arith
from xdsl.dialects.builtin import VectorType
from xdsl.ir import Operation

from ...dialects.diagnostic import error_at
from .elements import (
    BITS,
    REGISTER_CLASS,
    Element,
    Product,
    Sum,
    WideProduct,
    new_sum,
    unsigned,
    wrap,
)
from .kernel import KernelPrinter, Rule, Step, kind_of, operand_kind

Binary = Callable[[KernelPrinter, str, Element, Element], Element]


def _cls(kind: str) -> str:
    return "rd" if kind == "i64" else "r"


def _word(kind: str) -> int:
    return 64 if kind == "i64" else 32


def _plain(p: KernelPrinter, mnemonic: str, kind: str, lhs: Element, rhs: Element) -> str:
    a = lhs if type(lhs) is str else p.operand(lhs, kind)
    b = rhs if type(rhs) is str else p.operand(rhs, kind)
    return p.compute(mnemonic, "rd" if kind == "i64" else "r", a, b)


def signed(p: KernelPrinter, element: Element, kind: str) -> Element:
    """Returns an 8- or 16-bit integer sign-extended to its register; others as they are."""
    if isinstance(element, int) or kind not in ("i8", "i16"):
        return element
    result = p.compute(f"cvt.s32.s{BITS[kind]}", "r", p.operand(element, kind))
    half = 1 << (BITS[kind] - 1)
    p.bounds[result] = (-half, half - 1)
    return result


def zero_extended(p: KernelPrinter, element: Element, kind: str) -> Element:
    """Returns an 8- or 16-bit integer zero-extended to its register; others as they are."""
    if kind not in ("i8", "i16"):
        return element
    mask = (1 << BITS[kind]) - 1
    if isinstance(element, int):
        return element & mask
    result = p.compute("and.b32", "r", p.operand(element, kind), str(mask))
    p.bounds[result] = (0, mask)
    return result


def power_of_two(element: Element) -> int | None:
    """Returns k where the element is the constant 2**k with k >= 0."""
    if isinstance(element, int) and element > 0 and element & (element - 1) == 0:
        return element.bit_length() - 1
    return None


def add(p: KernelPrinter, kind: str, lhs: Element, rhs: Element) -> Element:
    """Adds; constants are put off so that they can become offsets of addresses."""
    if type(lhs) is not str or type(rhs) is not str:
        folded = _add_folded(p, kind, lhs, rhs)
        if folded is not None:
            return folded
        result = _plain(p, f"add.s{_word(kind)}", kind, lhs, rhs)
        a, b = p.bounds_of(lhs), p.bounds_of(rhs)
    else:
        mnemonic, cls = ("add.s64", "rd") if kind == "i64" else ("add.s32", "r")
        result = p.compute(mnemonic, cls, lhs, rhs)
        a, b = p.bounds.get(lhs), p.bounds.get(rhs)
    if a is not None and b is not None:
        p.note_bounds(result, (a[0] + b[0], a[1] + b[1]), BITS[kind])
    return result


def _add_folded(p: KernelPrinter, kind: str, lhs: Element, rhs: Element) -> Element | None:
    """Adds where one side is a constant or was put off; None where there is nothing to gain."""
    if isinstance(lhs, int):
        lhs, rhs = rhs, lhs
    if type(rhs) is int:
        if type(lhs) is str:
            return new_sum((lhs, rhs)) if rhs else lhs
        if isinstance(lhs, int):
            return wrap(lhs + rhs, BITS[kind])
        return add_constant(p, kind, lhs, rhs)
    if isinstance(lhs, Sum) or isinstance(rhs, Sum):
        offset = 0
        if isinstance(lhs, Sum):
            lhs, offset = lhs.base, offset + lhs.offset
        if isinstance(rhs, Sum):
            rhs, offset = rhs.base, offset + rhs.offset
        return add_constant(p, kind, add(p, kind, lhs, rhs), offset)
    for product, other in ((lhs, rhs), (rhs, lhs)):
        if isinstance(product, Product):
            return p.compute("mad.lo.s32", "r", product.lhs, product.rhs, p.operand(other, kind))
    for product, other in ((lhs, rhs), (rhs, lhs)):
        if isinstance(product, WideProduct) and product.factor != 1:
            addend = p.register_of(other, kind)
            return p.compute("mad.wide.s32", "rd", product.register, str(product.factor), addend)
    return None


def add_constant(p: KernelPrinter, kind: str, element: Element, offset: int) -> Element:
    """Adds a constant without printing anything."""
    if isinstance(element, int):
        return wrap(element + offset, BITS[kind])
    if isinstance(element, Sum):
        element, offset = element.base, element.offset + offset
    offset = wrap(offset, BITS[kind])
    base = p.operand(element, kind)
    return new_sum((base, offset)) if offset else base


def subtract(p: KernelPrinter, kind: str, lhs: Element, rhs: Element) -> Element:
    """Subtracts."""
    if isinstance(rhs, int):
        return add(p, kind, lhs, wrap(-rhs, BITS[kind]))
    if lhs == rhs:
        return 0
    if isinstance(lhs, Sum) or isinstance(rhs, Sum):
        offset = 0
        if isinstance(lhs, Sum):
            lhs, offset = lhs.base, lhs.offset
        if isinstance(rhs, Sum):
            rhs, offset = rhs.base, offset - rhs.offset
        return add_constant(p, kind, subtract(p, kind, lhs, rhs), offset)
    result = _plain(p, f"sub.s{_word(kind)}", kind, lhs, rhs)
    a, b = p.bounds_of(lhs), p.bounds_of(rhs)
    if a is not None and b is not None:
        p.note_bounds(result, (a[0] - b[1], a[1] - b[0]), BITS[kind])
    return result


def multiply(p: KernelPrinter, kind: str, lhs: Element, rhs: Element) -> Element:
    """Multiplies modulo the width; by a power of two it shifts."""
    if type(lhs) is int:
        if type(rhs) is int:
            return wrap(lhs * rhs, BITS[kind])
        lhs, rhs = rhs, lhs
    if type(rhs) is int:
        if rhs in (0, 1):
            return lhs if rhs else 0
        if isinstance(lhs, WideProduct) and abs(lhs.factor * rhs) < 1 << 31:
            return WideProduct(lhs.register, lhs.factor * rhs)
        shift = power_of_two(rhs)
        if shift is not None:
            return shift_left(p, kind, lhs, shift)
        if isinstance(lhs, Sum):
            scaled = multiply(p, kind, lhs.base, rhs)
            return add_constant(p, kind, scaled, lhs.offset * rhs)
    result = _plain(p, f"mul.lo.s{_word(kind)}", kind, lhs, rhs)
    a = p.bounds_of(lhs)
    if a is not None and (b := p.bounds_of(rhs)) is not None:
        corners = [x * y for x in a for y in b]
        p.note_bounds(result, (min(corners), max(corners)), BITS[kind])
    return result


def shift_left(p: KernelPrinter, kind: str, lhs: Element, rhs: Element) -> Element:
    """Shifts left."""
    if type(lhs) is str and type(rhs) is int and rhs and kind in ("i32", "i64"):
        return _shift_register(p, kind, lhs, rhs)
    if isinstance(rhs, int):
        if isinstance(lhs, int):
            return wrap(lhs << unsigned(rhs, 6), BITS[kind])
        if rhs == 0:
            return lhs
        if isinstance(lhs, WideProduct) and abs(lhs.factor << unsigned(rhs, 6)) < 1 << 31:
            return WideProduct(lhs.register, lhs.factor << rhs)
        if isinstance(lhs, Sum):
            return add_constant(p, kind, shift_left(p, kind, lhs.base, rhs), lhs.offset << rhs)
    amount = p.operand(zero_extended(p, rhs, kind), kind)
    if kind == "i64" and amount[0] == "%":
        amount = p.compute("cvt.u32.u64", "r", amount)
    result = p.compute(f"shl.b{_word(kind)}", _cls(kind), p.operand(lhs, kind), amount)
    a = p.bounds_of(lhs)
    if a is not None and isinstance(rhs, int):
        p.note_bounds(result, (a[0] << rhs, a[1] << rhs), BITS[kind])
    return result


def _shift_register(p: KernelPrinter, kind: str, register: str, amount: int) -> str:
    mnemonic, cls = ("shl.b64", "rd") if kind == "i64" else ("shl.b32", "r")
    result = p.compute(mnemonic, cls, register, str(amount))
    if (bounds := p.bounds.get(register)) is not None:
        p.note_bounds(result, (bounds[0] << amount, bounds[1] << amount), BITS[kind])
    return result


def _shift_right(
    is_signed: bool, p: KernelPrinter, kind: str, lhs: Element, rhs: Element
) -> Element:
    if isinstance(rhs, int):
        if isinstance(lhs, int):
            bits = BITS[kind]
            return wrap((lhs if is_signed else unsigned(lhs, bits)) >> unsigned(rhs, 6), bits)
        if rhs == 0:
            return lhs
    a = p.bounds_of(lhs)
    extended = (signed if is_signed else zero_extended)(p, lhs, kind)
    amount = p.operand(zero_extended(p, rhs, kind), kind)
    if kind == "i64" and amount[0] == "%":
        amount = p.compute("cvt.u32.u64", "r", amount)
    letter = "s" if is_signed else "u"
    mnemonic = f"shr.{letter}{_word(kind)}"
    result = p.compute(mnemonic, _cls(kind), p.operand(extended, kind), amount)
    if a is not None and isinstance(rhs, int) and (is_signed or a[0] >= 0):
        p.note_bounds(result, (a[0] >> rhs, a[1] >> rhs), BITS[kind])
    return result


_BITWISE: dict[str, Callable[[int, int], int]] = {
    "and": int.__and__,
    "or": int.__or__,
    "xor": int.__xor__,
}


def _bitwise(name: str, p: KernelPrinter, kind: str, lhs: Element, rhs: Element) -> Element:
    if isinstance(lhs, int):
        lhs, rhs = rhs, lhs
    if isinstance(rhs, int):
        if isinstance(lhs, int):
            return wrap(_BITWISE[name](lhs, rhs), BITS[kind])
        folded = _bitwise_identity(p, name, kind, lhs, rhs)
        if folded is not None:
            return folded
    elif lhs == rhs and name != "xor":
        return lhs
    if kind == "i1":
        return p.compute(f"{name}.pred", "p", p.operand(lhs, kind), p.operand(rhs, kind))
    result = _plain(p, f"{name}.b{_word(kind)}", kind, lhs, rhs)
    a, b = p.bounds_of(lhs), p.bounds_of(rhs)
    if name == "and":
        highs = [bounds[1] for bounds in (a, b) if bounds is not None and bounds[0] >= 0]
        if highs:
            p.bounds[result] = (0, min(highs))
    elif a is not None and b is not None and a[0] >= 0 and b[0] >= 0:
        p.bounds[result] = (0, (1 << max(a[1], b[1]).bit_length()) - 1)
    return result


def _bitwise_identity(
    p: KernelPrinter, name: str, kind: str, element: Element, constant: int
) -> Element | None:
    ones = constant == wrap(-1, BITS[kind])
    if name == "and" and (constant == 0 or ones):
        return element if ones else 0
    if name == "or" and (constant == 0 or ones):
        return constant if ones else element
    if name == "xor" and constant == 0:
        return element
    if name == "xor" and ones:
        if kind == "i1":
            return p.compute("not.pred", "p", p.operand(element, kind))
        return p.compute(f"not.b{_word(kind)}", _cls(kind), p.operand(element, kind))
    if name == "and" and constant & (constant + 1) == 0:
        bounds = p.bounds_of(element)
        if bounds is not None and 0 <= bounds[0] and bounds[1] <= constant:
            return element
    return None


def _extremum(
    is_signed: bool, is_max: bool, p: KernelPrinter, kind: str, lhs: Element, rhs: Element
) -> Element:
    bits = BITS[kind]
    if isinstance(lhs, int) and isinstance(rhs, int):
        pick = max if is_max else min
        return (
            pick(lhs, rhs)
            if is_signed
            else wrap(pick(unsigned(lhs, bits), unsigned(rhs, bits)), bits)
        )
    if lhs == rhs:
        return lhs
    a, b = p.bounds_of(lhs), p.bounds_of(rhs)
    if a is not None and b is not None and (is_signed or min(a[0], b[0]) >= 0):
        if a[0] >= b[1]:
            return lhs if is_max else rhs
        if b[0] >= a[1]:
            return rhs if is_max else lhs
    extend = signed if is_signed else zero_extended
    lhs, rhs = extend(p, lhs, kind), extend(p, rhs, kind)
    letter = "s" if is_signed else "u"
    result = _plain(p, f"{'max' if is_max else 'min'}.{letter}{_word(kind)}", kind, lhs, rhs)
    if is_signed and (a is None) != (b is None):
        # What is not known is any number.
        limit = 1 << bits - 1
        a, b = a or (-limit, limit - 1), b or (-limit, limit - 1)
    if a is not None and b is not None and (is_signed or min(a[0], b[0]) >= 0):
        pick = max if is_max else min
        p.bounds[result] = (pick(a[0], b[0]), pick(a[1], b[1]))
    return result


# Ops whose result is that of Python's operator, modulo the width.
_FOLDS: dict[str, Callable[[int, int], int]] = {
    "arith.addi": int.__add__,
    "arith.subi": int.__sub__,
    "arith.muli": int.__mul__,
    "arith.andi": int.__and__,
    "arith.ori": int.__or__,
    "arith.xori": int.__xor__,
}


def _kind(op: Operation) -> str:
    kind = operand_kind(op)
    if kind == "i1" and op.name not in _ON_I1:
        raise error_at(op, "expects integers of 8 bits or more, got i1")
    return kind


def _memo(op: Operation) -> tuple[Binary, str, Callable[[int, int], int] | None, int]:
    """Returns how an op is printed: its function, kind, fold, and the bound of its results."""
    kind = _kind(op)
    # One bit wraps to 0 and 1.
    limit = 1 << (BITS[kind] - 1) if kind != "i1" else 0
    return BINARY[op.name], kind, _FOLDS.get(op.name), limit


def elementwise(p: KernelPrinter, step: Step) -> None:
    """Prints a binary integer op for each element."""
    memo = step.memo
    if memo is None:
        step.memo = memo = _memo(step.op)
    function, kind, fold, limit = memo
    values, (left, right) = p.values, step.args
    lhs, rhs = values[left], values[right]
    if len(lhs) == 1:
        a, b = lhs[0], rhs[0]
        if fold is not None and type(a) is int and type(b) is int:
            # Most of what an unrolled loop computes with its index.
            result = fold(a, b)
            if not -limit <= result < limit:
                result = wrap(result, BITS[kind])
            values[step.outs[0]] = [result]
        else:
            values[step.outs[0]] = [function(p, kind, a, b)]
    else:
        values[step.outs[0]] = [function(p, kind, a, b) for a, b in zip(lhs, rhs)]


def _multiply_rule(p: KernelPrinter, step: Step) -> None:
    if step.memo is None:
        step.memo = _memo(step.op)
        if _feeds_addition(step.op):
            step.rule = _multiply_for_addition
            step.rule(p, step)
            return
        step.rule = elementwise
    elementwise(p, step)


def _multiply_for_addition(p: KernelPrinter, step: Step) -> None:
    """Puts a product off, so that the addition that alone uses it becomes a `mad`."""
    values, (left, right) = p.values, step.args
    lhs, rhs = values[left][0], values[right][0]
    if type(lhs) is int:
        elementwise(p, step)
        return
    is_worth_it = type(rhs) is str or (type(rhs) is int and power_of_two(rhs) is None and rhs > 0)
    if type(lhs) is str and is_worth_it:
        if p.bounds_of(lhs) is None or p.bounds_of(rhs) is None:
            values[step.outs[0]] = [Product(lhs, p.operand(rhs, "i32"))]
            return
    elementwise(p, step)


def _feeds_addition(op: Operation) -> bool:
    (result,) = op.results
    user = result.get_user_of_unique_use()
    if type(user) is not arith.AddiOp or user.parent is not op.parent:
        return False
    return kind_of(op, result) == "i32" and type(result.type) is not VectorType


BINARY: dict[str, Binary] = {
    "arith.addi": add,
    "arith.subi": subtract,
    "arith.muli": multiply,
    "arith.shli": shift_left,
    "arith.shrsi": partial(_shift_right, True),
    "arith.shrui": partial(_shift_right, False),
    "arith.andi": partial(_bitwise, "and"),
    "arith.ori": partial(_bitwise, "or"),
    "arith.xori": partial(_bitwise, "xor"),
    "arith.minsi": partial(_extremum, True, False),
    "arith.maxsi": partial(_extremum, True, True),
    "arith.minui": partial(_extremum, False, False),
    "arith.maxui": partial(_extremum, False, True),
}
_ON_I1 = frozenset({"arith.andi", "arith.ori", "arith.xori"})


def _magnitude(p: KernelPrinter, step: Step) -> None:
    """Prints the absolute value of integers; that of the least one is itself."""
    if step.memo is None:
        step.memo = operand_kind(step.op)
    kind: str = step.memo
    cls, bits = REGISTER_CLASS[kind], 64 if kind == "i64" else 32
    results: list[Element] = []
    for element in p.elements(step, 0):
        if isinstance(element, int):
            results.append(wrap(abs(element), BITS[kind]))
        else:
            register = p.operand(signed(p, element, kind), kind)
            results.append(p.compute(f"abs.s{bits}", cls, register))
    p.values[step.outs[0]] = results


RULES: dict[str, Rule] = {
    **{name: elementwise for name in BINARY},
    "arith.muli": _multiply_rule,
    "math.absi": _magnitude,
}
