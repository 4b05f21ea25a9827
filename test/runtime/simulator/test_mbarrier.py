"""mbarrier: phases, transactions, waits that park, deadlock."""

from typing import Any

import numpy as np
import pytest

from tilewright.runtime import simulator

HEAD = """.version 8.0
.target sm_90a
.address_size 64
.shared .align 8 .b64 bar[2];
.shared .align 16 .b8 tile[4096];
.visible .entry k(.param .u64 y) {
    .reg .b32 %r<20>; .reg .b64 %d<9>; .reg .pred %p<5>;
    mov.u32 %r1, %tid.x; mov.u32 %r2, bar; mov.u32 %r3, tile; mad.lo.u32 %r3, %r1, 4, %r3;
    ld.param.u64 %d0, [y]; mov.u32 %r4, %ctaid.x; mad.lo.u32 %r4, %r4, 64, %r1;
    mad.wide.u32 %d0, %r4, 4, %d0; setp.eq.u32 %p1, %r1, 0; mov.u32 %r9, 0;
"""
INIT = "@%p1 mbarrier.init.shared::cta.b64 [%r2], 64; bar.sync 0;"


def run(body: str, ctas: int = 1) -> Any:
    """Runs a body with 64 threads a CTA; returns %r9 of all threads."""
    device = simulator.Device("all")
    y = device.empty((ctas * 64,), "u32")
    kernel = device.load(f"{HEAD}{body}\nst.global.b32 [%d0], %r9; ret;\n}}")["k"]
    kernel.launch(ctas, 64, [y])
    return y.numpy()


def finding(body: str) -> simulator.Finding:
    """Returns what a body is stopped for."""
    with pytest.raises(simulator.SimulationError) as raised:
        run(body)
    return raised.value.finding


def test_waiting_threads_see_what_was_stored_before_the_arrivals() -> None:
    """Each thread reads what its neighbour stored; the upper half arrives a while later."""
    got = run(
        f"""{INIT}
    setp.lt.u32 %p2, %r1, 32; @%p2 bra LOW;
    st.shared.b32 [%r3], %r1; mbarrier.arrive.shared::cta.b64 _, [%r2]; bra WAIT;
LOW: st.shared.b32 [%r3], %r1; mbarrier.arrive.shared::cta.b64 %d3, [%r2];
WAIT: mbarrier.try_wait.parity.shared::cta.b64 %p3, [%r2], 0; @!%p3 bra WAIT;
    xor.b32 %r5, %r1, 63; mov.u32 %r6, tile; mad.lo.u32 %r5, %r5, 4, %r6;
    ld.shared.b32 %r9, [%r5];""",
        ctas=3,
    )
    assert (got.reshape(3, 64) == 63 - np.arange(64)).all()


def test_a_state_token_waits_for_its_own_phase() -> None:
    got = run(
        f"""{INIT}
    mbarrier.arrive.shared.b64 %d3, [%r2];
W: mbarrier.try_wait.shared.b64 %p3, [%r2], %d3, 1000; @!%p3 bra W;
    mbarrier.test_wait.shared.b64 %p4, [%r2], %d3; selp.u32 %r9, 1, 0, %p4;
    mbarrier.arrive.shared.b64 %d4, [%r2+0]; bar.sync 0;
    mbarrier.test_wait.parity.shared.b64 %p4, [%r2], 1; selp.u32 %r8, 2, 0, %p4;
    or.b32 %r9, %r9, %r8;"""
    )
    assert (got == 3).all()


def test_test_wait_says_no_where_an_arrival_is_missing() -> None:
    got = run(
        f"""{INIT}
    setp.lt.u32 %p2, %r1, 63; @%p2 mbarrier.arrive.shared.b64 %d3, [%r2]; bar.sync 0;
    mbarrier.test_wait.parity.shared.b64 %p4, [%r2], 0; selp.u32 %r9, 1, 0, %p4;"""
    )
    assert not got.any()


def test_transactions_hold_a_phase_back() -> None:
    got = run(
        """@%p1 mbarrier.init.shared.b64 [%r2+8], 1; bar.sync 0;
    @%p1 mbarrier.arrive.expect_tx.shared.b64 _, [%r2+8], 640; bar.sync 0;
    mbarrier.test_wait.parity.shared.b64 %p4, [%r2+8], 0; selp.u32 %r8, 2, 0, %p4; bar.sync 0;
    mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [%r2+8], 10; bar.sync 0;
    mbarrier.test_wait.parity.shared.b64 %p4, [%r2+8], 0; selp.u32 %r9, 1, 0, %p4;
    or.b32 %r9, %r9, %r8;"""
    )
    assert (got == 1).all()


def test_one_bit_of_the_parity_counts() -> None:
    """A sign-extended parity of 1 waits for the second phase: what comes with it is seen."""
    got = run(
        f"""{INIT}
    mbarrier.arrive.shared.b64 _, [%r2]; setp.lt.u32 %p2, %r1, 32; @%p2 bra WAIT;
F: mbarrier.try_wait.parity.shared.b64 %p3, [%r2], -2; @!%p3 bra F;
    st.shared.b32 [%r3], %r1; mbarrier.arrive.shared.b64 _, [%r2]; bra OUT;
WAIT: mbarrier.arrive.shared.b64 _, [%r2];
W: mbarrier.try_wait.parity.shared.b64 %p3, [%r2], -1; @!%p3 bra W;
    ld.shared.b32 %r9, [%r3+128];
OUT:"""
    )
    assert (got[:32] == np.arange(32, 64)).all()


def test_arrivals_with_a_count_and_the_pending_count() -> None:
    got = run(
        """@%p1 mbarrier.init.shared.b64 [%r2], 10; bar.sync 0;
    @%p1 mbarrier.arrive.shared.b64 %d3, [%r2], 4;
    @%p1 mbarrier.arrive.noComplete.shared.b64 %d3, [%r2], 2;
    @%p1 mbarrier.arrive_drop.shared.b64 %d4, [%r2];
    mov.u32 %r8, 0; @%p1 mbarrier.pending_count.b64 %r9, %d3;
    @%p1 mbarrier.pending_count.b64 %r8, %d4; @%p1 mul.lo.u32 %r9, %r9, 100;
    add.u32 %r9, %r9, %r8;"""
    )
    assert got[0] == 604


def test_generic_addresses_reach_the_same_barrier() -> None:
    got = run(
        f"""{INIT}
    cvt.u64.u32 %d3, %r2; cvta.shared.u64 %d4, %d3;
    mbarrier.arrive.b64 %d5, [%d4];
W: mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 %p3, [%r2], 0; @!%p3 bra W;
    mov.u32 %r9, 7;"""
    )
    assert (got == 7).all()


def test_a_wait_that_nobody_ends_is_a_deadlock_and_names_the_barrier() -> None:
    found = finding(
        f"""{INIT} setp.lt.u32 %p2, %r1, 60; @%p2 mbarrier.arrive.shared.b64 %d3, [%r2];
W: mbarrier.try_wait.parity.shared.b64 %p3, [%r2], 0; @!%p3 bra W;"""
    )
    assert found.kind == "deadlock"
    assert "4 of 64 arrivals and 0 bytes are missing" in found.message


def test_an_mbarrier_that_is_not_initialised_is_a_fault() -> None:
    found = finding("mbarrier.arrive.shared.b64 %d3, [%r2];")
    assert (found.kind, found.tid) == ("mbarrier", (0, 0, 0))


def test_an_invalidated_mbarrier_is_a_fault() -> None:
    found = finding(
        f"{INIT} @%p1 mbarrier.inval.shared.b64 [%r2]; bar.sync 0;"
        "mbarrier.arrive.shared.b64 %d3, [%r2];"
    )
    assert found.kind == "mbarrier"


def test_more_arrivals_than_are_pending_are_a_fault() -> None:
    body = "@%p1 mbarrier.init.shared.b64 [%r2], 2; bar.sync 0;"
    assert finding(body + "@%p1 mbarrier.arrive.shared.b64 _, [%r2], 3;").kind == "mbarrier"


def test_cp_async_arrives_when_its_data_is_there() -> None:
    got = run(
        f"""{INIT} st.global.b32 [%d0], %r1; bar.sync 0;
    cp.async.ca.shared.global [%r3], [%d0], 4;
    cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%r2];
W: mbarrier.try_wait.parity.shared.b64 %p3, [%r2], 0; @!%p3 bra W;
    xor.b32 %r5, %r1, 63; mov.u32 %r6, tile; mad.lo.u32 %r5, %r5, 4, %r6;
    ld.shared.b32 %r9, [%r5];"""
    )
    assert (got == 63 - np.arange(64)).all()


def test_a_ring_of_two_phases_carries_values_between_warps() -> None:
    """Warp 0 makes 5 values, warp 1 adds them up; full and empty barriers alternate."""
    got = run(
        """@%p1 mbarrier.init.shared.b64 [%r2], 32; @%p1 mbarrier.init.shared.b64 [%r2+8], 32;
    bar.sync 0; mov.u32 %r10, 0; setp.ge.u32 %p2, %r1, 32; @%p2 bra TAKE;
MAKE: and.b32 %r11, %r10, 1; xor.b32 %r12, %r11, 1;
E: mbarrier.try_wait.parity.shared.b64 %p3, [%r2+8], %r12; @!%p3 bra E;
    mad.lo.u32 %r13, %r10, 10, %r1; st.shared.b32 [%r3], %r13;
    mbarrier.arrive.shared.b64 _, [%r2];
    add.u32 %r10, %r10, 1; setp.lt.u32 %p4, %r10, 5; @%p4 bra MAKE; bra DONE;
TAKE: and.b32 %r11, %r10, 1;
F: mbarrier.try_wait.parity.shared.b64 %p3, [%r2], %r11; @!%p3 bra F;
    ld.shared.b32 %r13, [%r3+-128]; add.u32 %r9, %r9, %r13;
    mbarrier.arrive.shared.b64 _, [%r2+8];
    add.u32 %r10, %r10, 1; setp.lt.u32 %p4, %r10, 5; @%p4 bra TAKE;
DONE:"""
    )
    assert (got[32:] == 5 * np.arange(32) + 100).all()
