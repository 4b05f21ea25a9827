"""Loops and branches of the direct printer: values around loops, in branches, across both."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tilewright.dialects.diagnostic import DiagnosticError
from tilewright.lowering.ptx import print_ptx
from tilewright.test.lowering.ptx.execute import apply
from tilewright.test.lowering.ptx.kernels import elementwise

Array = NDArray[Any]

CONSTANTS = "".join(f"%c{n} = arith.constant {n} : i32\n" for n in range(9))


def _run(code: str, reference: Callable[[int, int], int], low: int = -5, high: int = 12) -> None:
    """Compares code that makes %r of %a and %b with a function of Python integers."""
    rng = np.random.default_rng()
    a, b = (rng.integers(low, high, 64, np.int32) for _ in range(2))
    result = apply(elementwise(CONSTANTS + code, ["i32", "i32"], "i32"), [a, b], np.int32)
    assert result.tolist() == [reference(x, y) for x, y in zip(a.tolist(), b.tolist())]


def test_loop_runs_as_often_as_its_bounds_say() -> None:
    code = """
    %r = scf.for %i = %a to %b step %c3 iter_args(%s = %c0) -> (i32) : i32 {
      %n = arith.addi %s, %c1 : i32
      scf.yield %n : i32
    }
    """
    _run(code, lambda a, b: len(range(a, b, 3)))


def test_induction_variable_counts() -> None:
    code = """
    %r = scf.for %i = %a to %b step %c2 iter_args(%s = %c7) -> (i32) : i32 {
      %square = arith.muli %i, %i : i32
      %n = arith.addi %s, %square : i32
      scf.yield %n : i32
    }
    """
    _run(code, lambda a, b: 7 + sum(i * i for i in range(a, b, 2)))


def test_induction_variable_of_64_bits_passes_32() -> None:
    code = """
    %start = arith.constant 4294967290 : i64
    %one = arith.constant 1 : i64
    %limit = arith.constant 4294967293 : i64
    %b64 = arith.extsi %b : i32 to i64
    %end = arith.addi %start, %b64 : i64
    %r = scf.for %i = %start to %end step %one iter_args(%s = %c0) -> (i32) : i64 {
      %below = arith.cmpi slt, %i, %limit : i64
      %n = arith.extui %below : i1 to i32
      %t = arith.addi %s, %n : i32
      scf.yield %t : i32
    }
    """
    _run(code, lambda a, b: min(max(b, 0), 3))


def test_carried_values_are_exchanged() -> None:
    code = """
    %x, %y = scf.for %i = %c0 to %b step %c1 iter_args(%p = %a, %q = %c5) -> (i32, i32) : i32 {
      scf.yield %q, %p : i32, i32
    }
    %big = arith.constant 1000 : i32
    %high = arith.muli %x, %big : i32
    %r = arith.addi %high, %y : i32
    """

    def reference(a: int, b: int) -> int:
        p, q = a, 5
        for _ in range(0, b):
            p, q = q, p
        return 1000 * p + q

    _run(code, reference)


def test_three_values_rotate() -> None:
    code = """
    %x, %y, %z = scf.for %i = %c0 to %b step %c1 iter_args(%p = %a, %q = %c5, %s = %c7)
        -> (i32, i32, i32) : i32 {
      scf.yield %q, %s, %p : i32, i32, i32
    }
    %big = arith.constant 100 : i32
    %x1 = arith.muli %x, %big : i32
    %x2 = arith.addi %x1, %y : i32
    %x3 = arith.muli %x2, %big : i32
    %r = arith.addi %x3, %z : i32
    """

    def reference(a: int, b: int) -> int:
        p, q, s = a, 5, 7
        for _ in range(0, b):
            p, q, s = q, s, p
        return (p * 100 + q) * 100 + s

    _run(code, reference)


def test_old_value_is_read_after_the_new_one_is_made() -> None:
    # The previous value is yielded beside the next one: neither may overwrite the other early.
    code = """
    %x, %y = scf.for %i = %c0 to %b step %c1 iter_args(%cur = %a, %prev = %c0) -> (i32, i32) : i32 {
      %twice = arith.muli %cur, %c2 : i32
      %next = arith.addi %twice, %prev : i32
      scf.yield %next, %cur : i32, i32
    }
    %r = arith.subi %x, %y : i32
    """

    def reference(a: int, b: int) -> int:
        cur, prev = a, 0
        for _ in range(0, b):
            cur, prev = 2 * cur + prev, cur
        return cur - prev

    _run(code, reference)


def test_value_from_outside_survives_the_loop() -> None:
    # %k looks dead after its use in the body, but the next iteration reads it again.
    code = """
    %k = arith.muli %a, %c3 : i32
    %r = scf.for %i = %c0 to %b step %c1 iter_args(%s = %k) -> (i32) : i32 {
      %n = arith.addi %k, %i : i32
      %m = arith.muli %n, %c5 : i32
      %t = arith.xori %s, %m : i32
      scf.yield %t : i32
    }
    """

    def reference(a: int, b: int) -> int:
        s = 3 * a
        for i in range(0, b):
            s ^= (3 * a + i) * 5
        return s

    _run(code, reference)


def test_initial_value_is_used_after_the_loop() -> None:
    code = """
    %k = arith.xori %a, %c3 : i32
    %s = scf.for %i = %c0 to %b step %c1 iter_args(%t = %k) -> (i32) : i32 {
      %n = arith.addi %t, %c4 : i32
      scf.yield %n : i32
    }
    %r = arith.subi %s, %k : i32
    """
    _run(code, lambda a, b: 4 * len(range(0, b)))


def test_one_value_is_yielded_twice() -> None:
    code = """
    %x, %y = scf.for %i = %c0 to %b step %c1 iter_args(%p = %a, %q = %c1) -> (i32, i32) : i32 {
      %n = arith.addi %p, %q : i32
      scf.yield %n, %n : i32, i32
    }
    %big = arith.constant 3 : i32
    %h = arith.muli %x, %big : i32
    %r = arith.addi %h, %y : i32
    """

    def reference(a: int, b: int) -> int:
        p, q = a, 1
        for _ in range(0, min(b, 20)):
            p = q = p + q
        return 3 * p + q

    _run(code, reference)


def test_nested_loops_carry_one_value() -> None:
    code = """
    %r = scf.for %i = %c0 to %a step %c1 iter_args(%s = %c0) -> (i32) : i32 {
      %t = scf.for %j = %i to %b step %c1 iter_args(%u = %s) -> (i32) : i32 {
        %v = arith.addi %u, %j : i32
        %w = arith.xori %v, %i : i32
        scf.yield %w : i32
      }
      %n = arith.addi %t, %c1 : i32
      scf.yield %n : i32
    }
    """

    def reference(a: int, b: int) -> int:
        s = 0
        for i in range(0, a):
            for j in range(i, b):
                s = (s + j) ^ i
            s += 1
        return s

    _run(code, reference)


def test_unrolled_loop_in_a_loop() -> None:
    code = """
    %z = arith.constant dense<0> : vector<4xi32>
    %i0 = arith.constant 0 : index
    %i1 = arith.constant 1 : index
    %i4 = arith.constant 4 : index
    %v = scf.for %i = %c0 to %b step %c1 iter_args(%s = %z) -> (vector<4xi32>) : i32 {
      %t = scf.for %j = %i0 to %i4 step %i1 iter_args(%u = %s) -> (vector<4xi32>) {
        %e = vector.extract %u[%j] : i32 from vector<4xi32>
        %j32 = arith.index_cast %j : index to i32
        %m = arith.muli %j32, %i : i32
        %n = arith.addi %e, %m : i32
        %w = vector.insert %n, %u[%j] : i32 into vector<4xi32>
        scf.yield %w : vector<4xi32>
      } {tilewright.unroll}
      scf.yield %t : vector<4xi32>
    }
    %sum = vector.reduction <add>, %v : vector<4xi32> into i32
    %r = arith.addi %sum, %a : i32
    """
    _run(code, lambda a, b: a + 6 * sum(range(0, b)))


def test_what_does_not_vary_is_printed_once() -> None:
    code = """
    %i0 = arith.constant 0 : index
    %i1 = arith.constant 1 : index
    %i4 = arith.constant 4 : index
    %r = scf.for %j = %i0 to %i4 step %i1 iter_args(%s = %a) -> (i32) {
      %q = arith.divui %b, %a : i32
      %n = arith.addi %s, %q : i32
      scf.yield %n : i32
    } {tilewright.unroll}
    """
    assert print_ptx(elementwise(CONSTANTS + code, ["i32", "i32"], "i32")).count("div.u32") == 1


@pytest.mark.parametrize("trips", [0, 1])
def test_loop_of_at_most_one_trip_is_no_loop(trips: int) -> None:
    code = f"""
    %r = scf.for %i = %c0 to %c{trips} step %c1 iter_args(%s = %a) -> (i32) : i32 {{
      %n = arith.addi %s, %b : i32
      scf.yield %n : i32
    }}
    """
    assert "bra" not in print_ptx(elementwise(CONSTANTS + code, ["i32", "i32"], "i32"))
    _run(code, lambda a, b: a + trips * b)


def test_if_stores_under_a_guard() -> None:
    code = """
    %p = arith.cmpi slt, %a, %b : i32
    scf.if %p {
      "llvm.store"(%a, %at_b) <{ordering = 0 : i64}> : (i32, !llvm.ptr<1>) -> ()
    }
    %r = "llvm.load"(%at_b) <{ordering = 0 : i64}> : (!llvm.ptr<1>) -> i32
    """
    text = print_ptx(elementwise(CONSTANTS + code, ["i32", "i32"], "i32"))
    assert re.search(r"@%p\d+ st\.global", text)
    assert "bra" not in text
    _run(code, min)


def test_pure_if_becomes_a_selection() -> None:
    code = """
    %p = arith.cmpi slt, %a, %b : i32
    %r = scf.if %p -> (i32) {
      %x = arith.muli %a, %c3 : i32
      scf.yield %x : i32
    } else {
      %y = arith.subi %b, %c4 : i32
      scf.yield %y : i32
    }
    """
    assert "bra" not in print_ptx(elementwise(CONSTANTS + code, ["i32", "i32"], "i32"))
    _run(code, lambda a, b: 3 * a if a < b else b - 4)


_LOAD = '"llvm.load"(%at_{0}) <{{ordering = 0 : i64}}> : (!llvm.ptr<1>) -> i32'


def test_if_with_loads_branches() -> None:
    code = f"""
    %p = arith.cmpi slt, %a, %b : i32
    %x, %y = scf.if %p -> (i32, i32) {{
      %u = {_LOAD.format("b")}
      %v = arith.addi %u, %c3 : i32
      scf.yield %v, %a : i32, i32
    }} else {{
      %u = {_LOAD.format("a")}
      %v = arith.muli %u, %c5 : i32
      scf.yield %v, %v : i32, i32
    }}
    %h = arith.muli %x, %c7 : i32
    %r = arith.subi %h, %y : i32
    """
    assert "bra" in print_ptx(elementwise(CONSTANTS + code, ["i32", "i32"], "i32"))
    _run(code, lambda a, b: 7 * (b + 3) - a if a < b else 7 * 5 * a - 5 * a)


def test_nested_ifs_in_a_loop() -> None:
    code = f"""
    %r = scf.for %i = %c0 to %c8 step %c1 iter_args(%s = %a) -> (i32) : i32 {{
      %p = arith.cmpi slt, %i, %b : i32
      %t = scf.if %p -> (i32) {{
        %u = {_LOAD.format("a")}
        %bit = arith.andi %s, %c1 : i32
        %odd = arith.cmpi eq, %bit, %c1 : i32
        %v = scf.if %odd -> (i32) {{
          %w = {_LOAD.format("b")}
          %m = arith.addi %s, %w : i32
          scf.yield %m : i32
        }} else {{
          %m = arith.addi %s, %u : i32
          scf.yield %m : i32
        }}
        scf.yield %v : i32
      }} else {{
        scf.yield %s : i32
      }}
      %n = arith.addi %t, %i : i32
      scf.yield %n : i32
    }}
    """

    def reference(a: int, b: int) -> int:
        s = a
        for i in range(8):
            if i < b:
                s += b if s & 1 else a
            s += i
        return s

    _run(code, reference)


def test_known_condition_leaves_one_branch() -> None:
    # The thread index is below 32 in this kernel of 32 threads.
    code = """
    %c32b = arith.constant 32 : i32
    %p = arith.cmpi slt, %tid, %c32b : i32
    %r = scf.if %p -> (i32) {
      scf.yield %a : i32
    } else {
      %q = arith.divsi %a, %b : i32
      scf.yield %q : i32
    }
    """
    text = print_ptx(elementwise(CONSTANTS + code, ["i32", "i32"], "i32"))
    assert "div" not in text
    assert "selp" not in text


def test_while_loop() -> None:
    code = """
    %x, %n = scf.while (%v = %a, %k = %c0) : (i32, i32) -> (i32, i32) {
      %p = arith.cmpi slt, %v, %b : i32
      %twice = arith.muli %k, %c2 : i32
      scf.condition(%p) %v, %twice : i32, i32
    } do {
    ^bb0(%u: i32, %m: i32):
      %half = arith.divui %m, %c2 : i32
      %v1 = arith.addi %u, %c3 : i32
      %k1 = arith.addi %half, %c1 : i32
      scf.yield %v1, %k1 : i32, i32
    }
    %big = arith.constant 100 : i32
    %h = arith.muli %x, %big : i32
    %r = arith.addi %h, %n : i32
    """

    def reference(a: int, b: int) -> int:
        count = len(range(a, b, 3))
        return 100 * (a + 3 * count) + 2 * count

    _run(code, reference)


def test_carried_value_is_read_in_every_trip_of_an_inner_while() -> None:
    # What the while passes on becomes %x of the next trip, but its own condition reads the old.
    code = """
    %r = scf.for %i = %c0 to %c4 step %c1 iter_args(%x = %a) -> (i32) : i32 {
      %w = scf.while (%k = %c0) : (i32) -> (i32) {
        %t = arith.addi %k, %x : i32
        %p = arith.cmpi slt, %t, %b : i32
        scf.condition(%p) %k : i32
      } do {
      ^bb0(%u: i32):
        %n = arith.addi %u, %c2 : i32
        scf.yield %n : i32
      }
      scf.yield %w : i32
    }
    """

    def reference(a: int, b: int) -> int:
        x = a
        for _ in range(4):
            k = 0
            while k + x < b:
                k += 2
            x = k
        return x

    _run(code, reference)


def test_halves_are_carried_packed() -> None:
    code = """
    %z = arith.constant dense<1.0> : vector<2xf16>
    %v = scf.for %i = %c0 to %c4 step %c1 iter_args(%s = %z) -> (vector<2xf16>) : i32 {
      %n = arith.addf %s, %s : vector<2xf16>
      scf.yield %n : vector<2xf16>
    }
    %e = vector.extract %v[1] : f16 from vector<2xf16>
    %w = arith.fptosi %e : f16 to i32
    %r = arith.addi %w, %a : i32
    """
    _run(code, lambda a, b: a + 16)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "scf.for %i = %c0 to %a step %c1 : i32 {} {tilewright.unroll}",
            "expects constant bounds to unroll, got a run-time upper bound",
        ),
        ("scf.for %i = %c0 to %a step %c0 : i32 {}", "expects a positive step, got 0"),
        (
            "%v = vector.broadcast %a : i32 to vector<4xi32>\n"
            "%i = arith.index_cast %a : i32 to index\n"
            "%e = vector.extract %v[%i] : i32 from vector<4xi32>",
            "expects a position that is constant once loops are unrolled",
        ),
        (
            "%v = vector.broadcast %a : i32 to vector<4xi32>\n%i = arith.constant 4 : index\n"
            "%e = vector.extract %v[%i] : i32 from vector<4xi32>",
            "expects a position below 4 on axis 0, got 4",
        ),
        ("%v = math.exp %af : f32", "without fastmath<afn>; expand-math gives it more"),
        ("%v = math.atan %af : f32", "has no rule that prints it as PTX"),
        ("%v = arith.sitofp %a : i32 to bf16", "from i32 to bf16 has no PTX instruction"),
        ("%v = arith.addi %p, %p : i1", "expects integers of 8 bits or more, got i1"),
    ],
)
def test_what_has_no_ptx_is_refused_at_its_op(code: str, message: str) -> None:
    text = f"""
    {CONSTANTS}
    %af = arith.bitcast %a : i32 to f32
    %p = arith.cmpi slt, %a, %c0 : i32
    {code}
    %r = arith.addi %a, %c1 : i32
    """
    with pytest.raises(DiagnosticError, match=re.escape(message)) as caught:
        print_ptx(elementwise(text, ["i32"], "i32"))
    assert caught.value.op_name is not None


def test_unknown_target_is_refused() -> None:
    module = elementwise("%r = arith.addi %a, %a : i32", ["i32"], "i32")
    with pytest.raises(DiagnosticError, match="expected a target among sm_80"):
        print_ptx(module, "sm_20")


def _wide_loop(elements: int) -> str:
    """Returns the PTX of an xor in front of a loop of so many carried elements, and behind it."""
    vector = f"vector<{elements}xf32>"
    code = f"""
    %x = arith.sitofp %a : i32 to f32
    %start = vector.broadcast %x : f32 to {vector}
    %before = arith.xori %a, %b : i32
    %end = scf.for %i = %c0 to %before step %c1 iter_args(%v = %start) -> ({vector}) : i32 {{
      %w = arith.addf %v, %v : {vector}
      scf.yield %w : {vector}
    }}
    %chosen = vector.extract %end[0] : f32 from {vector}
    %number = arith.fptosi %chosen : f32 to i32
    %after = arith.xori %a, %b : i32
    %r = arith.addi %after, %number : i32
    """
    return print_ptx(elementwise(CONSTANTS + code, ["i32", "i32"], "i32"), "sm_80")


@pytest.mark.parametrize(("elements", "times"), [(8, 1), (96, 2)])
def test_what_was_known_is_computed_again_behind_a_loop_that_carries_much(
    elements: int, times: int
) -> None:
    assert len(re.findall(r"\txor\.b32", _wide_loop(elements))) == times
