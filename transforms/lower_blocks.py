"""
Dissolves blocks: what is left are loops, guards, stores and calls.

    for k in 0..n                          for i_init in 0..8
        for i in 0..8                          C[i_init] = 0
            @C vi = i, reduce vk = k   -->  for k in 0..n
                init C[vi] = 0                 for i in 0..8
                C[vi] += A[vi, vk]                 C[i] += A[i, k]

Axes are replaced by their bindings, predicates become guards. What initialises a reduction is
hoisted before its loops where that is legal, and guarded where it is not. A guard stands outside
the loops that it does not name.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain

from ..dialects.nest.program import (
    AxisKind,
    Block,
    Body,
    Call,
    Guard,
    Loop,
    Program,
    Statement,
    Store,
    walk,
)
from ..dialects.nest.program import Range as Interval
from ..dialects.nest.rewriting import Rewriter
from ..dialects.nest.scalars import Scalar, Subscript, loads_of
from ..dialects.sym import Expression, Ranges, constant, prove_le, prove_lt, simplify, symbol
from ..dialects.sym.expression import Symbol
from .coarse_bounds import coarse
from .conditions import (
    condition_of,
    conjunction,
    conjuncts,
    holds,
    is_fixed,
    is_zero,
    less,
    merge_guards,
    names_of,
    under,
)
from .nest_pass import NestPass
from .separation import are_separated

_ONE = constant(1)


@dataclass(frozen=True)
class LowerBlocksPass(NestPass):
    """Dissolves the blocks of nests into loops, guards and stores."""

    name = "lower-blocks"

    def transform(self, program: Program) -> Program:
        """Returns the program without blocks."""
        return lower_blocks(program)


def lower_blocks(program: Program) -> Program:
    """Returns the program without blocks."""
    lowering = _Lowering(program)
    body = lowering.body(program.body, {}, program.ranges)
    return replace(program, body=merge_guards(lowering.settled(body, program.ranges)))


class IndexRewriter(Rewriter):
    """Replaces names and simplifies the indices that have quotients, minima or maxima."""

    def __init__(self, names: Mapping[str, Expression], ranges: Ranges) -> None:
        super().__init__(names or {"": constant(0)})
        self._names = names
        self._ranges = ranges
        self._images: dict[Expression, Expression] = {}

    def expression(self, value: Expression) -> Expression:
        """Returns an index expression with names replaced, simplified."""
        image = self._images.get(value)
        if image is None:
            image = value.substitute(self._names)
            if any(not isinstance(atom, Symbol) for atom in image.variables()):
                image = simplify(image, self._ranges)
            self._images[value] = image
        return image


@dataclass(frozen=True)
class _Initialisation(Guard):
    """
    What a block does where its reduce axes are at 0, on its way out of the loops.

    It stands before the `own` statements of the block. `condition` is the block's predicate.
    `spatial` and `reduce` are the bindings of the block's axes.
    """

    spatial: tuple[Expression, ...] = ()
    reduce: tuple[Expression, ...] = ()
    own: int = 1
    may_move: bool = False
    # The loops it was moved out of with a copy around it, with their extents.
    copied: Mapping[str, Expression] = field(default_factory=dict[str, Expression])

    @property
    def pending(self) -> frozenset[str]:
        """The loops and symbols that decide whether the reduce axes are at 0."""
        return frozenset(chain.from_iterable(value.symbols() for value in self.reduce))


class _Lowering:
    """Lowers the body of one program; `around` are the loops that are open."""

    def __init__(self, program: Program) -> None:
        self._taken = set(program.names)
        self._around: dict[str, Loop] = {}
        self._written = _written(program.body)

    def body(self, body: Body, names: Mapping[str, Expression], ranges: Ranges) -> Body:
        """Returns statements without blocks; initialisations may still move out of loops."""
        rewriter = IndexRewriter(names, ranges)
        return tuple(chain.from_iterable(self._statement(s, rewriter, names, ranges) for s in body))

    def settled(self, body: Body, ranges: Ranges) -> Body:
        """Returns statements in which initialisations are guards, where they now stand."""
        result: list[Statement] = []
        for statement in body:
            if isinstance(statement, _Initialisation):
                zeros = map(is_zero, statement.reduce)
                conditions = (*conjuncts(statement.condition), *zeros)
                result += under((c for c in conditions if not holds(c, ranges)), statement.body)
            else:
                result.append(statement)
        return tuple(result)

    def _statement(
        self,
        statement: Statement,
        rewriter: IndexRewriter,
        names: Mapping[str, Expression],
        ranges: Ranges,
    ) -> Iterable[Statement]:
        match statement:
            case Loop():
                return self._loop(statement, rewriter.expression(statement.extent), names, ranges)
            case Block():
                return self._block(statement, rewriter, names, ranges)
            case Guard(condition, body):
                inner = merge_guards(self.settled(self.body(body, names, ranges), ranges))
                return (Guard(rewriter.scalar(condition), inner),)
            case Store() | Call():
                return (rewriter.statement(statement),)

    def _loop(
        self, loop: Loop, extent: Expression, names: Mapping[str, Expression], ranges: Ranges
    ) -> Iterable[Statement]:
        if (count := extent.constant_value) is not None and count < 1:
            return ()
        loop = replace(loop, extent=extent)
        inside = ranges.also(loop.name, 0, extent - 1)
        self._around[loop.name] = loop
        inner = self.body(loop.body, names, inside)
        del self._around[loop.name]
        moved: list[Statement] = []
        kept: list[Statement] = []
        for position, statement in enumerate(inner):
            if isinstance(statement, _Initialisation):
                others = inner[:position] + inner[position + 1 + statement.own :]
                if out := self._moved_out(statement, loop, others, ranges):
                    moved.append(out)
                    continue
            kept.append(statement)
        body = merge_guards(self.settled(tuple(kept), inside))
        return (*moved, *_hoist_guard(replace(loop, body=body)))

    def _block(
        self,
        block: Block,
        rewriter: IndexRewriter,
        names: Mapping[str, Expression],
        ranges: Ranges,
    ) -> Iterable[Statement]:
        bindings = {a.name: simplify(rewriter.expression(a.binding), ranges) for a in block.axes}
        inside = {**names, **bindings}
        bounds = (condition_of(coarse(rewriter.bound(bound), ranges)) for bound in block.predicate)
        conditions = [bound for bound in bounds if not holds(bound, ranges)]
        body = tuple(
            _guarded(statement, conditions) for statement in self.body(block.body, inside, ranges)
        )
        if not block.init:
            return body
        kinds = {
            kind: tuple(bindings[axis.name] for axis in block.axes_of(kind)) for kind in AxisKind
        }
        init = self.settled(self.body(block.init, inside, ranges), ranges)
        reduce = (*kinds[AxisKind.REDUCE], *kinds[AxisKind.ORDERED])
        initialisation = _Initialisation(
            conjunction(conditions),
            init,
            kinds[AxisKind.SPATIAL],
            tuple(value for value in reduce if value.constant_value != 0),
            len(body),
            not kinds[AxisKind.ORDERED] and self._is_local(block, init),
        )
        return (initialisation, *body)

    def _is_local(self, block: Block, init: Body) -> bool:
        """Whether a point of the block reads of what init writes only what it writes itself."""
        writes = {region.buffer: region for region in block.writes}
        reads = {region.buffer: region for region in block.reads}
        return self._written.isdisjoint(_read(init)) and all(
            buffer not in reads or reads[buffer] == writes.get(buffer) for buffer in _written(init)
        )

    def _moved_out(
        self, init: _Initialisation, loop: Loop, others: Body, ranges: Ranges
    ) -> _Initialisation | None:
        """Returns an initialisation that runs before a loop instead of in it, if that is legal."""
        touched = _written(init.body)
        if not init.may_move or loop.kind.is_block or not init.pending:
            return None
        if not touched.isdisjoint(_written(others) | _read(others)):
            return None
        if loop.name in init.pending:
            return self._out_of_reduction(init, loop, ranges)
        return self._with_copy(init, loop, ranges)

    def _out_of_reduction(
        self, init: _Initialisation, loop: Loop, ranges: Ranges
    ) -> _Initialisation | None:
        """The reduce axes are at 0 only in the loop's first iteration."""
        if loop.kind.is_concurrent or any(loop.name in value.symbols() for value in init.spatial):
            return None
        rest: list[Expression] = []
        inside = ranges
        for name, extent in init.copied.items():
            inside = inside.also(name, 0, extent - 1)
        for value in init.reduce:
            factor, others = value.split(Symbol(loop.name))
            if loop.name in factor.symbols() | others.symbols():
                return None
            # A sum of what is not negative is 0 where each summand is.
            if factor.terms and not (prove_lt(0, factor, ranges) and prove_le(0, others, ranges)):
                return None
            rest.append(others)
        first = IndexRewriter({loop.name: constant(0)}, inside)
        runs = () if prove_lt(0, loop.extent, ranges) else (less(constant(0), loop.extent),)
        conditions = [*runs, *map(first.scalar, conjuncts(init.condition))]
        return replace(
            init,
            condition=conjunction(c for c in conditions if not holds(c, inside)),
            body=first.body(init.body),
            reduce=tuple(value for value in rest if value.constant_value != 0),
            own=1,
        )

    def _with_copy(
        self, init: _Initialisation, loop: Loop, ranges: Ranges
    ) -> _Initialisation | None:
        """The initialisation of all iterations comes first, in a loop of its own."""
        if not any(
            name in self._around and not self._around[name].kind.is_concurrent
            for name in init.pending
        ):
            return None
        copied = {**init.copied, loop.name: loop.extent}
        starts = [Interval(value, _ONE) for value in init.spatial]
        inside = ranges
        for name, extent in copied.items():
            inside = inside.also(name, 0, extent - 1)
        if not are_separated(starts, copied, inside):
            return None
        name = self._fresh(f"{loop.name}_init")
        renamed = Rewriter({loop.name: symbol(name)})
        body = renamed.body(under(conjuncts(init.condition), init.body))
        (copy,) = _hoist_guard(replace(loop, name=name, body=body, annotations={}))
        around = copy.condition if isinstance(copy, Guard) else conjunction(())
        return replace(
            init,
            condition=around,
            body=copy.body if isinstance(copy, Guard) else (copy,),
            spatial=tuple(map(renamed.expression, init.spatial)),
            own=1,
            copied={**init.copied, name: loop.extent},
        )

    def _fresh(self, name: str) -> str:
        free, number = name, 1
        while free in self._taken:
            free, number = f"{name}_{number}", number + 1
        self._taken.add(free)
        return free


def _guarded(statement: Statement, conditions: list[Scalar]) -> Statement:
    """Returns a statement under conditions; an initialisation may still move."""
    if not conditions:
        return statement
    if isinstance(statement, _Initialisation):
        condition = conjunction((*conditions, *conjuncts(statement.condition)))
        return replace(statement, condition=condition)
    return Guard(conjunction(conditions), (statement,))


def _hoist_guard(loop: Loop) -> Body:
    """Moves what a guard that is all of a loop's body says of other names out of the loop."""
    match loop.body:
        case (Guard(condition, body),) if not loop.kind.is_bound:
            parts = conjuncts(condition)
            out = [c for c in parts if is_fixed(c) and loop.name not in names_of(c)]
            kept = under((c for c in parts if c not in out), body)
            return under(out, (replace(loop, body=kept),))
        case ():
            return ()
        case _:
            return (loop,)


def _written(body: Body) -> frozenset[str]:
    written: set[str] = set()
    for statement in walk(body):
        if isinstance(statement, Store):
            written.add(statement.buffer)
        elif isinstance(statement, Call):
            written.update(o.region.buffer for o in statement.operands if o.is_written)
    return frozenset(written)


def _read(body: Body) -> frozenset[str]:
    read: set[str] = set()
    for statement in walk(body):
        match statement:
            case Store(_, indices, value):
                read.update(
                    load.buffer
                    for scalar in (value, *_scalars(indices))
                    for load in loads_of(scalar)
                )
            case Guard(condition, _):
                read.update(load.buffer for load in loads_of(condition))
            case Call(_, operands):
                read.update(o.region.buffer for o in operands if o.is_read)
            case _:
                pass
    return frozenset(read)


def _scalars(indices: tuple[Subscript, ...]) -> Iterable[Scalar]:
    return (index for index in indices if not isinstance(index, Expression))
