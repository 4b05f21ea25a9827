"""Divergence: nested branches, loops with trip counts of their own, early exits, tables."""

from typing import Any

import numpy as np
import pytest

from tilewright.runtime import simulator

LOOP = """
    mov.u32 o0, 0; mov.u32 %r1, 0;
TOP:
    setp.ge.u32 %p1, %r1, a0; @%p1 bra DONE;
    and.b32 %r2, %r1, 1; setp.eq.u32 %p2, %r2, 0; @%p2 bra EVEN;
    mad.lo.u32 o0, o0, 3, 1; bra.uni NEXT;
EVEN:
    add.u32 o0, o0, %r1;
NEXT:
    add.u32 %r1, %r1, 1; bra TOP;
DONE:
"""


def loop(count: int) -> int:
    """Returns what LOOP computes."""
    value = 0
    for i in range(count):
        value = value * 3 + 1 if i & 1 else value + i
    return value % (1 << 32)


def test_loops_with_their_own_trip_counts(lanes: Any) -> None:
    trips = np.random.default_rng(0).integers(0, 40, 5000, dtype="u4")
    assert lanes(LOOP, trips).tolist() == [loop(n) for n in trips.tolist()]


def test_nested_branches_meet_again(lanes: Any, samples: Any) -> None:
    body = """
    mov.u32 o0, 1; setp.lt.u32 %p1, a0, a1; @%p1 bra A;
    setp.lt.u32 %p2, a0, 1000; @%p2 bra B;
    add.u32 o0, o0, 10; bra C;
B:  add.u32 o0, o0, 20;
C:  mul.lo.u32 o0, o0, 3; bra END;
A:  setp.eq.u32 %p3, a0, 0; @!%p3 bra END;
    sub.u32 o0, o0, 5;
END: add.u32 o0, o0, a0;
"""
    a, b = samples(32, 2)
    got = lanes(body, a, b)
    inner = np.where(a == 0, np.uint32(2**32 - 4), np.uint32(1))
    outer = np.where(a < 1000, np.uint32(63), np.uint32(33))
    assert (got == np.where(a < b, inner, outer) + a).all()


def test_early_return_keeps_the_others_going(lanes: Any) -> None:
    a = np.arange(300, dtype="u4")
    body = "setp.eq.u32 %p1, a0, 17; @%p1 ret; add.u32 o0, a0, 1;"
    assert (lanes(body, a) == np.where(a == 17, 0, a + 1)).all()


def test_an_indexed_branch_takes_its_label(lanes: Any) -> None:
    body = """
    and.b32 %r1, a0, 3; mov.u32 o0, 0;
TABLE: .branchtargets L0, L1, L2, L1;
    brx.idx %r1, TABLE;
L0: mov.u32 o0, 100; bra OUT;
L1: mov.u32 o0, 200; bra OUT;
L2: mov.u32 o0, 300;
OUT:
"""
    a = np.arange(97, dtype="u4")
    assert (lanes(body, a) == np.array([100, 200, 300, 200])[a & 3]).all()


def test_labels_of_the_same_name_live_in_their_own_braces(lanes: Any) -> None:
    body = """
    mov.u32 %r1, 0; mov.u32 o0, 0; and.b32 %r2, a0, 7;
    { L: add.u32 %r1, %r1, 1; add.u32 o0, o0, 3; setp.lt.u32 %p1, %r1, 3; @%p1 bra L; }
    bra L;
    { .reg .u32 %r1; mov.u32 %r1, 0;
      L: add.u32 %r1, %r1, 1; add.u32 o0, o0, 16; setp.lt.u32 %p1, %r1, %r2; @%p1 bra L; }
L:  { T: .branchtargets L, M; setp.lt.u32 %p1, %r2, 4; selp.u32 %r3, 0, 1, %p1; brx.idx %r3, T;
      L: add.u32 o0, o0, 1000;
      M: { M: add.u32 o0, o0, 100; setp.lt.u32 %p1, o0, 500; @%p1 bra M; }
    }
"""
    a = np.arange(200, dtype="u4")
    assert (lanes(body, a) == np.where(a % 8 < 4, 9 + 1000 + 100, 509)).all()


def test_swapped_registers_in_a_loop_keep_their_values(lanes: Any) -> None:
    body = """
    mov.u32 %r1, 1; mov.u32 %r2, 2; mov.u32 %r3, 0;
TOP: setp.ge.u32 %p1, %r3, a0; @%p1 bra OUT;
    mov.u32 %r4, %r1; mov.u32 %r1, %r2; mov.u32 %r2, %r4; add.u32 %r3, %r3, 1; bra TOP;
OUT: shl.b32 %r2, %r2, 4; or.b32 o0, %r1, %r2;
"""
    trips = np.random.default_rng(1).integers(0, 9, 4096, dtype="u4")
    assert (lanes(body, trips) == np.where(trips & 1, 0x12, 0x21)).all()


def test_inner_scopes_have_registers_of_their_own(lanes: Any) -> None:
    body = "mov.u32 o0, 1; { .reg .u32 x; mov.u32 x, 5; { .reg .u32 x; mov.u32 x, 7; } "
    body += "add.u32 o0, o0, x; }"
    assert lanes(body, np.zeros(2, "u4")).tolist() == [6, 6]


def test_spinning_lanes_let_the_others_run() -> None:
    """Thread 0 spins on a flag that thread 32 sets from a block further down."""
    text = """.version 8.0
.target sm_80
.address_size 64
.visible .entry spin(.param .u64 flag) {
    .reg .pred %p<3>; .reg .b32 %r<9>; .reg .b64 %d<3>;
    ld.param.u64 %d1, [flag]; mov.u32 %r1, %tid.x; setp.ge.u32 %p1, %r1, 32; @%p1 bra SET;
WAIT: ld.acquire.gpu.global.u32 %r2, [%d1]; setp.eq.u32 %p2, %r2, 0; @%p2 bra WAIT;
    ret;
SET: mov.u32 %r3, 1; st.release.gpu.global.u32 [%d1], %r3; ret;
}"""
    device = simulator.Device()
    flag = device.empty((1,), "u32")
    report = device.load(text)["spin"].launch(1, 64, [flag], max_steps=100_000)
    assert report.complete
    assert flag.numpy()[0] == 1


def test_ctas_that_wait_for_later_ones_finish() -> None:
    """Every CTA waits for the flag of the next one; they don't fit one batch."""
    text = """.version 8.0
.target sm_80
.address_size 64
.visible .entry chain(.param .u64 flags) {
    .reg .pred %p<3>; .reg .b32 %r<9>; .reg .b64 %d<3>;
    ld.param.u64 %d1, [flags]; mov.u32 %r1, %ctaid.x; mov.u32 %r4, %nctaid.x;
    mad.wide.u32 %d1, %r1, 4, %d1; add.u32 %r1, %r1, 1; setp.eq.u32 %p1, %r1, %r4;
    @%p1 bra SET;
WAIT: ld.volatile.global.u32 %r2, [%d1+4]; setp.eq.u32 %p2, %r2, 0; @%p2 bra WAIT;
SET: mov.u32 %r3, 1; st.volatile.global.u32 [%d1], %r3; ret;
}"""
    device = simulator.Device()
    flags = device.empty((17,), "u32")
    report = device.load(text)["chain"].launch(17, 1024, [flags])
    assert report.complete
    assert flags.numpy().tolist() == [1] * 17


def test_max_steps_ends_an_endless_loop() -> None:
    text = ".version 8.0\n.target sm_80\n.address_size 64\n"
    text += ".visible .entry forever() { L: bra L; }"
    report = simulator.Device().load(text)["forever"].launch(1, 32, [], max_steps=1000)
    assert not report.complete
    assert report.profile.steps <= 1001


def test_thread_instructions_count_active_threads_only(lanes: Any) -> None:
    text = """.version 8.0
.target sm_80
.address_size 64
.visible .entry count() {
    .reg .pred %p<3>; .reg .b32 %r<9>;
    mov.u32 %r1, %tid.x; setp.lt.u32 %p1, %r1, 10; @%p1 add.u32 %r2, %r1, 1;
    @%p1 bra LOW; add.u32 %r3, %r1, 2; add.u32 %r3, %r3, 2;
LOW: ret;
}"""
    report = simulator.Device().load(text)["count"].launch(3, 64, [])
    assert report.profile.thread_instructions == 3 * (64 * 3 + 10 + 54 * 2 + 64)
    del lanes


@pytest.mark.parametrize("block", [(1,), (7, 3), (33,), (5, 5, 5), (128,)])
def test_special_registers_follow_the_shape(block: tuple[int, ...]) -> None:
    text = """.version 8.0
.target sm_80
.address_size 64
.visible .entry place(.param .u64 out) {
    .reg .b32 %r<20>; .reg .b64 %d<3>;
    mov.u32 %r1, %tid.x; mov.u32 %r2, %tid.y; mov.u32 %r3, %tid.z; mov.u32 %r4, %ntid.x;
    mov.u32 %r5, %ntid.y; mov.u32 %r6, %ctaid.y; mov.u32 %r7, %nctaid.x; mov.u32 %r8, %ctaid.x;
    mov.u32 %r9, %ntid.z;
    mad.lo.u32 %r10, %r3, %r5, %r2; mad.lo.u32 %r10, %r10, %r4, %r1;
    mad.lo.u32 %r11, %r6, %r7, %r8; mul.lo.u32 %r12, %r4, %r5; mul.lo.u32 %r12, %r12, %r9;
    mad.lo.u32 %r13, %r11, %r12, %r10; ld.param.u64 %d1, [out]; mad.wide.u32 %d1, %r13, 8, %d1;
    mov.u32 %r14, %laneid; mov.u32 %r15, %warpid; mad.lo.u32 %r14, %r15, 32, %r14;
    st.global.v2.u32 [%d1], {%r13, %r14}; ret;
}"""
    device = simulator.Device()
    threads = int(np.prod(block))
    out = device.empty((6 * threads, 2), "u32")
    device.load(text)["place"].launch((3, 2), block, [out])
    got = out.numpy()
    assert (got[:, 0] == np.arange(6 * threads)).all()
    assert (got[:, 1] == np.tile(np.arange(threads), 6)).all()
