"""
Finds the ways in which a tensor intrinsic can do a block's work.

Any sum of products will do: convolutions, batched and transposed matrix products. Which operands
an iterator indexes is its characteristic vector. Iterators of the block whose vector is that of an
iterator of the intrinsic may be fused into it; all choices of them are proposed, those that are
left out stay loops around.

Source: TensorIR, ASPLOS 2023, section 4.2; the shipped proposer makes at most one mapping.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations, product

from ..dialects.nest.intrinsics import Intrinsic, intrinsic_named, variants_of
from ..dialects.nest.program import AxisKind, Block, Program, Scope, Store
from ..dialects.nest.scalars import Load
from ..dialects.sym import Expression, ceildiv, constant
from .schedule.caching import CacheRead, CacheWrite
from .schedule.intrinsic_match import Difference, Tile, description_tile, paired
from .schedule.matricize import (
    AxisGroup,
    Matricize,
    accesses_by_buffer,
    characteristic,
    einsum_difference,
)
from .schedule.primitive import Primitive
from .schedule.reorder import Reorder
from .schedule.split import Split
from .schedule.tensorize import Tensorize

Vector = tuple[bool, ...]


@dataclass(frozen=True)
class Proposal:
    """
    One way to do a block's work with an intrinsic.

    `groups` gives the axes of the block that become each iterator of the intrinsic; `around` are
    those that stay loops. `operands` gives the buffer of the block for each of the intrinsic.
    `padding` is the work with padding over the work without, where the
    extents are known, else 1.
    """

    intrinsic: str
    groups: Mapping[str, tuple[str, ...]]
    around: tuple[str, ...]
    operands: Mapping[str, str]
    padding: float
    _schedule: Callable[[], tuple[Primitive, ...]] = field(repr=False, compare=False)

    @cached_property
    def steps(self) -> tuple[Primitive, ...]:
        """The schedule: matrix form, tiles, copies to where the operands have to be, the call."""
        return self._schedule()


class NoMappingError(ValueError):
    """An intrinsic can't do a block's work; the message says why."""


def propose(program: Program, block: str, intrinsic: str) -> tuple[Proposal, ...]:
    """
    Returns every mapping of a block to an intrinsic, those with the least padding first.

    `intrinsic` is a name, or the beginning of the names of several that differ in the layout of
    operands. Raises NoMappingError for a block that is no sum of products, or one of others dtypes
    or operations than the intrinsic's.
    """
    found = program.block(block)
    if found is None:
        raise NoMappingError(f"expected a block of the program, got '{block}'")
    if difference := einsum_difference(found):
        raise NoMappingError(f"expected a sum of products, got {difference}")
    variants = tuple(map(intrinsic_named, variants_of(intrinsic)))
    proposals = [
        proposal
        for operands in _operands(found, variants[0])
        for proposal in _Mapper(program, found, variants, operands).proposals()
    ]
    if not proposals:
        raise NoMappingError(
            f"expected axes of '{block}' that index the operands as those of '{intrinsic}' do"
        )
    return tuple(sorted(proposals, key=lambda p: (p.padding, -sum(map(len, p.groups.values())))))


def _store_of(block: Block) -> Store:
    (store,) = block.body
    if not isinstance(store, Store):
        raise AssertionError("a sum of products is one store")
    return store


def _operands(block: Block, intrinsic: Intrinsic) -> Iterator[Mapping[str, Load]]:
    """Yields the ways in which the block's operands can be the intrinsic's."""
    store = _store_of(block)
    wanted = description_tile(intrinsic)
    differences: list[Difference] = []
    target = Load(store.buffer, store.indices, store.value.dtype)
    seen: list[dict[str, Load]] = []
    for pairs in paired(wanted.value, store.value, "value", differences):
        operands = {wanted.target.buffer: target} | {one.buffer: other for one, other in pairs}
        if operands[wanted.target.buffer].buffer == store.buffer and operands not in seen:
            seen.append(operands)
            yield operands
    if not seen:
        raise NoMappingError(f"{max(differences, key=lambda d: d.agreed)}")


@dataclass
class _Mapper:
    """Makes proposals for one choice of operands."""

    program: Program
    block: Block
    variants: Sequence[Intrinsic]
    operands: Mapping[str, Load]

    @cached_property
    def _orders(self) -> Mapping[str, Mapping[str, tuple[str, ...]]]:
        """The order of iterators in the indices of each operand, of each variant by name."""
        return {one.name: _orders(description_tile(one), one) for one in self.variants}

    def proposals(self) -> Iterator[Proposal]:
        """Yields the mappings, one for each choice of axes for the intrinsic's iterators."""
        tile = description_tile(self.variants[0])
        wanted = _vectors(tile, list(self.operands))
        candidates: list[list[str]] = []
        for name, vector in wanted.items():
            kind = _kind(tile, name)
            candidates.append(
                [
                    axis.name
                    for axis in self.block.axes
                    if characteristic(axis.name, self.operands) == vector
                    and (axis.kind is AxisKind.SPATIAL) == kind
                ]
            )
        for choice in product(*map(_subsets, candidates)):
            yield self._proposal(tile, dict(zip(wanted, choice, strict=True)))

    def _proposal(self, tile: Tile, groups: dict[str, tuple[str, ...]]) -> Proposal:
        intrinsic = self._variant(groups)
        orders = self._orders[intrinsic.name]
        grouped = {axis for axes in groups.values() for axis in axes}
        sizes = {name: _size(tile.iterators[name]) for name in groups}
        layouts = tuple(
            (access.buffer, orders[operand]) for operand, access in self.operands.items()
        )
        step = Matricize(
            self.block.name,
            tuple(AxisGroup(name, axes, sizes[name]) for name, axes in groups.items()),
            layouts,
            tuple(self.program.fresh_name(f"{name}_m") for name in groups),
        )
        return Proposal(
            intrinsic.name,
            groups,
            tuple(axis.name for axis in self.block.axes if axis.name not in grouped),
            {operand: access.buffer for operand, access in self.operands.items()},
            self._padding(groups, sizes),
            lambda: (step, *self._tiling(step, intrinsic, sizes)),
        )

    def _variant(self, groups: Mapping[str, tuple[str, ...]]) -> Intrinsic:
        """Returns the form whose operands move along the last index as the block's do."""

        def agreement(intrinsic: Intrinsic) -> int:
            orders = self._orders[intrinsic.name]
            return sum(
                any(axis in _last_moving(access) for axis in groups[orders[operand][-1]])
                for operand, access in self.operands.items()
                if orders[operand]
            )

        return max(self.variants, key=agreement)

    def _tiling(
        self, step: Matricize, intrinsic: Intrinsic, sizes: Mapping[str, int]
    ) -> tuple[Primitive, ...]:
        """Returns the steps that make tiles, stage operands where they have to be, and call."""
        program = step.apply(self.program)
        steps: list[Primitive] = []

        def take(primitive: Primitive) -> None:
            nonlocal program
            steps.append(primitive)
            program = primitive.apply(program)

        inner: list[str] = []
        outer: list[str] = []
        for name, size in zip(step.names, sizes.values(), strict=True):
            pair = (program.fresh_name(f"{name}_o"), program.fresh_name(f"{name}_i"))
            take(Split(name, (None, size), pair, exact=True))
            outer.append(pair[0])
            inner.append(pair[1])
        take(Reorder((*outer, *inner)))
        for access, requirement in zip(
            _accessed(program, self.block, self.operands), intrinsic.operands, strict=True
        ):
            if len(requirement.scopes) == 1 and Scope.GLOBAL not in requirement.scopes:
                (scope,) = requirement.scopes
                cache = CacheWrite if requirement.mode.value == "update" else CacheRead
                take(cache(self.block.name, access, scope))
        take(Tensorize(inner[0], intrinsic.name, precision=intrinsic.precision))
        return tuple(steps)

    def _padding(self, groups: Mapping[str, tuple[str, ...]], sizes: Mapping[str, int]) -> float:
        extents = {axis.name: axis.extent for axis in self.block.axes}
        ratio = 1.0
        for name, axes in groups.items():
            whole = constant(1)
            for axis in axes:
                whole = whole * extents[axis]
            padded = (ceildiv(whole, sizes[name]) * sizes[name]).constant_value
            if padded is not None and whole.constant_value:
                ratio *= padded / whole.constant_value
        return ratio


def _subsets(axes: Sequence[str]) -> list[tuple[str, ...]]:
    """Returns the non-empty subsets in the order of the block, the largest first."""
    return [subset for count in range(len(axes), 0, -1) for subset in combinations(axes, count)]


def _vectors(tile: Tile, operands: Sequence[str]) -> dict[str, Vector]:
    """Returns the characteristic vectors of an intrinsic's iterators over its operands."""
    accesses = {tile.target.buffer: tile.target} | {load.buffer: load for load in _loads(tile)}
    ordered = {name: accesses[name] for name in operands}
    return {name: characteristic(name, ordered) for name in tile.iterators}


def _loads(tile: Tile) -> Sequence[Load]:
    store = Store(tile.target.buffer, tile.target.indices, tile.value)
    return list(accesses_by_buffer(store).values())


def _kind(tile: Tile, name: str) -> bool:
    """Whether an iterator of the intrinsic is spatial: it indexes what is written."""
    return characteristic(name, {"": tile.target})[0]


def _orders(tile: Tile, intrinsic: Intrinsic) -> dict[str, tuple[str, ...]]:
    accesses = {load.buffer: load for load in _loads(tile)}
    return {
        buffer.name: tuple(
            index.symbol_name or ""
            for index in accesses[buffer.name].indices
            if isinstance(index, Expression)
        )
        for buffer in intrinsic.buffers
    }


def _last_moving(access: Load) -> frozenset[str]:
    last = access.indices[-1] if access.indices else constant(0)
    return last.symbols() if isinstance(last, Expression) else frozenset[str]()


def _size(extent: Expression) -> int:
    value = extent.constant_value
    if value is None:
        raise AssertionError("the extents of an intrinsic are numbers")
    return value


def _accessed(program: Program, block: Block, operands: Mapping[str, Load]) -> list[str]:
    """Returns the buffers that stand for the operands in the product that `matricize` made."""
    found = program.block(block.name)
    if found is None:
        raise AssertionError(f"{block.name} is a block of the program")
    # The product has the same tree, so that its operands come in the same order.
    old, new = (accesses_by_buffer(_store_of(one)) for one in (block, found))
    names = dict(zip(old, new, strict=True))
    return [names[access.buffer] for access in operands.values()]
