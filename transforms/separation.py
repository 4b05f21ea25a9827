"""
Whether different iterations of loops touch different elements.

The start of an interval is decoded digit by digit, as a number of mixed radix: with
`start = 64*i + 4*j` and an extent of 4, `j` steps by no less than the extent, and `i` by no less
than what all `j` take together. A quotient and remainder by the same number are digits too.
"""

from collections.abc import Iterable, Mapping

from ..dialects.nest.program import Range
from ..dialects.sym import Expression, Ranges, constant, prove_le, prove_lt, simplify, symbol
from ..dialects.sym.expression import Atom, Quotient, Symbol, expression_of


def are_separated(
    intervals: Iterable[Range], loops: Mapping[str, Expression], ranges: Ranges
) -> bool:
    """
    Returns whether boxes of different iterations are proved to have no element in common.

    `intervals` are the sides of the box, over the names of `loops` among others, which are the
    same for all iterations; `loops` holds extents.
    """
    pending = list(intervals)
    for name in list(loops):
        pending, loops, ranges = _with_digits(pending, name, loops, ranges)
    known: set[str] = set()
    progress = True
    while progress and not known.issuperset(loops):
        progress = False
        for interval in pending:
            found = _decoded(interval, known, loops, ranges)
            progress = progress or not known.issuperset(found)
            known |= found
    return known.issuperset(loops)


def _with_digits(
    intervals: list[Range], name: str, loops: Mapping[str, Expression], ranges: Ranges
) -> tuple[list[Range], Mapping[str, Expression], Ranges]:
    """Returns sides over a loop's quotient and remainder where its index is divided by a number."""
    divisors = {
        atom.divisor.constant_value
        for interval in intervals
        for atom in interval.start.variables()
        if isinstance(atom, Quotient) and atom.numerator == symbol(name)
    }
    divisor = divisors.pop() if len(divisors) == 1 else None
    extent = loops[name].constant_value
    high, low = f"{name}_quotient", f"{name}_remainder"
    if divisor is None or extent is None or not {high, low}.isdisjoint((*loops, *ranges)):
        return intervals, loops, ranges
    counts = {high: constant(-(-extent // divisor)), low: constant(divisor)}
    for digit, count in counts.items():
        ranges = ranges.also(digit, 0, count - 1)
    index = symbol(high) * divisor + symbol(low)
    whole = Quotient(symbol(name), constant(divisor))
    images: dict[Atom, Expression] = {Symbol(name): index, whole: symbol(high)}
    changed = [
        Range(_over_digits(interval.start, name, images, ranges), interval.extent)
        for interval in intervals
    ]
    return changed, {n: e for n, e in loops.items() if n != name} | counts, ranges


def _over_digits(
    value: Expression, name: str, images: Mapping[Atom, Expression], ranges: Ranges
) -> Expression:
    """Returns an index over the quotient and the remainder of a loop's index."""
    if all(atom in images or name not in atom.names for atom in value.variables()):
        return value.replace_atoms(lambda atom: images.get(atom) or expression_of(atom))
    return simplify(value.substitute({name: images[Symbol(name)]}), ranges)


def _decoded(
    interval: Range, known: set[str], loops: Mapping[str, Expression], ranges: Ranges
) -> set[str]:
    """Returns the loops whose iteration follows from the side, where those `known` are."""
    if not interval.extent.symbols().isdisjoint(loops):
        return set()
    rest = interval.start
    digits: list[tuple[str, Expression]] = []
    for name in interval.start.symbols() & loops.keys():
        factor, rest = rest.split(Symbol(name))
        if name in known:
            continue
        if not factor.symbols().isdisjoint(loops) or not prove_lt(0, factor, ranges):
            return set()
        digits.append((name, factor))
    # What is left names loops only inside quotients: nothing is known of these unless `known`.
    if not (rest.symbols() & loops.keys()) <= known:
        return set()
    return _digits(digits, interval.extent, loops, ranges)


def _digits(
    digits: list[tuple[str, Expression]],
    extent: Expression,
    loops: Mapping[str, Expression],
    ranges: Ranges,
) -> set[str]:
    found: set[str] = set()
    taken = extent
    while digits:
        following = [d for d in digits if all(prove_le(d[1], other[1], ranges) for other in digits)]
        if not following or not prove_le(taken, following[0][1], ranges):
            # Digits below what is taken are ambiguous, and so are all above them.
            return set()
        name, factor = following[0]
        digits.remove(following[0])
        found.add(name)
        taken = simplify(factor * (loops[name] - 1) + taken, ranges)
    return found
