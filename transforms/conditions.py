"""
Conditions of guards over indices: made, taken apart, and decided by ranges.

A condition is a conjunction (`arith.andi`) of comparisons. One that loads nothing has the same
value wherever its names have, so guards with it may be moved and merged.
"""

from collections.abc import Iterable

from ..dialects.nest.program import Body, Bound, Guard, Statement
from ..dialects.nest.scalars import Apply, Constant, Index, Load, Scalar, walk_scalar
from ..dialects.sym import Expression, Ranges, constant, prove_eq, prove_lt

_ZERO = Index(constant(0))


def less(left: Expression, right: Expression) -> Scalar:
    """Returns the condition `left < right` of two index expressions."""
    return Apply("arith.cmpi", (Index(left), Index(right)), "i1", "slt")


def is_zero(value: Expression) -> Scalar:
    """Returns the condition that an index expression is 0."""
    return Apply("arith.cmpi", (Index(value), _ZERO), "i1", "eq")


def condition_of(bound: Bound) -> Scalar:
    """Returns a bound as a condition."""
    return less(bound.left, bound.right)


def conjunction(conditions: Iterable[Scalar]) -> Scalar:
    """Returns the condition that all hold; true where there are none."""
    result: Scalar | None = None
    for condition in conditions:
        both = None if result is None else Apply("arith.andi", (result, condition), "i1")
        result = condition if both is None else both
    return Constant(1, "i1") if result is None else result


def conjuncts(condition: Scalar) -> tuple[Scalar, ...]:
    """Returns the conditions that a condition is the conjunction of."""
    if isinstance(condition, Apply) and condition.op == "arith.andi" and condition.dtype == "i1":
        left, right = condition.operands
        return (*conjuncts(left), *conjuncts(right))
    return () if condition == Constant(1, "i1") else (condition,)


def is_fixed(condition: Scalar) -> bool:
    """Whether a condition loads nothing: no store changes its value."""
    return not any(isinstance(node, Load) for node in walk_scalar(condition))


def names_of(scalar: Scalar) -> frozenset[str]:
    """Returns the loops, axes and symbols that a scalar names, in the indices of loads too."""
    names: set[str] = set()
    for node in walk_scalar(scalar):
        if isinstance(node, Index):
            names |= node.expression.symbols()
        elif isinstance(node, Load):
            for index in node.indices:
                if isinstance(index, Expression):
                    names |= index.symbols()
    return frozenset(names)


def holds(condition: Scalar, ranges: Ranges) -> bool:
    """Whether a comparison of index expressions is proved to hold."""
    match condition:
        case Apply("arith.cmpi", (Index(left), Index(right)), _, "slt"):
            return bool(prove_lt(left, right, ranges))
        case Apply("arith.cmpi", (Index(left), Index(right)), _, "eq"):
            return bool(prove_eq(left, right, ranges))
        case _:
            return False


def under(conditions: Iterable[Scalar], body: Body) -> Body:
    """Returns statements that run where all conditions hold."""
    given = tuple(conditions)
    return (Guard(conjunction(given), body),) if given and body else body


def merge_guards(body: Body) -> Body:
    """
    Returns statements with guards that follow each other joined by what they have in common.

    Only conditions that load nothing are joined, so the first guard's stores change none of them.
    """
    merged: list[Statement] = []
    for statement in body:
        previous = merged[-1] if merged else None
        if isinstance(previous, Guard) and isinstance(statement, Guard):
            if joined := _join(previous, statement):
                merged[-1] = joined
                continue
        merged.append(statement)
    return tuple(merged)


def _join(first: Guard, second: Guard) -> Guard | None:
    left, right = conjuncts(first.condition), conjuncts(second.condition)
    shared = tuple(c for c in left if c in right and is_fixed(c))
    if not shared:
        return None
    parts = (
        part
        for guard, own in ((first, left), (second, right))
        for part in under((c for c in own if c not in shared), guard.body)
    )
    return Guard(conjunction(shared), merge_guards(tuple(parts)))
