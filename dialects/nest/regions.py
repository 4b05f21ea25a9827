"""
Which elements of a buffer statements touch: boxes over axes and symbols.

A box is an over-approximation: it holds all that is touched, and may hold more. Where an index
depends on data, or no bound is found, it is the whole extent of the buffer.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ..sym import Expression, Ranges, constant, interval, maximum, minimum, prove_le, simplify
from ..sym.expression import Atom, Extremum, Monomial, Quotient, Symbol, rebuild
from .program import Block, Body, Buffer, Call, Guard, Loop, Program, Range, Region, Store
from .scalars import Scalar, Subscript, loads_of

ONE = constant(1)
ZERO = constant(0)
Extents = Mapping[str, Expression]


@dataclass(frozen=True)
class Access:
    """One read or write of a buffer, and the loops around it inside the body that was asked for."""

    buffer: str
    indices: tuple[Subscript, ...]
    is_write: bool
    extents: Extents


def accesses_of(body: Body, extents: Extents | None = None) -> Iterator[Access]:
    """
    Yields every element access of statements; nested blocks and calls answer by their regions.

    `extents` are those of the loops that are around the statements.
    """
    around: Extents = extents or {}
    for statement in body:
        match statement:
            case Loop(name, extent, inner):
                yield from accesses_of(inner, {**around, name: extent})
            case Guard(condition, inner):
                yield from _loads(condition, around)
                yield from accesses_of(inner, around)
            case Store(buffer, indices, value):
                yield Access(buffer, indices, True, around)
                yield from _loads(value, around)
                for index in indices:
                    if not isinstance(index, Expression):
                        yield from _loads(index, around)
            case Block() | Call():
                pass


def _loads(value: Scalar, around: Extents) -> Iterator[Access]:
    for load in loads_of(value):
        yield Access(load.buffer, load.indices, False, around)


def bounds_over(value: Expression, extents: Extents) -> tuple[Expression, Expression] | None:
    """
    Returns the least and the greatest value while the named indices run over `0 .. extent - 1`.

    The bounds are expressions over the other names; None where no bound is found.
    """
    if value.symbols().isdisjoint(extents):
        return value, value
    bounds = _bounds_of_terms(value, extents)
    if value.depth and (residue := residue_of(value)) is not None:
        # Where its terms say less, a remainder has the bounds of its divisor. Those of the terms
        # may be fewer indices, from a first one that other names give.
        gain = None if bounds is None else (residue[1] - 1 - (bounds[1] - bounds[0])).constant_value
        if gain is None or gain <= 0:
            return ZERO, residue[1] - 1
    return bounds


def _bounds_of_terms(value: Expression, extents: Extents) -> tuple[Expression, Expression] | None:
    """Returns the sum of the bounds of each term."""
    low, high, others = _closed_bounds(value, extents)
    fixed: dict[Monomial, int] = {}
    for monomial, factor in others.terms.items():
        moving = [atom for atom in monomial if not atom.names.isdisjoint(extents)]
        if not moving:
            fixed[monomial] = factor
            continue
        part = _atom_bounds(moving[0], extents)
        # A product of two that move, or with a factor of unknown sign, has no bound here.
        if len(moving) > 1 or part is None:
            return None
        least, greatest = part if factor > 0 else (-part[1], -part[0])
        times = Expression({tuple(a for a in monomial if a is not moving[0]): abs(factor)})
        if not _is_nonnegative(times):
            return None
        low, high = low + times * least, high + times * greatest
    rest = Expression(fixed)
    return low + rest, high + rest


def residue_of(value: Expression) -> tuple[Expression, Expression] | None:
    """Returns `x` and `w` of a value `x mod w`, where `w` is a constant."""
    for monomial, factor in value.terms.items():
        match monomial:
            case (Quotient(numerator, by),) if by.constant_value == -factor:
                if value - Expression({monomial: factor}) == numerator:
                    return numerator, by
            case _:
                pass
    return None


def _closed_bounds(
    value: Expression, extents: Extents
) -> tuple[Expression, Expression, Expression]:
    """
    Returns bounds of the terms that are known together, and the other terms.

    These name only indices of constant extent, in remainders and the like: `t - 4*(t floordiv 4)`
    is at most 3, which its terms one by one do not tell.
    """
    if not value.depth:
        return ZERO, ZERO, value
    sizes = {name: e.constant_value for name, e in extents.items() if e.constant_value is not None}
    terms = {
        monomial: factor
        for monomial, factor in value.terms.items()
        if monomial and all(atom.names <= sizes.keys() for atom in monomial)
    }
    closed = Expression(terms)
    if all(isinstance(atom, Symbol) for atom in closed.variables()):
        return ZERO, ZERO, value
    ranges = Ranges.of(**{name: (0, sizes[name] - 1) for name in closed.symbols()})
    low, high = interval(closed, ranges)
    if low is None or high is None:
        return ZERO, ZERO, value
    return constant(low), constant(high), value - closed


def _is_nonnegative(value: Expression) -> bool:
    # Symbols of a program are extents and strides: they are not negative.
    return all(
        factor > 0 and all(isinstance(atom, Symbol) for atom in monomial)
        for monomial, factor in value.terms.items()
    )


def _atom_bounds(atom: Atom, extents: Extents) -> tuple[Expression, Expression] | None:
    if isinstance(atom, Symbol):
        return ZERO, extents[atom.name] - 1
    bounds = [bounds_over(part, extents) for part in atom.parts]
    known = [bound for bound in bounds if bound is not None]
    if len(known) < len(bounds):
        return None
    if isinstance(atom, Extremum):
        choose = minimum if atom.kind == "min" else maximum
        return choose(*(low for low, _ in known)), choose(*(high for _, high in known))
    return _quotient_bounds(atom, known[0], known[1])


def _quotient_bounds(
    atom: Quotient, numerator: tuple[Expression, Expression], by: tuple[Expression, Expression]
) -> tuple[Expression, Expression] | None:
    if by[0] != by[1]:
        return None
    return rebuild(atom, [numerator[0], by[0]]), rebuild(atom, [numerator[1], by[0]])


def range_over(value: Expression, extents: Extents, ranges: Ranges, whole: Expression) -> Range:
    """
    Returns the indices that `value` takes while the named indices run; `whole` bounds it.

    `whole` is the extent of the buffer's axis, the answer where no better one is found.
    """
    bounds = bounds_over(value, extents)
    if bounds is None:
        return Range(ZERO, whole)
    low, high = (simplify(bound, ranges) for bound in bounds)
    extent = simplify(high - low + 1, ranges)
    least, greatest = interval(extent, ranges)
    if greatest is not None and least != greatest and prove_le(whole, extent, ranges):
        return Range(ZERO, whole)
    return Range(low, extent)


def region_of(
    buffer: Buffer, indices: tuple[Subscript, ...], extents: Extents, ranges: Ranges
) -> Region:
    """Returns the region that one access touches while the named indices run."""
    return Region(
        buffer.name,
        tuple(
            range_over(index, extents, ranges, whole)
            if isinstance(index, Expression)
            else Range(ZERO, whole)
            for index, whole in zip(indices, buffer.shape, strict=True)
        ),
    )


def relax(region: Region, extents: Extents, ranges: Ranges, buffer: Buffer) -> Region:
    """Returns the union of a region's values while the named indices run."""
    return Region(
        region.buffer,
        tuple(
            _relax_range(part, extents, ranges, whole)
            for part, whole in zip(region.ranges, buffer.shape, strict=True)
        ),
    )


def _relax_range(part: Range, extents: Extents, ranges: Ranges, whole: Expression) -> Range:
    if part.start.symbols().isdisjoint(extents) and part.extent.symbols().isdisjoint(extents):
        return part
    first = last = bounds_over(part.start, extents)
    more = part.extent - 1
    if not part.extent.symbols().isdisjoint(extents):
        last = bounds_over(part.start + more, extents)
        more = ZERO
    if first is None or last is None:
        return Range(ZERO, whole)
    low = simplify(first[0], ranges)
    return Range(low, simplify(last[1] + more - low + 1, ranges))


def union(first: Region, second: Region, ranges: Ranges, buffer: Buffer) -> Region:
    """Returns a region that holds both."""
    return Region(
        first.buffer,
        tuple(
            _union_range(one, two, ranges, whole)
            for one, two, whole in zip(first.ranges, second.ranges, buffer.shape, strict=True)
        ),
    )


def _union_range(one: Range, two: Range, ranges: Ranges, whole: Expression) -> Range:
    if one == two:
        return one
    low = simplify(minimum(one.start, two.start), ranges)
    end = simplify(maximum(one.start + one.extent, two.start + two.extent), ranges)
    extent = simplify(end - low, ranges)
    if prove_le(whole, extent, ranges):
        return Range(ZERO, whole)
    return Range(low, extent)


def simplified(region: Region, ranges: Ranges) -> Region:
    """Returns a region with its bounds simplified."""
    parts = (Range(simplify(p.start, ranges), simplify(p.extent, ranges)) for p in region.ranges)
    return Region(region.buffer, tuple(parts))


def contains(outer: Region, inner: Region, ranges: Ranges) -> bool:
    """Whether every element of `inner` is proved to be one of `outer`."""
    return all(
        have == need
        or (
            bool(prove_le(have.start, need.start, ranges))
            and bool(prove_le(need.start + need.extent, have.start + have.extent, ranges))
        )
        for have, need in zip(outer.ranges, inner.ranges, strict=True)
    )


def merged(
    regions: Iterable[Region], ranges: Ranges, buffers: Mapping[str, Buffer]
) -> tuple[Region, ...]:
    """Returns one region for each buffer, in the order in which buffers come first."""
    found: dict[str, Region] = {}
    for region in regions:
        name = region.buffer
        known = found.get(name)
        found[name] = region if known is None else union(known, region, ranges, buffers[name])
    return tuple(found.values())


@dataclass
class _Touched:
    """Collects what statements read and write, inner blocks by their own regions."""

    ranges: Ranges
    buffers: Mapping[str, Buffer]
    reads: list[Region] = field(default_factory=list[Region])
    writes: list[Region] = field(default_factory=list[Region])

    def body(self, body: Body, extents: Extents) -> None:
        for access in accesses_of(body, extents):
            region = region_of(
                self.buffers[access.buffer], access.indices, access.extents, self.ranges
            )
            (self.writes if access.is_write else self.reads).append(region)
        self._inner(body, extents)

    def _inner(self, body: Body, extents: Extents) -> None:
        for statement in body:
            match statement:
                case Loop(name, extent, inner):
                    self._inner(inner, {**extents, name: extent})
                case Guard(_, inner):
                    self._inner(inner, extents)
                case Block():
                    self._block(statement, extents)
                case Call(_, operands):
                    for operand in operands:
                        region = self._relaxed(operand.region, extents)
                        self.reads.extend([region] if operand.is_read else [])
                        self.writes.extend([region] if operand.is_written else [])
                case Store():
                    pass

    def _relaxed(self, region: Region, extents: Extents) -> Region:
        return relax(region, extents, self.ranges, self.buffers[region.buffer])

    def _block(self, block: Block, extents: Extents) -> None:
        for target, regions in ((self.reads, block.reads), (self.writes, block.writes)):
            for region in regions:
                target.append(self._relaxed(bind_axes(region, block), extents))


def bind_axes(region: Region, block: Block) -> Region:
    """Returns a region over a block's axes as one over the loops around the block."""
    names = block.bindings
    return Region(
        region.buffer,
        tuple(
            Range(part.start.substitute(names), part.extent.substitute(names))
            for part in region.ranges
        ),
    )


def touched(
    body: Body, ranges: Ranges, buffers: Mapping[str, Buffer], extents: Extents | None = None
) -> tuple[tuple[Region, ...], tuple[Region, ...]]:
    """
    Returns what statements read and what they write, one region a buffer.

    Loops inside the statements and those of `extents` run over all of their values; other names
    stay in the regions.
    """
    found = _Touched(ranges, buffers)
    found.body(body, extents or {})
    return merged(found.reads, ranges, buffers), merged(found.writes, ranges, buffers)


def ranges_inside(program: Program, name: str) -> Ranges:
    """Returns the ranges of symbols, loops around and axes that hold at a loop or block."""
    ranges = program.ranges
    for part in program.places[name]:
        if isinstance(part, Loop):
            if part.name != name:
                ranges = ranges.also(part.name, 0, part.extent - 1)
        elif isinstance(part, Block):
            for axis in part.axes:
                ranges = ranges.also(axis.name, 0, axis.extent - 1)
    return ranges
