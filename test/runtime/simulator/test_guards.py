"""Guards on instructions that several lanes execute together: the other lanes pass them by."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tilewright.runtime import simulator

# Where the guard is on: in the warps with an odd number, which %p1 says.
ODD = "shr.u32 %r9, a1, 5; and.b32 %r9, %r9, 1; setp.ne.u32 %p1, %r9, 0; mov.u32 %r8, 77;"


@pytest.fixture
def warps(lanes: Any) -> Any:
    """Returns a function that runs a body in 4 warps, for a random a0 and thread numbers a1."""

    def run(body: str) -> tuple[Any, Any]:
        a = np.random.default_rng(len(body)).integers(0, 1 << 32, 128, dtype="u4")
        thread = np.arange(128, dtype="u4")
        return a.reshape(4, 32), lanes(f"{ODD} {body} mov.b32 o0, %r8;", a, thread).reshape(4, 32)

    return run


def reduced(a: Any) -> Any:
    """Returns the maximum of each row in all its places."""
    return np.repeat(a.max(axis=1), 32).reshape(-1, 32)


SAME: dict[str, Callable[[Any], Any]] = {
    "shfl.sync.bfly.b32 %r8, a0, 1, 31, -1;": lambda a: a[:, np.arange(32) ^ 1],
    "redux.sync.max.u32 %r8, a0, -1;": reduced,
    "match.any.sync.b32 %r8, a0, -1;": lambda a: a * 0 + (1 << np.arange(32, dtype="u4")),
    "activemask.b32 %r8;": lambda a: a * 0 + 0xFFFFFFFF,
    "movmatrix.sync.aligned.m8n8.trans.b16 %r8, a0;": lambda a: (
        a.view("u2").reshape(-1, 8, 8).transpose(0, 2, 1).copy().view("u4").reshape(-1, 32)
    ),
}


@pytest.mark.parametrize("negated", [False, True])
@pytest.mark.parametrize("text", SAME)
def test_lanes_without_the_guard_keep_their_register(text: str, negated: bool, warps: Any) -> None:
    a, got = warps(f"@{'!' if negated else ''}%p1 {text}")
    want = np.full((4, 32), 77, "u4")
    chosen = slice(0, None, 2) if negated else slice(1, None, 2)
    want[chosen] = SAME[text](a[chosen])
    assert (got == want).all()


def test_a_ballot_with_a_guard_inside_a_warp_asks_only_for_its_mask(lanes: Any) -> None:
    a = np.arange(64, dtype="u4")
    body = "and.b32 %r1, a0, 1; setp.ne.u32 %p1, %r1, 0; setp.gt.u32 %p2, a0, 40; mov.u32 %r8, 5;"
    got = lanes(f"{body} @%p1 vote.sync.ballot.b32 %r8, %p2, 0xAAAAAAAA; mov.b32 o0, %r8;", a)
    mask = sum(1 << i for i in range(32) if i % 2 and i + 32 > 40)
    assert got.tolist() == [5 if i % 2 == 0 else mask * (i > 31) for i in range(64)]


def test_a_guard_that_leaves_out_lanes_of_the_mask_is_a_deadlock(lanes: Any) -> None:
    body = "setp.gt.u32 %p1, a0, 7; @%p1 shfl.sync.idx.b32 o0, a0, 0, 31, -1; bar.sync 0;"
    with pytest.raises(simulator.SimulationError, match="wait before PTX line"):
        lanes(body, np.arange(32, dtype="u4"))


def test_a_carry_is_added_only_where_the_guard_is_on(lanes: Any, samples: Any) -> None:
    a, b = samples(32, 2)
    body = "setp.gt.u32 %p1, a0, a1; mov.u32 %r1, 3; mov.u32 %r2, 4; add.cc.u32 %r3, a0, a1;"
    got = lanes(f"{body} @%p1 addc.u32 %r2, %r1, 0; mov.b32 o0, %r2;", a, b)
    for x, y, g in zip(a.tolist(), b.tolist(), got.tolist(), strict=True):
        assert g == (3 + (x + y >> 32) if x > y else 4)


def test_a_guarded_carry_out_keeps_the_flag_elsewhere(lanes: Any, samples: Any) -> None:
    a, b = samples(32, 2)
    body = "setp.gt.u32 %p1, a0, a1; add.cc.u32 %r3, a0, a1; @%p1 add.cc.u32 %r4, -1, 1;"
    got = lanes(f"{body} addc.u32 o0, 0, 0;", a, b)
    for x, y, g in zip(a.tolist(), b.tolist(), got.tolist(), strict=True):
        assert g == (1 if x > y else x + y >> 32)


def test_guarded_waits_of_cp_async_hold_for_their_lanes(lanes: Any) -> None:
    a = np.arange(64, dtype="u4")
    body = """.shared .align 16 .b8 pad[256]; mov.u32 %r1, pad; mad.lo.u32 %r1, a0, 4, %r1;
    ld.param.u64 %d1, [p0]; mad.wide.u32 %d1, a0, 4, %d1;
    setp.lt.u32 %p1, a0, 64; setp.ge.u32 %p2, a0, 64;
    @%p1 cp.async.ca.shared.global [%r1], [%d1], 4; @%p1 cp.async.commit_group;
    @%p1 cp.async.wait_group 0; @%p2 cp.async.wait_all; ld.shared.b32 o0, [%r1];"""
    assert (lanes(body, a) == a).all()


def kernel(body: str) -> str:
    """Returns a kernel of threads that store %r9, with the thread number in %r0."""
    return f""".version 8.0
.target sm_90a
.address_size 64
.shared .align 8 .b8 bar[8];
.visible .entry k(.param .u64 out) {{
    .reg .pred %p<9>; .reg .b32 %r<20>; .reg .b64 %d<9>;
    mov.u32 %r0, %tid.x; ld.param.u64 %d1, [out]; mad.wide.u32 %d1, %r0, 4, %d1; mov.u32 %r9, 0;
    mov.u32 %r1, bar; setp.lt.u32 %p1, %r0, 32;
    {body}
    st.global.u32 [%d1], %r9; ret;
}}"""


def launch(body: str, block: int = 128) -> Any:
    """Runs a body in one block."""
    device = simulator.Device("all")
    out = device.empty(block, "u32")
    device.load(kernel(body))["k"].launch(1, block, [out])
    return out.numpy()


def test_warps_without_the_guard_are_not_held_by_a_barrier() -> None:
    got = launch("@!%p1 bar.sync 1, 96; @%p1 bar.sync 2, 32; mov.u32 %r9, 1;")
    assert (got == 1).all()


def test_a_guarded_barrier_of_the_whole_block_is_a_deadlock() -> None:
    with pytest.raises(simulator.SimulationError, match="32 of 128 have arrived"):
        launch("@%p1 bar.sync 0; bar.sync 1;")


def test_a_guarded_try_wait_waits_only_in_its_lanes() -> None:
    body = """setp.eq.u32 %p2, %r0, 0; @%p2 mbarrier.init.shared.b64 [%r1], 96; bar.sync 0;
    @%p1 mbarrier.try_wait.parity.shared.b64 %p3, [%r1], 0;
    @%p1 bra DONE; mbarrier.arrive.shared.b64 _, [%r1];
DONE: selp.u32 %r9, 4, 5, %p1;"""
    got = launch(body)
    assert got.tolist() == [4] * 32 + [5] * 96


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("bar.red.popc.u32 %r9, 0, %p4;", 24),
        ("barrier.cta.red.popc.aligned.u32 %r9, 3, 128, !%p4;", 104),
        ("barrier.red.or.pred %p5, 0, %p4; selp.u32 %r9, 7, 8, %p5;", 7),
        ("bar.red.and.pred %p5, 0, %p4; selp.u32 %r9, 7, 8, %p5;", 8),
        ("bar.red.and.pred %p5, 0, !%p6; selp.u32 %r9, 7, 8, %p5;", 7),
        ("bar.red.or.pred %p5, 0, %p6; selp.u32 %r9, 7, 8, %p5;", 8),
    ],
)
def test_bar_red_reduces_the_predicates_of_the_block(text: str, value: int) -> None:
    """Warps reach it at different times; 24 threads hold the predicate."""
    body = f"""rem.u32 %r2, %r0, 5; setp.eq.u32 %p4, %r2, 2; setp.gt.u32 %p6, %r0, 999;
    setp.gt.u32 %p4, %r0, 103; @%p1 bra LATER; bra MEET;
LATER: mov.u32 %r3, 0;
SLOW: add.u32 %r3, %r3, 1; setp.lt.u32 %p2, %r3, 9; @%p2 bra SLOW;
MEET: {text}"""
    assert (launch(body) == value).all()


def test_bar_red_counts_again_at_its_next_use() -> None:
    body = """setp.lt.u32 %p4, %r0, 10; bar.red.popc.u32 %r5, 0, %p4;
    setp.lt.u32 %p4, %r0, 20; bar.red.popc.u32 %r6, 0, %p4; mad.lo.u32 %r9, %r5, 100, %r6;"""
    assert (launch(body) == 1020).all()


def test_bar_red_of_some_warps_writes_only_their_registers() -> None:
    body = """mov.u32 %r9, 3; setp.ge.u32 %p4, %r0, 64;
    @!%p1 bar.red.popc.u32 %r9, 2, 96, %p4;"""
    assert launch(body).tolist() == [3] * 32 + [64] * 96
