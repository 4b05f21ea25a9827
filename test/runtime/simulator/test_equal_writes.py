"""
Warps that write the same bytes to the same place, which compilers print for replicated values.

Nobody can tell which of the writes came last, so this is no bug. Triton prints it for the rows of a
reduction that several warps hold (attention with a 2 x 2 arrangement of warps), and for the table
of roles that all warps of its first warpgroup fill in before `barrier.sync 1`.
"""

import numpy as np

from tilewright.runtime import simulator

HEAD = """.version 8.0
.target sm_80
.address_size 64
.shared .align 16 .b8 tile[4096];
.visible .entry k(.param .u64 out) {
.reg .b32 %r<20>; .reg .b64 %d<3>;
mov.u32 %r0, %tid.x; ld.param.u64 %d0, [out]; mov.u32 %r1, tile;
mov.u32 %r8, %ctaid.x; mad.lo.u32 %r8, %r8, 128, %r0; mad.wide.u32 %d1, %r8, 4, %d0;
and.b32 %r2, %r0, 31; mad.lo.u32 %r3, %r2, 16, %r1; mul.lo.u32 %r4, %r2, 7; add.u32 %r5, %r4, 1;
"""
TAIL = """
bar.sync 0; mad.lo.u32 %r6, %r2, 8, %r1; ld.shared.b32 %r7, [%r6];
st.global.b32 [%d1], %r7; ret;
}
"""


def findings(body: str) -> tuple[simulator.Finding, ...]:
    """Returns what is found in two CTAs of four warps."""
    device = simulator.Device("all")
    out = device.array(np.zeros(256, "u4"))
    return device.load(HEAD + body + TAIL)["k"].launch(2, 128, [out]).findings


def test_warps_that_fill_in_the_same_constants_do_not_race() -> None:
    assert (
        findings("st.shared.v2.b32 [%r3], {16843009, 0}; st.shared.v2.b32 [%r3+8], {1, 2};") == ()
    )


def test_warps_that_hold_the_same_rows_do_not_race() -> None:
    assert findings("st.shared.v4.b32 [%r3], {%r4, %r5, %r2, %r4};") == ()


def test_one_word_that_differs_is_a_race() -> None:
    (finding,) = findings("st.shared.v4.b32 [%r3], {%r4, %r5, %r0, %r4};")
    assert (finding.kind, finding.line) == ("race", len(HEAD.splitlines()) + 1)
