"""ldmatrix, stmatrix and mma.sync against float64 products, by the layouts of the PTX ISA."""

from typing import Any

import numpy as np
import pytest

from tilewright.runtime import simulator

HEAD = ".version 8.0\n.target sm_90a\n.address_size 64\n"
LANE = np.arange(32)
ROW, PAIR = LANE // 4, LANE % 4


def bits_of(values: Any, kind: str) -> Any:
    """Returns float32 values, exact in a format, as bits of its width."""
    if kind == "f16":
        return values.astype("f2").view("u2")
    word = values.astype("f4").view("u4")
    return (word >> 16).astype("u2") if kind == "bf16" else word


def numbers(generator: Any, shape: tuple[int, ...]) -> Any:
    """Returns numbers with 7 significant bits: exact in every format, with exact products."""
    return (generator.integers(-127, 128, shape) / 64.0).astype("f4")


def fragment(matrix: Any, kind: str) -> Any:
    """Returns an 8-row block [8, 8 or 4] as the 32-bit register of each lane."""
    if kind == "tf32":
        return bits_of(matrix, kind)[ROW, PAIR]
    halves = bits_of(matrix, kind).astype("u4")
    return halves[ROW, 2 * PAIR] | halves[ROW, 2 * PAIR + 1] << 16


def blocks(matrix: Any, order: list[tuple[int, int]], kind: str) -> Any:
    """Returns registers [number, 32] of the blocks at (row, column) in some order."""
    width = 4 if kind == "tf32" else 8
    return np.array(
        [fragment(matrix[8 * r : 8 * r + 8, width * c : width * c + width], kind) for r, c in order]
    )


SHAPES = [
    ("m16n8k16", "f16", 16),
    ("m16n8k16", "bf16", 16),
    ("m16n8k8", "f16", 8),
    ("m16n8k8", "bf16", 8),
    ("m16n8k8", "tf32", 8),
    ("m16n8k4", "tf32", 4),
]


def product_kernel(shape: str, kind: str, total: str, left: int, right: int, count: int) -> str:
    """Returns a kernel that loads A, B, C registers of each thread, multiplies, stores D."""
    registers = left + right + count
    lines = [HEAD, ".visible .entry k(.param .u64 x, .param .u64 y) {"]
    lines += [".reg .b32 %r<20>, %a<20>; .reg .b64 %d<4>; .reg .f32 %f<20>; mov.u32 %r1, %tid.x;"]
    lines += ["ld.param.u64 %d1, [x]; ld.param.u64 %d2, [y];"]
    lines += [
        f"mad.wide.u32 %d1, %r1, {4 * registers}, %d1; mad.wide.u32 %d2, %r1, {4 * count}, %d2;"
    ]
    lines += [f"ld.global.b32 %a{i}, [%d1+{4 * i}];" for i in range(left + right)]
    c = [f"%f{i}" if total == "f32" else f"%r{i + 2}" for i in range(count)]
    for i, name in enumerate(c):
        lines.append(f"ld.global.b32 {name}, [%d1+{4 * (left + right + i)}];")
    a = ", ".join(f"%a{i}" for i in range(left))
    b = ", ".join(f"%a{left + i}" for i in range(right))
    accumulators = "{" + ", ".join(c) + "}"
    lines.append(
        f"mma.sync.aligned.{shape}.row.col.{total}.{kind}.{kind}.{total} {accumulators}, "
        f"{{{a}}}, {{{b}}}, {accumulators};"
    )
    lines += [f"st.global.b32 [%d2+{4 * i}], {name};" for i, name in enumerate(c)]
    return "\n".join([*lines, "ret; }"])


@pytest.mark.parametrize(("shape", "kind", "k"), SHAPES)
def test_mma_multiplies_by_the_layout(shape: str, kind: str, k: int) -> None:
    generator = np.random.default_rng(k)
    width = 4 if kind == "tf32" else 8
    steps = range(k // width)
    inputs: list[Any] = []
    wants: list[Any] = []
    for _ in range(3):
        a, b, c = (
            numbers(generator, (16, k)),
            numbers(generator, (k, 8)),
            numbers(generator, (16, 8)),
        )
        wants.append(a.astype("f8") @ b.astype("f8") + c)
        left = blocks(a, [(h, j) for j in steps for h in (0, 1)], kind)
        right = blocks(np.ascontiguousarray(b.T), [(0, j) for j in steps], kind)
        start = np.array([c[ROW + 8 * (i // 2), 2 * PAIR + i % 2] for i in range(4)])
        inputs.append(np.concatenate([left, right, start.view("u4")]).T)
    device = simulator.Device()
    x = device.array(np.concatenate(inputs).astype("u4"))
    y = device.empty((96, 4), "f32")
    text = product_kernel(shape, kind, "f32", 2 * len(steps), len(steps), 4)
    device.load(text)["k"].launch(1, 96, [x, y])
    for want, got in zip(wants, y.numpy().reshape(3, 32, 4), strict=True):
        for i in range(4):
            assert (got[:, i] == want[ROW + 8 * (i // 2), 2 * PAIR + i % 2]).all()


def test_mma_with_f16_accumulators() -> None:
    generator = np.random.default_rng(5)
    a, b, c = (numbers(generator, s) / 8 for s in ((16, 16), (16, 8), (16, 8)))
    want = (a.astype("f8") @ b.astype("f8") + c).astype("f2")
    left = blocks(a, [(0, 0), (1, 0), (0, 1), (1, 1)], "f16")
    right = blocks(np.ascontiguousarray(b.T), [(0, 0), (0, 1)], "f16")
    start = blocks(c, [(0, 0), (1, 0)], "f16")
    device = simulator.Device()
    x = device.array(np.concatenate([left, right, start]).T.astype("u4"))
    y = device.empty((32, 2), "u32")
    device.load(product_kernel("m16n8k16", "f16", "f16", 4, 2, 2))["k"].launch(1, 32, [x, y])
    assert (y.numpy().T == blocks(want.astype("f4"), [(0, 0), (1, 0)], "f16")).all()


def tile_kernel(load: str, count: int, operation: str = "") -> str:
    """Returns a kernel that fills 32 rows of 16 bytes a warp and loads matrices from them."""
    names = ", ".join(f"%r{10 + i}" for i in range(count))
    return f"""{HEAD}.shared .align 16 .b8 tile[1024];
.visible .entry k(.param .u64 x, .param .u64 y) {{
    .reg .b32 %r<40>; .reg .b64 %d<4>; .reg .pred %p<3>;
    mov.u32 %r1, %tid.x; ld.param.u64 %d1, [x]; ld.param.u64 %d2, [y];
    mad.wide.u32 %d1, %r1, 16, %d1; mad.wide.u32 %d2, %r1, {4 * count}, %d2;
    mov.u32 %r2, tile; mad.lo.u32 %r3, %r1, 16, %r2;
    ld.global.v4.b32 {{%r4, %r5, %r6, %r7}}, [%d1]; st.shared.v4.b32 [%r3], {{%r4, %r5, %r6, %r7}};
    bar.sync 0; {operation}
    {load} {{{names}}}, [%r3];
    {" ".join(f"st.global.b32 [%d2+{4 * i}], %r{10 + i};" for i in range(count))} ret;
}}"""


@pytest.mark.parametrize("trans", [False, True])
@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("same", [False, True])
def test_ldmatrix_distributes_rows(count: int, trans: bool, same: bool) -> None:
    """With `same` all warps load one tile, which the simulator does once."""
    load = f"ldmatrix.sync.aligned.m8n8.x{count}{'.trans' if trans else ''}.shared.b16"
    operation = "and.b32 %r30, %r1, 31; mad.lo.u32 %r3, %r30, 16, %r2;" if same else ""
    rows = np.random.default_rng(6).integers(0, 1 << 16, (64, 8), dtype="u2")
    device = simulator.Device("all")
    x, y = device.array(rows), device.empty((64, count), "u32")
    device.load(tile_kernel(load, count, operation))["k"].launch(1, 64, [x, y])
    got = y.numpy()
    for warp in range(2):
        for i in range(count):
            first = (0 if same else 32 * warp) + 8 * i
            block = rows[first : first + 8]
            block = (block.T if trans else block).astype("u4")
            want = block[ROW, 2 * PAIR] | block[ROW, 2 * PAIR + 1] << 16
            assert (got[32 * warp : 32 * warp + 32, i] == want).all()


@pytest.mark.parametrize("trans", ["", ".trans"])
def test_stmatrix_is_the_inverse_of_ldmatrix(trans: str) -> None:
    load = f"ldmatrix.sync.aligned.m8n8.x4{trans}.shared.b16"
    store = load.replace("ldmatrix", "stmatrix")
    text = tile_kernel(load, 4).replace(
        "st.global.b32 [%d2+0], %r10;",
        f"{store} [%r3], {{%r10, %r11, %r12, %r13}}; bar.sync 0;"
        "ld.shared.v4.b32 {%r10, %r11, %r12, %r13}, [%r3]; st.global.b32 [%d2+0], %r10;",
    )
    rows = np.random.default_rng(7).integers(0, 1 << 16, (64, 8), dtype="u2")
    device = simulator.Device()
    x, y = device.array(rows), device.empty((64, 4), "u32")
    device.load(text)["k"].launch(1, 64, [x, y])
    assert (y.numpy() == rows.view("u4")).all()


def test_ldmatrix_rows_must_be_aligned() -> None:
    load = "add.u32 %r3, %r3, 8; ldmatrix.sync.aligned.m8n8.x1.shared.b16"
    device = simulator.Device()
    x, y = device.empty((64, 8), "u16"), device.empty((64, 1), "u32")
    with pytest.raises(simulator.SimulationError) as raised:
        device.load(tile_kernel(load, 1))["k"].launch(1, 64, [x, y])
    assert raised.value.finding.kind == "alignment"


def test_mma_without_all_lanes_is_refused() -> None:
    text = product_kernel("m16n8k16", "bf16", "f32", 4, 2, 4).replace(
        "mma.sync", ".reg .pred %p1; setp.eq.u32 %p1, %r1, 3; @%p1 exit; mma.sync"
    )
    device = simulator.Device()
    x, y = device.empty((32, 10), "u32"), device.empty((32, 4), "f32")
    with pytest.raises(simulator.SimulationError, match="all 32 lanes"):
        device.load(text)["k"].launch(1, 32, [x, y])


def test_an_intermediate_accumulator_can_be_read() -> None:
    """The first of two chained mma is stored as well as added to."""
    text = product_kernel("m16n8k16", "bf16", "f32", 4, 2, 4)
    first = text.index("mma.sync")
    line = text[first : text.index(";", first) + 1]
    copies = "".join(f"mov.b32 %f{i + 8}, %f{i};" for i in range(4))
    adds = "".join(f"sub.f32 %f{i}, %f{i}, %f{i + 8};" for i in range(4))
    text = text.replace(line, f"{line} {copies} {line} {adds}")
    generator = np.random.default_rng(8)
    a, b, c = (numbers(generator, s) for s in ((16, 16), (16, 8), (16, 8)))
    left = blocks(a, [(0, 0), (1, 0), (0, 1), (1, 1)], "bf16")
    right = blocks(np.ascontiguousarray(b.T), [(0, 0), (0, 1)], "bf16")
    start = np.array([c[ROW + 8 * (i // 2), 2 * PAIR + i % 2] for i in range(4)]).view("u4")
    device = simulator.Device()
    x = device.array(np.concatenate([left, right, start]).T.astype("u4"))
    y = device.empty((32, 4), "f32")
    device.load(text)["k"].launch(1, 32, [x, y])
    want = a.astype("f8") @ b.astype("f8")
    for i in range(4):
        assert (y.numpy()[:, i] == want[ROW + 8 * (i // 2), 2 * PAIR + i % 2]).all()


def attention(q: Any, k: Any, v: Any) -> Any:
    """Returns softmax(q k^T / sqrt(d)) v in float64."""
    scores = np.einsum("hqd,hkd->hqk", q, k) / np.sqrt(q.shape[-1])
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ v


def test_the_attention_kernel_of_the_corpus_is_right(corpus: Any) -> None:
    generator = np.random.default_rng(9)
    shape = (2, 192, 128)
    words = [generator.standard_normal(shape).astype("f4").view("u4") >> 16 for _ in range(3)]
    values = [(word << 16).view("f4").astype("f8") for word in words]
    device = simulator.Device("all")
    buffers = [device.array(word.astype("u2"), "bf16") for word in words]
    out = device.empty(shape, "bf16")
    kernel = device.load(corpus("attention.ptx"))["attention"]
    scale = float(np.log2(np.e) / np.sqrt(128))
    kernel.launch((3, 2), 128, [*buffers, out, 192, scale], shared_bytes=5 * 64 * 256)
    want = attention(*values)
    got = (out.numpy().astype("u4") << 16).view("f4")
    assert np.linalg.norm(got - want) <= 5e-3 * np.linalg.norm(want)
