"""Brings a sum of products to the form of a matrix product: axes fused, padded, operands copied."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import ClassVar

from ...dialects.nest.program import (
    Axis,
    AxisKind,
    Block,
    Body,
    Buffer,
    Loop,
    Program,
    Statement,
    Store,
)
from ...dialects.nest.regions import touched
from ...dialects.nest.scalars import (
    Apply,
    Constant,
    Index,
    Load,
    Scalar,
    ScalarMap,
    is_float,
    loads_of,
)
from ...dialects.sym import (
    Expression,
    ceildiv,
    constant,
    floordiv,
    minimum,
    mod,
    prove_eq,
    simplify,
    symbol,
)
from .primitive import Primitive, place_of

ONE = constant(1)


@dataclass(frozen=True)
class AxisGroup:
    """Axes of a block that become one, the last the fastest, padded to a multiple."""

    name: str
    axes: tuple[str, ...]
    multiple: int = 1


@dataclass(frozen=True)
class Matricize(Primitive):
    """
    Rewrites a sum of products over fused and padded axes; operands are copied where they differ.

        for n, h, w, o, c, p, q                            X_m[i, k] = X[...], 0 beyond
            Y[n, h, w, o] += X[n, h+p, w+q, c]             W_m[k, j] = W[...], 0 beyond
                           * W[p, q, c, o]         -->     for i, j, k
                                                               Y_m[i, j] += X_m[i, k] * W_m[k, j]
                                                           Y[n, h, w, o] = Y_m[...]

    `groups` says which axes become one; the others stay loops of their own, outermost. `layouts`
    gives, for each buffer of the block, the order of the groups that index it; an operand that is
    indexed so already is not copied.

    Legal if
    - `einsum`: the block adds a product of two loads to the element it writes, from 0 on, and
      indexes the element by its spatial axes, each once;
    - `nest`: each axis is bound to a loop of its own, and the loops are around the block alone,
      outermost in the program;
    - `groups`: each group has axes that index the same operands, of one kind, and none is in two;
    - `layouts`: each buffer's layout names the groups that index it.

    Source: TensorIR, ASPLOS 2023, section 4.2 (ReIndex and layout rewriting).
    """

    name: ClassVar[str] = "matricize"

    block: str
    groups: tuple[AxisGroup, ...]
    layouts: tuple[tuple[str, tuple[str, ...]], ...]
    names: tuple[str, ...] = ()

    def apply(self, program: Program) -> Program:
        """Returns the program with the product over fused axes."""
        block = self.block_of(program, self.block)
        place = place_of(program.places[self.block])
        store = self._store(block, place)
        self._check_nest(program, block, place)
        accesses = accesses_by_buffer(store)
        self._check_groups(block, accesses, place)
        form = _Form(program, block, self.groups, dict(self.layouts), self.result_names(program))
        return form.rewritten(store, accesses)

    def result_names(self, program: Program) -> tuple[str, ...]:
        """Returns the names of the loops of the groups, in their order."""
        defaults = tuple(group.name for group in self.groups)
        return self.new_names(program, self.names, defaults)

    def _store(self, block: Block, place: str) -> Store:
        difference = einsum_difference(block)
        if difference:
            raise self.refused("einsum", f"expected a sum of products, got {difference}", place)
        (store,) = block.body
        if not isinstance(store, Store):
            raise AssertionError("a sum of products is one store")
        return store

    def _check_nest(self, program: Program, block: Block, place: str) -> None:
        path = program.places[self.block]
        loops = [part for part in path[:-1] if isinstance(part, Loop)]
        alone = all(len(loop.body) == 1 for loop in loops)
        bound = {axis.binding.symbol_name for axis in block.axes}
        is_nest = len(loops) == len(path) - 1 and alone
        if not is_nest or bound != {loop.name for loop in loops} or len(bound) != len(block.axes):
            raise self.refused(
                "nest",
                "expected a loop for each axis around the block alone",
                place,
                "take this step before loops are split",
            )
        if block.predicate:
            raise self.refused("nest", "expected a block without a predicate", place)

    def _check_groups(self, block: Block, accesses: Mapping[str, Load], place: str) -> None:
        kinds = {axis.name: axis.kind for axis in block.axes}
        seen: set[str] = set()
        orders = dict(self.layouts)
        for group in self.groups:
            for axis in group.axes:
                if axis not in kinds or axis in seen:
                    known = ", ".join(kinds)
                    raise self.refused(
                        "groups", f"expected axes among {known}, each once, got '{axis}'", place
                    )
                seen.add(axis)
            vectors = {(kinds[a], characteristic(a, accesses)) for a in group.axes}
            if len(vectors) != 1 or group.multiple < 1:
                raise self.refused(
                    "groups",
                    f"expected axes of '{group.name}' that index the same operands, "
                    f"got {', '.join(group.axes) or 'none'}",
                    place,
                )
            for buffer, uses in zip(accesses, vectors.pop()[1], strict=True):
                if uses != (group.name in orders.get(buffer, ())):
                    raise self.refused(
                        "layouts",
                        f"expected the layout of '{buffer}' to name the groups that index it, "
                        f"got {', '.join(orders.get(buffer, ())) or 'none'}",
                        place,
                    )


def accesses_by_buffer(store: Store) -> dict[str, Load]:
    """Returns the accesses of a store, the written one first."""
    target = Load(store.buffer, store.indices, store.value.dtype)
    loads = {load.buffer: load for load in loads_of(store.value)}
    return {store.buffer: target} | loads


def characteristic(axis: str, accesses: Mapping[str, Load]) -> tuple[bool, ...]:
    """Returns which of the accesses an axis indexes: its characteristic vector."""
    return tuple(
        any(isinstance(i, Expression) and axis in i.symbols() for i in access.indices)
        for access in accesses.values()
    )


def einsum_difference(block: Block) -> str:
    """Returns what keeps a block from being a sum of products of two loads; empty if nothing."""
    if len(block.body) != 1 or not isinstance(store := block.body[0], Store):
        return "a body of other statements than one store"
    target = Load(store.buffer, store.indices, store.value.dtype)
    value = store.value
    if not isinstance(value, Apply) or value.op not in ("arith.addf", "arith.addi"):
        return "a value that is no sum"
    rest = [operand for operand in value.operands if operand != target]
    if len(rest) != 1 or not isinstance(rest[0], Apply):
        return "a sum without the element that is written"
    factors = rest[0]
    loads = list(loads_of(factors))
    if factors.op not in ("arith.mulf", "arith.muli") or len({a.buffer for a in loads}) != 2:
        return "a summand that is no product of two operands"
    if len(loads) != 2 or store.buffer in {load.buffer for load in loads}:
        return "a product that reads what is written, or one operand twice"
    if any(not isinstance(i, Expression) for load in loads for i in load.indices):
        return "an index that depends on data"
    return _init_difference(block, store)


def _init_difference(block: Block, store: Store) -> str:
    spatial = {axis.name for axis in block.axes_of(AxisKind.SPATIAL)}
    names = [i.symbol_name for i in store.indices if isinstance(i, Expression)]
    if set(names) != spatial or len(names) != len(store.indices) or len(names) != len(spatial):
        return f"an element of '{store.buffer}' that is not indexed by the spatial axes, each once"
    match block.init:
        case (Store(buffer, indices, Constant(value)),) if buffer == store.buffer:
            return "" if value == 0 and indices == store.indices else "an init that is not 0"
        case _:
            return "no init, or another than 0"


@dataclass
class _Form:
    """The matrix form of one block: new buffers, copies, loops and the block over them."""

    program: Program
    block: Block
    groups: tuple[AxisGroup, ...]
    orders: Mapping[str, tuple[str, ...]]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        self.axes = {axis.name: axis for axis in self.block.axes}
        grouped = {axis for group in self.groups for axis in group.axes}
        self.batch = tuple(axis for axis in self.block.axes if axis.name not in grouped)
        self.loops = {g.name: name for g, name in zip(self.groups, self.names, strict=True)}
        self.extents = {group.name: self._extent(group) for group in self.groups}
        self.by_name = {group.name: group for group in self.groups}
        self._taken = set(self.program.names) | set(self.names)

    def _extent(self, group: AxisGroup) -> Expression:
        whole = self._whole(group)
        padded = ceildiv(whole, group.multiple) * group.multiple
        return whole if self._is_exact(group) else simplify(padded, self.program.ranges)

    def _whole(self, group: AxisGroup) -> Expression:
        extents = [self.axes[axis].extent for axis in group.axes]
        return reduce(Expression.__mul__, extents, ONE)

    def _is_exact(self, group: AxisGroup) -> bool:
        whole = self._whole(group)
        padded = ceildiv(whole, group.multiple) * group.multiple
        return bool(prove_eq(whole, padded, self.program.ranges))

    def rewritten(self, store: Store, accesses: Mapping[str, Load]) -> Program:
        """Returns the program in this form."""
        nests: list[Statement] = []
        buffers: list[Buffer] = []
        after: list[Statement] = []
        targets: dict[str, str] = {}
        for buffer, access in accesses.items():
            if self._is_form(access):
                targets[buffer] = buffer
                continue
            copy = self._buffer(buffer)
            buffers.append(copy)
            targets[buffer] = copy.name
            if buffer == store.buffer:
                after.append(self._copy_back(copy, access))
            else:
                nests.append(self._copy(copy, access))
        program = replace(self.program, allocations=(*self.program.allocations, *buffers))
        nests.append(self._product(program, store, targets))
        outermost = self.program.loops_around(self.block.name)[0]
        return program.replace(outermost.name, *nests, *after)

    def _is_form(self, access: Load) -> bool:
        """Whether an operand is indexed as the product needs it, without padding."""
        wanted = [axis.name for axis in self._batch_of(access)]
        for name in self.orders[access.buffer]:
            group = self.by_name[name]
            if len(group.axes) != 1 or not self._is_exact(group):
                return False
            wanted.append(group.axes[0])
        return [i.symbol_name for i in access.indices if isinstance(i, Expression)] == wanted

    def _batch_of(self, access: Load) -> tuple[Axis, ...]:
        return tuple(axis for axis in self.batch if characteristic(axis.name, {"": access})[0])

    def _buffer(self, buffer: str) -> Buffer:
        access = self._access(buffer)
        shape = (
            *(axis.extent for axis in self._batch_of(access)),
            *(self.extents[name] for name in self.orders[buffer]),
        )
        name = self.program.fresh_buffer(f"{buffer}_m")
        return Buffer(name, shape, self.program.buffers[buffer].dtype)

    def _access(self, buffer: str) -> Load:
        (store,) = self.block.body
        if not isinstance(store, Store):
            raise AssertionError("a sum of products is one store")
        return accesses_by_buffer(store)[buffer]

    def _copy(self, target: Buffer, access: Load) -> Statement:
        """Returns `target[batch, groups] = access`, 0 beyond the extents."""
        axes, points, beyond = self._axes_of(target, access, self.orders[access.buffer])
        indices = tuple(
            i.substitute(points) if isinstance(i, Expression) else i for i in access.indices
        )
        value: Scalar = Load(access.buffer, indices, access.dtype)
        zero = Constant(0.0 if is_float(access.dtype) else 0, access.dtype)
        for condition in beyond:
            value = Apply("arith.select", (condition, value, zero), access.dtype)
        at = tuple(symbol(axis.name) for axis in axes)
        return self._nest(target.name, axes, (Store(target.name, at, value),), (), (target,))

    def _copy_back(self, source: Buffer, access: Load) -> Statement:
        """Returns `access = source[...]` over the spatial axes of the block."""
        axes = tuple(
            Axis(self._fresh(axis.name), axis.extent, ONE)
            for axis in self.block.axes_of(AxisKind.SPATIAL)
        )
        spatial = self.block.axes_of(AxisKind.SPATIAL)
        names = {old.name: symbol(new.name) for old, new in zip(spatial, axes, strict=True)}
        at = [names[axis.name] for axis in self._batch_of(access)]
        at += [self._fused(self.by_name[name], names) for name in self.orders[access.buffer]]
        indices = tuple(
            i.substitute(names) if isinstance(i, Expression) else i for i in access.indices
        )
        store = Store(access.buffer, indices, Load(source.name, tuple(at), source.dtype))
        return self._nest(access.buffer, axes, (store,), (), (source,))

    def _fused(self, group: AxisGroup, names: Mapping[str, Expression]) -> Expression:
        value = constant(0)
        for axis in group.axes:
            value = value * self.axes[axis].extent + names[axis]
        return value

    def _axes_of(
        self, target: Buffer, access: Load, order: Sequence[str]
    ) -> tuple[tuple[Axis, ...], dict[str, Expression], list[Scalar]]:
        """Returns axes for a copy, the block's axes over them, and where they are inside."""
        axes: list[Axis] = []
        points: dict[str, Expression] = {}
        beyond: list[Scalar] = []
        for axis in self._batch_of(access):
            axes.append(Axis(self._fresh(f"v{target.name}_{axis.name}"), axis.extent, ONE))
            points[axis.name] = symbol(axes[-1].name)
        for name in order:
            group = self.by_name[name]
            axes.append(Axis(self._fresh(f"v{target.name}_{name}"), self.extents[name], ONE))
            value = symbol(axes[-1].name)
            if not self._is_exact(group):
                whole = self._whole(group)
                beyond.append(Apply("arith.cmpi", (Index(value), Index(whole)), "i1", "slt"))
                value = minimum(value, whole - 1)
            points |= self._parts(group, value)
        return tuple(axes), points, beyond

    def _parts(self, group: AxisGroup, value: Expression) -> dict[str, Expression]:
        """Returns the axes of a group from the fused one."""
        points: dict[str, Expression] = {}
        for axis in reversed(group.axes[1:]):
            extent = self.axes[axis].extent
            points[axis] = mod(value, extent)
            value = floordiv(value, extent)
        points[group.axes[0]] = value
        return points

    def _product(self, program: Program, store: Store, targets: Mapping[str, str]) -> Statement:
        axes: list[Axis] = []
        names: dict[str, Expression] = {}
        for axis in self.batch:
            axes.append(axis)
            names[axis.name] = symbol(axis.name)
        fused: dict[str, Expression] = {}
        for group in self.groups:
            kind = self.axes[group.axes[0]].kind
            axes.append(Axis(self._fresh(f"v{group.name}"), self.extents[group.name], ONE, kind))
            fused[group.name] = symbol(axes[-1].name)

        def of_leaf(leaf: object) -> Load | None:
            if not isinstance(leaf, Load):
                return None
            batch = [names[a.name] for a in self._batch_of(leaf)]
            at = (*batch, *(fused[name] for name in self.orders[leaf.buffer]))
            return Load(targets[leaf.buffer], at, leaf.dtype)

        value = ScalarMap(of_leaf=of_leaf)(store.value)
        target = of_leaf(Load(store.buffer, store.indices, store.value.dtype))
        if target is None:
            raise AssertionError("a load has an image")
        (init,) = self.block.init
        if not isinstance(init, Store):
            raise AssertionError("the init of a sum of products is one store")
        loops = [axis.binding for axis in self.batch]
        loops += [symbol(self.loops[group.name]) for group in self.groups]
        bound = tuple(replace(a, binding=b) for a, b in zip(axes, loops, strict=True))
        return self._around(
            program,
            self.block.name,
            bound,
            [str(axis.binding) for axis in bound],
            (Store(target.buffer, target.indices, value),),
            (Store(target.buffer, target.indices, init.value),),
        )

    def _nest(
        self, name: str, axes: tuple[Axis, ...], body: Body, init: Body, new: Sequence[Buffer]
    ) -> Statement:
        loops = [self._fresh(axis.name.removeprefix("v")) for axis in axes]
        bound = tuple(
            replace(axis, binding=symbol(loop)) for axis, loop in zip(axes, loops, strict=True)
        )
        program = replace(self.program, allocations=(*self.program.allocations, *new))
        return self._around(program, self._fresh(name), bound, loops, body, init)

    def _around(
        self,
        program: Program,
        name: str,
        axes: tuple[Axis, ...],
        loops: list[str],
        body: Body,
        init: Body,
    ) -> Statement:
        ranges = program.ranges
        for axis in axes:
            ranges = ranges.also(axis.name, 0, axis.extent - 1)
        reads, writes = touched((*init, *body), ranges, program.buffers)
        statement: Statement = Block(name, axes, reads, writes, body, init)
        extents = {str(axis.binding): axis.extent for axis in axes}
        for loop in reversed(loops):
            statement = Loop(loop, extents[loop], (statement,))
        return statement

    def _fresh(self, name: str) -> str:
        free, number = name, 1
        while free in self._taken:
            free, number = f"{name}_{number}", number + 1
        self._taken.add(free)
        return free
