"""wmma.load, wmma.mma and wmma.store against float64 and integer products."""

from typing import Any

import numpy as np
import pytest

from tilewright.runtime import simulator

SHAPES = [(16, 16, 16), (32, 8, 16), (8, 32, 16)]
# Type of A and B: NumPy dtype of an element in memory.
CODES = {
    **{"f16": "f2", "bf16": "u2", "tf32": "f4", "s8": "i1", "u8": "u1", "f32": "f4"},
    **{"s32": "i4", "f64": "f8"},
}
REGISTER = {"f32": "f32", "f64": "f64"}


def drawn(generator: Any, shape: tuple[int, int], kind: str) -> Any:
    """Returns small numbers that every type holds and whose products are exact."""
    low = 0 if kind[0] == "u" else -8
    return generator.integers(low, 9, shape).astype("f8")


def stored(values: Any, kind: str) -> Any:
    """Returns numbers as they lie in memory."""
    if kind == "bf16":
        return (values.astype("f4").view("u4") >> 16).astype("u2")
    return values.astype(CODES[kind])


def counts(m: int, n: int, k: int, kind: str, total: str) -> tuple[int, int, int]:
    """Returns the registers of A, B and C (PTX ISA, "Matrix Fragments for WMMA")."""
    if kind == "f16":
        return 8, 8, 4 if total == "f16" else 8
    bits = 8 * np.dtype(CODES[kind]).itemsize
    width = 64 if kind == "f64" else 32
    return m * k * bits // 32 // width, k * n * bits // 32 // width, m * n // 32


def kernel(
    shape: str, kind: str, total: str, ways: tuple[str, str, str], sizes: tuple[int, int, int]
) -> str:
    """Returns a kernel of one warp that loads A, B and C, multiplies and stores D."""
    names = [
        "{" + ", ".join(f"%{letter}{i}" for i in range(count)) + "}"
        for letter, count in zip("abc", sizes, strict=True)
    ]
    inner, last = REGISTER.get(kind, "b32"), REGISTER.get(total, "b32")
    types = f"{total}.{total}" if kind == "f16" else f"{total}.{kind}.{kind}.{total}"
    la, lb, lc = ways
    return f""".version 8.0
.target sm_90a
.address_size 64
.visible .entry k(.param .u64 x, .param .u64 y, .param .u64 z, .param .u32 s, .param .u32 t,
                  .param .u32 u) {{
    .reg .b64 %d<4>; .reg .b32 %r<4>; .reg .{inner} %a<9>, %b<9>; .reg .{last} %c<9>;
    ld.param.u64 %d0, [x]; ld.param.u64 %d1, [y]; ld.param.u64 %d2, [z];
    ld.param.u32 %r0, [s]; ld.param.u32 %r1, [t]; ld.param.u32 %r2, [u];
    wmma.load.a.sync.aligned.{la}.{shape}.global.{kind} {names[0]}, [%d0], %r0;
    wmma.load.b.sync.aligned.{lb}.{shape}.{kind} {names[1]}, [%d1], %r1;
    wmma.load.c.sync.aligned.{lc}.{shape}.global.{total} {names[2]}, [%d2], %r2;
    wmma.mma.sync.aligned.{la}.{lb}.{shape}.{types} {names[2]}, {names[0]}, {names[1]}, {names[2]};
    wmma.store.d.sync.aligned.{lc}.{shape}.global.{total} [%d2], {names[2]}, %r2;
    ret;
}}"""


CASES = [
    *[(shape, kind, total) for shape in SHAPES
      for kind, total in (("f16", "f32"), ("f16", "f16"), ("bf16", "f32"), ("s8", "s32"),
                          ("u8", "s32"))],
    ((16, 16, 8), "tf32", "f32"), ((8, 8, 4), "f64", "f64"),
]  # fmt: skip


@pytest.mark.parametrize("ways", [("row", "col", "row"), ("col", "row", "col")])
@pytest.mark.parametrize(("extents", "kind", "total"), CASES)
def test_wmma_multiplies_matrices_in_memory(
    extents: tuple[int, int, int], kind: str, total: str, ways: tuple[str, str, str]
) -> None:
    m, n, k = extents
    generator = np.random.default_rng(m + k)
    matrices = [drawn(generator, s, kind) for s in ((m, k), (k, n))]
    matrices.append(drawn(generator, (m, n), total))
    device = simulator.Device("all")
    buffers: list[Any] = []
    strides: list[int] = []
    for values, way, type in zip(matrices, ways, (kind, kind, total), strict=True):
        inside = values if way == "row" else values.T
        padded = np.zeros((inside.shape[0], inside.shape[1] + 16))
        padded[:, : inside.shape[1]] = inside
        buffers.append(device.array(stored(padded, type)))
        strides.append(padded.shape[1])
    shape = f"m{m}n{n}k{k}"
    text = kernel(shape, kind, total, ways, counts(m, n, k, kind, total))
    device.load(text)["k"].launch(1, 32, [*buffers, *strides])
    got = buffers[2].numpy()
    got = got if ways[2] == "row" else got.T
    want = matrices[0] @ matrices[1] + matrices[2]
    assert (got[:m, :n].astype("f8") == want).all()


SMALL = """.version 8.0
.target sm_80
.address_size 64
.visible .entry k(.param .u64 x, .param .u64 y, .param .u64 z, .param .u64 v) {
    .reg .b64 %d<5>; .reg .b32 %r<9>;
    ld.param.u64 %d0, [x]; ld.param.u64 %d1, [y]; ld.param.u64 %d2, [z]; ld.param.u64 %d3, [v];
    wmma.load.a.sync.aligned.row.SHAPE.TYPE {%r0}, [%d0];
    wmma.load.b.sync.aligned.col.SHAPE.TYPE {%r1}, [%d1];
    wmma.load.c.sync.aligned.row.SHAPE.s32 {%r2, %r3}, [%d2];
    MULTIPLY {%r4, %r5}, {%r0}, {%r1}, {%r2, %r3};
    wmma.store.d.sync.aligned.row.SHAPE.s32 [%d3], {%r4, %r5}; ret;
}"""


def nibbles(rows: Any, signed: bool) -> Any:
    """Returns the 4-bit integers of rows of bytes, the lower half of each byte first."""
    parts = np.stack([rows & 15, rows >> 4], -1).reshape(rows.shape[0], -1).astype("i8")
    return parts - 16 * (parts > 7) if signed else parts


@pytest.mark.parametrize(
    ("shape", "kind", "operation", "suffix"),
    [
        ("m8n8k32", "s4", "", ".s32.s4.s4.s32"),
        ("m8n8k32", "u4", "", ".s32.u4.u4.s32.satfinite"),
        ("m8n8k128", "b1", "xor.popc.", ".s32.b1.b1.s32"),
        ("m8n8k128", "b1", "and.popc.", ".s32.b1.b1.s32"),
    ],
    ids=["s4", "u4", "xor", "and"],
)
def test_small_integers_and_bits_multiply_exactly(
    shape: str, kind: str, operation: str, suffix: str
) -> None:
    generator = np.random.default_rng(3)
    a, b = (generator.integers(0, 1 << 32, (8, 4), dtype="u4") for _ in range(2))
    start = generator.integers(-99, 99, (8, 8), dtype="i4")
    if kind == "b1":
        x, y = (np.unpackbits(m.view("u1"), axis=-1).astype("i8") for m in (a, b))
    else:
        x, y = (nibbles(m.view("u1"), kind == "s4") for m in (a, b))
    product = (x[:, None] ^ y).sum(-1) if operation == "xor.popc." else x @ y.T
    multiply = f"wmma.mma.{operation}sync.aligned.row.col.{shape}{suffix}"
    device = simulator.Device("all")
    out = device.empty((8, 8), "i32")
    text = SMALL.replace("SHAPE", shape).replace("TYPE", kind).replace("MULTIPLY", multiply)
    arguments = [device.array(a), device.array(b), device.array(start), out]
    device.load(text)["k"].launch(1, 32, arguments)
    assert (out.numpy() == product + start).all()


def test_wmma_adds_elementwise_work_on_fragments() -> None:
    """What a program does to every register of a fragment does not depend on the layout."""
    generator = np.random.default_rng(4)
    values = drawn(generator, (16, 16), "f32")
    text = """.version 8.0
.target sm_80
.address_size 64
.shared .align 32 .b8 tile[1024];
.visible .entry k(.param .u64 x) {
    .reg .b64 %d<5>; .reg .b32 %r<9>; .reg .f32 %f<9>;
    ld.param.u64 %d0, [x]; mov.u32 %r1, tile;
    wmma.load.c.sync.aligned.row.m16n16k16.global.f32 {%f0,%f1,%f2,%f3,%f4,%f5,%f6,%f7}, [%d0];
    add.f32 %f0, %f0, 0f3F800000; add.f32 %f1, %f1, 0f3F800000; add.f32 %f2, %f2, 0f3F800000;
    add.f32 %f3, %f3, 0f3F800000; add.f32 %f4, %f4, 0f3F800000; add.f32 %f5, %f5, 0f3F800000;
    add.f32 %f6, %f6, 0f3F800000; add.f32 %f7, %f7, 0f3F800000;
    wmma.store.d.sync.aligned.col.m16n16k16.shared.f32 [%r1], {%f0,%f1,%f2,%f3,%f4,%f5,%f6,%f7};
    bar.warp.sync -1;
    wmma.load.c.sync.aligned.row.m16n16k16.shared.f32 {%f0,%f1,%f2,%f3,%f4,%f5,%f6,%f7}, [%r1];
    wmma.store.d.sync.aligned.row.m16n16k16.global.f32 [%d0], {%f0,%f1,%f2,%f3,%f4,%f5,%f6,%f7};
    ret;
}"""
    device = simulator.Device("all")
    buffer = device.array(values.astype("f4"))
    device.load(text)["k"].launch(1, 32, [buffer])
    assert (buffer.numpy() == values.T + 1).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wmma.load.a.sync.aligned.row.m16n16k8.global.f16 {%r1}, [%d1];", "no fragment of .f16"),
        ("wmma.load.a.sync.aligned.row.m16n16k16.bf16 {%r1, %r2}, [%d1];", "vector of 4 registers"),
        ("wmma.load.b.sync.aligned.row.m8n8k32.s4 {%r1}, [%d1];", "no .row fragment of .s4"),
    ],
)
def test_fragments_that_the_isa_does_not_have_are_refused(text: str, message: str) -> None:
    source = f""".version 8.0
.target sm_80
.address_size 64
.visible .entry k() {{ .reg .b64 %d<5>; .reg .b32 %r<9>; {text} ret; }}"""
    with pytest.raises(simulator.PTXError, match=message):
        simulator.Device().load(source)["k"]
