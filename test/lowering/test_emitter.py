"""Constants of a kernel: one op for each value."""

from xdsl.dialects import arith
from xdsl.dialects.builtin import FloatAttr, IntegerAttr, UnknownLoc, f32, i32
from xdsl.ir import Block

from tilewright.lowering.emitter import Emitter


def test_an_integer_is_one_constant_however_it_is_asked_for() -> None:
    emit = Emitter(Block(), UnknownLoc())
    source = arith.ConstantOp(IntegerAttr(7, i32))
    values = [emit.integer(7), emit.constant(IntegerAttr(7, i32)), emit.constant_of(source)]
    assert values == [values[0]] * 3


def test_integers_of_other_types_are_other_constants() -> None:
    emit = Emitter(Block(), UnknownLoc())
    assert emit.integer(7) is not emit.index(7)


def test_zeros_of_both_signs_are_two_constants() -> None:
    emit = Emitter(Block(), UnknownLoc())
    zeros = [emit.float32(0.0), emit.float32(-0.0), emit.constant(FloatAttr(-0.0, f32))]
    texts = [str(zero.owner) for zero in zeros]
    assert ["-0.0" in text for text in texts] == [False, True, True], texts
