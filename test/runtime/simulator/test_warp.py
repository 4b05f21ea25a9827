"""Operations of one warp against plain loops over its lanes."""

from typing import Any

import numpy as np
import pytest

from tilewright.runtime import simulator

FULL = 0xFFFFFFFF


def source(mode: str, lane: int, b: int, c: int) -> tuple[int, bool]:
    """Returns the lane that shfl reads and its predicate (PTX ISA, shfl.sync)."""
    b, clamp, segment = b & 31, c & 31, c >> 8 & 31
    top, low = lane & segment | clamp & ~segment & 31, lane & segment
    if mode == "up":
        j = lane - b
        inside = j >= top
    elif mode == "down":
        j = lane + b
        inside = j <= top
    elif mode == "bfly":
        j = lane ^ b
        inside = j <= top
    else:
        j = low | b & ~segment & 31
        inside = j <= top
    return (j if inside else lane), inside


@pytest.mark.parametrize("c", [0x1F, 0, 0x181F, 0x1C07, 0x1000])
@pytest.mark.parametrize("b", [0, 1, 5, 16, 31])
@pytest.mark.parametrize("mode", ["up", "down", "bfly", "idx"])
def test_shfl_reads_its_source_lane(mode: str, b: int, c: int, lanes: Any) -> None:
    a = np.random.default_rng(b).integers(0, 1 << 30, 256, dtype="u4")
    body = f"shfl.sync.{mode}.b32 %r1|%p1, a0, {b}, {c}, -1; selp.u32 %r2, 1, 0, %p1;"
    got = lanes(body + "mad.lo.u32 o0, %r1, 2, %r2;", a).tolist()
    for i, g in enumerate(got):
        j, inside = source(mode, i % 32, b, c)
        assert g == (int(a[i - i % 32 + j]) * 2 + inside) % (1 << 32)


@pytest.mark.parametrize("mode", ["up", "down", "bfly", "idx"])
def test_shfl_takes_lane_dependent_operands(mode: str, lanes: Any) -> None:
    generator = np.random.default_rng(1)
    a, b = (generator.integers(0, 1 << 30, 256, dtype="u4") for _ in range(2))
    got = lanes(f"shfl.sync.{mode}.b32 o0, a0, a1, 0x1f, 0xffffffff;", a, b).tolist()
    for i, g in enumerate(got):
        j, _ = source(mode, i % 32, int(b[i]), 0x1F)
        assert g == a[i - i % 32 + j]


def test_shfl_with_a_partial_mask_runs_in_a_branch(lanes: Any) -> None:
    a = np.arange(128, dtype="u4") * 3
    body = """mov.u32 %r5, %laneid; mov.u32 o0, 9; setp.ge.u32 %p1, %r5, 16; @%p1 bra OUT;
    shfl.sync.bfly.b32 o0, a0, 3, 0x1f, 0xffff;
OUT:"""
    lane = np.arange(128) % 32
    assert (lanes(body, a) == np.where(lane < 16, (np.arange(128) ^ 3) * 3, 9)).all()


def test_lanes_meet_before_a_shfl_with_the_full_mask(lanes: Any) -> None:
    """Odd lanes take a longer way to the same shfl."""
    a = np.arange(96, dtype="u4")
    body = """and.b32 %r1, a0, 1; setp.eq.u32 %p1, %r1, 0; mov.u32 %r2, a0; @%p1 bra MEET;
    mov.u32 %r3, 0;
SLOW: add.u32 %r3, %r3, 1; setp.lt.u32 %p2, %r3, a0; @%p2 bra SLOW;
    add.u32 %r2, %r2, 1000;
MEET: shfl.sync.bfly.b32 o0, %r2, 1, 0x1f, -1;"""
    x = np.arange(96)
    assert (lanes(body, a) == np.where(x & 1, x - 1, x + 1001)).all()


def test_shfl_of_exited_lanes_does_not_wait(lanes: Any) -> None:
    a = np.arange(64, dtype="u4")
    body = "mov.u32 %r5, %laneid; setp.ge.u32 %p1, %r5, 24; @%p1 ret;"
    got = lanes(body + "shfl.sync.down.b32 o0, a0, 1, 0x1f, -1;", a)
    assert (got.reshape(2, 32)[:, :23] == a.reshape(2, 32)[:, 1:24]).all()


@pytest.mark.parametrize("mode", ["all", "any", "uni"])
def test_votes(mode: str, lanes: Any) -> None:
    a = np.random.default_rng(2).integers(0, 2, 128, dtype="u4")
    a[:32], a[32:64] = 0, 1
    body = "setp.ne.u32 %p1, a0, 0; "
    body += f"vote.sync.{mode}.pred %p2, %p1, -1; selp.u32 o0, 1, 0, %p2;"
    rows = a.reshape(-1, 32) != 0
    want = {"all": rows.all(1), "any": rows.any(1), "uni": rows.all(1) | ~rows.any(1)}[mode]
    assert (lanes(body, a) == np.repeat(want, 32)).all()


def test_ballot_and_activemask(lanes: Any) -> None:
    a = np.random.default_rng(3).integers(0, 2, 128, dtype="u4")
    body = "setp.ne.u32 %p1, a0, 0; vote.sync.ballot.b32 %r1, %p1, 0xffffffff; activemask.b32 %r2;"
    weights = np.uint32(1) << np.arange(32, dtype="u4")
    want = np.repeat((a.reshape(-1, 32) * weights).sum(1, dtype="u4"), 32)
    assert (lanes(body + "not.b32 %r2, %r2; or.b32 o0, %r1, %r2;", a) == want).all()


def test_match_any_groups_equal_values(lanes: Any) -> None:
    a = np.random.default_rng(4).integers(0, 5, 64, dtype="u4")
    got = lanes("match.any.sync.b32 o0, a0, -1;", a)
    for i, g in enumerate(got.tolist()):
        first = i - i % 32
        assert g == sum(1 << j for j in range(32) if a[first + j] == a[i])


def test_match_all_wants_one_value(lanes: Any) -> None:
    a = np.concatenate([np.full(32, 7), np.arange(32)]).astype("u4")
    got = lanes("match.all.sync.b32 %r1|%p1, a0, -1; selp.u32 o0, %r1, 5, %p1;", a)
    assert got.tolist() == [FULL] * 32 + [5] * 32


@pytest.mark.parametrize(
    ("name", "type", "function"),
    [
        ("add", "u32", np.add),
        ("min", "s32", np.minimum),
        ("max", "u32", np.maximum),
        ("xor", "b32", np.bitwise_xor),
        ("and", "b32", np.bitwise_and),
    ],
)
def test_redux_reduces_each_mask(name: str, type: str, function: Any, lanes: Any) -> None:
    a = np.random.default_rng(5).integers(0, 1 << 32, 64, dtype="u4")
    body = f"""mov.u32 %r5, %laneid; setp.ge.u32 %p1, %r5, 8; selp.b32 %r6, 0xffffff00, 0xff, %p1;
    redux.sync.{name}.{type} o0, a0, %r6;"""
    got = lanes(body, a).reshape(2, 32)
    kind = "i4" if type == "s32" else "u4"
    for row, values in zip(got.view(kind), a.reshape(2, 32).view(kind), strict=True):
        low, high = (function.reduce(part, dtype=kind) for part in (values[:8], values[8:]))
        assert row.tolist() == [low] * 8 + [high] * 24


def test_elect_names_one_lane() -> None:
    text = """.version 8.0
.target sm_90a
.address_size 64
.visible .entry k(.param .u64 out) {
    .reg .pred %p<3>; .reg .b32 %r<9>; .reg .b64 %d<3>;
    ld.param.u64 %d1, [out]; mov.u32 %r1, %tid.x; mad.wide.u32 %d1, %r1, 4, %d1;
    elect.sync %r2|%p1, 0xfffffff0; selp.u32 %r3, %r2, 99, %p1; st.global.u32 [%d1], %r3; ret;
}"""
    device = simulator.Device()
    out = device.empty((64,), "u32")
    device.load(text)["k"].launch(1, 64, [out])
    assert out.numpy().tolist() == ([99] * 4 + [4] + [99] * 27) * 2
