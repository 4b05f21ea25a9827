"""Bulk copies and tensor copies: boxes, bounds, swizzles, reductions, against NumPy."""

import math
from typing import Any

import numpy as np
import pytest

from tilewright.runtime import simulator

Array = np.ndarray[Any, np.dtype[Any]]
HEAD = """.version 8.0
.target sm_90a
.address_size 64
.shared .align 1024 .b8 tile[16384];
.shared .align 8 .b64 bar;
.visible .entry k(.param .align 64 .b8 map[128], .param .u64 x, .param .u64 y,
                  .param .s32 c0, .param .s32 c1, .param .s32 c2, .param .u32 size) {
    .reg .b32 %r<20>; .reg .b64 %d<9>; .reg .pred %p<5>;
    mov.u32 %r1, %tid.x; mov.u32 %r2, bar; mov.u32 %r3, tile; setp.eq.u32 %p1, %r1, 0;
    ld.param.u64 %d1, [x]; ld.param.u64 %d2, [y]; ld.param.s32 %r4, [c0]; ld.param.s32 %r5, [c1];
    ld.param.s32 %r6, [c2]; ld.param.u32 %r7, [size]; mov.b64 %d3, map; cvta.param.u64 %d0, %d3;
"""
BEGIN = """@%p1 mbarrier.init.shared::cta.b64 [%r2], 1; fence.mbarrier_init.release.cluster;
    bar.sync 0; @!%p1 bra W; mbarrier.arrive.expect_tx.shared.b64 _, [%r2], %r7;
"""
END = "W: mbarrier.try_wait.parity.shared.b64 %p2, [%r2], 0; @!%p2 bra W;\n"
# Shared memory to y as it lies there, 16 bytes a thread at a time.
DUMP = """shl.b32 %r9, %r1, 4;
L: setp.ge.u32 %p3, %r9, %r7; @%p3 bra OUT; add.u32 %r10, %r3, %r9;
    ld.shared.v4.b32 {%r11, %r12, %r13, %r14}, [%r10]; cvt.u64.u32 %d4, %r9; add.u64 %d5, %d2, %d4;
    st.global.v4.b32 [%d5], {%r11, %r12, %r13, %r14}; add.u32 %r9, %r9, 512; bra L;
OUT: ret;
}
"""
FILL = """shl.b32 %r9, %r1, 4;
L: setp.ge.u32 %p3, %r9, %r7; @%p3 bra GO; add.u32 %r10, %r3, %r9; cvt.u64.u32 %d4, %r9;
    add.u64 %d5, %d2, %d4; ld.global.v4.b32 {%r11, %r12, %r13, %r14}, [%d5];
    st.shared.v4.b32 [%r10], {%r11, %r12, %r13, %r14}; add.u32 %r9, %r9, 512; bra L;
GO: fence.proxy.async.shared::cta; bar.sync 0; @!%p1 bra OUT;
"""


def launch(
    body: str, source: Array, other: Array, size: int, box: dict[str, Any], at: Any = ()
) -> Any:
    """Runs a body with a map of `source`; returns `other`'s buffer and the source's."""
    device = simulator.Device("all")
    x, y = device.array(source), device.array(other)
    shape: list[int] = list(source.shape)[::-1]
    made = dict(box)
    strides = [source.itemsize * math.prod(shape[:i]) for i in range(1, len(shape))]
    name = {"f": "f", "u": "u", "i": "i"}[source.dtype.kind] + str(source.itemsize * 8)
    map = device.tensor_map(x, name, shape, strides, **made) if made else bytes(128)
    first = (*at, 0, 0, 0)[:3]
    device.load(HEAD + body)["k"].launch(1, 32, [map, x, y, *first, size])
    return y.numpy(), x.numpy()


def coordinates(rank: int) -> str:
    """Returns the coordinate operand of a rank."""
    return "{" + ", ".join(f"%r{4 + i}" for i in range(rank)) + "}"


def load(source: Array, at: tuple[int, ...], **box: Any) -> Array:
    """Returns the bytes that a tensor copy leaves in shared memory."""
    rank = source.ndim
    steps = (1, *(box.get("element_strides") or (1,) * rank)[1:])
    count = np.prod([-(-b // s) for b, s in zip(box["box"], steps, strict=True)])
    size = int(count) * source.itemsize
    copy = (
        f"cp.async.bulk.tensor.{rank}d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
        f"[%r3], [%d0, {coordinates(rank)}], [%r2];\n"
    )
    got, _ = launch(BEGIN + copy + END + DUMP, source, np.zeros(size, "u1"), size, box, at)
    return got


def swizzled(rows: Array, span: int) -> Array:
    """Returns rows of `span` bytes with 16-byte units XORed by the line of 128 bytes."""
    out = np.empty_like(rows.reshape(-1))
    flat = rows.reshape(-1)
    for unit in range(flat.size // 16):
        place = unit ^ ((unit // 8) % (span // 16))
        out[place * 16 : place * 16 + 16] = flat[unit * 16 : unit * 16 + 16]
    return out


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng()


@pytest.mark.parametrize("span", [0, 32, 64, 128])
def test_a_box_arrives_with_its_swizzle(span: int, random: np.random.Generator) -> None:
    source = random.integers(0, 1 << 16, (96, 160), "u2")
    width = (span or 64) // 2
    got = load(source, (8, 5), box=(width, 24), swizzle=f"{span}B" if span else "none")
    box = np.ascontiguousarray(source[5:29, 8 : 8 + width]).view("u1")
    assert (got == (swizzled(box, span) if span else box.reshape(-1))).all()


@pytest.mark.parametrize("at", [(-4, 1), (100, -2), (56, 30), (200, 0), (0, 44)])
def test_what_lies_outside_is_zero(at: tuple[int, int], random: np.random.Generator) -> None:
    source = random.integers(1, 1 << 32, (40, 64), "u4")
    got = load(source, at, box=(16, 8)).view("u4").reshape(8, 16)
    padded = np.zeros((1000, 1000), "u4")
    padded[100:140, 100:164] = source
    assert (got == padded[100 + at[1] : 108 + at[1], 100 + at[0] : 116 + at[0]]).all()


@pytest.mark.parametrize("first", [1, -3, 95])
def test_a_box_begins_at_a_multiple_of_16_bytes(first: int, random: np.random.Generator) -> None:
    source = random.integers(1, 1 << 32, (40, 64), "u4")
    with pytest.raises(simulator.SimulationError, match="expected a multiple of 16"):
        load(source, (first, 2), box=(16, 8))


def test_bytes_between_the_rows_of_a_tensor_are_not_read() -> None:
    """Rows of ten f16 lie 32 bytes apart; nobody has written the last 12 of them."""
    rows = "setp.ge.u32 %p4, %r1, 16; @%p4 bra B; mad.wide.u32 %d6, %r1, 32, %d1;"
    rows += "st.global.v4.u32 [%d6], {%r1, %r1, %r1, %r1}; st.global.u32 [%d6+16], %r1;"
    rows += "B: bar.sync 0; fence.proxy.async.global;"
    copy = "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
    body = f"{rows}{BEGIN}{copy} [%r3], [%d0, {coordinates(2)}], [%r2];\n{END}ret; }}"
    device = simulator.Device("all")
    x = device.empty((16, 16), "f16")
    map = device.tensor_map(x, "f16", (10, 16), (32,), box=(16, 16))
    report = device.load(HEAD + body)["k"].launch(1, 32, [map, x, x, 0, 0, 0, 512])
    assert report.findings == ()


def test_what_lies_outside_can_be_nan(random: np.random.Generator) -> None:
    source = random.standard_normal((8, 8), np.float32)
    got = load(source, (4, 0), box=(8, 8), fill="nan").view("f4").reshape(8, 8)
    assert (got[:, :4] == source[:, 4:]).all()
    assert np.isnan(got[:, 4:]).all()


def test_element_strides_skip(random: np.random.Generator) -> None:
    source = random.integers(0, 1 << 32, (40, 64), "u4")
    got = load(source, (4, 2), box=(16, 9), element_strides=(1, 3)).view("u4")
    assert (got.reshape(3, 16) == source[2:11:3, 4:20]).all()


def test_the_element_stride_of_dimension_0_has_no_effect(random: np.random.Generator) -> None:
    source = random.integers(0, 1 << 32, (40, 64), "u4")
    got = load(source, (4, 2), box=(16, 9), element_strides=(2, 1)).view("u4")
    assert (got.reshape(9, 16) == source[2:11, 4:20]).all()


@pytest.mark.parametrize("rank", [1, 3])
def test_other_ranks(rank: int, random: np.random.Generator) -> None:
    shape = (64,) if rank == 1 else (6, 10, 32)
    source = random.integers(0, 1 << 32, shape, "u4")
    if rank == 1:
        got = load(source, (12,), box=(32,)).view("u4")
        assert (got == source[12:44]).all()
    else:
        got = load(source, (4, 3, 2), box=(8, 4, 3)).view("u4").reshape(3, 4, 8)
        assert (got == source[2:5, 3:7, 4:12]).all()


@pytest.mark.parametrize(("what", "function"), [("", None), ("add", np.add), ("max", np.maximum)])
def test_a_box_goes_out_and_what_is_outside_stays_away(
    what: str, function: Any, random: np.random.Generator
) -> None:
    target = random.integers(0, 1 << 31, (40, 64), "u4")
    rows = random.integers(0, 1 << 31, (16, 32), "u4")
    head = f"cp.reduce.async.bulk.tensor.2d.global.shared::cta.{what}" if what else ""
    head = head or "cp.async.bulk.tensor.2d.global.shared::cta"
    copy = f"{head}.tile.bulk_group [%d0, {coordinates(2)}], [%r3];"
    copy += "cp.async.bulk.commit_group; cp.async.bulk.wait_group.read 0;\nOUT: ret;\n}"
    moved = swizzled(rows.view("u1"), 128).view("u4")
    box = {"box": (32, 16), "swizzle": "128B"}
    _, got = launch(FILL + copy, target.copy(), moved, 2048, box, (48, -4))
    old = target[:12, 48:64]
    target[:12, 48:64] = function(old, rows[4:, :16]) if function else rows[4:, :16]
    assert (got == target).all()


def test_a_bulk_copy_there_and_back(random: np.random.Generator) -> None:
    source = random.integers(0, 256, 4096, "u1")
    copy = """cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes
    [%r3], [%d1], %r7, [%r2];
"""
    back = """@!%p1 bra OUT;
    cp.async.bulk.global.shared::cta.bulk_group [%d2], [%r3], %r7; cp.async.bulk.commit_group;
    cp.async.bulk.wait_group 0;
OUT: ret;
}"""
    got, _ = launch(BEGIN + copy + END + back, source, np.zeros(4096, "u1"), 3200, {})
    assert (got[:3200] == source[:3200]).all()
    assert not got[3200:].any()


@pytest.mark.parametrize("form", ["f16", "bf16", "f32", "s32"])
def test_a_bulk_reduction_adds(form: str, random: np.random.Generator) -> None:
    code = {"f16": "f2", "bf16": "u2", "f32": "f4", "s32": "i4"}[form]
    values = [random.integers(-30, 30, 64).astype("f4") for _ in range(2)]
    wide = values[0] + values[1]

    def bits(value: Array) -> Array:
        return (value.view("u4") >> 16).astype("u2") if form == "bf16" else value.astype(code)

    noftz = ".noftz" if form in ("f16", "bf16") else ""
    body = FILL + (
        f"cp.reduce.async.bulk.global.shared::cta.bulk_group.add{noftz}.{form} "
        "[%d1], [%r3], %r7;\nOUT: ret;\n}"
    )
    size = values[0].size * np.dtype(code).itemsize
    _, got = launch(body, bits(values[0]), bits(values[1]), size, {})
    assert (got == bits(wide)).all()


def test_a_wrong_transaction_count_is_told_from_other_deadlocks(
    random: np.random.Generator,
) -> None:
    source = random.integers(0, 256, 4096, "u1")
    copy = """cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes
    [%r3], [%d1], 1024, [%r2];
"""
    with pytest.raises(simulator.SimulationError) as raised:
        launch(BEGIN + copy + END + "OUT: ret; }", source, source, 1040, {})
    assert raised.value.finding.kind == "transaction"
    assert "16 bytes are missing" in raised.value.finding.message


def test_a_bulk_copy_out_of_bounds_is_found() -> None:
    source = np.zeros(1024, "u1")
    copy = """cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes
    [%r3], [%d1], 1040, [%r2];
"""
    with pytest.raises(simulator.SimulationError) as raised:
        launch(BEGIN + copy + END + "OUT: ret; }", source, source, 1040, {})
    assert raised.value.finding.kind == "bounds"


def test_memory_that_holds_no_tensor_map_is_found() -> None:
    copy = (
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
        f"[%r3], [%d0, {coordinates(2)}], [%r2];\n"
    )
    with pytest.raises(simulator.SimulationError) as raised:
        launch(BEGIN + copy + END + "OUT: ret; }", np.zeros(16, "u1"), np.zeros(16, "u1"), 16, {})
    assert raised.value.finding.kind == "tensor map"


@pytest.mark.parametrize(
    "wrong",
    [
        {"box": (64, 300)},
        {"box": (6, 8)},
        {"box": (64, 8), "swizzle": "64B"},
        {"box": (64, 8), "element_strides": (1, 9)},
        {"box": (8,)},
    ],
)
def test_tensor_maps_that_a_driver_refuses(wrong: dict[str, Any]) -> None:
    device = simulator.Device()
    with pytest.raises(simulator.LaunchError):
        device.tensor_map(device.empty((64, 64), "f16"), "f16", (64, 64), (128,), **wrong)


def test_im2col_is_refused_when_it_is_loaded() -> None:
    text = HEAD + (
        "cp.async.bulk.tensor.3d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes "
        "[%r3], [%d0, {%r4, %r5, %r6}], [%r2], {%h1}; ret; }"
    )
    with pytest.raises(simulator.PTXError, match="im2col"):
        simulator.Device().load(text.replace(".reg .pred", ".reg .b16 %h<3>; .reg .pred"))
