"""Tensor maps that kernels make: every field, both spaces, and what is wrong with some."""

import math
from typing import Any

import numpy as np
import pytest

from tilewright.runtime import simulator

Array = np.ndarray[Any, np.dtype[Any]]
Fields = list[tuple[str, int | None, int]]
BITS_64 = ("global_address", "global_stride")
CONSTANTS = ("elemtype", "interleave_layout", "swizzle_mode", "swizzle_atomicity", "fill_mode")
# Codes of element types (PTX ISA, tensormap.replace), and NumPy's types of the same size.
TYPES = {0: "u1", 1: "u2", 2: "u4", 3: "i4", 4: "u8", 5: "i8", 6: "f2", 7: "f4", 9: "f8", 10: "u2"}
SWIZZLES = {0: 0, 1: 32, 2: 64, 3: 128}
BASE = 0xADD  # stands for the tensor's address, which a launch passes
HEAD = """.version 8.6
.target sm_90a
.address_size 64
.shared .align 1024 .b8 tile[16384];
.shared .align 128 .b8 made[128];
.shared .align 8 .b64 bar;
.visible .entry k(.param .u64 scratch, .param .u64 x, .param .u64 y,
                  .param .s32 c0, .param .s32 c1, .param .u32 size) {
    .reg .b32 %r<20>; .reg .b64 %d<9>; .reg .pred %p<5>;
    mov.u32 %r1, %tid.x; mov.u32 %r2, bar; mov.u32 %r3, tile; mov.u32 %r8, made;
    setp.eq.u32 %p1, %r1, 0;
    ld.param.u64 %d0, [scratch]; ld.param.u64 %d1, [x]; ld.param.u64 %d2, [y];
    ld.param.s32 %r4, [c0]; ld.param.s32 %r5, [c1]; ld.param.u32 %r7, [size];
    cvt.u64.u32 %d3, %r8;
    @%p1 mbarrier.init.shared::cta.b64 [%r2], 1;
    shl.b32 %r9, %r1, 2; add.u32 %r10, %r8, %r9; mov.u32 %r11, 0; st.shared.b32 [%r10], %r11;
    bar.warp.sync -1;
"""
PUBLISH = """    bar.warp.sync -1;
    tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.gpu.sync.aligned
        [%d0], [%d3], 128;
"""
ACQUIRE = "    fence.proxy.tensormap::generic.acquire.gpu [%d0], 128;\n    bar.sync 0;\n"
# Shared memory to y as it lies there, 16 bytes a thread at a time.
LOAD = """    @!%p1 bra W;
    mbarrier.arrive.expect_tx.shared.b64 _, [%r2], %r7;
    cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes
        [%r3], [%d0, {%r4, %r5}], [%r2];
W:  mbarrier.try_wait.parity.shared.b64 %p2, [%r2], 0; @!%p2 bra W;
    shl.b32 %r9, %r1, 4;
L:  setp.ge.u32 %p3, %r9, %r7; @%p3 bra OUT; add.u32 %r10, %r3, %r9;
    ld.shared.v4.b32 {%r11, %r12, %r13, %r14}, [%r10]; cvt.u64.u32 %d4, %r9; add.u64 %d5, %d2, %d4;
    st.global.v4.b32 [%d5], {%r11, %r12, %r13, %r14}; add.u32 %r9, %r9, 512; bra L;
OUT: ret;
}
"""


def replacements(fields: Fields, place: str = "shared::cta", address: str = "%d3") -> str:
    """Returns the instructions by which thread 0 fills in fields."""
    lines: list[str] = []
    for name, dimension, value in fields:
        width = "b64" if name in BITS_64 else "b32"
        operand = "%d1" if value == BASE else f"{value}"
        if name not in CONSTANTS and value != BASE:
            register = "%d6" if width == "b64" else "%r15"
            lines.append(f"mov.{width} {register}, {operand};")
            operand = register
        middle = "" if dimension is None else f"{dimension}, "
        space = f".{place}" if place else ""
        lines.append(
            f"@%p1 tensormap.replace.tile.{name}{space}.b1024.{width} "
            f"[{address}], {middle}{operand};"
        )
    return "\n".join(lines) + "\n"


def described(shape: tuple[int, int], code: int, box: tuple[int, int], swizzle: int) -> Fields:
    """Returns all fields of a matrix."""
    width = np.dtype(TYPES[code]).itemsize
    return [
        ("global_address", None, BASE),
        ("rank", None, 1),
        ("box_dim", 0, box[0]),
        ("box_dim", 1, box[1]),
        ("global_dim", 0, shape[1]),
        ("global_dim", 1, shape[0]),
        ("global_stride", 0, shape[1] * width),
        ("element_stride", 0, 1),
        ("element_stride", 1, 1),
        ("elemtype", None, code),
        ("interleave_layout", None, 0),
        ("swizzle_mode", None, swizzle),
        ("fill_mode", None, 0),
    ]


def launch(
    body: str, source: Array, at: tuple[int, int], size: int, scratch: Array | None = None
) -> Array:
    """Runs a kernel that makes a map of `source`; returns the bytes that its box left."""
    device = simulator.Device("all")
    made = device.array(np.zeros(128, "u1") if scratch is None else scratch)
    out = device.empty((size,), "u8")
    report = device.load(HEAD + body)["k"].launch(
        1, 32, [made, device.array(source), out, *at, size]
    )
    assert not report.findings
    return out.numpy()


def fault(body: str, scratch: Array | None = None) -> simulator.Finding:
    """Returns what ends a launch."""
    with pytest.raises(simulator.SimulationError) as raised:
        launch(body, np.zeros((64, 64), "u2"), (0, 0), 512, scratch)
    return raised.value.finding


def swizzled(rows: Array, span: int) -> Array:
    """Returns rows of `span` bytes with 16-byte units XORed by the line of 128 bytes."""
    flat = np.ascontiguousarray(rows).view("u1").reshape(-1)
    out = np.empty_like(flat)
    for unit in range(flat.size // 16):
        place = unit ^ ((unit // 8) % (span // 16)) if span else unit
        out[place * 16 : place * 16 + 16] = flat[unit * 16 : unit * 16 + 16]
    return out


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng()


@pytest.mark.parametrize("code", list(TYPES))
@pytest.mark.parametrize("swizzle", [0, 3])
def test_a_map_made_in_shared_memory_moves_a_box(
    code: int, swizzle: int, random: np.random.Generator
) -> None:
    dtype = np.dtype(TYPES[code])
    width = 128 // dtype.itemsize
    source = random.integers(0, 256, (40, 3 * width * dtype.itemsize), "u1").view(dtype)
    fields = described((40, 3 * width), code, (width, 12), swizzle)
    body = replacements(fields) + PUBLISH + ACQUIRE + LOAD
    got = launch(body, source, (width // 2, 7), 12 * 128)
    box = source[7:19, width // 2 : width // 2 + width]
    assert (got == swizzled(box, SWIZZLES[swizzle])).all()


@pytest.mark.parametrize("place", ["global", ""])
def test_fields_of_a_map_in_global_memory_are_replaced(
    place: str, random: np.random.Generator
) -> None:
    source = random.integers(0, 1 << 16, (32, 64), "u2")
    fields = described((32, 64), 1, (32, 8), 2)
    body = replacements(fields, place, "%d0")
    body += "fence.proxy.tensormap::generic.release.gpu;\n" + ACQUIRE + LOAD
    got = launch(body, source, (16, 4), 8 * 64)
    assert (got == swizzled(source[4:12, 16:48], 64)).all()


def test_a_generic_address_may_be_of_shared_memory(random: np.random.Generator) -> None:
    source = random.integers(0, 1 << 16, (32, 64), "u2")
    fields = described((32, 64), 1, (64, 8), 0)
    body = "cvta.shared.u64 %d7, %d3;\n" + replacements(fields, "", "%d7")
    got = launch(body + PUBLISH + ACQUIRE + LOAD, source, (0, 4), 8 * 128)
    assert (got == swizzled(source[4:12], 0)).all()


def test_a_map_of_the_host_can_be_given_another_tensor(random: np.random.Generator) -> None:
    device = simulator.Device("all")
    first, second = random.integers(0, 1 << 16, (2, 32, 64), "u2")
    map = device.tensor_map(device.array(first), "u16", (64, 32), (128,), (64, 4))
    body = replacements([("global_address", None, BASE)], "global", "%d0") + ACQUIRE + LOAD
    got = launch(body, second, (0, 9), 4 * 128, np.frombuffer(map, "u1"))
    assert (got == swizzled(second[9:13], 0)).all()


def test_the_fill_mode_fills_what_lies_outside_with_nan(random: np.random.Generator) -> None:
    source = random.standard_normal((8, 8), np.float32)
    fields = [*described((8, 8), 7, (8, 8), 0)[:-1], ("fill_mode", None, 1)]
    got = launch(replacements(fields) + PUBLISH + ACQUIRE + LOAD, source, (4, 0), 256)
    values = got.view("f4").reshape(8, 8)
    assert (values[:, :4] == source[:, 4:]).all()
    assert np.isnan(values[:, 4:]).all()


@pytest.mark.parametrize(
    ("field", "part"),
    [
        (("rank", None, 5), "1 to 5 dimensions, got 6"),
        (("rank", None, 2), "outside"),
        (("rank", None, 0), "one of 1 dimensions"),
        (("box_dim", 0, 257), "box (257, 8) is outside 1..256"),
        (("box_dim", 1, 1 << 16), "box (64, 65535) is outside"),
        (("element_stride", 1, 9), "element_strides (1, 9) is outside"),
        (("global_stride", 0, 130), "multiples of 16 bytes"),
        (("global_dim", 1, 0), "shape (64, 0) is outside"),
        (("box_dim", 0, 60), "120 bytes"),
        (("swizzle_mode", None, 1), "swizzle's 32"),
        (("fill_mode", None, 1), "needs a floating-point type"),
    ],
)
def test_what_a_driver_would_refuse_is_found_when_the_map_is_used(
    field: tuple[str, int | None, int], part: str
) -> None:
    fields = [*described((64, 64), 1, (64, 8), 0), field]
    finding = fault(replacements(fields) + PUBLISH + ACQUIRE + LOAD)
    assert finding.kind == "tensor map"
    assert part in finding.message


@pytest.mark.parametrize("missing", ["box_dim", "element_stride", "global_dim", "global_stride"])
def test_a_field_that_was_left_out_is_found(missing: str) -> None:
    fields = [f for f in described((64, 64), 1, (64, 8), 0) if f[0] != missing]
    assert fault(replacements(fields) + PUBLISH + ACQUIRE + LOAD).kind == "tensor map"


def test_a_map_that_was_never_copied_out_is_found() -> None:
    fields = described((64, 64), 1, (64, 8), 0)
    finding = fault(replacements(fields) + "bar.sync 0;\n" + LOAD)
    assert (finding.kind, "there is no tensor map" in finding.message) == ("tensor map", True)


def test_memory_that_was_not_zeroed_is_found() -> None:
    body = replacements([("rank", None, 1)], "global", "%d0") + LOAD
    finding = fault(body, np.full(128, 7, "u1"))
    assert (finding.kind, "zeroed memory" in finding.message) == ("tensor map", True)


def test_a_map_in_uninitialised_shared_memory_is_found() -> None:
    body = "add.u64 %d3, %d3, -1024;\n" + replacements([("rank", None, 1)]) + LOAD
    assert fault(body).kind == "uninitialised"


def test_an_address_that_is_no_multiple_of_64_is_found() -> None:
    body = "add.u64 %d3, %d3, 32;\n" + replacements([("rank", None, 1)]) + LOAD
    assert fault(body).kind == "alignment"


@pytest.mark.parametrize(
    ("instruction", "part"),
    [
        ("tensormap.replace.tile.elemtype.global.b1024.b32 [%d0], 13", "elemtype, got 13"),
        ("tensormap.replace.tile.swizzle_mode.global.b1024.b32 [%d0], 4", "swizzle_mode, got 4"),
        ("tensormap.replace.tile.interleave_layout.global.b1024.b32 [%d0], 1", "got 1"),
        ("tensormap.replace.tile.fill_mode.global.b1024.b32 [%d0], %r1", "expects a constant"),
        ("tensormap.replace.tile.box_dim.global.b1024.b32 [%d0], 5, %r1", "below 5, got 5"),
        ("tensormap.replace.tile.global_stride.global.b1024.b64 [%d0], 4, %d1", "below 4, got 4"),
        ("tensormap.replace.tile.rank.global.b1024.b64 [%d0], %d1", "not covered"),
        ("fence.proxy.tensormap::generic.acquire.gpu [%d0], 64", "expects 128"),
        (PUBLISH.partition(";")[2].strip().rstrip(";").replace("128", "64"), "expects 128"),
    ],
)
def test_what_the_isa_does_not_have_is_refused(instruction: str, part: str) -> None:
    with pytest.raises(simulator.PTXError, match=part):
        simulator.Device().load(f"{HEAD}{instruction};\nret;\n}}")


def test_boxes_of_one_to_five_dimensions_agree_with_the_host(random: np.random.Generator) -> None:
    for rank in range(1, 6):
        shape = (6, 5, 4, 3, 16)[5 - rank :]
        source = random.integers(0, 1 << 32, shape, "u4")
        device = simulator.Device()
        buffer = device.array(source)
        strides = [4 * math.prod(shape[-axis:]) for axis in range(1, rank)]
        wanted = device.tensor_map(buffer, "u32", shape[::-1], strides, (16, 1, 1, 1, 1)[:rank])
        fields: Fields = [("global_address", None, BASE), ("rank", None, rank - 1)]
        fields += [("elemtype", None, 2)]
        for axis in range(rank):
            fields += [("box_dim", axis, 16 if axis == 0 else 1), ("element_stride", axis, 1)]
            fields += [("global_dim", axis, shape[::-1][axis])]
            fields += [("global_stride", axis, strides[axis])] if axis < rank - 1 else []
        made = device.array(np.zeros(128, "u1"))
        text = HEAD + replacements(fields) + PUBLISH + "ret;\n}"
        device.load(text)["k"].launch(1, 32, [made, buffer, buffer, 0, 0, 0])
        assert made.numpy().tobytes() == wanted
