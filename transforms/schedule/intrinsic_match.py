"""
Whether a block computes what a tensor intrinsic describes, and the first difference if not.

Both are brought to one form: iterators with extents, one store, its value a tree over loads whose
indices are iterators plus what is fixed for the tile. Sums and products match in either order.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from ...dialects.nest.intrinsics import Intrinsic, Requirement
from ...dialects.nest.program import (
    Block,
    Body,
    Buffer,
    Guard,
    Loop,
    Operand,
    Program,
    Range,
    Region,
    Scope,
    Store,
)
from ...dialects.nest.rewriting import substitute
from ...dialects.nest.scalars import (
    Apply,
    Constant,
    Index,
    Load,
    Scalar,
    ScalarMap,
    Variable,
    walk_scalar,
)
from ...dialects.sym import Expression, Ranges, constant, prove_divisible, prove_eq, simplify
from ..conditions import conjunction
from .blockize import separate
from .strides import divisible_strides

COMMUTATIVE = frozenset(
    (
        *("arith.addf", "arith.addi", "arith.mulf", "arith.muli", "arith.andi", "arith.ori"),
        *("arith.xori", "arith.maximumf", "arith.minimumf", "arith.maxsi", "arith.minsi"),
    )
)
ONE = constant(1)
ZERO = constant(0)
Pairs: TypeAlias = tuple[tuple[Load, Load], ...]


@dataclass(eq=False)
class Difference(Exception):
    """The first place where a block is not what an intrinsic describes."""

    where: str
    expected: str
    got: str
    cure: str = ""
    # How much had been found equal before.
    agreed: int = 0

    def __str__(self) -> str:
        return f"{self.where}: expected {self.expected}, got {self.got}"


@dataclass(frozen=True)
class Tile:
    """What a block does: one store for all points of iterators, where a condition holds."""

    iterators: Mapping[str, Expression]
    target: Load
    value: Scalar
    condition: Scalar | None = None


@dataclass(frozen=True)
class Match:
    """The operands of a call that does what the block does; the condition if it does so in part."""

    operands: tuple[Operand, ...]
    condition: Scalar | None = None


def tile_of(block: Block, ranges: Ranges) -> Tile:
    """Returns the one store of a block over its loops; raises Difference for any other body."""
    iterators: dict[str, Expression] = {}
    statements: Body = block.body
    names: dict[str, Expression] = {}
    while len(statements) == 1:
        match statements[0]:
            case Loop(name, extent, inner):
                iterators[name] = simplify(extent, ranges)
                statements = inner
            case Block() as inner_block:
                names |= _bindings(inner_block, names)
                statements = inner_block.body
            case Store(buffer, indices, value):
                store = substitute((Store(buffer, indices, value),), names)[0]
                return _tile(store, iterators)
            case Guard():
                raise Difference("body", "a store", "a guard", "pad the block", agreed=2)
            case _:
                raise Difference("body", "loops around one store", "a call", agreed=1)
    raise Difference("body", "loops around one store", f"{len(statements)} statements", agreed=1)


def _bindings(block: Block, outer: Mapping[str, Expression]) -> dict[str, Expression]:
    if block.predicate:
        bound = block.predicate[0]
        raise Difference(
            "predicate",
            "a whole tile",
            f"points where {bound.left} < {bound.right}",
            "pad the extents to multiples of the tile with pad_einsum",
            agreed=2,
        )
    if block.init:
        raise Difference(
            f"block '{block.name}'", "no init", "an init", "decompose the reduction", agreed=2
        )
    return {axis.name: axis.binding.substitute(outer) for axis in block.axes}


def _tile(store: object, iterators: dict[str, Expression]) -> Tile:
    if not isinstance(store, Store):
        raise AssertionError("a store stays a store")
    dtype = store.value.dtype
    target = Load(store.buffer, store.indices, dtype)
    moving = {name: extent for name, extent in iterators.items() if extent != ONE}
    fixed = {name: ZERO for name, extent in iterators.items() if extent == ONE}
    if fixed:
        (changed,) = substitute((store,), fixed)
        return _tile(changed, moving)
    return Tile(moving, target, store.value)


def _with_condition(tile: Tile) -> Tile:
    """Returns a tile whose value is 0 but where a condition holds for all of it, or as it is."""
    value, conditions = tile.value, list[Scalar]()
    while isinstance(value, Apply) and value.op == "arith.select":
        given, yes, no = value.operands
        if not _is_zero(no) or _names(given) & tile.iterators.keys():
            break
        conditions.append(given)
        value = yes
    if not conditions:
        return tile
    return replace(tile, value=value, condition=conjunction(conditions))


def _simplified(tile: Tile, ranges: Ranges) -> Tile:
    """Returns a tile without the quotients that are known within it: those of packed layouts."""
    for name, extent in tile.iterators.items():
        ranges = ranges if name in ranges else ranges.also(name, 0, extent - 1)
    rebuild = ScalarMap(lambda index: simplify(index, ranges) if index.depth else index)
    target = rebuild(tile.target)
    assert isinstance(target, Load)
    return Tile(tile.iterators, target, rebuild(tile.value))


def _is_zero(value: Scalar) -> bool:
    return isinstance(value, Constant) and value.value == 0


def _names(value: Scalar) -> set[str]:
    names: set[str] = set()
    for node in walk_scalar(value):
        if isinstance(node, Index):
            names |= node.expression.symbols()
        elif isinstance(node, Load):
            for index in node.indices:
                names |= index.symbols() if isinstance(index, Expression) else set[str]()
    return names


def description_tile(intrinsic: Intrinsic) -> Tile:
    """Returns the store of an intrinsic's description."""
    description = intrinsic.description
    return tile_of(Block(description.name, (), (), (), description.body), description.ranges)


def match(block: Block, intrinsic: Intrinsic, program: Program, ranges: Ranges) -> Match:
    """
    Returns the operands with which the intrinsic does what the block does.

    `ranges` are those inside the block. Raises Difference, the one furthest into the comparison.
    """
    got = _with_condition(_simplified(tile_of(block, ranges), ranges))
    wanted = description_tile(intrinsic)
    furthest: Difference | None = None
    found: list[Difference] = []
    if got.target.dtype != wanted.target.dtype:
        raise Difference(
            f"dtype of '{got.target.buffer}'", wanted.target.dtype, got.target.dtype, agreed=3
        )
    if got.condition is not None and not isinstance(wanted.value, Load):
        raise Difference("value", text_of(wanted.value), "arith.select", agreed=3)
    matching = _Matching(intrinsic, program, ranges, got, wanted)
    for pairs in paired(wanted.value, got.value, "value", found):
        try:
            return matching.operands(((wanted.target, got.target), *pairs))
        except Difference as difference:
            found.append(difference)
    for difference in found:
        if furthest is None or difference.agreed > furthest.agreed:
            furthest = difference
    if furthest is None:
        raise AssertionError("what does not match has a difference")
    raise furthest


def paired(
    wanted: Scalar, got: Scalar, where: str, found: list[Difference], depth: int = 4
) -> Iterator[Pairs]:
    """Yields the ways in which two scalars are the same: which loads stand for which."""
    match wanted, got:
        case Load(), Load():
            if wanted.dtype == got.dtype:
                yield ((wanted, got),)
                return
            found.append(
                Difference(f"dtype of '{got.buffer}'", wanted.dtype, got.dtype, agreed=depth)
            )
        case Apply(), Apply() if (wanted.op, wanted.dtype) == (got.op, got.dtype):
            yield from _paired_operands(wanted, got, where, found, depth)
        case Constant(), Constant() if (wanted.value, wanted.dtype) == (got.value, got.dtype):
            yield ()
        case _:
            found.append(Difference(where, text_of(wanted), text_of(got), agreed=depth))


def _paired_operands(
    wanted: Apply, got: Apply, where: str, found: list[Difference], depth: int
) -> Iterator[Pairs]:
    if len(wanted.operands) == 1:
        inside = f"{where}, operand of {wanted.op}"
        yield from paired(wanted.operands[0], got.operands[0], inside, found, depth + 1)
        return
    orders = [got.operands]
    if wanted.op in COMMUTATIVE:
        orders.append(got.operands[::-1])
    for order in orders:
        yield from _product(wanted.operands, order, wanted.op, where, found, depth)


def _product(
    wanted: tuple[Scalar, ...],
    got: tuple[Scalar, ...],
    op: str,
    where: str,
    found: list[Difference],
    depth: int,
) -> Iterator[Pairs]:
    if not wanted:
        yield ()
        return
    inside = f"{where}, operand of {op}"
    for first in paired(wanted[0], got[0], inside, found, depth + 1):
        for rest in _product(wanted[1:], got[1:], op, where, found, depth + 1):
            yield (*first, *rest)


def text_of(value: Scalar) -> str:
    match value:
        case Apply(op, _, dtype):
            return f"{op} of {dtype}"
        case Load(buffer, _, dtype):
            return f"an element of '{buffer}' ({dtype})"
        case Constant(number, dtype):
            return f"{number} ({dtype})"
        case Variable(name, dtype):
            return f"the number '{name}' ({dtype})"
        case Index(expression):
            return f"the index {expression}"


@dataclass
class _Matching:
    """Finds which iterator stands for which, once it is known which buffers do."""

    intrinsic: Intrinsic
    program: Program
    ranges: Ranges
    got: Tile
    wanted: Tile

    def operands(self, pairs: Pairs) -> Match:
        """Returns the operands for loads that stand for one another; raises Difference."""
        accesses: dict[str, Load] = {}
        stands_for: dict[str, str] = {}
        for wanted, got in pairs:
            known = accesses.setdefault(wanted.buffer, got)
            if (known.buffer, known.indices) != (got.buffer, got.indices):
                raise Difference(
                    f"operand {wanted.buffer}",
                    f"one element, {_access(known)}",
                    _access(got),
                    agreed=20,
                )
        for wanted, got in pairs:
            self._iterators(wanted, got, stands_for)
        if left := [name for name in self.got.iterators if name not in stands_for]:
            raise Difference(
                "iterators",
                f"no others than {', '.join(stands_for) or 'none'}",
                f"'{left[0]}' of {self.got.iterators[left[0]]}",
                "take the loop out of the target",
                agreed=40,
            )
        self._distinct(accesses)
        operands = tuple(
            self._operand(buffer, requirement, accesses[buffer.name])
            for buffer, requirement in zip(
                self.intrinsic.buffers, self.intrinsic.operands, strict=True
            )
        )
        return Match(operands, self.got.condition)

    def _iterators(self, wanted: Load, got: Load, stands_for: dict[str, str]) -> None:
        moving = [
            name
            for axis, index in enumerate(got.indices)
            if (name := self._moving(got, axis, index)) is not None
        ]
        names = [_symbol_of(index) for index in wanted.indices]
        if len(moving) != len(names):
            raise Difference(
                f"operand {wanted.buffer}, {_access(got)}",
                f"{len(names)} iterators as indices",
                f"{len(moving)}",
                agreed=22,
            )
        for axis, (name, iterator) in enumerate(zip(names, moving, strict=True)):
            self._same(f"operand {wanted.buffer}, index {axis} of {_access(got)}", name, iterator)
            self._assign(wanted, got, axis, (name, iterator), stands_for)

    def _moving(self, got: Load, axis: int, index: object) -> str | None:
        where = f"index {axis} of {_access(got)}"
        if not isinstance(index, Expression):
            raise Difference(where, "an iterator", "an index that depends on data", agreed=21)
        fixed = separate(index, self.got.iterators)
        if fixed is None or isinstance(moving := index - fixed, int):
            raise Difference(where, "a sum of iterators", str(index), agreed=21)
        if moving == ZERO:
            return None
        if moving.symbol_name is None:
            raise Difference(
                where,
                "one iterator of stride 1",
                str(moving),
                "make it one with reindex or transform_layout",
                agreed=21,
            )
        return moving.symbol_name

    def _same(self, where: str, name: str, iterator: str) -> None:
        wanted, got = self.wanted.iterators[name], self.got.iterators[iterator]
        if not prove_eq(wanted, got, self.ranges):
            raise Difference(
                where,
                f"{wanted} iterations ('{name}')",
                f"{got} ('{iterator}')",
                f"split '{iterator}' by {wanted}",
                agreed=31,
            )

    def _assign(
        self, wanted: Load, got: Load, axis: int, pair: tuple[str, str], stands_for: dict[str, str]
    ) -> None:
        name, iterator = pair
        taken = {known: other for other, known in stands_for.items()}.get(name)
        if stands_for.setdefault(iterator, name) != name or taken not in (None, iterator):
            raise Difference(
                f"operand {wanted.buffer}, index {axis} of {_access(got)}",
                f"the iterator '{taken or name}'",
                f"'{iterator}'",
                "take the form of the intrinsic with the other layout, or transpose the operand",
                agreed=30,
            )

    def _distinct(self, accesses: Mapping[str, Load]) -> None:
        written = accesses[self.wanted.target.buffer].buffer
        for name, access in accesses.items():
            if name != self.wanted.target.buffer and access.buffer == written:
                raise Difference(
                    f"operand {name}", "a buffer that is not written", f"'{written}'", agreed=41
                )

    def _operand(self, wanted: Buffer, requirement: Requirement, got: Load) -> Operand:
        buffer = self.program.buffers[got.buffer]
        region = self._region(got)
        where = f"operand {wanted.name}"
        if buffer.scope not in requirement.scopes:
            scopes = " or ".join(sorted(requirement.scopes))
            raise Difference(
                where,
                f"a buffer of scope {scopes}",
                f"'{buffer.name}' of scope {buffer.scope}",
                "stage it with cache_read or cache_write",
                agreed=50,
            )
        self._check_tile(where, requirement, region, buffer)
        self._check_alignment(where, requirement, region, buffer)
        return Operand(region, requirement.mode)

    def _region(self, got: Load) -> Region:
        parts: list[Range] = []
        for index in got.indices:
            if not isinstance(index, Expression):
                raise AssertionError("indices that depend on data are refused before")
            fixed = separate(index, self.got.iterators)
            if fixed is None:
                raise AssertionError("indices are sums")
            name = (index - fixed).symbol_name
            parts.append(Range(fixed, ONE if name is None else self.got.iterators[name]))
        return Region(got.buffer, tuple(parts))

    def _check_tile(
        self, where: str, requirement: Requirement, region: Region, buffer: Buffer
    ) -> None:
        if (tile := requirement.tile) is None:
            return
        sizes = (tile.rows, tile.columns)
        kept = [part for part in region.ranges if part.extent != ONE]
        for part, size in zip(kept, sizes[::-1] if tile.transposed else sizes, strict=True):
            if not prove_divisible(part.start, size, self.ranges):
                raise Difference(
                    where,
                    f"a region of '{buffer.name}' that begins at a multiple of {size}",
                    f"{part.start}",
                    agreed=51,
                )

    def _check_alignment(
        self, where: str, requirement: Requirement, region: Region, buffer: Buffer
    ) -> None:
        if not requirement.alignment:
            return
        strides = divisible_strides(buffer)
        whole = [part.extent != ONE for part in region.ranges]
        if any(whole) and not (whole[-1] and strides[-1] == ONE):
            raise Difference(
                where,
                f"neighbours in memory along the last index of '{buffer.name}'",
                "another index that moves",
                agreed=52,
            )
        elements = max(1, requirement.alignment // buffer.element_bytes)
        # A buffer of the program's own gets its strides when it is compacted.
        is_own = buffer.scope is not Scope.GLOBAL
        offset = ZERO if not is_own else region.ranges[-1].start
        for part, stride in zip(region.ranges, strides, strict=True):
            offset = offset if is_own else offset + part.start * stride
        rows = [stride for stride, moves in zip(strides[:-1], whole, strict=False) if moves]
        for value in (offset, *([] if is_own else rows)):
            if not prove_divisible(value, elements, self.ranges):
                raise Difference(
                    where,
                    f"addresses in '{buffer.name}' at multiples of {requirement.alignment} bytes",
                    f"the element {offset}" if value is offset else f"rows of {value} elements",
                    agreed=53,
                )


def _symbol_of(index: object) -> str:
    name = index.symbol_name if isinstance(index, Expression) else None
    if name is None:
        raise AssertionError("a description is indexed by its iterators")
    return name


def _access(load: Load) -> str:
    return f"{load.buffer}[{', '.join(map(str, load.indices))}]"
