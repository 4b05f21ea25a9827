"""Loads, stores and spaces; each fault names its place."""

from typing import Any

import numpy as np
import pytest

from tilewright.runtime import simulator

HEAD = ".version 8.0\n.target sm_80\n.address_size 64\n"


def kernel(body: str, params: str = ".param .u64 x, .param .u64 y", module: str = "") -> str:
    """Returns a kernel k with registers, the thread number in %r0, x and y in %d0 and %d1."""
    loads = "ld.param.u64 %d0, [x]; ld.param.u64 %d1, [y];" if ".u64 y" in params else ""
    return (
        f"{HEAD}{module}\n.visible .entry k({params}) {{\n.reg .pred %p<5>; .reg .b16 %h<20>;"
        f".reg .b32 %r<20>; .reg .b64 %d<20>; .reg .f32 %f<9>;\nmov.u32 %r0, %tid.x; {loads}\n"
        f"{body}\nret;\n}}"
    )


def launch(text: str, *args: Any, block: int = 64, grid: int = 1, **more: Any) -> Any:
    """Loads a kernel on the device of its first buffer and launches it."""
    device = simulator.Device("all")
    buffers = [device.array(a, name=f"arg{i}") for i, a in enumerate(args)]
    device.load(text)["k"].launch(grid, block, buffers, **more)
    return [buffer.numpy().copy() for buffer in buffers]


@pytest.mark.parametrize(
    ("type", "width"), [("b8", 1), ("u16", 2), ("b32", 4), ("f32", 4), ("s64", 8)]
)
@pytest.mark.parametrize("vector", [1, 2, 4])
def test_vector_loads_and_stores_keep_elements_in_order(type: str, width: int, vector: int) -> None:
    if width * vector > 16:
        vector = 2
    x = np.random.default_rng(0).integers(0, 256, 64 * 16, dtype="u1")
    registers = {1: "%h", 2: "%h", 4: "%f" if type == "f32" else "%r", 8: "%d"}[width]
    names = [f"{registers}{i + 4}" for i in range(vector)]
    many = f".v{vector}" if vector > 1 else ""
    operand = "{" + ", ".join(names) + "}" if vector > 1 else names[0]
    body = f"mad.wide.u32 %d0, %r0, {width * vector}, %d0; mad.wide.u32 %d1, %r0, "
    body += f"{width * vector}, %d1; ld.global{many}.{type} {operand}, [%d0]; "
    body += f"st.global{many}.{type} [%d1], {operand};"
    got = launch(kernel(body), x, np.zeros_like(x))
    used = 64 * width * vector
    assert (got[1][:used] == x[:used]).all()
    assert not got[1][used:].any()


def test_narrow_loads_extend_by_their_type() -> None:
    x = np.arange(-32, 32, dtype="i1")
    body = "cvt.u64.u32 %d2, %r0; add.u64 %d0, %d0, %d2; mad.wide.u32 %d1, %r0, 8, %d1;"
    body += "ld.global.s8 %r1, [%d0]; ld.global.u8 %r2, [%d0]; st.global.v2.b32 [%d1], {%r1, %r2};"
    got = launch(kernel(body), x, np.zeros((64, 2), "i4"))[1]
    assert (got[:, 0] == x).all()
    assert (got[:, 1] == x.view("u1")).all()


def test_shared_memory_belongs_to_its_cta() -> None:
    body = """
    mov.u32 %r1, buffer; mad.lo.u32 %r2, %r0, 4, %r1; mov.u32 %r3, %ctaid.x;
    mad.lo.u32 %r4, %r3, 1000, %r0; st.shared.u32 [%r2], %r4; bar.sync 0;
    sub.u32 %r5, 63, %r0; mad.lo.u32 %r5, %r5, 4, %r1; ld.shared.u32 %r6, [%r5];
    mad.lo.u32 %r7, %r3, 64, %r0; mad.wide.u32 %d1, %r7, 4, %d1; st.global.u32 [%d1], %r6;
"""
    text = kernel(body, module=".shared .align 4 .b8 buffer[256];")
    got = launch(text, np.zeros(1, "u4"), np.zeros(70 * 64, "u4"), grid=70)[1].reshape(70, 64)
    assert (got == np.arange(70)[:, None] * 1000 + np.arange(63, -1, -1)).all()


def test_generic_addresses_reach_every_space() -> None:
    body = """
    mov.u64 %d2, buffer; cvta.shared.u64 %d2, %d2; mad.wide.u32 %d2, %r0, 4, %d2;
    mad.wide.u32 %d3, %r0, 4, %d1; and.b32 %r1, %r0, 1; setp.eq.u32 %p1, %r1, 0;
    selp.b64 %d4, %d2, %d3, %p1; st.u32 [%d4], %r0;
    .local .align 4 .b8 mine[8]; mov.u64 %d5, mine; cvta.local.u64 %d5, %d5;
    mul.lo.u32 %r5, %r0, 7; st.u32 [%d5+4], %r5; ld.u32 %r2, [%d4]; ld.local.u32 %r3, [mine+4];
    add.u32 %r4, %r2, %r3; bar.sync 0; st.global.u32 [%d3], %r4;
"""
    text = kernel(body, module=".shared .align 4 .b8 buffer[256];")
    got = launch(text, np.zeros(1, "u4"), np.zeros(64, "u4"))[1]
    assert (got == np.arange(64) * 8).all()


def test_variables_have_their_initial_values() -> None:
    module = """.global .align 4 .u32 table[4] = {1, 2, 0x30};
.const .align 8 .f64 scale = 0d4000000000000000;
.global .align 8 .u64 pointer = table+4;
.global .align 4 .f32 numbers[2] = {0f3F800000, -2.5};"""
    body = """
    ld.global.u64 %d2, [pointer]; ld.global.u32 %r1, [%d2+4]; ld.global.u32 %r2, [table+12];
    ld.const.u32 %r3, [scale+4]; ld.global.f32 %f1, [numbers+4]; mov.b32 %r4, %f1;
    st.global.v4.u32 [%d1], {%r1, %r2, %r3, %r4};
"""
    got = launch(kernel(body, module=module), np.zeros(1, "u4"), np.zeros(4, "u4"), block=1)[1]
    assert got.tolist() == [0x30, 0, 0x40000000, 0xC0200000]


def test_parameters_may_be_structures() -> None:
    body = "ld.param.u32 %r1, [s+8]; ld.param.v2.u16 {%h1, %h2}, [s+4]; ld.param.u64 %d1, [out];"
    body += "cvt.u32.u16 %r2, %h2; mov.u64 %d4, s; cvta.param.u64 %d4, %d4; ld.u32 %r3, [%d4+8];"
    body += "st.global.v4.u32 [%d1], {%r1, %r2, %r3, %r3};"
    text = kernel(body, ".param .align 4 .b8 s[12], .param .u64 out")
    device = simulator.Device()
    out = device.empty((4,), "u32")
    data = np.array([1, 0x00070005, 9], "u4").tobytes()
    device.load(text)["k"].launch(1, 1, [data, out])
    assert out.numpy().tolist() == [9, 7, 9, 9]


def test_the_last_lane_wins_a_store_to_one_address() -> None:
    body = "st.global.u32 [%d1], %r0;"
    assert launch(kernel(body), np.zeros(1, "u4"), np.zeros(1, "u4"))[1].tolist() == [63]


def fault(body: str, *args: Any, module: str = "", **more: Any) -> simulator.Finding:
    """Returns the finding that a kernel ends with."""
    with pytest.raises(simulator.SimulationError) as raised:
        launch(kernel(body, module=module), *args, **more)
    return raised.value.finding


ADDRESS = "mad.wide.u32 %d1, %r0, 4, %d1; "


def test_one_element_past_the_end_is_a_bounds_fault() -> None:
    found = fault(ADDRESS + "st.global.u32 [%d1], %r0;", np.zeros(9, "u4"), np.zeros(63, "u4"))
    assert found.kind == "bounds"
    assert found.tid == (63, 0, 0)
    assert found.lanes == 1
    assert found.instruction == "st.global.u32 [%d1], %r0;"
    assert "4 bytes past the end of arg1" in found.message
    assert found.line == HEAD.count("\n") + 5


def test_one_element_before_the_start_is_a_bounds_fault() -> None:
    found = fault(ADDRESS + "ld.global.u32 %r1, [%d1+-4];", np.zeros(9, "u4"), np.zeros(64, "u4"))
    assert found.kind == "bounds"
    assert found.tid == (0, 0, 0)
    assert "4 bytes before arg1" in found.message


def test_an_address_cut_to_32_bits_is_a_bounds_fault() -> None:
    body = "cvt.u32.u64 %r1, %d1; cvt.u64.u32 %d1, %r1; ld.global.u32 %r1, [%d1];"
    assert fault(body, np.zeros(9, "u4"), np.zeros(64, "u4")).kind == "bounds"


def test_a_misaligned_vector_access_is_an_alignment_fault() -> None:
    body = "mad.wide.u32 %d1, %r0, 8, %d1; setp.eq.u32 %p1, %r0, 5; @%p1 add.u64 %d1, %d1, 4;"
    body += "ld.global.v2.u32 {%r1, %r2}, [%d1];"
    found = fault(body, np.zeros(9, "u4"), np.zeros(200, "u4"))
    assert found.kind == "alignment"
    assert found.tid == (5, 0, 0)


def test_a_freed_buffer_is_a_use_after_free() -> None:
    device = simulator.Device()
    module = device.load(kernel(ADDRESS + "ld.global.u32 %r1, [%d1];"))
    x, y = device.array(np.zeros(64, "u4")), device.array(np.zeros(64, "u4"), name="old")
    address = y.address
    y.free()
    with pytest.raises(simulator.SimulationError, match="old .*freed") as raised:
        module["k"].launch(1, 64, [x, address])
    assert raised.value.finding.kind == "use-after-free"


@pytest.mark.parametrize(
    "line", ["ld.param.u32 %q0, [x];", "ld.global.s8 %q0, [%d0];", "st.global.u32 [%d0], %q0;"]
)
def test_registers_of_128_bits_hold_nothing_narrower(line: str) -> None:
    with pytest.raises(simulator.PTXError, match=r"32-bit registers|into these registers"):
        simulator.Device().load(kernel(f".reg .b128 %q<2>; {line}"))


def test_a_store_to_constant_memory_is_refused() -> None:
    body = "mov.u64 %d2, table; st.global.u32 [%d2], %r0;"
    found = fault(body, np.zeros(1), np.zeros(1), module=".const .u32 table[2] = {1, 2};")
    assert found.kind == "read-only"


def test_shared_memory_has_bounds() -> None:
    body = "mov.u32 %r1, buffer; mad.lo.u32 %r1, %r0, 4, %r1; st.shared.u32 [%r1+4], %r0;"
    found = fault(body, np.zeros(1), np.zeros(1), module=".shared .align 4 .b8 buffer[256];")
    assert found.kind == "bounds"
    assert found.tid == (63, 0, 0)
    assert "past the 256 bytes" in found.message


def test_dynamic_shared_memory_has_the_size_of_the_launch() -> None:
    module = ".extern .shared .align 16 .b8 dynamic[];"
    body = "mov.u32 %r1, dynamic; mad.lo.u32 %r1, %r0, 4, %r1; st.shared.u32 [%r1], %r0;"
    launch(kernel(body, module=module), np.zeros(1), np.zeros(1), shared_bytes=256)
    found = fault(body, np.zeros(1), np.zeros(1), module=module, shared_bytes=252)
    assert found.kind == "bounds"


def test_reading_shared_memory_that_nobody_wrote_is_found() -> None:
    body = """mov.u32 %r1, buffer; mad.lo.u32 %r2, %r0, 4, %r1; setp.ne.u32 %p1, %r0, 9;
    @%p1 st.shared.u32 [%r2], %r0; bar.sync 0; ld.shared.u32 %r3, [%r2];"""
    found = fault(body, np.zeros(1), np.zeros(1), module=".shared .align 4 .b8 buffer[256];")
    assert found.kind == "uninitialised"
    assert found.tid == (9, 0, 0)


def test_lanes_may_access_several_buffers_at_once() -> None:
    body = "setp.lt.u32 %p1, %r0, 32; selp.b64 %d2, %d0, %d1, %p1; mad.wide.u32 %d2, %r0, 4, %d2;"
    body += "ld.global.u32 %r1, [%d2]; add.u32 %r1, %r1, 1; st.global.u32 [%d2], %r1;"
    x, y = np.arange(64, dtype="u4"), np.arange(64, dtype="u4") * 2
    got = launch(kernel(body), x, y)
    low = np.arange(64) < 32
    assert (got[0] == x + low).all()
    assert (got[1] == y + ~low).all()


def test_a_fault_names_the_source_line() -> None:
    module = '.file 1 "kernel.mlir"'
    body = f".loc 1 42 7\n{ADDRESS} st.global.u32 [%d1], %r0;"
    found = fault(body, np.zeros(1), np.zeros(63, "u4"), module=module)
    assert found.source == "kernel.mlir:42:7"
    assert "kernel.mlir:42:7" in str(found)
