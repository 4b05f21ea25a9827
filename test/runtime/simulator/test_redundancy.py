"""Barriers that a launch doesn't need are found; those that it needs are not."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tilewright.runtime import simulator

HEADER = ".version 8.0\n.target sm_80\n.address_size 64\n"


def kernel(body: str) -> tuple[simulator.Kernel, simulator.Buffer]:
    device = simulator.Device()
    text = f"""{HEADER}.visible .entry k(.param .u64 p) {{
.reg .b32 %r<9>; .reg .b64 %d<9>; .reg .pred %p<3>;
.shared .align 16 .b8 s[512];
ld.param.u64 %d0, [p]; mov.u32 %r0, %tid.x; mad.wide.u32 %d0, %r0, 4, %d0;
mov.u32 %r1, s; mad.lo.u32 %r1, %r0, 4, %r1;
{body}
st.global.u32 [%d0], %r3;
ret; }}"""
    return device.load(text)["k"], device.array(np.arange(128, dtype="u4"))


def lines(body: str, block: int = 64) -> list[str]:
    """Returns what the launch of a body over some threads doesn't need."""
    k, buffer = kernel(body)
    return [found.instruction for found in k.redundant_barriers(1, block, [buffer])]


STORE, LOAD = "st.shared.u32 [%r1], %r0;", "ld.shared.u32 %r3, [s+252];"


def test_the_second_of_two_barriers_is_not_needed() -> None:
    k, buffer = kernel(f"{STORE}\nbar.sync 0;\nbar.sync 0;\n{LOAD}")
    (found,) = k.redundant_barriers(1, 64, [buffer])
    text = k.program.module.text.splitlines()
    assert text[found.line - 2 : found.line] == ["bar.sync 0;", "bar.sync 0;"]
    assert str(found) == f"not needed for this launch: PTX line {found.line}: bar.sync 0;"


def test_a_barrier_between_warps_is_needed() -> None:
    assert lines(f"{STORE} bar.sync 0; {LOAD}") == []


def test_a_barrier_between_nothing_is_not_needed() -> None:
    assert lines(f"{STORE} bar.sync 0; {LOAD} barrier.sync 1;") == ["barrier.sync 1;"]


def test_a_barrier_without_which_a_result_differs_is_needed() -> None:
    """The block of those who read comes first: without a barrier they see the old word."""
    body = """ld.param.u64 %d1, [p]; setp.eq.u32 %p1, %r0, 0; setp.lt.u32 %p2, %r0, 32;
    @%p2 bra write;
    bar.sync 0; ld.global.u32 %r3, [%d1+400]; bra end;
    write: @%p1 st.global.u32 [%d1+400], 7; bar.sync 0; mov.u32 %r3, 0; end:"""
    k, buffer = kernel(body)
    text = k.program.module.text.splitlines()
    found = [text[item.line - 1] for item in k.redundant_barriers(1, 64, [buffer])]
    assert not any("ld.global.u32" in line for line in found)


def test_a_wait_for_a_copy_is_needed_and_a_second_one_is_not() -> None:
    copy = "cp.async.ca.shared.global [%r1], [%d0], 4; cp.async.commit_group;"
    waits = "cp.async.wait_group 0; cp.async.wait_all;"
    assert lines(f"{copy} {waits} ld.shared.u32 %r3, [%r1];") == ["cp.async.wait_all;"]


def test_a_fence_that_orders_nothing_is_not_needed() -> None:
    assert lines("mov.u32 %r3, 0; membar.gl;") == ["membar.gl;"]


def test_what_the_simulator_takes_as_nothing_is_not_judged() -> None:
    assert lines("mov.u32 %r3, 0; fence.proxy.alias;") == []


def test_buffers_hold_what_they_held() -> None:
    k, buffer = kernel(f"{STORE} bar.sync 0; {LOAD}")
    k.redundant_barriers(1, 64, [buffer])
    assert (buffer.numpy() == np.arange(128)).all()


def test_the_source_line_is_named() -> None:
    k, buffer = kernel(f"{STORE} bar.sync 0;\n.loc 1 7 3\nbar.sync 0;\n{LOAD}")
    assert [found.source for found in k.redundant_barriers(1, 64, [buffer])] == ["file1:7:3"]


def test_a_launch_with_a_race_is_refused() -> None:
    k, buffer = kernel(STORE + LOAD)
    with pytest.raises(simulator.LaunchError, match="the first is race"):
        k.redundant_barriers(1, 64, [buffer])


def test_a_launch_without_end_is_refused() -> None:
    k, buffer = kernel("again: bra again;")
    with pytest.raises(simulator.LaunchError, match="does not end"):
        k.redundant_barriers(1, 64, [buffer], max_steps=100)


def test_the_checks_of_the_device_stay_as_they_were() -> None:
    k, buffer = kernel(f"{STORE} bar.sync 0; {LOAD}")
    device = simulator.Device("none")
    loaded = device.load(k.program.module.text)["k"]
    before = device.checks
    assert loaded.redundant_barriers(1, 64, [device.array(buffer.numpy())]) == ()
    assert device.checks == before


def matmul(device: simulator.Device) -> tuple[Any, ...]:
    a, b = np.random.default_rng(0).normal(size=(2, 48, 48)).astype("f4")
    out = device.empty((48, 48), "f32")
    return (3, 3), (16, 16), [device.array(a), device.array(b), out, 48, 48, 48], 0


def attention(device: simulator.Device) -> tuple[Any, ...]:
    words = np.random.default_rng(1).standard_normal((3, 1, 256, 128)).astype("f4").view("u4") >> 16
    buffers = [device.array(word.astype("u2"), "bf16") for word in words]
    out = device.empty((1, 256, 128), "bf16")
    return (4, 1), 128, [*buffers, out, 256, 0.125], 5 * 64 * 256


@pytest.mark.parametrize(
    ("file", "entry", "arguments"),
    [("simt.ptx", "matmul", matmul), ("attention.ptx", "attention", attention)],
)
def test_every_barrier_of_the_corpus_is_needed(
    corpus: Callable[[str], str], file: str, entry: str, arguments: Callable[..., tuple[Any, ...]]
) -> None:
    device = simulator.Device()
    grid, block, args, shared = arguments(device)
    found = device.load(corpus(file))[entry].redundant_barriers(
        grid, block, args, shared_bytes=shared
    )
    assert found == ()
