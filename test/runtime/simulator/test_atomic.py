"""atom and red: every lane counts, old values are those of some order."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tilewright.runtime import simulator

HEAD = ".version 8.0\n.target sm_80\n.address_size 64\n.shared .align 8 .b8 cell[64];\n"


def run(instruction: str, start: Any, values: Any) -> tuple[Any, Any]:
    """Runs atom over threads: value in %r4 (or %d4, %f4), address in %d2, old value in %r5."""
    width = start.itemsize
    text = f"""{HEAD}.visible .entry k(.param .u64 x, .param .u64 y, .param .u64 z,
    .param .u32 m) {{
    .reg .b32 %r<20>; .reg .b64 %d<9>; .reg .f32 %f<9>; .reg .f64 %g<9>;
    mov.u32 %r1, %tid.x; mov.u32 %r2, %ctaid.x; mad.lo.u32 %r1, %r2, 64, %r1; mov.u32 %r5, 0;
    mov.u64 %d5, 0; ld.param.u64 %d0, [x]; ld.param.u64 %d1, [y]; ld.param.u64 %d3, [z];
    ld.param.u32 %r6, [m]; rem.u32 %r7, %r1, %r6; mad.wide.u32 %d2, %r7, {width}, %d0;
    mad.wide.u32 %d1, %r1, {width}, %d1; mad.wide.u32 %d3, %r1, {width}, %d3;
    ld.global.b32 %r4, [%d1]; ld.global.f32 %f4, [%d1];
    {"ld.global.b64 %d4, [%d1]; ld.global.f64 %g4, [%d1];" if width == 8 else ""}
    {instruction}
    st.global.{"b64 [%d3], %d5" if width == 8 else "b32 [%d3], %r5"}; ret;
}}"""
    device = simulator.Device()
    x, y = device.array(start), device.array(values)
    z = device.array(np.zeros_like(values))
    grid = values.size // 64
    device.load(text)["k"].launch(grid, 64, [x, y, z, start.size])
    return x.numpy(), z.numpy()


INTEGERS: dict[str, Callable[[int, int], int]] = {
    "add.u32": lambda old, v: (old + v) % (1 << 32),
    "min.s32": lambda old, v: min(old, v, key=lambda n: n - (n >> 31 << 32)),
    "max.u32": max,
    "and.b32": lambda old, v: old & v,
    "or.b32": lambda old, v: old | v,
    "xor.b32": lambda old, v: old ^ v,
    "exch.b32": lambda old, v: v,
    "inc.u32": lambda old, v: 0 if old >= v else old + 1,
    "dec.u32": lambda old, v: v if old == 0 or old > v else old - 1,
}


@pytest.mark.parametrize("cells", [1, 7, 128])
@pytest.mark.parametrize("name", INTEGERS)
def test_atom_returns_the_old_values_in_lane_order(name: str, cells: int) -> None:
    generator = np.random.default_rng(cells)
    start, values = (generator.integers(0, 1 << 32, n, dtype="u4") for n in (cells, 128))
    got, old = run(f"atom.global.{name} %r5, [%d2], %r4;", start, values)
    memory = start.tolist()
    for thread, value in enumerate(values.tolist()):
        assert old[thread] == memory[thread % cells]
        memory[thread % cells] = INTEGERS[name](memory[thread % cells], value)
    assert got.tolist() == memory


@pytest.mark.parametrize("name", ["add.u32", "max.u32", "xor.b32", "inc.u32"])
def test_red_leaves_what_atom_leaves(name: str) -> None:
    values = np.random.default_rng(1).integers(0, 1 << 32, 256, dtype="u4")
    start = np.zeros(5, "u4")
    red, _ = run(f"red.relaxed.gpu.global.{name} [%d2], %r4;", start, values)
    atom, _ = run(f"atom.relaxed.gpu.global.{name} %r5, [%d2], %r4;", start, values)
    assert (red == atom).all()


def test_cas_swaps_where_it_meets_its_value() -> None:
    values = np.arange(128, dtype="u4")
    got, old = run(
        "add.u32 %r8, %r4, 1; atom.global.cas.b32 %r5, [%d2], %r4, %r8;", np.zeros(1, "u4"), values
    )
    assert got.tolist() == [128]
    assert (old == values).all()


def test_float_addition() -> None:
    values = np.random.default_rng(2).integers(-50, 50, 256).astype("f4")
    got, _ = run("red.global.add.f32 [%d2], %f4;", np.zeros(3, "f4"), values)
    assert got.tolist() == [float(values[i::3].sum()) for i in range(3)]


def test_64_bit_addition() -> None:
    values = np.random.default_rng(3).integers(0, 1 << 63, 128, dtype="u8")
    got, _ = run("atom.global.add.u64 %d5, [%d2], %d4;", np.zeros(1, "u8"), values)
    assert got.tolist() == [sum(values.tolist()) % (1 << 64)]


def test_packed_half_addition() -> None:
    values = np.full(64, 0x3F803F80, "u4")
    got, _ = run("red.global.add.noftz.bf16x2 [%d2], %r4;", np.zeros(1, "u4"), values)
    assert got.tolist() == [0x42804280]


def test_shared_and_generic_addresses() -> None:
    body = "mov.u32 %r9, cell; st.shared.u32 [%r9], 0; bar.sync 0;"
    body += "atom.shared.add.u32 %r5, [%r9], 1; mov.u64 %d6, cell; cvta.shared.u64 %d6, %d6;"
    body += "atom.add.u32 %r10, [%d6], 1; bar.sync 0; ld.shared.u32 %r5, [%r9];"
    _, total = run(body, np.zeros(1, "u4"), np.zeros(192, "u4"))
    assert (total == 128).all()
