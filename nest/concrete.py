"""
A program for one set of values of its symbols: only loops, blocks, guards and stores are left.

Symbols become numbers, axes become what loops bind them to, and a call of a tensor intrinsic
becomes the body of its description on the regions of its operands. A loop whose index is taken
apart by division (as after a fusion) becomes one loop for each digit, in the same order, so that
all indices are linear.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import TypeAlias

from ..dialects.nest.program import (
    Block,
    Body,
    Buffer,
    Call,
    Guard,
    Loop,
    Operand,
    Program,
    Range,
    Region,
    Statement,
    Store,
)
from ..dialects.nest.program import walk as walk_statements
from ..dialects.nest.rewriting import Rewriter
from ..dialects.nest.scalars import Index, Load, Scalar, Subscript, Variable, walk_scalar
from ..dialects.sym import Expression, Ranges, constant, simplify, symbol
from ..dialects.sym.expression import Quotient
from .arguments import solve_shapes
from .values import NestError, Value, combine, value_of

Descriptions: TypeAlias = Mapping[str, Program]
MAX_PRIVATE = 1 << 24  # elements of a buffer with all the copies of it


class ExecutionError(NestError):
    """A program does something illegal while it is executed; block and buffer are named."""


@dataclass(frozen=True)
class Concrete:
    """Statements over loops alone, and the shapes and dtypes of all buffers they access."""

    body: Body
    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str]


def concrete(program: Program, symbols: Mapping[str, int], descriptions: Descriptions) -> Concrete:
    """Returns the program for values of the symbols; raises ExecutionError for unknown calls."""
    made = undivided(program, symbols, descriptions)
    return replace(made, body=_digits(made.body))


def undivided(
    program: Program,
    symbols: Mapping[str, int],
    descriptions: Descriptions,
    body: Body | None = None,
) -> Concrete:
    """
    Returns a program, or a part of its statements, with the loops that it has itself.

    Axes of blocks around the part are left in it.
    """
    program = private(program, symbols)
    maker = _Maker(program, symbols, descriptions)
    made = maker.body(Rewriter(symbols).body(program.body if body is None else body))
    return Concrete(made, maker.shapes, maker.dtypes)


def private(program: Program, symbols: Mapping[str, int]) -> Program:
    """
    Returns the program with one element more for each iteration that has buffers of its own.

    A buffer that is placed in a loop gets axes for it and the loops around, so that iterations do
    not share it. Where it would be too large the iterations share it.
    """
    around: dict[str, list[Loop]] = {}
    for buffer in program.allocations:
        if buffer.place is None or program.loop(buffer.place) is None:
            continue
        path = program.places[buffer.place]
        loops = [part for part in path if isinstance(part, Loop)]
        sizes = [loop.extent.substitute(symbols).constant_value for loop in loops]
        total = prod(size for size in (*sizes, *_sizes(buffer, symbols)) if size is not None)
        is_free = not any(isinstance(part, Block) for part in walk_statements(program.body))
        if is_free and None not in sizes and total <= MAX_PRIVATE:
            around[buffer.name] = loops
    if not around:
        return program
    allocations = tuple(
        replace(
            buffer,
            shape=(*(loop.extent for loop in around.get(buffer.name, ())), *buffer.shape),
            strides=None if buffer.name in around else buffer.strides,
        )
        for buffer in program.allocations
    )
    body = _Private(around).body(program.body)
    return replace(program, body=body, allocations=allocations)


class _Private(Rewriter):
    """Adds the loops around as indices to the accesses of buffers."""

    def __init__(self, around: Mapping[str, list[Loop]]) -> None:
        super().__init__(None, self._load, self._store, self._box)
        self._around = around

    def _load(self, leaf: Load | Variable) -> Scalar | None:
        if isinstance(leaf, Variable) or leaf.buffer not in self._around:
            return None
        return replace(leaf, indices=(*self._outer(leaf.buffer), *leaf.indices))

    def _store(self, store: Store) -> Statement:
        return replace(store, indices=(*self._outer(store.buffer), *store.indices))

    def _box(self, region: Region) -> Region:
        outer = (Range(index, constant(1)) for index in self._outer(region.buffer))
        return replace(region, ranges=(*outer, *region.ranges))

    def _outer(self, buffer: str) -> tuple[Expression, ...]:
        return tuple(loop.variable for loop in self._around.get(buffer, ()))


def _sizes(buffer: Buffer, symbols: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(extent.evaluate(symbols) for extent in buffer.shape)


class _Maker:
    def __init__(
        self, program: Program, symbols: Mapping[str, int], descriptions: Descriptions
    ) -> None:
        self._descriptions = descriptions
        self.shapes = {name: _sizes(buffer, symbols) for name, buffer in program.buffers.items()}
        self.dtypes = {name: buffer.dtype for name, buffer in program.buffers.items()}
        self._calls = 0

    def body(self, body: Body) -> Body:
        """Returns statements without axes and calls."""
        return tuple(new for statement in body for new in self._statement(statement))

    def _statement(self, statement: Statement) -> Body:
        match statement:
            case Loop():
                return (replace(statement, body=self.body(statement.body)),)
            case Block():
                return (self._block(statement),)
            case Guard(condition, body):
                return (Guard(condition, self.body(body)),)
            case Store():
                return (statement,)
            case Call():
                return self._call(statement)

    def _block(self, block: Block) -> Block:
        rewriter = Rewriter(block.bindings)
        init, body = self.body(rewriter.body(block.init)), self.body(rewriter.body(block.body))
        return replace(block, reads=(), writes=(), init=init, body=body)

    def _call(self, call: Call) -> Body:
        """Returns the body of the description, on the regions of the operands."""
        if (description := self._descriptions.get(call.intrinsic)) is None:
            known = ", ".join(self._descriptions) or "none"
            raise ExecutionError(
                f"expected an intrinsic that has a description ({known}), got '{call.intrinsic}'"
            )
        buffers = [p for p in description.parameters if isinstance(p, Buffer)]
        if len(buffers) != len(call.operands):
            raise ExecutionError(
                f"intrinsic '{call.intrinsic}': expected {len(buffers)} operands, "
                f"got {len(call.operands)}"
            )
        operands = dict(zip((buffer.name for buffer in buffers), call.operands, strict=True))
        symbols = self._call_symbols(description, operands)
        self._calls += 1
        number = self._calls
        for buffer in description.allocations:
            name = f"{buffer.name}__{number}"
            self.shapes[name] = _sizes(buffer, symbols)
            self.dtypes[name] = buffer.dtype
        # Without its axes the body names only its loops, which get names of their own.
        body = self.body(Rewriter(symbols).body(description.body))
        renamed = {
            part.name: symbol(f"{part.name}__{number}")
            for part in walk_statements(body)
            if isinstance(part, Loop)
        }
        return _Inlining(number, operands, renamed).body(body)

    def _call_symbols(
        self, description: Program, operands: Mapping[str, Operand]
    ) -> dict[str, int]:
        shapes: dict[str, tuple[int, ...]] = {}
        for name, operand in operands.items():
            rank = len(description.buffers[name].shape)
            kept = kept_axes(operand, rank)
            sizes = [operand.region.ranges[axis].extent.constant_value for axis in kept]
            if len(sizes) != rank or None in sizes:
                raise ExecutionError(
                    f"expected a region of {rank} axes of fixed extent for the operand "
                    f"'{name}' of an intrinsic, got {sizes}"
                )
            shapes[name] = tuple(size for size in sizes if size is not None)
            got, wanted = self.dtypes[operand.region.buffer], description.buffers[name].dtype
            if got != wanted:
                raise ExecutionError(
                    f"expected elements of {wanted} for the operand '{name}' of an intrinsic, "
                    f"got those of '{operand.region.buffer}', {got}"
                )
        return solve_shapes(description, shapes)


def kept_axes(operand: Operand, rank: int) -> list[int]:
    """Returns the axes of a region that are those of the operand; others have one element."""
    ranges = operand.region.ranges
    surplus = len(ranges) - rank
    kept: list[int] = []
    for axis, part in enumerate(ranges):
        if surplus > 0 and part.extent == 1:
            surplus -= 1
        else:
            kept.append(axis)
    return kept


class _Inlining(Rewriter):
    """Rebuilds the body of a description: its loops renamed, its buffers those of a call."""

    def __init__(
        self, number: int, operands: Mapping[str, Operand], loops: Mapping[str, Expression]
    ) -> None:
        super().__init__(loops, self._load, self._store)
        self._loops = loops
        self._number = number
        self._operands = operands

    def statement(self, statement: Statement) -> Statement:
        """Returns a statement, rebuilt, with a new name if it is a loop or block."""
        rebuilt = super().statement(statement)
        if isinstance(rebuilt, Loop | Block):
            return replace(rebuilt, name=f"{rebuilt.name}__{self._number}")
        return rebuilt

    def _load(self, leaf: Load | Variable) -> Scalar | None:
        if isinstance(leaf, Variable):
            raise ExecutionError(f"expected a description without numbers, got '{leaf.name}'")
        return Load(*self._place(leaf.buffer, leaf.indices), leaf.dtype)

    def _store(self, store: Store) -> Statement:
        return Store(*self._place(store.buffer, store.indices), store.value)

    def _place(
        self, buffer: str, indices: tuple[Subscript, ...]
    ) -> tuple[str, tuple[Subscript, ...]]:
        if (operand := self._operands.get(buffer)) is None:
            return f"{buffer}__{self._number}", indices
        place: list[Subscript] = [part.start for part in operand.region.ranges]
        for axis, index in zip(kept_axes(operand, len(indices)), indices, strict=True):
            start = operand.region.ranges[axis].start
            if isinstance(index, Expression):
                place[axis] = start + index
            else:
                place[axis] = combine("+", value_of(start), Value(index)).scalar
        return operand.region.buffer, tuple(place)


def _digits(body: Body) -> Body:
    return tuple(map(_digits_of, body))


def _digits_of(statement: Statement) -> Statement:
    match statement:
        case Loop():
            divisors = _divisors(statement)
            if not divisors:
                return replace(statement, body=_digits(statement.body))
            return _digits_of(_divided(statement, divisors))
        case Block():
            return replace(statement, init=_digits(statement.init), body=_digits(statement.body))
        case Guard(condition, body):
            return Guard(condition, _digits(body))
        case Store() | Call():
            return statement


def _divisors(loop: Loop) -> list[int]:
    """Returns the numbers by which the index of a loop is divided, each a factor of the next."""
    extent = loop.extent.constant_value
    if extent is None:
        return []
    found = {
        by
        for expression in _expressions(loop.body)
        for atom in _quotients(expression)
        if atom.numerator.symbol_name == loop.name
        and (by := atom.divisor.constant_value) is not None
    }
    chain = [*sorted(by for by in found if by < extent), extent]
    pairs = zip(chain[:-1], chain[1:], strict=True)
    return chain[:-1] if all(above % below == 0 for below, above in pairs) else []


def _divided(loop: Loop, divisors: list[int]) -> Loop:
    extent = loop.extent.constant_value or 0
    steps = [1, *divisors]
    sizes = [above // below for below, above in zip(steps, [*divisors, extent], strict=True)]
    names = [f"{loop.name}__digit{position}" for position in range(len(steps))]
    index = constant(0)
    for name, step in zip(names, steps, strict=True):
        index = index + symbol(name) * step
    ranges = Ranges.of(**{n: (0, size - 1) for n, size in zip(names, sizes, strict=True)})
    body = _Simplifying({loop.name: index}, ranges).body(loop.body)
    for name, size in zip(names, sizes, strict=True):
        body = (replace(loop, name=name, extent=constant(size), body=body),)
    (outermost,) = body
    assert isinstance(outermost, Loop)
    return outermost


class _Simplifying(Rewriter):
    def __init__(self, names: Mapping[str, Expression], ranges: Ranges) -> None:
        super().__init__(names)
        self._replaced = names
        self._ranges = ranges

    def expression(self, value: Expression) -> Expression:
        """Returns an expression with names replaced, simplified if it changed."""
        if value.symbols().isdisjoint(self._replaced):
            return value
        return simplify(value.substitute(self._replaced), self._ranges)


def _quotients(value: Expression) -> list[Quotient]:
    found: list[Quotient] = []
    for atom in value.variables():
        if isinstance(atom, Quotient):
            found.append(atom)
        for part in atom.parts:
            found.extend(_quotients(part))
    return found


def _expressions(body: Body) -> list[Expression]:
    """Returns all index expressions of statements."""
    found: list[Expression] = []
    for statement in walk_statements(body):
        match statement:
            case Loop():
                found.append(statement.extent)
            case Block():
                found.extend(axis.binding for axis in statement.axes)
                for bound in statement.predicate:
                    found.extend((bound.left, bound.right))
            case Guard():
                found.extend(_in_scalar(statement.condition))
            case Store(_, indices, value):
                found.extend(_in_scalar(value))
                for index in indices:
                    found.extend([index] if isinstance(index, Expression) else _in_scalar(index))
            case Call():
                pass
    return found


def _in_scalar(scalar: Scalar) -> list[Expression]:
    found: list[Expression] = []
    for node in walk_scalar(scalar):
        if isinstance(node, Index):
            found.append(node.expression)
        elif isinstance(node, Load):
            found.extend(index for index in node.indices if isinstance(index, Expression))
    return found
