"""The profile counts what a kernel does, as a reader of its text would."""

from pathlib import Path

import numpy as np
import pytest

from tilewright.runtime import simulator

HEADER = ".version 8.0\n.target sm_80\n.address_size 64\n"
CORPUS = Path(__file__).parent / "corpus"


def profile(body: str, block: int = 32, grid: int = 1, size: int = 1 << 16) -> simulator.Profile:
    device = simulator.Device()
    text = f"""{HEADER}.visible .entry k(.param .u64 p) {{
.reg .b32 %r<9>; .reg .b64 %d<9>; .reg .f32 %f<9>; .reg .f64 %g<9>; .reg .pred %p<9>;
.shared .align 16 .b8 s[8192];
ld.param.u64 %d0, [p]; mov.u32 %r0, %tid.x; mov.u32 %r1, s;
{body}
ret; }}"""
    kernel = device.load(text)["k"]
    return kernel.launch(grid, block, [device.empty((size,), "u8")], profile=True).profile


def only(counts: simulator.Profile, opcode: str) -> simulator.LineProfile:
    (line,) = [line for line in counts.lines if line.opcode.startswith(opcode)]
    return line


@pytest.mark.parametrize(("stride", "sectors"), [(4, 4), (8, 8), (32, 32), (128, 32), (0, 1)])
def test_sectors_follow_from_the_stride_of_a_warp(stride: int, sectors: int) -> None:
    body = f"mad.wide.u32 %d1, %r0, {stride}, %d0; ld.global.f32 %f1, [%d1];"
    line = only(profile(body), "ld.global")
    assert (line.requests, line.sectors, line.global_bytes) == (1, sectors, 128)


def test_a_request_is_one_a_warp() -> None:
    body = "mad.wide.u32 %d1, %r0, 4, %d0; ld.global.f32 %f1, [%d1];"
    line = only(profile(body, block=96, grid=3), "ld.global")
    assert (line.executed, line.warps, line.requests, line.sectors) == (288, 9, 9, 36)


@pytest.mark.parametrize(
    ("stride", "degree"), [(4, 1), (8, 2), (16, 4), (128, 32), (132, 1), (0, 1)]
)
def test_bank_conflicts_follow_from_the_stride(stride: int, degree: int) -> None:
    body = f"mad.lo.u32 %r2, %r0, {stride}, %r1; st.shared.u32 [%r2], %r0;"
    line = only(profile(body), "st.shared")
    assert (line.phases, line.wavefronts) == (1, degree)


def test_wide_accesses_without_conflicts_take_a_wavefront_a_phase() -> None:
    body = "mad.lo.u32 %r2, %r0, 16, %r1; st.shared.v4.u32 [%r2], {%r0, %r0, %r0, %r0};"
    line = only(profile(body), "st.shared")
    assert (line.phases, line.wavefronts) == (4, 4)


def test_generic_addresses_count_where_they_lie() -> None:
    body = "cvta.shared.u64 %d1, s; mad.wide.u32 %d1, %r0, 4, %d1; "
    body = body.replace("cvta.shared.u64 %d1, s;", "mov.u64 %d2, s; cvta.shared.u64 %d1, %d2;")
    line = only(profile(body + "st.u32 [%d1], %r0;"), "st.u32")
    assert (line.phases, line.requests) == (1, 0)


def test_guards_count_active_threads_only() -> None:
    body = "setp.lt.u32 %p1, %r0, 5; @%p1 st.global.u32 [%d0], %r0;"
    line = only(profile(body), "st.global")
    assert (line.executed, line.warps, line.global_bytes) == (5, 1, 20)


def test_a_branch_that_parts_warps_is_divergent() -> None:
    body = "setp.lt.u32 %p1, %r0, 40; @%p1 bra end; add.u32 %r2, %r0, 1; end:"
    counts = profile(body, block=96)
    assert only(counts, "bra").divergent == 1
    assert only(counts, "add.u32").executed == 56


def test_flops_are_counted_by_type() -> None:
    body = "mov.f32 %f1, 0f3f800000; fma.rn.f32 %f2, %f1, %f1, %f1; add.f32 %f3, %f1, %f2;"
    body += "cvt.f64.f32 %g1, %f1; mul.f64 %g2, %g1, %g1; neg.f32 %f4, %f1; max.f32 %f5, %f1, %f2;"
    assert profile(body, block=64).flops() == {"f32": 3 * 64, "f64": 64}


def test_flops_of_tensor_cores_are_those_of_the_product() -> None:
    values = "{%r3,%r4,%r5,%r6}, {%r3,%r4}, {%f1,%f2,%f3,%f4}"
    body = "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f1,%f2,%f3,%f4}, " + values
    assert profile(body + ";").flops() == {"tensor bf16": 2 * 16 * 8 * 16}


def test_barriers_are_counted_by_warp() -> None:
    assert profile("bar.sync 0; bar.sync 0;", block=128).barriers() == 8


def test_the_mix_adds_up_to_all_instructions() -> None:
    counts = profile("bar.sync 0; add.u32 %r2, %r0, 1; mad.lo.u32 %r2, %r0, 4, %r1;", block=64)
    assert sum(counts.mix().values()) == counts.thread_instructions
    assert counts.mix()["integer"] == 128


def test_source_lines_add_up_their_instructions() -> None:
    body = """.loc 1 7 1
    add.u32 %r2, %r0, 1; add.u32 %r2, %r2, 1;
    .loc 1 3 1
    add.u32 %r2, %r2, 1;"""
    lines = profile(body).by_source()
    assert [(line.source, line.executed) for line in lines[:2]] == [
        ("file1:3", 64),
        ("file1:7", 64),
    ]


def test_a_profiled_kernel_computes_the_same() -> None:
    device = simulator.Device()
    kernel = device.load((CORPUS / "simt.ptx").read_text())["softmax"]
    x = device.array(np.random.default_rng().random((9, 70), dtype="f4"))
    results = [device.empty((9, 70), "f32") for _ in range(2)]
    plain = kernel.launch(9, 32, [x, results[0], 70])
    counted = kernel.launch(9, 32, [x, results[1], 70], profile=True)
    assert (results[0].numpy() == results[1].numpy()).all()
    assert plain.profile.lines == ()
    assert counted.profile.thread_instructions == plain.profile.thread_instructions
    assert counted.profile.total().executed == plain.profile.thread_instructions


def test_ldmatrix_counts_the_rows_that_it_loads() -> None:
    """x1 takes the addresses of lanes 0 to 7: 128 bytes, without conflicts where they adjoin."""
    body = "mad.lo.u32 %r2, %r0, PITCH, %r1; "
    body += "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r3}, [%r2];"
    near = only(profile(body.replace("PITCH", "16")), "ldmatrix")
    assert (near.shared_bytes, near.phases, near.wavefronts) == (128, 1, 1)
    apart = only(profile(body.replace("PITCH", "128")), "ldmatrix")
    assert (apart.shared_bytes, apart.phases, apart.wavefronts) == (128, 1, 8)


def hopper(body: str, arguments: list[object], device: simulator.Device) -> simulator.Profile:
    """Returns the profile of a body that lane 0 runs, with an mbarrier at `full`."""
    text = f""".version 8.0\n.target sm_90a\n.address_size 64
.visible .entry k(.param .u64 p, .param .align 64 .b8 map[128]) {{
.reg .b32 %r<9>; .reg .b64 %d<9>; .reg .pred %p<3>;
.shared .align 128 .b8 s[4096]; .shared .align 8 .b8 full[8];
ld.param.u64 %d0, [p]; mov.u32 %r0, %tid.x; mov.u64 %d1, map; cvta.param.u64 %d1, %d1;
setp.eq.u32 %p0, %r0, 0;
@%p0 mbarrier.init.shared.b64 [full], 1;
{body}
ret; }}"""
    return device.load(text)["k"].launch(1, 32, arguments, profile=True).profile


def test_a_bulk_copy_counts_the_sectors_that_it_touches() -> None:
    """96 bytes from byte 16 on touch sectors 0 to 3."""
    device = simulator.Device()
    body = """@%p0 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes
    [s], [%d0+16], 96, [full];"""
    counts = hopper(body, [device.empty((256,), "u8"), bytes(128)], device)
    line = only(counts, "cp.async.bulk")
    assert (line.requests, line.sectors, line.global_bytes) == (1, 4, 96)
    assert (line.shared_bytes, line.phases, line.wavefronts) == (96, 1, 1)


def test_a_tensor_copy_counts_what_the_tensor_has_of_its_box() -> None:
    """A box of 4 rows with 64 bytes at row 6 of 8: two rows of two sectors lie inside."""
    device = simulator.Device()
    tensor = device.empty((8, 64), "u16")
    map = device.tensor_map(tensor, "u16", (64, 8), (128,), (32, 4))
    body = """mov.u32 %r1, 0; mov.u32 %r2, 6;
    @%p0 cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes
    [s], [%d1, {%r1, %r2}], [full];"""
    line = only(hopper(body, [tensor, map], device), "cp.async.bulk.tensor")
    assert (line.requests, line.sectors, line.global_bytes) == (1, 4, 128)
    assert (line.shared_bytes, line.phases, line.wavefronts) == (256, 2, 2)


def gemm_profile(name: str) -> simulator.Profile:
    """Returns the profile of a product of the corpus: 128 x 64, k = 64."""
    device = simulator.Device()
    x, y = device.empty((128, 64), "f16"), device.empty((64, 64), "f16")
    c = device.empty((128, 64), "f32")
    maps = [
        device.tensor_map(buffer, "f16", (64, rows), (128,), (64, rows), swizzle="128B")
        for buffer, rows in ((x, 128), (y, 64))
    ]
    kernel = device.load((CORPUS / "gemm_sm90.ptx").read_text())[name]
    arguments = [*maps, c, 128, 64, 64]
    return kernel.launch(1, 384, arguments, shared_bytes=3 * 24576, profile=True).profile


@pytest.mark.parametrize("name", ["gemm_ss", "gemm_rs"])
def test_wgmma_counts_the_operands_that_it_reads(name: str) -> None:
    """A product reads A, unless it is in registers, and B: rows of 32 bytes."""
    lines = gemm_profile(name).lines
    products = [line for line in lines if line.opcode.startswith("wgmma.mma_async")]
    assert products
    for line in products:
        columns = int(line.opcode.split("m64n")[1].partition("k")[0])
        groups = line.executed // 128
        assert line.shared_bytes == groups * 32 * (columns + 64 * (name == "gemm_ss"))


def test_tensor_copies_of_a_product_move_each_operand_once() -> None:
    total = gemm_profile("gemm_ss").lines
    copies = [line for line in total if line.opcode.startswith("cp.async.bulk.tensor")]
    assert sum(line.global_bytes for line in copies) == 2 * 64 * (128 + 64)
    assert sum(line.sectors for line in copies) == 2 * 64 * (128 + 64) // 32


def test_mixes_of_source_lines_add_up() -> None:
    body = ".loc 1 7 1\nadd.u32 %r2, %r0, 1; add.f32 %f2, %f1, %f1; add.u32 %r2, %r2, 1;"
    line = profile(body).by_source()[0]
    assert line.mix["integer"] == 64
    assert line.mix["float"] == 32


def test_barriers_add_up_by_source_line() -> None:
    body = ".loc 1 7 1\nbar.sync 0; bar.sync 0;"
    assert profile(body, block=64).by_source()[0].barriers == 4
