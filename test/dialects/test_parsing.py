"""Places of the text on ops and block arguments."""

import random

import pytest
from xdsl.context import Context
from xdsl.dialects.builtin import Builtin, ModuleOp
from xdsl.dialects.func import Func
from xdsl.dialects.scf import Scf
from xdsl.dialects.test import Test
from xdsl.ir import Operation

from tilewright.dialects.diagnostic import DiagnosticError, source_position
from tilewright.dialects.parsing import parse_module


def _parse(text: str) -> ModuleOp:
    ctx = Context()
    for dialect in (Builtin, Func, Scf, Test):
        ctx.load_dialect(dialect)
    return parse_module(text, "f.mlir", ctx)


def _place(op: Operation) -> tuple[int, int]:
    position = source_position(op.location)
    assert position is not None
    return position.line.data, position.column.data


def _ops(module: ModuleOp, name: str) -> list[Operation]:
    return [op for op in module.walk() if op.name == name]


def test_op_stands_where_its_name_stands():
    rng = random.Random()
    lines = ["func.func @f() {"]
    expected: list[tuple[int, int]] = []
    for index in range(20):
        lines += [""] * rng.randrange(3)
        before = " " * rng.randrange(8) + f"%v{index} = "
        lines.append(f'{before}"test.op"() : () -> i32')
        expected.append((len(lines), len(before) + 1))
    lines += ["func.return", "}"]
    assert [_place(op) for op in _ops(_parse("\n".join(lines)), "test.op")] == expected


def test_ops_in_regions_keep_their_own_places():
    module = _parse(
        '"test.op"() ({\n  "test.op"() : () -> ()\n  "test.termop"() : () -> ()\n}) : () -> ()'
    )
    assert [_place(op) for op in _ops(module, "test.op")] == [(1, 1), (2, 3)]


def test_terminator_that_is_left_out_stands_at_its_op():
    module = _parse("func.func @f(%c: i1) {\n  scf.if %c {\n  }\n  func.return\n}")
    assert _place(_ops(module, "scf.yield")[0]) == (2, 3)


def test_block_argument_stands_at_its_name():
    module = _parse("func.func @f(%a: i32,\n  %b: i32) {\n  func.return\n}")
    (function,) = _ops(module, "func.func")
    positions = [source_position(arg.location) for arg in function.regions[0].block.args]
    assert [(p.line.data, p.column.data) for p in positions if p] == [(1, 14), (2, 3)]


def test_location_in_the_text_is_kept():
    module = _parse('"test.op"() : () -> () loc("model.py":7:3)')
    assert _place(_ops(module, "test.op")[0]) == (7, 3)


def test_module_that_does_not_verify_is_refused():
    with pytest.raises(DiagnosticError, match="'scf.if' op"):
        _parse('func.func @f(%a: i32) {\n  "scf.if"(%a) ({}, {}) : (i32) -> ()\n  func.return\n}')
