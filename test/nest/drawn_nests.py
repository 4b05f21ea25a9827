"""Random small nests of integers, with every kind of dependence, for tests of properties."""

from dataclasses import dataclass, field

from hypothesis import strategies as st

from tilewright.dialects.nest.program import (
    Axis,
    AxisKind,
    Block,
    Body,
    Bound,
    Buffer,
    Guard,
    Loop,
    Program,
    Statement,
    Store,
)
from tilewright.dialects.nest.scalars import Apply, Constant, Index, Load, Scalar, Subscript
from tilewright.dialects.sym import Expression, Ranges, constant, floordiv, minimum, mod, symbol

SHAPES = {"A": (31,), "B": (31,), "C": (5, 7), "T": (4, 4, 4)}
DTYPE = "i32"


@dataclass
class Scope:
    """Loops and axes that are in scope, and how many names were given."""

    draw: st.DrawFn
    numbers: dict[str, int] = field(default_factory=dict[str, int])

    def fresh(self, kind: str) -> str:
        """Returns a new name for a loop, axis or block."""
        self.numbers[kind] = self.numbers.get(kind, 0) + 1
        return f"{kind}{self.numbers[kind]}"

    def index(self, names: list[str], size: int) -> Expression:
        """Returns an expression over names that is in `0 .. size - 1`."""
        value = constant(self.draw(st.integers(0, 3)))
        for name in names[-3:]:
            value = value + symbol(name) * self.draw(st.sampled_from((0, 0, 1, 1, 2, 3)))
        if self.draw(st.integers(0, 4)) == 0:
            value = floordiv(value, self.draw(st.integers(2, 4)))
        if size < 31 or any(name.startswith("v") for name in names):
            wrap = self.draw(st.booleans())
            value = mod(value, size) if wrap else minimum(value, size - 1)
        return value

    def simple(self, names: list[str], size: int) -> Expression:
        """Returns a single name where it is in bounds, else an expression."""
        loops = [name for name in names if name.startswith("i")]
        if loops and size >= 4 and self.draw(st.integers(0, 2)):
            return symbol(self.draw(st.sampled_from(loops)))
        return self.index(names, size)

    def place(self, names: list[str], is_read: bool) -> tuple[str, tuple[Subscript, ...]]:
        """Returns a buffer and indices of it."""
        buffer = self.draw(st.sampled_from(sorted(SHAPES)))
        indices: list[Subscript] = [self.simple(names, size) for size in SHAPES[buffer]]
        if self.draw(st.integers(0, 9)) == 0:
            found = Load("A", (self.index(names, 31),), DTYPE)
            wide = Apply("arith.index_cast", (found,), "index")
            size = Constant(SHAPES[buffer][0], "index")
            one = Apply("arith.remui", (wide, size), "index")
            indices[0] = one
        return buffer, tuple(indices)

    def scalar(self, names: list[str], depth: int = 2) -> Scalar:
        """Returns a value of dtype i32."""
        kind = self.draw(st.integers(0, 5))
        if kind == 0:
            return Constant(self.draw(st.integers(-9, 9)), DTYPE)
        if kind == 1:
            return Apply("arith.index_cast", (Index(self.index(names, 31)),), DTYPE)
        if kind == 2 or depth == 0:
            return Load(*self.place(names, True), DTYPE)
        ops = ("arith.addi", "arith.muli", "arith.maxsi", "arith.subi", "arith.xori")
        operands = (self.scalar(names, depth - 1), self.scalar(names, depth - 1))
        return Apply(self.draw(st.sampled_from(ops)), operands, DTYPE)

    def store(self, names: list[str]) -> Store:
        """Returns a store, often an update of what is stored."""
        buffer, indices = self.place(names, False)
        value = self.scalar(names)
        if self.draw(st.booleans()):
            ops = ("arith.addi", "arith.muli", "arith.minsi", "arith.subi", "arith.ori")
            old = Load(buffer, indices, DTYPE)
            op = self.draw(st.sampled_from(ops))
            value = Apply(op, (old, value) if self.draw(st.booleans()) else (value, old), DTYPE)
        return Store(buffer, indices, value)

    def block(self, loops: list[str], axes: list[str]) -> Block:
        """Returns a block over some loops."""
        made: list[Axis] = []
        for name in loops[-3:]:
            binding = symbol(name)
            if self.draw(st.integers(0, 4)) == 0:
                binding = self.index(loops, 31)
            kind = self.draw(st.sampled_from(tuple(AxisKind)))
            made.append(Axis(self.fresh("v"), constant(31), binding, kind))
        predicate = [
            Bound(self.index(loops, 31), constant(self.draw(st.integers(1, 12))))
            for _ in range(self.draw(st.sampled_from((0, 0, 0, 1, 2))))
        ]
        inner = [*axes, *(axis.name for axis in made)]
        store = self.store(inner)
        init: Body = ()
        if self.draw(st.booleans()):
            value: Scalar = Constant(self.draw(st.integers(-5, 5)), DTYPE)
            init = (Store(store.buffer, store.indices, value),)
        body: Body = (store,)
        if self.draw(st.integers(0, 3)) == 0:
            body = (*body, *self.body([], inner, 1))
        return Block(self.fresh("b"), tuple(made), (), (), body, init, tuple(predicate))

    def statement(self, loops: list[str], axes: list[str], depth: int) -> Statement:
        """Returns a loop, block, guard or store; `axes` are those of blocks around."""
        names = [*axes, *loops]
        kind = self.draw(st.integers(0, 9))
        if depth and kind < 6:
            name, extent = self.fresh("i"), self.draw(st.integers(1, 4))
            return Loop(name, constant(extent), self.body([*loops, name], axes, depth - 1))
        if kind == 9:
            condition = Apply("arith.cmpi", (self.scalar(names), self.scalar(names)), "i1", "slt")
            return Guard(condition, (self.store(names),))
        if kind in (7, 8) and not axes:
            return self.block(loops, axes)
        return self.store(names)

    def body(self, loops: list[str], axes: list[str], depth: int) -> Body:
        """Returns one to three statements."""
        count = self.draw(st.sampled_from((1, 1, 1, 2, 2, 3)))
        return tuple(self.statement(loops, axes, depth) for _ in range(count))


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Draws a program over integers that is legal to execute in order."""
    body = Scope(draw).body([], [], 4)
    buffers = [Buffer(name, tuple(map(constant, shape)), DTYPE) for name, shape in SHAPES.items()]
    return Program("drawn", tuple(buffers), Ranges({}), body, (), frozenset(SHAPES))
