"""wgmma: operand layouts by descriptor, types, widths, scales, against NumPy."""

from typing import Any

import numpy as np
import pytest

from tilewright.runtime import simulator

Array = np.ndarray[Any, np.dtype[Any]]
PLACE_B = 32768


def kernel(columns: int, kinds: str, a: str, tail: str, total: str = "f32") -> str:
    """Returns a kernel: shared memory from x, D from and to d, one wgmma; 128 threads."""
    count = columns // (4 if total == "f16" else 2)
    base = "h" if total == "f16" else "d"
    register = {"f32": "f32", "f16": "b32", "s32": "b32"}[total]
    names = ", ".join(f"%{base}{i}" for i in range(count))
    loads = "".join(f"ld.global.{register} %{base}{i}, [%q2+{512 * i}];\n" for i in range(count))
    stores = "".join(f"st.global.{register} [%q2+{512 * i}], %{base}{i};\n" for i in range(count))
    depth = {"f16": 16, "bf16": 16, "tf32": 8}.get(kinds.split(".")[0], 32)
    fragment = "".join(f"ld.global.b32 %a{i}, [%q3+{512 * i}];\n" for i in range(4))
    return f""".version 8.0
.target sm_90a
.address_size 64
.shared .align 1024 .b8 tile[65536];
.visible .entry k(.param .u64 x, .param .u64 d, .param .u64 f, .param .u64 da, .param .u64 db,
                  .param .u32 on) {{
    .reg .b32 %r<20>; .reg .b64 %q<9>; .reg .pred %p<5>; .reg .f32 %f<2>; .reg .b32 %a<4>;
    .reg .{register} %{base}<{count}>;
    mov.u32 %r1, %tid.x; ld.param.u64 %q1, [x]; ld.param.u64 %q2, [d]; ld.param.u64 %q3, [f];
    ld.param.u64 %q4, [da]; ld.param.u64 %q5, [db]; ld.param.u32 %r2, [on];
    setp.ne.u32 %p1, %r2, 0; mad.wide.u32 %q2, %r1, 4, %q2; mad.wide.u32 %q3, %r1, 4, %q3;
    mov.u32 %r3, tile; shl.b32 %r4, %r1, 4;
L:  cvt.u64.u32 %q6, %r4; add.u64 %q6, %q1, %q6; add.u32 %r9, %r3, %r4;
    ld.global.v4.b32 {{%r5, %r6, %r7, %r8}}, [%q6]; st.shared.v4.b32 [%r9], {{%r5, %r6, %r7, %r8}};
    add.u32 %r4, %r4, 2048; setp.lt.u32 %p2, %r4, 65536; @%p2 bra L;
    fence.proxy.async; bar.sync 0;
    {loads} {fragment}
    wgmma.fence.sync.aligned;
    wgmma.mma_async.sync.aligned.m64n{columns}k{depth}.{total}.{kinds}
        {{{names}}}, {a}, %q5, %p1{tail};
    wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;
    {stores} ret;
}}"""


def descriptor(start: int, leading: int, stride: int, span: int) -> int:
    """Returns a matrix descriptor (PTX ISA, "Matrix Descriptor Format")."""
    mode = {0: 0, 128: 1, 64: 2, 32: 3}[span]
    return start >> 4 | leading >> 4 << 16 | stride >> 4 << 32 | mode << 62


def lay(memory: Array, start: int, matrix: Array, span: int, across: bool) -> int:
    """Puts a matrix [rows, k] into memory element by element; returns its descriptor."""
    rows, depth = matrix.shape
    size = matrix.itemsize
    row = span or 16
    each = row // size
    leading, stride = (2048, 1024) if span else (256, 512)
    if across and span:
        stride, leading = 8 * row, 2 * 8 * row
    elif across:
        leading, stride = 128, 256
    elif span:
        stride = 8 * row
    for r in range(rows):
        for k in range(depth):
            if not across:
                at = r // 8 * stride + r % 8 * row + (k * size if span else 0)
                at += 0 if span else k * size // 16 * leading + k * size % 16
            elif span:
                at = r // each * leading + r % each * size + k // 8 * stride + k % 8 * row
            else:
                at = r // 8 * stride + r % 8 * size + k // 8 * leading + k % 8 * 16
            at += start
            if span:
                at ^= (at // 128 % (span // 16)) * 16
            memory[at : at + size] = matrix[r, k : k + 1].view("u1")
    return descriptor(start, leading, stride, span)


def accumulators(matrix: Array) -> Array:
    """Returns D as [registers, 128 threads]: the layout of wgmma's accumulator."""
    columns = matrix.shape[1]
    out = np.empty((columns // 2, 128), matrix.dtype)
    for j in range(columns // 2):
        for t in range(128):
            row = t // 32 * 16 + t % 32 // 4 + j // 2 % 2 * 8
            out[j, t] = matrix[row, j // 4 * 8 + t % 4 * 2 + j % 2]
    return out


def run(text: str, memory: Array, d: Array, fragment: Array, da: int, db: int, on: int) -> Array:
    """Runs a kernel of this file; returns the accumulators."""
    device = simulator.Device("all")
    x, y, f = device.array(memory), device.array(d), device.array(fragment)
    device.load(text)["k"].launch(1, 128, [x, y, f, da, db, on])
    return y.numpy()


EMPTY = np.zeros((4, 128), "u4")


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng()


def small(random: np.random.Generator, *shape: int) -> Array:
    """Returns whole numbers that every type here holds and whose products add up exactly."""
    return random.integers(-4, 5, shape).astype("f4")


@pytest.mark.parametrize("span", [0, 32, 64, 128])
@pytest.mark.parametrize("across", [(False, False), (True, False), (False, True), (True, True)])
def test_swizzles_and_majors(
    span: int, across: tuple[bool, bool], random: np.random.Generator
) -> None:
    a, b, c = small(random, 64, 16), small(random, 64, 16), small(random, 64, 64)
    memory = np.zeros(65536, "u1")
    da = lay(memory, 0, a.astype("f2"), span, across[0])
    db = lay(memory, PLACE_B, b.astype("f2"), span, across[1])
    tail = f", 1, 1, {int(across[0])}, {int(across[1])}"
    got = run(kernel(64, "f16.f16", "%q4", tail), memory, accumulators(c), EMPTY, da, db, 1)
    assert (got == accumulators(c + a @ b.T)).all()


@pytest.mark.parametrize("columns", [8, 24, 136, 256])
def test_widths_with_a_in_registers(columns: int, random: np.random.Generator) -> None:
    a, b = small(random, 64, 16), small(random, columns, 16)
    memory = np.zeros(65536, "u1")
    db = lay(memory, 0, b.astype("f2"), 32, False)
    fragment = np.empty((4, 128), "u4")
    words = np.ascontiguousarray(a.astype("f2")).view("u4")
    for i in range(4):
        for t in range(128):
            fragment[i, t] = words[t // 32 * 16 + t % 32 // 4 + i % 2 * 8, i // 2 * 4 + t % 4]
    text = kernel(columns, "f16.f16", "{%a0, %a1, %a2, %a3}", ", 1, 1, 0")
    start = accumulators(small(random, 64, columns))
    got = run(text, memory, start, fragment, 0, db, 0)
    assert (got == accumulators(a @ b.T)).all()


def bits(matrix: Array, kind: str) -> Array:
    """Returns small whole numbers in a type's bits."""
    word = matrix.astype("f4").view("u4")
    if kind == "bf16":
        return (word >> 16).astype("u2")
    if kind in ("tf32", "s8", "u8"):
        return word if kind == "tf32" else matrix.astype("i1").view("u1")
    mantissa, bias = (3, 7) if kind == "e4m3" else (2, 15)
    exponent = (word >> 23 & 255).astype("i4") - 127 + bias
    code = exponent << mantissa | (word >> (23 - mantissa) & ((1 << mantissa) - 1)).astype("i4")
    return (np.where(matrix == 0, 0, code) | (word >> 31).astype("i4") << 7).astype("u1")


@pytest.mark.parametrize(
    ("kinds", "total"),
    [
        ("bf16.bf16", "f32"),
        ("tf32.tf32", "f32"),
        ("e4m3.e4m3", "f32"),
        ("e5m2.e4m3", "f32"),
        ("s8.s8", "s32"),
        ("u8.s8", "s32"),
    ],
)
def test_types(kinds: str, total: str, random: np.random.Generator) -> None:
    left, right = kinds.split(".")
    depth = {"bf16": 16, "tf32": 8}.get(left, 32)
    a, b, c = small(random, 64, depth), small(random, 32, depth), small(random, 64, 32)
    a = abs(a) if left == "u8" else a
    memory = np.zeros(65536, "u1")
    da = lay(memory, 0, bits(a, left), 128, False)
    db = lay(memory, PLACE_B, bits(b, right), 64, False)
    tail = {"bf16": ", 1, 1, 0, 0", "s8": "", "u8": ""}.get(left, ", 1, 1")
    held = accumulators(c.astype("i4" if total == "s32" else "f4"))
    got = run(kernel(32, kinds, "%q4", tail, total), memory, held, EMPTY, da, db, 1)
    assert (got == accumulators(c + a @ b.T)).all()


def test_f16_accumulators_hold_two_columns_a_register(random: np.random.Generator) -> None:
    a, b, c = small(random, 64, 16), small(random, 32, 16), small(random, 64, 32)
    memory = np.zeros(65536, "u1")
    da, db = (lay(memory, at, m.astype("f2"), 128, False) for at, m in ((0, a), (PLACE_B, b)))

    def packed(matrix: Array) -> Array:
        halves = accumulators(matrix.astype("f2")).reshape(-1, 2, 128).transpose(0, 2, 1)
        return np.ascontiguousarray(halves).view("u4")[..., 0]

    text = kernel(32, "f16.f16", "%q4", ", 1, 1, 0, 0", "f16")
    got = run(text, memory, packed(c), EMPTY, da, db, 1)
    assert (got == packed(c + a @ b.T)).all()


def test_a_negative_scale_negates_the_product(random: np.random.Generator) -> None:
    a, b, c = small(random, 64, 16), small(random, 8, 16), small(random, 64, 8)
    memory = np.zeros(65536, "u1")
    da, db = (lay(memory, at, m.astype("f2"), 128, False) for at, m in ((0, a), (PLACE_B, b)))
    text = kernel(8, "f16.f16", "%q4", ", -1, 1, 0, 0")
    got = run(text, memory, accumulators(c), EMPTY, da, db, 1)
    assert (got == accumulators(c - a @ b.T)).all()


def test_a_descriptor_past_shared_memory_is_found() -> None:
    text = kernel(8, "f16.f16", "%q4", ", 1, 1, 0, 0")
    db = descriptor(65536 - 256, 0, 1024, 128)
    memory, held = np.zeros(65536, "u1"), np.zeros((4, 128), "f4")
    with pytest.raises(simulator.SimulationError) as raised:
        run(text, memory, held, EMPTY, descriptor(0, 0, 1024, 128), db, 1)
    assert raised.value.finding.kind == "bounds"


@pytest.mark.parametrize(
    ("kinds", "tail"), [("f16.bf16", ", 1, 1, 0, 0"), ("e4m3.s8", ", 1, 1"), ("f16.f16", ", 2, 1")]
)
def test_combinations_that_the_isa_lacks_are_refused(kinds: str, tail: str) -> None:
    with pytest.raises(simulator.PTXError):
        simulator.Device().load(kernel(8, kinds, "%q4", tail))
