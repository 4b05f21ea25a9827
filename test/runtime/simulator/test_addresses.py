"""isspacep, generic addresses of every space, cache policies, and what is refused with a reason."""

from typing import Any

import pytest

from tilewright.runtime import simulator

HEAD = """.version 8.0
.target sm_90a
.address_size 64
.const .align 8 .b32 table[4] = {11, 22, 33, 44};
.global .align 8 .b32 cell[2];
.shared .align 8 .b8 tile[64];
"""


def run(body: str, outputs: int) -> Any:
    """Runs a body in one thread that leaves results in %r0, %r1..."""
    stores = " ".join(f"st.global.u32 [%d0+{4 * i}], %r{i};" for i in range(outputs))
    text = f"""{HEAD}.visible .entry k(.param .u64 x, .param .u32 y) {{
    .reg .b64 %d<9>; .reg .b32 %r<20>; .reg .pred %p<9>; .reg .f32 %f<9>;
    .local .align 8 .b8 stack[16];
    ld.param.u64 %d0, [x]; {body} {stores} ret;
}}"""
    device = simulator.Device("all")
    out = device.empty(outputs, "u32")
    device.load(text)["k"].launch(1, 1, [out, 77])
    return out.numpy()


GENERIC = """mov.u64 %d1, table; cvta.const.u64 %d1, %d1;
mov.u64 %d2, cell; cvta.global.u64 %d2, %d2;
mov.u64 %d3, tile; cvta.shared.u64 %d3, %d3; mov.u64 %d4, stack; cvta.local.u64 %d4, %d4;
mov.u64 %d5, y; cvta.param.u64 %d5, %d5;"""
SPACES = {
    "const": [1, 0, 0, 0, 0],
    "global": [0, 1, 0, 0, 1],
    "shared": [0, 0, 1, 0, 0],
    "shared::cta": [0, 0, 1, 0, 0],
    "local": [0, 0, 0, 1, 0],
    "param": [0, 0, 0, 0, 1],
}


@pytest.mark.parametrize("space", SPACES)
def test_isspacep_tells_the_space_of_a_generic_address(space: str) -> None:
    """The addresses are those of a constant, a global, a shared and a local one, a parameter."""
    tests = " ".join(
        f"isspacep.{space} %p1, %d{i + 1}; selp.u32 %r{i}, 1, 0, %p1;" for i in range(5)
    )
    assert run(GENERIC + tests, 5).tolist() == SPACES[space]


def test_generic_loads_reach_constants_and_parameters() -> None:
    body = GENERIC + "ld.u32 %r0, [%d1+8]; ld.u32 %r1, [%d5];"
    assert run(body, 2).tolist() == [33, 77]


def test_generic_addresses_far_beyond_local_memory_lead_nowhere() -> None:
    """In shared memory these bits of an address would name another CTA."""
    body = "mov.u64 %d1, stack; cvta.local.u64 %d1, %d1; add.u64 %d1, %d1, 0x1000000;"
    with pytest.raises(simulator.SimulationError, match="past the 16 bytes"):
        run(f"{body} st.u32 [%d1], 5;", 0)


def test_policies_and_hints_change_nothing() -> None:
    body = """createpolicy.fractional.L2::evict_last.b64 %d6, 0f3F800000;
    createpolicy.range.global.L2::evict_first.L2::evict_unchanged.b64 %d6, [%d0], 0x10, 0x20;
    createpolicy.cvt.L2.b64 %d6, 16; applypriority.L2::evict_normal [%d0], 128;
    prefetch.global.L2::evict_last [%d0]; pmevent 3; membar.proxy.alias;
    mov.u32 %r3, 9; st.global.L1::evict_last.L2::cache_hint.u32 [%d0], %r3, %d6;
    ld.global.L1::no_allocate.L2::cache_hint.L2::128B.u32 %r0, [%d0], %d6;
    ldu.u32 %r1, [%d0]; red.global.add.L2::cache_hint.u32 [%d0], 1, %d6;
    ld.relaxed.gpu.global.u32 %r2, [%d0];"""
    assert run(body, 3).tolist() == [9, 9, 10]


REASONS = {
    "tex.2d.v4.f32.f32 {%f1, %f2, %f3, %f4}, [%d1, {%f1, %f2}];": "textures",
    "add.rn.f32x2 %d1, %d2, %d3;": "sm_100",
    "add.rn.f32.bf16 %f1, %f2, %f3;": "sm_100",
    "max.abs.f32 %f1, %f2, %f3, %f4;": "sm_100",
    "redux.sync.min.f32 %f1, %f2, -1;": "sm_100",
    "ld.global.v8.f32 {%f1}, [%d1];": "sm_100",
    "shfl.up.b32 %r1, %r2, 1, 0;": r"\.sync",
    "fma.rn.oob.f16 %r1, %r1, %r1, %r1;": "out of bounds",
    "brkpt;": "breakpoints",
    "alloca.u64 %d1, 16;": "stack",
    "vadd2.s32.s32.s32 %r1, %r2, %r3, %r4;": "video",
}


@pytest.mark.parametrize("text", REASONS)
def test_what_is_not_covered_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(simulator.PTXError, match=f"is not covered.*{REASONS[text]}"):
        run(text, 1)
