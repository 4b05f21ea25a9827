"""cp.async: data arrives at the wait and not before; zero fill; groups."""

from typing import Any

import numpy as np
import pytest

from tilewright.runtime import simulator

HEAD = ".version 8.0\n.target sm_80\n.address_size 64\n.shared .align 16 .b8 tile[4096];\n"


def run(body: str, checks: str = "default", rows: int = 128) -> tuple[Any, Any]:
    """Runs a body over rows of 16 bytes: source in %d0, shared place in %r3, result in %d1."""
    text = f"""{HEAD}.visible .entry k(.param .u64 x, .param .u64 y) {{
    .reg .b32 %r<20>; .reg .b64 %d<9>; .reg .pred %p<5>;
    mov.u32 %r1, %tid.x; ld.param.u64 %d0, [x]; ld.param.u64 %d1, [y];
    mad.wide.u32 %d0, %r1, 16, %d0; mad.wide.u32 %d1, %r1, 16, %d1;
    mov.u32 %r2, tile; mad.lo.u32 %r3, %r1, 16, %r2;
    {body}
    st.global.v4.b32 [%d1], {{%r4, %r5, %r6, %r7}}; ret;
}}"""
    device = simulator.Device(checks)
    source = np.random.default_rng(0).integers(0, 1 << 32, (rows, 4), dtype="u4")
    x, y = device.array(source), device.empty((128, 4), "u32")
    device.load(text)["k"].launch(1, 128, [x, y])
    return source, y.numpy()


COPY = "cp.async.cg.shared.global [%r3], [%d0], 16;"
READ = "ld.shared.v4.b32 {%r4, %r5, %r6, %r7}, [%r3];"
COMMIT = "cp.async.commit_group;"


@pytest.mark.parametrize(
    "wait", [COMMIT + "cp.async.wait_group 0;", "cp.async.wait_all;", COMMIT + "cp.async.wait_all;"]
)
def test_data_is_there_after_the_wait(wait: str) -> None:
    source, got = run(f"{COPY} {wait} {READ}", "all")
    assert (got == source).all()


def test_data_is_not_there_before_the_wait() -> None:
    source, got = run(f"{COPY} {COMMIT} {READ}")
    assert not (got == source).any(axis=1).any()


def test_a_missing_wait_is_found_as_an_uninitialised_read() -> None:
    with pytest.raises(simulator.SimulationError) as raised:
        run(f"{COPY} {COMMIT} {READ}", "all")
    assert raised.value.finding.kind == "uninitialised"


def test_an_uncommitted_copy_is_not_waited_for() -> None:
    source, got = run(f"{COPY} cp.async.wait_group 0; {READ}")
    assert not (got == source).any(axis=1).any()


def test_wait_group_leaves_the_last_groups_in_flight() -> None:
    second = "cp.async.cg.shared.global [%r3+2048], [%d0], 16;"
    body = f"{COPY} {COMMIT} {second} {COMMIT} cp.async.wait_group 1; "
    body += "ld.shared.v2.b32 {%r4, %r5}, [%r3]; ld.shared.v2.b32 {%r6, %r7}, [%r3+2056];"
    source, got = run(body)
    assert (got[:, :2] == source[:, :2]).all()
    assert (got[:, 2:] == 0xFFFFFFFF).all()


@pytest.mark.parametrize("size", [4, 8, 16])
def test_sizes_and_zero_fill(size: int) -> None:
    fill = "st.shared.v4.b32 [%r3], {%r1, %r1, %r1, %r1}; and.b32 %r9, %r1, 3; "
    fill += f"mul.lo.u32 %r9, %r9, {size // 4}; "
    copy = f"cp.async.ca.shared.global [%r3], [%d0], {size}, %r9; cp.async.wait_all;"
    source, got = run(f"{fill} {copy} {READ}")
    for thread in range(128):
        kept = (thread & 3) * (size // 4)
        row = source[thread].tobytes()[:kept] + bytes(size - kept)
        assert got[thread].tobytes()[:size] == row
        assert (got[thread, size // 4 :] == thread).all()


def test_lanes_with_size_zero_do_not_read_the_source() -> None:
    """The source has one row less than there are threads."""
    body = "setp.lt.u32 %p1, %r1, 127; selp.u32 %r9, 16, 0, %p1; "
    body += f"cp.async.cg.shared.global [%r3], [%d0], 16, %r9; cp.async.wait_all; {READ}"
    source, got = run(body, rows=127)
    assert (got[:127] == source).all()
    assert not got[127].any()


def test_ignore_src_writes_zeros() -> None:
    body = "setp.lt.u32 %p1, %r1, 5; "
    body += f"cp.async.cg.shared.global [%r3], [%d0], 16, %p1; cp.async.wait_all; {READ}"
    source, got = run(body)
    assert (got[5:] == source[5:]).all()
    assert not got[:5].any()


def test_a_guard_copies_for_its_lanes_only() -> None:
    body = "st.shared.v4.b32 [%r3], {%r1, %r1, %r1, %r1}; setp.lt.u32 %p1, %r1, 70; "
    source, got = run(f"{body} @%p1 {COPY} {COMMIT} cp.async.wait_group 0; {READ}")
    assert (got[:70] == source[:70]).all()
    assert (got[70:] == np.arange(70, 128)[:, None]).all()


def test_groups_are_counted_by_thread() -> None:
    """Half of the threads commit once more than the others before they wait."""
    body = f"""{COPY} {COMMIT} setp.lt.u32 %p1, %r1, 64; @%p1 bra MORE; bra WAIT;
MORE: {COMMIT}
WAIT: cp.async.wait_group 1; {READ}"""
    source, got = run(body)
    assert (got[:64] == source[:64]).all()
    assert not (got[64:] == source[64:]).any(axis=1).any()


def test_a_source_out_of_bounds_is_found_at_the_copy() -> None:
    with pytest.raises(simulator.SimulationError) as raised:
        run(f"{COPY} cp.async.wait_all; {READ}", rows=127)
    assert raised.value.finding.kind == "bounds"
    assert raised.value.finding.tid == (127, 0, 0)


def test_a_misaligned_destination_is_found() -> None:
    with pytest.raises(simulator.SimulationError) as raised:
        run(f"add.u32 %r3, %r3, 8; {COPY} cp.async.wait_all;")
    assert raised.value.finding.kind == "alignment"
