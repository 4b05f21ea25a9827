"""Writes a thread-level module as the generic MLIR text that upstream MLIR reads."""

from __future__ import annotations

from io import StringIO

from xdsl.dialects import scf
from xdsl.dialects.builtin import IntegerAttr, ModuleOp, StringAttr
from xdsl.ir import Operation, SSAValue
from xdsl.printer import Printer
from xdsl.traits import ConstantLike

from ...dialects.diagnostic import error_at
from ..ptx.control import UNROLL


def generic_text(module: ModuleOp) -> str:
    """Returns the generic form of a module."""
    text = StringIO()
    Printer(text, print_generic_format=True).print_op(module)
    return text.getvalue()


def _is_unrolled(op: Operation | None) -> bool:
    return isinstance(op, scf.ForOp) and UNROLL in op.attributes


def _constant(op: Operation, name: str, value: SSAValue) -> int:
    attribute = ConstantLike.get_constant_value(value)
    if not isinstance(attribute, IntegerAttr):
        raise error_at(op, f"expects a constant {name} to unroll upstream")
    return attribute.value.data


def _trips(op: scf.ForOp) -> int:
    low = _constant(op, "lower bound", op.lb)
    high = _constant(op, "upper bound", op.ub)
    step = _constant(op, "step", op.step)
    if step <= 0:
        raise error_at(op, f"expects a positive step, got {step}")
    return len(range(low, high, step))


def _depth(op: Operation) -> int:
    depth = 0
    parent: Operation | None = op
    while parent is not None:
        depth += _is_unrolled(parent)
        parent = parent.parent_op()
    return depth


def tag_unrolled_loops(module: ModuleOp) -> list[tuple[int, int]]:
    """
    Tags each loop to unroll with its depth among such loops and its trip count.

    Returns the tags in the order in which their loops are to be unrolled: innermost first.
    """
    tags: set[tuple[int, int]] = set()
    for op in module.walk():
        if isinstance(op, scf.ForOp) and UNROLL in op.attributes:
            tag = (_depth(op), _trips(op))
            op.attributes[UNROLL] = StringAttr(tag_text(tag))
            tags.add(tag)
    return sorted(tags, key=lambda tag: (-tag[0], tag[1]))


def tag_text(tag: tuple[int, int]) -> str:
    """Returns the value of the attribute of a tagged loop."""
    return f"depth {tag[0]}, {tag[1]} trips"


def unroll_script(tags: list[tuple[int, int]]) -> str:
    """Returns a transform script that unrolls the tagged loops."""
    steps = "".join(
        f"""
    %loops{index} = transform.structured.match ops{{["scf.for"]}}
      attributes{{{UNROLL} = "{tag_text(tag)}"}} in %root
      : (!transform.any_op) -> !transform.any_op
    transform.loop.unroll %loops{index} {{factor = {tag[1]} : i64}} : !transform.any_op"""
        for index, tag in enumerate(tags)
        if tag[1] > 1
    )
    return f"""
module attributes {{transform.with_named_sequence}} {{
  transform.named_sequence @unroll(%root: !transform.any_op {{transform.consumed}}) {{{steps}
    transform.yield
  }}
}}
"""
