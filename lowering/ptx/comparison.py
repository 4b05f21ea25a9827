"""Rules for comparisons and selections."""

from __future__ import annotations

from xdsl.dialects import arith

from ...dialects.diagnostic import error_at
from .elements import BITS, CLASS_TYPE, REGISTER_CLASS, Element, Sum, unsigned
from .integer import signed, subtract, zero_extended
from .kernel import KernelPrinter, Rule, Step, kind_of, operand_kind

# arith.cmpi predicates by number: PTX comparison and whether it compares signed integers.
_INTEGER: tuple[tuple[str, bool], ...] = (
    ("eq", True),
    ("ne", True),
    ("lt", True),
    ("le", True),
    ("gt", True),
    ("ge", True),
    ("lt", False),
    ("le", False),
    ("gt", False),
    ("ge", False),
)
# arith.cmpf predicates by number; None is false, "" is true.
_FLOAT: tuple[str | None, ...] = (
    *(None, "eq", "gt", "ge", "lt", "le", "ne", "num"),
    *("equ", "gtu", "geu", "ltu", "leu", "neu", "nan", ""),
)


_TURNED = {"lt": "gt", "le": "ge", "gt": "lt", "ge": "le"}


def _holds(comparison: str, lhs: int, rhs: int) -> bool:
    return {
        "eq": lhs == rhs,
        "ne": lhs != rhs,
        "lt": lhs < rhs,
        "le": lhs <= rhs,
        "gt": lhs > rhs,
        "ge": lhs >= rhs,
    }[comparison]


def compare(
    p: KernelPrinter, comparison: str, is_signed: bool, kind: str, lhs: Element, rhs: Element
) -> Element:
    """Compares two integers; the answer is an i1 element, constant where bounds decide it."""
    bits = BITS[kind]
    if isinstance(lhs, int) and isinstance(rhs, int):
        if not is_signed:
            lhs, rhs = unsigned(lhs, bits), unsigned(rhs, bits)
        return int(_holds(comparison, lhs, rhs))
    a, b = p.bounds_of(lhs), p.bounds_of(rhs)
    if a is not None and b is not None and (is_signed or min(a[0], b[0]) >= 0):
        decided = _decided(comparison, a, b)
        if decided is not None:
            return decided
        if type(lhs) is Sum and type(rhs) is str and _differ_exactly(p, kind, b, lhs.base):
            # Sums of one base share a difference, and are told apart by their constants.
            rhs, lhs, is_signed = lhs.offset, subtract(p, kind, rhs, lhs.base), True
            comparison = _TURNED.get(comparison, comparison)
    extend = signed if is_signed else zero_extended
    lhs, rhs = extend(p, lhs, kind), extend(p, rhs, kind)
    letter = "s" if is_signed else "u"
    mnemonic = f"setp.{comparison}.{letter}{64 if kind == 'i64' else 32}"
    return p.compute(mnemonic, "p", p.operand(lhs, kind), p.operand(rhs, kind))


def _differ_exactly(p: KernelPrinter, kind: str, bounds: tuple[int, int], base: str) -> bool:
    """Whether a number within bounds minus a register is never outside of a signed type."""
    others, limit = p.bounds_of(base), 1 << BITS[kind] - 1
    return others is not None and -limit <= bounds[0] - others[1] <= bounds[1] - others[0] < limit


def _decided(comparison: str, a: tuple[int, int], b: tuple[int, int]) -> int | None:
    if comparison in ("gt", "ge"):
        comparison, a, b = ("lt" if comparison == "gt" else "le"), b, a
    if comparison == "lt":
        return 1 if a[1] < b[0] else 0 if a[0] >= b[1] else None
    if comparison == "le":
        return 1 if a[1] <= b[0] else 0 if a[0] > b[1] else None
    if a[1] < b[0] or b[1] < a[0]:
        return int(comparison == "ne")
    return None


def _compare_predicates(
    p: KernelPrinter, step: Step, comparison: str, lhs: Element, rhs: Element
) -> Element:
    if comparison not in ("eq", "ne"):
        raise error_at(step.op, "expects predicate eq or ne on i1")
    if isinstance(lhs, int):
        lhs, rhs = rhs, lhs
    if isinstance(rhs, int):
        if isinstance(lhs, int):
            return int((lhs == rhs) == (comparison == "eq"))
        if rhs == (comparison == "eq"):
            return lhs
        return p.compute("not.pred", "p", p.operand(lhs, "i1"))
    differs = p.compute("xor.pred", "p", p.operand(lhs, "i1"), p.operand(rhs, "i1"))
    return differs if comparison == "ne" else p.compute("not.pred", "p", differs)


def _cmpi(p: KernelPrinter, step: Step) -> None:
    op = step.op
    if not isinstance(op, arith.CmpiOp):
        raise error_at(op, "expects arith.cmpi")
    if step.memo is None:
        step.memo = (*_INTEGER[op.predicate.value.data], kind_of(op, op.lhs))
    comparison, is_signed, kind = step.memo
    left, right = step.args
    pairs = zip(p.values[left], p.values[right])
    if kind == "i1":
        results = [_compare_predicates(p, step, comparison, a, b) for a, b in pairs]
    else:
        results = [compare(p, comparison, is_signed, kind, a, b) for a, b in pairs]
    p.values[step.outs[0]] = results


def _cmpf(p: KernelPrinter, step: Step) -> None:
    op = step.op
    if not isinstance(op, arith.CmpfOp):
        raise error_at(op, "expects arith.cmpf")
    if step.memo is None:
        step.memo = (_FLOAT[op.predicate.value.data], kind_of(op, op.lhs))
    comparison, kind = step.memo
    results: list[Element] = []
    for lhs, rhs in zip(p.elements(step, 0), p.elements(step, 1)):
        if not comparison:
            results.append(0 if comparison is None else 1)
            continue
        # On sm_80 there is no comparison of bf16; f32 holds its values exactly.
        wide = "f32" if kind == "bf16" else kind
        sources = (p.widened(lhs, kind), p.widened(rhs, kind))
        results.append(p.compute(f"setp.{comparison}.{wide}", "p", *sources))
    p.values[step.outs[0]] = results


def select(p: KernelPrinter, kind: str, cond: Element, yes: Element, no: Element) -> Element:
    """Chooses between two elements by an i1 element."""
    if isinstance(cond, int):
        return yes if cond else no
    # Zeros of both signs are equal, but not the same.
    if yes == no and not isinstance(yes, float):
        return yes
    predicate = p.operand(cond, "i1")
    if kind == "i1":
        return _select_predicate(p, predicate, yes, no)
    cls = REGISTER_CLASS[kind]
    mnemonic = f"selp.{CLASS_TYPE[cls]}"
    result = p.compute(mnemonic, cls, p.operand(yes, kind), p.operand(no, kind), predicate)
    a, b = p.bounds_of(yes), p.bounds_of(no)
    if a is not None and b is not None:
        p.bounds[result] = (min(a[0], b[0]), max(a[1], b[1]))
    return result


def _select_predicate(p: KernelPrinter, predicate: str, yes: Element, no: Element) -> Element:
    if isinstance(yes, int):
        if yes:
            return p.compute("or.pred", "p", predicate, p.operand(no, "i1"))
        return p.compute(
            "and.pred", "p", p.compute("not.pred", "p", predicate), p.operand(no, "i1")
        )
    if no == 0:
        return p.compute("and.pred", "p", predicate, p.operand(yes, "i1"))
    inverse = p.compute("not.pred", "p", predicate)
    on_true = p.compute("and.pred", "p", predicate, p.operand(yes, "i1"))
    on_false = p.compute("and.pred", "p", inverse, p.operand(no, "i1"))
    return p.compute("or.pred", "p", on_true, on_false)


def _select(p: KernelPrinter, step: Step) -> None:
    if step.memo is None:
        step.memo = operand_kind(step.op, 1)
    conditions = p.elements(step, 0)
    yes, no = p.elements(step, 1), p.elements(step, 2)
    if len(conditions) < len(yes):
        conditions = conditions * len(yes)
    kind: str = step.memo
    chosen = [select(p, kind, c, a, b) for c, a, b in zip(conditions, yes, no)]
    if kind[:3] == "ptr":
        chosen = [p.wrapped(element, kind) for element in chosen]
    p.values[step.outs[0]] = chosen


RULES: dict[str, Rule] = {
    "arith.cmpi": _cmpi,
    "arith.cmpf": _cmpf,
    "arith.select": _select,
}
