"""Values are defined before they are used, whatever the blocks and regions between."""

import pytest
from xdsl.context import Context
from xdsl.dialects.builtin import Builtin
from xdsl.dialects.cf import Cf
from xdsl.dialects.func import Func
from xdsl.dialects.test import Test

from tilewright.dialects.diagnostic import DiagnosticError, source_position
from tilewright.dialects.parsing import parse_module


def _verify(body: str) -> None:
    ctx = Context()
    for dialect in (Builtin, Cf, Func, Test):
        ctx.load_dialect(dialect)
    parse_module(f"func.func @f(%c: i1) {{\n{body}\n}}", "f.mlir", ctx)


DEFINED = {
    "in the same block": """
      %v = "test.op"() : () -> i32
      "test.op"(%v) : (i32) -> ()
      func.return""",
    "around the region": """
      %v = "test.op"() : () -> i32
      "test.op"() ({
        "test.termop"(%v) : (i32) -> ()
      }) : () -> ()
      func.return""",
    "in a block that dominates": """
      %v = "test.op"() : () -> i32
      cf.cond_br %c, ^a, ^b
    ^a:
      cf.br ^b
    ^b:
      "test.op"(%v) : (i32) -> ()
      func.return""",
    "for a block that is never reached": """
      func.return
    ^a:
      %v = "test.op"() : () -> i32
      cf.br ^a
    ^b:
      "test.op"(%v) : (i32) -> ()
      cf.br ^b""",
}
UNDEFINED = {
    "after the use": """
      "test.op"(%v) : (i32) -> () // here
      %v = "test.op"() : () -> i32
      func.return""",
    "by the op itself": """
      %v = "test.op"(%v) : (i32) -> i32 // here
      func.return""",
    "in a region of the user": """
      "test.op"() ({
        "test.termop"(%v) : (i32) -> () // here
      }) : () -> ()
      %v = "test.op"() : () -> i32
      func.return""",
    "in one of two branches": """
      cf.cond_br %c, ^a, ^b
    ^a:
      %v = "test.op"() : () -> i32
      cf.br ^b
    ^b:
      "test.op"(%v) : (i32) -> () // here
      func.return""",
}


@pytest.mark.parametrize("case", DEFINED)
def test_value_is_defined(case: str):
    _verify(DEFINED[case])


@pytest.mark.parametrize("case", UNDEFINED)
def test_value_is_used_before_it_is_defined(case: str):
    lines = ["func.func", *UNDEFINED[case].splitlines()]
    with pytest.raises(DiagnosticError, match="to be defined before its use") as info:
        _verify(UNDEFINED[case])
    position = source_position(info.value.location)
    assert position is not None
    assert "// here" in lines[position.line.data - 1]
