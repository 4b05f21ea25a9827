"""Copies that fill with zero are one instruction."""

import re

import numpy as np

from tilewright.dialects.nest.intrinsics import BARRIER, COMMIT, wait_for
from tilewright.dialects.nest.program import Body, Call, Guard, Loop, LoopKind, Program, Scope
from tilewright.dialects.nest.scalars import Apply, Constant
from tilewright.dialects.sym import Ranges, constant, floordiv, mod, symbol
from tilewright.nest.gpu import CompiledForGPU, compile_for_gpu
from tilewright.runtime.simulator_device import SimulatorDevice
from tilewright.transforms.conditions import less

from .one_warp import array, call, region

ROWS, COLUMNS, CHUNK = 16, 16, 8


def padded(rows: int) -> CompiledForGPU:
    """Copies `rows` rows of X by way of shared memory; the rest of Y is zero."""
    lane = symbol("t")
    row, part = floordiv(lane, 2), (mod(lane, 2) * CHUNK, CHUNK)
    target, source = region("S", (row, 1), part), region("X", (row, 1), part)
    inside = less(row, constant(rows))
    outside = Apply("arith.xori", (inside, Constant(1, "i1")), "i1")
    back = symbol("u")
    whole = (ROWS - 1 - floordiv(back, 2), 1), (mod(back, 2) * CHUNK, CHUNK)
    fetch: Body = (
        Guard(inside, (call("cp.async.16.f16", target, source),)),
        Guard(outside, (call("zero.16.f16", target),)),
    )
    put: Body = (call("copy.16.f16", region("Y", *whole), region("S", *whole)),)
    body: Body = (
        Loop("t", constant(32), fetch, LoopKind.THREAD_X),
        *(Call(name, ()) for name in (COMMIT, wait_for(0), BARRIER)),
        Loop("u", constant(32), put, LoopKind.THREAD_X),
    )
    program = Program(
        "padded",
        (
            array("X", rows, COLUMNS, "f16", Scope.GLOBAL),
            array("Y", ROWS, COLUMNS, "f16", Scope.GLOBAL),
        ),
        Ranges({}),
        (Loop("b", constant(1), body, LoopKind.BLOCK_X),),
        (array("S", ROWS, COLUMNS, "f16", Scope.SHARED),),
        frozenset("Y"),
    )
    return compile_for_gpu(program, "sm_80", device=SimulatorDevice(checks="all"))


def test_what_is_outside_is_filled_with_zero_and_not_read() -> None:
    x = np.random.default_rng(3).uniform(1, 2, (11, COLUMNS)).astype(np.float16)
    y = np.ones((ROWS, COLUMNS), np.float16)
    padded(11)(x, y)
    np.testing.assert_array_equal(y, np.concatenate([x, np.zeros((5, COLUMNS), np.float16)]))


def test_both_sides_of_the_condition_are_one_instruction() -> None:
    ptx = padded(11).artifact.ptx
    assert len(re.findall(r"cp\.async\.cg", ptx)) == 1
    assert not re.search(r"st\.shared|\bbra\b", ptx)
