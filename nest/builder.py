"""
Builds nests in Python: index notation for one block, context managers for any nest.

```python
b = Builder("matmul", "n in [1, 8192]")
A, B = b.buffer("A", ["n", 512], "f16"), b.buffer("B", [512, 256], "f16")
C = b.buffer("C", ["n", 256], "f32", output=True)
i, j, k = b.axes(i="n", j=256, k=512)
C[i, j] += A[i, k] * B[k, j]
matmul = b.build()
```
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

from ..dialects.nest.defects import ProgramError
from ..dialects.nest.inside import check_inside
from ..dialects.nest.program import (
    Axis,
    AxisKind,
    Block,
    Body,
    Bound,
    Buffer,
    Guard,
    Loop,
    LoopKind,
    Parameter,
    Program,
    ScalarParameter,
    Scope,
    Statement,
    Store,
)
from ..dialects.nest.regions import touched
from ..dialects.nest.rewriting import substitute
from ..dialects.nest.scalars import (
    DTYPE_BITS,
    Constant,
    Index,
    Load,
    Subscript,
    Variable,
    is_float,
    walk_scalar,
)
from ..dialects.sym import (
    Expression,
    ExpressionError,
    Ranges,
    parse_expression,
    symbol,
)
from .values import NestError, Value, combine, index_expression, value_of, widened

Extent: TypeAlias = Expression | int | str


@dataclass(frozen=True, eq=False)
class Reducer:
    """How the values of a reduction are combined, and where it begins."""

    operator: str
    identity: float


SUM = Reducer("+", 0.0)
MAX = Reducer("max", float("-inf"))
MIN = Reducer("min", float("inf"))


@dataclass(frozen=True, eq=False)
class Element(Value):
    """`buffer[indices]`: a value when read, a place to accumulate into with `+=`."""

    access: Load

    def __iadd__(self, other: Any) -> "Update":  # pyright: ignore[reportIncompatibleMethodOverride]
        return Update(self.access, SUM, value_of(other, self.dtype))


@dataclass(frozen=True, eq=False)
class Update:
    """`element reducer= value`, until it is stored."""

    access: Load
    reducer: Reducer
    value: Value


def maximize(value: Value) -> "Reduction":
    """Returns a reduction by maximum: `M[i] = maximize(A[i, k])`."""
    return Reduction(MAX, value)


def minimize(value: Value) -> "Reduction":
    """Returns a reduction by minimum: `M[i] = minimize(A[i, k])`."""
    return Reduction(MIN, value)


@dataclass(frozen=True, eq=False)
class Reduction:
    """A value to be reduced over the axes that the target does not have."""

    reducer: Reducer
    value: Value


@dataclass(frozen=True, eq=False)
class Array:
    """A buffer that is read and written by index: `C[i, j] += A[i, k] * B[k, j]`."""

    builder: "Builder"
    buffer: Buffer

    def __getitem__(self, indices: Any) -> Element:
        load = Load(self.buffer.name, self._indices(indices), self.buffer.dtype)
        return Element(load, load)

    def __setitem__(self, indices: Any, value: Any) -> None:
        self.builder.assign(self.buffer, self._indices(indices), value)

    def _indices(self, indices: Any) -> tuple[Subscript, ...]:
        given = cast("tuple[Any, ...]", indices if isinstance(indices, tuple) else (indices,))
        if len(given) != len(self.buffer.shape):
            raise NestError(
                f"expected {len(self.buffer.shape)} indices of '{self.buffer.name}', "
                f"got {len(given)}"
            )
        return tuple(map(_subscript, given))


def _subscript(index: Any) -> Subscript:
    if isinstance(index, Value) and not isinstance(index.scalar, Index):
        if index.dtype != "index":
            raise NestError(f"expected an index of dtype index, got {index.dtype}; cast it")
        return index.scalar
    return index_expression(index)


@dataclass(eq=False)
class _Frame:
    """A loop or block that is being written: what encloses its statements."""

    statements: list[Statement] = field(default_factory=list[Statement])
    init: list[Statement] | None = None


class Builder:
    """
    Collects a program. `ranges` are the ranges of its symbols, as text or `Ranges`.

    Raises NestError for what cannot be built.
    """

    def __init__(self, name: str, ranges: Ranges | str = "") -> None:
        self.name = name
        self._ranges = _ranges_of(ranges)
        self._parameters: list[Parameter] = []
        self._allocations: list[Buffer] = []
        self._outputs: set[str] = set()
        self._axes: dict[str, Expression] = {}
        # Indices and blocks share their names with symbols; buffers and numbers have their own.
        self._names: set[str] = set(self._ranges)
        self._parameter_names: set[str] = set()
        self._frames = [_Frame()]

    def symbol(self, name: str) -> Expression:
        """Returns a symbol of the program's ranges."""
        if name not in self._ranges:
            raise NestError(f"expected a symbol of the ranges '{self._ranges}', got '{name}'")
        return symbol(name)

    def buffer(
        self,
        name: str,
        shape: Sequence[Extent],
        dtype: str,
        *,
        output: bool = False,
        strides: Sequence[Extent] | None = None,
    ) -> Array:
        """Returns a buffer that the caller passes; `output` says that its content is a result."""
        array = self._array(name, shape, dtype, Scope.GLOBAL, strides)
        self._parameters.append(array.buffer)
        if output:
            self._outputs.add(name)
        return array

    def temporary(
        self, name: str, shape: Sequence[Extent], dtype: str, scope: Scope = Scope.GLOBAL
    ) -> Array:
        """Returns a buffer of the program's own."""
        array = self._array(name, shape, dtype, scope, None)
        self._allocations.append(array.buffer)
        return array

    def scalar(self, name: str, dtype: str) -> Value:
        """Returns a number that the caller passes."""
        self._check_dtype(dtype)
        self._parameters.append(ScalarParameter(self._new_parameter(name), dtype))
        return Value(Variable(name, dtype))

    def axes(self, **extents: Extent) -> tuple[Expression, ...]:
        """
        Returns axes for index notation, each with its name and extent: `axes(i="n", j=256)`.

        An axis that has the name of a symbol gets a number behind it: they are not the same.
        """
        found: list[Expression] = []
        for name, extent in extents.items():
            axis, number = _checked(name), 1
            while axis in self._ranges:
                axis, number = f"{name}_{number}", number + 1
            self._axes[axis] = self._size(extent, f"the axis '{name}'")
            found.append(symbol(axis))
        return tuple(found)

    def assign(self, buffer: Buffer, indices: tuple[Subscript, ...], value: Any) -> None:
        """Appends a store; outside of a block it becomes a block with its loops."""
        if isinstance(value, Reduction):
            update = Update(Load(buffer.name, indices, buffer.dtype), value.reducer, value.value)
        elif isinstance(value, Update):
            update = value
        else:
            update = None
        if self._frames[-1].init is not None or len(self._frames) > 1:
            self._append_store(buffer, indices, update, value)
        else:
            self._append_block(buffer, indices, update, value)

    def _append_store(
        self, buffer: Buffer, indices: tuple[Subscript, ...], update: Update | None, value: Any
    ) -> None:
        if update is not None:
            value = _combined(update, buffer.dtype)
        stored = widened(value_of(value, buffer.dtype), buffer.dtype)
        self._frames[-1].statements.append(Store(buffer.name, indices, stored.scalar))

    def _append_block(
        self, buffer: Buffer, indices: tuple[Subscript, ...], update: Update | None, value: Any
    ) -> None:
        """Makes `for ...: block` of one line of index notation."""
        stored = (
            _combined(update, buffer.dtype)
            if update is not None
            else widened(value_of(value, buffer.dtype), buffer.dtype)
        )
        spatial = self._axes_in(indices)
        used = self._axes_in((*indices, stored.scalar))
        reduced = [name for name in used if name not in spatial]
        if update is None and reduced:
            raise NestError(f"expected '{buffer.name}' to be indexed by '{reduced[0]}' or reduced")
        store = Store(buffer.name, indices, stored.scalar)
        init: Body = ()
        if update is not None:
            init = (Store(buffer.name, indices, _identity(update.reducer, buffer.dtype)),)
        self._append_nest(buffer.name, spatial, reduced, init, store)

    def _append_nest(
        self, name: str, spatial: list[str], reduced: list[str], init: Body, store: Store
    ) -> None:
        names = [*spatial, *reduced]
        loops = {axis: self._new_name(axis, fresh=True) for axis in names}
        bound = {axis: self._new_name(f"v{loops[axis]}", fresh=True) for axis in names}
        renamed = {axis: symbol(bound[axis]) for axis in names}
        axes = tuple(
            Axis(
                bound[axis],
                self._axes[axis],
                symbol(loops[axis]),
                AxisKind.SPATIAL if axis in spatial else AxisKind.REDUCE,
            )
            for axis in names
        )
        block = self._block(
            self._new_name(name, fresh=True),
            axes,
            substitute((store,), renamed),
            substitute(init, renamed),
            (),
        )
        nest: Statement = block
        for axis in reversed(names):
            nest = Loop(loops[axis], self._axes[axis], (nest,))
        self._frames[-1].statements.append(nest)

    def _block(
        self, name: str, axes: tuple[Axis, ...], body: Body, init: Body, where: tuple[Bound, ...]
    ) -> Block:
        ranges = self._ranges
        for axis in axes:
            ranges = ranges.also(axis.name, 0, axis.extent - 1)
        buffers = self._buffers()
        reads, writes = touched((*init, *body), ranges, buffers)
        return Block(name, axes, reads, writes, body, init, where)

    def _buffers(self) -> dict[str, Buffer]:
        parameters = [p for p in self._parameters if isinstance(p, Buffer)]
        return {buffer.name: buffer for buffer in (*parameters, *self._allocations)}

    @contextmanager
    def loop(
        self, name: str, extent: Extent, kind: LoopKind = LoopKind.SERIAL
    ) -> Generator[Expression]:
        """Writes a loop; the statements inside the `with` are its body."""
        name = self._new_name(name)
        body = self._frame()
        yield symbol(name)
        self._frames.pop()
        loop = Loop(name, self._extent(extent), tuple(body.statements), kind)
        self._frames[-1].statements.append(loop)

    @contextmanager
    def block(
        self,
        name: str,
        *,
        spatial: Mapping[str, tuple[Extent, Extent]] | None = None,
        reduce: Mapping[str, tuple[Extent, Extent]] | None = None,
        ordered: Mapping[str, tuple[Extent, Extent]] | None = None,
        where: Sequence[Bound] = (),
    ) -> Generator[tuple[Expression, ...]]:
        """Writes a block; each axis has an extent and a binding: `spatial={"vi": (n, i)}`."""
        name = self._new_name(name)
        kinds = zip(AxisKind, (spatial, reduce, ordered), strict=True)
        axes = tuple(
            Axis(self._new_name(axis), self._extent(extent), self._extent(binding), kind)
            for kind, group in kinds
            for axis, (extent, binding) in (group or {}).items()
        )
        frame = self._frame()
        frame.init = []
        yield tuple(symbol(axis.name) for axis in axes)
        self._frames.pop()
        block = self._block(name, axes, tuple(frame.statements), tuple(frame.init), tuple(where))
        self._frames[-1].statements.append(block)

    @contextmanager
    def init(self) -> Generator[None]:
        """Writes the init of the block around: what runs where the reduce axes are at 0."""
        outer = self._frames[-1]
        if outer.init is None:
            raise NestError("expected `init` directly inside a block")
        frame = self._frame()
        yield
        self._frames.pop()
        outer.init.extend(frame.statements)

    @contextmanager
    def when(self, condition: Value) -> Generator[None]:
        """Writes statements that run where a condition holds."""
        frame = self._frame()
        yield
        self._frames.pop()
        self._frames[-1].statements.append(Guard(condition.scalar, tuple(frame.statements)))

    def build(self) -> Program:
        """Returns the program; refuses an access out of bounds for all values of the symbols."""
        program = Program(
            self.name,
            tuple(self._parameters),
            self._ranges,
            tuple(self._frames[0].statements),
            tuple(self._allocations),
            frozenset(self._outputs),
        )
        try:
            check_inside(program)
        except ProgramError as error:
            raise NestError(str(error)) from None
        return program

    def _frame(self) -> _Frame:
        frame = _Frame()
        self._frames.append(frame)
        return frame

    def _array(
        self,
        name: str,
        shape: Sequence[Extent],
        dtype: str,
        scope: Scope,
        strides: Sequence[Extent] | None,
    ) -> Array:
        self._check_dtype(dtype)
        extents = tuple(self._size(extent, f"'{name}'") for extent in shape)
        steps = None if strides is None else tuple(map(self._extent, strides))
        if steps is not None and len(steps) != len(extents):
            raise NestError(f"expected {len(extents)} strides of '{name}', got {len(steps)}")
        # No axes are row-major: there is nothing to write of their strides.
        buffer = Buffer(self._new_parameter(name), extents, dtype, scope, steps or None)
        return Array(self, buffer)

    def _check_dtype(self, dtype: str) -> None:
        if dtype not in DTYPE_BITS:
            raise NestError(f"expected a dtype among {', '.join(DTYPE_BITS)}, got {dtype!r}")

    def _size(self, extent: Extent, what: str) -> Expression:
        """Returns an extent over symbols alone; refuses one that is negative."""
        size = self._extent(extent)
        if unknown := size.symbols() - frozenset(self._ranges):
            raise NestError(
                f"expected extents of {what} over symbols of '{self._ranges}', got '{min(unknown)}'"
            )
        if (value := size.constant_value) is not None and value < 0:
            raise NestError(f"expected extents of {what} that are not negative, got {value}")
        return size

    def _extent(self, extent: Extent) -> Expression:
        if not isinstance(extent, str):
            return index_expression(extent)
        try:
            return parse_expression(extent)
        except ExpressionError as error:
            raise NestError(str(error)) from None

    def _axes_in(self, parts: Sequence[Subscript]) -> list[str]:
        """Returns the axes of index notation that parts name, in the order of `axes`."""
        names: set[str] = set()
        for part in parts:
            names |= _symbols_of(part)
        return [name for name in self._axes if name in names]

    def _new_parameter(self, name: str) -> str:
        _checked(name)
        if name in self._parameter_names:
            raise NestError(f"expected a name that no buffer or number has, got '{name}'")
        self._parameter_names.add(name)
        return name

    def _new_name(self, name: str, fresh: bool = False) -> str:
        free = _checked(name)
        number = 1
        while fresh and free in self._names:
            free, number = f"{name}_{number}", number + 1
        if free in self._names:
            raise NestError(f"expected a name that is not in use, got '{name}'")
        self._names.add(free)
        return free


def _ranges_of(ranges: Ranges | str) -> Ranges:
    if isinstance(ranges, Ranges):
        return ranges
    try:
        return Ranges.parse(ranges)
    except ExpressionError as error:
        raise NestError(str(error)) from None


def _checked(name: str) -> str:
    """Returns a name; refuses one that is no identifier."""
    try:
        symbol(name)
    except ExpressionError as error:
        raise NestError(str(error)) from None
    return name


def _symbols_of(part: Subscript) -> frozenset[str]:
    if isinstance(part, Expression):
        return part.symbols()
    names: set[str] = set()
    for node in walk_scalar(part):
        if isinstance(node, Index):
            names |= node.expression.symbols()
        elif isinstance(node, Load):
            names |= {s for i in node.indices if isinstance(i, Expression) for s in i.symbols()}
    return frozenset(names)


def _combined(update: Update, dtype: str) -> Value:
    value = widened(update.value, dtype)
    return combine(update.reducer.operator, Value(update.access), value)


def _identity(reducer: Reducer, dtype: str) -> Constant:
    if is_float(dtype):
        return Constant(reducer.identity, dtype)
    limit = 1 << (DTYPE_BITS[dtype] - 1)
    bounds = {"+": 0, "max": -limit, "min": limit - 1}
    return Constant(bounds[reducer.operator], dtype)
