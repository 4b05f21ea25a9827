"""Races with engines: bulk copies, wgmma, cp.async, and the mbarriers that they arrive at."""

from typing import Any

import numpy as np
import pytest

from tilewright.runtime import simulator

HEAD = """.version 8.6
.target sm_90a
.address_size 64
.shared .align 1024 .b8 tile[8192];
.shared .align 8 .b64 bar[4];
.visible .entry k(.param .u64 out, .param .u64 in) {
.reg .pred %p<9>; .reg .b16 %h<9>; .reg .b32 %r<40>; .reg .b64 %d<20>; .reg .f32 %f<5>;
mov.u32 %r0, %tid.x; mov.u32 %r1, %ctaid.x; mov.u32 %r8, tile; mov.u32 %r4, bar;
ld.param.u64 %d0, [out]; ld.param.u64 %d1, [in]; mov.u32 %r9, 0; mov.u32 %r3, %ntid.x;
mad.lo.u32 %r5, %r1, %r3, %r0; mad.wide.u32 %d3, %r5, 4, %d0; mad.lo.u32 %r6, %r0, 4, %r8;
setp.eq.u32 %p1, %r0, 0; setp.lt.u32 %p2, %r0, 32; setp.eq.u32 %p3, %r0, 32;
"""
TAIL = "\nst.global.u32 [%d3], %r9; ret; }"
Findings = tuple[simulator.Finding, ...]


def launch(
    body: str, checks: Any = "all", block: int = 64, ctas: int = 1, seed: int | None = None
) -> tuple[Any, Findings]:
    """Returns what the threads stored and what was found; `in` holds 1000, 1001..."""
    device = simulator.Device(checks)
    out = device.array(np.zeros(block * ctas, "u4"))
    source = device.array(np.arange(1000, 9192, dtype="u4"))
    kernel = device.load(HEAD + body + TAIL)["k"]
    report = kernel.launch(ctas, block, [out, source], seed=seed)
    return out.numpy().copy(), report.findings


def kinds(body: str, block: int = 64, checks: Any = "all", ctas: int = 1) -> list[str]:
    """Returns the kinds of what is found."""
    return [found.kind for found in launch(body, checks, block, ctas)[1]]


def barrier(number: int = 0, count: int = 1) -> str:
    """Returns the initialisation of an mbarrier by thread 0."""
    return f"@%p1 mbarrier.init.shared.b64 [bar+{8 * number}], {count};"


def load(at: int = 0, number: int = 0, size: int = 256, guard: str = "%p1") -> str:
    """Returns a bulk load of the beginning of `in` by one thread."""
    return (
        f"@{guard} mbarrier.arrive.expect_tx.shared.b64 _, [bar+{8 * number}], {size};"
        f"add.u32 %r20, %r8, {at}; add.u32 %r21, %r4, {8 * number};"
        f"@{guard} cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
        f"[%r20], [%d1], {size}, [%r21];"
    )


def wait(number: int = 0, parity: int = 0, name: str = "W", order: str = "") -> str:
    """Returns a loop that waits for a phase."""
    return (
        f"{name}: mbarrier.try_wait.parity{order}.shared.b64 %p6, [bar+{8 * number}], {parity};"
        f"@!%p6 bra {name};"
    )


def warps(first: str, second: str, name: str = "A") -> str:
    """Returns a body of which the first and the second warp run a part each."""
    return f"@!%p2 bra {name}1; {first}\nbra {name}2; {name}1: {second}\n{name}2:"


START = f"{barrier()} bar.sync 0;"
READ = "ld.shared.u32 %r9, [%r6];"
WRITE = "st.shared.u32 [%r6], %r0;"


# Loads.


def test_a_bulk_load_that_is_waited_for_is_ordered() -> None:
    got, findings = launch(START + load() + wait() + READ)
    assert findings == ()
    assert (got == 1000 + np.arange(64)).all()


def test_a_bulk_load_that_nobody_waits_for_is_stale() -> None:
    """The latest moment that data may come is after the read."""
    got, findings = launch(f"{WRITE}{START}{load()}{READ}{wait()}", "default")
    assert (got == np.arange(64)).all()
    assert findings == ()


def test_a_read_that_does_not_wait_is_found() -> None:
    assert kinds(f"{START}{load()}{READ}{wait()}", checks={"race"}) == ["race"]


def test_a_warp_that_does_not_wait_is_found() -> None:
    body = START + load() + warps(wait(), "")
    assert kinds(f"{body}{READ}{wait(name='V')}", checks={"race"}) == ["race"]


def test_a_barrier_with_a_warp_that_waited_orders() -> None:
    assert kinds(START + load() + warps(wait(), "") + f"bar.sync 0; {READ}") == []


def test_data_of_the_wrong_mbarrier_is_found() -> None:
    body = f"{barrier(0)}{barrier(1)} bar.sync 0; {load(0, 0)}{load(1024, 1)}"
    assert kinds(f"{body}{wait(1)}{READ}{wait(0, name='V')}", checks={"race"}) == ["race"]


def test_data_of_the_phase_before_is_not_that_of_this_one() -> None:
    first = f"{START}{load()}{wait()}{READ} bar.sync 0; {load()}"
    assert kinds(f"{first}{READ}{wait(parity=1, name='V')}") == ["race"]
    assert kinds(f"{first}{wait(parity=1, name='V')}{READ}") == []


def test_a_load_that_overwrites_what_others_may_still_read_is_found() -> None:
    body = f"{START}{load()}{wait()}{READ}{load()}{wait(parity=1, name='V')}"
    assert kinds(body) == ["race"]


def test_an_arrival_of_the_consumers_releases_a_stage() -> None:
    body = f"{barrier(0)}{barrier(1, 64)} bar.sync 0; {load()}{wait()}{READ}"
    body += f"mbarrier.arrive.shared.b64 _, [bar+8];{wait(1, name='E')}{load()}"
    assert kinds(body + wait(parity=1, name="V")) == []


def test_an_arrival_before_the_last_read_does_not_release_a_stage() -> None:
    body = f"{barrier(0)}{barrier(1, 64)} bar.sync 0; {load()}{wait()}"
    body += f"mbarrier.arrive.shared.b64 _, [bar+8];{READ}{wait(1, name='E')}{load()}"
    assert kinds(body + wait(parity=1, name="V")) == ["race"]


def test_a_load_over_what_a_thread_wrote_needs_a_proxy_fence() -> None:
    body = f"{barrier()}{WRITE}{{}} bar.sync 0; {load()}{wait()}{READ}"
    assert kinds(body.format("")) == ["proxy"]
    assert kinds(body.format("fence.proxy.async.shared::cta;")) == []


def test_a_thread_overwrites_a_load_after_its_wait() -> None:
    assert kinds(START + load() + wait() + WRITE + READ) == []


def test_a_thread_that_overwrites_a_load_in_flight_is_found() -> None:
    assert kinds(f"{START}{load()}\n{WRITE}{wait()}") == ["race"]


def test_a_load_that_nobody_waits_for_is_in_flight_at_exit() -> None:
    assert kinds(START + load()) == ["in-flight"]


def test_a_load_that_came_by_chance_is_in_flight_at_exit() -> None:
    """Other blocks wait for theirs, so that all data comes before this one exits."""
    body = f"{START}{load()} setp.eq.u32 %p5, %r1, 1; @%p5 bra OUT;{wait()} OUT:"
    assert kinds(body, ctas=3) == ["in-flight"]


def test_bytes_that_nobody_was_told_of_are_found() -> None:
    body = START + load().replace(".arrive.expect_tx", ".arrive").replace(", 256;", ";", 1)
    assert kinds(body + wait()) == ["in-flight", "transaction"]


# Stores.


def stored(fence: str, late: str, read: str = ".read", before: str = "") -> str:
    """Returns a bulk store of what both warps wrote, and what comes before and after its wait."""
    return (
        f"{WRITE}{fence} bar.sync 0; @!%p1 bra J;\n"
        f"{before} cp.async.bulk.global.shared::cta.bulk_group [%d1], [%r8], 256;\n"
        f"cp.async.bulk.commit_group;\n{late}\ncp.async.bulk.wait_group{read} 0; J: bar.sync 0;"
    )


def test_a_bulk_store_of_what_was_fenced_is_ordered() -> None:
    assert kinds(stored("fence.proxy.async.shared::cta;", "")) == []


def test_a_bulk_store_without_a_proxy_fence_is_found() -> None:
    assert kinds(stored("", "")) == ["proxy"]


def test_a_proxy_fence_of_the_thread_that_stores_is_enough() -> None:
    assert kinds(stored("", "", before="fence.proxy.async.shared::cta;")) == []


def test_a_proxy_fence_before_the_write_is_not_enough() -> None:
    body = stored("", "").replace(WRITE, f"fence.proxy.async; {WRITE}")
    assert kinds(body) == ["proxy"]


@pytest.mark.parametrize("read", ["", ".read"])
def test_the_source_of_a_store_may_be_overwritten_after_the_wait(read: str) -> None:
    assert kinds(stored("fence.proxy.async;", "", read) + WRITE) == []


def test_the_source_of_a_store_overwritten_before_the_wait_is_found() -> None:
    assert kinds(stored("fence.proxy.async;", "st.shared.u32 [%r8], 5;")) == ["race"]


def test_a_store_that_may_still_read_is_not_to_be_overwritten_by_another_warp() -> None:
    body = f"{WRITE} fence.proxy.async; bar.sync 0; @!%p1 bra J;\n"
    body += "cp.async.bulk.global.shared::cta.bulk_group [%d1], [%r8], 256;\n"
    body += f"cp.async.bulk.commit_group; J: bar.sync 0;\n{WRITE}"
    assert kinds(body + "@!%p1 bra K; cp.async.bulk.wait_group 0; K: bar.sync 0;") == ["race"]


def test_a_wait_for_all_but_one_group_leaves_the_last_in_flight() -> None:
    body = f"{WRITE} fence.proxy.async; bar.sync 0; @!%p1 bra J;\n"
    for at in (0, 128):
        body += f"add.u64 %d5, %d1, {at}; add.u32 %r20, %r8, {at};"
        body += "cp.async.bulk.global.shared::cta.bulk_group [%d5], [%r20], 128;"
        body += "cp.async.bulk.commit_group;\n"
    body += "cp.async.bulk.wait_group.read 1; st.shared.u32 [tile+{}], 5;\n"
    body += "cp.async.bulk.wait_group.read 0; J: bar.sync 0;"
    assert kinds(body.format(0)) == []
    assert kinds(body.format(128)) == ["race"]


@pytest.mark.parametrize(("read", "wanted"), [("", 7), (".read", 1000)])
def test_a_wait_for_reads_does_not_wait_for_writes(read: str, wanted: int) -> None:
    """The thread that stores reads back: what was there before, the latest moment considered."""
    body = "st.shared.u32 [%r6], 7; fence.proxy.async; bar.sync 0; @!%p1 bra J;"
    body += "cp.async.bulk.global.shared::cta.bulk_group [%d1], [%r8], 256;"
    body += f"cp.async.bulk.commit_group; cp.async.bulk.wait_group{read} 0;"
    got, _ = launch(f"{body} st.shared.u32 [tile], 9; ld.global.u32 %r9, [%d1]; J:", "default")
    assert got[0] == wanted


def test_what_a_store_has_read_may_change_before_it_writes() -> None:
    body = stored("fence.proxy.async;", "")
    device = simulator.Device("all")
    out, into = device.array(np.zeros(64, "u4")), device.array(np.zeros(64, "u4"))
    kernel = device.load(f"{HEAD}{body} st.shared.u32 [%r6], 77;{TAIL}")["k"]
    assert kernel.launch(1, 64, [out, into]).findings == ()
    assert (into.numpy() == np.arange(64)).all()


# Products of warpgroups.

DESCRIPTORS = """shr.u32 %r22, %r8, 4; cvt.u64.u32 %d8, %r22; or.b64 %d8, %d8, 0x800000000000;
mov.u64 %d9, 0x0000000800080000; shl.b64 %d9, %d9, 0; or.b64 %d8, %d8, %d9; add.u64 %d10, %d8, 128;
"""
FILL = """mov.u32 %r23, %r6; mov.u32 %r24, 0;
F: st.shared.u32 [%r23], 0; add.u32 %r23, %r23, 512; add.u32 %r24, %r24, 1;
setp.lt.u32 %p7, %r24, 16; @%p7 bra F;"""
MULTIPLY = """wgmma.fence.sync.aligned;
wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%g0, %g1, %g2, %g3}, %d8, %d10, 0, 1, 1, 0, 0;
wgmma.commit_group.sync.aligned;
"""
DONE = "wgmma.wait_group.sync.aligned 0;\n"


def product(fence: str, late: str, after: str = "", fill: str = FILL) -> list[str]:
    """Returns what is found in a product of four warps."""
    body = f".reg .f32 %g<4>; {DESCRIPTORS}{fill}{fence} bar.sync 0;{MULTIPLY}{late}{DONE}{after}"
    return kinds(body, 128)


def test_a_product_of_what_was_fenced_is_ordered() -> None:
    assert product("fence.proxy.async;", "") == []


def test_a_product_without_a_proxy_fence_is_found() -> None:
    assert product("", "") == ["proxy"]


def test_a_proxy_fence_behind_the_barrier_is_enough_for_a_product() -> None:
    assert product("bar.sync 0; fence.proxy.async;", "") == []


def test_an_operand_overwritten_before_the_wait_is_found() -> None:
    assert product("fence.proxy.async;", "st.shared.u32 [%r6], 1;\n") == ["race"]


def test_an_operand_may_be_overwritten_after_the_wait() -> None:
    assert product("fence.proxy.async;", "", "bar.sync 0; st.shared.u32 [%r6], 1;") == []


COPIES = """mov.u32 %r23, 0; mad.wide.u32 %d6, %r0, 16, %d1; mad.lo.u32 %r25, %r0, 16, %r8;
F: cp.async.cg.shared.global [%r25], [%d6], 16; add.u32 %r25, %r25, 2048; add.u32 %r23, %r23, 1;
setp.lt.u32 %p7, %r23, 4; @%p7 bra F; cp.async.commit_group;"""


def test_data_of_cp_async_needs_no_proxy_fence() -> None:
    assert product("cp.async.wait_group 0;", "", fill=COPIES) == []


def test_a_product_of_a_copy_in_flight_is_found() -> None:
    body = f".reg .f32 %g<4>; {DESCRIPTORS}{COPIES} bar.sync 0;{MULTIPLY}{DONE}"
    assert set(kinds(body + "cp.async.wait_all;", 128, {"race"})) == {"race"}


# mbarriers.


def test_an_mbarrier_used_before_its_initialisation_is_ordered_is_found() -> None:
    body = barrier(0, 64) + "\nmbarrier.arrive.shared.b64 _, [bar];"
    assert kinds(f"{body}{wait()}", checks={"race"}) == ["race"]


def test_an_mbarrier_invalidated_while_others_may_use_it_is_found() -> None:
    body = f"{START}{load()}{wait()}\n@%p1 mbarrier.inval.shared.b64 [bar];"
    assert kinds(body) == ["race"]


def test_an_mbarrier_may_be_initialised_again_behind_a_barrier() -> None:
    again = "bar.sync 0; @%p1 mbarrier.inval.shared.b64 [bar];"
    body = START + load() + wait() + READ + again + START + load() + wait(name="V") + READ
    assert kinds(body) == []


def test_a_new_mbarrier_knows_nothing_of_the_old_one() -> None:
    again = "bar.sync 0; @%p1 mbarrier.inval.shared.b64 [bar];"
    body = f"{START}{load()}{wait()}{READ}{again}{START}{load()}\n{READ}{wait(name='V')}"
    assert kinds(body) == ["race"]


def test_mbarriers_may_be_made_anew_any_number_of_times() -> None:
    """More often than marks could tell apart as mbarriers of their own."""
    body = f"mov.u32 %r30, 0; @!%p1 bra M; L: {barrier()} mbarrier.arrive.shared.b64 _, [bar];"
    body += "mbarrier.inval.shared.b64 [bar]; add.u32 %r30, %r30, 1; setp.lt.u32 %p5, %r30, 4500;"
    got, findings = launch(f"{body} @%p5 bra L; M: {START}{load()}{wait()}{READ}")
    assert findings == ()
    assert (got == 1000 + np.arange(64)).all()


def test_many_mbarriers_of_many_warps_are_told_apart() -> None:
    """1024 threads, 3000 mbarriers: each thread waits for some, and knows of no other's."""
    text = HEAD.replace("bar[4]", "bar[3000]")
    body = "mov.u32 %r30, %r0; L: mad.lo.u32 %r31, %r30, 8, %r4; setp.ge.u32 %p5, %r30, 3000;"
    body += "@%p5 bra M; mbarrier.init.shared.b64 [%r31], 1; add.u32 %r30, %r30, 1024; bra L;"
    body += "M: bar.sync 0; mad.lo.u32 %r31, %r0, 8, %r4; mad.lo.u32 %r32, %r0, 4, %r8;"
    body += "st.shared.u32 [%r32], %r0; mbarrier.arrive.shared.b64 _, [%r31];"
    body += "xor.b32 %r33, %r0, 32; mad.lo.u32 %r31, %r33, 8, %r4; mad.lo.u32 %r32, %r33, 4, %r8;"
    body += "W: mbarrier.try_wait.parity.shared.b64 %p6, [%r31], 0; @!%p6 bra W;"
    body += "ld.shared.u32 %r9, [%r32];"
    device = simulator.Device("all")
    out, source = device.array(np.zeros(1024, "u4")), device.array(np.zeros(1024, "u4"))
    report = device.load(text + body + TAIL)["k"].launch(1, 1024, [out, source])
    assert report.findings == ()
    assert (out.numpy() == np.arange(1024) ^ 32).all()


def test_two_phases_order_two_exchanges() -> None:
    turn = "mbarrier.arrive.shared.b64 _, [bar]; {} xor.b32 %r30, %r0, 32;"
    turn += "mad.lo.u32 %r30, %r30, 4, %r8; ld.shared.u32 %r31, [%r30]; add.u32 %r9, %r9, %r31;"
    body = barrier(0, 64) + WRITE + "bar.sync 0;" + turn.format(wait()) + "bar.sync 0;" + WRITE
    got, findings = launch(body + turn.format(wait(parity=1, name="V")))
    assert findings == ()
    assert (got == 2 * (np.arange(64) ^ 32)).all()


def test_the_phase_before_does_not_order_this_one() -> None:
    arrive = "mbarrier.arrive.shared.b64 _, [bar];"
    body = f"{barrier(0, 64)} bar.sync 0; {arrive}{wait()}\n{WRITE} xor.b32 %r30, %r6, 128;"
    body += f"ld.shared.u32 %r9, [%r30];{arrive}{wait(parity=1, name='V')}"
    assert kinds(body, checks={"race"}) == ["race"]


def exchange(arrive: str, wait_order: str = "") -> str:
    """Returns a body in which the second warp reads what the first one wrote before it arrived."""
    first = f"st.shared.u32 [%r6], 5; {arrive}.shared.b64 _, [bar];"
    second = f"{wait(order=wait_order)} {{}} ld.shared.u32 %r9, [tile];"
    return f"{barrier(0, 32)} bar.sync 0;" + warps(first, second)


def test_a_relaxed_arrival_orders_nothing() -> None:
    body = exchange("mbarrier.arrive.relaxed.cta").format("")
    assert kinds(body) == ["race"]


def test_a_fence_before_a_relaxed_arrival_orders() -> None:
    body = exchange("fence.acq_rel.cta; mbarrier.arrive.relaxed.cta").format("")
    assert kinds(body) == []


def test_a_relaxed_wait_orders_nothing() -> None:
    assert kinds(exchange("mbarrier.arrive", ".relaxed.cta").format("")) == ["race"]


def test_a_fence_after_a_relaxed_wait_orders() -> None:
    body = exchange("mbarrier.arrive", ".relaxed.cta").format("fence.acq_rel.cta;")
    assert kinds(body) == []


def test_telling_of_bytes_is_no_release() -> None:
    first = "st.shared.u32 [%r6], 5; @%p1 mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [bar], 16;"
    first += "bar.arrive 1, 64; add.u32 %r20, %r8, 1024; @%p1 "
    first += "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
    first += "[%r20], [%d1], 16, [%r4];"
    second = (
        "st.shared.u32 [tile+2048], 1; bar.sync 2, 32; @%p3 mbarrier.arrive.shared.b64 _, [bar];"
    )
    second += f"{wait()} ld.shared.u32 %r9, [tile];"
    body = f"{barrier()} bar.sync 0;" + warps(first.replace("bar.arrive 1, 64;", ""), second)
    assert kinds(body) == ["race"]


# Flags in shared memory carry on what engines did and what was fenced.


def flagged(first: str, second: str) -> str:
    """Returns a body in which the first warp releases a flag that the second one acquires."""
    release = "bar.warp.sync 0xffffffff; @%p1 st.release.cta.shared.u32 [tile+4096], 1;"
    spin = "S: ld.acquire.cta.shared.u32 %r30, [tile+4096]; setp.eq.u32 %p5, %r30, 0; @%p5 bra S;"
    clear = "@%p1 st.shared.u32 [tile+4096], 0;"
    return clear + START + warps(first + release, spin + second, "X")


def test_a_flag_orders_a_load_that_was_waited_for() -> None:
    assert kinds(flagged(load() + wait(), "ld.shared.u32 %r9, [tile];")) == []


def test_a_flag_does_not_order_a_load_in_flight() -> None:
    body = flagged(load(), "\nld.shared.u32 %r9, [tile];") + wait()
    assert kinds(body, checks={"race"}) == ["race"]


def test_a_flag_carries_a_proxy_fence_on() -> None:
    store = "cp.async.bulk.global.shared::cta.bulk_group [%d1], [%r8], 128;"
    store = f"@!%p3 bra Z; {store} cp.async.bulk.commit_group; cp.async.bulk.wait_group 0; Z:"
    assert kinds(flagged(f"{WRITE} fence.proxy.async;", store)) == []
    assert kinds(flagged(WRITE, store)) == ["proxy"]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_pipeline_is_right_under_any_schedule(seed: int) -> None:
    """A warp loads four tiles into two stages; another one adds them up."""
    produce = "setp.ne.u32 %p4, %r0, 0; @%p4 bra X2;"
    consume = ""
    for turn in range(4):
        stage, parity = turn % 2, turn // 2
        if parity:
            produce += wait(2 + stage, 0, f"P{turn}")
        produce += load(1024 * stage, stage, 128)
        consume += wait(stage, parity, f"C{turn}")
        consume += f"ld.shared.u32 %r31, [%r6+{1024 * stage - 128}]; add.u32 %r9, %r9, %r31;"
        consume += f"mbarrier.arrive.shared.b64 _, [bar+{16 + 8 * stage}];"
    inits = "".join(barrier(n, 1 if n < 2 else 32) for n in range(4))
    got, findings = launch(inits + "bar.sync 0;" + warps(produce, consume, "X"), seed=seed)
    assert findings == ()
    assert (got[32:] == 4 * (1000 + np.arange(32))).all()
