"""Races, copies in flight, unwritten memory: what is found, where, and what is left alone."""

from typing import Any

import numpy as np
import pytest

from tilewright.runtime import simulator

HEAD = """.version 8.0
.target sm_80
.address_size 64
.shared .align 16 .b8 tile[4096];
.visible .entry k(.param .u64 out) {
.reg .pred %p<9>; .reg .b16 %h<9>; .reg .b32 %r<20>; .reg .b64 %d<9>;
mov.u32 %r0, %tid.x; ld.param.u64 %d0, [out]; mad.wide.u32 %d1, %r0, 16, %d0;
mov.u32 %r1, tile; mad.lo.u32 %r2, %r0, 4, %r1; mov.u32 %r9, 0; add.u32 %r10, %r1, %r0;
shr.u32 %r3, %r0, 5; mad.lo.u32 %r4, %r0, 16, %r1;
xor.b32 %r5, %r0, 32; mad.lo.u32 %r5, %r5, 4, %r1;
setp.lt.u32 %p1, %r0, 32; setp.eq.u32 %p2, %r0, 0;
"""
START = len(HEAD.splitlines()) + 1  # the PTX line of a body's first line


def run(body: str, checks: Any = "all", block: int = 128) -> tuple[simulator.Finding, ...]:
    """Runs a body in two CTAs; returns what was found."""
    device = simulator.Device(checks)
    out = device.array(np.zeros((256, 4), "u4"))
    module = device.load(f"{HEAD}{body}\nret;\n}}")
    return module["k"].launch(2, block, [out]).findings


STORE = "st.shared.u32 [%r2], %r0;\n"
READ = "ld.shared.u32 %r9, [%r5];\n"


def test_a_missing_barrier_is_named_with_both_accesses() -> None:
    (finding,) = run(STORE + READ)
    assert (finding.kind, finding.line, finding.tid) == ("race", START + 1, (0, 0, 0))
    assert finding.other is not None
    assert (finding.other.line, finding.other.tid) == (START, (32, 0, 0))
    assert (finding.address, finding.allocation) == (128, "tile")
    assert "bar.sync" in finding.cure
    assert f"PTX line {START}:" in str(finding)


def test_a_barrier_orders_a_write_and_a_read() -> None:
    assert run(STORE + "bar.sync 0;\n" + READ) == ()


def test_a_write_after_the_read_of_another_warp_is_found() -> None:
    (finding,) = run(STORE + "bar.sync 0;\n" + READ + STORE)
    assert finding.line == START + 3
    assert finding.other is not None
    assert finding.other.line == START + 2


def test_warps_that_write_one_place_by_the_same_instruction_are_found() -> None:
    (finding,) = run("st.shared.u32 [tile], %r0;\n")
    assert finding.line == START
    assert finding.other is not None
    assert finding.other.tid[0] // 32 != finding.tid[0] // 32


def test_what_one_warp_alone_touches_is_no_race() -> None:
    assert run(STORE + "ld.shared.u32 %r9, [%r2];\n" + STORE) == ()


def test_neighbouring_bytes_are_no_race() -> None:
    """Words first, then bytes: marks become finer on the way."""
    place = "mad.lo.u32 %r11, %r0, 4, 0; and.b32 %r12, %r0, 31; mad.lo.u32 %r12, %r12, 4, %r3;"
    body = f"{STORE}bar.sync 0;{place} add.u32 %r12, %r12, %r1; cvt.u16.u32 %h1, %r0;"
    assert run(body + "st.shared.u8 [%r12], %h1; ld.shared.u8 %h2, [%r12];") == ()


def test_a_read_of_a_byte_that_another_warp_wrote_is_found() -> None:
    body = f"{STORE}bar.sync 0;cvt.u16.u32 %h1, %r0; @%p1 st.shared.u8 [%r10], %h1;\n"
    (finding,) = run(body + "ld.shared.u32 %r9, [tile];\n")
    assert finding.tid == (32, 0, 0)
    assert finding.line == START + 2


PAIR = """@%p1 bra FIRST;
{consumer}
ld.shared.u32 %r9, [tile];
bra END;
FIRST: st.shared.u32 [%r2], %r0;
{producer}
END:
"""


def test_an_arrival_orders_what_came_before_it() -> None:
    assert (
        run(PAIR.format(consumer="bar.sync 1, 64;", producer="bar.arrive 1, 64;"), block=64) == ()
    )


def test_a_warp_that_has_exited_is_not_ordered_by_a_barrier_with_a_count() -> None:
    body = "@!%p1 bra A; st.shared.u32 [tile], 5; ret; A: mov.u32 %r11, 9;\n"
    body += "L: sub.u32 %r11, %r11, 1; setp.ne.u32 %p4, %r11, 0; @%p4 bra L; bar.sync 1, 32;"
    (finding,) = run(body + "ld.shared.u32 %r9, [tile];", {"race"}, 64)
    assert finding.kind == "race"


def test_an_arrival_does_not_order_what_comes_after_it() -> None:
    body = PAIR.format(
        consumer="bar.sync 1, 64;", producer="bar.arrive 1, 64; st.shared.u32 [tile], 5;"
    )
    (finding,) = run(body, block=64)
    assert finding.kind == "race"


def test_atomics_do_not_race_with_each_other() -> None:
    zero = "@%p2 st.shared.u32 [tile], 0; bar.sync 0;"
    assert (
        run(zero + "atom.shared.add.u32 %r9, [tile], 1; atom.shared.add.u32 %r9, [tile], 1;") == ()
    )


def test_an_atomic_races_with_a_plain_read() -> None:
    zero = "@%p2 st.shared.u32 [tile], 0; bar.sync 0;\n"
    findings = run(
        zero + "@%p1 atom.shared.add.u32 %r9, [tile], 1;\n@!%p1 ld.shared.u32 %r9, [tile];"
    )
    assert [finding.line for finding in findings] == [START + 2]


def test_a_flag_orders_what_was_written_before_it() -> None:
    zero = "st.shared.u32 [%r2], 0; bar.sync 0;"
    producer = "membar.cta; @%p2 st.volatile.shared.u32 [tile+512], 1;"
    spin = "SPIN: ld.volatile.shared.u32 %r8, [tile+512]; setp.eq.u32 %p3, %r8, 0; @%p3 bra SPIN;"
    clear = "@%p2 st.shared.u32 [tile+512], 0; bar.sync 0;"
    body = zero + clear + PAIR.format(consumer=spin, producer=producer)
    assert run(body, block=64) == ()


MBARRIER = """@%p2 mbarrier.init.shared.b64 [tile+1024], 32;
bar.sync 0;
@%p1 bra FIRST;
{early}
SPIN: mbarrier.try_wait.parity.shared.b64 %p3, [tile+1024], 0;
@!%p3 bra SPIN;
{late}
bra END;
FIRST: st.shared.u32 [%r2], %r0;
mbarrier.arrive.shared.b64 %d2, [tile+1024];
END:
"""


def run_pair(early: str, late: str) -> tuple[simulator.Finding, ...]:
    """Runs a warp that stores and arrives, and one that waits."""
    text = MBARRIER.format(early=early, late=late)
    device = simulator.Device({"race"})
    out = device.array(np.zeros((64, 4), "u4"))
    head = HEAD.replace("sm_80", "sm_90")
    return device.load(f"{head}{text}\nret;\n}}")["k"].launch(1, 64, [out]).findings


def test_an_mbarrier_orders_arrivals_before_a_wait() -> None:
    assert run_pair("", "ld.shared.u32 %r9, [tile];") == ()


def test_what_precedes_the_wait_at_an_mbarrier_is_not_ordered() -> None:
    (finding,) = run_pair("ld.shared.u32 %r9, [tile];", "")
    assert {finding.line, finding.other.line if finding.other else 0} == {START + 3, START + 8}


COPY = "cp.async.cg.shared.global [%r4], [%d1], 16; cp.async.commit_group;\n"
WAIT = "cp.async.wait_group 0;\n"


def test_a_copy_waited_for_and_a_barrier_are_enough() -> None:
    assert run(COPY + WAIT + "bar.sync 0;\n" + READ) == ()


def test_a_copy_is_seen_by_other_warps_only_behind_a_barrier() -> None:
    (finding,) = run(COPY + WAIT + READ, {"race"})
    assert finding.line == START + 2
    assert finding.other is not None
    assert finding.other.line == START


def test_a_barrier_does_not_wait_for_a_copy() -> None:
    findings = run(COPY + "bar.sync 0;\n" + READ + WAIT, {"race"})
    assert [f.line for f in findings] == [START + 2]
    assert "wait_group" in findings[0].cure


def test_a_copy_that_nobody_waits_for_is_in_flight_at_exit() -> None:
    (finding,) = run(COPY)
    assert (finding.kind, finding.line, finding.lanes) == ("in-flight", START, 256)


@pytest.mark.parametrize("checks", ["none", "default"])
def test_races_are_looked_for_only_on_demand(checks: str) -> None:
    assert run(STORE + READ, checks) == ()


def run_on_empty(body: str, look: bool = False, checks: str = "all") -> None:
    """Runs a body on a buffer of 64 KiB that nobody has written."""
    device = simulator.Device(checks)
    out = device.empty((4096, 4), "u32", "out")
    if look:
        out.numpy()[:] = 1
    device.load(f"{HEAD}{body}\nret;\n}}")["k"].launch(1, 128, [out])


FILL = "st.global.v4.u32 [%d1], {%r0, %r0, %r0, %r0};\n"


def test_a_load_of_global_memory_that_nobody_wrote_is_found() -> None:
    with pytest.raises(simulator.SimulationError) as raised:
        run_on_empty(FILL + "ld.global.u32 %r9, [%d1+512];\n")
    finding = raised.value.finding
    assert (finding.kind, finding.line, finding.tid) == ("uninitialised", START + 1, (96, 0, 0))
    assert "out" in finding.message


def test_what_a_kernel_or_the_host_wrote_is_initialised() -> None:
    run_on_empty(FILL + "ld.global.u32 %r9, [%d1+4];\n")
    run_on_empty("ld.global.u32 %r9, [%d1];\n", look=True)


def test_unwritten_global_memory_is_looked_for_only_on_demand() -> None:
    run_on_empty("ld.global.u32 %r9, [%d1];\n", checks="default")
