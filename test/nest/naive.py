"""A program executed one point after the other: slow, and plain enough to be believed."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tilewright.dialects.nest.program import (
    AxisKind,
    Block,
    Body,
    Bound,
    Buffer,
    Call,
    Guard,
    Loop,
    Program,
    ScalarParameter,
    Statement,
    Store,
)
from tilewright.dialects.nest.scalars import (
    Apply,
    Constant,
    Index,
    Load,
    Scalar,
    Subscript,
    Variable,
)
from tilewright.dialects.sym import Expression
from tilewright.nest.arguments import check_arrays, solve_symbols
from tilewright.nest.arithmetic import Arithmetic, Array, decode, encode
from tilewright.nest.interpreter import NO_DESCRIPTIONS, ExecutionError


def interpret(
    program: Program,
    arrays: Mapping[str, Array],
    scalars: Mapping[str, Any] | None = None,
    symbols: Mapping[str, int] | None = None,
    *,
    descriptions: Mapping[str, Program] = NO_DESCRIPTIONS,
    is_exact: bool = False,
) -> dict[str, Array]:
    """Does what the interpreter of the package does."""
    check_arrays(program, arrays, scalars or {})
    values = solve_symbols(program, arrays, symbols)
    arithmetic = Arithmetic(is_exact)
    numbers = {
        parameter.name: arithmetic.rounded(
            np.asarray((scalars or {})[parameter.name]), parameter.dtype
        )
        for parameter in program.parameters
        if isinstance(parameter, ScalarParameter)
    }
    dtypes = {name: program.buffers[name].dtype for name in arrays}
    held = {
        name: arithmetic.rounded(decode(array, dtypes[name]), dtypes[name]).copy()
        for name, array in arrays.items()
    }
    _Execution(arithmetic, descriptions).program(program, held, numbers, values)
    if is_exact:
        return held
    for name, array in arrays.items():
        if array.flags.writeable:
            array[...] = encode(held[name], dtypes[name])
    return dict(arrays)


class _Execution:
    def __init__(self, arithmetic: Arithmetic, descriptions: Mapping[str, Program]) -> None:
        self.arithmetic = arithmetic
        self.descriptions = descriptions
        self.arrays: dict[str, Array] = {}
        self.dtypes: dict[str, str] = {}
        self.numbers: Mapping[str, Array] = {}
        self.block = "the program"

    def program(
        self,
        program: Program,
        arrays: Mapping[str, Array],
        numbers: Mapping[str, Array],
        symbols: Mapping[str, int],
    ) -> None:
        self.arrays = dict(arrays)
        self.dtypes = {name: buffer.dtype for name, buffer in program.buffers.items()}
        self.numbers = numbers
        for buffer in program.allocations:
            self.arrays[buffer.name] = self.allocated(buffer, symbols)
        self.body(program.body, dict(symbols))

    def allocated(self, buffer: Buffer, symbols: Mapping[str, int]) -> Array:
        # What was never written is no number, so that reading it shows.
        shape = tuple(extent.evaluate(symbols) for extent in buffer.shape)
        held = self.arithmetic.held(buffer.dtype)
        return np.full(shape, np.nan if held.kind == "f" else 85).astype(held)

    def body(self, body: Body, names: dict[str, int]) -> None:
        for statement in body:
            self.statement(statement, names)

    def statement(self, statement: Statement, names: dict[str, int]) -> None:
        match statement:
            case Loop(name, extent, body):
                for value in range(extent.evaluate(names)):
                    self.body(body, {**names, name: value})
            case Block():
                self.execute_block(statement, names)
            case Guard(condition, body):
                if self.scalar(condition, names):
                    self.body(body, names)
            case Store(buffer, indices, value):
                number = self.scalar(value, names)
                self.arrays[buffer][self.place(buffer, indices, names)] = number
            case Call():
                self.call(statement, names)

    def execute_block(self, block: Block, names: dict[str, int]) -> None:
        outer, self.block = self.block, f"block '{block.name}'"
        if all(self.holds(bound, names) for bound in block.predicate):
            axes = {axis.name: axis.binding.evaluate(names) for axis in block.axes}
            inner = {**names, **axes}
            if all(axes[axis.name] == 0 for axis in block.axes_of(AxisKind.REDUCE)):
                self.body(block.init, inner)
            self.body(block.body, inner)
        self.block = outer

    def holds(self, bound: Bound, names: dict[str, int]) -> bool:
        return bound.left.evaluate(names) < bound.right.evaluate(names)

    def place(
        self, buffer: str, indices: tuple[Subscript, ...], names: dict[str, int]
    ) -> tuple[int, ...]:
        place = tuple(self.index(index, names) for index in indices)
        for axis, (value, size) in enumerate(zip(place, self.arrays[buffer].shape, strict=True)):
            if not 0 <= value < size:
                raise ExecutionError(
                    f"{self.block}: expected an index of '{buffer}' axis {axis} in "
                    f"0 .. {size - 1}, got {value}"
                )
        return place

    def index(self, index: Subscript, names: dict[str, int]) -> int:
        if isinstance(index, Expression):
            return index.evaluate(names)
        return int(self.scalar(index, names))

    def scalar(self, scalar: Scalar, names: dict[str, int]) -> Array:
        match scalar:
            case Constant(value, dtype):
                return self.arithmetic.constant(value, dtype)
            case Index(expression):
                return np.asarray(expression.evaluate(names))
            case Variable(name):
                return self.numbers[name]
            case Load(buffer, indices):
                return np.asarray(self.arrays[buffer][self.place(buffer, indices, names)])
            case Apply(op, operands, dtype, predicate):
                values = [self.scalar(operand, names) for operand in operands]
                return self.arithmetic.apply(op, values, operands[0].dtype, dtype, predicate)

    def call(self, call: Call, names: dict[str, int]) -> None:
        if (description := self.descriptions.get(call.intrinsic)) is None:
            raise ExecutionError(f"expected a description of the intrinsic '{call.intrinsic}'")
        buffers = [p for p in description.parameters if isinstance(p, Buffer)]
        views: dict[str, Array] = {}
        for buffer, operand in zip(buffers, call.operands, strict=True):
            array = self.arrays[operand.region.buffer]
            box: list[slice] = []
            for axis, part in enumerate(operand.region.ranges):
                start, extent = part.start.evaluate(names), part.extent.evaluate(names)
                if start < 0 or start + extent > array.shape[axis]:
                    raise ExecutionError(
                        f"intrinsic '{call.intrinsic}': expected a region of "
                        f"'{operand.region.buffer}' axis {axis} in 0 .. {array.shape[axis] - 1}, "
                        f"got {start} .. {start + extent - 1}"
                    )
                box.append(slice(start, start + extent))
            view = array[tuple(box)]
            while view.ndim > len(buffer.shape) and 1 in view.shape:
                view = view.squeeze(view.shape.index(1))
            views[buffer.name] = view
        symbols = solve_symbols(description, views)
        _Execution(self.arithmetic, self.descriptions).program(description, views, {}, symbols)
