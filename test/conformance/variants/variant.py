"""One instruction to record: its kernel, its operands, and how results are compared."""

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Operands = Callable[[np.random.Generator], Sequence[Array]]
# What every kernel takes: up to three arrays of operands, the results, their number, a tensor map.
PARAMS = (
    ".param .u64 pa, .param .u64 pb, .param .u64 pc, .param .u64 po, .param .u32 count, "
    ".param .align 64 .b8 map[128]"
)
DYNAMIC = ".extern .shared .align 16 .b8 dynamic[];"
FLOATS = {"f16": (2, 10), "bf16": (2, 7), "f32": (4, 23), "f64": (8, 52)}  # bytes, fraction
# Bytes of the elements of tensor maps.
SIZES = {
    **{"u8": 1, "u16": 2, "f16": 2, "bf16": 2, "u32": 4, "i32": 4, "f32": 4},
    **{"u64": 8, "i64": 8, "f64": 8},
}


class Box(NamedTuple):
    """A tensor map over the operands `a` or the results `o`; dimension 0 varies fastest."""

    of: str
    dtype: str
    shape: tuple[int, ...]
    box: tuple[int, ...]
    swizzle: str = "none"
    steps: tuple[int, ...] = ()
    fill: str = "zeros"

    def strides(self, size: int) -> tuple[int, ...]:
        """Returns the strides in bytes of dimensions 1 and up for elements of `size` bytes."""
        steps = np.cumprod([size, *self.shape[:-1]])
        return tuple(int(step) for step in steps[1:])


@dataclass(frozen=True, kw_only=True)
class Variant:
    """
    One instruction, or a short script of a few.

    `body` is the text of an entry that reads pa, pb, pc and stores `count` results of type `out`
    at po. `ulps` and `bound` (absolute) are what an approximate result may differ by; NaNs are
    equal. What is not `promised` by the PTX ISA is recorded but not compared. `keeps` says that
    the results begin as the last operand instead of zeros; `dynamic` is in bytes.
    """

    family: str
    name: str
    body: str
    out: str
    count: int
    operands: Operands
    grid: int = 1
    block: int = 32
    target: str = "sm_80"
    version: str = "8.0"
    ulps: int = 0
    bound: float = 0.0
    promised: bool = True
    keeps: bool = False
    dynamic: int = 0
    box: Box | None = None

    def inputs(self) -> list[Array]:
        """Returns the operands, the same ones each time."""
        generator = np.random.default_rng(zlib.crc32(self.name.encode()))
        return [np.ascontiguousarray(array) for array in self.operands(generator)]

    def results(self, inputs: Sequence[Array]) -> Array:
        """Returns what the results are before the kernel runs, as unsigned integers."""
        code = f"u{size_of(self.out)}"
        if self.keeps:
            return inputs[-1].reshape(-1).view(code).copy()
        return np.zeros(self.count, code)

    def fits(self, capability: tuple[int, int]) -> bool:
        """Says whether a GPU of a compute capability runs it."""
        digits = self.target.removeprefix("sm_")
        wanted = int(digits.rstrip("a")[:-1]), int(digits.rstrip("a")[-1])
        return capability == wanted if digits.endswith("a") else capability >= wanted


def module(chosen: Iterable[Variant]) -> str:
    """Returns a PTX module with entries k0, k1...; all variants have one target and version."""
    found = list(chosen)
    head = [f".version {found[0].version}", f".target {found[0].target}", ".address_size 64"]
    entries = [
        f".visible .entry k{number}({PARAMS}) {{\n{variant.body}\nret;\n}}"
        for number, variant in enumerate(found)
    ]
    return "\n".join([*head, DYNAMIC, *entries, ""])


def size_of(kind: str) -> int:
    """Returns the bytes of a type."""
    return 4 if kind.endswith("x2") else int(kind.lstrip("ubsf")) // 8


def register(kind: str) -> str:
    """Returns the type of a register that holds a type."""
    return kind if kind in ("f32", "f64") else f"b{max(16, 8 * size_of(kind))}"


INDEX = """.reg .b32 t, lane, cta; .reg .b64 at; .reg .pred q;
mov.u32 t, %tid.x; mov.u32 cta, %ctaid.x; mov.u32 lane, %laneid;
{ .reg .b32 n; mov.u32 n, %ntid.x; mad.lo.u32 t, cta, n, t; }"""


def loads(name: str, kind: str, count: int, threads: int, param: str = "") -> str:
    """
    Returns the text that loads registers name0, name1... of each thread.

    They lie in memory as [count, threads] from the parameter on, p`name` where none is given.
    """
    size = size_of(kind)
    lines = [f".reg .{register(kind)} {name}<{count}>; ld.param.u64 at, [{param or 'p' + name}];"]
    lines += [f"mad.wide.u32 at, t, {size}, at;"]
    lines += [
        f"ld.global.{_moved(kind)} {name}{i}, [at+{i * threads * size}];" for i in range(count)
    ]
    return "\n".join(lines)


def stores(names: Sequence[str], kind: str, threads: int, first: int = 0) -> str:
    """Returns the text that stores registers as [registers, threads] of the results."""
    size = size_of(kind)
    lines = [f"ld.param.u64 at, [po]; mad.wide.u32 at, t, {size}, at;"]
    lines += [
        f"st.global.{_moved(kind)} [at+{(first + i) * threads * size}], {name};"
        for i, name in enumerate(names)
    ]
    return "\n".join(lines)


def _moved(kind: str) -> str:
    return kind if kind in ("f32", "f64") else f"b{8 * size_of(kind)}"


def group(name: str, count: int) -> str:
    """Returns a vector operand of registers name0, name1..."""
    return "{" + ", ".join(f"{name}{i}" for i in range(count)) + "}"


def words(generator: np.random.Generator, *shape: int, kind: str = "u4") -> Array:
    """Returns random bits."""
    top = (1 << 8 * np.dtype(kind).itemsize) - 1
    return generator.integers(0, top, shape, np.uint64, endpoint=True).astype(kind)


def differences(variant: Variant, expected: Array, got: Array) -> Array:
    """Returns the positions where results differ by more than the variant allows."""
    if expected.shape != got.shape:
        return np.arange(max(expected.size, got.size))
    kind = variant.out.removesuffix("x2")
    if kind not in FLOATS:
        return np.flatnonzero(expected != got)
    if variant.out != kind:  # packed: each half by itself
        found = _float_differences(variant, expected.view("u2"), got.view("u2"), kind)
        return np.unique(found // 2)
    return _float_differences(variant, expected, got, kind)


def _float_differences(variant: Variant, expected: Array, got: Array, kind: str) -> Array:
    size, fraction = FLOATS[kind]
    magnitude = (1 << 8 * size - 1) - 1
    infinity = magnitude >> fraction << fraction
    nans = (expected & magnitude > infinity) & (got & magnitude > infinity)
    differ = (expected != got) & ~nans
    if variant.ulps:
        distance: Array = np.abs(_ordered(expected, size) - _ordered(got, size))
        differ &= distance > variant.ulps
    if variant.bound:
        finite = (expected & magnitude < infinity) & (got & magnitude < infinity)
        wide = [
            _values(np.where(finite, bits, 0).astype(bits.dtype), kind) for bits in (expected, got)
        ]
        differ &= ~finite | (np.abs(wide[0] - wide[1]) > variant.bound)
    return np.flatnonzero(differ)


def _values(bits: Array, kind: str) -> Array:
    """Returns what bits stand for, as f64."""
    bits = bits.astype(f"u{FLOATS[kind][0]}")
    if kind == "bf16":
        return (bits.astype("u4") << 16).view("f4").astype("f8")
    return bits.view(f"f{FLOATS[kind][0]}").astype("f8")


def _ordered(bits: Array, size: int) -> Array:
    """Returns integers in the order of the floats that the bits stand for."""
    magnitude = (bits & ((1 << 8 * size - 1) - 1)).astype(np.int64)
    return magnitude * (1 - 2 * (bits >> (8 * size - 1)).astype(np.int64))
