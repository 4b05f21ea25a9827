"""mma.sync of 8-bit floats, integers, bits and f64 against exact products."""

from typing import Any

import numpy as np
import pytest

from tilewright.runtime import simulator

LANE = np.arange(32)
ROW, PAIR = LANE // 4, LANE % 4
BITS = {"s8": 8, "u8": 8, "s4": 4, "u4": 4, "b1": 1, "e4m3": 8, "e5m2": 8}


def packed(codes: Any, bits: int) -> Any:
    """Returns codes [rows, k] as 32-bit words [rows, k * bits / 32], the lowest bits first."""
    each = 32 // bits
    shifted = codes.astype("u8").reshape(codes.shape[0], -1, each) << (
        np.arange(each, dtype="u8") * np.uint64(bits)
    )
    return np.bitwise_or.reduce(shifted, axis=-1).astype("u4")


def registers(words: Any, halves: int) -> Any:
    """Returns words [rows, k] as registers [number, 32]: halves of rows vary first, then of k."""
    steps = words.shape[1] // 4
    return np.array([words[8 * h + ROW, 4 * s + PAIR] for s in range(steps) for h in range(halves)])


def value_of(code: int, kind: str) -> float:
    """Returns the number that an 8-bit float stands for (OCP OFP8)."""
    fraction, bias = (3, 7) if kind == "e4m3" else (2, 15)
    sign = -1.0 if code & 0x80 else 1.0
    exponent, rest = (code & 0x7F) >> fraction, code & (1 << fraction) - 1
    if exponent:
        return sign * (1 + rest / (1 << fraction)) * 2.0 ** (exponent - bias)
    return sign * rest / (1 << fraction) * 2.0 ** (1 - bias)


def number(codes: Any, kind: str) -> Any:
    """Returns what codes stand for."""
    if kind in ("s8", "s4"):
        top = 1 << BITS[kind] - 1
        values = codes.astype("i8")
        return values - 2 * top * (values >= top)
    if kind in ("e4m3", "e5m2"):
        return np.array([value_of(c, kind) for c in codes.reshape(-1).tolist()]).reshape(
            codes.shape
        )
    return codes.astype("i8")


def run(opcode: str, inputs: list[Any], code: str, outputs: int) -> Any:
    """Runs one mma.sync of a warp: the registers of A, B and C in lists [number, 32]."""
    names = ["abc"[i] for i in range(3)]
    lists = [
        "{" + ", ".join(f"%{n}{i}" for i in range(len(x))) + "}" for n, x in zip(names, inputs)
    ]
    size = {"b32": 4, "f32": 4, "f64": 8}
    kinds = ["f64" if code == "f64" else "b32"] * 2 + [code]
    lines = [".version 8.7\n.target sm_90a\n.address_size 64\n.visible .entry k(.param .u64 x,"]
    lines += [".param .u64 y) { .reg .b64 %d<4>; .reg .b32 %r<4>; mov.u32 %r1, %tid.x;"]
    lines += [f".reg .{t} %{n}<9>;" for n, t in zip(names, kinds)]
    lines += ["ld.param.u64 %d1, [x]; ld.param.u64 %d2, [y];"]
    width = size[code]
    lines += [f"mad.wide.u32 %d1, %r1, {width}, %d1; mad.wide.u32 %d2, %r1, {width}, %d2;"]
    at = 0
    for n, kind, x in zip(names, kinds, inputs):
        for i in range(len(x)):
            lines.append(f"ld.global.{kind} %{n}{i}, [%d1+{at}];")
            at += 32 * width
    lines.append(f"{opcode} {lists[2]}, {lists[0]}, {lists[1]}, {lists[2]};")
    lines += [f"st.global.{code} [%d2+{32 * width * i}], %c{i};" for i in range(outputs)]
    device = simulator.Device("all")
    flat = np.concatenate([np.asarray(x).reshape(len(x), 32) for x in inputs])
    x, y = device.array(flat), device.array(np.zeros((outputs, 32), f"u{width}"))
    device.load("\n".join([*lines, "ret; }"]))["k"].launch(1, 32, [x, y])
    return y.numpy()


def accumulators(c: Any) -> Any:
    """Returns C [rows, 8] as registers of 32 bits [number, 32]."""
    return np.array([c[8 * (i // 2) + ROW, 2 * PAIR + i % 2] for i in range(c.shape[0] // 4)])


INTEGERS = [
    *[(shape, a, b) for shape in ("m8n8k16", "m16n8k16", "m16n8k32")
      for a, b in (("s8", "s8"), ("u8", "s8"), ("s8", "u8"), ("u8", "u8"))],
    *[(shape, a, b) for shape in ("m8n8k32", "m16n8k32", "m16n8k64")
      for a, b in (("s4", "s4"), ("u4", "s4"), ("s4", "u4"), ("u4", "u4"))],
]  # fmt: skip


@pytest.mark.parametrize("saturated", [False, True])
@pytest.mark.parametrize(("shape", "left", "right"), INTEGERS)
def test_integers_multiply_exactly(shape: str, left: str, right: str, saturated: bool) -> None:
    m, k = int(shape[1:].split("n")[0]), int(shape.split("k")[1])
    generator = np.random.default_rng(k)
    a, b = (generator.integers(0, 1 << BITS[t], (n, k)) for t, n in ((left, m), (right, 8)))
    c = generator.integers(-(1 << 31), 1 << 31, (m, 8)).astype("i4")
    c[:, :2], c[:, 2:4] = (1 << 31) - 1, -(1 << 31)
    total = number(a, left) @ number(b, right).T + c
    limit = np.clip(total, -(1 << 31), (1 << 31) - 1) if saturated else total
    start = accumulators(c.view("u4"))
    flag = ".satfinite" if saturated else ""
    opcode = f"mma.sync.aligned.{shape}.row.col{flag}.s32.{left}.{right}.s32"
    inputs = [registers(packed(a, BITS[left]), m // 8), registers(packed(b, BITS[right]), 1), start]
    got = run(opcode, inputs, "b32", len(start))
    assert (got == accumulators(limit.astype("i4").view("u4"))).all()


@pytest.mark.parametrize("operation", ["xor", "and"])
@pytest.mark.parametrize("shape", ["m8n8k128", "m16n8k128", "m16n8k256"])
def test_bits_are_counted(shape: str, operation: str) -> None:
    m, k = int(shape[1:].split("n")[0]), int(shape.split("k")[1])
    generator = np.random.default_rng(k + m)
    a, b = (generator.integers(0, 2, (n, k)) for n in (m, 8))
    c = generator.integers(0, 99, (m, 8)).astype("u4")
    function = np.bitwise_xor if operation == "xor" else np.bitwise_and
    want = function(a[:, None], b[None]).sum(-1).astype("u4") + c
    opcode = f"mma.sync.aligned.{shape}.row.col.s32.b1.b1.s32.{operation}.popc"
    start = accumulators(c)
    inputs = [registers(packed(a, 1), m // 8), registers(packed(b, 1), 1), start]
    assert (run(opcode, inputs, "b32", len(start)) == accumulators(want)).all()


@pytest.mark.parametrize("total", ["f32", "f16"])
@pytest.mark.parametrize(("left", "right"), [("e4m3", "e5m2"), ("e5m2", "e5m2"), ("e4m3", "e4m3")])
@pytest.mark.parametrize("k", [16, 32])
def test_eight_bit_floats_multiply(k: int, left: str, right: str, total: str) -> None:
    generator = np.random.default_rng(k)
    # Codes around 1, of either sign: every sum of products is exact in both accumulators.
    a, b = (generator.integers(0, 4, (n, k)) * 4 + base for n, base in ((16, 0x30), (8, 0x30)))
    a, b = (
        np.where(t == "e5m2", 0x38 + x % 8, x) | generator.integers(0, 2, x.shape) << 7
        for x, t in ((a, left), (b, right))
    )
    c = generator.integers(-8, 9, (16, 8)).astype("f4")
    want = number(a, left) @ number(b, right).T + c
    if total == "f32":
        start, expected = accumulators(c.view("u4")), accumulators(want.astype("f4").view("u4"))
    else:
        start, expected = (
            np.array([x.astype("f2").view("u4")[8 * h + ROW, PAIR] for h in (0, 1)])
            for x in (c, want)
        )
    opcode = f"mma.sync.aligned.m16n8k{k}.row.col.{total}.{left}.{right}.{total}"
    inputs = [registers(packed(a, 8), 2), registers(packed(b, 8), 1), start]
    assert (run(opcode, inputs, "f32" if total == "f32" else "b32", len(start)) == expected).all()


@pytest.mark.parametrize("shape", ["m8n8k4", "m16n8k4", "m16n8k8", "m16n8k16"])
def test_doubles_multiply(shape: str) -> None:
    m, k = int(shape[1:].split("n")[0]), int(shape.split("k")[1])
    generator = np.random.default_rng(k + m)
    a, b, c = (generator.integers(-9999, 9999, s) / 64 for s in ((m, k), (8, k), (m, 8)))
    want = a @ b.T + c
    inputs = [registers(a, m // 8), registers(b, 1), accumulators(c)]
    got = run(f"mma.sync.aligned.{shape}.row.col.f64.f64.f64.f64", inputs, "f64", m // 4)
    assert (got.view("f8") == accumulators(want)).all()


@pytest.mark.parametrize(
    ("opcode", "message"),
    [
        ("mma.sp.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", "sparse"),
        ("mma.sync.aligned.m8n8k4.row.col.f32.f16.f16.f32", "sm_70"),
        ("mma.sync.aligned.m16n8k16.row.col.s32.s8.s4.s32", "no such shape or types"),
        ("mma.sync.aligned.m16n8k16.row.col.f32.f16.bf16.f32", "no such shape or types"),
        ("mma.sync.aligned.m16n8k16.row.col.f16.bf16.bf16.f16", "f16 accumulators"),
    ],
)
def test_other_products_are_refused(opcode: str, message: str) -> None:
    text = f""".version 8.0
.target sm_80
.address_size 64
.visible .entry k() {{ .reg .b32 %r<9>; {opcode} {{%r1}}, {{%r1}}, {{%r1}}, {{%r1}}; ret; }}"""
    with pytest.raises(simulator.PTXError, match=message):
        simulator.Device().load(text)["k"]
