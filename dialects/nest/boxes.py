"""Boxes of indices whose bounds are symbolic: which holds which, and what two make together."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..sym import Expression, Ranges, constant, minimum, prove_le
from ..sym.expression import Extremum, expression_of

ZERO = constant(0)


@dataclass(frozen=True)
class Span:
    """The indices `low .. end - 1`."""

    low: Expression
    end: Expression


Box = tuple[Span, ...]


def residues(span: Span, size: Expression, ranges: Ranges) -> Span | None:
    """Returns the remainders by a size that consecutive numbers have, if they have no gaps."""
    if prove_le(size, span.end - span.low, ranges):
        return Span(ZERO, size)
    return Span(ZERO, minimum(span.end, size)) if span.low == ZERO else None


def is_whole(span: Span, extent: Expression, ranges: Ranges) -> bool:
    """Whether a span holds all indices of an axis; quick where it does not look like it."""
    if span.low.terms:
        return False
    return span.end == extent or bool(prove_le(extent, span.end, ranges))


def is_inside(inner: Box, outer: Box, ranges: Ranges) -> bool:
    """Whether a box is proved to be part of another one."""
    return all(
        _at_most(have.low, need.low, ranges) and _at_most(need.end, have.end, ranges)
        for need, have in zip(inner, outer, strict=True)
    )


def _at_most(one: Expression, two: Expression, ranges: Ranges) -> bool:
    if one == two or prove_le(one, two, ranges):
        return True
    # A proof that takes the arguments of a minimum one by one finds more.
    return any(
        all(_at_most(lesser, greater, ranges) for lesser in lessers for greater in greaters)
        for lessers, greaters in ((_options(one, "max"), [two]), ([one], _options(two, "min")))
        if len(lessers) + len(greaters) > 2
    )


def _options(value: Expression, kind: str) -> list[Expression]:
    """Returns the values of which `value` is the least or the greatest."""
    for monomial, factor in value.terms.items():
        match monomial:
            case (Extremum() as atom,) if factor > 0 and atom.kind == kind:
                rest = value - factor * expression_of(atom)
                return [rest + factor * argument for argument in atom.arguments]
            case _:
                pass
    return [value]


def merged_boxes(boxes: Sequence[Box], ranges: Ranges) -> list[Box]:
    """Returns the boxes, and those that two of them make where they touch."""
    merged = list(boxes)
    for one in merged:
        for two in list(merged):
            for joined in (_joined(one, two, ranges), _joined(two, one, ranges)):
                if joined is not None and joined not in merged:
                    merged.append(joined)
        if len(merged) > 64:
            break
    return merged


def _joined(one: Box, two: Box, ranges: Ranges) -> Box | None:
    """Returns the box of two that differ along one axis, where the first reaches the second."""
    apart = [axis for axis, (a, b) in enumerate(zip(one, two, strict=True)) if a != b]
    if len(apart) != 1:
        return None
    axis = apart[0]
    a, b = one[axis], two[axis]
    if not all(
        _at_most(*pair, ranges) for pair in ((a.low, b.low), (b.low, a.end), (a.end, b.end))
    ):
        return None
    return (*one[:axis], Span(a.low, b.end), *one[axis + 1 :])
