"""Schedules drawn from a seed: other orders, other leaders, waits in vain, data early or late."""

from typing import Any

import numpy as np
import pytest

from tilewright.runtime import simulator
from tilewright.test.runtime.simulator.cases import CASES, Case

HEAD = """.version 8.0
.target sm_90
.address_size 64
.shared .align 1024 .b8 tile[2048];
.visible .entry k(.param .u64 out) {
.reg .pred %p<9>; .reg .b32 %r<20>; .reg .b64 %d<9>;
mov.u32 %r0, %tid.x; mov.u32 %r1, %ctaid.x; ld.param.u64 %d0, [out];
mov.u32 %r2, %ntid.x; mad.lo.u32 %r3, %r1, %r2, %r0; mad.wide.u32 %d1, %r3, 4, %d0;
"""
TICKET = """atom.global.add.u32 %r4, [%d0+4096], 1; st.global.u32 [%d1], %r4; ret; }
"""


def run(body: str, seed: int | None, grid: int = 4, block: int = 64) -> Any:
    """Returns what the threads stored."""
    device = simulator.Device()
    out = device.array(np.zeros(2048, "u4"))
    device.load(HEAD + body)["k"].launch(grid, block, [out], seed=seed)
    return out.numpy()[: grid * block].copy()


@pytest.mark.parametrize("name", CASES)
def test_a_kernel_of_the_corpus_is_right_under_other_schedules(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case: Case = CASES[name]
    launch = simulator.Kernel.launch
    for seed in (1, 2):

        def seeded(self: simulator.Kernel, *given: Any, seed: int = seed, **options: Any) -> Any:
            return launch(self, *given, seed=seed, **options)

        monkeypatch.setattr(simulator.Kernel, "launch", seeded)
        outcome = case.run(case.text)
        assert outcome.findings == ()
        assert outcome.error <= case.tolerance


def test_threads_take_their_turns_in_another_order_for_another_seed() -> None:
    orders = {tuple(run(TICKET, seed)) for seed in (None, *range(4))}
    assert len(orders) == 5
    assert all(sorted(order) == list(range(256)) for order in orders)


def test_the_same_seed_gives_the_same_schedule() -> None:
    assert (run(TICKET, 7) == run(TICKET, 7)).all()


def test_blocks_begin_in_another_order() -> None:
    body = TICKET.replace("[%d1]", "[%d1]").replace("atom", "@%p1 bra OUT; atom", 1)
    first = "setp.ne.u32 %p1, %r0, 0;"
    tickets = run(first + body.replace("ret;", "OUT: ret;"), 3, grid=8)[::64]
    assert sorted(tickets) == list(range(8))
    assert list(tickets) != list(range(8))


LEADER = """elect.sync %r4|%p1, 0xffffffff; elect.sync %r5|%p2, 0xffffffff;
shl.b32 %r5, %r5, 8; or.b32 %r4, %r4, %r5; st.global.u32 [%d1], %r4; ret; }
"""


def test_the_leader_is_another_one_but_the_same_for_a_mask() -> None:
    found = [run(LEADER, seed) for seed in range(6)]
    assert all((each & 255 == each >> 8).all() and (each == each[0]).all() for each in found)
    assert len({int(each[0]) for each in found}) > 1
    assert (run(LEADER, None) == 0).all()


VAIN = """setp.eq.u32 %p1, %r0, 0; mov.u32 %r4, 0;
@%p1 mbarrier.init.shared.b64 [tile], 64; bar.sync 0;
mbarrier.arrive.shared.b64 %d2, [tile];
SPIN: mbarrier.try_wait.parity.shared.b64 %p2, [tile], 0;
add.u32 %r4, %r4, 1; @!%p2 bra SPIN;
st.global.u32 [%d1], %r4; ret; }
"""


def test_a_wait_may_end_in_vain() -> None:
    assert (run(VAIN, None) == 1).all()
    assert max(int(run(VAIN, seed).max()) for seed in range(6)) > 1


EARLY = """setp.eq.u32 %p1, %r0, 0; st.shared.u32 [tile+64], 5; add.u64 %d3, %d0, 4096;
@%p1 mbarrier.init.shared.b64 [tile], 1; bar.sync 0; mov.u32 %r5, tile;
@!%p1 bra OUT; mbarrier.arrive.expect_tx.shared.b64 %d2, [tile], 16;
add.u32 %r6, %r5, 64;
cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r6], [%d3], 16, [%r5];
ld.shared.u32 %r4, [tile+64]; st.global.u32 [%d1], %r4;
SPIN: mbarrier.try_wait.parity.shared.b64 %p2, [tile], 0; @!%p2 bra SPIN;
OUT: ret; }
"""


def test_data_comes_early_or_late() -> None:
    """Who doesn't wait sees what was there before, or zeros that were copied over it."""
    assert run(EARLY, None, grid=1)[0] == 5
    assert {int(run(EARLY, seed, grid=1)[0]) for seed in range(8)} == {0, 5}


LAST = """mov.u32 %r4, %r0; st.shared.u32 [tile], %r4; bar.sync 0;
ld.shared.u32 %r5, [tile]; st.global.u32 [%d1], %r5; ret; }
"""


def test_any_thread_may_write_last() -> None:
    assert len({int(run(LAST, seed, grid=1)[0]) for seed in range(6)}) > 2


def test_a_deadlock_is_found_under_any_schedule() -> None:
    body = VAIN.replace("[tile], 64", "[tile], 65")
    for seed in (None, 0, 1):
        with pytest.raises(simulator.SimulationError, match="no thread can go on"):
            run(body, seed, grid=1)


@pytest.mark.parametrize("seed", [None, 0])
def test_the_limit_of_steps_holds_for_all_blocks_together(seed: int | None) -> None:
    device = simulator.Device()
    out = device.array(np.zeros(2048, "u4"))
    kernel = device.load(HEAD + "SPIN: bra SPIN; }")["k"]
    report = kernel.launch(200, 128, [out], max_steps=5000, seed=seed)
    assert not report.complete
    assert report.profile.steps <= 5000 + 200
