"""Values that all lanes share are kept as scalars: every instruction must agree with lanes."""

from typing import Any

import numpy as np
import pytest

from tilewright.runtime import simulator

INTEGER = [
    *[f"{op}.{t}" for op in ("add", "sub", "mul.lo", "mul.hi", "min", "max", "div", "rem")
      for t in ("u32", "s32")],
    "and.b32", "or.b32", "xor.b32", "shl.b32", "shr.u32", "shr.s32", "add.sat.s32",
]  # fmt: skip
SHAPES = {
    **{name: "{0} {d}, {a}, {b};" for name in INTEGER},
    **{name: "{0} {d}, {a};" for name in ("abs.s32", "neg.s32", "not.b32", "brev.b32")},
    **{name: "{0} {d}, {a};" for name in ("popc.b32", "clz.b32", "bfind.s32", "cnot.b32")},
    **{name: "{0} {d}, {a}, {b}, {c};" for name in ("mad.lo.u32", "mad.hi.s32", "bfe.s32")},
    **{name: "{0} {d}, {a}, {b}, {c};" for name in ("prmt.b32", "sad.s32", "bfe.u32")},
    **{name: "{0} {d}, {a}, {b}, {c};" for name in ("shf.l.wrap.b32", "shf.r.clamp.b32")},
    **{name: "{0} {d}, {a}, {b}, {c};" for name in ("dp4a.s32.u32", "slct.u32.s32")},
    "bfi.b32": "{0} {d}, {a}, {b}, {c}, 7;",
    **{name: "{0} {d}, {a}, {b};" for name in ("bmsk.clamp.b32", "bmsk.wrap.b32",
       "szext.clamp.s32", "szext.wrap.u32", "add.u16x2", "min.relu.s16x2", "max.u16x2",
       "min.xorsign.abs.f16x2", "add.ftz.sat.f16x2", "set.gt.u32.f16x2", "cvt.pack.sat.u16.s32")},
    **{name: "{0} {d}, {a}, {b}, {c};" for name in ("mad.hi.sat.s32", "mad24.hi.sat.s32",
       "cvt.pack.sat.s8.s32.b32", "prmt.b32.rc8", "dp2a.lo.s32.u32")},
    "fns.b32": "and.b32 {b}, {b}, 31; {0} {d}, {a}, {b}, {c};",
    "lop3.or.b32": "setp.lt.u32 %p1, {a}, {b}; {0} {d}|%p2, {a}, {b}, {c}, 0xE8, %p1;"
                   "selp.u32 %r9, 5, 6, %p2; add.u32 {d}, {d}, %r9;",
    "cvt.rn.satfinite.e4m3x2.f32": "mov.b32 %f1, {a}; mov.b32 %f2, {b}; {0} %h1, %f1, %f2;"
                                   "cvt.u32.u16 {d}, %h1;",
    "cvt.rn.satfinite.e5m2x2.f16x2": "{0} %h1, {a}; cvt.u32.u16 {d}, %h1;",
    "cvt.rn.f16x2.e4m3x2": "cvt.u16.u32 %h1, {a}; {0} {d}, %h1;",
    "setp.geu.f16x2": "{0} %p1|%p2, {a}, {b}; selp.u32 {d}, 1, 2, %p1; @%p2 add.u32 {d}, {d}, 4;",
    **{name: "mov.b64 %d1, {{{a}, {b}}}; mov.b64 %g1, %d1; mov.b64 %d1, {{{c}, {b}}};"
             "mov.b64 %g2, %d1; {0} %g1, %g1, %g2; mov.b64 %d1, %g1; mov.b64 {{%r9, {d}}}, %d1;"
       for name in ("add.rm.f64", "sub.rz.f64", "mul.rp.f64", "div.rz.f64")},
    **{name: "mov.b64 %d1, {{{a}, {b}}}; mov.b64 %g1, %d1; {0} %g1, %g1;"
             "mov.b64 %d1, %g1; mov.b64 {{%r9, {d}}}, %d1;"
       for name in ("sqrt.rp.f64", "rcp.rz.f64", "rcp.approx.ftz.f64", "rsqrt.approx.ftz.f64",
                    "cvt.rmi.f64.f64")},
    "fma.rm.f64": "mov.b64 %d1, {{{a}, {b}}}; mov.b64 %g1, %d1; {0} %g1, %g1, %g1, %g1;"
                  "mov.b64 %d1, %g1; mov.b64 {{%r9, {d}}}, %d1;",
    "cvt.rp.f64.s64": "mov.b64 %d1, {{{a}, {b}}}; {0} %g1, %d1; mov.b64 %d1, %g1;"
                      "mov.b64 {{{d}, %r9}}, %d1;",
    **{name: "mov.b32 %f1, {a}; {0} %h1, %f1; cvt.u32.u16 {d}, %h1;"
       for name in ("cvt.rm.f16.f32", "cvt.rp.bf16.f32", "cvt.rz.relu.satfinite.bf16.f32")},
    **{name: "mov.b32 %f1, {a}; mov.b32 %f2, {b}; {0} %f3, %f1, %f2; mov.b32 {d}, %f3;"
       for name in ("min.xorsign.abs.f32", "max.NaN.xorsign.abs.f32", "add.rm.f32")},
    "bar.red.popc.u32": "setp.lt.u32 %p1, {a}, {b}; {0} {d}, 0, %p1;",
    "mov.b128": "{{ .reg .b128 %q9; mov.b64 %d1, {{{a}, {b}}}; mov.b64 %d2, {{{c}, {a}}};"
                "{0} %q9, {{%d1, %d2}}; {0} {{%d2, %d1}}, %q9; mov.b64 {{{d}, %r9}}, %d1; }}",
    "lop3.b32": "{0} {d}, {a}, {b}, {c}, 0xCA;",
    **{name: "mov.b32 %f1, {a}; mov.b32 %f2, {b}; {0} %f3, %f1, %f2; mov.b32 {d}, %f3;"
       for name in ("add.f32", "sub.ftz.f32", "mul.f32", "div.rn.f32", "min.f32", "max.NaN.f32",
                    "add.rz.f32", "mul.rp.f32", "div.rm.f32", "copysign.f32", "add.sat.f32")},
    **{name: "mov.b32 %f1, {a}; {0} %f3, %f1; mov.b32 {d}, %f3;"
       for name in ("ex2.approx.ftz.f32", "rcp.rn.f32", "sqrt.rn.f32", "neg.f32", "abs.f32",
                    "cvt.rni.f32.f32", "sqrt.rz.f32", "rsqrt.approx.f32", "lg2.approx.f32")},
    "fma.rn.f32": "mov.b32 %f1, {a}; mov.b32 %f2, {b}; mov.b32 %f3, {c};"
                  "{0} %f3, %f1, %f2, %f3; mov.b32 {d}, %f3;",
    **{name: "mov.b32 %f1, {a}; mov.b32 %f2, {b}; {0} {d}, %f1, %f2;"
       for name in ("cvt.rn.bf16x2.f32", "cvt.rn.f16x2.f32", "cvt.rz.relu.bf16x2.f32")},
    **{name: "mov.b32 %f1, {a}; {0} {d}, %f1;"
       for name in ("cvt.rzi.s32.f32", "cvt.rni.u32.f32", "cvt.rna.tf32.f32")},
    **{name: "{0} {d}, {a}, {b};" for name in ("add.f16x2", "mul.bf16x2", "max.f16x2")},
    "fma.rn.bf16x2": "{0} {d}, {a}, {b}, {c};",
    "cvt.rn.f32.s32": "{0} %f1, {a}; mov.b32 {d}, %f1;",
    "cvt.rn.f32.u64": "mov.b64 %d1, {{{a}, {b}}}; {0} %f1, %d1; mov.b32 {d}, %f1;",
    "mul.wide.s32": "{0} %d1, {a}, {b}; cvt.u32.u64 {d}, %d1;",
    "add.f64": "mov.b64 %d1, {{{a}, {b}}}; mov.b64 %g1, %d1; {0} %g1, %g1, 0d3FF0000000000000;"
               "mov.b64 %d1, %g1; mov.b64 {{%r9, {d}}}, %d1;",
    "fma.rn.f64": "mov.b64 %d1, {{{a}, {b}}}; mov.b64 %g1, %d1; {0} %g1, %g1, %g1, %g1;"
                  "mov.b64 %d1, %g1; mov.b64 {{%r9, {d}}}, %d1;",
    "cvt.s8.s32": "{0} %h1, {a}; cvt.s32.s16 {d}, %h1;",
    "setp.lt.s32": "{0} %p1, {a}, {b}; selp.u32 {d}, {a}, {c}, %p1;",
    "setp.ltu.f32": "mov.b32 %f1, {a}; mov.b32 %f2, {b}; {0} %p1, %f1, %f2;"
                    "@%p1 mov.u32 {d}, {c}; @!%p1 mov.u32 {d}, 3;",
    "shfl.sync.bfly.b32": "{0} {d}, {a}, 3, 0x1f, -1;",
    "vote.sync.ballot.b32": "setp.lt.u32 %p1, {a}, {b}; {0} {d}, %p1, -1;",
    "redux.sync.max.u32": "{0} {d}, {a}, -1;",
    "match.any.sync.b32": "{0} {d}, {a}, -1;",
    "add.cc.u32": "{0} %r9, {a}, {b}; addc.u32 {d}, %r9, {c};",
}  # fmt: skip


def kernel(lines: str, loads: str) -> str:
    """Returns a kernel of one warp that stores one u32 a thread for each line of %o."""
    return f""".version 8.0
.target sm_80
.address_size 64
.visible .entry k(.param .u64 x, .param .u64 y) {{
    .reg .b32 %r<99>; .reg .b64 %d<9>; .reg .f32 %f<9>; .reg .f64 %g<9>; .reg .b16 %h<9>;
    .reg .pred %p<9>; .reg .b32 at; .reg .b64 %q<9>;
    ld.param.u64 %q1, [x]; ld.param.u64 %q2, [y]; mov.u32 at, %tid.x;
    mad.wide.u32 %q2, at, 4, %q2; {loads}
    {lines} ret;
}}"""


@pytest.mark.parametrize("name", SHAPES)
def test_scalars_and_lanes_agree(name: str) -> None:
    """The same operands come once as constants and once from memory, one value in all lanes."""
    generator = np.random.default_rng(len(name))
    special = [0, 1, 0xFFFFFFFF, 0x80000000, 0x7F800000, 0x3F800000, 31, 40, 0x00000001]
    rows = generator.integers(0, 1 << 32, (24, 3), dtype="u4")
    rows[:12] = generator.choice(np.array(special, "u4"), (12, 3))
    device = simulator.Device()
    results: list[Any] = []
    for constant in (True, False):
        lines: list[str] = []
        for number, (a, b, c) in enumerate(rows.tolist()):
            operands = [f"{value:#x}" for value in (a, b, c)] if constant else ["", "", ""]
            if constant:
                setup = "".join(f"mov.b32 %r{i + 1}, {v};" for i, v in enumerate(operands))
            else:
                at = 12 * number
                # Every lane reads the value from an address of its own register.
                setup = "".join(f"ld.global.b32 %r{i + 1}, [%q3+{at + 4 * i}];" for i in range(3))
            text = SHAPES[name].format(name, d="%r8", a="%r1", b="%r2", c="%r3")
            lines.append(f"{setup} {text} st.global.b32 [%q2+{128 * number}], %r8;")
        # The address differs between lanes as far as the simulator can tell.
        loads = "and.b32 %r50, at, 0; mad.wide.u32 %q3, %r50, 4, %q1;"
        out = device.array(np.zeros((24, 32), "u4"))
        module = device.load(kernel("\n".join(lines), loads))
        module["k"].launch(1, 32, [device.array(rows), out])
        results.append(out.numpy())
    assert (results[0] == results[1]).all()
    assert (results[0] == results[0][:, :1]).all()
