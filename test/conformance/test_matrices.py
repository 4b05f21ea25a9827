"""What products mean: NumPy over the fragments and matrix descriptors that the PTX ISA shows."""

import re
from typing import Any

import ml_dtypes
import numpy as np
from variants import Variant
from variants.variant import Array
from variants.warpgroups import PLACE_B, strides

from .conftest import Check

LANE = np.arange(32)
QUAD, PAIR = LANE // 4, LANE % 4
BITS = {
    **{"f16": 16, "bf16": 16, "tf32": 32, "e4m3": 8, "e5m2": 8, "f64": 64, "f32": 32},
    **{"s8": 8, "u8": 8, "s4": 4, "u4": 4, "b1": 1, "s32": 32},
}
DTYPES: dict[str, Any] = {
    "f16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "tf32": np.float32,
    "f32": np.float32,
    "f64": np.float64,
    "e4m3": ml_dtypes.float8_e4m3fn,
    "e5m2": ml_dtypes.float8_e5m2,
}


def numbers(raw: Array, kind: str) -> Array:
    """Returns what bytes stand for: f64 for floats, i64 for integers and bits."""
    flat = np.ascontiguousarray(raw).reshape(-1).view("u1")
    if kind in DTYPES:
        return flat.view(DTYPES[kind]).astype("f8")
    if BITS[kind] < 8:
        bits = np.unpackbits(flat, bitorder="little").reshape(-1, BITS[kind])
        flat = np.packbits(bits, axis=1, bitorder="little")[:, 0]
    if kind == "s4":
        return ((flat.astype("i8") ^ 8) - 8).astype("i8")
    return flat.view({"s8": "i1", "s32": "i4"}.get(kind, "u1")).astype("i8")


def product(a: Array, b: Array, operation: str) -> Array:
    """Returns A B for A [m, k] and B [n, k], or the bits that xor or and leave, counted."""
    if operation:
        function = np.bitwise_xor if operation == "xor" else np.bitwise_and
        return function(a[:, None], b[None]).sum(-1)
    return a @ b.T


def encoded(values: Array, kind: str, saturated: bool = False) -> Array:
    """Returns results rounded once to a type, or integers wrapped or clamped to 32 bits."""
    if kind == "s32":
        limit = np.clip(values, -(1 << 31), (1 << 31) - 1) if saturated else values
        return limit.astype("i8").astype("u8").astype("u4")
    return values.astype(DTYPES[kind])


def rows(registers: Array, halves: int) -> Array:
    """
    Returns operands in registers [number, 32, elements] as [8 * halves, k].

    Lane 4r+c has neighbours along k of row r; registers go over blocks of 8 rows, then along k.
    """
    count, _, each = registers.shape
    out = np.zeros((8 * halves, count // halves * 4 * each), registers.dtype)
    for number in range(count):
        for element in range(each):
            column = number // halves * 4 * each + PAIR * each + element
            out[QUAD + 8 * (number % halves), column] = registers[number, :, element]
    return out


def accumulators(m: int, total: str) -> tuple[Array, Array]:
    """Returns row and column of the results of a warp, as they lie in its registers."""
    pairs = total == "f16"
    number = np.arange(m // (8 if pairs else 4))[:, None, None]
    element = np.arange(2 if pairs else 1)
    half = number if pairs else number // 2
    second = element if pairs else number % 2
    shape = (number.size, 32, element.size)
    row = np.broadcast_to(8 * half + QUAD[:, None], shape)
    return row, np.broadcast_to(2 * PAIR[:, None] + second, shape)


def mma(variant: Variant, inputs: list[Array]) -> Array:
    opcode = variant.name.partition(" ")[0]
    found = re.search(r"m(\d+)n8k(\d+)\.row\.col\.?(satfinite)?\.(\w+)\.(\w+)\.(\w+)", opcode)
    assert found
    m, saturated, total, left, right = int(found[1]), bool(found[3]), found[4], found[5], found[6]
    halves = m // 8
    each = max(1, 32 // BITS[left])
    a = rows(numbers(inputs[0], left).reshape(-1, 32, each), halves)
    b = rows(numbers(inputs[1], right).reshape(-1, 32, each), 1)
    row, column = accumulators(m, total)
    operation = opcode.split(".")[-2] if left == "b1" else ""
    sums = product(a, b, operation)[row, column]
    return encoded(sums + numbers(inputs[2], total).reshape(row.shape), total, saturated)


def test_mma(wrong: Check) -> None:
    assert wrong("mma", mma) == {}


def test_wmma(wrong: Check) -> None:
    def meaning(variant: Variant, inputs: list[Array]) -> Array:
        _, shape, first, second, total, kind, *more = variant.name.split(".")
        m, n, k = (int(part) for part in re.findall(r"\d+", shape))
        a, b = numbers(inputs[0], kind), numbers(inputs[1], kind)
        a = a.reshape(m, k) if first == "row" else a.reshape(k, m).T
        b = b.reshape(k, n).T if second == "row" else b.reshape(n, k)
        sums = product(a, b, more[0] if more else "")
        return encoded(sums + numbers(inputs[2], total).reshape(m, n), total)

    assert wrong("wmma", meaning) == {}


def matrix(memory: Array, kind: str, extents: tuple[int, int], span: int, across: bool) -> Array:
    """Returns the matrix [rows, k] that a descriptor names (PTX ISA, "Shared Memory Layout")."""
    leading, stride = strides(span, across)
    size = BITS[kind] // 8
    row, k = np.meshgrid(*map(np.arange, extents), indexing="ij")
    if not across:
        inner = row % 8 * (span or 16) + (k * size if span else k * size % 16)
        at = row // 8 * stride + inner + (0 if span else k * size // 16 * leading)
    elif span:
        each = span // size
        at = row // each * leading + row % each * size + k // 8 * stride + k % 8 * span
    else:
        at = row // 8 * stride + row % 8 * size + k // 8 * leading + k % 8 * 16
    if span:
        at = at ^ at // 128 % (span // 16) * 16
    return memory[at[..., None] + np.arange(size)]


NAME = re.compile(
    r"m64n(?P<n>\d+)k(?P<k>\d+)(?P<sat>\.satfinite)?"
    r"\.(?P<total>\w+)\.(?P<left>\w+)\.(?P<right>\w+) "
    r"(?P<a>[\w-]+) (?P<b>[\w-]+) (?P<first>[+-])(?P<second>[+-])(?P<scale>\d)"
)


def wgmma(variant: Variant, inputs: list[Array]) -> Array:
    found = NAME.search(variant.name)
    assert found
    n, k, total = int(found["n"]), int(found["k"]), found["total"]
    memory = inputs[0].view("u1")

    def shared(word: str, kind: str, count: int, part: Array) -> Array:
        way, span = word.split("-")
        raw = matrix(part, kind, (count, k), int(span[:-1]), way == "MN")
        return numbers(raw, kind).reshape(count, k)

    if found["a"] == "registers":
        held = numbers(inputs[1], found["left"]).reshape(4, 4, 32, -1)
        a = np.concatenate([rows(held[:, warp], 2) for warp in range(4)])
    else:
        a = shared(found["a"], found["left"], 64, memory)
    b = shared(found["b"], found["right"], n, memory[PLACE_B:])
    sums = a @ b.T * (1 if found["first"] == found["second"] else -1)
    row, column = accumulators(16, total)
    blocks = [
        sums[16 * warp + row, 8 * block + column] for block in range(n // 8) for warp in range(4)
    ]
    ordered = np.array(blocks).reshape(n // 8, 4, *row.shape).transpose(0, 2, 1, 3, 4)
    start = numbers(inputs[2], total).reshape(ordered.shape) * int(found["scale"])
    return encoded(ordered + start, total, bool(found["sat"]))


def test_wgmma(wrong: Check) -> None:
    assert wrong("wgmma", wgmma) == {}
