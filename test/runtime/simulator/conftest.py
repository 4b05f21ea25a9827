"""Fixtures: run an instruction over lanes, read a corpus file, round exactly."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tilewright.runtime import simulator

Array = npt.NDArray[Any]
_SCALARS = {"u1": "b8", "u2": "b16", "u4": "b32", "u8": "b64", "f4": "f32", "f8": "f64"}
_REGISTERS = {**_SCALARS, "u1": "b16"}
# Format: bits of the significand, smallest exponent of a normal number, largest exponent.
FORMATS = {"f16": (11, -14, 15), "bf16": (8, -126, 127), "f32": (24, -126, 127)}
FORMATS["f64"] = (53, -1022, 1023)


def header(target: str = "sm_80") -> str:
    """Returns the first lines of a PTX module."""
    return f".version 8.0\n.target {target}\n.address_size 64\n"


def lane_kernel(body: str, inputs: Sequence[str], outputs: Sequence[str]) -> str:
    """Returns a kernel that loads a0, a1..., runs the body, stores o0, o1... of each thread."""
    count = len(inputs) + len(outputs)
    params = ", ".join(f".param .u64 p{i}" for i in range(count))
    lines = [header(), f".visible .entry lanes({params}, .param .u32 count) {{"]
    lines += [".reg .pred %p<8>; .reg .b16 %h<16>; .reg .b32 %r<32>; .reg .b64 %d<32>;"]
    lines += [".reg .f32 %f<16>; .reg .f64 %g<16>; .reg .u32 i, n; .reg .b64 at; .reg .pred q;"]
    for i, code in enumerate(inputs):
        lines.append(f".reg .{_REGISTERS[code]} a{i};")
    for i, code in enumerate(outputs):
        lines.append(f".reg .{_REGISTERS[code]} o{i};")
    lines += ["mov.u32 %r30, %ctaid.x; mov.u32 %r31, %tid.x; ld.param.u32 n, [count];"]
    lines += ["mad.lo.u32 i, %r30, 128, %r31; setp.ge.u32 q, i, n; @q ret;"]
    for i, code in enumerate(inputs):
        lines.append(f"ld.param.u64 at, [p{i}]; mad.wide.u32 at, i, {code[1]}, at;")
        lines.append(f"ld.global.{_SCALARS[code]} a{i}, [at];")
    lines.append(body)
    for i, code in enumerate(outputs):
        lines.append(f"ld.param.u64 at, [p{len(inputs) + i}]; mad.wide.u32 at, i, {code[1]}, at;")
        lines.append(f"st.global.{_SCALARS[code]} [at], o{i};")
    return "\n".join([*lines, "ret;", "}"])


Lanes = Callable[..., Array]


@pytest.fixture
def lanes() -> Lanes:
    """Returns a function that runs a body over arrays: a0, a1... in registers, o0 comes back."""

    def run(body: str, *inputs: Array, out: str = "u4") -> Array:
        device = simulator.Device("all")
        codes = [array.dtype.str[1:].replace("i", "u") for array in inputs]
        module = device.load(lane_kernel(body, codes, [out]))
        count = inputs[0].size
        buffers = [device.array(array) for array in inputs]
        result = device.array(np.zeros(count, out))
        module["lanes"].launch((count + 127) // 128, 128, [*buffers, result, count])
        return result.numpy().copy()

    return run


@pytest.fixture
def corpus() -> Callable[[str], str]:
    """Returns a function that reads a PTX file of the corpus."""
    folder = Path(__file__).parent / "corpus"
    return lambda name: (folder / name).read_text()


def exact(bits: int, form: str) -> Fraction | float:
    """Returns the value of float bits: a fraction, an infinity or a NaN."""
    precision, lowest, _ = FORMATS[form]
    size = {"f16": 16, "bf16": 16, "f32": 32, "f64": 64}[form]
    sign = -1 if bits >> (size - 1) else 1
    fraction = bits & ((1 << (precision - 1)) - 1)
    exponent = (bits >> (precision - 1)) & ((1 << (size - precision)) - 1)
    if exponent == (1 << (size - precision)) - 1:
        return float("nan") if fraction else sign * float("inf")
    if exponent:
        fraction |= 1 << (precision - 1)
    scale = max(exponent, 1) - 1 + lowest - (precision - 1)
    return sign * Fraction(fraction) * Fraction(2) ** scale


def rounded(value: Fraction, form: str, mode: str = "rn", negative_zero: bool = False) -> int:
    """Returns the bits of a fraction rounded to a format (IEEE 754-2019, 4.3)."""
    precision, lowest, highest = FORMATS[form]
    size = {"f16": 16, "bf16": 16, "f32": 32, "f64": 64}[form]
    negative = value < 0 or (value == 0 and negative_zero)
    size_bit = (1 << (size - 1)) if negative else 0
    magnitude = abs(value)
    if magnitude == 0:
        return size_bit
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if Fraction(2) ** exponent > magnitude:
        exponent -= 1
    exponent = max(exponent, lowest)
    unit = Fraction(2) ** (exponent - precision + 1)
    whole, rest = divmod(magnitude, unit)
    whole = int(whole)
    half = rest * 2
    up = {
        "rn": half > unit or (half == unit and whole & 1 == 1),
        "rz": False,
        "rm": negative and rest > 0,
        "rp": not negative and rest > 0,
        "rna": half >= unit,
    }[mode]
    whole += up
    if whole >= 1 << precision:
        whole >>= 1
        exponent += 1
    if exponent > highest:
        infinity = ((1 << (size - precision)) - 1) << (precision - 1)
        away = mode in ("rn", "rna") or (mode == "rm" and negative)
        away = away or (mode == "rp" and not negative)
        return size_bit | (infinity if away else infinity - 1)
    field = 0 if whole < 1 << (precision - 1) else exponent - lowest + 1
    return size_bit | (field << (precision - 1)) | (whole & ((1 << (precision - 1)) - 1))


@pytest.fixture
def rounding() -> tuple[Callable[..., Fraction | float], Callable[..., int]]:
    """Returns `exact` and `rounded`: bits to fraction and back."""
    return exact, rounded


def edges(bits: int) -> list[int]:
    """Returns integers where arithmetic of a width changes its behaviour."""
    top = 1 << (bits - 1)
    return [
        0,
        1,
        2,
        3,
        7,
        bits - 1,
        bits,
        bits + 1,
        top - 1,
        top,
        top + 1,
        2 * top - 2,
        2 * top - 1,
    ]


def float_edges(form: str) -> list[int]:
    """Returns bits of floats at the edges: zeros, subnormals, ones, largest, infinities, NaN."""
    precision, _, _ = FORMATS[form]
    size = {"f16": 16, "bf16": 16, "f32": 32, "f64": 64}[form]
    infinity = ((1 << (size - precision)) - 1) << (precision - 1)
    one = (infinity >> 1) & ~((1 << (precision - 1)) - 1)
    plain = [0, 1, 2, (1 << (precision - 1)) - 1, 1 << (precision - 1), one, one + 1, one - 1]
    plain += [infinity - 1, infinity, infinity | 1 << (precision - 2), 3 << (precision - 2)]
    return plain + [value | 1 << (size - 1) for value in plain]


@pytest.fixture
def samples() -> Callable[..., list[Array]]:
    """Returns a function that makes operands: pairs of edges, then random bits (seeded)."""

    def make(bits: int, count: int, form: str = "", number: int = 400) -> list[Array]:
        generator = np.random.default_rng(bits * 10 + count)
        special = np.array(float_edges(form) if form else edges(bits), dtype=np.uint64)
        kind = np.dtype(f"u{bits // 8}")
        first = np.repeat(special, special.size).astype(kind)
        second = np.tile(special, special.size).astype(kind)
        chosen = [first, second, generator.permutation(second), generator.permutation(first)]
        return [
            np.concatenate([edge, generator.integers(0, 1 << bits, number, dtype=kind)])
            for edge in chosen[:count]
        ]

    return make
