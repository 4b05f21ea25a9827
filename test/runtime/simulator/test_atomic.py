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


def vectors(instruction: str, kind: str, count: int, start: Any, values: Any) -> Any:
    """Runs a vector red of 64 threads on one place: thread i adds row i of `values`."""
    names = ", ".join(f"%v{i}" for i in range(count))
    width = values.itemsize
    loads = "".join(f"ld.global.b{8 * width} %v{i}, [%d2+{i * width}];" for i in range(count))
    text = f""".version 8.1\n.target sm_90\n.address_size 64
.visible .entry k(.param .u64 x, .param .u64 y) {{
    .reg .b32 %r<4>; .reg .b64 %d<4>; .reg .{kind} %v<8>; mov.u32 %r1, %tid.x;
    ld.param.u64 %d1, [x]; ld.param.u64 %d2, [y];
    mad.wide.u32 %d2, %r1, {count * width}, %d2; {loads}
    {instruction.replace("VALUES", "{" + names + "}")} ret;
}}"""
    device = simulator.Device("all")
    x, y = device.array(start), device.array(values)
    device.load(text)["k"].launch(1, 64, [x, y])
    return x.numpy(), y.numpy()


@pytest.mark.parametrize("spelling", ["add.v4.f32", "v4.f32.add"])
@pytest.mark.parametrize("space", ["", ".global"])
def test_vectors_of_floats_add_element_by_element(spelling: str, space: str) -> None:
    values = np.random.default_rng(4).integers(-50, 50, (64, 4)).astype("f4")
    opcode = f"red.relaxed.gpu{space}.{spelling}"
    got, _ = vectors(f"{opcode} [%d1], VALUES;", "f32", 4, np.ones(4, "f4"), values)
    assert (got == 1 + values.sum(axis=0)).all()


@pytest.mark.parametrize("name", ["min", "max"])
def test_vectors_of_halves_keep_the_extreme(name: str) -> None:
    values = np.random.default_rng(5).normal(size=(64, 8)).astype("f2")
    start = np.zeros(8, "f2")
    text = f"atom.global.{name}.noftz.L2::cache_hint.v8.f16 VALUES, [%d1], VALUES, %d3;"
    got, _ = vectors(text, "b16", 8, start.view("u2"), values.view("u2"))
    pick = np.min if name == "min" else np.max
    assert (got.view("f2") == pick(np.concatenate([values, start[None]]), axis=0)).all()


def test_a_misaligned_vector_is_found() -> None:
    values = np.zeros((64, 4), "f4")
    with pytest.raises(simulator.SimulationError, match="16 bytes"):
        vectors("red.global.add.v4.f32 [%d1+4], VALUES;", "f32", 4, np.zeros(8, "f4"), values)


def test_cas_compares_all_128_bits() -> None:
    """The old value differs from the expected one in its upper half alone, then not at all."""
    body = """.reg .b128 %q<4>; mov.b128 %q1, {5, 7}; mov.b128 %q2, {5, 8}; mov.b128 %q3, {1, 2};
    atom.global.cas.b128 %q0, [%d0], %q2, %q3; mov.b128 {%d6, %d7}, %q0;
    atom.global.cas.b128 %q0, [%d0], %q1, %q3; mov.b128 {%d7, %d6}, %q0;
    atom.global.exch.b128 %q0, [%d0+16], %q0; add.u64 %d5, %d6, 0;"""
    start = np.array([5, 7, 3, 4], "u8")
    text = f"setp.ne.u32 %p1, %r1, 0; @%p1 bra OUT; {body} OUT:"
    got, old = run(".reg .pred %p<2>; mov.u64 %d5, 0;" + text, start, np.zeros(64, "u8"))
    assert got.tolist() == [1, 2, 5, 7]
    assert old.tolist() == [7] + [0] * 63


def test_one_instruction_reaches_several_allocations() -> None:
    values = np.arange(128, dtype="u4")
    body = "and.b32 %r8, %r1, 1; setp.ne.u32 %p1, %r8, 0; selp.b64 %d7, %d0, %d8, %p1;"
    head = ".reg .pred %p<2>; ld.param.u64 %d8, [z]; mov.u32 %r5, 7;"
    got, other = run(f"{head} {body} red.global.add.u32 [%d7], %r4; bra OUT; OUT: ret;",
                     np.zeros(1, "u4"), values)  # fmt: skip
    assert got.tolist() == [sum(range(1, 128, 2))]
    assert other[0] == sum(range(0, 128, 2))


def test_one_instruction_reaches_shared_and_global_memory() -> None:
    body = """.reg .pred %p<2>; mov.u32 %r9, cell; st.shared.u32 [%r9], 100; bar.sync 0;
    mov.u64 %d6, cell; cvta.shared.u64 %d6, %d6; and.b32 %r8, %r1, 1; setp.ne.u32 %p1, %r8, 0;
    selp.b64 %d7, %d6, %d0, %p1; atom.add.u32 %r10, [%d7], 1; bar.sync 0;
    ld.shared.u32 %r5, [%r9];"""
    got, total = run(body, np.zeros(1, "u4"), np.zeros(64, "u4"))
    assert got.tolist() == [32]
    assert (total == 132).all()


def test_f32_addition_flushes_subnormals_in_global_memory_only() -> None:
    tiny = np.full(64, 3, "u4").view("f4")
    for operation in ("red.global.add.f32 [%d2], %f4;", "atom.global.add.f32 %f5, [%d2], %f4;"):
        got, _ = run(operation, np.array([5], "u4").view("f4"), tiny)
        assert got.view("u4").tolist() == [0]
    body = """mov.u32 %r9, cell; st.shared.u32 [%r9], 0; bar.sync 0;
    red.shared.add.f32 [%r9], %f4; bar.sync 0; ld.shared.u32 %r5, [%r9];"""
    _, total = run(body, np.zeros(1, "f4"), tiny)
    assert (total.view("u4") == 192).all()
