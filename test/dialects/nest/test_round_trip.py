"""Programs are written as MLIR and read back the same: as ops, as text, by way of upstream MLIR."""

import io
import random
from dataclasses import replace

import pytest
from xdsl.context import Context
from xdsl.dialects import arith, builtin, math, scf
from xdsl.printer import Printer

from tilewright.dialects.nest import FuncOp, Nest, write_program
from tilewright.dialects.nest.program import (
    AccessMode,
    Annotations,
    Axis,
    AxisKind,
    Block,
    Body,
    Bound,
    Buffer,
    Call,
    Guard,
    Loop,
    LoopKind,
    Operand,
    Program,
    Range,
    Region,
    ScalarParameter,
    Scope,
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
from tilewright.dialects.parsing import parse_module
from tilewright.dialects.sym import Expression, Ranges, Sym, constant, mod, symbol
from tilewright.nest.builder import Builder

N = symbol("n")
SEEDS = range(30)


def _context() -> Context:
    context = Context()
    for dialect in (builtin.Builtin, arith.Arith, math.Math, scf.Scf, Sym, Nest):
        context.load_dialect(dialect)
    return context


CONTEXT = _context()


def _generic(function: FuncOp) -> str:
    stream = io.StringIO()
    Printer(stream, print_generic_format=True).print_op(function)
    return stream.getvalue()


def _parsed(text: str) -> FuncOp:
    function = parse_module(text, "test.mlir", CONTEXT, verify=False).body.block.first_op
    assert isinstance(function, FuncOp)
    return function


class _Drawn:
    """A random program of everything there is; it need not mean anything."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.names = 0
        self.buffers = [
            Buffer("A", (N, constant(8)), "f32", strides=(constant(16), constant(1))),
            Buffer("i0", (constant(8),), "i32"),
            Buffer("T", (N * 2 + 1, N), "bf16", Scope.SHARED, swizzle=64, padding=((0, 32, 8),)),
            Buffer("L", (), "f32", Scope.LOCAL),
            Buffer("R", (constant(4),), "i8", Scope.LOCAL, place="i1"),
        ]

    def program(self) -> Program:
        body = self.body((), (), 3)
        if "i1" not in {f"i{number}" for number in range(self.names)}:
            self.buffers[4] = replace(self.buffers[4], place=None)
        return Program(
            "drawn",
            (
                self.buffers[0],
                ScalarParameter("s", "f32"),
                self.buffers[1],
                ScalarParameter("n", "index"),
            ),
            Ranges.parse("n in [1, 64], n mod 4 == 0, m in [0, ...]"),
            body,
            tuple(self.buffers[2:]),
            frozenset(self.draw.sample(["A", "i0"], self.draw.randint(0, 2))),
            self.annotations(),
        )

    def fresh(self, prefix: str) -> str:
        self.names += 1
        return f"{prefix}{self.names - 1}"

    def body(self, loops: tuple[str, ...], axes: tuple[str, ...], depth: int) -> Body:
        makers = [self.store, self.call]
        if depth:
            makers += [self.loop, self.block, self.guard]
        count = self.draw.randint(1, 3)
        return tuple(self.draw.choice(makers)(loops, axes, depth) for _ in range(count))

    def loop(self, loops: tuple[str, ...], axes: tuple[str, ...], depth: int) -> Loop:
        name = self.fresh("i")
        body = self.body((*loops, name), axes, depth - 1)
        extent = self.expression((*loops, *axes))
        return Loop(name, extent, body, self.draw.choice(list(LoopKind)), self.annotations())

    def block(self, loops: tuple[str, ...], axes: tuple[str, ...], depth: int) -> Block:
        visible = (*loops, *axes)
        own = tuple(
            Axis(
                self.fresh("v"),
                self.expression(axes),
                self.expression(visible),
                self.draw.choice(list(AxisKind)),
            )
            for _ in range(self.draw.randint(0, 3))
        )
        inside = (*axes, *(axis.name for axis in own))
        bounds = tuple(
            Bound(self.expression(visible), self.expression(visible))
            for _ in range(self.draw.randint(0, 2))
        )
        return Block(
            self.fresh("B"),
            own,
            tuple(self.region(inside) for _ in range(self.draw.randint(0, 2))),
            tuple(self.region(inside) for _ in range(self.draw.randint(0, 2))),
            self.body((), inside, depth - 1),
            self.body((), inside, 0) if self.draw.random() < 0.4 else (),
            bounds,
            self.annotations(),
        )

    def guard(self, loops: tuple[str, ...], axes: tuple[str, ...], depth: int) -> Guard:
        names = (*loops, *axes)
        left, right = Index(self.expression(names)), Index(self.expression(names))
        condition = Apply("arith.cmpi", (left, right), "i1", self.draw.choice(["slt", "uge", "eq"]))
        return Guard(condition, self.body(loops, axes, depth - 1))

    def store(self, loops: tuple[str, ...], axes: tuple[str, ...], depth: int) -> Store:
        names = (*loops, *axes)
        buffer = self.draw.choice([b for b in self.buffers if b.dtype == "f32"])
        return Store(buffer.name, self.indices(buffer, names), self.scalar(names, 3))

    def call(self, loops: tuple[str, ...], axes: tuple[str, ...], depth: int) -> Call:
        modes = list(AccessMode)
        return Call(
            self.fresh("intrinsic"),
            tuple(
                Operand(self.region((*loops, *axes)), self.draw.choice(modes))
                for _ in range(self.draw.randint(1, 3))
            ),
        )

    def region(self, names: tuple[str, ...]) -> Region:
        buffer = self.draw.choice(self.buffers)
        return Region(
            buffer.name,
            tuple(
                Range(self.expression(names), self.draw.choice([constant(1), constant(8), N]))
                for _ in buffer.shape
            ),
        )

    def indices(self, buffer: Buffer, names: tuple[str, ...]) -> tuple[Subscript, ...]:
        return tuple(self.subscript(names) for _ in buffer.shape)

    def subscript(self, names: tuple[str, ...]) -> Subscript:
        match self.draw.randrange(6):
            case 0:
                load = Load("i0", (self.expression(names),), "i32")
                return Apply("arith.index_cast", (load,), "index")
            case 1:
                return Variable("n", "index")
            case 2:
                return Index(self.expression(names))
            case _:
                return self.expression(names)

    def scalar(self, names: tuple[str, ...], depth: int) -> Scalar:
        if not depth or self.draw.random() < 0.3:
            match self.draw.randrange(4):
                case 0:
                    return Constant(self.draw.choice([0.5, -2.0, float("inf"), 3.0]), "f32")
                case 1:
                    return Variable("s", "f32")
                case _:
                    buffer = self.draw.choice([self.buffers[0], self.buffers[3]])
                    return Load(buffer.name, self.indices(buffer, names), "f32")
        one, two = self.scalar(names, depth - 1), self.scalar(names, depth - 1)
        match self.draw.randrange(4):
            case 0:
                return Apply("math.exp2", (one,), "f32")
            case 1:
                condition = Apply("arith.cmpf", (one, two), "i1", self.draw.choice(["olt", "une"]))
                return Apply("arith.select", (condition, one, two), "f32")
            case 2:
                narrow = Apply("arith.truncf", (one,), "f16")
                return Apply("arith.extf", (narrow,), "f32")
            case _:
                op = self.draw.choice(["arith.addf", "arith.mulf", "arith.maximumf"])
                return Apply(op, (one, two), "f32")

    def expression(self, names: tuple[str, ...]) -> Expression:
        value = constant(self.draw.randint(0, 4)) + self.draw.randint(0, 1) * N
        for name in self.draw.sample(names, min(len(names), self.draw.randint(0, 2))):
            index = symbol(name)
            value += self.draw.choice([index, 3 * index, mod(index, 4), index // (N + 1)])
        return value

    def annotations(self) -> Annotations:
        choices: Annotations = {"a": 3, "b": 'text "x"', "c": (1, -2), "d": ("p", "q"), "e": -1}
        count = self.draw.choice([0, 0, 1, 3])
        return {name: choices[name] for name in self.draw.sample(list(choices), count)}


@pytest.mark.parametrize("seed", SEEDS)
def test_ops_say_the_program(seed: int):
    program = _Drawn(seed).program()
    assert write_program(program).program() == program


@pytest.mark.parametrize("seed", SEEDS)
def test_custom_text_says_the_program(seed: int):
    program = _Drawn(seed).program()
    text = str(write_program(program))
    function = _parsed(text)
    assert function.program() == program
    assert str(function) == text


@pytest.mark.parametrize("seed", SEEDS)
def test_generic_text_says_the_program(seed: int):
    program = _Drawn(seed).program()
    assert _parsed(_generic(write_program(program))).program() == program


def test_upstream_carries_the_program():
    ir = pytest.importorskip("torch_mlir.ir")
    for seed in SEEDS:
        program = _Drawn(seed).program()
        with ir.Context() as context:
            context.allow_unregistered_dialects = True
            module = ir.Module.parse(_generic(write_program(program)))
            assert module.operation.verify()
            text = module.operation.get_asm(print_generic_op_form=True)
        assert _parsed(text).program() == program


def _shared() -> Program:
    b = Builder("shared")
    x, y = b.buffer("x", [4], "f32"), b.buffer("y", [4], "f32", output=True)
    (i,) = b.axes(i=4)
    value = x[i] + 1.0
    y[i] = value * value
    return b.build()


def test_shared_scalar_is_one_op():
    text = str(write_program(_shared()))
    assert text.count("arith.addf") == 1
    assert text.count("nest.load") == 1


def test_value_of_two_ops_is_one_scalar():
    store = next(iter(_shared().places.values()))[-1].body[0]
    block = write_program(_shared()).program().block("y")
    assert isinstance(store, Block)
    assert block is not None
    assert isinstance(read := block.body[0], Store)
    assert isinstance(product := read.value, Apply)
    assert product.operands[0] is product.operands[1]


def test_regions_that_are_left_out_are_those_that_are_touched():
    text = str(write_program(_shared()))
    shorter = text.replace(" reads (%x[%vi]) writes (%y[%vi])", "")
    assert len(shorter) < len(text)
    assert _parsed(shorter).program() == _shared()
