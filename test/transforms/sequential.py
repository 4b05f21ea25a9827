"""Runs a program in order, one point at a time, on dictionaries of Python numbers."""

import operator
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any, TypeAlias

from tilewright.dialects.nest.program import Block, Body, Guard, Loop, Program, Store
from tilewright.dialects.nest.scalars import Apply, Constant, Index, Load, Scalar, Subscript
from tilewright.dialects.sym import Expression

Number: TypeAlias = int | float
Memory: TypeAlias = dict[str, dict[tuple[int, ...], Number]]
Names: TypeAlias = Mapping[str, int]

_OPS: dict[str, Callable[..., Any]] = {
    "arith.addi": operator.add,
    "arith.muli": operator.mul,
    "arith.andi": operator.and_,
    "arith.maxsi": max,
}
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {"slt": operator.lt, "eq": operator.eq}


def run(program: Program, memory: Memory, **symbols: int) -> None:
    """Runs the program on the memory; elements that are read must have been written."""
    _Run(memory).body(program.body, symbols)


class _Run:
    def __init__(self, memory: Memory) -> None:
        self.memory = memory

    def body(self, body: Body, names: Names) -> None:
        for statement in body:
            match statement:
                case Loop(name, extent, inner):
                    for value in range(extent.evaluate(names)):
                        self.body(inner, {**names, name: value})
                case Guard(condition, inner):
                    if self.scalar(condition, names):
                        self.body(inner, names)
                case Block():
                    self.block(statement, names)
                case Store(buffer, indices, value):
                    place = self.place(indices, names)
                    self.memory.setdefault(buffer, {})[place] = self.scalar(value, names)
                case _:
                    raise TypeError(f"no meaning here: {statement}")

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
                return self.memory[buffer][self.place(indices, names)]
            case Apply("arith.cmpi", operands, _, predicate):
                return _COMPARISONS[predicate](*(self.scalar(o, names) for o in operands))
            case Apply(op, operands, _):
                return _OPS[op](*(self.scalar(o, names) for o in operands))
            case _:
                raise TypeError(f"no meaning here: {scalar}")


def filled(shape: tuple[int, ...], number: Callable[[], Number]) -> dict[tuple[int, ...], Number]:
    """Returns an array whose elements come from calls of `number`."""
    return {place: number() for place in product(*map(range, shape))}
