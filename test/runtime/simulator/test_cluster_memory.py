"""Distributed shared memory and barriers of clusters: addresses, copies, who waits for whom."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tilewright.runtime import simulator

Array = npt.NDArray[Any]
Triple = tuple[int, int, int]
HEAD = """.version 8.6
.target sm_90a
.address_size 64
.shared .align 16 .b8 tile[1024];
.shared .align 8 .b64 bar[2];
.visible .entry k(.param .u64 out) {
.reg .pred %p<9>; .reg .b16 %h<9>; .reg .b32 %r<40>; .reg .b64 %d<20>; .reg .f32 %f<5>;
mov.u32 %r0, %tid.x; mov.u32 %r1, %cluster_ctarank; mov.u32 %r2, %cluster_nctarank;
mov.u32 %r3, tile; mov.u32 %r4, bar; ld.param.u64 %d0, [out]; mov.u32 %r9, 0;
mov.u32 %r5, %ctaid.x; mov.u32 %r6, %ntid.x; mad.lo.u32 %r5, %r5, %r6, %r0;
mad.wide.u32 %d1, %r5, 4, %d0; setp.eq.u32 %p1, %r0, 0; setp.eq.u32 %p2, %r1, 0;
add.u32 %r7, %r1, 1; rem.u32 %r7, %r7, %r2; mad.lo.u32 %r8, %r0, 4, %r3;
and.pred %p3, %p1, %p2; cvt.u64.u32 %d3, %r8; cvta.shared.u64 %d2, %d3;
mapa.shared::cluster.u32 %r10, %r8, %r7; mapa.shared::cluster.u32 %r11, %r4, %r7;
"""
SYNC = "barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;"
# Thread 0 of each CTA readies its mbarrier for one arrival and some bytes.
READY = (
    "@%p1 mbarrier.init.shared.b64 [%r4], 1; fence.mbarrier_init.release.cluster;"
    f"@%p1 mbarrier.arrive.expect_tx.shared.b64 _, [%r4], BYTES; {SYNC}"
)
WAIT = "W: mbarrier.try_wait.parity.shared.b64 %p4, [%r4], 0; @!%p4 bra W;"
TAIL = f"\n{SYNC} st.global.u32 [%d1], %r9; ret; }}"


def launch(
    body: str, ctas: int = 4, block: int = 32, cluster: Any = 2, tail: str = TAIL
) -> tuple[Array, tuple[simulator.Finding, ...]]:
    """Returns %r9 of all threads, one row a CTA, and what was found."""
    device = simulator.Device("all")
    out = device.array(np.zeros(ctas * block, "u4"))
    module = device.load(HEAD + body + tail)
    report = module["k"].launch(ctas, block, [out], cluster=cluster)
    return out.numpy().reshape(ctas, block).copy(), report.findings


def run(body: str, ctas: int = 4, block: int = 32, cluster: Any = 2) -> Array:
    """Returns %r9 of all threads of a body in which nothing is found."""
    rows, findings = launch(body, ctas, block, cluster)
    assert findings == ()
    return rows


def fault(body: str, **options: Any) -> simulator.Finding:
    """Returns what a body is stopped for."""
    with pytest.raises(simulator.SimulationError) as raised:
        launch(body, **options)
    return raised.value.finding


def neighbours(ctas: int, cluster: int) -> Array:
    """Returns the CTA of the next rank in the same cluster, by CTA."""
    cta = np.arange(ctas)
    return cta // cluster * cluster + (cta % cluster + 1) % cluster


MARK = "mad.lo.u32 %r20, %r5, 7, 3; st.shared.u32 [%r8], %r20;"


def marks(ctas: int, block: int = 32) -> Array:
    """Returns what MARK stores, one row a CTA."""
    return (np.arange(ctas * block) * 7 + 3).reshape(ctas, block)


# Addresses.


@pytest.mark.parametrize(
    "load",
    [
        "ld.shared::cluster.u32 %r9, [%r10];",
        "mapa.u64 %d4, %d2, %r7; ld.u32 %r9, [%d4];",
        "mapa.shared::cluster.u64 %d4, %d3, %r7; ld.shared::cluster.u32 %r9, [%d4];",
        "mapa.u64 %d4, %d2, %r7; cvta.to.shared.u64 %d4, %d4; ld.shared::cluster.u32 %r9, [%d4];",
        "cvt.u64.u32 %d4, %r10; cvta.shared::cluster.u64 %d4, %d4; ld.u32 %r9, [%d4];",
    ],
)
@pytest.mark.parametrize(("ctas", "cluster"), [(2, 2), (12, 4), (64, 16)])
def test_a_mapped_address_leads_to_the_next_cta(load: str, ctas: int, cluster: int) -> None:
    got = run(f"{MARK}{SYNC}{load}", ctas, cluster=cluster)
    assert (got == marks(ctas)[neighbours(ctas, cluster)]).all()


def test_an_address_mapped_twice_has_the_last_rank() -> None:
    got = run(
        f"{MARK}{SYNC} mapa.shared::cluster.u32 %r12, %r10, %r1;"
        " ld.shared::cluster.u32 %r9, [%r12];"
    )
    assert (got == marks(4)).all()


def test_an_address_of_the_own_cta_is_one_of_the_cluster() -> None:
    assert (run(f"{MARK} ld.shared::cluster.u32 %r9, [%r8];") == marks(4)).all()


def test_one_address_for_all_lanes_leads_to_another_cta() -> None:
    got = run(
        f"{MARK}{SYNC} mapa.shared::cluster.u32 %r12, %r3, 1; ld.shared::cluster.u32 %r9, [%r12+8];"
    )
    assert (got == marks(4)[[1, 1, 3, 3], 2][:, None]).all()


def test_offsets_and_vectors_count_from_a_mapped_address() -> None:
    body = f"{MARK}{SYNC} mapa.shared::cluster.u32 %r12, %r3, %r7; "
    got = run(body + "ld.shared::cluster.v4.u32 {%r13, %r14, %r15, %r9}, [%r12+16];")
    assert (got == marks(4)[neighbours(4, 2), 7][:, None]).all()


@pytest.mark.parametrize(
    "text",
    [
        "getctarank.shared::cluster.u32 %r9, %r10;",
        "mapa.u64 %d4, %d2, %r7; getctarank.u64 %r9, %d4;",
        "mapa.shared::cluster.u64 %d4, %d3, %r7; getctarank.shared::cluster.u64 %r9, %d4;",
    ],
)
def test_the_rank_of_a_mapped_address(text: str) -> None:
    assert (run(text, 6, cluster=3) == (np.arange(6) % 3 + 1)[:, None] % 3).all()


@pytest.mark.parametrize(
    "text", ["getctarank.shared::cluster.u32 %r9, %r8;", "getctarank.u64 %r9, %d2;"]
)
def test_the_rank_of_an_own_address(text: str) -> None:
    assert (run(text, 6, cluster=3) == np.arange(6)[:, None] % 3).all()


def test_a_store_reaches_the_next_cta() -> None:
    got = run(f"st.shared::cluster.u32 [%r10], %r5; {SYNC} ld.shared.u32 %r9, [%r8];", 6, cluster=3)
    sender = np.argsort(neighbours(6, 3))
    assert (got == np.arange(192).reshape(6, 32)[sender]).all()


def test_atomics_reach_the_cta_of_rank_0() -> None:
    zero = f"@%p1 st.shared.u32 [tile], 0; {SYNC} mapa.shared::cluster.u32 %r12, %r3, 0;"
    body = (
        f"{zero} atom.shared::cluster.add.u32 %r13, [%r12], %r0;"
        f" {SYNC} ld.shared::cluster.u32 %r9, [%r12];"
    )
    assert (run(body, 8, cluster=4) == 4 * sum(range(32))).all()


def test_reductions_by_generic_addresses_reach_another_cta() -> None:
    body = f"st.shared.u32 [%r8], 1; {SYNC} mapa.u64 %d4, %d2, %r7; red.add.u32 [%d4], %r5; {SYNC}"
    got = run(body + "ld.shared.u32 %r9, [%r8];", 6, cluster=3)
    assert (got == 1 + np.arange(192).reshape(6, 32)[np.argsort(neighbours(6, 3))]).all()


@pytest.mark.parametrize("rank", [2, 15, 254, 255, 256, 4095])
@pytest.mark.parametrize("load", ["ld.shared::cluster.u32 %r9, [%r12];", "ld.u32 %r9, [%d4];"])
def test_a_rank_beyond_the_cluster_leads_nowhere(rank: int, load: str) -> None:
    body = f"mapa.shared::cluster.u32 %r12, %r8, {rank}; mapa.u64 %d4, %d2, {rank};\n{load}"
    found = fault(MARK + SYNC + body)
    assert (found.kind, found.instruction) == ("bounds", load)


def test_a_rank_that_the_cluster_lacks_is_named() -> None:
    found = fault("mapa.shared::cluster.u32 %r12, %r8, 5;\nld.shared::cluster.u32 %r9, [%r12];")
    assert "CTA 5 of a cluster that has 2" in found.message


def test_an_address_beyond_the_memory_of_another_cta_leads_nowhere() -> None:
    found = fault("ld.shared::cluster.u32 %r9, [%r10+4096];")
    assert found.kind == "bounds"


@pytest.mark.parametrize(
    "text",
    [
        "ld.shared.u32 %r9, [%r10];",
        "st.shared.u32 [%r10], %r9;",
        "st.shared::cta.u32 [%r10], %r9;",
        "atom.shared.add.u32 %r9, [%r10], 1;",
        "mbarrier.init.shared.b64 [%r11], 1;",
        "mbarrier.arrive.shared::cta.b64 %d4, [%r11];",
    ],
)
def test_an_address_of_another_cta_is_none_of_the_own_memory(text: str) -> None:
    assert fault(text).kind == "bounds"


def test_another_cta_cannot_be_waited_for_at_its_mbarrier() -> None:
    body = READY.replace("BYTES", "16") + "mbarrier.try_wait.parity.shared.b64 %p4, [%r11], 0;"
    assert fault(body).kind == "bounds"


# Who has exited.


def test_memory_of_a_cta_that_has_exited_is_gone() -> None:
    body = f"{MARK}{SYNC} @%p2 bra OUT; mapa.shared::cluster.u32 %r12, %r3, 0; mov.u32 %r21, 300;"
    body += "L: sub.u32 %r21, %r21, 1; setp.ne.u32 %p5, %r21, 0; @%p5 bra L;"
    found = fault(body + "ld.shared::cluster.u32 %r9, [%r12];", tail="\nOUT: ret; }")
    assert found.kind == "use-after-free"


def test_an_access_that_the_exit_of_a_cta_does_not_wait_for_is_found() -> None:
    _, (found,) = launch(f"{MARK}{SYNC} ld.shared::cluster.u32 %r9, [%r10];", tail="\nret; }")
    assert found.kind == "use-after-free"


def test_a_wait_on_an_mbarrier_orders_an_arrival_before_the_exit() -> None:
    body = (
        "@%p1 mbarrier.init.shared.b64 [%r4], 32;"
        f" {SYNC} mbarrier.arrive.shared::cluster.b64 _, [%r11];"
    )
    _, findings = launch(body + WAIT, tail="\nret; }")
    assert findings == ()


# mbarriers.


def test_an_arrival_at_another_cta_orders_what_was_stored_there() -> None:
    body = f"@%p1 mbarrier.init.shared.b64 [%r4], 32; {SYNC} st.shared::cluster.u32 [%r10], %r5;"
    body += "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r11];" + WAIT
    got = run(body + "ld.shared.u32 %r9, [%r8];", 6, cluster=3)
    assert (got == np.arange(192).reshape(6, 32)[np.argsort(neighbours(6, 3))]).all()


def test_mbarriers_that_are_ready_before_a_relaxed_arrival_are_ready_for_the_cluster() -> None:
    body = "@%p1 mbarrier.init.shared.b64 [%r4], 32; fence.mbarrier_init.release.cluster;"
    body += "barrier.cluster.arrive.relaxed.aligned; barrier.cluster.wait.acquire.aligned;"
    assert (
        run(body + "mbarrier.arrive.shared::cluster.b64 _, [%r11];" + WAIT, 6, cluster=3) == 0
    ).all()


def test_an_arrival_at_an_mbarrier_that_may_not_be_ready_is_found() -> None:
    body = "@%p1 mbarrier.init.shared.b64 [%r4], 32; bar.sync 0;"
    body += "mbarrier.arrive.shared::cluster.b64 _, [%r11];"
    _, findings = launch(body + WAIT)
    assert {found.kind for found in findings} == {"race"}


# Asynchronous stores.

VALUES = {"b32": 4, "u32": 4, "s32": 4, "f32": 4, "b64": 8, "u64": 8, "s64": 8, "f64": 8}


@pytest.mark.parametrize("type", VALUES)
@pytest.mark.parametrize("count", [1, 2, 4])
def test_an_asynchronous_store_brings_its_elements(type: str, count: int) -> None:
    size = VALUES[type]
    kind = "f" if type[0] == "f" else "b"
    names = [f"v{i}" for i in range(count)]
    body = f".reg .{kind}{size * 8} {', '.join(names)}; {READY.replace('BYTES', str(size * count))}"
    for number, name in enumerate(names):
        body += f"mov.{kind}{size * 8} {name}, {random_literal(type, number)};"
    vector = f".v{count}" if count > 1 else ""
    values = f"{{{', '.join(names)}}}" if count > 1 else names[0]
    body += "mapa.shared::cluster.u32 %r12, %r3, %r7;"
    body += f"@%p1 st.async.weak.shared::cluster.mbarrier::complete_tx::bytes{vector}.{type} "
    body += f"[%r12+32], {values}, [%r11];{WAIT}"
    words = size * count // 4
    got = run(
        body + f"rem.u32 %r13, %r0, {words}; shl.b32 %r13, %r13, 2; add.u32 %r13, %r13, %r3;"
        "ld.shared.u32 %r9, [%r13+32];"
    )
    bits = np.array([literal_bits(type, number) for number in range(count)], f"u{size}").view("u4")
    assert (got == bits[np.arange(32) % words]).all()


def literal_bits(type: str, number: int) -> int:
    """Returns the bits of one element that a test stores."""
    return (0x4123456789ABCDEF if VALUES[type] == 8 else 0x42345678) + number * 0x1111


def random_literal(type: str, number: int) -> str:
    """Returns the bits of one element that a test stores as a constant."""
    bits = literal_bits(type, number)
    if type == "f32":
        return f"0f{bits:08X}"
    return f"0d{bits:016X}" if type == "f64" else hex(bits)


REDUCTIONS: dict[str, Callable[[int, int], int]] = {
    "add.u32": lambda old, new: (old + new) % 2**32,
    "add.s32": lambda old, new: (old + new) % 2**32,
    "add.u64": lambda old, new: old + new,
    "min.u32": lambda old, new: min(old, new),
    "max.u32": lambda old, new: max(old, new),
    "min.s32": lambda old, new: min(old, new, key=signed),
    "max.s32": lambda old, new: max(old, new, key=signed),
    "inc.u32": lambda old, new: 0 if old >= new else old + 1,
    "dec.u32": lambda old, new: new if old == 0 or old > new else old - 1,
    "and.b32": lambda old, new: old & new,
    "or.b32": lambda old, new: old | new,
    "xor.b32": lambda old, new: old ^ new,
}


def signed(bits: int) -> int:
    """Returns 32 bits as a signed number."""
    return bits - (bits >> 31 << 32)


@pytest.mark.parametrize("name", REDUCTIONS)
def test_an_asynchronous_reduction_combines(name: str) -> None:
    wide = name.endswith("64")
    size, register = (8, "%d5") if wide else (4, "%r13")
    old, new = 0xFFFF1234, 0x7654321F
    body = f"@%p1 st.shared.{'u64' if wide else 'u32'} [tile], {old};"
    body += READY.replace("BYTES", str(size))
    body += (
        f"mov.{'u64' if wide else 'u32'} {register}, {new};"
        " mapa.shared::cluster.u32 %r12, %r3, %r7;"
    )
    body += f"@%p1 red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.{name} "
    body += f"[%r12], {register}, [%r11];{WAIT}"
    word = 4 if wide else 0
    got = run(body + f"ld.shared.u32 %r9, [tile+{word}];")
    assert (got == REDUCTIONS[name](old, new) >> 8 * word & 0xFFFFFFFF).all()


def test_asynchronous_reductions_of_several_ctas_do_not_race() -> None:
    body = "@%p1 st.shared.u32 [tile], 1; selp.u32 %r14, 12, 0, %p2;"
    body += READY.replace("BYTES", "%r14")
    body += "mapa.shared::cluster.u32 %r12, %r3, 0; mapa.shared::cluster.u32 %r13, %r4, 0;"
    body += "@%p1 red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.add.u32 "
    body += "[%r12], 5, [%r13]; @!%p2 bra OUT;" + WAIT + "ld.shared.u32 %r9, [tile]; OUT:"
    assert (run(body, 6, cluster=3)[::3] == 16).all()


def test_data_and_mbarrier_of_an_asynchronous_store_lie_in_one_cta() -> None:
    body = (
        READY.replace("BYTES", "4")
        + "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.u32 "
    )
    assert fault(body + "[%r10], %r0, [%r4];").kind == "mbarrier"


# Bulk copies.

FILL = "st.shared.v4.u32 [%r12], {%r5, %r5, %r5, %r5};"
PLACE = "mad.lo.u32 %r12, %r0, 16, %r3;"


def test_a_bulk_copy_brings_memory_of_one_cta_to_another() -> None:
    body = f"{PLACE}{FILL} fence.proxy.async.shared::cta;" + READY.replace("BYTES", "256")
    body += "add.u32 %r13, %r3, 512; mapa.shared::cluster.u32 %r14, %r13, %r7; @!%p1 bra W;"
    body += (
        "cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes "
        "[%r14], [%r3], 256, [%r11];"
    )
    got = run(
        body
        + WAIT
        + "shr.u32 %r15, %r0, 1; mad.lo.u32 %r15, %r15, 16, %r13; ld.shared.u32 %r9, [%r15];",
        6,
        cluster=3,
    )
    source = np.arange(192).reshape(6, 32)[np.argsort(neighbours(6, 3))]
    assert (got == source[:, np.arange(32) // 2]).all()


def test_the_source_of_a_bulk_copy_to_another_cta_is_not_to_be_overwritten_before_its_end() -> None:
    body = f"{PLACE}{FILL} fence.proxy.async.shared::cta;" + READY.replace("BYTES", "256")
    body += "add.u32 %r13, %r3, 512; mapa.shared::cluster.u32 %r14, %r13, %r7; @!%p1 bra W;"
    body += (
        "cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes "
        "[%r14], [%r3], 256, [%r11];"
    )
    body += f"\nst.shared.u32 [tile], 7;\n{WAIT}"
    _, findings = launch(body)
    assert [found.kind for found in findings] == ["race"]


MULTICAST = "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster "


@pytest.mark.parametrize("mask", [1, 0b1010, 0b1111])
def test_a_multicast_copy_reaches_the_ctas_of_its_mask(mask: int) -> None:
    """The CTA of rank 0 sends; those out of the mask expect nothing."""
    body = (
        f"mov.u32 %r13, {mask}; cvt.u16.u32 %h1, %r13; shr.u32 %r13, %r13, %r1;"
        " and.b32 %r13, %r13, 1;"
    )
    body += "shl.b32 %r13, %r13, 6; st.shared.u32 [%r8], 9; st.shared.u32 [%r8+64], 9;"
    body += "fence.proxy.async; add.u64 %d5, %d0, 4096;" + READY.replace("BYTES", "%r13")
    body += f"@%p3 {MULTICAST} [%r3], [%d5], 64, [%r4], %h1;{WAIT} ld.shared.u32 %r9, [%r8];"
    device = simulator.Device("all")
    values = np.arange(2048, dtype="u4")
    out = device.array(values)
    report = device.load(HEAD + body + TAIL)["k"].launch(8, 32, [out], cluster=4)
    assert report.findings == ()
    got = out.numpy()[:256].reshape(8, 32)
    for cta in range(8):
        here = mask >> cta % 4 & 1
        assert (got[cta, :16] == (values[1024:1040] if here else 9)).all()
        assert (got[cta, 16:] == 9).all()


def test_a_mask_of_multicast_names_ctas_of_the_cluster() -> None:
    body = "mov.b16 %h1, 5; add.u64 %d5, %d0, 256;" + READY.replace("BYTES", "64")
    assert fault(f"{body} @%p3 {MULTICAST} [%r3], [%d5], 64, [%r4], %h1;").kind == "bounds"


# barrier.cluster.


def test_work_may_stand_between_arrival_and_wait() -> None:
    body = f"{MARK} barrier.cluster.arrive; add.u32 %r16, %r0, 1; st.shared.u32 [%r8+512], %r16;"
    got = run(body + "barrier.cluster.wait; ld.shared::cluster.u32 %r9, [%r10];")
    assert (got == marks(4)[neighbours(4, 2)]).all()


def test_work_between_arrival_and_wait_is_not_ordered() -> None:
    body = f"barrier.cluster.arrive; {MARK}"
    _, findings = launch(body + "barrier.cluster.wait; ld.shared::cluster.u32 %r9, [%r10];")
    assert [found.kind for found in findings] == ["race"]


def test_a_barrier_of_the_cta_orders_nothing_in_the_cluster() -> None:
    _, findings = launch(
        f"{SYNC}{MARK} bar.sync 0; bar.sync 0;\nld.shared::cluster.u32 %r9, [%r10];"
    )
    assert [found.kind for found in findings] == ["race"]


def test_a_store_to_a_cta_that_has_read_there_before_is_found() -> None:
    body = (
        f"{MARK}{SYNC} ld.shared.u32 %r9, [%r8]; bar.sync 0;\nst.shared::cluster.u32 [%r10], %r5;"
    )
    _, findings = launch(body)
    assert [found.kind for found in findings] == ["race"]


def test_a_relaxed_arrival_orders_nothing() -> None:
    body = f"{MARK} barrier.cluster.arrive.relaxed; barrier.cluster.wait;"
    _, findings = launch(body + "ld.shared::cluster.u32 %r9, [%r10];")
    assert [found.kind for found in findings] == ["race"]


def test_a_fence_before_a_relaxed_arrival_orders() -> None:
    body = f"{MARK} fence.acq_rel.cluster; barrier.cluster.arrive.relaxed; barrier.cluster.wait;"
    got = run(body + "ld.shared::cluster.u32 %r9, [%r10];")
    assert (got == marks(4)[neighbours(4, 2)]).all()


def test_threads_that_have_exited_are_not_waited_for() -> None:
    body = (
        "setp.ge.u32 %p5, %r0, 16; @%p5 ret; barrier.cluster.arrive; barrier.cluster.wait;"
        " mov.u32 %r9, 1;"
    )
    rows, _ = launch(body, tail="\nst.global.u32 [%d1], %r9; ret; }")
    assert (rows == (np.arange(32) < 16)).all()


def test_threads_that_exit_late_let_the_others_go_on() -> None:
    body = "setp.ge.u32 %p5, %r0, 16; @!%p5 bra B; mov.u32 %r21, 50;"
    body += "L: sub.u32 %r21, %r21, 1; setp.ne.u32 %p6, %r21, 0; @%p6 bra L; ret;"
    body += "B: barrier.cluster.arrive; barrier.cluster.wait; mov.u32 %r9, 1;"
    rows, _ = launch(body, tail="\nst.global.u32 [%d1], %r9; ret; }")
    assert (rows == (np.arange(32) < 16)).all()


def test_a_wait_without_an_arrival_is_refused() -> None:
    assert fault("barrier.cluster.wait;").kind == "divergence"


def test_a_second_arrival_before_the_wait_is_refused() -> None:
    assert fault("barrier.cluster.arrive; barrier.cluster.arrive;").kind == "divergence"


def test_a_cta_that_never_arrives_is_a_deadlock() -> None:
    body = "@%p2 bra A; L: bar.sync 1, 64; A: barrier.cluster.arrive; barrier.cluster.wait;"
    assert fault(body).kind == "deadlock"


def test_many_phases_follow_each_other() -> None:
    body = (
        "mov.u32 %r21, 20; st.shared.u32 [%r8], %r1;"
        f" L: {SYNC} ld.shared::cluster.u32 %r22, [%r10];"
    )
    body += f"add.u32 %r9, %r9, %r22; {SYNC} ld.shared.u32 %r23, [%r8]; add.u32 %r23, %r23, %r22;"
    body += (
        "st.shared.u32 [%r8], %r23; sub.u32 %r21, %r21, 1; setp.ne.u32 %p5, %r21, 0; @%p5 bra L;"
    )
    value, total = np.arange(6) % 3, np.zeros(6, int)
    for _ in range(20):
        other = value[neighbours(6, 3)]
        total, value = total + other, value + other
    assert (run(body, 6, cluster=3) == total[:, None] % 2**32).all()


# Where CTAs stand.

NAMES = (
    "ctaid.x ctaid.y ctaid.z cluster_ctaid.x cluster_ctaid.y cluster_ctaid.z clusterid.x "
    "clusterid.y "
    "clusterid.z nclusterid.x nclusterid.y nclusterid.z cluster_nctaid.x cluster_nctaid.y "
    "cluster_nctaid.z cluster_ctarank cluster_nctarank"
).split()


@pytest.mark.parametrize(
    ("grid", "cluster"),
    [
        ((6, 4, 2), (3, 2, 2)),
        ((4, 6, 1), (1, 3, 1)),
        ((2, 2, 6), (2, 1, 3)),
        ((60, 9, 2), (5, 3, 1)),
    ],
)
def test_special_registers_of_boxes_of_the_grid(grid: Triple, cluster: Triple) -> None:
    """Threads of 1080 CTAs do not fit one batch."""
    text = ".version 8.6\n.target sm_90a\n.address_size 64\n.visible .entry k(.param .u64 out) {\n"
    text += ".reg .b32 %r<40>; .reg .b64 %d<9>; .reg .pred %p<3>; ld.param.u64 %d0, [out];"
    text += "mov.u32 %r30, %nctaid.x; mov.u32 %r31, %nctaid.y;"
    for number, name in enumerate(NAMES):
        text += f"mov.u32 %r{number}, %{name};"
    text += "mad.lo.u32 %r32, %r2, %r31, %r1; mad.lo.u32 %r32, %r32, %r30, %r0;"
    text += (
        f"mul.lo.u32 %r32, %r32, {4 * len(NAMES)}; cvt.u64.u32 %d1, %r32; add.u64 %d0, %d0, %d1;"
    )
    for number in range(len(NAMES)):
        text += f"st.global.u32 [%d0+{4 * number}], %r{number};"
    device = simulator.Device("all")
    total = grid[0] * grid[1] * grid[2]
    out = device.array(np.zeros((total, 17), "u4"))
    device.load(text + "ret; }")["k"].launch(grid, 64, [out], cluster=cluster)
    cta = np.arange(total)
    at = np.array([cta % grid[0], cta // grid[0] % grid[1], cta // (grid[0] * grid[1])])
    extents = np.array(cluster)[:, None]
    inner, outer = at % extents, at // extents
    counts = np.array(grid)[:, None] // extents
    rank = inner[0] + cluster[0] * (inner[1] + cluster[1] * inner[2])
    ones = np.ones(total, int)
    wanted = [
        *at,
        *inner,
        *outer,
        *(counts * ones),
        *(extents * ones),
        rank,
        ones * cluster[0] * cluster[1] * cluster[2],
    ]
    assert (out.numpy() == np.array(wanted).T).all()


@pytest.mark.parametrize(
    ("options", "directive", "wanted"),
    [
        ({}, "", 0),
        ({"cluster": 2}, "", 1),
        ({"cluster": 1}, "", 1),
        ({}, ".reqnctapercluster 1, 1, 1", 1),
    ],
)
def test_a_cluster_is_explicit_where_it_was_asked_for(
    options: Any, directive: str, wanted: int
) -> None:
    device = simulator.Device("all")
    out = device.array(np.full(4, 7, "u4"))
    text = HEAD.replace(") {", f") {directive} {{", 1)
    text += (
        "mov.pred %p4, %is_explicit_cluster; selp.u32 %r9, 1, 0, %p4;"
        " st.global.u32 [%d1], %r9; ret; }"
    )
    device.load(text)["k"].launch(4, 1, [out], **options)
    assert (out.numpy() == wanted).all()


def test_clusters_of_several_batches_do_not_meet() -> None:
    """300 CTAs of 64 threads are two batches of about 16384 lanes."""
    got = run(f"{MARK}{SYNC} ld.shared::cluster.u32 %r9, [%r10];", 300, 64, cluster=3)
    assert (got == marks(300, 64)[neighbours(300, 3)]).all()
