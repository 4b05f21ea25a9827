"""Barriers: who waits, who goes on, and the reports of deadlock and divergence."""

from typing import Any

import numpy as np
import pytest

from tilewright.runtime import simulator

HEAD = ".version 8.0\n.target sm_80\n.address_size 64\n.shared .align 4 .b8 buffer[1024];\n"


def run(body: str, block: int = 128, grid: int = 2) -> Any:
    """Runs a body with the thread number in %r0 and the address of its result in %d1."""
    text = f"""{HEAD}.visible .entry k(.param .u64 out) {{
    .reg .pred %p<9>; .reg .b32 %r<20>; .reg .b64 %d<9>;
    mov.u32 %r0, %tid.x; mov.u32 %r1, %ctaid.x; mov.u32 %r2, %ntid.x; ld.param.u64 %d1, [out];
    mad.lo.u32 %r3, %r1, %r2, %r0; mad.wide.u32 %d1, %r3, 4, %d1; mov.u32 %r4, buffer;
    mad.lo.u32 %r5, %r0, 4, %r4; mov.u32 %r9, 0;
    {body}
    st.global.u32 [%d1], %r9; ret;
}}"""
    device = simulator.Device()
    out = device.empty((grid, block), "u32")
    device.load(text)["k"].launch(grid, block, [out])
    return out.numpy()


READ = "xor.b32 %r6, %r0, 64; mad.lo.u32 %r6, %r6, 4, %r4; ld.shared.u32 %r9, [%r6];"


def test_a_barrier_orders_the_warps_that_part_before_it() -> None:
    """One half of the CTA takes long before it stores; the other half waits."""
    body = (
        """
    setp.lt.u32 %p1, %r0, 64; @%p1 bra STORE; mov.u32 %r7, 0;
SLOW: add.u32 %r7, %r7, 1; setp.lt.u32 %p2, %r7, 50; @%p2 bra SLOW;
STORE: add.u32 %r8, %r0, 7; st.shared.u32 [%r5], %r8; bar.sync 0;
"""
        + READ
    )
    assert (run(body)[1] == (np.arange(128) ^ 64) + 7).all()


def test_a_producer_arrives_and_a_consumer_waits() -> None:
    body = f"""
    setp.ge.u32 %p1, %r0, 64; @%p1 bra PRODUCE; bar.sync 1, 128; {READ} bra OUT;
PRODUCE: mov.u32 %r7, 0;
SLOW: add.u32 %r7, %r7, 1; setp.lt.u32 %p2, %r7, 9; @%p2 bra SLOW;
    add.u32 %r8, %r0, 7; st.shared.u32 [%r5], %r8; bar.arrive 1, 128;
OUT:
"""
    got = run(body)
    assert (got[0, :64] == np.arange(64, 128) + 7).all()


def test_exited_threads_are_not_expected() -> None:
    body = "setp.ge.u32 %p1, %r0, 96; @%p1 exit; mov.u32 %r8, 5; st.shared.u32 [%r5], %r8;"
    got = run(body + "bar.sync 0; ld.shared.u32 %r9, [%r4+4];")
    assert (got[:, :96] == 5).all()


def test_threads_that_exit_later_release_the_waiting_ones() -> None:
    body = """
    setp.lt.u32 %p1, %r0, 32; @%p1 bra WAIT; mov.u32 %r7, 0;
SLOW: add.u32 %r7, %r7, 1; setp.lt.u32 %p2, %r7, 20; @%p2 bra SLOW; exit;
WAIT: bar.sync 0; mov.u32 %r9, 3;
"""
    assert (run(body)[:, :32] == 3).all()


def test_named_barriers_are_apart() -> None:
    """Two halves of a CTA each meet at a barrier of their own, several times."""
    body = """
    shr.u32 %r10, %r0, 6; add.u32 %r11, %r10, 1; mov.u32 %r12, 0;
TOP: st.shared.u32 [%r5], %r12; barrier.sync %r11, 64; xor.b32 %r6, %r0, 32;
    mad.lo.u32 %r6, %r6, 4, %r4; ld.shared.u32 %r13, [%r6]; add.u32 %r9, %r9, %r13;
    barrier.sync %r11, 64; add.u32 %r12, %r12, 1; setp.lt.u32 %p1, %r12, 5; @%p1 bra TOP;
"""
    assert (run(body) == 10).all()


def test_different_barriers_are_a_deadlock() -> None:
    body = """setp.lt.u32 %p1, %r0, 32; @%p1 bra ONE; bar.sync 0; bra OUT;
ONE: bar.sync 1;
OUT:"""
    with pytest.raises(simulator.SimulationError) as raised:
        run(body)
    found = raised.value.finding
    assert found.kind == "deadlock"
    assert "96 of 128 have arrived" in found.message
    assert "32 of 128 have arrived" in found.message


def test_a_barrier_that_only_a_part_of_a_warp_reaches_is_divergence() -> None:
    body = """setp.lt.u32 %p1, %r0, 40; @%p1 bra ONE; bar.sync 1; bra OUT;
ONE: bar.sync 0;
OUT:"""
    with pytest.raises(simulator.SimulationError, match="40 of 128") as raised:
        run(body, grid=1)
    assert raised.value.finding.kind == "divergence"


def test_lanes_of_a_warp_at_two_instructions_of_one_barrier_diverge() -> None:
    body = """setp.lt.u32 %p1, %r0, 16; @%p1 bra ONE; bar.sync 0; bra OUT;
ONE: bar.sync 0;
OUT:"""
    with pytest.raises(simulator.SimulationError, match="different instructions") as raised:
        run(body)
    assert raised.value.finding.kind == "divergence"


def test_bar_warp_sync_waits_for_its_mask() -> None:
    body = """
    and.b32 %r10, %r0, 31; setp.lt.u32 %p1, %r10, 16; @%p1 bra LOW; mov.u32 %r7, 0;
SLOW: add.u32 %r7, %r7, 1; setp.lt.u32 %p2, %r7, 20; @%p2 bra SLOW;
    st.shared.u32 [%r5], %r7; bar.warp.sync -1; bra OUT;
LOW: bar.warp.sync -1; ld.shared.u32 %r9, [%r5+64];
OUT:
"""
    got = run(body)
    assert (got.reshape(-1, 32)[:, :16] == 20).all()


def test_a_barrier_number_beyond_15_is_refused() -> None:
    with pytest.raises(simulator.PTXError, match="0 to 15"):
        run("bar.sync 16;")


def test_a_thread_count_must_be_whole_warps() -> None:
    with pytest.raises(simulator.PTXError, match="multiple of 32"):
        run("bar.sync 0, 33;")


def test_trap_names_the_threads() -> None:
    with pytest.raises(simulator.SimulationError) as raised:
        run("setp.eq.u32 %p1, %r0, 77; @%p1 trap;")
    assert raised.value.finding.kind == "trap"
    assert raised.value.finding.tid == (77, 0, 0)


def test_threads_that_count_a_barrier_differently_are_found() -> None:
    body = """setp.lt.u32 %p1, %r0, 32; @%p1 bra ONE; bar.sync 1, 128; bra OUT;
ONE: bar.arrive 1, 64;
OUT:"""
    with pytest.raises(
        simulator.SimulationError, match="for 128 threads here and for 64|for 64"
    ) as e:
        run(body, grid=1)
    assert e.value.finding.kind == "divergence"


@pytest.mark.parametrize("name", ["bar.sync 1, 64;", "bar.red.and.pred %p5, 1, 64, %p4;"])
def test_a_count_of_threads_counts_the_lanes_that_a_warp_lacks(name: str) -> None:
    """The second warp of the CTA has 8 threads, and a barrier counts it as 32."""
    body = f"st.shared.u32 [%r5], %r0; setp.ge.u32 %p4, %r0, 0; setp.eq.u32 %p5, %r0, %r0; {name}"
    body += "sub.u32 %r6, 39, %r0; mad.lo.u32 %r6, %r6, 4, %r4; @%p5 ld.shared.u32 %r9, [%r6];"
    assert (run(body, block=40) == 39 - np.arange(40)).all()


@pytest.mark.parametrize(("limit", "wanted"), [(40, 1), (39, 0)])
def test_a_vote_asks_the_threads_there_are(limit: int, wanted: int) -> None:
    body = f"setp.lt.u32 %p4, %r0, {limit}; bar.red.and.pred %p5, 1, 64, %p4;"
    assert (run(f"{body} selp.u32 %r9, 1, 0, %p5;", block=40) == wanted).all()
