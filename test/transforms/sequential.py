"""
Runs a program in order, one point at a time, on dictionaries of Python numbers.

A buffer that is allocated in a loop is a new one in each iteration, one for each thread if it is
local, so that what is read there must have been written there.
"""

import operator
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any, TypeAlias

from tilewright.dialects.nest.program import Block, Body, Guard, Loop, Program, Scope, Store
from tilewright.dialects.nest.scalars import Apply, Constant, Index, Load, Scalar, Subscript
from tilewright.dialects.sym import Expression

Number: TypeAlias = int | float
Memory: TypeAlias = dict[str, dict[tuple[int, ...], Number]]
Names: TypeAlias = Mapping[str, int]

_OPS: dict[str, Callable[..., Any]] = {
    "arith.addi": operator.add,
    "arith.muli": operator.mul,
    "arith.andi": min,  # of conditions
    "arith.maxsi": max,
}
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {"slt": operator.lt, "eq": operator.eq}


def run(program: Program, memory: Memory, **symbols: int) -> None:
    """Runs the program on the memory; elements that are read must have been written."""
    _Run(memory, program).body(program.body, symbols)


class _Run:
    def __init__(self, memory: Memory, program: Program) -> None:
        self.memory = memory
        self.buffers = program.buffers
        self.threads: dict[str, int] = {}

    def body(self, body: Body, names: Names) -> None:
        for statement in body:
            match statement:
                case Loop(name, extent, inner):
                    for value in range(extent.evaluate(names)):
                        self.enter(statement, value)
                        self.body(inner, {**names, name: value})
                    self.threads.pop(statement.kind, None)
                case Guard(condition, inner):
                    if self.scalar(condition, names):
                        self.body(inner, names)
                case Block():
                    self.block(statement, names)
                case Store(buffer, indices, value):
                    place = self.place(indices, names)
                    self.check(buffer, place, names)
                    self.memory.setdefault(self.key(buffer), {})[place] = self.scalar(value, names)
                case _:
                    raise TypeError(f"no meaning here: {statement}")

    def enter(self, loop: Loop, value: int) -> None:
        if loop.kind.is_thread:
            self.threads[loop.kind] = value
        for name, buffer in self.buffers.items():
            if buffer.place == loop.name:
                for key in [key for key in self.memory if key.partition("@")[0] == name]:
                    del self.memory[key]

    def key(self, buffer: str) -> str:
        known = self.buffers[buffer]
        if known.scope is not Scope.LOCAL or known.place is None:
            return buffer
        return f"{buffer}@{sorted(self.threads.items())}"

    def check(self, buffer: str, place: tuple[int, ...], names: Names) -> None:
        shape = [extent.evaluate(names) for extent in self.buffers[buffer].shape]
        assert all(0 <= index < extent for index, extent in zip(place, shape, strict=True))

    def block(self, block: Block, names: Names) -> None:
        if all(b.left.evaluate(names) < b.right.evaluate(names) for b in block.predicate):
            axes = {axis.name: axis.binding.evaluate(names) for axis in block.axes}
            if all(axes[axis.name] == 0 for axis in block.axes if axis.kind != "spatial"):
                self.body(block.init, {**names, **axes})
            self.body(block.body, {**names, **axes})

    def place(self, indices: tuple[Subscript, ...], names: Names) -> tuple[int, ...]:
        return tuple(
            i.evaluate(names) if isinstance(i, Expression) else int(self.scalar(i, names))
            for i in indices
        )

    def scalar(self, scalar: Scalar, names: Names) -> Number:
        match scalar:
            case Constant(value, _):
                return value
            case Index(expression):
                return expression.evaluate(names)
            case Load(buffer, indices, _):
                return self.memory[self.key(buffer)][self.place(indices, names)]
            case Apply("arith.cmpi", operands, _, predicate):
                return _COMPARISONS[predicate](*(self.scalar(o, names) for o in operands))
            case Apply(op, operands, _):
                return _OPS[op](*(self.scalar(o, names) for o in operands))
            case _:
                raise TypeError(f"no meaning here: {scalar}")


def filled(shape: tuple[int, ...], number: Callable[[], Number]) -> dict[tuple[int, ...], Number]:
    """Returns an array whose elements come from calls of `number`."""
    return {place: number() for place in product(*map(range, shape))}
