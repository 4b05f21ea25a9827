"""Ops made without their constructors are what the constructors make."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from xdsl.dialects import arith, llvm, scf, vector
from xdsl.dialects.builtin import FileLineColLoc, IntAttr, StringAttr, VectorType, f32, i32
from xdsl.ir import Block, Operation, Region, SSAValue

from tilewright.dialects import nvvm
from tilewright.lowering.creation import (
    append_op,
    build_op,
    default_properties,
    insert_op,
    new_block,
    new_op,
    new_region,
    ops_of,
)

PLACE = FileLineColLoc(StringAttr("nest.py"), IntAttr(3), IntAttr(5))
PAIR = VectorType(f32, (2,))
SHARED = llvm.LLVMPointerType(IntAttr(3))
KINDS = (i32, f32, PAIR, SHARED)

Arguments = Callable[[Sequence[SSAValue]], Sequence[Any]]
CASES: dict[str, tuple[type[Operation], Arguments]] = {
    "no operands": (scf.YieldOp, lambda v: ()),
    "twice the same": (arith.AddiOp, lambda v: (v[0], v[0])),
    "a property": (arith.CmpfOp, lambda v: (v[1], v[1], "olt")),
    "a type": (vector.BroadcastOp, lambda v: (v[1], PAIR)),
    "a number": (llvm.LoadOp, lambda v: (v[3], PAIR, 8)),
    "no result": (llvm.StoreOp, lambda v: (v[2], v[3], 8)),
    "lists of operands": (
        nvvm.MmaSyncOp,
        lambda v: ([v[0]] * 4, [v[0]] * 2, [v[1]] * 4, (16, 8, 16), nvvm.MMAType.BF16),
    ),
}


class ReversedStoreOp(llvm.StoreOp):
    """A store whose constructor takes the address first."""

    def __init__(self, pointer: SSAValue, value: SSAValue) -> None:
        super().__init__(value, pointer)


def fields(op: Operation, values: Sequence[SSAValue]) -> dict[str, Any]:
    """What an op is, field by field; its operands by their numbers."""
    return {
        "kind": type(op),
        "operands": [values.index(operand) for operand in op.operands],
        "types": list(op.result_types),
        "results": [(result.op is op, result.index) for result in op.results],
        "properties": op.properties,
        "attributes": op.attributes,
        "location": op.location,
        "regions": len(op.regions),
        "successors": len(op.successors),
        "parent": op.parent,
        "neighbours": (op.next_op, op.prev_op),
        "uses": [[(use.operation is op, use.index) for use in value.uses] for value in values],
    }


@pytest.mark.parametrize("name", CASES)
def test_an_op_of_a_pattern_is_the_op_of_its_constructor(name: str) -> None:
    kind, arguments = CASES[name]
    found: list[dict[str, Any]] = []
    makers: list[Callable[[Sequence[Any]], Operation]] = [
        lambda chosen: kind(*chosen),
        # The first may run the constructor, the second does not.
        lambda chosen: build_op(kind, chosen, PLACE),
        lambda chosen: build_op(kind, chosen, PLACE),
    ]
    for make in makers:
        values = Block(arg_types=KINDS).args
        op = make(arguments(values))
        op.location = PLACE
        op.verify()
        found.append(fields(op, values))
    assert found[1] == found[0]
    assert found[2] == found[0]


def test_arguments_that_differ_are_different_patterns() -> None:
    (number,) = Block(arg_types=(f32,)).args
    predicates = [
        build_op(arith.CmpfOp, (number, number, name), PLACE).predicate.value.data
        for name in ("olt", "ogt", "olt")
    ]
    assert predicates[0] == predicates[2] != predicates[1]


def test_operands_of_other_types_are_another_pattern() -> None:
    number, pair = Block(arg_types=(f32, PAIR)).args
    kinds = [build_op(arith.AddfOp, (v, v), PLACE).results[0].type for v in (number, pair)]
    assert kinds == [f32, PAIR]


def test_an_op_whose_operands_stand_in_another_order_is_made_by_its_constructor() -> None:
    pointer, number = Block(arg_types=(SHARED, f32)).args
    for _ in range(2):
        op = build_op(ReversedStoreOp, (pointer, number), PLACE)
        assert list(op.operands) == [number, pointer]


def test_an_op_with_regions_is_made_by_its_constructor() -> None:
    condition = arith.ConstantOp.from_int_and_width(1, 1).result
    for _ in range(2):
        block = Block([scf.YieldOp()])
        op = build_op(scf.IfOp, (condition, (), Region(block), Region()), PLACE)
        assert block.parent_op() is op


def test_properties_that_have_a_default_are_known() -> None:
    (number,) = Block(arg_types=(f32,)).args
    assert default_properties(arith.AddfOp) == arith.AddfOp(number, number).properties


def test_ops_are_appended_in_order() -> None:
    block = Block(arg_types=(i32, i32))
    ops = [new_op(arith.AndIOp, block.args, (i32,), {}, PLACE) for _ in range(3)]
    for op in ops:
        append_op(block, op)
    assert list(block.ops) == ops
    assert [op.prev_op for op in ops] == [None, *ops[:2]]
    assert (block.last_op, ops[1].parent) == (ops[2], block)


def test_a_region_belongs_to_the_op_that_is_made_with_it() -> None:
    block = Block([scf.YieldOp()])
    condition = arith.ConstantOp.from_int_and_width(1, 1).result
    op = new_op(scf.IfOp, (condition,), (), {}, PLACE, (Region(block), Region()))
    op.verify()
    assert block.parent_op() is op


def test_a_block_and_its_region_are_those_of_their_constructors() -> None:
    made, expected = new_block(KINDS), Block(arg_types=KINDS)
    regions = new_region(made), Region(expected)
    for block, region in zip((made, expected), regions, strict=True):
        assert [(arg.type, arg.block, arg.index) for arg in block.args] == [
            (kind, block, index) for index, kind in enumerate(KINDS)
        ]
        assert (block.parent, list(region.blocks), region.parent) == (region, [block], None)
        assert (block.first_op, block.last_op, block.next_block) == (None, None, None)
        assert (region.first_block, region.last_block) == (block, block)
    assert vars(made.args[0]).keys() == vars(expected.args[0]).keys()
    assert list(new_region().blocks) == []


@pytest.mark.parametrize("place", range(4))
def test_an_op_is_inserted_behind_another_one_or_in_front_of_all(place: int) -> None:
    block = new_block(())
    ops = [new_op(scf.YieldOp, (), (), {}, PLACE) for _ in range(4)]
    before = [op for index, op in enumerate(ops) if index != place]
    for op in before:
        append_op(block, op)
    insert_op(block, ops[place], before[place - 1] if place else None)
    assert list(block.ops) == ops
    assert list(reversed(block.ops)) == ops[::-1]
    assert ops_of(block) == ops
