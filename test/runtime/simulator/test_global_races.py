"""Races in global memory: between CTAs and between warps, and what orders accesses."""

from typing import Any

import numpy as np
import pytest

from tilewright.runtime import simulator

HEAD = """.version 8.6
.target sm_90a
.address_size 64
.shared .align 128 .b8 tile[1024];
.visible .entry k(.param .u64 out, .param .u64 flag, .param .u64 more) {
.reg .pred %p<9>; .reg .b16 %h<9>; .reg .b32 %r<40>; .reg .b64 %d<20>; .reg .f32 %f<5>;
mov.u32 %r0, %tid.x; mov.u32 %r1, %ctaid.x; mov.u32 %r2, %nctaid.x; mov.u32 %r3, %ntid.x;
ld.param.u64 %d0, [out]; ld.param.u64 %d1, [flag]; ld.param.u64 %d2, [more]; mov.u32 %r9, 0;
mad.lo.u32 %r4, %r1, %r3, %r0; mad.wide.u32 %d3, %r4, 4, %d0; mad.wide.u32 %d4, %r0, 4, %d0;
setp.eq.u32 %p1, %r0, 0; setp.eq.u32 %p2, %r1, 0; mov.u32 %r8, tile;
"""
Findings = tuple[simulator.Finding, ...]


def launch(
    body: str, ctas: int = 2, block: int = 64, cluster: Any = None, seed: int | None = None
) -> tuple[Any, Findings]:
    """Returns the two buffers and what was found."""
    device = simulator.Device({"race"})
    out, flag, more = (device.array(np.zeros(12288, "u4")) for _ in range(3))
    kernel = device.load(f"{HEAD}{body}\nret; }}")["k"]
    report = kernel.launch(ctas, block, [out, flag, more], cluster=cluster, seed=seed)
    assert {found.kind for found in report.findings} <= {"race"}
    return out.numpy(), report.findings


def races(body: str, ctas: int = 2, block: int = 64, cluster: Any = None) -> int:
    """Returns how many pairs of instructions race."""
    return len(launch(body, ctas, block, cluster)[1])


def pair(first: str, second: str) -> str:
    """Returns a body that CTA 0 and CTA 1 run a part of each."""
    return f"@!%p2 bra ONE; {first}\nbra END; ONE: {second}\nEND:"


def crowd(first: str, second: str) -> str:
    """Returns a body of which the first and the second warp of a CTA run a part each."""
    return f"setp.lt.u32 %p3, %r0, 32; @!%p3 bra ONE; {first}\nbra END; ONE: {second}\nEND:"


WRITE, READ = "st.global.u32 [%d4], %r4;", "ld.global.u32 %r9, [%d4];"
SAME = "st.global.u32 [%d0], %r4;", "ld.global.u32 %r9, [%d0];"


@pytest.mark.parametrize(("first", "second"), [(WRITE, WRITE), (WRITE, READ), (READ, WRITE)])
def test_accesses_of_two_ctas_race(first: str, second: str) -> None:
    assert races(pair(first, second)) == 1


def test_reads_do_not_race() -> None:
    assert races(pair(READ, READ)) == 0


def test_one_instruction_of_two_ctas_races_with_itself() -> None:
    assert races(WRITE) == 1


@pytest.mark.parametrize(("first", "second"), [(0, 0), (0, 1), (1, 0)])
def test_accesses_of_two_warps_race(first: int, second: int) -> None:
    assert races(crowd(SAME[first], SAME[second]), ctas=1) == 1


def test_the_other_access_is_named() -> None:
    _, (found,) = launch(f"{pair(WRITE, READ)}")
    assert found.other is not None
    places = {(found.ctaid, found.line), (found.other.ctaid, found.other.line)}
    line = len(HEAD.splitlines()) + 1
    assert places == {((0, 0, 0), line), ((1, 0, 0), line + 1)}


def test_a_barrier_orders_the_warps_of_a_cta() -> None:
    assert (
        races(
            crowd(SAME[0], "")
            + "bar.sync 0;"
            + crowd("", SAME[1]).replace("ONE", "TWO").replace("END", "OUT"),
            ctas=1,
        )
        == 0
    )


def test_a_barrier_does_not_order_ctas() -> None:
    assert races(f"bar.sync 0; {WRITE} bar.sync 0;") == 1


def test_lanes_of_one_warp_do_not_race() -> None:
    assert races("st.global.u32 [%d0], 1; ld.global.u32 %r9, [%d0];", 1, 32) == 0


# What is no race.


@pytest.mark.parametrize(
    "text", ["red.global.add.u32 [%d4], 1;", "atom.global.exch.b32 %r9, [%d4], 1;"]
)
def test_atomics_do_not_race(text: str) -> None:
    assert races(text) == 0


def test_an_atomic_races_with_a_plain_read() -> None:
    assert races(pair("red.global.add.u32 [%d4], 1;", READ)) == 1


def test_volatile_accesses_do_not_race() -> None:
    assert (
        races(pair("st.volatile.global.u32 [%d4], 1;", "ld.volatile.global.u32 %r9, [%d4];")) == 0
    )


def test_equal_values_do_not_race() -> None:
    assert races("st.global.u32 [%d4], 7;") == 0


def test_equal_values_race_with_a_read() -> None:
    assert races(pair("st.global.u32 [%d4], 7;", READ)) == 1


def test_bytes_next_to_each_other_do_not_race() -> None:
    body = (
        "shl.b64 %d5, %d0, 0; cvt.u64.u32 %d6, %r4; shl.b32 %r10, %r0, 1; add.u32 %r10, %r10, %r1;"
    )
    body += (
        "cvt.u64.u32 %d6, %r10; add.u64 %d5, %d5, %d6; cvt.u16.u32 %h1, %r4;"
        " st.global.u8 [%d5], %h1;"
    )
    assert races(body) == 0


def test_a_byte_of_a_word_races() -> None:
    body = pair(WRITE, "cvt.u16.u32 %h1, %r0; st.global.u8 [%d4+3], %h1;")
    assert races(body) == 1


def test_vectors_next_to_each_other_do_not_race() -> None:
    assert (
        races("mad.wide.u32 %d5, %r4, 16, %d0; st.global.v4.u32 [%d5], {%r0, %r1, %r4, %r0};") == 0
    )


def test_one_element_of_a_vector_races() -> None:
    body = pair(
        "mad.wide.u32 %d5, %r0, 16, %d0; st.global.v4.u32 [%d5], {%r0, %r1, %r4, %r0};",
        "ld.global.u32 %r9, [%d0+28];",
    )
    assert races(body) == 1


def test_the_same_place_of_several_allocations_does_not_race() -> None:
    assert races(pair(WRITE, "mad.wide.u32 %d5, %r0, 4, %d1; st.global.u32 [%d5], %r0;")) == 0


def test_lanes_that_store_to_several_allocations_are_followed() -> None:
    body = "selp.b64 %d5, %d0, %d2, %p1; st.global.u32 [%d5], %r1;"
    assert races(body) == 1


# Release and acquire.

SPIN = "S{n}: {load} %r20, [%d1+{at}]; setp.ne.u32 %p5, %r20, {value}; @%p5 bra S{n};"


def spin(load: str, at: int = 0, value: int = 1, n: int = 0) -> str:
    """Returns a loop that waits for a flag."""
    return SPIN.format(load=load, at=at, value=value, n=n)


def flag(release: str, acquire: str) -> str:
    """Returns a body: CTA 0 writes and releases, CTA 1 acquires and reads."""
    write = f"{WRITE} bar.sync 0; @!%p1 bra END; {release}"
    return pair(write, f"{acquire} {READ}")


VOLATILE = spin("ld.volatile.global.u32"), "st.volatile.global.u32 [%d1], 1;"
RELAXED = spin("ld.relaxed.gpu.global.u32"), "st.relaxed.gpu.global.u32 [%d1], 1;"
FENCES = "fence.acq_rel.gpu;", "membar.gl;", "fence.sc.sys;", "membar.sys;", "fence.sc.gpu;"


@pytest.mark.parametrize("scope", ["gpu", "sys"])
@pytest.mark.parametrize("generic", [False, True])
def test_a_release_and_an_acquire_order(scope: str, generic: bool) -> None:
    body = flag(f"st.release.{scope}.global.u32 [%d1], 1;", spin(f"ld.acquire.{scope}.global.u32"))
    assert races(body.replace(".global.u32 [%d1", ".u32 [%d1") if generic else body) == 0


@pytest.mark.parametrize("fence", FENCES)
@pytest.mark.parametrize("strong", [VOLATILE, RELAXED])
def test_fences_make_strong_accesses_order(fence: str, strong: tuple[str, str]) -> None:
    assert races(flag(fence + strong[1], strong[0] + fence)) == 0


@pytest.mark.parametrize("strong", [VOLATILE, RELAXED])
def test_a_missing_release_fence_is_found(strong: tuple[str, str]) -> None:
    assert races(flag(strong[1], strong[0] + "fence.acq_rel.gpu;")) == 1


@pytest.mark.parametrize("strong", [VOLATILE, RELAXED])
def test_a_missing_acquire_fence_is_found(strong: tuple[str, str]) -> None:
    assert races(flag("fence.acq_rel.gpu;" + strong[1], strong[0])) == 1


def test_a_fence_before_the_last_write_is_no_release() -> None:
    body = f"fence.acq_rel.gpu; {WRITE} bar.sync 0; @!%p1 bra END; {VOLATILE[1]}"
    assert races(pair(body, f"{VOLATILE[0]} fence.acq_rel.gpu; {READ}")) == 1


@pytest.mark.parametrize("scope", ["cta", "cluster"])
def test_fences_of_a_smaller_scope_do_not_order_ctas(scope: str) -> None:
    fence = f"fence.acq_rel.{scope};"
    assert races(flag(fence + VOLATILE[1], VOLATILE[0] + fence)) == 1


@pytest.mark.parametrize("scope", ["cta", "cluster"])
def test_a_release_of_a_smaller_scope_does_not_order_ctas(scope: str) -> None:
    body = flag(f"st.release.{scope}.global.u32 [%d1], 1;", spin("ld.acquire.gpu.global.u32"))
    assert races(body) >= 1


@pytest.mark.parametrize("scope", ["cta", "cluster", "gpu"])
def test_a_release_of_any_scope_orders_the_warps_of_a_cta(scope: str) -> None:
    first = f"st.global.u32 [%d0], 5; st.release.{scope}.global.u32 [%d1], 1;"
    second = spin(f"ld.acquire.{scope}.global.u32") + "ld.global.u32 %r9, [%d0];"
    assert races(crowd(first, second), ctas=1) == 0


@pytest.mark.parametrize("scope", ["cta", "cluster", "gpu"])
def test_fences_of_any_scope_order_the_warps_of_a_cta(scope: str) -> None:
    fence = f"fence.acq_rel.{scope};"
    first = f"st.global.u32 [%d0], 5; {fence} st.relaxed.{scope}.global.u32 [%d1], 1;"
    second = spin(f"ld.relaxed.{scope}.global.u32") + fence + "ld.global.u32 %r9, [%d0];"
    assert races(crowd(first, second), ctas=1) == 0


def test_a_relaxed_flag_without_fences_does_not_order_the_warps_of_a_cta() -> None:
    first = "st.global.u32 [%d0], 5; st.relaxed.cta.global.u32 [%d1], 1;"
    second = spin("ld.relaxed.cta.global.u32") + "ld.global.u32 %r9, [%d0];"
    assert races(crowd(first, second), ctas=1) == 1


def test_a_release_in_the_cluster_orders_its_ctas() -> None:
    body = flag("st.release.cluster.global.u32 [%d1], 1;", spin("ld.acquire.cluster.global.u32"))
    assert races(body, cluster=2) == 0


def test_a_release_of_a_cta_does_not_order_its_cluster() -> None:
    body = flag("st.release.cta.global.u32 [%d1], 1;", spin("ld.acquire.cta.global.u32"))
    assert races(body, cluster=2) >= 1


def test_a_cta_releases_for_another_what_it_has_acquired() -> None:
    """CTA 0 to CTA 1 to CTA 2, by two flags."""
    release = "bar.sync 0; @%p1 st.release.gpu.global.u32 [%d1+{}], 1;"
    second = f"{spin('ld.acquire.gpu.global.u32')} {release.format(64)} bra END;"
    third = f"TWO: {spin('ld.acquire.gpu.global.u32', 64, n=1)} {READ}"
    body = pair(
        WRITE + release.format(0), f"setp.eq.u32 %p6, %r1, 2; @%p6 bra TWO; {second} {third}"
    )
    assert races(body, ctas=3) == 0


def test_a_chain_with_a_relaxed_link_is_broken() -> None:
    release = "bar.sync 0; @%p1 st.{}.gpu.global.u32 [%d1+{}], 1;"
    second = f"{spin('ld.acquire.gpu.global.u32')} {release.format('relaxed', 64)} bra END;"
    third = f"TWO: {spin('ld.acquire.gpu.global.u32', 64, n=1)} {READ}"
    body = pair(
        WRITE + release.format("release", 0),
        f"setp.eq.u32 %p6, %r1, 2; @%p6 bra TWO; {second} {third}",
    )
    assert races(body, ctas=3) == 1


def test_one_thread_releases_for_its_cta_behind_a_barrier() -> None:
    body = flag(
        "st.release.gpu.global.u32 [%d1], 1;",
        f"@!%p1 bra J; {spin('ld.acquire.gpu.global.u32')} J: bar.sync 0;",
    )
    assert races(body) == 0


def test_the_last_cta_reads_what_all_have_written() -> None:
    body = """st.global.u32 [%d3], %r4; membar.gl; bar.sync 0;
    @%p1 atom.global.add.u32 %r10, [%d1], 1; @%p1 membar.gl;
    @%p1 st.shared.u32 [tile], %r10; bar.sync 0;
    ld.shared.u32 %r11, [tile]; add.u32 %r11, %r11, 1; setp.ne.u32 %p6, %r11, %r2; @%p6 bra END;
    mov.u32 %r12, 0; L: mad.lo.u32 %r13, %r12, %r3, %r0; mad.wide.u32 %d5, %r13, 4, %d0;
    ld.global.u32 %r14, [%d5]; add.u32 %r9, %r9, %r14; add.u32 %r12, %r12, 1;
    setp.lt.u32 %p7, %r12, %r2; @%p7 bra L; mad.wide.u32 %d6, %r0, 4, %d2;
    st.global.u32 [%d6], %r9; END:"""
    assert races(body, ctas=30) == 0


def test_the_last_cta_without_a_fence_is_found() -> None:
    body = f"""st.global.u32 [%d3], %r4; bar.sync 0;
    @%p1 atom.global.add.u32 %r10, [%d1], 1; @%p1 membar.gl;
    @%p1 st.shared.u32 [tile], %r10; bar.sync 0;
    ld.shared.u32 %r11, [tile]; add.u32 %r11, %r11, 1; setp.ne.u32 %p6, %r11, %r2; @%p6 bra END;
    {READ} END:"""
    assert races(body, ctas=30) == 1


GRID = """bar.sync 0; @!%p1 bra J{n}; fence.acq_rel.gpu; red.global.add.u32 [%d1], 1;
mul.lo.u32 %r21, %r2, {n}; L{n}: ld.relaxed.gpu.global.u32 %r20, [%d1]; setp.lt.u32 %p5, %r20, %r21;
@%p5 bra L{n}; fence.acq_rel.gpu; J{n}: bar.sync 0;"""


def test_a_barrier_of_the_grid_orders_all_ctas() -> None:
    turn = "xor.b32 %r22, %r4, {}; mad.wide.u32 %d5, %r22, 4, %d0;"
    body = "st.global.u32 [%d3], %r4;" + GRID.format(n=1) + turn.format(64)
    body += "ld.global.u32 %r9, [%d5];" + GRID.format(n=2) + "st.global.u32 [%d3], %r9;"
    got, findings = launch(body, ctas=150)
    assert findings == ()
    assert (got[: 150 * 64] == np.arange(150 * 64) ^ 64).all()


def test_a_barrier_of_the_grid_that_is_left_out_is_found() -> None:
    turn = "xor.b32 %r22, %r4, {}; mad.wide.u32 %d5, %r22, 4, %d0;"
    body = "st.global.u32 [%d3], %r4;" + GRID.format(n=1) + turn.format(64)
    assert races(body + "ld.global.u32 %r9, [%d5]; st.global.u32 [%d3], %r9;", ctas=40) == 1


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_lock_orders_under_any_schedule(seed: int) -> None:
    body = """@!%p1 bra END; L: atom.acquire.gpu.global.cas.b32 %r20, [%d1], 0, 1;
    setp.ne.u32 %p5, %r20, 0; @%p5 bra L; ld.global.u32 %r21, [%d0]; add.u32 %r21, %r21, 1;
    st.global.u32 [%d0], %r21; st.release.gpu.global.u32 [%d1], 0; END:"""
    got, findings = launch(body, ctas=12, seed=seed)
    assert (got[0], findings) == (12, ())


# Copies by engines.

MBARRIER = """@%p1 mbarrier.init.shared.b64 [tile+512], 1; bar.sync 0; add.u32 %r23, %r8, 512;
@%p1 mbarrier.arrive.expect_tx.shared.b64 _, [tile+512], 256;
@%p1 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r8], [%d0], 256, [%r23];
W: mbarrier.try_wait.parity.shared.b64 %p6, [tile+512], 0; @!%p6 bra W;"""
STORE = """mad.lo.u32 %r24, %r0, 4, %r8; st.shared.u32 [%r24], %r4; fence.proxy.async; bar.sync 0;
@%p1 cp.async.bulk.global.shared::cta.bulk_group [%d0], [%r8], 256;
@%p1 bra C; bra J; C: cp.async.bulk.commit_group; cp.async.bulk.wait_group 0; J:"""


def test_a_bulk_load_races_with_a_write_of_another_cta() -> None:
    assert races(pair(WRITE, MBARRIER)) == 1


def test_a_bulk_load_behind_an_acquire_is_ordered() -> None:
    release = f"{WRITE} bar.sync 0; @!%p1 bra END; st.release.gpu.global.u32 [%d1], 1;"
    assert races(pair(release, spin("ld.acquire.gpu.global.u32") + MBARRIER)) == 0


def test_a_bulk_store_races_with_a_read_of_another_cta() -> None:
    assert races(pair(READ, STORE)) == 1


def test_bulk_stores_of_two_ctas_race() -> None:
    assert races(STORE) == 1


def test_a_bulk_store_that_was_waited_for_is_released() -> None:
    first = f"{STORE} @!%p1 bra END; fence.proxy.async; st.release.gpu.global.u32 [%d1], 1;"
    assert races(pair(first, spin("ld.acquire.gpu.global.u32") + READ)) == 0


def test_bulk_reductions_of_two_ctas_do_not_race() -> None:
    store = STORE.replace(
        "cp.async.bulk.global.shared::cta.bulk_group",
        "cp.reduce.async.bulk.global.shared::cta.bulk_group.add.u32",
    )
    got, findings = launch(store, ctas=5)
    assert findings == ()
    thread = np.arange(64)
    assert (got[:64] == sum(thread + 64 * cta for cta in range(5))).all()


def test_a_cluster_barrier_orders_global_memory() -> None:
    body = pair(WRITE, "") + "barrier.cluster.arrive; barrier.cluster.wait;"
    body += pair("", READ).replace("ONE", "TWO").replace("END", "OUT")
    assert races(body, cluster=2) == 0


def test_a_cluster_barrier_does_not_order_other_clusters() -> None:
    body = f"{WRITE} barrier.cluster.arrive; barrier.cluster.wait;"
    assert (
        races(
            "setp.ge.u32 %p6, %r1, 1; @%p6 setp.le.u32 %p6, %r1, 2; @!%p6 bra X;" + WRITE + "X:",
            4,
            cluster=2,
        )
        == 1
    )
    assert races(body, 4, cluster=2) == 1
